//! Receipts of version 1, which other systems issued: a payload in canonical JSON, and a signature.
//!
//! They are checked and never made: their journal hash covers less than it says, and nothing proves that none is missing.

use serde_json::{Map, Value};

use crate::Invalid;
use crate::key::{Signature, VerifyKey};

/// The canonical bytes of a payload: members in order, no spaces, characters of HTML escaped, numbers as Go writes them.
pub fn canonical(payload: &Map<String, Value>) -> Vec<u8> {
    let mut out = String::new();
    object(payload, &mut out);
    out.into_bytes()
}

/// Whether one of these keys signed this payload.
pub fn check(payload: &Map<String, Value>, signature: &str, keys: &[VerifyKey]) -> Result<(), Invalid> {
    let signature =
        Signature::parse(signature).ok_or_else(|| Invalid::new("the signature has no known form"))?;
    let bytes = canonical(payload);
    if keys.iter().any(|key| key.verifies(&bytes, &signature)) {
        return Ok(());
    }
    Err(Invalid::new("the signature is not one of this server's keys'"))
}

fn object(map: &Map<String, Value>, out: &mut String) {
    let mut members: Vec<(&String, &Value)> = map.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    out.push('{');
    for (n, (name, value)) in members.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        string(name, out);
        out.push(':');
        any(value, out);
    }
    out.push('}');
}

fn any(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(held) => out.push_str(if *held { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&float(number.as_f64().unwrap_or_default())),
        Value::String(text) => string(text, out),
        Value::Array(values) => {
            out.push('[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                any(value, out);
            }
            out.push(']');
        }
        Value::Object(map) => object(map, out),
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str("\\u");
                out.extend((0..4).rev().filter_map(|n| char::from_digit(u32::from(c) >> (4 * n) & 0xf, 16)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The shortest digits that read back as the same number; an exponent below 1e-6 and from 1e21.
fn float(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        return match text.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
            _ => text,
        };
    }
    format!("{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Signer;
    use lantern_types::Secret;
    use serde_json::json;

    #[test]
    fn the_bytes_are_those_of_the_first_version() {
        let payload = json!({"version": 1, "costUsd": 0.00123, "agentName": "a<b>&\u{2028}\u{1}", "tokensIn": 12,
            "tiny": 1e-7, "huge": 1e21, "status": "succeeded"});
        let text = String::from_utf8(canonical(payload.as_object().unwrap())).unwrap();
        assert_eq!(
            text,
            "{\"agentName\":\"a\\u003cb\\u003e\\u0026\\u2028\\u0001\",\"costUsd\":0.00123,\"huge\":1e+21,\
             \"status\":\"succeeded\",\"tiny\":1e-7,\"tokensIn\":12,\"version\":1}"
        );
    }

    #[test]
    fn only_what_was_signed_passes() {
        let signer = Signer::new(&Secret::new([6; 32]));
        let payload = json!({"version": 1, "costUsd": 0.5}).as_object().unwrap().clone();
        let signature = signer.sign(&canonical(&payload)).to_string();
        let other = json!({"version": 1, "costUsd": 0.4}).as_object().unwrap().clone();
        assert!(check(&payload, &signature, &[signer.public()]).is_ok());
        assert!(check(&other, &signature, &[signer.public()]).is_err());
        assert!(check(&payload, &signature, &[]).is_err());
    }
}
