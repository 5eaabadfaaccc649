//! JSON Schema, as agents declare it for their input: whether a schema is one, and how an input breaks it.
//!
//! Invariant: nothing is fetched. A reference to a file or a URL is a problem of the schema. Patterns run on an engine
//! of linear time, because tenants write them.

use jsonschema::{PatternOptions, Validator};
use lantern_edge::FieldError;
use serde_json::Value;

/// Problems that are reported; the rest would only repeat them.
const REPORTED_MAX: usize = 20;
const WORDS_MAX: usize = 300;

/// What is wrong with a schema, if anything.
pub(crate) fn problem(schema: &Value) -> Option<String> {
    compile(schema).err()
}

/// How `value` breaks `schema`, each problem with its path below `root`.
pub(crate) fn violations(root: &str, schema: &Value, value: &Value) -> Vec<FieldError> {
    let validator = match compile(schema) {
        Ok(validator) => validator,
        Err(message) => return vec![FieldError { path: root.to_owned(), message }],
    };
    let field = |error: jsonschema::ValidationError<'_>| FieldError {
        path: format!("{root}{}", dotted(&error.instance_path().to_string())),
        message: bounded(&error.to_string()),
    };
    validator.iter_errors(value).take(REPORTED_MAX).map(field).collect()
}

fn compile(schema: &Value) -> Result<Validator, String> {
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    options.build(schema).map_err(|error| format!("not a JSON Schema: {}", bounded(&error.to_string())))
}

/// `/tools/1/effect` as `.tools[1].effect`.
fn dotted(pointer: &str) -> String {
    let part = |segment: &str| match segment.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{}", segment.replace("~1", "/").replace("~0", "~")),
    };
    pointer.split('/').skip(1).map(part).collect()
}

fn bounded(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_input_is_checked_with_its_path() {
        let schema = json!({
            "type": "object", "required": ["n"],
            "properties": {"n": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
        });
        assert!(violations("input", &schema, &json!({"n": 1, "tags": ["a"]})).is_empty());
        let found = violations("input", &schema, &json!({"n": "x", "tags": ["a", 2]}));
        let paths: Vec<&str> = found.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(paths, ["input.n", "input.tags[1]"]);
        assert_eq!(violations("input", &schema, &json!({}))[0].path, "input");
    }

    #[test]
    fn a_schema_that_is_none_or_reaches_out_is_refused() {
        assert_eq!(problem(&json!({"type": "object"})), None);
        assert_eq!(problem(&json!({"$ref": "#/$defs/a", "$defs": {"a": true}})), None);
        for bad in [
            json!({"type": 5}),
            json!({"$ref": "http://127.0.0.1:1/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"pattern": "(a+)+\\1"}),
        ] {
            assert!(problem(&bad).is_some(), "{bad}");
        }
    }
}
