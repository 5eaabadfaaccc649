//! generateContent requests, read at a front door and written to a provider.
//!
//! Invariant: results of tools carry the name of the tool they answer for, and a call of a model that demands proofs
//! never goes without one.

use serde_json::Value;

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, Malformed, body, budget, tuck, untuck};
use crate::neutral::{
    Content, Extra, Function, Json, Message, Output, Request, Role, Sampling, Thinking, Tool, ToolChoice,
};
use crate::types::generate as wire;

use super::parts;

/// What the documentation gives for calls that the model did not make itself.
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
const UNPROVEN: &str = "skip_thought_signature_validator";

/// Reads a request. The path says which model, and whether to stream.
pub(crate) fn read(bytes: &[u8]) -> Result<Request, Malformed> {
    let wire: wire::Request = body(bytes)?;
    let mut extra = wire.rest;
    let mut messages = Vec::new();
    if let Some(system) = wire.system_instruction {
        messages.push(read_content("systemInstruction", system, Role::System)?);
    }
    let contents = wire.contents.ok_or_else(|| Malformed::missing("contents"))?;
    for (n, content) in contents.into_iter().enumerate() {
        let at = format!("contents[{n}]");
        let role = match content.role.as_deref() {
            None | Some("user" | "function" | "") => Role::User,
            Some("model") => Role::Assistant,
            Some(other) => {
                return Err(Malformed::at(format!("{at}.role"), format!("{other:?} is not a role")));
            }
        };
        messages.push(read_content(&at, content, role)?);
    }
    join(&mut messages);
    let config = wire.generation_config.unwrap_or_default();
    let output = read_output(&config);
    let thinking = config.thinking_config.map(|said| read_thinking(said, &mut extra));
    tuck(&mut extra, "generationConfig", config.rest);
    let choice = wire.tool_config.map(|said| read_choice(said, &mut extra)).transpose()?.flatten();
    Ok(Request {
        messages,
        tools: read_tools(wire.tools.unwrap_or_default())?,
        choice,
        output,
        max_tokens: config.max_output_tokens,
        sampling: Sampling {
            temperature: config.temperature,
            top_p: config.top_p,
            top_k: config.top_k,
            frequency_penalty: config.frequency_penalty,
            presence_penalty: config.presence_penalty,
            seed: config.seed,
        },
        stop: config.stop_sequences.unwrap_or_default(),
        thinking,
        metadata: wire.labels.unwrap_or_default(),
        stream_usage: true,
        from: Some(Family::Generate),
        extra,
        ..Request::default()
    })
}

fn read_content(at: &str, content: wire::Content, role: Role) -> Result<Message, Malformed> {
    let said = content.parts.unwrap_or_default().into_iter().enumerate();
    let parts = said.map(|(n, part)| parts::read(&format!("{at}.parts[{n}]"), part, n));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let results = !parts.is_empty() && parts.iter().all(|part| matches!(part.content, Content::Outcome(_)));
    let role = if results { Role::Tool } else { role };
    Ok(Message { role, parts, name: None, extra: content.rest })
}

/// Gives calls without ids one each, and their results the same: by name, in order.
fn join(messages: &mut [Message]) {
    let (mut waiting, mut n) = (Vec::<(String, String)>::new(), 0);
    for part in messages.iter_mut().flat_map(|message| &mut message.parts) {
        match &mut part.content {
            Content::Call(call) => {
                if call.id.starts_with("gen_") {
                    call.id = parts::made_id(n);
                    n += 1;
                }
                waiting.push((call.name.clone(), call.id.clone()));
            }
            Content::Outcome(outcome) => {
                let found = waiting.iter().position(|(name, id)| {
                    if outcome.call.is_empty() {
                        Some(name) == outcome.name.as_ref()
                    } else {
                        *id == outcome.call
                    }
                });
                if let Some(at) = found {
                    outcome.call = waiting.remove(at).1;
                }
            }
            _ => {}
        }
    }
}

fn read_tools(tools: Vec<wire::Tool>) -> Result<Vec<Tool>, Malformed> {
    let mut read = Vec::new();
    for (n, mut tool) in tools.into_iter().enumerate() {
        for (m, said) in tool.function_declarations.take().unwrap_or_default().into_iter().enumerate() {
            let missing = || Malformed::missing(format!("tools[{n}].functionDeclarations[{m}].name"));
            let schema = said.parameters_json_schema.or_else(|| said.parameters.as_ref().map(usual));
            read.push(Tool::Function(Function {
                name: said.name.ok_or_else(missing)?,
                description: said.description,
                schema,
                extra: said.rest,
                ..Function::default()
            }));
        }
        if !tool.rest.is_empty() {
            read.push(Tool::Other(shared::json(&tool)));
        }
    }
    Ok(read)
}

