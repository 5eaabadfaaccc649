//! Steps of a reply become the numbered events of a response, up to `response.completed`.
//!
//! Invariant: what an item said comes once in pieces, once in its last event and once in the last event of all.

use serde_json::{Value, json};

use crate::Family;
use crate::convert::problem::{self, Problem};
use crate::convert::{Stamp, sse};
use crate::neutral::{Delta, Finish, Opening, Signature, Usage};

use super::reply;

/// Writes one stream.
#[derive(Debug)]
pub(crate) struct Encoder {
    stamp: Stamp,
    same: bool,
    begun: bool,
    events: u64,
    parts: Vec<Option<Item>>,
    output: Vec<Value>,
    usage: Option<Usage>,
    finish: Finish,
}

/// An item that is under way.
#[derive(Clone, Debug)]
struct Item {
    n: usize,
    id: String,
    kind: Kind,
    said: String,
    proof: Option<String>,
    closed: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Text,
    Refusal,
    Thought { withheld: bool },
    Call { id: String, name: String },
}

impl Encoder {
    pub(crate) const fn new(stamp: Stamp, same: bool) -> Self {
        Self {
            stamp,
            same,
            begun: false,
            events: 0,
            parts: Vec::new(),
            output: Vec::new(),
            usage: None,
            finish: Finish::Stop,
        }
    }

    /// Writes a step.
    pub(crate) fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Start { model, .. } => {
                self.stamp.answered(model.as_deref());
                self.begin(out);
            }
            Delta::Open { what, .. } => {
                self.begin(out);
                self.open(what, out);
            }
            Delta::Add { part, text } => self.add(*part, text, out),
            Delta::Sign { part, signature } => self.sign(*part, signature),
            Delta::Close { part } => self.close(*part, out),
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Finish { finish, .. } => self.finish = *finish,
            Delta::End => self.end(out),
        }
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        let said = problem::body(Family::Responses, problem);
        let error = |field: &str| said.pointer(&format!("/error/{field}")).cloned().unwrap_or_default();
        let fields = json!({"code": error("code"), "message": error("message"), "param": error("param")});
        self.event("error", fields, out);
    }

    fn event(&mut self, kind: &str, mut fields: Value, out: &mut Vec<u8>) {
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("type".to_owned(), json!(kind));
            fields.insert("sequence_number".to_owned(), json!(self.events));
        }
        self.events += 1;
        sse(Some(kind), &fields, out);
    }

    fn frame(&self) -> Value {
        reply::frame(&self.stamp.id, self.stamp.created, self.stamp.model(""))
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            let frame = self.frame();
            self.event("response.created", json!({"response": frame}), out);
            self.event("response.in_progress", json!({"response": frame}), out);
        }
    }

    fn open(&mut self, what: &Opening, out: &mut Vec<u8>) {
        let n = self.output.len();
        let (kind, prefix) = match what {
            Opening::Text => (Kind::Text, "msg"),
            Opening::Refusal => (Kind::Refusal, "msg"),
            Opening::Thought { withheld, .. } => (Kind::Thought { withheld: *withheld }, "rs"),
            Opening::Call { id, name } => (Kind::Call { id: id.clone(), name: name.clone() }, "fc"),
            Opening::Other(json) => {
                if self.same {
                    let item = json.value();
                    self.event("response.output_item.added", json!({"output_index": n, "item": item}), out);
                    self.event("response.output_item.done", json!({"output_index": n, "item": item}), out);
                    self.output.push(item);
                }
                self.parts.push(None);
                return;
            }
        };
        let id = match what {
            Opening::Thought { id: Some(id), .. } if self.same => id.clone(),
            _ => reply::item_id(prefix, &self.stamp.id, n),
        };
        let item = Item { n, id, kind, said: String::new(), proof: None, closed: false };
        let shown = item.shown("in_progress");
        self.output.push(shown.clone());
        self.event("response.output_item.added", json!({"output_index": n, "item": shown}), out);
        if let Some((kind, index, part)) = item.part() {
            let fields = json!({"item_id": item.id, "output_index": n, index: 0, "part": part});
            self.event(&format!("response.{kind}.added"), fields, out);
        }
        self.parts.push(Some(item));
    }

    fn add(&mut self, part: usize, text: &str, out: &mut Vec<u8>) {
        let Some(Some(item)) = self.parts.get_mut(part) else { return };
        item.said.push_str(text);
        let (id, n) = (item.id.clone(), item.n);
        let (kind, mut fields) = match &item.kind {
            Kind::Text => {
                ("response.output_text.delta", json!({"content_index": 0, "delta": text, "logprobs": []}))
            }
            Kind::Refusal => ("response.refusal.delta", json!({"content_index": 0, "delta": text})),
            Kind::Thought { .. } => {
                ("response.reasoning_summary_text.delta", json!({"summary_index": 0, "delta": text}))
            }
            Kind::Call { .. } => ("response.function_call_arguments.delta", json!({"delta": text})),
        };
        place(&mut fields, &id, n);
        self.event(kind, fields, out);
    }

    fn sign(&mut self, part: usize, signature: &Signature) {
        if let Some(Some(item)) = self.parts.get_mut(part) {
            item.proof = Some(signature.shown_to(Family::Responses));
        }
    }

    fn close(&mut self, part: usize, out: &mut Vec<u8>) {
        let Some(Some(item)) = self.parts.get_mut(part) else { return };
        if std::mem::replace(&mut item.closed, true) {
            return;
        }
        let item = item.clone();
        let said = &item.said;
        let (kind, mut fields) = match &item.kind {
            Kind::Text => {
                ("response.output_text.done", json!({"content_index": 0, "text": said, "logprobs": []}))
            }
            Kind::Refusal => ("response.refusal.done", json!({"content_index": 0, "refusal": said})),
            Kind::Thought { .. } => {
                ("response.reasoning_summary_text.done", json!({"summary_index": 0, "text": said}))
            }
            Kind::Call { name, .. } => {
                ("response.function_call_arguments.done", json!({"name": name, "arguments": said}))
            }
        };
        if !matches!(item.kind, Kind::Thought { withheld: true }) {
            place(&mut fields, &item.id, item.n);
            self.event(kind, fields, out);
        }
        if let Some((kind, index, part)) = item.part() {
            let fields = json!({"item_id": item.id, "output_index": item.n, index: 0, "part": part});
            self.event(&format!("response.{kind}.done"), fields, out);
        }
        let shown = item.shown("completed");
        if let Some(kept) = self.output.get_mut(item.n) {
            kept.clone_from(&shown);
        }
        self.event("response.output_item.done", json!({"output_index": item.n, "item": shown}), out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        for part in 0..self.parts.len() {
            self.close(part, out);
        }
        let mut frame = self.frame();
        reply::finish(&mut frame, self.finish, std::mem::take(&mut self.output), self.usage);
        let incomplete = frame.get("status").and_then(Value::as_str) == Some("incomplete");
        let kind = if incomplete { "response.incomplete" } else { "response.completed" };
        self.event(kind, json!({"response": frame}), out);
    }
}

