//! Whole Converse replies, read from a provider and written at a front door.

use lantern_types::Failure;
use serde_json::{Value, json};

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::shared;
use crate::failure::invalid;
use crate::neutral::{Finish, Reply, Usage};
use crate::types::converse as wire;

use super::blocks;

/// Reads a whole reply. This wire does not say which model answered.
pub(crate) fn read(body: &[u8], asked: &str) -> Result<Reply, Failure> {
    let reply: wire::Reply = shared::sent(body)?;
    let message = reply.output.and_then(|output| output.message);
    let message = message.ok_or_else(|| invalid("the reply has no message"))?;
    let parts = blocks::read("output.message.content", message.content.unwrap_or_default());
    let reason = reply.stop_reason.ok_or_else(|| invalid("the reply does not say why it ended"))?;
    Ok(Reply {
        id: None,
        model: asked.to_owned(),
        parts: parts.map_err(|malformed| invalid(malformed.message))?,
        finish: read_reason(&reason)?,
        stop: None,
        usage: reply.usage.as_ref().and_then(read_usage),
        from: Some(Family::Converse),
        extra: reply.rest,
    })
}

/// Why a reply ended. A reason that is not known counts as an end.
pub(super) fn read_reason(reason: &str) -> Result<Finish, Failure> {
    Ok(match reason {
        "tool_use" => Finish::Calls,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "stop_sequence" => Finish::StopText,
        "guardrail_intervened" | "content_filtered" => Finish::Filter,
        "malformed_model_output" | "malformed_tool_use" => {
            return Err(invalid(format!("the model ended its reply with {reason}")));
        }
        _ => Finish::Stop,
    })
}

/// The same in this family's words.
pub(super) const fn write_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Pause => "end_turn",
        Finish::StopText => "stop_sequence",
        Finish::Calls => "tool_use",
        Finish::Length => "max_tokens",
        Finish::Filter => "content_filtered",
    }
}

/// What was used. The tokens that a cache took part in are counted beside the others.
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html>
pub(super) fn read_usage(usage: &wire::Usage) -> Option<Usage> {
    let cache_read = usage.cache_read_input_tokens.unwrap_or_default();
    let cache_write = usage.cache_write_input_tokens.unwrap_or_default();
    let details = usage.cache_details.iter().flatten();
    let long =
        details.filter(|detail| detail.ttl.as_deref() == Some("1h")).filter_map(|detail| detail.input_tokens);
    Some(Usage {
        input: usage.input_tokens?.saturating_add(cache_read).saturating_add(cache_write),
        output: usage.output_tokens?,
        cache_read,
        cache_write,
        cache_write_long: long.fold(0, u64::saturating_add),
        thoughts: 0,
    })
}

/// The same in this family's words.
pub(super) fn write_usage(usage: Option<Usage>) -> Value {
    let usage = usage.unwrap_or_default();
    let beside = usage.cache_read.saturating_add(usage.cache_write);
    let short = usage.cache_write.saturating_sub(usage.cache_write_long);
    let details =
        [("1h", usage.cache_write_long), ("5m", short)].into_iter().filter(|(_, tokens)| *tokens > 0);
    let details = details.map(|(ttl, tokens)| json!({"ttl": ttl, "inputTokens": tokens}));
    json!({
        "inputTokens": usage.input.saturating_sub(beside),
        "outputTokens": usage.output,
        "totalTokens": usage.input.saturating_add(usage.output),
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": usage.cache_write,
        "cacheDetails": details.collect::<Vec<_>>(),
    })
}

/// Writes a whole reply. How long it took is for the caller to fill in.
pub(crate) fn write(reply: &Reply, lost: &mut Lost) -> Value {
    let content: Vec<wire::Block> = reply.parts.iter().filter_map(|part| blocks::show(part, lost)).collect();
    let mut body = json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": write_reason(reply.finish),
        "usage": write_usage(reply.usage),
        "metrics": {"latencyMs": 0},
    });
    if let Some(fields) = body.as_object_mut() {
        fields.extend(lost.rest("", &reply.extra));
    }
    body
}
