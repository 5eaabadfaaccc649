//! What a tenant says of the choice among models: what counts, and its own table of aliases.
//!
//! Invariant: a row that cannot be read is an error, and never no row: a call then goes nowhere instead of to a model that its
//! tenant took out. Whether an entry makes sense is decided before it is saved, and not here.

use lantern_policy::Scope;
use lantern_policy::alias::Aliases;
use lantern_types::{At, Strategy};

use crate::db::{Db, TenantTx};
use crate::error::{Error, Result};
use crate::value::Row;

/// What one tenant says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// What counts when several models would do; `None` leaves it to the server.
    pub strategy: Option<Strategy>,
    /// Which models it means by a name of the catalogue's.
    pub aliases: Aliases,
}

const GET: &str = "SELECT strategy, aliases, revision FROM model_routing WHERE tenant_id = $1";
const SAVE: &str =
    "INSERT INTO model_routing (tenant_id, strategy, aliases, updated_at, revision) VALUES ($1, $2, $3, $4, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET strategy = excluded.strategy, aliases = excluded.aliases,
        updated_at = excluded.updated_at, revision = model_routing.revision + 1";
const LOCK: &str =
    "INSERT INTO model_routing (tenant_id, aliases, updated_at, revision) VALUES ($1, '{}', $2, 0)
    ON CONFLICT (tenant_id) DO UPDATE SET revision = model_routing.revision";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[GET, SAVE, LOCK];

/// What the tenant says.
pub async fn of(db: &Db, scope: Scope) -> Result<Routing> {
    Ok(revised(db, scope).await?.0)
}

/// The same, and how often it has said so.
pub async fn revised(db: &Db, scope: Scope) -> Result<(Routing, i64)> {
    db.read(scope, |tx| Box::pin(async move { read(tx).await })).await
}

/// What the tenant says, within a transaction.
pub async fn read(tx: &mut TenantTx<'_>) -> Result<(Routing, i64)> {
    tx.one(GET, &[]).await?.map_or_else(|| Ok((Routing::default(), 0)), |row| of_row(&row))
}

/// The same for a transaction that says it anew: whoever comes second waits for the first.
pub async fn locked(tx: &mut TenantTx<'_>, now: At) -> Result<(Routing, i64)> {
    tx.exec(LOCK, &[now.into()]).await?;
    read(tx).await
}

/// Keeps what the tenant says.
pub async fn save(tx: &mut TenantTx<'_>, said: &Routing, now: At) -> Result<()> {
    let strategy = said.strategy.map(|strategy| strategy.as_str().to_owned());
    let aliases = serde_json::to_string(&said.aliases).map_err(|error| Error::Corrupt(error.into()))?;
    tx.exec(SAVE, &[strategy.into(), aliases.into(), now.into()]).await.map(drop)
}

fn of_row(row: &Row) -> Result<(Routing, i64)> {
    let strategy = match row.opt_text("strategy")? {
        None => None,
        Some(word) => {
            Some(word.parse().map_err(|_| Error::Corrupt(format!("a strategy is {word:?}").into()))?)
        }
    };
    let aliases =
        serde_json::from_str(&row.text("aliases")?).map_err(|error| Error::Corrupt(error.into()))?;
    Ok((Routing { strategy, aliases }, row.int("revision")?))
}
