//! The master key of this process's database.
//!
//! Invariant: every process of a database has the same master key, the one that it began with. Another one could read
//! nothing, and would strand the runs that it takes up. A key file gets its name only after that beginning, so that an embedded
//! database that has not begun beside one is another than it was: lost or damaged, and never begun anew.

use std::path::Path;

use anyhow::{Context as _, Result};
use lantern_store::system::{find_setting, keep_setting};
use lantern_store::{Db, Error, Keys};
use lantern_types::edge::IdGen;
use lantern_types::{Digest, Secret};

use super::advice::{self, Advice};
use crate::env;

/// The setting that tells the key of a database from others.
const CHECK: &str = "key-check";

/// The key from the environment or from the key file in `dir`; for a new database without either, a new key file. `embedded`: the
/// database lies in `dir` as well.
pub(super) async fn of(db: &Db, dir: &Path, ids: &dyn IdGen, embedded: bool) -> Result<Keys> {
    let credential = env::get(env::CREDENTIAL_KEY).map(Secret::new);
    let unusable = |error| advice::key(error, dir, credential.is_some());
    let find = || Keys::find(credential.as_ref(), dir).map_err(unusable);
    let began = find_setting(db, CHECK).await.context("cannot read the settings")?;
    if let Some(keys) = find()? {
        if began.is_none() && embedded && credential.is_none() {
            return Err(lost(dir).into());
        }
        return same(db, keys).await;
    }
    if began.is_none()
        && let Some(keys) = begin(db, dir, ids).await?
    {
        return Ok(keys);
    }
    // Somebody may have begun in the meantime, and in this folder; or have died before the file had its name.
    if let Some(keys) = find()? {
        return same(db, keys).await;
    }
    match Keys::prepared(dir).map_err(unusable)? {
        Some(keys)
            if find_setting(db, CHECK).await.context("cannot read the settings")? == Some(check(&keys)?) =>
        {
            Keys::keep_file(dir).map_err(unusable)?;
            Ok(keys)
        }
        _ => Err(missing(dir).into()),
    }
}

/// The operator's own key for receipts, if there is one.
pub(super) fn of_receipts() -> Result<Option<Secret<[u8; 32]>>> {
    let Some(text) = env::get(env::RECEIPT_SEED).map(Secret::new) else { return Ok(None) };
    let next = format!("set {} to 32 bytes as hex or base64, or not at all", env::RECEIPT_SEED);
    let seed = Keys::seed(&text);
    seed.map(Some).ok_or_else(|| Advice::key("the key for receipts is no key", next).into())
}

/// A new key in a new file, unless somebody else begins the database or makes the file first.
async fn begin(db: &Db, dir: &Path, ids: &dyn IdGen) -> Result<Option<Keys>> {
    let keys = Keys::from_ids(ids);
    let (mine, file, folder) = (check(&keys)?, keys.clone(), dir.to_owned());
    match keep_setting(db, CHECK, mine.clone(), move || file.prepare_file(&folder)).await {
        Ok(kept) if kept == mine => {
            Keys::keep_file(dir).map_err(|error| advice::key(error, dir, false))?;
            Ok(Some(keys))
        }
        Ok(_) => Ok(None),
        Err(Error::Conflict) => Ok(None),
        Err(error @ (Error::File { .. } | Error::Full)) => Err(advice::key(error, dir, false)),
        Err(error) => Err(error).context("cannot keep the settings"),
    }
}

/// These keys, when they are the database's or it has none yet.
async fn same(db: &Db, keys: Keys) -> Result<Keys> {
    let mine = check(&keys)?;
    let kept = keep_setting(db, CHECK, mine.clone(), || Ok(())).await.context("cannot keep the settings")?;
    if kept == mine {
        return Ok(keys);
    }
    let next = format!("set {} to that key, or give this process its key file", env::CREDENTIAL_KEY);
    Err(Advice::key("the master key is not the one that sealed this database", next).into())
}

fn check(keys: &Keys) -> Result<Vec<u8>> {
    let key = keys.derive(CHECK).context("cannot derive a key")?;
    Ok(Digest::of(key.expose()).bytes().to_vec())
}

fn lost(dir: &Path) -> Advice {
    let (damaged, dir) = (advice::DAMAGED.0, dir.display());
    Advice::new(
        damaged,
        format!("{dir} has a key file, and the database in it is empty: it is not the one that the key belongs to"),
        "put the database back (lantern.db, and lantern.db-wal beside it) or restore a backup; to begin anew, remove lantern.key"
            .to_owned(),
    )
}

fn missing(dir: &Path) -> Advice {
    let (variable, dir) = (env::CREDENTIAL_KEY, dir.display());
    Advice::key(
        format!("the database has a master key, but {variable} is not set and there is no key file in {dir}"),
        format!(
            "set {variable} to the key that this database began with, or put its key file, lantern.key, into {dir}"
        ),
    )
}
