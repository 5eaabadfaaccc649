//! Backups of a data folder: one archive of the database, of the bodies that it names and, only when asked for, of the
//! key.
//!
//! Invariant: an archive is written under another name until it is whole, and its last part is a manifest of the others.
//! A folder is restored beside its name, and gets it only after every digest, the database's pages and the chain of every
//! run's journal were found right. The database is copied before the bodies: a body is there before a row names it.

mod archive;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Seek as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use lantern_types::{At, Digest, TenantId};
use serde_json::{Value, json};

use crate::db::{self, Contents};
use crate::error::{Error, Result};
use crate::partial::{Partial, sync_folder};
use crate::{blob, keys};
use archive::{Hashed, Part, Reader, Total, Writer};

/// The format that is written.
const FORMAT: i64 = 1;
const DATABASE: &str = "lantern.db";
const MANIFEST: &str = "manifest.json";
const BLOBS: &str = "blobs/";

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The number of the database's last migration.
    pub schema: i64,
    /// How many runs; the chain of each was followed to its end.
    pub runs: i64,
    /// How many large bodies.
    pub bodies: u64,
    /// Bodies that the database names and the folder did not have as they were written: they are in a bucket, were removed
    /// meanwhile, or the disk lost them.
    pub missing: u64,
    /// Whether the master key is in it.
    pub key: bool,
}

/// Writes a backup of a data folder, in which a server may run, to the new file `to`.
pub fn make(data_dir: &Path, to: &Path, with_key: bool, now: At) -> Result<Held> {
    if to.exists() {
        return Err(Error::Backup(format!("{} is there already", to.display())));
    }
    let key = data_dir.join(keys::FILE);
    if with_key && !key.is_file() {
        return Err(Error::Backup(format!("there is no key file in {}", data_dir.display())));
    }
    let (snapshot, _) = Partial::beside(&to.with_added_extension("db"))?;
    db::copy_of_folder(data_dir, snapshot.path())?;
    let mut named = HashSet::new();
    let contents = db::examine(snapshot.path(), &mut |tenant, digest| {
        named.insert((tenant, digest));
        Ok(())
    })?;
    let (partial, file) = Partial::beside(to)?;
    let mut writer = Writer::new(file, now);
    let database =
        writer.file(DATABASE, File::open(snapshot.path()).map_err(|e| reading(snapshot.path(), e))?)?;
    let (bodies, missing) = write_bodies(&mut writer, data_dir, named)?;
    let key = if with_key {
        Some(writer.file(keys::FILE, File::open(&key).map_err(|e| reading(&key, e))?)?)
    } else {
        None
    };
    let manifest = manifest(contents, &database, &bodies, missing, key.as_ref(), now);
    writer.bytes(MANIFEST, format!("{manifest:#}\n").as_bytes())?;
    writer.finish()?;
    partial.keep()?;
    Ok(Held {
        schema: contents.schema,
        runs: contents.runs,
        bodies: bodies.count,
        missing,
        key: key.is_some(),
    })
}

/// Makes the data folder `data_dir`, which must be empty or not there, of a backup.
pub fn restore(file: &Path, data_dir: &Path) -> Result<Held> {
    let data_dir = std::path::absolute(data_dir).map_err(|e| reading(data_dir, e))?;
    vacant(&data_dir)?;
    let fresh = Fresh::beside(&data_dir)?;
    let unpacked = unpack(file, &fresh.path)?;
    let held = prove(&unpacked, &fresh.path)?;
    fresh.keep(&data_dir)?;
    Ok(held)
}

/// The bodies that are there, in the order of their names, and how many are not.
fn write_bodies(
    writer: &mut Writer,
    data_dir: &Path,
    named: HashSet<(TenantId, Digest)>,
) -> Result<(Total, u64)> {
    let mut names: Vec<_> =
        named.into_iter().map(|(tenant, digest)| (blob::name(tenant, digest), digest)).collect();
    names.sort_unstable();
    let (mut bodies, mut missing) = (Total::default(), 0);
    for (name, digest) in names {
        match intact(&data_dir.join(BLOBS).join(&name), digest)? {
            Some(file) => bodies.add(&writer.file(&format!("{BLOBS}{name}"), file)?),
            None => missing += 1,
        }
    }
    Ok((bodies, missing))
}

/// The file of a body that is as it was written. One that is not must not keep all the others from being backed up.
fn intact(path: &Path, digest: Digest) -> Result<Option<File>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(reading(path, e)),
    };
    let found = archive::digest_of(&mut file).and_then(|found| file.rewind().map(|()| found));
    Ok((found.map_err(|e| reading(path, e))? == digest).then_some(file))
}

fn manifest(
    contents: Contents,
    database: &Part,
    bodies: &Total,
    missing: u64,
    key: Option<&Part>,
    now: At,
) -> Value {
    json!({
        "format": FORMAT,
        "madeAt": now.to_string(),
        "madeBy": concat!("lantern ", env!("CARGO_PKG_VERSION")),
        "schema": contents.schema,
        "runs": contents.runs,
        "appends": contents.appends,
        "database": { "bytes": database.bytes, "sha256": database.digest.to_string() },
        // Each body is named by its own digest; this one is over all of them, in the order of the archive.
        "bodies": { "count": bodies.count, "bytes": bodies.bytes, "sha256": bodies.digest().to_string(),
            "missing": missing },
        "key": key.map(|key| json!({ "sha256": key.digest.to_string() })),
    })
}

/// What came out of an archive.
#[derive(Default)]
struct Unpacked {
    database: Option<Part>,
    bodies: Total,
    key: Option<Part>,
    manifest: Option<Value>,
}

