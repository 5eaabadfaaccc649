//! An agent as the text that is edited: read, compared, and turned into a change.
//!
//! Invariant: what a change says is what differs and nothing else; a field that was taken out is set to `null`, which the
//! API takes as its default. Pure.

use imara_diff::{Algorithm, BasicLineDiffPrinter, Diff, InternedInput, UnifiedDiffConfig};
use lantern_edge::json;
use serde_json::{Map, Value};

use crate::cli::failure::Failure;

/// What the server says of an agent that no request can change.
const FIXED: &[&str] = &[
    "id",
    "tenantId",
    "createdAt",
    "updatedAt",
    "createdBy",
    "archivedAt",
    "status",
    "currentVersionId",
    "version",
    "digest",
];

/// The fields of an agent that can be changed, and its name.
pub(super) fn of(agent: Map<String, Value>) -> Map<String, Value> {
    let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
    let said = |name: &String, value: &Value| !FIXED.contains(&name.as_str()) && !empty(value);
    agent.into_iter().filter(|(name, value)| said(name, value)).collect()
}

/// As it is edited.
pub(super) fn text(form: &Map<String, Value>) -> String {
    // A map of values is always JSON.
    let mut text = serde_json::to_string_pretty(form).unwrap_or_default();
    text.push('\n');
    text
}

/// Reads an edited text.
pub(super) fn read(text: &str, name: &str) -> Result<Map<String, Value>, Failure> {
    let hint = "mend it, or leave it as it was to change nothing";
    let form = match json::read(text) {
        Ok(Value::Object(form)) => form,
        Ok(_) => return Err(Failure::usage("the text must be one JSON object").hint(hint)),
        Err(fault) => {
            return Err(Failure::usage(format!("the text is not JSON that can be sent: {fault}")).hint(hint));
        }
    };
    if form.get("name").is_some_and(|said| said != name) {
        let hint = "leave the name, and create another agent with `lantern agents create --file FILE`";
        return Err(Failure::usage(format!("the name of the agent {name} cannot be changed")).hint(hint));
    }
    Ok(form)
}

/// What a request must say so that `from` becomes `to`.
pub(super) fn changes(from: &Map<String, Value>, to: &Map<String, Value>) -> Map<String, Value> {
    let set = to.iter().filter(|(name, value)| from.get(*name) != Some(*value));
    let set = set.map(|(name, value)| (name.clone(), value.clone()));
    let gone = from.keys().filter(|name| !to.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    set.chain(gone).filter(|(name, _)| name != "name").collect()
}

/// The lines that differ, as `diff -u` shows them.
pub(super) fn difference(from: &Map<String, Value>, to: &Map<String, Value>) -> String {
    let (from, to) = (text(from), text(to));
    let input = InternedInput::new(from.as_str(), to.as_str());
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    diff.unified_diff(&BasicLineDiffPrinter(&input.interner), UnifiedDiffConfig::default(), &input)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_form_is_what_can_be_changed() {
        let agent = json!({ "id": "i", "tenantId": "t", "name": "a", "model": "auto", "version": 3, "labels": {},
            "description": null, "tools": [], "digest": "d" });
        assert_eq!(Value::Object(of(map(agent))), json!({ "name": "a", "model": "auto", "tools": [] }));
    }

    #[test]
    fn a_change_says_what_differs() {
        let from = map(json!({ "name": "a", "model": "auto", "maxTurns": 3, "labels": { "x": "1" } }));
        for (to, want) in [
            (json!({ "name": "a", "model": "auto", "maxTurns": 3, "labels": { "x": "1" } }), json!({})),
            (
                json!({ "model": "fast", "maxTurns": 3, "labels": { "x": "1" }, "tools": ["calc"] }),
                json!({ "model": "fast", "tools": ["calc"] }),
            ),
            (json!({ "name": "a", "model": "auto" }), json!({ "maxTurns": null, "labels": null })),
        ] {
            assert_eq!(Value::Object(changes(&from, &map(to.clone()))), want, "{to}");
        }
    }

    #[test]
    fn what_is_no_agent_is_refused() {
        for (text, message) in [
            ("{", "the text is not JSON that can be sent"),
            ("{\"maxTurns\": 1, \"maxTurns\": 2}", "the text is not JSON that can be sent"),
            ("[]", "must be one JSON object"),
            ("{\"name\": \"b\"}", "the name of the agent a cannot be changed"),
        ] {
            let failure = read(text, "a").unwrap_err();
            assert!(failure.exit == Exit::Usage && failure.message.contains(message), "{failure:?}");
        }
        assert_eq!(read("{\"model\": \"auto\"}", "a").unwrap().len(), 1);
    }

    #[test]
    fn a_difference_is_shown_line_by_line() {
        let (from, to) = (map(json!({ "a": 1, "b": 2 })), map(json!({ "a": 1, "b": 3 })));
        assert_eq!(
            difference(&from, &to),
            "@@ -1,4 +1,4 @@\n {\n   \"a\": 1,\n-  \"b\": 2\n+  \"b\": 3\n }\n"
        );
    }
}
