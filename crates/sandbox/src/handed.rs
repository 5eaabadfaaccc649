//! Secrets that a box is handed: files in memory that its user alone can read, and variables where its class may have them.
//!
//! Invariant: a value is in no file on a disk and in no command line. The folder of a box that has secrets is a file system in memory,
//! with the configuration and the runtime's own notes in it; it goes with the box, or when the next server sweeps.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use lantern_policy::workload::Deliver;
use lantern_types::Secret;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Error, Result};
use crate::launch::BOX_ID;

/// Where a program finds the files of its secrets, by their names.
pub const SECRETS_DIR: &str = "/run/lantern/secrets";
/// What a box may be handed, in bytes, with what else lies in its folder.
const MEMORY: &std::ffi::CStr = c"mode=0700,size=128m";

/// A secret that a box is handed.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The name of its file or variable.
    pub name: String,
    /// What it says.
    pub value: Secret<String>,
    /// As what.
    pub deliver: Deliver,
}

/// Puts memory in place of a box's folder, and the files in it. Answers what the box sees as `/run`.
pub(crate) fn lay(dir: &Path, handed: &[Handed]) -> Result<PathBuf> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounted = rustix::mount::mount(c"lantern", dir, c"tmpfs", flags, MEMORY);
    mounted.map_err(|error| Error::io("put memory in place of", dir)(error.into()))?;
    let run = dir.join("run");
    let secrets = run.join("lantern/secrets");
    files(&secrets, handed).map_err(Error::io("hand secrets out in", &secrets))?;
    Ok(run)
}

fn files(dir: &Path, handed: &[Handed]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    for secret in handed.iter().filter(|secret| secret.deliver == Deliver::File) {
        let path = dir.join(&secret.name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
        file.write_all(secret.value.expose().as_bytes())?;
        chown(&path, Some(BOX_ID), Some(BOX_ID))?;
    }
    // Whatever the server's own mask is.
    for folder in dir.ancestors().take(3) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The variables among them, with their values.
pub(crate) fn variables(handed: &[Handed]) -> impl Iterator<Item = (&str, &str)> {
    let exposed = handed.iter().filter(|secret| secret.deliver == Deliver::Env);
    exposed.map(|secret| (secret.name.as_str(), secret.value.expose().as_str()))
}

/// Removes the folder of a box, with the memory in its place if there is some.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    match rustix::mount::unmount(dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Nothing is in its place.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
