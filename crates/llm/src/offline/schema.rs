//! The smallest JSON that satisfies a schema, with its strings taken from a text.
//!
//! Handles what agents' schemas use: types, `required`, `enum`, `const`, bounds, local `$ref`, `anyOf`, `oneOf`,
//! `allOf`. What it does not know (`pattern`, `not`, `if`) it ignores; the caller checks the reply anyway.

use serde_json::{Map, Number, Value};

/// Deeper schemas are recursive or absurd.
const DEPTH_MAX: usize = 16;
const ITEMS_MAX: u64 = 100;

/// A value for `schema`.
pub(super) fn fill(schema: &Value, text: &str) -> Value {
    Filler { root: schema, text }.value(schema, DEPTH_MAX)
}

struct Filler<'a> {
    root: &'a Value,
    text: &'a str,
}

impl Filler<'_> {
    fn value(&self, schema: &Value, depth: usize) -> Value {
        let Some(depth) = depth.checked_sub(1) else { return Value::Null };
        if let Some(fixed) = schema.get("const") {
            return fixed.clone();
        }
        if let Some(first) = schema.get("enum").and_then(|choices| choices.get(0)) {
            return first.clone();
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return found.map_or(Value::Null, |schema| self.value(schema, depth));
        }
        if let Some(first) = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(word)?.get(0)) {
            return self.value(first, depth);
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.all(schema, parts, depth);
        }
        match kind(schema) {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(schema, depth),
            Some("string") => Value::String(self.string(schema)),
            Some("integer" | "number") => number(schema),
            Some("boolean") => Value::Bool(false),
            Some(_) => Value::Null,
            None => Value::String(self.text.to_owned()),
        }
    }

    /// Every part's object, merged; the last of them when they are not objects.
    fn all(&self, schema: &Value, parts: &[Value], depth: usize) -> Value {
        let own = kind(schema).map(|_| self.object(schema, depth));
        let filled = own.into_iter().chain(parts.iter().map(|part| self.value(part, depth)));
        filled.reduce(merged).unwrap_or_default()
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let required = schema.get("required").and_then(Value::as_array);
        let names = required.into_iter().flatten().filter_map(Value::as_str);
        let property = |name: &str| schema.get("properties").and_then(|all| all.get(name));
        let field = |name: &str| {
            let value = property(name).map_or_else(|| self.text.into(), |schema| self.value(schema, depth));
            (name.to_owned(), value)
        };
        Value::Object(names.map(field).collect::<Map<_, _>>())
    }

    fn array(&self, schema: &Value, depth: usize) -> Value {
        let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(ITEMS_MAX);
        let any = Value::Bool(true);
        let items = schema.get("items").unwrap_or(&any);
        Value::Array((0..count).map(|_| self.value(items, depth)).collect())
    }

    fn string(&self, schema: &Value) -> String {
        if let Some(fixed) = schema.get("format").and_then(Value::as_str).and_then(of_format) {
            return fixed.to_owned();
        }
        let bound = |word| schema.get(word).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let text: String = self.text.chars().take(bound("maxLength").unwrap_or(usize::MAX)).collect();
        let missing = bound("minLength").unwrap_or(0).saturating_sub(text.chars().count());
        text + &".".repeat(missing.min(1_000))
    }
}

fn merged(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Object(mut left), Value::Object(right)) => {
            left.extend(right);
            Value::Object(left)
        }
        (_, right) => right,
    }
}

/// The first type that is not `null`, or what the other keywords imply.
fn kind(schema: &Value) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => Some(one),
        Some(Value::Array(several)) => {
            let names = several.iter().filter_map(Value::as_str);
            names.clone().find(|name| *name != "null").or_else(|| names.clone().next())
        }
        _ if schema.get("properties").is_some() || schema.get("required").is_some() => Some("object"),
        _ if schema.get("items").is_some() => Some("array"),
        _ => None,
    }
}

