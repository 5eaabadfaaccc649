//! Sessions over HTTP.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use lantern_edge::openapi::{Kind, PAGING, Param};
use lantern_edge::route::{delete_route, get_route, post_route, stream_route};
use lantern_edge::sse::{self, After, Leave};
use lantern_edge::{
    Accepted, Body, Created, Heard, Json, NoContent, Page, Params, Path, Refusal, Result, Route, idempotency,
};
use lantern_policy::Permit;
use lantern_policy::action::{
    CreateSession, DeleteSession, ListSessions, ReadSession, SendMessage, StopSession,
};

use super::model::{Made, NewMessage, NewSession, Session, Stopped, Taken};
use super::{events, service};
use crate::App;
use crate::features::runs;

/// Where older clients say what `turnHint` says.
const TURN_HINT: &str = "x-lantern-turn-hint";
const BEFORE: [Param; 2] = [
    Param {
        name: "before",
        about: "Messages of exchanges before the one of this number.",
        kind: Kind::From(1),
    },
    Param { name: "limit", about: "At most so many exchanges.", kind: Kind::From(1) },
];
const FRAMES: &str = "What is said in the session: `connected`, then what was said, then what is being said. Each frame is \
                      `{type, data, timestamp}` without an `event:` line. docs/guide/sessions.md has the types.";

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/sessions", "List sessions, the one that was updated last first", list).takes(&PAGING),
        post_route("/v1/sessions", "Begin a session with an agent", create).refuses(&[Refusal::NotFound]),
        get_route("/v1/sessions/{id}", "Read a session with what was said in it", get).takes(&BEFORE),
        delete_route("/v1/sessions/{id}", "Delete a session and all that was said in it", delete),
        post_route("/v1/sessions/{id}/messages", "Send a message, which a run answers", send)
            .refuses(&[Refusal::RateLimited, Refusal::OverBudget]),
        post_route("/v1/sessions/{id}/stop", "Stop a session for good", stop)
            .refuses(&[Refusal::RateLimited]),
        stream_route("/v1/sessions/{id}/events", "Follow what is said in a session", follow)
            .takes(&sse::AFTER)
            .streams(FRAMES)
            .answers::<NoContent>(),
    ]
}

async fn list(permit: Permit<ListSessions>, State(app): State<App>, params: Params) -> Result<Page<Session>> {
    service::list(&app, permit.scope(), &params).await
}

async fn create(
    permit: Permit<CreateSession>,
    State(app): State<App>,
    Body(new): Body<NewSession>,
) -> Result<Created<Made>> {
    let id = service::create(&app, &permit, new).await?;
    Ok(Created { body: Made { id, status: "active" }, location: format!("/v1/sessions/{id}") })
}

async fn get(
    permit: Permit<ReadSession>,
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Session>> {
    let page = (params.integer("before", 1..=u32::MAX)?, params.at_most("limit", u32::MAX)?);
    service::get(&app, permit.scope(), service::id(&id)?, page).await.map(Json)
}

async fn send(
    permit: Permit<SendMessage>,
    State(app): State<App>,
    Path(id): Path<String>,
    heard: Heard,
    Body(message): Body<NewMessage>,
) -> Result<Accepted<Taken>> {
    heard.ignores(TURN_HINT);
    let key = idempotency::key(&heard.headers)?;
    let trace = runs::service::trace(&heard.headers);
    let run_id = service::send(&app, &permit, service::id(&id)?, message, (key, trace)).await?;
    Ok(Accepted(Taken { status: "processing", run_id }))
}

async fn stop(
    permit: Permit<StopSession>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Stopped>> {
    service::stop(&app, &permit, service::id(&id)?).await?;
    Ok(Json(Stopped { status: "stopped" }))
}

async fn delete(
    permit: Permit<DeleteSession>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<NoContent> {
    service::delete(&app, &permit, service::id(&id)?).await?;
    Ok(NoContent)
}

/// Nothing follows the last frame of a session that was stopped, and saying so keeps a browser from coming back for it.
async fn follow(
    permit: Permit<ReadSession>,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response> {
    let (session, after) = (service::id(&id)?, After::of(&headers, &params)?);
    let Some(frames) = events::follow(&app, permit.scope(), session, after).await? else {
        return Ok(NoContent.into_response());
    };
    let leave = Leave { pass: app.inner.gate.pass(permit.actor()), last: events::no_longer(app.clock.now()) };
    Ok(sse::events(frames, leave, app.clock.clone(), app.stop.clone()))
}
