//! Blobs on their way into the layout, and what a registry's manifest names.
//!
//! Invariant: a blob appears under its digest when all of it was written and found to be what it is called, and nothing of it before.
//! What is written is counted: one byte beyond the size that was said ends it. What is given up is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lantern_policy::workload::Image;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Images;
use super::layout::{SMALL_MAX, architecture, bad, digest};
use crate::error::{Error, Result};

/// Bytes of a manifest.
pub const MANIFEST_MAX: usize = 4 << 20;
/// Bytes of all layers of an image that is fetched, as they are packed.
const LAYERS_BYTES_MAX: u64 = 8 << 30;
/// Bytes of all blobs of a machine that fetches.
const ALL_BYTES_MAX: u64 = 64 << 30;
/// Bytes of the disk that are left to others.
const SPARED: u64 = 1 << 30;
/// Entries of a list of images.
const LISTED_MAX: usize = 256;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A blob that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
}

/// What a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// That of one image.
    Image {
        /// What the image says of itself.
        config: Blob,
    },
    /// A list of images for several machines.
    List {
        /// The SHA-256 of the manifest for this one, if it has one.
        here: Option<String>,
    },
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    manifests: Option<Vec<Listed>>,
    #[serde(default)]
    config: Option<Described>,
}

#[derive(Deserialize)]
struct Described {
    digest: String,
    size: u64,
}

#[derive(Deserialize)]
struct Listed {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

impl Named {
    /// Reads a manifest, which may be anybody's.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|error| bad(&format!("its manifest cannot be read: {error}")))?;
        match (wire.manifests, wire.config) {
            (Some(listed), None) if listed.len() <= LISTED_MAX => {
                let here = |listed: &&Listed| {
                    let platform = listed.platform.as_ref();
                    platform.is_some_and(|at| at.os == "linux" && at.architecture == architecture())
                };
                let here = listed.iter().find(here).map(|listed| digest(&listed.digest)).transpose()?;
                Ok(Self::List { here })
            }
            (None, Some(config)) if config.size <= SMALL_MAX => {
                Ok(Self::Image { config: Blob { sha256: digest(&config.digest)?, size: config.size } })
            }
            (None, Some(_)) => Err(bad("its configuration is too long")),
            (Some(_), None) => Err(bad("it is a list of too many images")),
            _ => Err(bad("its manifest names neither one image nor a list of them")),
        }
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub struct Incoming {
    blob: Blob,
    file: File,
    /// Where it is until it is whole.
    beside: PathBuf,
    place: PathBuf,
    hash: Sha256,
    left: u64,
}

impl Incoming {
    fn begin(folder: &Path, place: PathBuf, blob: &Blob) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let beside = folder.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
        Ok(Self { blob: blob.clone(), file, beside, place, hash: Sha256::new(), left: blob.size })
    }

    /// Writes on. `BadImage` when this is more than was said.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self
            .left
            .checked_sub(length)
            .ok_or_else(|| bad(&format!("the blob {} is longer than its manifest says", self.blob.sha256)))?;
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(Error::io("write", &self.beside))
    }

    /// Gives it its name, on the disk. `BadImage` when it is not what it is called. Blocks.
    pub fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            return Err(bad(&format!("the blob {} is shorter than its manifest says", self.blob.sha256)));
        }
        if hex::encode(self.hash.finalize_reset()) != self.blob.sha256 {
            return Err(bad(&format!("the blob {} is not what its digest says", self.blob.sha256)));
        }
        self.file.sync_all().map_err(Error::io("write", &self.beside))?;
        fs::rename(&self.beside, &self.place).map_err(Error::io("move into", &self.place))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // One that has its name is not there any more.
        drop(fs::remove_file(&self.beside));
    }
}

impl Images {
    /// Makes the layout, if it is not there yet.
    pub fn begin(&self) -> Result<()> {
        self.layout.begin()
    }

