//! What official clients see who change their base URL and nothing else.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::caps::{Raw, seen};
use super::upstream::{KEY, Upstream};
use crate::e2e::api::Api;
use crate::e2e::process::{Folder, Server};

const JAVASCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/e2e/doors/clients.mjs");
const INSTALL: &str = "the official clients are needed for this test: `.ci/install test` installs them";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/e2e/doors/clients.py");

/// A key that may call models.
pub(super) async fn key(api: &Api) -> String {
    let (status, made) = api.post("/v1/api-keys", &json!({"name": "agent", "scopes": ["write"]})).await;
    assert_eq!(status, 201, "{made}");
    made["rawKey"].as_str().unwrap().to_owned()
}

/// Says what may be spent in a day.
pub(super) async fn cap(api: &Api, usd: f64) {
    let (status, caps) = api.post("/v1/settings/caps", &json!({"maxCostUsdPerDay": usd})).await;
    assert_eq!(status, 200, "{caps}");
}

/// Runs a group of checks of a client, and answers with those that held.
async fn checks(client: &str, server: &Server, key: &str, group: &str) -> Vec<String> {
    python(vec![SCRIPT.to_owned(), client.to_owned(), server.api.clone(), key.to_owned(), group.to_owned()])
        .await
}

/// What a program says that has the official Python clients at hand.
pub(super) async fn python(arguments: Vec<String>) -> Vec<String> {
    let python = target().join("clients/bin/python");
    assert!(python.exists(), "{INSTALL}");
    said(Command::new(python), arguments).await
}

/// The target folder is three above a test binary: `target/debug/deps/it-…`.
fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

async fn said(mut command: Command, arguments: Vec<String>) -> Vec<String> {
    command.args(arguments).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (said, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{words}");
    said.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_client_works_by_its_base_url_alone() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    let key = key(&api).await;
    assert_eq!(checks("openai", &server, &key, "basics").await.len(), 8);
    let asked = upstream.asked();
    assert!(asked.iter().all(|asked| asked.headers["authorization"] == format!("Bearer {KEY}")));
    assert!(asked.iter().all(|asked| !asked.headers.values().any(|value| value.contains("hlx_live_"))));
    assert_eq!(checks("openai", &server, &key, "errors").await.len(), 3);

    let calls = until_calls(&api, 13).await;
    let complete = calls.iter().filter(|call| call["end"] == "complete").count();
    assert!(complete >= 10, "{calls:?}");
    let first = calls.last().unwrap();
    // 9 and 12 tokens at 2.50 and 10 dollars a million: 23 and 120 micro-dollars.
    assert_eq!((&first["costUsd"], &first["door"]), (&json!(0.000_143), &json!("chat")), "{first}");
    let refused = calls.iter().find(|call| call["end"] == "refused").unwrap();
    assert_eq!(refused["costUsd"], 0.0);
    assert!(!Value::from(calls).to_string().contains("Hello"), "a record holds no word of what was said");

    cap(&api, 0.000_001).await;
    seen(&api).await;
    let before = upstream.asked().len();
    assert_eq!(checks("openai", &server, &key, "quota").await.len(), 1);
    assert_eq!(upstream.asked().len(), before, "nothing went out");
    cap(&api, 5.0).await;
    seen(&api).await;
    assert_eq!(checks("openai", &server, &key, "stopped").await.len(), 1);
    assert!(server.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_anthropic_client_works_by_its_base_url_alone() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    let key = key(&api).await;
    assert_eq!(checks("anthropic", &server, &key, "basics").await.len(), 6);
    let asked = upstream.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.headers["x-api-key"] == KEY && !asked.headers.contains_key("authorization"))
    );
    assert!(asked.iter().any(|asked| asked.path == "/v1/messages/count_tokens"));
    assert_eq!(checks("anthropic", &server, &key, "errors").await.len(), 2);

    let calls = until_calls(&api, 5).await;
    let first = calls.last().unwrap();
    // 20 + 100/10 + 40*5/4 prompt tokens at 3 dollars, and 15 tokens at 15 dollars a million.
    assert_eq!((&first["costUsd"], &first["door"]), (&json!(0.000_465), &json!("messages")), "{first}");

    cap(&api, 0.000_001).await;
    seen(&api).await;
    assert_eq!(checks("anthropic", &server, &key, "quota").await.len(), 1);
    cap(&api, 5.0).await;
    seen(&api).await;
    assert_eq!(checks("anthropic", &server, &key, "stopped").await.len(), 1);
    assert!(server.stop().success());
}

