//! The master key: 32 bytes from the operator, or from a file of mode 0600 that is made for a new database.
//!
//! Invariant: there is no default key. A key file is made once, whole, and never written over; a file that others can
//! read is refused. It has its name only once a database has begun with it: until then it is prepared under another. Keys for other purposes are derived, so that no two purposes share one. Does not know whether a
//! database is new: callers do.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use lantern_types::Secret;
use lantern_types::edge::IdGen;
use zeroize::Zeroize as _;

use crate::error::{Error, Result};

/// The key file's name inside the data folder.
pub(crate) const FILE: &str = "lantern.key";
/// Its name until a database has begun with it.
const PREPARED: &str = "lantern.key.new";

/// The master key.
#[derive(Clone)]
pub struct Keys {
    master: Secret<[u8; 32]>,
}

impl Keys {
    /// The operator's key when there is one (32 bytes as hex or base64), else the one in the data folder's key file,
    /// else `None`. Makes nothing.
    pub fn find(credential_key: Option<&Secret<String>>, data_dir: &Path) -> Result<Option<Self>> {
        if let Some(text) = credential_key {
            let keys = Self::parse(text.expose());
            return keys
                .map(Some)
                .ok_or_else(|| Error::Key("it is not 32 bytes as hex or base64".to_owned()));
        }
        let path = data_dir.join(FILE);
        if path.exists() { Self::load(&path).map(Some) } else { Ok(None) }
    }

    /// Thirty-two secret bytes that an operator wrote as hex or base64.
    pub fn seed(text: &Secret<String>) -> Option<Secret<[u8; 32]>> {
        Self::parse(text.expose().trim()).map(|keys| keys.master)
    }

    /// A new key: for a new database, a test or a simulation. Kept nowhere.
    pub fn from_ids(ids: &dyn IdGen) -> Self {
        let mut master = [0; 32];
        ids.fill(&mut master);
        Self { master: Secret::new(master) }
    }

    /// Writes this key beside where the data folder's key file will be, for a database that is about to begin with it. What was
    /// prepared before and never kept opens nothing, and goes. `Conflict` when there is a key file already, which stands.
    pub fn prepare_file(&self, data_dir: &Path) -> Result<()> {
        if data_dir.join(FILE).exists() {
            return Err(Error::Conflict);
        }
        let path = data_dir.join(PREPARED);
        write(&path, self.master.expose()).map_err(|e| Error::file(format!("make {}", path.display()), e))
    }

    /// What was prepared, if anything was.
    pub fn prepared(data_dir: &Path) -> Result<Option<Self>> {
        let path = data_dir.join(PREPARED);
        if path.exists() { Self::load(&path).map(Some) } else { Ok(None) }
    }

    /// Makes what was prepared the data folder's key file, now that its database has begun. Done already is done.
    pub fn keep_file(data_dir: &Path) -> Result<()> {
        let (path, prepared) = (data_dir.join(FILE), data_dir.join(PREPARED));
        let linked = fs::hard_link(&prepared, &path).and_then(|()| fs::remove_file(&prepared));
        let synced = linked.and_then(|()| File::open(data_dir)?.sync_all());
        match synced {
            Err(_) if path.exists() => Ok(()),
            done => done.map_err(|e| Error::file(format!("make {}", path.display()), e)),
        }
    }

    fn load(path: &Path) -> Result<Self> {
        let fail = |e| Error::file(format!("read {}", path.display()), e);
        let mode = fs::metadata(path).map_err(fail)?.permissions().mode();
        if mode & 0o077 != 0 {
            let advice = format!("{} is readable by others: run `chmod 600` on it", path.display());
            return Err(Error::Key(advice));
        }
        let mut text = fs::read_to_string(path).map_err(fail)?;
        let keys = Self::parse(text.trim());
        text.zeroize();
        keys.ok_or_else(|| Error::Key(format!("{} does not hold a key", path.display())))
    }

    fn parse(text: &str) -> Option<Self> {
        let decoded = hex::decode(text).ok().filter(|bytes| bytes.len() == 32).or_else(|| {
            [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
                .iter()
                .find_map(|alphabet| alphabet.decode(text).ok())
        });
        let mut bytes = decoded?;
        let master = <[u8; 32]>::try_from(bytes.as_slice()).ok();
        bytes.zeroize();
        master.map(|master| Self { master: Secret::new(master) })
    }

    /// A key for one purpose, by HKDF-SHA256: the same for the same label, and of no use for finding another.
    pub fn derive(&self, label: &str) -> Result<Secret<[u8; 32]>> {
        let mut key = [0; 32];
        Salt::new(HKDF_SHA256, b"lantern/1")
            .extract(self.master.expose())
            .expand(&[label.as_bytes()], Length32)
            .and_then(|okm| okm.fill(&mut key))
            .map_err(|_| Error::internal("key derivation failed"))?;
        Ok(Secret::new(key))
    }
}

struct Length32;

impl KeyType for Length32 {
    fn len(&self) -> usize {
        32
    }
}

/// Writes a key, whole, to a new file for its owner alone, in place of what may be there.
fn write(path: &Path, key: &[u8; 32]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let mut text = hex::encode(key);
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    drop(fs::remove_file(&partial));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    text.zeroize();
    written.and_then(|()| fs::rename(&partial, path)).and_then(|()| File::open(folder)?.sync_all())
}
