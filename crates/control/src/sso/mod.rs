//! Issuers that people sign in by: what the operator says of each, what each says of itself, and what it says of somebody.
//!
//! ```text
//! issuer.rs   OpenID Connect: discovery, keys, the exchange of a code      asks the issuer
//! proof.rs    an id token, held against keys and what was asked            pure
//! github.rs   the same of GitHub, which has no id tokens                   asks it
//! ```
//!
//! Invariant: whoever comes out of here has an address that the issuer says is verified, and was sent there by the browser or program
//! that brings the code: `state`, nonce and verifier all follow from a secret that it alone holds. Who they are here is decided in
//! `lantern_policy::sso`. Every wait and every answer of an issuer is bounded.

mod github;
mod issuer;
mod proof;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;
use lantern_net::Client;
use lantern_policy::egress::Reach;
use lantern_policy::sso::{Kind, Rules, Said};
use lantern_types::{At, Digest, Secret};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use issuer::Known;

/// What a query may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The longest address of mail, in bytes.
const EMAIL_BYTES_MAX: usize = 320;
const NAME_BYTES_MAX: usize = 200;
const SUBJECT_BYTES_MAX: usize = 255;

/// Single sign-on, as the operator configured it.
pub struct SsoSetup {
    /// Where browsers reach this server: `https://lantern.example`. Issuers send people back there and nowhere else.
    pub public_url: String,
    /// The issuers.
    pub providers: Vec<SsoProvider>,
    /// What asks them.
    pub client: Client,
}

/// An issuer that people sign in by.
#[derive(Clone, Debug)]
pub struct SsoProvider {
    /// Its name in paths.
    pub name: String,
    /// Its name on a page.
    pub label: String,
    /// The issuer, as it calls itself.
    pub issuer: String,
    /// Who we are to it.
    pub client_id: String,
    /// By what it knows us.
    pub client_secret: Secret<String>,
    /// Whether it may be at a private address, and without TLS.
    pub private_address: bool,
    /// Whom it may sign in.
    pub rules: Rules,
}

/// The issuers, at work.
pub(crate) struct Sso {
    pub(crate) public_url: String,
    pub(crate) providers: Vec<Provider>,
}

/// One of them, and what is known of it.
pub(crate) struct Provider {
    pub(crate) said: SsoProvider,
    client: Client,
    known: tokio::sync::Mutex<Known>,
}

/// Who an issuer says that somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// Verified.
    pub(crate) email: String,
    pub(crate) hosted: Option<String>,
    pub(crate) name: Option<String>,
}

/// Why an issuer was of no use. The words are for the log, and for nobody else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It does not answer.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It answers, and not as an issuer must.
    #[error("{0}")]
    Unusable(String),
    /// What it says of somebody is not to be believed.
    #[error("{0}")]
    Untrue(&'static str),
    /// It says of nobody's address that it is verified.
    #[error("there is no verified address")]
    Unverified,
}

/// What a browser or program was sent to an issuer with, and comes back with: all of it follows from one secret.
pub(crate) struct Trip {
    secret: String,
}

impl Trip {
    pub(crate) const fn of(secret: String) -> Self {
        Self { secret }
    }

    fn derived(&self, what: &str) -> String {
        TEXT.encode(Digest::of_parts(&[b"lantern-sso", what.as_bytes(), self.secret.as_bytes()]).bytes())
    }

    /// What the id token must repeat.
    pub(crate) fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// What only the one who asked can show (RFC 7636).
    pub(crate) fn verifier(&self) -> String {
        self.derived("verifier")
    }

    /// What is sent ahead of it.
    pub(crate) fn challenge(&self) -> String {
        TEXT.encode(Digest::of(self.verifier().as_bytes()).bytes())
    }

    /// What is kept of the secret.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.secret.as_bytes())
    }
}

impl Sso {
    pub(crate) fn new(setup: Option<SsoSetup>) -> Self {
        let Some(SsoSetup { public_url, providers, client }) = setup else {
            return Self { public_url: String::new(), providers: Vec::new() };
        };
        let unknown = |said| Provider { said, client: client.clone(), known: tokio::sync::Mutex::default() };
        Self {
            public_url: public_url.trim_end_matches('/').to_owned(),
            providers: providers.into_iter().map(unknown).collect(),
        }
    }

