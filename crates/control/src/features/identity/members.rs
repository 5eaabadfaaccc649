//! Who belongs to a tenant: the people whose accounts are in it, and its keys.
//!
//! Invariant: a name is looked for as decisions on approvals record who made them: a person's address, or `api-key:` and the
//! id of a key. Reads only.

use lantern_policy::Scope;
use lantern_store::{Db, TenantTx};
use lantern_types::ApiKeyId;

/// How a key is named, before its id.
const KEY: &str = "api-key:";

const PERSON: &str = "SELECT 1 AS one FROM users WHERE tenant_id = $1 AND email_key = $2";
const GOOD_KEY: &str =
    "SELECT 1 AS one FROM api_keys WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] = &[PERSON, GOOD_KEY];

/// Those of these names that are neither a member of the tenant nor one of its keys, in their order.
pub(crate) async fn strangers(
    db: &Db,
    scope: Scope,
    names: Vec<String>,
) -> lantern_store::Result<Vec<String>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut strangers = Vec::new();
            for name in names {
                if !belongs(tx, &name).await? {
                    strangers.push(name);
                }
            }
            Ok(strangers)
        })
    })
    .await
}

async fn belongs(tx: &mut TenantTx<'_>, name: &str) -> lantern_store::Result<bool> {
    let found = match name.strip_prefix(KEY) {
        Some(id) => match id.parse::<ApiKeyId>() {
            Ok(id) => tx.one(GOOD_KEY, &[id.into()]).await?,
            Err(_) => None,
        },
        None => tx.one(PERSON, &[name.to_lowercase().into()]).await?,
    };
    Ok(found.is_some())
}
