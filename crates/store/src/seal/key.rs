//! A data key, and the keys that are derived from it: one for each place.
//!
//! Invariant: no key that seals is used for two places, so the 2^32 seals that random nonces are good for count for each
//! place and not for a tenant's whole life. The key as it is opens only what was sealed before there were places.

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use lantern_types::Digest;

use crate::error::{Error, Result};

/// What keys of places are derived under.
const SALT: &[u8] = b"lantern/seal/2";

/// Thirty-two secret bytes, ready for both uses.
pub(crate) struct DataKey {
    whole: LessSafeKey,
    root: Prk,
}

impl DataKey {
    pub(crate) fn new(key: &[u8]) -> Result<Self> {
        let unbound =
            UnboundKey::new(&AES_256_GCM, key).map_err(|_| Error::Sealed("a data key has a wrong length"))?;
        Ok(Self { whole: LessSafeKey::new(unbound), root: Salt::new(HKDF_SHA256, SALT).extract(key) })
    }

    /// The key itself, for what older builds have sealed.
    pub(crate) const fn whole(&self) -> &LessSafeKey {
        &self.whole
    }

    /// The key of one place, by HKDF-SHA256. Costs about a microsecond.
    pub(crate) fn of(&self, place: &Digest) -> Result<LessSafeKey> {
        let info = [place.bytes().as_slice()];
        let derived =
            self.root.expand(&info, &AES_256_GCM).map_err(|_| Error::internal("key derivation failed"))?;
        Ok(LessSafeKey::new(UnboundKey::from(derived)))
    }
}
