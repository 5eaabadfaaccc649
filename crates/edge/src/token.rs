//! Access tokens: JWTs signed with Ed25519 under a key derived from the instance key.
//!
//! Invariant: a token is good only when signature, algorithm, type, issuer, audience and both times are. The
//! algorithm is fixed here and never taken from the token. Time comes from the caller, not from the library. A token says
//! which sign-in it belongs to, and `auth.rs` asks whether that lasts and who it is of: the names and the role in it are for
//! clients to show, and are read here by nobody.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lantern_policy::Role;
use lantern_store::Keys;
use lantern_types::{At, Digest, Dur, SignInId, TenantId, UserId};
use serde::{Deserialize, Serialize};

use crate::problem::Error;

const ISSUER: &str = "lantern";
const AUDIENCE: &str = "lantern-api";
const ACCESS: &str = "access";
/// How long a token is good.
pub const LIFE: Dur = Dur::from_secs(60 * 60);
/// By how much the clocks of two servers of one installation may differ.
const LEEWAY: Dur = Dur::from_secs(60);
/// Tokens remembered as read: those in use at one time, of which each takes some hundred bytes.
const READ_MAX: usize = 4_096;
/// A longer one was not issued here, and is not worth checking.
const BYTES_MAX: usize = 4_096;
/// An Ed25519 seed becomes a PKCS#8 v1 key by this prefix (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A person who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their tenant.
    pub tenant: TenantId,
    /// Their row.
    pub id: UserId,
    /// Their address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// The sign-in.
    pub sign_in: SignInId,
}

/// What a good token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) sign_in: SignInId,
    pub(crate) until: At,
}

/// Issues tokens and reads them back.
pub struct Tokens {
    sign: EncodingKey,
    verify: DecodingKey,
    rules: Validation,
    /// What good tokens say, by their digests: checking a signature takes more time than the rest of a small request. Whether
    /// it is their time is asked each time. Sections under this lock are one look-up or insert.
    read: Mutex<HashMap<Digest, Said>>,
}

/// What the signature of a token covers, and no time has passed over.
#[derive(Clone, Copy)]
struct Said {
    access: Access,
    issued: At,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
    iss: &'a str,
    aud: &'a str,
    typ: &'a str,
    tenant_id: String,
    email: &'a str,
    name: &'a str,
    role: &'a str,
}

#[derive(Deserialize)]
struct Presented {
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
    typ: String,
    tenant_id: String,
}

impl Tokens {
    /// Tokens of this instance: every process with the same key reads them.
    pub fn new(keys: &Keys) -> Result<Self, lantern_store::Error> {
        let seed = keys.derive("token-signing")?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .map_err(|_| lantern_store::Error::Misuse("the token key is not an Ed25519 seed".to_owned()))?;
        let pkcs8 = [PKCS8_PREFIX.as_slice(), seed.expose().as_slice()].concat();
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library asks the machine's clock; `read` asks ours.
        rules.validate_exp = false;
        Ok(Self {
            sign: EncodingKey::from_ed_der(&pkcs8),
            verify: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            rules,
            read: Mutex::default(),
        })
    }

