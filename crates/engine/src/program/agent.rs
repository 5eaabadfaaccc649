//! The agent loop: a model turn, the tools it asks for, another turn, until it answers.
//!
//! Steps are named `llm-1`, `llm-1.tool-1`, `llm-1.tool-2`, `llm-2`, … The conversation is derived from the steps, so
//! each message is stored once however many turns see it.

use std::sync::Arc;

use lantern_types::ToolName;
use lantern_types::limits::{JSON_DEPTH_MAX, within_depth};
use lantern_types::llm::{Finish, LlmReply, Message, Role, ToolUse};
use serde_json::{Map, Value, json};

use super::{LlmAsk, NewStep, Next, OUTPUT_SCHEMA_VIOLATED};
use crate::carried::Carried;
use crate::decide::Context;
use crate::event::{StepId, StepKind};
use crate::progress;
use crate::recall;
use crate::run::{Run, Step, StepState, Work};
use crate::template::as_text;

/// Turns that may be spent on making a reply satisfy the output schema.
const REPAIRS_MAX: u32 = 2;

/// The input keys under which callers put plain text.
const TEXT_KEYS: [&str; 7] = ["prompt", "message", "text", "query", "input", "instruction", "ask"];

pub(super) fn next(run: &Run, context: &Context<'_>) -> Vec<Next> {
    let Some(turn) = last_turn(run) else { return vec![request_turn(run, context, first_turn(run))] };
    let Some(step) = run.step(&turn_id(turn)) else { return Vec::new() };
    match &step.state {
        StepState::Failed { code, message } => {
            vec![Next::FailRun { code: code.clone(), message: message.clone(), step: Some(step.id.clone()) }]
        }
        StepState::Settled { reply: Some(reply), violations, .. } => {
            after_reply(run, context, turn, step, reply, violations)
        }
        _ => Vec::new(),
    }
}

fn after_reply(
    run: &Run,
    context: &Context<'_>,
    turn: u32,
    step: &Step,
    reply: &Arc<LlmReply>,
    violations: &[String],
) -> Vec<Next> {
    // What the turn was told, whatever the limits are by now: whoever asked the model went by it, too.
    let offered = matches!(step.work, Some(Work::Turn { offer_tools: true, .. }));
    if !reply.tool_calls.is_empty() && offered {
        let wanted: Vec<Next> = reply
            .tool_calls
            .iter()
            .enumerate()
            .filter_map(|(n, call)| request_tool(run, step, n, call))
            // More calls than may run at once wait their turn, in the model's order.
            .take(super::room(step, context))
            .collect();
        if !wanted.is_empty() {
            return wanted;
        }
        if step.children.open > 0 {
            return Vec::new();
        }
        return match progress::circling(run, context.limits.identical_calls_max) {
            Some((period, rounds)) => vec![Next::Block { period, rounds }],
            None => vec![next_turn(run, context, turn + 1)],
        };
    }
    if reply.finish == Finish::ContentFilter {
        let message = "the provider withheld the reply".to_owned();
        return vec![Next::FailRun {
            code: "content_filtered".to_owned(),
            message,
            step: Some(step.id.clone()),
        }];
    }
    if !violations.is_empty() {
        return repair(run, context, turn, step, violations);
    }
    if turn >= turns_max(run, context) && !reply.tool_calls.is_empty() && reply.content.trim().is_empty() {
        return vec![no_answer(turn)];
    }
    vec![Next::Succeed(Arc::new(output(run, reply)))]
}

/// A reply that breaks the output schema is sent back with what is wrong, a bounded number of times.
fn repair(run: &Run, context: &Context<'_>, turn: u32, step: &Step, violations: &[String]) -> Vec<Next> {
    if repairs(run) <= REPAIRS_MAX && turn < turns_max(run, context) {
        return vec![next_turn(run, context, turn + 1)];
    }
    let (code, message) = (OUTPUT_SCHEMA_VIOLATED.to_owned(), super::violated(violations));
    vec![Next::FailRun { code, message, step: Some(step.id.clone()) }]
}

/// Replies so far that broke the output schema.
fn repairs(run: &Run) -> u32 {
    let here = run.steps().iter().filter(|step| breaks_schema(step)).count();
    let before = run.carried.as_ref().map_or(0, |carried| carried.repairs);
    u32::try_from(here).unwrap_or(u32::MAX).saturating_add(before)
}

fn breaks_schema(step: &Step) -> bool {
    matches!(&step.state, StepState::Settled { violations, .. } if !violations.is_empty())
}

