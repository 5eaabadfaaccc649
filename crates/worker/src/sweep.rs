//! Sweeping: large bodies that no row names are removed, a few at a time.
//!
//! Knows only when; which, and why it is safe, is the store's business.

use std::sync::Arc;

use lantern_net::Shutdown;
use lantern_types::Dur;

use crate::Deps;

/// How often to look.
const EVERY: Dur = Dur::from_secs(10 * 60);
/// How soon to go on where there was more.
const MORE: Dur = Dur::from_secs(1);
/// Blobs looked at in one round.
const BATCH: u32 = 256;

/// Sweeps until the process stops. A round that is cut short is made again later.
pub(crate) async fn sweep(deps: Arc<Deps>, stopping: Shutdown) {
    let mut wait = EVERY;
    loop {
        let round = async {
            deps.clock.sleep(wait).await;
            deps.vault.sweep(deps.clock.now(), BATCH).await
        };
        let swept = tokio::select! {
            biased;
            () = stopping.requested() => return,
            swept = round => swept,
        };
        wait = match swept {
            Ok(true) => MORE,
            Ok(false) => EVERY,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "bodies that nothing names could not be removed; trying again later");
                EVERY
            }
        };
    }
}