/// Zero, or the bound that excludes it.
fn number(schema: &Value) -> Value {
    let bound = |word| schema.get(word).and_then(Value::as_f64);
    if let Some(low) = schema.get("minimum").filter(|_| bound("minimum").is_some_and(|low| low > 0.0)) {
        return low.clone();
    }
    if let Some(high) = schema.get("maximum").filter(|_| bound("maximum").is_some_and(|high| high < 0.0)) {
        return high.clone();
    }
    let whole = |word| schema.get(word).and_then(Value::as_i64);
    if let Some(low) = whole("exclusiveMinimum").filter(|low| *low >= 0) {
        return low.saturating_add(1).into();
    }
    if let Some(high) = whole("exclusiveMaximum").filter(|high| *high <= 0) {
        return high.saturating_sub(1).into();
    }
    Value::Number(Number::from(0))
}

/// A fixed value for the formats that free text cannot satisfy.
fn of_format(format: &str) -> Option<&'static str> {
    Some(match format {
        "date-time" => "1970-01-01T00:00:00Z",
        "date" => "1970-01-01",
        "time" => "00:00:00Z",
        "duration" => "PT0S",
        "email" => "nobody@example.com",
        "hostname" => "example.com",
        "uri" | "uri-reference" | "iri" => "https://example.com/",
        "uuid" => "00000000-0000-0000-0000-000000000000",
        "ipv4" => "192.0.2.0",
        "ipv6" => "2001:db8::",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_smallest_value_of_each_schema() {
        for (schema, want) in [
            (json!({"type": "string"}), json!("text")),
            (json!({"type": "string", "maxLength": 2}), json!("te")),
            (json!({"type": "string", "minLength": 6}), json!("text..")),
            (json!({"type": "string", "format": "date"}), json!("1970-01-01")),
            (json!({"type": "integer"}), json!(0)),
            (json!({"type": "integer", "minimum": 3}), json!(3)),
            (json!({"type": "number", "exclusiveMinimum": 0}), json!(1)),
            (json!({"type": "number", "maximum": -2}), json!(-2)),
            (json!({"type": "boolean"}), json!(false)),
            (json!({"type": ["null", "integer"]}), json!(0)),
            (json!({"type": "null"}), json!(null)),
            (json!({"enum": ["b", "a"]}), json!("b")),
            (json!({"const": 7}), json!(7)),
            (json!({"type": "array", "items": {"type": "integer"}}), json!([])),
            (json!({"items": {"type": "integer"}, "minItems": 2}), json!([0, 0])),
            (json!({"anyOf": [{"type": "boolean"}, {"type": "null"}]}), json!(false)),
            (json!({}), json!("text")),
            (json!(true), json!("text")),
            (json!({"$ref": "https://elsewhere"}), json!(null)),
        ] {
            assert_eq!(fill(&schema, "text"), want, "{schema}");
        }
    }

    #[test]
    fn objects_have_what_is_required_and_no_more() {
        let schema = json!({
            "type": "object",
            "required": ["title", "mood", "inner", "free"],
            "properties": {
                "title": {"type": "string"}, "mood": {"enum": ["good"]}, "extra": {"type": "string"},
                "inner": {"$ref": "#/$defs/inner"}
            },
            "$defs": {"inner": {"allOf": [{"required": ["a"], "properties": {"a": {"type": "integer"}}},
                                          {"required": ["b"], "properties": {"b": {"type": "boolean"}}}]}}
        });
        let want = json!({"title": "t", "mood": "good", "inner": {"a": 0, "b": false}, "free": "t"});
        assert_eq!(fill(&schema, "t"), want);
    }

    #[test]
    fn recursion_ends() {
        let schema = json!({"required": ["next"], "properties": {"next": {"$ref": "#"}}});
        assert!(fill(&schema, "t").to_string().ends_with("null}}}}}}}}"), "{}", fill(&schema, "t"));
    }
}