fn output(run: &Run, reply: &LlmReply) -> Value {
    let mut output = Map::new();
    output.insert("result".to_owned(), Value::String(reply.content.clone()));
    if run.manifest.output_schema.is_some()
        && let Ok(structured) = serde_json::from_str(&reply.content)
        && within_depth(&structured, JSON_DEPTH_MAX)
    {
        output.insert("structured".to_owned(), structured);
    }
    if reply.finish == Finish::Length {
        output.insert("truncated".to_owned(), Value::Bool(true));
    }
    Value::Object(output)
}

fn turn_id(turn: u32) -> StepId {
    StepId::new(format!("llm-{turn}"))
}

/// The number of this run's first turn: it goes on from where the runs before it came to.
fn first_turn(run: &Run) -> u32 {
    run.carried.as_ref().map_or(0, |carried| carried.turns) + 1
}

fn last_turn(run: &Run) -> Option<u32> {
    run.steps().iter().rev().find_map(|step| match step.work {
        Some(Work::Turn { turn, .. }) => Some(turn),
        _ => None,
    })
}

fn turns_max(run: &Run, context: &Context<'_>) -> u32 {
    run.manifest.max_turns.min(context.limits.turns_per_run_max).max(1)
}

/// The last turn has no tools on offer, so that it must answer.
fn offers_tools(run: &Run, context: &Context<'_>, turn: u32) -> bool {
    turn < turns_max(run, context) && run.manifest.tools.as_ref().is_some_and(|tools| !tools.is_empty())
}

/// The next turn, or a new run to have it in when this one's journal is full.
fn next_turn(run: &Run, context: &Context<'_>, turn: u32) -> Next {
    let full = run.seq >= u64::from(context.limits.events_per_run_max);
    if full && turn <= turns_max(run, context) {
        return Next::GoOn(Carried::of(run, turn - 1, repairs(run), conversation(run, turn)));
    }
    request_turn(run, context, turn)
}

fn request_turn(run: &Run, context: &Context<'_>, turn: u32) -> Next {
    if turn > turns_max(run, context) {
        return no_answer(turn - 1);
    }
    Next::Request(NewStep {
        id: turn_id(turn),
        kind: StepKind::Llm,
        parent: None,
        work: Work::Turn { turn, offer_tools: offers_tools(run, context, turn) },
        wait: None,
        until: None,
    })
}

/// The last turn is over, and its model has said nothing.
fn no_answer(turn: u32) -> Next {
    let message = format!("no answer after {turn} turns");
    Next::FailRun { code: "max_turns".to_owned(), message, step: Some(turn_id(turn)) }
}

fn tool_step_id(turn: &StepId, n: usize) -> StepId {
    StepId::new(format!("{turn}.tool-{}", n + 1))
}

/// The step for a tool call, unless it was asked for already or cannot be read (the model is then told so).
fn request_tool(run: &Run, turn: &Step, n: usize, call: &ToolUse) -> Option<Next> {
    let id = tool_step_id(&turn.id, n);
    if run.step(&id).is_some() {
        return None;
    }
    let (name, arguments) = read_call(call).ok()?;
    Some(Next::Request(NewStep {
        id,
        kind: StepKind::Tool,
        parent: Some(turn.id.clone()),
        work: Work::Tool { name, arguments: Arc::new(arguments), call: Some(call.id.clone()) },
        wait: None,
        until: None,
    }))
}

fn read_call(call: &ToolUse) -> Result<(ToolName, Value), String> {
    let name = ToolName::parse(&call.name).map_err(|error| error.to_string())?;
    let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let arguments: Value =
        serde_json::from_str(text).map_err(|error| format!("the arguments are not valid JSON: {error}"))?;
    if !within_depth(&arguments, JSON_DEPTH_MAX) {
        return Err("the arguments nest too deeply".to_owned());
    }
    if arguments.is_object() {
        Ok((name, arguments))
    } else {
        Err("the arguments are not a JSON object".to_owned())
    }
}

