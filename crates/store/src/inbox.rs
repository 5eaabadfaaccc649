//! What comes from outside for a run: cancel, signal, approval, a child's result.
//!
//! Invariant: a row and its poke are one transaction, and the poke takes the run's lock first; so a holder that lets
//! the run go either sees the row or fails to let go. A key is stored once. Rows are deleted only by the append that
//! took them in.
//!
//! An order (to stop, to pause, to go on) means a chain of runs, and its key says so: one that a run did not take in before it
//! went on as a new one lies there still, and the start of the new one takes it along.

use lantern_policy::Scope;
use lantern_types::*;

use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::Result;
use crate::outbox;
use crate::runs;
use crate::seal::{Place, Sealer};
use crate::value::Row;

/// Something for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInput {
    /// Minted.
    pub id: InboxId,
    /// For this run.
    pub run: RunId,
    /// A second input with this key is dropped.
    pub key: String,
    /// Sealed.
    pub input: Vec<u8>,
    /// When it came.
    pub at: At,
}

impl NewInput {
    /// Seals what `plain` says, for a run and under a key.
    pub async fn seal(
        sealer: &Sealer,
        scope: Scope,
        (id, at): (InboxId, At),
        (run, key): (RunId, String),
        plain: &[u8],
    ) -> Result<Self> {
        let input = sealer.seal(scope, Place { purpose: "inbox", row: id.bytes() }, plain).await?;
        Ok(Self { id, run, key, input, at })
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It lies in the inbox, and the run was poked.
    Stored,
    /// One with its key lies there already.
    Duplicate,
    /// The run has as many undelivered inputs as it may.
    Full,
    /// The run keeps as many signals as it may, with those that are on their way to it.
    Enough,
    /// The run has ended, or there is no such run.
    Closed,
}

/// Signals that a run keeps until something waits for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// How many.
    pub count: u64,
    /// What their values have together, in bytes of JSON.
    pub bytes: u64,
}

/// An input that nobody has taken in yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its row, to be named in the append that takes it in.
    pub id: InboxId,
    /// Its key.
    pub key: String,
    /// Sealed.
    pub input: Vec<u8>,
    /// When it came.
    pub at: At,
}

// Whoever parked it looks again: there is something new.
const POKE: &str = "UPDATE runs SET pokes = pokes + 1, parked_by = NULL,
    wake_at = CASE WHEN owner IS NULL AND (wake_at IS NULL OR wake_at > $3) THEN $3 ELSE wake_at END
    WHERE tenant_id = $1 AND id = $2 AND finished_at IS NULL";
// Over, and locked: what its continuation takes along and what is put here do not miss each other.
const LOCK_OVER: &str =
    "UPDATE runs SET pokes = pokes + 1 WHERE tenant_id = $1 AND id = $2 AND finished_at IS NOT NULL";
/// What an append leaves that ends a run which goes on as a new one: the orders.
pub(crate) const ALL_BUT_ORDERS: &str =
    "DELETE FROM inbox WHERE tenant_id = $1 AND run_id = $2 AND key <> 'cancel'
    AND key NOT LIKE 'pause:%' AND key NOT LIKE 'resume:%' AND key NOT LIKE 'stop:%'";
const PASS_ON: &str = "UPDATE inbox SET run_id = $3 WHERE tenant_id = $1 AND run_id = $2
    AND (key = 'cancel' OR key LIKE 'pause:%' OR key LIKE 'resume:%' OR key LIKE 'stop:%')
    AND NOT EXISTS (SELECT 1 FROM inbox there
        WHERE there.tenant_id = $1 AND there.run_id = $3 AND there.key = inbox.key)";
const EMPTY: &str = "DELETE FROM inbox WHERE tenant_id = $1 AND run_id = $2";
const COUNT: &str = "SELECT count(*) AS waiting FROM inbox WHERE tenant_id = $1 AND run_id = $2";
const PUT: &str = "INSERT INTO inbox (tenant_id, id, run_id, key, input, at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (tenant_id, run_id, key) DO NOTHING";
const PLACE: &str = "SELECT 1 AS taken FROM inbox WHERE tenant_id = $1 AND run_id = $2 AND key = $3";
const NOTE: &str = "UPDATE runs SET signals = $3, signal_bytes = $4 WHERE tenant_id = $1 AND id = $2";
const KEPT: &str = "SELECT signals, signal_bytes FROM runs WHERE tenant_id = $1 AND id = $2";
// Sealed, so a little longer than what is counted once they are taken in.
const ON_THEIR_WAY: &str =
    "SELECT count(*) AS signals, COALESCE(sum(length(input)), 0) AS signal_bytes FROM inbox
    WHERE tenant_id = $1 AND run_id = $2 AND key LIKE 'signal%'";
const LIST: &str =
    "SELECT id, key, input, at FROM inbox WHERE tenant_id = $1 AND run_id = $2 ORDER BY at, id";
const POKES: &str = "SELECT pokes FROM runs WHERE tenant_id = $1 AND id = $2";

const DISCARD: &str = "DELETE FROM inbox WHERE tenant_id = $1 AND run_id = $2 AND id = $3";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[
    POKE,
    LOCK_OVER,
    ALL_BUT_ORDERS,
    PASS_ON,
    EMPTY,
    COUNT,
    PUT,
    PLACE,
    NOTE,
    KEPT,
    ON_THEIR_WAY,
    LIST,
    POKES,
    DISCARD,
];

/// Puts an input where the run's driver will find it, and wakes one up. `rows_max` bounds the run's undelivered inputs.
pub async fn put(tx: &mut TenantTx<'_>, new: NewInput, rows_max: u32) -> Result<Put> {
    if tx.exec(POKE, &[new.run.into(), new.at.into()]).await? == 0 {
        return Ok(Put::Closed);
    }
    add_and_wake(tx, new, rows_max).await
}

