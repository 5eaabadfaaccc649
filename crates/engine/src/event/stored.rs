//! An append as it is stored: envelopes, one JSON object a line, and the contents apart.

use lantern_types::At;
use serde::{Deserialize, Serialize};

use super::{Content, Event, Fact};

#[derive(Serialize)]
struct Envelope<'a> {
    seq: u64,
    at: At,
    #[serde(flatten)]
    fact: &'a Fact,
}

/// What of an envelope is not the fact. Read apart from it: a flattened fact would be copied field by field first.
#[derive(Deserialize)]
struct Head {
    seq: u64,
    at: At,
}

/// The stored bytes are not events of a format this build knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unreadable event: {0}")]
pub struct Unreadable(pub String);

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The bytes of an append: envelopes, one JSON object a line, and the body's plaintext if any event has content.
pub fn encode(events: &[Event]) -> Result<(Vec<u8>, Option<Vec<u8>>), Unreadable> {
    let mut lines = Vec::with_capacity(events.len() * 320);
    let mut contents = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, &Envelope { seq: event.seq, at: event.at, fact: &event.fact })?;
        lines.push(b'\n');
        if let Some(content) = &event.content {
            contents.push((event.seq, content));
        }
    }
    if contents.is_empty() {
        return Ok((lines, None));
    }
    let mut body = Vec::with_capacity(contents.len() * 256);
    serde_json::to_writer(&mut body, &contents)?;
    Ok((lines, Some(body)))
}

/// Reads an append back. Without a body (dropped by retention, or not opened) events come without content.
pub fn decode(lines: &[u8], body: Option<&[u8]>) -> Result<Vec<Event>, Unreadable> {
    let mut contents: Vec<(u64, Content)> = match body {
        // Where and not what: it is what somebody said, and the error is shown.
        Some(body) => serde_json::from_slice(body).map_err(|error| {
            Unreadable(format!("content of a form that is not known, at byte {}", error.column()))
        })?,
        None => Vec::new(),
    };
    contents.reverse();
    let mut events = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Head { seq, at } = serde_json::from_slice(line)?;
        let fact: Fact = serde_json::from_slice(line)?;
        let content = contents.pop_if(|(of, _)| *of == seq).map(|(_, content)| content);
        events.push(Event { seq, at, fact, content });
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_in_no_error() {
        let error = decode(b"", Some(br#"[[1, {"kind": "the eagle lands"}], "at noon"]"#)).unwrap_err();
        assert!(!error.0.contains("eagle") && !error.0.contains("noon"), "{error}");
        assert!(error.0.contains("at byte"), "{error}");
    }
}
