//! JSON Schema checks of arguments and replies. References to files and URLs are not followed.

use serde_json::Value;

use crate::memo::Memo;

/// Problems that are reported; a model needs the first few.
const REPORTED_MAX: usize = 5;

/// How `value` breaks `schema`, worded for a model or a person; empty when it does not. A schema that cannot be
/// compiled is itself the problem.
pub(crate) fn violations(memo: &Memo, schema: &Value, value: &Value) -> Vec<String> {
    match memo.schema(schema).as_ref() {
        Ok(validator) => {
            validator.iter_errors(value).take(REPORTED_MAX).map(|error| worded(&error)).collect()
        }
        Err(error) => vec![format!("the schema itself is invalid: {error}")],
    }
}

/// The same for the engine's rules, which remember nothing.
pub(crate) fn broken(schema: &Value, value: &Value) -> Vec<String> {
    violations(&Memo::default(), schema, value)
}

fn worded(error: &jsonschema::ValidationError<'_>) -> String {
    let path = error.instance_path().to_string();
    let message: String = error.to_string().chars().take(300).collect();
    if path.is_empty() { message } else { format!("{path}: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn problems_are_named_with_their_place() {
        let memo = Memo::default();
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        assert!(violations(&memo, &schema, &json!({"n": 1})).is_empty());
        assert!(
            violations(&memo, &schema, &json!({"n": "x"}))
                .first()
                .is_some_and(|text| text.starts_with("/n: "))
        );
        assert_eq!(violations(&memo, &schema, &json!({})).len(), 1);
        assert_eq!(violations(&memo, &json!({"type": 5}), &json!({})).len(), 1);
    }
}
