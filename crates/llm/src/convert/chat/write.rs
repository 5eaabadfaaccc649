//! Chat requests, written to a provider.
//!
//! Invariant: what is written has every field that the documentation demands, in the forms that the [`Dialect`] of the
//! server takes.

use serde_json::{Value, json};

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, effort, is_json, past_arguments, url_of, words};
use crate::neutral::{
    Call, Content, Extra, Media, Message, Outcome, Output, Part, Request, Role, Signature, Source, Thinking,
    Tool, ToolChoice,
};
use crate::types::Said;
use crate::types::chat as wire;
use crate::vendor::{Dialect, EffortField, LimitField, Schemas, ThoughtField};

/// Writes a request for a server of this dialect.
pub(crate) fn write(request: &Request, dialect: &Dialect) -> (wire::Request, Vec<String>) {
    let mut lost = Lost::new(Family::Chat, request.from);
    let thinker = dialect.limit == LimitField::ByModel && crate::vendor::thinks(&request.model);
    let (tools, choice) = if dialect.allowed_tools {
        (request.tools.clone(), request.choice.clone())
    } else {
        shared::narrowed(&request.tools, request.choice.as_ref())
    };
    let messages = request.messages.iter().flat_map(|message| write_message(message, dialect, &mut lost));
    let mut messages: Vec<wire::Message> = messages.collect();
    if let Some(output) = request.output.as_ref().filter(|_| dialect.schemas == Schemas::None) {
        messages.insert(0, instruct(output));
    }
    let tools: Vec<wire::Tool> =
        tools.iter().filter_map(|tool| write_tool(tool, dialect, &mut lost)).collect();
    let sampling = &request.sampling;
    lost.note_if(sampling.temperature.is_some() && thinker, "temperature");
    lost.note_if(sampling.top_k.is_some() && !dialect.top_k, "top_k");
    lost.note_if(sampling.seed.is_some() && dialect.seed.is_none(), "seed");
    lost.note_if(request.user.is_some() && !dialect.user, "user");
    let keeps_metadata = dialect.metadata && matches!(request.from, Some(Family::Chat | Family::Responses));
    lost.note_if(!request.metadata.is_empty() && !keeps_metadata, "metadata");
    let mut rest = lost.rest("", &request.extra);
    let (reasoning_effort, more) = write_thinking(request.thinking.as_ref(), dialect, &mut lost);
    rest.extend(more);
    let seed = sampling.seed.clone();
    if let (Some(name), Some(seed)) = (dialect.seed.filter(|name| *name != "seed"), &seed) {
        rest.insert(name.to_owned(), Value::Number(seed.clone()));
    }
    let completion = thinker || dialect.limit == LimitField::Completion;
    let wire = wire::Request {
        model: Some(request.model.clone()),
        messages: Some(messages),
        tool_choice: choice
            .filter(|_| !tools.is_empty())
            .map(|choice| write_choice(&choice, dialect, &mut lost)),
        parallel_tool_calls: request.parallel.filter(|_| dialect.parallel && !tools.is_empty()),
        tools: Some(tools).filter(|tools| !tools.is_empty()),
        response_format: request.output.as_ref().map(|output| write_format(output, dialect, &mut lost)),
        max_tokens: request.max_tokens.filter(|_| !completion),
        max_completion_tokens: request.max_tokens.filter(|_| completion),
        temperature: sampling.temperature.clone().filter(|_| !thinker),
        top_p: sampling.top_p.clone(),
        top_k: sampling.top_k.clone().filter(|_| dialect.top_k),
        frequency_penalty: sampling.frequency_penalty.clone(),
        presence_penalty: sampling.presence_penalty.clone(),
        seed: seed.filter(|_| dialect.seed == Some("seed")),
        stop: Some(request.stop.clone()).filter(|stop| !stop.is_empty()).map(Said::Parts),
        reasoning_effort,
        user: request.user.clone().filter(|_| dialect.user),
        metadata: Some(request.metadata.clone()).filter(|labels| keeps_metadata && !labels.is_empty()),
        stream: Some(request.stream),
        stream_options: (request.stream && dialect.stream_options)
            .then(|| wire::StreamOptions { include_usage: Some(true), ..wire::StreamOptions::default() }),
        rest,
    };
    (wire, lost.names())
}

