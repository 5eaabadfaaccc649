//! Responses requests, read at a front door and written to a provider.
//!
//! Invariant: what another family's caller says is complete in itself, so the provider is asked to keep nothing of it.

use serde_json::{Value, json};

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, Malformed, body, effort, tuck, untuck};
use crate::neutral::{
    Content, Extra, Function, Json, Message, Output, Part, Request, Role, Sampling, Thinking, Tool,
    ToolChoice,
};
use crate::types::Said;
use crate::types::responses as wire;

use super::items;

/// Reads a request. What it refers to by id (`previous_response_id`, `conversation`) stays in [`Request::extra`]: only
/// the provider that keeps it can follow.
pub(crate) fn read(bytes: &[u8]) -> Result<Request, Malformed> {
    let wire: wire::Request = body(bytes)?;
    let mut extra = wire.rest;
    let mut messages = Vec::new();
    messages.extend(wire.instructions.map(|text| Message::text(Role::System, text)));
    match wire.input {
        Some(Said::Text(text)) => messages.push(Message::text(Role::User, text)),
        Some(Said::Parts(said)) => messages.extend(items::read(said)?),
        None => {}
    }
    let tools = wire.tools.unwrap_or_default().into_iter().enumerate().map(|(n, tool)| read_tool(n, tool));
    let output = match wire.text {
        Some(config) => {
            tuck(&mut extra, "text", config.rest);
            config.format.map(read_format).transpose()?.flatten()
        }
        None => None,
    };
    let thinking = wire.reasoning.map(|said| {
        tuck(&mut extra, "reasoning", said.rest);
        let on = (said.effort.as_deref() == Some("none")).then_some(false);
        Thinking { on, effort: said.effort, budget: None, shown: said.summary }
    });
    Ok(Request {
        model: wire.model.ok_or_else(|| Malformed::missing("model"))?,
        messages,
        tools: tools.collect::<Result<_, _>>()?,
        choice: wire.tool_choice.map(|choice| read_choice(&choice, &mut extra)).transpose()?.flatten(),
        parallel: wire.parallel_tool_calls,
        output,
        max_tokens: wire.max_output_tokens,
        sampling: Sampling { temperature: wire.temperature, top_p: wire.top_p, ..Sampling::default() },
        thinking,
        user: wire.user,
        metadata: wire.metadata.unwrap_or_default(),
        stream: wire.stream.unwrap_or_default(),
        stream_usage: true,
        from: Some(Family::Responses),
        extra,
        ..Request::default()
    })
}

fn read_tool(n: usize, tool: wire::Tool) -> Result<Tool, Malformed> {
    if tool.kind.as_deref() != Some("function") {
        return Ok(Tool::Other(shared::json(&tool)));
    }
    Ok(Tool::Function(Function {
        name: tool.name.ok_or_else(|| Malformed::missing(format!("tools[{n}].name")))?,
        description: tool.description,
        schema: tool.parameters,
        strict: tool.strict,
        cache: None,
        extra: tool.rest,
    }))
}

/// A choice of a tool that the provider performs stays as it is.
fn read_choice(choice: &Value, extra: &mut Extra) -> Result<Option<ToolChoice>, Malformed> {
    let wrong = || Malformed::at("tool_choice", "expected none, auto, required, a tool or allowed tools");
    if let Some(word) = choice.as_str() {
        return match word {
            "none" => Ok(Some(ToolChoice::None)),
            "auto" => Ok(Some(ToolChoice::Auto)),
            "required" => Ok(Some(ToolChoice::Required)),
            _ => Err(wrong()),
        };
    }
    let named = |tool: &Value| tool.get("name").and_then(Value::as_str).map(str::to_owned);
    match choice.get("type").and_then(Value::as_str).ok_or_else(wrong)? {
        "function" => Ok(Some(ToolChoice::Named(named(choice).ok_or_else(wrong)?))),
        "allowed_tools" => {
            let tools = choice.get("tools").and_then(Value::as_array).ok_or_else(wrong)?;
            let required = choice.get("mode").and_then(Value::as_str) == Some("required");
            Ok(Some(ToolChoice::Allowed { names: tools.iter().filter_map(named).collect(), required }))
        }
        _ => {
            extra.insert("tool_choice".to_owned(), choice.clone());
            Ok(None)
        }
    }
}

fn read_format(format: wire::Format) -> Result<Option<Output>, Malformed> {
    match format.kind.as_deref() {
        None | Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Output::Json)),
        Some("json_schema") => Ok(Some(Output::Schema {
            name: format.name,
            description: format.description,
            schema: format.schema.ok_or_else(|| Malformed::missing("text.format.schema"))?,
            strict: format.strict,
        })),
        Some(other) => Err(Malformed::at("text.format.type", format!("{other:?} is not a form of a reply"))),
    }
}

