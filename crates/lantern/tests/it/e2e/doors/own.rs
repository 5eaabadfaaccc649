//! The doors of our own API: one question, one answer, in no vendor's words.

use serde_json::{Value, json};

use super::caps::{released, seen, stands};
use super::clients::{cap, key, until_calls};
use super::upstream::{KEY, Upstream};
use crate::e2e::api::Api;
use crate::e2e::process::{Folder, Server, lantern};

async fn server() -> (Folder, Upstream, Server, Api) {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    (folder, upstream, server, api)
}

fn asks(model: &str, said: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": said}], "maxTokens": 50})
}

/// The objects of a stream's frames.
async fn frames(api: &Api, body: &Value) -> Vec<Value> {
    let text = api.text("/v1/completions", body).await;
    let frames = text.split("\n\n").filter(|frame| !frame.is_empty());
    frames.map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_in_no_vendors_words() {
    let (_folder, upstream, _server, api) = server().await;
    cap(&api, 5.0).await;
    seen(&api).await;
    // What Anthropic read from and wrote to its cache is part of the prompt, at other prices.
    for (model, provider, tokens, cost) in
        [("gpt-4o", "openai", (9, 12), 0.000_143), ("claude-sonnet-4-6", "anthropic", (160, 15), 0.000_465)]
    {
        let (status, said) = api.post("/v1/completions", &asks(model, "hi")).await;
        assert_eq!(status, 200, "{said}");
        assert_eq!(
            (&said["content"], &said["provider"], &said["finishReason"]),
            (&json!("Hello from the model"), &json!(provider), &json!("stop")),
        );
        assert_eq!((said["tokensIn"].as_u64(), said["tokensOut"].as_u64()), (Some(tokens.0), Some(tokens.1)));
        assert_eq!(said["costUsd"], json!(cost), "{said}");
        let sent = upstream.asked().pop().unwrap();
        assert_eq!(sent.body["max_tokens"], 50, "what was asked for is what is sent: {}", sent.body);

        let mut body = asks(model, "hi");
        body["stream"] = true.into();
        let mut frames = frames(&api, &body).await;
        let done = frames.pop().unwrap();
        assert_eq!(
            (&done["type"], &done["provider"], &done["costUsd"], &done["tokensOut"]),
            (&json!("done"), &json!(provider), &json!(cost), &json!(tokens.1)),
        );
        let words: String = frames.iter().map(|frame| frame["content"].as_str().unwrap()).collect();
        assert_eq!(words, "Hello from the model");
        assert!(frames.iter().all(|frame| frame["type"] == "delta"), "{frames:?}");
    }
    let calls = until_calls(&api, 4).await;
    let sum: f64 = calls.iter().map(|call| call["costUsd"].as_f64().unwrap()).sum();
    assert_eq!(
        format!("{:.0}", sum * 1_000_000.0),
        released(&api).await.to_string(),
        "what was told was booked"
    );

    let text =
        api.text("/v1/jarvis/stream-completion", &json!({"userPrompt": "hi", "model": "gpt-4o"})).await;
    let words: Vec<&str> = text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: ")).collect();
    assert_eq!((words.concat().as_str(), words.last()), ("Hello from the model[DONE]", Some(&"[DONE]")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_a_break_and_a_cap_say_what_happened() {
    let (_folder, upstream, _server, api) = server().await;
    let (status, told) = api.post("/v1/completions", &asks("gpt-4o", "fail 400")).await;
    assert_eq!(
        (status, &told["provider"], &told["code"]),
        (400, &json!("openai"), &json!("provider_refused"))
    );
    assert_eq!(told["details"]["error"]["code"], "told_to", "{told}");
    assert!(!told.to_string().contains(KEY), "{told}");

    let mut body = asks("gpt-4o", "snap");
    body["stream"] = true.into();
    let frames = frames(&api, &body).await;
    assert_eq!((&frames[0]["content"], &frames.last().unwrap()["type"]), (&json!("Hel"), &json!("error")));
    let prompt = json!({"userPrompt": "snap", "model": "gpt-4o"});
    let text = api.text("/v1/jarvis/stream-completion", &prompt).await;
    assert_eq!(text, "data: Hel\n\nevent: error\ndata: agent temporarily unavailable\n\n");

    for (path, body, field) in [
        ("/v1/completions", json!({}), "messages"),
        ("/v1/completions", json!({"messages": []}), "messages"),
        ("/v1/completions", json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role"),
        ("/v1/completions", json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (
            "/v1/completions",
            {
                let mut body = asks("gpt-4o", "hi");
                body["temperature"] = json!(2.5);
                body
            },
            "temperature",
        ),
        (
            "/v1/completions",
            {
                let mut body = asks("gpt-4o", "hi");
                body["agentName"] = json!("digest");
                body
            },
            "agentName",
        ),
        ("/v1/jarvis/stream-completion", json!({"userPrompt": ""}), "userPrompt"),
        ("/v1/vision/ocr", json!({"imageDataUrl": "https://example.com/a.png"}), "imageDataUrl"),
        ("/v1/agents/generate-spec", json!({}), "description"),
        ("/v1/agents/generate-code", json!({"spec": "words"}), "spec"),
    ] {
        let asked = upstream.asked().len();
        let (status, told) = api.post(path, &body).await;
        assert_eq!((status, &told["fields"][0]["path"]), (400, &json!(field)), "{path} {body}: {told}");
        assert_eq!(upstream.asked().len(), asked);
    }
    let (status, told) = api.post("/v1/completions", &asks("rerank", "hi")).await;
    assert_eq!((status, &told["code"]), (404, &json!("model_not_found")), "{told}");

    cap(&api, 0.000_001).await;
    seen(&api).await;
    let asked = upstream.asked().len();
    let (status, told) = api.post("/v1/completions", &asks("gpt-4o", "hi")).await;
    assert_eq!((status, &told["code"]), (402, &json!("budget_exceeded")), "{told}");
    assert!(told["reason"].is_string(), "{told}");
    assert_eq!((upstream.asked().len(), stands(&api).await.1), (asked, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_read_by_whoever_sees() {
    let (_folder, upstream, _server, api) = server().await;
    let picture = json!({"imageDataUrl": "data:image/png;base64,iVBORw0KGgo="});
    let (status, read) = api.post("/v1/vision/ocr", &picture).await;
    assert_eq!((status, &read["text"]), (200, &json!("Hello from the model")), "{read}");
    assert!(read["model"].is_string() && read["provider"] == "openai", "{read}");
    let sent = upstream.asked().pop().unwrap().body;
    assert_eq!(sent["messages"][0]["content"][1]["image_url"]["url"], picture["imageDataUrl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_specification_meets_its_schema_or_is_asked_for_again() {
    let (_folder, upstream, _server, api) = server().await;
    let describe = |words: &str| json!({"description": words, "model": "gpt-4o"});
    let (status, made) = api.post("/v1/agents/generate-spec", &describe("sums up the news")).await;
    assert_eq!(status, 200, "{made}");
    let spec: Value = serde_json::from_str(made["content"].as_str().unwrap()).unwrap();
    assert_eq!((&spec["name"], &spec["isolation"]), (&json!("news-digest"), &json!("standard")));
    let asked = upstream.asked();
    assert_eq!(asked.len(), 2, "the first answer broke the schema");
    let told = asked[1].body["messages"][3]["content"].as_str().unwrap();
    assert!(told.contains("/name") && told.contains("/isolation"), "{told}");
    assert_eq!(made["tokensOut"], 24, "both are counted");
    let calls = until_calls(&api, 2).await;
    let cost: f64 = calls.iter().map(|call| call["costUsd"].as_f64().unwrap()).sum();
    assert!((made["costUsd"].as_f64().unwrap() - cost).abs() < 1e-9, "{made} {calls:?}");

    let (status, made) =
        api.post("/v1/agents/generate-code", &json!({"spec": spec, "model": "gpt-4o"})).await;
    assert_eq!(status, 200, "{made}");
    let code: Value = serde_json::from_str(made["content"].as_str().unwrap()).unwrap();
    assert!(code["code"].is_string() && code["yaml"].is_string() && code["disclaimer"].is_string(), "{code}");

    let before = upstream.asked().len();
    let (status, told) = api.post("/v1/agents/generate-spec", &describe("never right")).await;
    assert_eq!((status, &told["code"]), (502, &json!("provider_invalid_response")), "{told}");
    assert_eq!(upstream.asked().len() - before, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_through_a_door_without_leave() {
    let (_folder, upstream, server, api) = server().await;
    let (status, made) = api.post("/v1/api-keys", &json!({"name": "reader", "scopes": ["read"]})).await;
    assert_eq!(status, 201, "{made}");
    let reader = Api::with(&server, made["rawKey"].as_str().unwrap());
    for entry in lantern_gateway::entries() {
        let (method, path) = (entry.method(), entry.path());
        for (who, want) in [(&Api::nobody(&server), 401), (&reader, 403)] {
            let status = match method {
                "GET" => who.get(path).await.0,
                _ => who.post(path, &json!({"model": "gpt-4o", "messages": [], "input": "x"})).await.0,
            };
            let may = entry.action().is_some_and(|(name, _)| name == "models.list") && want == 403;
            assert_eq!(status, if may { 200 } else { want }, "{method} {path}");
        }
    }
    assert!(
        upstream.asked().iter().all(|asked| asked.path == "/v1/models"),
        "nobody was asked for an answer"
    );
}

/// Runs a command as somebody with this key; its exit code and what it says.
async fn run(server: &Server, key: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = lantern();
    command.args(words).env("LANTERN_API_URL", &server.api).env("LANTERN_API_KEY", key);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_and_reads_and_generates() {
    let (folder, _upstream, server, api) = server().await;
    let key = key(&api).await;
    let picture = folder.path().join("a.png");
    std::fs::write(&picture, [0x89, b'P', b'N', b'G', 13, 10, 26, 10]).unwrap();
    let picture = picture.to_str().unwrap();
    for (words, want) in [
        (vec!["ask", "hi", "--model", "gpt-4o"], "Hello from the model\n"),
        (vec!["ask", "--picture", picture], "Hello from the model\n"),
        (vec!["models"], "gpt-4o"),
        (vec!["agents", "generate", "sums up the news", "--model", "gpt-4o"], "\"name\": \"news-digest\""),
        (vec!["agents", "generate", "--code", "{\"name\": \"x\"}", "--model", "gpt-4o"], "print(1)"),
    ] {
        let (code, out, err) = run(&server, &key, &words).await;
        assert_eq!(code, Some(0), "{words:?}: {err}");
        assert!(out.contains(want), "{words:?}: {out}");
    }
    let (code, _, err) = run(&server, &key, &["ask", "--picture", "/etc/hostname"]).await;
    assert_eq!(code, Some(2), "{err}");
}
