//! Whether a receipt file is true: the bytes, the signatures, the log, the money, and every decision that the events record.
//!
//! First comes what anybody can check without knowing Lantern: one byte form, the hash chain, the signature, the proof and the
//! signed head. Then the events are followed one by one: each must be allowed where it stands, and what it says was decided must
//! follow from the facts that it was decided on. The first one that does not is named.
//!
//! Invariant: nothing is believed because the file says so. Which key counts is told by the caller; without one, what holds is
//! only that the file agrees with itself. Pure: no clock, no IO.

#![warn(missing_docs)]

mod choice;
mod compact;
mod envelope;
mod follow;
mod money;
mod step;

use std::sync::Arc;

use lantern_cedar::Policies;
use lantern_receipts::{File, Payload, VerifyKey};

pub use follow::Derived;

/// Why a file is not true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The first event that does not follow; `None` when it is the file as a whole.
    pub event: Option<u64>,
    /// Which rule was broken, in a word.
    pub rule: &'static str,
    /// How. Without any content.
    pub words: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.event {
            Some(event) => write!(f, "event {event} ({}): {}", self.rule, self.words),
            None => write!(f, "{}: {}", self.rule, self.words),
        }
    }
}

/// What stands behind a file that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A key that the caller trusts signed it.
    Key,
    /// Only the key inside says so: whoever made the file may have made the key.
    None,
}

/// A file that holds.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it says.
    pub payload: Payload,
    /// The key that signed.
    pub key: VerifyKey,
    /// What stands behind it.
    pub trust: Trust,
    /// How many leaves the log had.
    pub log_size: u64,
    /// What was derived again.
    pub derived: Derived,
}

/// Checks a file. With trusted keys, one of them must have signed it.
pub fn verify(bytes: &[u8], trusted: Option<&[VerifyKey]>) -> Result<Report, Fault> {
    verify_by(bytes, trusted, &[])
}

/// The same, and asks policies again whose text is given, wherever they were asked.
pub fn verify_by(
    bytes: &[u8],
    trusted: Option<&[VerifyKey]>,
    policies: &[Arc<Policies>],
) -> Result<Report, Fault> {
    let whole =
        |rule| move |invalid: lantern_receipts::Invalid| Fault { event: None, rule, words: invalid.0 };
    let file = File::parse(bytes).map_err(whole("bytes"))?;
    let trust = match trusted {
        Some(keys) if keys.contains(&file.public_key) => Trust::Key,
        Some(_) => {
            let words = format!("it was signed with the key {}, which is not trusted", file.public_key.id());
            return Err(Fault { event: None, rule: "key", words });
        }
        None => Trust::None,
    };
    let note = file.check().map_err(whole("signature"))?;
    file.check_chain().map_err(whole("chain"))?;
    let events =
        file.appends.iter().flatten().flat_map(|append| append.events.iter().map(|event| event.get()));
    let derived = follow::follow(&file.payload, events, policies)?;
    Ok(Report { key: file.public_key, trust, log_size: note.checkpoint.size, derived, payload: file.payload })
}
