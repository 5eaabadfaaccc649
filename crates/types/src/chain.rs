//! The hash chain over a run's appends: `head' = SHA-256(head ‖ envelopes ‖ SHA-256(body))`.
//!
//! The envelope bytes are hashed as they are stored; the body only through its own digest, so shredding a body's
//! key never breaks the proof of what happened. The first link starts from 32 zero bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Digest;

/// The chain's value after some append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainHead(pub Digest);

impl ChainHead {
    /// What the first link is computed from.
    pub fn genesis() -> Self {
        Self(Digest::from_bytes(&[0; 32]).unwrap_or_else(|| Digest::of(&[])))
    }
}

/// The head after appending `envelopes` (stored bytes) with a body whose stored bytes digest to `body`.
pub fn link(head: ChainHead, envelopes: &[u8], body: Digest) -> ChainHead {
    let mut hasher = Sha256::new();
    hasher.update(head.0.bytes());
    hasher.update(envelopes);
    hasher.update(body.bytes());
    let bytes: [u8; 32] = hasher.finalize().into();
    ChainHead(Digest::from_bytes(&bytes).unwrap_or(head.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_matters_and_order_does() {
        let start = ChainHead::genesis();
        let body = Digest::of(b"sealed");
        let one = link(start, b"{\"seq\":1}\n", body);
        assert_ne!(one, link(start, b"{\"seq\":2}\n", body));
        assert_ne!(one, link(start, b"{\"seq\":1}\n", Digest::of(b"other")));
        assert_ne!(link(one, b"a", body), link(link(start, b"a", body), b"{\"seq\":1}\n", body));
    }
}
