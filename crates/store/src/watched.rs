//! Looks at the runs that somebody watches in this process, all of them at once, in case a hint was lost.
//!
//! Invariant: whoever listens to a run is woken at the latest [`EVERY`] after its row changed, whatever became of the hints,
//! while the database answers. What it costs depends on how many runs are watched, and not on how many watch them.

use std::sync::Arc;

use lantern_net::Shutdown;
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{Dur, RunId};

use crate::db::Db;
use crate::error::Result;
use crate::system::{self, Progress};

/// Hints are rarely lost: with a connection, or in a full queue.
pub const EVERY: Dur = Dur::from_secs(5);

/// Looks now and then until the process stops.
pub fn keep(db: &Db, tasks: &dyn Tasks, clock: Arc<dyn Clock>, stop: Shutdown) {
    let db = db.clone();
    let keeping = async move {
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => return,
                () = clock.sleep(EVERY) => {}
            }
            if let Err(error) = look(&db).await {
                tracing::debug!(%error, "watched runs were not looked at; the next look finds what this one would have");
            }
        }
    };
    tasks.spawn("store.watched", Box::pin(keeping));
}

/// Wakes whoever listens to a run that is not as the look before found it.
pub async fn look(db: &Db) -> Result<()> {
    let watched = db.hub().all_watched();
    if watched.is_empty() {
        return Ok(());
    }
    let mut found = system::progress(db, watched.clone()).await?;
    found.sort_unstable_by_key(|(run, _)| *run);
    for (_, run) in watched {
        db.hub().found(run, of(&found, run));
    }
    Ok(())
}

fn of(found: &[(RunId, Progress)], run: RunId) -> Option<Progress> {
    let at = found.binary_search_by_key(&run, |(run, _)| *run).ok()?;
    found.get(at).map(|(_, progress)| *progress)
}
