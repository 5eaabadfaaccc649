//! What can be known of a list of steps before any of it runs: literal values that can never work, and references to what
//! has no output by then.
//!
//! Looked at when an agent is saved and when a run is started with steps of its own, and never when a journal is read: the
//! fold goes on taking what was taken when the run began. Values that refer to something are known when they are filled in.

use std::collections::HashMap;

use lantern_types::llm::Message;
use lantern_types::{At, Dur, Limits, ToolDef, ToolName, nearest};
use serde_json::{Map, Value};

use super::read::{FOUND_MAX, Issue, duration, issue, whole};
use super::steps::{AGENT_NAMES, DATA, INNER, SIGNAL_NAMES, TOOL_NAMES};
use super::{Manifest, StepDef};
use crate::event::StepKind;
use crate::retry::Retry;
use crate::template;

/// What a server has and allows: what steps may rely on there.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The tools there are.
    pub tools: &'a [ToolDef],
    /// The limits in force.
    pub limits: &'a Limits,
}

/// Checks a list found at `path`, as it is written and as it was read.
pub(super) fn steps(list: &Value, defs: &[StepDef], path: &str, issues: &mut Vec<Issue>) {
    let places: HashMap<&str, usize> = defs.iter().enumerate().map(|(n, def)| (def.id.as_str(), n)).collect();
    for (n, (entry, def)) in list.as_array().into_iter().flatten().zip(defs).enumerate() {
        if issues.len() >= FOUND_MAX {
            return;
        }
        let names = Names { places: &places, before: defs.get(..n).unwrap_or_default() };
        walk(entry, def, &format!("{path}[{n}]"), &mut |found| {
            for (field, value) in found.data {
                references(value, &format!("{}.{field}", found.at), names, issues);
            }
            literals(found.def.kind, found.data, found.at, issues);
        });
    }
}

/// Checks a manifest's own steps, or those that come with a run's input, against what the server has and allows.
pub(super) fn on_terms(
    manifest: &Manifest,
    (list, defs): (&Value, &[StepDef]),
    terms: Terms<'_>,
    issues: &mut Vec<Issue>,
) {
    let inputs = closed_inputs(manifest);
    for (n, (entry, def)) in list.as_array().into_iter().flatten().zip(defs).enumerate() {
        if issues.len() >= FOUND_MAX {
            return;
        }
        walk(entry, def, &format!("steps[{n}]"), &mut |found| {
            let said = Literals { data: found.data, path: found.at };
            match found.def.kind {
                Some(StepKind::Tool) => tool_is_there(&said, manifest, terms.tools, issues),
                Some(StepKind::Map) => items_fit(&said, terms.limits, issues),
                _ => {}
            }
            waits_fit(&found, &said, terms.limits.wait_max, issues);
            attempt_fits(&found, &said, terms.limits, issues);
            if let Some(retry) = &found.def.retry {
                retries_fit(retry, &format!("{}.retry", found.path), terms.limits, issues);
            }
            if let Some(known) = &inputs {
                inputs_are_known(&found, known, issues);
            }
        });
    }
}

/// The steps of the list itself; those inside maps and races cannot be referred to.
#[derive(Clone, Copy)]
struct Names<'a> {
    places: &'a HashMap<&'a str, usize>,
    /// Those that are done when a step is asked for.
    before: &'a [StepDef],
}

/// Names that a message lists: the nearest.
const LISTED_MAX: usize = 10;
/// Names that a misspelt one is compared with: the nearest.
const COMPARED_MAX: usize = 100;

impl Names<'_> {
    /// What is wrong with a reference to this step, if anything.
    fn wrong(self, step: &str) -> Option<String> {
        let wrong = match self.places.get(step) {
            Some(place) if *place < self.before.len() => return None,
            Some(_) => "has no output yet",
            None => "is none of the list",
        };
        let left_out = self.before.len().saturating_sub(LISTED_MAX);
        let listed: Vec<&str> = self.before.iter().skip(left_out).map(|def| def.id.as_str()).collect();
        let known = match (listed.is_empty(), left_out) {
            (true, _) => "none comes before this one".to_owned(),
            (false, 0) => format!("before this one come {}", listed.join(", ")),
            (false, _) => format!("before this one come …, {}", listed.join(", ")),
        };
        let near = self.before.iter().rev().take(COMPARED_MAX).map(|def| def.id.as_str());
        let meant = meant(nearest(step, near).filter(|_| !self.places.contains_key(step)));
        let step: String = step.chars().take(80).collect();
        Some(format!("the step {step:?} {wrong}{meant}; {known}"))
    }
}

