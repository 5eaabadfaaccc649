//! Whole messages, read from a provider and written at a front door.

use lantern_types::Failure;
use serde_json::{Value, json};

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::{Stamp, shared};
use crate::failure::invalid;
use crate::neutral::{Finish, Reply, Usage};
use crate::types::messages as wire;
use crate::vendor::errors;

use super::blocks;

/// Reads a whole reply.
pub(crate) fn read(body: &[u8], asked: &str) -> Result<Reply, Failure> {
    let reply: wire::Reply = shared::sent(body)?;
    if let Some(error) = &reply.error {
        return Err(errors::in_band(error));
    }
    let blocks = reply.content.ok_or_else(|| invalid("the reply has no content"))?;
    let parts =
        blocks.into_iter().enumerate().map(|(n, block)| blocks::read(&format!("content[{n}]"), block));
    let parts = parts.collect::<Result<_, _>>().map_err(|malformed| invalid(malformed.message))?;
    let reason = reply.stop_reason.ok_or_else(|| invalid("the reply does not say why it ended"))?;
    Ok(Reply {
        id: reply.id,
        model: reply.model.filter(|name| !name.is_empty()).unwrap_or_else(|| asked.to_owned()),
        parts,
        finish: read_reason(&reason),
        stop: reply.stop_sequence,
        usage: reply.usage.as_ref().and_then(read_usage),
        from: Some(Family::Messages),
        extra: reply.rest,
    })
}

/// Why a reply ended. A reason that is not known counts as an end.
pub(super) fn read_reason(reason: &str) -> Finish {
    match reason {
        "tool_use" => Finish::Calls,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "stop_sequence" => Finish::StopText,
        "refusal" => Finish::Filter,
        "pause_turn" => Finish::Pause,
        _ => Finish::Stop,
    }
}

/// The same in this family's words.
pub(super) const fn write_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::StopText => "stop_sequence",
        Finish::Calls => "tool_use",
        Finish::Length => "max_tokens",
        Finish::Filter => "refusal",
        Finish::Pause => "pause_turn",
    }
}

/// What was used. The tokens that a cache took part in are counted beside the others.
pub(super) fn read_usage(usage: &wire::Usage) -> Option<Usage> {
    let cache_read = usage.cache_read_input_tokens.unwrap_or_default();
    let cache_write = usage.cache_creation_input_tokens.unwrap_or_default();
    let long = usage.cache_creation.as_ref().and_then(|kept| kept.ephemeral_1h_input_tokens);
    let thoughts = usage.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens);
    Some(Usage {
        input: usage.input_tokens?.saturating_add(cache_read).saturating_add(cache_write),
        output: usage.output_tokens?,
        cache_read,
        cache_write,
        cache_write_long: long.unwrap_or_default(),
        thoughts: thoughts.unwrap_or_default(),
    })
}

/// The same in this family's words.
pub(super) fn write_usage(usage: Option<Usage>) -> Value {
    let usage = usage.unwrap_or_default();
    let beside = usage.cache_read.saturating_add(usage.cache_write);
    json!({
        "input_tokens": usage.input.saturating_sub(beside),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write.saturating_sub(usage.cache_write_long),
            "ephemeral_1h_input_tokens": usage.cache_write_long,
        },
        "output_tokens": usage.output,
    })
}

/// Writes a whole reply.
pub(crate) fn write(reply: &Reply, stamp: &Stamp, lost: &mut Lost) -> Value {
    let content: Vec<wire::Block> = reply.parts.iter().filter_map(|part| blocks::show(part, lost)).collect();
    let mut body = json!({
        "id": reply.id.as_ref().filter(|_| lost.same()).unwrap_or(&stamp.id), "type": "message",
        "role": "assistant", "model": stamp.model(&reply.model), "content": content,
        "stop_reason": write_reason(reply.finish), "stop_sequence": reply.stop,
        "usage": write_usage(reply.usage),
    });
    if let Some(fields) = body.as_object_mut() {
        fields.extend(lost.rest("", &reply.extra));
    }
    body
}
