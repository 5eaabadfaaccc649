//! Runs whose model does not answer: who is asked instead, what is held and charged, and what is told of it.

use std::path::Path;

use serde_json::{Value, json};

use super::caps::{Raw, released};
use super::clients::{cap, key};
use super::upstream::{KEY, Upstream};
use crate::e2e::api::{Api, answer, said, tick};
use crate::e2e::process::{Folder, Server, lantern};

/// Two providers: the first speaks the wire of chat completions, the second that of messages.
async fn two(folder: &Path, keys: &str) -> (Upstream, Upstream, Server, Api) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let env = [
        ("OPENAI_BASE_URL", first.url.as_str()),
        ("OPENAI_API_KEY", keys),
        ("ANTHROPIC_BASE_URL", second.url.as_str()),
        ("ANTHROPIC_API_KEY", KEY),
    ];
    let server = Server::dev_with(folder, &env);
    let api = Api::of(&server).await;
    (first, second, server, api)
}

fn steps(model: &str, prompt: &str) -> Value {
    let data = json!({"prompt": prompt, "model": model, "maxTokens": 60});
    json!([{"id": "ask", "kind": "llm", "data": data}])
}

async fn of_kind(api: &Api, run: &str, kind: &str) -> Vec<Value> {
    let (_, frames) = api.events(run, None).await;
    let read = frames.iter().filter_map(|frame| serde_json::from_str::<Value>(&frame.data).ok());
    read.filter(|event| event["kind"] == kind).map(|event| event["data"].clone()).collect()
}

