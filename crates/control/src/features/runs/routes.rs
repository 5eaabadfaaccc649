//! Runs over HTTP.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use lantern_edge::idempotency::{self, About};
use lantern_edge::openapi::PAGING;
use lantern_edge::prefer::{self, Held};
use lantern_edge::route::{delete_route, get_route, held_post_route, post_route, stream_route};
use lantern_edge::sse::{self, Leave, Resume};
use lantern_edge::{
    Body, Code, Created, CreatedAll, Error, Fields, Json, Model as _, NoContent, Page, Params, Path, Refusal,
    Result, Route,
};
use lantern_policy::action::{
    CancelRun, CreateRun, DecideApproval, DeleteRun, ListRuns, ReadRun, RedactRun, SignalRun, SteerRun,
};
use lantern_policy::{Permit, Scope};
use lantern_types::RunId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::model::{self, Cancel, Decision, Finding, NewRun, NewRunOfAgent, Run, Signal};
use super::service::batch::{self, Batch};
use super::{approvals, events, filter, fork, service, steer, wait};
use crate::App;
use crate::features::agents;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/runs", "List runs", list)
            .takes(&PAGING)
            .takes(&[filter::AGENT])
            .takes(filter::FILTERS),
        held_post_route("/v1/runs", "Start a run, or answer the one that its key started", create)
            .refuses(&[Refusal::NotFound, Refusal::RateLimited, Refusal::OverBudget])
            .answers::<Created<Run>>()
            .answers::<Json<Run>>()
            .streams("The events of the run, when `stream` is true."),
        post_route("/v1/runs/batch", "Start several runs, all or none", create_batch).refuses(&[
            Refusal::NotFound,
            Refusal::RateLimited,
            Refusal::OverBudget,
        ]),
        get_route("/v1/runs/{id}", "Read a run", get).waits().answers::<Json<Run>>(),
        delete_route("/v1/runs/{id}", "Delete a run that is over", delete),
        post_route("/v1/runs/{id}/redact", "Remove what was said in a run that is over, for good", redact),
        post_route("/v1/runs/{id}/cancel", "Cancel a run, or the one that it went on as", cancel)
            .refuses(&[Refusal::RateLimited]),
        held_post_route("/v1/runs/{id}/fork", "Fork a run from a step", fork::post_fork)
            .refuses(&[Refusal::RateLimited, Refusal::OverBudget])
            .answers::<Created<Run>>()
            .answers::<Json<Run>>(),
        held_post_route(
            "/v1/runs/{id}/replay",
            "Replay a run for nothing, or from a step on",
            fork::post_replay,
        )
        .refuses(&[Refusal::RateLimited, Refusal::OverBudget])
        .answers::<Created<Run>>()
        .answers::<Json<Run>>(),
        get_route("/v1/runs/{id}/diff/{other}", "Compare two runs", fork::get_diff)
            .refuses(&[Refusal::Conflict]),
        post_route("/v1/runs/{id}/pause", "Pause a run, or the one that it went on as", pause)
            .refuses(&[Refusal::RateLimited]),
        post_route("/v1/runs/{id}/resume", "Let a paused run go on, or the one that it went on as", resume)
            .refuses(&[Refusal::RateLimited]),
        post_route(
            "/v1/runs/{id}/signals/{name}",
            "Send a run a signal; `approval:STEP` is a decision",
            signal,
        )
        .refuses(&[Refusal::RateLimited]),
        post_route("/v1/runs/{id}/approvals/{stepId}", "Decide an approval", approve)
            .refuses(&[Refusal::RateLimited]),
        post_route("/v1/runs/{id}/steps/{stepId}/resolve", "Say whether a step in doubt happened", resolve)
            .refuses(&[Refusal::RateLimited]),
        stream_route("/v1/runs/{id}/events", "Follow a run's events", follow)
            .takes(&sse::PARAMS)
            .streams(FRAMES)
            .answers::<NoContent>(),
        // Where older clients look for the same.
        stream_route("/v1/runs/{id}/stream", "Follow a run's events", follow)
            .takes(&sse::PARAMS)
            .streams(FRAMES)
            .answers::<NoContent>(),
        get_route("/v1/agents/{name}/runs", "List the runs of an agent", list_of_agent)
            .takes(&PAGING)
            .takes(filter::FILTERS),
        held_post_route("/v1/agents/{name}/runs", "Start a run of an agent", create_of_agent)
            .refuses(&[Refusal::RateLimited, Refusal::OverBudget])
            .answers::<Created<Run>>()
            .answers::<Json<Run>>()
            .streams("The events of the run, when `stream` is true."),
        held_post_route("/v1/agents/{name}/trigger", "Start a run of an agent", create_of_agent)
            .refuses(&[Refusal::RateLimited, Refusal::OverBudget])
            .answers::<Created<Run>>()
            .answers::<Json<Run>>()
            .streams("The events of the run, when `stream` is true."),
    ]
}

