//! JSON Schema checks of arguments and replies, worded for a model or a person.

use lantern_schema::Checker;
use serde_json::Value;

/// Problems that are reported; a model needs the first few.
const REPORTED_MAX: usize = 5;

/// How `value` breaks `schema`; empty when it does not. A check that cannot be made is itself a problem: what was not
/// checked does not pass.
pub(crate) async fn violations(checker: &Checker, schema: &Value, value: &Value) -> Vec<String> {
    match checker.violations(schema, value, REPORTED_MAX).await {
        Ok(found) => found.into_iter().map(worded).collect(),
        Err(lantern_schema::Busy) => vec!["too many schemas are being checked at once".to_owned()],
    }
}

/// The same for the engine's rules, which remember nothing and wait for nothing.
pub(crate) fn broken(schema: &Value, value: &Value) -> Vec<String> {
    lantern_schema::violations(schema, value, REPORTED_MAX).into_iter().map(worded).collect()
}

/// What is wrong with a schema that would make every reply wrong.
pub(crate) async fn problem(checker: &Checker, schema: &Value) -> Option<String> {
    checker.problem(schema).await.ok().flatten().map(|problem| problem.message)
}

fn worded(violation: lantern_schema::Violation) -> String {
    let lantern_schema::Violation { pointer, message } = violation;
    if pointer.is_empty() { message } else { format!("{pointer}: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn problems_are_named_with_their_place() {
        let checker = Checker::default();
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let found = async |schema: &Value, value: Value| violations(&checker, schema, &value).await;
        assert!(found(&schema, json!({"n": 1})).await.is_empty());
        assert!(found(&schema, json!({"n": "x"})).await.first().is_some_and(|text| text.starts_with("/n: ")));
        assert_eq!(found(&schema, json!({})).await.len(), 1);
        assert_eq!(found(&json!({"type": 5}), json!({})).await.len(), 1);
    }

    /// What an engine that goes back over a text would be at for longer than anybody lives.
    #[tokio::test]
    async fn a_pattern_costs_what_its_text_is_long_or_is_refused() {
        let checker = Checker::default();
        let long = json!(vec![format!("{}b", "a".repeat(60)); 300]);
        for (pattern, want) in [
            ("^(a+)+$", "does not match"),
            ("^(a|aa)+$", "does not match"),
            ("^(?=(a+)+$)", "the schema itself is refused"),
            ("^(a+)+\\1$", "the schema itself is refused"),
        ] {
            let schema = json!({"items": {"pattern": pattern}});
            for broken in [violations(&checker, &schema, &long).await, broken(&schema, &long)] {
                assert!(broken.first().is_some_and(|text| text.contains(want)), "{pattern}: {broken:?}");
            }
            assert_eq!(problem(&checker, &schema).await.is_some(), want.contains("refused"), "{pattern}");
        }
        let huge = json!(vec!["a".repeat(60); 70_000]);
        let schema = json!({"items": {"pattern": "^(a+)+$"}});
        assert!(violations(&checker, &schema, &huge).await[0].contains("would take too long"));
    }
}