    /// Begins to take a blob in.
    pub fn incoming(&self, blob: &Blob) -> Result<Incoming> {
        let folder = self.arriving();
        Incoming::begin(&folder, self.layout.blob(&blob.sha256), blob)
            .map_err(Error::io("make a file in", &folder))
    }

    pub(super) fn arriving(&self) -> PathBuf {
        self.layout.dir().join("incoming")
    }

    /// Whether a blob of this name and size is here.
    pub fn has_blob(&self, blob: &Blob) -> bool {
        self.layout.blob(&blob.sha256).metadata().is_ok_and(|found| found.len() == blob.size)
    }

    /// Checks what can be checked of an image without its layers.
    pub fn check(&self, image: &Image) -> Result<()> {
        let manifest =
            self.layout.manifest(&image.sha256)?.ok_or_else(|| Error::NoImage(image.to_string()))?;
        let config = self.layout.config(&manifest)?;
        let size = manifest.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        if manifest.layers.len() != config.diff_ids.len() {
            return Err(bad("its configuration names other layers than its manifest"));
        }
        if size > LAYERS_BYTES_MAX {
            return Err(bad(&format!("its layers have {size} bytes; {LAYERS_BYTES_MAX} are taken at most")));
        }
        Ok(())
    }

    /// The layers of an image that are not here.
    pub fn missing(&self, image: &Image) -> Result<Vec<Blob>> {
        let manifest =
            self.layout.manifest(&image.sha256)?.ok_or_else(|| Error::NoImage(image.to_string()))?;
        let blobs = manifest.layers.into_iter().map(|layer| Blob { sha256: layer.sha256, size: layer.size });
        let mut missing: Vec<Blob> = Vec::new();
        for blob in blobs.filter(|blob| !self.has_blob(blob)) {
            if !missing.contains(&blob) {
                missing.push(blob);
            }
        }
        Ok(missing)
    }

    /// Whether so many bytes more may be kept: of what images may have here, and of the disk.
    pub fn has_room(&self, more: u64) -> Result<()> {
        let blobs = self.layout.dir().join("blobs/sha256");
        let mut kept = more;
        for entry in fs::read_dir(&blobs).map_err(Error::io("list", &blobs))? {
            let size = entry.and_then(|entry| entry.metadata()).map_or(0, |found| found.len());
            kept = kept.saturating_add(size);
        }
        let disk = rustix::fs::statvfs(&blobs).map_err(|error| Error::io("measure", &blobs)(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if kept > ALL_BYTES_MAX || free < more.saturating_add(SPARED) {
            return Err(bad("this machine has no room for it; its operator may remove images"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_one_images_or_a_list() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let here = architecture();
        let list = |entries: &str| format!(r#"{{"manifests":[{entries}]}}"#);
        let entry = |os: &str, machine: &str, digest: &str| {
            format!(r#"{{"digest":"sha256:{digest}","platform":{{"os":"{os}","architecture":"{machine}"}}}}"#)
        };
        let several = [entry("windows", here, &a), entry("linux", "mips", &a), entry("linux", here, &b)];
        for (text, want) in [
            (
                format!(r#"{{"config":{{"digest":"sha256:{a}","size":3}},"layers":[]}}"#),
                Ok(Named::Image { config: Blob { sha256: a.clone(), size: 3 } }),
            ),
            (list(&several.join(",")), Ok(Named::List { here: Some(b.clone()) })),
            (list(&entry("linux", "mips", &a)), Ok(Named::List { here: None })),
            (list(r#"{"digest":"sha256:x"}"#), Ok(Named::List { here: None })),
            (list(&entry("linux", here, "../../x")), Err(())),
            (r#"{"config":{"digest":"sha512:a","size":3}}"#.to_owned(), Err(())),
            (format!(r#"{{"config":{{"digest":"sha256:{a}","size":99999999}}}}"#), Err(())),
            ("{}".to_owned(), Err(())),
            ("<html>".to_owned(), Err(())),
        ] {
            assert_eq!(Named::read(text.as_bytes()).map_err(|_| ()), want, "{text}");
        }
    }
}
