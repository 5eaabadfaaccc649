//! A million letters, letters from right to left, emoji and NUL in every field that takes text: kept as they are, or refused in
//! few words.

use lantern_engine::Input;
use serde_json::{Value, json};

use crate::app::{TestApp, on_both};
use crate::hand::Hand;

/// What people and programs put into fields.
fn texts() -> Vec<String> {
    let texts = [
        "\u{202e}gnirts\u{2066}",
        "👩‍👩‍👧‍👦",
        "e\u{301}\u{feff}",
        "مرحبا",
        "\0",
        "a\0b",
        " ",
        "\u{10ffff}",
        "'; --",
        "{{x}}",
        "\u{1b}[2J",
    ];
    texts.into_iter().map(str::to_owned).chain(["a".repeat(1_000_000)]).collect()
}

/// Every field that takes text in the body of this request, as RFC 6901 has it.
fn fields() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let agent = json!({"name": "n", "description": "d", "avatarUrl": "https://example.com/a.png", "labels": {"k": "v"},
        "systemPrompt": "s", "stylePrompt": "s", "model": "auto", "timeout": "1m", "tools": ["calc"]});
    let run = json!({"agentName": "there", "idempotencyKey": "k",
        "input": {"prompt": "p"}, "labels": {"k": "v"}, "maxCostUsd": "0.1"});
    let key = json!({"name": "n", "scopes": ["runs:read"], "expiresIn": "1d"});
    let provider =
        json!({"provider": "vendor", "baseUrl": "https://vendor.example.com/v1", "apiKey": "sk-0123456789"});
    vec![
        (
            "/v1/agents",
            agent,
            &[
                "/name",
                "/description",
                "/avatarUrl",
                "/labels/k",
                "/systemPrompt",
                "/stylePrompt",
                "/model",
                "/timeout",
                "/tools/0",
            ],
        ),
        ("/v1/runs", run, &["/agentName", "/idempotencyKey", "/input/prompt", "/labels/k", "/maxCostUsd"]),
        ("/v1/runs", json!({"agentName": "there", "sessionId": "s"}), &["/sessionId"]),
        ("/v1/api-keys", key, &["/name", "/scopes/0", "/expiresIn"]),
        ("/v1/settings/llm-providers", provider, &["/provider", "/baseUrl", "/apiKey"]),
        (
            "/auth/signup",
            json!({"email": "new@example.com", "name": "n", "password": "twelve letters"}),
            &["/email", "/name", "/password"],
        ),
        (
            "/auth/login",
            json!({"email": "somebody@example.com", "password": "none"}),
            &["/email", "/password"],
        ),
        ("/auth/refresh", json!({"refreshToken": "r"}), &["/refreshToken"]),
        ("/v1/runs/RUN/signals/go", json!({"value": "v"}), &["/value"]),
        ("/v1/runs/RUN/fork", json!({"fromStep": "s"}), &["/fromStep"]),
        ("/v1/runs/RUN/cancel", json!({"reason": "r"}), &["/reason"]),
    ]
}

/// What an answer may be: the text as it was, or a refusal that does not repeat it all.
#[track_caller]
fn judge(answer: &crate::app::Answer, place: &str, field: &str, text: &str) {
    let start: String = text.chars().take(20).collect();
    let told = format!("{place} {field} {start:?}: {}", answer.text.chars().take(400).collect::<String>());
    assert!(answer.status.as_u16() < 500, "{told}");
    if answer.status.is_success() {
        let shown = answer.json.pointer(field).and_then(Value::as_str);
        assert!(shown.is_none_or(|shown| shown == text), "{told}");
    } else {
        let path = answer.json["instance"].as_str().map_or(0, str::len);
        assert!(answer.text.len() < 4_096 + path && answer.json["code"].is_string(), "{told}");
    }
}

async fn every_body(test: &TestApp) {
    test.agent(json!({"name": "there"})).await;
    for (place, body, fields) in fields() {
        for (n, text) in texts().into_iter().enumerate() {
            for field in fields {
                let run = test.run(json!({"agentName": "there"})).await;
                let mut body = body.clone();
                if *field != "/name" && body["name"] == "n" {
                    body["name"] = json!(format!("n-{n}{}", field.replace('/', "-")));
                }
                *body.pointer_mut(field).unwrap() = json!(text);
                let answer = test.post(&test.a.owner, &place.replace("RUN", &run), body).await;
                judge(&answer, place, field, &text);
            }
        }
    }
}

async fn names_of_labels_and_what_is_asked_for(test: &TestApp) {
    test.agent(json!({"name": "there"})).await;
    for text in texts() {
        let answer =
            test.post(&test.a.owner, "/v1/runs", json!({"agentName": "there", "labels": {&text: "v"}})).await;
        judge(&answer, "/v1/runs", "labels", &text);
        if answer.status == 201 {
            assert_eq!(answer.json["labels"][&text], "v");
        }
        let escaped =
            text.bytes().take(2_000).fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
        for asked in [
            "runs?agent=",
            "runs?q=",
            "runs?label=k:",
            "runs?sessionId=",
            "agents?q=",
            "agents?name=",
            "approvals?runId=",
            "agents/",
            "runs/",
        ] {
            let answer = test.get(&test.a.owner, &format!("/v1/{asked}{escaped}")).await;
            judge(&answer, asked, "", &text);
        }
        let run = test.run(json!({"agentName": "there"})).await;
        let answer = test.post(&test.a.owner, &format!("/v1/runs/{run}/signals/{escaped}"), json!({})).await;
        judge(&answer, "signals", "", &text);
    }
}

async fn what_people_say_of_approvals(test: &TestApp) {
    let steps = json!([{"id": "ok", "kind": "approval", "data": {"reason": "sure?"}}]);
    test.agent(json!({"name": "asks", "program": "steps", "steps": steps})).await;
    for text in texts() {
        let run = test.run(json!({"agentName": "asks"})).await;
        let mut hand = Hand::take(test, &run).await;
        hand.give(Input::Wake).await;
        let path = format!("/v1/runs/{run}/approvals/ok");
        let answer = test.post(&test.a.owner, &path, json!({"approved": true, "note": text})).await;
        judge(&answer, "approvals", "", &text);
        if answer.status.is_success() {
            assert_eq!(hand.drain().await, 1, "it can be taken in");
            let rows =
                test.get(&test.a.owner, &format!("/v1/approvals?status=granted&runId={run}")).await.is(200);
            let note = rows.json[0]["note"].as_str().unwrap_or_default().to_owned();
            assert!(
                text.starts_with(note.trim_end_matches('…')) || text.trim() == note,
                "{note:?} is not {text:?}"
            );
        }
    }
}

on_both! {
    bodies: every_body;
    names: names_of_labels_and_what_is_asked_for;
    notes: what_people_say_of_approvals;
}
