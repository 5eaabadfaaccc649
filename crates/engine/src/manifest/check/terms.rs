//! What can be known to be wrong with steps, and with an agent, where these tools and these limits are.
//!
//! Invariant: what goes beyond a limit is refused here, and not cut to it later. A reader of journals asks none of this: what was taken once
//! goes on.

use lantern_types::{Dur, Limits, ToolDef, ToolName, nearest};
use serde_json::Value;

use super::super::read::{FOUND_MAX, Issue, duration, issue, whole};
use super::super::steps::TOOL_NAMES;
use super::super::{Manifest, StepDef};
use super::{
    EXPIRES, Found, Literals, MAX_TOKENS, MILLIS, PATIENCE_MILLIS, PATIENCE_SECONDS, SECONDS, meant, walk,
};
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

/// Checks a manifest's own steps, or those that come with a run's input, against what the server has and allows.
pub(crate) fn on_terms(
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
pub(crate) fn own_fits(manifest: &Manifest, limits: &Limits, issues: &mut Vec<Issue>) {
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
    use super::super::tests::tools;
    use super::*;
    use serde_json::json;

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
}
