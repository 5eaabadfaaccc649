//! What happened to the tenant's workloads, in pages: the newest workload first, and of each the last event first.
//!
//! Invariant: every event is of a run's journal and of nothing else, and has a number that stays: its workload's, and its place in that
//! journal. So pages neither repeat nor leave out what was there when the first was read, however many workloads come in between. Of a run
//! whose journal cannot be read there is nothing here, as in other lists. Reads only.

use lantern_edge::{Params, Result};
use lantern_policy::Scope;
use lantern_store::{journal, workloads};
use lantern_types::RunId;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::Happening;
use super::told;
use crate::App;
use crate::features::runs::history;

/// Events of a page: the most, and how many when nobody says.
const LIMIT_MAX: u32 = 200;
const LIMIT: u32 = 100;
/// Workloads that are looked at for a page: one whose journal cannot be read brings nothing.
const WORKLOADS_MAX: u32 = 200;
/// Bits of a number that are the place in a journal. With them a number is exact in every JSON reader for 2^33 workloads.
const PLACE_BITS: u32 = 20;
const PLACE_MAX: u64 = (1 << PLACE_BITS) - 1;

/// A page of what happened to workloads.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WorkloadAudit)]
pub(super) struct Audit {
    events: Vec<Happening>,
    /// What to send as `before` for the next page. Nothing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<u64>,
}

/// A place: a workload's number, and before which event of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    workload: u64,
    before: u64,
}

impl Place {
    /// Before everything.
    const NEWEST: Self = Self { workload: u64::MAX >> 1, before: PLACE_MAX + 1 };

    const fn of(id: u64) -> Self {
        Self { workload: id >> PLACE_BITS, before: id & PLACE_MAX }
    }
}

/// The number of an event.
fn id(workload: u64, seq: u64) -> u64 {
    (workload << PLACE_BITS) | seq.min(PLACE_MAX)
}

/// A page of events.
pub(super) async fn list(app: &App, scope: Scope, params: &Params) -> Result<Audit> {
    let limit = params.at_most("limit", LIMIT_MAX)?.unwrap_or(LIMIT);
    let before = params.parsed::<u64>("before", "a number from `nextBefore`")?;
    let from = before.map_or(Place::NEWEST, Place::of);
    let number = i64::try_from(from.workload).unwrap_or(i64::MAX);
    let found = workloads::numbered(&app.db, scope, number, WORKLOADS_MAX).await?;
    let looked_at_all = found.len() < usize::try_from(WORKLOADS_MAX).unwrap_or(usize::MAX);
    let (most, mut events, mut last) = (usize::try_from(limit).unwrap_or(usize::MAX), Vec::new(), None);
    for (number, run) in found {
        let workload = u64::try_from(number).unwrap_or_default();
        let upto = if workload == from.workload { from.before } else { PLACE_MAX + 1 };
        let left = u32::try_from(most.saturating_sub(events.len())).unwrap_or(limit);
        let read = of_run(app, scope, (run, workload), upto, left.saturating_add(1)).await;
        events.extend(history::readable(run, read)?.unwrap_or_default());
        if events.len() > most {
            events.truncate(most);
            return Ok(Audit { next_before: events.last().map(|event| event.id), events });
        }
        last = Some(id(workload, 0));
    }
    Ok(Audit { events, next_before: last.filter(|_| !looked_at_all) })
}

/// At most `limit` events of a run before this one, the last first.
async fn of_run(
    app: &App,
    scope: Scope,
    (run, workload): (RunId, u64),
    before: u64,
    limit: u32,
) -> Result<Vec<Happening>> {
    let upto = i64::try_from(before).unwrap_or(i64::MAX);
    let mut all = Vec::new();
    for append in journal::back(&app.db, scope, run, upto, limit).await? {
        let events = history::events(app, scope, run, &append).await?;
        let told = |event: &lantern_engine::Event| {
            told::happening(scope.tenant(), run, id(workload, event.seq), event)
        };
        all.extend(events.iter().rev().filter(|event| event.seq < before).map(told));
        if all.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_place_and_later_events_have_greater_ones() {
        assert_eq!(Place::of(id(3, 7)), Place { workload: 3, before: 7 });
        assert_eq!(Place::of(id(3, 0)), Place { workload: 3, before: 0 });
        assert!(id(3, 7) < id(3, 8) && id(3, PLACE_MAX) < id(4, 1));
        assert_eq!(Place::of(id(3, PLACE_MAX + 9)).workload, 3, "no event is another workload's");
        assert!(Place::of(u64::MAX).workload <= Place::NEWEST.workload);
    }
}
