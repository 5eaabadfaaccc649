//! Chat requests, read at a front door.

use serde_json::Value;

use crate::Family;
use crate::convert::shared::{self, Malformed, body, source_of};
use crate::neutral::{
    Call, Content, Function, Media, Message, Outcome, Output, Part, Request, Role, Sampling, Signature,
    Source, Thinking, Thought, Tool, ToolChoice,
};
use crate::types::Said;
use crate::types::chat as wire;

/// Reads a request.
pub(crate) fn read(bytes: &[u8]) -> Result<Request, Malformed> {
    let wire: wire::Request = body(bytes)?;
    let messages = wire.messages.ok_or_else(|| Malformed::missing("messages"))?;
    let messages = messages.into_iter().enumerate().map(|(n, message)| read_message(n, message));
    let tools = wire.tools.unwrap_or_default().into_iter().enumerate().map(|(n, tool)| read_tool(n, tool));
    let options = wire.stream_options.unwrap_or_default();
    Ok(Request {
        model: wire.model.ok_or_else(|| Malformed::missing("model"))?,
        messages: messages.collect::<Result<_, _>>()?,
        tools: tools.collect::<Result<_, _>>()?,
        choice: wire.tool_choice.map(read_choice).transpose()?,
        parallel: wire.parallel_tool_calls,
        output: wire.response_format.map(read_format).transpose()?.flatten(),
        max_tokens: wire.max_completion_tokens.or(wire.max_tokens),
        sampling: Sampling {
            temperature: wire.temperature,
            top_p: wire.top_p,
            top_k: wire.top_k,
            frequency_penalty: wire.frequency_penalty,
            presence_penalty: wire.presence_penalty,
            seed: wire.seed,
        },
        stop: match wire.stop {
            Some(Said::Text(text)) => vec![text],
            Some(Said::Parts(texts)) => texts,
            None => Vec::new(),
        },
        thinking: wire.reasoning_effort.map(|effort| Thinking {
            on: (effort == "none").then_some(false),
            effort: Some(effort),
            ..Thinking::default()
        }),
        user: wire.user,
        metadata: wire.metadata.unwrap_or_default(),
        stream: wire.stream.unwrap_or_default(),
        stream_usage: options.include_usage.unwrap_or_default(),
        from: Some(Family::Chat),
        extra: wire.rest,
    })
}

fn read_message(n: usize, message: wire::Message) -> Result<Message, Malformed> {
    let at = format!("messages[{n}]");
    let role = match message.role.as_deref() {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        Some(other) => return Err(Malformed::at(format!("{at}.role"), format!("{other:?} is not a role"))),
        None => return Err(Malformed::missing(format!("{at}.role"))),
    };
    let said = read_content(&at, message.content)?;
    if role == Role::Tool {
        let call = message.tool_call_id.ok_or_else(|| Malformed::missing(format!("{at}.tool_call_id")))?;
        let outcome = Outcome { call, name: message.name, parts: said, failed: false };
        let parts = vec![Part::new(Content::Outcome(outcome))];
        return Ok(Message { role, parts, name: None, extra: message.rest });
    }
    let mut parts = read_thoughts(message.reasoning_details, message.reasoning_content.or(message.reasoning));
    parts.extend(said);
    parts.extend(message.refusal.map(|text| Part::new(Content::Refusal(text))));
    for (m, call) in message.tool_calls.unwrap_or_default().into_iter().enumerate() {
        parts.push(read_call(&format!("{at}.tool_calls[{m}]"), call)?);
    }
    Ok(Message { role, parts, name: message.name, extra: message.rest })
}

/// What a message says, in parts.
pub(super) fn read_content(at: &str, content: Option<Said<wire::Part>>) -> Result<Vec<Part>, Malformed> {
    match content {
        None => Ok(Vec::new()),
        Some(Said::Text(text)) => Ok(vec![Part::text(text)]),
        Some(Said::Parts(parts)) => {
            let parts = parts.into_iter().enumerate();
            parts.map(|(n, part)| read_part(&format!("{at}.content[{n}]"), part)).collect()
        }
    }
}

