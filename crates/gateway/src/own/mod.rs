//! The doors of our own API to a model: one question, one answer, in no vendor's words.
//!
//! ```text
//! completions.rs   messages in, an answer out, whole or as it comes       said.rs     an answer, in words and in frames
//! ocr.rs           the words in a picture                                 flow.rs     frames, as an answer comes
//! generate.rs      an agent's description, and its code, made to a schema and repaired
//! ```
//!
//! Invariant: each makes a chat completion of what it is asked and has it called like any other, so what holds at the
//! front doors (caps, stops, failover, records) holds here.

mod completions;
mod flow;
mod generate;
mod ocr;
mod said;

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_edge::{Code, Error, Result, Route};
use lantern_llm::wire::read_reply;
use lantern_llm::{Door, Family};
use lantern_policy::Permit;
use lantern_policy::action::CallModel;
use lantern_types::Dur;
use serde_json::{Value, json};

use crate::Doors;
use crate::attempt::{ANSWER_BYTES_MAX, PROVIDER};
use crate::call::{Request, STRATEGY, call};
use crate::missed::failed;
use crate::open::Bill;
use crate::routes::REFUSES;
use said::Said;

/// What a caller says of a call in its headers, and is heard.
const HEARD: [HeaderName; 2] = [STRATEGY, HeaderName::from_static("idempotency-key")];
/// What an answer tells in its headers, and is told on.
const TOLD: [&str; 3] = ["lantern-call-id", "lantern-max-tokens", "lantern-ignored"];
/// The most of a provider's own words for a refusal.
const DETAILS_BYTES_MAX: usize = 4 << 10;

/// What is said of an answer that is the provider's refusal.
const REFUSED: &str = "The provider refuses: its status, and its words in `details`.";

/// Every route of them.
pub(crate) fn routes() -> Vec<Route<Doors>> {
    [completions::routes(), ocr::routes(), generate::routes()].into_iter().flatten().collect()
}

/// A chat completion that is to be called.
struct Chat {
    body: Value,
    headers: HeaderMap,
}

impl Chat {
    fn new(model: &str, messages: Value, asked: &HeaderMap) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for name in HEARD {
            headers.extend(asked.get(&name).map(|value| (name, value.clone())));
        }
        Self { body: json!({"model": model, "messages": messages}), headers }
    }

    /// The same with one more member, where there is a value for it.
    fn with(mut self, name: &str, value: Option<Value>) -> Self {
        if let (Some(body), Some(value)) = (self.body.as_object_mut(), value) {
            body.insert(name.to_owned(), value);
        }
        self
    }

    async fn call(self, doors: &Doors, permit: &Permit<CallModel>, bill: &Bill) -> Result<Response> {
        let body = Bytes::from(self.body.to_string());
        call(doors, permit, Request { door: Door::Chat, headers: self.headers, body, agent: None }, bill)
            .await
    }
}

/// What came of a call.
enum Outcome<T> {
    /// An answer, with the headers that are told on.
    Answer(T, HeaderMap),
    /// The provider's refusal, for whoever asked.
    Refusal(Response),
}

/// Asks for an answer, and waits for all of it.
async fn ask(doors: &Doors, permit: &Permit<CallModel>, chat: Chat, bill: &Bill) -> Result<Outcome<Said>> {
    let asked = chat.body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    let before = bill.total();
    let answer = chat.call(doors, permit, bill).await?;
    if !answer.status().is_success() {
        return Ok(Outcome::Refusal(refusal(answer).await?));
    }
    let (provider, told) = (provider(&answer), told(&answer));
    let body = axum::body::to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await;
    let body = body.map_err(|_| Error::new(Code::ProviderInterrupted, "the provider's answer broke off"))?;
    let reply = read_reply(Family::Chat, &body, &asked).map_err(|failure| failed(&failure))?;
    let cost = bill.total().minus(before).unwrap_or_default();
    Ok(Outcome::Answer(Said::of(&reply, provider, cost), told))
}

/// A provider's refusal: its status, and its words beside ours.
async fn refusal(answer: Response) -> Result<Response> {
    let (status, provider, told) = (answer.status(), provider(&answer), told(&answer));
    let wait = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = axum::body::to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(body.get(..DETAILS_BYTES_MAX).unwrap_or(&body)).into_owned();
    let details = serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text));
    let error = Error::new(Code::ProviderRefused, format!("{provider} refuses the call"))
        .with_extra("details", details)
        .with_extra("provider", provider)
        .passing_on(status);
    let error = match wait {
        Some(seconds) => error.retry_after(Dur::from_secs(seconds)),
        None => error,
    };
    Ok((told, error).into_response())
}

fn provider(answer: &Response) -> String {
    let named = answer.headers().get(PROVIDER).and_then(|value| value.to_str().ok());
    named.unwrap_or_default().to_owned()
}

fn told(answer: &Response) -> HeaderMap {
    let names = TOLD.iter().map(|name| HeaderName::from_static(name));
    names.filter_map(|name| answer.headers().get(&name).map(|value| (name.clone(), value.clone()))).collect()
}
