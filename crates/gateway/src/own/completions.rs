//! Messages in, an answer out.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use lantern_edge::route::fresh_post_route;
use lantern_edge::{Body, Fields, Json, Model, Result, Route};
use lantern_policy::Permit;
use lantern_policy::action::CallModel;
use serde_json::{Number, Value, json};

use super::said::{Said, Wording, objects, words};
use super::{Chat, Outcome, REFUSED, REFUSES, ask, flow, refusal};
use crate::Doors;
use crate::ask::MODEL_BYTES_MAX;
use crate::open::Bill;

const MESSAGES_MAX: usize = 1_000;
/// The request's own bound is smaller.
const CONTENT_BYTES_MAX: usize = 16 << 20;
/// The model of whoever names none.
const ANY: &str = "auto";
const ROLES: [&str; 3] = ["system", "user", "assistant"];
/// What a client that wants the agent is told: there is a better way, which keeps a record.
const NO_AGENT: &str = "an agent answers in a run: POST /v1/runs with `Prefer: wait=60`, or a session";

pub(super) fn routes() -> Vec<Route<Doors>> {
    vec![
        fresh_post_route("/v1/completions", "Ask a model, in no vendor's words", complete)
            .answers::<Json<Said>>()
            .streams("With `stream`: the answer as it comes, `delta`, then `done` or `error`.")
            .refuses(REFUSES)
            .passes_on(REFUSED),
        fresh_post_route("/v1/jarvis/stream-completion", "Ask a model, and hear its words alone", stream)
            .streams("The words, line by line, then `[DONE]`.")
            .refuses(REFUSES)
            .passes_on(REFUSED),
    ]
}

/// What is asked.
struct Asked {
    messages: Vec<Message>,
    model: String,
    stream: bool,
    temperature: Option<Number>,
    max_tokens: Option<u64>,
}

struct Message {
    role: String,
    content: String,
}

impl Model for Message {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let role = fields.required_text("role", 32);
        if role.as_deref().is_some_and(|role| !ROLES.contains(&role)) {
            fields.issue("role", "expected system, user or assistant");
        }
        let content = fields.required_text("content", CONTENT_BYTES_MAX);
        Some(Self { role: role?, content: content? })
    }
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let messages = fields.required_list("messages", MESSAGES_MAX);
        let model = fields.text("model", MODEL_BYTES_MAX);
        let stream = fields.boolean("stream").unwrap_or_default();
        let temperature = temperature(fields);
        let max_tokens = fields.integer("maxTokens", 1..=u64::from(u32::MAX));
        if fields.value("agentName").is_some() {
            fields.issue("agentName", NO_AGENT);
        }
        Some(Self { messages: messages?, model: named(model), stream, temperature, max_tokens })
    }
}

fn temperature(fields: &mut Fields<'_>) -> Option<Number> {
    let said = fields.value("temperature")?;
    let number = said.as_number().filter(|number| number.as_f64().is_some_and(|n| (0.0..=2.0).contains(&n)));
    if number.is_none() {
        fields.issue("temperature", "expected a number from 0 to 2");
    }
    number.cloned()
}

/// The model, or any that would do.
pub(super) fn named(model: Option<String>) -> String {
    model.filter(|model| !model.is_empty()).unwrap_or_else(|| ANY.to_owned())
}

impl Asked {
    fn chat(&self, headers: &HeaderMap) -> Chat {
        let message = |message: &Message| json!({"role": message.role, "content": message.content});
        let messages: Vec<Value> = self.messages.iter().map(message).collect();
        Chat::new(&self.model, messages.into(), headers)
            .with("temperature", self.temperature.clone().map(Value::Number))
            .with("max_tokens", self.max_tokens.map(Value::from))
    }
}

async fn complete(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Body(asked): Body<Asked>,
) -> Result<Response> {
    if asked.stream {
        return streamed(&doors, &permit, asked.chat(&headers), &asked.model, objects).await;
    }
    match ask(&doors, &permit, asked.chat(&headers), &Bill::default()).await? {
        Outcome::Answer(said, told) => Ok((told, Json(said)).into_response()),
        Outcome::Refusal(refusal) => Ok(refusal),
    }
}

/// One prompt.
struct Prompt {
    user: String,
    system: Option<String>,
    model: String,
}

impl Model for Prompt {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let user = fields.required_text("userPrompt", CONTENT_BYTES_MAX);
        let system = fields.text("systemPrompt", CONTENT_BYTES_MAX);
        let model = fields.text("model", MODEL_BYTES_MAX);
        Some(Self { user: user?, system, model: named(model) })
    }
}

async fn stream(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Body(prompt): Body<Prompt>,
) -> Result<Response> {
    let system = prompt.system.iter().map(|system| json!({"role": "system", "content": system}));
    let messages: Vec<Value> = system.chain([json!({"role": "user", "content": prompt.user})]).collect();
    let chat = Chat::new(&prompt.model, messages.into(), &headers);
    streamed(&doors, &permit, chat, &prompt.model, words).await
}

async fn streamed(
    doors: &Doors,
    permit: &Permit<CallModel>,
    chat: Chat,
    model: &str,
    wording: Wording,
) -> Result<Response> {
    let bill = Bill::default();
    let chat = chat
        .with("stream", Some(Value::Bool(true)))
        .with("stream_options", Some(json!({"include_usage": true})));
    let answer = chat.call(doors, permit, &bill).await?;
    if !answer.status().is_success() {
        return refusal(answer).await;
    }
    Ok(flow::turned(answer, model, bill, wording))
}
