//! Money as integers. [`MicroUsd`] is a millionth of a US dollar; there are no floats and no silent overflow.
//!
//! Prices are `MicroUsd` per **million** tokens, and [`cost`] is the one place where tokens become money. It
//! rounds up, so a sum of costs is never less than the cost of the sum.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Millionths of a US dollar. Never negative in a ledger; a negative value is a refund.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(i64);

/// An amount left the range of 64-bit micro-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("amount out of range")]
pub struct Overflow;

/// A count of model tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(pub u64);

/// What a model costs, per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Per million prompt tokens.
    pub input: MicroUsd,
    /// Per million completion tokens.
    pub output: MicroUsd,
}

impl MicroUsd {
    /// Nothing.
    pub const ZERO: MicroUsd = MicroUsd(0);

    /// Whether it is nothing.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// From millionths of a dollar.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }
    /// Millionths of a dollar.
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// The sum, or `Overflow`.
    pub fn plus(self, other: MicroUsd) -> Result<MicroUsd, Overflow> {
        self.0.checked_add(other.0).map(MicroUsd).ok_or(Overflow)
    }
    /// The difference, or `Overflow`.
    pub fn minus(self, other: MicroUsd) -> Result<MicroUsd, Overflow> {
        self.0.checked_sub(other.0).map(MicroUsd).ok_or(Overflow)
    }
    /// Reads a decimal number of dollars as written (`"2.50"`): at most 6 decimals, no sign, no exponent.
    pub fn parse_usd(text: &str) -> Option<MicroUsd> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
            return None;
        }
        let whole: i64 = whole.parse().ok()?;
        let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
        whole.checked_mul(1_000_000)?.checked_add(fraction).map(MicroUsd)
    }
    /// Reads dollars from JSON, as text or as a number; what is not a whole number of micro-dollars is `None`.
    pub fn of_json(value: &Value) -> Option<MicroUsd> {
        match value {
            Value::String(text) => Self::parse_usd(text),
            Value::Number(number) => Self::parse_usd(&number.to_string()).or_else(|| {
                // A small number is written with an exponent: `1e-6`.
                let number = number.as_f64()?;
                let text = format!("{number:.6}");
                let same = text.parse::<f64>().ok()?.to_bits() == number.to_bits();
                Self::parse_usd(&text).filter(|_| same)
            }),
            _ => None,
        }
    }
    /// The JSON number of dollars that the contract's `costUsd` fields carry. For showing only: nothing is ever
    /// computed from it.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a display value; exact to a micro-dollar below 9 billion dollars"
    )]
    pub fn to_wire(self) -> f64 {
        self.0 as f64 / 1_000_000.0
    }
}

/// Dollars with six decimals, e.g. `$0.001230`.
impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let micros = self.0.unsigned_abs();
        write!(f, "{sign}${}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// What `input` and `output` tokens cost at `price`, each side rounded up to a whole micro-dollar.
pub fn cost(price: Price, input: Tokens, output: Tokens) -> Result<MicroUsd, Overflow> {
    let side = |tokens: Tokens, per_million: MicroUsd| -> Result<MicroUsd, Overflow> {
        let rate = u128::try_from(per_million.0).map_err(|_| Overflow)?;
        let micros = (u128::from(tokens.0) * rate).div_ceil(1_000_000);
        i64::try_from(micros).map(MicroUsd).map_err(|_| Overflow)
    };
    side(input, price.input)?.plus(side(output, price.output)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_come_from_json_as_they_are_written() {
        for (json, micros) in [
            ("\"0.25\"", Some(250_000)),
            ("0.25", Some(250_000)),
            ("3", Some(3_000_000)),
            ("0.000001", Some(1)),
            ("1e-6", Some(1)),
            ("0.00001", Some(10)),
            ("0.0000001", None),
            ("0.1234567", None),
            ("-0.000001", None),
            ("1e308", None),
            ("true", None),
        ] {
            let value = serde_json::from_str(json).unwrap();
            assert_eq!(MicroUsd::of_json(&value).map(MicroUsd::micros), micros, "{json}");
        }
    }

    const GPT_4O_MINI: Price = Price { input: MicroUsd(150_000), output: MicroUsd(600_000) };

    #[test]
    fn cost_rounds_up_each_side() {
        for (input, output, want) in
            [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1_000_000, 0, 150_000), (10, 10, 2 + 6), (7, 1, 2 + 1)]
        {
            assert_eq!(
                cost(GPT_4O_MINI, Tokens(input), Tokens(output)),
                Ok(MicroUsd(want)),
                "{input}/{output}"
            );
        }
    }

    #[test]
    fn nothing_wraps() {
        assert!(cost(GPT_4O_MINI, Tokens(u64::MAX), Tokens(0)).unwrap_or_default().micros() > 0);
        assert_eq!(
            cost(Price { input: MicroUsd(i64::MAX), output: MicroUsd(0) }, Tokens(u64::MAX), Tokens(0)),
            Err(Overflow)
        );
        assert_eq!(
            cost(Price { input: MicroUsd(-1), output: MicroUsd(0) }, Tokens(1), Tokens(0)),
            Err(Overflow)
        );
        assert_eq!(MicroUsd(i64::MAX).plus(MicroUsd(1)), Err(Overflow));
    }

    #[test]
    fn dollars_parse_exactly() {
        for (text, want) in [
            ("2.50", Some(2_500_000)),
            ("0.000001", Some(1)),
            ("7", Some(7_000_000)),
            ("0.0000001", None),
            ("-1", None),
            ("1e3", None),
            ("", None),
            (".5", None),
            ("9999999999999999", None),
        ] {
            assert_eq!(MicroUsd::parse_usd(text).map(MicroUsd::micros), want, "{text}");
        }
        assert_eq!(MicroUsd(1_230).to_string(), "$0.001230");
    }
}