/// One step, wherever in the list it stands.
struct Found<'a> {
    def: &'a StepDef,
    data: &'a Map<String, Value>,
    /// Where its data stands.
    at: &'a str,
    /// Where it stands itself.
    path: &'a str,
}

/// Shows a step, and those inside it, to `look`.
fn walk(entry: &Value, def: &StepDef, path: &str, look: &mut dyn FnMut(Found<'_>)) {
    let apart = first(entry, &DATA);
    let at = if apart.is_some() { format!("{path}.data") } else { path.to_owned() };
    if let Some(data) = def.data.as_object() {
        look(Found { def, data, at: &at, path });
    }
    let inside = first(entry, &INNER).or_else(|| first(apart?, &INNER));
    let Some(inside) = inside.filter(|_| !def.inner.is_empty()) else { return };
    let (written, field) = match inside {
        Value::Array(list) => {
            (list.as_slice(), if def.kind == Some(StepKind::Map) { "step" } else { "steps" })
        }
        one => (std::slice::from_ref(one), "step"),
    };
    for (n, (entry, inner)) in written.iter().zip(&def.inner).enumerate() {
        let place = if inside.is_array() { format!("[{n}]") } else { String::new() };
        walk(entry, inner, &format!("{path}.{field}{place}"), look);
    }
}

/// What is said of a word that was probably meant.
fn meant(word: Option<&str>) -> String {
    word.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default()
}

/// The first of these that is there and not null.
fn first<'a>(entry: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| entry.get(name)).filter(|value| !value.is_null())
}

fn references(value: &Value, path: &str, names: Names<'_>, issues: &mut Vec<Issue>) {
    for wrong in template::steps_named(value).into_iter().filter_map(|step| names.wrong(step)) {
        issue(issues, path, wrong);
    }
    for root in template::roots(value) {
        // Other words in braces give nothing, but may be there to be read so; one like these was meant to be one of these.
        if let Some(meant) = nearest(root, ROOTS.into_iter()).filter(|meant| *meant != root) {
            issue(
                issues,
                path,
                format!("nothing is called {root:?} here; did you mean \"{{{{{meant}}}}}\"?"),
            );
        }
    }
}

/// What references start from.
const ROOTS: [&str; 4] = ["input", "steps", "item", "index"];

/// The data of one step, for looking at what is literal.
struct Literals<'a> {
    data: &'a Map<String, Value>,
    path: &'a str,
}

impl<'a> Literals<'a> {
    /// The first of these that is there, not null, and not filled in later.
    fn literal<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
        let found = names.iter().find_map(|name| Some((*name, self.data.get(*name)?)));
        found.filter(|(_, value)| !value.is_null() && !template::refers(value))
    }

    /// Whether none of these is there.
    fn lacks(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.data.get(*name).is_none_or(Value::is_null))
    }

    fn wrong(&self, name: &str, message: &str, issues: &mut Vec<Issue>) {
        issue(issues, &format!("{}.{name}", self.path), message);
    }

    /// Refuses a step that says none of these.
    fn needs(&self, names: &[&str], message: &str, issues: &mut Vec<Issue>) {
        let empty = self.literal(names).is_some_and(|(_, value)| value.as_str() == Some(""));
        if empty || self.lacks(names) {
            issue(issues, self.path, message);
        }
    }

    fn durations(&self, names: &[&str], unit: Dur, issues: &mut Vec<Issue>) {
        if let Some((name, value)) = self.literal(names)
            && duration(value, unit).is_none()
        {
            self.wrong(name, "expected a duration such as \"30s\", from 0 to a century", issues);
        }
    }

    fn counts(&self, names: &[&str], issues: &mut Vec<Issue>) {
        if let Some((name, value)) = self.literal(names)
            && whole(value).is_none()
        {
            self.wrong(name, "expected a whole number from 0 to 4294967295", issues);
        }
    }

    fn moments(&self, names: &[&str], issues: &mut Vec<Issue>) {
        if let Some((name, value)) = self.literal(names)
            && value.as_str().is_none_or(|text| text.parse::<At>().is_err())
        {
            self.wrong(name, "expected a time such as \"2026-11-25T10:30:00Z\"", issues);
        }
    }
}

const SECONDS: [&str; 4] = ["duration_sec", "durationSec", "duration", "seconds"];
const MILLIS: [&str; 2] = ["durationMs", "duration_ms"];
const PATIENCE_SECONDS: [&str; 3] = ["timeout_sec", "timeoutSec", "timeout"];
const PATIENCE_MILLIS: [&str; 2] = ["timeoutMs", "timeout_ms"];
const MAX_TOKENS: [&str; 2] = ["max_tokens", "maxTokens"];
const EXPIRES: [&str; 2] = ["expiresAt", "expires_at"];

