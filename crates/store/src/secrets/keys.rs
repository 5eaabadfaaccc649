//! The data keys of a tenant's secrets, wrapped by the master key, and how one follows another while everybody goes on.
//!
//! Invariant: new values are sealed under the newest key. A key is removed when no value is sealed under it, which a foreign key
//! guards, so that there is no moment in which a value cannot be opened. How far a change of keys has come is in the rows: whoever
//! goes on with it needs to know nothing else.

use lantern_policy::Scope;
use lantern_types::{At, SecretId, SecretName};
use zeroize::Zeroize as _;

use super::{open, place, place_row};
use crate::error::{Error, Result};
use crate::seal::{DataKey, Place, Sealer};
use crate::value::{Row, Value};

/// What data keys are wrapped for: the table and the column that they lie in.
const WRAPPED: &str = "secret_keys.wrapped";

const NEWEST: &str = "SELECT version AS key_version, wrapped FROM secret_keys WHERE tenant_id = $1
    ORDER BY version DESC LIMIT 1";
// Only upon the one before it: of two that follow the same key, one is made.
const MAKE: &str = "INSERT INTO secret_keys (tenant_id, version, wrapped, created_at)
    SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM secret_keys WHERE tenant_id = $1 AND version >= $2)
    ON CONFLICT (tenant_id, version) DO NOTHING";
const LIST: &str = "SELECT k.version, k.created_at,
    (SELECT count(*) FROM secret_versions v WHERE v.tenant_id = k.tenant_id AND v.key_version = k.version) AS sealed
    FROM secret_keys k WHERE k.tenant_id = $1 ORDER BY k.version DESC";
const OLDER: &str = "SELECT s.id, s.name, v.version, v.sealed, k.version AS key_version, k.wrapped
    FROM secret_versions v
    JOIN secrets s ON s.tenant_id = v.tenant_id AND s.id = v.secret_id
    JOIN secret_keys k ON k.tenant_id = v.tenant_id AND k.version = v.key_version
    WHERE v.tenant_id = $1 AND v.key_version < $2 ORDER BY v.secret_id, v.version LIMIT $3";
const RESEAL: &str = "UPDATE secret_versions SET sealed = $6, key_version = $5
    WHERE tenant_id = $1 AND secret_id = $2 AND version = $3 AND key_version = $4";
const LEFT: &str =
    "SELECT count(*) AS remaining FROM secret_versions WHERE tenant_id = $1 AND key_version < $2";
const RETIRE: &str = "DELETE FROM secret_keys WHERE tenant_id = $1 AND version < $2 AND NOT EXISTS
    (SELECT 1 FROM secret_versions v WHERE v.tenant_id = $1 AND v.key_version = secret_keys.version)";

#[cfg(feature = "testing")]
pub(super) const STATEMENTS: &[&str] = &[NEWEST, MAKE, LIST, OLDER, RESEAL, LEFT, RETIRE];

/// A data key, without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its number, from 1.
    pub version: i64,
    /// When it was made.
    pub created_at: At,
    /// How many values are sealed under it.
    pub sealed: i64,
}

/// How far a change of keys has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rekeyed {
    /// The key that values are sealed under now; 0 when the tenant has none, because it never had a secret.
    pub key: i64,
    /// How many values were sealed anew by this call.
    pub resealed: u32,
    /// How many are sealed under older keys still.
    pub remaining: i64,
}

/// The newest key; the first one is made here.
pub(super) async fn newest(sealer: &Sealer, scope: Scope) -> Result<(i64, DataKey)> {
    let row = match find_newest(sealer, scope).await? {
        Some(row) => row,
        None => {
            make(sealer, scope, 1).await?;
            find_newest(sealer, scope).await?.ok_or(Error::Conflict)?
        }
    };
    Ok((row.int("key_version")?, unwrapped(sealer, scope, &row)?))
}

/// The key in a row that has its number.
pub(super) fn unwrapped(sealer: &Sealer, scope: Scope, row: &Row) -> Result<DataKey> {
    let number = row.int("key_version")?.to_be_bytes();
    sealer.unwrap_for(scope, wrapping(&number), &row.bytes("wrapped")?)
}

