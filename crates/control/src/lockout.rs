//! What was tried on accounts lately, in this process. How long anybody waits is decided by `lantern_policy::lockout`.
//!
//! Invariant: memory is bounded by [`KEYS_MAX`]; beyond it what is new is not counted, and limited by its source alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lantern_policy::lockout::{Tries, may_try};
use lantern_types::{At, Dur};

const KEYS_MAX: usize = 100_000;

/// Tries by address, whether anybody has it or not.
#[derive(Default)]
pub(crate) struct Lockout {
    // Sections under this lock are one look-up, or one sweep when the map is full.
    tries: Mutex<HashMap<String, Tries>>,
}

impl Lockout {
    fn tries(&self) -> MutexGuard<'_, HashMap<String, Tries>> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a try that may be made, before it is known to be wrong; or says how long until it may be made.
    pub(crate) fn enter(&self, email: &str, now: At) -> Result<(), Dur> {
        let mut tries = self.tries();
        may_try(tries.get(email).copied(), now)?;
        count(&mut tries, email, now);
        Ok(())
    }

    /// Counts a try that is made in any case.
    pub(crate) fn count(&self, email: &str, now: At) {
        count(&mut self.tries(), email, now);
    }

    /// The try was right: it does not count. Those before it do.
    pub(crate) fn right(&self, email: &str) {
        if let Some(tries) = self.tries().get_mut(email) {
            tries.wrong = tries.wrong.saturating_sub(1);
        }
    }

    /// Begins anew with an address.
    pub(crate) fn forget(&self, email: &str) {
        self.tries().remove(email);
    }
}

fn count(tries: &mut HashMap<String, Tries>, email: &str, now: At) {
    if tries.len() >= KEYS_MAX && !tries.contains_key(email) {
        tries.retain(|_, tries| !tries.forgotten(now));
        if tries.len() >= KEYS_MAX {
            return;
        }
    }
    let next = Tries::and(tries.get(email).copied(), now);
    tries.insert(email.to_owned(), next);
}
