//! Receipts: what a run did, said in one signed statement that anybody can check without asking anybody.
//!
//! A [`Payload`] names the head of a run's hash chain, its totals and the rules that it ran under. It is signed, and it is a
//! leaf of its tenant's append-only log ([`merkle`], [`tile`]), whose heads are signed [`note`]s. A receipt [`file`](File) has
//! all of that and the events themselves.
//!
//! Invariant: everything here has one valid byte form, and readers write what they read again and compare. Pure: no clock, no
//! IO, no randomness; keys are brought by whoever has them.

#![warn(missing_docs)]

pub mod attestation;
pub mod earlier;
mod file;
mod key;
pub mod merkle;
pub mod note;
pub mod payload;
mod summary;
mod text;
pub mod tile;

pub use file::{ALGORITHM, Append, File, Node, Written};
pub use key::{Published, Signature, Signer, VerifyKey};
pub use note::Checkpoint;
pub use payload::{EndedBy, Payload, VERSION, usd};
pub use summary::Summary;

/// Why something is no receipt, or not this one. In words, and without any content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// With these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

/// A hash as proofs have it: in base64.
pub fn base64(hash: &lantern_types::Digest) -> String {
    text::base64(hash.bytes())
}

/// Bytes as JSON Web Keys have them: in base64 for addresses, without padding.
pub fn base64url(bytes: &[u8]) -> String {
    text::base64(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

/// What a receipt's leaf holds: the digest of the payload's canonical bytes. The log says nothing of the run by itself.
pub fn entry(payload: &[u8]) -> lantern_types::Digest {
    lantern_types::Digest::of(payload)
}
