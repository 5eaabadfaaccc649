//! The wires that conversations with models are spoken in.
//!
//! A family is a wire, not a vendor: many servers speak one that somebody else documented.

use serde::{Deserialize, Serialize};

/// A wire. Each has its own requests, replies, streams and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `POST …/chat/completions`: messages, choices, chunks that end in `[DONE]`.
    Chat,
    /// `POST …/responses`: items in, items out, numbered events.
    Responses,
    /// `POST …/messages`: content blocks, events with names, thinking with signatures.
    Messages,
    /// `POST …/models/{model}:generateContent`: contents made of parts, and candidates.
    Generate,
    /// `POST …/model/{model}/converse`: content blocks, binary event streams, signed requests.
    Converse,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 5] = [Self::Chat, Self::Responses, Self::Messages, Self::Generate, Self::Converse];

    /// Its stable name: `chat`, `responses`, `messages`, `generate` or `converse`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Generate => "generate",
            Self::Converse => "converse",
        }
    }

    /// The family of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }
}
