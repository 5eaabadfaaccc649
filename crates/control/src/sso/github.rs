//! GitHub, which signs people in without id tokens: a code becomes an access token, and that reads who they are.
//!
//! Invariant: the address is the one that is primary and verified, and no other. The access token is used for two reads and kept nowhere.
//! An installation of one's own is asked below its own address.

use lantern_net::http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use lantern_types::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::issuer::{ask, post};
use super::{Fault, Proof, Provider, SsoProvider};

/// The one that is everybody's.
const PUBLIC: &str = "https://github.com";
const PUBLIC_API: &str = "https://api.github.com";
const VERSION: &str = "2022-11-28";
const ANSWER_BYTES_MAX: usize = 256 << 10;

#[derive(Deserialize)]
struct Token {
    // An error comes with 200 and without one.
    access_token: Option<Secretly>,
}

/// Text that is a secret from the moment that it is read.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Secretly(Secret<String>);

impl From<String> for Secretly {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    email: String,
    primary: bool,
    verified: bool,
}

/// Where people are sent.
pub(super) fn authorize(said: &SsoProvider) -> String {
    format!("{}/login/oauth/authorize", said.issuer)
}

fn api(said: &SsoProvider, path: &str) -> String {
    if said.issuer == PUBLIC {
        format!("{PUBLIC_API}{path}")
    } else {
        format!("{}/api/v3{path}", said.issuer)
    }
}

/// Exchanges a code for an access token.
pub(super) async fn exchange(
    of: &Provider,
    code: &str,
    verifier: &str,
    callback: &str,
) -> Result<Secret<String>, Fault> {
    let pairs = [
        ("client_id", of.said.client_id.as_str()),
        ("client_secret", of.said.client_secret.expose()),
        ("code", code),
        ("redirect_uri", callback),
        ("code_verifier", verifier),
    ];
    let url = format!("{}/login/oauth/access_token", of.said.issuer);
    let token: Token = post(of, &url, HeaderMap::new(), &pairs).await?;
    let refused = || Fault::Unusable("it gives no token for the code".to_owned());
    token.access_token.map(|Secretly(token)| token).ok_or_else(refused)
}

/// Whose token it is.
pub(super) async fn who(of: &Provider, token: &Secret<String>) -> Result<Proof, Fault> {
    let user: User = look(of, "/user", Some(token)).await?;
    let addresses: Vec<Address> = look(of, "/user/emails?per_page=100", Some(token)).await?;
    let primary = addresses.into_iter().find(|address| address.primary && address.verified);
    let email = primary.ok_or(Fault::Unverified)?.email;
    let name = user.name.or(Some(user.login));
    Ok(Proof { issuer: of.said.issuer.clone(), subject: user.id.to_string(), email, hosted: None, name })
}

/// Whether it answers.
pub(super) async fn check(of: &Provider) -> Result<(), Fault> {
    look::<serde_json::Value>(of, "/", None).await.map(drop)
}

async fn look<T: DeserializeOwned>(
    of: &Provider,
    path: &str,
    token: Option<&Secret<String>>,
) -> Result<T, Fault> {
    let mut request = Request::get(api(&of.said, path));
    let version = HeaderName::from_static("x-github-api-version");
    request.headers.insert(version, HeaderValue::from_static(VERSION));
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
        let mut value = value.map_err(|_| Fault::Unusable("its token cannot be sent".to_owned()))?;
        value.set_sensitive(true);
        request.headers.insert(header::AUTHORIZATION, value);
    }
    ask(of, request, ANSWER_BYTES_MAX).await
}