fn literals(kind: Option<StepKind>, data: &Map<String, Value>, path: &str, issues: &mut Vec<Issue>) {
    let said = Literals { data, path };
    match kind {
        Some(StepKind::Sleep) => {
            said.durations(&SECONDS, Dur::from_secs(1), issues);
            said.durations(&MILLIS, Dur::from_millis(1), issues);
            said.moments(&["until"], issues);
            if said.lacks(&SECONDS) && said.lacks(&MILLIS) {
                said.needs(&["until"], "a sleep needs a `duration`, or a time in `until`", issues);
            } else if said.literal(&["until"]).is_some() {
                said.wrong("until", "a sleep has a `duration` or a time in `until`, and not both", issues);
            }
        }
        Some(StepKind::Signal) => {
            said.needs(&SIGNAL_NAMES, "a signal needs a `name`", issues);
            patience(&said, issues);
        }
        Some(StepKind::Approval) => {
            patience(&said, issues);
            said.moments(&EXPIRES, issues);
            approvers(&said, issues);
        }
        Some(StepKind::Tool) => {
            said.needs(&TOOL_NAMES, "a tool call needs a `tool`", issues);
            if let Some((name, value)) =
                said.literal(&TOOL_NAMES).filter(|(_, value)| value.as_str() != Some(""))
                && value.as_str().is_none_or(|text| ToolName::parse(text).is_err())
            {
                said.wrong(name, "expected the name of a tool; GET /v1/tools lists them", issues);
            }
            if let Some((name, value)) = said.literal(&["arguments", "args", "parameters"])
                && !is_object(value)
            {
                said.wrong(name, "expected an object", issues);
            }
        }
        Some(StepKind::Child) => said.needs(&AGENT_NAMES, "a child run needs the name of an `agent`", issues),
        Some(StepKind::Llm) => {
            said.needs(&["prompt", "messages"], "a model call needs a `prompt` or `messages`", issues);
            said.counts(&MAX_TOKENS, issues);
            if let Some((name, value)) = said.literal(&MAX_TOKENS)
                && whole(value) == Some(0)
            {
                said.wrong(name, "expected at least 1", issues);
            }
            if let Some((name, value)) = said.literal(&["messages"])
                && serde_json::from_value::<Vec<Message>>(value.clone()).is_err()
            {
                said.wrong(name, "expected a list of {role, content}", issues);
            }
        }
        Some(StepKind::Map) => {
            said.needs(&["items"], "a map needs `items`", issues);
            let items = said.literal(&["items"]).filter(|(_, value)| value.as_str() != Some(""));
            if items.is_some_and(|(_, value)| !is_list(value)) {
                said.wrong("items", "expected a list", issues);
            }
            said.counts(&["concurrency"], issues);
        }
        Some(StepKind::Race) | None => {}
    }
}

/// A list, or one written as text.
fn is_list(value: &Value) -> bool {
    let written = value.as_str().map(serde_json::from_str::<Vec<Value>>);
    value.is_array() || written.is_some_and(|read| read.is_ok())
}

/// An object, or one written as text.
fn is_object(value: &Value) -> bool {
    let written = value.as_str().map(serde_json::from_str::<Map<String, Value>>);
    value.is_object() || written.is_some_and(|read| read.is_ok())
}

/// How long a step waits for somebody.
fn patience(said: &Literals<'_>, issues: &mut Vec<Issue>) {
    said.durations(&PATIENCE_SECONDS, Dur::from_secs(1), issues);
    said.durations(&PATIENCE_MILLIS, Dur::from_millis(1), issues);
}

/// Names, as text. A reference alone may bring in a list of them.
fn approvers(said: &Literals<'_>, issues: &mut Vec<Issue>) {
    let named = match said.data.get("approvers") {
        None | Some(Value::Null | Value::String(_)) => true,
        Some(Value::Array(names)) => names.iter().all(Value::is_string),
        Some(_) => false,
    };
    if !named {
        said.wrong("approvers", "expected a list of names", issues);
    }
}