fn write_message(message: &Message, dialect: &Dialect, lost: &mut Lost) -> Vec<wire::Message> {
    let mut out = Vec::new();
    let mut said = Vec::new();
    for part in &message.parts {
        match &part.content {
            Content::Outcome(outcome) => out.push(write_outcome(outcome, message, dialect, lost)),
            _ => said.push(part),
        }
    }
    if said.is_empty() && !out.is_empty() {
        return out;
    }
    let role = match message.role {
        Role::Developer if dialect.developer => "developer",
        Role::System | Role::Developer => "system",
        Role::User | Role::Tool => "user",
        Role::Assistant => "assistant",
    };
    let mut wire = wire::Message {
        role: Some(role.to_owned()),
        name: message.name.clone(),
        rest: lost.rest("messages", &message.extra),
        ..wire::Message::default()
    };
    if message.role == Role::Assistant {
        write_assistant(&said, dialect, lost, &mut wire);
    } else {
        wire.content = Some(write_content(&said, dialect, lost));
    }
    out.push(wire);
    out
}

fn write_assistant(said: &[&Part], dialect: &Dialect, lost: &mut Lost, wire: &mut wire::Message) {
    let (mut words, mut calls, mut thoughts) = (Vec::new(), Vec::new(), Vec::new());
    for part in said {
        match &part.content {
            Content::Call(call) => calls.push(write_call(call, part, dialect, lost)),
            Content::Thought(_) => thoughts.push(*part),
            Content::Refusal(text) => wire.refusal = Some(text.clone()),
            Content::Other(json) if json.value().get("custom").is_some() => {
                calls.extend(lost.other::<wire::Call>("tool_calls", json));
            }
            _ => words.push(*part),
        }
    }
    write_thoughts(&thoughts, dialect, lost, wire);
    if words.is_empty() {
        // `null` is allowed beside calls; some servers want the field to be there.
        let empty = if calls.is_empty() { Value::String(String::new()) } else { Value::Null };
        wire.rest.insert("content".to_owned(), empty);
    } else {
        wire.content = Some(write_content(&words, dialect, lost));
    }
    wire.tool_calls = Some(calls).filter(|calls| !calls.is_empty());
}

/// Text as text, because not every server that imitates this wire knows parts.
fn write_content(parts: &[&Part], dialect: &Dialect, lost: &mut Lost) -> Said<wire::Part> {
    match parts {
        [] => Said::Text(String::new()),
        [part] => match &part.content {
            Content::Text(text) if part.extra.is_empty() && (part.cache.is_none() || !dialect.caches()) => {
                Said::Text(text.clone())
            }
            _ => Said::Parts(write_part(part, dialect, lost).into_iter().collect()),
        },
        _ => {
            // Words before what they are about.
            Said::Parts(parts.iter().filter_map(|part| write_part(part, dialect, lost)).collect())
        }
    }
}

fn write_part(part: &Part, dialect: &Dialect, lost: &mut Lost) -> Option<wire::Part> {
    let kind = |kind: &str| wire::Part { kind: Some(kind.to_owned()), ..wire::Part::default() };
    let mut wire = match &part.content {
        Content::Text(text) => wire::Part { text: Some(text.clone()), ..kind("text") },
        Content::Refusal(text) => wire::Part { refusal: Some(text.clone()), ..kind("refusal") },
        Content::Image(media) => match url_of(&media.source) {
            Some(url) => {
                let image_url =
                    wire::ImageUrl { url: Some(url), detail: media.detail.clone(), rest: Extra::new() };
                wire::Part { image_url: Some(image_url), ..kind("image_url") }
            }
            None => {
                lost.note("image");
                return None;
            }
        },
        Content::File(media) => match write_file(media, dialect) {
            Some(part) => part,
            None => {
                lost.note("file");
                return None;
            }
        },
        Content::Audio(Media { source: Source::Base64 { media_type, data }, .. }) => {
            let format = media_type.rsplit('/').next().map(str::to_owned);
            let audio = wire::InputAudio { data: Some(data.clone()), format, rest: Extra::new() };
            wire::Part { input_audio: Some(audio), ..kind("input_audio") }
        }
        Content::Other(json) => return lost.other("content", json),
        Content::Audio(_) | Content::Call(_) | Content::Outcome(_) | Content::Thought(_) => {
            lost.note("content");
            return None;
        }
    };
    if let Some(cache) = &part.cache {
        if dialect.cache_control {
            wire.cache_control = Some(wire::CacheControl {
                kind: Some("ephemeral".to_owned()),
                ttl: cache.ttl.clone(),
                rest: Extra::new(),
            });
        } else if dialect.breakpoints {
            let mode = Some("explicit".to_owned());
            let ttl = cache.ttl.clone().filter(|ttl| matches!(ttl.as_str(), "30m" | "12h"));
            wire.prompt_cache_breakpoint = Some(wire::CacheBreakpoint { mode, ttl, rest: Extra::new() });
        } else {
            lost.note("cache_control");
        }
    }
    wire.rest = lost.rest("content", &part.extra);
    Some(wire)
}

