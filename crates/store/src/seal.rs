//! Sealing: AES-256-GCM under a key of the data subject's, which is stored wrapped by the master key.
//!
//! Invariant: what is sealed can be opened only with the same tenant, purpose and row id, so ciphertexts cannot be
//! moved about; without a subject's key row everything sealed under it is unreadable for good, once the processes that
//! know the key have stopped. Nonces are 96 random bits, fresh for each seal, and every place has a key of its own,
//! derived from the subject's: safe for 2^32 seals of one place (docs/adr/0012-derive-a-key-for-every-place.md). Derived
//! keys cannot be destroyed one by one: what is to be gone is deleted.

mod key;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{Aad, Nonce};
use lantern_policy::Scope;
use lantern_types::edge::{Clock, IdGen};
use lantern_types::{At, Digest, TenantId};
use zeroize::Zeroize as _;

use crate::db::Db;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::value::Value;
pub(crate) use key::DataKey;

/// The first byte of everything sealed: under the key of its place.
const VERSION: u8 = 2;
/// The first byte of what older builds sealed: under the subject's key itself. Opened, never made.
const WHOLE: u8 = 1;
const NONCE: usize = 12;
/// Data keys kept in memory: one for each tenant that was busy lately.
const CACHED_MAX: usize = 4_096;
/// The default subject: the tenant itself.
const TENANT: &str = "tenant";

const FIND: &str = "SELECT wrapped FROM subject_keys WHERE tenant_id = $1 AND subject = $2";
const KEEP: &str =
    "INSERT INTO subject_keys (tenant_id, subject, wrapped, created_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant_id, subject) DO NOTHING";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[FIND, KEEP];

/// What a ciphertext is for, and which row it belongs to. Both are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// `journal`, `inbox`, `outbox`, `llm_provider`, ….
    pub purpose: &'static str,
    /// The row's id.
    pub row: &'a [u8],
}

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    wrapping: DataKey,
    ids: Arc<dyn IdGen>,
    clock: Arc<dyn Clock>,
    // Sections under this lock are one look-up or insert.
    cache: Mutex<HashMap<TenantId, Arc<DataKey>>>,
}

impl Sealer {
    /// A sealer whose data keys are wrapped by `keys`.
    pub fn new(db: Db, keys: &Keys, ids: Arc<dyn IdGen>, clock: Arc<dyn Clock>) -> Result<Self> {
        let wrapping = DataKey::new(keys.derive("wrap")?.expose())?;
        let cache = Mutex::new(HashMap::new());
        Ok(Self { inner: Arc::new(Inner { db, wrapping, ids, clock, cache }) })
    }

    /// Seals `plain` for one place. The first seal of a tenant makes its data key.
    pub async fn seal(&self, scope: Scope, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        let key = match self.data_key(scope).await? {
            Some(key) => key,
            None => self.new_data_key(scope).await?,
        };
        self.encrypt(&key, &associated(scope, place), plain)
    }

