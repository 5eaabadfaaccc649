//! Responses: events, whole answers, and the end of a stream that is stopped.

use lantern_types::call::Used;
use serde_json::{Value, json};

use super::{Said, SoFar, text_len, tokens};

pub(super) fn event(data: &[u8], so_far: &mut SoFar) -> Option<Said> {
    let event: Value = serde_json::from_slice(data).ok()?;
    so_far.number = so_far.number.max(tokens(&event, "sequence_number"));
    let kind = event.get("type").and_then(Value::as_str)?;
    let response = event.get("response");
    if let Some(response) = response.filter(|_| !so_far.began) {
        let text = |name: &str| response.get(name).and_then(Value::as_str).map(str::to_owned);
        (so_far.id, so_far.model) = (text("id"), text("model"));
        so_far.created = response.get("created_at").and_then(Value::as_u64);
        so_far.began = true;
    }
    let over = matches!(kind, "response.completed" | "response.incomplete" | "response.failed");
    let used =
        response.and_then(|response| response.get("usage")).filter(|usage| usage.is_object()).map(used);
    Some(Said {
        used,
        last_word: over && used.is_some(),
        bytes: text_len(event.get("delta")),
        over,
        ..Said::default()
    })
}

pub(super) fn whole(answer: &Value) -> Said {
    let output = answer.get("output").and_then(Value::as_array);
    let of_item = |item: &Value| {
        let parts = item.get("content").and_then(Value::as_array);
        let text: usize = parts.into_iter().flatten().map(|part| text_len(part.get("text"))).sum();
        text + text_len(item.get("arguments"))
    };
    let bytes = output.into_iter().flatten().map(of_item).sum();
    let used = answer.get("usage").filter(|usage| usage.is_object()).map(used);
    Said { used, bytes, ..Said::default() }
}

pub(super) fn ending(so_far: &SoFar) -> String {
    let response = json!({
        "id": so_far.id, "object": "response", "created_at": so_far.created.unwrap_or_default(),
        "model": so_far.model, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
        "error": null, "output": [], "usage": null, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
    });
    let number = so_far.number.saturating_add(1);
    let event = json!({"type": "response.incomplete", "sequence_number": number, "response": response});
    format!("event: response.incomplete\ndata: {event}\n\n")
}

fn used(usage: &Value) -> Used {
    Used { input: tokens(usage, "input_tokens"), output: tokens(usage, "output_tokens"), ..Used::default() }
}
