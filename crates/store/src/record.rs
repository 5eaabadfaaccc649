//! One append as bytes: envelopes in the clear, the body sealed for its place in the journal, the chain over both.
//!
//! Whoever writes a journal goes through [`Record::seal`], and whoever reads one through [`open`], so that place and
//! chain are computed in one way only.

use lantern_policy::Scope;
use lantern_types::{At, ChainHead, Digest, RunId, link};

use crate::blob;
use crate::error::{Error, Result};
use crate::journal::Stored;
use crate::seal::Place;
use crate::vault::Vault;

/// What a journal row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The envelopes.
    pub bytes: Vec<u8>,
    /// The stored body.
    pub body: Option<Vec<u8>>,
    /// The chain after this append.
    pub chain: ChainHead,
}

impl Record {
    /// Seals `body` for the append of `run` whose first event is `first_seq`, and links the chain on from `head`.
    pub async fn seal(
        vault: &Vault,
        scope: Scope,
        (run, first_seq): (RunId, i64),
        head: ChainHead,
        (bytes, body): (Vec<u8>, Option<Vec<u8>>),
    ) -> Result<Self> {
        let (body, digest) = match body {
            Some(plain) => {
                let sealed = vault.seal(scope, place(&row(run, first_seq)), &plain).await?;
                (Some(sealed.stored), sealed.digest)
            }
            None => (None, Digest::of(&[])),
        };
        let chain = link(head, &bytes, digest);
        Ok(Self { bytes, body, chain })
    }
}

/// When the content of a stored append was removed, if it was.
pub fn removed_at(stored: &Stored) -> Option<At> {
    stored.body.as_deref().and_then(blob::removed).map(|(_, at)| at)
}

/// The plaintext of a stored append's body; `None` when it has none, or has it no more.
pub async fn open(vault: &Vault, scope: Scope, run: RunId, stored: &Stored) -> Result<Option<Vec<u8>>> {
    match &stored.body {
        Some(_) if removed_at(stored).is_some() => Ok(None),
        Some(body) => vault.open(scope, place(&row(run, stored.first_seq)), body).await.map(Some),
        None => Ok(None),
    }
}

/// The chain after `stored`, or `Corrupt` when it does not continue from `head`. Needs no key.
pub fn verify(head: ChainHead, stored: &Stored) -> Result<ChainHead> {
    let digest = stored.body.as_deref().map_or_else(|| Ok(Digest::of(&[])), Vault::digest)?;
    let chain = link(head, &stored.bytes, digest);
    if chain == stored.chain {
        return Ok(chain);
    }
    Err(Error::Corrupt(format!("the journal's hash chain breaks at event {}", stored.first_seq).into()))
}

const fn place(row: &[u8]) -> Place<'_> {
    Place { purpose: "journal", row }
}

fn row(run: RunId, first_seq: i64) -> Vec<u8> {
    [run.bytes().as_slice(), &first_seq.to_be_bytes()].concat()
}
