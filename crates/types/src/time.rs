//! Time as data: [`At`] is microseconds since 1970 UTC, [`Dur`] a length in microseconds.
//!
//! Nobody here can ask what time it is; pure code receives an `At`. On the wire an `At` is RFC 3339 with a `Z`;
//! in journals and tables it is the integer.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An instant: microseconds since the Unix epoch, UTC. Serialises as the integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct At(i64);

/// A length of time in microseconds. Serialises as the integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dur(i64);

/// The text was not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time")]
pub struct InvalidTime;

impl At {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }
    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: At) -> Dur {
        Dur(self.0.saturating_sub(earlier.0).max(0))
    }
}

impl Add<Dur> for At {
    type Output = At;
    fn add(self, dur: Dur) -> At {
        At(self.0.saturating_add(dur.0))
    }
}

impl Add for Dur {
    type Output = Dur;
    fn add(self, other: Dur) -> Dur {
        Dur(self.0.saturating_add(other.0))
    }
}

impl Sub<Dur> for At {
    type Output = At;
    fn sub(self, dur: Dur) -> At {
        At(self.0.saturating_sub(dur.0))
    }
}

/// RFC 3339 in UTC, with as many fractional digits as are needed.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => {
                f.write_str(if self.0 < 0 { "-009999-01-02T01:59:59Z" } else { "9999-12-30T22:00:00Z" })
            }
        }
    }
}

impl FromStr for At {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        text.parse::<jiff::Timestamp>().map(|t| At(t.as_microsecond())).map_err(|_| InvalidTime)
    }
}

impl Dur {
    /// No time at all.
    pub const ZERO: Dur = Dur(0);

    /// From microseconds; negative counts as zero.
    pub const fn from_micros(micros: i64) -> Self {
        Self(if micros < 0 { 0 } else { micros })
    }
    /// From milliseconds, saturating.
    pub const fn from_millis(millis: u64) -> Self {
        let micros = millis.saturating_mul(1_000);
        Self(if micros > i64::MAX as u64 { i64::MAX } else { micros.cast_signed() })
    }
    /// From seconds, saturating.
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs.saturating_mul(1_000))
    }
    /// Microseconds.
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// Whole milliseconds, rounded down.
    pub const fn millis(self) -> i64 {
        self.0 / 1_000
    }
    /// The same length as the standard library's type.
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.unsigned_abs())
    }
    /// This length `n` times over, saturating.
    pub const fn times(self, n: u64) -> Dur {
        let n = if n > i64::MAX as u64 { i64::MAX } else { n.cast_signed() };
        Dur(self.0.saturating_mul(n))
    }
    /// Reads `250ms`, `30s`, `5m`, `2h` or `1d`; `None` for anything else or anything over a century.
    pub fn parse(text: &str) -> Option<Dur> {
        let split = text.find(|c: char| !c.is_ascii_digit())?;
        let (digits, unit) = text.split_at(split);
        let n: u64 = digits.parse().ok()?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let total = n.checked_mul(millis)?;
        (total <= 3_155_760_000_000).then(|| Dur::from_millis(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_is_rfc3339_on_the_wire() {
        let at = At::from_micros(1_790_000_000_123_456);
        assert_eq!(at.to_string(), "2026-09-21T14:13:20.123456Z");
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!("2026-09-21T16:13:20.123456+02:00".parse(), Ok(at));
        assert!("yesterday".parse::<At>().is_err());
    }

    #[test]
    fn durations_parse_or_refuse() {
        for (text, want) in [
            ("30s", Some(30_000)),
            ("250ms", Some(250)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("s", None),
            ("5", None),
            ("5w", None),
            ("-5s", None),
            ("99999999999999999999s", None),
            ("99999999d", None),
        ] {
            assert_eq!(Dur::parse(text).map(Dur::millis), want, "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(At::from_micros(i64::MAX) + Dur::from_secs(1), At::from_micros(i64::MAX));
        assert_eq!(At::from_micros(5).since(At::from_micros(9)), Dur::ZERO);
    }
}
