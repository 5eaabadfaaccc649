//! An agent with a tool, on each wire that is not chat completions: the real binary against upstreams that speak them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use lantern_llm::Family;
use lantern_llm::neutral::{Delta, Finish, Opening, Usage};
use lantern_llm::wire::{Encoder, Stamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::api::Api;
use super::process::{Folder, Server};

/// A request as it came: its path and query, its headers, its body.
type Asked = (String, HeaderMap, Value);

/// Answers with these bodies in turn, and keeps what it was asked.
#[derive(Clone)]
struct Upstream {
    kind: &'static str,
    answers: Arc<Mutex<VecDeque<Vec<u8>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    url: String,
}

impl Upstream {
    async fn start(kind: &'static str, answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answers, asked) = (Arc::new(Mutex::new(answers.into())), Arc::default());
        let upstream = Self { kind, answers, asked, url };
        let router = Router::new().fallback(answer).with_state(upstream.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "a peer of the process under test, which ends with the test"
        )]
        tokio::spawn(async move { axum::serve(listener, router).await });
        upstream
    }
}

async fn answer(
    State(upstream): State<Upstream>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // A provider is asked for its models when it is saved; this one keeps them to itself.
    if method == Method::GET {
        return StatusCode::NOT_FOUND.into_response();
    }
    let body = serde_json::from_slice(&body).unwrap_or_default();
    upstream.asked.lock().unwrap().push((uri.to_string(), headers, body));
    let answer = upstream.answers.lock().unwrap().pop_front().expect("asked too often");
    ([("content-type", upstream.kind)], answer).into_response()
}

/// Lets an agent with a calculator answer through `provider`, and says how the run ended and what was asked upstream.
async fn asked(provider: &str, base: &str, model: &str, upstream: &Upstream) -> (Value, Vec<Asked>) {
    let folder = Folder::new();
    let server = Server::dev_with(folder.path(), &[]);
    let api = Api::of(&server).await;
    let saved = json!({
        "provider": provider, "apiKey": "key-0123456789", "baseUrl": format!("{}{base}", upstream.url),
    });
    let (status, body) = api.post("/v1/settings/llm-providers", &saved).await;
    assert_eq!(status, 200, "{body}");
    let model = format!("{provider}/{model}");
    api.agent("sums", json!({"tools": ["calc"], "model": model, "systemPrompt": "Use tools."})).await;
    let run = api.run("sums", json!({"prompt": "2+2?"})).await;
    let ended = api.ended(&run).await;
    let asked = upstream.asked.lock().unwrap().clone();
    (ended, asked)
}

fn events(events: &[Value]) -> Vec<u8> {
    let named = events.iter().map(|event| match event["type"].as_str() {
        Some(kind) => format!("event: {kind}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    });
    named.collect::<String>().into_bytes()
}

#[tokio::test]
async fn the_messages_wire() {
    let message = |blocks: &[Value], reason: &str| {
        let start = json!({"type": "message", "id": "msg_1", "role": "assistant", "model": "claude-sonnet-4-6",
            "content": [], "stop_reason": null, "usage": {"input_tokens": 900, "cache_read_input_tokens": 100, "output_tokens": 1}});
        let mut all = vec![json!({"type": "message_start", "message": start}), json!({"type": "ping"})];
        all.extend_from_slice(blocks);
        all.push(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 100}}));
        all.push(json!({"type": "message_stop"}));
        events(&all)
    };
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "calc", "input": {}});
    let input = json!({"type": "input_json_delta", "partial_json": "{\"expression\": \"2+2\"}"});
    let text = json!({"type": "text", "text": ""});
    let said = json!({"type": "text_delta", "text": "four"});
    let block = |block: &Value, delta: &Value| {
        [
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "content_block_delta", "index": 0, "delta": delta}),
            json!({"type": "content_block_stop", "index": 0}),
        ]
    };
    let answers = vec![message(&block(&call, &input), "tool_use"), message(&block(&text, &said), "end_turn")];
    let upstream = Upstream::start("text/event-stream; charset=utf-8", answers).await;
    let (ended, asked) = asked("anthropic", "/v1", "claude-sonnet-4-6", &upstream).await;
    assert_eq!(
        (&ended["status"], &ended["output"]["result"]),
        (&json!("succeeded"), &json!("four")),
        "{ended}"
    );
    // 1000 in, the cached ones at the full price, and 100 out, at 3 and 15 dollars a million, twice.
    assert_eq!((&ended["costUsd"], &ended["tokensIn"]), (&json!(0.009), &json!(2000)));
    assert_eq!(asked.len(), 2);
    let (path, headers, first) = &asked[0];
    assert_eq!(path, "/v1/messages");
    assert_eq!(
        (&headers["x-api-key"], &headers["anthropic-version"]),
        (&"key-0123456789".parse().unwrap(), &"2023-06-01".parse().unwrap())
    );
    assert!(first["max_tokens"].is_u64() && first["stream"] == json!(true), "{first}");
    assert_eq!(first["tools"][0]["name"], "calc");
    assert!(first["system"].is_string(), "{first}");
    let second = asked[1].2["messages"].as_array().unwrap();
    let [_, assistant, results] = second.as_slice() else { panic!("{second:?}") };
    let used = json!([{"type": "tool_use", "id": "toolu_1", "name": "calc", "input": {"expression": "2+2"}}]);
    assert_eq!((&assistant["role"], &assistant["content"]), (&json!("assistant"), &used));
    assert_eq!(
        (&results["role"], &results["content"][0]["tool_use_id"]),
        (&json!("user"), &json!("toolu_1"))
    );
}

