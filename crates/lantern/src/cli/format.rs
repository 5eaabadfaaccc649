//! Values as people read them: durations, tokens, money, times, and text from outside made safe to print.
//!
//! Invariant: nothing that comes out of [`line()`] or [`block`] can move the cursor, colour the screen or set a
//! title, whatever a model or a web page put in. Pure.

use lantern_types::{At, Dur, MicroUsd};
use serde_json::Value;

/// `0.4s`, `12.4s`, `3m 05s`, `2h 07m`.
pub(crate) fn duration(dur: Dur) -> String {
    let millis = dur.millis();
    let seconds = millis / 1_000;
    match seconds {
        0..60 => format!("{seconds}.{}s", millis % 1_000 / 100),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// A count with commas: `4,210`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Dollars with as many decimals as they need, at least two: `$0.00`, `$1.50`, `$0.000123`.
pub(crate) fn usd(amount: MicroUsd) -> String {
    let full = amount.to_string();
    let cut = full.trim_end_matches('0');
    let decimals = cut.rsplit('.').next().map_or(0, str::len);
    if decimals >= 2 { cut.to_owned() } else { format!("{cut}{}", "0".repeat(2 - decimals)) }
}

/// Reads a JSON number of dollars, as `costUsd` fields carry it. Anything else is nothing.
pub(crate) fn dollars(value: &Value) -> MicroUsd {
    let amount = value.as_f64().unwrap_or_default();
    // Through the decimal text: no cast, and no cent lost to a binary fraction.
    let (sign, text) =
        if amount < 0.0 { (-1, format!("{:.6}", -amount)) } else { (1, format!("{amount:.6}")) };
    MicroUsd::parse_usd(&text).map_or(MicroUsd::ZERO, |usd| MicroUsd::from_micros(sign * usd.micros()))
}

/// `2026-09-21 14:13:20Z`, or the text itself when it is no time.
pub(crate) fn time(text: &str) -> String {
    match text.parse::<At>() {
        Ok(at) => At::from_micros(at.seconds() * 1_000_000).to_string().replacen('T', " ", 1),
        Err(_) => line(text),
    }
}

/// Text from outside on one line: control characters and line ends become spaces.
pub(crate) fn line(text: &str) -> String {
    text.chars().map(|c| if hidden(c) || matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}

/// Text from outside on several lines: line ends and tabs stay, other control characters become `U+FFFD`.
pub(crate) fn block(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and those that turn the direction of writing.
fn hidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first `columns` columns of `text`, with `…` for the rest.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    let whole: usize = text.chars().map(width).sum();
    if whole <= columns {
        return text.to_owned();
    }
    let mut room = columns.saturating_sub(1);
    let fits = |c: &char| {
        let fits = width(*c) <= room;
        room = room.saturating_sub(width(*c));
        fits
    };
    let mut out: String = text.chars().take_while(fits).collect();
    out.push('…');
    out
}

/// The lines of `text`, each in at most `columns` columns, broken between words where there are words.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let (mut line, mut used) = (String::new(), 0);
        for word in paragraph.split_inclusive(' ') {
            let wide: usize = word.trim_end().chars().map(width).sum();
            if used > 0 && used + wide > columns {
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
                used = 0;
            }
            for c in word.chars() {
                // A word that is longer than a line is broken anywhere; a space is not carried over.
                if used + width(c) > columns && c != ' ' {
                    lines.push(std::mem::take(&mut line).trim_end().to_owned());
                    used = 0;
                }
                line.push(c);
                used += width(c);
            }
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// The last `columns` columns of `text`, with `…` for what is before.
pub(crate) fn tail(text: &str, columns: usize) -> String {
    let backwards: String = text.chars().rev().collect();
    cut(&backwards, columns).chars().rev().collect()
}

/// A character's columns, near enough: East Asian scripts and emoji take two.
pub(crate) const fn width(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A string field of an object, or nothing.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A whole-number field of an object, or zero.
pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_read_well() {
        for (millis, want) in [
            (0, "0.0s"),
            (449, "0.4s"),
            (12_400, "12.4s"),
            (59_999, "59.9s"),
            (60_000, "1m 00s"),
            (185_000, "3m 05s"),
            (7_620_000, "2h 07m"),
            (u64::MAX, "2562047788h 00m"),
        ] {
            assert_eq!(duration(Dur::from_millis(millis)), want, "{millis}");
        }
    }

    #[test]
    fn counts_and_money_read_well() {
        for (n, want) in [(0, "0"), (999, "999"), (1_000, "1,000"), (4_210_007, "4,210,007")] {
            assert_eq!(count(n), want);
        }
        for (amount, want) in [
            (json!(0), "$0.00"),
            (json!(1.5), "$1.50"),
            (json!(0.000_123), "$0.000123"),
            (json!(0.1 + 0.2), "$0.30"),
            (json!(-0.25), "-$0.25"),
            (json!(1e300), "$0.00"),
            (json!("free"), "$0.00"),
            (Value::Null, "$0.00"),
        ] {
            assert_eq!(usd(dollars(&amount)), want, "{amount}");
        }
    }

    #[test]
    fn times_lose_their_fractions_only() {
        assert_eq!(time("2026-09-21T14:13:20.123456Z"), "2026-09-21 14:13:20Z");
        assert_eq!(time("soon\u{1b}[2J"), "soon [2J");
    }

    #[test]
    fn nothing_from_outside_drives_the_terminal() {
        assert_eq!(line("a\u{1b}]0;title\u{7}b\r\nc"), "a ]0;title b  c");
        assert_eq!(block("a\r\nb\tc\u{1b}[31m\u{202e}"), "a\nb\tc\u{fffd}[31m\u{fffd}");
    }

    #[test]
    fn text_is_wrapped_between_words() {
        for (text, columns, want) in [
            ("one two three", 7, vec!["one two", "three"]),
            ("one\n\ntwo", 7, vec!["one", "", "two"]),
            ("abcdefgh ij", 3, vec!["abc", "def", "gh", "ij"]),
            ("  in four", 5, vec!["  in", "four"]),
            ("日本語", 4, vec!["日本", "語"]),
            ("", 5, vec![""]),
            ("ab", 0, vec!["a", "b"]),
        ] {
            assert_eq!(wrap(text, columns), want, "{text:?} {columns}");
        }
    }

    #[test]
    fn text_is_cut_by_columns() {
        for (text, columns, want) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("", 0, ""),
            ("a", 0, "…"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
        ] {
            assert_eq!(cut(text, columns), want, "{text} {columns}");
        }
        assert_eq!(tail("abcdef", 4), "…def");
    }
}