    /// Opens what was sealed for this place. `Sealed` when it was not, or when its key was shredded.
    pub async fn open(&self, scope: Scope, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>> {
        let key = self.data_key(scope).await?.ok_or(Error::Sealed("its key was shredded"))?;
        decrypt(&key, &associated(scope, place), sealed)
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(crate) fn now(&self) -> At {
        self.inner.clock.now()
    }

    /// Fills the bytes with randomness, for a key.
    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        self.inner.ids.fill(bytes);
    }

    /// Seals what belongs to no tenant, for one place.
    pub(crate) fn seal_own(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        self.encrypt(&self.inner.wrapping, &own(place), plain)
    }

    /// Opens what [`seal_own`](Self::seal_own) sealed for this place.
    pub(crate) fn open_own(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>> {
        decrypt(&self.inner.wrapping, &own(place), sealed)
    }

    /// Wraps a data key of the tenant's own by the master key, for one place.
    pub(crate) fn wrap(&self, scope: Scope, place: Place<'_>, key: &[u8]) -> Result<Vec<u8>> {
        self.encrypt(&self.inner.wrapping, &associated(scope, place), key)
    }

    /// The data key that was wrapped for this place.
    pub(crate) fn unwrap_for(&self, scope: Scope, place: Place<'_>, wrapped: &[u8]) -> Result<DataKey> {
        let mut plain = decrypt(&self.inner.wrapping, &associated(scope, place), wrapped)?;
        let key = DataKey::new(&plain);
        plain.zeroize();
        key
    }

    /// Seals under such a key, for one place.
    pub(crate) fn seal_under(
        &self,
        key: &DataKey,
        scope: Scope,
        place: Place<'_>,
        plain: &[u8],
    ) -> Result<Vec<u8>> {
        self.encrypt(key, &associated(scope, place), plain)
    }

    async fn data_key(&self, scope: Scope) -> Result<Option<Arc<DataKey>>> {
        let cached = {
            let cache = self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(&scope.tenant()).cloned()
        };
        if cached.is_some() {
            return Ok(cached);
        }
        let found = self
            .inner
            .db
            .glance(scope, |tx| Box::pin(async move { tx.one(FIND, &[TENANT.into()]).await }))
            .await?;
        found.map(|row| self.unwrap_key(scope, &row.bytes("wrapped")?)).transpose()
    }

    /// Two processes may both try: the first row stands, and both use it.
    async fn new_data_key(&self, scope: Scope) -> Result<Arc<DataKey>> {
        let inner = &self.inner;
        let mut key = [0; 32];
        inner.ids.fill(&mut key);
        let wrapped = self.encrypt(&inner.wrapping, &associated(scope, wrapping_place()), &key)?;
        key.zeroize();
        let params: [Value; 3] = [TENANT.into(), wrapped.into(), inner.clock.now().into()];
        let kept = inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    tx.exec(KEEP, &params).await?;
                    tx.one(FIND, &[TENANT.into()]).await
                })
            })
            .await?;
        let row = kept.ok_or_else(|| Error::internal("a data key vanished as it was made"))?;
        self.unwrap_key(scope, &row.bytes("wrapped")?)
    }

    fn unwrap_key(&self, scope: Scope, wrapped: &[u8]) -> Result<Arc<DataKey>> {
        let inner = &self.inner;
        let mut plain = decrypt(&inner.wrapping, &associated(scope, wrapping_place()), wrapped)
            .map_err(|_| Error::Sealed("the master key is not the one that sealed this tenant's data"))?;
        let key = DataKey::new(&plain).map(Arc::new);
        plain.zeroize();
        let key = key?;
        let mut cache = inner.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_MAX {
            // Rare, and the next look-up of each is one read: simpler than keeping track of age.
            cache.clear();
        }
        cache.insert(scope.tenant(), Arc::clone(&key));
        Ok(key)
    }

    fn encrypt(&self, key: &DataKey, associated: &Digest, plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE];
        self.inner.ids.fill(&mut nonce);
        let mut ciphertext = plain.to_vec();
        key.of(associated)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated.bytes()),
                &mut ciphertext,
            )
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut sealed = Vec::with_capacity(1 + NONCE + ciphertext.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut ciphertext);
        Ok(sealed)
    }
}

/// Opens what was sealed under such a key for this place.
pub(crate) fn open_under(key: &DataKey, scope: Scope, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>> {
    decrypt(key, &associated(scope, place), sealed)
}

fn decrypt(key: &DataKey, associated: &Digest, sealed: &[u8]) -> Result<Vec<u8>> {
    let unknown = || Error::Sealed("it has no known form");
    let (version, rest) = sealed.split_first().ok_or_else(unknown)?;
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().ok_or_else(unknown)?;
    let placed;
    let cipher = match *version {
        VERSION => {
            placed = key.of(associated)?;
            &placed
        }
        WHOLE => key.whole(),
        _ => return Err(unknown()),
    };
    let mut plain = ciphertext.to_vec();
    let opened = cipher
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(associated.bytes()), &mut plain)
        .map_err(|_| Error::Sealed("the key or the place does not fit, or it was changed"))?
        .len();
    plain.truncate(opened);
    Ok(plain)
}

const fn wrapping_place() -> Place<'static> {
    Place { purpose: "subject_key", row: TENANT.as_bytes() }
}

/// A place of no tenant: the tenant's part is empty, which no tenant's is.
fn own(place: Place<'_>) -> Digest {
    Digest::of_parts(&[&[], place.purpose.as_bytes(), place.row])
}

/// Lengths are part of it, so no two places collide.
fn associated(scope: Scope, place: Place<'_>) -> Digest {
    Digest::of_parts(&[scope.tenant().bytes(), place.purpose.as_bytes(), place.row])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sealed by other programs: under the key itself as the first builds did it, and under the key of its place.
    #[test]
    fn both_forms_open_and_neither_passes_for_the_other() {
        let key = DataKey::new(&[7; 32]).unwrap();
        let place = Digest::of(b"a place");
        for form in [FIRST, SECOND] {
            let sealed = hex::decode(form).unwrap();
            assert_eq!(decrypt(&key, &place, &sealed).unwrap(), b"a prompt");
            assert!(matches!(decrypt(&key, &Digest::of(b"another"), &sealed), Err(Error::Sealed(_))));
            for version in (0..=u8::MAX).filter(|version| Some(version) != sealed.first()) {
                let mut passed = sealed.clone();
                passed[0] = version;
                assert!(matches!(decrypt(&key, &place, &passed), Err(Error::Sealed(_))), "{version}");
            }
        }
    }

    const FIRST: &str = "01000102030405060708090a0b79a199027264a93d0430b4f9d24d90008de97f903066daf9";
    const SECOND: &str = "02000102030405060708090a0bf89cfd54d8a84e9e699457ced5a0cee37ad4dc9ee71ce34a";
}