/// A schema with types in capitals as JSON Schema writes it.
fn usual(schema: &Json) -> Json {
    fn lower(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(kind)) = fields.get_mut("type") {
                    *kind = kind.to_ascii_lowercase();
                }
                fields.values_mut().for_each(lower);
            }
            Value::Array(items) => items.iter_mut().for_each(lower),
            _ => {}
        }
    }
    let mut value = schema.value();
    lower(&mut value);
    Json::of(&value)
}

fn read_choice(config: wire::ToolConfig, extra: &mut Extra) -> Result<Option<ToolChoice>, Malformed> {
    tuck(extra, "toolConfig", config.rest);
    let Some(calling) = config.function_calling_config else { return Ok(None) };
    let mut names = calling.allowed_function_names.unwrap_or_default();
    match calling.mode.as_deref().unwrap_or("AUTO") {
        "MODE_UNSPECIFIED" | "AUTO" => Ok(Some(ToolChoice::Auto)),
        "NONE" => Ok(Some(ToolChoice::None)),
        "ANY" | "VALIDATED" if names.is_empty() => Ok(Some(ToolChoice::Required)),
        "ANY" if names.len() == 1 => Ok(names.pop().map(ToolChoice::Named)),
        mode @ ("ANY" | "VALIDATED") => Ok(Some(ToolChoice::Allowed { names, required: mode == "ANY" })),
        other => {
            Err(Malformed::at("toolConfig.functionCallingConfig.mode", format!("{other:?} is not a mode")))
        }
    }
}

fn read_output(config: &wire::GenerationConfig) -> Option<Output> {
    let schema = config.response_json_schema.clone().or_else(|| config.response_schema.as_ref().map(usual));
    match schema {
        Some(schema) => Some(Output::Schema { name: None, description: None, schema, strict: None }),
        None => (config.response_mime_type.as_deref() == Some("application/json")).then_some(Output::Json),
    }
}

fn read_thinking(config: wire::ThinkingConfig, extra: &mut Extra) -> Thinking {
    tuck(extra, "thinkingConfig", config.rest);
    let budget = config.thinking_budget;
    Thinking {
        on: match budget {
            Some(0) => Some(false),
            Some(_) => Some(true),
            None => None,
        },
        effort: config.thinking_level.map(|level| level.to_ascii_lowercase()),
        // -1 leaves it to the model.
        budget: budget.and_then(|tokens| u64::try_from(tokens).ok()).filter(|tokens| *tokens > 0),
        shown: config.include_thoughts.map(|shown| if shown { "auto" } else { "omitted" }.to_owned()),
    }
}

/// Writes a request.
pub(crate) fn write(request: &Request) -> (wire::Request, Vec<String>) {
    let mut lost = Lost::new(Family::Generate, request.from);
    let mut rest = lost.rest("", &request.extra);
    let (system_instruction, contents) = write_contents(request, &mut lost);
    lost.note_if(request.user.is_some(), "user");
    lost.note_if(request.parallel == Some(false), "parallel_tool_calls");
    lost.note_if(!lost.same() && !request.metadata.is_empty(), "metadata");
    let labels = Some(request.metadata.clone()).filter(|labels| lost.same() && !labels.is_empty());
    let mut config = write_config(request, &mut rest);
    config.rest = untuck(&mut rest, "generationConfig");
    let wire = wire::Request {
        system_instruction,
        contents: Some(contents),
        tool_config: write_choice(request, &mut rest),
        tools: write_tools(&request.tools, &mut lost),
        generation_config: Some(config).filter(|config| *config != wire::GenerationConfig::default()),
        labels,
        rest,
    };
    (wire, lost.names())
}

