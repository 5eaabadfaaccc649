//! What is under way between browsers and issuers, before anybody knows whose it is, and whom an issuer's subject is.
//!
//! Invariant: a flow and a pass are used by the one statement that removes them, so of all who bring the same one has it. Rows hold
//! digests alone: who reads the database can go on with nothing. Those that are over are swept when another is kept. Who may have
//! one, for how long and what is in it are the caller's to say.

use lantern_types::{At, Digest, IdentityId};

use crate::db::Db;
use crate::error::Result;
use crate::system::Account;
use crate::value::{Row, Value};

/// Somebody who was sent to an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The digest of the state that the issuer hands back.
    pub hash: Digest,
    /// Which provider they were sent to.
    pub provider: String,
    /// The digest of what their browser shows beside it.
    pub browser: Digest,
    /// What is to come of it.
    pub wish: String,
    /// When it is over.
    pub expires_at: At,
}

/// Somebody who came back from an issuer and is not signed in yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The digest of its text.
    pub hash: Digest,
    /// The digest of what a program must show beside it; `None` for a browser's.
    pub bound: Option<Digest>,
    /// Who the issuer says that they are.
    pub proof: String,
    /// When it is over.
    pub expires_at: At,
}

const SWEEP_FLOWS: &str = "DELETE FROM sso_flows WHERE expires_at <= $1";
const KEEP_FLOW: &str =
    "INSERT INTO sso_flows (hash, provider, browser, wish, expires_at) SELECT $1, $2, $3, $4, $5
    WHERE (SELECT count(*) FROM (SELECT 1 FROM sso_flows LIMIT $6) AS waiting) < $6";
const FIND_FLOW: &str = "SELECT wish FROM sso_flows
    WHERE hash = $1 AND provider = $2 AND browser = $3 AND expires_at > $4";
const TAKE_FLOW: &str = "DELETE FROM sso_flows WHERE hash = $1 AND browser = $2";
const SWEEP_PASSES: &str = "DELETE FROM sso_passes WHERE expires_at <= $1";
const KEEP_PASS: &str = "INSERT INTO sso_passes (hash, bound, proof, expires_at) VALUES ($1, $2, $3, $4)";
const FIND_PASS: &str = "SELECT bound, proof, expires_at FROM sso_passes WHERE hash = $1 AND expires_at > $2";
const TAKE_PASS: &str = "DELETE FROM sso_passes WHERE hash = $1";
const FIND_PERSON: &str =
    "SELECT i.id AS identity_id, u.tenant_id, u.id, u.email, u.name, u.role, u.password_hash FROM identities i
    JOIN users u ON u.tenant_id = i.tenant_id AND u.id = i.user_id WHERE i.issuer = $1 AND i.subject = $2";

/// Every statement of this file, all of the system role.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[
    SWEEP_FLOWS,
    KEEP_FLOW,
    FIND_FLOW,
    TAKE_FLOW,
    SWEEP_PASSES,
    KEEP_PASS,
    FIND_PASS,
    TAKE_PASS,
    FIND_PERSON,
];

/// Keeps a flow. `false` when `most` are under way; then nothing is kept. Two that ask at once may both be told yes.
pub async fn keep_flow(db: &Db, flow: Flow, now: At, most: u32) -> Result<bool> {
    let Flow { hash, provider, browser, wish, expires_at } = flow;
    let row: [Value; 6] =
        [hash.into(), provider.into(), browser.into(), wish.into(), expires_at.into(), most.into()];
    db.system_write(move |tx| {
        Box::pin(async move {
            tx.exec(SWEEP_FLOWS, &[now.into()]).await?;
            Ok(tx.exec(KEEP_FLOW, &row).await? > 0)
        })
    })
    .await
}

/// Uses a flow up and answers its wish. `None` when there is none of this state, provider and browser that is not over: it stays
/// for whoever it belongs to.
pub async fn take_flow(
    db: &Db,
    hash: Digest,
    provider: String,
    browser: Digest,
    now: At,
) -> Result<Option<String>> {
    db.system_write(move |tx| {
        Box::pin(async move {
            let shown = [hash.into(), provider.into(), browser.into(), now.into()];
            let Some(row) = tx.one(FIND_FLOW, &shown).await? else { return Ok(None) };
            let taken = tx.exec(TAKE_FLOW, &[hash.into(), browser.into()]).await? > 0;
            if taken { row.text("wish").map(Some) } else { Ok(None) }
        })
    })
    .await
}

/// Keeps a pass.
pub async fn keep_pass(db: &Db, pass: Pass, now: At) -> Result<()> {
    let Pass { hash, bound, proof, expires_at } = pass;
    let bound = bound.map_or(Value::Null, Value::from);
    let row: [Value; 4] = [hash.into(), bound, proof.into(), expires_at.into()];
    db.system_write(move |tx| {
        Box::pin(async move {
            tx.exec(SWEEP_PASSES, &[now.into()]).await?;
            tx.exec(KEEP_PASS, &row).await.map(drop)
        })
    })
    .await
}

/// The pass with this hash, unless it is over.
pub async fn find_pass(db: &Db, hash: Digest, now: At) -> Result<Option<Pass>> {
    let find = db
        .system_read(move |tx| Box::pin(async move { tx.one(FIND_PASS, &[hash.into(), now.into()]).await }));
    let read = |row: Row| {
        let bound = row.opt_bytes("bound")?.and_then(|bytes| Digest::from_bytes(&bytes));
        Ok(Pass { hash, bound, proof: row.text("proof")?, expires_at: row.at("expires_at")? })
    };
    find.await?.map(read).transpose()
}

/// Uses a pass up. `false` when somebody else has.
pub async fn take_pass(db: &Db, hash: Digest) -> Result<bool> {
    let take = db.system_write(move |tx| Box::pin(async move { tx.exec(TAKE_PASS, &[hash.into()]).await }));
    Ok(take.await? > 0)
}

/// Who an issuer's subject is here, and by which identity.
pub async fn person(db: &Db, issuer: String, subject: String) -> Result<Option<(IdentityId, Account)>> {
    let find = db.system_read(move |tx| {
        Box::pin(async move { tx.one(FIND_PERSON, &[issuer.into(), subject.into()]).await })
    });
    let read = |row: Row| Ok((row.id("identity_id")?, Account::of(&row)?));
    find.await?.map(read).transpose()
}
