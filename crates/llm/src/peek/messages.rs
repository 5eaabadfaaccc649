//! Messages: events, whole answers, and the end of a stream that is stopped.

use lantern_types::call::Used;
use serde_json::{Value, json};

use super::{Said, SoFar, text_len, tokens};

pub(super) fn event(data: &[u8], so_far: &mut SoFar) -> Option<Said> {
    let event: Value = serde_json::from_slice(data).ok()?;
    let mut said = Said::default();
    match event.get("type").and_then(Value::as_str)? {
        "message_start" => {
            so_far.began = true;
            said.used = event.pointer("/message/usage").map(used);
        }
        "content_block_start" => so_far.open.push(tokens(&event, "index")),
        "content_block_stop" => {
            let index = tokens(&event, "index");
            so_far.open.retain(|open| *open != index);
        }
        "content_block_delta" => {
            let delta = event.get("delta")?;
            let parts = ["text", "partial_json", "thinking"];
            said.bytes = parts.iter().map(|name| text_len(delta.get(name))).sum();
        }
        "message_delta" => {
            said.used = event.get("usage").map(used);
            said.last_word = said.used.is_some();
        }
        "message_stop" => said.over = true,
        _ => {}
    }
    Some(said)
}

pub(super) fn whole(answer: &Value) -> Said {
    let of_block = |block: &Value| {
        let text: usize = ["text", "thinking"].iter().map(|name| text_len(block.get(name))).sum();
        text + block.get("input").map_or(0, |input| input.to_string().len())
    };
    let blocks = answer.get("content").and_then(Value::as_array);
    let bytes = blocks.into_iter().flatten().map(of_block).sum();
    Said { used: answer.get("usage").map(used), bytes, ..Said::default() }
}

pub(super) fn ending(so_far: &SoFar) -> String {
    let event = |value: Value| {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        format!("event: {kind}\ndata: {value}\n\n")
    };
    let mut text = String::new();
    if !so_far.began {
        let usage = json!({"input_tokens": 0, "output_tokens": 0});
        let message = json!({"id": "msg_stopped", "type": "message", "role": "assistant", "model": "",
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage});
        text += &event(json!({"type": "message_start", "message": message}));
    }
    for index in &so_far.open {
        text += &event(json!({"type": "content_block_stop", "index": index}));
    }
    let delta = json!({"stop_reason": "max_tokens", "stop_sequence": null});
    let usage = json!({"output_tokens": so_far.seen.at_least()});
    text += &event(json!({"type": "message_delta", "delta": delta, "usage": usage}));
    text + &event(json!({"type": "message_stop"}))
}

/// Tokens that were read from the cache, or written to it, are beside the input tokens.
fn used(usage: &Value) -> Used {
    let written = tokens(usage, "cache_creation_input_tokens");
    let long = usage.get("cache_creation").map_or(0, |parts| tokens(parts, "ephemeral_1h_input_tokens"));
    Used {
        input: tokens(usage, "input_tokens"),
        cache_read: tokens(usage, "cache_read_input_tokens"),
        cache_write: written.saturating_sub(long),
        cache_write_long: long,
        output: tokens(usage, "output_tokens"),
    }
}
