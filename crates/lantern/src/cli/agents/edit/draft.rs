//! The file that is edited: made for its owner alone, opened in their editor, and named whenever it stays.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lantern_net::{RealClock, RealIds};
use lantern_types::edge::IdGen as _;

use crate::cli::failure::{Exit, Failure};
use crate::env;

/// What opens it when nobody says, as everywhere.
const EDITOR: &str = "vi";

/// A text that is not saved yet.
pub(super) struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Writes `text` to a new file.
    pub(super) fn new(name: &str, text: &str) -> Result<Self, Failure> {
        let id = RealIds::new(Arc::new(RealClock::new())).uuid();
        // What a server takes as a name has nothing that leads elsewhere; another name may.
        let name: String = name.chars().map(|c| if c == '/' { '-' } else { c }).collect();
        let path = std::env::temp_dir().join(format!("lantern-{name}-{id}.json"));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = made.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
                .code("output_failed")
                .hint("make space, or name another folder in TMPDIR")
        })?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it, and waits until the editor is closed.
    pub(super) fn open(&self) -> Result<(), Failure> {
        let set = [env::VISUAL, env::EDITOR].into_iter().find_map(env::get);
        let editor = set.unwrap_or_else(|| EDITOR.to_owned());
        // By a shell, because the variable may hold flags.
        let shell = format!("{editor} \"$1\"");
        let ended = Command::new("sh").args(["-c", &shell, "sh"]).arg(&self.path).status();
        let trouble = match ended {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => format!("the editor `{editor}` ended with {status}"),
            Err(error) => format!("cannot start the editor `{editor}`: {error}"),
        };
        Err(Failure::new(Exit::Failed, trouble).code("editor_failed").hint(format!(
            "name another in {} or {}; the text is kept in {}",
            env::VISUAL,
            env::EDITOR,
            self.path.display()
        )))
    }

    pub(super) fn text(&self) -> Result<String, Failure> {
        let unreadable = |error: io::Error| {
            Failure::new(Exit::Failed, format!("cannot read {}: {error}", self.path.display()))
        };
        fs::read_to_string(&self.path).map_err(unreadable)
    }

    /// Nobody needs it any more.
    pub(super) fn remove(&self) {
        // What stays of it is a file in a folder that is swept.
        drop(fs::remove_file(&self.path));
    }

    /// The failure, with where the text is and how to go on with it.
    pub(super) fn kept(&self, failure: Failure, name: &str) -> Failure {
        let file = self.path.display();
        let hint =
            format!("the text is kept in {file}: go on with `lantern agents edit {name} --from {file}`");
        failure.hint(hint)
    }
}