#[tokio::test]
async fn the_generate_wire() {
    let piece = |parts: Value, reason: Option<&str>| {
        json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0}],
            "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 60, "thoughtsTokenCount": 40, "totalTokenCount": 1100},
            "modelVersion": "gemini-2.5-flash"})
    };
    let call = json!([{"functionCall": {"name": "calc", "args": {"expression": "2+2"}}, "thoughtSignature": "c2lnbmVk"}]);
    let answers = vec![
        events(&[piece(call, Some("STOP"))]),
        events(&[piece(json!([{"text": "fo"}]), None), piece(json!([{"text": "ur"}]), Some("STOP"))]),
    ];
    let upstream = Upstream::start("text/event-stream", answers).await;
    let (ended, asked) = asked("gemini", "/v1beta", "gemini-2.5-flash", &upstream).await;
    assert_eq!(
        (&ended["status"], &ended["output"]["result"]),
        (&json!("succeeded"), &json!("four")),
        "{ended}"
    );
    // 1000 in and 100 out, thoughts included, at 0.30 and 2.50 dollars a million, twice.
    assert_eq!((&ended["costUsd"], &ended["tokensOut"]), (&json!(0.0011), &json!(200)));
    let (path, headers, first) = &asked[0];
    assert_eq!(path, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
    assert_eq!(headers["x-goog-api-key"], "key-0123456789");
    assert_eq!(first["tools"][0]["functionDeclarations"][0]["name"], "calc");
    assert!(first["systemInstruction"]["parts"][0]["text"].is_string(), "{first}");
    let second = asked[1].2["contents"].as_array().unwrap();
    let [_, model, results] = second.as_slice() else { panic!("{second:?}") };
    // What the model proves of its call went through the journal and back.
    assert_eq!(model["parts"][0]["thoughtSignature"], "c2lnbmVk");
    assert_eq!(results["parts"][0]["functionResponse"]["name"], "calc");
}

#[tokio::test]
async fn the_converse_wire() {
    let frames = |part: Opening, text: &str, finish: Finish| {
        let mut encoder = Encoder::new(Family::Converse, Family::Chat, Stamp::default());
        let usage = Usage { input: 1000, output: 100, ..Usage::default() };
        let steps = [
            Delta::Start { id: None, model: None },
            Delta::Open { part: 0, what: part },
            Delta::Add { part: 0, text: text.to_owned() },
            Delta::Close { part: 0 },
            Delta::Usage(usage),
            Delta::Finish { finish, stop: None },
            Delta::End,
        ];
        steps.iter().flat_map(|step| encoder.push(step)).collect::<Vec<u8>>()
    };
    let call = Opening::Call { id: "tooluse_1".to_owned(), name: "calc".to_owned() };
    let answers = vec![
        frames(call, "{\"expression\":\"2+2\"}", Finish::Calls),
        frames(Opening::Text, "four", Finish::Stop),
    ];
    let upstream = Upstream::start("application/vnd.amazon.eventstream", answers).await;
    let (ended, asked) = asked("bedrock", "", "anthropic.claude-v1:0", &upstream).await;
    assert_eq!(
        (&ended["status"], &ended["output"]["result"]),
        (&json!("succeeded"), &json!("four")),
        "{ended}"
    );
    assert_eq!((&ended["tokensIn"], &ended["tokensOut"]), (&json!(2000), &json!(200)));
    let (path, headers, first) = &asked[0];
    assert_eq!(path, "/model/anthropic.claude-v1%3A0/converse-stream");
    assert_eq!(headers["authorization"], "Bearer key-0123456789");
    assert_eq!(first["toolConfig"]["tools"][0]["toolSpec"]["name"], "calc");
    let results = &asked[1].2["messages"][2]["content"][0]["toolResult"];
    assert_eq!(results["toolUseId"], "tooluse_1", "{results}");
}
