//! Two vendors that no front door speaks like: the real forms of generateContent and of Converse.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use lantern_llm::Family;
use lantern_llm::neutral::{Delta, Finish, Opening, Usage};
use lantern_llm::wire::{Encoder, Stamp};
use serde_json::{Value, json};

/// An error in the vendor's own form.
pub(super) fn failure(status: u16, path: &str, words: &str) -> Option<Response> {
    let (kind, body) = if path.starts_with("/v1beta/") {
        let name = if status == 429 { "RESOURCE_EXHAUSTED" } else { "INVALID_ARGUMENT" };
        ("", json!({"error": {"code": status, "message": words, "status": name}}))
    } else if path.starts_with("/model/") {
        let kind = if status == 429 { "ThrottlingException" } else { "ValidationException" };
        (kind, json!({"message": words}))
    } else {
        return None;
    };
    let headers = [("content-type", "application/json"), ("x-amzn-errortype", kind)];
    Some((StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response())
}

pub(super) fn generate(path: &str, body: &Value) -> Response {
    let turns = body["contents"].as_array().unwrap();
    let answered = turns.last().unwrap()["parts"][0].get("functionResponse").is_some();
    let tool = body["tools"].is_array() && !answered;
    let json_wanted = body["generationConfig"]["responseMimeType"] == "application/json";
    let piece = |parts: Value, reason: Option<&str>| {
        json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0}],
            "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 60, "thoughtsTokenCount": 40, "totalTokenCount": 1100},
            "modelVersion": "gemini-2.5-flash", "responseId": "r1"})
    };
    let call = json!([{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2lnbmVk"}]);
    let text = if json_wanted { "{\"answer\":42}" } else { "Hello from the model" };
    if path.contains(":streamGenerateContent") {
        let mut pieces = vec![];
        if tool {
            pieces.push(piece(call, Some("STOP")));
        } else {
            pieces.extend(text.split_inclusive(' ').map(|word| piece(json!([{"text": word}]), None)));
            pieces.push(piece(json!([{"text": ""}]), Some("STOP")));
        }
        let events: Vec<String> = pieces.iter().map(|piece| format!("data: {piece}\r\n\r\n")).collect();
        return ([("content-type", "text/event-stream")], events.concat()).into_response();
    }
    let parts = if tool { call } else { json!([{"text": text}]) };
    axum::Json(piece(parts, Some("STOP"))).into_response()
}

pub(super) fn converse(path: &str, body: &Value) -> Response {
    let last = body["messages"].as_array().unwrap().last().unwrap();
    let tool = body["toolConfig"].is_object() && last["content"][0].get("toolResult").is_none();
    if path.ends_with("/converse") {
        let block = if tool {
            json!({"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}})
        } else {
            json!({"text": "Hello from the model"})
        };
        let reason = if tool { "tool_use" } else { "end_turn" };
        return axum::Json(json!({"output": {"message": {"role": "assistant", "content": [block]}}, "stopReason": reason,
            "usage": {"inputTokens": 30, "outputTokens": 20, "totalTokens": 50}, "metrics": {"latencyMs": 1}}))
        .into_response();
    }
    let (what, said, finish) = if tool {
        let call = Opening::Call { id: "t1".to_owned(), name: "weather".to_owned() };
        (call, vec!["{\"city\":", "\"Oslo\"}"], Finish::Calls)
    } else {
        (Opening::Text, vec!["Hello ", "from ", "the ", "model"], Finish::Stop)
    };
    let mut steps = vec![Delta::Start { id: None, model: None }, Delta::Open { part: 0, what }];
    steps.extend(said.into_iter().map(|text| Delta::Add { part: 0, text: text.to_owned() }));
    steps.push(Delta::Close { part: 0 });
    steps.push(Delta::Usage(Usage { input: 30, output: 20, ..Usage::default() }));
    steps.extend([Delta::Finish { finish, stop: None }, Delta::End]);
    let mut encoder = Encoder::new(Family::Converse, Family::Chat, Stamp::default());
    let frames: Vec<u8> = steps.iter().flat_map(|step| encoder.push(step)).collect();
    ([("content-type", "application/vnd.amazon.eventstream")], frames).into_response()
}