/// Both vendors' JavaScript clients, one after the other on one server.
#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_clients_work_by_their_base_url_alone() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    let key = key(&api).await;
    assert_eq!(javascript("openai", &server, &key, "basics").await.len(), 6);
    assert_eq!(javascript("anthropic", &server, &key, "basics").await.len(), 5);
    cap(&api, 0.000_001).await;
    seen(&api).await;
    let before = upstream.asked().len();
    for client in ["openai", "anthropic"] {
        assert_eq!(javascript(client, &server, &key, "quota").await.len(), 1);
    }
    assert_eq!(upstream.asked().len(), before, "nothing went out");
}

pub(super) async fn javascript(client: &str, server: &Server, key: &str, group: &str) -> Vec<String> {
    let folder = target().join("clients-js");
    assert!(folder.join("installed").exists(), "{INSTALL}");
    let words = [JAVASCRIPT, folder.to_str().unwrap(), client, &server.api, key, group];
    said(Command::new("node"), words.map(str::to_owned).to_vec()).await
}

/// The snippets of the guide, as they stand there but for the address and the key.
#[tokio::test(flavor = "multi_thread")]
async fn the_guides_snippets_work() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    let key = key(&api).await;
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/front-doors.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let snippets: Vec<&str> =
        guide.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(snippets.len(), 3);
    for (snippet, call) in snippets.into_iter().zip([
        "print(client.chat.completions.create(model='gpt-4o', messages=ask).choices[0].message.content)",
        "print(client.messages.create(model='claude-sonnet-4-6', max_tokens=9, messages=ask).content[0].text)",
        // It calls by itself, a model of another wire.
        "",
    ]) {
        let snippet = snippet.replace("http://127.0.0.1:8080", &server.api).replace("hlx_live_...", &key);
        assert!(snippet.contains(&server.api) && snippet.contains(&key), "{snippet}");
        let program = format!("{snippet}\nask = [{{'role': 'user', 'content': 'hi'}}]\n{call}");
        assert_eq!(python(vec!["-c".to_owned(), program]).await, ["Hello from the model"]);
    }
}

#[tokio::test]
async fn bytes_pass_as_they_are_both_ways() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    let raw = Raw::new(&server, &key(&api).await);
    let odd = "{ \"model\" : \"gpt-4o\",\n\t\"messages\": [{\"role\": \"user\", \"content\": \"caf\\u00e9\"}], \"x\": 1.50e1 }";
    let answer = raw.send(odd.to_owned()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let passed = answer.bytes(1 << 20).await.unwrap();
    assert_eq!(upstream.asked()[0].raw, odd);
    let direct = Raw::at(&upstream.url, "nobody").send(odd.to_owned()).await.unwrap();
    assert_eq!(passed, direct.bytes(1 << 20).await.unwrap());

    let odd = odd.replace("\"x\"", "\"stream\": true, \"stream_options\": {\"include_usage\": true}, \"x\"");
    let passed = raw.send(odd.clone()).await.unwrap().bytes(1 << 20).await.unwrap();
    let direct =
        Raw::at(&upstream.url, "nobody").send(odd.clone()).await.unwrap().bytes(1 << 20).await.unwrap();
    assert_eq!((upstream.asked()[2].raw.as_ref(), passed), (odd.as_bytes(), direct));
    let refused = raw.chat("fail 400", json!({})).await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(!refused.headers().contains_key("x-internal"), "only what the wire needs passes back");
}

/// The calls so far, once there are so many.
pub(super) async fn until_calls(api: &Api, n: usize) -> Vec<Value> {
    let look = async {
        loop {
            let (status, calls) = api.get("/v1/calls?limit=500").await;
            assert_eq!(status, 200, "{calls}");
            let calls = calls.as_array().unwrap().clone();
            if calls.len() >= n {
                return calls;
            }
            crate::e2e::api::tick().await;
        }
    };
    tokio::time::timeout(crate::e2e::process::NEVER, look).await.expect("so many calls were never written")
}
