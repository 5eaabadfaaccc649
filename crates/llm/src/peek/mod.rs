//! Reads along while somebody else's answer passes through: what it used, how much it said, whether it is over.
//!
//! Invariant: what passes is handed on byte for byte, whole events at a time, however the network cut it; reading along changes,
//! delays and refuses nothing. What cannot be read counts as text. Incremental: of a stream no more is kept than the event that is
//! not complete yet.

mod chat;
mod embeddings;
mod frames;
mod messages;
mod responses;

use bytes::Bytes;
use lantern_policy::escrow::Seen;
use lantern_types::call::Used;
use serde_json::Value;

use frames::Frames;

/// The wires that the front doors speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// `POST chat/completions`.
    Chat,
    /// `POST messages`.
    Messages,
    /// `POST responses`.
    Responses,
    /// `POST embeddings`.
    Embeddings,
}

/// One event of a stream as it came, its blank line included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes.
    pub raw: Bytes,
    /// It says what was used, and nothing else.
    pub only_usage: bool,
}

/// Reads along with one stream.
#[derive(Debug)]
pub struct Peek {
    door: Door,
    frames: Frames,
    so_far: SoFar,
    over: bool,
}

/// What an event said.
#[derive(Debug, Default)]
struct Said {
    used: Option<Used>,
    last_word: bool,
    bytes: usize,
    only_usage: bool,
    over: bool,
}

/// What a clean end needs to know, and what is counted.
#[derive(Debug, Default)]
struct SoFar {
    seen: Seen,
    id: Option<String>,
    model: Option<String>,
    created: Option<u64>,
    /// The answers, or blocks of one answer, that began and did not end.
    open: Vec<u64>,
    /// The number of the last event, where a wire counts them.
    number: u64,
    began: bool,
}

impl Peek {
    /// Reads along with a stream of this door.
    pub fn new(door: Door, hides: bool) -> Self {
        let so_far = SoFar { seen: Seen { hides, ..Seen::default() }, ..SoFar::default() };
        Self { door, frames: Frames::default(), so_far, over: false }
    }

    /// The events that these bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let events = self.frames.push(bytes);
        events.into_iter().map(|raw| self.event(raw)).collect()
    }

    /// What no blank line has ended, once nothing more comes.
    pub fn rest(&mut self) -> Bytes {
        self.frames.rest()
    }

    /// What was seen so far.
    pub const fn seen(&self) -> Seen {
        self.so_far.seen
    }

    /// Whether the stream has said that nothing follows.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Events that end the stream here as if it had reached its length: what a client of this door takes for a whole answer.
    pub fn ending(&self, usage: bool) -> Bytes {
        let text = match self.door {
            Door::Chat => chat::ending(&self.so_far, usage),
            Door::Messages => messages::ending(&self.so_far),
            Door::Responses => responses::ending(&self.so_far),
            Door::Embeddings => String::new(),
        };
        text.into()
    }

    fn event(&mut self, raw: Bytes) -> Piece {
        let data = frames::data(&raw);
        if data.is_empty() {
            return Piece { raw, only_usage: false };
        }
        let so_far = &mut self.so_far;
        let said = match self.door {
            Door::Chat => chat::event(&data, so_far),
            Door::Messages => messages::event(&data, so_far),
            Door::Responses => responses::event(&data, so_far),
            Door::Embeddings => None,
        };
        // Nobody can tell what is in it, so all of it counts.
        let said = said.unwrap_or_else(|| Said { bytes: data.len(), ..Said::default() });
        self.over |= said.over;
        so_far.count(&said);
        Piece { raw, only_usage: said.only_usage }
    }
}

impl SoFar {
    fn count(&mut self, said: &Said) {
        let seen = &mut self.seen;
        if let Some(used) = said.used {
            seen.reported = Some(seen.reported.map_or(used, |before| before.max(used)));
        }
        seen.last_word |= said.last_word;
        seen.bytes = seen.bytes.saturating_add(said.bytes as u64);
        seen.pieces = seen.pieces.saturating_add(u64::from(said.bytes > 0));
    }
}

/// What an answer used and said that came whole.
pub fn whole(door: Door, body: &[u8], hides: bool) -> Seen {
    let unread = Seen { bytes: body.len() as u64, pieces: 1, hides, ..Seen::default() };
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return unread };
    let said = match door {
        Door::Chat => chat::whole(&answer),
        Door::Messages => messages::whole(&answer),
        Door::Responses => responses::whole(&answer),
        Door::Embeddings => embeddings::whole(&answer),
    };
    let mut so_far = SoFar { seen: Seen { hides, ..Seen::default() }, ..SoFar::default() };
    so_far.count(&Said { last_word: said.used.is_some(), ..said });
    so_far.seen
}

/// A count that a provider wrote; odd ones count as nothing.
fn tokens(usage: &Value, name: &str) -> u64 {
    usage.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn text_len(value: Option<&Value>) -> usize {
    value.and_then(Value::as_str).map_or(0, str::len)
}

#[cfg(test)]
mod tests;
