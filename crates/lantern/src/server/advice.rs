//! Why a server did not start, and what to do about it.
//!
//! Invariant: whatever ends `dev`, `serve` or `migrate` reaches its user as one [`Failure`] with a code and a next
//! step. Decides nothing about the server.

use std::net::SocketAddr;
use std::path::Path;
use std::{fmt, io};

use lantern_store::Error;

use super::port;
use crate::cli::{Exit, Failure};
use crate::env;

/// A context for an error that also says what to do. Shown as what went wrong.
#[derive(Debug)]
pub(crate) struct Advice {
    code: &'static str,
    exit: Exit,
    what: String,
    next: String,
}

impl Advice {
    /// The server cannot start here and now.
    pub(crate) fn new(code: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, exit: Exit::Failed, what: what.into(), next: next.into() }
    }

    /// The configuration makes no sense: to start again would not help.
    pub(crate) fn config(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new("invalid_config", what, next) }
    }

    /// The master key is no key, or not this database's: to start again would not help either.
    pub(crate) fn key(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new("invalid_key", what, next) }
    }

    /// A connection string that leads to another role than the one that it is for.
    pub(crate) fn role(wanted: &str, found: &str) -> Self {
        let (app, system) = (env::DATABASE_APP_URL, env::DATABASE_SYSTEM_URL);
        let variable = match wanted {
            "lantern_app" => app,
            "lantern_system" => system,
            _ => env::DATABASE_OWNER_URL,
        };
        let next = match (wanted, found) {
            ("lantern_app", "lantern_system") => format!("swap {app} and {system}"),
            _ => format!("give {variable} the URL of {wanted}; docs/serve.md says which role is for what"),
        };
        Self::config(format!("{variable} connects as {found}, not as {wanted}"), next)
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Advice {}

/// The whole chain of causes as one failure.
pub(crate) fn failure(error: &anyhow::Error) -> Failure {
    let message = format!("{error:#}");
    match error.downcast_ref::<Advice>() {
        Some(advice) => Failure::new(advice.exit, message).code(advice.code).hint(&advice.next),
        // It opened, and the damage lies further in.
        None if error.chain().any(is_damage) => {
            Failure::new(Exit::Failed, message).code(DAMAGED.0).hint(DAMAGED.1)
        }
        None => Failure::new(Exit::Failed, message)
            .code("start_failed")
            .hint(format!("start it again with {}=debug to see more", env::LOG_LEVEL)),
    }
}

/// A database of the Lantern before this one. Nothing of it can be taken over.
pub(crate) const EARLIER: &str = "database_earlier";

/// What to do about a schema that a build has made which is newer by more than one release.
pub(crate) const TOO_NEW: &str = "run the build that migrated it, or one that is a release older at the most: upgrade one \
                                  release at a time while old processes run";

/// What to do about it.
pub(crate) fn earlier(other: &str) -> String {
    format!("leave it to the program that made it, nothing was written to it, and choose another {other}")
}

pub(super) const DAMAGED: (&str, &str) =
    ("database_damaged", "restore the folder from a backup, or start on an empty one with --data-dir");

fn is_damage(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::Corrupt(_)))
}

/// An address that cannot be listened on. Who has it is named when that can be seen.
pub(crate) fn address(error: io::Error, address: SocketAddr) -> anyhow::Error {
    let taken = error.kind() == io::ErrorKind::AddrInUse;
    let holder = port::holder(address).filter(|_| taken);
    let other = "choose another address with --listen (port 0 picks a free one)";
    let (by, next) = match holder {
        Some(holder) => {
            (format!(": {holder} listens there"), format!("stop it with `kill {}`, or {other}", holder.pid))
        }
        None if taken => (String::new(), format!("stop what listens there, or {other}")),
        None => (String::new(), other.to_owned()),
    };
    let what = format!("cannot listen on {address}{by}");
    anyhow::Error::new(error).context(Advice::new("address_unusable", what, next))
}

