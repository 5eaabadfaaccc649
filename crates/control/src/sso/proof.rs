//! An id token: what an issuer signed about somebody.
//!
//! Invariant: a token is believed only when its algorithm is one of [`ALGORITHMS`], which are all of public keys, its signature is by a
//! key of the issuer's that is meant for that algorithm, and issuer, audience, times and nonce are those that were asked for. Keys
//! come from the issuer's set and never from the token. Pure: the time is an argument.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use lantern_net::http::HeaderValue;
use lantern_types::{At, Dur, Secret};
use serde::Deserialize;
use serde_json::{Number, Value};

use super::{Fault, Proof, escaped};

/// What an issuer may sign with.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::EdDSA,
];
/// By how much its clock may differ from ours.
const LEEWAY: Dur = Dur::from_secs(60);
/// A longer one is not looked at.
const BYTES_MAX: usize = 32 << 10;

/// What was asked for.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: At,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// None of these keys is the one that it names.
    UnknownKey,
    /// It is not true, or not for us.
    Untrue(&'static str),
    /// It is true, and has no address that is verified.
    Unverified,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: Number,
    iat: Number,
    nbf: Option<Number>,
    nonce: Option<String>,
    email: Option<String>,
    email_verified: Option<Value>,
    hd: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Who a token is of, by one of these keys.
pub(super) fn read(token: &str, keys: &[Jwk], expected: &Expected<'_>) -> Result<Proof, Rejected> {
    use Rejected::{Untrue, Unverified};
    let claims = signed(token, keys)?;
    if claims.iss != expected.issuer {
        return Err(Untrue("it is by another issuer"));
    }
    let audience = claims.aud.all();
    let ours = |name: &str| name == expected.client_id;
    if !audience.iter().any(|name| ours(name)) {
        return Err(Untrue("it is for somebody else"));
    }
    // One for several says to whom it was given, and that must be us.
    if claims.azp.as_deref().map_or(audience.len() > 1, |party| !ours(party)) {
        return Err(Untrue("it was given to somebody else"));
    }
    let (now, leeway) = (expected.now.seconds(), LEEWAY.millis() / 1_000);
    if seconds(&claims.exp)? <= now - leeway {
        return Err(Untrue("it is over"));
    }
    for since in [Some(&claims.iat), claims.nbf.as_ref()].into_iter().flatten() {
        if seconds(since)? > now + leeway {
            return Err(Untrue("it is not good yet"));
        }
    }
    if claims.nonce.as_deref() != Some(expected.nonce) {
        return Err(Untrue("it was asked for by somebody else"));
    }
    match claims.email {
        Some(email) if claims.email_verified == Some(Value::Bool(true)) => {
            Ok(Proof { issuer: claims.iss, subject: claims.sub, email, hosted: claims.hd, name: claims.name })
        }
        _ => Err(Unverified),
    }
}

/// Whole seconds since 1970; an issuer may say parts of one.
fn seconds(number: &Number) -> Result<i64, Rejected> {
    let text = number.to_string();
    let whole = text.split('.').next().and_then(|whole| whole.parse().ok());
    whole.ok_or(Rejected::Untrue("a time in it is none"))
}

/// What a token says that one of these keys signed.
fn signed(token: &str, keys: &[Jwk]) -> Result<Claims, Rejected> {
    if token.len() > BYTES_MAX {
        return Err(Rejected::Untrue("it is too long"));
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Rejected::Untrue("it is no token"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Rejected::Untrue("its algorithm is none that an issuer may use"));
    }
    if header.crit.is_some() {
        return Err(Rejected::Untrue("it asks for something that we do not know"));
    }
    let mut fitting = keys.iter().filter(|key| fits(key, header.alg));
    let key = match &header.kid {
        Some(kid) => fitting.find(|key| key.common.key_id.as_ref() == Some(kid)),
        // Without a name there may be no choice.
        None => fitting.next().filter(|_| fitting.next().is_none()),
    };
    let key = DecodingKey::from_jwk(key.ok_or(Rejected::UnknownKey)?);
    let key = key.map_err(|_| Rejected::Untrue("its key cannot be read"))?;
    let mut rules = Validation::new(header.alg);
    // The claims are checked by `read`, at our own time.
    rules.required_spec_claims.clear();
    (rules.validate_exp, rules.validate_aud) = (false, false);
    let read = jsonwebtoken::decode::<Claims>(token, &key, &rules);
    read.map(|token| token.claims).map_err(|_| Rejected::Untrue("its signature or its claims are not good"))
}

/// Whether a key is for signatures of this algorithm.
fn fits(key: &Jwk, alg: Algorithm) -> bool {
    let kind = match (&key.algorithm, alg) {
        (
            AlgorithmParameters::RSA(_),
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256,
        ) => true,
        (AlgorithmParameters::EllipticCurve(curve), Algorithm::ES256) => curve.curve == EllipticCurve::P256,
        (AlgorithmParameters::OctetKeyPair(pair), Algorithm::EdDSA) => pair.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let signs = key.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    kind && signs && key.common.key_algorithm.is_none_or(|said| said == KeyAlgorithm::from(alg))
}

/// The header in which an issuer takes our secret (RFC 6749, section 2.3.1).
pub(super) fn basic(id: &str, secret: &Secret<String>) -> Result<HeaderValue, Fault> {
    let pair = format!("{}:{}", escaped(id), escaped(secret.expose()));
    let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
    let mut value = value.map_err(|_| Fault::Unusable("our secret cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
