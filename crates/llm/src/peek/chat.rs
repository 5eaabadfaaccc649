//! Chat completions: chunks, whole answers, and the end of a stream that is stopped.

use lantern_types::call::Used;
use serde_json::{Value, json};

use super::{Said, SoFar, text_len, tokens};

const DONE: &[u8] = b"[DONE]";

pub(super) fn event(data: &[u8], so_far: &mut SoFar) -> Option<Said> {
    if data.trim_ascii() == DONE {
        return Some(Said { over: true, ..Said::default() });
    }
    let chunk: Value = serde_json::from_slice(data).ok()?;
    if !so_far.began {
        let text = |name: &str| chunk.get(name).and_then(Value::as_str).map(str::to_owned);
        (so_far.id, so_far.model) = (text("id"), text("model"));
        so_far.created = chunk.get("created").and_then(Value::as_u64);
        so_far.began = true;
    }
    let choices = chunk.get("choices").and_then(Value::as_array);
    let mut bytes = 0;
    for choice in choices.into_iter().flatten() {
        bytes += choice.get("delta").map_or(0, said);
        let index = tokens(choice, "index");
        let finished = choice.get("finish_reason").is_some_and(Value::is_string);
        match so_far.open.iter().position(|open| *open == index) {
            Some(at) if finished => drop(so_far.open.remove(at)),
            None if !finished => so_far.open.push(index),
            _ => {}
        }
    }
    let used = chunk.get("usage").filter(|usage| usage.is_object()).map(used);
    let empty = choices.is_some_and(Vec::is_empty);
    // The last word comes with the end or after it; before that, some servers count along.
    let last_word = used.is_some() && so_far.open.is_empty();
    Some(Said { used, last_word, bytes, only_usage: empty && used.is_some(), over: false })
}

pub(super) fn whole(answer: &Value) -> Said {
    let choices = answer.get("choices").and_then(Value::as_array);
    let bytes = choices.into_iter().flatten().filter_map(|choice| choice.get("message")).map(said).sum();
    let used = answer.get("usage").filter(|usage| usage.is_object()).map(used);
    Said { used, bytes, ..Said::default() }
}

pub(super) fn ending(so_far: &SoFar, usage: bool) -> String {
    let mut chunk = json!({
        "id": so_far.id, "object": "chat.completion.chunk", "created": so_far.created.unwrap_or_default(),
        "model": so_far.model,
    });
    let first = [0];
    let open = if so_far.began { so_far.open.as_slice() } else { first.as_slice() };
    let choices = open.iter().map(|index| json!({"index": index, "delta": {}, "finish_reason": "length"}));
    set(&mut chunk, "choices", choices.collect());
    let mut events = vec![format!("data: {chunk}\n\n")];
    if usage {
        let (prompt, completion) = (so_far.seen.reported.map_or(0, Used::prompt), so_far.seen.at_least());
        set(&mut chunk, "choices", json!([]));
        let total = prompt.saturating_add(completion);
        let used = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total});
        set(&mut chunk, "usage", used);
        events.push(format!("data: {chunk}\n\n"));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events.concat()
}

fn set(chunk: &mut Value, name: &str, value: Value) {
    if let Some(map) = chunk.as_object_mut() {
        map.insert(name.to_owned(), value);
    }
}

/// Bytes of what a delta or a message says: text, refusals, arguments, and thoughts where a server shows them.
fn said(part: &Value) -> usize {
    let text: usize = ["content", "refusal", "reasoning_content", "reasoning"]
        .iter()
        .map(|name| text_len(part.get(name)))
        .sum();
    let calls = part.get("tool_calls").and_then(Value::as_array);
    let of_function = |function: &Value| text_len(function.get("name")) + text_len(function.get("arguments"));
    let calls: usize =
        calls.into_iter().flatten().filter_map(|call| call.get("function")).map(of_function).sum();
    text + calls + part.get("function_call").map_or(0, of_function)
}

/// Cached prompt tokens are among the prompt tokens, and count in full.
fn used(usage: &Value) -> Used {
    Used {
        input: tokens(usage, "prompt_tokens"),
        output: tokens(usage, "completion_tokens"),
        ..Used::default()
    }
}
