//! Where sealed bodies over 64 KiB live, named by the SHA-256 of their bytes: in a folder of this process, or in a
//! bucket that every process reads.
//!
//! Invariant: a blob is durable before any row names it, is never changed, and is checked against its name when it is
//! read. What is here is ciphertext; a shredded key makes it noise.

mod bucket;
mod folder;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lantern_net::Client;
use lantern_policy::Scope;
use lantern_types::edge::Clock;
use lantern_types::{At, Digest, TenantId};

use crate::error::{Error, Result};
use bucket::Bucket;
use folder::Folder;

pub use bucket::{BucketOptions, Credentials};

/// Bodies up to this many bytes stay in their journal row.
pub const INLINE_MAX: usize = 64 << 10;

/// The first byte of a stored body: the body follows, or the name of its blob does, or the digest of what was removed and when.
const INLINE: u8 = 0;
pub(crate) const NAMED: u8 = 1;
pub(crate) const REMOVED: u8 = 2;

/// A place for blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    place: Arc<Place>,
}

#[derive(Debug)]
enum Place {
    Folder(Folder),
    /// The bucket, and the folder that was used before there was one.
    Bucket(Bucket, Folder),
    // Sections under this lock copy one blob; nothing waits.
    Memory(Mutex<HashMap<(TenantId, Digest), Vec<u8>>>),
}

impl Blobs {
    /// Files under `DIR/blobs/TENANT/xx/`, made when first needed.
    pub fn folder(data_dir: &Path) -> Self {
        Self::at(Place::Folder(Folder::new(data_dir)))
    }

    /// Objects under `PREFIX/TENANT/xx/` of a bucket. Bodies that lie in the folder from before are still found there.
    /// `Misuse` when the options cannot be right; nothing is requested yet.
    pub fn bucket(
        options: BucketOptions,
        data_dir: &Path,
        client: Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Ok(Self::at(Place::Bucket(Bucket::new(options, client, clock)?, Folder::new(data_dir))))
    }

    /// In memory, for simulation and tests.
    pub fn memory() -> Self {
        Self::at(Place::Memory(Mutex::new(HashMap::new())))
    }

    fn at(place: Place) -> Self {
        Self { place: Arc::new(place) }
    }

    /// Whether blobs can be written, read and removed. A bucket is asked for all three; its refusal, in words for the
    /// operator, is the source of `Unavailable`. Nothing is asked of a folder.
    pub async fn check(&self) -> Result<()> {
        match &*self.place {
            Place::Bucket(bucket, _) => Box::pin(bucket.check()).await,
            Place::Folder(_) | Place::Memory(_) => Ok(()),
        }
    }

    /// Keeps sealed bytes and answers what a row stores for them: themselves when they are small, else the name of a
    /// blob that is durable by now.
    pub async fn park(&self, scope: Scope, sealed: Vec<u8>) -> Result<Vec<u8>> {
        if sealed.len() <= INLINE_MAX {
            let mut stored = Vec::with_capacity(sealed.len() + 1);
            stored.push(INLINE);
            stored.extend(sealed);
            return Ok(stored);
        }
        let digest = Digest::of(&sealed);
        let tenant = scope.tenant();
        match &*self.place {
            Place::Memory(blobs) => {
                blobs.lock().unwrap_or_else(PoisonError::into_inner).insert((tenant, digest), sealed);
            }
            Place::Folder(folder) => folder.put(tenant, digest, sealed).await?,
            Place::Bucket(bucket, _) => Box::pin(bucket.put(tenant, digest, sealed)).await?,
        }
        Ok([&[NAMED][..], digest.bytes()].concat())
    }

    /// The sealed bytes that [`park`](Self::park) was given. `Missing` for what was removed.
    pub async fn fetch(&self, scope: Scope, stored: &[u8]) -> Result<Vec<u8>> {
        if let Some((&INLINE, sealed)) = stored.split_first() {
            return Ok(sealed.to_vec());
        }
        let digest = named(stored).ok_or_else(|| Error::Corrupt("a stored body has no known form".into()))?;
        let found = self.find(scope.tenant(), digest).await?;
        let sealed = found.ok_or(Error::Missing(digest))?;
        if Digest::of(&sealed) == digest {
            Ok(sealed)
        } else {
            Err(Error::Corrupt(format!("the blob {digest} does not have its own digest").into()))
        }
    }

    async fn find(&self, tenant: TenantId, digest: Digest) -> Result<Option<Vec<u8>>> {
        match &*self.place {
            Place::Memory(blobs) => {
                let blobs = blobs.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(blobs.get(&(tenant, digest)).cloned())
            }
            Place::Folder(folder) => folder.get(tenant, digest).await,
            Place::Bucket(bucket, before) => match Box::pin(bucket.get(tenant, digest)).await? {
                None => before.get(tenant, digest).await,
                found => Ok(found),
            },
        }
    }

    /// Removes a blob. One that is not there is fine.
    pub async fn discard(&self, scope: Scope, digest: Digest) -> Result<()> {
        let tenant = scope.tenant();
        match &*self.place {
            Place::Memory(blobs) => {
                blobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&(tenant, digest));
                Ok(())
            }
            Place::Folder(folder) => folder.remove(tenant, digest).await,
            Place::Bucket(bucket, before) => {
                Box::pin(bucket.remove(tenant, digest)).await?;
                before.remove(tenant, digest).await
            }
        }
    }
}

/// A blob's name below its root, the same in a folder and in a bucket.
pub(crate) fn name(tenant: TenantId, digest: Digest) -> String {
    let digest = digest.to_string();
    format!("{tenant}/{}/{digest}", digest.get(..2).unwrap_or_default())
}

/// The blob that a stored body names, if it is not inline.
pub(crate) fn named(stored: &[u8]) -> Option<Digest> {
    match stored.split_first() {
        Some((&NAMED, digest)) => Digest::from_bytes(digest),
        _ => None,
    }
}

/// The SHA-256 of the sealed bytes behind a stored body: what the chain links, wherever they are.
pub fn digest_of(stored: &[u8]) -> Option<Digest> {
    match stored.split_first() {
        Some((&INLINE, sealed)) => Some(Digest::of(sealed)),
        _ => named(stored).or_else(|| removed(stored).map(|(digest, _)| digest)),
    }
}

/// What is left of a stored body once its content is removed: what the chain links, and the time.
pub(crate) fn remains(stored: &[u8], at: At) -> Option<Vec<u8>> {
    let digest = digest_of(stored)?;
    Some([&[REMOVED][..], digest.bytes(), &at.micros().to_be_bytes()].concat())
}

/// The digest of a body that was removed, and when it was.
pub(crate) fn removed(stored: &[u8]) -> Option<(Digest, At)> {
    let (&REMOVED, rest) = stored.split_first()? else { return None };
    let (digest, at) = rest.split_last_chunk::<8>()?;
    Some((Digest::from_bytes(digest)?, At::from_micros(i64::from_be_bytes(*at))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_of_a_body_is_its_digest_and_the_time() {
        let (digest, at) = (Digest::of(b"sealed"), At::from_micros(7));
        for stored in [[&[INLINE][..], b"sealed"].concat(), [&[NAMED][..], digest.bytes()].concat()] {
            let left = remains(&stored, at).unwrap();
            assert_eq!(
                (digest_of(&left), removed(&left), named(&left)),
                (Some(digest), Some((digest, at)), None)
            );
            assert_eq!(removed(&stored), None);
        }
        assert_eq!((remains(b"", at), removed(&[REMOVED, 1])), (None, None));
    }
}
