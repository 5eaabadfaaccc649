//! Sign-ins: one row for each time that somebody signed in, there for as long as it lasts.
//!
//! Invariant: of all who bring the same refresh token one renews the sign-in, because the one statement that makes the next
//! generation names the last. Whether a sign-in is over by its time is the caller's to say when it looks
//! ([`system::sign_in`](crate::system::sign_in)), and this file's when it changes one.

use lantern_types::{At, Dur, SignInId, UserId};

use crate::db::{TenantTx, Where};
use crate::error::Result;
use crate::value::Row;

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

/// A sign-in that lasts, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInRow {
    /// Its row.
    pub id: SignInId,
    /// When they signed in.
    pub created_at: At,
    /// When it was last renewed.
    pub used_at: At,
    /// When it is over unless it is renewed.
    pub expires_at: At,
    /// The address that it came from.
    pub source: Option<String>,
    /// What the program there called itself.
    pub client: Option<String>,
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
const END_OF: &str = "DELETE FROM sign_ins WHERE tenant_id = $1 AND id = $2 AND user_id = $3";
const END_ALL: &str = "DELETE FROM sign_ins WHERE tenant_id = $1 AND user_id = $2";
const END_OTHERS: &str = "DELETE FROM sign_ins WHERE tenant_id = $1 AND user_id = $2 AND id <> $3";
const NOTE: &str = "UPDATE sign_ins SET source = $3, client = $4 WHERE tenant_id = $1 AND id = $2";
const FROM: &str = "SELECT 1 AS one FROM sign_ins
    WHERE tenant_id = $1 AND user_id = $2 AND source = $3 AND expires_at > $4 LIMIT 1";
const LIST: &str =
    "SELECT id, created_at, used_at, expires_at, source, client FROM sign_ins WHERE tenant_id = $1";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] =
    &[SWEEP, BEGIN, RENEW, END, END_OF, END_ALL, END_OTHERS, NOTE, FROM, LIST];

/// Keeps a sign-in, and sweeps what is over of the same person's.
pub async fn begin(tx: &mut TenantTx<'_>, new: NewSignIn, now: At) -> Result<()> {
    let before = LASTING_MAX.saturating_sub(1);
    tx.exec(SWEEP, &[new.user.into(), now.into(), before.into()]).await?;
    let row = [new.id.into(), new.user.into(), FIRST.into(), now.into(), new.expires_at.into()];
    tx.exec(BEGIN, &row).await.map(drop)
}

/// Notes where a sign-in came from.
pub async fn note(tx: &mut TenantTx<'_>, id: SignInId, source: String, client: Option<String>) -> Result<()> {
    tx.exec(NOTE, &[id.into(), source.into(), client.into()]).await.map(drop)
}

/// Whether a person has a sign-in that lasts and came from this address.
pub async fn knows(tx: &mut TenantTx<'_>, user: UserId, source: String, now: At) -> Result<bool> {
    Ok(tx.one(FROM, &[user.into(), source.into(), now.into()]).await?.is_some())
}

/// A person's sign-ins that last, the newest first, from the one after `before` on.
pub async fn list(
    tx: &mut TenantTx<'_>,
    user: UserId,
    now: At,
    before: Option<(At, SignInId)>,
    limit: u32,
) -> Result<Vec<SignInRow>> {
    let lasting = now + Dur::from_micros(1);
    let of = Where::new().eq("user_id", Some(user)).at_least("expires_at", Some(lasting));
    let older = of.before(("created_at", "id"), before);
    let rows = tx.all_where(LIST, older, "created_at DESC, id DESC", limit).await?;
    let read = |row: &Row| {
        Ok(SignInRow {
            id: row.id("id")?,
            created_at: row.at("created_at")?,
            used_at: row.at("used_at")?,
            expires_at: row.at("expires_at")?,
            source: row.opt_text("source")?,
            client: row.opt_text("client")?,
        })
    };
    rows.iter().map(read).collect()
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

/// Ends one sign-in of this person. `false` when they have none of that id.
pub async fn end_of(tx: &mut TenantTx<'_>, user: UserId, id: SignInId) -> Result<bool> {
    Ok(tx.exec(END_OF, &[id.into(), user.into()]).await? > 0)
}

/// Ends every sign-in of a person but one, and answers how many there were.
pub async fn end_others(tx: &mut TenantTx<'_>, user: UserId, kept: SignInId) -> Result<u64> {
    tx.exec(END_OTHERS, &[user.into(), kept.into()]).await
}

/// Ends every sign-in of a person, and answers how many there were.
pub async fn end_all(tx: &mut TenantTx<'_>, user: UserId) -> Result<u64> {
    tx.exec(END_ALL, &[user.into()]).await
}
