//! What a provider can do to a call, and what the caller then learns.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use lantern_llm::{Endpoint, OFFLINE_BANNER, OfflinePace, Target, call, list_models};
use lantern_net::Client;
use lantern_policy::Admitted;
use lantern_policy::egress::Reach;
use lantern_types::llm::{Cause, Finish, LlmCall, LlmReply, Message, Role, Unlisted, Usage};
use lantern_types::{
    Acted, AdmissionFacts, At, Digest, Dur, EffectKey, Failure, Grant, MicroUsd, RunId, Secret,
};
use serde_json::{Value, json};

use crate::server::{Then, closed_port, misbehave, serve};

const PATIENT: Dur = Dur::from_secs(60);
const KEY: &str = "sk-very-secret";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn question() -> Admitted<LlmCall> {
    let grant = Grant {
        hold: MicroUsd::ZERO,
        route: None,
        facts: AdmissionFacts::default(),
        policy: Digest::of(b""),
        catalogue: Digest::of(b""),
        limits: Digest::of(b""),
    };
    let key =
        EffectKey { run: RunId::from_bytes(&[1; 16]).unwrap(), step: "turn-1".to_owned(), generation: 0 };
    let call = LlmCall {
        model: "m".to_owned(),
        messages: vec![Message::text(Role::User, "hello")],
        tools: Vec::new(),
        max_tokens: 100,
        temperature: None,
        output_schema: None,
        key,
        trace: Some(TRACE.parse().unwrap()),
    };
    Admitted::by(&grant, call)
}

fn endpoint(base_url: String) -> Endpoint {
    let api_key = Some(Secret::new(KEY.to_owned()));
    Endpoint { provider: "lab".to_owned(), base_url, api_key, reach: Reach::Private }
}

async fn ask(endpoint: Endpoint, timeout: Dur) -> (String, Result<LlmReply, Failure>) {
    let mut text = String::new();
    let mut push = |delta: &str| text.push_str(delta);
    let client = Client::new().unwrap();
    let target = Target::Endpoint(endpoint);
    let got = sendable(call(&client, &target, &question(), At::from_micros(0), timeout, &mut push)).await;
    (text, got)
}

/// Callers move calls between threads; this does not compile when they cannot.
fn sendable<T: Send>(future: T) -> T {
    future
}

async fn fails(endpoint: Endpoint, timeout: Dur) -> Failure {
    let failure = ask(endpoint, timeout).await.1.unwrap_err();
    assert!(!failure.message.contains(KEY), "{}", failure.message);
    assert!(failure.message.starts_with("lab: "), "{}", failure.message);
    failure
}

