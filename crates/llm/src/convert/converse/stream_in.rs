//! Events of a Converse stream become steps of a reply.

use lantern_types::Failure;
use serde_json::json;

use crate::convert::shared::{self, Numbers};
use crate::failure::{interrupted, invalid};
use crate::frames::Message;
use crate::neutral::{Delta, Finish, Opening};
use crate::types::converse as wire;
use crate::vendor::errors;

use super::blocks::read_proof;
use super::reply::{read_reason, read_usage};

/// A reply in the making.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    numbers: Numbers,
    open: Vec<Block>,
    finish: Option<Finish>,
}

/// A block that is under way.
#[derive(Debug)]
struct Block {
    index: u64,
    part: usize,
    /// Whether it is a call that has no arguments yet.
    bare_call: bool,
}

impl Decoder {
    /// The steps in a message of the stream.
    pub(crate) fn take(&mut self, message: &Message) -> Result<Vec<Delta>, Failure> {
        let mut out = Vec::new();
        match message.header(":message-type") {
            Some("exception") => {
                let kind = message.header(":exception-type").unwrap_or("exception");
                let said: wire::Event = shared::sent(&message.payload).unwrap_or_default();
                return Err(errors::in_band(&json!({"type": kind, "message": said.message})));
            }
            Some("error") => {
                let (code, words) = (message.header(":error-code"), message.header(":error-message"));
                return Err(errors::in_band(&json!({"code": code, "message": words})));
            }
            _ => {}
        }
        let known = [
            "messageStart",
            "contentBlockStart",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
            "metadata",
        ];
        let Some(kind) = message.header(":event-type").filter(|kind| known.contains(kind)) else {
            return Ok(out);
        };
        let event: wire::Event = shared::sent(&message.payload)?;
        let index = event.content_block_index.unwrap_or_default();
        match kind {
            "messageStart" => out.push(Delta::Start { id: None, model: None }),
            "contentBlockStart" => {
                if let Some(call) = event.start.and_then(|start| start.tool_use) {
                    let id = call.id.ok_or_else(|| invalid("the reply asks for a tool without an id"))?;
                    let name = call.name.ok_or_else(shared::nameless)?;
                    self.begin(index, Opening::Call { id, name }, &mut out);
                }
            }
            "contentBlockDelta" => self.grow(index, event.delta.unwrap_or_default(), &mut out)?,
            "contentBlockStop" => self.stop(index, &mut out),
            "messageStop" => {
                self.finish = event.stop_reason.as_deref().map(read_reason).transpose()?;
            }
            _ => out.extend(event.usage.as_ref().and_then(read_usage).map(Delta::Usage)),
        }
        Ok(out)
    }

    fn begin(&mut self, index: u64, what: Opening, out: &mut Vec<Delta>) -> usize {
        let bare_call = matches!(what, Opening::Call { .. });
        let part = self.numbers.open(what, out);
        self.open.push(Block { index, part, bare_call });
        part
    }

    /// Only calls say that they begin; other blocks do with their first words.
    fn part(&mut self, index: u64, what: impl FnOnce() -> Opening, out: &mut Vec<Delta>) -> usize {
        match self.open.iter().rfind(|block| block.index == index) {
            Some(block) => block.part,
            None => self.begin(index, what(), out),
        }
    }

    fn grow(&mut self, index: u64, delta: wire::Moved, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if let Some(text) = delta.text {
            let part = self.part(index, || Opening::Text, out);
            if !text.is_empty() {
                out.push(Delta::Add { part, text });
            }
        } else if let Some(call) = delta.tool_use {
            let block = self.open.iter_mut().rfind(|block| block.index == index);
            let block =
                block.ok_or_else(|| invalid("the reply goes on with a call that it has not begun"))?;
            if let Some(text) = call.input.filter(|text| !text.is_empty()) {
                block.bare_call = false;
                out.push(Delta::Add { part: block.part, text });
            }
        } else if let Some(thought) = delta.reasoning_content {
            let withheld = thought.redacted_content.is_some();
            let part = self.part(index, || Opening::Thought { id: None, withheld }, out);
            if let Some(text) = thought.text.filter(|text| !text.is_empty()) {
                out.push(Delta::Add { part, text });
            }
            let proof = thought.redacted_content.or(thought.signature);
            out.extend(proof.map(|proof| Delta::Sign { part, signature: read_proof(proof) }));
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

    /// The last steps, once the stream has ended.
    pub(crate) fn end(mut self) -> Result<Vec<Delta>, Failure> {
        let Some(finish) = self.finish else {
            return Err(interrupted("the reply broke off before its end"));
        };
        let mut out = Vec::new();
        while let Some(index) = self.open.first().map(|block| block.index) {
            self.stop(index, &mut out);
        }
        out.extend([Delta::Finish { finish, stop: None }, Delta::End]);
        Ok(out)
    }
}