    /// A token for this person, good for an hour.
    pub fn issue(&self, person: &Person, now: At) -> Result<String, Error> {
        let claims = Claims {
            sub: person.id.to_string(),
            sid: person.sign_in.to_string(),
            iat: now.seconds(),
            exp: (now + LIFE).seconds(),
            iss: ISSUER,
            aud: AUDIENCE,
            typ: ACCESS,
            tenant_id: person.tenant.to_string(),
            email: &person.email,
            name: &person.name,
            role: person.role.as_str(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.sign).map_err(Error::internal)
    }

    /// What a token says; `None` when it is not a good one, for whatever reason.
    pub(crate) fn read(&self, token: &str, now: At) -> Option<Access> {
        if token.len() > BYTES_MAX {
            return None;
        }
        let digest = Digest::of(token.as_bytes());
        let known = self.remembered().get(&digest).copied();
        let said = match known {
            Some(said) => said,
            None => self.verified(token)?,
        };
        let Said { access, issued } = said;
        if access.until.seconds() <= now.seconds() || now + LEEWAY < issued {
            return None;
        }
        if known.is_none() {
            let mut remembered = self.remembered();
            if remembered.len() >= READ_MAX {
                // Rare, and then each costs one more check: simpler than keeping track of age.
                remembered.clear();
            }
            remembered.insert(digest, said);
        }
        Some(access)
    }

    /// What a token says whose signature, algorithm, type, issuer and audience are ours.
    fn verified(&self, token: &str) -> Option<Said> {
        let claims = jsonwebtoken::decode::<Presented>(token, &self.verify, &self.rules).ok()?.claims;
        let access = Access {
            tenant: claims.tenant_id.parse().ok()?,
            user: claims.sub.parse().ok()?,
            sign_in: claims.sid.parse().ok()?,
            until: At::from_micros(claims.exp.checked_mul(1_000_000)?),
        };
        let issued = At::from_micros(claims.iat.checked_mul(1_000_000)?);
        (claims.typ == ACCESS).then_some(Said { access, issued })
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<Digest, Said>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refresh::testing::keys;
    use lantern_types::{DEV_TENANT, DEV_USER};

    fn tokens(key: u8) -> Tokens {
        Tokens::new(&keys(key)).unwrap()
    }

    fn person() -> Person {
        let (email, name) = ("ada@example.com".to_owned(), "Ada".to_owned());
        let sign_in = SignInId::from_uuid(uuid::Uuid::from_u128(9));
        Person { tenant: DEV_TENANT, id: DEV_USER, email, name, role: Role::Member, sign_in }
    }

    const NOW: At = At::from_micros(1_800_000_000_000_000);

    #[test]
    fn a_token_is_read_back_for_an_hour() {
        let tokens = tokens(1);
        let token = tokens.issue(&person(), NOW).unwrap();
        let Access { tenant, user, sign_in, until } =
            tokens.read(&token, NOW + Dur::from_secs(3_599)).unwrap();
        assert_eq!((tenant, user, sign_in, until), (DEV_TENANT, DEV_USER, person().sign_in, NOW + LIFE));
        assert_eq!(tokens.read(&token, NOW + Dur::from_secs(3_600)), None);
        assert_eq!(tokens.read(&token, NOW - Dur::from_secs(61)), None);
        assert!(tokens.read(&token, NOW - Dur::from_secs(60)).is_some());
    }

    #[test]
    fn nothing_but_our_own_access_tokens_is_read() {
        let ours = tokens(1);
        let claims = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut claims = serde_json::json!({
                "sub": DEV_USER, "sid": DEV_USER, "iat": NOW.seconds(), "exp": NOW.seconds() + 60, "iss": "lantern",
                "aud": "lantern-api", "typ": "access", "tenant_id": DEV_TENANT, "email": "", "name": "",
                "role": "owner",
            });
            change(&mut claims);
            claims
        };
        let signed =
            |claims| jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &ours.sign).unwrap();
        assert!(ours.read(&signed(claims(&|_| ())), NOW).is_some());
        for (key, value) in [
            ("iss", "other"),
            ("aud", "lantern-data-plane"),
            ("typ", "refresh"),
            ("tenant_id", "x"),
            ("sub", ""),
            ("sid", "x"),
            ("sid", ""),
            ("exp", "soon"),
        ] {
            assert_eq!(ours.read(&signed(claims(&|c| c[key] = value.into())), NOW), None, "{key}={value}");
        }
        for key in ["iss", "aud", "typ", "tenant_id", "sub", "sid", "exp", "iat"] {
            let without = claims(&|c| drop(c.as_object_mut().unwrap().remove(key)));
            assert_eq!(ours.read(&signed(without), NOW), None, "without {key}");
        }
        for absurd in [i64::MAX, i64::MIN] {
            for key in ["iat", "exp"] {
                assert_eq!(ours.read(&signed(claims(&|c| c[key] = absurd.into())), NOW), None, "{key}");
            }
        }
        let foreign = tokens(2).issue(&person(), NOW).unwrap();
        assert_eq!(ours.read(&foreign, NOW), None);
    }

    #[test]
    fn the_algorithm_is_not_the_tokens_to_choose() {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
        let ours = tokens(1);
        let good = ours.issue(&person(), NOW).unwrap();
        let payload = good.split('.').nth(1).unwrap();
        let none = format!("{}.{payload}.", B64.encode(r#"{"alg":"none","typ":"JWT"}"#));
        // The classic confusion: the public key as the secret of a symmetric signature.
        let public = ours.verify.try_get_as_bytes().unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&B64.decode(payload).unwrap()).unwrap();
        let symmetric =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(public))
                .unwrap();
        let cut = good[..good.len() - 2].to_owned();
        let huge = "a".repeat(1 << 20);
        for bad in [none, symmetric, cut, huge, String::new(), "a.b.c".to_owned(), "..".to_owned()] {
            assert_eq!(ours.read(&bad, NOW), None);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

        /// A token with one letter changed, left out or put in, and any text at all, is nobody's.
        #[test]
        fn what_is_not_quite_a_token_is_none(
            at in proptest::prelude::any::<proptest::sample::Index>(),
            with in "|[A-Za-z0-9_.=-]{1,2}",
            text in "\\PC{0,30}|([A-Za-z0-9_-]{0,20}\\.){2}[A-Za-z0-9_-]{0,20}",
        ) {
            let tokens = tokens(1);
            let good = tokens.issue(&person(), NOW).unwrap();
            proptest::prop_assert!(tokens.read(&good, NOW).is_some());
            let place = at.index(good.len());
            let mut changed = good.clone();
            changed.replace_range(place..=place, &with);
            proptest::prop_assert_eq!(tokens.read(&changed, NOW).is_some(), changed == good, "{}", changed);
            proptest::prop_assert!(tokens.read(&text, NOW).is_none());
        }
    }
}
