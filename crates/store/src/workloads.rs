//! Workloads: where the box of a run stands, what it wrote, and how many a tenant may have.
//!
//! Invariant: a workload is made in the transaction that makes its run, after the tenant's row of quotas was locked, so of several
//! at once only as many are made as may be. One node takes it, once; what that node wrote last stands. What a box wrote is sealed
//! for its run and line, and goes with what was said in the run.

use lantern_policy::Scope;
use lantern_types::*;

use crate::db::{Db, TenantTx, Where};
use crate::error::Result;
use crate::metered::{self, Stands};
use crate::seal::{Place, Sealer};
use crate::value::Row;

/// What the row of a run says started it, when it is a workload.
pub const TRIGGER: &str = "workload";
/// How a box ended that nobody took care of to its end.
pub const LOST: &str = "lost";

/// A workload that is to be.
#[derive(Clone, Debug)]
pub struct NewWorkload {
    /// Its run.
    pub run: RunId,
    /// Its class.
    pub isolation: &'static str,
    /// In which box it is to run.
    pub backend: &'static str,
    /// Whether that is weaker than its class asks for.
    pub degraded: bool,
    /// The most that its run may spend.
    pub cap: MicroUsd,
    /// When.
    pub at: At,
}

/// A workload's row, and what its run says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRow {
    /// Its run.
    pub run: RunId,
    /// Its class.
    pub isolation: String,
    /// Its box.
    pub backend: String,
    /// Whether that is weaker than its class asks for.
    pub degraded: bool,
    /// Where its box stands: the word of the row.
    pub state: String,
    /// Who took it.
    pub node: Option<String>,
    /// How long its program has, when it is stopped.
    pub grace: Dur,
    /// How many lines it wrote.
    pub lines: i64,
    /// How many of them were not kept.
    pub dropped: i64,
    /// How it ended.
    pub reason: Option<String>,
    /// What its program answered.
    pub exit_code: Option<i64>,
    /// When it was asked for.
    pub created_at: At,
    /// When its box was made.
    pub started_at: Option<At>,
    /// When its box was gone.
    pub ended_at: Option<At>,
    /// How its run stands.
    pub run_status: Option<String>,
    /// When its run was over.
    pub run_ended_at: Option<At>,
    /// What its model calls come to.
    pub metered: Stands,
}

/// What a tenant set for itself; `None` where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Boxes at once.
    pub concurrent: Option<i64>,
    /// Time of boxes in a day.
    pub compute: Option<Dur>,
    /// Gigabytes sent in a day.
    pub egress_gb: Option<i64>,
    /// Spent in a day.
    pub cost: Option<MicroUsd>,
    /// Whether who has used it up is refused.
    pub hard: bool,
    /// When it was set.
    pub updated_at: Option<At>,
}

/// What a tenant has of its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Boxes that are, or are to be.
    pub open: i64,
    /// Time of boxes since then.
    pub compute: Dur,
}

/// Some lines that a box wrote, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The number of the first, from 1.
    pub first: u64,
    /// How many.
    pub n: u64,
    /// What they say.
    pub plain: Vec<u8>,
}

const CREATE: &str =
    "INSERT INTO workloads (tenant_id, run_id, isolation, backend, degraded, state, grace, lines, dropped,
    created_at, cap, number) VALUES ($1, $2, $3, $4, $5, 'pending', $6, 0, 0, $7, $8,
    (SELECT taken FROM runtime_quotas WHERE tenant_id = $1))";
const LIST: &str =
    "SELECT run_id, isolation, backend, degraded, state, node, grace, lines, dropped, reason, exit_code,
    created_at, started_at, ended_at, cap, spent, held, calls, tokens_in, tokens_out, tokens_held,
    (SELECT r.status FROM runs r WHERE r.tenant_id = $1 AND r.id = workloads.run_id) AS run_status,
    (SELECT r.finished_at FROM runs r WHERE r.tenant_id = $1 AND r.id = workloads.run_id) AS run_ended_at
    FROM workloads WHERE tenant_id = $1";
const ORDER: &str = "created_at DESC, run_id DESC";
const NUMBERED: &str = "SELECT number, run_id FROM workloads WHERE tenant_id = $1 AND number <= $2
    ORDER BY number DESC LIMIT $3";
