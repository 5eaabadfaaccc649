//! Model vendors as the front doors meet them: the real forms of chat completions, responses, messages and embeddings, and the
//! moods that a request's last words ask for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::vendors;

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) raw: Bytes,
    pub(crate) body: Value,
}

#[derive(Clone, Default)]
pub(crate) struct Upstream {
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Streams that are being sent.
    open: Arc<AtomicUsize>,
    pub(crate) url: String,
}

/// A stream that somebody reads, until they do not.
struct Reading(Arc<AtomicUsize>);

impl Reading {
    fn begin(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(open.clone())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) const KEY: &str = "sk-upstream-0123456789";

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let upstream = Self { url, ..Self::default() };
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/responses", post(answer))
            .route("/v1/messages", post(answer))
            .route("/v1/messages/count_tokens", post(answer))
            .route("/v1/embeddings", post(answer))
            .route("/v1/models", get(models))
            .route("/v1beta/models/{*call}", post(answer))
            .route("/model/{model}/{call}", post(answer))
            .with_state(upstream.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "a peer of the process under test, which ends with the test"
        )]
        tokio::spawn(async move { axum::serve(listener, router).await });
        upstream
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
    pub(crate) fn streams(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
    /// The environment that makes a server use it for both wires.
    pub(crate) fn env(&self) -> Vec<(&str, &str)> {
        vec![
            ("OPENAI_BASE_URL", &self.url),
            ("OPENAI_API_KEY", KEY),
            ("ANTHROPIC_BASE_URL", &self.url),
            ("ANTHROPIC_API_KEY", KEY),
        ]
    }
}

async fn models() -> Response {
    axum::Json(json!({"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]})).into_response()
}

async fn answer(State(upstream): State<Upstream>, uri: Uri, headers: HeaderMap, raw: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&raw).unwrap();
    let named = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned()));
    let path = uri.path().to_owned();
    let asked = Asked { path: path.clone(), headers: named.collect(), raw, body: body.clone() };
    upstream.asked.lock().unwrap().push(asked);
    let said = last_words(&body);
    let anthropic = path.starts_with("/v1/messages");
    if headers.values().any(|value| value == "Bearer sk-full-0123456789") {
        let words = axum::Json(
            json!({"error": {"message": "slowly", "type": "requests", "code": "rate_limit_exceeded"}}),
        );
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "30")], words).into_response();
    }
    // A mood of one wire alone: `only /v1/chat fail 503`.
    let mood = said.strip_prefix("only ").and_then(|said| said.split_once(' '));
    let said = match mood {
        Some((start, mood)) if path.starts_with(start) => mood.to_owned(),
        Some(_) => "hi".to_owned(),
        None => said,
    };
    if said == "snap" {
        return snapping(&body);
    }
    if let Some(status) = said.strip_prefix("fail ").and_then(|status| status.parse().ok()) {
        let words = format!("told to, {KEY}");
        return vendors::failure(status, &path, &words).unwrap_or_else(|| failure(status, anthropic));
    }
    if said == "hang" {
        let _reading = Reading::begin(&upstream.open);
        std::future::pending::<()>().await;
    }
    match path.as_str() {
        "/v1/chat/completions" => chat(&upstream, &body, &said),
        "/v1/responses" => responses(&body),
        "/v1/embeddings" => axum::Json(json!({"object": "list", "model": "text-embedding-3-small",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
            "usage": {"prompt_tokens": 4, "total_tokens": 4}}))
        .into_response(),
        "/v1/messages" => messages(&upstream, &body, &said),
        generate if generate.starts_with("/v1beta/") => vendors::generate(generate, &body),
        converse if converse.starts_with("/model/") => vendors::converse(converse, &body),
        _ => axum::Json(json!({"input_tokens": 17})).into_response(),
    }
}

/// The text of the last message, or of the input.
fn last_words(body: &Value) -> String {
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    let content = last.map_or(&body["input"], |message| &message["content"]);
    let content = match body["contents"].as_array().and_then(|turns| turns.last()) {
        Some(turn) => &turn["parts"],
        None => content,
    };
    let text = content.as_str().or_else(|| content[0]["text"].as_str());
    text.unwrap_or_default().to_owned()
}

