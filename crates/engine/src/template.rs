//! `{{path}}` references in a program's data: `input.topic`, `steps.fetch.body`, `item`, `index`.
//!
//! One pass: what a reference brings in is never scanned again, so user text cannot smuggle a reference. A string
//! that is one reference keeps the value's own JSON type; inside other text a non-string is written as JSON. A path
//! that leads nowhere gives `""` inside text and `null` alone.

use serde_json::{Map, Value};

/// Looks a path up.
pub trait Lookup {
    /// The value that a path starts from: takes the segments that name it (`input`; `steps`, `fetch`).
    fn root(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Value>;
}

/// The steps that references inside `value` name, as they are written: nothing for `{{steps}}` alone.
pub(crate) fn steps_named(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => paths(text).filter_map(step_named).collect(),
        Value::Array(items) => items.iter().flat_map(steps_named).collect(),
        Value::Object(fields) => fields.values().flat_map(steps_named).collect(),
        _ => Vec::new(),
    }
}

/// Whether anything inside `value` is filled in when it is rendered.
pub(crate) fn refers(value: &Value) -> bool {
    match value {
        Value::String(text) => paths(text).next().is_some(),
        Value::Array(items) => items.iter().any(refers),
        Value::Object(fields) => fields.values().any(refers),
        _ => false,
    }
}

/// What references inside `value` start from, as it is written.
pub(crate) fn roots(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => paths(text).filter_map(|path| segments(path).next()).collect(),
        Value::Array(items) => items.iter().flat_map(roots).collect(),
        Value::Object(fields) => fields.values().flat_map(roots).collect(),
        _ => Vec::new(),
    }
}

/// The fields of the run's input that references inside `value` name.
pub(crate) fn inputs_named(value: &Value) -> Vec<&str> {
    let named = |path| {
        let mut segments = segments(path);
        (segments.next() == Some("input")).then(|| segments.next()).flatten()
    };
    match value {
        Value::String(text) => paths(text).filter_map(named).collect(),
        Value::Array(items) => items.iter().flat_map(inputs_named).collect(),
        Value::Object(fields) => fields.values().flat_map(inputs_named).collect(),
        _ => Vec::new(),
    }
}

fn step_named(path: &str) -> Option<&str> {
    let mut segments = segments(path);
    (segments.next() == Some("steps")).then(|| segments.next().unwrap_or_default())
}

/// What stands between braces.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (path, tail) = rest.split_once("{{")?.1.split_once("}}")?;
        rest = tail;
        Some(path.trim())
    })
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[']).map(|segment| segment.trim_end_matches(']').trim())
}

/// Renders every string inside `value`.
pub fn render(value: &Value, scope: &dyn Lookup) -> Value {
    match value {
        Value::String(text) => render_text(text, scope),
        Value::Array(items) => Value::Array(items.iter().map(|item| render(item, scope)).collect()),
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(key, value)| (key.clone(), render(value, scope))).collect::<Map<_, _>>(),
        ),
        other => other.clone(),
    }
}

/// About how many bytes of JSON rendering `value` gives, found without making them: a few references to a large value
/// can name more text than there is memory.
pub fn rendered_bytes(value: &Value, scope: &dyn Lookup) -> u64 {
    match value {
        Value::String(text) => text_bytes(text, scope),
        Value::Array(items) => {
            items.iter().fold(2, |sum: u64, item| sum.saturating_add(rendered_bytes(item, scope) + 1))
        }
        Value::Object(fields) => fields.iter().fold(2, |sum: u64, (key, value)| {
            sum.saturating_add(rendered_bytes(value, scope)).saturating_add(key.len() as u64 + 4)
        }),
        other => bytes(other),
    }
}

fn text_bytes(text: &str, scope: &dyn Lookup) -> u64 {
    let mut sum = text.len() as u64 + 2;
    let mut rest = text;
    // Most texts hold no reference, and one byte is quicker to look for than two.
    if !text.contains('{') {
        return sum;
    }
    while let Some((_, after)) = rest.split_once("{{") {
        let Some((path, tail)) = after.split_once("}}") else { break };
        sum = sum.saturating_add(find(path.trim(), scope).map_or(0, bytes));
        rest = tail;
    }
    sum
}

/// About the bytes of a value's JSON.
fn bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 + 2,
        Value::Array(items) => items.iter().map(|item| bytes(item) + 1).sum::<u64>() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| key.len() as u64 + 4 + bytes(value)).sum::<u64>() + 2
        }
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 12,
    }
}

/// A value as text: strings as they are, everything else as JSON, null as nothing.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn render_text(text: &str, scope: &dyn Lookup) -> Value {
    if !text.contains('{') {
        return Value::String(text.to_owned());
    }
    if let Some(path) = sole_reference(text) {
        return find(path, scope).cloned().unwrap_or(Value::Null);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((path, tail)) = after.split_once("}}") else { break };
        out.push_str(before);
        if let Some(value) = find(path.trim(), scope) {
            out.push_str(&as_text(value));
        }
        rest = tail;
    }
    out.push_str(rest);
    Value::String(out)
}

fn sole_reference(text: &str) -> Option<&str> {
    let path = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!path.contains("{{") && !path.contains("}}")).then(|| path.trim())
}

fn find<'a>(path: &str, scope: &'a dyn Lookup) -> Option<&'a Value> {
    let mut segments = segments(path);
    let root = scope.root(&mut segments)?;
    segments.try_fold(root, |value, segment| match value {
        Value::Object(fields) => fields.get(segment),
        Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Roots(Value);
    impl Lookup for Roots {
        fn root(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Value> {
            self.0.get(path.next()?)
        }
    }

    #[test]
    fn the_reference_table() {
        let scope = Roots(json!({
            "input": {"name": "Ada", "n": 3, "list": [{"k": 1}, 2], "evil": "{{input.name}}"},
            "item": [1],
        }));
        for (text, want) in [
            ("{{input.name}}", json!("Ada")),
            ("{{ input.n }}", json!(3)),
            ("{{input.list}}", json!([{"k": 1}, 2])),
            ("{{input.list[0].k}}", json!(1)),
            ("{{input.list.1}}", json!(2)),
            ("hi {{input.name}}, {{input.n}}", json!("hi Ada, 3")),
            ("{{input.n}}{{input.n}}", json!("33")),
            ("x {{input.list}}", json!("x [{\"k\":1},2]")),
            ("{{nowhere}}", json!(null)),
            ("a{{nowhere.b}}z", json!("az")),
            ("open {{input.name", json!("open {{input.name")),
            ("{{input.evil}}!", json!("{{input.name}}!")),
            ("{{}}", json!(null)),
            ("{{input.list[99]}}", json!(null)),
            ("{{item[0]}}", json!(1)),
        ] {
            assert_eq!(render(&json!(text), &scope), want, "{text}");
        }
        assert_eq!(render(&json!({"a": ["{{input.n}}"]}), &scope), json!({"a": [3]}));
    }
}
