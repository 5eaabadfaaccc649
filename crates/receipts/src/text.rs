//! Bytes as text: base64 and hex, each in one form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads so many bytes as [`base64`] writes them. Nothing else passes: no other alphabet, no missing padding, no stray bits.
pub(crate) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes: [u8; N] = STANDARD.decode(text).ok()?.try_into().ok()?;
    (base64(&bytes) == text).then_some(bytes)
}

/// A whole number as it is always written: digits without a leading zero.
pub(crate) fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_form_is_read() {
        assert_eq!(bytes::<2>("/+8="), Some([0xff, 0xef]));
        for other in ["_-8=", "/+8", "/+9=", "/+8==", " /+8=", "/+8=\n", ""] {
            assert_eq!(bytes::<2>(other), None, "{other:?}");
        }
        assert_eq!(number("0"), Some(0));
        for other in ["00", "+1", "-1", "1 ", "", "1e3", "18446744073709551616"] {
            assert_eq!(number(other), None, "{other:?}");
        }
    }
}