pub(super) async fn list(sealer: &Sealer, scope: Scope) -> Result<Vec<KeyRow>> {
    let rows = sealer.db().read(scope, |tx| Box::pin(async move { tx.all(LIST, &[]).await })).await?;
    let read = |row: &Row| {
        Ok(KeyRow {
            version: row.int("version")?,
            created_at: row.at("created_at")?,
            sealed: row.int("sealed")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Seals up to `limit` values anew under the newest key. Makes that key first, unless a change of keys is under way, which it goes on
/// with, or the newest is `to` already. Call it again with `to` until nothing remains; the keys before it are gone then. Values can be
/// read and written all the while, by this process and others, and nothing is lost when it stops in the middle.
pub async fn rekey(sealer: &Sealer, scope: Scope, to: Option<i64>, limit: u32) -> Result<Rekeyed> {
    let keys = list(sealer, scope).await?;
    let Some(newest) = keys.first().map(|key| key.version) else {
        return Ok(Rekeyed { key: 0, resealed: 0, remaining: 0 });
    };
    if keys.len() == 1 && to.is_none_or(|to| to > newest) {
        make(sealer, scope, newest + 1).await?;
    }
    let (number, key) = self::newest(sealer, scope).await?;
    let asked: [Value; 2] = [number.into(), limit.into()];
    let older = sealer.db().read(scope, move |tx| Box::pin(async move { tx.all(OLDER, &asked).await }));
    let rows = older.await?;
    let mut anew = Vec::with_capacity(rows.len());
    for row in &rows {
        anew.push(resealed(sealer, scope, row, (number, &key))?);
    }
    let write = sealer.db().write(scope, move |tx| {
        Box::pin(async move {
            let mut resealed = 0;
            for params in &anew {
                // One that went in the meantime, or that another has sealed anew, is none of ours.
                resealed += u32::from(tx.exec(RESEAL, params).await? > 0);
            }
            let left = tx.one(LEFT, &[number.into()]).await?;
            let remaining = left.map(|row| row.int("remaining")).transpose()?.unwrap_or_default();
            Ok(Rekeyed { key: number, resealed, remaining })
        })
    });
    let done = write.await?;
    if done.remaining == 0 {
        retire(sealer, scope, number).await?;
    }
    Ok(done)
}

/// Removes the keys before this one that nothing is sealed under. Who writes under one of them at this moment keeps it.
async fn retire(sealer: &Sealer, scope: Scope, before: i64) -> Result<()> {
    let retire =
        sealer.db().write(scope, move |tx| Box::pin(async move { tx.exec(RETIRE, &[before.into()]).await }));
    match retire.await {
        Ok(_) | Err(Error::Conflict) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The parameters that put a row under another key.
fn resealed(sealer: &Sealer, scope: Scope, row: &Row, (number, key): (i64, &DataKey)) -> Result<[Value; 5]> {
    let (id, version): (SecretId, i64) = (row.id("id")?, row.int("version")?);
    let value = open(sealer, scope, row)?;
    let name: SecretName = super::name(row)?;
    let own = place_row(id, version, &name);
    let sealed = sealer.seal_under(key, scope, place(&own), value.expose().as_bytes())?;
    Ok([id.into(), version.into(), row.int("key_version")?.into(), number.into(), sealed.into()])
}

async fn find_newest(sealer: &Sealer, scope: Scope) -> Result<Option<Row>> {
    sealer.db().glance(scope, |tx| Box::pin(async move { tx.one(NEWEST, &[]).await })).await
}

/// Makes the key of this number, unless somebody has.
async fn make(sealer: &Sealer, scope: Scope, number: i64) -> Result<()> {
    let mut key = [0; 32];
    sealer.fill(&mut key);
    let wrapped = sealer.wrap(scope, wrapping(&number.to_be_bytes()), &key);
    key.zeroize();
    let made: [Value; 3] = [number.into(), wrapped?.into(), sealer.now().into()];
    sealer.db().write(scope, move |tx| Box::pin(async move { tx.exec(MAKE, &made).await })).await.map(drop)
}

const fn wrapping(number: &[u8]) -> Place<'_> {
    Place { purpose: WRAPPED, row: number }
}