/// Whether somebody has the tool, and the agent lists it if it lists any.
fn tool_is_there(said: &Literals<'_>, manifest: &Manifest, tools: &[ToolDef], issues: &mut Vec<Issue>) {
    let Some((field, value)) = said.literal(&TOOL_NAMES) else { return };
    let Some(name) = value.as_str().and_then(|text| ToolName::parse(text).ok()) else { return };
    if !tools.iter().any(|tool| tool.name == name) {
        let meant = meant(nearest(name.as_str(), tools.iter().map(|tool| tool.name.as_str())));
        said.wrong(field, &format!("there is no tool {name}{meant}; GET /v1/tools lists them"), issues);
    } else if manifest.tools.is_some() && manifest.tool(&name).is_none() {
        said.wrong(field, &format!("the agent's `tools` do not list {name}"), issues);
    }
}

/// Whether a map has no more items than one may have.
fn items_fit(said: &Literals<'_>, limits: &Limits, issues: &mut Vec<Issue>) {
    let items = said.data.get("items").and_then(Value::as_array).map_or(0, Vec::len);
    let max = limits.map_items_max;
    if u32::try_from(items).is_ok_and(|items| items > max) {
        said.wrong("items", &format!("{items} items; the limit (mapItemsMax) is {max}"), issues);
    }
    let (at_once, max) =
        (said.literal(&["concurrency"]).and_then(|(_, value)| whole(value)), limits.concurrency_max);
    if at_once.is_some_and(|at_once| at_once == 0 || at_once > max) {
        said.wrong("concurrency", &format!("expected 1 to {max} (concurrencyMax) at once"), issues);
    }
}

/// Whether a step waits no longer than one may, as far as that is written. A step's own timeout counts where its data says
/// nothing.
fn waits_fit(found: &Found<'_>, said: &Literals<'_>, max: Dur, issues: &mut Vec<Issue>) {
    let (seconds, millis): (&[&str], &[&str]) = match found.def.kind {
        Some(StepKind::Sleep) => (&SECONDS, &MILLIS),
        Some(StepKind::Signal | StepKind::Approval) => (&PATIENCE_SECONDS, &PATIENCE_MILLIS),
        Some(StepKind::Child | StepKind::Map | StepKind::Race) => (&[], &[]),
        Some(StepKind::Llm | StepKind::Tool) | None => return,
    };
    // A time that is said goes before.
    if !said.lacks(&["until"]) || !said.lacks(&EXPIRES) {
        return;
    }
    let too_long = |wait: Dur| {
        let (secs, most) = (wait.millis() / 1_000, max.millis() / 1_000);
        (wait > max).then(|| format!("waits for {secs} s; the limit (waitMax) is {most} s"))
    };
    for (names, unit) in [(seconds, Dur::from_secs(1)), (millis, Dur::from_millis(1))] {
        let written = said.literal(names).and_then(|(name, value)| Some((name, duration(value, unit)?)));
        if let Some((name, message)) = written.and_then(|(name, wait)| Some((name, too_long(wait)?))) {
            said.wrong(name, &message, issues);
        }
    }
    let own = found.def.timeout.filter(|_| said.lacks(seconds) && said.lacks(millis));
    if let Some(message) = own.and_then(too_long) {
        issue(issues, &format!("{}.timeout", found.path), message);
    }
}

/// Whether a model call or a tool call asks for no more than one attempt may have.
fn attempt_fits(found: &Found<'_>, said: &Literals<'_>, limits: &Limits, issues: &mut Vec<Issue>) {
    if !matches!(found.def.kind, Some(StepKind::Llm | StepKind::Tool)) {
        return;
    }
    attempt_ends(found.def.timeout, &format!("{}.timeout", found.path), limits, issues);
    if found.def.kind == Some(StepKind::Llm)
        && let Some((name, value)) = said.literal(&MAX_TOKENS)
        && let Some(message) = whole(value).and_then(|tokens| too_many(tokens, limits))
    {
        said.wrong(name, &message, issues);
    }
}

/// Whether what a manifest says of itself is within the limits.
pub(super) fn own_fits(manifest: &Manifest, limits: &Limits, issues: &mut Vec<Issue>) {
    if let Some(retry) = &manifest.retry {
        retries_fit(retry, "retry", limits, issues);
    }
    if let Some(message) = manifest.max_tokens.and_then(|tokens| too_many(tokens, limits)) {
        issue(issues, "maxTokens", message);
    }
    if let Some(timeout) = manifest.timeout.filter(|timeout| *timeout > limits.wait_max) {
        let (secs, most) = (timeout.millis() / 1_000, limits.wait_max.millis() / 1_000);
        issue(issues, "timeout", format!("a run of {secs} s; the limit (waitMax) is {most} s"));
    }
    for (n, tool) in manifest.tools.iter().flatten().enumerate() {
        attempt_ends(tool.timeout, &format!("tools[{n}].timeoutMs"), limits, issues);
    }
}

