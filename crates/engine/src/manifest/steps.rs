//! Reading a list of steps, in the contract's shape (`{step_id, kind, data, retries, timeout}`) and in ours.

use std::collections::HashSet;

use lantern_types::Dur;
use serde_json::{Map, Value};

use super::StepDef;
use super::read::{Fields, Invalid, Issue, NO_TIME, issue};
use crate::event::StepKind;
use crate::retry::Retry;

/// How deep maps and races may nest.
const DEPTH_MAX: usize = 4;

/// Reads a list on its own.
pub(super) fn list(value: &Value) -> Result<Vec<StepDef>, Invalid> {
    let mut issues = Vec::new();
    let steps = read(value, "steps", &mut issues);
    if issues.is_empty() { Ok(steps) } else { Err(Invalid { issues }) }
}

/// Reads a list found at `path`.
pub(super) fn read(value: &Value, path: &str, issues: &mut Vec<Issue>) -> Vec<StepDef> {
    read_at(value, path, 0, issues)
}

fn read_at(value: &Value, path: &str, depth: usize, issues: &mut Vec<Issue>) -> Vec<StepDef> {
    let Some(list) = value.as_array() else {
        issue(issues, path, "expected a list of steps");
        return Vec::new();
    };
    let mut steps: Vec<StepDef> = Vec::with_capacity(list.len());
    let mut names = HashSet::with_capacity(list.len());
    for (n, entry) in list.iter().enumerate() {
        let path = format!("{path}[{n}]");
        let step = one(entry, &path, &format!("step-{}", n + 1), depth, issues);
        if !names.insert(step.id.clone()) {
            issue(issues, &format!("{path}.id"), format!("another step is named {:?}", step.id));
        }
        steps.push(step);
    }
    steps
}

fn one(entry: &Value, path: &str, default_id: &str, depth: usize, issues: &mut Vec<Issue>) -> StepDef {
    let mut fields = Fields::of(entry, path, issues);
    let id = id_of(entry, &mut fields, default_id, issues);
    let kind_text: Option<String> = fields.read(&["kind", "type"], "expected a step kind", issues);
    let kind = kind_text.as_deref().ok_or(()).and_then(kind_of);
    if kind.is_err() {
        let known = "llm, tool, sleep, signal, approval, child, map, race, continue";
        issue(issues, &fields.path("kind"), format!("expected one of {known}"));
    }
    if kind == Ok(None) && depth > 0 {
        // It would end the whole run from within one of its parts.
        issue(issues, &fields.path("kind"), "a continue stands in the list itself, not in a map or a race");
    }
    let known = kind.is_ok();
    let kind = kind.ok().flatten();
    let data = fields.get(&DATA).cloned();
    if data.as_ref().is_some_and(|data| !data.is_object()) {
        issue(issues, &fields.path("data"), "expected an object");
    }
    let retries: Option<u32> = fields.read(&["retries"], "expected a number of retries", issues);
    let policy = match fields.get(&["retry"]) {
        Some(value) => Some(retry(value, &fields.path("retry"), issues)),
        None => retries.map(|n| Retry { max_attempts: n.saturating_add(1), ..Retry::default() }),
    };
    let timeout = fields
        .duration(&["timeoutMs", "timeout_ms"], Dur::from_millis(1), issues)
        .or_else(|| fields.duration(&["timeout", "timeoutSec", "timeout_sec"], Dur::from_secs(1), issues));
    if timeout == Some(Dur::ZERO) {
        issue(issues, &fields.path("timeout"), NO_TIME);
    }
    // A sleep takes as long as it says. Whatever kind of step it is may have a timeout, so one here is no mistake; it bounds
    // nothing, and what is kept does not have it.
    let timeout = timeout.filter(|_| kind != Some(StepKind::Sleep));
    let in_data = data.clone().unwrap_or_else(|| Value::Object(Map::new()));
    let inner = inner(kind, &in_data, &mut fields, depth, issues);
    // A step may be written flat: without `data`, what is left of it is the data.
    let at = if data.is_some() { fields.path("data") } else { path.to_owned() };
    let mut data = without_inner(data.unwrap_or_else(|| fields.rest()));
    match kind {
        Some(StepKind::Signal) => name_in_data(&mut data, SIGNAL_NAMES, entry.get("name")),
        Some(StepKind::Tool) => name_in_data(&mut data, TOOL_NAMES, entry.get("name")),
        _ => {}
    }
    if known {
        check_data(kind, &data, &at, issues);
    }
    fields.finish(issues);
    StepDef { id, kind, data, retry: policy, timeout, inner }
}

