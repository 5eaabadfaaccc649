//! Which model answers when several would do, and who is asked when the first does not answer.

use serde_json::{Value, json};

use super::caps::{Raw, released, seen};
use super::clients::{cap, key, until_calls};
use super::upstream::{KEY, Upstream};
use crate::e2e::api::Api;
use crate::e2e::process::{Folder, Server};

async fn server(keys: &str) -> (Folder, Upstream, Server, Api, Raw) {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let mut env = upstream.env();
    env.push(("OPENAI_API_KEY", keys));
    let server = Server::dev_with(folder.path(), &env);
    let api = Api::of(&server).await;
    let raw = Raw::new(&server, &key(&api).await);
    (folder, upstream, server, api, raw)
}

fn ask(model: &str, said: &str, stream: bool) -> String {
    json!({"model": model, "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": said}]})
        .to_string()
}

/// Who answered, and that it was an answer.
async fn answered(raw: &Raw, model: &str, said: &str, strategy: Option<&str>) -> String {
    let answer = raw.send_with(ask(model, said, false), strategy).await.unwrap();
    let (status, who) = (answer.status(), answer.headers()["lantern-provider"].clone());
    let body: Value = serde_json::from_slice(&answer.bytes(1 << 20).await.unwrap()).unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["choices"][0]["message"]["content"], "Hello from the model", "{body}");
    who.to_str().unwrap().to_owned()
}

fn asked(upstream: &Upstream, path: &str) -> usize {
    upstream.asked().iter().filter(|asked| asked.path.starts_with(path)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_provider_answers_and_each_attempt_is_settled_once() {
    let (_folder, upstream, _server, api, raw) = server(KEY).await;
    cap(&api, 5.0).await;
    seen(&api).await;
    assert_eq!(answered(&raw, "chat-large", "only /v1/chat fail 503", None).await, "anthropic");
    let calls = until_calls(&api, 2).await;
    let [second, first] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((&first["id"], &first["attempt"], &second["attempt"]), (&second["id"], &json!(1), &json!(2)));
    assert_eq!(
        (&first["end"], &first["costUsd"], &second["end"]),
        (&json!("refused"), &json!(0.0), &json!("complete"))
    );
    let why = second["why"].as_str().unwrap();
    assert!(
        why.contains("chat-large, balanced") && why.ends_with("after openai/gpt-4o: not answering"),
        "{why}"
    );
    let spent = released(&api).await;
    assert_eq!(spent, 465, "the attempt that was refused costs nothing");

    // An answer that broke off may have been charged: all that was held for it counts, and then the next attempt.
    assert_eq!(answered(&raw, "chat-large", "only /v1/chat snap", None).await, "anthropic");
    let calls = until_calls(&api, 4).await;
    let broken = calls.iter().find(|call| call["end"] == "broken").unwrap();
    assert!(broken["costUsd"] == broken["heldUsd"] && broken["costUsd"].as_f64() > Some(0.0), "{broken}");
    let held = (broken["heldUsd"].as_f64().unwrap() * 1_000_000.0).round();
    assert_eq!(released(&api).await, spent + 465 + format!("{held:.0}").parse::<i64>().unwrap());

    // With two failures in a row it is asked last now, until it answers again.
    assert_eq!(answered(&raw, "gpt-4o", "hi", None).await, "openai");
    // Nobody else is asked for what makes no sense, or once an answer has begun.
    let before = asked(&upstream, "/v1/messages");
    assert_eq!(raw.send(ask("chat-large", "only /v1/chat fail 400", false)).await.unwrap().status(), 400);
    let snapped = raw.send(ask("chat-large", "only /v1/chat snap", true)).await.unwrap();
    assert_eq!(snapped.headers()["lantern-provider"], "openai");
    assert!(snapped.bytes(1 << 20).await.is_err());
    assert_eq!(asked(&upstream, "/v1/messages"), before);
    // A model that was named is nobody else's.
    assert_eq!(raw.send(ask("gpt-4o", "only /v1/chat fail 503", false)).await.unwrap().status(), 503);
    assert_eq!(asked(&upstream, "/v1/messages"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_answer_is_asked_last_until_it_answers_again() {
    let (_folder, upstream, _server, _api, raw) = server(KEY).await;
    assert_eq!(answered(&raw, "chat-large", "only /v1/chat fail 401", None).await, "anthropic");
    for _ in 0..3 {
        assert_eq!(answered(&raw, "chat-large", "hi", None).await, "anthropic");
    }
    assert_eq!(asked(&upstream, "/v1/chat"), 1, "its key was refused a moment ago");
    // With nobody else to ask it is asked all the same, and then is as good as before.
    assert_eq!(answered(&raw, "gpt-4o", "hi", None).await, "openai");
    assert_eq!(answered(&raw, "chat-large", "hi", None).await, "openai");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_keys_share_the_calls_and_one_that_is_full_rests() {
    let keys = format!("sk-full-0123456789, {KEY}");
    let (_folder, upstream, _server, _api, raw) = server(&keys).await;
    for _ in 0..12 {
        assert_eq!(answered(&raw, "gpt-4o", "hi", None).await, "openai");
    }
    let full =
        upstream.asked().iter().filter(|asked| asked.headers["authorization"].contains("sk-full")).count();
    assert!(full <= 1, "it asked to wait for half a minute, and was asked {full} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_says_what_counts() {
    let (_folder, _upstream, _server, api, raw) = server(KEY).await;
    for (strategy, want) in [(Some("cheap"), "openai"), (Some("best"), "anthropic"), (None, "openai")] {
        assert_eq!(answered(&raw, "chat-small", "hi", strategy).await, want, "{strategy:?}");
    }
    let calls = until_calls(&api, 3).await;
    assert!(
        calls
            .iter()
            .any(|call| call["why"] == "chat-small, best: 1 of 2" && call["model"] == "claude-haiku-4-5")
    );
    let refused = raw.send_with(ask("chat-small", "hi", false), Some("dear")).await.unwrap();
    assert_eq!(refused.status(), 400);
    let refused = raw.send(ask("tts", "hi", false)).await.unwrap();
    assert_eq!(refused.status(), 404);
    let words = String::from_utf8(refused.bytes(1 << 20).await.unwrap().to_vec()).unwrap();
    assert!(words.contains("no configured provider serves tts"), "{words}");
}
