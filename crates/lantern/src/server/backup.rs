//! `lantern backup` and `lantern restore`: a data folder as one file, and back.
//!
//! Says of the key, whether it is in the file or not, what follows from that. What is written and checked is the store's
//! business.

use std::path::PathBuf;

use clap::Args;
use lantern_net::RealClock;
use lantern_store::{Error, backup};
use lantern_types::edge::Clock as _;
use serde_json::json;

use super::advice::{self, Advice};
use crate::cli::{Console, Failure};
use crate::env;

/// Flags of `lantern backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "A server may go on meanwhile. What is in a bucket, and PostgreSQL, have backups of their own: see \
                  docs/operating.md."
)]
pub(crate) struct BackupArgs {
    /// The data folder of a server on the embedded database.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The file to write; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Put the key file into it too: whoever has the backup can then read everything.
    #[arg(long)]
    with_key: bool,
}

/// Flags of `lantern restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every digest, the pages of the database and the chain of every run's journal are checked first. Stop \
                  the server that was backed up for good before the restored one starts."
)]
pub(crate) struct RestoreArgs {
    /// What `lantern backup` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data folder to make; empty, or not there yet.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Writes a backup.
pub(super) fn make(args: &BackupArgs, console: &Console) -> Result<(), Failure> {
    let held = backup::make(&args.data_dir, &args.to, args.with_key, RealClock::new().now());
    let held = held.map_err(|error| advise(error, "cannot back up the data folder"))?;
    if held.key {
        console.warn("the master key is IN this backup: whoever has the file can read everything");
    } else {
        console.warn(&format!(
            "the master key is NOT in this backup, and without it nothing that was said in a run can be read: keep \
             {} or the folder's lantern.key, apart from this file",
            env::CREDENTIAL_KEY
        ));
    }
    missing(console, held.missing);
    let file = args.to.display().to_string();
    console.answer(&answer(&file, held), || {
        let backup::Held { runs, bodies, schema, .. } = held;
        format!("backed up {runs} runs and {bodies} large bodies, schema {schema}, to {file}")
    })
}

/// Restores a backup.
pub(super) fn restore(args: &RestoreArgs, console: &Console) -> Result<(), Failure> {
    let held = backup::restore(&args.file, &args.data_dir);
    let held = held.map_err(|error| advise(error, "cannot restore the backup"))?;
    if !held.key {
        console.note(&format!(
            "the key is not in it: start the server with the {} it had, or put its lantern.key into the folder",
            env::CREDENTIAL_KEY
        ));
    }
    missing(console, held.missing);
    let folder = args.data_dir.display().to_string();
    console.answer(&answer(&folder, held), || {
        let backup::Held { runs, bodies, .. } = held;
        format!("restored {runs} runs, the chain of each verified, and {bodies} large bodies to {folder}")
    })
}

fn missing(console: &Console, missing: u64) {
    if missing > 0 {
        console.warn(&format!(
            "{missing} large bodies were not in the folder as they were written: they are in a bucket, were removed \
             meanwhile, or the disk lost them"
        ));
    }
}

fn answer(place: &str, held: backup::Held) -> serde_json::Value {
    json!({ "to": place, "schema": held.schema, "runs": held.runs, "bodies": held.bodies,
        "bodiesMissing": held.missing, "key": held.key })
}

fn advise(error: Error, what: &'static str) -> Failure {
    let (code, next) = match &error {
        Error::Backup(_) => {
            ("backup_refused", "see docs/operating.md for what can be backed up and restored")
        }
        Error::Corrupt(_) => ("database_damaged", "use an earlier backup, and look after the disk"),
        Error::Foreign | Error::Earlier => ("database_foreign", "name the data folder of this Lantern"),
        Error::TooNew { .. } => ("database_too_new", "use the newer build that made it"),
        Error::Full => ("storage_full", "make space on the disk"),
        Error::Unavailable(_) => ("database_unavailable", "try again, as the user who runs the server"),
        _ => ("backup_failed", "see the permissions of the file and of the folder"),
    };
    advice::failure(&anyhow::Error::new(error).context(Advice::new(code, what, next)))
}
