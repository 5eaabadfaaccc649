//! Receipts over HTTP: a run's own, whether one that somebody shows is true, the tenant's log, and the keys.
//!
//! Invariant: what is verified is what was submitted, by cryptography alone: no row is looked at but those of the published
//! keys, so nobody learns which runs there are. A receipt is issued once; asking again gives the same one.

mod keys;
mod log;
mod runs;
mod verify;

use lantern_edge::{Code, Error, Route};

use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    [runs::table(), verify::table(), log::table(), keys::table()].into_iter().flatten().collect()
}

/// Where what is said here is explained.
const DOCS: &str = "https://github.com/lantern-run/lantern/blob/main/docs/receipts.md";

fn not_in_the_log() -> Error {
    Error::new(Code::LogEntryNotFound, "the log has nothing there")
}
