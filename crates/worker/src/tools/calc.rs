//! `calc`: exact arithmetic on rational numbers, because models are bad at sums.
//!
//! `+ - * / % ^`, parentheses, decimals and thousands separators (`1_000`). Exact within 128-bit numerators and
//! denominators; what leaves that range is an error, never a rounded answer that looks exact.

use lantern_types::{EffectClass, Failure, ToolDef, ToolName};
use serde_json::{Value, json};

pub(super) const NAME: &str = "calc";

/// The longest expression, and the deepest nesting, that is read.
const LENGTH_MAX: usize = 16 * 1024;
const DEPTH_MAX: u32 = 128;
/// Decimals of a result that has no end.
const DECIMALS: u32 = 12;

pub(super) fn def() -> Option<ToolDef> {
    Some(ToolDef {
        name: ToolName::parse(NAME).ok()?,
        description: "Evaluates an arithmetic expression exactly: + - * / % ^, parentheses, decimals."
            .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": { "expression": { "type": "string", "description": "For example (120+33)*2" } },
            "required": ["expression"],
            "additionalProperties": false
        }),
        effect: EffectClass::Pure,
    })
}

pub(super) fn call(arguments: &Value) -> Result<Value, Failure> {
    let expression = arguments.get("expression").and_then(Value::as_str).unwrap_or_default();
    let value = evaluate(expression).map_err(|message| Failure::refused("calc_failed", message))?;
    let (text, exact) = value.decimal();
    let number = text.parse::<i64>().map(Value::from).unwrap_or(Value::String(text));
    Ok(json!({ "value": number, "exact": exact }))
}

/// A fraction in lowest terms with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rational {
    over: i128,
    under: i128,
}

const RANGE: &str = "the result leaves the range of exact numbers";

impl Rational {
    fn new(over: i128, under: i128) -> Result<Self, String> {
        if under == 0 {
            return Err("division by zero".to_owned());
        }
        let divisor = gcd(over.unsigned_abs(), under.unsigned_abs());
        let divisor = i128::try_from(divisor.max(1)).map_err(|_| RANGE)?;
        let sign = under.signum();
        let over = (over / divisor).checked_mul(sign).ok_or(RANGE)?;
        let under = (under / divisor).checked_mul(sign).ok_or(RANGE)?;
        Ok(Self { over, under })
    }
    fn plus(self, other: Self) -> Result<Self, String> {
        let left = self.over.checked_mul(other.under);
        let right = other.over.checked_mul(self.under);
        let sum = left.zip(right).and_then(|(left, right)| left.checked_add(right)).ok_or(RANGE)?;
        Self::new(sum, self.under.checked_mul(other.under).ok_or(RANGE)?)
    }
    fn negated(self) -> Result<Self, String> {
        Self::new(self.over.checked_neg().ok_or(RANGE)?, self.under)
    }
    fn times(self, other: Self) -> Result<Self, String> {
        let over = self.over.checked_mul(other.over).ok_or(RANGE)?;
        Self::new(over, self.under.checked_mul(other.under).ok_or(RANGE)?)
    }
    fn divided(self, other: Self) -> Result<Self, String> {
        let over = self.over.checked_mul(other.under).ok_or(RANGE)?;
        Self::new(over, self.under.checked_mul(other.over).ok_or(RANGE)?)
    }
    /// What is left of dividing, with the sign of the divisor's multiple rounded down.
    fn modulo(self, other: Self) -> Result<Self, String> {
        let ratio = self.divided(other)?;
        let whole = Self::new(ratio.over.div_euclid(ratio.under), 1)?;
        self.plus(whole.times(other)?.negated()?)
    }
    fn power(self, exponent: Self) -> Result<Self, String> {
        let times =
            u32::try_from(exponent.over.unsigned_abs()).ok().filter(|n| exponent.under == 1 && *n <= 4_096);
        let times = times.ok_or("exponents must be whole numbers of at most 4096")?;
        let raise = |base: i128| base.checked_pow(times).ok_or(RANGE);
        let (over, under) = (raise(self.over)?, raise(self.under)?);
        if exponent.over < 0 { Self::new(under, over) } else { Self::new(over, under) }
    }
    /// As a decimal, and whether that is the whole of it.
    fn decimal(self) -> (String, bool) {
        let (whole, mut rest) = (self.over / self.under, (self.over % self.under).unsigned_abs());
        let under = self.under.unsigned_abs();
        let mut digits = String::new();
        while rest != 0 && digits.len() < DECIMALS as usize {
            // The rest is below a 127-bit denominator: ten times it may leave 128 bits only for absurd fractions.
            let Some(next) = rest.checked_mul(10) else { break };
            digits.push(char::from_digit(u32::try_from(next / under).unwrap_or(0), 10).unwrap_or('0'));
            rest = next % under;
        }
        let sign = if self.over < 0 && whole == 0 { "-" } else { "" };
        let text = if digits.is_empty() { format!("{whole}") } else { format!("{sign}{whole}.{digits}") };
        (text, rest == 0)
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The value of an expression, or what is wrong with it.
fn evaluate(text: &str) -> Result<Rational, String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("the expression has {} bytes; the limit is {LENGTH_MAX}", text.len()));
    }
    let mut parser = Parser { rest: text.trim_start(), depth: 0 };
    let value = parser.sum()?;
    match parser.rest.chars().next() {
        None => Ok(value),
        Some(c) => Err(format!("unexpected {c:?}")),
    }
}

