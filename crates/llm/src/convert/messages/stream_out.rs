//! Steps of a reply become the events of a message, up to `message_stop`.

use serde_json::{Value, json};

use crate::Family;
use crate::convert::{Stamp, sse};
use crate::neutral::{Delta, Finish, Opening, Signature, Usage};

use super::reply::{write_reason, write_usage};

/// Writes one stream.
#[derive(Debug)]
pub(crate) struct Encoder {
    stamp: Stamp,
    same: bool,
    begun: bool,
    parts: Vec<Kind>,
    blocks: usize,
    usage: Option<Usage>,
    finish: (Finish, Option<String>),
}

/// What a part became: a block of this number, or nothing.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text(usize),
    Thought(usize),
    Call(usize),
    /// Thoughts that are withheld have no words: their block comes with their proof.
    Withheld,
    Whole(usize),
    Nothing,
}

impl Encoder {
    pub(crate) const fn new(stamp: Stamp, same: bool) -> Self {
        let finish = (Finish::Stop, None);
        Self { stamp, same, begun: false, parts: Vec::new(), blocks: 0, usage: None, finish }
    }

    /// Writes a step. The beginning waits for the first part, so that it can tell what the prompt used.
    pub(crate) fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Start { model, .. } => self.stamp.answered(model.as_deref()),
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Open { what, .. } => {
                self.begin(out);
                self.open(what, out);
            }
            Delta::Add { part, text } => self.add(*part, text, out),
            Delta::Sign { part, signature } => self.sign(*part, signature, out),
            Delta::Close { part } => {
                if let Some(Kind::Text(n) | Kind::Thought(n) | Kind::Call(n) | Kind::Whole(n)) =
                    self.parts.get(*part)
                {
                    event(&json!({"type": "content_block_stop", "index": n}), out);
                }
            }
            Delta::Finish { finish, stop } => self.finish = (*finish, stop.clone()),
            Delta::End => self.end(out),
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let used = self.usage.map(|usage| Usage { output: usage.output.min(1), ..usage });
        let message = json!({
            "id": self.stamp.id, "type": "message", "role": "assistant", "model": self.stamp.model(""),
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": write_usage(used),
        });
        event(&json!({"type": "message_start", "message": message}), out);
    }

    fn open(&mut self, what: &Opening, out: &mut Vec<u8>) {
        let kind = match what {
            Opening::Text | Opening::Refusal => {
                Kind::Text(self.block(&json!({"type": "text", "text": ""}), out))
            }
            Opening::Thought { withheld: false, .. } => {
                Kind::Thought(self.block(&json!({"type": "thinking", "thinking": "", "signature": ""}), out))
            }
            Opening::Thought { withheld: true, .. } => Kind::Withheld,
            Opening::Call { id, name } => {
                Kind::Call(self.block(&json!({"type": "tool_use", "id": id, "name": name, "input": {}}), out))
            }
            Opening::Other(json) if self.same => Kind::Whole(self.block(&json.value(), out)),
            Opening::Other(_) => Kind::Nothing,
        };
        self.parts.push(kind);
    }

    fn block(&mut self, block: &Value, out: &mut Vec<u8>) -> usize {
        let n = self.blocks;
        self.blocks += 1;
        event(&json!({"type": "content_block_start", "index": n, "content_block": block}), out);
        n
    }

    fn add(&self, part: usize, text: &str, out: &mut Vec<u8>) {
        let (n, delta) = match self.parts.get(part) {
            Some(Kind::Text(n)) => (n, json!({"type": "text_delta", "text": text})),
            Some(Kind::Thought(n)) => (n, json!({"type": "thinking_delta", "thinking": text})),
            Some(Kind::Call(n)) => (n, json!({"type": "input_json_delta", "partial_json": text})),
            _ => return,
        };
        event(&json!({"type": "content_block_delta", "index": n, "delta": delta}), out);
    }

    fn sign(&mut self, part: usize, signature: &Signature, out: &mut Vec<u8>) {
        let proof = signature.shown_to(Family::Messages);
        match self.parts.get(part) {
            Some(Kind::Thought(n)) => {
                let delta = json!({"type": "signature_delta", "signature": proof});
                event(&json!({"type": "content_block_delta", "index": n, "delta": delta}), out);
            }
            Some(Kind::Withheld) => {
                let n = self.block(&json!({"type": "redacted_thinking", "data": proof}), out);
                if let Some(kind) = self.parts.get_mut(part) {
                    *kind = Kind::Whole(n);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        let (finish, stop) = &self.finish;
        let delta = json!({"stop_reason": write_reason(*finish), "stop_sequence": stop});
        let usage = write_usage(self.usage);
        event(&json!({"type": "message_delta", "delta": delta, "usage": usage}), out);
        event(&json!({"type": "message_stop"}), out);
    }
}

fn event(data: &Value, out: &mut Vec<u8>) {
    sse(data.get("type").and_then(Value::as_str), data, out);
}
