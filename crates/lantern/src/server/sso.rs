//! The issuers that people sign in by, as the operator configures them.
//!
//! Invariant: what is half said, or would let an issuer speak for people whom nobody gave it, is refused at the start. A secret is never
//! shown. Knows no issuer: whether one answers is asked later.

use std::collections::BTreeMap;

use anyhow::Result;
use lantern_control::{SsoProvider, SsoSetup};
use lantern_net::Client;
use lantern_policy::sso::{Kind as Rule, Rules, may_join};
use lantern_types::{Secret, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::advice::Advice;
use super::config::MASK;
use crate::env;

const GUIDE: &str = "docs/guide/single-sign-on.md says how";
const NAME_CHARS_MAX: usize = 32;
const GOOGLE: &str = "https://accounts.google.com";
const GITHUB: &str = "https://github.com";

/// `[sso]` in the configuration file.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sso {
    /// Where browsers reach this server: `"https://lantern.example"`. Issuers send people back there. Without it: the address that the
    /// server listens on, which does for one's own machine.
    pub(super) public_url: Option<String>,
    /// The issuers.
    pub(super) providers: Vec<Provider>,
}

/// `[[sso.providers]]` in the configuration file.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Provider {
    /// What it is called in addresses and on the command line: small letters, digits and `-`.
    pub(super) name: String,
    /// `google`, `github`, or `oidc` for any other issuer of OpenID Connect.
    pub(super) kind: Kind,
    /// What people are shown. Without it: the name.
    pub(super) label: Option<String>,
    /// The issuer, letter by letter as it calls itself. An `oidc` one needs it; of `github` it is an installation of one's own.
    pub(super) issuer: Option<String>,
    /// Who this server is to the issuer.
    pub(super) client_id: String,
    /// By what the issuer knows it.
    pub(super) client_secret: String,
    /// Whether the issuer may be at a private address, and without TLS.
    pub(super) private_address: bool,
    /// The id of the one tenant whose people it signs in. It then speaks for their addresses: an account of that tenant is linked
    /// to whoever the issuer says has its address. Without it: people of all tenants, once they have linked it or by an invitation.
    pub(super) tenant: Option<String>,
    /// The domains whose addresses it signs in. Without any: all. An `oidc` issuer needs these or a tenant.
    pub(super) allowed_domains: Vec<String>,
    /// From which domain somebody new becomes a member of which tenant, without an invitation. Not of `github`, which does not know whose
    /// an address is now.
    pub(super) joins: BTreeMap<String, String>,
}

/// What an issuer speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    #[default]
    Oidc,
    Google,
    Github,
}

impl Kind {
    const fn rule(self) -> Rule {
        match self {
            Self::Oidc => Rule::Oidc,
            Self::Google => Rule::Google,
            Self::Github => Rule::GitHub,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Google => "google",
            Self::Github => "github",
        }
    }
}

/// Single sign-on, decided.
#[derive(Debug)]
pub(crate) struct Decided {
    public_url: Option<String>,
    providers: Vec<SsoProvider>,
}

impl Decided {
    /// What the API is given; `own` is the address that the server listens on.
    pub(super) fn setup(&self, own: String, client: Client) -> SsoSetup {
        let public_url = self.public_url.clone().unwrap_or(own);
        SsoSetup { public_url, providers: self.providers.clone(), client }
    }

    /// In the form of the file.
    pub(super) fn in_force(&self) -> Value {
        let provider = |provider: &SsoProvider| {
            let rules = &provider.rules;
            json!({
                "name": provider.name,
                "issuer": provider.issuer,
                "client_id": provider.client_id,
                "client_secret": MASK,
                "private_address": provider.private_address,
                "tenant": rules.tenant.map(|tenant| tenant.to_string()),
                "allowed_domains": rules.domains,
                "joins": rules.joins.iter().map(|(domain, tenant)| (domain.clone(), tenant.to_string()))
                    .collect::<BTreeMap<_, _>>(),
            })
        };
        json!({ "public_url": self.public_url, "providers": self.providers.iter().map(provider).collect::<Vec<_>>() })
    }

