//! What a tool is: its name, its declared effect, and the key under which one call of it is sent outside.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::{Digest, MicroUsd, RunId, TraceParent};

/// What happens outside when a step is performed, and so what may be done after a crash past the send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Computes only. Repeated freely.
    Pure,
    /// Doing it twice is doing it once. Repeated under the same key.
    Idempotent,
    /// The other side absorbs a repeat of the same key. Repeated under the same key.
    Keyed,
    /// The other side can be asked whether it happened. Never repeated before asking.
    Reconcilable,
    /// Cannot be taken back or asked about. Never repeated: shown as in doubt until a person says.
    Irreversible,
}

impl EffectClass {
    /// Whether an attempt of unknown outcome may be sent again under its key.
    pub const fn repeats(self) -> bool {
        matches!(self, Self::Pure | Self::Idempotent | Self::Keyed)
    }
}

/// A tool's name: `source.action` inside Lantern, `source__action` on a model's wire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolName(String);

/// The text is not a tool name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a tool name: {0:?} (want `source.action`: lower-case letters, digits, `_` and `-`, at most 63 characters)"
)]
pub struct InvalidToolName(pub String);

impl ToolName {
    /// Reads `source.action`, a bare `action`, or the wire form `source__action`.
    pub fn parse(text: &str) -> Result<Self, InvalidToolName> {
        let name = text.replace("__", ".");
        let part = |p: &str| {
            !p.is_empty()
                && !p.starts_with('_')
                && !p.ends_with('_')
                && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
        };
        if name.len() <= 63 && name.split('.').count() <= 3 && name.split('.').all(part) {
            Ok(Self(name))
        } else {
            Err(InvalidToolName(text.chars().take(80).collect()))
        }
    }
    /// `source.action`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The form that models' function-calling wires accept: `source__action`.
    pub fn wire(&self) -> String {
        self.0.replace('.', "__")
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ToolName {
    type Err = InvalidToolName;
    fn from_str(text: &str) -> Result<Self, InvalidToolName> {
        Self::parse(text)
    }
}

impl Serialize for ToolName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ToolName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A tool as an agent's turn sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDef {
    /// Its name.
    pub name: ToolName,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema (2020-12) of its arguments.
    pub input_schema: Value,
    /// What it does outside.
    pub effect: EffectClass,
}

impl ToolDef {
    /// Names this definition in the journal: any change to it is another digest.
    pub fn digest(&self) -> Digest {
        let schema = self.input_schema.to_string();
        let effect = format!("{:?}", self.effect);
        Digest::of_parts(&[
            self.name.as_str().as_bytes(),
            self.description.as_bytes(),
            schema.as_bytes(),
            effect.as_bytes(),
        ])
    }
}

/// Names a set of tools in the journal, whatever their order.
pub fn set_digest(tools: &[ToolDef]) -> Digest {
    let mut digests: Vec<Digest> = tools.iter().map(ToolDef::digest).collect();
    digests.sort_unstable();
    let parts: Vec<&[u8]> = digests.iter().map(|d| d.bytes().as_slice()).collect();
    Digest::of_parts(&parts)
}

/// One call of a tool, as it is performed.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// Which tool.
    pub name: ToolName,
    /// Its arguments, already checked against the tool's schema.
    pub arguments: Arc<Value>,
    /// The agent's configuration of this tool, if any.
    pub config: Option<Value>,
    /// The key to send outside.
    pub key: EffectKey,
    /// The span to send outside, where traces are made.
    pub trace: Option<TraceParent>,
    /// By whom policies are asked where else it may go, when it was admitted by policies.
    pub asker: Option<Asker>,
}

/// Whose call of a tool it is, as policies are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The agent's name.
    pub agent: String,
    /// What its run spent before the call.
    pub spent: MicroUsd,
}

/// What the other side of a call knows of it, when it is asked later.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// It happened, and gave this.
    Happened(Value),
    /// It did not happen, and will not: nothing under its key is still on its way.
    DidNotHappen,
}

/// The stable name of one effect: the same after any crash, another for each send that is known not to have acted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EffectKey {
    /// The run.
    pub run: RunId,
    /// The step within the run.
    pub step: String,
    /// Grows only when the earlier send is known not to have acted.
    pub generation: u32,
}

impl EffectKey {
    /// The `Idempotency-Key` header: lower-case hex SHA-256 of `run|step|generation`.
    pub fn header(&self) -> String {
        Digest::of(self.to_string().as_bytes()).to_string()
    }
}

impl fmt::Display for EffectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}|{}", self.run, self.step, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_to_the_wire_and_back() {
        for (text, wire) in [
            ("http.fetch", "http__fetch"),
            ("calc", "calc"),
            ("git_hub.create-issue", "git_hub__create-issue"),
        ] {
            let name = ToolName::parse(text).unwrap();
            assert_eq!(name.wire(), wire);
            assert_eq!(ToolName::parse(&name.wire()).unwrap(), name);
        }
        for bad in ["", ".", "a.", "A.b", "a b", "a..b", "a_.b", "x/../y", &"a".repeat(64), "naïve.tool"] {
            assert!(ToolName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tool_set_is_named_by_content_not_order() {
        let tool = |name: &str| ToolDef {
            name: ToolName::parse(name).unwrap(),
            description: String::new(),
            input_schema: serde_json::json!({"type": "object"}),
            effect: EffectClass::Pure,
        };
        assert_eq!(set_digest(&[tool("a"), tool("b")]), set_digest(&[tool("b"), tool("a")]));
        assert_ne!(set_digest(&[tool("a")]), set_digest(&[tool("a"), tool("a")]));
    }
}
