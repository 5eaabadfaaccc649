//! Steps of a reply become the chunks of a chat completion, up to `[DONE]`.

use serde_json::{Value, json};

use crate::convert::{Stamp, sse};
use crate::neutral::{Delta, Finish, Opening, Part, Thought, Usage};

use super::reply::{finish_reason, write_proof, write_usage};
use super::write::detail;

/// Writes one stream.
#[derive(Debug)]
pub(crate) struct Encoder {
    stamp: Stamp,
    parts: Vec<Kind>,
    calls: usize,
    thoughts: usize,
    begun: bool,
    finish: Option<Finish>,
    usage: Option<Usage>,
}

#[derive(Clone, Debug)]
enum Kind {
    Text,
    Refusal,
    Thought { n: usize, id: Option<String>, withheld: bool },
    Call(usize),
    Nothing,
}

impl Encoder {
    pub(crate) const fn new(stamp: Stamp) -> Self {
        Self { stamp, parts: Vec::new(), calls: 0, thoughts: 0, begun: false, finish: None, usage: None }
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
            Delta::Sign { part, signature } => match self.parts.get(*part) {
                Some(Kind::Thought { n, id, withheld }) => {
                    let thought = Thought { text: String::new(), id: id.clone(), withheld: *withheld };
                    let part = Part {
                        signature: Some(signature.clone()),
                        ..Part::new(crate::neutral::Content::Thought(thought))
                    };
                    self.chunk(&json!({"reasoning_details": [detail(*n, &part)]}), None, out);
                }
                Some(Kind::Call(n)) => {
                    // An official client takes no piece of a call that has no function in it.
                    let (function, proof) = (json!({"arguments": ""}), write_proof(signature));
                    let call = json!({"index": n, "function": function, "extra_content": proof});
                    self.chunk(&json!({"tool_calls": [call]}), None, out);
                }
                _ => {}
            },
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Finish { finish, .. } => self.finish = Some(*finish),
            Delta::Close { .. } => {}
            Delta::End => self.end(out),
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            self.chunk(&json!({"role": "assistant", "content": "", "refusal": null}), None, out);
        }
    }

    fn open(&mut self, what: &Opening, out: &mut Vec<u8>) {
        self.parts.push(match what {
            Opening::Text => Kind::Text,
            Opening::Refusal => Kind::Refusal,
            Opening::Thought { id, withheld } => {
                self.thoughts += 1;
                Kind::Thought { n: self.thoughts - 1, id: id.clone(), withheld: *withheld }
            }
            Opening::Call { id, name } => {
                let n = self.calls;
                self.calls += 1;
                let function = json!({"name": name, "arguments": ""});
                let call = json!({"index": n, "id": id, "type": "function", "function": function});
                self.chunk(&json!({"tool_calls": [call]}), None, out);
                Kind::Call(n)
            }
            Opening::Other(_) => Kind::Nothing,
        });
    }

    fn add(&self, part: usize, text: &str, out: &mut Vec<u8>) {
        let delta = match self.parts.get(part) {
            Some(Kind::Text) => json!({"content": text}),
            Some(Kind::Refusal) => json!({"refusal": text}),
            Some(Kind::Thought { .. }) => json!({"reasoning_content": text}),
            Some(Kind::Call(n)) => json!({"tool_calls": [{"index": n, "function": {"arguments": text}}]}),
            Some(Kind::Nothing) | None => return,
        };
        self.chunk(&delta, None, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.chunk(&json!({}), Some(self.finish.unwrap_or(Finish::Stop)), out);
        if self.stamp.stream_usage {
            let mut chunk = self.empty();
            if let Some(fields) = chunk.as_object_mut() {
                fields.insert("usage".to_owned(), self.usage.map_or(Value::Null, write_usage));
            }
            sse(None, &chunk, out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn empty(&self) -> Value {
        json!({
            "id": self.stamp.id, "object": "chat.completion.chunk", "created": self.stamp.created,
            "model": self.stamp.model(""), "choices": [],
        })
    }

    fn chunk(&self, delta: &Value, finish: Option<Finish>, out: &mut Vec<u8>) {
        let reason = finish.map(finish_reason);
        let mut chunk = self.empty();
        if let Some(fields) = chunk.as_object_mut() {
            let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason});
            fields.insert("choices".to_owned(), json!([choice]));
            if self.stamp.stream_usage {
                fields.insert("usage".to_owned(), Value::Null);
            }
        }
        sse(None, &chunk, out);
    }
}