fn micros(usd: &Value) -> i64 {
    format!("{:.0}", usd.as_f64().unwrap_or_default() * 1_000_000.0).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_provider_answers_a_run_and_nothing_is_billed_twice() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let (first, second, server, api) = two(&data, KEY).await;
    cap(&api, 1.0).await;
    let (mut charged, mut runs) = (0, Vec::new());
    // A key that is refused is left alone for a minute, so that comes last.
    for (mood, code, acted) in [
        ("snap", "provider_interrupted", "unknown"),
        ("fail 429", "provider_rate_limited", "no"),
        ("fail 500", "provider_unavailable", "unknown"),
        ("fail 401", "provider_auth", "no"),
    ] {
        let name = mood.replace(' ', "-");
        let prompt = format!("only /v1/chat {mood}");
        api.agent(&name, json!({"program": "steps", "steps": steps("chat-large", &prompt)})).await;
        let before = (first.asked().len(), second.asked().len());
        let run = api.run(&name, json!({})).await;
        assert_eq!(api.ended(&run).await["status"], "succeeded", "{mood}");
        let asked = (first.asked().len() - before.0, second.asked().len() - before.1);
        assert_eq!(asked, (1, 1), "{mood}");
        let explained = answer(&said(&server, &api, &["runs", "explain", &run]));
        let [tried, answered] = explained.as_array().unwrap().as_slice() else {
            panic!("{mood}: {explained}")
        };
        assert_eq!((&tried["provider"], &answered["provider"]), (&json!("openai"), &json!("anthropic")));
        let why = answered["why"].as_str().unwrap();
        assert!(why.ends_with(&format!("after openai/gpt-4o: {code}")), "{mood}: {why}");
        // What may have been billed stays held, and what was refused does not.
        let retried = of_kind(&api, &run, "step_retrying").await;
        assert_eq!((&retried[0]["code"], &retried[0]["acted"]), (&json!(code), &json!(acted)));
        let unconfirmed = micros(&retried[0]["unconfirmedUsd"]);
        let held = micros(&tried["holdUsd"]);
        assert_eq!(unconfirmed, if acted == "unknown" { held } else { 0 }, "{mood}");
        charged += unconfirmed;
        let settled = of_kind(&api, &run, "step_completed").await;
        charged += micros(&settled[0]["cost_usd"]);
        runs.push(run);
    }
    assert_eq!(released(&api).await, charged, "the cap was charged what the runs say, once");

    // Nobody else is asked for what makes no sense.
    api.agent("wrong", json!({"program": "steps", "steps": steps("gpt-4o", "only /v1/chat fail 400")})).await;
    let before = second.asked().len();
    let run = api.run("wrong", json!({})).await;
    assert_eq!(api.ended(&run).await["error"]["code"], "provider_refused");
    assert_eq!(second.asked().len(), before);

    // Who reads the receipt of such a run makes its decisions again; who replays it pays nothing.
    let file = folder.path().join("receipt.json");
    loop {
        let (_, listed) = api.get("/v1/receipts").await;
        if listed.as_array().unwrap().iter().any(|receipt| receipt["runId"] == json!(runs[0])) {
            break;
        }
        tick().await;
    }
    answer(&said(&server, &api, &["receipts", "export", &runs[0], "--file", file.to_str().unwrap()]));
    let keys = folder.path().join("keys.json");
    answer(&said(&server, &api, &["receipts", "keys", "--file", keys.to_str().unwrap()]));
    let mut verify = lantern();
    verify.arg("verify").arg(&file).arg("--key").arg(&keys).env("LANTERN_API_URL", "http://127.0.0.1:1");
    let verified = verify.output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let calls = first.asked().len() + second.asked().len();
    server.kill();
    let again = Server::dev_with(&data, &[]);
    let api = Api::of(&again).await;
    assert_eq!(api.ended(&runs[0]).await["status"], "succeeded");
    assert_eq!(first.asked().len() + second.asked().len(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_the_cap_does_not_pay_for_is_not_sent() {
    let folder = Folder::new();
    let (first, second, _server, api) = two(folder.path(), KEY).await;
    let agent = |cap: Value, prompt: &str| json!({"program": "steps", "maxCostUsd": cap, "steps": steps("chat-large", prompt)});
    api.agent("probe", agent(json!(1), "hi")).await;
    let run = api.run("probe", json!({})).await;
    assert_eq!(api.ended(&run).await["status"], "succeeded");
    let held = of_kind(&api, &run, "step_admitted").await[0]["holdUsd"].as_f64().unwrap();
    let prompt = "only /v1/chat snap";
    // A little more than the longer prompt needs at the first, and too little for what comes after it.
    api.agent("tight", agent(json!((held * 1.2e6).round() / 1e6), prompt)).await;
    let before = second.asked().len();
    let run = api.run("tight", json!({})).await;
    let ended = api.ended(&run).await;
    assert_eq!(ended["error"]["code"], "run_budget_exceeded", "{ended}");
    assert_eq!((first.asked().len(), second.asked().len() - before), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_share_the_runs_and_the_doors_know_which_one_is_full() {
    let folder = Folder::new();
    let keys = format!("sk-full-0123456789, {KEY}");
    let (first, _second, server, api) = two(folder.path(), &keys).await;
    api.agent("a", json!({"program": "steps", "steps": steps("gpt-4o", "hi")})).await;
    let full =
        || first.asked().iter().filter(|asked| asked.headers["authorization"].contains("sk-full")).count();
    // Each run begins with one of them: soon one meets the full one, and asks with the other at once.
    let mut met = None;
    while met.is_none() {
        let run = api.run("a", json!({})).await;
        assert_eq!(api.ended(&run).await["status"], "succeeded");
        if full() > 0 {
            met = Some(run);
        }
    }
    let explained = answer(&said(&server, &api, &["runs", "explain", &met.unwrap()]));
    let why = explained[1]["why"].as_str().unwrap();
    assert_eq!(why, "key 2; after openai/gpt-4o: provider_rate_limited", "{explained}");
    // It asked to wait for half a minute: neither runs nor calls through the doors ask with it.
    let raw = Raw::new(&server, &key(&api).await);
    for _ in 0..6 {
        let run = api.run("a", json!({})).await;
        assert_eq!(api.ended(&run).await["status"], "succeeded");
        assert_eq!(raw.chat("hi", json!({})).await.unwrap().status(), 200);
    }
    assert_eq!(full(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_counts_is_said_by_header_agent_tenant_and_server() {
    let folder = Folder::new();
    let (first, second, server, api) = two(folder.path(), KEY).await;
    let cli = |args: &[&str]| answer(&said(&server, &api, args));
    let ran = async |name: &str| {
        let run = api.run(name, json!({})).await;
        assert_eq!(api.ended(&run).await["status"], "succeeded");
        let explained = answer(&said(&server, &api, &["runs", "explain", &run]));
        (explained[0]["model"].as_str().unwrap().to_owned(), explained[0]["why"].as_str().unwrap().to_owned())
    };
    let plain = json!({"program": "steps", "steps": steps("chat-small", "hi")});
    api.agent("plain", plain.clone()).await;
    let mut own = plain;
    own["strategy"] = json!("best");
    api.agent("own", own).await;
    assert_eq!(cli(&["agents", "get", "own"])["strategy"], "best");
    assert_eq!(ran("plain").await.0, "gpt-4o-mini");
    assert_eq!(ran("own").await, ("claude-haiku-4-5".to_owned(), "chat-small, best: 1 of 2".to_owned()));
    assert_eq!(cli(&["routing", "set", "best"])["source"], "tenant");
    assert_eq!(ran("plain").await.0, "claude-haiku-4-5");

    // Its own table, for runs and for whoever calls.
    let refused = said(&server, &api, &["routing", "alias", "chat-smal", "gpt-4o"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("did you mean chat-small"), "{words}");
    let refused = said(&server, &api, &["routing", "alias", "chat-small", "nowhere/x"]);
    assert!(!refused.status.success(), "a model of no provider");
    cli(&["routing", "set", "default"]);
    cli(&["routing", "alias", "chat-small", "anthropic/claude-opus-4-6", "gpt-4o"]);
    let (model, why) = ran("plain").await;
    assert_eq!((&*model, &*why), ("claude-opus-4-6", "chat-small by the tenant's table, balanced: 1 of 2"));
    let raw = Raw::new(&server, &key(&api).await);
    let ask =
        json!({"model": "chat-small", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
    let who = async |strategy: Option<&str>| {
        let answer = raw.send_with(ask.to_string(), strategy).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.headers()["lantern-provider"].to_str().unwrap().to_owned()
    };
    // What the doors know of a tenant is a moment old at the most.
    while who(None).await != "anthropic" {
        tick().await;
    }
    assert_eq!(who(Some("cheap")).await, "openai", "a header counts before all");
    cli(&["routing", "alias", "chat-small", "--default"]);
    assert_eq!(ran("plain").await.0, "gpt-4o-mini");
    assert!(!first.asked().is_empty() && !second.asked().is_empty());
}
