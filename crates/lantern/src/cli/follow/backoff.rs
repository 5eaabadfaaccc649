//! How long to wait for a server that went away: longer each time, five minutes in all.
//!
//! Pure: says how long, and lets the caller wait.

use lantern_types::Dur;

/// A server that stays away longer is given up.
pub(crate) const TOTAL_MAX: Dur = Dur::from_secs(300);
const FIRST: Dur = Dur::from_millis(250);
const LONGEST: Dur = Dur::from_secs(10);

/// The waits of one absence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Dur>,
    waited: Dur,
}

impl Backoff {
    /// The next wait, or `None` when it has been long enough.
    pub(crate) fn next(&mut self) -> Option<Dur> {
        let wait = self.last.map_or(FIRST, |last| last.times(2).min(LONGEST));
        let waited = Dur::from_micros(self.waited.micros() + wait.micros());
        if waited > TOTAL_MAX {
            return None;
        }
        self.last = Some(wait);
        self.waited = waited;
        Some(wait)
    }

    /// The server is back.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_ten_seconds_and_end_after_five_minutes() {
        let mut backoff = Backoff::default();
        let waits: Vec<i64> = std::iter::from_fn(|| backoff.next()).map(Dur::millis).collect();
        assert_eq!(waits[..7], [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000]);
        assert!(waits[6..].iter().all(|wait| *wait == 10_000));
        let total: i64 = waits.iter().sum();
        assert!((290_000..=300_000).contains(&total), "{total}");
        backoff.reset();
        assert_eq!(backoff.next(), Some(FIRST));
    }
}
