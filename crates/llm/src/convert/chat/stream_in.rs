//! Chunks of a chat completion become steps of a reply.
//!
//! Invariant: tool calls come in the order in which they began, each with the arguments exactly as the model wrote
//! them. A reply without a reason for its end is not finished. Knows nothing of HTTP or SSE.

use lantern_types::Failure;
use serde_json::Value;

use crate::Family;
use crate::convert::shared::{Numbers, nameless};
use crate::failure::{interrupted, invalid};
use crate::neutral::{Content, Delta, Finish, Opening, Part, Signature, Usage};
use crate::types::Said;
use crate::types::chat as wire;

use super::request::{read_content, read_thoughts};

/// More tool calls in one reply than any agent could want.
const CALLS_MAX: usize = 128;

/// A reply in the making.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    numbers: Numbers,
    begun: bool,
    thought: Option<usize>,
    text: Option<usize>,
    refusal: Option<usize>,
    worded: bool,
    calls: Vec<Call>,
    finish: Option<String>,
    answered: bool,
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    part: Option<usize>,
}

impl Decoder {
    /// The steps in a chunk. Only the first choice counts: no more are asked for.
    pub(crate) fn take(&mut self, chunk: wire::Chunk) -> Result<Vec<Delta>, Failure> {
        let usage = chunk.usage.or_else(|| chunk.x_groq.and_then(|groq| groq.usage));
        if chunk.choices.is_none() && usage.is_none() {
            return Err(invalid("the reply has no choices"));
        }
        let mut out = Vec::new();
        let model = chunk.model.filter(|name| !name.is_empty());
        if !self.begun
            && (model.is_some() || chunk.choices.as_ref().is_some_and(|choices| !choices.is_empty()))
        {
            self.begun = model.is_some();
            out.push(Delta::Start { id: chunk.id, model });
        }
        out.extend(usage.as_ref().and_then(read_usage).map(Delta::Usage));
        for choice in chunk.choices.unwrap_or_default() {
            if choice.index.unwrap_or_default() != 0 {
                continue;
            }
            self.answered = true;
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.finish = Some(reason);
            }
            // A reply that comes whole has whole calls.
            let whole = choice.delta.is_none();
            self.said(choice.delta.or(choice.message).unwrap_or_default(), whole, &mut out)?;
        }
        Ok(out)
    }

    fn said(&mut self, said: wire::Message, whole: bool, out: &mut Vec<Delta>) -> Result<(), Failure> {
        for part in read_thoughts(said.reasoning_details, said.reasoning_content.or(said.reasoning)) {
            self.thought(part, out);
        }
        match said.content {
            Some(Said::Text(text)) => self.text(text, out),
            Some(Said::Parts(parts)) => self.parts(parts, out)?,
            None => {}
        }
        if let Some(text) = said.refusal.filter(|text| !text.is_empty()) {
            let part = *self.refusal.get_or_insert_with(|| self.numbers.open(Opening::Refusal, out));
            out.push(Delta::Add { part, text });
        }
        for part in said.tool_calls.unwrap_or_default() {
            self.call(part, whole, out)?;
        }
        Ok(())
    }

    /// Content in parts: words, and thoughts as Mistral writes them.
    fn parts(&mut self, parts: Vec<wire::Part>, out: &mut Vec<Delta>) -> Result<(), Failure> {
        for part in parts {
            match part.thinking {
                Some(Value::Array(inner)) => {
                    let words = inner.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
                    for thought in read_thoughts(None, Some(words.collect())) {
                        self.thought(thought, out);
                    }
                }
                Some(Value::String(words)) => {
                    for thought in read_thoughts(None, Some(words)) {
                        self.thought(thought, out);
                    }
                }
                _ => {
                    let read = read_content("reply", Some(Said::Parts(vec![part])));
                    for part in read.map_err(|malformed| invalid(malformed.message))? {
                        if let Content::Text(text) = part.content {
                            self.text(text, out);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, text: String, out: &mut Vec<Delta>) {
        if text.is_empty() {
            return;
        }
        if let Some(thought) = self.thought.take() {
            self.numbers.close(thought, out);
        }
        self.worded = true;
        let part = *self.text.get_or_insert_with(|| self.numbers.open(Opening::Text, out));
        out.push(Delta::Add { part, text });
    }

    fn thought(&mut self, part: Part, out: &mut Vec<Delta>) {
        let Content::Thought(thought) = part.content else { return };
        if let Some(text) = self.text.take() {
            self.numbers.close(text, out);
        }
        let open = |numbers: &mut Numbers, out: &mut Vec<Delta>| {
            numbers.open(Opening::Thought { id: thought.id.clone(), withheld: thought.withheld }, out)
        };
        if thought.withheld {
            let number = open(&mut self.numbers, out);
            out.extend(part.signature.map(|signature| Delta::Sign { part: number, signature }));
            self.numbers.close(number, out);
            return;
        }
        let number = *self.thought.get_or_insert_with(|| open(&mut self.numbers, out));
        if !thought.text.is_empty() {
            out.push(Delta::Add { part: number, text: thought.text });
        }
        if let Some(signature) = part.signature {
            out.push(Delta::Sign { part: number, signature });
            self.thought = None;
            self.numbers.close(number, out);
        }
    }

    fn call(&mut self, part: wire::Call, whole: bool, out: &mut Vec<Delta>) -> Result<(), Failure> {
        let id = part.id.unwrap_or_default();
        let function = part.function.unwrap_or_default();
        let starts = whole || part.index.is_none() && id.is_empty() && function.name.is_some();
        let place = self.call_for(part.index, &id, starts)?;
        let taken = self.calls.iter().take(place).any(|other| other.id == id);
        let Some(call) = self.calls.get_mut(place) else { return Ok(()) };
        if call.id.is_empty() {
            // Results are matched to calls by id: of those with the same, all but the first get another.
            call.id = if taken && !id.is_empty() { format!("{id}_{place}") } else { id };
        }
        // The name comes whole; some servers repeat it with every part.
        if call.name.is_empty() {
            call.name = function.name.unwrap_or_default();
        }
        let arguments = function.arguments.unwrap_or_default();
        if call.part.is_none() {
            if call.name.is_empty() {
                return if arguments.is_empty() { Ok(()) } else { Err(nameless()) };
            }
            // Results are matched to calls by id, so a server that gives none gets one.
            if call.id.is_empty() {
                call.id = format!("call_{place}");
            }
            for open in [self.thought.take(), self.text.take()].into_iter().flatten() {
                self.numbers.close(open, out);
            }
            let what = Opening::Call { id: call.id.clone(), name: call.name.clone() };
            call.part = Some(self.numbers.open(what, out));
        }
        let proof =
            part.extra_content.and_then(|extra| extra.google).and_then(|google| google.thought_signature);
        if let Some(part) = call.part {
            if !arguments.is_empty() {
                out.push(Delta::Add { part, text: arguments });
            }
            let signature = proof.map(|proof| Signature::read(Family::Chat, proof));
            out.extend(signature.map(|signature| Delta::Sign { part, signature }));
        }
        Ok(())
    }

    /// Parts belong together by index. Servers that leave it out, or give every call index 0, start each call with
    /// an id of its own; where even that is missing, a name `starts` a call.
    fn call_for(&mut self, index: Option<u64>, id: &str, starts: bool) -> Result<usize, Failure> {
        let same = |call: &Call| !starts && (id.is_empty() || call.id.is_empty() || call.id == id);
        let candidate = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let place = candidate.filter(|at| self.calls.get(*at).is_some_and(same));
        let place = place.unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            self.calls.len() - 1
        });
        if place >= CALLS_MAX {
            return Err(invalid(format!("the reply has more than {CALLS_MAX} tool calls")));
        }
        Ok(place)
    }

    /// Whether the model said why it stopped.
    fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// A reply that came whole is whole: a server that does not stream may leave the reason for the end out.
    pub(crate) fn was_whole(&mut self) {
        if self.answered {
            self.finish.get_or_insert_with(|| "stop".to_owned());
        }
    }

    /// The last steps, once the stream has ended; `done` when it said so.
    pub(crate) fn end(mut self, done: bool) -> Result<Vec<Delta>, Failure> {
        if !done && !self.is_finished() {
            return Err(interrupted("the stream ended before the reply did"));
        }
        if !self.answered {
            return Err(invalid("the reply has no choices"));
        }
        let Some(reason) = self.finish else {
            return Err(interrupted("the reply broke off before its end"));
        };
        if self.calls.iter().any(|call| call.part.is_none()) {
            return Err(nameless());
        }
        let withheld = !self.worded && self.refusal.is_some();
        let finish = if withheld { Finish::Filter } else { why(&reason, !self.calls.is_empty())? };
        let mut out = Vec::new();
        self.numbers.close_all(&mut out);
        out.extend([Delta::Finish { finish, stop: None }, Delta::End]);
        Ok(out)
    }
}

/// Some servers say `stop` beside tool calls, and others `tool_calls` without any.
fn why(reason: &str, calls: bool) -> Result<Finish, Failure> {
    match reason {
        "length" | "model_length" => Ok(Finish::Length),
        "content_filter" => Ok(Finish::Filter),
        "error" => Err(interrupted("the provider ended the reply with an error")),
        _ if calls => Ok(Finish::Calls),
        _ => Ok(Finish::Stop),
    }
}

/// Both counts or nothing: half a bill is no bill. Some servers count thoughts beside the reply and not in it; their
/// total tells.
fn read_usage(usage: &Value) -> Option<Usage> {
    let at = |path: &str| usage.pointer(path).and_then(Value::as_u64);
    let (input, said) = (at("/prompt_tokens")?, at("/completion_tokens")?);
    let thoughts = at("/completion_tokens_details/reasoning_tokens").unwrap_or_default();
    let apart = thoughts > 0
        && at("/total_tokens") == input.checked_add(said).and_then(|sum| sum.checked_add(thoughts));
    let cached = at("/prompt_tokens_details/cached_tokens").or_else(|| at("/prompt_cache_hit_tokens"));
    Some(Usage {
        input,
        output: if apart { said.saturating_add(thoughts) } else { said },
        cache_read: cached.or_else(|| at("/cached_tokens")).unwrap_or_default(),
        cache_write: at("/prompt_tokens_details/cache_write_tokens").unwrap_or_default(),
        cache_write_long: 0,
        thoughts,
    })
}
