//! How long a server asks its client to wait: `Retry-After` (RFC 9110, section 10.2.3).
//!
//! Pure: reads headers and no clock. A date counts from the answer's own `Date`, so neither side's clock matters.

use http::{HeaderMap, HeaderName, header};
use jiff::fmt::rfc2822;
use lantern_types::Dur;

/// A wait that no number holds is taken for this long.
const YEAR_SECS: u64 = 365 * 86_400;

/// The wait that the headers of an answer ask for, given in seconds or as a date; `None` when they ask for none, or for one that
/// cannot be read. A date that is past is no wait at all.
pub fn retry_after(headers: &HeaderMap) -> Option<Dur> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let wait = text(&header::RETRY_AFTER)?;
    if !wait.is_empty() && wait.bytes().all(|digit| digit.is_ascii_digit()) {
        // What no number holds is long, and not nothing.
        return Some(Dur::from_secs(wait.parse().unwrap_or(YEAR_SECS)));
    }
    let until = rfc2822::parse(wait).ok()?.timestamp();
    let sent = rfc2822::parse(text(&header::DATE)?).ok()?.timestamp();
    let secs = until.as_second().saturating_sub(sent.as_second());
    Some(Dur::from_secs(u64::try_from(secs).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn seconds_and_dates_are_read() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:07 GMT");
        for (headers, want) in [
            (vec![("retry-after", "7")], Some(7)),
            (vec![("retry-after", " 0 ")], Some(0)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), date], Some(30)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), date], Some(0)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], None),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-5")], None),
            (vec![("retry-after", "")], None),
            (vec![("retry-after", "99999999999999999999")], Some(YEAR_SECS)),
            (vec![], None),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(retry_after(&map), want.map(Dur::from_secs), "{headers:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_fail(wait in "\\PC{0,40}", date in "\\PC{0,40}") {
            let mut map = HeaderMap::new();
            for (name, text) in [(header::RETRY_AFTER, wait), (header::DATE, date)] {
                if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                    map.insert(name, value);
                }
            }
            let asked = map.contains_key(header::RETRY_AFTER);
            proptest::prop_assert!(asked || retry_after(&map).is_none());
        }
    }
}
