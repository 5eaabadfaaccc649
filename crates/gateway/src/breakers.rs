//! Who did not answer lately: a breaker for each tenant, provider, model and key, in this process.
//!
//! Invariant: bounded. What is forgotten counts as closed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use lantern_policy::breaker::{Breaker, Trouble};
use lantern_types::{At, Dur, TenantId};

/// Breakers that are remembered.
const BREAKERS_MAX: usize = 10_000;

/// One line to a model: whose, at which provider, which model, and which of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) tenant: TenantId,
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) key: usize,
}

/// All of them. Only lines that failed are kept.
#[derive(Default)]
pub(crate) struct Breakers {
    // Sections under this lock are one look-up.
    known: Mutex<HashMap<Line, Breaker>>,
}

impl Breakers {
    /// Whether the line may be used in its turn.
    pub(crate) fn lets(&self, line: &Line, now: At) -> bool {
        self.with(|known| known.get_mut(line).is_none_or(|breaker| breaker.lets(now)))
    }

    /// Until when it is open.
    pub(crate) fn until(&self, line: &Line) -> Option<At> {
        self.with(|known| known.get(line).and_then(Breaker::until))
    }

    /// The line was answered on.
    pub(crate) fn answered(&self, line: &Line) {
        self.with(|known| known.remove(line));
    }

    /// The line failed.
    pub(crate) fn failed(&self, line: &Line, trouble: Trouble, asked: Option<Dur>, now: At) {
        self.with(|known| {
            if known.len() >= BREAKERS_MAX && !known.contains_key(line) {
                // Rare, and each of them costs one failed attempt at most.
                known.clear();
            }
            known.entry(line.clone()).or_default().failed(trouble, asked, now);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Line, Breaker>) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
