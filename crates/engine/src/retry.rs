//! When a failed attempt is tried again, and how long to wait first. Deterministic: the jitter comes from the step.

use lantern_types::{At, Digest, Dur};
use serde::{Deserialize, Serialize};

/// A step's retry policy. Defaults: 3 attempts, 1 s doubling to at most 60 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first one included.
    #[serde(alias = "max_attempts")]
    pub max_attempts: u32,
    /// Before the second attempt, in milliseconds.
    #[serde(alias = "initial_interval_ms", alias = "initialInterval")]
    pub initial_interval_ms: u64,
    /// The longest wait, in milliseconds.
    #[serde(alias = "max_interval_ms", alias = "maxInterval")]
    pub max_interval_ms: u64,
    /// Each wait is this many percent of the one before: 200 doubles.
    #[serde(alias = "backoff_percent")]
    pub backoff_percent: u32,
    /// Failure codes that are never retried.
    #[serde(alias = "non_retryable")]
    pub non_retryable: Vec<String>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_interval_ms: 1_000,
            max_interval_ms: 60_000,
            backoff_percent: 200,
            non_retryable: Vec::new(),
        }
    }
}

/// What bears on the wait for the next attempt besides the policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait<'a> {
    /// When the last one failed.
    pub(crate) at: At,
    /// What the other side asked for.
    pub(crate) asked: Option<Dur>,
    /// No wait is longer, unless the other side asks for it: policies that were saved before there was a limit are still there.
    pub(crate) longest: Dur,
    /// Tells steps apart.
    pub(crate) salt: &'a str,
}

/// The most that a `Retry-After` from outside can make us wait.
const RETRY_AFTER_MAX: Dur = Dur::from_secs(3_600);

impl Retry {
    /// A policy that never tries again.
    pub fn never() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// When to try again after attempt number `attempt` failed at `at`; `None` when there are no attempts left. Attempts
    /// that a crash cut short are not counted.
    pub(crate) fn due(&self, attempt: u32, wait: &Wait<'_>) -> Option<At> {
        if attempt >= self.max_attempts {
            return None;
        }
        let asked = wait.asked.unwrap_or(Dur::ZERO).min(RETRY_AFTER_MAX);
        let first = self.interval(attempt).min(wait.longest).max(asked);
        Some(wait.at + (first + jitter(first, attempt, wait.salt)).min(wait.longest.max(asked)))
    }

    /// The longest wait that is written, in milliseconds, with the name that it is written under.
    pub(crate) fn longest(&self) -> (&'static str, u64) {
        let (first, most) = (self.initial_interval_ms, self.max_interval_ms);
        if first > most { ("initialInterval", first) } else { ("maxInterval", most) }
    }

    /// The wait after attempt number `attempt`, before jitter.
    fn interval(&self, attempt: u32) -> Dur {
        let mut millis = self.initial_interval_ms;
        for _ in 1..attempt {
            millis = millis.saturating_mul(u64::from(self.backoff_percent)) / 100;
            if millis >= self.max_interval_ms {
                break;
            }
        }
        Dur::from_millis(millis.min(self.max_interval_ms))
    }
}

/// Up to a tenth of the wait, so that a thousand runs refused at once do not return at once.
fn jitter(wait: Dur, attempt: u32, salt: &str) -> Dur {
    let digest = Digest::of_parts(&[salt.as_bytes(), &attempt.to_be_bytes()]);
    let die = digest.bytes().first().copied().unwrap_or(0);
    Dur::from_micros(wait.micros() / 10 * i64::from(die) / 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let retry = Retry { max_attempts: 9, max_interval_ms: 5_000, ..Retry::default() };
        let waits: Vec<i64> = (1..6).map(|n| retry.interval(n).millis()).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
    }

    #[test]
    fn attempts_end_and_retry_after_is_honoured_within_reason() {
        let retry = Retry::default();
        let at = At::from_micros(0);
        let wait = Wait { at, asked: None, longest: Dur::from_secs(366 * 86_400), salt: "s" };
        let asked = |secs| Wait { asked: Some(Dur::from_secs(secs)), ..wait };
        assert_eq!(retry.due(3, &wait), None);
        assert_eq!(Retry::never().due(1, &wait), None);
        let soon = retry.due(1, &asked(30)).unwrap();
        assert!(soon >= at + Dur::from_secs(30) && soon <= at + Dur::from_secs(33));
        let absurd = retry.due(1, &asked(1 << 40)).unwrap();
        assert!(absurd <= at + Dur::from_secs(3_960));
        assert_eq!(retry.due(1, &wait), retry.due(1, &wait));
    }

    #[test]
    fn no_wait_is_longer_than_a_wait_may_be() {
        let longest = Dur::from_secs(366 * 86_400);
        let wait = Wait { at: At::from_micros(7), asked: None, longest, salt: "s" };
        for millis in [18_000 * 86_400_000, u64::MAX] {
            let retry = Retry { initial_interval_ms: millis, max_interval_ms: millis, ..Retry::default() };
            assert_eq!(retry.due(1, &wait), Some(wait.at + longest), "{millis}");
        }
    }
}
