//! Questions to people, of all runs: a list, one of them, and decisions.
//!
//! Invariant: which questions there are is read from their rows, and what they say from the journals of the page's runs;
//! nothing is folded for a list. A decision goes the way of every other: through the run's inbox, by the same rules as
//! `POST /v1/runs/{id}/approvals/{stepId}`. Whether a budget may be passed is no run's question, and decided in its own row.

mod budget;
mod model;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use lantern_edge::idempotency::About;
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{get_route, post_route};
use lantern_edge::{Body, Json, Page, Paging, Params, Path, Refusal, Result, Route};
use lantern_policy::action::{DecideApproval, ListApprovals, ReadApproval};
use lantern_policy::{Permit, Scope};
use lantern_store::approvals::{self, ApprovalRow};
use lantern_store::journal::Stored;
use lantern_types::approval::Status;
use lantern_types::{ApprovalId, Dur, RunId};
use uuid::Uuid;

pub(super) use self::model::not_found;
use self::model::{Approval, FILTERS, Note, Said};
use super::model::Decision;
use super::{history, steer};
use crate::App;

/// The longest text that a list shows, in bytes of JSON. Of a longer one it says that there is one.
const CONTENT_MAX: usize = 32 << 10;
/// How long an answer waits for the decision to be taken in.
const WAIT_MAX: Dur = Dur::from_secs(2);
/// How often it looks without being told.
const POLL: Dur = Dur::from_millis(250);

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route(
            "/v1/approvals",
            "List what waits for a person, the oldest first, or what was decided",
            list,
        )
        .takes(&PAGING)
        .takes(FILTERS),
        get_route("/v1/approvals/{id}", "Read an approval", get),
        post_route("/v1/approvals/{id}/grant", "Grant an approval", grant).refuses(&[Refusal::RateLimited]),
        post_route("/v1/approvals/{id}/deny", "Deny an approval", deny).refuses(&[Refusal::RateLimited]),
        post_route("/v1/approvals/{id}/answer", "Decide an approval", answer)
            .refuses(&[Refusal::RateLimited]),
        // Where the gateways of older surfaces send what a person said there.
        post_route("/v1/tenants/{tenant}/approvals/{id}/resolve", "Decide an approval", resolve)
            .refuses(&[Refusal::RateLimited]),
    ]
}

/// An approval, in an answer that is not remembered apart from its run.
type Shown = (Extension<About>, Json<Approval>);

async fn list(
    permit: Permit<ListApprovals>,
    State(app): State<App>,
    params: Params,
) -> Result<Page<Approval>> {
    let (scope, paging) = (permit.scope(), Paging::of(&params)?);
    let rows = approvals::list(&app.db, scope, model::wanted(&params, &paging)?).await?;
    let (rows, page) = Page::cut(rows, &paging, &params, |row| (row.asked_at, row.id.uuid())).split();
    let mut items = Vec::with_capacity(rows.len());
    for (row, told) in rows.iter().zip(approvals::told(&app.db, scope, &rows).await?) {
        let said = said(&app, scope, row, told).await?.cut(CONTENT_MAX);
        items.push(model::shown(row.clone(), said));
    }
    Ok(page.with(items))
}

