//! The audit log of each tenant: entries that are only added, chained by their hashes, and how far the chain has come.
//!
//! Invariant: an append moves the head on from where it was read, so that of two at once one is made again after the other. No
//! statement changes or removes an entry. The head bears a mac under a key that is derived from the instance key: who can write to
//! the database and has no key can neither change an entry nor make a new chain that [`verify`] takes.

pub mod chain;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use lantern_policy::Scope;
use lantern_types::{At, Digest, TenantId, UserId};
use uuid::Uuid;

use crate::db::{Batch, Db, Expect, Where};
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::value::{Row, Value};
pub use chain::{Entry, Link};

/// Entries that are read at once.
const PAGE: u32 = 500;
/// Appends of other processes that one append makes way for before it gives up.
const TRIES: u32 = 20;

const HEAD: &str = "SELECT size, hash, mark, (SELECT max(id) FROM audit_entries WHERE tenant_id = $1) AS last
    FROM audit_heads WHERE tenant_id = $1";
const BEGIN: &str = "INSERT INTO audit_heads (tenant_id, size, hash, mark) VALUES ($1, 0, $2, $3)
    ON CONFLICT (tenant_id) DO NOTHING";
const MOVE: &str =
    "UPDATE audit_heads SET size = $3, hash = $4, mark = $5 WHERE tenant_id = $1 AND size = $2";
const ADD: &str =
    "INSERT INTO audit_entries (tenant_id, id, at, actor, principal_id, action, resource, outcome,
    status, code, times, before_digest, after_digest, request_id, source, hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
const LIST: &str = "SELECT id, at, actor, principal_id, action, resource, outcome, status, code, times,
    before_digest, after_digest, request_id, source, hash FROM audit_entries WHERE tenant_id = $1";

const HASH: &str = "SELECT hash FROM audit_entries WHERE tenant_id = $1 AND id = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[HEAD, BEGIN, MOVE, ADD, LIST, HASH];

/// Marks heads, and knows its marks again.
#[derive(Clone)]
pub struct Marks(hmac::Key);

impl Marks {
    /// Those of this instance: every process with the same key makes the same.
    pub fn new(keys: &Keys) -> Result<Self> {
        Ok(Self(hmac::Key::new(HMAC_SHA256, keys.derive("audit-head-mac")?.expose())))
    }

    fn over(&self, tenant: TenantId, size: i64, hash: Digest) -> Vec<u8> {
        hmac::sign(&self.0, &said(tenant, size, hash)).as_ref().to_vec()
    }

    fn is_over(&self, tenant: TenantId, size: i64, hash: Digest, mark: &[u8]) -> bool {
        hmac::verify(&self.0, &said(tenant, size, hash), mark).is_ok()
    }
}

fn said(tenant: TenantId, size: i64, hash: Digest) -> Vec<u8> {
    [tenant.uuid().as_bytes().as_slice(), &size.to_be_bytes(), hash.bytes()].concat()
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number, from 1 and without gaps.
    pub id: i64,
    /// What it says.
    pub entry: Entry,
    /// Its hash.
    pub hash: Digest,
}

/// Which entries a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these actions.
    pub actions: Vec<String>,
    /// Of these outcomes.
    pub outcomes: Vec<String>,
    /// Of this person or key.
    pub principal: Option<Uuid>,
    /// About this path.
    pub resource: Option<String>,
    /// Of this request.
    pub request: Option<Uuid>,
    /// From this time on.
    pub since: Option<At>,
    /// Before this time.
    pub until: Option<At>,
    /// Older than this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

#[derive(Clone, Copy)]
struct Head {
    size: i64,
    hash: Digest,
    last: i64,
}

/// Adds entries in this order, durably. `Conflict` when others kept adding to the same log.
pub async fn append(db: &Db, scope: Scope, marks: &Marks, entries: &[Entry]) -> Result<()> {
    let tenant = scope.tenant();
    for _ in 0..TRIES {
        let head = head(db, scope)
            .await?
            .map_or_else(|| Head { size: 0, hash: nothing(), last: 0 }, |(head, _)| head);
        let (mut id, mut hash, mut adds) = (head.size, head.hash, Vec::with_capacity(entries.len()));
        for entry in entries {
            id += 1;
            hash = chain::hash(&entry.line(tenant, id, hash));
            adds.push(row(id, entry, hash));
        }
        let mut batch = Batch::new();
        if head.size == 0 {
            let mark = marks.over(tenant, 0, nothing());
            batch.add(BEGIN, vec![nothing().into(), mark.into()], Expect::Any);
        }
        let mark = marks.over(tenant, id, hash);
        batch.add(MOVE, vec![head.size.into(), id.into(), hash.into(), mark.into()], Expect::Rows(1));
        for add in adds {
            batch.add(ADD, add, Expect::Rows(1));
        }
        match db.submit(scope, batch).await {
            Err(Error::Conflict) => {}
            done => return done.map(drop),
        }
    }
    Err(Error::Conflict)
}

/// The newest entries first.
pub async fn list(db: &Db, scope: Scope, filter: Filter) -> Result<Vec<Kept>> {
    let Filter { actions, outcomes, principal, resource, request, since, until, before, limit } = filter;
    let which = Where::new()
        .any_of("action", &actions)
        .any_of("outcome", &outcomes)
        .eq("principal_id", principal.map(UserId::from_uuid))
        .eq("resource", resource)
        .eq("request_id", request.map(UserId::from_uuid))
        .at_least("at", since)
        .below("at", until)
        .below("id", before);
    db.read(scope, move |tx| {
        Box::pin(async move { tx.all_where(LIST, which, "id DESC", limit).await?.iter().map(read).collect() })
    })
    .await
}

