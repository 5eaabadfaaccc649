//! Converse requests, read at a front door and written to a provider.

use serde_json::{Value, json};

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, Malformed, body, budget, tuck, untuck};
use crate::neutral::{
    Cache, Content, Extra, Function, Json, Message, Output, Request, Role, Sampling, Thinking, Tool,
    ToolChoice,
};
use crate::types::converse as wire;

use super::blocks;

/// The fewest tokens that may be thought.
const BUDGET_MIN: u64 = 1_024;

/// Reads a request. The path says which model, and whether to stream.
pub(crate) fn read(bytes: &[u8]) -> Result<Request, Malformed> {
    let wire: wire::Request = body(bytes)?;
    let mut extra = wire.rest;
    let mut messages = Vec::new();
    if let Some(system) = wire.system {
        messages.push(Message::new(Role::System, blocks::read("system", system)?));
    }
    for (n, message) in wire.messages.unwrap_or_default().into_iter().enumerate() {
        messages.push(read_message(n, message)?);
    }
    let config = wire.inference_config.unwrap_or_default();
    tuck(&mut extra, "inferenceConfig", config.rest);
    let (tools, choice) = match wire.tool_config {
        Some(config) => {
            (read_tools(config.tools.unwrap_or_default())?, config.tool_choice.and_then(read_choice))
        }
        None => (Vec::new(), None),
    };
    let output = wire.output_config.map(|config| read_output(config, &mut extra)).transpose()?.flatten();
    let mut model_fields = wire.additional_model_request_fields.unwrap_or_default();
    let thinking = model_fields.remove("thinking").and_then(|said| read_thinking(said, &mut model_fields));
    let top_k = match model_fields.remove("top_k") {
        Some(Value::Number(top_k)) => Some(top_k),
        _ => None,
    };
    tuck(&mut extra, "additionalModelRequestFields", model_fields);
    Ok(Request {
        messages,
        tools,
        choice,
        output,
        max_tokens: config.max_tokens,
        sampling: Sampling {
            temperature: config.temperature,
            top_p: config.top_p,
            top_k,
            ..Sampling::default()
        },
        stop: config.stop_sequences.unwrap_or_default(),
        thinking,
        metadata: wire.labels.unwrap_or_default(),
        stream_usage: true,
        from: Some(Family::Converse),
        extra,
        ..Request::default()
    })
}

fn read_message(n: usize, message: wire::Message) -> Result<Message, Malformed> {
    let at = format!("messages[{n}]");
    let parts = blocks::read(&format!("{at}.content"), message.content.unwrap_or_default())?;
    let results =
        || !parts.is_empty() && parts.iter().all(|part| matches!(part.content, Content::Outcome(_)));
    let role = match message.role.as_deref() {
        Some("user") if results() => Role::Tool,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        Some(other) => return Err(Malformed::at(format!("{at}.role"), format!("{other:?} is not a role"))),
        None => return Err(Malformed::missing(format!("{at}.role"))),
    };
    Ok(Message { role, parts, name: None, extra: message.rest })
}

fn read_tools(tools: Vec<wire::Tool>) -> Result<Vec<Tool>, Malformed> {
    let mut read = Vec::<Tool>::new();
    for (n, tool) in tools.into_iter().enumerate() {
        if let Some(point) = &tool.cache_point {
            if let Some(Tool::Function(last)) = read.last_mut() {
                last.cache = Some(shared::cache(point.ttl.clone()));
            }
            continue;
        }
        let Some(spec) = tool.spec.clone() else {
            read.push(Tool::Other(shared::json(&tool)));
            continue;
        };
        read.push(Tool::Function(Function {
            name: spec
                .name
                .ok_or_else(|| Malformed::missing(format!("toolConfig.tools[{n}].toolSpec.name")))?,
            description: spec.description,
            schema: spec.input_schema.and_then(|schema| schema.json),
            strict: spec.strict,
            cache: None,
            extra: spec.rest,
        }));
    }
    Ok(read)
}

fn read_choice(choice: wire::ToolChoice) -> Option<ToolChoice> {
    let named = choice.tool.and_then(|tool| tool.name).map(ToolChoice::Named);
    named
        .or_else(|| choice.any.map(|_| ToolChoice::Required))
        .or_else(|| choice.auto.map(|_| ToolChoice::Auto))
}

fn read_output(config: wire::OutputConfig, extra: &mut Extra) -> Result<Option<Output>, Malformed> {
    tuck(extra, "outputConfig", config.rest);
    let Some(format) = config.text_format else { return Ok(None) };
    let at = "outputConfig.textFormat.structure.jsonSchema.schema";
    let said = format.structure.and_then(|structure| structure.json_schema).unwrap_or_default();
    let text = said.schema.ok_or_else(|| Malformed::missing(at))?;
    let schema = Json::parse(&text).ok_or_else(|| Malformed::at(at, "the schema is not JSON"))?;
    Ok(Some(Output::Schema { name: said.name, description: said.description, schema, strict: None }))
}

