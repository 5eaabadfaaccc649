//! Whole generateContent replies, read from a provider and written at a front door.

use lantern_types::Failure;
use serde_json::{Value, json};

use crate::Family;
use crate::convert::Stamp;
use crate::convert::lost::Lost;
use crate::neutral::{Assembly, Finish, Reply, Usage};
use crate::types::generate as wire;

use super::parts;
use super::stream_in::Decoder;

/// Reads a whole reply: a stream of one piece.
pub(crate) fn read(body: &[u8], asked: &str) -> Result<Reply, Failure> {
    let mut decoder = Decoder::default();
    let mut assembly = Assembly::default();
    for delta in decoder.take(body)? {
        assembly.take(&delta)?;
    }
    for delta in decoder.end()? {
        assembly.take(&delta)?;
    }
    assembly.finish(Family::Generate, asked)
}

/// Writes a whole reply.
pub(crate) fn write(reply: &Reply, stamp: &Stamp, lost: &mut Lost) -> Value {
    let said: Vec<wire::Part> = reply.parts.iter().filter_map(|part| parts::show(part, lost)).collect();
    let candidate = json!({
        "content": {"parts": said, "role": "model"}, "finishReason": write_reason(reply.finish), "index": 0,
    });
    let mut body = json!({
        "candidates": [candidate], "modelVersion": stamp.model(&reply.model),
        "responseId": reply.id.as_ref().filter(|_| lost.same()).unwrap_or(&stamp.id),
    });
    if let (Some(usage), Some(fields)) = (reply.usage, body.as_object_mut()) {
        fields.insert("usageMetadata".to_owned(), write_usage(usage));
    }
    body
}

/// Why a reply ended, in this family's words.
pub(super) const fn write_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopText | Finish::Calls | Finish::Pause => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filter => "SAFETY",
    }
}

/// What was used, in this family's words.
pub(super) fn write_usage(usage: Usage) -> Value {
    json!({
        "promptTokenCount": usage.input,
        "cachedContentTokenCount": usage.cache_read,
        "candidatesTokenCount": usage.output.saturating_sub(usage.thoughts),
        "thoughtsTokenCount": usage.thoughts,
        "totalTokenCount": usage.input.saturating_add(usage.output),
    })
}
