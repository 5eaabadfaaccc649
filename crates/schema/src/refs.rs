//! Where a schema's references lead, and which of its keywords hold schemas. Pure.
//!
//! Invariant: a reference stays within its schema, and means the same here and in the validator. So what would move the
//! base that references start from (an `$id` anywhere below the root) is found, to be refused, and an anchor whose name is
//! there twice leads nowhere.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Keywords that name another schema.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords that hold one schema for the value itself.
const HERE: [&str; 4] = ["not", "if", "then", "else"];
/// Keywords that hold a list of schemas for the value itself.
const HERE_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords that hold schemas by property name for the value itself.
const HERE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
/// The same for parts of the value.
const BELOW: [&str; 7] = [
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "additionalItems",
    "unevaluatedItems",
    "contains",
];
const BELOW_LISTS: [&str; 2] = ["prefixItems", "items"];
const BELOW_MAPS: [&str; 2] = ["properties", "patternProperties"];

/// The references of a schema: the keyword and what it says.
pub(crate) fn references(schema: &Map<String, Value>) -> impl Iterator<Item = (&'static str, &Value)> {
    REFERENCES.into_iter().filter_map(|word| Some((word, schema.get(word)?)))
}

/// The way from a schema to one in it: a keyword, and which of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// The keyword holds one.
    One(&'static str),
    /// The keyword holds a list.
    Nth(&'static str, usize),
    /// The keyword holds them by name.
    Named(&'static str, &'a str),
}

impl Step<'_> {
    /// How long its name is.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Named(_, name) => name.len(),
            Self::One(_) | Self::Nth(..) => 0,
        }
    }
}

/// As a part of a JSON pointer.
impl std::fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(word) => write!(f, "/{word}"),
            Self::Nth(word, n) => write!(f, "/{word}/{n}"),
            Self::Named(word, name) => write!(f, "/{word}/{}", name.replace('~', "~0").replace('/', "~1")),
        }
    }
}

/// The schemas that a schema applies to the very value it is applied to, references aside.
pub(crate) fn here(schema: &Map<String, Value>) -> impl Iterator<Item = (Step<'_>, &Value)> {
    let one = HERE.into_iter().filter_map(|word| Some((Step::One(word), schema.get(word)?)));
    let lists = HERE_LISTS.into_iter().flat_map(|word| listed(schema, word));
    let maps = HERE_MAPS.into_iter().flat_map(|word| named(schema, word)).filter(|(_, sub)| !sub.is_array());
    one.chain(lists).chain(maps)
}

/// The schemas that a schema applies to parts of the value it is applied to.
pub(crate) fn below(schema: &Map<String, Value>) -> impl Iterator<Item = (Step<'_>, &Value)> {
    let maps = BELOW_MAPS.into_iter().flat_map(|word| named(schema, word));
    let lists = BELOW_LISTS.into_iter().flat_map(|word| listed(schema, word));
    let one = BELOW.into_iter().filter_map(|word| Some((Step::One(word), schema.get(word)?)));
    maps.chain(lists).chain(one.filter(|(_, sub)| !sub.is_array()))
}

fn listed<'a>(
    schema: &'a Map<String, Value>,
    word: &'static str,
) -> impl Iterator<Item = (Step<'a>, &'a Value)> {
    let list = schema.get(word).and_then(Value::as_array).into_iter().flatten();
    list.enumerate().map(move |(n, sub)| (Step::Nth(word, n), sub))
}

fn named<'a>(
    schema: &'a Map<String, Value>,
    word: &'static str,
) -> impl Iterator<Item = (Step<'a>, &'a Value)> {
    let map = schema.get(word).and_then(Value::as_object).into_iter().flatten();
    map.map(move |(name, sub)| (Step::Named(word, name), sub))
}

/// What a schema says of its own places, wherever in it: looked for once, because it may have many references.
#[derive(Default)]
pub(crate) struct Marks {
    /// Where each anchor is, as a JSON pointer; `None` for a name that is there twice, which could mean either.
    anchors: HashMap<String, Option<String>>,
    /// Where something below the root says what references start from, if anything does.
    pub(crate) base: Option<String>,
}

/// The marks of a schema.
pub(crate) fn marks(schema: &Value) -> Marks {
    let mut marks = Marks::default();
    // The word before it was `$id`.
    let old = schema.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"));
    collect(schema, if old { "id" } else { "$id" }, &mut Vec::new(), &mut marks);
    marks
}

fn collect(value: &Value, id: &str, path: &mut Vec<String>, marks: &mut Marks) {
    for word in ["$anchor", "$dynamicAnchor"] {
        if let Some(name) = value.get(word).and_then(Value::as_str) {
            let known = marks.anchors.contains_key(name);
            marks.anchors.insert(name.to_owned(), (!known).then(|| path.concat()));
        }
    }
    if !path.is_empty() && marks.base.is_none() && value.get(id).is_some_and(Value::is_string) {
        marks.base = Some(path.concat());
    }
    let mut into = |step: String, inner: &Value| {
        path.push(step);
        collect(inner, id, path, marks);
        path.pop();
    };
    match value {
        Value::Object(map) => {
            for (name, inner) in map.iter().filter(|(_, inner)| inner.is_object() || inner.is_array()) {
                into(format!("/{}", name.replace('~', "~0").replace('/', "~1")), inner);
            }
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(n, inner)| into(format!("/{n}"), inner)),
        _ => {}
    }
}

/// The schema that a reference means: the whole, a place in it, or an anchor.
pub(crate) fn target<'a>(root: &'a Value, marks: &Marks, reference: &Value) -> Option<&'a Value> {
    let fragment = reference.as_str()?.strip_prefix('#')?;
    if fragment.is_empty() {
        return Some(root);
    }
    if fragment.starts_with('/') {
        return root.pointer(&decoded(fragment)?);
    }
    root.pointer(marks.anchors.get(fragment)?.as_deref()?)
}

/// `%25` as `%`. `None` for what is no such text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let pair = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reference_means_a_place_in_its_own_schema() {
        let root = json!({"$defs": {"a/b": {"const": 1}, "c d": {"const": 2}, "e": {"$anchor": "here"}},
            "const": [{"$anchor": "twice"}, {"$anchor": "twice"}]});
        for (reference, want) in [
            ("#", Some(&root)),
            ("#/$defs/a~1b", root.pointer("/$defs/a~1b")),
            ("#/$defs/c%20d", root.pointer("/$defs/c d")),
            ("#/%24defs/e", root.pointer("/$defs/e")),
            ("#here", root.pointer("/$defs/e")),
            ("#nowhere", None),
            ("#twice", None),
            ("#/$defs/x", None),
            ("#/%zz", None),
            ("http://localhost/x#", None),
            ("other.json", None),
        ] {
            assert_eq!(target(&root, &marks(&root), &json!(reference)), want, "{reference}");
        }
        assert_eq!(target(&root, &marks(&root), &json!(5)), None);
    }
}
