//! A breaker: remembers that a provider, a model and a key did not answer, and for how long they are better left alone.
//!
//! Invariant: it never forbids a call, it says who is to be asked last. After a cooldown one call at a time tries again. No clock:
//! the time is passed in.

use lantern_types::{At, Dur};

/// Failures in a row, of a kind that may pass by itself, that open it.
const FAILURES: u32 = 3;
/// The first cooldown of each kind; each in a row doubles it.
const RATE_COOLS: Dur = Dur::from_secs(2);
const DOWN_COOLS: Dur = Dur::from_secs(5);
const KEY_COOLS: Dur = Dur::from_secs(60);
/// No cooldown is longer, unless the provider asks for it.
const COOLS_MAX: Dur = Dur::from_secs(300);
/// No wait that a provider asks for counts for longer.
const ASKED_MAX: Dur = Dur::from_secs(3_600);
/// A call that tries again and has not been heard of for so long no longer keeps others from trying.
const TRIAL_MAX: Dur = Dur::from_secs(30);

/// Why an attempt came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Too many requests or tokens for now.
    Rate,
    /// The provider is out of order or out of reach; it did not do it, or nobody knows whether it did.
    Down,
    /// The provider does not accept our key, or its account has no money.
    Key,
    /// The provider has no such model.
    Missing,
    /// What is left of a cap does not pay for it.
    Budget,
    /// A policy of the tenant forbids it.
    Forbidden,
    /// The provider's wire has no words for the request.
    Unsayable,
    /// The request makes no sense: nobody else would answer it either.
    Wrong,
}

impl Trouble {
    /// Whether somebody else may be asked instead.
    pub const fn passes_on(self) -> bool {
        !matches!(self, Self::Wrong)
    }

    /// Its word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate limited",
            Self::Down => "not answering",
            Self::Key => "key refused",
            Self::Missing => "no such model",
            Self::Budget => "too dear for the cap",
            Self::Forbidden => "forbidden by a policy",
            Self::Unsayable => "another wire",
            Self::Wrong => "request refused",
        }
    }
}

/// The state of one provider, model and key. Closed to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    opened: u32,
    until: Option<At>,
    trial_until: Option<At>,
}

impl Breaker {
    /// Whether a call may be made in its turn. Once cooled down, the first that asks tries for all others.
    pub fn lets(&mut self, now: At) -> bool {
        let Some(until) = self.until else { return true };
        if now < until || self.trial_until.is_some_and(|trial| now < trial) {
            return false;
        }
        self.trial_until = Some(now + TRIAL_MAX);
        true
    }

    /// Until when it is open; `None` when closed.
    pub const fn until(&self) -> Option<At> {
        self.until
    }

    /// Until when it is better left alone, as far as is known at this time; `None` when it may be asked.
    pub fn rests(&self, now: At) -> Option<At> {
        let until = self.until?;
        if now < until { Some(until) } else { self.trial_until.filter(|trial| now < *trial) }
    }

    /// A call was answered.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// A call came to nothing. `asked` is how long the provider asks to wait.
    pub fn failed(&mut self, trouble: Trouble, asked: Option<Dur>, now: At) {
        self.trial_until = None;
        let cools = match trouble {
            Trouble::Rate => RATE_COOLS,
            Trouble::Down => DOWN_COOLS,
            Trouble::Key | Trouble::Missing => KEY_COOLS,
            // These say nothing of the provider.
            Trouble::Budget | Trouble::Forbidden | Trouble::Unsayable | Trouble::Wrong => return,
        };
        self.failures = self.failures.saturating_add(1);
        let patient = trouble == Trouble::Down && asked.is_none() && self.until.is_none();
        if patient && self.failures < FAILURES {
            return;
        }
        let own = cools.times(1 << self.opened.min(16)).min(COOLS_MAX);
        // A wait that is asked for counts in full, and never less than it.
        let wait = asked.map_or(own, |asked| asked.min(ASKED_MAX));
        self.opened = self.opened.saturating_add(1);
        self.until = Some(self.until.map_or(now + wait, |until| until.max(now + wait)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(millis: i64) -> At {
        At::from_micros(millis * 1_000)
    }

    #[test]
    fn it_opens_by_kind_and_closes_by_an_answer() {
        let ms = Dur::from_millis;
        for (troubles, asked, open_until) in [
            (vec![Trouble::Rate], None, Some(2_000)),
            (vec![Trouble::Rate], Some(ms(7_500)), Some(7_500)),
            (vec![Trouble::Rate], Some(ms(1)), Some(1)),
            (vec![Trouble::Rate], Some(ms(10_000_000)), Some(3_600_000)),
            (vec![Trouble::Down], None, None),
            (vec![Trouble::Down; 2], None, None),
            (vec![Trouble::Down; 3], None, Some(5_000)),
            (vec![Trouble::Down], Some(ms(900)), Some(900)),
            (vec![Trouble::Down; 4], None, Some(10_000)),
            (vec![Trouble::Key], None, Some(60_000)),
            (vec![Trouble::Wrong, Trouble::Budget, Trouble::Unsayable], None, None),
        ] {
            let mut breaker = Breaker::default();
            for trouble in &troubles {
                breaker.failed(*trouble, asked, at(0));
            }
            assert_eq!(breaker.until(), open_until.map(at), "{troubles:?} {asked:?}");
            assert_eq!(breaker.lets(at(0)), open_until.is_none(), "{troubles:?}");
            breaker.answered();
            assert!(breaker.lets(at(0)) && breaker == Breaker::default());
        }
    }

    #[test]
    fn one_call_at_a_time_tries_again() {
        let mut breaker = Breaker::default();
        breaker.failed(Trouble::Rate, None, at(0));
        assert!(!breaker.lets(at(1_999)));
        assert!(breaker.lets(at(2_000)));
        assert!(!breaker.lets(at(2_001)), "another one is trying");
        assert_eq!(breaker.rests(at(2_001)), Some(at(32_000)));
        assert!(breaker.lets(at(32_000)), "that was never heard of again");
        breaker.failed(Trouble::Rate, None, at(32_100));
        assert_eq!(breaker.until(), Some(at(36_100)), "twice as long");
    }

    proptest! {
        /// Whatever happens, it is never open for longer than was asked for or than the longest cooldown, and it opens again for one.
        #[test]
        fn it_always_lets_somebody_try_in_the_end(
            ops in proptest::collection::vec((0_u8..4, proptest::option::of(0_u64..10_000_000), 0_i64..100_000), 0..60)
        ) {
            let (mut breaker, mut now) = (Breaker::default(), 0);
            for (op, asked, later) in ops {
                now += later;
                match op {
                    0 => breaker.answered(),
                    1 => { breaker.lets(at(now)); }
                    2 => breaker.failed(Trouble::Down, asked.map(Dur::from_millis), at(now)),
                    _ => breaker.failed(Trouble::Rate, asked.map(Dur::from_millis), at(now)),
                }
                prop_assert!(breaker.until().is_none_or(|until| until <= at(now) + ASKED_MAX));
            }
            prop_assert!(breaker.lets(at(now) + ASKED_MAX + TRIAL_MAX));
        }
    }
}
