//! Listing, reading and stopping workloads.

use lantern_edge::{Code, Error, Page, Paging, Params, Result};
use lantern_policy::action::StopWorkload;
use lantern_policy::{Permit, Scope};
use lantern_store::workloads::{self, WorkloadRow};
use lantern_types::{Dur, RunId};
use serde_json::Value;

use super::model::{self, Happening, STATES, Stopped, Told, Workload, vm_id};
use super::schedule::GRACE;
use super::told;
use crate::App;
use crate::features::runs::{history, steer};

/// Events that an answer shows.
const SHOWN_MAX: usize = 50;
const GRACE_MAX: Dur = Dur::from_secs(300);
const REASON_BYTES_MAX: usize = 1_000;

/// The run of a workload: its id, with or without the mark.
pub(super) fn named(id: &str) -> Result<RunId> {
    id.strip_prefix("vm-").unwrap_or(id).parse().map_err(|_| not_found())
}

fn not_found() -> Error {
    Error::new(Code::WorkloadNotFound, "no such workload")
}

/// A workload of the tenant.
pub(super) async fn find(app: &App, scope: Scope, run: RunId) -> Result<WorkloadRow> {
    workloads::find(&app.db, scope, run).await?.ok_or_else(not_found)
}

/// A page of workloads.
pub(super) async fn list(app: &App, scope: Scope, params: &Params) -> Result<Page<Workload>> {
    let paging = Paging::of(params)?;
    let before = paging.before.map(|(at, id)| (at, RunId::from_uuid(id)));
    let state = params.word("state", &STATES)?;
    let rows = workloads::list(&app.db, scope, state, (before, paging.fetch())).await?;
    let (rows, page) = Page::cut(rows, &paging, params, |row| (row.created_at, row.run.uuid())).split();
    let runs: Vec<RunId> = rows.iter().map(|row| row.run).collect();
    let said = history::said_of_all(app, scope, &runs).await?;
    let shown = |(row, said): (WorkloadRow, crate::features::runs::model::Said)| {
        model::shown(scope.tenant(), row, said.input.as_ref())
    };
    Ok(page.with(rows.into_iter().zip(said).map(shown).collect()))
}

/// A workload, and what happened to it.
pub(super) async fn told(app: &App, scope: Scope, run: RunId) -> Result<Told> {
    let row = find(app, scope, run).await?;
    let read = happenings(app, scope, run).await;
    let (events, input) = history::readable(run, read)?.unwrap_or_default();
    Ok(Told { vm: model::shown(scope.tenant(), row, input.as_ref()), events })
}

/// What the journal says of it, and what it was asked.
async fn happenings(app: &App, scope: Scope, run: RunId) -> Result<(Vec<Happening>, Option<Value>)> {
    let (mut all, mut input) = (Vec::new(), None);
    for append in history::page(app, scope, run, 1).await? {
        for event in history::events(app, scope, run, &append).await? {
            if event.seq == 1 {
                input = event
                    .content
                    .as_ref()
                    .and_then(lantern_engine::Content::input)
                    .map(|input| Value::clone(input));
            }
            if all.len() < SHOWN_MAX {
                all.push(told::happening(scope.tenant(), run, event.seq, &event));
            }
        }
    }
    Ok((all, input))
}

/// Stops a workload, with a grace. One that has ended stays as it is.
pub(super) async fn stop(
    app: &App,
    permit: &Permit<StopWorkload>,
    run: RunId,
    params: &Params,
) -> Result<Stopped> {
    let scope = permit.scope();
    let (reason, grace) = (reason(params)?, grace(params)?);
    let row = find(app, scope, run).await?;
    if !row.over() && row.run_ended_at.is_none() {
        workloads::drain(&app.db, scope, run, grace, app.clock.now()).await?;
        match steer::cancel(app, scope, run, steer::by(permit.actor()), reason).await {
            Ok(_) => {}
            // Over by itself meanwhile.
            Err(error) if matches!(error.code(), Code::RunFinished | Code::RunNotFound) => {}
            Err(error) => return Err(error),
        }
        tracing::info!(tenant = %scope.tenant(), %run, "a workload was stopped");
    }
    let row = find(app, scope, run).await?;
    let status = if row.over() { "terminated" } else { row.shown_state() }.to_owned();
    Ok(Stopped { vm_id: vm_id(run), status })
}

fn reason(params: &Params) -> Result<Option<String>> {
    let reason = params.text("reason").map(str::to_owned);
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX || reason.contains('\0')) {
        let words = format!("expected a text of at most {REASON_BYTES_MAX} bytes");
        return Err(Error::new(Code::InvalidQuery, format!("reason: {words}")).with_field("reason", words));
    }
    Ok(reason)
}

fn grace(params: &Params) -> Result<Dur> {
    let Some(text) = params.text("grace") else { return Ok(GRACE) };
    let seconds = text.parse::<u32>().ok().map(|seconds| Dur::from_secs(seconds.into()));
    seconds.or_else(|| Dur::parse(text)).filter(|grace| *grace <= GRACE_MAX).ok_or_else(|| {
        let words = "expected a time up to 5m, such as 10s";
        Error::new(Code::InvalidQuery, format!("grace: {words}")).with_field("grace", words)
    })
}
