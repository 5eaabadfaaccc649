//! Sessions: conversations made of runs, one for each message.
//!
//! Invariant: a message is taken by one guarded update of its session, in the transaction that makes its run; of several at
//! once one is. Whether an exchange is going on is read from its runs, never stored, so nothing that dies can leave it so.
//! A session that is stopped stays so. What was said is in the journals of the runs: a row has no words of anybody.

use lantern_policy::Scope;
use lantern_types::*;

use crate::db::{Db, TenantTx, Where};
use crate::error::Result;
use crate::value::{Row, Value};

/// What the row of a run says started it, when it is an exchange of a session.
pub const TRIGGER: &str = "session";

/// A session that is to be.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Minted.
    pub id: SessionId,
    /// The agent.
    pub agent_id: AgentId,
    /// Its name.
    pub agent_name: String,
    /// The person or key that asked for it.
    pub created_by: [u8; 16],
    /// The most that all its messages together may cost.
    pub cost_max: Option<MicroUsd>,
    /// When.
    pub at: At,
}

/// A session's row, and what its runs say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Its agent's name.
    pub agent_name: String,
    /// How many messages it has taken.
    pub exchanges: u32,
    /// The run of the last one.
    pub last_run: Option<RunId>,
    /// When that was asked for, while it is there.
    pub asked_at: Option<At>,
    /// When that was over.
    pub answered_at: Option<At>,
    /// Whether an exchange is going on.
    pub busy: bool,
    /// The most that all its messages together may cost, and what they have cost or may have.
    pub cost: Option<Cost>,
    /// When it was stopped.
    pub stopped_at: Option<At>,
    /// When it was made.
    pub created_at: At,
    /// When it last took a message or was stopped.
    pub updated_at: At,
}

/// What a session may cost, and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// At most so much.
    pub max: MicroUsd,
    /// What its runs have spent or hold, those that were deleted too.
    pub spent: MicroUsd,
}

impl Cost {
    /// What the next message may cost.
    pub fn left(self) -> MicroUsd {
        MicroUsd::from_micros(self.max.micros().saturating_sub(self.spent.micros()).max(0))
    }
}

/// A message that a session is to take.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The session.
    pub session: SessionId,
    /// How many it had taken when this one was prepared.
    pub exchanges: u32,
    /// The run of this one.
    pub run: RunId,
    /// When.
    pub at: At,
}

const CREATE: &str =
    "INSERT INTO sessions (tenant_id, id, agent_id, agent_name, created_by, exchanges, last_run_id,
    stopped_at, created_at, updated_at, cost_max) VALUES ($1, $2, $3, $4, $5, 0, NULL, NULL, $6, $6, $7)";
// A run that goes on as a new one is over a moment before that one is there.
pub(crate) const LIST: &str =
    "SELECT id, agent_name, exchanges, last_run_id, stopped_at, created_at, updated_at, cost_max,
    CASE WHEN cost_max IS NULL THEN 0 ELSE cost_gone + (SELECT CAST(COALESCE(SUM(r.spent + r.held), 0) AS BIGINT) FROM runs r
        WHERE r.tenant_id = $1 AND r.session_id = sessions.id) END AS cost,
    (SELECT r.created_at FROM runs r WHERE r.tenant_id = $1 AND r.id = sessions.last_run_id) AS asked_at,
    (SELECT r.finished_at FROM runs r WHERE r.tenant_id = $1 AND r.id = sessions.last_run_id) AS answered_at,
    CASE WHEN EXISTS (SELECT 1 FROM runs r WHERE r.tenant_id = $1 AND r.session_id = sessions.id
        AND r.finished_at IS NULL AND r.trigger_kind IN ('session', 'continue'))
      OR EXISTS (SELECT 1 FROM outbox o JOIN runs r ON r.tenant_id = o.tenant_id AND r.id = o.run_id
        WHERE o.tenant_id = $1 AND o.kind IN ('continue', 'start') AND r.session_id = sessions.id
        AND r.finished_at IS NOT NULL)
      THEN 1 ELSE 0 END AS busy
    FROM sessions WHERE tenant_id = $1";
pub(crate) const ORDER: &str = "updated_at DESC, id DESC";
const CLAIM: &str = "UPDATE sessions SET exchanges = exchanges + 1, last_run_id = $4, updated_at = $5
    WHERE tenant_id = $1 AND id = $2 AND exchanges = $3 AND stopped_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.tenant_id = $1 AND r.session_id = $2
        AND r.finished_at IS NULL AND r.trigger_kind IN ('session', 'continue'))
    AND NOT EXISTS (SELECT 1 FROM outbox o JOIN runs r ON r.tenant_id = o.tenant_id AND r.id = o.run_id
        WHERE o.tenant_id = $1 AND o.kind IN ('continue', 'start') AND r.session_id = $2
        AND r.finished_at IS NOT NULL)";
const TAKEN: &str = "INSERT INTO session_runs (tenant_id, session_id, n, run_id) VALUES ($1, $2, $3, $4)";
const EXCHANGES: &str =
    "SELECT n, run_id FROM session_runs WHERE tenant_id = $1 AND session_id = $2 AND n <= $3
    ORDER BY n DESC LIMIT $4";
const STOP: &str = "UPDATE sessions SET stopped_at = $3, updated_at = $3
    WHERE tenant_id = $1 AND id = $2 AND stopped_at IS NULL";
const RUNS: &str = "SELECT id FROM runs WHERE tenant_id = $1 AND session_id = $2
    AND trigger_kind IN ('session', 'continue') ORDER BY created_at, id LIMIT $3";
