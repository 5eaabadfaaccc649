//! Bytes of a streamed reply in, steps of it out. No IO: the caller feeds it.
//!
//! Invariant: the steps do not depend on where the bytes were cut. A reply is over only when the model said why it
//! stopped; whatever else ends a stream (an error inside it, nonsense, too much, or just the end) is a failure.

use lantern_net::sse::Parser;
use lantern_types::Failure;

use super::{chat, converse, generate, messages, responses};
use crate::Family;
use crate::failure::invalid;
use crate::frames::Reader;
use crate::neutral::Delta;

/// One event may carry a whole reply.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Each token may come in an event of its own with some hundred bytes of framing.
const STREAM_BYTES_MAX: usize = 64 << 20;

const DONE: &str = "[DONE]";

/// Reads one streamed reply.
#[derive(Debug)]
pub struct Decoder {
    frames: Frames,
    wire: Wire,
    bytes: usize,
    done: bool,
}

#[derive(Debug)]
enum Frames {
    Events(Parser),
    Binary(Reader),
}

#[derive(Debug)]
enum Wire {
    Chat(Box<chat::stream_in::Decoder>),
    Responses(Box<responses::stream_in::Decoder>),
    Messages(Box<messages::stream_in::Decoder>),
    Generate(Box<generate::stream_in::Decoder>),
    Converse(Box<converse::stream_in::Decoder>),
}

impl Decoder {
    /// For a stream of this family.
    pub fn new(family: Family) -> Self {
        let events = || Frames::Events(Parser::new(EVENT_BYTES_MAX));
        let (frames, wire) = match family {
            Family::Chat => (events(), Wire::Chat(Box::default())),
            Family::Responses => (events(), Wire::Responses(Box::default())),
            Family::Messages => (events(), Wire::Messages(Box::default())),
            Family::Generate => (events(), Wire::Generate(Box::default())),
            Family::Converse => {
                (Frames::Binary(Reader::new(EVENT_BYTES_MAX)), Wire::Converse(Box::default()))
            }
        };
        Self { frames, wire, bytes: 0, done: false }
    }

    /// The steps that the next bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Delta>, Failure> {
        let mut out = Vec::new();
        self.push_into(bytes, &mut out)?;
        Ok(out)
    }

    /// The same, into a list that keeps the steps before a failure.
    pub fn push_into(&mut self, bytes: &[u8], out: &mut Vec<Delta>) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > STREAM_BYTES_MAX {
            return Err(invalid(format!("the reply has more than {STREAM_BYTES_MAX} bytes")));
        }
        match &mut self.frames {
            Frames::Events(parser) => {
                for event in parser.push(bytes).map_err(|error| invalid(error.to_string()))? {
                    if self.done {
                        break;
                    }
                    self.done = self.wire.event(&event.data, out)?;
                }
            }
            Frames::Binary(reader) => {
                let mut messages = Vec::new();
                let read = reader.push(bytes, &mut messages);
                if let Wire::Converse(decoder) = &mut self.wire {
                    for message in &messages {
                        out.extend(decoder.take(message)?);
                    }
                }
                read?;
            }
        }
        Ok(())
    }

    /// Whether the stream has said that it is over: no more bytes are needed.
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// The last steps, [`Delta::End`] after all others, once no more bytes come.
    pub fn finish(self) -> Result<Vec<Delta>, Failure> {
        match self.wire {
            Wire::Chat(decoder) => decoder.end(self.done),
            Wire::Responses(decoder) => decoder.end(),
            Wire::Messages(decoder) => decoder.end(),
            Wire::Generate(decoder) => decoder.end(),
            Wire::Converse(decoder) => decoder.end(),
        }
    }
}

impl Wire {
    /// Takes an event; `true` when it was the last.
    fn event(&mut self, data: &str, out: &mut Vec<Delta>) -> Result<bool, Failure> {
        let json = data.as_bytes();
        match self {
            Self::Chat(_) if data.trim() == DONE => return Ok(true),
            Self::Chat(decoder) => out.extend(decoder.take(chat::reply::chunk(json)?)?),
            Self::Responses(_) if data.trim() == DONE => return Ok(true),
            Self::Responses(decoder) => {
                out.extend(decoder.take(json)?);
                return Ok(decoder.is_done());
            }
            Self::Messages(decoder) => {
                out.extend(decoder.take(json)?);
                return Ok(decoder.is_done());
            }
            Self::Generate(decoder) => out.extend(decoder.take(json)?),
            Self::Converse(_) => {}
        }
        Ok(false)
    }
}