/// A document by its bytes or its id; plain text goes as a text, which every server takes.
fn write_file(media: &Media, dialect: &Dialect) -> Option<wire::Part> {
    let kind = |kind: &str| wire::Part { kind: Some(kind.to_owned()), ..wire::Part::default() };
    let file = match &media.source {
        Source::Text(text) => return Some(wire::Part { text: Some(text.clone()), ..kind("text") }),
        _ if !dialect.files => return None,
        Source::Base64 { .. } => wire::File {
            data: url_of(&media.source),
            filename: Some(media.name.clone().unwrap_or_else(|| "file".to_owned())),
            ..wire::File::default()
        },
        Source::Id(id) => wire::File { id: Some(id.clone()), ..wire::File::default() },
        Source::Url { .. } => return None,
    };
    Some(wire::Part { file: Some(file), ..kind("file") })
}

fn write_call(call: &Call, part: &Part, dialect: &Dialect, lost: &mut Lost) -> wire::Call {
    let arguments = match call.arguments.trim() {
        "" => "{}".to_owned(),
        text if is_json(text) => call.arguments.clone(),
        _ => past_arguments(&call.arguments).text().to_owned(),
    };
    let readable =
        |proof: &&Signature| dialect.google_proofs && matches!(proof.family, Family::Chat | Family::Generate);
    let proof = part.signature.as_ref().filter(readable);
    lost.note_if(proof.is_none() && part.signature.is_some(), "tool_calls.thought_signature");
    let extra_content = proof.map(|proof| {
        let google = wire::GoogleContent { thought_signature: Some(proof.data.clone()), rest: Extra::new() };
        wire::ExtraContent { google: Some(google), rest: Extra::new() }
    });
    wire::Call {
        id: Some(call.id.clone()),
        kind: Some("function".to_owned()),
        function: Some(wire::CallFunction {
            name: Some(call.name.clone()),
            arguments: Some(arguments),
            rest: Extra::new(),
        }),
        extra_content,
        rest: lost.rest("tool_calls", &part.extra),
        ..wire::Call::default()
    }
}

fn write_outcome(outcome: &Outcome, message: &Message, dialect: &Dialect, lost: &mut Lost) -> wire::Message {
    let plain = outcome.parts.iter().all(|part| matches!(part.content, Content::Text(_)));
    let content = if plain && (outcome.parts.len() <= 1 || !lost.same()) {
        Said::Text(words(&outcome.parts))
    } else {
        write_content(&outcome.parts.iter().collect::<Vec<_>>(), dialect, lost)
    };
    wire::Message {
        role: Some("tool".to_owned()),
        content: Some(content),
        tool_call_id: Some(outcome.call.clone()),
        name: outcome.name.clone().filter(|_| dialect.named_outcomes || lost.same()),
        rest: lost.rest("messages", &message.extra),
        ..wire::Message::default()
    }
}

/// Past thoughts go back where the server reads them, in its own field.
fn write_thoughts(thoughts: &[&Part], dialect: &Dialect, lost: &mut Lost, wire: &mut wire::Message) {
    if thoughts.is_empty() {
        return;
    }
    let words: String = thoughts
        .iter()
        .filter_map(|part| match &part.content {
            Content::Thought(thought) => Some(thought.text.as_str()),
            _ => None,
        })
        .collect();
    match dialect.thoughts {
        Some(ThoughtField::ReasoningContent) => wire.reasoning_content = Some(words),
        Some(ThoughtField::Reasoning) => wire.reasoning = Some(words),
        Some(ThoughtField::Details) => {
            let details = thoughts.iter().enumerate().filter_map(|(n, part)| detail(n, part));
            wire.reasoning_details = Some(details.collect());
        }
        None => lost.note("thinking"),
    }
}

