//! Emergency stops: what halts the spending of an agent, of a tenant, or of everybody.
//!
//! Invariant: an append that admits what costs or acts looks for a stop in its own guard, and who sets one waits for the
//! appends that may not have seen it; so once a stop is answered, nothing that it halts is admitted by any process. Rows are
//! never changed but for being lifted. Those of a server-wide stop are written by [`server`] alone.

pub mod server;

use lantern_policy::Scope;
use lantern_types::{At, RunId, StopId, StopScope};

use crate::db::{Batch, Db, Expect, Where};
use crate::error::Result;
use crate::value::Row;
use crate::{dialect, lease};

/// A stop's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopRow {
    /// Its id.
    pub id: StopId,
    /// What it halts.
    pub scope: StopScope,
    /// Whose runs, when it is of one agent.
    pub agent_name: Option<String>,
    /// Why, in the words of whoever set it.
    pub reason: String,
    /// Who set it.
    pub set_by: String,
    /// When.
    pub set_at: At,
    /// Who lifted it.
    pub lifted_by: Option<String>,
    /// When.
    pub lifted_at: Option<At>,
}

/// A stop that is being set.
#[derive(Clone, Debug)]
pub struct NewStop {
    /// Minted.
    pub id: StopId,
    /// Whose runs it halts; `None` for all there are.
    pub agent_name: Option<String>,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: At,
}

/// What becomes of the stop that a run is halted by, beside an append's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// This one halts it.
    By(StopId),
    /// None does any more.
    Over,
}

/// Which stops a list shows.
#[derive(Clone, Debug, Default)]
pub struct StopFilter {
    /// Those that hold, those that were lifted, or both.
    pub holding: Option<bool>,
    /// What comes after this one: the last of the page before.
    pub before: Option<(At, StopId)>,
    /// At most so many.
    pub limit: u32,
}

const AGENT: &str = "SELECT id FROM agents WHERE tenant_id = $1 AND name = $2";
const SET: &str =
    "INSERT INTO stops (tenant_id, id, agent_name, reason, set_by, set_at) VALUES ($1, $2, $3, $4, $5, $6)";
const LIFT: &str =
    "UPDATE stops SET lifted_by = $3, lifted_at = $4 WHERE tenant_id = $1 AND id = $2 AND lifted_at IS NULL";
const GET: &str = "SELECT id, agent_name, reason, set_by, set_at, lifted_by, lifted_at FROM stops
    WHERE tenant_id = $1 AND id = $2";
const LIST: &str =
    "SELECT id, agent_name, reason, set_by, set_at, lifted_by, lifted_at FROM stops WHERE tenant_id = $1";
const HOLDING: &str = "SELECT id, agent_name, reason, set_by, set_at, lifted_by, lifted_at FROM stops
    WHERE tenant_id = $1 AND lifted_at IS NULL AND (agent_name IS NULL OR agent_name = $2)
    ORDER BY CASE WHEN agent_name IS NULL THEN 0 ELSE 1 END, set_at, id LIMIT 1";
// What halts everybody is everybody's business: a tenant's list shows it, and its runs name it.
const LIST_SERVER: &str = "SELECT id, reason, set_by, set_at, lifted_by, lifted_at FROM server_stops
    WHERE EXISTS (SELECT 1 FROM tenants WHERE tenant_id = $1)";
const HOLDING_SERVER: &str = "SELECT id, reason, set_by, set_at, lifted_by, lifted_at FROM server_stops
    WHERE lifted_at IS NULL AND EXISTS (SELECT 1 FROM tenants WHERE tenant_id = $1) ORDER BY set_at LIMIT 1";

const OF_SERVER: &str = "SELECT 1 AS found FROM server_stops
    WHERE EXISTS (SELECT 1 FROM tenants WHERE tenant_id = $1) AND id = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] =
    &[AGENT, SET, LIFT, GET, LIST, HOLDING, LIST_SERVER, HOLDING_SERVER, OF_SERVER];

