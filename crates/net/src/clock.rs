//! The real clock.
//!
//! Invariant: no answer is earlier than an earlier one, even when the machine's clock is set back; time then goes at half
//! its pace until the machine has caught up. It must not stand still: leases, timers and limits would stand still with it,
//! for as long as the clock was set back. Sleeping does not depend on the machine's clock at all.

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::{At, Dur};

/// The machine's clock, made monotone. Share one per process: two of them promise nothing to each other.
#[derive(Debug, Default)]
pub struct RealClock {
    // Sections under this lock are one comparison.
    last: Mutex<Option<Answer>>,
}

/// What was answered, and when by a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
struct Answer {
    micros: i64,
    passed: Instant,
}

impl RealClock {
    /// A clock that has not been read yet.
    pub const fn new() -> Self {
        Self { last: Mutex::new(None) }
    }

    fn at_least(&self, wall: i64, passed: Instant) -> At {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = last.map_or(wall, |last| wall.max(last.half_way(passed)));
        // Threads may look in another order than they come here.
        let passed = last.map_or(passed, |last| passed.max(last.passed));
        *last = Some(Answer { micros, passed });
        At::from_micros(micros)
    }
}

impl Answer {
    /// What time it is at least: this answer, and half of what has passed since.
    fn half_way(self, passed: Instant) -> i64 {
        let since = passed.saturating_duration_since(self.passed).as_micros() / 2;
        self.micros.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

impl Clock for RealClock {
    fn now(&self) -> At {
        self.at_least(wall_micros(), passed())
    }

    fn sleep(&self, dur: Dur) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(dur.std()))
    }
}

/// Microseconds since 1970; 0 on a machine whose clock is before that.
#[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
fn wall_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// What nobody sets.
#[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
fn passed() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_at_half_its_pace_until_it_is_caught_up() {
        const HOUR: i64 = 3_600_000_000;
        let (clock, start) = (RealClock::new(), passed());
        // What the machine's clock says, what has passed, and what is answered; in hours.
        for (wall, after, want) in [
            (10, 0, 10),
            (11, 1, 11),
            // Set back by four hours.
            (7, 1, 11),
            (9, 3, 12),
            (13, 7, 14),
            (15, 9, 15),
            (16, 10, 16),
            // And on by six.
            (23, 11, 23),
        ] {
            let passed = start + Dur::from_secs(after * 3_600).std();
            assert_eq!(clock.at_least(wall * HOUR, passed).micros(), want * HOUR, "after {after} hours");
        }
        // Another thread looked earlier and comes later.
        assert_eq!(clock.at_least(20 * HOUR, start).micros(), 23 * HOUR);
        assert_eq!(clock.at_least(20 * HOUR, start + Dur::from_secs(10 * 3_600).std()).micros(), 23 * HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_follows_the_runtime() {
        let clock = RealClock::new();
        clock.sleep(Dur::from_secs(86_400)).await;
        assert!(clock.now() <= clock.now());
    }
}
