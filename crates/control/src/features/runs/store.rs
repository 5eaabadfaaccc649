//! What this feature asks of SQL beside the journal's own functions. No decisions here.

use lantern_policy::Scope;
use lantern_store::{Db, Result, TenantTx};
use lantern_types::RunId;

const BY_KEY: &str = "SELECT id FROM runs WHERE tenant_id = $1 AND idempotency_key = $2";

const OPEN: &str = "SELECT count(*) AS open FROM
    (SELECT 1 FROM runs WHERE tenant_id = $1 AND finished_at IS NULL LIMIT $2) AS unfinished";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[BY_KEY, OPEN];

/// Whether the tenant has as many runs that are not over as `most`. Two that ask at once may both be told no.
pub(super) async fn full(tx: &mut TenantTx<'_>, most: u32) -> Result<bool> {
    let open = tx.one(OPEN, &[most.into()]).await?.map_or(Ok(0), |row| row.int("open"))?;
    Ok(open >= i64::from(most))
}

/// The run that was started under this key.
pub(super) async fn by_key(db: &Db, scope: Scope, key: String) -> Result<Option<RunId>> {
    let found = db.read(scope, |tx| Box::pin(async move { tx.one(BY_KEY, &[key.into()]).await })).await?;
    found.map(|row| row.id("id")).transpose()
}
