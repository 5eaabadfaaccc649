//! How large a schema is once its references are followed, and whether that is within reason. Pure.
//!
//! Invariant: a schema that passes is compiled in a few milliseconds, whoever wrote it. A schema may refer to itself,
//! for trees, as long as each turn goes one level down into the value.

use serde_json::{Map, Value};

use crate::refs::{self, Marks, Step};

/// A schema as it is written, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Schemas in a schema, each counted as often as something leads to it.
pub const SUBSCHEMAS_MAX: u64 = 10_000;
/// How deep schemas lie in each other, references followed.
pub const SUBSCHEMA_DEPTH_MAX: usize = 64;
/// What a pattern counts for: compiled, it is as large as that many schemas.
const PATTERN_WEIGHT: u64 = 100;

/// What is wrong with a schema, and where in it: a JSON pointer, empty for the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `/properties/n`
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

/// How large a schema is, in schemas; or why it is refused.
pub(crate) fn weight(schema: &Value, marks: &Marks) -> Result<u64, Problem> {
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        let message = format!("the schema has {bytes} bytes; the limit is {SCHEMA_BYTES_MAX}");
        return Err(Problem { pointer: String::new(), message });
    }
    if let Some(pointer) = &marks.base {
        let message = "a schema in a schema has no id of its own".to_owned();
        return Err(Problem { pointer: pointer.clone(), message });
    }
    let mut walk = Walk { root: schema, marks, left: SUBSCHEMAS_MAX, above: Vec::new(), path: Vec::new() };
    walk.visit(schema, 0)?;
    Ok(SUBSCHEMAS_MAX - walk.left)
}

struct Walk<'a> {
    root: &'a Value,
    marks: &'a Marks,
    left: u64,
    /// The schemas that this one lies in, each with how many levels down into the value it is applied.
    above: Vec<(&'a Value, usize)>,
    /// The way here. It becomes text only when there is something to say.
    path: Vec<Step<'a>>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, schema: &'a Value, level: usize) -> Result<(), Problem> {
        let Some(map) = schema.as_object() else { return self.pay(1) };
        self.pay(1 + PATTERN_WEIGHT.saturating_mul(patterns(map)))?;
        if self.above.len() >= SUBSCHEMA_DEPTH_MAX {
            return self.refused(&format!("schemas lie in each other deeper than {SUBSCHEMA_DEPTH_MAX}"));
        }
        self.above.push((schema, level));
        for (word, reference) in refs::references(map) {
            self.enter(Step::One(word), |walk| walk.follow(reference, level))?;
        }
        for (step, inner) in refs::here(map) {
            self.enter(step, |walk| walk.visit(inner, level))?;
        }
        for (step, inner) in refs::below(map) {
            self.enter(step, |walk| walk.visit(inner, level + 1))?;
        }
        self.above.pop();
        Ok(())
    }

    fn enter(
        &mut self,
        step: Step<'a>,
        then: impl FnOnce(&mut Self) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        // Long names are looked at as often as something leads past them.
        self.pay(step.bytes() as u64 / 100)?;
        self.path.push(step);
        then(self)?;
        self.path.pop();
        Ok(())
    }

    fn follow(&mut self, reference: &'a Value, level: usize) -> Result<(), Problem> {
        // To find a place takes as long as its name is.
        self.pay(reference.as_str().map_or(0, |text| text.len() as u64 / 100))?;
        let Some(target) = refs::target(self.root, self.marks, reference) else {
            return self.refused("expected a reference to a place in this schema, such as \"#/$defs/item\"");
        };
        match self.above.iter().find(|(above, _)| std::ptr::eq(*above, target)) {
            // One more turn of a tree: how many there are is the value's to say.
            Some((_, above)) if *above < level => self.pay(1),
            Some(_) => self.refused("the schema refers to itself without an end"),
            None => self.visit(target, level),
        }
    }

    fn refused(&self, message: &str) -> Result<(), Problem> {
        let pointer = self.path.iter().map(ToString::to_string).collect();
        Err(Problem { pointer, message: message.to_owned() })
    }

    fn pay(&mut self, schemas: u64) -> Result<(), Problem> {
        self.left = self.left.checked_sub(schemas).ok_or_else(|| Problem {
            pointer: String::new(),
            message: format!(
                "comes to more than {SUBSCHEMAS_MAX} schemas when its references are followed \
                 (a pattern counts as {PATTERN_WEIGHT})"
            ),
        })?;
        Ok(())
    }
}

fn patterns(schema: &Map<String, Value>) -> u64 {
    let named = schema.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
    u64::from(schema.contains_key("pattern")).saturating_add(u64::try_from(named).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `levels` schemas, each of which is one of three ways to the next.
    pub(crate) fn thicket(levels: usize) -> Value {
        let mut defs = Map::new();
        for level in 0..levels {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            defs.insert(format!("d{level}"), json!({"anyOf": [next, next, next]}));
        }
        defs.insert(format!("d{levels}"), json!({"type": "string"}));
        json!({"$defs": defs, "$ref": "#/$defs/d0"})
    }

    #[test]
    fn schemas_of_reasonable_size_pass() {
        let tree = json!({"type": "object", "properties": {"of": {"type": "array", "items": {"$ref": "#"}}}});
        let shared = json!({
            "$defs": {"name": {"type": "string", "pattern": "^[a-z]+$"}}, "type": "object",
            "properties": {"a": {"$ref": "#/$defs/name"}, "b": {"$ref": "#/$defs/name"}},
        });
        for (schema, want) in [
            (json!({}), 1),
            (json!(true), 1),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), 3),
            (tree, 4),
            (shared, 205),
            (thicket(3), 80),
            // Not a reference: the name of a property.
            (json!({"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}}), 3),
        ] {
            assert_eq!(weight(&schema, &refs::marks(&schema)), Ok(want), "{schema}");
        }
    }

    #[test]
    fn schemas_that_explode_or_never_end_are_refused_with_their_place() {
        let deep = (0..70).fold(json!({}), |inner, _| json!({"not": inner}));
        for (schema, pointer, words) in [
            (thicket(13), "", "more than 10000 schemas"),
            (json!({"$ref": "#"}), "/$ref", "without an end"),
            (
                json!({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}),
                "/properties/a/$ref/anyOf/0/$ref",
                "without an end",
            ),
            (json!({"$ref": "#/$defs/nowhere"}), "/$ref", "a place in this schema"),
            (json!({"items": {"$ref": "http://127.0.0.1/x"}}), "/items/$ref", "a place in this schema"),
            (json!({"items": {"$id": "http://localhost/x"}}), "/items", "no id"),
            (json!({"const": {"x": {"$id": "y"}}}), "/const/x", "no id"),
            (
                json!({"anyOf": [{"$ref": "#a"}, {"$ref": "#b"}], "$defs": {"x": {"$anchor": "a"}}}),
                "/anyOf/1/$ref",
                "a place",
            ),
            (json!({"description": "x".repeat(300 << 10)}), "", "bytes"),
        ] {
            let problem = weight(&schema, &refs::marks(&schema)).unwrap_err();
            assert_eq!(problem.pointer, pointer, "{}", problem.message);
            assert!(problem.message.contains(words), "{}", problem.message);
        }
        assert!(weight(&deep, &refs::marks(&deep)).unwrap_err().message.contains("deeper than 64"));
    }
}
