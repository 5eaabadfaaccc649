//! Where sealed bodies over 64 KiB live: files named by the SHA-256 of their bytes, a folder for each tenant.
//!
//! Invariant: a blob is durable before any row names it, is never changed, and is checked against its name when it is
//! read. What is here is ciphertext; a shredded key makes it noise.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lantern_policy::Scope;
use lantern_types::{Digest, TenantId};

use crate::error::{Error, Result};

/// Bodies up to this many bytes stay in their journal row.
pub const INLINE_MAX: usize = 64 << 10;

/// The first byte of a stored body: the body follows, or the name of its blob does.
const INLINE: u8 = 0;
const NAMED: u8 = 1;

/// A place for blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    place: Arc<Place>,
}

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    // Sections under this lock copy one blob; nothing waits.
    Memory(Mutex<HashMap<(TenantId, Digest), Vec<u8>>>),
}

impl Blobs {
    /// Files under `DIR/blobs/TENANT/xx/`, made when first needed.
    pub fn folder(data_dir: &Path) -> Self {
        Self { place: Arc::new(Place::Folder(data_dir.join("blobs"))) }
    }

    /// In memory, for simulation and tests.
    pub fn memory() -> Self {
        Self { place: Arc::new(Place::Memory(Mutex::new(HashMap::new()))) }
    }

    /// Keeps sealed bytes and answers what a row stores for them: themselves when they are small, else the name of a
    /// blob that is durable by now.
    pub async fn park(&self, scope: Scope, sealed: Vec<u8>) -> Result<Vec<u8>> {
        if sealed.len() <= INLINE_MAX {
            let mut stored = Vec::with_capacity(sealed.len() + 1);
            stored.push(INLINE);
            stored.extend(sealed);
            return Ok(stored);
        }
        let digest = Digest::of(&sealed);
        let tenant = scope.tenant();
        self.on_place(move |place| place.put(tenant, digest, sealed)).await?;
        Ok([&[NAMED][..], digest.bytes()].concat())
    }

    /// The sealed bytes that [`park`](Self::park) was given.
    pub async fn fetch(&self, scope: Scope, stored: &[u8]) -> Result<Vec<u8>> {
        if let Some((&INLINE, sealed)) = stored.split_first() {
            return Ok(sealed.to_vec());
        }
        let digest = named(stored).ok_or_else(|| Error::Corrupt("a stored body has no known form".into()))?;
        let tenant = scope.tenant();
        self.on_place(move |place| place.get(tenant, digest)).await
    }

    /// Removes a blob. One that is not there is fine.
    pub async fn discard(&self, scope: Scope, digest: Digest) -> Result<()> {
        let tenant = scope.tenant();
        self.on_place(move |place| place.remove(tenant, digest)).await
    }

    async fn on_place<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Place) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Place::Memory(_) = &*self.place {
            return f(&self.place);
        }
        let place = Arc::clone(&self.place);
        tokio::task::spawn_blocking(move || f(&place)).await.map_err(Error::internal)?
    }
}

impl Place {
    fn put(&self, tenant: TenantId, digest: Digest, sealed: Vec<u8>) -> Result<()> {
        match self {
            Self::Memory(blobs) => {
                blobs.lock().unwrap_or_else(PoisonError::into_inner).insert((tenant, digest), sealed);
                Ok(())
            }
            Self::Folder(root) => {
                let path = path(root, tenant, digest);
                write_whole(&path, &sealed)
                    .map_err(|e| Error::file(format!("write the blob {}", path.display()), e))
            }
        }
    }

    fn get(&self, tenant: TenantId, digest: Digest) -> Result<Vec<u8>> {
        let sealed = match self {
            Self::Memory(blobs) => {
                let blobs = blobs.lock().unwrap_or_else(PoisonError::into_inner);
                blobs.get(&(tenant, digest)).cloned().ok_or_else(|| missing(digest))?
            }
            Self::Folder(root) => {
                let path = path(root, tenant, digest);
                fs::read(&path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => missing(digest),
                    _ => Error::file(format!("read the blob {}", path.display()), e),
                })?
            }
        };
        if Digest::of(&sealed) == digest {
            Ok(sealed)
        } else {
            Err(Error::Corrupt(format!("the blob {digest} does not have its own digest").into()))
        }
    }

    fn remove(&self, tenant: TenantId, digest: Digest) -> Result<()> {
        match self {
            Self::Memory(blobs) => {
                blobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&(tenant, digest));
                Ok(())
            }
            Self::Folder(root) => {
                let path = path(root, tenant, digest);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        Err(Error::file(format!("remove the blob {}", path.display()), e))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

fn missing(digest: Digest) -> Error {
    Error::Corrupt(format!("the blob {digest} is missing").into())
}

fn path(root: &Path, tenant: TenantId, digest: Digest) -> PathBuf {
    let name = digest.to_string();
    root.join(tenant.to_string()).join(name.get(..2).unwrap_or_default()).join(&name)
}

/// Writes under another name, syncs, and renames: whoever crashes leaves the whole file or none. The folders that
/// lead to it are synced too, or the name itself could be lost.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let partial =
        path.with_extension(format!("{}.{:?}.part", std::process::id(), std::thread::current().id()));
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        drop(fs::remove_file(&partial));
        return written;
    }
    folder.ancestors().take(3).try_for_each(|folder| File::open(folder)?.sync_all())
}

/// The blob that a stored body names, if it is not inline.
pub(crate) fn named(stored: &[u8]) -> Option<Digest> {
    match stored.split_first() {
        Some((&NAMED, digest)) => Digest::from_bytes(digest),
        _ => None,
    }
}

/// The SHA-256 of the sealed bytes behind a stored body: what the chain links, wherever they are.
pub fn digest_of(stored: &[u8]) -> Option<Digest> {
    match stored.split_first() {
        Some((&INLINE, sealed)) => Some(Digest::of(sealed)),
        _ => named(stored),
    }
}
