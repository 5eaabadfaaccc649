//! The doors. A request that is sent again is another request: its `Idempotency-Key` is the provider's business.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use lantern_edge::route::{fresh_post_route, get_route};
use lantern_edge::{Raw, Result, Route};
use lantern_llm::Door;
use lantern_policy::Permit;
use lantern_policy::action::{CallModel, ListModels};

use crate::{Doors, call, models, shape};

/// Every route: method, path and action.
pub fn routes() -> Vec<Route<Doors>> {
    vec![
        fresh_post_route("/v1/chat/completions", "Call a model: chat completions", chat).shaped(shape::PLAIN),
        fresh_post_route("/v1/responses", "Call a model: responses", responses).shaped(shape::PLAIN),
        fresh_post_route("/v1/embeddings", "Embed texts", embeddings).shaped(shape::PLAIN),
        fresh_post_route("/v1/messages", "Call a model: messages", messages).shaped(shape::TYPED),
        fresh_post_route("/v1/messages/count_tokens", "Count the tokens of messages", count)
            .shaped(shape::TYPED),
        get_route("/v1/models", "List the models that can be called", list).shaped(shape::PLAIN),
    ]
}

async fn chat(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call::call(doors, permit, Door::Chat, headers, body).await
}

async fn responses(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call::call(doors, permit, Door::Responses, headers, body).await
}

async fn embeddings(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call::call(doors, permit, Door::Embeddings, headers, body).await
}

async fn messages(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call::call(doors, permit, Door::Messages, headers, body).await
}

async fn count(
    permit: Permit<CallModel>,
    State(doors): State<Doors>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response> {
    call::count(doors, permit, headers, body).await
}

async fn list(
    permit: Permit<ListModels>,
    State(doors): State<Doors>,
    headers: HeaderMap,
) -> Result<Response> {
    models::list(doors, permit.scope(), &headers).await
}
