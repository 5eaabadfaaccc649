//! One-time passwords of a time (RFC 6238): six digits of half a minute, by HMAC-SHA-1, as every authenticator app makes them.
//!
//! Invariant: pure. A code counts for the step that it was made in and the ones beside it, for clocks that differ; which steps were
//! used before is the caller's to know, and a step that is not later than those is refused here.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use lantern_types::{At, Dur};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The bytes of a secret, as RFC 4226 recommends.
pub const SECRET: usize = 20;
/// How long a code is shown.
pub const STEP: Dur = Dur::from_secs(30);
/// The digits of a code.
pub const DIGITS: usize = 6;
/// Steps before and after the present one whose codes count, too.
const BESIDE: i64 = 1;

/// The step of a time.
pub const fn step(at: At) -> i64 {
    at.micros().div_euclid(STEP.micros())
}

/// The code of a step.
pub fn code(secret: &[u8], step: i64) -> String {
    format!("{:0width$}", truncated(secret, step, 1_000_000), width = DIGITS)
}

fn truncated(secret: &[u8], step: i64, modulus: u32) -> u32 {
    let mac = hmac::sign(&hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret), &step.to_be_bytes());
    let mac = mac.as_ref();
    let offset = mac.last().map_or(0, |last| usize::from(last & 0xf));
    let four = mac.get(offset..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    (u32::from_be_bytes(four) & 0x7fff_ffff) % modulus
}

/// The step that a code is of, at this time; `None` when it is wrong, or of a step that is not after `used`.
pub fn check(secret: &[u8], said: &str, now: At, used: i64) -> Option<i64> {
    let present = step(now);
    let steps = present - BESIDE..=present + BESIDE;
    let right = |step: &i64| verify_slices_are_equal(code(secret, *step).as_bytes(), said.as_bytes()).is_ok();
    steps.filter(|step| *step > used).find(right)
}

/// A secret as an address that apps read from a picture.
pub fn uri(issuer: &str, account: &str, secret: &str) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (issuer, account) = (encode(issuer), encode(account));
    format!("otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}")
}

/// A secret as people type it into their app: base 32, without padding (RFC 4648).
pub fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::new();
    for five in bytes.chunks(5) {
        let mut block = [0; 8];
        for (to, from) in block.iter_mut().skip(3).zip(five) {
            *to = *from;
        }
        let bits = u64::from_be_bytes(block);
        let letters = (five.len() * 8).div_ceil(5);
        for n in 0..letters {
            let five_bits = (bits >> (35 - 5 * n)) & 31;
            text.extend(
                usize::try_from(five_bits)
                    .ok()
                    .and_then(|at| LETTERS.get(at))
                    .map(|letter| char::from(*letter)),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8] = b"12345678901234567890";

    fn at(seconds: i64) -> At {
        At::from_micros(seconds * 1_000_000)
    }

    /// RFC 6238, appendix B: the rows of SHA-1, which have eight digits.
    #[test]
    fn the_vectors_of_the_standard() {
        for (seconds, want) in [
            (59, 94_287_082),
            (1_111_111_109, 7_081_804),
            (1_111_111_111, 14_050_471),
            (1_234_567_890, 89_005_924),
            (2_000_000_000, 69_279_037),
            (20_000_000_000, 65_353_130),
        ] {
            assert_eq!(truncated(SEED, step(at(seconds)), 100_000_000), want, "{seconds}");
            assert_eq!(code(SEED, step(at(seconds))), format!("{:06}", want % 1_000_000));
        }
    }

    /// RFC 4226, appendix D.
    #[test]
    fn the_vectors_of_counters() {
        let want = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871",
            "520489",
        ];
        for (n, want) in (0..).zip(want) {
            assert_eq!(code(SEED, n), want);
        }
    }

    #[test]
    fn a_code_counts_for_its_step_and_its_neighbours_once() {
        let now = at(3_000);
        for (steps, right) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let said = code(SEED, 100 + steps);
            assert_eq!(check(SEED, &said, now, -1), right.then_some(100 + steps), "{steps}");
            assert_eq!(check(SEED, &said, now, 100 + steps), None, "a second time");
        }
        assert_eq!(check(SEED, &code(SEED, 99), now, 100), None, "older than the one before");
        for said in ["", "000000", "12345", "1234567", "abcdef"] {
            assert_eq!(check(SEED, said, now, -1), None, "{said}");
        }
        assert_eq!(check(b"another secret of more", &code(SEED, 100), now, -1), None);
    }

    #[test]
    fn a_secret_is_typed_in_base_32() {
        let uri = uri("Lantern", "a+b@example.com", "MY");
        assert_eq!(uri, "otpauth://totp/Lantern:a%2Bb%40example%2Ecom?secret=MY&issuer=Lantern");
        // RFC 4648, section 10.
        for (bytes, want) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), want);
        }
        assert_eq!(base32(SEED), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }
}
