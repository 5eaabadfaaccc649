//! The contract's takeovers, as far as a run asks for one: a question that waits for a person. To release one is to grant it.
//!
//! Invariant: nothing is stored here. What is shown and decided is an approval, and a decision goes the way of every other. A screen
//! that a person could take over no run has, so what would be needed for that is refused: see [`unbuilt`](crate::features::unbuilt).

use axum::extract::State;
use lantern_edge::route::{get_route, post_route};
use lantern_edge::{Json, Path, Refusal, Result, Route};
use lantern_policy::Permit;
use lantern_policy::action::{DecideApproval, ListApprovals};
use lantern_store::approvals::{self, ApprovalFilter};
use lantern_types::approval::Status;
use lantern_types::{ApprovalId, RunId};
use serde::Serialize;
use utoipa::ToSchema;

use super::approvals as questions;
use super::model::{Decision, not_found};
use super::service;
use crate::App;

/// Questions that one answer shows.
const SHOWN_MAX: u32 = 100;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/runs/{id}/takeover", "List what a run waits for a person with, or did", list),
        post_route("/v1/runs/{id}/takeover/{takeoverId}/release", "Let a run go on that waits", release)
            .refuses(&[Refusal::RateLimited]),
    ]
}

/// A question of a run, in the contract's words for it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Takeover {
    #[schema(value_type = String, format = "uuid")]
    id: ApprovalId,
    step_id: String,
    /// `pending`, `released`, `denied` or `expired`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// No run has a screen to offer.
    has_offer: bool,
    has_answer: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    released_at: Option<String>,
    expires_at: String,
}

/// It is released.
#[derive(Serialize, ToSchema)]
#[schema(as = TakeoverReleased)]
struct Released {
    #[schema(value_type = String, format = "uuid")]
    id: ApprovalId,
    status: &'static str,
}

const fn word(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Granted => "released",
        Status::Denied => "denied",
        Status::Expired | Status::Withdrawn => "expired",
    }
}

async fn list(
    permit: Permit<ListApprovals>,
    State(app): State<App>,
    Path(run): Path<String>,
) -> Result<Json<Vec<Takeover>>> {
    let scope = permit.scope();
    let run: RunId = run.parse().map_err(|_| not_found())?;
    service::head(&app, scope, run).await?;
    let statuses = Status::ALL.to_vec();
    let filter = ApprovalFilter { run: Some(run), statuses, limit: SHOWN_MAX, ..ApprovalFilter::default() };
    let mut all = Vec::new();
    for row in approvals::list(&app.db, scope, filter).await? {
        let (id, step_id, status) = (row.id, row.step.clone(), row.status);
        let (created_at, expires_at) = (row.asked_at.to_string(), row.expires_at.to_string());
        let released_at = row.closed_at.filter(|_| status == Status::Granted).map(|at| at.to_string());
        let reason = questions::reason(&app, scope, &row).await?;
        let status = word(status);
        let (has_offer, has_answer) = (false, false);
        all.push(Takeover {
            id,
            step_id,
            status,
            reason,
            has_offer,
            has_answer,
            created_at,
            released_at,
            expires_at,
        });
    }
    Ok(Json(all))
}

async fn release(
    permit: Permit<DecideApproval>,
    State(app): State<App>,
    Path((run, id)): Path<(String, String)>,
) -> Result<Json<Released>> {
    let run: RunId = run.parse().map_err(|_| not_found())?;
    let id: ApprovalId = id.parse().map_err(|_| questions::not_found())?;
    let granted = Decision { approved: true, note: None, answer: None, more: None };
    questions::decide_of(&app, &permit, (run, id), granted).await?;
    Ok(Json(Released { id, status: "released" }))
}
