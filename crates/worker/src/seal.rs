//! Sealing: runs that are over get their receipts, a group at a time.
//!
//! Knows only when; what a receipt says, and that each run gets one, is the store's business. Runs whose process died, and
//! those of before there were receipts, are found like all others.

use std::sync::Arc;

use lantern_net::Shutdown;
use lantern_store::receipts::Round;
use lantern_types::Dur;

use crate::Deps;

/// How long to wait for others after a run was over, so that they share a commit and a signed head.
const GATHER: Dur = Dur::from_millis(50);
/// How often to look without being told.
const EVERY: Dur = Dur::from_secs(5);
/// Runs of one round.
const BATCH: u32 = 256;
const ISSUED: &str = "receipts_issued_total";

/// Seals until the process stops. What is over by then and has no receipt gets it from whoever is there, or at the next start.
pub(crate) async fn seal(deps: Arc<Deps>, stopping: Shutdown) {
    metrics::describe_counter!(ISSUED, "Receipts that were issued for runs that are over.");
    let mut wait = GATHER;
    loop {
        let round = async {
            deps.clock.sleep(wait).await;
            deps.notary.round(deps.clock.now(), BATCH).await
        };
        let done = tokio::select! {
            biased;
            () = stopping.requested() => return,
            done = round => done,
        };
        match done {
            Ok(Round { issued, more, .. }) => {
                metrics::counter!(ISSUED).increment(issued.into());
                if more {
                    wait = Dur::ZERO;
                    continue;
                }
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "receipts could not be issued; trying again");
            }
        }
        wait = GATHER;
        tokio::select! {
            biased;
            () = stopping.requested() => return,
            () = deps.notary.nudged() => {}
            () = deps.clock.sleep(EVERY) => {}
        }
    }
}