/// A server that answers every request alike.
async fn answers(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: String,
) -> crate::server::Server {
    let answer = move || async move {
        let mut response = axum::response::Response::new(axum::body::Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        response
    };
    serve(Router::new().fallback(answer)).await
}

const STREAM: &[(&str, &str)] = &[("content-type", "text/event-stream; charset=utf-8")];
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const WORDS: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi \"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"there\"},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"model\":\"m-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n\
    data: [DONE]\n\n";

fn hi(model: &str, usage: Option<Usage>) -> LlmReply {
    let (content, tool_calls, finish) = ("Hi there".to_owned(), Vec::new(), Finish::Stop);
    LlmReply { content, tool_calls, finish, usage, model: model.to_owned() }
}

#[tokio::test]
async fn a_call_is_sent_as_documented_and_its_text_arrives_as_it_comes() {
    let seen: Arc<Mutex<Vec<(HeaderMap, Value)>>> = Arc::default();
    let log = Arc::clone(&seen);
    let handler = move |headers: HeaderMap, body: Bytes| async move {
        log.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
        ([("content-type", "text/event-stream")], WORDS)
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(handler))).await;
    for base in ["/v1", "/v1/"] {
        let (text, got) = ask(endpoint(server.url(base)), PATIENT).await;
        assert_eq!(got.unwrap(), hi("m-1", Some(Usage { tokens_in: 3, tokens_out: 2 })));
        assert_eq!(text, "Hi there");
    }
    let seen = seen.lock().unwrap();
    let (headers, body) = &seen[0];
    assert_eq!(headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["idempotency-key"], question().work().key.header());
    assert_eq!(headers["traceparent"], TRACE);
    assert_eq!(body["messages"], json!([{"role": "user", "content": "hello"}]));
    assert_eq!((&body["stream"], &body["max_tokens"]), (&json!(true), &json!(100)));
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_fine() {
    let body = r#"{"choices":[{"message":{"content":"Hi there"},"finish_reason":"stop"}]}"#;
    let server = answers(200, JSON, body.to_owned()).await;
    let (text, got) = ask(endpoint(server.url("")), PATIENT).await;
    assert_eq!((text.as_str(), got.unwrap()), ("Hi there", hi("m", None)));
}

#[tokio::test]
async fn statuses_become_codes() {
    const WAIT: &[(&str, &str)] = &[("retry-after", "7")];
    const UNTIL: &[(&str, &str)] =
        &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:07 GMT")];
    let wait = |secs| Some(Dur::from_secs(secs));
    for (status, headers, code, acted, retryable, retry_after) in [
        (429, WAIT, "provider_rate_limited", Acted::No, true, wait(7)),
        (429, UNTIL, "provider_rate_limited", Acted::No, true, wait(30)),
        (429, &[], "provider_rate_limited", Acted::No, true, None),
        (503, WAIT, "provider_unavailable", Acted::Unknown, true, wait(7)),
        (500, &[], "provider_unavailable", Acted::Unknown, true, None),
        (400, WAIT, "provider_refused", Acted::No, false, None),
        (401, &[], "provider_auth", Acted::No, false, None),
    ] {
        // A provider that quotes the key and goes on for long.
        let body = json!({"error": {"message": format!("key {KEY} {}", "x".repeat(2_000))}}).to_string();
        let server = answers(status, headers, body).await;
        let failure = fails(endpoint(server.url("")), PATIENT).await;
        assert_eq!((failure.code, failure.acted, failure.retryable), (code, acted, retryable), "{status}");
        assert_eq!(failure.retry_after, retry_after, "{status}");
        assert_eq!(failure.message.chars().count(), 300);
    }
}

#[tokio::test]
async fn a_silent_provider_runs_into_the_timeout() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Half\"}}]}\n\n";
    for said in [&b""[..], &head[..]] {
        let server = misbehave(said, Then::Hang).await;
        let failure = fails(endpoint(server.url("")), Dur::from_millis(200)).await;
        assert_eq!((failure.code, failure.acted), ("provider_timeout", Acted::Unknown));
        assert!(failure.retryable);
    }
}

#[tokio::test]
async fn half_a_stream_is_a_failure_however_it_ends() {
    const HALF: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Half\"}}]}\n\n";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndata\r\n";
    const BODY: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"choices\"";
    for (said, then) in [
        (&b""[..], Then::Close),
        (&b""[..], Then::Reset),
        (HALF, Then::Close),
        (HALF, Then::Reset),
        (CHUNKED, Then::Close),
        (BODY, Then::Close),
    ] {
        let server = misbehave(said, then).await;
        let failure = fails(endpoint(server.url("")), PATIENT).await;
        assert_eq!((failure.code, failure.acted), ("provider_interrupted", Acted::Unknown), "{failure:?}");
        assert!(failure.retryable);
    }
}

#[tokio::test]
async fn replies_that_make_no_sense() {
    let endless_event = format!("data: {}", "x".repeat(5 << 20));
    for (headers, body) in [
        (&[("content-type", "text/html")][..], "<html>a gateway's page</html>".to_owned()),
        (JSON, "{\"choices\": [".to_owned()),
        (JSON, "{}".to_owned()),
        (JSON, " ".repeat(9 << 20)),
        (STREAM, "data: {oops\n\n".to_owned()),
        (STREAM, endless_event),
        (&[], String::new()),
    ] {
        let server = answers(200, headers, body).await;
        let failure = fails(endpoint(server.url("")), PATIENT).await;
        assert_eq!(
            (failure.code, failure.acted),
            ("provider_invalid_response", Acted::Unknown),
            "{failure:?}"
        );
        assert!(failure.retryable);
    }
}

#[tokio::test]
async fn an_error_inside_a_stream_is_a_failure() {
    let body = format!(
        "{}\n\ndata: {{\"error\":{{\"message\":\"boom {KEY}\"}}}}\n\n",
        WORDS.lines().next().unwrap()
    );
    let server = answers(200, STREAM, body).await;
    let (text, got) = ask(endpoint(server.url("")), PATIENT).await;
    let failure = got.unwrap_err();
    assert_eq!((text.as_str(), failure.code), ("Hi ", "provider_unavailable"));
    assert_eq!(failure.message, "lab: boom ***");
}