/// A thought with its proof.
pub(super) fn detail(n: usize, part: &Part) -> Option<wire::ReasoningDetail> {
    let Content::Thought(thought) = &part.content else { return None };
    let proof = part.signature.as_ref().map(|proof| proof.shown_to(Family::Chat));
    let shape = wire::ReasoningDetail {
        id: thought.id.clone(),
        index: u64::try_from(n).ok(),
        ..wire::ReasoningDetail::default()
    };
    Some(if thought.withheld {
        wire::ReasoningDetail { kind: Some("reasoning.encrypted".to_owned()), data: proof, ..shape }
    } else {
        let text = Some(thought.text.clone());
        wire::ReasoningDetail { kind: Some("reasoning.text".to_owned()), text, signature: proof, ..shape }
    })
}

fn write_tool(tool: &Tool, dialect: &Dialect, lost: &mut Lost) -> Option<wire::Tool> {
    let function = match tool {
        Tool::Function(function) => function,
        Tool::Other(json) => return lost.other("tools", json),
    };
    lost.note_if(function.cache.is_some() && !dialect.cache_control, "tools.cache_control");
    Some(wire::Tool {
        kind: Some("function".to_owned()),
        function: Some(wire::ToolFunction {
            name: Some(function.name.clone()),
            description: function.description.clone(),
            parameters: function.schema.clone(),
            strict: function.strict.filter(|_| dialect.schemas == Schemas::Strict),
            rest: lost.rest("tools", &function.extra),
        }),
        cache_control: function.cache.as_ref().filter(|_| dialect.cache_control).map(|cache| {
            wire::CacheControl {
                kind: Some("ephemeral".to_owned()),
                ttl: cache.ttl.clone(),
                rest: Extra::new(),
            }
        }),
        rest: Extra::new(),
    })
}

fn write_choice(choice: &ToolChoice, dialect: &Dialect, lost: &mut Lost) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!(dialect.required),
        ToolChoice::Named(name) if dialect.named_choice => {
            json!({"type": "function", "function": {"name": name}})
        }
        ToolChoice::Named(_) => {
            lost.note("tool_choice.name");
            json!(dialect.required)
        }
        ToolChoice::Allowed { names, required } => {
            let tools: Vec<Value> =
                names.iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect();
            let mode = if *required { "required" } else { "auto" };
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
        }
    }
}

/// `strict` only where it was asked for: that mode takes a subset of JSON Schema.
fn write_format(output: &Output, dialect: &Dialect, lost: &mut Lost) -> wire::ResponseFormat {
    let kind =
        |kind: &str| wire::ResponseFormat { kind: Some(kind.to_owned()), ..wire::ResponseFormat::default() };
    match output {
        Output::Schema { name, description, schema, strict } if dialect.schemas != Schemas::None => {
            let strict = strict.filter(|_| dialect.schemas == Schemas::Strict);
            wire::ResponseFormat {
                json_schema: Some(wire::JsonSchema {
                    name: Some(name.clone().unwrap_or_else(|| "reply".to_owned())),
                    description: description.clone(),
                    schema: Some(schema.clone()),
                    strict: Some(strict.unwrap_or(false)),
                    rest: Extra::new(),
                }),
                ..kind("json_schema")
            }
        }
        Output::Schema { .. } => {
            lost.note("response_format.json_schema");
            kind("json_object")
        }
        Output::Json => kind("json_object"),
    }
}

/// Servers that can only be asked for JSON want the prompt to say so, and the schema has no other place.
fn instruct(output: &Output) -> wire::Message {
    wire::Message {
        role: Some("system".to_owned()),
        content: Some(Said::Text(shared::instruction(output))),
        ..wire::Message::default()
    }
}

fn write_thinking(
    thinking: Option<&Thinking>,
    dialect: &Dialect,
    lost: &mut Lost,
) -> (Option<String>, Extra) {
    let Some(thinking) = thinking else { return (None, Extra::new()) };
    let effort = if thinking.on == Some(false) { Some("none".to_owned()) } else { effort(thinking) };
    match dialect.effort {
        EffortField::Plain => (effort, Extra::new()),
        EffortField::Nested => {
            let nested = match (thinking.on, thinking.budget, effort) {
                (Some(false), _, _) => json!({"enabled": false}),
                (_, Some(budget), _) => json!({"max_tokens": budget}),
                (_, None, Some(effort)) => json!({"effort": effort}),
                (_, None, None) => json!({"enabled": true}),
            };
            (None, Extra::from_iter([("reasoning".to_owned(), nested)]))
        }
        EffortField::None => {
            lost.note("reasoning_effort");
            (None, Extra::new())
        }
    }
}