/// A database that does not open.
pub(crate) fn database(error: Error, dir: &Path, postgres: bool) -> anyhow::Error {
    if let Error::Role { wanted, found } = &error {
        return Advice::role(wanted, found).into();
    }
    let urls = format!("{} and {}", env::DATABASE_APP_URL, env::DATABASE_SYSTEM_URL);
    let (code, next) = match &error {
        Error::Locked { .. } => {
            ("data_dir_locked", "stop the other server, or choose another folder with --data-dir".to_owned())
        }
        Error::Corrupt(_) => (DAMAGED.0, DAMAGED.1.to_owned()),
        Error::Foreign => ("database_foreign", "choose another folder with --data-dir".to_owned()),
        Error::Earlier => (EARLIER, earlier(if postgres { "database" } else { "folder with --data-dir" })),
        Error::TooNew { .. } => ("database_too_new", TOO_NEW.to_owned()),
        Error::TooOld { .. } => {
            let next = format!("run `lantern migrate` first, or give `serve` {}", env::DATABASE_OWNER_URL);
            ("database_too_old", next)
        }
        Error::Full => ("storage_full", "make space on the disk".to_owned()),
        Error::ReadOnly => {
            ("storage_read_only", format!("let {urls} lead to the primary, or make the database writable"))
        }
        Error::Misuse(_) if postgres => ("invalid_config", format!("check {urls}")),
        // A role that is not there is refused like a wrong password: what is missing may be the first migration.
        Error::Unavailable(_) if !postgres => (
            "database_unavailable",
            format!(
                "see that the disk has space and that {} and its files can be read and written",
                dir.display()
            ),
        ),
        Error::Unavailable(_) => (
            "database_unavailable",
            format!(
                "check that the database runs and that {urls} are right; on a new database, run \
                 `lantern migrate --create-roles` first"
            ),
        ),
        Error::File { .. } if !postgres => (
            "data_dir_unusable",
            format!("see who owns {}, or name a folder that can be written in --data-dir", dir.display()),
        ),
        _ => ("start_failed", format!("see the permissions of {}", dir.display())),
    };
    let what = if postgres {
        "cannot open the PostgreSQL database".to_owned()
    } else {
        format!("cannot open the data in {}", dir.display())
    };
    let advice = match code {
        "invalid_config" => Advice::config(what, next),
        code => Advice::new(code, what, next),
    };
    anyhow::Error::new(error).context(advice)
}

/// A master key that cannot be had.
pub(crate) fn key(error: Error, dir: &Path, given: bool) -> anyhow::Error {
    let next = match &error {
        Error::Key(_) if given => format!(
            "set {} to 32 random bytes, as `openssl rand -hex 32` writes them, or unset it to use the key file in {}",
            env::CREDENTIAL_KEY,
            dir.display()
        ),
        Error::Key(_) => {
            "put the right key file there: 32 bytes as hex, readable by its owner alone".to_owned()
        }
        Error::Full => "make space on the disk".to_owned(),
        _ => format!("see the permissions of {}", dir.display()),
    };
    let what = format!("cannot use {}", if given { env::CREDENTIAL_KEY } else { "the key file" });
    let advice = match &error {
        Error::Key(_) => Advice::key(what, next),
        _ => Advice::new("invalid_key", what, next),
    };
    anyhow::Error::new(error).context(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_own_advice() {
        let dir = Path::new("d");
        let misuse = || Error::Misuse("no".to_owned());
        let unusable = || Error::Key("no".to_owned());
        let away = || Error::Unavailable("refused".into());
        for (error, code, next) in [
            (
                database(Error::TooOld { found: 1, known: 2 }, dir, true),
                "database_too_old",
                "`lantern migrate`",
            ),
            (database(away(), dir, true), "database_unavailable", "--create-roles"),
            (database(misuse(), dir, true), "invalid_config", "LANTERN_DATABASE_APP_URL"),
            (database(Error::Foreign, dir, false), "database_foreign", "--data-dir"),
            (key(unusable(), dir, true), "invalid_key", "openssl rand -hex 32"),
            (key(unusable(), dir, false), "invalid_key", "key file"),
            (
                anyhow::Error::new(lantern_edge::Error::from(Error::Corrupt("bad".into())))
                    .context("no seed"),
                "database_damaged",
                "backup",
            ),
            (anyhow::anyhow!("odd"), "start_failed", "LOG_LEVEL"),
        ] {
            let failure = failure(&error);
            assert_eq!(failure.code.as_deref(), Some(code), "{error:#}");
            assert!(failure.hint.as_deref().unwrap_or_default().contains(next), "{failure:?}");
            assert!(!failure.hint.as_deref().unwrap_or_default().contains("permissions"), "{failure:?}");
        }
    }
}