const SUMS: &str = "SELECT count(*) AS made, CAST(COALESCE(SUM(spent), 0) AS BIGINT) AS spent,
    CAST(COALESCE(SUM(held), 0) AS BIGINT) AS held, CAST(COALESCE(SUM(calls), 0) AS BIGINT) AS calls,
    CAST(COALESCE(SUM(tokens_in), 0) AS BIGINT) AS tokens_in, CAST(COALESCE(SUM(tokens_out), 0) AS BIGINT) AS tokens_out
    FROM workloads WHERE tenant_id = $1";
const TAKE: &str = "UPDATE workloads SET state = 'spawning', node = $3, started_at = NULL, ended_at = NULL, reason = NULL,
    exit_code = NULL WHERE tenant_id = $1 AND run_id = $2 AND (state = 'pending' OR (reason = 'lost' AND CAST($4 AS BIGINT) = 1))";
const STARTED: &str =
    "UPDATE workloads SET state = CASE state WHEN 'draining' THEN state ELSE 'running' END, started_at = $4
    WHERE tenant_id = $1 AND run_id = $2 AND node = $3";
const DRAIN: &str = "UPDATE workloads SET state = CASE state WHEN 'pending' THEN 'terminated' ELSE 'draining' END, grace = $3,
    reason = CASE state WHEN 'pending' THEN 'stopped' END, ended_at = CASE state WHEN 'pending' THEN CAST($4 AS BIGINT) END
    WHERE tenant_id = $1 AND run_id = $2 AND ended_at IS NULL";
const END: &str = "UPDATE workloads SET state = $4, reason = $5, exit_code = $6, ended_at = $7, dropped = $8
    WHERE tenant_id = $1 AND run_id = $2 AND node = $3 AND ended_at IS NULL";
const WROTE: &str =
    "UPDATE workloads SET lines = lines + $4 WHERE tenant_id = $1 AND run_id = $2 AND lines = $3";
const KEEP: &str = "INSERT INTO workload_logs (tenant_id, run_id, line, n, body) VALUES ($1, $2, $3, $4, $5)";
const READ: &str =
    "SELECT line, n, body FROM workload_logs WHERE tenant_id = $1 AND run_id = $2 AND line + n > $3
    ORDER BY line LIMIT $4";
const FORGET: &str = "DELETE FROM workload_logs WHERE tenant_id = $1 AND run_id = $2";
const REMOVE: &str = "DELETE FROM workloads WHERE tenant_id = $1 AND run_id = $2";
const BUSY: &str = "SELECT 1 AS busy FROM workloads WHERE tenant_id = $1 AND run_id = $2 AND node IS NOT NULL AND ended_at IS NULL";
const LOSE: &str = "UPDATE workloads SET state = 'failed', reason = 'lost', ended_at = $2
    WHERE node = $1 AND ended_at IS NULL";
const LOCK: &str = "INSERT INTO runtime_quotas (tenant_id, hard, taken) VALUES ($1, 1, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET taken = runtime_quotas.taken + 1";
const QUOTA: &str =
    "SELECT concurrent_max, compute_max, egress_gb_max, cost_max, hard, updated_at FROM runtime_quotas
    WHERE tenant_id = $1";
const SET_QUOTA: &str = "INSERT INTO runtime_quotas (tenant_id, concurrent_max, compute_max, egress_gb_max, cost_max, hard,
    taken, updated_at) VALUES ($1, $2, $3, $4, $5, $6, 0, $7)
    ON CONFLICT (tenant_id) DO UPDATE SET concurrent_max = excluded.concurrent_max, compute_max = excluded.compute_max,
    egress_gb_max = excluded.egress_gb_max, cost_max = excluded.cost_max, hard = excluded.hard,
    updated_at = excluded.updated_at";
const USED: &str = "SELECT
    (SELECT count(*) FROM workloads w WHERE w.tenant_id = $1 AND w.ended_at IS NULL AND (w.node IS NOT NULL OR EXISTS
        (SELECT 1 FROM runs r WHERE r.tenant_id = $1 AND r.id = w.run_id AND r.finished_at IS NULL))) AS open,
    (SELECT CAST(COALESCE(SUM(COALESCE(w.ended_at, CAST($3 AS BIGINT))
        - CASE WHEN w.started_at < CAST($2 AS BIGINT) THEN CAST($2 AS BIGINT) ELSE w.started_at END), 0) AS BIGINT)
        FROM workloads w WHERE w.tenant_id = $1 AND w.started_at IS NOT NULL
        AND (w.ended_at IS NULL OR w.ended_at >= $2)) AS compute";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[
    CREATE, LIST, TAKE, STARTED, DRAIN, END, WROTE, KEEP, READ, FORGET, REMOVE, BUSY, LOCK, QUOTA, SET_QUOTA,
    USED, NUMBERED, SUMS,
];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[LOSE];

