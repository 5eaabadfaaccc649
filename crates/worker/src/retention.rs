//! Retention: what was said in runs that are over for long enough is removed, a few runs at a time.
//!
//! Knows only when; which, and what is left of them, is the store's business.

use std::sync::Arc;

use lantern_net::Shutdown;
use lantern_store::retention::{self, Round};
use lantern_types::Dur;

use crate::Deps;

/// How often to look.
const EVERY: Dur = Dur::from_secs(10 * 60);
/// How soon to go on where there was more.
const MORE: Dur = Dur::from_secs(1);
/// Runs of one round.
const BATCH: u32 = 32;
const REMOVED: &str = "runs_content_removed_total";

/// Removes content until the process stops. A round that is cut short is gone on with later.
pub(crate) async fn retain(deps: Arc<Deps>, stopping: Shutdown) {
    metrics::describe_counter!(
        REMOVED,
        "Runs whose content was removed because it was kept for long enough."
    );
    let mut wait = MORE;
    loop {
        let round = async {
            deps.clock.sleep(wait).await;
            retention::round(&deps.db, &deps.vault, deps.content_kept, deps.clock.now(), BATCH).await
        };
        let done = tokio::select! {
            biased;
            () = stopping.requested() => return,
            done = round => done,
        };
        wait = match done {
            Ok(Round { runs, bodies, more }) => {
                metrics::counter!(REMOVED).increment(runs.into());
                if runs > 0 {
                    tracing::info!(runs, bodies, "removed the content of runs that are over for long enough");
                }
                if more { MORE } else { EVERY }
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "content that is kept no longer could not be removed; trying again later"
                );
                EVERY
            }
        };
    }
}
