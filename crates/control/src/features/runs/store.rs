//! What this feature asks of SQL beside the journal's own functions. No decisions here.

use lantern_policy::Scope;
use lantern_store::{Db, Result};
use lantern_types::RunId;

const BY_KEY: &str = "SELECT id FROM runs WHERE tenant_id = $1 AND idempotency_key = $2";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[BY_KEY];

/// The run that was started under this key.
pub(super) async fn by_key(db: &Db, scope: Scope, key: String) -> Result<Option<RunId>> {
    let found = db.glance(scope, |tx| Box::pin(async move { tx.one(BY_KEY, &[key.into()]).await })).await?;
    found.map(|row| row.id("id")).transpose()
}