#[tokio::test]
async fn addresses_are_guarded_and_redirects_refused() {
    let metadata = &[("location", "http://169.254.169.254/latest/meta-data")];
    let server = answers(307, metadata, String::new()).await;
    let refused = |code| (code, Acted::No, false);
    let told = |f: Failure| (f.code, f.acted, f.retryable);
    assert_eq!(told(fails(endpoint(server.url("")), PATIENT).await), refused("provider_refused"));
    let direct = endpoint("http://169.254.169.254/v1".to_owned());
    assert_eq!(told(fails(direct, PATIENT).await), refused("egress_denied"));
    let tenant = Endpoint { reach: Reach::Public, ..endpoint(server.url("")) };
    assert_eq!(told(fails(tenant, PATIENT).await), refused("egress_denied"));
    let nonsense = endpoint("not a url".to_owned());
    assert_eq!(told(fails(nonsense, PATIENT).await), refused("provider_refused"));
    let unsendable = Endpoint { api_key: Some(Secret::new("a\nb".to_owned())), ..endpoint(server.url("")) };
    assert_eq!(told(fails(unsendable, PATIENT).await), refused("provider_auth"));
}

#[tokio::test]
async fn nobody_at_home_certainly_did_nothing() {
    let nobody = endpoint(format!("http://127.0.0.1:{}/v1", closed_port().await));
    let failure = fails(nobody, PATIENT).await;
    assert_eq!((failure.code, failure.acted), ("provider_unreachable", Acted::No));
    assert!(failure.retryable);
}

#[tokio::test]
async fn models_are_listed() {
    let list = || async { axum::Json(json!({"object": "list", "data": [{"id": "b", "x": 1}, {"id": "a"}]})) };
    let server = serve(Router::new().route("/v1/models", get(list))).await;
    let client = Client::new().unwrap();
    let models = list_models(&client, &endpoint(server.url("/v1/")), PATIENT).await;
    assert_eq!(models.unwrap(), ["b", "a"]);
    let closed = format!("http://127.0.0.1:{}", closed_port().await);
    let hung = misbehave(b"", Then::Hang).await;
    let words = misbehave(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", Then::Close).await;
    let torn = misbehave(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi", Then::Close).await;
    let tls = server.url("/v1/").replace("http:", "https:");
    for (url, wait, code, cause) in [
        (server.url(""), PATIENT, "provider_refused", Some(Cause::Status(404))),
        (closed, PATIENT, "provider_unreachable", Some(Cause::Refused)),
        ("http://nowhere.invalid/".to_owned(), PATIENT, "provider_unreachable", Some(Cause::Name)),
        (tls, PATIENT, "provider_unreachable", Some(Cause::Tls)),
        (hung.url("/"), Dur::from_millis(50), "provider_timeout", Some(Cause::Slow)),
        (words.url("/"), PATIENT, "provider_invalid_response", Some(Cause::Form)),
        (torn.url("/"), PATIENT, "provider_interrupted", Some(Cause::Broken)),
        ("http://169.254.169.254/".to_owned(), PATIENT, "egress_denied", None),
    ] {
        let wrong = list_models(&client, &endpoint(url.clone()), wait).await.unwrap_err();
        assert_eq!(wrong, Unlisted { code, cause }, "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_offline_model_answers_and_keeps_to_the_timeout() {
    let client = Client::new().unwrap();
    let mut text = String::new();
    let mut push = |delta: &str| text.push_str(delta);
    let instant = Target::Offline(OfflinePace::default());
    let reply = call(&client, &instant, &question(), At::from_micros(0), PATIENT, &mut push).await.unwrap();
    assert_eq!(reply.content, format!("{OFFLINE_BANNER}\n\nYou said: hello"));
    assert_eq!(text, reply.content);
    let slow = Target::Offline(OfflinePace { tokens_per_sec: Some(1) });
    let failure = call(&client, &slow, &question(), At::from_micros(0), Dur::from_secs(3), &mut |_| ())
        .await
        .unwrap_err();
    assert_eq!(failure.code, "provider_timeout");
}
