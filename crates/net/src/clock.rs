//! The real clock.
//!
//! Invariant: no answer is earlier than an earlier one, even when the machine's clock is set back; time then stands
//! still until the machine has caught up. Sleeping does not depend on the machine's clock at all.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::{At, Dur};

/// The machine's clock, made monotone. Share one per process: two of them promise nothing to each other.
#[derive(Debug)]
pub struct RealClock {
    last: AtomicI64,
}

impl RealClock {
    /// A clock that has not been read yet.
    pub const fn new() -> Self {
        Self { last: AtomicI64::new(i64::MIN) }
    }

    fn at_least(&self, micros: i64) -> At {
        let earlier = self.last.fetch_max(micros, Ordering::Relaxed);
        At::from_micros(micros.max(earlier))
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> At {
        self.at_least(wall_micros())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let clock = RealClock::new();
        let answers: Vec<i64> = [5, 9, 7, 2, 10].map(|wall| clock.at_least(wall).micros()).to_vec();
        assert_eq!(answers, [5, 9, 9, 9, 10]);
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_follows_the_runtime() {
        let clock = RealClock::new();
        clock.sleep(Dur::from_secs(86_400)).await;
        assert!(clock.now() <= clock.now());
    }
}
