//! How soon another password may be tried on one account, whoever tries: a delay, never a lock.
//!
//! Invariant: no number of wrong passwords keeps an account's owner out. Tries from where they are signed in already do not wait,
//! nobody waits longer than [`LONGEST`], and what was tried is forgotten [`FORGOTTEN`] after the last of it. Knows neither accounts nor
//! addresses: an address that nobody has is treated alike.

use lantern_types::{At, Dur};

/// Wrong passwords before anybody waits: those of one source are limited sooner, by themselves.
pub const FREE: u32 = 20;
/// The longest that anybody waits.
pub const LONGEST: Dur = Dur::from_secs(60);
/// When nothing is tried for so long, it begins anew.
pub const FORGOTTEN: Dur = Dur::from_secs(3_600);

/// What was tried on an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// Wrong passwords.
    pub wrong: u32,
    /// When the last was tried.
    pub last: At,
}

impl Tries {
    /// With one more, now.
    pub fn and(before: Option<Self>, now: At) -> Self {
        let wrong = before.filter(|tries| !tries.forgotten(now)).map_or(0, |tries| tries.wrong);
        Self { wrong: wrong.saturating_add(1), last: now }
    }

    /// Whether they count no longer.
    pub fn forgotten(self, now: At) -> bool {
        self.last + FORGOTTEN <= now
    }
}

/// Whether another password may be tried now from a source that the account does not know, or how long until then.
pub fn may_try(tries: Option<Tries>, now: At) -> Result<(), Dur> {
    let Some(tries) = tries.filter(|tries| !tries.forgotten(now)) else { return Ok(()) };
    let Some(over) = tries.wrong.checked_sub(FREE) else { return Ok(()) };
    let gap = Dur::from_secs(1 << over.min(6)).min(LONGEST);
    let until = tries.last + gap;
    if until <= now { Ok(()) } else { Err(until.since(now)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> At {
        At::from_micros(1_800_000_000_000_000) + Dur::from_secs(seconds)
    }

    #[test]
    fn a_wait_doubles_up_to_a_minute_and_is_forgotten() {
        assert_eq!(may_try(None, at(0)), Ok(()));
        for (wrong, after, want) in [
            (1, 0, None),
            (19, 0, None),
            (20, 0, Some(1)),
            (20, 1, None),
            (21, 0, Some(2)),
            (21, 1, Some(1)),
            (25, 0, Some(32)),
            (26, 0, Some(60)),
            (u32::MAX, 0, Some(60)),
            (u32::MAX, 59, Some(1)),
            (u32::MAX, 60, None),
            (u32::MAX, 3_600, None),
        ] {
            let said = may_try(Some(Tries { wrong, last: at(0) }), at(after));
            assert_eq!(said, want.map_or(Ok(()), |wait| Err(Dur::from_secs(wait))), "{wrong} {after}");
        }
    }

    #[test]
    fn what_was_long_ago_begins_anew() {
        let one = Tries::and(None, at(0));
        assert_eq!(Tries::and(Some(one), at(3_599)), Tries { wrong: 2, last: at(3_599) });
        assert_eq!(Tries::and(Some(one), at(3_600)), Tries { wrong: 1, last: at(3_600) });
    }

    /// However fast somebody guesses from however many places, an account sees no more than this in a day.
    #[test]
    fn guesses_of_a_day_are_bounded() {
        let (mut tries, mut now, mut guesses) = (None, at(0), 0);
        while now < at(86_400) {
            match may_try(tries, now) {
                Ok(()) => {
                    tries = Some(Tries::and(tries, now));
                    guesses += 1;
                }
                Err(wait) => now = now + wait,
            }
        }
        assert!((1_440..=1_480).contains(&guesses), "{guesses}");
    }
}