/// A step's id; its name in place of one.
fn id_of(entry: &Value, fields: &mut Fields<'_>, default_id: &str, issues: &mut Vec<Issue>) -> String {
    let id: Option<String> = fields.read(&["id", "stepId", "step_id", "name"], "expected a name", issues);
    let id = id.unwrap_or_else(|| default_id.to_owned());
    if !valid_id(&id) {
        let named = entry.get("name").and_then(Value::as_str) == Some(&id);
        let (field, hint) = if named { ("name", "; or give the step an id of its own") } else { ("id", "") };
        issue(issues, &fields.path(field), format!("expected 1 to 63 letters, digits, `-` or `_`{hint}"));
    }
    id
}

/// A step that waits for a signal and says a name, and not of which signal, means the signal of that name; one that calls
/// a tool means the tool.
fn name_in_data(data: &mut Value, names: [&str; 4], name: Option<&Value>) {
    let Some(map) = data.as_object_mut() else { return };
    let said = names.iter().any(|field| map.contains_key(*field));
    if let Some(name) = name.filter(|name| name.is_string() && !said) {
        map.insert("name".to_owned(), name.clone());
    }
}

/// Where the name of a step's signal stands in its data, or that of its tool or agent.
pub(super) const SIGNAL_NAMES: [&str; 4] = ["signal_name", "signalName", "name", "signal"];
pub(super) const TOOL_NAMES: [&str; 4] = ["tool", "toolName", "tool_name", "name"];
pub(super) const AGENT_NAMES: [&str; 3] = ["agent_name", "agentName", "agent"];
/// Where a step's data stands when it stands apart, and where the steps of a map or race do.
pub(super) const DATA: [&str; 3] = ["data", "config", "with"];
pub(super) const INNER: [&str; 3] = ["step", "steps", "branches"];

/// What is in a step's data that its kind does not look at. Whether the rest can work is in [`super::check`].
fn check_data(kind: Option<StepKind>, data: &Value, path: &str, issues: &mut Vec<Issue>) {
    let Some(map) = data.as_object() else { return };
    let known = fields_of(kind);
    for name in map.keys().filter(|name| !known.contains(&name.as_str()) && !ABOUT.contains(&name.as_str())) {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        issue(issues, &at, format!("unknown field; this kind of step knows {}", known.join(", ")));
    }
    let temperature = map.get("temperature").filter(|value| !is_reference(value) && !value.is_null());
    if temperature.is_some_and(|value| !value.as_f64().is_some_and(|t| (0.0..=2.0).contains(&t))) {
        issue(issues, &format!("{path}.temperature"), "expected 0 to 2");
    }
}

/// What people say about a step for people.
const ABOUT: [&str; 2] = ["label", "description"];

const fn fields_of(kind: Option<StepKind>) -> &'static [&'static str] {
    match kind {
        Some(StepKind::Llm) => &[
            "prompt",
            "messages",
            "system",
            "systemPrompt",
            "system_prompt",
            "model",
            "capability",
            "maxTokens",
            "max_tokens",
            "temperature",
            "outputSchema",
            "output_schema",
            "optimize",
        ],
        Some(StepKind::Tool) => {
            &["tool", "toolName", "tool_name", "name", "arguments", "args", "parameters", "vm_id"]
        }
        Some(StepKind::Sleep) => {
            &["duration", "durationSec", "duration_sec", "durationMs", "duration_ms", "seconds", "until"]
        }
        Some(StepKind::Signal) => &[
            "name",
            "signal",
            "signalName",
            "signal_name",
            "timeout",
            "timeoutSec",
            "timeout_sec",
            "timeoutMs",
            "timeout_ms",
        ],
        Some(StepKind::Approval) => &[
            "reason",
            "question",
            "prompt",
            "approvers",
            "timeout",
            "timeoutSec",
            "timeout_sec",
            "timeoutMs",
            "timeout_ms",
            "expiresAt",
            "expires_at",
        ],
        Some(StepKind::Child) => &["agent", "agentName", "agent_name", "input"],
        Some(StepKind::Map) => &["items", "concurrency"],
        Some(StepKind::Race) => &[],
        None => &["input"],
    }
}