fn failure(status: u16, anthropic: bool) -> Response {
    let body = if anthropic {
        let kind = if status == 429 { "rate_limit_error" } else { "invalid_request_error" };
        json!({"type": "error", "error": {"type": kind, "message": format!("told to, {KEY}")}})
    } else {
        json!({"error": {"message": format!("told to, {KEY}"), "type": "t", "param": null, "code": "told_to"}})
    };
    let headers = [("content-type", "application/json"), ("retry-after-ms", "1"), ("x-internal", "no")];
    (StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response()
}

fn chat(upstream: &Upstream, body: &Value, said: &str) -> Response {
    let tool =
        body["tools"].is_array() && body["messages"].as_array().unwrap().last().unwrap()["role"] != "tool";
    let made = made(body);
    let text = match &made {
        Some(made) => made.as_str(),
        None if body["response_format"].is_object() => "{\"answer\":42}",
        None => "Hello from the model",
    };
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21});
    let call = json!([{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}}]);
    if body["stream"] != true {
        let message = if tool {
            let call = json!([{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}}]);
            json!({"role": "assistant", "content": null, "tool_calls": call})
        } else {
            json!({"role": "assistant", "content": text})
        };
        let reason = if tool { "tool_calls" } else { "stop" };
        return axum::Json(json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage, "odd": {"kept": 1.0}}))
        .into_response();
    }
    let usage_wanted = body["stream_options"]["include_usage"] == true;
    let chunk = |delta: Value, reason: Value| {
        let mut chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        if usage_wanted {
            chunk["usage"] = Value::Null;
        }
        format!("data: {chunk}\n\n")
    };
    let first = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
    if said == "talk" || said == "ramble" {
        let word = chunk(json!({"content": "word after word, and more of them "}), Value::Null);
        return endless(upstream, first, word, said == "ramble");
    }
    let mut events = vec![first];
    if tool {
        events.push(chunk(json!({"tool_calls": call}), Value::Null));
        events.push(chunk(json!({}), json!("tool_calls")));
    } else {
        events.extend(text.split_inclusive(' ').map(|word| chunk(json!({"content": word}), Value::Null)));
        events.push(chunk(json!({}), json!("stop")));
    }
    if usage_wanted {
        let last = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06",
            "choices": [], "usage": usage});
        events.push(format!("data: {last}\n\n"));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events_of(events)
}

/// What is made of a description: wrong at first, right when it is told so, and never for who is never right.
fn made(body: &Value) -> Option<String> {
    let messages = body["messages"].as_array()?;
    let task = messages.first()?["content"].as_str()?;
    if task.starts_with("You write AI agents") {
        return Some("```json\n{\"code\": \"print(1)\", \"yaml\": \"name: x\"}\n```".to_owned());
    }
    let mut spec = json!({"name": "My Digest", "description": "It sums up.", "model": "auto",
        "steps": [{"name": "read", "type": "tool", "description": "reads", "config": {}}], "tools": ["http.fetch"],
        "connectors": [], "surfaces": [], "triggers": [{"type": "manual"}], "isolation": "none",
        "limits": {"timeout": "5m", "maxTokens": 1000, "maxCostUsd": 0.5}});
    if messages.len() > 2 && messages.get(1)?["content"] != "never right" {
        spec["name"] = "news-digest".into();
        spec["isolation"] = "standard".into();
    }
    task.starts_with("You design AI agents").then(|| spec.to_string())
}

/// An answer that breaks off after its first words.
fn snapping(body: &Value) -> Response {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": null}]});
    let (kind, first) = if body["stream"] == true {
        ("text/event-stream", format!("data: {chunk}\n\n"))
    } else {
        ("application/json", "{\"id\":".to_owned())
    };
    // What came first is on its way before it breaks off.
    let pieces = stream::unfold(Some(first), |first| async move {
        let piece = first.ok_or_else(|| std::io::Error::other("snap"));
        if piece.is_err() {
            crate::e2e::api::tick().await;
        }
        Some((piece, None))
    });
    ([("content-type", kind)], Body::from_stream(pieces)).into_response()
}

