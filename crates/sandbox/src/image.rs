//! Images on this machine: an OCI layout by digest, and beside it what was unpacked of it.
//!
//! Invariant: nothing of an image is used before all of it was read and found to be what its digest says. What is
//! unpacked appears under its final name when it is whole, and never before.

mod build;
mod incoming;
mod layout;
mod unpack;

use std::path::{Path, PathBuf};
use std::{fs, io};

use lantern_policy::workload::Image;

pub use build::{Built, Plan, build};
pub use incoming::{Blob, Incoming, MANIFEST_MAX, Named};
pub use layout::{Config, Layout};
pub use unpack::{Bounds, Unpacked};

use crate::error::{Error, Result};

/// The images of a data folder.
#[derive(Clone, Debug)]
pub struct Images {
    layout: Layout,
    unpacked: PathBuf,
    bounds: Bounds,
}

/// An image that can be run.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its files.
    pub rootfs: PathBuf,
    /// What it says of itself.
    pub config: Config,
}

impl Images {
    /// The images below `data_dir`, which need not be there yet.
    pub fn below(data_dir: &Path) -> Self {
        let dir = data_dir.join("images");
        Self { unpacked: dir.join("unpacked"), layout: Layout::at(dir), bounds: Bounds::default() }
    }

    /// The same with other bounds for what an image may hold.
    #[must_use]
    pub const fn bounded(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Where the layout is.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether an image is here. What it holds is looked at when it is made ready.
    pub fn has(&self, image: &Image) -> bool {
        self.layout.manifest(&image.sha256).is_ok_and(|found| found.is_some())
    }

    /// An image's files and configuration, unpacked now if they were not before. Blocks.
    pub fn ready(&self, image: &Image) -> Result<Ready> {
        let manifest =
            self.layout.manifest(&image.sha256)?.ok_or_else(|| Error::NoImage(image.to_string()))?;
        let config = self.layout.config(&manifest)?;
        let dir = self.unpacked.join(&image.sha256);
        let rootfs = dir.join("rootfs");
        if !rootfs.is_dir() {
            self.unpack(&manifest, &config, &dir)?;
        } else if !framed(&rootfs) {
            // Unpacked by an earlier build, which mounted less.
            Unpacked::new(&rootfs, self.bounds)?.frame()?;
        }
        Ok(Ready { rootfs, config })
    }

    fn unpack(&self, manifest: &layout::Manifest, config: &Config, dir: &Path) -> Result<()> {
        fs::create_dir_all(&self.unpacked).map_err(Error::io("make", &self.unpacked))?;
        let beside = tempdir(&self.unpacked).map_err(Error::io("make a folder in", &self.unpacked))?;
        let outcome = self.layers(manifest, config, &beside).and_then(|()| match fs::rename(&beside, dir) {
            // Another workload unpacked the same image meanwhile: its files are these.
            Err(_) if dir.join("rootfs").is_dir() => Ok(()),
            renamed => renamed.map_err(Error::io("move into", dir)),
        });
        if beside.exists() {
            fs::remove_dir_all(&beside).map_err(Error::io("remove", &beside))?;
        }
        outcome
    }

    fn layers(&self, manifest: &layout::Manifest, config: &Config, beside: &Path) -> Result<()> {
        let rootfs = beside.join("rootfs");
        fs::create_dir(&rootfs).map_err(Error::io("make", &rootfs))?;
        if manifest.layers.len() != config.diff_ids.len() {
            return Err(Error::BadImage("its configuration names other layers than its manifest".to_owned()));
        }
        let mut unpacked = Unpacked::new(&rootfs, self.bounds)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            unpacked.layer(self.layout.open(layer)?, layer, diff_id)?;
        }
        unpacked.frame()
    }

    /// Removes what was begun and not finished by a process that died. Only for the one process that owns the folder.
    pub fn sweep(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.arriving()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let entries = match fs::read_dir(&self.unpacked) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(BEGUN) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether every folder is there that something is mounted on.
fn framed(rootfs: &Path) -> bool {
    let is_folder = |name: &&str| rootfs.join(name).symlink_metadata().is_ok_and(|found| found.is_dir());
    unpack::MOUNTED_ON.iter().all(is_folder)
}

const BEGUN: &str = ".begun-";

/// A folder of its own.
fn tempdir(parent: &Path) -> io::Result<PathBuf> {
    let mut n = 0_u32;
    loop {
        let dir = parent.join(format!("{BEGUN}{}-{n}", std::process::id()));
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && n < u32::MAX => n += 1,
            made => return made.map(|()| dir),
        }
    }
}
