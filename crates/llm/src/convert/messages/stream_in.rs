//! Events of a message become steps of a reply.
//!
//! Invariant: only `message_stop`, or the end of the stream after a reason for the reply's end, finishes a reply.

use lantern_types::Failure;

use crate::Family;
use crate::convert::shared::{self, Numbers};
use crate::failure::{interrupted, invalid};
use crate::neutral::{Content, Delta, Finish, Opening, Part, Signature};
use crate::types::messages as wire;
use crate::vendor::errors;

use super::blocks;
use super::reply::{read_reason, read_usage};

/// A reply in the making.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    numbers: Numbers,
    open: Vec<Block>,
    usage: wire::Usage,
    finish: Option<(Finish, Option<String>)>,
    done: bool,
}

/// A block that is under way.
#[derive(Debug)]
struct Block {
    index: u64,
    part: usize,
    /// Whether it is a call that has no arguments yet.
    bare_call: bool,
    /// Whether more can be added to it here.
    grows: bool,
}

/// The type of an event: only those that are known are read any further.
#[derive(serde::Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

impl Decoder {
    /// The steps in an event.
    pub(crate) fn take(&mut self, data: &[u8]) -> Result<Vec<Delta>, Failure> {
        let Kind { kind } = shared::sent(data)?;
        let known = [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "error",
        ];
        let mut out = Vec::new();
        if kind == "message_stop" {
            self.done = true;
        } else if known.contains(&kind.as_str()) {
            let event: wire::Event = shared::sent(data)?;
            self.event(&kind, event, &mut out)?;
        }
        Ok(out)
    }

    fn event(&mut self, kind: &str, event: wire::Event, out: &mut Vec<Delta>) -> Result<(), Failure> {
        match kind {
            "error" => return Err(errors::in_band(&event.error.unwrap_or_default())),
            "message_start" => {
                let message = event.message.unwrap_or_default();
                out.push(Delta::Start { id: message.id, model: message.model });
                self.used(message.usage, out);
            }
            "content_block_start" => {
                let block = event.content_block.ok_or_else(|| invalid("a block begins with nothing"))?;
                self.begin(event.index.unwrap_or_default(), block, out)?;
            }
            "content_block_delta" => {
                self.grow(event.index.unwrap_or_default(), event.delta.unwrap_or_default(), out)?;
            }
            "content_block_stop" => self.stop(event.index.unwrap_or_default(), out),
            _ => {
                let delta = event.delta.unwrap_or_default();
                if let Some(reason) = delta.stop_reason {
                    self.finish = Some((read_reason(&reason), delta.stop_sequence));
                }
                self.used(event.usage, out);
            }
        }
        Ok(())
    }

    /// Counts are of the whole reply so far; those that an event leaves out stay as they were.
    fn used(&mut self, usage: Option<wire::Usage>, out: &mut Vec<Delta>) {
        let Some(usage) = usage else { return };
        let known = &mut self.usage;
        known.input_tokens = usage.input_tokens.or(known.input_tokens);
        known.output_tokens = usage.output_tokens.or(known.output_tokens);
        known.cache_read_input_tokens = usage.cache_read_input_tokens.or(known.cache_read_input_tokens);
        known.cache_creation_input_tokens =
            usage.cache_creation_input_tokens.or(known.cache_creation_input_tokens);
        known.cache_creation = usage.cache_creation.or_else(|| known.cache_creation.take());
        known.output_tokens_details =
            usage.output_tokens_details.or_else(|| known.output_tokens_details.take());
        out.extend(read_usage(known).map(Delta::Usage));
    }

    fn begin(&mut self, index: u64, block: wire::Block, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let read = blocks::read("content_block", block).map_err(|malformed| invalid(malformed.message))?;
        let Part { content, signature, .. } = read;
        let mut bare_call = false;
        let grows = !matches!(content, Content::Other(_));
        let (what, text) = match content {
            Content::Text(text) => (Opening::Text, text),
            Content::Thought(thought) => {
                (Opening::Thought { id: thought.id, withheld: thought.withheld }, thought.text)
            }
            Content::Call(call) => {
                // Arguments come in pieces, after an empty object.
                bare_call = call.arguments == "{}";
                let arguments = if bare_call { String::new() } else { call.arguments };
                (Opening::Call { id: call.id, name: call.name }, arguments)
            }
            Content::Other(json) => (Opening::Other(json), String::new()),
            _ => return Err(invalid("the reply has a block that no reply has")),
        };
        let part = self.numbers.open(what, out);
        if !text.is_empty() {
            out.push(Delta::Add { part, text });
        }
        out.extend(signature.map(|signature| Delta::Sign { part, signature }));
        self.open.push(Block { index, part, bare_call, grows });
        Ok(())
    }

    fn grow(&mut self, index: u64, delta: wire::Moved, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let block = self.open.iter_mut().rfind(|block| block.index == index);
        let block = block.ok_or_else(|| invalid("the reply goes on with a block that it has not begun"))?;
        if !block.grows {
            return Ok(());
        }
        let part = block.part;
        if let Some(proof) = delta.signature.filter(|proof| !proof.is_empty()) {
            out.push(Delta::Sign { part, signature: Signature::read(Family::Messages, proof) });
        }
        if let Some(text) =
            delta.text.or(delta.thinking).or(delta.partial_json).filter(|text| !text.is_empty())
        {
            block.bare_call = false;
            out.push(Delta::Add { part, text });
        }
        Ok(())
    }

    fn stop(&mut self, index: u64, out: &mut Vec<Delta>) {
        let Some(place) = self.open.iter().rposition(|block| block.index == index) else { return };
        let block = self.open.remove(place);
        if block.bare_call {
            out.push(Delta::Add { part: block.part, text: "{}".to_owned() });
        }
        self.numbers.close(block.part, out);
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.done
    }

    /// The last steps, once the stream has ended.
    pub(crate) fn end(mut self) -> Result<Vec<Delta>, Failure> {
        let Some((finish, stop)) = self.finish.take() else {
            return Err(interrupted("the reply broke off before its end"));
        };
        let mut out = Vec::new();
        while let Some(index) = self.open.first().map(|block| block.index) {
            self.stop(index, &mut out);
        }
        out.extend([Delta::Finish { finish, stop }, Delta::End]);
        Ok(out)
    }
}
