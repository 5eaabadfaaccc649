//! Steps of a reply become the pieces of a generateContent stream, each a reply of its own.
//!
//! Invariant: a tool call comes in one piece, because this wire has no halves of one.

use serde_json::{Value, json};

use crate::convert::shared::past_arguments;
use crate::convert::{Stamp, sse};
use crate::neutral::{Delta, Finish, Opening, Usage};

use super::parts::show_proof;
use super::reply::{write_reason, write_usage};

/// Writes one stream.
#[derive(Debug)]
pub(crate) struct Encoder {
    stamp: Stamp,
    parts: Vec<Kind>,
    usage: Option<Usage>,
    finish: Finish,
}

#[derive(Debug)]
enum Kind {
    Text,
    Thought,
    Call { id: String, name: String, arguments: String, proof: Option<String> },
    Nothing,
}

impl Encoder {
    pub(crate) const fn new(stamp: Stamp) -> Self {
        Self { stamp, parts: Vec::new(), usage: None, finish: Finish::Stop }
    }

    /// Writes a step.
    pub(crate) fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Start { model, .. } => self.stamp.answered(model.as_deref()),
            Delta::Open { what, .. } => self.open(what, out),
            Delta::Add { part, text } => match self.parts.get_mut(*part) {
                Some(Kind::Text) => self.piece(&json!([{"text": text}]), None, out),
                Some(Kind::Thought) => self.piece(&json!([{"text": text, "thought": true}]), None, out),
                Some(Kind::Call { arguments, .. }) => arguments.push_str(text),
                Some(Kind::Nothing) | None => {}
            },
            Delta::Sign { part, signature } => match self.parts.get_mut(*part) {
                Some(Kind::Call { proof, .. }) => *proof = Some(show_proof(signature)),
                Some(Kind::Text) => {
                    self.piece(&json!([{"text": "", "thoughtSignature": show_proof(signature)}]), None, out);
                }
                Some(Kind::Thought) => {
                    let part =
                        json!({"text": "", "thought": true, "thoughtSignature": show_proof(signature)});
                    self.piece(&json!([part]), None, out);
                }
                Some(Kind::Nothing) | None => {}
            },
            Delta::Close { part } => self.close(*part, out),
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Finish { finish, .. } => self.finish = *finish,
            Delta::End => self.piece(&json!([{"text": ""}]), Some(self.finish), out),
        }
    }

    fn open(&mut self, what: &Opening, out: &mut Vec<u8>) {
        let kind = match what {
            Opening::Text | Opening::Refusal => Kind::Text,
            Opening::Thought { .. } => Kind::Thought,
            Opening::Call { id, name } => {
                Kind::Call { id: id.clone(), name: name.clone(), arguments: String::new(), proof: None }
            }
            Opening::Other(json) if json.value().get("inlineData").is_some() => {
                self.piece(&json!([json.value()]), None, out);
                Kind::Nothing
            }
            Opening::Other(_) => Kind::Nothing,
        };
        self.parts.push(kind);
    }

    fn close(&mut self, part: usize, out: &mut Vec<u8>) {
        let Some(Kind::Call { id, name, arguments, proof }) = self.parts.get(part) else { return };
        let call = json!({"id": id, "name": name, "args": past_arguments(arguments)});
        let mut piece = json!({"functionCall": call});
        if let (Some(proof), Some(fields)) = (proof, piece.as_object_mut()) {
            fields.insert("thoughtSignature".to_owned(), json!(proof));
        }
        self.piece(&json!([piece]), None, out);
    }

    fn piece(&self, parts: &Value, finish: Option<Finish>, out: &mut Vec<u8>) {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if let (Some(finish), Some(fields)) = (finish, candidate.as_object_mut()) {
            fields.insert("finishReason".to_owned(), json!(write_reason(finish)));
        }
        let mut piece = json!({
            "candidates": [candidate], "modelVersion": self.stamp.model(""), "responseId": self.stamp.id,
        });
        if let (Some(usage), Some(fields)) = (self.usage, piece.as_object_mut()) {
            fields.insert("usageMetadata".to_owned(), write_usage(usage));
        }
        sse(None, &piece, out);
    }
}
