//! Reading a JSON object as a client sent it: both casings, every problem with its path, and what nobody asked for.
//!
//! Invariant: text that comes out of here has no NUL and at most as many bytes as its reader allows, so that it can
//! go into any column. `null` is as good as absent, save where a change is read: there it clears.

use std::collections::BTreeSet;
use std::str::FromStr;

use lantern_types::MicroUsd;
use serde_json::{Map, Value, json};

use crate::body::Model;
use crate::openapi::{Sketch, sketch};
use crate::problem::FieldError;

/// What a request says about one field of something that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// Nothing.
    Keep,
    /// It said `null`.
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Change<T> {
    /// The field after the change.
    pub fn apply(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Keep => old,
            Self::Clear => None,
            Self::Set(new) => Some(new),
        }
    }
}

/// The fields of one object, remembering which were read and what was wrong with them.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    seen: BTreeSet<&'a str>,
    issues: Vec<FieldError>,
    /// What nobody read inside of those that were.
    unread: Vec<String>,
    /// What nobody reads is refused.
    strict: bool,
    /// What was asked for, when the reader is only asked what it reads.
    sketch: Option<Sketch>,
}

/// Text without NUL, as a JSON Schema pattern; the second wants something to see in it.
const NO_NUL: &str = "^[^\\u0000]*$";
const VISIBLE: &str = "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$";

impl<'a> Fields<'a> {
    /// The fields of `map`, none of them read.
    pub const fn of(map: &'a Map<String, Value>) -> Self {
        Self {
            map,
            seen: BTreeSet::new(),
            issues: Vec::new(),
            unread: Vec::new(),
            strict: false,
            sketch: None,
        }
    }

    /// No fields, but a memory of which are asked for. What is required reads as something, so that a reader reads on.
    pub(crate) fn sketch(nothing: &'a Map<String, Value>) -> Self {
        Self { sketch: Some(Sketch::default()), ..Self::of(nothing) }
    }

    /// What was asked for.
    pub(crate) fn sketched(self) -> Sketch {
        self.sketch.unwrap_or_default()
    }

    /// Says what a field may be, as JSON Schema, that is read as a plain value. Only the API's description asks.
    pub fn describe(&mut self, name: &str, schema: impl FnOnce() -> Value) {
        if let Some(sketch) = &mut self.sketch {
            sketch.note(name, schema());
        }
    }

    /// Refuses what nobody reads, instead of ignoring it: where leaving a field out takes something away, a misspelt one would.
    pub const fn refuse_unread(&mut self) {
        self.strict = true;
    }

    /// Notes that a field must be there; `true` when the reader is only asked what it reads.
    fn require(&mut self, name: &str) -> bool {
        self.sketch.as_mut().map(|sketch| sketch.require(name)).is_some()
    }

    /// Says what is wrong with a field.
    pub fn issue(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.issues.push(FieldError { path: path.into(), message: message.into() });
    }

    /// A field by its camelCase name, or by its snake_case one: present, possibly null.
    pub fn raw(&mut self, name: &str) -> Option<(&'a str, &'a Value)> {
        self.describe(name, || json!({}));
        let map = self.map;
        let snake = snake(name);
        let found = map.get_key_value(name).or_else(|| map.get_key_value(&snake))?;
        if map.get(&snake).is_some_and(|other| other != found.1) {
            self.differs(name, &snake);
        }
        for spelling in [name, &snake] {
            if let Some((key, _)) = map.get_key_value(spelling) {
                self.seen.insert(key);
            }
        }
        Some((found.0.as_str(), found.1))
    }

