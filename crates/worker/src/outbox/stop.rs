//! Orders to stop: where they go when the run that they mean is not there yet, or no longer.
//!
//! Invariant: an order is dropped only when nobody can take it any more. It overtakes starts, its own run's too, and
//! brings that one along; it follows a chain of continuations to its open end.

use lantern_engine::{Arrival, Fact, event};
use lantern_policy::Scope;
use lantern_store::inbox::Put;
use lantern_store::journal;
use lantern_store::outbox::{self, Due};
use lantern_store::{Error, Result};
use lantern_types::RunId;

use super::start::{self, Begun};
use super::{Errand, read};
use crate::Deps;

/// Puts an order to stop in a run's inbox. It follows the run to the one that it went on as, and when it comes before the
/// start of its run has been delivered, it delivers that first.
pub(super) async fn stop(deps: &Deps, row: &Due, to: (RunId, String), order: Arrival) -> Result<()> {
    let scope = row.scope;
    let (mut starter, (mut run, key)) = (row.run, to);
    loop {
        let (reached, put) = super::order(deps, scope, (run, key.clone()), &order).await?;
        if put != Put::Closed {
            return Ok(());
        }
        if reached != run {
            (starter, run) = (run, reached);
        }
        // Asked in this order: a start that is no longer owed has left a run, or will never leave one.
        let start = outbox::find(&deps.db, scope, starter, outbox::start_key(run)).await?;
        let owed = start.is_some() || outbox::owes_start(&deps.db, scope, starter, run).await?;
        let head = journal::head(&deps.db, scope, run).await?;
        match unheard(owed, head.map(|head| head.finished_at.is_some())) {
            Unheard::NotYet => {
                let not_yet = || Error::Unavailable("the run to stop has not started yet".into());
                if start_now(deps, &start.ok_or_else(not_yet)?).await? == Begun::Never {
                    return Ok(());
                }
            }
            Unheard::ByNobody => return Ok(()),
            Unheard::SinceStarted => {}
            Unheard::SinceOver => {
                let Some(next) = went_on_as(deps, scope, run).await? else { return Ok(()) };
                (starter, run) = (run, next);
            }
        }
    }
}

/// Delivers the row of a start out of its turn. Somebody may be delivering it, too.
async fn start_now(deps: &Deps, row: &Due) -> Result<Begun> {
    let Errand::Start(wanted) = read(deps, row).await? else { return Ok(Begun::Never) };
    start::begin(deps, row, wanted).await
}

/// Why a run did not take an order to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unheard {
    /// It is still to be started.
    NotYet,
    /// It was refused, or is deleted.
    ByNobody,
    /// It was started a moment ago: it takes the order now.
    SinceStarted,
    /// It is over.
    SinceOver,
}

/// `over` is that of the run, if it is there.
const fn unheard(owed: bool, over: Option<bool>) -> Unheard {
    match (over, owed) {
        (Some(true), _) => Unheard::SinceOver,
        (Some(false), _) => Unheard::SinceStarted,
        (None, true) => Unheard::NotYet,
        (None, false) => Unheard::ByNobody,
    }
}

/// The run that a run went on as, if it did. One whose end cannot be read has been given up, and went on as nothing.
async fn went_on_as(deps: &Deps, scope: Scope, run: RunId) -> Result<Option<RunId>> {
    let ends = journal::ends(&deps.db, scope, vec![run]).await?;
    let Some((_, last)) = ends.into_iter().flatten().next() else { return Ok(None) };
    let Ok(events) = event::decode(&last.bytes, None) else { return Ok(None) };
    Ok(events.iter().find_map(|event| match event.fact {
        Fact::ContinuedAsNew { run } => Some(run),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start that was delivered between the first try and these questions must not lose the order.
    #[test]
    fn an_order_to_stop_is_lost_only_when_nobody_can_take_it() {
        for (owed, over, why) in [
            (true, None, Unheard::NotYet),
            (true, Some(false), Unheard::SinceStarted),
            (false, Some(false), Unheard::SinceStarted),
            (true, Some(true), Unheard::SinceOver),
            (false, Some(true), Unheard::SinceOver),
            (false, None, Unheard::ByNobody),
        ] {
            assert_eq!(unheard(owed, over), why, "owed {owed}, over {over:?}");
        }
    }
}