/// A stream that never ends by itself: a word at a time, or as fast as it is taken.
fn endless(upstream: &Upstream, first: String, word: String, fast: bool) -> Response {
    let reading = Reading::begin(&upstream.open);
    let words = stream::unfold((reading, Some(first)), move |(reading, first)| {
        let word = word.clone();
        async move {
            if first.is_none() && !fast {
                crate::e2e::api::tick().await;
            }
            Some((Ok::<_, std::io::Error>(first.unwrap_or(word)), (reading, None)))
        }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(words)).into_response()
}

fn events_of(events: Vec<String>) -> Response {
    let events = stream::iter(events.into_iter().map(Ok::<_, std::io::Error>));
    ([("content-type", "text/event-stream; charset=utf-8")], Body::from_stream(events)).into_response()
}

fn messages(upstream: &Upstream, body: &Value, said: &str) -> Response {
    let last = body["messages"].as_array().unwrap().last().unwrap();
    let tool = body["tools"].is_array() && last["content"][0]["type"] != "tool_result";
    let usage = json!({"input_tokens": 20, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 40, "output_tokens": 15});
    let block = if tool {
        json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}})
    } else if body["output_config"]["format"].is_object() {
        json!({"type": "text", "text": "{\"answer\":42}"})
    } else {
        json!({"type": "text", "text": "Hello from the model"})
    };
    let reason = if tool { "tool_use" } else { "end_turn" };
    let message = |content: Value, reason: Value, usage: &Value| {
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": content,
            "stop_reason": reason, "stop_sequence": null, "usage": usage})
    };
    if body["stream"] != true {
        return axum::Json(message(json!([block]), json!(reason), &usage)).into_response();
    }
    let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let mut begun = usage.clone();
    begun["output_tokens"] = json!(1);
    let start = event(json!({"type": "message_start", "message": message(json!([]), Value::Null, &begun)}));
    let open = if tool {
        json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}})
    } else {
        json!({"type": "text", "text": ""})
    };
    let open = event(json!({"type": "content_block_start", "index": 0, "content_block": open}));
    let delta = |delta: Value| event(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    if said == "talk" || said == "ramble" {
        let word = delta(json!({"type": "text_delta", "text": "word after word, and more of them "}));
        return endless(upstream, start + &open, word, said == "ramble");
    }
    let mut events = vec![start, event(json!({"type": "ping"})), open];
    if tool {
        events.extend(
            ["{\"city\":", "\"Oslo\"}"]
                .map(|part| delta(json!({"type": "input_json_delta", "partial_json": part}))),
        );
    } else {
        let words = "Hello from the model".split_inclusive(' ');
        events.extend(words.map(|word| delta(json!({"type": "text_delta", "text": word}))));
    }
    events.push(event(json!({"type": "content_block_stop", "index": 0})));
    events.push(event(json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 15}})));
    events.push(event(json!({"type": "message_stop"})));
    events_of(events)
}

fn responses(body: &Value) -> Response {
    let part = json!({"type": "output_text", "text": "Hello from the model", "annotations": []});
    let item = json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]});
    let response = |status: &str, output: Value, usage: Value| {
        json!({"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-4o-2024-08-06", "status": status,
            "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "output": output,
            "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": usage})
    };
    let usage = json!({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 21});
    if body["stream"] != true {
        return axum::Json(response("completed", json!([item]), usage)).into_response();
    }
    let mut number = 0;
    let mut event = |mut value: Value| {
        value["sequence_number"] = json!(number);
        number += 1;
        format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap())
    };
    let empty = json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []});
    let blank = json!({"type": "output_text", "text": "", "annotations": []});
    let place = |mut value: Value| {
        value["item_id"] = json!("msg_1");
        value["output_index"] = json!(0);
        value["content_index"] = json!(0);
        value
    };
    let mut events = vec![
        event(
            json!({"type": "response.created", "response": response("in_progress", json!([]), Value::Null)}),
        ),
        event(json!({"type": "response.output_item.added", "output_index": 0, "item": empty})),
        event(place(json!({"type": "response.content_part.added", "part": blank}))),
    ];
    for word in "Hello from the model".split_inclusive(' ') {
        events
            .push(event(place(json!({"type": "response.output_text.delta", "delta": word, "logprobs": []}))));
    }
    events.push(event(place(
        json!({"type": "response.output_text.done", "text": "Hello from the model", "logprobs": []}),
    )));
    events.push(event(place(json!({"type": "response.content_part.done", "part": part}))));
    events.push(event(json!({"type": "response.output_item.done", "output_index": 0, "item": item})));
    events.push(event(
        json!({"type": "response.completed", "response": response("completed", json!([item]), usage)}),
    ));
    events_of(events)
}