    /// All of it, as one value that somebody else reads.
    pub fn whole(&mut self) -> &'a Map<String, Value> {
        self.seen.extend(self.map.keys().map(String::as_str));
        self.map
    }

    /// Says, once, that two spellings of a field say different things.
    pub fn differs(&mut self, name: &str, other: &str) {
        if !self.issues.iter().any(|issue| issue.path == name) {
            self.issue(name, format!("`{name}` and `{other}` are the same field and say different things"));
        }
    }

    /// Any value that is there and not null.
    pub fn value(&mut self, name: &str) -> Option<&'a Value> {
        self.raw(name).map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// Text of at most `bytes_max` bytes.
    pub fn text(&mut self, name: &str, bytes_max: usize) -> Option<String> {
        self.describe(
            name,
            || json!({ "type": ["string", "null"], "maxLength": bytes_max, "pattern": NO_NUL }),
        );
        let value = self.value(name)?;
        self.checked(name, check_text(value, bytes_max))
    }

    /// The same, and it must be there and not empty.
    pub fn required_text(&mut self, name: &str, bytes_max: usize) -> Option<String> {
        self.describe(name, || json!({ "type": "string", "maxLength": bytes_max, "pattern": VISIBLE }));
        if self.require(name) {
            return Some("x".to_owned());
        }
        let text = self.required(name, |fields| fields.text(name, bytes_max))?;
        if text.trim().is_empty() {
            self.issue(name, "must not be empty");
            return None;
        }
        Some(text)
    }

    /// The same, as a change.
    pub fn change_text(&mut self, name: &str, bytes_max: usize) -> Change<String> {
        self.describe(
            name,
            || json!({ "type": ["string", "null"], "maxLength": bytes_max, "pattern": NO_NUL }),
        );
        match self.raw(name) {
            None => Change::Keep,
            Some((_, Value::Null)) => Change::Clear,
            Some((_, value)) => match self.checked(name, check_text(value, bytes_max)) {
                Some(text) => Change::Set(text),
                None => Change::Keep,
            },
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        self.describe(name, || json!({ "type": ["boolean", "null"] }));
        let value = self.value(name)?;
        self.checked(name, value.as_bool().ok_or_else(|| expected("true or false", value)))
    }

    /// The same, and it must be there.
    pub fn required_boolean(&mut self, name: &str) -> Option<bool> {
        self.describe(name, || json!({ "type": "boolean" }));
        if self.require(name) {
            return Some(true);
        }
        self.required(name, |fields| fields.boolean(name))
    }

    /// A whole number in `range`.
    pub fn integer(&mut self, name: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        self.describe(
            name,
            || json!({ "type": ["integer", "null"], "minimum": range.start(), "maximum": range.end() }),
        );
        let value = self.value(name)?;
        let (from, to) = (range.start(), range.end());
        let read = value.as_u64().filter(|n| range.contains(n));
        self.checked(
            name,
            read.ok_or_else(|| expected(&format!("a whole number from {from} to {to}"), value)),
        )
    }

    /// A whole number that may be below zero.
    pub fn signed(&mut self, name: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.describe(
            name,
            || json!({ "type": ["integer", "null"], "minimum": range.start(), "maximum": range.end() }),
        );
        let value = self.value(name)?;
        let (from, to) = (range.start(), range.end());
        let read = value.as_i64().filter(|n| range.contains(n));
        self.checked(
            name,
            read.ok_or_else(|| expected(&format!("a whole number from {from} to {to}"), value)),
        )
    }

    /// Text that `T` reads, such as an id or a time.
    pub fn parsed<T: FromStr>(&mut self, name: &str, want: &str) -> Option<T> {
        self.describe(
            name,
            || json!({ "type": ["string", "null"], "description": format!("Expected: {want}.") }),
        );
        let value = self.value(name)?;
        let read = value.as_str().and_then(|text| text.parse().ok());
        self.checked(name, read.ok_or_else(|| expected(want, value)))
    }

    /// The same, when `T` can read it; what it cannot is left out, and named among what nobody read.
    pub fn parsed_if_any<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let (key, value) = self.raw(name)?;
        let read = value.as_str().and_then(|text| text.parse().ok());
        if read.is_none() && !value.is_null() {
            self.seen.remove(key);
        }
        read
    }

    /// Dollars, as a number or as text: at most six decimals.
    pub fn dollars(&mut self, name: &str) -> Option<MicroUsd> {
        self.describe(name, || {
            let about = "Dollars with at most 6 decimals, as a number or as text.";
            json!({ "type": ["number", "string", "null"], "minimum": 0, "description": about })
        });
        let value = self.value(name)?;
        let read = MicroUsd::of_json(value);
        self.checked(
            name,
            read.ok_or_else(|| expected("dollars with at most 6 decimals, such as 0.25", value)),
        )
    }

    /// A change of an amount of money.
    pub fn change_dollars(&mut self, name: &str) -> Change<MicroUsd> {
        let read = self.dollars(name);
        match self.raw(name) {
            None => Change::Keep,
            Some((_, Value::Null)) => Change::Clear,
            Some(_) => read.map_or(Change::Keep, Change::Set),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &str, count_max: usize, bytes_max: usize) -> Option<Vec<String>> {
        self.describe(name, || {
            let text = json!({ "type": "string", "maxLength": bytes_max, "pattern": NO_NUL });
            json!({ "type": ["array", "null"], "maxItems": count_max, "items": text })
        });
        let value = self.value(name)?;
        let Some(list) = value.as_array().filter(|list| list.len() <= count_max) else {
            self.issue(
                name,
                sized(&format!("a list of at most {count_max} texts"), value, value.as_array().map(Vec::len)),
            );
            return None;
        };
        let mut texts = Vec::with_capacity(list.len());
        for (n, entry) in list.iter().enumerate() {
            let text = check_text(entry, bytes_max);
            texts.extend(self.checked(&format!("{name}[{n}]"), text));
        }
        Some(texts)
    }

    /// A list of one to `count_max` objects, each read by its own model, that must be there.
    pub fn required_list<T: Model>(&mut self, name: &str, count_max: usize) -> Option<Vec<T>> {
        self.describe(name, || {
            let items = sketch::of::<T>().map_or_else(|| json!({ "type": "object" }), |(schema, _)| schema);
            json!({ "type": "array", "minItems": 1, "maxItems": count_max, "items": items })
        });
        if self.require(name) {
            return Some(Vec::new());
        }
        let value = self.required(name, |fields| fields.value(name))?;
        let Some(list) = value.as_array().filter(|list| (1..=count_max).contains(&list.len())) else {
            self.issue(
                name,
                sized(&format!("a list of 1 to {count_max} objects"), value, value.as_array().map(Vec::len)),
            );
            return None;
        };
        let mut read = Vec::with_capacity(list.len());
        for (n, entry) in list.iter().enumerate() {
            let path = format!("{name}[{n}]");
            let Some(map) = entry.as_object() else {
                self.issue(path, expected("an object", entry));
                continue;
            };
            let mut fields = Fields::of(map);
            read.extend(T::read(&mut fields));
            match fields.finish() {
                Ok(names) => self.unread.extend(names.into_iter().map(|name| format!("{path}.{name}"))),
                Err(issues) => issues.into_iter().for_each(|issue| {
                    let inner =
                        if issue.path.is_empty() { path.clone() } else { format!("{path}.{}", issue.path) };
                    self.issue(inner, issue.message);
                }),
            }
        }
        Some(read)
    }

    /// `{"key": "text"}` with at most 64 entries, each side bounded. Null clears.
    pub fn labels(&mut self, name: &str) -> Change<Map<String, Value>> {
        const ENTRIES_MAX: usize = 64;
        self.describe(name, || {
            let text = json!({ "type": "string", "maxLength": 1_024, "pattern": NO_NUL });
            let names = json!({ "minLength": 1, "maxLength": 128, "pattern": NO_NUL });
            json!({
                "type": ["object", "null"], "maxProperties": ENTRIES_MAX, "propertyNames": names,
                "additionalProperties": text,
            })
        });
        let value = match self.raw(name) {
            None => return Change::Keep,
            Some((_, Value::Null)) => return Change::Clear,
            Some((_, value)) => value,
        };
        let Some(map) = value.as_object().filter(|map| map.len() <= ENTRIES_MAX) else {
            self.issue(
                name,
                sized(
                    &format!("an object of at most {ENTRIES_MAX} texts"),
                    value,
                    value.as_object().map(Map::len),
                ),
            );
            return Change::Keep;
        };
        for (key, entry) in map {
            let path = format!("{name}.{}", bounded(key, 64));
            if key.is_empty() || key.len() > 128 {
                self.issue(path.clone(), "a label's name has 1 to 128 bytes");
            }
            if key.contains('\0') {
                self.issue(path.clone(), "must not contain NUL characters");
            }
            self.checked(&path, check_text(entry, 1_024));
        }
        Change::Set(map.clone())
    }

    fn required<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.value(name).is_none() {
            self.issue(name, "is required");
            return None;
        }
        read(self)
    }

    fn checked<T>(&mut self, path: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.issue(path, message)).ok()
    }

    /// What was wrong, or the names that nobody read.
    pub fn finish(self) -> Result<Vec<String>, Vec<FieldError>> {
        if !self.issues.is_empty() {
            return Err(self.issues);
        }
        let unread = self.map.keys().filter(|key| !self.seen.contains(key.as_str()));
        let unread: Vec<String> = unread.cloned().chain(self.unread).collect();
        if self.strict && !unread.is_empty() {
            let refused = |path| FieldError { path, message: "there is no such field".to_owned() };
            return Err(unread.into_iter().map(refused).collect());
        }
        Ok(unread)
    }
}

