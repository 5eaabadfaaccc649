//! The file that `lantern login` leaves behind, and what else is kept beside it.
//!
//! Invariant: a token is kept together with the address it was issued by, in a file that only its owner can read
//! (0600, in a folder 0700) or it is not used, and a crash leaves either the old file or the new one. Of several commands
//! one at a time renews it, because a refresh token is good once. Talks to no server.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lantern_types::Secret;
use serde::{Deserialize, Serialize};

use crate::env;

/// A login as it is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// The server that issued the token; the token goes nowhere else.
    pub(crate) api_url: String,
    /// The access token.
    pub(crate) token: Secret<String>,
    /// What gets the next one, from a server that renews.
    pub(crate) refresh_token: Option<Secret<String>>,
    /// Who logged in.
    pub(crate) email: String,
    /// The name of who logged in.
    pub(crate) name: String,
    /// The tenant of who logged in.
    pub(crate) tenant_id: String,
    /// The user's id.
    pub(crate) user_id: String,
}

/// The file's JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    api_url: String,
    token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default)]
    email: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    tenant_id: String,
    #[serde(default)]
    user_id: String,
}

/// Why a saved login is not used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// Others than its owner may read or write the file.
    Exposed,
    /// The file cannot be read, or is none of ours.
    Unreadable(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// What others than its owner may do with a file, and what of that is to change it.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// Where the file is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    file: PathBuf,
    /// The folder is ours, so its mode is ours to set.
    own_folder: bool,
}

impl Place {
    /// The place that the environment names; `None` when there is not even a home folder.
    pub(crate) fn find() -> Option<Self> {
        if let Some(file) = env::get(env::CREDENTIALS) {
            return Some(Self { file: file.into(), own_folder: false });
        }
        let home = env::get(env::HOME)?;
        Some(Self { file: Path::new(&home).join(".lantern/credentials.json"), own_folder: true })
    }

    /// The file itself, for messages.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The folder beside the file in which `lantern logs -f` keeps its places.
    pub(crate) fn following(&self) -> PathBuf {
        self.folder().join("following")
    }

    /// The saved login, or `None` when there is none. Fails when the file is there and cannot be read, or can be read
    /// by others.
    pub(crate) fn load(&self) -> Result<Option<Credentials>, Unusable> {
        self.load_unless(OTHERS)
    }

    /// The same for who ends it: that others can read it is one more reason to. Where others can change it, they may have
    /// written another server's address.
    pub(crate) fn load_to_end(&self) -> Result<Option<Credentials>, Unusable> {
        self.load_unless(OTHERS_WRITE)
    }

    fn load_unless(&self, mode: u32) -> Result<Option<Credentials>, Unusable> {
        let mut file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Of the file that is open: another may be put in its place meanwhile.
        if file.metadata()?.permissions().mode() & mode != 0 {
            return Err(Unusable::Exposed);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text: Text = serde_json::from_slice(&bytes).map_err(io::Error::from)?;
        Ok(Some(Credentials {
            api_url: text.api_url,
            token: Secret::new(text.token),
            refresh_token: text.refresh_token.map(Secret::new),
            email: text.email,
            name: text.name,
            tenant_id: text.tenant_id,
            user_id: text.user_id,
        }))
    }

    /// Replaces the saved login.
    pub(crate) fn save(&self, credentials: &Credentials) -> io::Result<()> {
        let text = Text {
            api_url: credentials.api_url.clone(),
            token: credentials.token.expose().clone(),
            refresh_token: credentials.refresh_token.as_ref().map(|token| token.expose().clone()),
            email: credentials.email.clone(),
            name: credentials.name.clone(),
            tenant_id: credentials.tenant_id.clone(),
            user_id: credentials.user_id.clone(),
        };
        let folder = self.folder();
        private_folder(folder)?;
        if self.own_folder {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        let mut bytes = serde_json::to_vec_pretty(&text)?;
        bytes.push(b'\n');
        replace(&self.file, &bytes)
    }

    /// Waits until no other command is about to replace the login, and keeps others waiting until it is dropped.
    pub(crate) fn lock(&self) -> io::Result<File> {
        private_folder(self.folder())?;
        let mut name = self.file.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let file = open.open(self.file.with_file_name(name))?;
        file.lock()?;
        Ok(file)
    }

    /// Removes the saved login; `false` when there was none.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        match fs::remove_file(&self.file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn folder(&self) -> &Path {
        match self.file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }
}

/// Makes a folder that only its owner can look into. One that is there already keeps its mode.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Replaces a file by one that only its owner can read, in one step: no reader ever sees half of it.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = file.with_file_name(name);
    // A draft of the same name can only be what a killed process with our number left behind.
    let _ = fs::remove_file(&draft);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut open| open.write_all(bytes).and_then(|()| open.sync_all()))
        .and_then(|()| fs::rename(&draft, file));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}
