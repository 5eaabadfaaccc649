//! Steps of a reply become the binary events of a Converse stream.

use serde_json::{Value, json};

use crate::convert::problem::{Problem, exception};
use crate::convert::shared;
use crate::frames::Message;
use crate::neutral::{Delta, Finish, Opening, Usage};

use super::blocks::show_proof;
use super::reply::{write_reason, write_usage};

/// Writes one stream.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    begun: bool,
    parts: Vec<Option<(usize, Kind)>>,
    blocks: usize,
    usage: Option<Usage>,
    finish: Option<Finish>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Call,
    Thought { withheld: bool },
}

impl Encoder {
    /// Writes a step.
    pub(crate) fn push(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Start { .. } => self.begin(out),
            Delta::Open { what, .. } => {
                self.begin(out);
                self.open(what, out);
            }
            Delta::Add { part, text } => {
                let Some(Some((n, kind))) = self.parts.get(*part) else { return };
                let delta = match kind {
                    Kind::Text => json!({"text": text}),
                    Kind::Call => json!({"toolUse": {"input": text}}),
                    Kind::Thought { .. } => json!({"reasoningContent": {"text": text}}),
                };
                event("contentBlockDelta", &json!({"contentBlockIndex": n, "delta": delta}), out);
            }
            Delta::Sign { part, signature } => {
                let Some(Some((n, Kind::Thought { withheld }))) = self.parts.get(*part) else { return };
                let field = if *withheld { "redactedContent" } else { "signature" };
                let delta = json!({"reasoningContent": {field: show_proof(signature, *withheld)}});
                event("contentBlockDelta", &json!({"contentBlockIndex": n, "delta": delta}), out);
            }
            Delta::Close { part } => {
                if let Some(Some((n, _))) = self.parts.get(*part) {
                    event("contentBlockStop", &json!({"contentBlockIndex": n}), out);
                }
            }
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Finish { finish, .. } => self.finish = Some(*finish),
            Delta::End => {
                self.begin(out);
                let reason = write_reason(self.finish.unwrap_or(Finish::Stop));
                event("messageStop", &json!({"stopReason": reason}), out);
                let usage = write_usage(self.usage);
                event("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 0}}), out);
            }
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            event("messageStart", &json!({"role": "assistant"}), out);
        }
    }

    fn open(&mut self, what: &Opening, out: &mut Vec<u8>) {
        let kind = match what {
            Opening::Text | Opening::Refusal => Kind::Text,
            Opening::Thought { withheld, .. } => Kind::Thought { withheld: *withheld },
            Opening::Call { id, name } => {
                let start = json!({"toolUse": {"toolUseId": id, "name": name}});
                event("contentBlockStart", &json!({"contentBlockIndex": self.blocks, "start": start}), out);
                Kind::Call
            }
            Opening::Other(_) => {
                self.parts.push(None);
                return;
            }
        };
        self.parts.push(Some((self.blocks, kind)));
        self.blocks += 1;
    }
}

fn event(kind: &str, payload: &Value, out: &mut Vec<u8>) {
    message("event", ":event-type", kind, payload).write(out);
}

/// An exception, after which the stream is over.
pub(crate) fn fail(problem: &Problem, out: &mut Vec<u8>) {
    let name = exception(problem.kind);
    let mut kind = name.to_owned();
    if let Some(first) = kind.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    message("exception", ":exception-type", &kind, &json!({"message": problem.message})).write(out);
}

fn message(kind: &str, name: &str, value: &str, payload: &Value) -> Message {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers =
        vec![header(name, value), header(":content-type", "application/json"), header(":message-type", kind)];
    Message { headers, payload: shared::bytes(payload) }
}
