//! Official clients with models of other wires than their own: only the base URL, the key and the model's name are ours.

use serde_json::{Value, json};

use super::caps::{Raw, released, seen};
use super::clients::{cap, javascript, key, python, until_calls};
use super::upstream::{Asked, KEY, Upstream};
use crate::e2e::api::{Api, tick};
use crate::e2e::process::{Folder, NEVER, Server};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/e2e/doors/between.py");

/// Every pair that is shown: the client's wire, the model, how many checks hold.
const PAIRS: &[(&str, &str, usize)] = &[
    ("chat", "claude-sonnet-4-6", 6),
    ("chat", "gemini/gemini-2.5-flash", 6),
    ("chat", "bedrock/anthropic.claude-v1:0", 5),
    ("responses", "claude-sonnet-4-6", 4),
    ("responses", "gemini/gemini-2.5-flash", 4),
    ("messages", "gpt-4o", 5),
    ("messages", "gemini/gemini-2.5-flash", 5),
    ("messages", "bedrock/anthropic.claude-v1:0", 5),
];

/// A server that has all of an upstream's vendors.
async fn server() -> (Folder, Upstream, Server, Api, String) {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    let root = upstream.url.strip_suffix("/v1").unwrap().to_owned();
    for (provider, base) in [("gemini", "/v1beta"), ("bedrock", "")] {
        let saved = json!({"provider": provider, "apiKey": KEY, "baseUrl": format!("{root}{base}")});
        let (status, body) = api.post("/v1/settings/llm-providers", &saved).await;
        assert_eq!(status, 200, "{body}");
    }
    seen(&api).await;
    let key = key(&api).await;
    (folder, upstream, server, api, key)
}

fn with_picture(asked: &[Asked], path: &str) -> Value {
    let found = asked
        .iter()
        .find(|asked| asked.path.starts_with(path) && asked.body.to_string().contains("iVBORw0KGgo"));
    found.unwrap_or_else(|| panic!("no picture came to {path}")).body.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_works_with_models_of_every_wire() {
    let (_folder, upstream, server, api, key) = server().await;
    for (client, model, checks) in PAIRS {
        let arguments = [SCRIPT, client, &server.api, &key, model].map(str::to_owned).to_vec();
        let held = python(arguments).await;
        assert_eq!(held.len(), *checks, "{held:?}");
    }
    let asked = upstream.asked();
    assert!(asked.iter().all(|asked| !asked.headers.values().any(|value| value.contains("hlx_live_"))));
    let of = |path: &str| asked.iter().filter(|asked| asked.path.starts_with(path)).collect::<Vec<_>>();
    assert!(of("/v1/messages").iter().all(|asked| asked.headers["x-api-key"] == KEY));
    assert!(of("/v1beta/").iter().all(|asked| asked.headers["x-goog-api-key"] == KEY));
    assert!(of("/v1/chat/").iter().all(|asked| asked.headers["idempotency-key"].len() == 36));
    // A picture stands where each wire has it.
    for (path, place) in [
        ("/v1/messages", "/messages/0/content/1/source/data"),
        ("/v1beta/", "/contents/0/parts/1/inlineData/data"),
        ("/model/", "/messages/0/content/1/image/source/bytes"),
        ("/v1/chat/", "/messages/1/content/1/image_url/url"),
    ] {
        let body = with_picture(&asked, path);
        assert!(body.pointer(place).is_some_and(Value::is_string), "{path}: {body}");
    }
    // What a model proves of its call went to a client of chat completions and came back.
    let proof = "\"thoughtSignature\":\"c2lnbmVk\"";
    assert!(of("/v1beta/").iter().any(|asked| asked.body.to_string().contains(proof)));

    // 20 + 100/10 + 40*5/4 prompt tokens at 3 dollars, and 15 tokens at 15 dollars a million: as on the wire of its own.
    let calls = until_calls(&api, 40).await;
    let of = |door: &str, model: &str| {
        calls.iter().rfind(|call| call["door"] == door && call["model"] == model).unwrap()
    };
    for door in ["chat", "responses"] {
        assert_eq!(of(door, "claude-sonnet-4-6")["costUsd"], 0.000_465, "{door}");
    }
    assert_eq!(of("messages", "gpt-4o")["costUsd"], 0.000_143);
    assert_eq!(of("chat", "gemini-2.5-flash")["costUsd"], 0.000_55);
    assert!(server.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_clients_work_with_models_of_other_wires() {
    let (_folder, _upstream, server, _api, key) = server().await;
    assert_eq!(javascript("openai", &server, &key, "between").await.len(), 3);
    assert_eq!(javascript("anthropic", &server, &key, "between").await.len(), 2);
}

/// A stream that reaches what is held for it ends in the client's own words, and one whose client goes away ends upstream.
#[tokio::test(flavor = "multi_thread")]
async fn streams_between_wires_are_stopped_and_cancelled() {
    let (_folder, upstream, server, api, key) = server().await;
    cap(&api, 5.0).await;
    seen(&api).await;
    let raw = Raw::new(&server, &key);
    let ask = |said: &str| {
        json!({"model": "claude-sonnet-4-6", "max_tokens": 50, "stream": true,
            "messages": [{"role": "user", "content": said}]})
        .to_string()
    };
    let answer = raw.send(ask("ramble")).await.unwrap();
    assert_eq!(answer.headers()["lantern-provider"], "anthropic");
    let told = String::from_utf8(answer.bytes(1 << 20).await.unwrap().to_vec()).unwrap();
    assert!(told.contains("\"finish_reason\":\"length\"") && told.ends_with("data: [DONE]\n\n"), "{told}");
    let calls = until_calls(&api, 1).await;
    assert_eq!(calls[0]["end"], "stopped", "{calls:?}");
    let spent = released(&api).await;
    assert!(spent > 0);

    let mut answer = raw.send(ask("talk")).await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(upstream.streams(), 1);
    drop(answer);
    let closed = async {
        while upstream.streams() > 0 {
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, closed).await.expect("the provider's stream was never closed");
    let calls = until_calls(&api, 2).await;
    assert_eq!(calls[0]["end"], "client_gone", "{calls:?}");
    assert!(released(&api).await > spent);
}
