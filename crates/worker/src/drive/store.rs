//! What a driver does while the store cannot answer: it waits, and one of all that wait says so.
//!
//! Invariant: nothing is given up by it. Who is to stop stops instead.

use lantern_net::Shutdown;
use lantern_store::Error;

use super::{Deps, Ended, STORE_RETRY};

/// Waits a little for a store that could not answer; gives up when the process is stopping.
pub(super) async fn wait_for_the_store(deps: &Deps, stopping: &Shutdown, error: Error) -> Result<(), Ended> {
    if stopping.is_requested() {
        return Err(Ended::Store(error));
    }
    if deps.memo.tells(deps.clock.now()) {
        tracing::warn!(error = %chain(&error), "the store could not answer; every run that waits for it asks again");
    }
    deps.clock.sleep(STORE_RETRY).await;
    Ok(())
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
