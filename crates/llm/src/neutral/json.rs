//! JSON that is carried and not read: schemas, and the arguments of tool calls.
//!
//! Invariant: its text leaves as it came. The order of a schema's properties is the order in which models fill them in.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON document as text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The document that `text` is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        RawValue::from_string(text.trim().to_owned()).ok().map(Self)
    }
    /// The text of a value.
    pub fn of(value: &Value) -> Self {
        serde_json::value::to_raw_value(value).map(Self).unwrap_or_default()
    }
    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
    /// The value. Numbers that no float holds exactly are rounded in it.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_default()
    }
    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.text().starts_with('{')
    }
}

/// The empty object.
impl Default for Json {
    fn default() -> Self {
        Self(RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
