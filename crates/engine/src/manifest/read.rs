//! Reading JSON objects as people write them: both casings, aliases, and every problem with its path.

use std::collections::{BTreeSet, HashSet};

use lantern_types::{Dur, EffectClass, MicroUsd, ToolName};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Manifest, ProgramKind, ToolRef, check, steps};

/// Problems that a message names; it says how many more there are.
const SHOWN_MAX: usize = 20;
/// Problems that are looked for: whoever has so many has to begin elsewhere.
pub(super) const FOUND_MAX: usize = 1_000;
const WORDS_MAX: usize = 300;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// `tools[1].effect`
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// Everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.worded())]
pub struct Invalid {
    /// In reading order; never empty in an `Err`, and never more than a thousand.
    pub issues: Vec<Issue>,
}

impl Invalid {
    fn worded(&self) -> String {
        let named =
            self.issues.iter().take(SHOWN_MAX).map(|issue| format!("{}: {}", issue.path, issue.message));
        let mut named: Vec<String> = named.collect();
        if let Some(more) = self.issues.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            named.push(format!("and {more} more"));
        }
        named.join("; ")
    }
}

/// Reads the fields of one object and remembers which it saw.
pub(super) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    seen: BTreeSet<&'a str>,
}

static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value, path: &str, issues: &mut Vec<Issue>) -> Self {
        let map = value.as_object().unwrap_or_else(|| {
            issue(issues, path, "expected an object");
            &EMPTY
        });
        Self { path: path.to_owned(), map, seen: BTreeSet::new() }
    }

    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The first of `names` that is there and not null.
    pub(super) fn get(&mut self, names: &[&'a str]) -> Option<&'a Value> {
        self.seen.extend(names.iter().copied());
        names.iter().find_map(|name| self.map.get(*name)).filter(|value| !value.is_null())
    }

    /// The same, read as `T`.
    pub(super) fn read<T: DeserializeOwned>(
        &mut self,
        names: &[&'a str],
        want: &str,
        issues: &mut Vec<Issue>,
    ) -> Option<T> {
        let value = self.get(names)?;
        match T::deserialize(value) {
            Ok(read) => Some(read),
            Err(_) => {
                issue(issues, &self.path(names.first().unwrap_or(&"")), want);
                None
            }
        }
    }

    /// A duration: `"30s"`, or a number of `unit`.
    pub(super) fn duration(&mut self, names: &[&'a str], unit: Dur, issues: &mut Vec<Issue>) -> Option<Dur> {
        let value = self.get(names)?;
        let read = duration(value, unit);
        if read.is_none() {
            issue(issues, &self.path(names.first().unwrap_or(&"")), "expected a duration such as \"30s\"");
        }
        read
    }

    /// Everything that nobody asked for, as an object of its own.
    pub(super) fn rest(&mut self) -> Value {
        let rest: Map<String, Value> = self
            .map
            .iter()
            .filter(|(name, _)| !self.seen.contains(name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        self.seen.extend(self.map.keys().map(String::as_str));
        Value::Object(rest)
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(self, issues: &mut Vec<Issue>) {
        for name in self.map.keys().filter(|name| !self.seen.contains(name.as_str())) {
            issue(issues, &self.path(name), "unknown field");
        }
    }
}

/// No time is not the same as any time, and nobody means the former.
pub(super) const NO_TIME: &str = "expected more than 0; leave it out for no limit of its own";

pub(super) fn issue(issues: &mut Vec<Issue>, path: &str, message: impl Into<String>) {
    if issues.len() < FOUND_MAX {
        let bounded = |text: &str, chars: usize| text.chars().take(chars).collect();
        issues.push(Issue { path: bounded(path, 200), message: bounded(&message.into(), WORDS_MAX) });
    }
}

/// `"30s"`, `"250ms"`, or a non-negative number of `unit`.
pub(crate) fn duration(value: &Value, unit: Dur) -> Option<Dur> {
    match value {
        Value::String(text) => Dur::parse(text).or_else(|| scaled(text.parse().ok()?, unit)),
        Value::Number(number) => scaled(number.as_f64()?, unit),
        _ => None,
    }
}

/// A whole number, or one written as text.
pub(crate) fn whole(value: &Value) -> Option<u32> {
    let read = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u32::try_from(read).ok()
}

#[expect(clippy::cast_possible_truncation, reason = "checked to lie within a century of microseconds")]
fn scaled(count: f64, unit: Dur) -> Option<Dur> {
    #[expect(clippy::cast_precision_loss, reason = "units are at most a second")]
    let micros = count * unit.micros() as f64;
    (micros.is_finite() && (0.0..=3.2e15).contains(&micros)).then(|| Dur::from_micros(micros.round() as i64))
}

/// Reads a whole manifest.
pub(super) fn manifest(value: &Value) -> Result<Manifest, Invalid> {
    let mut issues = Vec::new();
    let out = &mut issues;
    let mut fields = Fields::of(value, "", out);
    let default = Manifest::default();
    let manifest = Manifest {
        program: fields.read::<ProgramKind>(&["program"], "expected \"agent\" or \"steps\"", out),
        model: fields.read(&["model"], "expected a model or capability name", out).unwrap_or(default.model),
        strategy: fields.read(&["strategy"], "expected \"balanced\", \"cheap\", \"best\" or \"fast\"", out),
        system_prompt: fields.read(&["systemPrompt", "system_prompt", "instructions"], "expected text", out),
        style_prompt: fields.read(&["stylePrompt", "style_prompt"], "expected text", out),
        about: fields.get(&["about"]).cloned(),
        tools: fields.get(&["tools"]).map(|tools| tool_list(tools, out)),
        max_turns: fields
            .read(&["maxTurns", "max_turns"], "expected a number of turns", out)
            .unwrap_or(default.max_turns),
        max_tokens: fields.read(&["maxTokens", "max_tokens"], "expected a number of tokens", out),
        temperature: fields.read(&["temperature"], "expected a number", out),
        input_schema: fields.get(&["inputSchema", "input_schema"]).cloned(),
        output_schema: fields.get(&["outputSchema", "output_schema"]).cloned(),
        retry: fields.get(&["retry"]).map(|retry| steps::retry(retry, "retry", out)),
        max_cost: fields.get(&["maxCostUsd", "max_cost_usd"]).and_then(|usd| dollars(usd, "maxCostUsd", out)),
        timeout: fields
            .duration(&["timeout"], Dur::from_secs(1), out)
            .or_else(|| fields.duration(&["timeoutMs", "timeout_ms"], Dur::from_millis(1), out)),
        steps: fields.get(&["steps"]).map(|list| steps::read(list, "steps", out)).unwrap_or_default().into(),
    };
    fields.finish(out);
    check(&manifest, out);
    // What cannot be read is not looked at more closely.
    if let Some(list) = value.get("steps").filter(|_| out.is_empty()) {
        check::steps(list, &manifest.steps, "steps", out);
    }
    if issues.is_empty() { Ok(manifest) } else { Err(Invalid { issues }) }
}

fn check(manifest: &Manifest, issues: &mut Vec<Issue>) {
    if manifest.max_turns == 0 {
        issue(issues, "maxTurns", "expected at least 1 turn");
    } else if manifest.max_turns > 1_000 {
        issue(issues, "maxTurns", "expected 1 to 1000 turns");
    }
    if manifest.program == Some(ProgramKind::Agent) && !manifest.steps.is_empty() {
        issue(issues, "steps", "an agent program has no steps; leave `program` out or say \"steps\"");
    }
    if manifest.timeout == Some(Dur::ZERO) {
        issue(issues, "timeout", NO_TIME);
    }
    if manifest.max_tokens == Some(0) {
        issue(issues, "maxTokens", "expected at least 1");
    }
    if manifest.model.is_empty() || manifest.model.len() > 200 {
        issue(issues, "model", "expected 1 to 200 characters");
    }
    if manifest
        .temperature
        .as_ref()
        .and_then(serde_json::Number::as_f64)
        .is_some_and(|t| !(0.0..=2.0).contains(&t))
    {
        issue(issues, "temperature", "expected 0 to 2");
    }
    for (path, schema) in [("inputSchema", &manifest.input_schema), ("outputSchema", &manifest.output_schema)]
    {
        if schema.as_ref().is_some_and(|schema| !schema.is_object()) {
            issue(issues, path, "expected a JSON Schema object");
        }
    }
}

fn dollars(value: &Value, path: &str, issues: &mut Vec<Issue>) -> Option<MicroUsd> {
    let read = MicroUsd::of_json(value);
    if read.is_none() {
        issue(issues, path, "expected dollars with at most 6 decimals, such as 0.25");
    }
    read
}

fn tool_list(value: &Value, issues: &mut Vec<Issue>) -> Vec<ToolRef> {
    let Some(list) = value.as_array() else {
        issue(issues, "tools", "expected a list of names or objects");
        return Vec::new();
    };
    let mut tools: Vec<ToolRef> = Vec::new();
    let mut names = HashSet::new();
    for (n, entry) in list.iter().enumerate() {
        let path = format!("tools[{n}]");
        let Some(tool) = tool(entry, &path, issues) else { continue };
        if !names.insert(tool.name.clone()) {
            issue(issues, &path, "listed twice");
        }
        tools.push(tool);
    }
    tools
}

fn tool(entry: &Value, path: &str, issues: &mut Vec<Issue>) -> Option<ToolRef> {
    let name = |text: &str, issues: &mut Vec<Issue>| {
        ToolName::parse(text).map_err(|error| issue(issues, path, error.to_string())).ok()
    };
    if let Some(text) = entry.as_str() {
        let name = name(text, issues)?;
        return Some(ToolRef {
            name,
            effect: None,
            approval: false,
            timeout: None,
            max_calls: None,
            config: None,
        });
    }
    let mut fields = Fields::of(entry, path, issues);
    let text: Option<String> = fields.read(&["name"], "expected a tool name", issues);
    let tool = ToolRef {
        name: name(text.as_deref().unwrap_or_default(), issues)?,
        effect: fields.read::<EffectClass>(
            &["effect"],
            "expected pure, idempotent, keyed, reconcilable or irreversible",
            issues,
        ),
        approval: fields.read(&["approval"], "expected true or false", issues).unwrap_or(false),
        timeout: fields.duration(&["timeoutMs", "timeout_ms", "timeout"], Dur::from_millis(1), issues),
        max_calls: fields.read(&["maxCalls", "max_calls"], "expected a number of calls", issues),
        config: fields.get(&["config"]).cloned(),
    };
    if tool.timeout == Some(Dur::ZERO) {
        issue(issues, &fields.path("timeoutMs"), NO_TIME);
    }
    fields.finish(issues);
    Some(tool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_may_write_either_casing_and_short_forms() {
        let camel = Manifest::parse(
            &json!({"model": "gpt-4o", "maxTurns": 3, "maxCostUsd": 0.25, "systemPrompt": "x",
            "tools": ["calc", {"name": "http.fetch", "timeoutMs": 500, "maxCalls": 2, "approval": true}]}),
        );
        let snake = Manifest::parse(
            &json!({"model": "gpt-4o", "max_turns": 3, "max_cost_usd": "0.25", "instructions": "x",
            "tools": ["calc", {"name": "http__fetch", "timeout_ms": "500ms", "max_calls": 2, "approval": true}]}),
        );
        assert_eq!(camel, snake);
        let manifest = camel.unwrap();
        assert_eq!(manifest.max_cost.unwrap().micros(), 250_000);
        let stored: Manifest = serde_json::from_str(&manifest.canonical()).unwrap();
        assert_eq!(stored.digest(), manifest.digest());
    }

    #[test]
    fn a_long_list_is_read_in_its_own_time_and_a_few_problems_are_named() {
        let many = |entry: Value| Value::Array(vec![entry; 100_000]);
        for (body, path) in [
            (json!({"steps": many(json!({"kind": "zz"}))}), "steps[0].kind"),
            (json!({"tools": many(json!("calc"))}), "tools[1]"),
        ] {
            let invalid = Manifest::parse(&body).unwrap_err();
            assert_eq!((invalid.issues[0].path.as_str(), invalid.issues.len()), (path, FOUND_MAX));
            let words = invalid.to_string();
            assert!(words.ends_with("and 980 more") && words.len() < 20_000, "{words}");
        }
        let distinct: Vec<Value> = (0..100_000)
            .map(|n| json!({"id": format!("s{n}"), "kind": "sleep", "data": {"duration": 1}}))
            .collect();
        assert_eq!(Manifest::parse(&json!({"steps": distinct})).unwrap().steps.len(), 100_000);
        let long = json!({"steps": [{"id": "x".repeat(100_000), "kind": "sleep"}]});
        assert!(Manifest::parse(&long).unwrap_err().to_string().len() < 1_000);
    }

    #[test]
    fn every_problem_is_named_with_its_path() {
        let invalid =
            Manifest::parse(&json!({"modle": "x", "maxTurns": 0, "tools": ["Bad Name", "calc", "calc",
            {"name": "http.fetch", "effect": "maybe", "colour": 1}], "maxCostUsd": -1, "temperature": 9}))
            .unwrap_err();
        let paths: Vec<&str> = invalid.issues.iter().map(|i| i.path.as_str()).collect();
        for path in [
            "modle",
            "maxTurns",
            "tools[0]",
            "tools[2]",
            "tools[3].effect",
            "tools[3].colour",
            "maxCostUsd",
            "temperature",
        ] {
            assert!(paths.contains(&path), "{path} in {paths:?}");
        }
        for odd in [
            json!(null),
            json!([]),
            json!("x"),
            json!({"tools": 5}),
            json!({"maxTurns": 1e99}),
            json!({"timeout": -4}),
            json!({"timeout": 0}),
            json!({"tools": [{"name": "calc", "timeoutMs": 0}]}),
        ] {
            assert!(Manifest::parse(&odd).is_err(), "{odd}");
        }
    }
}
