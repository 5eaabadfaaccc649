//! Which runs have spans that no collector has yet, and the events that they are made of.
//!
//! Invariant: a run's row is made in the transaction that makes the run, and moves on, or goes, only when what its events
//! say up to there was taken. So an export is made at least once, whoever dies; and nothing is added to an append, because what is
//! new is seen by comparing the row with its run. A row is in one process's hand at a time, as long as that is quick. Only
//! envelopes are read, and no body.

use lantern_policy::Scope;
use lantern_types::{At, RunId, SessionId};

use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::Result;
use crate::value::Row;

/// A run whose spans are to be exported, taken in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its tenant's scope.
    pub scope: Scope,
    /// The run.
    pub run: RunId,
    /// The last event that was exported.
    pub seq: i64,
}

/// A run, as far as its spans want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its agent's name when it started.
    pub agent_name: String,
    /// The conversation it belongs to.
    pub session: Option<SessionId>,
    /// The last event's seq.
    pub version: i64,
    /// When it ended.
    pub finished_at: Option<At>,
    /// Why it failed.
    pub error_code: Option<String>,
}

/// Some of a run's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The run as it was then.
    pub head: Head,
    /// The envelopes of appends, each with the seq of its last event.
    pub appends: Vec<(i64, Vec<u8>)>,
}

/// What became of a run that was in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The run as it was taken.
    pub due: Due,
    /// The last event that is exported now; `None` when the run is over, or is not to be exported at all.
    pub seq: Option<i64>,
}

const BEGIN: &str =
    "INSERT INTO traces (tenant_id, run_id, seq, due_at) VALUES ($1, $2, 0, $3) ON CONFLICT DO NOTHING";
const HEAD: &str = "SELECT agent_name, session_id, version, finished_at, error_code FROM runs
    WHERE tenant_id = $1 AND id = $2";
const EVENTS: &str = "SELECT first_seq, n, bytes FROM journal
    WHERE tenant_id = $1 AND run_id = $2 AND first_seq + n > $3 ORDER BY first_seq LIMIT $4";
const MOVE: &str =
    "UPDATE traces SET seq = $4, due_at = $5 WHERE tenant_id = $1 AND run_id = $2 AND seq = $3";
const OVER: &str = "DELETE FROM traces WHERE tenant_id = $1 AND run_id = $2 AND seq = $3";
const REMOVE: &str = "DELETE FROM traces WHERE tenant_id = $1 AND run_id = $2";
const WAITING: &str =
    "SELECT t.tenant_id FROM traces t JOIN runs r ON r.tenant_id = t.tenant_id AND r.id = t.run_id
    WHERE t.due_at <= $1 AND (r.version > t.seq OR r.finished_at IS NOT NULL) LIMIT 1";
// Who waits for a row that another took looks at it again, and finds it not due.
const TAKE: &str = "UPDATE traces SET due_at = $2 WHERE due_at <= $1 AND (tenant_id, run_id) IN
    (SELECT t.tenant_id, t.run_id FROM traces t JOIN runs r ON r.tenant_id = t.tenant_id AND r.id = t.run_id
    WHERE t.due_at <= $1 AND (r.version > t.seq OR r.finished_at IS NOT NULL) ORDER BY t.due_at LIMIT $3)
    RETURNING tenant_id, run_id, seq";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[BEGIN, HEAD, EVENTS, MOVE, OVER, REMOVE];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[WAITING, TAKE];

/// Notes a run whose spans are to be exported.
pub(crate) async fn begin(tx: &mut TenantTx<'_>, run: RunId, at: At) -> Result<()> {
    tx.exec(BEGIN, &[run.into(), at.into()]).await.map(drop)
}

pub(crate) async fn remove(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    tx.exec(REMOVE, &[run.into()]).await.map(drop)
}

/// Takes at most `limit` runs in hand that have news, those that waited longest first. Whoever has not given one back by `until`
/// has died, or is late: then somebody else takes it.
pub async fn take(db: &Db, now: At, until: At, limit: u32) -> Result<Vec<Due>> {
    // A look first: nobody who writes should wait for nothing to be seen.
    let news =
        db.system_read(move |tx| Box::pin(async move { tx.one(WAITING, &[now.into()]).await })).await?;
    if news.is_none() {
        return Ok(Vec::new());
    }
    let params = [now.into(), until.into(), limit.into()];
    let rows = db.system_write_lazy(move |tx| Box::pin(async move { tx.all(TAKE, &params).await })).await?;
    let due = |row: &Row| {
        let scope = Scope::of_lease(row.id("tenant_id")?);
        Ok(Due { scope, run: row.id("run_id")?, seq: row.int("seq")? })
    };
    rows.iter().map(due).collect()
}

/// A run with at most `limit` of its appends, from the one on that holds the event after `seq`. `None` when it is gone.
pub async fn read(db: &Db, scope: Scope, run: RunId, seq: i64, limit: u32) -> Result<Option<Page>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let Some(row) = tx.one(HEAD, &[run.into()]).await? else { return Ok(None) };
            let head = Head {
                agent_name: row.text("agent_name")?,
                session: row.opt_id("session_id")?,
                version: row.int("version")?,
                finished_at: row.opt_at("finished_at")?,
                error_code: row.opt_text("error_code")?,
            };
            let from = seq.saturating_add(1);
            let rows = tx.all(EVENTS, &[run.into(), from.into(), limit.into()]).await?;
            let append = |mut row: Row| {
                let last = row.int("first_seq")?.saturating_add(row.int("n")?).saturating_sub(1);
                Ok((last, row.take_bytes("bytes")?.unwrap_or_default()))
            };
            Ok(Some(Page { head, appends: rows.into_iter().map(append).collect::<Result<_>>()? }))
        })
    })
    .await
}

/// Says what became of runs of one tenant. One that somebody else has moved on meanwhile is left as it is.
pub async fn done(db: &Db, scope: Scope, runs: &[Done], now: At) -> Result<()> {
    let mut batch = Batch::new();
    for Done { due, seq } in runs {
        match seq {
            Some(seq) => {
                let params = vec![due.run.into(), due.seq.into(), (*seq).into(), now.into()];
                batch.add(MOVE, params, Expect::Any);
            }
            None => batch.add(OVER, vec![due.run.into(), due.seq.into()], Expect::Any),
        }
    }
    db.submit(scope, batch).await.map(drop)
}
