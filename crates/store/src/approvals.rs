//! Questions of runs to people: a narrow row for each, so that a list of them reads no journals but those of its page.
//!
//! Invariant: a row is written and closed in the transaction of the append that asks or decides, and removed with its run.
//! An append that does neither writes nothing here. A row has no words of anybody: what is asked, and who decided, is
//! opened from the journal, at the seqs that the row names. The order of a list is that of `(asked_at, id)`.

use lantern_policy::Scope;
use lantern_types::approval::{Asked, Change, Closed, Status};
use lantern_types::*;

use crate::db::{Batch, Db, Expect, TenantTx, Where};
use crate::error::{Error, Result};
use crate::escrow::asks::{self, Over};
use crate::journal::{Stored, stored};
use crate::value::{Row, Value};

/// A question's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRow {
    /// Its id.
    pub id: ApprovalId,
    /// The run that asks.
    pub run: RunId,
    /// The step that waits.
    pub step: String,
    /// The run's agent.
    pub agent_name: String,
    /// Where it stands.
    pub status: Status,
    /// The seq of the event that asks.
    pub asked_seq: i64,
    /// The seq of the event that closed it, if one did.
    pub closed_seq: Option<i64>,
    /// When it was asked.
    pub asked_at: At,
    /// When it lapses, or would have.
    pub expires_at: At,
    /// When it was closed.
    pub closed_at: Option<At>,
    /// Of a question whether a cap may be passed: what is asked and was said. It is asked for every run that waits, and `run` is the
    /// first.
    pub over: Option<Over>,
}

/// Which questions a list shows: those of which everything holds that is said here.
#[derive(Clone, Debug, Default)]
pub struct ApprovalFilter {
    /// In one of these statuses; each is read along an index of its own.
    pub statuses: Vec<Status>,
    /// Of runs of this agent.
    pub agent_name: Option<String>,
    /// Of this run.
    pub run: Option<RunId>,
    /// The oldest first, and not the newest.
    pub oldest_first: bool,
    /// What comes after this one: the last of the page before.
    pub after: Option<(At, ApprovalId)>,
    /// At most so many.
    pub limit: u32,
}

// The agent's name is the run's. The epoch is for whoever writes without an append: the run may be somebody else's by now.
const ADD: &str =
    "INSERT INTO approvals (tenant_id, id, run_id, step, agent_name, status, asked_seq, closed_seq,
    asked_at, expires_at, closed_at)
    SELECT $1, $2, r.id, $5, r.agent_name, 'pending', $6, NULL, $7, $8, NULL FROM runs r
    WHERE r.tenant_id = $1 AND r.id = $3 AND r.epoch = $4
    ON CONFLICT (tenant_id, id) DO NOTHING";
const CLOSE: &str = "UPDATE approvals SET status = $3, closed_seq = $4, closed_at = $5
    WHERE tenant_id = $1 AND id = $2 AND status = 'pending'";
const WITHDRAW: &str = "UPDATE approvals SET status = 'withdrawn', closed_at = $3
    WHERE tenant_id = $1 AND run_id = $2 AND status = 'pending' AND owner IS NULL";
// Whether a cap may be passed is no question of one run.
const REMOVE: &str = "DELETE FROM approvals WHERE tenant_id = $1 AND run_id = $2 AND owner IS NULL";
const GET: &str =
    "SELECT id, run_id, step, agent_name, status, asked_seq, closed_seq, asked_at, expires_at, closed_at,
    owner, period, began_at, cap, spent, hold, more, decided_by FROM approvals WHERE tenant_id = $1 AND id = $2";
pub(crate) const LIST: &str =
    "SELECT id, run_id, step, agent_name, status, asked_seq, closed_seq, asked_at, expires_at, closed_at,
    owner, period, began_at, cap, spent, hold, more, decided_by FROM approvals WHERE tenant_id = $1";
const HOLDS: &str = "SELECT first_seq, n, at, format, bytes, body, chain FROM journal
    WHERE tenant_id = $1 AND run_id = $2 AND first_seq <= $3 ORDER BY first_seq DESC LIMIT 1";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[ADD, CLOSE, WITHDRAW, REMOVE, GET, LIST, HOLDS];

/// Adds what an append does to questions.
pub(crate) fn add(batch: &mut Batch, (run, epoch): (RunId, i64), change: Change) {
    match change {
        Change::OverCap { step, seq, at, over } => asks::add(batch, (run, epoch), (step, seq, at), over),
        // Somebody who took the run up may have written it.
        Change::Asked(asked) => batch.add(ADD, row(run, epoch, asked), Expect::Any),
        Change::Closed(Closed { id, status, seq, at }) => {
            let params = vec![id.into(), status.as_str().into(), seq.into(), at.into()];
            batch.add(CLOSE, params, Expect::Any);
        }
    }
}

fn row(run: RunId, epoch: i64, asked: Asked) -> Vec<Value> {
    let Asked { id, step, seq, at, due } = asked;
    vec![id.into(), run.into(), epoch.into(), step.into(), seq.into(), at.into(), due.into()]
}