/// Puts a signal, unless the run keeps so many already that it could not keep this one as well, if nothing waits for it.
pub async fn put_signal(tx: &mut TenantTx<'_>, new: NewInput, rows_max: u32, most: Kept) -> Result<Put> {
    let (run, at, bytes) = (new.run, new.at, new.input.len() as u64);
    // Locked before it is asked what it keeps: an append that takes some in is before this or after it.
    if tx.exec(POKE, &[run.into(), at.into()]).await? == 0 {
        return Ok(Put::Closed);
    }
    let (mut count, mut sum) = (1, bytes);
    for sql in [KEPT, ON_THEIR_WAY] {
        let Some(row) = tx.one(sql, &[run.into()]).await? else { continue };
        count += u64::try_from(row.int("signals")?).unwrap_or(0);
        sum += u64::try_from(row.int("signal_bytes")?).unwrap_or(0);
    }
    let is_there = tx.one(PLACE, &[run.into(), new.key.as_str().into()]).await?.is_some();
    if !is_there && (count > most.count || sum > most.bytes) {
        return Ok(Put::Enough);
    }
    add_and_wake(tx, new, rows_max).await
}

/// For a run that was poked.
async fn add_and_wake(tx: &mut TenantTx<'_>, new: NewInput, rows_max: u32) -> Result<Put> {
    let run = new.run;
    let put = add(tx, new, rows_max).await?;
    if put == Put::Stored {
        tx.wake(run);
    }
    Ok(put)
}

/// Says what a run keeps, with the append that changes it.
pub(crate) fn note(batch: &mut Batch, run: RunId, kept: Kept) {
    let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let params = vec![run.into(), int(kept.count).into(), int(kept.bytes).into()];
    batch.add(NOTE, params, Expect::Any);
}

/// Puts an order where whoever drives the chain of runs will find it: into the inbox of the run at its open end, or, while that
/// one has yet to begin, of the run before it. Answers in whose; it is `Closed` when that run is the last of the chain. `next`
/// names the run that a run goes on as.
pub async fn order(
    tx: &mut TenantTx<'_>,
    mut new: NewInput,
    rows_max: u32,
    next: fn(RunId) -> RunId,
) -> Result<(RunId, Put)> {
    loop {
        let run = new.run;
        let done = put(tx, new.clone(), rows_max).await?;
        if done != Put::Closed || tx.exec(LOCK_OVER, &[run.into()]).await? == 0 {
            return Ok((run, done));
        }
        // A chain has an end, and each turn is one run nearer to it.
        let follower = runs::head_in(tx, next(run)).await?.filter(|run| run.trigger_kind == CONTINUES);
        match follower {
            Some(follower) => {
                pass_on(tx, (run, follower.id), new.at).await?;
                new.run = follower.id;
            }
            None if outbox::goes_on(tx, run).await? => return Ok((run, add(tx, new, rows_max).await?)),
            None => return Ok((run, Put::Closed)),
        }
    }
}

/// What is said of a run that another one went on as.
pub const CONTINUES: &str = "continue";

/// Hands the orders that a run did not take in to the run that it went on as, and forgets what else lies there. Part of the
/// transaction that makes the new run.
pub async fn pass_on(tx: &mut TenantTx<'_>, (from, to): (RunId, RunId), at: At) -> Result<()> {
    tx.exec(LOCK_OVER, &[from.into()]).await?;
    let passed = tx.exec(PASS_ON, &[from.into(), to.into()]).await?;
    tx.exec(EMPTY, &[from.into()]).await?;
    if passed > 0 && tx.exec(POKE, &[to.into(), at.into()]).await? > 0 {
        tx.wake(to);
    }
    Ok(())
}

async fn add(tx: &mut TenantTx<'_>, new: NewInput, rows_max: u32) -> Result<Put> {
    let run = new.run;
    if tx.one(PLACE, &[run.into(), new.key.as_str().into()]).await?.is_some() {
        return Ok(Put::Duplicate);
    }
    let waiting = tx.one(COUNT, &[run.into()]).await?.map_or(Ok(0), |row| row.int("waiting"))?;
    if waiting >= i64::from(rows_max) {
        return Ok(Put::Full);
    }
    let params = [new.id.into(), run.into(), new.key.into(), new.input.into(), new.at.into()];
    let added = tx.exec(PUT, &params).await?;
    Ok(if added == 0 { Put::Duplicate } else { Put::Stored })
}

/// How often the run was poked so far, and what lies in its inbox, oldest first. One snapshot.
pub async fn list(db: &Db, scope: Scope, run: RunId) -> Result<(i64, Vec<Waiting>)> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let pokes = tx.one(POKES, &[run.into()]).await?.map_or(Ok(0), |row| row.int("pokes"))?;
            let rows = tx.all(LIST, &[run.into()]).await?;
            Ok((pokes, rows.into_iter().map(read).collect::<Result<_>>()?))
        })
    })
    .await
}

/// Drops inputs that decided nothing, so that there is no append to take them in.
pub async fn discard(db: &Db, scope: Scope, run: RunId, ids: Vec<InboxId>) -> Result<()> {
    db.write(scope, move |tx| {
        Box::pin(async move {
            for id in ids {
                tx.exec(DISCARD, &[run.into(), id.into()]).await?;
            }
            Ok(())
        })
    })
    .await
}

fn read(mut row: Row) -> Result<Waiting> {
    Ok(Waiting {
        id: row.id("id")?,
        key: row.text("key")?,
        at: row.at("at")?,
        input: row.take_bytes("input")?.unwrap_or_default(),
    })
}