fn write_contents(request: &Request, lost: &mut Lost) -> (Option<wire::Content>, Vec<wire::Content>) {
    let (mut system, mut contents) = (Vec::new(), Vec::<wire::Content>::new());
    let mut calls = Vec::<(String, String)>::new();
    for message in &request.messages {
        lost.note_if(message.name.is_some(), "messages.name");
        let mut written = Vec::new();
        for part in &message.parts {
            let mut part = part.clone();
            match &mut part.content {
                Content::Call(call) => calls.push((call.id.clone(), call.name.clone())),
                Content::Outcome(outcome) if outcome.name.is_none() => {
                    let named = calls.iter().rfind(|(id, _)| *id == outcome.call);
                    outcome.name = Some(named.map_or_else(|| outcome.call.clone(), |(_, name)| name.clone()));
                }
                _ => {}
            }
            written.extend(parts::write(&part, lost));
        }
        let role = match message.role {
            Role::System | Role::Developer => {
                system.extend(written);
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "model",
        };
        if role == "model" && demands_proofs(&request.model) {
            prove(&mut written);
        }
        let rest = lost.rest("contents", &message.extra);
        match contents.last_mut() {
            Some(last) if last.role.as_deref() == Some(role) && rest.is_empty() => {
                last.parts.get_or_insert_default().extend(written);
            }
            _ if written.is_empty() => {}
            _ => contents.push(wire::Content { role: Some(role.to_owned()), parts: Some(written), rest }),
        }
    }
    let system =
        (!system.is_empty()).then(|| wire::Content { parts: Some(system), ..wire::Content::default() });
    (system, contents)
}

/// Models from the third generation on refuse a turn whose first call has no proof.
fn demands_proofs(model: &str) -> bool {
    let version = model.rsplit('/').next().unwrap_or(model).strip_prefix("gemini-");
    version.and_then(|rest| rest.chars().next()).is_some_and(|first| ('3'..='9').contains(&first))
}

fn prove(parts: &mut [wire::Part]) {
    if let Some(call) = parts.iter_mut().find(|part| part.function_call.is_some()) {
        call.thought_signature.get_or_insert_with(|| UNPROVEN.to_owned());
    }
}

fn write_tools(tools: &[Tool], lost: &mut Lost) -> Option<Vec<wire::Tool>> {
    let (mut declarations, mut others) = (Vec::new(), Vec::new());
    for tool in tools {
        match tool {
            Tool::Function(function) => {
                lost.note_if(function.cache.is_some(), "tools.cache_control");
                lost.note_if(function.strict == Some(true), "tools.strict");
                declarations.push(wire::Declaration {
                    name: Some(function.name.clone()),
                    description: function.description.clone(),
                    parameters: None,
                    parameters_json_schema: function.schema.clone(),
                    rest: lost.rest("tools", &function.extra),
                });
            }
            Tool::Other(json) => others.extend(lost.other::<wire::Tool>("tools", json)),
        }
    }
    let functions = (!declarations.is_empty())
        .then(|| wire::Tool { function_declarations: Some(declarations), rest: Extra::new() });
    let tools: Vec<wire::Tool> = functions.into_iter().chain(others).collect();
    Some(tools).filter(|tools| !tools.is_empty())
}

fn write_choice(request: &Request, rest: &mut Extra) -> Option<wire::ToolConfig> {
    let kept = untuck(rest, "toolConfig");
    let (mode, names) = match &request.choice {
        None if kept.is_empty() => return None,
        None => return Some(wire::ToolConfig { function_calling_config: None, rest: kept }),
        Some(ToolChoice::Auto) => ("AUTO", Vec::new()),
        Some(ToolChoice::None) => ("NONE", Vec::new()),
        Some(ToolChoice::Required) => ("ANY", Vec::new()),
        Some(ToolChoice::Named(name)) => ("ANY", vec![name.clone()]),
        Some(ToolChoice::Allowed { names, required: true }) => ("ANY", names.clone()),
        Some(ToolChoice::Allowed { names, required: false }) => ("VALIDATED", names.clone()),
    };
    if request.tools.is_empty() {
        return None;
    }
    let calling = wire::CallingConfig {
        mode: Some(mode.to_owned()),
        allowed_function_names: Some(names).filter(|names| !names.is_empty()),
        rest: Extra::new(),
    };
    Some(wire::ToolConfig { function_calling_config: Some(calling), rest: kept })
}

fn write_config(request: &Request, rest: &mut Extra) -> wire::GenerationConfig {
    let sampling = request.sampling.clone();
    let schema = match &request.output {
        Some(Output::Schema { schema, .. }) => Some(schema.clone()),
        _ => None,
    };
    let thinking = request.thinking.as_ref().map(|thinking| wire::ThinkingConfig {
        rest: untuck(rest, "thinkingConfig"),
        ..write_thinking(thinking, &request.model)
    });
    wire::GenerationConfig {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        max_output_tokens: request.max_tokens,
        stop_sequences: Some(request.stop.clone()).filter(|stop| !stop.is_empty()),
        seed: sampling.seed,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        response_mime_type: request.output.as_ref().map(|_| "application/json".to_owned()),
        response_schema: None,
        response_json_schema: schema,
        thinking_config: thinking,
        rest: Extra::new(),
    }
}

/// Models from the third generation on take a level, earlier ones a number of tokens.
fn write_thinking(thinking: &Thinking, model: &str) -> wire::ThinkingConfig {
    let off = thinking.on == Some(false);
    let level =
        thinking.effort.clone().filter(|_| !off && thinking.budget.is_none() && demands_proofs(model));
    let level = level.map(|effort| match effort.as_str() {
        "none" | "minimal" => "minimal".to_owned(),
        "low" | "medium" => effort,
        _ => "high".to_owned(),
    });
    let tokens = match (off, budget(thinking), thinking.on) {
        (true, ..) => Some(0),
        (_, Some(tokens), _) => i64::try_from(tokens).ok(),
        (_, None, Some(true)) => Some(-1),
        (_, None, _) => None,
    };
    wire::ThinkingConfig {
        include_thoughts: thinking.shown.as_deref().map(|shown| shown != "omitted"),
        thinking_budget: tokens.filter(|_| level.is_none()),
        thinking_level: level,
        rest: Extra::new(),
    }
}