/// Reads by precedence: sum, product, sign, power, atom.
struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

impl Parser<'_> {
    fn take(&mut self, symbols: &[char]) -> Option<char> {
        let c = self.rest.chars().next().filter(|c| symbols.contains(c))?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default().trim_start();
        Some(c)
    }

    fn sum(&mut self) -> Result<Rational, String> {
        let mut value = self.product()?;
        while let Some(sign) = self.take(&['+', '-', '−']) {
            let next = self.product()?;
            value = value.plus(if sign == '+' { next } else { next.negated()? })?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<Rational, String> {
        let mut value = self.signed()?;
        while let Some(sign) = self.take(&['*', '×', '/', '÷', '%']) {
            let next = self.signed()?;
            value = match sign {
                '*' | '×' => value.times(next)?,
                '%' => value.modulo(next)?,
                _ => value.divided(next)?,
            };
        }
        Ok(value)
    }

    fn signed(&mut self) -> Result<Rational, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("the expression nests too deeply".to_owned());
        }
        let value = match self.take(&['+', '-', '−']) {
            Some('+') => self.signed()?,
            Some(_) => self.signed()?.negated()?,
            None => self.power()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn power(&mut self) -> Result<Rational, String> {
        let base = self.atom()?;
        if self.take(&['^']).is_some() { base.power(self.signed()?) } else { Ok(base) }
    }

    fn atom(&mut self) -> Result<Rational, String> {
        if self.take(&['(']).is_some() {
            let value = self.sum()?;
            return self.take(&[')']).map(|_| value).ok_or_else(|| "a `(` is not closed".to_owned());
        }
        self.number()
    }

    fn number(&mut self) -> Result<Rational, String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        if digits.is_empty() {
            let found = self.rest.chars().next().map_or_else(|| "the end".to_owned(), |c| format!("{c:?}"));
            return Err(format!("expected a number, found {found}"));
        }
        self.rest = rest.trim_start();
        let digits = digits.replace('_', "");
        let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
        let unreadable = || format!("{digits:?} is not a number");
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) || fraction.len() > 30 {
            return Err(unreadable());
        }
        let over: i128 = format!("{whole}{fraction}").parse().map_err(|_| unreadable())?;
        let places = u32::try_from(fraction.len()).map_err(|_| unreadable())?;
        Rational::new(over, 10_i128.checked_pow(places).ok_or(RANGE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_table() {
        for (text, want) in [
            ("2+2", json!(4)),
            ("2+3*4", json!(14)),
            ("(2+3)*4", json!(20)),
            ("2^3^2", json!(512)),
            ("-2^2", json!(-4)),
            ("2^-1", json!("0.5")),
            ("0.1+0.2", json!("0.3")),
            ("1/3", json!("0.333333333333")),
            ("-1/4", json!("-0.25")),
            ("7%3", json!(1)),
            ("-7%3", json!(2)),
            ("1_000 * 3", json!(3_000)),
            ("(120+33)+(4+0)", json!(157)),
            (" - - 5 ", json!(5)),
            ("170141183460469231731687303715884105727", json!("170141183460469231731687303715884105727")),
        ] {
            assert_eq!(call(&json!({ "expression": text })).map(|v| v["value"].clone()), Ok(want), "{text}");
        }
        assert_eq!(call(&json!({"expression": "1/3"})).unwrap()["exact"], json!(false));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let deep = "(".repeat(5_000);
        let long = "1+".repeat(20_000);
        for text in [
            "",
            "1/0",
            "2+",
            "x",
            "1 2",
            "(1",
            "1..2",
            ".",
            "2^0.5",
            "9^9999",
            "10^40*10^40",
            "0^-1",
            &deep,
            &long,
        ] {
            assert!(call(&json!({ "expression": text })).is_err(), "{}", &text[..text.len().min(20)]);
        }
    }

    use proptest::prelude::*;

    /// An expression, and its value as a fraction that nobody has shortened; nothing when something is divided by zero.
    type Known = (String, Option<(i128, i128)>);

    fn known() -> impl Strategy<Value = Known> {
        let number = (0_i128..10).prop_map(|n| (n.to_string(), Some((n, 1))));
        number.prop_recursive(3, 8, 2, |inner| {
            (inner.clone(), proptest::sample::select(&['+', '-', '*', '/', '%'][..]), inner, any::<bool>())
                .prop_map(|((left, a), sign, (right, b), negated)| {
                    let value = a.zip(b).and_then(|(a, b)| work_out(a, sign, b));
                    let text = format!("({left} {sign} {right})");
                    if negated { (format!("-{text}"), value.map(|(n, d)| (-n, d))) } else { (text, value) }
                })
        })
    }

    fn work_out((a, b): (i128, i128), sign: char, (c, d): (i128, i128)) -> Option<(i128, i128)> {
        match sign {
            '+' => Some((a * d + c * b, b * d)),
            '-' => Some((a * d - c * b, b * d)),
            '*' => Some((a * c, b * d)),
            _ if c == 0 => None,
            '/' => Some((a * d, b * c)),
            _ => {
                let (over, under) = (a * d, b * c);
                let (over, under) = if under < 0 { (-over, -under) } else { (over, under) };
                let whole = over.div_euclid(under);
                Some((a * d - whole * c * b, b * d))
            }
        }
    }

    proptest! {
        /// What comes out is what another way of working it out gives.
        #[test]
        fn sums_are_right((text, want) in known()) {
            let got = call(&json!({ "expression": text }));
            let Some((over, under)) = want else {
                prop_assert!(got.is_err(), "{} is divided by zero", text);
                return Ok(());
            };
            let got = got.unwrap();
            let shown = got["value"].as_str().map_or_else(|| got["value"].to_string(), str::to_owned);
            let (whole, fraction) = shown.split_once('.').unwrap_or((&shown, ""));
            let scale = 10_i128.pow(u32::try_from(fraction.len()).unwrap());
            let digits: i128 = format!("{}{fraction}", whole.trim_start_matches('-')).parse().unwrap();
            let digits = if shown.starts_with('-') { -digits } else { digits };
            let off = (digits * under - over * scale).abs();
            prop_assert_eq!(off == 0, got["exact"] == json!(true), "{} = {}", text, shown);
            // Cut after the last decimal, and not rounded.
            prop_assert!(off < under.abs(), "{} = {}, and is {}/{}", text, shown, over, under);
        }

        #[test]
        fn any_text_is_worked_out_or_refused(text in "[-+*/%^(). 0-9_×÷−]{0,40}|\\PC{0,30}") {
            if let Ok(answer) = call(&json!({ "expression": text })) {
                let shown = answer["value"].as_str().map_or_else(|| answer["value"].to_string(), str::to_owned);
                if answer["exact"] == json!(true) {
                    prop_assert_eq!(call(&json!({ "expression": shown })), Ok(answer));
                }
            }
        }
    }
}
