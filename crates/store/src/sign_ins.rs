//! Sign-ins: one row for each time that somebody signed in, there for as long as it lasts.
//!
//! Invariant: of all who bring the same refresh token one renews the sign-in, because the one statement that makes the next
//! generation names the last. Whether a sign-in is over by its time is the caller's to say when it looks
//! ([`system::sign_in`](crate::system::sign_in)), and this file's when it changes one.

use lantern_types::{At, SignInId, UserId};

use crate::db::TenantTx;
use crate::error::Result;

/// Sign-ins of one person that last. A further one ends those that were used longest ago.
pub const LASTING_MAX: u32 = 1_000;
/// The generation of the refresh token that a sign-in comes with.
pub const FIRST: u32 = 1;

/// A sign-in to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSignIn {
    /// Its row.
    pub id: SignInId,
    /// Who.
    pub user: UserId,
    /// When it is over unless it is renewed.
    pub expires_at: At,
}

const SWEEP: &str =
    "DELETE FROM sign_ins WHERE tenant_id = $1 AND user_id = $2 AND (expires_at <= $3 OR used_at <
    (SELECT min(used_at) FROM (SELECT used_at FROM sign_ins WHERE tenant_id = $1 AND user_id = $2
    ORDER BY used_at DESC LIMIT $4) AS newest))";
const BEGIN: &str =
    "INSERT INTO sign_ins (tenant_id, id, user_id, generation, created_at, used_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $5, $6)";
const RENEW: &str = "UPDATE sign_ins SET generation = generation + 1, used_at = $4, expires_at = $5
    WHERE tenant_id = $1 AND id = $2 AND generation = $3 AND expires_at > $4";
const END: &str = "DELETE FROM sign_ins WHERE tenant_id = $1 AND id = $2";
const END_ALL: &str = "DELETE FROM sign_ins WHERE tenant_id = $1 AND user_id = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[SWEEP, BEGIN, RENEW, END, END_ALL];

/// Keeps a sign-in, and sweeps what is over of the same person's.
pub async fn begin(tx: &mut TenantTx<'_>, new: NewSignIn, now: At) -> Result<()> {
    let before = LASTING_MAX.saturating_sub(1);
    tx.exec(SWEEP, &[new.user.into(), now.into(), before.into()]).await?;
    let row = [new.id.into(), new.user.into(), FIRST.into(), now.into(), new.expires_at.into()];
    tx.exec(BEGIN, &row).await.map(drop)
}

/// Makes the refresh token of this generation the last one and the next one good. `false` when it is not the one that is good, or
/// the sign-in is over.
pub async fn renew(
    tx: &mut TenantTx<'_>,
    id: SignInId,
    generation: u32,
    now: At,
    expires_at: At,
) -> Result<bool> {
    let params = [id.into(), generation.into(), now.into(), expires_at.into()];
    Ok(tx.exec(RENEW, &params).await? > 0)
}

/// Ends a sign-in. `false` when there was none.
pub async fn end(tx: &mut TenantTx<'_>, id: SignInId) -> Result<bool> {
    Ok(tx.exec(END, &[id.into()]).await? > 0)
}

/// Ends every sign-in of a person, and answers how many there were.
pub async fn end_all(tx: &mut TenantTx<'_>, user: UserId) -> Result<u64> {
    tx.exec(END_ALL, &[user.into()]).await
}
