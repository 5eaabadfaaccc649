//! What comes from outside for a run: cancel, signal, approval, a child's result.
//!
//! Invariant: a row and its poke are one transaction, and the poke takes the run's lock first; so a holder that lets
//! the run go either sees the row or fails to let go. A key is stored once. Rows are deleted only by the append that
//! took them in.

use lantern_policy::Scope;
use lantern_types::*;

use crate::db::{Db, TenantTx};
use crate::error::Result;
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
    /// The run has ended, or there is no such run.
    Closed,
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
const COUNT: &str = "SELECT count(*) AS waiting FROM inbox WHERE tenant_id = $1 AND run_id = $2";
const PUT: &str = "INSERT INTO inbox (tenant_id, id, run_id, key, input, at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (tenant_id, run_id, key) DO NOTHING";
const PLACE: &str = "SELECT 1 AS taken FROM inbox WHERE tenant_id = $1 AND run_id = $2 AND key = $3";
const LIST: &str =
    "SELECT id, key, input, at FROM inbox WHERE tenant_id = $1 AND run_id = $2 ORDER BY at, id";
const POKES: &str = "SELECT pokes FROM runs WHERE tenant_id = $1 AND id = $2";

const DISCARD: &str = "DELETE FROM inbox WHERE tenant_id = $1 AND run_id = $2 AND id = $3";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[POKE, COUNT, PUT, PLACE, LIST, POKES, DISCARD];

/// Puts an input where the run's driver will find it, and wakes one up. `rows_max` bounds the run's undelivered inputs.
pub async fn put(tx: &mut TenantTx<'_>, new: NewInput, rows_max: u32) -> Result<Put> {
    let run = new.run;
    if tx.exec(POKE, &[run.into(), new.at.into()]).await? == 0 {
        return Ok(Put::Closed);
    }
    if tx.one(PLACE, &[run.into(), new.key.as_str().into()]).await?.is_some() {
        return Ok(Put::Duplicate);
    }
    let waiting = tx.one(COUNT, &[run.into()]).await?.map_or(Ok(0), |row| row.int("waiting"))?;
    if waiting >= i64::from(rows_max) {
        return Ok(Put::Full);
    }
    let params = [new.id.into(), run.into(), new.key.into(), new.input.into(), new.at.into()];
    if tx.exec(PUT, &params).await? == 0 {
        return Ok(Put::Duplicate);
    }
    tx.wake(run);
    Ok(Put::Stored)
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
