//! A run's durable journal: appends as the store keeps them, in bytes, each with the chain's head after it.
//!
//! Invariant: what is read back goes through `event::decode`, so a field that does not survive its own encoding shows.
//! Bodies are not sealed here; the chain covers them by digest as it does in the store.

use lantern_engine::event::{Unreadable, decode, encode};
use lantern_engine::{Event, FORMAT};
use lantern_types::{ChainHead, Digest, link};

/// One append.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// The first event's sequence number.
    pub first_seq: u64,
    /// How many events it holds.
    pub count: u64,
    /// The envelopes, one JSON object a line.
    pub lines: Vec<u8>,
    /// What was said, if anything.
    pub body: Option<Vec<u8>>,
    /// The chain's head after it.
    pub head: ChainHead,
}

impl Append {
    /// The events, read back from the bytes.
    pub fn read(&self) -> Result<Vec<Event>, Unreadable> {
        decode(&self.lines, self.body.as_deref())
    }
}

/// All appends of one run, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    appends: Vec<Append>,
}

impl Journal {
    /// The chain's head.
    pub fn head(&self) -> ChainHead {
        self.appends.last().map_or_else(ChainHead::genesis, |append| append.head)
    }

    /// Makes events durable.
    pub fn append(&mut self, events: &[Event]) -> Result<(), Unreadable> {
        let (lines, body) = encode(events)?;
        let sealed = Digest::of(body.as_deref().unwrap_or_default());
        let head = link(self.head(), &lines, sealed);
        let first_seq = events.first().map_or(0, |event| event.seq);
        self.appends.push(Append { first_seq, count: events.len() as u64, lines, body, head });
        Ok(())
    }

    /// The appends.
    pub fn appends(&self) -> &[Append] {
        &self.appends
    }

    /// Every event, read back from the bytes.
    pub fn read(&self) -> Result<Vec<Event>, Unreadable> {
        let appends: Result<Vec<_>, _> = self.appends.iter().map(Append::read).collect();
        Ok(appends?.into_iter().flatten().collect())
    }
}

/// The simulator was written for this format: a new one wants new checks.
const _: () = assert!(FORMAT == 1, "teach the simulator the new event format");
