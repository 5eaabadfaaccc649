//! Numbers of the tenant's workloads: what all of them come to, and a page of them one by one.
//!
//! Invariant: sums are of the rows of the workloads that are there; a run that was deleted is in them no more. What a box used of its
//! machine while it runs is not measured, so no number here claims to say it. Reads only.

use lantern_edge::{Page, Paging, Params, Result};
use lantern_engine::{event, wire};
use lantern_policy::Scope;
use lantern_store::journal;
use lantern_store::workloads::{self, Sums, Used, WorkloadRow};
use lantern_types::{At, Dur, RunId, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{self, STATES, vm_id};
use super::quota;
use crate::App;

/// What a tenant's workloads come to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WorkloadMetrics)]
pub(super) struct Metrics {
    #[schema(value_type = String, format = "uuid")]
    tenant_id: TenantId,
    totals: Totals,
    /// A page of them, the newest first.
    vms: Vec<Measured>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WorkloadTotals)]
struct Totals {
    /// Workloads that are there, over or not.
    vms: u64,
    /// Those that are not over: the quota's `maxConcurrentVms` is about them.
    open_vms: i64,
    /// For how long boxes were there today: the quota's `maxComputeHoursPerDay` is about it.
    compute_hours_today: f64,
    /// What their model calls cost.
    cost_usd: f64,
    /// What is held for those under way.
    held_usd: f64,
    model_calls: u64,
    tokens_in: u64,
    tokens_out: u64,
}

/// One workload in numbers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MeasuredWorkload)]
struct Measured {
    vm_id: String,
    #[schema(value_type = String, format = "uuid")]
    run_id: RunId,
    /// `pending`, `spawning`, `running`, `draining`, `terminated` or `failed`.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    isolation_class: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminated_at: Option<String>,
    /// For how long its box is there, or was.
    compute_seconds: f64,
    cost_usd: f64,
    model_calls: u64,
    tokens_in: u64,
    tokens_out: u64,
    /// Lines that it wrote and that are kept.
    log_lines: i64,
    log_lines_dropped: i64,
    /// The last thing that happened to it, in the words of the audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_audit_action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_audit_at: Option<String>,
}

/// The sums, and a page of workloads.
pub(super) async fn show(app: &App, scope: Scope, params: &Params) -> Result<(Metrics, Page<()>)> {
    let paging = Paging::of(params)?;
    let before = paging.before.map(|(at, id)| (at, RunId::from_uuid(id)));
    let state = params.word("state", &STATES)?;
    let now = app.clock.now();
    let sums = workloads::sums(&app.db, scope, quota::day(now), now).await?;
    let rows = workloads::list(&app.db, scope, state, (before, paging.fetch())).await?;
    let (rows, page) = Page::cut(rows, &paging, params, |row| (row.created_at, row.run.uuid())).split();
    let runs = rows.iter().map(|row| row.run).collect();
    let last = journal::latest(&app.db, scope, runs, 1).await?;
    let vms = rows.into_iter().zip(last).map(|(row, last)| measured(row, &last, now)).collect();
    Ok((Metrics { tenant_id: scope.tenant(), totals: totals(sums), vms }, page))
}

fn totals(Sums { made, used: Used { open, compute }, metered }: Sums) -> Totals {
    Totals {
        vms: made,
        open_vms: open,
        compute_hours_today: seconds(compute) / 3_600.0,
        cost_usd: metered.spent.to_wire(),
        held_usd: metered.held.to_wire(),
        model_calls: metered.calls,
        tokens_in: metered.tokens_in,
        tokens_out: metered.tokens_out,
    }
}

fn measured(row: WorkloadRow, last: &[Vec<u8>], now: At) -> Measured {
    // The envelopes alone say what happened and when; a journal that cannot be read says neither.
    let events = last.first().and_then(|bytes| event::decode(bytes, None).ok());
    let last = events.as_ref().and_then(|events| events.last());
    let compute = row.started_at.map_or(Dur::ZERO, |at| row.ended_at.unwrap_or(now).since(at));
    let ended = row.ended_at.or_else(|| row.run_ended_at.filter(|_| row.over()));
    Measured {
        vm_id: vm_id(row.run),
        run_id: row.run,
        state: row.shown_state().to_owned(),
        isolation_class: row.isolation,
        created_at: row.created_at.to_string(),
        terminated_at: ended.map(|at| at.to_string()),
        compute_seconds: seconds(compute),
        cost_usd: row.metered.spent.to_wire(),
        model_calls: row.metered.calls,
        tokens_in: row.metered.tokens_in,
        tokens_out: row.metered.tokens_out,
        log_lines: row.lines,
        log_lines_dropped: row.dropped,
        last_audit_action: last.map(|event| model::action(wire::kind(&event.fact))),
        last_audit_at: last.map(|event| event.at.to_string()),
        node: row.node,
    }
}

#[expect(clippy::cast_precision_loss, reason = "the time of boxes, in microseconds")]
fn seconds(time: Dur) -> f64 {
    time.micros() as f64 / 1e6
}