impl Item {
    /// The item as it is now.
    fn shown(&self, status: &str) -> Value {
        let (id, said) = (&self.id, &self.said);
        let open = status == "in_progress";
        match &self.kind {
            Kind::Text | Kind::Refusal => {
                let content = self.part().filter(|_| !open).map(|(_, _, part)| part);
                reply::message(id, content.as_slice(), status)
            }
            Kind::Call { id: call, name } => reply::call(id, call, name, said, status),
            Kind::Thought { .. } => {
                let summary =
                    if said.is_empty() { json!([]) } else { json!([{"type": "summary_text", "text": said}]) };
                let mut item = json!({"id": id, "type": "reasoning", "summary": summary});
                if let (Some(proof), Some(fields)) = (&self.proof, item.as_object_mut()) {
                    fields.insert("encrypted_content".to_owned(), json!(proof));
                }
                item
            }
        }
    }

    /// The part inside it, with the words of its events: their kind, and how they number it.
    fn part(&self) -> Option<(&'static str, &'static str, Value)> {
        let said = &self.said;
        match &self.kind {
            Kind::Text => {
                let part = json!({"type": "output_text", "text": said, "annotations": [], "logprobs": []});
                Some(("content_part", "content_index", part))
            }
            Kind::Refusal => {
                Some(("content_part", "content_index", json!({"type": "refusal", "refusal": said})))
            }
            Kind::Thought { withheld: false } => {
                let part = json!({"type": "summary_text", "text": said});
                Some(("reasoning_summary_part", "summary_index", part))
            }
            Kind::Thought { withheld: true } | Kind::Call { .. } => None,
        }
    }
}

fn place(fields: &mut Value, item: &str, n: usize) {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("item_id".to_owned(), json!(item));
        fields.insert("output_index".to_owned(), json!(n));
    }
}
