//! Who commits for whom on PostgreSQL: appends of a tenant that come while others of it are under way wait, and leave
//! together in one transaction.
//!
//! Invariant: a tenant has at most [`WIDTH`] such transactions under way, and nobody waits while it has fewer. A turn
//! that ends, however it ends, goes to the first who waits; so a caller that is dropped takes nobody along. It never
//! lingers for company: a lone append leaves at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lantern_types::TenantId;
use tokio::sync::oneshot;

use super::tx::Batch;
use crate::error::Error;

/// Transactions of appends that one tenant may have under way. While one of them waits for its sync, the other is
/// filled; more would make groups smaller and commits dearer.
const WIDTH: usize = 2;
/// Appends of one transaction: bounds how long the first of them waits.
const GROUP_MAX: usize = 128;

/// The lanes of all tenants that are appending.
#[derive(Clone, Default)]
pub(super) struct Lanes {
    // Held for a few moves, and never across an await.
    tenants: Arc<Mutex<HashMap<TenantId, Lane>>>,
}

#[derive(Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<Waiting>,
}

/// An append that waits for somebody to commit it.
pub(super) struct Waiting {
    pub(super) batch: Arc<Batch>,
    pub(super) answer: oneshot::Sender<Answered>,
}

/// What one who waits is answered.
pub(super) enum Answered {
    /// Somebody else saw to it.
    Told(Told),
    /// It is its turn, with those that wait behind it.
    Lead(Turn),
}

/// What became of an append.
pub(super) enum Told {
    /// Its group was committed, with it or, when its guard did not hold, without.
    Committed(bool),
    /// Its group came to nothing, for a reason that may be another's: it tries by itself.
    Alone,
    /// Nobody knows what became of its group.
    Lost(Error),
}

/// The right to commit one group of a tenant's appends. Passed on when dropped.
pub(super) struct Turn {
    lanes: Lanes,
    tenant: TenantId,
}

impl Lanes {
    /// A turn at once, or what will tell of it.
    pub(super) fn enter(
        &self,
        tenant: TenantId,
        batch: &Arc<Batch>,
    ) -> Result<Turn, oneshot::Receiver<Answered>> {
        let mut tenants = self.tenants();
        let lane = tenants.entry(tenant).or_default();
        if lane.under_way < WIDTH {
            lane.under_way += 1;
            return Ok(Turn { lanes: self.clone(), tenant });
        }
        let (answer, told) = oneshot::channel();
        lane.waiting.push_back(Waiting { batch: Arc::clone(batch), answer });
        Err(told)
    }

    /// The first who still waits; without one, there is a free turn more.
    fn next(&self, tenant: TenantId) -> Option<Waiting> {
        let mut tenants = self.tenants();
        let lane = tenants.get_mut(&tenant)?;
        while let Some(next) = lane.waiting.pop_front() {
            if !next.answer.is_closed() {
                return Some(next);
            }
        }
        lane.under_way -= 1;
        if lane.under_way == 0 {
            tenants.remove(&tenant);
        }
        None
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Lane>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Those that wait by now, as many as go into one group with the caller's own.
    pub(super) fn company(&self) -> Vec<Waiting> {
        let mut tenants = self.lanes.tenants();
        let Some(lane) = tenants.get_mut(&self.tenant) else { return Vec::new() };
        let count = lane.waiting.len().min(GROUP_MAX - 1);
        lane.waiting.drain(..count).filter(|waiting| !waiting.answer.is_closed()).collect()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(next) = self.lanes.next(self.tenant) {
            let turn = Self { lanes: self.lanes.clone(), tenant: self.tenant };
            // One who has gone in the meantime gives it back in the error, and it is passed on from there.
            drop(next.answer.send(Answered::Lead(turn)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TenantId = lantern_types::DEV_TENANT;

    fn batch() -> Arc<Batch> {
        Arc::new(Batch::new())
    }

    fn turn_of(told: &mut oneshot::Receiver<Answered>) -> Option<Turn> {
        match told.try_recv() {
            Ok(Answered::Lead(turn)) => Some(turn),
            _ => None,
        }
    }

    #[test]
    fn a_turn_that_ends_goes_to_the_first_who_still_waits() {
        let lanes = Lanes::default();
        let [first, _second] = [(); WIDTH].map(|()| lanes.enter(ONE, &batch()).ok());
        let [gone, mut third, mut fourth] = [(); 3].map(|()| lanes.enter(ONE, &batch()).err());
        drop(gone);
        drop(first);
        let turn = third.as_mut().and_then(turn_of).expect("the third's turn");
        assert!(fourth.as_mut().and_then(turn_of).is_none(), "one turn was passed on");
        assert_eq!(turn.company().len(), 1, "the fourth goes with the third");
    }

    #[test]
    fn a_turn_that_nobody_takes_up_is_passed_on() {
        let lanes = Lanes::default();
        let [first, _second] = [(); WIDTH].map(|()| lanes.enter(ONE, &batch()).ok());
        let [third, mut fourth] = [(); 2].map(|()| lanes.enter(ONE, &batch()).err());
        drop(first);
        // It was given the turn, and goes before it looks.
        drop(third);
        assert!(fourth.as_mut().and_then(turn_of).is_some());
    }

    #[test]
    fn tenants_do_not_wait_for_each_other_and_leave_nothing_behind() {
        let lanes = Lanes::default();
        let other = TenantId::from_uuid(uuid::Uuid::from_u128(7));
        let turns = [(); WIDTH].map(|()| lanes.enter(ONE, &batch()).ok());
        assert!(lanes.enter(ONE, &batch()).is_err(), "all turns are taken");
        assert!(lanes.enter(other, &batch()).is_ok(), "another tenant has turns of its own");
        drop(turns);
        assert!(lanes.tenants().is_empty());
    }
}
