//! What a model answered: whole, or as it comes.

use super::{Call, Content, Extra, Json, Part, Signature};
use crate::Family;

/// A reply, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The provider's id for it.
    pub id: Option<String>,
    /// The model that answered, as the provider named it.
    pub model: String,
    /// What it said, thought and asked for, in its order.
    pub parts: Vec<Part>,
    /// Why it stopped.
    pub finish: Finish,
    /// The text at which it stopped, if it was one of [`Request::stop`](super::Request::stop) and the provider says which.
    pub stop: Option<String>,
    /// What it used. `None` when the provider did not say.
    pub usage: Option<Usage>,
    /// The family it was read from.
    pub from: Option<Family>,
    /// What else that family said.
    pub extra: Extra,
}

impl Reply {
    /// All its words.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match &part.content {
            Content::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
    /// The tool calls in it.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.parts.iter().filter_map(|part| match &part.content {
            Content::Call(call) => Some(call),
            _ => None,
        })
    }
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It was done.
    Stop,
    /// It came to one of the texts at which it was to stop.
    StopText,
    /// It asks for tools.
    Calls,
    /// It reached the most tokens it may say, or all it can hold.
    Length,
    /// The provider withheld the reply.
    Filter,
    /// A long turn was paused by the provider and goes on when it is sent back.
    Pause,
}

/// Tokens used, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, those read from and written to a cache included.
    pub input: u64,
    /// Of the reply, thoughts included.
    pub output: u64,
    /// Of the prompt, those that came from a cache.
    pub cache_read: u64,
    /// Of the prompt, those that were put into a cache.
    pub cache_write: u64,
    /// Of those, the ones to be kept for an hour or longer.
    pub cache_write_long: u64,
    /// Of the reply, thoughts.
    pub thoughts: u64,
}

/// What begins with a part of a streamed reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Opening {
    /// Words.
    Text,
    /// Words for not answering.
    Refusal,
    /// Thoughts.
    Thought {
        /// The id of the item that it is.
        id: Option<String>,
        /// Whether the words are withheld.
        withheld: bool,
    },
    /// A tool call; its arguments follow.
    Call {
        /// The model's id for it.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// Something that this form has no word for, whole.
    Other(Json),
}

/// A step of a streamed reply. Parts are numbered from 0 in the order in which they begin; each ends before [`Delta::Finish`].
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// The reply begins.
    Start {
        /// The provider's id for it.
        id: Option<String>,
        /// The model that answers.
        model: Option<String>,
    },
    /// A part begins.
    Open {
        /// Its number.
        part: usize,
        /// What it is.
        what: Opening,
    },
    /// More words, thoughts, or arguments of a call.
    Add {
        /// The part they belong to.
        part: usize,
        /// The words.
        text: String,
    },
    /// The proof of a part.
    Sign {
        /// The part.
        part: usize,
        /// The proof.
        signature: Signature,
    },
    /// A part ends.
    Close {
        /// Its number.
        part: usize,
    },
    /// What was used so far. A later one replaces an earlier one.
    Usage(Usage),
    /// The model stopped.
    Finish {
        /// Why.
        finish: Finish,
        /// At which text.
        stop: Option<String>,
    },
    /// The stream has said that it is over.
    End,
}
