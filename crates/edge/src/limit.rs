//! Rate limits: one bucket of tokens for each key, by the generic cell rate algorithm; or so many in a window of time.
//!
//! Invariant: memory is bounded by `KEYS_MAX`, and a key costs two integers. Reads no clock; callers bring the time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use lantern_types::{At, Dur};

/// Keys remembered at once. Those with a full bucket are forgotten first; when none has, newcomers wait.
const KEYS_MAX: usize = 100_000;

/// How much is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, in the long run…
    pub count: u32,
    /// …in this time.
    pub per: Dur,
    /// How many at once.
    pub burst: u32,
}

/// Buckets by key.
pub struct Buckets<K> {
    interval: Dur,
    slack: Dur,
    // Sections under this lock are one look-up, or one sweep when the map is full.
    full_at: Mutex<HashMap<K, At>>,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Full buckets.
    pub fn new(rate: Rate) -> Self {
        let interval = Dur::from_micros(rate.per.micros() / i64::from(rate.count.max(1)));
        let slack = interval.times(u64::from(rate.burst.max(1) - 1));
        Self { interval, slack, full_at: Mutex::new(HashMap::new()) }
    }

    /// Takes a token, or says how long until there is one.
    pub fn take(&self, key: K, now: At) -> Result<(), Dur> {
        self.take_many(key, now, 1)
    }

    /// Takes so many tokens or none, and says how long until there are so many. A bucket never holds more than its burst.
    pub fn take_many(&self, key: K, now: At, count: u32) -> Result<(), Dur> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= KEYS_MAX && !full_at.contains_key(&key) {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= KEYS_MAX {
                return Err(self.interval);
            }
        }
        let at = full_at.entry(key).or_insert(now);
        let full = (*at).max(now);
        let more = u64::from(count.saturating_sub(1));
        let missing = (full + self.interval.times(more)).since(now);
        if missing > self.slack {
            return Err(Dur::from_micros(missing.micros() - self.slack.micros()));
        }
        *at = full + self.interval.times(u64::from(count));
        Ok(())
    }
}

/// Windows by key: one begins with the first that is let through, and lets through so many until it ends.
pub struct Windows<K> {
    count: u32,
    per: Dur,
    // Sections under this lock are one look-up, or one sweep when the map is full.
    open: Mutex<HashMap<K, (At, u32)>>,
}

impl<K: Eq + Hash> Windows<K> {
    /// No window is open. The burst of `rate` is not looked at.
    pub fn new(rate: Rate) -> Self {
        Self { count: rate.count, per: rate.per, open: Mutex::new(HashMap::new()) }
    }

    /// Lets one through, or says how long until the window ends.
    pub fn take(&self, key: K, now: At) -> Result<(), Dur> {
        self.take_many(key, now, 1)
    }

    /// Lets so many through or none, and says how long until the window ends.
    pub fn take_many(&self, key: K, now: At, count: u32) -> Result<(), Dur> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= KEYS_MAX && !open.contains_key(&key) {
            open.retain(|_, (began, _)| *began + self.per > now);
            if open.len() >= KEYS_MAX {
                return Err(self.per);
            }
        }
        let (began, passed) = open.entry(key).or_insert((now, 0));
        if *began + self.per <= now {
            (*began, *passed) = (now, 0);
        }
        if passed.saturating_add(count) > self.count {
            return Err((*began + self.per).since(now));
        }
        *passed += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_lets_so_many_through_and_the_next_one_again() {
        let at = |millis: u64| At::from_micros(1_000_000) + Dur::from_millis(millis);
        for count in [5, 120] {
            let windows = Windows::new(Rate { count, per: Dur::from_secs(60), burst: 1 });
            for n in 0..u64::from(count) {
                assert_eq!(windows.take("a", at(n)), Ok(()));
            }
            assert_eq!(windows.take("a", at(1_000)), Err(Dur::from_millis(59_000)));
            assert_eq!(windows.take("a", at(59_999)), Err(Dur::from_millis(1)));
            assert_eq!(windows.take("b", at(1_000)), Ok(()));
            for _ in 0..count {
                assert_eq!(windows.take("a", at(60_000)), Ok(()));
            }
            assert_eq!(windows.take("a", at(60_000)), Err(Dur::from_secs(60)));
        }
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let buckets = Buckets::new(Rate { count: 120, per: Dur::from_secs(60), burst: 3 });
        let at = |millis: u64| At::from_micros(1_000_000) + Dur::from_millis(millis);
        for _ in 0..3 {
            assert_eq!(buckets.take("a", at(0)), Ok(()));
        }
        assert_eq!(buckets.take("a", at(0)), Err(Dur::from_millis(500)));
        assert_eq!(buckets.take("b", at(0)), Ok(()));
        assert_eq!(buckets.take("a", at(499)), Err(Dur::from_millis(1)));
        assert_eq!(buckets.take("a", at(500)), Ok(()));
        assert_eq!(buckets.take("a", at(500)), Err(Dur::from_millis(500)));
        // A refusal costs nothing: whoever waits as told gets through, however often they tried.
        assert_eq!(buckets.take("a", at(1_000)), Ok(()));
    }

    #[test]
    fn a_clock_that_jumps_by_hours_lets_no_more_through_than_one_that_waits() {
        const HOURS: Dur = Dur::from_secs(5 * 3_600);
        let now = At::from_micros(1_800_000_000_000_000);
        let rate = Rate { count: 10, per: Dur::from_secs(60), burst: 3 };
        let (buckets, windows) = (Buckets::new(rate), Windows::new(rate));
        let passed = |at: At| {
            let times = 0..100;
            (
                times.clone().filter(|_| buckets.take("a", at).is_ok()).count(),
                times.filter(|_| windows.take("a", at).is_ok()).count(),
            )
        };
        assert_eq!(passed(now), (3, 10));
        assert_eq!(passed(now + HOURS), (3, 10));
        // What is asked at an earlier time is not let through a second time.
        assert_eq!(passed(now), (0, 0));
        assert_eq!(passed(now + HOURS), (0, 0));
    }
}