/// The model call of a turn: everything said before it.
pub(super) fn ask(run: &Run, turn: u32, offer_tools: bool) -> LlmAsk {
    let manifest = &run.manifest;
    let mut messages = Vec::new();
    let prompts = [&manifest.system_prompt, &manifest.style_prompt];
    let prompts: Vec<&str> = prompts
        .into_iter()
        .flatten()
        .map(String::as_str)
        .filter(|prompt| !prompt.trim().is_empty())
        .collect();
    if !prompts.is_empty() {
        messages.push(Message::text(Role::System, prompts.join("\n\n")));
    }
    messages.extend(conversation(run, turn));
    LlmAsk {
        model: manifest.model.clone(),
        messages,
        offer_tools,
        max_tokens: manifest.max_tokens,
        temperature: manifest.temperature.clone(),
        output_schema: manifest.output_schema.clone(),
    }
}

/// Everything said so far, by the person, the model and the tools.
pub(super) fn so_far(run: &Run) -> Vec<Message> {
    conversation(run, last_turn(run).map_or(0, |turn| turn.saturating_add(1)))
}

/// Everything said before a turn, by the person, the model and the tools.
fn conversation(run: &Run, turn: u32) -> Vec<Message> {
    let mut messages: Vec<Message> = match (&run.carried, &run.recall) {
        (Some(carried), _) => carried.messages.clone(),
        (None, Some(recall)) => recall.messages().cloned().chain([recall::asked(&run.input)]).collect(),
        (None, None) => vec![Message::text(Role::User, user_text(&run.input))],
    };
    for earlier in first_turn(run)..turn {
        if let Some(step) = run.step(&turn_id(earlier)) {
            said(run, step, &mut messages);
        }
    }
    messages
}

/// What a turn added to the conversation: the reply, the tools' results, the schema's complaints.
fn said(run: &Run, step: &Step, messages: &mut Vec<Message>) {
    let StepState::Settled { reply: Some(reply), violations, .. } = &step.state else { return };
    let tool_calls = reply.tool_calls.clone();
    messages.push(Message { tool_calls, ..Message::text(Role::Assistant, reply.content.clone()) });
    for (n, call) in reply.tool_calls.iter().enumerate() {
        let content = tool_result(run, &tool_step_id(&step.id, n), call);
        let tool_call_id = Some(call.id.clone());
        messages.push(Message { tool_call_id, ..Message::text(Role::Tool, content) });
    }
    if !violations.is_empty() {
        let complaint = format!(
            "Your reply does not satisfy the required JSON schema: {}. Reply again with JSON only.",
            violations.join("; ")
        );
        messages.push(Message::text(Role::User, complaint));
    }
}

fn tool_result(run: &Run, id: &StepId, call: &ToolUse) -> String {
    match run.step(id).map(|step| &step.state) {
        Some(StepState::Settled { output, .. }) => as_text(output),
        Some(StepState::Failed { code, message }) => json!({ "error": code, "message": message }).to_string(),
        Some(_) => json!({ "error": "abandoned" }).to_string(),
        None => {
            let message = read_call(call).err().unwrap_or_else(|| "the call was not made".to_owned());
            json!({ "error": "tool_arguments_invalid", "message": message }).to_string()
        }
    }
}

/// The person's words: the text under one of the usual keys when that is all there is, else the whole input as JSON.
pub(super) fn user_text(input: &Value) -> String {
    match input {
        Value::Null => "Run now.".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(fields) if fields.is_empty() => "Run now.".to_owned(),
        Value::Object(fields) if fields.len() == 1 => fields
            .iter()
            .find_map(|(key, value)| TEXT_KEYS.contains(&key.as_str()).then_some(value.as_str()).flatten())
            .map_or_else(|| input.to_string(), str::to_owned),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_words_are_found() {
        for (input, want) in [
            (json!(null), "Run now."),
            (json!({}), "Run now."),
            (json!("hi"), "hi"),
            (json!({"prompt": "hi"}), "hi"),
            (json!({"text": "hi", "lang": "en"}), r#"{"lang":"en","text":"hi"}"#),
            (json!({"prompt": 5}), r#"{"prompt":5}"#),
            (json!([1]), "[1]"),
        ] {
            assert_eq!(user_text(&input), want);
        }
    }

    #[test]
    fn calls_that_cannot_be_read_say_why() {
        let call = |name: &str, arguments: &str| ToolUse {
            id: "c".into(),
            name: name.into(),
            arguments: arguments.into(),
            proof: None,
        };
        assert_eq!(read_call(&call("http__fetch", "")).unwrap().1, json!({}));
        assert!(read_call(&call("http__fetch", "{")).unwrap_err().contains("not valid JSON"));
        assert!(read_call(&call("http__fetch", "[]")).unwrap_err().contains("not a JSON object"));
        assert!(read_call(&call("No Such", "{}")).is_err());
    }
}
