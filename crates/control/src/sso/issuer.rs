//! An issuer of OpenID Connect: what it says of itself, its keys, and the exchange of a code for an id token.
//!
//! Invariant: what it says of itself counts only while it calls itself what the operator calls it, and every address in it is as the
//! operator's setting allows. One request at a time asks for it, it is kept for an hour, and one that failed is not asked again for a
//! moment. Keys are fetched anew for a key that is not known, and not more often than once in half a minute: nobody makes us ask an
//! issuer at will.

use jsonwebtoken::jwk::Jwk;
use lantern_net::http::{
    Deadlines, HeaderMap, HeaderValue, Method, Request, StatusCode, has_credentials, header,
};
use lantern_types::{At, Dur};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::proof::{self, Expected, Rejected};
use super::{Fault, Proof, Provider, form};

/// Every wait for an issuer.
const WAIT: Deadlines = Deadlines::total(Dur::from_secs(10));
/// The longest description, and the longest set of keys, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 256 << 10;
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Keys of one issuer that are looked at.
const KEYS_MAX: usize = 64;
/// How long what it says of itself is believed.
const KEPT: Dur = Dur::from_secs(3_600);
/// How soon keys are asked for again, for one that is not known.
const KEYS_AGAIN: Dur = Dur::from_secs(30);
/// How soon an issuer is asked again that was of no use.
const FAILED_AGAIN: Dur = Dur::from_secs(10);

/// What is known of an issuer.
#[derive(Default)]
pub(super) struct Known {
    described: Option<(Described, At)>,
    keys: Option<(Vec<Jwk>, At)>,
    failed: Option<At>,
}

/// What an issuer says of itself, as far as we need it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Described {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// How it takes our secret; without it, in a header.
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// Whether what was learnt then still counts.
fn fresh(at: At, lasts: Dur, now: At) -> bool {
    now < at + lasts
}

impl Known {
    async fn described(&mut self, of: &Provider, now: At) -> Result<Described, Fault> {
        if let Some((described, at)) = &self.described
            && fresh(*at, KEPT, now)
        {
            return Ok(described.clone());
        }
        if self.failed.is_some_and(|at| fresh(at, FAILED_AGAIN, now)) {
            return Err(Fault::Unreachable("it did not answer as it must a moment ago".to_owned()));
        }
        let described = describe(of).await;
        self.failed = described.is_err().then_some(now);
        let described = described?;
        self.described = Some((described.clone(), now));
        Ok(described)
    }

    /// The issuer's keys, asked for anew when those that are known are older than this.
    async fn keys(&mut self, of: &Provider, lasts: Dur, now: At) -> Result<Vec<Jwk>, Fault> {
        if let Some((keys, at)) = &self.keys
            && fresh(*at, lasts, now)
        {
            return Ok(keys.clone());
        }
        let uri = self.described(of, now).await?.jwks_uri;
        let set: KeySet = get(of, &uri).await?;
        // A key of a kind that we do not know is none for us, and the others are.
        let read = |key: Value| serde_json::from_value(key).ok();
        let keys: Vec<Jwk> = set.keys.into_iter().take(KEYS_MAX).filter_map(read).collect();
        self.keys = Some((keys.clone(), now));
        Ok(keys)
    }
}

impl Provider {
    pub(super) async fn described(&self, now: At) -> Result<Described, Fault> {
        self.known.lock().await.described(self, now).await
    }

