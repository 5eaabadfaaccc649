//! One span, as OpenTelemetry means it.

use lantern_types::{At, SpanId, TraceId};

/// Where its work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Here.
    Internal,
    /// By somebody else, who was asked from here.
    Client,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// A name, an id or a code.
    Text(String),
    /// A number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Attribute {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Attribute {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<bool> for Attribute {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

/// Something that began and is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Its id.
    pub id: SpanId,
    /// The span that it belongs under.
    pub parent: Option<SpanId>,
    /// Another span that it follows.
    pub link: Option<(TraceId, SpanId)>,
    /// Its name: few of them, and nothing that anybody said.
    pub name: String,
    /// Where its work is done.
    pub kind: Kind,
    /// When it began.
    pub start: At,
    /// When it was over.
    pub end: At,
    /// What else is known of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed: a stable code.
    pub error: Option<String>,
}