/// The conditions of a state, as a list shows it; `None` for a word that is none. A workload whose run was over before any node
/// took it stands as its run does.
fn those(state: &str) -> Option<&'static str> {
    Some(match state {
        "pending" => {
            "(state = 'pending' OR reason = 'lost') AND EXISTS (SELECT 1 FROM runs r WHERE r.tenant_id = $1
            AND r.id = workloads.run_id AND r.finished_at IS NULL)"
        }
        "spawning" => "state = 'spawning'",
        "running" => {
            "state = 'running' AND EXISTS (SELECT 1 FROM runs r WHERE r.tenant_id = $1
            AND r.id = workloads.run_id AND r.finished_at IS NULL)"
        }
        "draining" => {
            "(state = 'draining' OR (state = 'running' AND EXISTS (SELECT 1 FROM runs r
            WHERE r.tenant_id = $1 AND r.id = workloads.run_id AND r.finished_at IS NOT NULL)))"
        }
        "terminated" => {
            "(state = 'terminated' OR (state = 'pending' AND EXISTS (SELECT 1 FROM runs r
            WHERE r.tenant_id = $1 AND r.id = workloads.run_id AND r.status IN ('cancelled', 'succeeded'))))"
        }
        "failed" => {
            "((state = 'failed' AND (reason <> 'lost' OR EXISTS (SELECT 1 FROM runs r WHERE r.tenant_id = $1
            AND r.id = workloads.run_id AND r.finished_at IS NOT NULL))) OR (state = 'pending' AND EXISTS (SELECT 1 FROM runs r
            WHERE r.tenant_id = $1 AND r.id = workloads.run_id AND r.status = 'failed')))"
        }
        _ => return None,
    })
}

impl WorkloadRow {
    /// Where it stands, in the contract's word: the row's, unless its run is over and the row does not know.
    pub fn shown_state(&self) -> &str {
        if self.is_lost() && self.run_ended_at.is_none() {
            return "pending";
        }
        match (self.state.as_str(), self.run_ended_at, self.run_status.as_deref()) {
            ("pending", Some(_), Some("failed")) => "failed",
            ("pending", Some(_), _) => "terminated",
            ("running", Some(_), _) => "draining",
            (state, ..) => state,
        }
    }

    /// Whether nothing will happen to it any more.
    pub fn over(&self) -> bool {
        match self.ended_at {
            // What its run makes of it is not decided yet: it may have another box.
            Some(_) if self.is_lost() => self.run_ended_at.is_some(),
            Some(_) => true,
            None => self.node.is_none() && self.run_ended_at.is_some(),
        }
    }

    fn is_lost(&self) -> bool {
        self.reason.as_deref() == Some(LOST)
    }
}

/// Makes a workload, in the transaction that makes its run.
pub async fn create(tx: &mut TenantTx<'_>, new: NewWorkload, grace: Dur) -> Result<()> {
    let (backend, degraded) = (new.backend.into(), i64::from(new.degraded).into());
    let (at, cap) = (new.at.into(), new.cap.into());
    let params = [new.run.into(), new.isolation.into(), backend, degraded, grace.into(), at, cap];
    tx.exec(CREATE, &params).await.map(drop)
}

/// A workload, if the tenant has it.
pub async fn find(db: &Db, scope: Scope, run: RunId) -> Result<Option<WorkloadRow>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let wanted = Where::new().eq("run_id", Some(run));
            tx.all_where(LIST, wanted, ORDER, 1).await?.first().map(read).transpose()
        })
    })
    .await
}

/// Workloads that stand so, the newest first, from after `before` on.
pub async fn list(
    db: &Db,
    scope: Scope,
    state: Option<&str>,
    (before, limit): (Option<(At, RunId)>, u32),
) -> Result<Vec<WorkloadRow>> {
    let condition = state.and_then(those);
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut wanted = Where::new().before(("created_at", "run_id"), before);
            if let Some(condition) = condition {
                wanted = wanted.holds(condition);
            }
            tx.all_where(LIST, wanted, ORDER, limit).await?.iter().map(read).collect()
        })
    })
    .await
}

/// The number of each workload and its run, from this number on down. One of an earlier build beside this one has no number.
pub async fn numbered(db: &Db, scope: Scope, from: i64, limit: u32) -> Result<Vec<(i64, RunId)>> {
    let params = [from.into(), limit.into()];
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(NUMBERED, &params).await })).await?;
    rows.iter().map(|row| Ok((row.int("number")?, row.id("run_id")?))).collect()
}

