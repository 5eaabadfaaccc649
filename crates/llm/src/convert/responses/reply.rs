//! Whole responses, read from a provider and written at a front door.

use lantern_types::Failure;
use serde_json::{Value, json};

use crate::Family;
use crate::convert::lost::Lost;
use crate::convert::{Stamp, shared};
use crate::failure::{interrupted, invalid};
use crate::neutral::{Content, Finish, Part, Reply, Usage};
use crate::types::responses as wire;
use crate::vendor::errors;

use super::items;

/// Reads a whole reply.
pub(crate) fn read(body: &[u8], asked: &str) -> Result<Reply, Failure> {
    let reply: wire::Reply = shared::sent(body)?;
    let mut parts = Vec::new();
    let output = reply.output.clone().unwrap_or_default();
    if reply.output.is_none() && reply.error.is_none() {
        return Err(invalid("the reply has no output"));
    }
    for (n, item) in output.into_iter().enumerate() {
        parts.extend(read_item(&format!("output[{n}]"), item)?);
    }
    let calls = parts.iter().any(|part| matches!(part.content, Content::Call(_)));
    Ok(Reply {
        finish: read_finish(&reply, calls)?,
        usage: reply.usage.as_ref().and_then(read_usage),
        id: reply.id,
        model: reply.model.filter(|name| !name.is_empty()).unwrap_or_else(|| asked.to_owned()),
        parts,
        stop: None,
        from: Some(Family::Responses),
        extra: reply.rest,
    })
}

/// The parts of an item.
pub(super) fn read_item(at: &str, item: wire::Item) -> Result<Vec<Part>, Failure> {
    let read = if item.kind.as_deref() == Some("message") {
        item.content.map_or(Ok(Vec::new()), |content| items::read_said(&format!("{at}.content"), content))
    } else {
        items::read_output_item(at, item).map(|part| vec![part])
    };
    read.map_err(|malformed| invalid(malformed.message))
}

/// Why a reply ended.
pub(super) fn read_finish(reply: &wire::Reply, calls: bool) -> Result<Finish, Failure> {
    if let Some(error) = &reply.error {
        return Err(errors::in_band(error));
    }
    let reason = reply.incomplete_details.as_ref().and_then(|details| details.reason.as_deref());
    match (reply.status.as_deref(), reason) {
        (Some("failed" | "cancelled"), _) => Err(interrupted("the provider ended the reply with an error")),
        (Some("queued" | "in_progress"), _) => Err(interrupted("the reply is not finished")),
        (_, Some("content_filter")) => Ok(Finish::Filter),
        (Some("incomplete"), _) | (_, Some(_)) => Ok(Finish::Length),
        _ if calls => Ok(Finish::Calls),
        _ => Ok(Finish::Stop),
    }
}

/// What was used.
pub(super) fn read_usage(usage: &wire::Usage) -> Option<Usage> {
    let input = usage.input_tokens_details.clone().unwrap_or_default();
    let output = usage.output_tokens_details.clone().unwrap_or_default();
    Some(Usage {
        input: usage.input_tokens?,
        output: usage.output_tokens?,
        cache_read: input.cached_tokens.unwrap_or_default(),
        cache_write: input.cache_write_tokens.unwrap_or_default(),
        cache_write_long: 0,
        thoughts: output.reasoning_tokens.unwrap_or_default(),
    })
}

/// The same in this family's words.
pub(super) fn write_usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.thoughts},
        "total_tokens": usage.input.saturating_add(usage.output),
    })
}

/// Writes a whole reply.
pub(crate) fn write(reply: &Reply, stamp: &Stamp, lost: &mut Lost) -> Value {
    let mut output = Vec::new();
    for part in &reply.parts {
        output.extend(write_item(part, &stamp.id, output.len(), lost));
    }
    let id = reply.id.as_ref().filter(|_| lost.same()).unwrap_or(&stamp.id).clone();
    let mut body = frame(&id, stamp.created, stamp.model(&reply.model));
    finish(&mut body, reply.finish, output, reply.usage);
    if let Some(fields) = body.as_object_mut() {
        fields.extend(lost.rest("", &reply.extra));
    }
    body
}

/// An item of a reply, whole.
fn write_item(part: &Part, id: &str, n: usize, lost: &mut Lost) -> Option<Value> {
    let item_id = |kind: &str| item_id(kind, id, n);
    Some(match &part.content {
        Content::Text(text) => {
            let said = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
            message(&item_id("msg"), &[said], "completed")
        }
        Content::Refusal(text) => {
            message(&item_id("msg"), &[json!({"type": "refusal", "refusal": text})], "completed")
        }
        Content::Call(said) => call(&item_id("fc"), &said.id, &said.name, &said.arguments, "completed"),
        Content::Thought(thought) => {
            let proof = part.signature.as_ref().map(|proof| proof.shown_to(Family::Responses));
            let mut item = items::write_thought(thought, proof);
            item.id.get_or_insert_with(|| item_id("rs"));
            shared::json(&item).value()
        }
        Content::Other(json) if lost.same() => json.value(),
        _ => {
            lost.note("output");
            return None;
        }
    })
}

/// The id of an item, made of the reply's.
pub(super) fn item_id(kind: &str, reply: &str, n: usize) -> String {
    let bare = reply.strip_prefix("resp_").unwrap_or(reply);
    format!("{kind}_{bare}_{n}")
}

/// A message item.
pub(super) fn message(id: &str, content: &[Value], status: &str) -> Value {
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

/// A call item.
pub(super) fn call(id: &str, call_id: &str, name: &str, arguments: &str, status: &str) -> Value {
    json!({
        "id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name,
        "arguments": arguments,
    })
}

/// A reply of which nothing is there yet, with every field that the documentation demands.
pub(super) fn frame(id: &str, created: i64, model: &str) -> Value {
    json!({
        "id": id, "object": "response", "created_at": created, "status": "in_progress", "background": false,
        "error": null, "incomplete_details": null, "instructions": null, "max_output_tokens": null,
        "model": model, "output": [], "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "store": false, "temperature": null,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": null,
        "truncation": "disabled", "usage": null, "user": null, "metadata": {},
    })
}

/// Fills in what is known at the end.
pub(super) fn finish(body: &mut Value, finish: Finish, output: Vec<Value>, usage: Option<Usage>) {
    let Some(fields) = body.as_object_mut() else { return };
    let reason = match finish {
        Finish::Length => Some("max_output_tokens"),
        Finish::Filter => Some("content_filter"),
        _ => None,
    };
    let status = if reason.is_some() { "incomplete" } else { "completed" };
    fields.insert("status".to_owned(), json!(status));
    fields.insert(
        "incomplete_details".to_owned(),
        reason.map_or(Value::Null, |reason| json!({"reason": reason})),
    );
    fields.insert("output".to_owned(), Value::Array(output));
    fields.insert("usage".to_owned(), usage.map_or(Value::Null, write_usage));
}