fn read_part(at: &str, part: wire::Part) -> Result<Part, Malformed> {
    let missing = |field: &str| Malformed::missing(format!("{at}.{field}"));
    let kind = part.kind.clone().ok_or_else(|| missing("type"))?;
    let whole = part.clone();
    let content = match kind.as_str() {
        "text" => Content::Text(part.text.ok_or_else(|| missing("text"))?),
        "refusal" => Content::Refusal(part.refusal.ok_or_else(|| missing("refusal"))?),
        "image_url" => {
            let image = part.image_url.ok_or_else(|| missing("image_url"))?;
            let source = source_of(image.url.ok_or_else(|| missing("image_url.url"))?);
            Content::Image(Media { source, name: None, detail: image.detail })
        }
        "file" => {
            let file = part.file.ok_or_else(|| missing("file"))?;
            let source = match (file.id, file.data) {
                (Some(id), _) => Source::Id(id),
                (None, Some(data)) => source_of(data),
                (None, None) => return Err(missing("file.file_data")),
            };
            Content::File(Media { source, name: file.filename, detail: None })
        }
        "input_audio" => {
            let audio = part.input_audio.ok_or_else(|| missing("input_audio"))?;
            let media_type = format!("audio/{}", audio.format.as_deref().unwrap_or("wav"));
            let data = audio.data.ok_or_else(|| missing("input_audio.data"))?;
            Content::Audio(Media { source: Source::Base64 { media_type, data }, name: None, detail: None })
        }
        _ => return Ok(Part::new(Content::Other(shared::json(&whole)))),
    };
    let kept = part.prompt_cache_breakpoint.map(|point| shared::cache(point.ttl));
    let cache = kept.or_else(|| part.cache_control.map(|control| shared::cache(control.ttl)));
    Ok(Part { content, cache, signature: None, extra: part.rest })
}

/// Thoughts: with their proofs where there are any, else their words.
pub(super) fn read_thoughts(details: Option<Vec<wire::ReasoningDetail>>, words: Option<String>) -> Vec<Part> {
    let details = details.unwrap_or_default();
    if details.is_empty() {
        let words = words.filter(|words| !words.is_empty());
        let thought = |text| Part::new(Content::Thought(Thought { text, id: None, withheld: false }));
        return words.map(thought).into_iter().collect();
    }
    details.into_iter().map(read_detail).collect()
}

fn read_detail(detail: wire::ReasoningDetail) -> Part {
    let withheld = detail.data.is_some();
    let thought =
        Thought { text: detail.text.or(detail.summary).unwrap_or_default(), id: detail.id, withheld };
    let proof = detail.signature.or(detail.data);
    Part {
        signature: proof.map(|proof| Signature::read(Family::Chat, proof)),
        ..Part::new(Content::Thought(thought))
    }
}

fn read_call(at: &str, call: wire::Call) -> Result<Part, Malformed> {
    if call.kind.as_deref().is_some_and(|kind| kind != "function") {
        return Ok(Part::new(Content::Other(shared::json(&call))));
    }
    let function = call.function.ok_or_else(|| Malformed::missing(format!("{at}.function")))?;
    let proof = call.extra_content.and_then(|extra| extra.google).and_then(|google| google.thought_signature);
    let content = Content::Call(Call {
        id: call.id.ok_or_else(|| Malformed::missing(format!("{at}.id")))?,
        name: function.name.ok_or_else(|| Malformed::missing(format!("{at}.function.name")))?,
        arguments: function.arguments.unwrap_or_default(),
    });
    let signature = proof.map(|proof| Signature::read(Family::Chat, proof));
    Ok(Part { content, cache: None, signature, extra: call.rest })
}

fn read_tool(n: usize, tool: wire::Tool) -> Result<Tool, Malformed> {
    if tool.kind.as_deref().is_some_and(|kind| kind != "function") {
        return Ok(Tool::Other(shared::json(&tool)));
    }
    let missing = |field: &str| Malformed::missing(format!("tools[{n}].{field}"));
    let function = tool.function.ok_or_else(|| missing("function"))?;
    Ok(Tool::Function(Function {
        name: function.name.ok_or_else(|| missing("function.name"))?,
        description: function.description,
        schema: function.parameters,
        strict: function.strict,
        cache: tool.cache_control.map(|control| shared::cache(control.ttl)),
        extra: function.rest,
    }))
}

fn read_choice(choice: Value) -> Result<ToolChoice, Malformed> {
    let wrong = || Malformed::at("tool_choice", "expected none, auto, required, a function or allowed tools");
    if let Some(word) = choice.as_str() {
        return match word {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" | "any" => Ok(ToolChoice::Required),
            _ => Err(wrong()),
        };
    }
    let named = |tool: &Value| tool.pointer("/function/name").and_then(Value::as_str).map(str::to_owned);
    if let Some(name) = named(&choice) {
        return Ok(ToolChoice::Named(name));
    }
    let allowed = choice.get("allowed_tools").ok_or_else(wrong)?;
    let names = allowed.get("tools").and_then(Value::as_array).ok_or_else(wrong)?;
    let required = allowed.get("mode").and_then(Value::as_str) == Some("required");
    Ok(ToolChoice::Allowed { names: names.iter().filter_map(named).collect(), required })
}

fn read_format(format: wire::ResponseFormat) -> Result<Option<Output>, Malformed> {
    match format.kind.as_deref() {
        None | Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Output::Json)),
        Some("json_schema") => {
            let missing = || Malformed::missing("response_format.json_schema.schema");
            let schema = format.json_schema.ok_or_else(missing)?;
            Ok(Some(Output::Schema {
                name: schema.name,
                description: schema.description,
                schema: schema.schema.ok_or_else(missing)?,
                strict: schema.strict,
            }))
        }
        Some(other) => {
            Err(Malformed::at("response_format.type", format!("{other:?} is not a form of a reply")))
        }
    }
}
