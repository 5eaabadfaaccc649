//! JSON as people wrote it, read so that nothing of it is altered in silence.
//!
//! Invariant: a value from here says what its text said, and says it again when it is written and read once more. What
//! would come out as something else (a key that is there twice, a whole number that no 64 bits hold) is a fault that
//! says where. The text is read once; its depth and its numbers are looked at beforehand, from its bytes alone.

use std::fmt;

use lantern_types::limits::JSON_DEPTH_MAX;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value};

/// The most of a key that a place shows, in characters.
const KEY_MAX: usize = 64;
/// A key that the JSON library would take for a note to itself when it reads the value again.
const RESERVED: &str = "$serde_json::private::RawValue";
/// A number in fewer bytes than these is no infinity, unless it has an exponent.
const FINITE_BYTES: usize = 300;

/// Why a text is not taken.
#[derive(Debug)]
pub enum Fault {
    /// It is no JSON.
    Syntax(serde_json::Error),
    /// It is nested deeper than [`JSON_DEPTH_MAX`].
    Deep,
    /// A key is there twice in one object.
    Twice(Place),
    /// A number would be altered.
    Number(Place),
    /// A key cannot be kept.
    Reserved(Place),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "{error}"),
            Self::Deep => write!(f, "it is nested deeper than {JSON_DEPTH_MAX}"),
            Self::Twice(place) | Self::Number(place) | Self::Reserved(place) => {
                write!(f, "{}: {}", place.path(), self.words())
            }
        }
    }
}

impl Fault {
    /// Where it is, when the text is JSON for all that.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Syntax(_) | Self::Deep => None,
            Self::Twice(place) | Self::Number(place) | Self::Reserved(place) => Some(place),
        }
    }

    /// What is wrong there.
    pub const fn words(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "is not JSON",
            Self::Deep => "is nested too deep",
            Self::Twice(_) => "is there twice in one object",
            Self::Number(_) => "is a number that 64 bits do not hold; send it as text",
            Self::Reserved(_) => "is a key that cannot be kept",
        }
    }
}

/// A place in a JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Place {
    /// As in the rest of the API: `input.list[2].name`; long keys are cut.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.0 {
            match step {
                Step::Key(key) => {
                    path.push_str(if path.is_empty() { "" } else { "." });
                    path.extend(key.chars().take(KEY_MAX));
                }
                Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        path
    }

    /// As an RFC 6901 pointer: `/input/list/2/name`. `None` when a key is too long to be shown whole.
    pub fn pointer(&self) -> Option<String> {
        let mut pointer = String::new();
        for step in &self.0 {
            pointer.push('/');
            match step {
                Step::Key(key) if key.len() > KEY_MAX => return None,
                Step::Key(key) => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        Some(pointer)
    }
}

/// The value that a text stands for.
pub fn read(text: &str) -> Result<Value, Fault> {
    let found = look(text.as_bytes());
    if found.depth > JSON_DEPTH_MAX {
        return Err(Fault::Deep);
    }
    let mut trail = Trail { numbers: 0, wide: found.wide, wrong: None, steps: Vec::new() };
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = Reader(&mut trail).deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    value.map_err(|error| {
        let wrong = trail.wrong.or_else(|| trail.is_infinite(&error).then_some(Wrong::Number));
        trail.steps.reverse();
        let place = Place(trail.steps);
        match wrong {
            None => Fault::Syntax(error),
            Some(Wrong::Twice) => Fault::Twice(place),
            Some(Wrong::Number) => Fault::Number(place),
            Some(Wrong::Reserved) => Fault::Reserved(place),
        }
    })
}

/// What bytes alone say of a text.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// How deep it nests, itself included.
    depth: usize,
    /// Which of its numbers, counted from the front, is the first that 64 bits do not hold.
    wide: Option<usize>,
}