/// What a tenant's workloads come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Those that there are, over or not.
    pub made: u64,
    /// What of the quota is in use.
    pub used: Used,
    /// What their model calls cost, and used. The cap is none's.
    pub metered: Stands,
}

/// What the tenant's workloads come to; their time since `day` began.
pub async fn sums(db: &Db, scope: Scope, day: At, now: At) -> Result<Sums> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let used = in_use(tx, day, now).await?;
            let row = tx.one(SUMS, &[]).await?;
            let count = |name| match &row {
                Some(row) => row.int(name),
                None => Ok(0),
            };
            let whole = |name| count(name).map(|n| u64::try_from(n).unwrap_or_default());
            let metered = Stands {
                cap: None,
                spent: MicroUsd::from_micros(count("spent")?),
                held: MicroUsd::from_micros(count("held")?),
                calls: whole("calls")?,
                tokens_in: whole("tokens_in")?,
                tokens_out: whole("tokens_out")?,
                tokens_held: 0,
            };
            Ok(Sums { made: whole("made")?, used, metered })
        })
    })
    .await
}

async fn in_use(tx: &mut TenantTx<'_>, day: At, now: At) -> Result<Used> {
    let used = tx.one(USED, &[day.into(), now.into()]).await?;
    let used = used.map_or(Ok((0, 0)), |row| Ok((row.int("open")?, row.int("compute")?)));
    used.map(|(open, compute)| Used { open, compute: Dur::from_micros(compute) })
}

/// A node takes a workload that nobody took, or one that was lost and may run `again`. `false` when it may not.
pub async fn take(db: &Db, scope: Scope, run: RunId, node: String, again: bool) -> Result<bool> {
    let params = [run.into(), node.into(), i64::from(again).into()];
    changed(db, scope, run, TAKE, params.into()).await
}

/// Its box was made.
pub async fn started(db: &Db, scope: Scope, run: RunId, node: String, at: At) -> Result<bool> {
    changed(db, scope, run, STARTED, vec![run.into(), node.into(), at.into()]).await
}

/// Its program is to be given so long to end; one that nobody took is over at once.
pub async fn drain(db: &Db, scope: Scope, run: RunId, grace: Dur, at: At) -> Result<bool> {
    changed(db, scope, run, DRAIN, vec![run.into(), grace.into(), at.into()]).await
}

/// How a box ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// `terminated` or `failed`.
    pub state: &'static str,
    /// Why.
    pub reason: &'static str,
    /// What its program answered.
    pub exit_code: Option<i64>,
    /// Lines that were not kept.
    pub dropped: i64,
    /// When.
    pub at: At,
}

/// Its box is gone. Done before is not done again.
pub async fn end(db: &Db, scope: Scope, run: RunId, node: String, end: End) -> Result<bool> {
    let End { state, reason, exit_code, dropped, at } = end;
    let params = vec![
        run.into(),
        node.into(),
        state.into(),
        reason.into(),
        exit_code.into(),
        at.into(),
        dropped.into(),
    ];
    changed(db, scope, run, END, params).await
}

async fn changed(
    db: &Db,
    scope: Scope,
    run: RunId,
    sql: &'static str,
    params: Vec<crate::value::Value>,
) -> Result<bool> {
    db.write(scope, move |tx| {
        Box::pin(async move {
            let done = tx.exec(sql, &params).await? > 0;
            tx.changed(run);
            Ok(done)
        })
    })
    .await
}

/// Ends whatever a node of this name had and did not end. Only for that node, before it takes anything.
pub async fn lose(db: &Db, node: String, at: At) -> Result<u64> {
    let params = [node.into(), at.into()];
    db.system_write(move |tx| Box::pin(async move { tx.exec(LOSE, &params).await })).await
}

fn place(run: RunId, first: u64) -> [u8; 24] {
    let mut row = [0; 24];
    let (id, line) = row.split_at_mut(16);
    id.copy_from_slice(run.bytes());
    line.copy_from_slice(&first.to_be_bytes());
    row
}

const PURPOSE: &str = "workload_log";

