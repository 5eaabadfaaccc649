//! The `steps` program: a list, one after another; maps and races run several at once.
//!
//! `{{input.…}}`, `{{steps.<id>.…}}`, and inside a map `{{item…}}` and `{{index}}`, are rendered when a step is asked
//! for. Children of a map are named `each[0]`, those of a race `fastest.branch`.

use std::sync::Arc;

use lantern_types::llm::{Message, Role};
use lantern_types::{At, Dur, ToolName};
use serde_json::{Map, Value, json};

use super::{APPROVAL_WAIT, NewStep, Next};
use crate::decide::Context;
use crate::event::{StepId, StepKind};
use crate::manifest::StepDef;
use crate::run::{Run, Step, StepState, Work};
use crate::template::{self, Lookup, as_text};

pub(super) fn next(run: &Run, context: &Context<'_>) -> Vec<Next> {
    // One after another: those that are settled come before all others.
    let settled = |def: &StepDef| run.step_named(&def.id).is_some_and(|step| step.output().is_some());
    let Some(def) = run.defs.get(run.defs.partition_point(settled)) else {
        return vec![Next::Succeed(Arc::new(output(run)))];
    };
    let Some(step) = run.step_named(&def.id) else { return ask(run, def, context) };
    match &step.state {
        StepState::Failed { code, message } => {
            vec![Next::FailRun { code: code.clone(), message: message.clone(), step: Some(step.id.clone()) }]
        }
        StepState::Settled { .. } | StepState::Abandoned => Vec::new(),
        _ => inside(run, step, def, context),
    }
}

/// `{result, stepsRan, steps}`: the last step's output as text, how many there were, and every output by name.
fn output(run: &Run) -> Value {
    let outputs: Map<String, Value> = run
        .defs
        .iter()
        .filter_map(|def| Some((def.id.clone(), Value::clone(run.step_named(&def.id)?.output()?))))
        .collect();
    let last = run.defs.last().and_then(|def| outputs.get(&def.id));
    let text = last.map(|value| as_text(value.get("text").unwrap_or(value))).unwrap_or_default();
    json!({ "result": text, "stepsRan": run.steps().len(), "steps": outputs })
}

fn ask(run: &Run, def: &StepDef, context: &Context<'_>) -> Vec<Next> {
    let place = Place { id: StepId::new(def.id.as_str()), parent: None, item: None };
    request(run, def, place, context)
}

/// Where a step stands among others.
struct Place {
    id: StepId,
    parent: Option<StepId>,
    item: Option<(usize, Value)>,
}

fn request(run: &Run, def: &StepDef, place: Place, context: &Context<'_>) -> Vec<Next> {
    let scope = Scope::new(run, &place);
    let (bytes, max) = (template::rendered_bytes(&def.data, &scope), context.limits.prompt_bytes_max);
    if bytes > max {
        let message = format!("{}: its references come to {bytes} bytes; the limit is {max}", place.id);
        let code = "step_data_invalid".to_owned();
        return vec![Next::FailRun { code, message, step: Some(place.id) }];
    }
    let data = template::render(&def.data, &scope);
    let Some(kind) = def.kind else {
        let input = data.get("input").cloned().unwrap_or(Value::Null);
        return vec![Next::Continue { step: place.id, input }];
    };
    if kind == StepKind::Approval && names_nobody(&def.data, &data) {
        return vec![Next::FailRun {
            code: "step_data_invalid".to_owned(),
            message: format!("{}: its approvers come to nobody", place.id),
            step: Some(place.id),
        }];
    }
    match work(kind, &data, run, context) {
        Ok(Asked { work, wait, until }) => {
            let unsaid = (kind == StepKind::Approval).then(|| APPROVAL_WAIT.min(context.limits.wait_max));
            let wait = wait.or_else(|| def.timeout.filter(|_| is_wait(kind))).or(unsaid);
            vec![Next::Request(NewStep { id: place.id, kind, parent: place.parent, work, wait, until })]
        }
        Err(message) => vec![Next::FailRun {
            code: "step_data_invalid".to_owned(),
            message: format!("{}: {message}", place.id),
            step: Some(place.id),
        }],
    }
}

const fn is_wait(kind: StepKind) -> bool {
    !matches!(kind, StepKind::Llm | StepKind::Tool | StepKind::Sleep)
}

struct Asked {
    work: Work,
    wait: Option<Dur>,
    until: Option<At>,
}

impl Asked {
    const fn now(work: Work) -> Self {
        Self { work, wait: None, until: None }
    }
}

