//! Runs as lists and pages show them: the projection beside the journal. Reads only.

pub(crate) mod list;

use lantern_policy::Scope;
use lantern_types::*;

use crate::db::{Db, TenantTx};
use crate::error::Result;
use crate::value::Row;

pub use list::{Found, RunFilter, list, look};

/// A run's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// Its agent.
    pub agent_id: AgentId,
    /// Its agent's name when it started.
    pub agent_name: String,
    /// The version that runs.
    pub agent_version_id: VersionId,
    /// The contract's word.
    pub status: String,
    /// What started it.
    pub trigger_kind: String,
    /// The last event's seq.
    pub version: i64,
    /// The chain after the last append.
    pub chain: ChainHead,
    /// The process that drives it.
    pub owner: Option<ProcessId>,
    /// How often it was claimed.
    pub epoch: i64,
    /// How often something came for it from outside.
    pub pokes: i64,
    /// When somebody must look again, while nobody drives it.
    pub wake_at: Option<At>,
    /// Settled cost.
    pub spent: MicroUsd,
    /// Reserved for steps in flight.
    pub held: MicroUsd,
    /// Prompt tokens.
    pub tokens_in: i64,
    /// Completion tokens.
    pub tokens_out: i64,
    /// When it was made.
    pub created_at: At,
    /// When it first ran.
    pub started_at: Option<At>,
    /// When it ended.
    pub finished_at: Option<At>,
    /// The run that started it.
    pub parent_run_id: Option<RunId>,
    /// The parent's step that waits for it.
    pub parent_step: Option<String>,
    /// The conversation it belongs to.
    pub session_id: Option<SessionId>,
    /// How many ancestors it has.
    pub depth: i64,
    /// Before which others of its tenant it goes.
    pub priority: Priority,
    /// JSON.
    pub labels: String,
    /// Why it failed.
    pub error_code: Option<String>,
    /// The event format that a build must know to take it up.
    pub format: i64,
    /// Since when there is nothing left of what was said in it.
    pub content_removed_at: Option<At>,
    /// Why nobody could go on with it who looked last.
    pub parked_reason: Option<String>,
}

const HEAD: &str = "SELECT id, agent_id, agent_name, agent_version_id, status, trigger_kind, version, chain, owner,
    epoch, pokes, wake_at, spent, held, tokens_in, tokens_out, created_at, started_at, finished_at, parent_run_id,
    parent_step, session_id, depth, labels, error_code, format, parked_reason,
    content_removed_at, priority FROM runs WHERE tenant_id = $1 AND id = $2";
const OPEN: &str = "SELECT count(*) AS open FROM
    (SELECT 1 FROM runs WHERE tenant_id = $1 AND finished_at IS NULL LIMIT $2) AS unfinished";

const LATEST: &str =
    "SELECT bytes FROM journal WHERE tenant_id = $1 AND run_id = $2 ORDER BY first_seq DESC LIMIT $3";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[LATEST, HEAD, OPEN];

/// A run's row, if the tenant has it.
pub async fn head(db: &Db, scope: Scope, run: RunId) -> Result<Option<RunRow>> {
    db.glance(scope, move |tx| Box::pin(head_in(tx, run))).await
}

/// A run's row inside a transaction.
pub async fn head_in(tx: &mut TenantTx<'_>, run: RunId) -> Result<Option<RunRow>> {
    tx.one(HEAD, &[run.into()]).await?.map(|row| read(&row)).transpose()
}

fn read(row: &Row) -> Result<RunRow> {
    Ok(RunRow {
        id: row.id("id")?,
        agent_id: row.id("agent_id")?,
        agent_name: row.text("agent_name")?,
        agent_version_id: row.id("agent_version_id")?,
        status: row.text("status")?,
        trigger_kind: row.text("trigger_kind")?,
        version: row.int("version")?,
        chain: row.chain("chain")?,
        owner: row.opt_id("owner")?,
        epoch: row.int("epoch")?,
        pokes: row.int("pokes")?,
        wake_at: row.opt_at("wake_at")?,
        spent: row.money("spent")?,
        held: row.money("held")?,
        tokens_in: row.int("tokens_in")?,
        tokens_out: row.int("tokens_out")?,
        created_at: row.at("created_at")?,
        started_at: row.opt_at("started_at")?,
        finished_at: row.opt_at("finished_at")?,
        parent_run_id: row.opt_id("parent_run_id")?,
        parent_step: row.opt_text("parent_step")?,
        session_id: row.opt_id("session_id")?,
        depth: row.int("depth")?,
        priority: Priority::stored(row.int("priority")?),
        labels: row.text("labels")?,
        error_code: row.opt_text("error_code")?,
        format: row.int("format")?,
        parked_reason: row.opt_text("parked_reason")?,
        content_removed_at: row.opt_at("content_removed_at")?,
    })
}

/// Whether the tenant has as many runs that are not over as `most`. Two that ask at once may both be told no.
pub async fn full(tx: &mut TenantTx<'_>, most: u32) -> Result<bool> {
    let open = tx.one(OPEN, &[most.into()]).await?.map_or(Ok(0), |row| row.int("open"))?;
    Ok(open >= i64::from(most))
}

/// The envelopes of the last `limit` appends of each of these runs, oldest first, in the order asked.
pub async fn latest(db: &Db, scope: Scope, runs: Vec<RunId>, limit: u32) -> Result<Vec<Vec<Vec<u8>>>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut all = Vec::with_capacity(runs.len());
            for run in runs {
                let rows = tx.all(LATEST, &[run.into(), limit.into()]).await?;
                let bytes = |mut row: Row| Ok(row.take_bytes("bytes")?.unwrap_or_default());
                all.push(rows.into_iter().rev().map(bytes).collect::<Result<_>>()?);
            }
            Ok(all)
        })
    })
    .await
}