    pub(crate) fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.said.name == name)
    }

    /// Whether browsers reach this server over TLS.
    pub(crate) fn secure(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// Where an issuer sends people back to.
    pub(crate) fn callback(&self, provider: &Provider) -> String {
        format!("{}/auth/oauth/{}/callback", self.public_url, provider.said.name)
    }

    /// The address at the issuer that somebody is sent to.
    pub(crate) async fn sent_to(
        &self,
        provider: &Provider,
        trip: &Trip,
        state: &str,
        now: At,
    ) -> Result<String, Fault> {
        let (endpoint, scope) = match provider.said.rules.kind {
            Kind::GitHub => (github::authorize(&provider.said), "read:user user:email"),
            Kind::Oidc | Kind::Google => {
                (provider.described(now).await?.authorization_endpoint, "openid email profile")
            }
        };
        let (callback, challenge, nonce) = (self.callback(provider), trip.challenge(), trip.nonce());
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", &provider.said.client_id),
            ("redirect_uri", &callback),
            ("scope", scope),
            ("state", state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if provider.said.rules.kind != Kind::GitHub {
            pairs.push(("nonce", &nonce));
        }
        let glue = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{glue}{}", form(&pairs)))
    }

    /// Who brings this code, as the issuer says.
    pub(crate) async fn prove(
        &self,
        provider: &Provider,
        trip: &Trip,
        code: &str,
        now: At,
    ) -> Result<Proof, Fault> {
        let (callback, verifier) = (self.callback(provider), trip.verifier());
        let mut proof = match provider.said.rules.kind {
            Kind::GitHub => {
                let token = github::exchange(provider, code, &verifier, &callback).await?;
                github::who(provider, &token).await?
            }
            Kind::Oidc | Kind::Google => {
                let token = provider.exchange((code, &verifier, &callback), now).await?;
                provider.read(&token, &trip.nonce(), now).await?
            }
        };
        if proof.subject.is_empty() || proof.subject.len() > SUBJECT_BYTES_MAX {
            return Err(Fault::Untrue("the subject is none"));
        }
        let plain =
            |c: char| c.is_ascii_graphic() || (!c.is_ascii() && !c.is_control() && !c.is_whitespace());
        if proof.email.len() > EMAIL_BYTES_MAX
            || !proof.email.contains('@')
            || !proof.email.chars().all(plain)
        {
            return Err(Fault::Unverified);
        }
        proof.name = proof.name.as_deref().and_then(shown);
        Ok(proof)
    }

    /// Whether an issuer answers as one must, asked anew unless that was a moment ago.
    pub(crate) async fn check(&self, provider: &Provider, now: At) -> Result<(), Fault> {
        match provider.said.rules.kind {
            Kind::GitHub => github::check(provider).await,
            Kind::Oidc | Kind::Google => provider.check(now).await,
        }
    }
}

impl Proof {
    /// What the decision takes of it.
    pub(crate) fn said(&self) -> Said<'_> {
        Said { email: &self.email, hosted: self.hosted.as_deref() }
    }
}

impl SsoProvider {
    const fn reach(&self) -> Reach {
        if self.private_address { Reach::Private } else { Reach::Public }
    }
}

/// Pairs as a query and as a form have them.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", escaped(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

pub(crate) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A name as it can be shown; `None` when nothing of it can.
fn shown(name: &str) -> Option<String> {
    let mut name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trip_shows_says_nothing_of_what_it_keeps() {
        let (one, other) = (Trip::of("one".to_owned()), Trip::of("other".to_owned()));
        let all = [
            one.nonce(),
            one.verifier(),
            one.challenge(),
            other.nonce(),
            other.verifier(),
            other.challenge(),
        ];
        let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        // As long as RFC 7636 wants it.
        assert!(all.iter().all(|text| text.len() == 43));
    }

    #[test]
    fn a_value_cannot_add_a_pair() {
        assert_eq!(form(&[("a", "b&c=d"), ("e", "f g+ä")]), "a=b%26c%3Dd&e=f%20g%2B%C3%A4");
    }

    #[test]
    fn a_name_is_shown_without_what_cannot_be() {
        assert_eq!(shown(" Ada\u{0}\n Lovelace "), Some("Ada Lovelace".to_owned()));
        assert_eq!(shown("\u{7}"), None);
        assert_eq!(shown(&"ä".repeat(300)).map(|name| name.len()), Some(200));
    }
}
