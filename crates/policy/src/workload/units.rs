//! Amounts as a spec writes them: `500m` of a processor, `256Mi` of memory, `30s`.

use lantern_types::Dur;

/// Thousandths of a processor: `500m`, `2`, `1.5`.
pub(super) fn millis_of_cpu(text: &str) -> Option<u32> {
    let millis = match text.strip_suffix('m') {
        Some(millis) => millis.parse().ok()?,
        None => thousandths(text)?,
    };
    (millis > 0).then_some(millis)
}

fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if part.len() > 3 || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    whole.checked_mul(1_000)?.checked_add(part)
}

/// Bytes: `64Mi`, `1Gi`, `500M`, `1048576`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let units = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1_u64 << 40),
        ("K", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let found = units.into_iter().find_map(|(unit, size)| text.strip_suffix(unit).map(|n| (n, size)));
    let (number, size) = found.unwrap_or((text, 1));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(size).filter(|bytes| *bytes > 0)
}

/// A time: `30s`, `5m`, `2h`, or seconds.
pub(super) fn time(text: &str) -> Option<Dur> {
    let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds <= 366 * 86_400).map(Dur::from_secs);
    seconds.or_else(|| Dur::parse(text)).filter(|time| time.micros() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_meant() {
        for (text, want) in [
            ("500m", Some(500)),
            ("2", Some(2_000)),
            ("1.5", Some(1_500)),
            ("0.25", Some(250)),
            (".5", None),
            ("0", None),
            ("1.2345", None),
            ("-1", None),
            ("x", None),
            ("5000000m", Some(5_000_000)),
        ] {
            assert_eq!(millis_of_cpu(text), want, "{text}");
        }
        for (text, want) in [
            ("64Mi", Some(64 << 20)),
            ("1Gi", Some(1 << 30)),
            ("500M", Some(500_000_000)),
            ("42", Some(42)),
            ("0", None),
            ("Mi", None),
            ("1.5Gi", None),
            ("64mb", None),
            ("99999999999Ti", None),
        ] {
            assert_eq!(bytes(text), want, "{text}");
        }
        for (text, want) in [
            ("30s", Some(30)),
            ("5m", Some(300)),
            ("2h", Some(7_200)),
            ("90", Some(90)),
            ("0s", None),
            ("soon", None),
        ] {
            assert_eq!(time(text), want.map(Dur::from_secs), "{text}");
        }
    }
}