const RUN_GOES: &str = "UPDATE sessions SET cost_gone = cost_gone +
        (SELECT r.spent + r.held FROM runs r WHERE r.tenant_id = $1 AND r.id = $2)
    WHERE tenant_id = $1 AND cost_max IS NOT NULL
    AND id = (SELECT r.session_id FROM runs r WHERE r.tenant_id = $1 AND r.id = $2)";
const FORGET_RUNS: &str = "DELETE FROM session_runs WHERE tenant_id = $1 AND session_id = $2";
const REMOVE: &str = "DELETE FROM sessions WHERE tenant_id = $1 AND id = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] =
    &[CREATE, LIST, CLAIM, TAKEN, EXCHANGES, STOP, RUNS, RUN_GOES, FORGET_RUNS, REMOVE];

/// As what a session is watched: whoever listens to this is woken when the session takes a message or is stopped.
pub const fn watched(session: SessionId) -> RunId {
    RunId::from_uuid(session.uuid())
}

/// Makes a session that nobody has said anything in.
pub async fn create(tx: &mut TenantTx<'_>, new: NewSession) -> Result<()> {
    let by = Value::Id(new.created_by);
    let most = new.cost_max.map(MicroUsd::micros);
    let params = [new.id.into(), new.agent_id.into(), new.agent_name.into(), by, new.at.into(), most.into()];
    tx.exec(CREATE, &params).await.map(drop)
}

/// A session, if the tenant has it.
pub async fn find(db: &Db, scope: Scope, session: SessionId) -> Result<Option<SessionRow>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let wanted = Where::new().eq("id", Some(session));
            tx.all_where(LIST, wanted, ORDER, 1).await?.first().map(read).transpose()
        })
    })
    .await
}

/// Sessions, the one that was updated last first, from after `before` on.
pub async fn list(
    db: &Db,
    scope: Scope,
    before: Option<(At, SessionId)>,
    limit: u32,
) -> Result<Vec<SessionRow>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let wanted = Where::new().before(("updated_at", "id"), before);
            tx.all_where(LIST, wanted, ORDER, limit).await?.iter().map(read).collect()
        })
    })
    .await
}

/// Takes a message, for the transaction that makes its run. `false`, and nothing written, when the session is not there,
/// is stopped, has an exchange going on, or has taken another message since.
pub async fn claim(tx: &mut TenantTx<'_>, claim: Claim) -> Result<bool> {
    let Claim { session, exchanges, run, at } = claim;
    if tx.exec(CLAIM, &[session.into(), exchanges.into(), run.into(), at.into()]).await? == 0 {
        return Ok(false);
    }
    tx.exec(TAKEN, &[session.into(), exchanges.saturating_add(1).into(), run.into()]).await?;
    tx.changed(watched(session));
    Ok(true)
}

/// The last `limit` exchanges up to the one of this number, the newest first, each with the run that its message started.
pub async fn exchanges(
    db: &Db,
    scope: Scope,
    session: SessionId,
    upto: u32,
    limit: u32,
) -> Result<Vec<(u32, RunId)>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let rows = tx.all(EXCHANGES, &[session.into(), upto.into(), limit.into()]).await?;
            let read = |row: &Row| Ok((count(row, "n")?, row.id("run_id")?));
            rows.iter().map(read).collect()
        })
    })
    .await
}

/// Stops a session for good; does nothing to one that is stopped.
pub async fn stop(tx: &mut TenantTx<'_>, session: SessionId, at: At) -> Result<()> {
    if tx.exec(STOP, &[session.into(), at.into()]).await? > 0 {
        tx.changed(watched(session));
    }
    Ok(())
}

/// At most `limit` of a session's runs, the oldest first: those of its messages and what they went on as.
pub async fn runs(db: &Db, scope: Scope, session: SessionId, limit: u32) -> Result<Vec<RunId>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let rows = tx.all(RUNS, &[session.into(), limit.into()]).await?;
            rows.iter().map(|row| row.id("id")).collect()
        })
    })
    .await
}

/// Remembers of a run that is about to be deleted what it cost its session.
pub(crate) async fn run_goes(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    tx.exec(RUN_GOES, &[run.into()]).await.map(drop)
}

/// Removes a session whose runs are gone.
pub async fn remove(tx: &mut TenantTx<'_>, session: SessionId) -> Result<()> {
    tx.exec(FORGET_RUNS, &[session.into()]).await?;
    tx.exec(REMOVE, &[session.into()]).await?;
    tx.changed(watched(session));
    Ok(())
}

fn read(row: &Row) -> Result<SessionRow> {
    Ok(SessionRow {
        id: row.id("id")?,
        agent_name: row.text("agent_name")?,
        exchanges: count(row, "exchanges")?,
        last_run: row.opt_id("last_run_id")?,
        asked_at: row.opt_at("asked_at")?,
        answered_at: row.opt_at("answered_at")?,
        busy: row.int("busy")? > 0,
        cost: match row.opt_int("cost_max")? {
            Some(max) => Some(Cost { max: MicroUsd::from_micros(max), spent: row.money("cost")? }),
            None => None,
        },
        stopped_at: row.opt_at("stopped_at")?,
        created_at: row.at("created_at")?,
        updated_at: row.at("updated_at")?,
    })
}

fn count(row: &Row, name: &str) -> Result<u32> {
    Ok(u32::try_from(row.int(name)?).unwrap_or(u32::MAX))
}