async fn get(
    permit: Permit<ReadApproval>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Approval>> {
    let row = find(&app, permit.scope(), named(&id)?).await?;
    Ok(Json(whole(&app, permit.scope(), row).await?))
}

async fn grant(
    permit: Permit<DecideApproval>,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(Note { note, answer, more }): Body<Note>,
) -> Result<Shown> {
    decide(&app, &permit, named(&id)?, Decision { approved: true, note, answer, more }).await
}

async fn deny(
    permit: Permit<DecideApproval>,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(Note { note, answer, more }): Body<Note>,
) -> Result<Shown> {
    decide(&app, &permit, named(&id)?, Decision { approved: false, note, answer, more }).await
}

async fn answer(
    permit: Permit<DecideApproval>,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(decision): Body<Decision>,
) -> Result<Shown> {
    decide(&app, &permit, named(&id)?, decision).await
}

/// The same by a path that names the tenant: the caller's own, or there is no such approval.
async fn resolve(
    permit: Permit<DecideApproval>,
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    Body(decision): Body<Decision>,
) -> Result<Shown> {
    if tenant.parse().ok() != Some(permit.scope().tenant()) {
        return Err(not_found());
    }
    decide(&app, &permit, named(&id)?, decision).await
}

/// Shows the approval of this id as it is now, if there is one: what a repeated decision is answered with.
pub(super) async fn show(app: &App, scope: Scope, id: Uuid) -> Result<Option<Response>> {
    match approvals::find(&app.db, scope, ApprovalId::from_uuid(id)).await? {
        Some(row) => Ok(Some(shown(app, scope, row).await?.into_response())),
        None => Ok(None),
    }
}

/// The same for a question that is named with its run.
pub(super) async fn decide_of(
    app: &App,
    permit: &Permit<DecideApproval>,
    (run, id): (RunId, ApprovalId),
    decision: Decision,
) -> Result<()> {
    if find(app, permit.scope(), id).await?.run != run {
        return Err(not_found());
    }
    decide(app, permit, id, decision).await.map(drop)
}

/// Why a question is asked, when that can be read and is not too long for a list.
pub(super) async fn reason(app: &App, scope: Scope, row: &ApprovalRow) -> Result<Option<String>> {
    let told = approvals::told(&app.db, scope, std::slice::from_ref(row)).await?.pop().unwrap_or_default();
    Ok(said(app, scope, row, told).await?.cut(CONTENT_MAX).reason)
}

/// Decides, and waits a moment for whoever drives the run to take the decision in.
async fn decide(
    app: &App,
    permit: &Permit<DecideApproval>,
    id: ApprovalId,
    decision: Decision,
) -> Result<Shown> {
    let scope = permit.scope();
    let row = find(app, scope, id).await?;
    if row.status != Status::Pending {
        return Err(model::decided(&row));
    }
    if row.over.is_some() {
        return budget::decide(app, permit, row, decision).await;
    }
    if decision.more.is_some() {
        return Err(budget::no_budget());
    }
    // Before the decision lies there, so that no news of it is missed.
    let mut watch = app.db.hub().subscribe(scope, row.run);
    steer::decide(app, scope, row.run, (row.step, steer::by(permit.actor())), decision).await?;
    let mut late = app.clock.sleep(WAIT_MAX);
    loop {
        let row = find(app, scope, id).await?;
        if row.status != Status::Pending {
            return shown(app, scope, row).await;
        }
        tokio::select! {
            biased;
            () = watch.changed() => {}
            () = app.clock.sleep(POLL) => {}
            () = &mut late => return shown(app, scope, row).await,
            () = app.stop.requested() => return shown(app, scope, row).await,
        }
    }
}

async fn shown(app: &App, scope: Scope, row: ApprovalRow) -> Result<Shown> {
    Ok((Extension(About(row.id.uuid())), Json(whole(app, scope, row).await?)))
}

async fn whole(app: &App, scope: Scope, row: ApprovalRow) -> Result<Approval> {
    let told = approvals::told(&app.db, scope, std::slice::from_ref(&row)).await?.pop().unwrap_or_default();
    let said = said(app, scope, &row, told).await?;
    Ok(model::shown(row, said))
}

/// What the appends say in which a question and its decision stand. Nothing when one of them cannot be read.
async fn said(
    app: &App,
    scope: Scope,
    row: &ApprovalRow,
    (asked, closed): (Option<Stored>, Option<Stored>),
) -> Result<Said> {
    if let Some(over) = &row.over {
        return Ok(Said::of_budget(row, over));
    }
    let read = async {
        let mut said = Said::default();
        if let Some(asked) = asked {
            said.ask(row, &history::events(app, scope, row.run, &asked).await?);
        }
        if let Some(closed) = closed {
            said.decide(row, &history::events(app, scope, row.run, &closed).await?);
        }
        Ok(said)
    };
    Ok(history::readable(row.run, read.await)?.unwrap_or_default())
}

async fn find(app: &App, scope: Scope, id: ApprovalId) -> Result<ApprovalRow> {
    approvals::find(&app.db, scope, id).await?.ok_or_else(not_found)
}

/// What is no id names no approval.
fn named(id: &str) -> Result<ApprovalId> {
    id.parse().map_err(|_| not_found())
}