/// Thinking as the models of one vendor are told of it; anything else stays as it is.
fn read_thinking(said: Value, fields: &mut Extra) -> Option<Thinking> {
    let on = match said.get("type").and_then(Value::as_str) {
        Some("enabled") => true,
        Some("disabled") => false,
        _ => {
            fields.insert("thinking".to_owned(), said);
            return None;
        }
    };
    let budget = said.get("budget_tokens").and_then(Value::as_u64);
    Some(Thinking { on: Some(on), budget, ..Thinking::default() })
}

/// Writes a request.
pub(crate) fn write(request: &Request) -> (wire::Request, Vec<String>) {
    let mut lost = Lost::new(Family::Converse, request.from);
    let mut rest = lost.rest("", &request.extra);
    let (mut system, messages) = write_messages(&request.messages, &mut lost);
    let output_config = write_output(request, &mut rest, &mut lost);
    if output_config.as_ref().is_none_or(|config| config.text_format.is_none()) {
        let text = |output| wire::Block { text: Some(shared::instruction(output)), ..wire::Block::default() };
        system.extend(request.output.as_ref().map(text));
    }
    let (tools, choice) = shared::narrowed(&request.tools, request.choice.as_ref());
    note_unsaid(request, &mut lost);
    let mut fields = untuck(&mut rest, "additionalModelRequestFields");
    let thinks = write_thinking(request, &mut fields, &mut lost);
    if let Some(top_k) = &request.sampling.top_k {
        if lost.same() || speaks_messages(&request.model) {
            fields.insert("top_k".to_owned(), Value::Number(top_k.clone()));
        } else {
            lost.note("top_k");
        }
    }
    let kept = lost.same() || !thinks;
    lost.note_if(!kept && request.sampling.temperature.is_some(), "temperature");
    let config = wire::InferenceConfig {
        max_tokens: request.max_tokens,
        temperature: request.sampling.temperature.clone().filter(|_| kept),
        top_p: request.sampling.top_p.clone(),
        stop_sequences: Some(request.stop.clone()).filter(|stop| !stop.is_empty()),
        rest: untuck(&mut rest, "inferenceConfig"),
    };
    let labels = Some(request.metadata.clone()).filter(|labels| lost.same() && !labels.is_empty());
    let wire = wire::Request {
        messages: Some(messages),
        system: Some(system).filter(|system| !system.is_empty()),
        inference_config: Some(config).filter(|config| *config != wire::InferenceConfig::default()),
        tool_config: write_tools(&tools, choice.as_ref(), &request.messages, &mut lost),
        output_config,
        additional_model_request_fields: Some(fields).filter(|fields| !fields.is_empty()),
        labels,
        rest,
    };
    (wire, lost.names())
}

/// What this wire has no words for.
fn note_unsaid(request: &Request, lost: &mut Lost) {
    let sampling = &request.sampling;
    lost.note_if(sampling.frequency_penalty.is_some(), "frequency_penalty");
    lost.note_if(sampling.presence_penalty.is_some(), "presence_penalty");
    lost.note_if(sampling.seed.is_some(), "seed");
    lost.note_if(request.user.is_some(), "user");
    lost.note_if(request.parallel == Some(false), "parallel_tool_calls");
    lost.note_if(!lost.same() && !request.metadata.is_empty(), "metadata");
}

/// Models that take the fields of the messages wire among their own.
fn speaks_messages(model: &str) -> bool {
    model.contains("anthropic.")
}