/// Entries after this one, the oldest first, and at most a page of them.
pub async fn after(db: &Db, scope: Scope, id: i64) -> Result<Vec<Kept>> {
    let which = Where::new().at_least("id", Some(id.saturating_add(1)));
    db.read(scope, move |tx| {
        Box::pin(async move { tx.all_where(LIST, which, "id", PAGE).await?.iter().map(read).collect() })
    })
    .await
}

/// The hash of this entry; of the first one's predecessor, and of one that is not there, that of nothing.
pub async fn hash_of(db: &Db, scope: Scope, id: i64) -> Result<Digest> {
    let found = db.glance(scope, move |tx| Box::pin(async move { tx.one(HASH, &[id.into()]).await }));
    found.await?.map_or_else(|| Ok(nothing()), |row| row.digest("hash"))
}

/// What became of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many entries are as they were.
    pub entries: i64,
    /// The hash of the last of them.
    pub head: Digest,
    /// The first that is not.
    pub broken: Option<Broken>,
}

/// An entry that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number.
    pub id: i64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Follows the whole chain, and names the first entry that is not as it was written.
pub async fn verify(db: &Db, scope: Scope, marks: &Marks) -> Result<Verified> {
    let (mut id, mut hash) = (0, nothing());
    let Some((head, mark)) = head(db, scope).await? else {
        let broken = after(db, scope, 0).await?.first().map(|first| Broken { id: first.id, why: NO_HEAD });
        return Ok(Verified { entries: 0, head: hash, broken });
    };
    let stopped = |entries, hash, id, why| Verified { entries, head: hash, broken: Some(Broken { id, why }) };
    while id < head.size {
        let page = after(db, scope, id).await?;
        // What is beyond the head does not fill a gap before it.
        if page.first().is_none_or(|first| first.id != id + 1) {
            return Ok(stopped(id, hash, id + 1, MISSING));
        }
        for kept in page.into_iter().take_while(|kept| kept.id <= head.size) {
            if kept.id != id + 1 {
                return Ok(stopped(id, hash, id + 1, MISSING));
            }
            let line = chain::hash(&kept.entry.line(scope.tenant(), kept.id, hash));
            if line != kept.hash {
                return Ok(stopped(id, hash, kept.id, CHANGED));
            }
            (id, hash) = (kept.id, line);
        }
    }
    if head.last > head.size {
        return Ok(stopped(id, hash, head.size + 1, ADDED));
    }
    if hash != head.hash || !marks.is_over(scope.tenant(), head.size, head.hash, &mark) {
        return Ok(stopped(id, hash, head.size, NOT_OURS));
    }
    Ok(Verified { entries: id, head: hash, broken: None })
}

const MISSING: &str = "it is missing";
const CHANGED: &str = "it, or one before it, is not what it was when it was written";
const ADDED: &str = "it was added by somebody else than this server";
const NO_HEAD: &str = "the log has entries, and its head is missing";
const NOT_OURS: &str = "the head of the log, which leads to it, was not written by this server";

async fn head(db: &Db, scope: Scope) -> Result<Option<(Head, Vec<u8>)>> {
    let found = db.glance(scope, |tx| Box::pin(async move { tx.one(HEAD, &[]).await })).await?;
    let read = |row: Row| {
        let last = row.opt_int("last")?.unwrap_or_default();
        Ok((Head { size: row.int("size")?, hash: row.digest("hash")?, last }, row.bytes("mark")?))
    };
    found.map(read).transpose()
}

fn nothing() -> Digest {
    Digest::from_bytes(&chain::NOTHING).unwrap_or_else(|| Digest::of(&[]))
}

fn row(id: i64, entry: &Entry, hash: Digest) -> Vec<Value> {
    vec![
        id.into(),
        entry.at.into(),
        entry.actor.as_str().into(),
        entry.principal.map(UserId::from_uuid).into(),
        entry.action.as_str().into(),
        entry.resource.as_str().into(),
        entry.outcome.as_str().into(),
        i64::from(entry.status).into(),
        entry.code.clone().into(),
        entry.times.into(),
        entry.before.into(),
        entry.after.into(),
        entry.request.into(),
        entry.source.clone().into(),
        hash.into(),
    ]
}

fn read(row: &Row) -> Result<Kept> {
    let digest = |name: &str| -> Result<Option<Digest>> {
        Ok(row.opt_bytes(name)?.and_then(|bytes| Digest::from_bytes(&bytes)))
    };
    // A number that is none of ours is not what was written, and its hash says so.
    let small = |name: &str| Ok::<_, Error>(row.int(name)?.max(0));
    let entry = Entry {
        at: row.at("at")?,
        actor: row.text("actor")?,
        principal: row.opt_id::<UserId>("principal_id")?.map(UserId::uuid),
        action: row.text("action")?,
        resource: row.text("resource")?,
        outcome: row.text("outcome")?,
        status: u16::try_from(small("status")?).unwrap_or(u16::MAX),
        code: row.opt_text("code")?,
        times: u32::try_from(small("times")?).unwrap_or(u32::MAX),
        before: digest("before_digest")?,
        after: digest("after_digest")?,
        request: row.id("request_id")?,
        source: row.opt_text("source")?,
    };
    Ok(Kept { id: row.int("id")?, entry, hash: row.digest("hash")? })
}