/// Whether a value is filled in when the step is asked for.
fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("{{"))
}

/// The steps inside a map (one) or a race (several), from the step itself or from its data.
fn inner(
    kind: Option<StepKind>,
    data: &Value,
    fields: &mut Fields<'_>,
    depth: usize,
    issues: &mut Vec<Issue>,
) -> Vec<StepDef> {
    let at_step = fields.get(&INNER).cloned();
    let in_data = INNER.iter().find_map(|name| data.get(name)).cloned();
    let path = fields.path("step");
    match (kind, at_step.or(in_data)) {
        (Some(StepKind::Map | StepKind::Race), _) if depth >= DEPTH_MAX => {
            issue(issues, &path, format!("maps and races nest at most {DEPTH_MAX} deep"));
            Vec::new()
        }
        (Some(StepKind::Map), Some(Value::Array(list))) if list.len() == 1 => {
            read_at(&Value::Array(list), &path, depth + 1, issues)
        }
        (Some(StepKind::Map), Some(step @ Value::Object(_))) => {
            vec![one(&step, &path, "item", depth + 1, issues)]
        }
        (Some(StepKind::Map), _) => {
            issue(issues, &path, "a map needs one step to make for each item");
            Vec::new()
        }
        (Some(StepKind::Race), Some(list @ Value::Array(_)))
            if list.as_array().is_some_and(|l| !l.is_empty()) =>
        {
            read_at(&list, &fields.path("steps"), depth + 1, issues)
        }
        (Some(StepKind::Race), _) => {
            issue(issues, &fields.path("steps"), "a race needs a list of steps");
            Vec::new()
        }
        (_, Some(_)) => {
            issue(issues, &path, "only a map or a race holds steps");
            Vec::new()
        }
        (_, None) => Vec::new(),
    }
}

fn without_inner(mut data: Value) -> Value {
    if let Some(map) = data.as_object_mut() {
        for name in INNER {
            map.remove(name);
        }
    }
    data
}

/// A word for a kind of step: `Ok(None)` for `continue`, `Err` for a word that is not known.
fn kind_of(text: &str) -> Result<Option<StepKind>, ()> {
    Ok(Some(match text {
        "llm" | "llm_call" | "ai-step" => StepKind::Llm,
        "tool" | "tool_call" => StepKind::Tool,
        "sleep" => StepKind::Sleep,
        "signal" | "wait_signal" => StepKind::Signal,
        "approval" => StepKind::Approval,
        "child" | "child_run" | "subagent" => StepKind::Child,
        "map" => StepKind::Map,
        "race" => StepKind::Race,
        "continue" | "continue_as_new" => return Ok(None),
        _ => return Err(()),
    }))
}

