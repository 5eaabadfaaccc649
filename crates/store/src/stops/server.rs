//! Stops of the whole server: the operator's, and no tenant's.
//!
//! Invariant: only who has the system role's connection, or the data folder, sets or lifts one; no request does.

use lantern_types::{At, StopId, StopScope};

use super::{NewStop, StopRow};
use crate::db::Db;
use crate::error::Result;
use crate::lease;
use crate::value::Row;

/// How many stops hold, of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Of agents.
    pub agents: u64,
    /// Of tenants.
    pub tenants: u64,
    /// Of the server.
    pub server: u64,
}

const SET: &str = "INSERT INTO server_stops (id, reason, set_by, set_at) VALUES ($1, $2, $3, $4)";
const LIFT: &str =
    "UPDATE server_stops SET lifted_by = $2, lifted_at = $3 WHERE id = $1 AND lifted_at IS NULL";
const LIST: &str = "SELECT id, reason, set_by, set_at, lifted_by, lifted_at FROM server_stops
    ORDER BY set_at DESC, id DESC LIMIT $1";
const COUNT: &str = "SELECT
    (SELECT count(*) FROM stops WHERE lifted_at IS NULL AND agent_name IS NOT NULL) AS agents,
    (SELECT count(*) FROM stops WHERE lifted_at IS NULL AND agent_name IS NULL) AS tenants,
    (SELECT count(*) FROM server_stops WHERE lifted_at IS NULL) AS server";

/// Every statement of this file, all of no tenant.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[SET, LIFT, LIST, COUNT];

/// Sets a stop of the whole server; `agent_name` is not looked at. Once it answers, nothing that costs or acts is admitted.
pub async fn set(db: &Db, new: NewStop) -> Result<()> {
    db.system_write(move |tx| {
        Box::pin(async move {
            tx.fence().await?;
            let params = [new.id.into(), new.reason.into(), new.by.into(), new.at.into()];
            tx.exec(SET, &params).await.map(drop)
        })
    })
    .await
}

/// Lifts one, and wakes the runs that it halted. `false` when there is none of this id that holds.
pub async fn lift(db: &Db, id: StopId, by: String, at: At) -> Result<bool> {
    let lifted = db
        .system_write(move |tx| {
            Box::pin(async move {
                tx.fence().await?;
                if tx.exec(LIFT, &[id.into(), by.into(), at.into()]).await? == 0 {
                    return Ok(false);
                }
                lease::wake_all_halted(tx, id, at).await?;
                Ok(true)
            })
        })
        .await?;
    if lifted {
        db.hub().wake();
    }
    Ok(lifted)
}

/// The newest, lifted ones too.
pub async fn list(db: &Db, limit: u32) -> Result<Vec<StopRow>> {
    let rows = db.system_read(move |tx| Box::pin(async move { tx.all(LIST, &[limit.into()]).await }));
    rows.await?.iter().map(read).collect()
}

/// How many hold.
pub async fn count(db: &Db) -> Result<Holding> {
    let row = db.system_read(|tx| Box::pin(async move { tx.one(COUNT, &[]).await })).await?;
    let Some(row) = row else { return Ok(Holding::default()) };
    let count = |column| row.int(column).map(i64::unsigned_abs);
    Ok(Holding { agents: count("agents")?, tenants: count("tenants")?, server: count("server")? })
}

pub(super) fn read(row: &Row) -> Result<StopRow> {
    Ok(StopRow {
        id: row.id("id")?,
        scope: StopScope::Server,
        agent_name: None,
        reason: row.text("reason")?,
        set_by: row.text("set_by")?,
        set_at: row.at("set_at")?,
        lifted_by: row.opt_text("lifted_by")?,
        lifted_at: row.opt_at("lifted_at")?,
    })
}