/// Looks at brackets and numbers, before anything is built of them. Whatever is no JSON at all is the parser's to refuse.
fn look(bytes: &[u8]) -> Look {
    let (mut open, mut depth) = (0_usize, 0_usize);
    let (mut numbers, mut wide) = (0_usize, None);
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'{' | b'[' => {
                open = open.saturating_add(1);
                depth = depth.max(open);
                after
            }
            b'}' | b']' => {
                open = open.saturating_sub(1);
                after
            }
            b'"' => past_text(after),
            b'-' | b'0'..=b'9' => {
                let (number, after) = rest.split_at(rest.iter().take_while(|byte| in_number(**byte)).count());
                if wide.is_none() && is_wide(number) {
                    wide = Some(numbers);
                }
                numbers = numbers.saturating_add(1);
                after
            }
            _ => after,
        };
    }
    Look { depth, wide }
}

/// What comes after the quote that ends a text.
fn past_text(mut rest: &[u8]) -> &[u8] {
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => return after,
            b'\\' => after.get(1..).unwrap_or_default(),
            _ => after,
        };
    }
    rest
}

const fn in_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Whether a number is whole and fits no 64 bits, or is no finite number at all once it is read.
fn is_wide(number: &[u8]) -> bool {
    let exponent = number.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let text = std::str::from_utf8(number).unwrap_or_default();
    if exponent || number.contains(&b'.') {
        let may_be = exponent || number.len() >= FINITE_BYTES;
        return may_be && text.parse::<f64>().is_ok_and(f64::is_infinite);
    }
    let digits = number.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits > 18 && text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
}

/// What a reader remembers while it reads.
struct Trail {
    /// Numbers that were read.
    numbers: usize,
    /// The one to refuse.
    wide: Option<usize>,
    /// What was refused.
    wrong: Option<Wrong>,
    /// The way back from the fault, the innermost step first.
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Wrong {
    Twice,
    Number,
    Reserved,
}

impl Trail {
    fn refuse<E: de::Error>(&mut self, wrong: Wrong) -> E {
        self.wrong = Some(wrong);
        E::custom("refused")
    }

    /// Whether the parser itself refused the number that is next, for its size.
    fn is_infinite(&self, error: &serde_json::Error) -> bool {
        self.wide == Some(self.numbers) && error.to_string().starts_with("number out of range")
    }

