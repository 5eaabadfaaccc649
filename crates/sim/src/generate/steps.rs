//! Random lists of steps: every kind, maps and races inside each other, references, retries and timeouts.

use lantern_engine::StepKind;
use serde_json::{Map, Value, json};

use super::agent::tools;
use super::{Agent, SIGNALS, TOOLS, model, retry};
use crate::rng::Rng;

/// How deep generated maps and races nest.
const DEPTH: u32 = 2;

pub(super) fn manifest(rng: &mut Rng, others: &[Agent]) -> Value {
    let mut fields = Map::new();
    fields.insert("program".to_owned(), json!("steps"));
    fields.insert("model".to_owned(), json!(model(rng)));
    fields.insert("steps".to_owned(), list(rng, others, false));
    if rng.chance(30) {
        fields.insert("tools".to_owned(), tools(rng, false));
    }
    if rng.chance(8) {
        fields.insert("timeout".to_owned(), json!(format!("{}s", rng.within(5, 600))));
    }
    Value::Object(fields)
}

/// A program; `ends` may end it by going on as a new run of a smaller one.
pub(super) fn list(rng: &mut Rng, others: &[Agent], ends: bool) -> Value {
    let mut steps: Vec<Value> =
        (0..rng.within(1, 7)).map(|n| step(rng, &format!("s{n}"), 0, others)).collect();
    if ends && rng.chance(60) {
        let rest = json!([{ "id": "last", "kind": "sleep", "data": { "duration": "1s" } }, step(rng, "tail", 1, &[])]);
        steps.push(json!({ "id": "again", "kind": "continue", "data": { "input": { "steps": rest } } }));
    }
    Value::Array(steps)
}

/// The items of a map.
pub(super) fn items(rng: &mut Rng) -> Value {
    Value::Array((0..rng.below(7)).map(|n| json!({ "k": n })).collect())
}

fn step(rng: &mut Rng, id: &str, depth: u32, others: &[Agent]) -> Value {
    let nests = if depth < DEPTH { 12 } else { 0 };
    let child = if others.is_empty() { 0 } else { 12 };
    let table = [
        (26, StepKind::Tool),
        (14, StepKind::Llm),
        (10, StepKind::Sleep),
        (9, StepKind::Signal),
        (8, StepKind::Approval),
        (child, StepKind::Child),
        (nests, StepKind::Map),
        (nests, StepKind::Race),
    ];
    let mut step = match rng.weighted(&table, StepKind::Tool) {
        StepKind::Tool => tool(rng),
        StepKind::Llm => json!({ "kind": "llm", "data": { "prompt": "about {{input.n}} {{item.k}}" } }),
        StepKind::Sleep => json!({ "kind": "sleep", "data": { "durationMs": rng.below(20_000) } }),
        StepKind::Signal => signal(rng),
        StepKind::Approval => approval(rng),
        StepKind::Child => child_run(rng, others),
        StepKind::Map => map(rng, depth, others),
        StepKind::Race => race(rng, depth, others),
    };
    if let Some(fields) = step.as_object_mut() {
        fields.insert("id".to_owned(), json!(id));
    }
    step
}

fn tool(rng: &mut Rng) -> Value {
    let (name, _) = rng.one_of(&TOOLS, ("calc", lantern_types::EffectClass::Pure));
    // Nobody has it, which is known when it is filled in.
    let name = if rng.chance(3) { "{{input.ghost}}" } else { name };
    let arguments = json!({ "n": rng.below(4), "k": "{{item.k}}", "i": "{{index}}" });
    let mut step = json!({ "kind": "tool", "data": { "tool": name, "arguments": arguments } });
    if let (Some(fields), Some(retry)) = (step.as_object_mut(), retry(rng)) {
        fields.insert("retry".to_owned(), retry);
        fields.insert("timeoutMs".to_owned(), json!(rng.within(50, 30_000)));
    }
    step
}

fn signal(rng: &mut Rng) -> Value {
    let mut data = json!({ "name": rng.one_of(&SIGNALS, "go") });
    if let (true, Some(data)) = (rng.chance(40), data.as_object_mut()) {
        data.insert("timeout".to_owned(), json!(rng.within(1, 120)));
    }
    json!({ "kind": "signal", "data": data })
}

fn approval(rng: &mut Rng) -> Value {
    let mut data = json!({ "reason": "may it?" });
    if let Some(data) = data.as_object_mut() {
        if rng.chance(40) {
            data.insert("approvers".to_owned(), json!(["ada"]));
        }
        if rng.chance(40) {
            data.insert("timeout".to_owned(), json!(rng.within(30, 6_000)));
        }
    }
    json!({ "kind": "approval", "data": data })
}

fn child_run(rng: &mut Rng, others: &[Agent]) -> Value {
    let mut step = match rng.pick(others).filter(|_| !rng.roll().is_multiple_of(20)) {
        Some(agent) => json!({ "kind": "child", "data": { "agent": agent.name, "input": agent.input } }),
        None => json!({ "kind": "child", "data": { "agent": "nobody", "input": {} } }),
    };
    if let (Some(fields), Some(retry)) = (step.as_object_mut(), retry(rng)) {
        fields.insert("retry".to_owned(), retry);
    }
    step
}

fn map(rng: &mut Rng, depth: u32, others: &[Agent]) -> Value {
    let items = if rng.chance(50) { json!("{{input.list}}") } else { items(rng) };
    // A reference to a list that is not there is refused, and the run says so; most of the time there is one.
    let items = if depth == 0 || !items.is_string() { items } else { json!([{ "k": 1 }, { "k": 2 }]) };
    let inner = step(rng, "each", depth + 1, others);
    json!({ "kind": "map", "data": { "items": items, "concurrency": rng.within(1, 3) }, "step": inner })
}

fn race(rng: &mut Rng, depth: u32, others: &[Agent]) -> Value {
    let branches: Vec<Value> =
        (0..rng.within(1, 3)).map(|n| step(rng, &format!("b{n}"), depth + 1, others)).collect();
    json!({ "kind": "race", "steps": branches })
}
