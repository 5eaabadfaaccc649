//! A file that gets its name only when it is whole.
//!
//! Invariant: under the name that was asked for there is the whole file, durable, or none; what is unfinished stands
//! beside it and is removed, unless the process dies.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file in the making.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    to: PathBuf,
}

impl Partial {
    /// An empty file beside `to`, for its owner alone. What a killed process with our id left there is written over.
    pub(crate) fn beside(to: &Path) -> Result<(Self, File)> {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let partial = Self { path: to.with_file_name(name), to: to.to_owned() };
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial.path);
        let file = made.map_err(|e| Error::file(format!("make {}", partial.path.display()), e))?;
        Ok((partial, file))
    }

    /// Where it is until it is whole.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name.
    pub(crate) fn keep(self) -> Result<()> {
        let done = File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.path, &self.to))
            .and_then(|()| sync_folder(&self.to));
        done.map_err(|e| Error::file(format!("keep {}", self.to.display()), e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was kept.
        drop(fs::remove_file(&self.path));
    }
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