fn check_text(value: &Value, bytes_max: usize) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| expected("text", value))?;
    if text.len() > bytes_max {
        return Err(format!("has {} bytes; the limit is {bytes_max}", text.len()));
    }
    if text.contains('\0') {
        return Err("must not contain NUL characters".to_owned());
    }
    Ok(text.to_owned())
}

fn expected(want: &str, got: &Value) -> String {
    let kind = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("expected {want}, got {kind}")
}

/// The same where something of the right kind may have another size.
fn sized(want: &str, got: &Value, size: Option<usize>) -> String {
    size.map_or_else(|| expected(want, got), |size| format!("expected {want}, got one of {size}"))
}

fn bounded(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// `agentName` as `agent_name`.
pub(crate) fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn both_casings_are_read_and_the_rest_is_named() {
        let map = object(json!({
            "agent_name": "a", "maxCostUsd": "0.25", "colour": "red", "note": null, "session_id": "mine",
        }));
        let mut fields = Fields::of(&map);
        assert_eq!(fields.required_text("agentName", 10).unwrap(), "a");
        assert_eq!(fields.dollars("maxCostUsd").unwrap().micros(), 250_000);
        assert_eq!(fields.change_text("note", 10), Change::Clear);
        assert_eq!(fields.change_text("other", 10), Change::Keep);
        assert_eq!(fields.parsed_if_any::<lantern_types::RunId>("sessionId"), None);
        assert_eq!(fields.finish().unwrap(), ["colour", "session_id"]);
    }

    #[test]
    fn two_spellings_that_differ_are_refused_by_both_names() {
        for (body, issues) in [
            (json!({"agentName": "a", "agent_name": "b"}), 1),
            (json!({"agentName": "a", "agent_name": null}), 1),
            (json!({"agentName": "a", "agent_name": "a"}), 0),
            (json!({"agent_name": "a"}), 0),
        ] {
            let map = object(body.clone());
            let mut fields = Fields::of(&map);
            fields.required_text("agentName", 10);
            fields.raw("agentName");
            let found = fields.finish().err().unwrap_or_default();
            assert_eq!(found.len(), issues, "{body}");
            for issue in found {
                assert!(issue.message.contains("`agentName` and `agent_name`"), "{}", issue.message);
            }
        }
    }

    #[test]
    fn what_is_too_long_says_how_long_it_is() {
        let many: Map<String, Value> = (0..65).map(|n| (n.to_string(), json!("v"))).collect();
        let map = object(json!({"a": ["x", "y"], "b": {}, "c": many, "d": []}));
        let mut fields = Fields::of(&map);
        fields.texts("a", 1, 9);
        fields.texts("b", 1, 9);
        fields.labels("c");
        fields.labels("d");
        let said: Vec<String> = fields.finish().unwrap_err().into_iter().map(|issue| issue.message).collect();
        let want = [
            "expected a list of at most 1 texts, got one of 2",
            "expected a list of at most 1 texts, got an object",
            "expected an object of at most 64 texts, got one of 65",
            "expected an object of at most 64 texts, got a list",
        ];
        assert_eq!(said, want);
    }

    #[test]
    fn every_problem_has_its_path() {
        let map = object(json!({
            "a": 5, "b": "toolong", "c": "n\u{0}l", "d": -1, "e": 1e99, "f": "x", "g": ["ok", 7],
            "h": {"k": 1}, "i": "yes", "j": -2.5, "k": " ",
            "l": {"a\u{0}b": "c"},
        }));
        let mut fields = Fields::of(&map);
        fields.text("a", 9);
        fields.text("b", 3);
        fields.text("c", 9);
        fields.integer("d", 0..=10);
        fields.integer("e", 0..=10);
        fields.parsed::<lantern_types::RunId>("f", "a run id");
        fields.texts("g", 5, 5);
        fields.labels("h");
        fields.labels("l");
        fields.boolean("i");
        fields.dollars("j");
        fields.required_text("k", 9);
        fields.required_text("z", 9);
        let issues = fields.finish().unwrap_err();
        let paths: Vec<&str> = issues.iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(paths, ["a", "b", "c", "d", "e", "f", "g[1]", "h.k", "l.a\u{0}b", "i", "j", "k", "z"]);
    }
}
