//! Bytes of a streamed reply in, text and finally the reply out. No IO: the transport feeds it.
//!
//! Invariant: a reply comes out only when the model said why it stopped. Whatever else ends a stream (an error inside
//! it, nonsense, too much, or just the end) is a failure.

use lantern_net::sse::Parser;
use lantern_types::Failure;
use lantern_types::llm::LlmReply;

use crate::Deltas;
use crate::convert::wire::{self, Assembly};
use crate::failure::{interrupted, invalid, unreadable};
use crate::types::wire::Chunk;
use crate::vendor::wire as vendor;

/// One event may carry a whole reply.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Each token may come in an event of its own with some hundred bytes of framing.
const STREAM_BYTES_MAX: usize = 64 << 20;

const DONE: &str = "[DONE]";

/// Reads one streamed reply.
pub(crate) struct Reader {
    parser: Parser,
    assembly: Assembly,
    bytes: usize,
    done: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { parser: Parser::new(EVENT_BYTES_MAX), assembly: Assembly::default(), bytes: 0, done: false }
    }

    /// Takes the next bytes and hands on the text in them. `true` once the stream has said that it is over.
    pub(crate) fn push(&mut self, bytes: &[u8], deltas: Deltas<'_>) -> Result<bool, Failure> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > STREAM_BYTES_MAX {
            return Err(invalid(format!("the reply has more than {STREAM_BYTES_MAX} bytes")));
        }
        for event in self.parser.push(bytes).map_err(|error| invalid(error.to_string()))? {
            if self.done || event.data.trim() == DONE {
                self.done = true;
                break;
            }
            let text = self.assembly.take(chunk(event.data.as_bytes())?)?;
            if !text.is_empty() {
                deltas(&text);
            }
        }
        Ok(self.done)
    }

    /// The reply, once no more bytes come.
    pub(crate) fn finish(self, asked: &str) -> Result<LlmReply, Failure> {
        if !self.done && !self.assembly.is_finished() {
            return Err(interrupted("the stream ended before the reply did"));
        }
        self.assembly.finish(asked)
    }
}

/// A reply that came whole, as JSON.
pub(crate) fn whole(body: &[u8], asked: &str) -> Result<LlmReply, Failure> {
    wire::reply(chunk(body)?, asked)
}

fn chunk(json: &[u8]) -> Result<Chunk, Failure> {
    let chunk: Chunk = serde_json::from_slice(json).map_err(|error| unreadable("the reply", &error))?;
    match &chunk.error {
        Some(error) => Err(vendor::in_band(error)),
        None => Ok(chunk),
    }
}
