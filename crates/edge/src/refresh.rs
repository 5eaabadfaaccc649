//! Refresh tokens: what renews a sign-in once its access token is over, each good for one use.
//!
//! Invariant: a refresh token names its sign-in and its generation, under a mac of its own key: it is stored nowhere, and whoever
//! reads the database can make none. Which generation is good now stands in the sign-in's row; whether one is good is decided
//! where it is used.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;
use lantern_store::Keys;
use lantern_types::{SignInId, TenantId};
use uuid::Uuid;

const PREFIX: &str = "hlx_ref_";
/// Tenant, sign-in, generation.
const SAID: usize = 16 + 16 + 4;
const MAC: usize = 32;

/// What a refresh token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Whose tenant.
    pub tenant: TenantId,
    /// Which sign-in.
    pub sign_in: SignInId,
    /// Which of its refresh tokens, counted from 1.
    pub generation: u32,
}

/// Issues refresh tokens and reads them back.
pub struct RefreshTokens {
    key: hmac::Key,
}

impl RefreshTokens {
    /// Those of this instance: every process with the same key reads them.
    pub fn new(keys: &Keys) -> Result<Self, lantern_store::Error> {
        let key = keys.derive("refresh-token-mac")?;
        Ok(Self { key: hmac::Key::new(HMAC_SHA256, key.expose()) })
    }

    /// The token's text.
    pub fn issue(&self, refresh: &Refresh) -> String {
        let said = said(refresh);
        let mac = hmac::sign(&self.key, &said);
        format!("{PREFIX}{}", TEXT.encode([said.as_slice(), mac.as_ref()].concat()))
    }

    /// What a token says; `None` when it was not issued here.
    pub fn read(&self, text: &str) -> Option<Refresh> {
        let bytes = TEXT.decode(text.strip_prefix(PREFIX)?).ok()?;
        let bytes: [u8; SAID + MAC] = bytes.try_into().ok()?;
        let (said, mac) = bytes.split_first_chunk::<SAID>()?;
        hmac::verify(&self.key, said, mac).ok()?;
        let (tenant, rest) = said.split_first_chunk::<16>()?;
        let (sign_in, generation) = rest.split_first_chunk::<16>()?;
        Some(Refresh {
            tenant: TenantId::from_uuid(Uuid::from_bytes(*tenant)),
            sign_in: SignInId::from_uuid(Uuid::from_bytes(*sign_in)),
            generation: u32::from_be_bytes(generation.try_into().ok()?),
        })
    }
}

fn said(refresh: &Refresh) -> Vec<u8> {
    let (tenant, sign_in) = (refresh.tenant.uuid(), refresh.sign_in.uuid());
    [tenant.as_bytes().as_slice(), sign_in.as_bytes(), &refresh.generation.to_be_bytes()].concat()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Keys that are the same each time.

    use lantern_types::edge::IdGen;

    use super::*;

    struct Fixed(u8);

    impl IdGen for Fixed {
        fn uuid(&self) -> Uuid {
            Uuid::nil()
        }
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    pub(crate) fn keys(key: u8) -> Keys {
        Keys::from_ids(&Fixed(key))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::keys;
    use super::*;
    use lantern_types::DEV_TENANT;

    fn tokens(key: u8) -> RefreshTokens {
        RefreshTokens::new(&keys(key)).unwrap()
    }

    const GIVEN: Refresh =
        Refresh { tenant: DEV_TENANT, sign_in: SignInId::from_uuid(Uuid::from_u128(7)), generation: 3 };

    #[test]
    fn a_token_is_read_back_by_whoever_has_the_key() {
        let text = tokens(1).issue(&GIVEN);
        assert!(text.starts_with("hlx_ref_") && text.len() == 99, "{text}");
        assert_eq!(tokens(1).read(&text), Some(GIVEN));
        assert_eq!(tokens(2).read(&text), None);
    }

    #[test]
    fn a_token_with_anything_changed_is_none() {
        let (tokens, text) = (tokens(1), tokens(1).issue(&GIVEN));
        let bytes = TEXT.decode(&text[PREFIX.len()..]).unwrap();
        for place in 0..bytes.len() {
            let mut other = bytes.clone();
            other[place] ^= 1;
            assert_eq!(tokens.read(&format!("{PREFIX}{}", TEXT.encode(other))), None, "{place}");
        }
        for other in
            [text.replace("ref", "sse"), format!("{text}A"), text[..text.len() - 1].to_owned(), String::new()]
        {
            assert_eq!(tokens.read(&other), None, "{other}");
        }
    }
}
