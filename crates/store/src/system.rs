//! What must be found before anybody knows whose it is: sign-in by address, keys and tickets by hash, the
//! installation's own settings. And what a process looks at again for all its open event streams at once: the runs that
//! they follow, and the keys and sign-ins that opened them.
//!
//! Invariant: besides leases and the outbox, this is all that looks across tenants. Every answer carries the tenant it
//! belongs to; nothing here lists one tenant's rows for another.

use std::sync::LazyLock;

use lantern_types::*;

use crate::db::{Db, SystemTx};
use crate::error::{Error, Result};
use crate::value::{Row, Value};

/// Someone who may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Their tenant.
    pub tenant: TenantId,
    /// Their row.
    pub id: UserId,
    /// Their address as they wrote it.
    pub email: String,
    /// Their name.
    pub name: String,
    /// `member`, `admin` or `owner`.
    pub role: String,
    /// What their password is checked against.
    pub password_hash: String,
}

/// A sign-in that was presented, and its person as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedSignIn {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its row.
    pub id: SignInId,
    /// Who signed in.
    pub user: UserId,
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// `member`, `admin` or `owner`.
    pub role: String,
    /// That of the refresh token which is good now.
    pub generation: i64,
    /// When they signed in.
    pub created_at: At,
    /// When it is over unless it is renewed.
    pub expires_at: At,
}

/// An API key that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedKey {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its row.
    pub id: ApiKeyId,
    /// JSON: a list of scopes.
    pub scopes: String,
    /// When it ends.
    pub expires_at: Option<At>,
    /// When it was taken back.
    pub revoked_at: Option<At>,
    /// When it was last seen.
    pub last_used_at: Option<At>,
}

/// A ticket that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedTicket {
    /// Its tenant.
    pub tenant: TenantId,
    /// Whom it speaks for.
    pub bearer: Bearer,
    /// When it is over.
    pub expires_at: At,
}

/// Whom a ticket speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A key, as it is now.
    Key(PresentedKey),
    /// A person who is signed in, and when the access token ends that they asked for the ticket with.
    Person(PresentedSignIn, At),
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last event's seq.
    pub version: i64,
    /// When it ended.
    pub finished_at: Option<At>,
}

/// Rows that one statement looks for. A shorter list is filled up with itself, so that there is one text to prepare.
const LOOKED_FOR: usize = 100;

const USER_BY_EMAIL: &str =
    "SELECT tenant_id, id, email, name, role, password_hash FROM users WHERE email_key = $1";
const KEY_BY_HASH: &str = "SELECT tenant_id, id, scopes, expires_at, revoked_at, last_used_at FROM api_keys
    WHERE key_hash = $1";
const KEY_BY_ID: &str = "SELECT tenant_id, id, scopes, expires_at, revoked_at, last_used_at FROM api_keys
    WHERE tenant_id = $1 AND id = $2";
const SIGN_IN: &str =
    "SELECT s.tenant_id, s.id, s.user_id, u.email, u.name, u.role, s.generation, s.created_at, s.expires_at
    FROM sign_ins s JOIN users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
    WHERE s.tenant_id = $1 AND s.id = $2";
const TICKET_BY_HASH: &str =
    "SELECT tenant_id, key_id, sign_in_id, session_ends_at, expires_at FROM tickets WHERE hash = $1";
const ANY_USER: &str = "SELECT 1 AS one FROM users LIMIT 1";
const TENANTS: &str = "SELECT count(*) AS tenants FROM tenants";
const SETTING: &str = "SELECT value FROM settings WHERE name = $1";
const KEEP_SETTING: &str = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";

static PROGRESS: LazyLock<String> =
    LazyLock::new(|| any_of("SELECT tenant_id, id, version, finished_at FROM runs"));
static SESSIONS: LazyLock<String> = LazyLock::new(|| {
    any_of("SELECT tenant_id, id, exchanges AS version, stopped_at AS finished_at FROM sessions")
});
static KEYS: LazyLock<String> = LazyLock::new(|| {
    any_of("SELECT tenant_id, id, scopes, expires_at, revoked_at, last_used_at FROM api_keys")
});
static SIGN_INS: LazyLock<String> =
    LazyLock::new(|| any_of("SELECT tenant_id, id, expires_at FROM sign_ins"));

