//! A provider that speaks the chat-completions wire and does as it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How one call is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Say(&'static str),
    Call(&'static str, Value),
    Status(u16, Option<u32>),
    NotJson,
    /// The first half of a reply, then the connection breaks.
    Half,
    /// One word after another until [`Provider::hush`].
    Talk,
    /// Nothing, ever.
    Hang,
}

#[derive(Clone, Default)]
pub(crate) struct Provider {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    bearers: Arc<Mutex<Vec<String>>>,
    traces: Arc<Mutex<Vec<String>>>,
    hushed: Arc<AtomicBool>,
    models: Arc<[&'static str]>,
    pub(crate) url: String,
}

impl Provider {
    /// Starts a provider that gives these answers in turn, and the last one from then on.
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        Self::with_models(&["gpt-4o"], answers).await
    }

    /// The same with these models.
    pub(crate) async fn with_models(models: &[&'static str], answers: Vec<Answer>) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), models, answers)
    }

    /// The same at an address that was taken before.
    pub(crate) fn listen(listener: TcpListener, answers: Vec<Answer>) -> Self {
        Self::serve(listener, &["gpt-4o"], answers)
    }

    fn serve(listener: TcpListener, models: &[&'static str], answers: Vec<Answer>) -> Self {
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (answers, models) = (Arc::new(Mutex::new(answers.into())), models.into());
        let provider = Self { answers, models, url, ..Self::default() };
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(list))
            .with_state(provider.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "a peer of the process under test, which ends with the test"
        )]
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    /// Every call so far: its idempotency key and its body.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }
    /// Who each of them said they were.
    pub(crate) fn bearers(&self) -> Vec<String> {
        self.bearers.lock().unwrap().clone()
    }
    /// Which span each of them named.
    pub(crate) fn traces(&self) -> Vec<String> {
        self.traces.lock().unwrap().clone()
    }
    pub(crate) fn keys(&self) -> Vec<String> {
        self.calls().into_iter().map(|(key, _)| key).collect()
    }
    /// The environment that makes a server use this provider.
    pub(crate) fn env(&self) -> Vec<(&str, &str)> {
        vec![("OPENAI_BASE_URL", &self.url), ("OPENAI_API_KEY", "sk-test-0123456789")]
    }
    /// Ends what it is saying.
    pub(crate) fn hush(&self) {
        self.hushed.store(true, Ordering::SeqCst);
    }
    /// Waits until so many calls have come.
    pub(crate) async fn called(&self, n: usize) {
        let look = async {
            while self.calls().len() < n {
                super::api::tick().await;
            }
        };
        tokio::time::timeout(super::process::NEVER, look).await.expect("the calls never came");
    }
}

async fn list(State(provider): State<Provider>) -> Response {
    let models: Vec<Value> = provider.models.iter().map(|id| json!({"id": id, "object": "model"})).collect();
    axum::Json(json!({"object": "list", "data": models})).into_response()
}

async fn complete(State(provider): State<Provider>, headers: HeaderMap, body: Bytes) -> Response {
    let said = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let key = said("idempotency-key");
    provider.bearers.lock().unwrap().push(said("authorization"));
    provider.traces.lock().unwrap().push(said("traceparent"));
    provider.calls.lock().unwrap().push((key, serde_json::from_slice(&body).unwrap()));
    let answer = {
        let mut answers = provider.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    };
    match answer {
        Answer::Say(text) => stream(&[delta(&json!({"role": "assistant", "content": text})), stop("stop")]),
        Answer::Call(name, arguments) => {
            let call = json!({"index": 0, "id": "call_1", "type": "function",
                "function": {"name": name, "arguments": arguments.to_string()}});
            stream(&[delta(&json!({"role": "assistant", "tool_calls": [call]})), stop("tool_calls")])
        }
        Answer::Status(status, retry_after) => {
            let body = json!({"error": {"message": "told to", "type": "t"}}).to_string();
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if let Some(secs) = retry_after {
                response.headers_mut().insert("retry-after", secs.into());
            }
            response
        }
        Answer::NotJson => ([("content-type", "application/json")], "<html>").into_response(),
        Answer::Half => {
            let first = delta(&json!({"role": "assistant", "content": "half of"}));
            let pieces =
                vec![Ok(Bytes::from(format!("data: {first}\n\n"))), Err(std::io::Error::other("broken"))];
            let body = Body::from_stream(futures_util::stream::iter(pieces));
            ([("content-type", "text/event-stream")], body).into_response()
        }
        Answer::Talk => {
            let talk = futures_util::stream::unfold((provider.hushed, false), |(hushed, over)| async move {
                if over {
                    return None;
                }
                super::api::tick().await;
                let over = hushed.load(Ordering::SeqCst);
                let next = if over { stop("stop") } else { delta(&json!({"content": "word "})) };
                let end = if over { "data: [DONE]\n\n" } else { "" };
                Some((Ok::<_, std::io::Error>(format!("data: {next}\n\n{end}")), (hushed, over)))
            });
            ([("content-type", "text/event-stream")], Body::from_stream(talk)).into_response()
        }
        Answer::Hang => std::future::pending().await,
    }
}

fn delta(delta: &Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-2024", "choices": [{"index": 0, "delta": delta}]})
}

fn stop(reason: &str) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-2024",
        "choices": [{"index": 0, "delta": {}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})
}

fn stream(chunks: &[Value]) -> Response {
    let events: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let mut text = events.concat();
    text.push_str("data: [DONE]\n\n");
    ([("content-type", "text/event-stream")], text).into_response()
}
