//! Blobs as files of one folder. What is here can be read by the processes that share the folder, and by no others.
//!
//! Invariant: a file is there whole or not at all, and survives the machine once its writer was answered.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use lantern_types::{Digest, TenantId};

use super::name;
use crate::error::{Error, Result};

/// A folder of blobs.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.join("blobs") }
    }

    pub(super) async fn put(&self, tenant: TenantId, digest: Digest, sealed: Vec<u8>) -> Result<()> {
        self.on_file(tenant, digest, "write", move |path| write_whole(path, &sealed)).await
    }

    pub(super) async fn get(&self, tenant: TenantId, digest: Digest) -> Result<Option<Vec<u8>>> {
        self.on_file(tenant, digest, "read", |path| unless_missing(fs::read(path))).await
    }

    pub(super) async fn remove(&self, tenant: TenantId, digest: Digest) -> Result<()> {
        self.on_file(tenant, digest, "remove", |path| unless_missing(fs::remove_file(path)).map(drop)).await
    }

    async fn on_file<T: Send + 'static>(
        &self,
        tenant: TenantId,
        digest: Digest,
        doing: &'static str,
        f: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.root.join(name(tenant, digest));
        let work =
            move || f(&path).map_err(|e| Error::file(format!("{doing} the blob {}", path.display()), e));
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}

fn unless_missing<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Writes under another name, syncs, and renames: whoever crashes leaves the whole file or none. The folders that
/// lead to it are synced too, or the name itself could be lost.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