fn attempt_ends(timeout: Option<Dur>, path: &str, limits: &Limits, issues: &mut Vec<Issue>) {
    let max = limits.step_timeout_max;
    if let Some(timeout) = timeout.filter(|timeout| *timeout > max) {
        let (secs, most) = (timeout.millis() / 1_000, max.millis() / 1_000);
        issue(issues, path, format!("an attempt of {secs} s; the limit (stepTimeoutMax) is {most} s"));
    }
}

fn too_many(tokens: u32, limits: &Limits) -> Option<String> {
    let max = limits.completion_tokens_max;
    (tokens > max).then(|| format!("{tokens} tokens; the limit (completionTokensMax) is {max}"))
}

/// Whether no wait between two attempts is longer than a wait may be.
fn retries_fit(retry: &Retry, path: &str, limits: &Limits, issues: &mut Vec<Issue>) {
    let (max, attempts) = (limits.wait_max, limits.attempts_per_step_max);
    if retry.max_attempts > attempts {
        let message =
            format!("{} attempts; the limit (attemptsPerStepMax) is {attempts}", retry.max_attempts);
        issue(issues, &format!("{path}.maxAttempts"), message);
    }
    let (name, millis) = retry.longest();
    if Dur::from_millis(millis) > max {
        let (secs, most) = (millis / 1_000, max.millis() / 1_000);
        let message = format!("waits for {secs} s; the limit (waitMax) is {most} s");
        issue(issues, &format!("{path}.{name}"), message);
    }
}

/// The fields that a run's input may have, where its schema allows no others.
fn closed_inputs(manifest: &Manifest) -> Option<Vec<&str>> {
    let schema = manifest.input_schema.as_ref()?;
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let plain = schema.get("type")?.as_str() == Some("object") && schema.get("patternProperties").is_none();
    let fields = schema.get("properties")?.as_object()?;
    (closed && plain).then(|| fields.keys().map(String::as_str).collect())
}