/// Every statement of this file, all across tenants.
#[cfg(feature = "testing")]
pub(crate) fn statements() -> Vec<&'static str> {
    let fixed = [
        USER_BY_EMAIL,
        KEY_BY_HASH,
        KEY_BY_ID,
        SIGN_IN,
        TICKET_BY_HASH,
        ANY_USER,
        TENANTS,
        SETTING,
        KEEP_SETTING,
    ];
    fixed
        .into_iter()
        .chain([PROGRESS.as_str(), SESSIONS.as_str(), KEYS.as_str(), SIGN_INS.as_str()])
        .collect()
}

/// A statement for rows of which tenant and id are known. Spelt out, because the databases have no list in common, and
/// because both then use the primary key for each.
fn any_of(select: &str) -> String {
    let pairs = (0..LOOKED_FOR).map(|n| format!("(tenant_id = ${} AND id = ${})", 2 * n + 1, 2 * n + 2));
    format!("{select} WHERE {}", pairs.collect::<Vec<_>>().join(" OR "))
}

/// The account of an address in lower case.
pub async fn user_by_email(db: &Db, email_key: String) -> Result<Option<Account>> {
    let found = db
        .system_read(move |tx| Box::pin(async move { tx.one(USER_BY_EMAIL, &[email_key.into()]).await }))
        .await?;
    found.map(|row| Account::of(&row)).transpose()
}

impl Account {
    pub(crate) fn of(row: &Row) -> Result<Self> {
        Ok(Self {
            tenant: row.id("tenant_id")?,
            id: row.id("id")?,
            email: row.text("email")?,
            name: row.text("name")?,
            role: row.text("role")?,
            password_hash: row.text("password_hash")?,
        })
    }
}

/// Whether anybody at all can sign in.
pub async fn any_user(db: &Db) -> Result<bool> {
    let found = db.system_read(|tx| Box::pin(async move { tx.one(ANY_USER, &[]).await })).await?;
    Ok(found.is_some())
}

/// The key with this hash, expired and revoked ones too: the caller judges.
pub async fn key_by_hash(db: &Db, hash: Digest) -> Result<Option<PresentedKey>> {
    let found = db
        .system_glance(move |tx| Box::pin(async move { tx.one(KEY_BY_HASH, &[hash.into()]).await }))
        .await?;
    found.map(|row| key(&row)).transpose()
}

/// The sign-in of this id with its person, one that is over too: the caller judges.
pub async fn sign_in(db: &Db, tenant: TenantId, id: SignInId) -> Result<Option<PresentedSignIn>> {
    let find = db.system_glance(move |tx| Box::pin(find_sign_in(tx, tenant, id)));
    find.await
}

/// The ticket with this hash and whom it speaks for, those that are over or speak for a revoked key too: the caller
/// judges. One whose key or sign-in is gone is as good as none. Used up by [`tickets::spend`](crate::tickets::spend).
pub async fn ticket_by_hash(db: &Db, hash: Digest) -> Result<Option<PresentedTicket>> {
    let find = db.system_glance(move |tx| {
        Box::pin(async move {
            let Some(row) = tx.one(TICKET_BY_HASH, &[hash.into()]).await? else { return Ok(None) };
            let tenant: TenantId = row.id("tenant_id")?;
            let (key_id, sign_in) = (row.opt_id::<ApiKeyId>("key_id")?, row.opt_id("sign_in_id")?);
            let (ends_at, expires_at) = (row.opt_at("session_ends_at")?, row.at("expires_at")?);
            let bearer = match (key_id, sign_in, ends_at) {
                (Some(id), ..) => {
                    let found = tx.one(KEY_BY_ID, &[tenant.into(), id.into()]).await?;
                    found.map(|row| key(&row).map(Bearer::Key)).transpose()?
                }
                (None, Some(id), Some(until)) => {
                    let found = find_sign_in(tx, tenant, id).await?;
                    found.map(|sign_in| Bearer::Person(sign_in, until))
                }
                // A build that knew no sign-ins has made it.
                (None, ..) => None,
            };
            Ok(bearer.map(|bearer| PresentedTicket { tenant, bearer, expires_at }))
        })
    });
    find.await
}

