//! The doors. A request that is sent again is another request: its `Idempotency-Key` is the provider's business.

use axum::extract::State;
use axum::handler::Handler;
use axum::response::Response;
use http::HeaderMap;
use lantern_edge::openapi::Call;
use lantern_edge::route::{Guarded, fresh_post_route, get_route};
use lantern_edge::{Json, Raw, Refusal, Result, Route};
use lantern_llm::Door;
use lantern_policy::Permit;
use lantern_policy::action::{CallModel, ListModels};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::ask::MODEL_BYTES_MAX;
use crate::call::{Request, call};
use crate::open::Bill;
use crate::{Doors, count, models, own, shape};

/// Every route: method, path and action.
pub fn routes() -> Vec<Route<Doors>> {
    let [chats, texts] = ["messages", "input"].map(|member| {
        json!({
            "type": "object",
            "required": ["model", member],
            "properties": { "model": { "type": "string", "minLength": 1, "maxLength": MODEL_BYTES_MAX } },
        })
    });
    let wires = [
        door("/v1/chat/completions", "Call a model: chat completions", chat, &chats).shaped(shape::PLAIN),
        door("/v1/responses", "Call a model: responses", responses, &texts).shaped(shape::PLAIN),
        door("/v1/embeddings", "Embed texts", embeddings, &texts).shaped(shape::PLAIN),
        door("/v1/messages", "Call a model: messages", messages, &chats).shaped(shape::TYPED),
        door("/v1/messages/count_tokens", "Count the tokens of messages", tokens, &chats)
            .shaped(shape::TYPED),
        get_route("/v1/models", "List the models that can be called", list)
            .shaped(shape::PLAIN)
            .answers::<Json<Passed>>(),
    ];
    wires.into_iter().chain(own::routes()).collect()
}

/// What a call of a model may be refused for, beyond what its body says.
pub(crate) const REFUSES: &[Refusal] = &[
    Refusal::NotFound,
    Refusal::OverBudget,
    Refusal::RateLimited,
    Refusal::NotSupported,
    Refusal::BadGateway,
];

/// An answer in the words of its wire.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
#[schema(as = WireAnswer, value_type = Object)]
struct Passed(Value);

/// A door that passes a call on, and its answer back.
fn door<H, T>(path: &'static str, summary: &'static str, handler: H, body: &Value) -> Route<Doors>
where
    H: Handler<T, Doors> + Call<T>,
    T: Guarded + 'static,
{
    fresh_post_route(path, summary, handler)
        .reads(body.clone())
        .answers::<Json<Passed>>()
        .streams("With `stream`: the answer as it comes.")
        .refuses(REFUSES)
        .passes_on("What the provider answers, in its own words.")
}

async fn chat(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call(&doors, &permit, Request { door: Door::Chat, headers, body, agent: None }, &Bill::default()).await
}

async fn responses(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call(&doors, &permit, Request { door: Door::Responses, headers, body, agent: None }, &Bill::default())
        .await
}

async fn embeddings(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call(&doors, &permit, Request { door: Door::Embeddings, headers, body, agent: None }, &Bill::default())
        .await
}

async fn messages(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call(&doors, &permit, Request { door: Door::Messages, headers, body, agent: None }, &Bill::default())
        .await
}

async fn tokens(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    count::count(doors, permit, headers, body).await
}

async fn list(
    permit: Permit<ListModels>,
    State(doors): State<Doors>,
    headers: HeaderMap,
) -> Result<Response> {
    models::list(doors, permit.scope(), &headers).await
}