fn valid_id(id: &str) -> bool {
    (1..=63).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Reads `{maxAttempts, initialInterval, maxInterval, backoff, nonRetryable}`; intervals in ms or as durations.
pub(super) fn retry(value: &Value, path: &str, issues: &mut Vec<Issue>) -> Retry {
    let default = Retry::default();
    if let Some(attempts) = value.as_u64() {
        return Retry { max_attempts: u32::try_from(attempts).unwrap_or(u32::MAX), ..default };
    }
    let mut fields = Fields::of(value, path, issues);
    let millis = |dur: Dur| dur.millis().unsigned_abs();
    let ms = Dur::from_millis(1);
    let retry = Retry {
        max_attempts: fields
            .read(&["maxAttempts", "max_attempts"], "expected a number of attempts", issues)
            .unwrap_or(default.max_attempts),
        initial_interval_ms: fields
            .duration(
                &["initialIntervalMs", "initialInterval", "initial_interval_ms", "initial_interval"],
                ms,
                issues,
            )
            .map_or(default.initial_interval_ms, millis),
        max_interval_ms: fields
            .duration(&["maxIntervalMs", "maxInterval", "max_interval_ms", "max_interval"], ms, issues)
            .map_or(default.max_interval_ms, millis),
        backoff_percent: backoff(&mut fields, issues).unwrap_or(default.backoff_percent),
        non_retryable: fields
            .read(&["nonRetryable", "non_retryable"], "expected a list of codes", issues)
            .unwrap_or_default(),
    };
    fields.finish(issues);
    if retry.max_attempts == 0 {
        issue(issues, &format!("{path}.maxAttempts"), "expected at least 1");
    }
    retry
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie between 1 and 100"
)]
fn backoff(fields: &mut Fields<'_>, issues: &mut Vec<Issue>) -> Option<u32> {
    if let Some(percent) =
        fields.read::<u32>(&["backoffPercent", "backoff_percent"], "expected a percentage", issues)
    {
        return Some(percent.clamp(100, 10_000));
    }
    let factor: f64 = fields.read(&["backoff"], "expected a factor such as 2", issues)?;
    if !(1.0..=100.0).contains(&factor) {
        issue(issues, &fields.path("backoff"), "expected a factor from 1 to 100");
        return None;
    }
    Some((factor * 100.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_contract_shape_and_ours_read_the_same() {
        let contract = list(&json!([
            {"step_id": "a", "kind": "llm_call", "data": {"prompt": "hi"}, "retries": 2, "timeout": 30},
            {"step_id": "b", "kind": "wait_signal", "data": {"signal_name": "go", "timeout_sec": 5}},
        ]))
        .unwrap();
        let ours = list(&json!([
            {"id": "a", "kind": "llm", "data": {"prompt": "hi"}, "retry": {"maxAttempts": 3}, "timeoutMs": "30s"},
            {"id": "b", "kind": "signal", "data": {"signal_name": "go", "timeout_sec": 5}},
        ]))
        .unwrap();
        assert_eq!(contract, ours);
    }

    #[test]
    fn retries_are_read_in_both_casings_and_as_they_are_shown() {
        let retry = |policy: Value| {
            list(&json!([{"kind": "tool", "tool": "calc", "retry": policy}])).unwrap()[0].retry.clone()
        };
        let camel = retry(json!({"maxAttempts": 4, "initialIntervalMs": 5, "backoffPercent": 150}));
        assert_eq!(
            camel,
            retry(json!({"max_attempts": 4, "initial_interval_ms": 5, "backoff_percent": 150}))
        );
        assert_eq!(camel, retry(json!({"maxAttempts": 4, "initialInterval": "5ms", "backoff": 1.5})));
        assert_eq!(camel, retry(json!(camel)));
    }

    #[test]
    fn what_is_unknown_is_named_where_it_stands() {
        for (step, path) in [
            (json!({"kind": "sleep", "data": {"duration": 1, "colour": 1}}), "steps[0].data.colour"),
            (json!({"kind": "sleep", "duration": 1, "colour": 1}), "steps[0].colour"),
            (
                json!({"kind": "race", "steps": [{"kind": "continue", "data": {"input": {}}}]}),
                "steps[0].steps[0].kind",
            ),
        ] {
            assert_eq!(list(&json!([step])).unwrap_err().issues[0].path, path);
        }
        let filled_in =
            json!([{"kind": "llm", "data": {"prompt": "x", "temperature": "{{input.t}}", "label": "ask"}}]);
        assert!(list(&filled_in).is_ok());
    }

    #[test]
    fn a_step_may_be_written_flat() {
        let step = json!({"kind": "tool", "tool": "calc", "arguments": {"n": "{{item}}"}});
        let flat =
            list(&json!([{"id": "m", "kind": "map", "items": [1], "concurrency": 2, "step": step}])).unwrap();
        assert_eq!(flat[0].data, json!({"items": [1], "concurrency": 2}));
        assert_eq!(flat[0].inner[0].data, json!({"tool": "calc", "arguments": {"n": "{{item}}"}}));
        let nap = list(&json!([{"id": "nap", "kind": "sleep", "duration": "1s", "retries": 1}])).unwrap();
        assert_eq!(nap[0].data, json!({"duration": "1s"}));
    }

    #[test]
    fn a_sleep_takes_as_long_as_it_says_whatever_its_timeout() {
        let bare = list(&json!([{"id": "a", "kind": "sleep", "data": {"duration_sec": 60}}])).unwrap();
        for timeout in [json!({"timeout": 30}), json!({"timeoutMs": "5s"})] {
            let mut step = json!({"id": "a", "kind": "sleep", "data": {"duration_sec": 60}});
            step.as_object_mut().unwrap().extend(timeout.as_object().unwrap().clone());
            assert_eq!(list(&json!([step])).unwrap(), bare, "{step}");
            let flat = json!([{"id": "a", "kind": "sleep", "duration": 60, "timeout": 30}]);
            assert_eq!(list(&flat).unwrap()[0].data, json!({"duration": 60}));
        }
    }

    #[test]
    fn a_signals_name_may_stand_in_the_step_itself() {
        for (step, id, data) in [
            (json!({"name": "paid"}), "paid", json!({"name": "paid"})),
            (json!({"name": "paid", "timeout": 5}), "paid", json!({"name": "paid"})),
            (json!({"id": "w", "name": "all paid"}), "w", json!({"name": "all paid"})),
            (json!({"name": "w", "signal": "paid"}), "w", json!({"signal": "paid"})),
            (json!({"name": "w", "data": {"name": "paid"}}), "w", json!({"name": "paid"})),
            (json!({"name": "paid", "data": {"timeout": 5}}), "paid", json!({"name": "paid", "timeout": 5})),
        ] {
            let mut step = step;
            step["kind"] = "signal".into();
            let read = list(&json!([step])).unwrap().remove(0);
            assert_eq!((read.id.as_str(), &read.data), (id, &data), "{step}");
        }
        let issues = list(&json!([{"kind": "signal", "name": "all paid"}])).unwrap_err().issues;
        assert_eq!(issues[0].path, "steps[0].name");
        assert!(issues[0].message.contains("give the step an id of its own"), "{}", issues[0].message);
    }

    #[test]
    fn a_tools_name_may_stand_in_the_step_itself() {
        for (step, id, data) in [
            (json!({"name": "calc"}), "calc", json!({"name": "calc"})),
            (
                json!({"id": "sum", "name": "calc", "data": {"arguments": {}}}),
                "sum",
                json!({"name": "calc", "arguments": {}}),
            ),
            (json!({"name": "sum", "tool": "calc"}), "sum", json!({"tool": "calc"})),
        ] {
            let mut step = step;
            step["kind"] = "tool".into();
            let read = list(&json!([step])).unwrap().remove(0);
            assert_eq!((read.id.as_str(), &read.data), (id, &data), "{step}");
        }
    }

    #[test]
    fn maps_and_races_hold_steps_and_nothing_else_does() {
        let steps = list(&json!([
            {"id": "m", "kind": "map", "data": {"items": [1, 2], "concurrency": 2, "step": {"kind": "tool", "data": {"tool": "calc"}}}},
            {"id": "r", "kind": "race", "steps": [{"id": "x", "kind": "sleep"}, {"id": "y", "kind": "signal"}]},
        ]))
        .unwrap();
        assert_eq!(steps[0].inner.len(), 1);
        assert_eq!(steps[0].data, json!({"items": [1, 2], "concurrency": 2}));
        assert_eq!(steps[1].inner[1].id, "y");
        for bad in [
            json!([{"kind": "map", "data": {"items": []}}]),
            json!([{"kind": "race", "steps": []}]),
            json!([{"kind": "sleep", "steps": [{"kind": "sleep"}]}]),
            json!([{"kind": "teleport"}]),
            json!([{"id": "a", "kind": "sleep"}, {"id": "a", "kind": "sleep"}]),
            json!([{"id": "a.b", "kind": "sleep"}]),
            json!([{"id": "a", "kind": "sleep", "retry": {"maxAttempts": 0}}]),
            json!([{"id": "a", "kind": "sleep", "data": {}, "colour": "red"}]),
            json!([{"id": "a", "kind": "sleep", "data": {"colour": "red"}}]),
            json!([{"id": "a", "kind": "sleep", "duration": "1s", "timeout": "soon"}]),
            json!([{"id": "a", "kind": "sleep", "duration": "1s", "timeout": 0}]),
            json!([{"id": "a", "kind": "tool", "tool": "calc", "timeout": 0}]),
            json!([{"id": "a", "kind": "llm", "data": {"prompt": "x", "temperature": "hot"}}]),
            json!([{"id": "a", "kind": "llm", "data": {"prompt": "x", "temperature": 99}}]),
            json!([{"id": "a", "kind": "race", "steps": [{"kind": "continue"}]}]),
            json!([{"id": "a", "kind": "map", "data": {"items": [1], "step": {"kind": "continue"}}}]),
            json!({"id": "a"}),
        ] {
            assert!(list(&bad).is_err(), "{bad}");
        }
    }
}
