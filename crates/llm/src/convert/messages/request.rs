//! Messages requests, read at a front door and written to a provider.
//!
//! Invariant: instructions stand above the conversation, neighbours of one role are one message, and what the provider
//! would refuse in a request that another family means well is left out and named.

use serde_json::Number;

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared::{self, Malformed, body, budget, tuck, untuck};
use crate::neutral::{
    Content, Extra, Function, Json, Message, Output, Request, Role, Sampling, Thinking, Tool, ToolChoice,
};
use crate::types::Said;
use crate::types::messages as wire;

use super::blocks;

/// The field is required; who says nothing gets this.
const MAX_TOKENS: u64 = 4_096;
/// The fewest tokens that may be thought.
const BUDGET_MIN: u64 = 1_024;

/// Reads a request.
pub(crate) fn read(bytes: &[u8]) -> Result<Request, Malformed> {
    let wire: wire::Request = body(bytes)?;
    let mut extra = wire.rest;
    let mut messages = Vec::new();
    if let Some(system) = wire.system {
        messages.push(Message::new(Role::System, blocks::read_said("system", system)?));
    }
    let said = wire.messages.ok_or_else(|| Malformed::missing("messages"))?;
    for (n, message) in said.into_iter().enumerate() {
        messages.push(read_message(n, message)?);
    }
    let tools = wire.tools.unwrap_or_default().into_iter().enumerate().map(|(n, tool)| read_tool(n, tool));
    let parallel = wire.tool_choice.as_ref().and_then(|choice| choice.disable_parallel_tool_use);
    let (output, effort) = match wire.output_config {
        Some(config) => {
            tuck(&mut extra, "output_config", config.rest);
            (config.format.map(read_format).transpose()?, config.effort)
        }
        None => (None, None),
    };
    let metadata = wire.metadata.unwrap_or_default();
    Ok(Request {
        model: wire.model.ok_or_else(|| Malformed::missing("model"))?,
        messages,
        tools: tools.collect::<Result<_, _>>()?,
        choice: wire.tool_choice.map(read_choice).transpose()?,
        parallel: parallel.map(|disabled| !disabled),
        output,
        max_tokens: wire.max_tokens,
        sampling: Sampling {
            temperature: wire.temperature,
            top_p: wire.top_p,
            top_k: wire.top_k,
            ..Sampling::default()
        },
        stop: wire.stop_sequences.unwrap_or_default(),
        thinking: read_thinking(wire.thinking, effort, &mut extra),
        user: metadata.user_id,
        metadata: metadata.rest,
        stream: wire.stream.unwrap_or_default(),
        stream_usage: true,
        from: Some(Family::Messages),
        extra,
    })
}