/// Sees to it that the open questions of a run have their rows, for whoever holds the run: builds that knew no rows may
/// have asked them. What is there is only looked at.
pub async fn ensure(db: &Db, scope: Scope, (run, epoch): (RunId, i64), mut open: Vec<Asked>) -> Result<()> {
    let ids: Vec<ApprovalId> = open.iter().map(|asked| asked.id).collect();
    let there: Vec<ApprovalId> = db
        .read(scope, move |tx| {
            Box::pin(async move {
                let mut there = Vec::new();
                for id in ids {
                    if tx.one(GET, &[id.into()]).await?.is_some() {
                        there.push(id);
                    }
                }
                Ok(there)
            })
        })
        .await?;
    open.retain(|asked| !there.contains(&asked.id));
    if open.is_empty() {
        return Ok(());
    }
    db.write(scope, move |tx| {
        Box::pin(async move {
            for asked in open {
                tx.exec(ADD, &row(run, epoch, asked)).await?;
            }
            Ok(())
        })
    })
    .await
}

/// Closes the questions of a run that ends without an append.
pub(crate) async fn withdraw(tx: &mut TenantTx<'_>, run: RunId, at: At) -> Result<()> {
    tx.exec(WITHDRAW, &[run.into(), at.into()]).await.map(drop)
}

/// Removes the questions of a run that is deleted.
pub(crate) async fn remove(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    tx.exec(REMOVE, &[run.into()]).await.map(drop)
}

/// A question's row, if the tenant has it.
pub async fn find(db: &Db, scope: Scope, id: ApprovalId) -> Result<Option<ApprovalRow>> {
    db.read(scope, move |tx| {
        Box::pin(async move { tx.one(GET, &[id.into()]).await?.as_ref().map(read).transpose() })
    })
    .await
}

/// Questions, in the order that the filter says.
pub async fn list(db: &Db, scope: Scope, filter: ApprovalFilter) -> Result<Vec<ApprovalRow>> {
    let (limit, oldest_first) = (filter.limit, filter.oldest_first);
    let (queries, order) = (queries(&filter), order(oldest_first));
    let mut found: Vec<ApprovalRow> = db
        .read(scope, move |tx| {
            Box::pin(async move {
                let mut found = Vec::new();
                for conditions in queries {
                    for row in tx.all_where(LIST, conditions, order, limit).await? {
                        found.push(read(&row)?);
                    }
                }
                Ok(found)
            })
        })
        .await?;
    found.sort_by_key(|row| (row.asked_at, row.id));
    if !oldest_first {
        found.reverse();
    }
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// The queries that find the questions of a list between them.
pub(crate) fn queries(filter: &ApprovalFilter) -> Vec<Where> {
    filter.statuses.iter().map(|status| query(filter, *status)).collect()
}

pub(crate) const fn order(oldest_first: bool) -> &'static str {
    if oldest_first { "asked_at, id" } else { "asked_at DESC, id DESC" }
}

fn query(filter: &ApprovalFilter, status: Status) -> Where {
    // A run asks few questions: they are read along the run, and the agent's index is not the one to go along.
    let agent = if filter.run.is_some() { "agent_name || ''" } else { "agent_name" };
    let conditions = Where::new()
        .eq("run_id", filter.run)
        .eq(agent, filter.agent_name.clone())
        .eq(if filter.run.is_some() { "status || ''" } else { "status" }, Some(status.as_str()));
    let columns = ("asked_at", "id");
    if filter.oldest_first {
        conditions.after(columns, filter.after)
    } else {
        conditions.before(columns, filter.after)
    }
}

/// The appends that asked these questions and that closed them, in the order asked.
pub async fn told(
    db: &Db,
    scope: Scope,
    rows: &[ApprovalRow],
) -> Result<Vec<(Option<Stored>, Option<Stored>)>> {
    let places: Vec<(RunId, i64, Option<i64>)> =
        rows.iter().map(|row| (row.run, row.asked_seq, row.closed_seq)).collect();
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut told = Vec::with_capacity(places.len());
            for (run, asked, closed) in places {
                let asked = holding(tx, run, asked).await?;
                let closed = match closed {
                    Some(seq) => holding(tx, run, seq).await?,
                    None => None,
                };
                told.push((asked, closed));
            }
            Ok(told)
        })
    })
    .await
}

async fn holding(tx: &mut TenantTx<'_>, run: RunId, seq: i64) -> Result<Option<Stored>> {
    tx.one(HOLDS, &[run.into(), seq.into()]).await?.map(stored).transpose()
}

fn read(row: &Row) -> Result<ApprovalRow> {
    let status = row.text("status")?;
    Ok(ApprovalRow {
        id: row.id("id")?,
        run: row.id("run_id")?,
        step: row.text("step")?,
        agent_name: row.text("agent_name")?,
        status: Status::named(&status)
            .ok_or_else(|| Error::Corrupt(format!("an approval is {status:?}").into()))?,
        asked_seq: row.int("asked_seq")?,
        closed_seq: row.opt_int("closed_seq")?,
        asked_at: row.at("asked_at")?,
        expires_at: row.at("expires_at")?,
        closed_at: row.opt_at("closed_at")?,
        over: asks::read(row)?,
    })
}