    /// Their names, for the log.
    pub(super) fn names(&self) -> String {
        self.providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>().join(",")
    }
}

/// Decides what counts of the file and the environment.
pub(super) fn decide(mut file: Sso, said: impl Fn(&'static str) -> Option<String>) -> Result<Decided> {
    from_environment(&mut file.providers, &said)?;
    let public_url = said(env::OAUTH_REDIRECT_BASE).or(file.public_url);
    let public_url = public_url.map(|url| url.trim_end_matches('/').to_owned());
    if let Some(url) = public_url.as_deref().filter(|url| !is_origin(url)) {
        return Err(Advice::config(
            format!("sso.public_url is {url:?}"),
            format!("write a scheme and a host, as https://lantern.example; {GUIDE}"),
        )
        .into());
    }
    let providers: Vec<SsoProvider> = file.providers.into_iter().map(provider).collect::<Result<_>>()?;
    for (n, provider) in providers.iter().enumerate() {
        if providers.iter().take(n).any(|other| other.name == provider.name) {
            let what = format!("two of sso.providers are called {:?}", provider.name);
            return Err(Advice::config(what, "give each a name of its own").into());
        }
    }
    Ok(Decided { public_url, providers })
}

/// The variables of an issuer fill in what the file says of the one with that name, or make it.
fn from_environment(
    providers: &mut Vec<Provider>,
    said: &impl Fn(&'static str) -> Option<String>,
) -> Result<()> {
    for (name, kind, id, secret) in [
        ("google", Kind::Google, env::GOOGLE_CLIENT_ID, env::GOOGLE_CLIENT_SECRET),
        ("github", Kind::Github, env::GITHUB_CLIENT_ID, env::GITHUB_CLIENT_SECRET),
        ("sso", Kind::Oidc, env::OIDC_CLIENT_ID, env::OIDC_CLIENT_SECRET),
    ] {
        let (client_id, client_secret) = (said(id), said(secret));
        let there = providers.iter_mut().find(|provider| provider.name == name);
        let Some(provider) = there else {
            match (client_id, client_secret) {
                (None, None) => {}
                (Some(client_id), Some(client_secret)) => {
                    let made = Provider {
                        name: name.to_owned(),
                        kind,
                        client_id,
                        client_secret,
                        ..Provider::default()
                    };
                    providers.push(if kind == Kind::Oidc { of_variables(made, said) } else { made });
                }
                _ => {
                    let what = format!("signing in by {name} is configured by half");
                    return Err(Advice::config(what, format!("set both {id} and {secret}")).into());
                }
            }
            continue;
        };
        provider.client_id = client_id.unwrap_or_else(|| std::mem::take(&mut provider.client_id));
        provider.client_secret = client_secret.unwrap_or_else(|| std::mem::take(&mut provider.client_secret));
    }
    Ok(())
}

fn of_variables(made: Provider, said: &impl Fn(&'static str) -> Option<String>) -> Provider {
    let domains = said(env::OIDC_ALLOWED_DOMAINS).unwrap_or_default();
    let domains = domains.split(',').map(str::trim).filter(|domain| !domain.is_empty());
    Provider {
        issuer: said(env::OIDC_ISSUER),
        label: said(env::OIDC_LABEL),
        tenant: said(env::OIDC_TENANT),
        allowed_domains: domains.map(str::to_owned).collect(),
        private_address: said(env::OIDC_PRIVATE_ADDRESS).is_some_and(|word| word == "true" || word == "1"),
        ..made
    }
}

fn provider(file: Provider) -> Result<SsoProvider> {
    let refused = |what: &str, next: &str| {
        let what = format!("sso.providers: {:?}: {what}", file.name);
        anyhow::Error::from(Advice::config(what, format!("{next}; {GUIDE}")))
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if file.name.is_empty() || file.name.len() > NAME_CHARS_MAX || !file.name.bytes().all(plain) {
        return Err(refused("is no name", "write up to 32 small letters, digits and -"));
    }
    if file.client_id.is_empty() || file.client_secret.is_empty() {
        return Err(refused("has no client_id or no client_secret", "the issuer gives both out"));
    }
    let usual = match file.kind {
        Kind::Oidc => None,
        Kind::Google => Some(GOOGLE),
        Kind::Github => Some(GITHUB),
    };
    if file.kind == Kind::Google && file.issuer.is_some() {
        return Err(refused("google has one issuer", "leave issuer out, or say kind = \"oidc\""));
    }
    let issuer = file.issuer.clone().or_else(|| usual.map(str::to_owned));
    let issuer = issuer.ok_or_else(|| refused("has no issuer", "write the issuer as it calls itself"))?;
    if !is_url(&issuer, file.private_address) {
        return Err(refused(
            "its issuer is no address with https://",
            "only one with private_address may be without TLS",
        ));
    }
    let tenant = |text: &str| {
        let next = "write the id of a tenant, as `lantern whoami` shows it";
        text.parse::<TenantId>().map_err(|_| refused(&format!("{text:?} is no tenant"), next))
    };
    let confined = file.tenant.as_deref().map(tenant).transpose()?;
    let joins = file.joins.iter().map(|(domain, to)| Ok((domain.clone(), tenant(to)?)));
    let joins: Vec<(String, TenantId)> = joins.collect::<Result<_>>()?;
    let mut domains = file.allowed_domains.iter().chain(file.joins.keys());
    if let Some(wrong) = domains.find(|domain| !is_domain(domain)) {
        return Err(refused(
            &format!("{wrong:?} is no domain"),
            "write what is behind the @, as example.com",
        ));
    }
    let rule = file.kind.rule();
    let by_domain = !joins.is_empty() || !file.allowed_domains.is_empty();
    if by_domain && !may_join(rule) {
        let what = "does not know whose an address is now, so it can have no joins and no allowed_domains";
        return Err(refused(what, "invite people, or leave both out"));
    }
    if file.kind == Kind::Oidc && confined.is_none() && file.allowed_domains.is_empty() {
        let what = "could speak for every address of every tenant";
        return Err(refused(what, "give it a tenant, or allowed_domains"));
    }
    Ok(SsoProvider {
        label: file.label.clone().unwrap_or_else(|| label(file.kind, &file.name)),
        rules: Rules { kind: rule, tenant: confined, domains: file.allowed_domains.clone(), joins },
        issuer,
        client_id: file.client_id.clone(),
        client_secret: Secret::new(file.client_secret.clone()),
        private_address: file.private_address,
        name: file.name,
    })
}

fn label(kind: Kind, name: &str) -> String {
    match (kind, kind.word() == name) {
        (Kind::Google, true) => "Google".to_owned(),
        (Kind::Github, true) => "GitHub".to_owned(),
        _ => name.to_owned(),
    }
}

fn is_domain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(plain)
        && !text.starts_with('.')
        && !text.ends_with('.')
}

fn is_url(text: &str, private: bool) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://").filter(|_| private));
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@' | b'\\' | b'"');
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && host.bytes().all(plain))
}

/// A scheme, a host and perhaps a port.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map(|(_, host)| host);
    is_url(text, true) && host.is_some_and(|host| !host.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "00000000-0000-0000-0000-000000000001";

    fn decided(file: &str, said: &[(&'static str, &str)]) -> Result<Decided> {
        let find = |name| said.iter().find(|(said, _)| *said == name).map(|(_, value)| (*value).to_owned());
        decide(toml::from_str(file).unwrap(), find)
    }

    fn of(provider: &str) -> Result<Decided> {
        decided(
            &format!("[[providers]]\nname = \"id\"\nclient_id = \"c\"\nclient_secret = \"s\"\n{provider}"),
            &[],
        )
    }

    #[test]
    fn what_could_speak_for_anybody_is_refused() {
        let issuer = "issuer = \"https://id.example\"\n";
        for (provider, good) in [
            (format!("{issuer}tenant = \"{TENANT}\""), true),
            (format!("{issuer}allowed_domains = [\"example.com\"]"), true),
            (
                format!(
                    "{issuer}allowed_domains = [\"example.com\"]\njoins = {{ \"example.com\" = \"{TENANT}\" }}"
                ),
                true,
            ),
            (issuer.to_owned(), false),
            (format!("tenant = \"{TENANT}\""), false),
            (format!("{issuer}tenant = \"acme\""), false),
            (format!("{issuer}allowed_domains = [\"@example.com\"]"), false),
            (
                format!(
                    "{issuer}allowed_domains = [\"example.com\"]\njoins = {{ \"example.com\" = \"acme\" }}"
                ),
                false,
            ),
            (format!("issuer = \"http://id.example\"\ntenant = \"{TENANT}\""), false),
            (format!("issuer = \"http://10.0.0.5\"\nprivate_address = true\ntenant = \"{TENANT}\""), true),
            (format!("issuer = \"https://ada:pw@id.example\"\ntenant = \"{TENANT}\""), false),
            ("kind = \"google\"".to_owned(), true),
            ("kind = \"google\"\nissuer = \"https://id.example\"".to_owned(), false),
            ("kind = \"github\"".to_owned(), true),
            (format!("kind = \"github\"\njoins = {{ \"example.com\" = \"{TENANT}\" }}"), false),
            ("kind = \"github\"\nallowed_domains = [\"example.com\"]".to_owned(), false),
        ] {
            assert_eq!(of(&provider).is_ok(), good, "{provider}");
        }
    }

    #[test]
    fn variables_make_issuers_or_fill_them_in() {
        let names = |file: &str, said: &[(&'static str, &str)]| {
            decided(file, said).map(|decided| decided.names()).ok()
        };
        assert_eq!(names("", &[]).as_deref(), Some(""));
        let google = [(env::GOOGLE_CLIENT_ID, "c"), (env::GOOGLE_CLIENT_SECRET, "s")];
        assert_eq!(names("", &google).as_deref(), Some("google"));
        assert_eq!(names("", &google[..1]), None, "by half");
        let file = "[[providers]]\nname = \"google\"\nkind = \"google\"\nclient_id = \"of the file\"";
        assert_eq!(names(file, &[]), None, "without a secret");
        let filled = decided(file, &google[1..]).unwrap();
        assert_eq!(filled.providers[0].client_id, "of the file");
        assert_eq!(
            (filled.providers[0].client_secret.expose().as_str(), filled.providers[0].label.as_str()),
            ("s", "Google")
        );
        let oidc = [
            (env::OIDC_CLIENT_ID, "c"),
            (env::OIDC_CLIENT_SECRET, "s"),
            (env::OIDC_ISSUER, "https://id.example/"),
            (env::OIDC_ALLOWED_DOMAINS, "example.com, example.org"),
        ];
        let made = decided("", &oidc).unwrap();
        assert_eq!(made.providers[0].issuer, "https://id.example/", "letter by letter");
        assert_eq!(made.providers[0].rules.domains, ["example.com", "example.org"]);
        assert!(decided("", &oidc[..3]).is_err());
    }

    #[test]
    fn people_come_back_to_an_origin() {
        for (url, good) in [
            ("https://lantern.example", true),
            ("http://127.0.0.1:8080/", true),
            ("https://lantern.example/app", false),
            ("lantern.example", false),
            ("https://", false),
            ("javascript:alert(1)", false),
        ] {
            assert_eq!(decided("", &[(env::OAUTH_REDIRECT_BASE, url)]).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let decided = of("kind = \"github\"").unwrap();
        let shown = format!("{} {decided:?}", decided.in_force());
        assert!(shown.contains(MASK) && !shown.contains("\"s\""), "{shown}");
    }

    #[test]
    fn names_are_plain_and_distinct() {
        let two =
            "[[providers]]\nname = \"a\"\nkind = \"github\"\nclient_id = \"c\"\nclient_secret = \"s\"\n";
        assert!(decided(two, &[]).is_ok());
        assert!(decided(&two.repeat(2), &[]).is_err());
        for name in ["", "A", "a b", "a/b", "..", "ä"] {
            assert!(decided(&two.replace("\"a\"", &format!("{name:?}")), &[]).is_err(), "{name}");
        }
    }
}
