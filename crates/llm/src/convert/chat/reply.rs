//! Whole chat completions, read from a provider and written at a front door.

use lantern_types::Failure;
use serde_json::{Value, json};

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::{Stamp, shared};
use crate::neutral::{Assembly, Call, Content, Extra, Finish, Part, Reply, Signature, Usage};
use crate::types::chat as wire;
use crate::vendor::errors;

use super::stream_in::Decoder;
use super::write::detail;

/// A chunk or a whole reply; an error in its place is a failure.
pub(crate) fn chunk(json: &[u8]) -> Result<wire::Chunk, Failure> {
    let chunk: wire::Chunk = shared::sent(json)?;
    match &chunk.error {
        Some(error) => Err(errors::in_band(error)),
        None => Ok(chunk),
    }
}

/// Reads a whole reply.
pub(crate) fn read(body: &[u8], asked: &str) -> Result<Reply, Failure> {
    let mut decoder = Decoder::default();
    let mut assembly = Assembly::default();
    for delta in decoder.take(chunk(body)?)? {
        assembly.take(&delta)?;
    }
    decoder.was_whole();
    for delta in decoder.end(true)? {
        assembly.take(&delta)?;
    }
    assembly.finish(Family::Chat, asked)
}

/// Writes a whole reply.
pub(crate) fn write(reply: &Reply, stamp: &Stamp, lost: &mut Lost) -> Value {
    let mut message = wire::Message { role: Some("assistant".to_owned()), ..wire::Message::default() };
    let (mut text, mut calls, mut details) = (None::<String>, Vec::new(), Vec::new());
    for part in &reply.parts {
        match &part.content {
            Content::Text(words) => text.get_or_insert_default().push_str(words),
            Content::Refusal(words) => message.refusal.get_or_insert_default().push_str(words),
            Content::Call(call) => calls.push(write_call(call, part)),
            Content::Thought(thought) => {
                message.reasoning_content.get_or_insert_default().push_str(&thought.text);
                details.push(part);
            }
            _ => lost.note("content"),
        }
    }
    message.reasoning_content = message.reasoning_content.filter(|words| !words.is_empty());
    message.reasoning_details = proofs(&details);
    message.rest.insert("content".to_owned(), text.map_or(Value::Null, Value::String));
    if message.refusal.is_none() {
        message.rest.insert("refusal".to_owned(), Value::Null);
    }
    message.tool_calls = Some(calls).filter(|calls| !calls.is_empty());
    let choice = json!({
        "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(reply.finish),
    });
    let mut body = json!({
        "id": reply.id.as_ref().filter(|_| lost.same()).unwrap_or(&stamp.id), "object": "chat.completion",
        "created": stamp.created, "model": stamp.model(&reply.model), "choices": [choice],
    });
    if let (Some(usage), Some(fields)) = (reply.usage, body.as_object_mut()) {
        fields.insert("usage".to_owned(), write_usage(usage));
        fields.extend(lost.rest("", &reply.extra));
    }
    body
}

fn write_call(call: &Call, part: &Part) -> wire::Call {
    let function = wire::CallFunction {
        name: Some(call.name.clone()),
        arguments: Some(call.arguments.clone()),
        rest: Extra::new(),
    };
    wire::Call {
        id: Some(call.id.clone()),
        kind: Some("function".to_owned()),
        function: Some(function),
        extra_content: part.signature.as_ref().map(write_proof),
        ..wire::Call::default()
    }
}

/// A call's proof in the field where clients of this wire already carry one.
pub(super) fn write_proof(proof: &Signature) -> wire::ExtraContent {
    let google =
        wire::GoogleContent { thought_signature: Some(proof.shown_to(Family::Chat)), rest: Extra::new() };
    wire::ExtraContent { google: Some(google), rest: Extra::new() }
}

/// Thoughts with their proofs, when any has one.
fn proofs(thoughts: &[&Part]) -> Option<Vec<wire::ReasoningDetail>> {
    let proven = thoughts.iter().any(|part| part.signature.is_some());
    proven.then(|| thoughts.iter().enumerate().filter_map(|(n, part)| detail(n, part)).collect())
}

/// The reason for a reply's end in this family's words.
pub(super) const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopText | Finish::Pause => "stop",
        Finish::Calls => "tool_calls",
        Finish::Length => "length",
        Finish::Filter => "content_filter",
    }
}

/// What was used in this family's words.
pub(super) fn write_usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input.saturating_add(usage.output),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "completion_tokens_details": {"reasoning_tokens": usage.thoughts},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_whole_reply_stay_apart_whatever_their_ids() {
        let call = |id: &str, n: u64| {
            let function = json!({"name": "calc", "arguments": format!("{{\"n\":{n}}}")});
            json!({"id": id, "type": "function", "function": function})
        };
        for (ids, want) in
            [(["a", "b"], ["a", "b"]), (["a", "a"], ["a", "a_1"]), (["", ""], ["call_0", "call_1"])]
        {
            let message = json!({"role": "assistant", "tool_calls": [call(ids[0], 1), call(ids[1], 2)]});
            let whole = json!({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]});
            let reply = read(&serde_json::to_vec(&whole).unwrap(), "m").unwrap();
            let calls = reply.parts.iter().filter_map(|part| match &part.content {
                Content::Call(Call { id, arguments, .. }) => Some((id.as_str(), arguments.as_str())),
                _ => None,
            });
            let calls: Vec<_> = calls.collect();
            assert_eq!(calls, [(want[0], "{\"n\":1}"), (want[1], "{\"n\":2}")]);
        }
    }
}