fn work(kind: StepKind, data: &Value, run: &Run, context: &Context<'_>) -> Result<Asked, String> {
    match kind {
        StepKind::Llm => llm(data, run).map(Asked::now),
        StepKind::Tool => tool(data).map(Asked::now),
        StepKind::Sleep => sleep(data),
        StepKind::Signal => {
            let name = text(data, &["signal_name", "signalName", "name", "signal"])
                .ok_or("a signal needs a name")?;
            Ok(Asked { work: Work::Signal { name }, wait: patience(data)?, until: None })
        }
        StepKind::Approval => {
            let reason = text(data, &["reason", "question", "prompt"]).unwrap_or_default();
            let approvers = names(data.get("approvers"))?;
            let until = moment(data, &["expiresAt", "expires_at"])?;
            Ok(Asked { work: Work::Approval { reason, approvers }, wait: patience(data)?, until })
        }
        StepKind::Child => {
            let agent =
                text(data, &["agent_name", "agentName", "agent"]).ok_or("a child run needs an agent name")?;
            if agent.len() > 128 || agent.chars().any(char::is_control) {
                return Err("that is no agent's name".to_owned());
            }
            let input = data.get("input").cloned().unwrap_or(Value::Null);
            Ok(Asked::now(Work::Child { agent, input }))
        }
        StepKind::Map => map(data, context).map(Asked::now),
        StepKind::Race => Ok(Asked::now(Work::Race)),
    }
}

fn llm(data: &Value, run: &Run) -> Result<Work, String> {
    let manifest = &run.manifest;
    let mut messages: Vec<Message> = Vec::new();
    let system =
        text(data, &["system", "systemPrompt", "system_prompt"]).or_else(|| manifest.system_prompt.clone());
    if let Some(system) = system {
        messages.push(Message::text(Role::System, system));
    }
    if let Some(list) = data.get("messages") {
        let said: Vec<Message> =
            serde_json::from_value(list.clone()).map_err(|_| "messages must be a list of {role, content}")?;
        messages.extend(said);
    }
    if let Some(prompt) = data.get("prompt") {
        messages.push(Message::text(Role::User, as_text(prompt)));
    }
    if !messages.iter().any(|message| message.role == Role::User) {
        return Err("a model call needs a prompt or messages".to_owned());
    }
    let max_tokens = count(data, &["max_tokens", "maxTokens"])?;
    if max_tokens == Some(0) {
        return Err("maxTokens must be at least 1".to_owned());
    }
    Ok(Work::Llm {
        model: text(data, &["model", "capability"]).unwrap_or_else(|| manifest.model.clone()),
        messages,
        max_tokens: max_tokens.or(manifest.max_tokens),
        temperature: temperature(data)?.or_else(|| manifest.temperature.clone()),
        output_schema: ["output_schema", "outputSchema"].iter().find_map(|name| data.get(name)).cloned(),
    })
}

fn tool(data: &Value) -> Result<Work, String> {
    let name = text(data, &["tool_name", "toolName", "tool", "name"]).ok_or("a tool call needs a tool")?;
    let name = ToolName::parse(&name).map_err(|error| error.to_string())?;
    let arguments = ["arguments", "args", "parameters"].iter().find_map(|name| data.get(name)).cloned();
    let arguments = match arguments {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::String(text)) => {
            serde_json::from_str(&text).map_err(|_| "arguments must be a JSON object")?
        }
        Some(other) => other,
    };
    if !arguments.is_object() {
        return Err("arguments must be a JSON object".to_owned());
    }
    Ok(Work::Tool { name, arguments: Arc::new(arguments), call: None })
}

fn sleep(data: &Value) -> Result<Asked, String> {
    let until = moment(data, &["until"])?;
    if until.is_some() {
        return Ok(Asked { work: Work::Sleep, wait: None, until });
    }
    let wait = duration(data, &["duration_sec", "durationSec", "duration", "seconds"], Dur::from_secs(1))?
        .or(duration(data, &["durationMs", "duration_ms"], Dur::from_millis(1))?)
        .ok_or("a sleep needs a duration")?;
    Ok(Asked { work: Work::Sleep, wait: Some(wait), until: None })
}

fn map(data: &Value, context: &Context<'_>) -> Result<Work, String> {
    let items = match data.get("items") {
        Some(Value::Array(items)) => items.clone(),
        Some(Value::String(text)) => {
            serde_json::from_str::<Vec<Value>>(text).map_err(|_| "items must be a list".to_owned())?
        }
        _ => return Err("items must be a list".to_owned()),
    };
    let max = context.limits.map_items_max;
    if items.len() > usize::try_from(max).unwrap_or(usize::MAX) {
        return Err(format!("{} items; the limit is {max}", items.len()));
    }
    let concurrency = count(data, &["concurrency"])?.unwrap_or(8).clamp(1, context.limits.concurrency_max);
    Ok(Work::Map { items, concurrency })
}

