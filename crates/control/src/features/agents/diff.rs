//! What differs between two versions: field by field, and as text.
//!
//! Invariant: the changes, made one after another, lead from the first to the second. Both are compared as a request would
//! say them, so that a path is one that people write. Pure.

use imara_diff::{Algorithm, BasicLineDiffPrinter, Diff, InternedInput, UnifiedDiffConfig};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::show::ListedVersion;

/// How two versions differ.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentVersionDiff)]
pub(super) struct Differences {
    pub(super) from: ListedVersion,
    pub(super) to: ListedVersion,
    /// Field by field. Made in this order, they lead from one to the other.
    pub(super) changes: Vec<Change>,
    /// Line by line, in the form of `diff -u`. Empty when nothing differs.
    pub(super) text: String,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = AgentVersionChange)]
pub(super) struct Change {
    /// Where, as a JSON Pointer.
    path: String,
    op: Op,
    /// What was there, unless something is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Value>,
    /// What is there, unless something is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AgentVersionChangeOp)]
enum Op {
    Add,
    Remove,
    Replace,
}

/// The changes that lead from one value to another.
pub(super) fn changes(from: &Value, to: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    between(&mut String::new(), from, to, &mut found);
    found
}

/// Both values as indented text, and the lines that differ with three around them.
pub(super) fn text(from: &Value, to: &Value) -> String {
    let (from, to) = (pretty(from), pretty(to));
    let input = InternedInput::new(from.as_str(), to.as_str());
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    diff.unified_diff(&BasicLineDiffPrinter(&input.interner), UnifiedDiffConfig::default(), &input)
        .to_string()
}

fn pretty(value: &Value) -> String {
    // A value has no keys but texts, and is always JSON.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

fn between(path: &mut String, from: &Value, to: &Value, found: &mut Vec<Change>) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => between_objects(path, from, to, found),
        (Value::Array(from), Value::Array(to)) => between_lists(path, from, to, found),
        _ if from == to => {}
        _ => found.push(change(path, Some(from), Some(to))),
    }
}

fn between_objects(
    path: &mut String,
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    found: &mut Vec<Change>,
) {
    for (name, old) in from {
        within(path, name, |path| match to.get(name) {
            Some(new) => between(path, old, new, found),
            None => found.push(change(path, Some(old), None)),
        });
    }
    for (name, new) in to.iter().filter(|(name, _)| !from.contains_key(*name)) {
        within(path, name, |path| found.push(change(path, None, Some(new))));
    }
}

/// Place by place. What is too much is removed from the end, so that no place moves under a later change.
fn between_lists(path: &mut String, from: &[Value], to: &[Value], found: &mut Vec<Change>) {
    for (place, (old, new)) in from.iter().zip(to).enumerate() {
        within(path, &place.to_string(), |path| between(path, old, new, found));
    }
    for (place, old) in from.iter().enumerate().skip(to.len()).rev() {
        within(path, &place.to_string(), |path| found.push(change(path, Some(old), None)));
    }
    for (place, new) in to.iter().enumerate().skip(from.len()) {
        within(path, &place.to_string(), |path| found.push(change(path, None, Some(new))));
    }
}

fn within(path: &mut String, name: &str, look: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    for c in name.chars() {
        match c {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            c => path.push(c),
        }
    }
    look(path);
    path.truncate(length);
}

fn change(path: &str, from: Option<&Value>, to: Option<&Value>) -> Change {
    let op = match (from, to) {
        (None, _) => Op::Add,
        (_, None) => Op::Remove,
        _ => Op::Replace,
    };
    Change { path: path.to_owned(), op, from: from.cloned(), to: to.cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn shown(from: Value, to: Value) -> Value {
        json!(changes(&from, &to))
    }

    #[test]
    fn each_difference_has_its_path() {
        for (from, to, want) in [
            (json!({}), json!({}), json!([])),
            (json!({"a": 1}), json!({"a": 1}), json!([])),
            (json!({"a": 1}), json!({"a": 2}), json!([{"path": "/a", "op": "replace", "from": 1, "to": 2}])),
            (json!({}), json!({"a": {"b": 1}}), json!([{"path": "/a", "op": "add", "to": {"b": 1}}])),
            (json!({"a": null}), json!({}), json!([{"path": "/a", "op": "remove", "from": null}])),
            (
                json!({"steps": [{"id": "x"}, {"id": "y"}, 3]}),
                json!({"steps": [{"id": "z"}]}),
                json!([
                    {"path": "/steps/0/id", "op": "replace", "from": "x", "to": "z"},
                    {"path": "/steps/2", "op": "remove", "from": 3},
                    {"path": "/steps/1", "op": "remove", "from": {"id": "y"}},
                ]),
            ),
            (
                json!({"a/b": {"~": [1]}}),
                json!({"a/b": {"~": [1, "x"]}}),
                json!([{"path": "/a~1b/~0/1", "op": "add", "to": "x"}]),
            ),
            (
                json!({"a": [1]}),
                json!({"a": {}}),
                json!([{"path": "/a", "op": "replace", "from": [1], "to": {}}]),
            ),
        ] {
            assert_eq!(shown(from, to), want);
        }
    }

    #[test]
    fn the_text_shows_the_lines_that_differ() {
        let (from, to) = (json!({"a": 1, "b": 2, "model": "auto"}), json!({"a": 1, "b": 2, "model": "gpt"}));
        let want = "@@ -1,5 +1,5 @@\n {\n   \"a\": 1,\n   \"b\": 2,\n-  \"model\": \"auto\"\n+  \"model\": \"gpt\"\n }\n";
        assert_eq!(text(&from, &to), want);
        assert_eq!(text(&from, &from), "");
    }

    /// Makes one change, as a program would that was given the list.
    fn make(value: &mut Value, change: &Change) {
        let unescaped = |part: &str| part.replace("~1", "/").replace("~0", "~");
        let Some((holder, last)) = change.path.rsplit_once('/') else {
            *value = change.to.clone().unwrap();
            return;
        };
        let last = unescaped(last);
        match (value.pointer_mut(holder).unwrap(), &change.to) {
            (Value::Object(map), Some(to)) => drop(map.insert(last, to.clone())),
            (Value::Object(map), None) => assert_eq!(map.remove(&last), change.from),
            (Value::Array(list), to) => {
                let place: usize = last.parse().unwrap();
                match (change.op, to) {
                    (Op::Add, Some(to)) => list.insert(place, to.clone()),
                    (Op::Replace, Some(to)) => list[place] = to.clone(),
                    _ => assert_eq!(Some(list.remove(place)), change.from),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0_u8..4).prop_map(Value::from),
            "[a/~]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[ab/~]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_changes_lead_from_one_to_the_other(from in value(), to in value()) {
            let mut value = from.clone();
            for change in changes(&from, &to) {
                prop_assert_eq!(&change.from, &value.pointer(&change.path).cloned());
                make(&mut value, &change);
            }
            prop_assert_eq!(&value, &to);
            prop_assert_eq!(text(&from, &to).is_empty(), from == to);
        }
    }
}