/// Keeps some lines. `false`, and nothing kept, when they are not the next, or the workload is not there any more.
pub async fn keep(db: &Db, sealer: &Sealer, scope: Scope, run: RunId, lines: Lines) -> Result<bool> {
    let Lines { first, n, plain } = lines;
    let row = place(run, first);
    let body = sealer.seal(scope, Place { purpose: PURPOSE, row: &row }, &plain).await?;
    let (line, n) = (number(first), number(n));
    db.write(scope, move |tx| {
        Box::pin(async move {
            if tx.exec(WROTE, &[run.into(), (line - 1).into(), n.into()]).await? == 0 {
                return Ok(false);
            }
            tx.exec(KEEP, &[run.into(), line.into(), n.into(), body.into()]).await?;
            tx.changed(run);
            Ok(true)
        })
    })
    .await
}

/// So many rows of lines, from the one that holds the line `from` on.
pub async fn lines(
    db: &Db,
    sealer: &Sealer,
    scope: Scope,
    run: RunId,
    (from, limit): (u64, u32),
) -> Result<Vec<Lines>> {
    let params = [run.into(), number(from).into(), limit.into()];
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(READ, &params).await })).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let first = u64::try_from(row.int("line")?).unwrap_or_default();
        let key = place(run, first);
        let plain = sealer.open(scope, Place { purpose: PURPOSE, row: &key }, &row.bytes("body")?).await?;
        all.push(Lines { first, n: u64::try_from(row.int("n")?).unwrap_or_default(), plain });
    }
    Ok(all)
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Removes what a box wrote.
pub(crate) async fn forget(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    tx.exec(FORGET, &[run.into()]).await.map(drop)
}

/// Removes a workload with its run. `false`, and nothing removed, while its box is there.
pub(crate) async fn remove(tx: &mut TenantTx<'_>, run: RunId) -> Result<bool> {
    if tx.one(BUSY, &[run.into()]).await?.is_some() {
        return Ok(false);
    }
    forget(tx, run).await?;
    tx.exec(metered::FORGET, &[run.into()]).await?;
    tx.exec(REMOVE, &[run.into()]).await?;
    Ok(true)
}

/// What the tenant set; `None` when it set nothing.
pub async fn quota(db: &Db, scope: Scope) -> Result<Option<Quota>> {
    db.read(scope, |tx| {
        Box::pin(async move { tx.one(QUOTA, &[]).await?.map(|row| of_row(&row)).transpose() })
    })
    .await
}

/// Sets what the tenant may have.
pub async fn set_quota(db: &Db, scope: Scope, quota: Quota) -> Result<()> {
    let Quota { concurrent, compute, egress_gb, cost, hard, updated_at } = quota;
    let params = [
        concurrent.into(),
        compute.into(),
        egress_gb.into(),
        cost.into(),
        i64::from(hard).into(),
        updated_at.into(),
    ];
    db.write(scope, move |tx| Box::pin(async move { tx.exec(SET_QUOTA, &params).await.map(drop) })).await
}

/// What the tenant may have and what it has, until this transaction is over: whoever asks next waits for it.
pub async fn locked(tx: &mut TenantTx<'_>, day: At, now: At) -> Result<(Quota, Used)> {
    tx.exec(LOCK, &[]).await?;
    let quota = tx.one(QUOTA, &[]).await?.map(|row| of_row(&row)).transpose()?.unwrap_or_default();
    Ok((quota, in_use(tx, day, now).await?))
}

fn of_row(row: &Row) -> Result<Quota> {
    Ok(Quota {
        concurrent: row.opt_int("concurrent_max")?,
        compute: row.opt_int("compute_max")?.map(Dur::from_micros),
        egress_gb: row.opt_int("egress_gb_max")?,
        cost: row.opt_int("cost_max")?.map(MicroUsd::from_micros),
        hard: row.int("hard")? != 0,
        updated_at: row.opt_at("updated_at")?,
    })
}

fn read(row: &Row) -> Result<WorkloadRow> {
    Ok(WorkloadRow {
        run: row.id("run_id")?,
        isolation: row.text("isolation")?,
        backend: row.text("backend")?,
        degraded: row.int("degraded")? != 0,
        state: row.text("state")?,
        node: row.opt_text("node")?,
        grace: Dur::from_micros(row.int("grace")?),
        lines: row.int("lines")?,
        dropped: row.int("dropped")?,
        reason: row.opt_text("reason")?,
        exit_code: row.opt_int("exit_code")?,
        created_at: row.at("created_at")?,
        started_at: row.opt_at("started_at")?,
        ended_at: row.opt_at("ended_at")?,
        run_status: row.opt_text("run_status")?,
        run_ended_at: row.opt_at("run_ended_at")?,
        metered: metered::read(row)?,
    })
}