fn text(data: &Value, names: &[&str]) -> Option<String> {
    names
        .iter()
        .find_map(|name| data.get(name))
        .filter(|value| !value.is_null())
        .map(as_text)
        .filter(|t| !t.is_empty())
}

/// How long a step waits for somebody, as its data says.
fn patience(data: &Value) -> Result<Option<Dur>, String> {
    let seconds = duration(data, &["timeout_sec", "timeoutSec", "timeout"], Dur::from_secs(1))?;
    Ok(seconds.or(duration(data, &["timeoutMs", "timeout_ms"], Dur::from_millis(1))?))
}

/// A point in time.
fn moment(data: &Value, names: &[&str]) -> Result<Option<At>, String> {
    let Some((name, value)) = names.iter().find_map(|name| Some((name, data.get(name)?))) else {
        return Ok(None);
    };
    if value.is_null() {
        return Ok(None);
    }
    let at = value.as_str().and_then(|text| text.parse::<At>().ok());
    at.map(Some).ok_or_else(|| format!("{name}: expected a time such as \"2026-11-25T10:30:00Z\""))
}

/// A number from 0 to 2, which references make text of.
fn temperature(data: &Value) -> Result<Option<serde_json::Number>, String> {
    let number = match data.get("temperature") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => Some(number.clone()),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(_) => None,
    };
    let fine = number.filter(|number| number.as_f64().is_some_and(|t| (0.0..=2.0).contains(&t)));
    fine.map(Some).ok_or_else(|| "temperature: expected 0 to 2".to_owned())
}

fn duration(data: &Value, names: &[&str], unit: Dur) -> Result<Option<Dur>, String> {
    let said = names.iter().find_map(|name| Some((name, data.get(name)?)));
    let Some((name, value)) = said.filter(|(_, value)| !value.is_null()) else {
        return Ok(None);
    };
    crate::manifest::duration(value, unit).map(Some).ok_or_else(|| format!("{name}: expected a duration"))
}

fn count(data: &Value, names: &[&str]) -> Result<Option<u32>, String> {
    let Some((name, value)) = names.iter().find_map(|name| Some((name, data.get(name)?))) else {
        return Ok(None);
    };
    if value.is_null() {
        return Ok(None);
    }
    let read = crate::manifest::whole(value);
    read.map(Some).ok_or_else(|| format!("{name}: expected a whole number"))
}

/// Whether approvers were named by a reference that came to nothing. Without approvers anybody may decide, which nobody meant
/// who wrote a reference.
fn names_nobody(said: &Value, rendered: &Value) -> bool {
    let nothing = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(Value::Array(names)) => names.is_empty(),
        Some(_) => false,
    };
    !nothing(said.get("approvers")) && nothing(rendered.get("approvers"))
}

fn names(value: Option<&Value>) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(list) => {
            serde_json::from_value(list.clone()).map_err(|_| "approvers must be a list of names".to_owned())
        }
    }
}

/// What an open step's own children want.
fn inside(run: &Run, step: &Step, def: &StepDef, context: &Context<'_>) -> Vec<Next> {
    match &step.work {
        Some(Work::Map { items, concurrency }) => inside_map(run, step, def, (items, *concurrency), context),
        Some(Work::Race) => inside_race(run, step, def, context),
        _ => Vec::new(),
    }
}

fn inside_map(
    run: &Run,
    step: &Step,
    def: &StepDef,
    (items, concurrency): (&[Value], u32),
    context: &Context<'_>,
) -> Vec<Next> {
    if let Some(failed) = step.children.failed.as_ref().and_then(|id| run.step(id)) {
        return fail_composite(run, step, failed);
    }
    let Some(inner) = def.inner.first() else { return Vec::new() };
    let mut wanted = nested(run, step, inner, context);
    let room = usize::try_from(concurrency.saturating_sub(step.children.open)).unwrap_or(0);
    let asked = step.children.ids.len();
    for (index, item) in items.iter().enumerate().skip(asked).take(room) {
        let id = StepId::new(format!("{}[{index}]", step.id));
        let place = Place { id, parent: Some(step.id.clone()), item: Some((index, item.clone())) };
        wanted.extend(request(run, inner, place, context));
    }
    if wanted.is_empty() && step.children.open == 0 && asked == items.len() {
        let outputs: Vec<Value> = step
            .children
            .ids
            .iter()
            .map(|id| run.step(id).and_then(Step::output).map_or(Value::Null, |output| Value::clone(output)))
            .collect();
        wanted.push(Next::Settle { step: step.id.clone(), output: Arc::new(Value::Array(outputs)) });
    }
    wanted
}

