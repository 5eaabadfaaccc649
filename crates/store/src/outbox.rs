//! What must go out because of a run, and must be found without loading it: child starts, deliveries to people.
//!
//! Invariant: a row is written by the append whose events ask for it, and deleted only when its delivery is known to
//! have been absorbed under its key. Delivery is at least once; the receiver absorbs repeats by key.

use lantern_policy::Scope;
use lantern_types::*;
use uuid::Uuid;

use crate::db::{Batch, Db, Expect};
use crate::error::Result;
use crate::value::{Row, Value};

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOutbox {
    /// Minted.
    pub id: Uuid,
    /// The receiver absorbs a repeat of the same key; one row for each key of a run.
    pub key: String,
    /// Who sends it.
    pub kind: &'static str,
    /// Sealed.
    pub payload: Vec<u8>,
    /// Not before.
    pub due_at: At,
}

/// A row that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its tenant's scope.
    pub scope: Scope,
    /// Its row.
    pub id: Uuid,
    /// The run.
    pub run: RunId,
    /// Its key.
    pub key: String,
    /// Who sends it.
    pub kind: String,
    /// Sealed.
    pub payload: Vec<u8>,
    /// How often it was taken before.
    pub attempts: i64,
}

const ADD: &str = "INSERT INTO outbox (tenant_id, id, run_id, key, kind, payload, due_at, attempts)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT (tenant_id, run_id, key) DO NOTHING";
const DUE: &str = "SELECT tenant_id, id, run_id, key, kind, payload, due_at, attempts FROM outbox
    WHERE due_at <= $1 ORDER BY due_at LIMIT $2";
const TAKE: &str = "UPDATE outbox SET due_at = $4, attempts = attempts + 1
    WHERE tenant_id = $1 AND id = $2 AND due_at = $3";
const DONE: &str = "DELETE FROM outbox WHERE tenant_id = $1 AND id = $2";

const PENDING: &str =
    "SELECT 1 AS pending FROM outbox WHERE tenant_id = $1 AND run_id = $2 AND kind = $3 LIMIT 1";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[ADD, DONE, PENDING];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[DUE, TAKE];

/// Adds a row to an append.
pub(crate) fn add(batch: &mut Batch, run: RunId, new: NewOutbox) {
    let id = Value::Id(*new.id.as_bytes());
    let params = vec![id, run.into(), new.key.into(), new.kind.into(), new.payload.into(), new.due_at.into()];
    batch.add(ADD, params, Expect::Any);
}

/// Takes at most `limit` due rows. Each is due again at `again_at`, unless it is [`done`] before; no row is taken by
/// two processes at once.
pub async fn take(db: &Db, now: At, again_at: At, limit: u32) -> Result<Vec<Due>> {
    db.system_write(move |tx| {
        Box::pin(async move {
            let mut taken = Vec::new();
            for row in tx.all(DUE, &[now.into(), limit.into()]).await? {
                let was_due = row.at("due_at")?;
                let due = read(row)?;
                let id = Value::Id(*due.id.as_bytes());
                let params = [due.scope.tenant().into(), id, was_due.into(), again_at.into()];
                if tx.exec(TAKE, &params).await? == 1 {
                    taken.push(due);
                }
            }
            Ok(taken)
        })
    })
    .await
}

/// Whether a run still owes something of this kind.
pub async fn owes(db: &Db, scope: Scope, run: RunId, kind: &'static str) -> Result<bool> {
    db.read(scope, move |tx| {
        Box::pin(async move { Ok(tx.one(PENDING, &[run.into(), kind.into()]).await?.is_some()) })
    })
    .await
}

/// Forgets a row whose delivery was absorbed.
pub async fn done(db: &Db, scope: Scope, id: Uuid) -> Result<()> {
    let id = Value::Id(*id.as_bytes());
    db.write(scope, move |tx| Box::pin(async move { tx.exec(DONE, &[id]).await.map(drop) })).await
}

fn read(mut row: Row) -> Result<Due> {
    let id = row.bytes("id")?;
    Ok(Due {
        scope: Scope::of_lease(row.id("tenant_id")?),
        id: Uuid::from_slice(&id).map_err(crate::Error::internal)?,
        run: row.id("run_id")?,
        key: row.text("key")?,
        kind: row.text("kind")?,
        attempts: row.int("attempts")?,
        payload: row.take_bytes("payload")?.unwrap_or_default(),
    })
}
