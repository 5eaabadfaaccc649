//! Identities: who a person is to issuers of single sign-on.
//!
//! Invariant: an issuer's subject is one person, whatever the tenant: the database keeps it so, and a second link is a
//! [`Conflict`](crate::Error::Conflict). Who may be linked is the caller's to say. Found across tenants by [`sso`](crate::sso).

use lantern_types::{At, IdentityId, UserId};

use crate::db::{TenantTx, Where};
use crate::error::Result;
use crate::value::Row;

/// An identity to be linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIdentity {
    /// Its row.
    pub id: IdentityId,
    /// Whose.
    pub user: UserId,
    /// The issuer.
    pub issuer: String,
    /// What the issuer calls them.
    pub subject: String,
    /// Their address, as the issuer says.
    pub email: String,
}

/// An identity, as its person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRow {
    /// Its row.
    pub id: IdentityId,
    /// The issuer.
    pub issuer: String,
    /// The address that it came with.
    pub email: String,
    /// When it was linked.
    pub created_at: At,
    /// When it was last signed in by.
    pub used_at: At,
}

const LINK: &str =
    "INSERT INTO identities (tenant_id, id, user_id, issuer, subject, email, created_at, used_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
const USED: &str = "UPDATE identities SET used_at = $3 WHERE tenant_id = $1 AND id = $2";
const OF_ISSUER: &str =
    "SELECT 1 AS one FROM identities WHERE tenant_id = $1 AND user_id = $2 AND issuer = $3 LIMIT 1";
const UNLINK: &str = "DELETE FROM identities WHERE tenant_id = $1 AND user_id = $2 AND id = $3";
const FORGET: &str = "DELETE FROM identities WHERE tenant_id = $1 AND user_id = $2";
const LIST: &str = "SELECT id, issuer, email, created_at, used_at FROM identities WHERE tenant_id = $1";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[LINK, USED, OF_ISSUER, UNLINK, FORGET, LIST];

/// Links an identity. `Conflict` when it is somebody's already.
pub async fn link(tx: &mut TenantTx<'_>, new: NewIdentity, now: At) -> Result<()> {
    let NewIdentity { id, user, issuer, subject, email } = new;
    let row = [id.into(), user.into(), issuer.into(), subject.into(), email.into(), now.into()];
    tx.exec(LINK, &row).await.map(drop)
}

/// Notes that somebody signs in by it.
pub async fn used(tx: &mut TenantTx<'_>, id: IdentityId, now: At) -> Result<()> {
    tx.exec(USED, &[id.into(), now.into()]).await.map(drop)
}

/// Whether a person is somebody to this issuer already.
pub async fn is_of(tx: &mut TenantTx<'_>, user: UserId, issuer: String) -> Result<bool> {
    Ok(tx.one(OF_ISSUER, &[user.into(), issuer.into()]).await?.is_some())
}

/// Unlinks one of a person's. `false` when they have no such.
pub async fn unlink(tx: &mut TenantTx<'_>, user: UserId, id: IdentityId) -> Result<bool> {
    Ok(tx.exec(UNLINK, &[user.into(), id.into()]).await? > 0)
}

/// Unlinks all of a person's.
pub async fn forget(tx: &mut TenantTx<'_>, user: UserId) -> Result<()> {
    tx.exec(FORGET, &[user.into()]).await.map(drop)
}

/// A person's, newest first, older than `before`.
pub async fn list(
    tx: &mut TenantTx<'_>,
    user: UserId,
    before: Option<(At, IdentityId)>,
    limit: u32,
) -> Result<Vec<IdentityRow>> {
    let narrowed = Where::new().eq("user_id", Some(user)).before(("created_at", "id"), before);
    let rows = tx.all_where(LIST, narrowed, "created_at DESC, id DESC", limit).await?;
    let read = |row: &Row| {
        Ok(IdentityRow {
            id: row.id("id")?,
            issuer: row.text("issuer")?,
            email: row.text("email")?,
            created_at: row.at("created_at")?,
            used_at: row.at("used_at")?,
        })
    };
    rows.iter().map(read).collect()
}