fn inside_race(run: &Run, step: &Step, def: &StepDef, context: &Context<'_>) -> Vec<Next> {
    if let Some(winner) = step.children.settled.as_ref().and_then(|id| run.step(id)) {
        let mut wanted = abandon_open(run, step, "race_lost");
        let output = winner.output().cloned().unwrap_or_default();
        wanted.push(Next::Settle { step: step.id.clone(), output });
        return wanted;
    }
    let asked = step.children.ids.len();
    if step.children.open == 0
        && asked == def.inner.len()
        && let Some(failed) = step.children.failed.as_ref().and_then(|id| run.step(id))
    {
        return fail_composite(run, step, failed);
    }
    let nested = step.children.ids.iter().filter_map(|id| run.step(id)).filter(|child| !child.is_final());
    let mut wanted: Vec<Next> = nested
        .filter_map(|child| Some((child, def_of(run, child)?)))
        .flat_map(|(child, def)| inside(run, child, def, context))
        .collect();
    // More branches than may run at once begin as others fail.
    for branch in def.inner.iter().skip(asked).take(super::room(step, context)) {
        let id = StepId::new(format!("{}.{}", step.id, branch.id));
        wanted.extend(request(run, branch, Place { id, parent: Some(step.id.clone()), item: None }, context));
    }
    wanted
}

/// What the open children of a map want, when they are maps or races themselves.
fn nested(run: &Run, step: &Step, inner: &StepDef, context: &Context<'_>) -> Vec<Next> {
    if inner.inner.is_empty() {
        return Vec::new();
    }
    step.children
        .ids
        .iter()
        .filter_map(|id| run.step(id))
        .filter(|child| !child.is_final())
        .flat_map(|child| inside(run, child, inner, context))
        .collect()
}

fn fail_composite(run: &Run, step: &Step, failed: &Step) -> Vec<Next> {
    let (code, message) = match &failed.state {
        StepState::Failed { code, message } => (code.clone(), format!("{}: {message}", failed.id)),
        _ => ("step_failed".to_owned(), failed.id.to_string()),
    };
    let mut wanted = abandon_open(run, step, "sibling_failed");
    wanted.push(Next::Fail { step: step.id.clone(), code, message });
    wanted
}

/// Abandons everything open below a step, innermost first.
fn abandon_open(run: &Run, step: &Step, code: &'static str) -> Vec<Next> {
    let mut wanted = Vec::new();
    for child in step.children.ids.iter().filter_map(|id| run.step(id)).filter(|child| !child.is_final()) {
        wanted.extend(abandon_open(run, child, code));
        wanted.push(Next::Abandon { step: child.id.clone(), code });
    }
    wanted
}

/// The definition that a step was made from.
pub(super) fn def_of<'a>(run: &'a Run, step: &Step) -> Option<&'a StepDef> {
    let Some(parent) = step.parent.as_ref().and_then(|id| run.step(id)) else {
        return run.defs.iter().find(|def| def.id == step.id.as_str());
    };
    let def = def_of(run, parent)?;
    match parent.kind {
        StepKind::Map => def.inner.first(),
        _ => {
            let name = step.id.as_str().strip_prefix(parent.id.as_str())?.strip_prefix('.')?;
            def.inner.iter().find(|branch| branch.id == name)
        }
    }
}

/// The roots that references start from. Steps inside maps see their own item and the outermost list's steps.
struct Scope<'a> {
    run: &'a Run,
    item: Option<Value>,
    index: Value,
}

impl<'a> Scope<'a> {
    fn new(run: &'a Run, place: &Place) -> Self {
        let (index, item) = match &place.item {
            Some((index, item)) => (Some(*index), Some(item.clone())),
            None => inherited(run, place.parent.as_ref()),
        };
        Self { run, item, index: index.map_or(Value::Null, Value::from) }
    }
}

/// The item of the nearest map above, for a race inside a map.
fn inherited(run: &Run, parent: Option<&StepId>) -> (Option<usize>, Option<Value>) {
    let Some(step) = parent.and_then(|id| run.step(id)) else { return (None, None) };
    let above = step.parent.as_ref().and_then(|id| run.step(id));
    if let Some(Work::Map { items, .. }) = above.and_then(|map| map.work.as_ref())
        && let Some(index) = above.and_then(|map| map.children.ids.iter().position(|id| *id == step.id))
    {
        return (Some(index), items.get(index).cloned());
    }
    inherited(run, step.parent.as_ref())
}

impl Lookup for Scope<'_> {
    fn root(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Value> {
        match path.next()? {
            "input" => Some(&self.run.input),
            "steps" => self.run.step_named(path.next()?)?.output().map(AsRef::as_ref),
            "item" => self.item.as_ref(),
            "index" => Some(&self.index),
            _ => None,
        }
    }
}
