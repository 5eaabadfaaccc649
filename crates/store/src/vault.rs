//! Bodies: sealed, and kept in their row or in a blob. The one thing that those who write journals need.
//!
//! Invariant: the digest that the chain links is the SHA-256 of the sealed bytes, wherever they are kept; it can be
//! checked without any key. A large body is announced before it is put, so that it is found again when nothing comes to
//! name it.

use lantern_policy::Scope;
use lantern_types::{At, Digest};

use crate::blob::{self, Blobs};
use crate::error::{Error, Result};
use crate::loose;
use crate::seal::{Place, Sealer};

/// A body that is ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What the row holds.
    pub stored: Vec<u8>,
    /// What the chain links.
    pub digest: Digest,
}

/// Seals bodies and finds them again. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    sealer: Sealer,
    blobs: Blobs,
}

impl Vault {
    /// A vault over a sealer and a place for large bodies.
    pub const fn new(sealer: Sealer, blobs: Blobs) -> Self {
        Self { sealer, blobs }
    }

    /// For what is small and has no chain: inputs, payloads, credentials.
    pub const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Seals a body for the journal. When this answers, a large one is durable already, so the append that names it may be
    /// written: within a day, or it is refused.
    pub async fn seal(&self, scope: Scope, place: Place<'_>, plain: &[u8]) -> Result<Sealed> {
        let sealed = self.sealer.seal(scope, place, plain).await?;
        let digest = Digest::of(&sealed);
        if sealed.len() > blob::INLINE_MAX {
            loose::announce(self.sealer.db(), scope, digest, self.sealer.now()).await?;
        }
        Ok(Sealed { stored: self.blobs.park(scope, sealed).await?, digest })
    }

    /// Opens a stored body.
    pub async fn open(&self, scope: Scope, place: Place<'_>, stored: &[u8]) -> Result<Vec<u8>> {
        let sealed = self.blobs.fetch(scope, stored).await?;
        self.sealer.open(scope, place, &sealed).await
    }

    /// What the chain links for a stored body. Needs no key and reads no blob.
    pub fn digest(stored: &[u8]) -> Result<Digest> {
        blob::digest_of(stored).ok_or_else(|| Error::Corrupt("a stored body has no known form".into()))
    }

    /// Removes blobs that no row names, and none will.
    pub async fn discard(&self, scope: Scope, blobs: &[Digest]) -> Result<()> {
        for digest in blobs {
            self.blobs.discard(scope, *digest).await?;
            loose::forget(self.sealer.db(), scope, *digest).await?;
        }
        Ok(())
    }

    /// Looks at up to `limit` blobs that no row has named for long, and removes those that none can name any more: what
    /// appends that failed left behind, and what could not be removed with its run. `true` when there may be more.
    pub async fn sweep(&self, now: At, limit: u32) -> Result<bool> {
        let due = loose::take(self.sealer.db(), now, limit).await?;
        for (scope, blob) in due.doomed {
            self.discard(scope, &[blob]).await?;
        }
        Ok(due.more)
    }
}