    /// Exchanges a code for an id token.
    pub(super) async fn exchange(
        &self,
        (code, verifier, callback): (&str, &str, &str),
        now: At,
    ) -> Result<String, Fault> {
        let described = self.described(now).await?;
        let methods = described.token_endpoint_auth_methods_supported.as_deref();
        let basic =
            methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        let said = &self.said;
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", callback),
            ("code_verifier", verifier),
        ];
        let mut headers = HeaderMap::new();
        if basic {
            headers.insert(header::AUTHORIZATION, proof::basic(&said.client_id, &said.client_secret)?);
        } else {
            pairs.extend([
                ("client_id", said.client_id.as_str()),
                ("client_secret", said.client_secret.expose()),
            ]);
        }
        let tokens: Tokens = post(self, &described.token_endpoint, headers, &pairs).await?;
        tokens.id_token.ok_or_else(|| Fault::Unusable("its answer has no id token".to_owned()))
    }

    /// Who an id token is of.
    pub(super) async fn read(&self, token: &str, nonce: &str, now: At) -> Result<Proof, Fault> {
        let expected = Expected { issuer: &self.said.issuer, client_id: &self.said.client_id, nonce, now };
        let mut known = self.known.lock().await;
        let keys = known.keys(self, KEPT, now).await?;
        let mut read = proof::read(token, &keys, &expected);
        if matches!(read, Err(Rejected::UnknownKey)) {
            let keys = known.keys(self, KEYS_AGAIN, now).await?;
            read = proof::read(token, &keys, &expected);
        }
        read.map_err(|rejected| match rejected {
            Rejected::UnknownKey => Fault::Untrue("no key of the issuer is the one that signed it"),
            Rejected::Untrue(why) => Fault::Untrue(why),
            Rejected::Unverified => Fault::Unverified,
        })
    }

    /// Whether it says of itself what it must, and has keys.
    pub(super) async fn check(&self, now: At) -> Result<(), Fault> {
        let mut known = self.known.lock().await;
        if known.described.as_ref().is_some_and(|(_, at)| !fresh(*at, FAILED_AGAIN, now)) {
            known.described = None;
        }
        known.described(self, now).await?;
        let keys = known.keys(self, FAILED_AGAIN, now).await?;
        if keys.is_empty() {
            Err(Fault::Unusable("it has no key that we can read".to_owned()))
        } else {
            Ok(())
        }
    }
}

async fn describe(of: &Provider) -> Result<Described, Fault> {
    let said = &of.said;
    let address = format!("{}/.well-known/openid-configuration", said.issuer.trim_end_matches('/'));
    let described: Described = get(of, &address).await?;
    if described.issuer != said.issuer {
        return Err(Fault::Unusable(
            "it calls itself by another name than the one that is configured".to_owned(),
        ));
    }
    let places = [&described.authorization_endpoint, &described.token_endpoint, &described.jwks_uri];
    if let Some(wrong) = places.into_iter().find(|place| !is_place(place, said.private_address)) {
        return Err(Fault::Unusable(format!("{wrong:?} is no address that it may name")));
    }
    Ok(described)
}

/// Whether an issuer may name this address: over TLS, but for one that the operator keeps at a private address.
fn is_place(url: &str, private: bool) -> bool {
    let scheme = url.starts_with("https://") || (private && url.starts_with("http://"));
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\');
    scheme && url.len() <= 2_048 && url.bytes().all(plain) && !has_credentials(url)
}

async fn get<T: DeserializeOwned>(of: &Provider, url: &str) -> Result<T, Fault> {
    ask(of, Request::get(url), DESCRIPTION_BYTES_MAX).await
}

/// Sends a form and reads JSON.
pub(super) async fn post<T: DeserializeOwned>(
    of: &Provider,
    url: &str,
    mut headers: HeaderMap,
    pairs: &[(&str, &str)],
) -> Result<T, Fault> {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let body = form(pairs).into();
    let request = Request { method: Method::POST, url: url.to_owned(), headers, body };
    ask(of, request, ANSWER_BYTES_MAX).await
}

/// Asks for JSON, within the waits and sizes that an issuer has.
pub(super) async fn ask<T: DeserializeOwned>(
    of: &Provider,
    mut request: Request,
    most: usize,
) -> Result<T, Fault> {
    request.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let unreachable = |error: lantern_net::Error| Fault::Unreachable(error.to_string());
    let response = of.client.send(of.said.reach(), request, WAIT).await.map_err(unreachable)?;
    let status = response.status();
    if status.is_server_error() {
        return Err(Fault::Unreachable(format!("it answers {status}")));
    }
    if status != StatusCode::OK {
        return Err(Fault::Unusable(format!("it answers {status}")));
    }
    let body = response.bytes(most).await.map_err(unreachable)?;
    // What it answers may repeat what we sent, so none of it is in the words.
    serde_json::from_slice(&body)
        .map_err(|_| Fault::Unusable("its answer is not the JSON that it must be".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_names_addresses_over_tls() {
        for (url, public, private) in [
            ("https://id.example/token", true, true),
            ("https://id.example/token?a=b", true, true),
            ("http://127.0.0.1:9/token", false, true),
            ("https://ada:pw@id.example/token", false, false),
            ("https://id.example/token#a", false, false),
            ("https://id.example/a b", false, false),
            ("javascript:alert(1)", false, false),
            ("//id.example", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_place(url, false), is_place(url, true)), (public, private), "{url}");
        }
    }
}
