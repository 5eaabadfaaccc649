//! Events of a response become steps of a reply.
//!
//! Invariant: what an item says in its last event counts when nothing of it came before.

use lantern_types::Failure;
use serde_json::{Value, json};

use crate::convert::shared::{self, Numbers};
use crate::failure::{interrupted, invalid};
use crate::neutral::{Content, Delta, Finish, Opening, Part};
use crate::types::responses as wire;
use crate::vendor::errors;

use super::reply::{read_finish, read_item, read_usage};

/// A reply in the making.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    numbers: Numbers,
    begun: bool,
    open: Vec<Piece>,
    calls: bool,
    finish: Option<Finish>,
}

/// A part that is under way: a content part of a message, or an item of another kind.
#[derive(Debug)]
struct Piece {
    item: u64,
    content: u64,
    part: usize,
    /// The paragraph of a summary that it has come to.
    paragraph: u64,
    empty: bool,
}

/// The type of an event: only those that are known are read any further.
#[derive(serde::Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

const KNOWN: &[&str] = &[
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "response.refusal.delta",
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
    "response.function_call_arguments.delta",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "error",
];

impl Decoder {
    /// The steps in an event.
    pub(crate) fn take(&mut self, data: &[u8]) -> Result<Vec<Delta>, Failure> {
        let Kind { kind } = shared::sent(data)?;
        let mut out = Vec::new();
        if !KNOWN.contains(&kind.as_str()) {
            return Ok(out);
        }
        let event: wire::Event = shared::sent(data)?;
        let (item, content) =
            (event.output_index.unwrap_or_default(), event.content_index.unwrap_or_default());
        let text = match &event.delta {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        match kind.as_str() {
            "response.created" | "response.in_progress" => self.begin(event.response, &mut out),
            "response.output_item.added" => self.added(item, event.item.unwrap_or_default(), &mut out)?,
            "response.output_text.delta" => self.add((item, content), || Opening::Text, text, &mut out),
            "response.refusal.delta" => self.add((item, content), || Opening::Refusal, text, &mut out),
            "response.reasoning_summary_text.delta" => {
                self.think(item, event.summary_index.unwrap_or_default(), event.item_id, text, &mut out);
            }
            "response.reasoning_text.delta" => self.think(item, content, event.item_id, text, &mut out),
            "response.function_call_arguments.delta" => {
                let Some(piece) = self.piece(item, 0) else {
                    return Err(invalid("the reply goes on with a call that it has not begun"));
                };
                piece.empty = false;
                let part = piece.part;
                out.push(Delta::Add { part, text });
            }
            "response.output_item.done" => self.done(item, event.item.unwrap_or_default(), &mut out)?,
            "error" => {
                return Err(errors::in_band(&json!({"code": event.code, "message": event.message})));
            }
            _ => {
                let reply = event.response.unwrap_or_default();
                out.extend(reply.usage.as_ref().and_then(read_usage).map(Delta::Usage));
                self.finish = Some(read_finish(&reply, self.calls)?);
            }
        }
        Ok(out)
    }

    fn begin(&mut self, reply: Option<wire::Reply>, out: &mut Vec<Delta>) {
        if let Some(reply) = reply.filter(|_| !self.begun) {
            self.begun = true;
            out.push(Delta::Start { id: reply.id, model: reply.model });
        }
    }

    fn piece(&mut self, item: u64, content: u64) -> Option<&mut Piece> {
        self.open.iter_mut().rfind(|piece| piece.item == item && piece.content == content)
    }

    fn open(&mut self, item: u64, content: u64, what: Opening, out: &mut Vec<Delta>) -> usize {
        let part = self.numbers.open(what, out);
        self.open.push(Piece { item, content, part, paragraph: 0, empty: true });
        part
    }

    fn added(&mut self, index: u64, item: wire::Item, out: &mut Vec<Delta>) -> Result<(), Failure> {
        if item.kind.as_deref() == Some("function_call") {
            self.calls = true;
            let id =
                item.call_id.or(item.id).ok_or_else(|| invalid("the reply asks for a tool without an id"))?;
            let name = item.name.ok_or_else(shared::nameless)?;
            self.open(index, 0, Opening::Call { id, name }, out);
        }
        Ok(())
    }

    fn add(
        &mut self,
        (item, content): (u64, u64),
        what: impl FnOnce() -> Opening,
        text: String,
        out: &mut Vec<Delta>,
    ) {
        if text.is_empty() {
            return;
        }
        let part = match self.piece(item, content) {
            Some(piece) => piece.part,
            None => self.open(item, content, what(), out),
        };
        out.push(Delta::Add { part, text });
    }

    /// Thoughts: the paragraphs of a summary are told apart by an empty line.
    fn think(&mut self, item: u64, paragraph: u64, id: Option<String>, text: String, out: &mut Vec<Delta>) {
        if text.is_empty() {
            return;
        }
        if self.piece(item, 0).is_none() {
            let part = self.open(item, 0, Opening::Thought { id, withheld: false }, out);
            if let Some(piece) = self.piece(item, 0) {
                piece.paragraph = paragraph;
            }
            out.push(Delta::Add { part, text });
            return;
        }
        let Some(piece) = self.piece(item, 0) else { return };
        let part = piece.part;
        if std::mem::replace(&mut piece.paragraph, paragraph) != paragraph {
            out.push(Delta::Add { part, text: "\n\n".to_owned() });
        }
        out.push(Delta::Add { part, text });
    }

    fn done(&mut self, index: u64, item: wire::Item, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let kind = item.kind.clone().unwrap_or_default();
        let known = self.open.iter().any(|piece| piece.item == index);
        let parts = read_item("item", item)?;
        if known {
            for piece in self.open.extract_if(.., |piece| piece.item == index) {
                let part = piece.part;
                if let Some(Part { content: Content::Call(call), .. }) = parts.first().filter(|_| piece.empty)
                {
                    out.push(Delta::Add { part, text: call.arguments.clone() });
                }
                if let (Some(signature), "reasoning") =
                    (parts.first().and_then(|read| read.signature.clone()), kind.as_str())
                {
                    out.push(Delta::Sign { part, signature });
                }
                self.numbers.close(part, out);
            }
            return Ok(());
        }
        for part in parts {
            self.whole(part, out);
        }
        Ok(())
    }

    /// A part of which nothing came before.
    fn whole(&mut self, read: Part, out: &mut Vec<Delta>) {
        let (what, text) = match read.content {
            Content::Text(text) => (Opening::Text, text),
            Content::Refusal(text) => (Opening::Refusal, text),
            Content::Thought(thought) => {
                (Opening::Thought { id: thought.id, withheld: thought.withheld }, thought.text)
            }
            Content::Call(call) => {
                self.calls = true;
                (Opening::Call { id: call.id, name: call.name }, call.arguments)
            }
            Content::Other(json) => (Opening::Other(json), String::new()),
            _ => return,
        };
        let silent = matches!(what, Opening::Text | Opening::Refusal) && text.is_empty();
        let bare = matches!(what, Opening::Thought { .. }) && text.is_empty() && read.signature.is_none();
        if silent || bare {
            return;
        }
        let part = self.numbers.open(what, out);
        if !text.is_empty() {
            out.push(Delta::Add { part, text });
        }
        out.extend(read.signature.map(|signature| Delta::Sign { part, signature }));
        self.numbers.close(part, out);
    }

    pub(crate) const fn is_done(&self) -> bool {
        self.finish.is_some()
    }

    /// The last steps, once the stream has ended.
    pub(crate) fn end(mut self) -> Result<Vec<Delta>, Failure> {
        let Some(finish) = self.finish else {
            return Err(interrupted("the reply broke off before its end"));
        };
        let mut out = Vec::new();
        self.numbers.close_all(&mut out);
        out.extend([Delta::Finish { finish, stop: None }, Delta::End]);
        Ok(out)
    }
}
