//! Tickets: each opens one event stream, and is kept as the digest of its text until then.
//!
//! Invariant: a ticket is used by the one statement that removes it, so of all the processes that try it one has it. Who
//! may have one, for how long, and whether it is over are the caller's to say. Found by
//! [`system::ticket_by_hash`](crate::system::ticket_by_hash).

use lantern_policy::{Principal, Scope};
use lantern_types::{At, Digest};

use crate::db::{Db, TenantTx};
use crate::error::Result;
use crate::value::Value;

/// A ticket to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTicket {
    /// The digest of its text.
    pub hash: Digest,
    /// Whom it speaks for. Of a key the id is kept: its scopes are those that it has when the ticket is used.
    pub bearer: Principal,
    /// When the session that it was asked for with ends. Of a key it is looked up when the ticket is used.
    pub session_ends_at: Option<At>,
    /// When it is over.
    pub expires_at: At,
}

const SWEEP: &str = "DELETE FROM tickets WHERE tenant_id = $1 AND expires_at <= $2";
const ISSUE: &str =
    "INSERT INTO tickets (tenant_id, hash, key_id, user_id, email, name, role, session_ends_at, expires_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE
    (SELECT count(*) FROM (SELECT 1 FROM tickets WHERE tenant_id = $1 LIMIT $10) AS waiting) < $10";
const SPEND: &str = "DELETE FROM tickets WHERE tenant_id = $1 AND hash = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[SWEEP, ISSUE, SPEND];

/// Keeps a ticket and sweeps those that are over. `false` when the tenant has `most` that wait to be used; then nothing
/// is kept. Two that ask at once may both be told yes.
pub async fn issue(tx: &mut TenantTx<'_>, new: NewTicket, now: At, most: u32) -> Result<bool> {
    tx.exec(SWEEP, &[now.into()]).await?;
    let [key, user, email, name, role] = bearer(new.bearer);
    let ends = [new.session_ends_at.into(), new.expires_at.into()];
    let params = [&[new.hash.into(), key, user, email, name, role][..], &ends, &[most.into()]].concat();
    Ok(tx.exec(ISSUE, &params).await? > 0)
}

/// Uses a ticket up. `false` when somebody else has, or when it was swept.
pub async fn spend(db: &Db, scope: Scope, hash: Digest) -> Result<bool> {
    let spent = db.write(scope, move |tx| Box::pin(async move { tx.exec(SPEND, &[hash.into()]).await }));
    Ok(spent.await? > 0)
}

fn bearer(principal: Principal) -> [Value; 5] {
    match principal {
        Principal::Key { id, .. } => [id.into(), Value::Null, Value::Null, Value::Null, Value::Null],
        Principal::User { id, email, name, role } => {
            [Value::Null, id.into(), email.into(), name.into(), role.as_str().into()]
        }
    }
}