/// How far these runs, and sessions that are watched as runs, have come, in no order; those that are gone are left out.
pub(crate) async fn progress(db: &Db, runs: Vec<(TenantId, RunId)>) -> Result<Vec<(RunId, Progress)>> {
    let mut rows = look_for(db, &PROGRESS, runs.clone()).await?;
    if rows.len() < runs.len() {
        let found: Vec<RunId> = rows.iter().map(|row| row.id("id")).collect::<Result<_>>()?;
        let rest = runs.into_iter().filter(|(_, id)| !found.contains(id)).collect();
        rows.extend(look_for(db, &SESSIONS, rest).await?);
    }
    let read = |row: &Row| {
        Ok((
            row.id("id")?,
            Progress { version: row.int("version")?, finished_at: row.opt_at("finished_at")? },
        ))
    };
    rows.iter().map(read).collect()
}

/// These keys as they are now, in no order; those that are gone are left out.
pub async fn keys(db: &Db, keys: Vec<(TenantId, ApiKeyId)>) -> Result<Vec<PresentedKey>> {
    look_for(db, &KEYS, keys).await?.iter().map(key).collect()
}

/// When these sign-ins are over, in no order; those that have ended are left out.
pub async fn sign_ins(db: &Db, ids: Vec<(TenantId, SignInId)>) -> Result<Vec<((TenantId, SignInId), At)>> {
    let read = |row: &Row| Ok(((row.id("tenant_id")?, row.id("id")?), row.at("expires_at")?));
    look_for(db, &SIGN_INS, ids).await?.iter().map(read).collect()
}

async fn look_for<Id: Copy + Into<Value> + Send + Sync + 'static>(
    db: &Db,
    sql: &'static str,
    ids: Vec<(TenantId, Id)>,
) -> Result<Vec<Row>> {
    db.system_read(move |tx| {
        Box::pin(async move {
            let mut found = Vec::with_capacity(ids.len());
            for some in ids.chunks(LOOKED_FOR) {
                let filled = some.iter().copied().cycle().take(LOOKED_FOR);
                let params: Vec<Value> = filled.flat_map(|(tenant, id)| [tenant.into(), id.into()]).collect();
                found.append(&mut tx.all(sql, &params).await?);
            }
            Ok(found)
        })
    })
    .await
}

/// Answers whenever the database does: the readiness check.
pub async fn ping(db: &Db) -> Result<()> {
    db.system_read(|tx| Box::pin(async move { tx.one(TENANTS, &[]).await.map(drop) })).await
}

/// The installation's setting of this name.
pub async fn find_setting(db: &Db, name: &'static str) -> Result<Option<Vec<u8>>> {
    let find = db.system_glance(move |tx| Box::pin(async move { tx.one(SETTING, &[name.into()]).await }));
    find.await?.map(|row| row.bytes("value")).transpose()
}

/// The installation's setting of this name; `value` becomes it, for good, when there is none yet. In that case `first`
/// runs before anybody else sees the setting, and when it fails there still is none.
pub async fn keep_setting(
    db: &Db,
    name: &'static str,
    value: Vec<u8>,
    first: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<Vec<u8>> {
    db.system_write(move |tx| {
        Box::pin(async move {
            if tx.exec(KEEP_SETTING, &[name.into(), value.clone().into()]).await? > 0 {
                first()?;
                return Ok(value);
            }
            let kept = tx.one(SETTING, &[name.into()]).await?;
            kept.ok_or(Error::Conflict)?.bytes("value")
        })
    })
    .await
}

fn key(row: &Row) -> Result<PresentedKey> {
    Ok(PresentedKey {
        tenant: row.id("tenant_id")?,
        id: row.id("id")?,
        scopes: row.text("scopes")?,
        expires_at: row.opt_at("expires_at")?,
        revoked_at: row.opt_at("revoked_at")?,
        last_used_at: row.opt_at("last_used_at")?,
    })
}

async fn find_sign_in(
    tx: &mut SystemTx<'_>,
    tenant: TenantId,
    id: SignInId,
) -> Result<Option<PresentedSignIn>> {
    let read = |row: Row| {
        Ok(PresentedSignIn {
            tenant: row.id("tenant_id")?,
            id: row.id("id")?,
            user: row.id("user_id")?,
            email: row.text("email")?,
            name: row.text("name")?,
            role: row.text("role")?,
            generation: row.int("generation")?,
            created_at: row.at("created_at")?,
            expires_at: row.at("expires_at")?,
        })
    };
    tx.one(SIGN_IN, &[tenant.into(), id.into()]).await?.map(read).transpose()
}