fn read_message(n: usize, message: wire::Message) -> Result<Message, Malformed> {
    let at = format!("messages[{n}]");
    let content = message.content.ok_or_else(|| Malformed::missing(format!("{at}.content")))?;
    let parts = blocks::read_said(&format!("{at}.content"), content)?;
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

fn read_tool(n: usize, tool: wire::Tool) -> Result<Tool, Malformed> {
    if tool.kind.as_deref().is_some_and(|kind| kind != "custom") {
        return Ok(Tool::Other(shared::json(&tool)));
    }
    Ok(Tool::Function(Function {
        name: tool.name.ok_or_else(|| Malformed::missing(format!("tools[{n}].name")))?,
        description: tool.description,
        schema: tool.input_schema,
        strict: tool.strict,
        cache: tool.cache_control.map(|control| shared::cache(control.ttl)),
        extra: tool.rest,
    }))
}

fn read_choice(choice: wire::ToolChoice) -> Result<ToolChoice, Malformed> {
    match choice.kind.as_deref() {
        Some("auto") => Ok(ToolChoice::Auto),
        Some("any") => Ok(ToolChoice::Required),
        Some("none") => Ok(ToolChoice::None),
        Some("tool") => {
            Ok(ToolChoice::Named(choice.name.ok_or_else(|| Malformed::missing("tool_choice.name"))?))
        }
        _ => Err(Malformed::at("tool_choice.type", "expected auto, any, tool or none")),
    }
}

fn read_format(format: wire::OutputFormat) -> Result<Output, Malformed> {
    let schema = format.schema.ok_or_else(|| Malformed::missing("output_config.format.schema"))?;
    Ok(Output::Schema { name: None, description: None, schema, strict: None })
}

fn read_thinking(
    thinking: Option<wire::Thinking>,
    effort: Option<String>,
    extra: &mut Extra,
) -> Option<Thinking> {
    let on = match thinking.as_ref().and_then(|thinking| thinking.kind.as_deref()) {
        None => None,
        Some("disabled") => Some(false),
        Some("enabled" | "adaptive") => Some(true),
        Some(_) => {
            let whole = thinking.as_ref().map(|thinking| shared::json(thinking).value());
            extra.extend(whole.map(|whole| ("thinking".to_owned(), whole)));
            return effort.map(|effort| Thinking { effort: Some(effort), ..Thinking::default() });
        }
    };
    if thinking.is_none() && effort.is_none() {
        return None;
    }
    let thinking = thinking.unwrap_or_default();
    tuck(extra, "thinking", thinking.rest);
    Some(Thinking { on, effort, budget: thinking.budget_tokens, shown: thinking.display })
}

/// Writes a request.
pub(crate) fn write(request: &Request) -> (wire::Request, Vec<String>) {
    let mut lost = Lost::new(Family::Messages, request.from);
    let mut rest = lost.rest("", &request.extra);
    let (tools, choice) = shared::narrowed(&request.tools, request.choice.as_ref());
    let tools: Vec<wire::Tool> = tools.iter().filter_map(|tool| write_tool(tool, &mut lost)).collect();
    let max_tokens = request.max_tokens.unwrap_or(MAX_TOKENS);
    let forced = matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_))) && !tools.is_empty();
    let thinking = write_thinking(request, max_tokens, forced, &mut rest, &mut lost);
    // While it thinks, the model takes no other temperature than its own.
    let thinks = thinking.as_ref().is_some_and(|thinking| thinking.budget_tokens.is_some());
    let sampling = write_sampling(request, thinks, &mut lost);
    let output_config = write_output(request, &mut rest, &mut lost);
    let unsaid = output_config.as_ref().is_none_or(|config| config.format.is_none());
    let instruction = request.output.as_ref().filter(|_| unsaid).map(shared::instruction);
    let (system, messages) = write_messages(&request.messages, instruction, &mut lost);
    let wire = wire::Request {
        model: Some(request.model.clone()),
        max_tokens: Some(max_tokens),
        system,
        messages: Some(messages),
        tool_choice: write_choice(choice.as_ref(), request.parallel).filter(|_| !tools.is_empty()),
        tools: Some(tools).filter(|tools| !tools.is_empty()),
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        stop_sequences: Some(request.stop.clone()).filter(|stop| !stop.is_empty()),
        thinking,
        output_config,
        metadata: write_metadata(request, &mut lost),
        stream: request.stream.then_some(true),
        rest,
    };
    (wire, lost.names())
}

/// The instructions, with one on the form of the reply where no field says it, and the conversation.
fn write_messages(
    said: &[Message],
    instruction: Option<String>,
    lost: &mut Lost,
) -> (Option<Said<wire::Block>>, Vec<wire::Message>) {
    let (mut system, mut messages) = (Vec::new(), Vec::<wire::Message>::new());
    for message in said {
        lost.note_if(message.name.is_some(), "messages.name");
        let blocks: Vec<wire::Block> =
            message.parts.iter().filter_map(|part| blocks::write(part, lost)).collect();
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
            Some(wire::Message { role: Some(last), content: Some(Said::Parts(parts)), .. })
                if last == role =>
            {
                parts.extend(blocks);
            }
            _ if blocks.is_empty() => {}
            _ => messages.push(wire::Message {
                role: Some(role.to_owned()),
                content: Some(Said::Parts(blocks)),
                rest,
            }),
        }
    }
    let text =
        |text| wire::Block { kind: Some("text".to_owned()), text: Some(text), ..wire::Block::default() };
    system.extend(instruction.map(text));
    for message in &mut messages {
        message.content = message.content.take().map(plain);
    }
    (Some(system).filter(|system| !system.is_empty()).map(|system| plain(Said::Parts(system))), messages)
}

/// One text without more to it is written as a text.
fn plain(said: Said<wire::Block>) -> Said<wire::Block> {
    match said {
        Said::Parts(mut blocks) if blocks.len() == 1 => {
            let bare = |block: &wire::Block| {
                block.kind.as_deref() == Some("text")
                    && block.cache_control.is_none()
                    && block.rest.is_empty()
            };
            match blocks.first().filter(|block| bare(block)).and_then(|block| block.text.clone()) {
                Some(text) => Said::Text(text),
                None => Said::Parts(std::mem::take(&mut blocks)),
            }
        }
        said => said,
    }
}

fn write_tool(tool: &Tool, lost: &mut Lost) -> Option<wire::Tool> {
    let function = match tool {
        Tool::Function(function) => function,
        Tool::Other(json) => return lost.other("tools", json),
    };
    let empty = || Json::of(&serde_json::json!({"type": "object"}));
    Some(wire::Tool {
        kind: None,
        name: Some(function.name.clone()),
        description: function.description.clone(),
        input_schema: Some(function.schema.clone().unwrap_or_else(empty)),
        strict: function.strict.filter(|strict| *strict),
        cache_control: function.cache.as_ref().map(blocks::write_cache),
        rest: lost.rest("tools", &function.extra),
    })
}

