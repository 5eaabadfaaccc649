//! A provider that hangs, breaks off, refuses, or talks nonsense: each gets a clear error, and nothing is lost.

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server};
use super::provider::{Answer, Provider};

/// The run of a one-call program under these answers, and the keys of the calls that were made.
async fn run(answers: Vec<Answer>, step: Value) -> (Value, Vec<String>) {
    let folder = Folder::new();
    let provider = Provider::start(answers).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    let mut step = step;
    step["id"] = json!("ask");
    step["kind"] = json!("llm");
    step["data"] = json!({"prompt": "hi", "model": "gpt-4o"});
    api.agent("a", json!({"program": "steps", "steps": [step]})).await;
    let id = api.run("a", json!({})).await;
    (api.ended(&id).await, provider.keys())
}

fn quick(attempts: u32) -> Value {
    json!({"retry": {"maxAttempts": attempts, "initialInterval": "10ms"}, "timeout": "1s"})
}

#[tokio::test]
async fn each_fault_has_its_code() {
    for (answer, code, same_key) in [
        (Answer::Hang, "provider_timeout", true),
        (Answer::Half, "provider_interrupted", true),
        (Answer::NotJson, "provider_invalid_response", true),
        (Answer::Status(500, None), "provider_unavailable", true),
        (Answer::Status(429, None), "provider_rate_limited", false),
    ] {
        let (ended, keys) = run(vec![answer.clone()], quick(2)).await;
        assert_eq!(
            (&ended["status"], &ended["error"]["code"]),
            (&json!("failed"), &json!(code)),
            "{answer:?}"
        );
        assert_eq!(ended["error"]["stepId"], "ask");
        assert_eq!(keys.len(), 2, "{answer:?}: both attempts were made");
        assert_eq!(keys[0] == keys[1], same_key, "{answer:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_mended_is_not_retried() {
    for (status, code) in [(401, "provider_auth"), (400, "provider_refused")] {
        let (ended, keys) = run(vec![Answer::Status(status, None)], quick(5)).await;
        assert_eq!((&ended["error"]["code"], keys.len()), (&json!(code), 1));
    }
}

#[tokio::test]
async fn what_passes_is_survived_and_retry_after_is_kept() {
    let answers = vec![Answer::Status(429, Some(1)), Answer::Half, Answer::Say("at last")];
    let (ended, keys) = run(answers, quick(5)).await;
    assert_eq!((&ended["status"], keys.len()), (&json!("succeeded"), 3));
    let took = |from: &str, to: &str| {
        let at = |field: &str| ended[field].as_str().unwrap().parse::<lantern_types::At>().unwrap();
        at(to).since(at(from)).millis()
    };
    assert!(took("startedAt", "finishedAt") >= 1_000, "the provider asked for a second");
}

#[tokio::test]
async fn a_server_that_never_listed_its_models_is_said_to_be_out_of_reach_until_it_answers() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    // An address of its own, where nothing listens yet.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/v1", socket.local_addr().unwrap());
    let saved = api.post("/v1/settings/llm-providers", &json!({"provider": "lab", "baseUrl": url})).await;
    assert_eq!(saved.0, 200, "{}", saved.1);
    api.agent("a", json!({"program": "steps", "steps": [
        {"id": "ask", "kind": "llm", "prompt": "hi", "retry": {"maxAttempts": 2, "initialInterval": "10ms"}}
    ]}))
    .await;

    let id = api.run("a", json!({})).await;
    let ended = api.ended(&id).await;
    assert_eq!(ended["error"]["code"], "provider_unreachable", "{ended}");
    let message = ended["error"]["message"].as_str().unwrap();
    assert!(message.contains("lab cannot be used: the connection was refused"), "{message}");
    let (_, events) = api.events(&id, None).await;
    let tries = events.iter().filter(|event| event.data.contains("\"step_retrying\"")).count();
    assert_eq!(tries, 1, "it is tried again as any network failure is");

    let provider = Provider::listen(socket.listen(16).unwrap(), vec![Answer::Say("here")]);
    let id = api.run("a", json!({})).await;
    let ended = api.ended(&id).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(provider.calls()[0].1["model"], "gpt-4o", "the model that it lists");
    let settled = api.events(&id, None).await.1.into_iter().any(|event| event.data.contains("\"lab\""));
    assert!(settled, "the events say who answered");
}

#[tokio::test]
async fn a_call_that_could_pass_the_cap_is_not_made() {
    let folder = Folder::new();
    let provider = Provider::start(vec![Answer::Say("dear")]).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("a", json!({"model": "gpt-4o", "maxCostUsd": 0.01, "maxTokens": 4096})).await;
    let run = api.run("a", json!({"prompt": "hi"})).await;
    let ended = api.ended(&run).await;
    assert_eq!(ended["error"]["code"], "run_budget_exceeded");
    assert_eq!((provider.calls().len(), &ended["costUsd"]), (0, &json!(0.0)));
}

#[tokio::test]
async fn a_model_without_a_known_price_is_refused_at_the_vendors_own_address() {
    let folder = Folder::new();
    let server = Server::dev_with(folder.path(), &[("OPENAI_API_KEY", "sk-test-0123456789")]);
    let api = Api::of(&server).await;
    api.agent("a", json!({"model": "gpt-none"})).await;
    let run = api.run("a", json!({"prompt": "hi"})).await;
    assert_eq!(api.ended(&run).await["error"]["code"], "price_unknown");
}
