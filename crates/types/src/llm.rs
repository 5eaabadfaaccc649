//! A model call and its reply, in the neutral form that every vendor conversion starts from and ends in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EffectKey, ToolDef, TraceParent};

/// Who said a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The agent's instructions.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said; empty when the message is tool calls only.
    #[serde(default)]
    pub content: String,
    /// The tool calls the assistant asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolUse>,
    /// For [`Role::Tool`]: which call this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Pictures that go with what a person says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
}

/// A picture for a model to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// `image/png` and its like.
    pub media_type: String,
    /// Its bytes in base64.
    pub data: String,
}

/// No vendor counts more tokens than this for one picture, whatever its size.
pub const IMAGE_TOKENS_MAX: usize = 65_536;

impl Message {
    /// A plain message.
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        let (tool_calls, images) = (Vec::new(), Vec::new());
        Self { role, content: content.into(), tool_calls, tool_call_id: None, images }
    }

    /// Bytes of its text, calls included.
    pub fn text_bytes(&self) -> usize {
        let call = |call: &ToolUse| {
            let proof = call.proof.as_ref().map_or(0, String::len);
            call.id.len() + call.name.len() + call.arguments.len() + proof + 32
        };
        self.content.len() + self.tool_calls.iter().map(call).sum::<usize>() + 32
    }
}

/// A tool call as the model wrote it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolUse {
    /// The model's id for this call.
    pub id: String,
    /// The tool's name on the wire (`source__action`).
    pub name: String,
    /// The arguments exactly as the model wrote them: JSON text, possibly malformed.
    pub arguments: String,
    /// The provider's opaque proof of the call, to be sent back with it. Some refuse a conversation without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

/// One request to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmCall {
    /// The provider's own name of the model.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The tools on offer.
    pub tools: Vec<ToolDef>,
    /// The most tokens the reply may have. Always set: it bounds the hold.
    pub max_tokens: u32,
    /// Sampling temperature as given by the agent (a JSON number).
    pub temperature: Option<serde_json::Number>,
    /// JSON Schema that the reply must satisfy, if the agent asked for structured output.
    pub output_schema: Option<Value>,
    /// The key to send outside.
    pub key: EffectKey,
    /// The span to send outside, where traces are made.
    pub trace: Option<TraceParent>,
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It was done.
    Stop,
    /// It asks for tools.
    ToolCalls,
    /// It reached `max_tokens`.
    Length,
    /// The provider withheld the reply.
    ContentFilter,
}

/// Why a provider did not list its models. Quotes nothing of what answers there, so that anybody may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// The code that a call would fail with.
    pub code: &'static str,
    /// What went wrong, where that says more than the code.
    pub cause: Option<Cause>,
}

/// Where asking a provider came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No address is known for its name.
    Name,
    /// Nothing listens at its address.
    Refused,
    /// No TLS, or a certificate that is not accepted.
    Tls,
    /// It took too long.
    Slow,
    /// The connection broke off.
    Broken,
    /// It answered with this status.
    Status(u16),
    /// It answered with something else than a list of models.
    Form,
}

impl Cause {
    /// One stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::Slow => "timeout",
            Self::Broken => "interrupted",
            Self::Status(_) => "status",
            Self::Form => "form",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name => "no address is known for its name",
            Self::Refused => "the connection was refused",
            Self::Tls => "its TLS or its certificate is not accepted",
            Self::Slow => "it did not answer in time",
            Self::Broken => "the connection broke off",
            Self::Status(status) => return write!(f, "it answered with the status {status}"),
            Self::Form => "its answer is no list of models",
        })
    }
}

/// Tokens used, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens, reasoning included.
    pub tokens_out: u64,
}

/// A model's reply, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LlmReply {
    /// The text.
    pub content: String,
    /// The tool calls it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolUse>,
    /// Why it stopped.
    pub finish: Finish,
    /// What it used. `None` when the provider did not say: the caller then charges the hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The model that answered, as the provider named it.
    pub model: String,
}