/// Writes a request.
pub(crate) fn write(request: &Request) -> (wire::Request, Vec<String>) {
    let mut lost = Lost::new(Family::Responses, request.from);
    let mut rest = lost.rest("", &request.extra);
    let sampling = &request.sampling;
    lost.note_if(sampling.top_k.is_some(), "top_k");
    lost.note_if(sampling.frequency_penalty.is_some(), "frequency_penalty");
    lost.note_if(sampling.presence_penalty.is_some(), "presence_penalty");
    lost.note_if(sampling.seed.is_some(), "seed");
    lost.note_if(!request.stop.is_empty(), "stop");
    let keeps_labels = matches!(request.from, Some(Family::Chat | Family::Responses));
    lost.note_if(!keeps_labels && !request.metadata.is_empty(), "metadata");
    if !lost.same() {
        rest.insert("store".to_owned(), json!(false));
        if request.thinking.is_some() {
            rest.insert("include".to_owned(), json!(["reasoning.encrypted_content"]));
        }
    }
    let (instructions, messages) = instructions(&request.messages);
    let input = messages.iter().flat_map(|message| items::write(message, &mut lost)).collect();
    let tools: Vec<wire::Tool> =
        request.tools.iter().filter_map(|tool| write_tool(tool, &mut lost)).collect();
    let tool_choice = match rest.remove("tool_choice") {
        Some(choice) => Some(choice),
        None => request.choice.as_ref().filter(|_| !tools.is_empty()).map(write_choice),
    };
    let wire = wire::Request {
        model: Some(request.model.clone()),
        instructions,
        input: Some(Said::Parts(input)),
        tool_choice,
        parallel_tool_calls: request.parallel.filter(|_| !tools.is_empty()),
        tools: Some(tools).filter(|tools| !tools.is_empty()),
        text: write_text(request, &mut rest),
        reasoning: write_reasoning(request, &mut rest),
        max_output_tokens: request.max_tokens,
        temperature: sampling.temperature.clone(),
        top_p: sampling.top_p.clone(),
        user: request.user.clone(),
        metadata: Some(request.metadata.clone()).filter(|labels| keeps_labels && !labels.is_empty()),
        stream: Some(request.stream),
        rest,
    };
    (wire, lost.names())
}

/// Plain instructions in front have a field of their own.
fn instructions(messages: &[Message]) -> (Option<String>, &[Message]) {
    if let Some((first, rest)) = messages.split_first()
        && first.role == Role::System
        && let [Part { content: Content::Text(text), cache: None, .. }] = first.parts.as_slice()
    {
        return (Some(text.clone()), rest);
    }
    (None, messages)
}

/// `strict` is the default of this family alone, so others' tools say that they are not.
fn write_tool(tool: &Tool, lost: &mut Lost) -> Option<wire::Tool> {
    let function = match tool {
        Tool::Function(function) => function,
        Tool::Other(json) => return lost.other("tools", json),
    };
    lost.note_if(function.cache.is_some(), "tools.cache_control");
    let empty = || Json::of(&json!({"type": "object", "properties": {}}));
    Some(wire::Tool {
        kind: Some("function".to_owned()),
        name: Some(function.name.clone()),
        description: function.description.clone(),
        parameters: Some(function.schema.clone().unwrap_or_else(empty)),
        strict: if lost.same() { function.strict } else { Some(function.strict.unwrap_or(false)) },
        rest: lost.rest("tools", &function.extra),
    })
}

fn write_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "name": name}),
        ToolChoice::Allowed { names, required } => {
            let tools: Vec<Value> =
                names.iter().map(|name| json!({"type": "function", "name": name})).collect();
            json!({"type": "allowed_tools", "mode": if *required { "required" } else { "auto" }, "tools": tools})
        }
    }
}

fn write_text(request: &Request, rest: &mut Extra) -> Option<wire::TextConfig> {
    let kept = untuck(rest, "text");
    let kind = |kind: &str| wire::Format { kind: Some(kind.to_owned()), ..wire::Format::default() };
    let format = request.output.as_ref().map(|output| match output {
        Output::Json => kind("json_object"),
        Output::Schema { name, description, schema, strict } => wire::Format {
            name: Some(name.clone().unwrap_or_else(|| "reply".to_owned())),
            description: description.clone(),
            schema: Some(schema.clone()),
            strict: Some(strict.unwrap_or(false)),
            ..kind("json_schema")
        },
    });
    (format.is_some() || !kept.is_empty()).then_some(wire::TextConfig { format, rest: kept })
}

fn write_reasoning(request: &Request, rest: &mut Extra) -> Option<wire::Reasoning> {
    let kept = untuck(rest, "reasoning");
    let thinking = request.thinking.as_ref();
    let off = thinking.is_some_and(|thinking| thinking.on == Some(false));
    let effort = if off { Some("none".to_owned()) } else { thinking.and_then(effort) };
    let known = |shown: &String| matches!(shown.as_str(), "auto" | "concise" | "detailed");
    let summary = thinking.and_then(|thinking| thinking.shown.clone()).filter(known);
    let said = effort.is_some() || summary.is_some() || !kept.is_empty();
    said.then_some(wire::Reasoning { effort, summary, rest: kept })
}
