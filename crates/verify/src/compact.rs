//! The one byte form of an event: no space, every character in its shortest escape, every number a whole one in plain digits.
//!
//! Looks at JSON that was read already, so it need not understand it.

/// Whether this JSON stands there as it is always written.
pub(crate) fn is(json: &str) -> bool {
    let mut bytes = json.bytes();
    let (mut before, mut text) = (0, false);
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'"' => {
                text = !text;
                true
            }
            b'\\' => escape(&mut bytes),
            _ if text => true,
            b' ' | b'\t' | b'\n' | b'\r' => false,
            b'0' => before != b'-',
            b'1'..=b'9' => true,
            // After a digit: a fraction or an exponent.
            _ => !before.is_ascii_digit() || matches!(byte, b',' | b'}' | b']'),
        };
        if !fits {
            return false;
        }
        // What is within a text is before no number.
        before = if text { 0 } else { byte };
    }
    true
}

/// What follows a backslash: the short escapes, and in hex only control characters that have none.
fn escape(bytes: &mut impl Iterator<Item = u8>) -> bool {
    match bytes.next() {
        Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => true,
        Some(b'u') => match [(); 4].map(|()| bytes.next().unwrap_or(0)) {
            [b'0', b'0', b'0', last] => matches!(last, b'0'..=b'7' | b'b' | b'e' | b'f'),
            [b'0', b'0', b'1', last] => matches!(last, b'0'..=b'9' | b'a'..=b'f'),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_in_its_form() {
        let text: String = (0..0x300).filter_map(char::from_u32).chain("\u{2028}\u{1f600}".chars()).collect();
        for value in [
            json!({"seq": 1, "at": -7, "b": true, "n": null, "a": [0, -10, {"c": "1.5 e9"}]}),
            json!([text, "\\u0041", "-0", ""]),
            json!({"": 10}),
        ] {
            let written = value.to_string();
            assert!(is(&written), "{written}");
        }
    }

    #[test]
    fn every_other_form_of_the_same_is_refused() {
        for other in [
            r#"{"seq": 1}"#,
            r#"{"seq":1 }"#,
            "{\"seq\":1,\t\"at\":2}",
            "{\"seq\":1\r}",
            r#"{"seq":1.0}"#,
            r#"{"seq":1e3}"#,
            r#"{"seq":1E3}"#,
            r#"{"seq":-0}"#,
            r#"{"type":"Fin\u0069shed"}"#,
            r#"{"type":"a\/b"}"#,
            r#"{"a":"\u001F"}"#,
            r#"{"a":"\u000a"}"#,
            r#"{"a":"\u0022"}"#,
            r#"{"a":"\u00e9"}"#,
            r#"{"a":"\ud83d\ude00"}"#,
            r#"{"\u0061":1}"#,
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(other).is_ok(), "{other}");
            assert!(!is(other), "{other}");
        }
    }
}
