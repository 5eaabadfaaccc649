//! Pieces of a generateContent reply become steps of it.
//!
//! Invariant: a stream of this family has no last word; the reason for the reply's end is what finishes it.

use lantern_types::Failure;

use crate::convert::shared::{self, Numbers};
use crate::failure::{interrupted, invalid};
use crate::neutral::{Content, Delta, Finish, Opening, Part, Usage};
use crate::types::generate as wire;
use crate::vendor::errors;

use super::parts;

/// A reply in the making.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    numbers: Numbers,
    begun: bool,
    /// The part that words are added to, and whether it is a thought.
    open: Option<(usize, bool)>,
    calls: usize,
    finish: Option<String>,
    blocked: bool,
}

impl Decoder {
    /// The steps in a piece.
    pub(crate) fn take(&mut self, data: &[u8]) -> Result<Vec<Delta>, Failure> {
        let reply: wire::Reply = shared::sent(data)?;
        if let Some(error) = &reply.error {
            return Err(errors::in_band(error));
        }
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            out.push(Delta::Start { id: reply.response_id, model: reply.model_version });
        }
        self.blocked |= reply.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some());
        let candidates = reply.candidates.unwrap_or_default();
        let first = candidates.into_iter().find(|candidate| candidate.index.unwrap_or_default() == 0);
        if let Some(candidate) = first {
            for part in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
                let read = parts::read("parts", part, self.calls);
                self.part(read.map_err(|malformed| invalid(malformed.message))?, &mut out);
            }
            if let Some(reason) =
                candidate.finish_reason.filter(|reason| reason != "FINISH_REASON_UNSPECIFIED")
            {
                self.finish = Some(reason);
            }
        }
        out.extend(reply.usage_metadata.as_ref().and_then(read_usage).map(Delta::Usage));
        Ok(out)
    }

    fn part(&mut self, part: Part, out: &mut Vec<Delta>) {
        let Part { content, signature, .. } = part;
        match content {
            Content::Text(text) => self.words(text, false, out),
            Content::Thought(thought) => self.words(thought.text, true, out),
            Content::Call(call) => {
                self.calls += 1;
                self.shut(out);
                let part = self.numbers.open(Opening::Call { id: call.id, name: call.name }, out);
                out.push(Delta::Add { part, text: call.arguments });
                out.extend(signature.map(|signature| Delta::Sign { part, signature }));
                self.numbers.close(part, out);
                return;
            }
            Content::Other(json) => {
                self.shut(out);
                let part = self.numbers.open(Opening::Other(json), out);
                self.numbers.close(part, out);
                return;
            }
            // Pictures and sounds that the model made.
            other => {
                self.shut(out);
                let part = self.numbers.open(Opening::Other(parts::whole(other)), out);
                self.numbers.close(part, out);
                return;
            }
        }
        if let Some(signature) = signature {
            let (part, _) = *self.open.get_or_insert_with(|| (self.numbers.open(Opening::Text, out), false));
            out.push(Delta::Sign { part, signature });
            self.shut(out);
        }
    }

    fn words(&mut self, text: String, thought: bool, out: &mut Vec<Delta>) {
        if text.is_empty() {
            return;
        }
        if self.open.is_some_and(|(_, thinks)| thinks != thought) {
            self.shut(out);
        }
        let (part, _) = *self.open.get_or_insert_with(|| {
            let what = if thought { Opening::Thought { id: None, withheld: false } } else { Opening::Text };
            (self.numbers.open(what, out), thought)
        });
        out.push(Delta::Add { part, text });
    }

    fn shut(&mut self, out: &mut Vec<Delta>) {
        if let Some((part, _)) = self.open.take() {
            self.numbers.close(part, out);
        }
    }

    /// The last steps, once the stream has ended.
    pub(crate) fn end(mut self) -> Result<Vec<Delta>, Failure> {
        let finish = match self.finish.take() {
            Some(reason) => why(&reason, self.calls > 0)?,
            None if self.blocked => Finish::Filter,
            None if !self.begun => return Err(interrupted("the stream ended before the reply did")),
            None => return Err(interrupted("the reply broke off before its end")),
        };
        let mut out = Vec::new();
        self.numbers.close_all(&mut out);
        out.extend([Delta::Finish { finish, stop: None }, Delta::End]);
        Ok(out)
    }
}

fn why(reason: &str, calls: bool) -> Result<Finish, Failure> {
    match reason {
        "STOP" if calls => Ok(Finish::Calls),
        "STOP" => Ok(Finish::Stop),
        "MAX_TOKENS" => Ok(Finish::Length),
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => Ok(Finish::Filter),
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MALFORMED_RESPONSE"
        | "MISSING_THOUGHT_SIGNATURE" => Err(invalid(format!("the model ended its reply with {reason}"))),
        "OTHER" | "IMAGE_OTHER" | "NO_IMAGE" => {
            Err(interrupted(format!("the provider ended the reply with {reason}")))
        }
        _ => Ok(Finish::Stop),
    }
}

/// Thoughts are counted beside the reply, and so are prompts of tools beside the prompt.
fn read_usage(usage: &wire::Usage) -> Option<Usage> {
    let thoughts = usage.thoughts_token_count.unwrap_or_default();
    let tools = usage.tool_use_prompt_token_count.unwrap_or_default();
    Some(Usage {
        input: usage.prompt_token_count?.saturating_add(tools),
        output: usage.candidates_token_count.unwrap_or_default().saturating_add(thoughts),
        cache_read: usage.cached_content_token_count.unwrap_or_default(),
        cache_write: 0,
        cache_write_long: 0,
        thoughts,
    })
}
