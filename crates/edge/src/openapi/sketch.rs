//! What a body may hold, told by the reader that parses it: it reads once from nothing, and every field that it asks for
//! is noted.
//!
//! Invariant: a field that is read is noted. One that is read as a plain value is noted as any value, unless its reader
//! says more with [`Fields::describe`].

use serde_json::{Map, Value, json};

use crate::body::Model;
use crate::fields::Fields;

/// The fields that a reader asked for.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Sketch {
    /// Notes a field; what is known of it already stays.
    pub(crate) fn note(&mut self, name: &str, schema: Value) {
        self.properties.entry(name).or_insert(schema);
    }

    /// Notes a field that must be there.
    pub(crate) fn require(&mut self, name: &str) {
        if !self.required.iter().any(|known| known == name) {
            self.required.push(name.to_owned());
        }
    }

    /// As JSON Schema. Unknown fields are ignored, so nothing forbids them.
    pub(crate) fn schema(self) -> Value {
        if self.required.is_empty() {
            return json!({ "type": "object", "properties": self.properties });
        }
        json!({ "type": "object", "properties": self.properties, "required": self.required })
    }
}

/// The JSON Schema of a model's body, and whether a body is needed at all. `None` when it reads nothing.
pub(crate) fn of<T: Model>() -> Option<(Value, bool)> {
    let nothing = Map::new();
    let mut fields = Fields::sketch(&nothing);
    let _ = T::read(&mut fields);
    let sketch = fields.sketched();
    let needed = !sketch.required.is_empty();
    (!sketch.properties.is_empty()).then(|| (sketch.schema(), needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Order {
        #[expect(dead_code, reason = "only its reader matters")]
        item: String,
    }

    impl Model for Order {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            fields.describe("shape", || json!({ "enum": ["round", "square"] }));
            let _ = fields.value("shape");
            let item = fields.required_text("item", 20)?;
            fields.integer("count", 1..=9);
            fields.boolean("gift");
            fields.dollars("maxCostUsd");
            fields.texts("notes", 3, 10);
            fields.labels("labels");
            fields.value("extra");
            Some(Self { item })
        }
    }

    #[test]
    fn a_reader_tells_what_it_reads() {
        let (schema, needed) = of::<Order>().unwrap();
        assert!(needed);
        assert_eq!(schema["required"], json!(["item"]));
        let properties = schema["properties"].as_object().unwrap();
        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(names, ["count", "extra", "gift", "item", "labels", "maxCostUsd", "notes", "shape"]);
        assert_eq!(properties["shape"], json!({ "enum": ["round", "square"] }));
        assert_eq!(properties["extra"], json!({}));
        assert_eq!(properties["count"]["maximum"], 9);
        assert_eq!(properties["item"]["maxLength"], 20);
        assert!(of::<()>().is_none());
    }
}
