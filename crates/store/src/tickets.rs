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
    /// Whom it speaks for. The id of the key or the sign-in is kept: what it may is what it may when the ticket is used.
    pub bearer: Principal,
    /// When the access token ends that it was asked for with. Of a key it is looked up when the ticket is used.
    pub session_ends_at: Option<At>,
    /// When it is over.
    pub expires_at: At,
}

const SWEEP: &str = "DELETE FROM tickets WHERE tenant_id = $1 AND expires_at <= $2";
const ISSUE: &str = "INSERT INTO tickets (tenant_id, hash, key_id, sign_in_id, session_ends_at, expires_at)
    SELECT $1, $2, $3, $4, $5, $6 WHERE
    (SELECT count(*) FROM (SELECT 1 FROM tickets WHERE tenant_id = $1 LIMIT $7) AS waiting) < $7";
const SPEND: &str = "DELETE FROM tickets WHERE tenant_id = $1 AND hash = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[SWEEP, ISSUE, SPEND];

/// Keeps a ticket and sweeps those that are over. `false` when the tenant has `most` that wait to be used; then nothing
/// is kept. Two that ask at once may both be told yes.
pub async fn issue(tx: &mut TenantTx<'_>, new: NewTicket, now: At, most: u32) -> Result<bool> {
    tx.exec(SWEEP, &[now.into()]).await?;
    let (key, sign_in) = match new.bearer {
        Principal::Key { id, .. } => (id.into(), Value::Null),
        Principal::User { sign_in, .. } => (Value::Null, sign_in.into()),
    };
    let ends = (new.session_ends_at.into(), new.expires_at.into());
    let params = [new.hash.into(), key, sign_in, ends.0, ends.1, most.into()];
    Ok(tx.exec(ISSUE, &params).await? > 0)
}

/// Uses a ticket up. `false` when somebody else has, or when it was swept.
pub async fn spend(db: &Db, scope: Scope, hash: Digest) -> Result<bool> {
    let spent = db.write(scope, move |tx| Box::pin(async move { tx.exec(SPEND, &[hash.into()]).await }));
    Ok(spent.await? > 0)
}