fn write_choice(choice: Option<&ToolChoice>, parallel: Option<bool>) -> Option<wire::ToolChoice> {
    let disable_parallel_tool_use = parallel.map(|parallel| !parallel).filter(|disabled| *disabled);
    let shape = |kind: &str| wire::ToolChoice {
        kind: Some(kind.to_owned()),
        disable_parallel_tool_use,
        ..wire::ToolChoice::default()
    };
    match choice {
        None => disable_parallel_tool_use.map(|_| shape("auto")),
        Some(ToolChoice::Auto | ToolChoice::Allowed { .. }) => Some(shape("auto")),
        Some(ToolChoice::Required) => Some(shape("any")),
        Some(ToolChoice::Named(name)) => Some(wire::ToolChoice { name: Some(name.clone()), ..shape("tool") }),
        Some(ToolChoice::None) => Some(wire::ToolChoice { disable_parallel_tool_use: None, ..shape("none") }),
    }
}

fn write_sampling(request: &Request, thinks: bool, lost: &mut Lost) -> Sampling {
    let said = request.sampling.clone();
    lost.note_if(said.frequency_penalty.is_some(), "frequency_penalty");
    lost.note_if(said.presence_penalty.is_some(), "presence_penalty");
    lost.note_if(said.seed.is_some(), "seed");
    if lost.same() {
        return said;
    }
    let hot = |temperature: &Number| temperature.as_f64().is_some_and(|degrees| degrees > 1.0);
    let temperature = match said.temperature {
        Some(_) if thinks => {
            lost.note("temperature");
            None
        }
        Some(temperature) if hot(&temperature) => {
            lost.note("temperature");
            Some(Number::from(1))
        }
        temperature => temperature,
    };
    lost.note_if(thinks && said.top_k.is_some(), "top_k");
    Sampling { temperature, top_k: said.top_k.filter(|_| !thinks), ..said }
}

fn write_thinking(
    request: &Request,
    max_tokens: u64,
    forced: bool,
    rest: &mut Extra,
    lost: &mut Lost,
) -> Option<wire::Thinking> {
    let thinking = request.thinking.as_ref()?;
    let shape = |kind: &str| wire::Thinking { kind: Some(kind.to_owned()), ..wire::Thinking::default() };
    if lost.same() {
        let rest = if rest.get("thinking").is_some_and(|kept| kept.get("type").is_some()) {
            return None;
        } else {
            untuck(rest, "thinking")
        };
        let kind = match (thinking.on?, thinking.budget) {
            (false, _) => "disabled",
            (true, Some(_)) => "enabled",
            (true, None) => "adaptive",
        };
        let display = thinking.shown.clone();
        return Some(wire::Thinking { budget_tokens: thinking.budget, display, rest, ..shape(kind) });
    }
    if thinking.on == Some(false) {
        return Some(shape("disabled"));
    }
    let tokens = budget(thinking)?.max(BUDGET_MIN).min(max_tokens.saturating_sub(1));
    if tokens < BUDGET_MIN || forced {
        lost.note("reasoning");
        return None;
    }
    Some(wire::Thinking { budget_tokens: Some(tokens), ..shape("enabled") })
}

fn write_output(request: &Request, rest: &mut Extra, lost: &mut Lost) -> Option<wire::OutputConfig> {
    let format = match &request.output {
        Some(Output::Schema { schema, .. }) => {
            // Objects that are open are refused.
            let schema = if lost.same() { Some(schema.clone()) } else { shared::closed(schema) };
            schema.map(|schema| wire::OutputFormat {
                kind: Some("json_schema".to_owned()),
                schema: Some(schema),
                rest: Extra::new(),
            })
        }
        Some(Output::Json) | None => None,
    };
    lost.note_if(request.output.is_some() && format.is_none(), "response_format");
    let effort = request.thinking.as_ref().and_then(|thinking| thinking.effort.clone());
    let effort = effort.filter(|_| lost.same());
    let rest = if lost.same() { untuck(rest, "output_config") } else { Extra::new() };
    let said = format.is_some() || effort.is_some() || !rest.is_empty();
    said.then_some(wire::OutputConfig { effort, format, rest })
}

fn write_metadata(request: &Request, lost: &mut Lost) -> Option<wire::Metadata> {
    let rest = if lost.same() { request.metadata.clone() } else { Extra::new() };
    lost.note_if(!lost.same() && !request.metadata.is_empty(), "metadata");
    let said = request.user.is_some() || !rest.is_empty();
    said.then(|| wire::Metadata { user_id: request.user.clone(), rest })
}