/// Sets a stop. Once it answers, nothing that the stop halts is admitted. `false`, and nothing written, when it names an
/// agent that the tenant never had: it would halt nothing.
pub async fn set(db: &Db, scope: Scope, new: NewStop) -> Result<bool> {
    db.write(scope, move |tx| {
        Box::pin(async move {
            if let Some(name) = &new.agent_name
                && tx.one(AGENT, &[name.as_str().into()]).await?.is_none()
            {
                return Ok(false);
            }
            tx.fence().await?;
            let NewStop { id, agent_name, reason, by, at } = new;
            let params = [id.into(), agent_name.into(), reason.into(), by.into(), at.into()];
            tx.exec(SET, &params).await.map(|_| true)
        })
    })
    .await
}

/// Lifts a stop, and wakes the runs that it halted. `false` when the tenant has no such stop that holds.
pub async fn lift(db: &Db, scope: Scope, id: StopId, by: String, at: At) -> Result<bool> {
    let lifted = db
        .write(scope, move |tx| {
            Box::pin(async move {
                // Whoever is writing down that the stop halts a run is done with it when the runs are woken.
                tx.fence().await?;
                if tx.exec(LIFT, &[id.into(), by.into(), at.into()]).await? == 0 {
                    return Ok(false);
                }
                lease::wake_halted(tx, id, at).await?;
                Ok(true)
            })
        })
        .await?;
    if lifted {
        db.hub().wake();
    }
    Ok(lifted)
}

/// A tenant's own stop of this id.
pub async fn find(db: &Db, scope: Scope, id: StopId) -> Result<Option<StopRow>> {
    db.read(scope, move |tx| {
        Box::pin(async move { tx.one(GET, &[id.into()]).await?.as_ref().map(own).transpose() })
    })
    .await
}

/// Whether the stop of this id is of the whole server.
pub async fn is_of_the_server(db: &Db, scope: Scope, id: StopId) -> Result<bool> {
    db.read(scope, move |tx| Box::pin(async move { Ok(tx.one(OF_SERVER, &[id.into()]).await?.is_some()) }))
        .await
}

/// A tenant's stops and the server's, newest first.
pub async fn list(db: &Db, scope: Scope, filter: StopFilter) -> Result<Vec<StopRow>> {
    let limit = filter.limit;
    let mut found = db
        .read(scope, move |tx| {
            Box::pin(async move {
                let order = "set_at DESC, id DESC";
                let mut found = Vec::new();
                for row in tx.all_where(LIST, conditions(&filter), order, limit).await? {
                    found.push(own(&row)?);
                }
                for row in tx.all_where(LIST_SERVER, conditions(&filter), order, limit).await? {
                    found.push(server::read(&row)?);
                }
                Ok(found)
            })
        })
        .await?;
    found.sort_by_key(|row| std::cmp::Reverse((row.set_at, row.id)));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

fn conditions(filter: &StopFilter) -> Where {
    let conditions = Where::new().before(("set_at", "id"), filter.before);
    match filter.holding {
        Some(true) => conditions.holds("lifted_at IS NULL"),
        Some(false) => conditions.holds("lifted_at IS NOT NULL"),
        None => conditions,
    }
}

/// The widest stop that holds for the runs of an agent.
pub async fn holding(db: &Db, scope: Scope, agent_name: String) -> Result<Option<StopRow>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            if let Some(row) = tx.one(HOLDING_SERVER, &[]).await? {
                return server::read(&row).map(Some);
            }
            tx.one(HOLDING, &[agent_name.into()]).await?.as_ref().map(own).transpose()
        })
    })
    .await
}

/// Adds what an append does to the stop that its run is halted by. One that was lifted meanwhile is not noted: whoever lets
/// the run go looks first whether it still holds.
pub(crate) fn add(batch: &mut Batch, run: RunId, halt: Halt) {
    match halt {
        Halt::By(stop) => batch.add_either(dialect::HALT, vec![run.into(), stop.into()], Expect::Any),
        Halt::Over => batch.add(lease::UNHALT, vec![run.into()], Expect::Any),
    }
}

fn own(row: &Row) -> Result<StopRow> {
    let agent_name = row.opt_text("agent_name")?;
    let scope = if agent_name.is_some() { StopScope::Agent } else { StopScope::Tenant };
    Ok(StopRow { scope, agent_name, ..server::read(row)? })
}
