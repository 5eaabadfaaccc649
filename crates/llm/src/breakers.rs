//! Who did not answer lately: a breaker for each tenant, provider, model and key, in this process. The front doors and the runs
//! of a process share them.
//!
//! Invariant: bounded. What is forgotten counts as closed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use lantern_policy::breaker::{Breaker, Trouble};
use lantern_policy::turns::Cooling;
use lantern_types::{At, Dur, Failure, TenantId};

use crate::failure::{AUTH, INTERRUPTED, INVALID_RESPONSE, RATE_LIMITED, TIMEOUT, UNAVAILABLE, UNREACHABLE};

/// Breakers that are remembered.
const BREAKERS_MAX: usize = 10_000;

/// One line to a model: whose, at which provider, which model, and which of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Whose.
    pub tenant: TenantId,
    /// The provider's name, as configured.
    pub provider: String,
    /// The provider's own name of the model.
    pub model: String,
    /// Which of the provider's keys, from 0.
    pub key: u32,
}

/// All of them. Only lines that failed are kept.
#[derive(Default)]
pub struct Breakers {
    // Sections under this lock are one look-up, but for the list of one tenant's.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    of: HashMap<TenantId, HashMap<Line, Breaker>>,
    count: usize,
}

impl Breakers {
    /// Whether the line may be used in its turn. Of a line that has cooled down, the first that asks tries for all others.
    pub fn lets(&self, line: &Line, now: At) -> bool {
        self.with(|known| known.find(line).is_none_or(|breaker| breaker.lets(now)))
    }

    /// Until when it is open.
    pub fn until(&self, line: &Line) -> Option<At> {
        self.with(|known| known.find(line).and_then(|breaker| breaker.until()))
    }

    /// The tenant's lines that are better left alone at this time.
    pub fn cooling(&self, tenant: TenantId, now: At) -> Vec<Cooling> {
        let cooling = |(line, breaker): (&Line, &Breaker)| {
            let until = breaker.rests(now)?;
            let (provider, model) = (line.provider.clone(), line.model.clone());
            Some(Cooling { provider, model, key: line.key, until })
        };
        self.with(|known| known.of.get(&tenant).into_iter().flatten().filter_map(cooling).collect())
    }

    /// The line was answered on.
    pub fn answered(&self, line: &Line) {
        self.with(|known| {
            let lines = known.of.get_mut(&line.tenant);
            if lines.is_some_and(|lines| lines.remove(line).is_some()) {
                known.count = known.count.saturating_sub(1);
            }
        });
    }

    /// The line failed. `asked` is how long the provider asks to wait.
    pub fn failed(&self, line: &Line, trouble: Trouble, asked: Option<Dur>, now: At) {
        self.with(|known| {
            let new = known.find(line).is_none();
            if new && known.count >= BREAKERS_MAX {
                // Rare, and each of them costs one failed attempt at most.
                *known = Known::default();
            }
            known.count += usize::from(new);
            let lines = known.of.entry(line.tenant).or_default();
            lines.entry(line.clone()).or_default().failed(trouble, asked, now);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn find(&mut self, line: &Line) -> Option<&mut Breaker> {
        self.of.get_mut(&line.tenant)?.get_mut(line)
    }
}

/// What a failed call of a run says of who was asked.
pub fn trouble(failure: &Failure) -> Trouble {
    match failure.code {
        RATE_LIMITED => Trouble::Rate,
        AUTH => Trouble::Key,
        UNAVAILABLE | UNREACHABLE | INTERRUPTED | TIMEOUT | INVALID_RESPONSE => Trouble::Down,
        "model_not_found" => Trouble::Missing,
        _ => Trouble::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: i64) -> At {
        At::from_micros(secs * 1_000_000)
    }

    fn line(tenant: u8, key: u32) -> Line {
        let tenant = TenantId::from_bytes(&[tenant; 16]).unwrap();
        Line { tenant, provider: "p".to_owned(), model: "m".to_owned(), key }
    }

    #[test]
    fn a_line_rests_alone() {
        let breakers = Breakers::default();
        let asked = Some(Dur::from_secs(30));
        breakers.failed(&line(1, 0), Trouble::Rate, asked, at(0));
        breakers.failed(&line(1, 1), Trouble::Wrong, asked, at(0));
        let keys = |tenant: u8, now| {
            let cooling = breakers.cooling(line(tenant, 0).tenant, at(now));
            cooling.iter().map(|cooling| (cooling.key, cooling.until)).collect::<Vec<_>>()
        };
        assert_eq!(keys(1, 29), [(0, at(30))]);
        assert_eq!(keys(2, 29), [], "another tenant has its own");
        assert!(!breakers.lets(&line(1, 0), at(29)) && breakers.lets(&line(1, 1), at(29)));
        assert_eq!(keys(1, 30), [], "it may be tried");
        assert!(breakers.lets(&line(1, 0), at(30)));
        assert_eq!(keys(1, 31), [(0, at(60))], "somebody tries it");
        breakers.answered(&line(1, 0));
        assert_eq!(keys(1, 31), []);
        assert_eq!(breakers.until(&line(1, 0)), None);
    }

    #[test]
    fn what_a_failure_says_of_who_was_asked() {
        for (code, want) in [
            ("provider_rate_limited", Trouble::Rate),
            ("provider_auth", Trouble::Key),
            ("provider_unavailable", Trouble::Down),
            ("provider_interrupted", Trouble::Down),
            ("provider_timeout", Trouble::Down),
            ("model_not_found", Trouble::Missing),
            ("provider_refused", Trouble::Wrong),
            ("egress_denied", Trouble::Wrong),
            ("unavailable", Trouble::Wrong),
        ] {
            assert_eq!(trouble(&Failure::refused(code, "")), want, "{code}");
        }
    }
}