fn write_messages(said: &[Message], lost: &mut Lost) -> (Vec<wire::Block>, Vec<wire::Message>) {
    let (mut system, mut messages) = (Vec::new(), Vec::<wire::Message>::new());
    for message in said {
        lost.note_if(message.name.is_some(), "messages.name");
        let blocks: Vec<wire::Block> =
            message.parts.iter().flat_map(|part| blocks::write(part, lost)).collect();
        let role = match message.role {
            Role::System | Role::Developer => {
                system.extend(blocks);
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let rest = lost.rest("messages", &message.extra);
        match messages.last_mut() {
            Some(last) if last.role.as_deref() == Some(role) && rest.is_empty() => {
                last.content.get_or_insert_default().extend(blocks);
            }
            _ if blocks.is_empty() => {}
            _ => messages.push(wire::Message { role: Some(role.to_owned()), content: Some(blocks), rest }),
        }
    }
    (system, messages)
}

/// The tools. A conversation that used some must name them, even when the model is to use none now.
fn write_tools(
    tools: &[Tool],
    choice: Option<&ToolChoice>,
    messages: &[Message],
    lost: &mut Lost,
) -> Option<wire::ToolConfig> {
    let used = || {
        let mut parts = messages.iter().flat_map(|message| &message.parts);
        parts.any(|part| matches!(part.content, Content::Call(_) | Content::Outcome(_)))
    };
    if choice == Some(&ToolChoice::None) {
        if !used() {
            return None;
        }
        lost.note("tool_choice.none");
    }
    let mut written = Vec::new();
    for tool in tools {
        match tool {
            Tool::Function(function) => {
                written.push(wire::Tool { spec: Some(write_spec(function, lost)), ..wire::Tool::default() });
                let point = |cache: &Cache| blocks::write_point(cache).cache_point;
                let point = function.cache.as_ref().and_then(point);
                written.extend(
                    point.map(|point| wire::Tool { cache_point: Some(point), ..wire::Tool::default() }),
                );
            }
            Tool::Other(json) => written.extend(lost.other::<wire::Tool>("tools", json)),
        }
    }
    let shape = wire::ToolChoice::default;
    let choice = choice.and_then(|choice| match choice {
        ToolChoice::Auto | ToolChoice::Allowed { .. } => {
            Some(wire::ToolChoice { auto: Some(Extra::new()), ..shape() })
        }
        ToolChoice::Required => Some(wire::ToolChoice { any: Some(Extra::new()), ..shape() }),
        ToolChoice::Named(name) => {
            let tool = wire::NamedTool { name: Some(name.clone()), rest: Extra::new() };
            Some(wire::ToolChoice { tool: Some(tool), ..shape() })
        }
        ToolChoice::None => None,
    });
    (!written.is_empty()).then(|| wire::ToolConfig {
        tools: Some(written),
        tool_choice: choice,
        rest: Extra::new(),
    })
}

fn write_spec(function: &Function, lost: &mut Lost) -> wire::ToolSpec {
    let empty = || Json::of(&json!({"type": "object"}));
    let schema = function.schema.clone().unwrap_or_else(empty);
    wire::ToolSpec {
        name: Some(function.name.clone()),
        description: function.description.clone().filter(|words| !words.is_empty()),
        input_schema: Some(wire::InputSchema { json: Some(schema), rest: Extra::new() }),
        strict: function.strict.filter(|strict| *strict),
        rest: lost.rest("tools", &function.extra),
    }
}

/// Only one vendor's models are told how much to think, in their own words. Answers whether they are.
fn write_thinking(request: &Request, fields: &mut Extra, lost: &mut Lost) -> bool {
    let Some(thinking) = &request.thinking else { return false };
    if !lost.same() && !speaks_messages(&request.model) {
        lost.note("reasoning");
        return false;
    }
    let said = if thinking.on == Some(false) {
        json!({"type": "disabled"})
    } else {
        let most = request.max_tokens.map_or(u64::MAX, |most| most.saturating_sub(1));
        let asked = budget(thinking).unwrap_or(BUDGET_MIN);
        let tokens = if lost.same() { asked } else { asked.max(BUDGET_MIN).min(most) };
        if tokens < BUDGET_MIN {
            lost.note("reasoning");
            return false;
        }
        json!({"type": "enabled", "budget_tokens": tokens})
    };
    fields.insert("thinking".to_owned(), said);
    thinking.on != Some(false)
}

fn write_output(request: &Request, rest: &mut Extra, lost: &mut Lost) -> Option<wire::OutputConfig> {
    let kept = untuck(rest, "outputConfig");
    let format = match &request.output {
        Some(Output::Schema { name, description, schema, .. }) => {
            // Objects that are open are refused.
            let schema = if lost.same() { Some(schema.clone()) } else { shared::closed(schema) };
            schema.map(|schema| write_format(name.clone(), description.clone(), &schema))
        }
        Some(Output::Json) | None => None,
    };
    lost.note_if(request.output.is_some() && format.is_none(), "response_format");
    let said = format.is_some() || !kept.is_empty();
    said.then_some(wire::OutputConfig { text_format: format, rest: kept })
}

fn write_format(name: Option<String>, description: Option<String>, schema: &Json) -> wire::TextFormat {
    let text =
        wire::SchemaText { schema: Some(schema.text().to_owned()), name, description, rest: Extra::new() };
    wire::TextFormat {
        kind: Some("json_schema".to_owned()),
        structure: Some(wire::Structure { json_schema: Some(text), rest: Extra::new() }),
        rest: Extra::new(),
    }
}