/// Writes every part of an archive into `folder`, and refuses what no backup has.
fn unpack(file: &Path, folder: &Path) -> Result<Unpacked> {
    let opened = File::open(file).map_err(|e| reading(file, e))?;
    let mut unpacked = Unpacked::default();
    Reader::new(opened).parts(&mut |name, content| {
        if unpacked.manifest.is_some() {
            return Err(unfit("something follows its manifest"));
        }
        if name == MANIFEST {
            unpacked.manifest = Some(content.json()?);
        } else if name == DATABASE && unpacked.database.is_none() {
            unpacked.database = Some(put(content, &folder.join(DATABASE))?);
        } else if name == keys::FILE && unpacked.key.is_none() {
            unpacked.key = Some(put(content, &folder.join(keys::FILE))?);
        } else if let Some(digest) = name.strip_prefix(BLOBS).and_then(body) {
            let part = put(content, &folder.join(name))?;
            if part.digest != digest {
                return Err(unfit("a body in it has not the digest that it is named by"));
            }
            unpacked.bodies.add(&part);
        } else {
            return Err(unfit("it has a part that is none of a backup's"));
        }
        Ok(())
    })?;
    Ok(unpacked)
}

/// The digest that a body's name ends with, if it is such a name and no other path.
fn body(name: &str) -> Option<Digest> {
    let mut parts = name.split('/');
    let tenant: TenantId = parts.next()?.parse().ok()?;
    let digest = Digest::from_bytes(&hex::decode(parts.nth(1)?).ok()?)?;
    (blob::name(tenant, digest) == name).then_some(digest)
}

fn put(content: &mut Hashed<'_>, path: &Path) -> Result<Part> {
    let making = |e| Error::file(format!("make {}", path.display()), e);
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(making)?;
    }
    let (partial, mut file) = Partial::beside(path)?;
    let part = content.copy_to(&mut file, path)?;
    partial.keep()?;
    Ok(part)
}

/// Checks what was unpacked against its manifest, and the database against itself.
fn prove(unpacked: &Unpacked, folder: &Path) -> Result<Held> {
    let Unpacked { manifest: Some(manifest), database: Some(database), bodies, key } = unpacked else {
        return Err(unfit("it is cut off, or no backup at all"));
    };
    let said = |pointer: &str| manifest.pointer(pointer).cloned().unwrap_or_default();
    if said("/format") != json!(FORMAT) {
        return Err(unfit("a newer build made it"));
    }
    let is = |pointer: &str, found: Value| {
        let same = said(pointer) == found;
        if same { Ok(()) } else { Err(unfit(&format!("its manifest has another {pointer} than it"))) }
    };
    is("/database/sha256", json!(database.digest.to_string()))?;
    is("/bodies/count", json!(bodies.count))?;
    is("/bodies/sha256", json!(bodies.digest().to_string()))?;
    is("/key", json!(key.as_ref().map(|key| json!({ "sha256": key.digest.to_string() }))))?;
    let mut missing = HashSet::new();
    let contents = db::examine(&folder.join(DATABASE), &mut |tenant, digest| {
        if !folder.join(BLOBS).join(blob::name(tenant, digest)).is_file() {
            missing.insert((tenant, digest));
        }
        Ok(())
    })?;
    let missing = missing.len() as u64;
    is("/schema", json!(contents.schema))?;
    is("/runs", json!(contents.runs))?;
    is("/appends", json!(contents.appends))?;
    is("/bodies/missing", json!(missing))?;
    Ok(Held {
        schema: contents.schema,
        runs: contents.runs,
        bodies: bodies.count,
        missing,
        key: key.is_some(),
    })
}

/// A folder in the making, removed unless it is kept.
struct Fresh {
    path: PathBuf,
}

impl Fresh {
    fn beside(data_dir: &Path) -> Result<Self> {
        let Some(name) = data_dir.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::Backup(format!("{} cannot be a data folder", data_dir.display())));
        };
        let path = data_dir.with_file_name(format!(".{name}.{}.restoring", std::process::id()));
        let making = |e| Error::file(format!("make {}", path.display()), e);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(making)?;
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(making)?;
        Ok(Self { path })
    }

    /// Gives the folder its name. An empty one that has it is replaced.
    fn keep(self, data_dir: &Path) -> Result<()> {
        let done = fs::rename(&self.path, data_dir).and_then(|()| sync_folder(data_dir));
        done.map_err(|e| Error::file(format!("name the restored folder {}", data_dir.display()), e))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Gone already when it was kept.
        drop(fs::remove_dir_all(&self.path));
    }
}

fn vacant(data_dir: &Path) -> Result<()> {
    match fs::read_dir(data_dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Backup(format!("{} is not empty", data_dir.display()))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(reading(data_dir, e)),
    }
}

fn reading(path: &Path, error: std::io::Error) -> Error {
    Error::file(format!("read {}", path.display()), error)
}

fn unfit(why: &str) -> Error {
    Error::Backup(format!("the backup cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_by_its_name_and_nothing_else_is() {
        let (tenant, digest) = (lantern_types::DEV_TENANT, Digest::of(b"sealed"));
        let name = blob::name(tenant, digest);
        assert_eq!(body(&name), Some(digest));
        for other in [
            "",
            "x",
            "../../etc/passwd",
            &format!("{name}/x"),
            &format!("../{name}"),
            &name.to_uppercase(),
            &name.replacen(&digest.to_string()[..2], "..", 1),
        ] {
            assert_eq!(body(other), None, "{other}");
        }
    }
}
