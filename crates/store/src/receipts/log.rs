//! A tenant's log, as it is kept: tiles, and signed heads.
//!
//! Invariant: a head is written with the tiles that it covers. Proofs are computed from tiles, a handful for each.

use lantern_policy::Scope;
use lantern_receipts::merkle::{self, Nodes};
use lantern_receipts::tile::{self as tiles, Kind, Tile, Tiles};
use lantern_types::{At, Digest};

use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::{Error, Result};
use crate::value::Value;

/// How far a log has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The log's name.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
}

const HEAD: &str = "SELECT origin, size FROM log_heads WHERE tenant_id = $1";
const BEGIN: &str =
    "INSERT INTO log_heads (tenant_id, origin, size) VALUES ($1, $2, 0) ON CONFLICT (tenant_id) DO NOTHING";
const GROW: &str = "UPDATE log_heads SET size = $3 WHERE tenant_id = $1 AND size = $2";
const TILE: &str = "SELECT hashes FROM log_tiles WHERE tenant_id = $1 AND kind = $2 AND n = $3";
const KEEP_TILE: &str = "INSERT INTO log_tiles (tenant_id, kind, n, hashes) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant_id, kind, n) DO UPDATE SET hashes = excluded.hashes";
const KEEP_NOTE: &str = "INSERT INTO log_checkpoints (tenant_id, size, note, at) VALUES ($1, $2, $3, $4)";
const NOTE: &str = "SELECT note FROM log_checkpoints WHERE tenant_id = $1 AND size = $2";
const LAST_NOTE: &str = "SELECT note FROM log_checkpoints WHERE tenant_id = $1 ORDER BY size DESC LIMIT 1";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[HEAD, BEGIN, GROW, TILE, KEEP_TILE, KEEP_NOTE, NOTE, LAST_NOTE];

/// How far a tenant's log has come; `None` when it has no receipt yet.
pub async fn head(db: &Db, scope: Scope) -> Result<Option<Head>> {
    db.read(scope, |tx| Box::pin(find_head(tx))).await
}

pub(super) async fn find_head(tx: &mut TenantTx<'_>) -> Result<Option<Head>> {
    let row = tx.one(HEAD, &[]).await?;
    row.map(|row| Ok(Head { origin: row.text("origin")?, size: row.int("size")?.unsigned_abs() })).transpose()
}

/// Begins a log, unless it was begun. Its name stays what it was first.
pub(super) async fn begin(db: &Db, scope: Scope, origin: &str) -> Result<()> {
    let origin = origin.to_owned();
    db.write(scope, move |tx| Box::pin(async move { tx.exec(BEGIN, &[origin.into()]).await })).await.map(drop)
}

/// The signed head over so many leaves, or the last one. `None` when nobody signed one there.
pub async fn checkpoint(db: &Db, scope: Scope, size: Option<u64>) -> Result<Option<String>> {
    db.read(scope, move |tx| Box::pin(find_note(tx, size))).await
}

pub(super) async fn find_note(tx: &mut TenantTx<'_>, size: Option<u64>) -> Result<Option<String>> {
    let row = match size {
        Some(size) => tx.one(NOTE, &[number(size)?]).await?,
        None => tx.one(LAST_NOTE, &[]).await?,
    };
    row.map(|row| row.text("note")).transpose()
}

/// The hashes of a tile, as many as `width` asks for; `None` when it does not have so many.
pub async fn tile(db: &Db, scope: Scope, tile: Tile, width: usize) -> Result<Option<Vec<u8>>> {
    let found = db.read(scope, move |tx| Box::pin(async move { find_tile(tx, tile).await }));
    Ok(found.await?.and_then(|hashes| hashes.get(..width * 32).map(<[u8]>::to_vec)))
}

/// The proof that a leaf is under the head over so many; `None` when there are not so many.
pub async fn inclusion(db: &Db, scope: Scope, index: u64, size: u64) -> Result<Option<Vec<Digest>>> {
    proof(db, scope, size, move |nodes| merkle::inclusion(index, size, nodes)).await
}

/// The proof that one head is followed by another; `None` when there are not so many leaves, or `from` is none or more.
pub async fn consistency(db: &Db, scope: Scope, from: u64, to: u64) -> Result<Option<Vec<Digest>>> {
    proof(db, scope, to, move |nodes| merkle::consistency(from, to, nodes)).await
}

async fn proof(
    db: &Db,
    scope: Scope,
    size: u64,
    ask: impl Fn(&mut Nodes<'_>) -> Option<Vec<Digest>> + Send + 'static,
) -> Result<Option<Vec<Digest>>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            if find_head(tx).await?.is_none_or(|head| head.size < size) {
                return Ok(None);
            }
            if ask(&mut |_, _| Some(merkle::empty())).is_none() {
                return Ok(None);
            }
            let found = find_tiles(tx, tiles::needed(|nodes| ask(nodes))).await?;
            let proof = ask(&mut |level, n| tiles::find(&found, level, n));
            proof.map(Some).ok_or_else(|| Error::Corrupt("the log has lost a tile".into()))
        })
    })
    .await
}

/// These tiles, as far as they are there.
pub(super) async fn find_tiles(tx: &mut TenantTx<'_>, needed: Vec<Tile>) -> Result<Tiles> {
    let mut found = Tiles::new();
    for tile in needed {
        if let Some(hashes) = find_tile(tx, tile).await? {
            found.insert(tile, hashes);
        }
    }
    Ok(found)
}

async fn find_tile(tx: &mut TenantTx<'_>, tile: Tile) -> Result<Option<Vec<u8>>> {
    let row = tx.one(TILE, &[kind(tile.kind), number(tile.n)?]).await?;
    row.map(|row| row.bytes("hashes")).transpose()
}

/// Adds what makes a log grow to a batch, its guard first: who appended meanwhile makes the batch a `Conflict`.
pub(super) fn grow(
    batch: &mut Batch,
    before: u64,
    grown: tiles::Grown,
    (note, at): (String, At),
) -> Result<()> {
    batch.add(GROW, vec![number(before)?, number(grown.size)?], Expect::Rows(1));
    for (tile, hashes) in grown.tiles {
        batch.add(KEEP_TILE, vec![kind(tile.kind), number(tile.n)?, hashes.into()], Expect::Rows(1));
    }
    batch.add(KEEP_NOTE, vec![number(grown.size)?, note.into(), at.into()], Expect::Rows(1));
    Ok(())
}

fn kind(kind: Kind) -> Value {
    Value::Int(match kind {
        Kind::Entries => -1,
        Kind::Level(level) => level.into(),
    })
}

pub(super) fn number(number: u64) -> Result<Value> {
    let number = i64::try_from(number);
    number.map(Value::Int).map_err(|_| Error::Misuse("a number that no log has".to_owned()))
}
