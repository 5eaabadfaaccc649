//! Giving a run up: the end of one that nobody can go on with, asked for by someone who may cancel it (ADR 8).
//!
//! Invariant: it is given up only when a worker looked at it after the request and let it go with the request untouched;
//! a run that some process can read is cancelled by that process. Its parent is told that it failed and its children to
//! stop, in the same transaction, because its own journal cannot say so.

use lantern_edge::{Code, Result};
use lantern_engine::{Arrival, Outcome, StepId};
use lantern_policy::Scope;
use lantern_store::inbox::NewInput;
use lantern_store::journal::{self, GiveUp, RunFilter, RunRow};
use lantern_types::{Dur, MicroUsd, RunId};
use serde_json::json;

use super::model::UNREADABLE;
use super::{service, steer};
use crate::App;

/// Under which key a request to stop lies in the inbox: a second one while the first waits is the same request.
pub(super) const CANCEL: &str = "cancel";

/// Whether nobody drives the run and nobody is to look at it yet. An order makes it due, so after one this means that
/// somebody has looked.
pub(super) fn at_rest(app: &App, row: &RunRow) -> bool {
    let due = row.wake_at.is_some_and(|at| at <= app.clock.now());
    row.finished_at.is_none() && row.owner.is_none() && !due
}

/// How often it is tried while somebody writes to a run that must hear of it, and how long it is waited for.
const TRIES: u32 = 10;
const AGAIN: Dur = Dur::from_millis(20);

/// Gives the run up if a request to cancel it found nobody who could go on with it.
pub(super) async fn if_parked(app: &App, scope: Scope, run: RunId) -> Result<()> {
    for _ in 1..TRIES {
        match once(app, scope, run).await? {
            Err(error) if error.is_transient() => app.clock.sleep(AGAIN).await,
            done => return Ok(done?),
        }
    }
    Ok(once(app, scope, run).await??)
}

async fn once(app: &App, scope: Scope, run: RunId) -> Result<lantern_store::Result<()>> {
    let row = service::head(app, scope, run).await?;
    if !at_rest(app, &row) {
        return Ok(Ok(()));
    }
    let news = news(app, scope, &row).await?;
    let end = GiveUp {
        run,
        epoch: row.epoch,
        version: row.version,
        at: app.clock.now(),
        error_code: Code::RunUnreadable.as_str(),
        asked: CANCEL,
    };
    let given_up = journal::give_up(&app.db, scope, end, news).await;
    app.notary.nudge();
    if matches!(given_up, Ok(true)) {
        tracing::warn!(tenant = %scope.tenant(), %run, "a run that cannot be read was given up");
    }
    Ok(given_up.map(drop))
}

/// What other runs must hear of this one's end.
async fn news(app: &App, scope: Scope, row: &RunRow) -> Result<Vec<NewInput>> {
    let mut news = Vec::new();
    let step = row.parent_step.as_deref().filter(|step| !step.is_empty());
    if let (Some(parent), Some(step)) = (row.parent_run_id, step) {
        let output = json!({ "code": Code::RunUnreadable.as_str(), "message": UNREADABLE });
        // Nobody knows what it and the runs before it spent: the parent is charged all that it holds for them.
        let spent = MicroUsd::from_micros(i64::MAX);
        let (step, generation, outcome) = (StepId::new(step), None, Outcome::Failed);
        let arrival = Arrival::ChildFinished { step, generation, outcome, spent, output };
        news.push(sealed(app, scope, (row.id, parent), &arrival).await?);
    }
    let limit = app.limits(scope).steps_per_run_max;
    let children = RunFilter { parent_run_id: Some(row.id), limit, ..RunFilter::default() };
    for child in journal::list(&app.db, scope, children).await? {
        if child.finished_at.is_none() {
            let (by, reason) = (format!("run {}", row.id), Some("the parent run was given up".to_owned()));
            let order = Arrival::Cancel { by, reason };
            // An order, which a child that goes on as a new run leaves to it.
            news.push(
                steer::sealed(app, scope, (child.id, format!("stop:{}|given-up", row.id)), &order).await?,
            );
        }
    }
    Ok(news)
}

async fn sealed(app: &App, scope: Scope, (from, to): (RunId, RunId), arrival: &Arrival) -> Result<NewInput> {
    steer::sealed(app, scope, (to, format!("{from}|given-up")), arrival).await
}