    fn number<E: de::Error>(&mut self, value: impl Into<Value>) -> Result<Value, E> {
        let this = self.numbers;
        self.numbers = self.numbers.saturating_add(1);
        if self.wide == Some(this) { Err(self.refuse(Wrong::Number)) } else { Ok(value.into()) }
    }
}

struct Reader<'a>(&'a mut Trail);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.number(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.number(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.number(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            match list.next_element_seed(Reader(self.0)) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return Ok(Value::Array(items)),
                Err(error) => {
                    self.0.steps.push(Step::Index(items.len()));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if key == RESERVED {
                self.0.steps.push(Step::Key(key));
                return Err(self.0.refuse(Wrong::Reserved));
            }
            match map.entry(key) {
                Entry::Occupied(slot) => {
                    self.0.steps.push(Step::Key(slot.key().clone()));
                    return Err(self.0.refuse(Wrong::Twice));
                }
                Entry::Vacant(slot) => match object.next_value_seed(Reader(self.0)) {
                    Ok(value) => _ = slot.insert(value),
                    Err(error) => {
                        self.0.steps.push(Step::Key(slot.key().clone()));
                        return Err(error);
                    }
                },
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        for text in [
            "null",
            "true",
            "\"a\\\"b\"",
            "18446744073709551615",
            "-9223372036854775808",
            "0.1",
            "1e+300",
            "5e-324",
            "[1,[2,{}],{\"a\":[]}]",
            "{\"a\":{\"a\":1},\"b\":{\"a\":1}}",
            "{\"$serde_json::private::Number\":\"1\"}",
        ] {
            let value = read(text).unwrap();
            assert_eq!(value.to_string(), text);
            assert_eq!(read(&value.to_string()).unwrap(), value);
        }
        assert_eq!(read(" {\"n\": 1e2, \"m\": 100000000000000000000.5} ").unwrap()["n"], 100.0);
    }

    #[test]
    fn floats_come_back_to_the_last_bit() {
        // Beginnings of a sequence that goes through all 64-bit patterns.
        let mut bits = 1_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let float = f64::from_bits(bits);
            if float.is_finite() {
                let text = Value::from(float).to_string();
                assert_eq!(read(&text).unwrap().as_f64().map(f64::to_bits), Some(bits), "{text}");
            }
        }
    }

    #[test]
    fn what_would_be_altered_is_refused_and_its_place_named() {
        let huge = format!("{{\"h\":{}.5}}", "9".repeat(400));
        for (text, kind, path, pointer) in [
            ("{\"a\":1,\"a\":1}", "twice", "a", "/a"),
            ("{\"a\":1,\"\\u0061\":2}", "twice", "a", "/a"),
            ("{\"in\":[0,{\"b\":[1],\"b\":2}]}", "twice", "in[1].b", "/in/1/b"),
            ("{\"x/y\":{\"~\":1,\"~\":2}}", "twice", "x/y.~", "/x~1y/~0"),
            ("18446744073709551616", "number", "", ""),
            ("-9223372036854775809", "number", "", ""),
            ("[1,\"2\",{\"n\":-5,\"m\":123456789012345678901234567890}]", "number", "[2].m", "/2/m"),
            ("{\"a\":0.5,\"b\":[1e999]}", "number", "b[0]", "/b/0"),
            ("[-1E400]", "number", "[0]", "/0"),
            (&huge, "number", "h", "/h"),
            (
                "{\"a\":{\"$serde_json::private::RawValue\":\"1\"}}",
                "reserved",
                "a.$serde_json::private::RawValue",
                "/a/$serde_json::private::RawValue",
            ),
        ] {
            let fault = read(text).unwrap_err();
            let got = match &fault {
                Fault::Twice(_) => "twice",
                Fault::Number(_) => "number",
                Fault::Reserved(_) => "reserved",
                Fault::Syntax(_) | Fault::Deep => "other",
            };
            let place = fault.place().unwrap();
            assert_eq!(
                (got, &*place.path(), place.pointer().as_deref()),
                (kind, path, Some(pointer)),
                "{text}"
            );
        }
        let long = "k".repeat(100);
        let fault = read(&format!("{{\"{long}\":1,\"{long}\":1}}")).unwrap_err();
        assert_eq!(fault.place().map(|place| (place.path().len(), place.pointer())), Some((64, None)));
    }

    #[test]
    fn what_is_no_json_says_where_it_ends() {
        for (text, words) in [
            ("{\"a\":", "EOF while parsing a value at line 1 column 5"),
            ("{\"a\": 1}\n{", "trailing characters at line 2 column 1"),
            ("{\"a\": 01}", "invalid number at line 1 column 8"),
            ("{\"a\" 1e999}", "expected `:` at line 1 column 6"),
            ("[1-2]", "expected `,` or `]` at line 1 column 3"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.place().is_none());
            assert_eq!(fault.to_string(), words, "{text}");
        }
    }

    #[test]
    fn texts_are_looked_at_before_they_are_read() {
        for (text, depth, wide) in [
            ("1", 0, None),
            ("[[], {\"[[[\": \"\\\"[\"}]", 2, None),
            ("[\"99999999999999999999\", 7, 99999999999999999999]", 1, Some(1)),
            ("{\"a\\", 1, None),
            ("", 0, None),
        ] {
            assert_eq!(look(text.as_bytes()), Look { depth, wide }, "{text}");
        }
        assert!(matches!(read(&"[".repeat(100_000)), Err(Fault::Deep)));
    }
}
