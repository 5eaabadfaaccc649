//! What can be known of a list of steps before any of it runs: literal values that can never work, and references to what
//! has no output by then.
//!
//! Looked at when an agent is saved and when a run is started with steps of its own, and never when a journal is read: the
//! fold goes on taking what was taken when the run began. Values that refer to something are known when they are filled in.

mod terms;

use std::collections::HashMap;

use lantern_types::llm::Message;
use lantern_types::{At, Dur, ToolName, nearest};
use serde_json::{Map, Value};

use super::StepDef;
use super::read::{FOUND_MAX, Issue, duration, issue, whole};
use super::steps::{AGENT_NAMES, DATA, INNER, SIGNAL_NAMES, TOOL_NAMES};
use crate::event::StepKind;
use crate::template;

pub use terms::Terms;
pub(super) use terms::{on_terms, own_fits};

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

#[cfg(test)]
mod tests {
    use super::super::Manifest;
    use super::*;
    use lantern_types::{EffectClass, Limits, ToolDef};
    use serde_json::json;

    pub(super) fn tools() -> Vec<ToolDef> {
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