const FRAMES: &str = "The run's events, one frame each: what is stored, then what happens, then `end`. docs/guide/events.md has the kinds.";

/// What steering answers: it lies in the run's inbox.
#[derive(Serialize, ToSchema)]
struct Accepted {
    status: &'static str,
}

const ACCEPTED: Json<Accepted> = Json(Accepted { status: "accepted" });

/// A run, in an answer that is not remembered apart from it.
pub(super) type Shown = (Extension<About>, Json<Run>);

/// Shows the run or the approval of this id as it is now.
pub(crate) async fn show(app: &App, scope: Scope, id: Uuid) -> Result<Response> {
    match approvals::show(app, scope, id).await? {
        Some(approval) => Ok(approval),
        None => {
            Ok((Extension(Held(scope, id)), shown(app, scope, RunId::from_uuid(id)).await?).into_response())
        }
    }
}

pub(super) async fn shown(app: &App, scope: Scope, run: RunId) -> Result<Shown> {
    Ok((Extension(About(run.uuid())), Json(service::get(app, scope, run).await?)))
}

async fn list(permit: Permit<ListRuns>, State(app): State<App>, params: Params) -> Result<Page<Run>> {
    service::list(&app, permit.scope(), filter::of_all(&params)?, &params).await
}

async fn list_of_agent(
    permit: Permit<ListRuns>,
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Page<Run>> {
    agents::service::get(&app, permit.scope(), &name).await?;
    service::list(&app, permit.scope(), filter::of_agent(&params, name)?, &params).await
}

async fn create(
    permit: Permit<CreateRun>,
    State(app): State<App>,
    headers: HeaderMap,
    Body(new): Body<NewRun>,
) -> Result<Response> {
    start(&app, &permit, &headers, new).await
}

async fn create_batch(
    permit: Permit<CreateRun>,
    State(app): State<App>,
    headers: HeaderMap,
    Body(batch): Body<Batch>,
) -> Result<CreatedAll<Run>> {
    let batch = batch.under(service::trace(&headers));
    let made = batch::start_batch(&app, &permit, batch, idempotency::key(&headers)?).await?;
    Ok(CreatedAll { all: made.runs, replayed: !made.fresh })
}

async fn create_of_agent(
    permit: Permit<CreateRun>,
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(NewRunOfAgent(mut new)): Body<NewRunOfAgent>,
) -> Result<Response> {
    if !new.agent_name.is_empty() && new.agent_name != name {
        let words = "the path names another agent";
        return Err(Error::new(Code::InvalidBody, words).with_field("agentName", words));
    }
    new.agent_name = name;
    start(&app, &permit, &headers, new).await
}

async fn start(
    app: &App,
    permit: &Permit<CreateRun>,
    headers: &HeaderMap,
    mut new: NewRun,
) -> Result<Response> {
    if let Some(key) = idempotency::key(headers)? {
        if new.idempotency_key.as_ref().is_some_and(|other| *other != key) {
            let words = "the Idempotency-Key header says another key";
            return Err(Error::new(Code::InvalidBody, words).with_field("idempotencyKey", words));
        }
        new.idempotency_key = Some(key);
    }
    new.trace = service::trace(headers);
    let stream = new.stream;
    let started = service::start(app, permit, new).await?;
    if stream {
        return streamed(app, permit, started.run, Resume::START).await;
    }
    let (about, Json(body)) = shown(app, permit.scope(), started.run).await?;
    let held = Extension(Held(permit.scope(), started.run.uuid()));
    let made = (held, about, Created { body, location: format!("/v1/runs/{}", started.run) }).into_response();
    Ok(if started.fresh { made } else { idempotency::replayed(made) })
}

async fn get(
    permit: Permit<ReadRun>,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let (scope, id) = (permit.scope(), run(&id)?);
    let waited = match prefer::wait(&headers) {
        Some(wish) => wait::over(&app, scope, id, wish).await?.map(|_| wish),
        None => None,
    };
    let shown = shown(&app, scope, id).await?.into_response();
    Ok(waited.into_iter().fold(shown, prefer::applied))
}

async fn redact(permit: Permit<RedactRun>, State(app): State<App>, Path(id): Path<String>) -> Result<Shown> {
    let id = run(&id)?;
    service::redact(&app, &permit, id).await?;
    shown(&app, permit.scope(), id).await
}

async fn delete(
    permit: Permit<DeleteRun>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<NoContent> {
    service::delete(&app, &permit, run(&id)?).await?;
    Ok(NoContent)
}

async fn cancel(
    permit: Permit<CancelRun>,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(cancel): Body<Cancel>,
) -> Result<Shown> {
    let (scope, id) = (permit.scope(), run(&id)?);
    let id = steer::cancel(&app, scope, id, steer::by(permit.actor()), cancel.reason).await?;
    shown(&app, scope, id).await
}

async fn pause(permit: Permit<SteerRun>, State(app): State<App>, Path(id): Path<String>) -> Result<Shown> {
    let (scope, id) = (permit.scope(), run(&id)?);
    let id = steer::pause(&app, scope, id, steer::by(permit.actor())).await?;
    shown(&app, scope, id).await
}

async fn resume(permit: Permit<SteerRun>, State(app): State<App>, Path(id): Path<String>) -> Result<Shown> {
    let (scope, id) = (permit.scope(), run(&id)?);
    let id = steer::resume(&app, scope, id, steer::by(permit.actor())).await?;
    shown(&app, scope, id).await
}

async fn signal(
    permit: Permit<SignalRun>,
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
    Body(signal): Body<Signal>,
) -> Result<Json<Accepted>> {
    let (scope, id) = (permit.scope(), run(&id)?);
    match name.strip_prefix("approval:") {
        Some(step) => {
            let about = (step.to_owned(), steer::by(permit.actor()));
            steer::decide(&app, scope, id, about, decision(&signal)?).await?;
        }
        None => {
            let key = idempotency::key(&headers)?;
            steer::signal(&app, scope, id, (name, signal.value), key).await?;
        }
    }
    Ok(ACCEPTED)
}

async fn approve(
    permit: Permit<DecideApproval>,
    State(app): State<App>,
    Path((id, step)): Path<(String, String)>,
    Body(decision): Body<Decision>,
) -> Result<Json<Accepted>> {
    let about = (step, steer::by(permit.actor()));
    steer::decide(&app, permit.scope(), run(&id)?, about, decision).await?;
    Ok(ACCEPTED)
}

async fn resolve(
    permit: Permit<SteerRun>,
    State(app): State<App>,
    Path((id, step)): Path<(String, String)>,
    Body(finding): Body<Finding>,
) -> Result<Json<Accepted>> {
    let about = (step, steer::by(permit.actor()));
    steer::resolve(&app, permit.scope(), run(&id)?, about, finding).await?;
    Ok(ACCEPTED)
}

async fn follow(
    permit: Permit<ReadRun>,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response> {
    streamed(&app, &permit, run(&id)?, Resume::of(&headers, &params)?).await
}

/// Nothing follows the end, and saying so keeps a browser from coming back for it again and again.
async fn streamed<A>(app: &App, permit: &Permit<A>, run: RunId, resume: Resume) -> Result<Response> {
    let Some(frames) = events::follow(app, permit.scope(), run, resume).await? else {
        return Ok(NoContent.into_response());
    };
    let leave = Leave { pass: app.inner.gate.pass(permit.actor()), last: events::no_longer(run)? };
    Ok(sse::events(frames, leave, app.clock.clone(), app.stop.clone()))
}

/// What is no id names no run.
fn run(id: &str) -> Result<RunId> {
    id.parse().map_err(|_| model::not_found())
}

/// The contract's other way to decide: a signal whose value holds the decision.
fn decision(signal: &Signal) -> Result<Decision> {
    let refused =
        |message: &str| Error::new(Code::InvalidBody, message.to_owned()).with_field("value", message);
    let map = signal.value.as_object().ok_or_else(|| refused("expected {\"approved\": true or false}"))?;
    let mut fields = Fields::of(map);
    let decision = Decision::read(&mut fields);
    fields.finish().ok().and(decision).ok_or_else(|| refused("expected {\"approved\": true or false}"))
}
