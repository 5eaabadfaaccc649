//! A document with the line of every value: what YAML and JSON are read into, so that a problem can say where it is.

use serde_json::{Map, Value};

/// A value and the line it begins on; 0 where it came without lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Counted from 1.
    pub line: usize,
    /// The value.
    pub what: What,
}

/// What a value is. Numbers keep their text, so that money is never a float.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As it was written.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Names and values in the order they were written, each with its own line. No name comes twice.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A JSON value, which has no lines.
    pub fn of_json(value: &Value) -> Self {
        let what = match value {
            Value::Null => What::Null,
            Value::Bool(value) => What::Bool(*value),
            Value::Number(number) => What::Number(number.to_string()),
            Value::String(text) => What::Text(text.clone()),
            Value::Array(list) => What::List(list.iter().map(Self::of_json).collect()),
            Value::Object(map) => {
                What::Map(map.iter().map(|(name, value)| (name.clone(), Self::of_json(value))).collect())
            }
        };
        Self { line: 0, what }
    }

    /// The same as JSON: what is sent to a server.
    pub fn to_json(&self) -> Value {
        match &self.what {
            What::Null => Value::Null,
            What::Bool(value) => Value::Bool(*value),
            What::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            What::Text(text) => Value::String(text.clone()),
            What::List(list) => Value::Array(list.iter().map(Self::to_json).collect()),
            What::Map(map) => {
                let pairs = map.iter().map(|(name, node)| (name.clone(), node.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self.what {
            What::Null => "nothing",
            What::Bool(_) => "true or false",
            What::Number(_) => "a number",
            What::Text(_) => "text",
            What::List(_) => "a list",
            What::Map(_) => "a mapping",
        }
    }
}