fn inputs_are_known(found: &Found<'_>, known: &[&str], issues: &mut Vec<Issue>) {
    for (field, value) in found.data {
        for named in template::inputs_named(value).into_iter().filter(|named| !known.contains(named)) {
            let meant = meant(nearest(named, known.iter().copied()));
            let message = format!("inputSchema allows no {named:?}{meant}");
            issue(issues, &format!("{}.{field}", found.at), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Manifest;
    use super::*;
    use lantern_types::EffectClass;
    use serde_json::json;

    fn tools() -> Vec<ToolDef> {
        let tool = |name: &str| ToolDef {
            name: ToolName::parse(name).unwrap(),
            description: String::new(),
            input_schema: json!({}),
            effect: EffectClass::Pure,
        };
        ["calc", "http.fetch"].map(tool).into()
    }

    /// The paths and words of what is wrong with an agent of these steps, and with a run that brings them along.
    fn wrong(steps: &Value) -> Vec<(String, String)> {
        let saved = Manifest::parse(&json!({"steps": steps})).err().unwrap_or_default();
        let (tools, limits) = (tools(), Limits::default());
        let terms = Terms { tools: &tools, limits: &limits };
        let input = json!({"steps": steps});
        let started = Manifest::default().check_input(&input, terms).err().unwrap_or_default();
        assert_eq!(saved, started);
        assert!(Manifest::parse_steps(steps).is_ok(), "the fold reads {steps}");
        saved.issues.into_iter().map(|issue| (issue.path, issue.message)).collect()
    }

    #[test]
    fn a_literal_that_can_never_work_is_refused_where_it_stands() {
        for (step, path) in [
            (json!({"kind": "sleep", "data": {"duration": -1}}), "steps[0].data.duration"),
            (json!({"kind": "sleep", "duration_sec": 1e308}), "steps[0].duration_sec"),
            (json!({"kind": "sleep", "with": {"durationMs": "soon"}}), "steps[0].data.durationMs"),
            (json!({"kind": "sleep", "until": "tomorrow"}), "steps[0].until"),
            (json!({"kind": "sleep"}), "steps[0]"),
            (json!({"kind": "sleep", "data": {"duration": null}}), "steps[0].data"),
            (json!({"kind": "signal"}), "steps[0]"),
            (json!({"kind": "signal", "data": {"name": "go", "timeout": -5}}), "steps[0].data.timeout"),
            (json!({"kind": "approval", "expiresAt": 5}), "steps[0].expiresAt"),
            (json!({"kind": "tool", "data": {"arguments": {}}}), "steps[0].data"),
            (json!({"kind": "tool", "id": "x", "name": "Add numbers"}), "steps[0].name"),
            (json!({"kind": "child", "data": {"input": {}}}), "steps[0].data"),
            (json!({"kind": "llm", "model": "auto"}), "steps[0]"),
            (json!({"kind": "map", "step": {"kind": "sleep", "duration": 1}}), "steps[0]"),
            (json!({"kind": "map", "items": 5, "step": {"kind": "sleep", "duration": 1}}), "steps[0].items"),
            (
                json!({"kind": "race", "data": {"steps": [{"kind": "sleep", "duration": -1}]}}),
                "steps[0].steps[0].duration",
            ),
            (
                json!({"kind": "map", "items": [1], "step": [{"kind": "sleep", "duration": -1}]}),
                "steps[0].step[0].duration",
            ),
            (json!({"kind": "sleep", "duration": 1, "until": "2026-11-25T10:30:00Z"}), "steps[0].until"),
            (json!({"kind": "approval", "approvers": 5}), "steps[0].approvers"),
            (
                json!({"kind": "approval", "data": {"approvers": ["ada", {"id": 1}]}}),
                "steps[0].data.approvers",
            ),
            (json!({"kind": "llm", "prompt": "x", "maxTokens": -1}), "steps[0].maxTokens"),
            (json!({"kind": "llm", "prompt": "x", "max_tokens": 1.5}), "steps[0].max_tokens"),
            (json!({"kind": "llm", "prompt": "x", "maxTokens": 0}), "steps[0].maxTokens"),
            (json!({"kind": "llm", "data": {"prompt": "x", "max_tokens": "0"}}), "steps[0].data.max_tokens"),
            (json!({"kind": "llm", "messages": [{"content": "x"}]}), "steps[0].messages"),
            (json!({"kind": "tool", "tool": "calc", "args": [1]}), "steps[0].args"),
            (
                json!({"kind": "map", "items": [1], "concurrency": 1e12, "step": {"kind": "sleep", "duration": 1}}),
                "steps[0].concurrency",
            ),
            (json!({"kind": "llm", "prompt": "about {{imput.topic}}"}), "steps[0].prompt"),
        ] {
            let wrong = wrong(&json!([step]));
            assert_eq!(wrong.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [path], "{step}");
        }
        for fine in [
            json!({"kind": "sleep", "duration": "{{input.wait}}"}),
            json!({"kind": "sleep", "duration": 0}),
            json!({"kind": "sleep", "duration": "10"}),
            json!({"kind": "signal", "name": "go", "data": {"timeout": null}}),
            json!({"kind": "tool", "name": "calc"}),
            json!({"kind": "map", "items": "[1, 2]", "step": {"kind": "sleep", "duration": 1}}),
            json!({"kind": "tool", "tool": "{{input.tool}}"}),
            json!({"kind": "tool", "tool": "calc", "arguments": "{\"x\": 1}"}),
            json!({"kind": "sleep", "duration": 5, "until": "{{input.until}}"}),
            json!({"kind": "sleep", "duration": null, "until": "2026-11-25T10:30:00Z"}),
            json!({"kind": "approval", "approvers": "ada"}),
            json!({"kind": "approval", "approvers": ["{{input.boss}}", "ada"]}),
            json!({"kind": "approval", "approvers": "{{input.bosses}}"}),
            json!({"kind": "llm", "prompt": "Greet as {{name}} does", "maxTokens": "100"}),
            json!({"kind": "map", "items": [1], "concurrency": 1, "step": {"kind": "sleep", "duration": 1}}),
            json!({"kind": "map", "items": [1], "concurrency": 64, "step": {"kind": "sleep", "duration": 1}}),
        ] {
            assert_eq!(wrong(&json!([fine])), []);
        }
    }

    /// The paths and words of what is wrong with an agent here.
    fn wrong_here(manifest: &Value) -> Vec<(String, String)> {
        let (tools, limits) = (tools(), Limits::default());
        let terms = Terms { tools: &tools, limits: &limits };
        let read = Manifest::parse(manifest).unwrap();
        let own = read.check_steps(&manifest["steps"], terms);
        let bare = Manifest { steps: std::sync::Arc::default(), ..read };
        let came = bare.check_input(&json!({"steps": manifest["steps"]}), terms).err().unwrap_or_default();
        assert_eq!(own, came.issues, "the same steps that come with an input");
        own.into_iter().map(|issue| (issue.path, issue.message)).collect()
    }

    #[test]
    fn what_an_agent_wants_for_itself_is_within_the_limits() {
        let limits = Limits::default();
        let terms = Terms { tools: &[], limits: &limits };
        for (manifest, path) in [
            (json!({"maxTokens": 128_001}), "maxTokens"),
            (json!({"timeout": "367d"}), "timeout"),
            (json!({"timeoutMs": 31_622_400_001_u64}), "timeout"),
            (
                json!({"tools": ["calc", {"name": "http.fetch", "timeoutMs": 3_600_001}]}),
                "tools[1].timeoutMs",
            ),
            (json!({"retry": {"maxAttempts": 21}}), "retry.maxAttempts"),
        ] {
            let issues = Manifest::parse(&manifest).unwrap().check_limits(terms);
            assert_eq!(issues.len(), 1, "{manifest}: {issues:?}");
            assert_eq!(issues[0].path, path, "{manifest}");
        }
        let most = json!({"maxTokens": 128_000, "timeout": "366d", "retry": {"maxAttempts": 20},
            "tools": [{"name": "http.fetch", "timeoutMs": 3_600_000}]});
        assert_eq!(Manifest::parse(&most).unwrap().check_limits(terms), []);
    }

    #[test]
    fn what_this_server_lacks_or_does_not_allow_is_refused_where_it_stands() {
        let nap = json!({"kind": "sleep", "duration": 1});
        let century = 60 * 60 * 24 * 365 * 99_u64;
        for (step, path, words) in [
            (
                json!({"kind": "tool", "tool": "http.fecth"}),
                "steps[0].tool",
                "there is no tool http.fecth; did you mean \"http.fetch\"?; GET /v1/tools lists them",
            ),
            (
                json!({"kind": "race", "steps": [{"kind": "tool", "name": "x", "data": {"tool": "teleport"}}]}),
                "steps[0].steps[0].data.tool",
                "there is no tool teleport; GET /v1/tools lists them",
            ),
            (json!({"kind": "tool", "tool": "http__fetch"}), "steps[0].tool", "do not list http.fetch"),
            (json!({"kind": "sleep", "duration": century}), "steps[0].duration", "the limit (waitMax) is"),
            (json!({"kind": "signal", "name": "go", "timeout": century}), "steps[0].timeout", "waits for"),
            (json!({"kind": "child", "agent": "a", "timeout": century}), "steps[0].timeout", "waits for"),
            (
                json!({"kind": "tool", "tool": "calc", "retry": {"initialInterval": "18000d"}}),
                "steps[0].retry.initialInterval",
                "waits for 1555200000 s; the limit (waitMax) is 31622400 s",
            ),
            (
                json!({"kind": "map", "items": [1], "step": {"kind": "llm", "prompt": "x", "retry": {"maxInterval": "367d"}}}),
                "steps[0].step.retry.maxInterval",
                "waits for",
            ),
            (
                json!({"kind": "approval", "data": {"timeoutSec": century}}),
                "steps[0].data.timeoutSec",
                "waits for",
            ),
            (
                json!({"kind": "map", "items": vec!["{{input.topic}}"; 1_001], "step": nap}),
                "steps[0].items",
                "1001 items; the limit (mapItemsMax) is 1000",
            ),
            (
                json!({"kind": "map", "items": [1], "concurrency": 0, "step": nap}),
                "steps[0].concurrency",
                "expected 1 to 64 (concurrencyMax) at once",
            ),
            (
                json!({"kind": "map", "items": [1], "concurrency": 1_000_000_000, "step": nap}),
                "steps[0].concurrency",
                "expected 1 to 64",
            ),
            (
                json!({"kind": "tool", "tool": "calc", "retry": {"maxAttempts": 1_000_000_000}}),
                "steps[0].retry.maxAttempts",
                "1000000000 attempts; the limit (attemptsPerStepMax) is 20",
            ),
            (
                json!({"kind": "tool", "tool": "calc", "timeout": "2h"}),
                "steps[0].timeout",
                "an attempt of 7200 s; the limit (stepTimeoutMax) is 3600 s",
            ),
            (
                json!({"kind": "map", "items": [1], "step": {"kind": "llm", "prompt": "x", "max_tokens": 128_001}}),
                "steps[0].step.max_tokens",
                "128001 tokens; the limit (completionTokensMax) is 128000",
            ),
            (
                json!({"kind": "llm", "prompt": "{{input.topik}}"}),
                "steps[0].prompt",
                "inputSchema allows no \"topik\"; did you mean \"topic\"?",
            ),
        ] {
            let schema =
                json!({"type": "object", "properties": {"topic": {}}, "additionalProperties": false});
            let agent = json!({"tools": ["calc"], "inputSchema": schema, "steps": [step]});
            let wrong = wrong_here(&agent);
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert_eq!(wrong[0].0, path, "{step}");
            assert!(wrong[0].1.contains(words), "{}", wrong[0].1);
        }
        for fine in [
            json!({"tools": ["calc"], "steps": [{"kind": "tool", "tool": "{{input.tool}}"}]}),
            json!({"steps": [{"kind": "tool", "tool": "http.fetch"}]}),
            json!({"steps": [{"kind": "approval", "timeout": century, "expiresAt": "2026-11-25T10:30:00Z"}]}),
            json!({"steps": [{"kind": "llm", "prompt": "x", "timeout": "1h", "max_tokens": 128_000}]}),
            json!({"steps": [{"kind": "sleep", "duration": 1, "timeout": century}]}),
            json!({"steps": [{"kind": "llm", "prompt": "x", "retry": {"maxInterval": "366d"}}]}),
            json!({"inputSchema": {"type": "object", "properties": {"topic": {}}},
                "steps": [{"kind": "llm", "prompt": "{{input.topik}}"}]}),
        ] {
            assert_eq!(wrong_here(&fine), [], "{fine}");
        }
    }

    #[test]
    fn a_misspelt_reference_is_answered_with_what_was_meant() {
        for (text, words) in [
            (
                "{{steps.fecth.text}}",
                "the step \"fecth\" is none of the list; did you mean \"fetch\"?; before",
            ),
            ("{{steps.last}}", "the step \"last\" has no output yet; before this one come fetch"),
            ("{{stpes.fetch}}", "nothing is called \"stpes\" here; did you mean \"{{steps}}\"?"),
        ] {
            let ask = |id: &str, text: &str| json!({"id": id, "kind": "llm", "prompt": text});
            let wrong = wrong(&json!([ask("fetch", "x"), ask("now", text), ask("last", "x")]));
            assert_eq!(wrong[0].0, "steps[1].prompt");
            assert!(wrong[0].1.starts_with(words), "{}", wrong[0].1);
        }
    }

    #[test]
    fn a_long_list_is_checked_in_its_own_time() {
        let one =
            |n: usize| json!({"id": format!("s{n}"), "kind": "llm", "prompt": "{{steps.zz}}{{steps.s0}}"});
        let steps: Vec<Value> = (0..20_000).map(one).collect();
        let wrong = wrong(&json!(steps));
        assert_eq!(wrong.len(), 1_000);
        let words = "the step \"zz\" is none of the list; before this one come …, s988, s989, s990, s991, s992, s993, \
                     s994, s995, s996, s997";
        assert_eq!(wrong.last().unwrap().1, words);
    }

    #[test]
    fn a_reference_names_a_step_that_is_done_by_then() {
        let call = |id: &str, text: &str| json!({"id": id, "kind": "tool", "tool": "calc", "arguments": {"x": [text]}});
        let race = |text: &str| json!({"id": "r", "kind": "race", "steps": [call("paid", text)]});
        let map = |text: &str| json!({"id": "m", "kind": "map", "items": [1], "step": race(text)});
        for (steps, want) in [
            (
                json!([call("a", "{{steps.zz.text}}")]),
                Some(("steps[0].arguments", "\"zz\" is none of the list; none")),
            ),
            (
                json!([call("a", "{{ steps.b }}"), call("b", "")]),
                Some(("steps[0].arguments", "\"b\" has no output yet")),
            ),
            (
                json!([call("a", "x {{input.q}} {{steps.a[0]}}")]),
                Some(("steps[0].arguments", "no output yet")),
            ),
            (
                json!([call("a", ""), call("b", "{{steps}}")]),
                Some(("steps[1].arguments", "before this one come a")),
            ),
            (
                json!([race(""), call("b", "{{steps.paid}}")]),
                Some(("steps[1].arguments", "\"paid\" is none of the list; before this one come r")),
            ),
            (json!([map("{{steps.m}}")]), Some(("steps[0].step.steps[0].arguments", "no output yet"))),
            (json!([call("a", ""), map("{{steps.a[0].x}} {{item}} {{index}}")]), None),
            (json!([call("a", "{{input.steps.zz}} {{ stepsize }} {{steps.zz")]), None),
        ] {
            let wrong = wrong(&steps);
            let (path, words) = want.unzip();
            assert_eq!(wrong.first().map(|(path, _)| path.as_str()), path, "{steps}");
            assert!(words.is_none_or(|words| wrong[0].1.contains(words)), "{wrong:?}");
        }
    }
}
