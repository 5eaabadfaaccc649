//! Signing in by an issuer: being sent to it, coming back, and being signed in.
//!
//! ```text
//! begin    a browser is sent to the issuer, with a cookie        row in sso_flows
//! back     it comes back with a code, which proves who it is     row in sso_passes
//! finish   a page or a program shows the pass, and is signed in  row in sign_ins
//! ```
//!
//! Invariant: whoever comes back is whoever was sent: a state counts once, beside the cookie of the browser that it was made for. What is
//! handed over at the end counts once too, beside that browser's cookie or, for a program, beside what only it knows. Nothing secret
//! is in an address but that last hand-over to a program, which is worth nothing without the other half. Where a browser is sent is
//! the issuer, a page here, or a program on its own machine; nobody chooses another place. Who somebody is here is decided by
//! `lantern_policy::sso`, and a page learns of a refusal no more than a code.

mod back;
mod begin;
mod finish;

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;
use http::{HeaderMap, HeaderValue};
use lantern_edge::openapi::{Kind, Param};
use lantern_edge::route::{fresh_post_route, public_get, public_post};
use lantern_edge::{Code, Error, Json, Refusal, Result, Route, cookie};
use lantern_policy::Permit;
use lantern_policy::action::CheckSso;
use lantern_types::edge::IdGen;
use lantern_types::{Digest, Dur};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::slips::Slip;
use crate::App;
use crate::sso::{Fault, Proof, Provider, Sso};

pub(super) use finish::{link_to, proven, taken};

/// How long somebody may take at an issuer.
const FLOW_LASTS: Dur = Dur::from_secs(600);
/// How long a pass waits to be shown, the code of a second factor included.
const PASS_LASTS: Dur = Dur::from_secs(300);
/// What passes begin with.
const PASS: &str = "hlx_sso_";
/// Random bytes of what is handed out.
const SECRET: usize = 32;

const NEXT: Param =
    Param { name: "next", about: "The page to go on to, as a path of this server.", kind: Kind::Text };
const BACK: [Param; 4] = [
    Param { name: "code", about: "What the issuer gives for a proof.", kind: Kind::Text },
    Param { name: "state", about: "What it was asked with.", kind: Kind::Text },
    Param { name: "error", about: "Why it gives none.", kind: Kind::Text },
    Param { name: "iss", about: "Which issuer it is (RFC 9207).", kind: Kind::Text },
];
const TERMINAL: [Param; 3] = [
    Param { name: "port", about: "Where the program listens on `127.0.0.1`.", kind: Kind::From(1) },
    Param { name: "challenge", about: "The SHA-256 of what it will show, as base64url.", kind: Kind::Text },
    Param { name: "handle", about: "What it knows the answer by.", kind: Kind::Text },
];

pub(crate) fn routes() -> Vec<Route<App>> {
    let sends = [Refusal::Invalid, Refusal::RateLimited, Refusal::BadGateway, Refusal::Unavailable];
    vec![
        public_get("/auth/oauth", "List the issuers that one can sign in by", list),
        public_get("/auth/oauth/{provider}/start", "Begin to sign in by an issuer", begin::look)
            .takes(&[NEXT])
            .refuses(&sends),
        public_post(
            "/auth/oauth/{provider}/start",
            "Begin to sign in by an issuer, or to link it",
            begin::start,
        )
        .refuses(&sends),
        public_get(
            "/auth/oauth/{provider}/terminal",
            "Begin to sign a program in that runs beside the browser",
            begin::terminal,
        )
        .takes(&TERMINAL)
        .refuses(&sends),
        public_get("/auth/oauth/{provider}/callback", "Come back from an issuer", back::callback)
            .takes(&BACK),
        public_post("/auth/oauth/exchange", "Sign a program in that was handed a code", finish::exchange)
            .refuses(&[
                Refusal::Unauthenticated,
                Refusal::Forbidden,
                Refusal::Conflict,
                Refusal::RateLimited,
            ]),
        public_post(
            "/auth/session/sso",
            "Sign in as a web page that came back from an issuer",
            finish::session,
        )
        .refuses(&[
            Refusal::Unauthenticated,
            Refusal::Forbidden,
            Refusal::Conflict,
            Refusal::RateLimited,
        ]),
        fresh_post_route(
            "/v1/sso/check",
            "Ask the issuers that people sign in by whether they answer",
            check,
        ),
    ]
}

/// What is to come of being sent to an issuer.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Wish {
    /// The page to go on to.
    next: Option<String>,
    /// Whether somebody who is signed in wants to link what they come back with.
    link: bool,
    /// The invitation that they bring.
    invitation: Option<Slip>,
    /// The program that is to be signed in.
    terminal: Option<Terminal>,
}

/// A program beside the browser.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Terminal {
    port: u16,
    /// The digest of what it will show.
    challenge: Digest,
    handle: String,
}

/// What a pass says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Proven {
    pub(super) provider: String,
    pub(super) proof: Proof,
    /// It is to be linked, and signs nobody in.
    pub(super) link: bool,
    invitation: Option<Slip>,
}

/// An issuer that one can sign in by.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SsoChoice {
    /// Its name in paths.
    name: String,
    /// Its name for people.
    label: String,
    /// Where a browser must reach this server for it.
    url: String,
}

/// Whether an issuer can be signed in by.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SsoChecked {
    name: String,
    ok: bool,
    /// `sso_unavailable` when it does not answer, `sso_failed` when it does not as it must. The server's log says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

async fn list(State(app): State<App>) -> Json<Vec<SsoChoice>> {
    let sso = &app.inner.sso;
    let choice = |provider: &Provider| SsoChoice {
        name: provider.said.name.clone(),
        label: provider.said.label.clone(),
        url: sso.public_url.clone(),
    };
    Json(sso.providers.iter().map(choice).collect())
}

/// Ask the issuers whether they answer. One that was asked a moment ago is not asked again.
async fn check(_: Permit<CheckSso>, State(app): State<App>) -> Result<Json<Vec<SsoChecked>>> {
    let sso = &app.inner.sso;
    let mut checked = Vec::with_capacity(sso.providers.len());
    for provider in &sso.providers {
        let code = match sso.check(provider, app.clock.now()).await {
            Ok(()) => None,
            Err(fault) => {
                tracing::warn!(provider = provider.said.name, %fault, "an issuer cannot be signed in by");
                Some(told(&fault).as_str())
            }
        };
        checked.push(SsoChecked { name: provider.said.name.clone(), ok: code.is_none(), code });
    }
    Ok(Json(checked))
}

/// What is said of a fault to whoever asks.
const fn told(fault: &Fault) -> Code {
    match fault {
        Fault::Unreachable(_) => Code::SsoUnavailable,
        Fault::Unusable(_) | Fault::Untrue(_) => Code::SsoFailed,
        Fault::Unverified => Code::SsoEmailUnverified,
    }
}

fn provider<'a>(sso: &'a Sso, name: &str) -> Result<&'a Provider> {
    let words = "nobody can sign in by this here; GET /auth/oauth lists by what";
    sso.provider(name).ok_or_else(|| Error::new(Code::SsoNotConfigured, words))
}

fn random(ids: &dyn IdGen) -> [u8; SECRET] {
    let mut bytes = [0; SECRET];
    ids.fill(&mut bytes);
    bytes
}

/// A name of our cookie that no other site, port or path can set, where browsers keep such: over TLS.
const fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-lantern_sso" } else { "lantern_sso" }
}

/// The `Set-Cookie` header of what a browser is to show. Only `strict` ones may not come along with a link of another site, such as
/// the issuer's back to here.
fn keep_cookie(sso: &Sso, text: &str, lasts: Dur, strict: bool) -> Result<HeaderValue> {
    let (name, site) = (cookie_name(sso.secure()), if strict { "Strict" } else { "Lax" });
    let secure = if sso.secure() { "; Secure" } else { "" };
    let seconds = lasts.millis() / 1_000;
    let line = format!("{name}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite={site}{secure}");
    HeaderValue::from_str(&line).map_err(Error::internal)
}

fn forget_cookie(sso: &Sso) -> Result<HeaderValue> {
    keep_cookie(sso, "", Dur::ZERO, true)
}

fn shown_cookie<'a>(sso: &Sso, headers: &'a HeaderMap) -> Option<&'a str> {
    cookie::named(headers, cookie_name(sso.secure()))
}

/// The pass that a page shows.
pub(super) fn shown<'a>(app: &App, headers: &'a HeaderMap) -> Result<&'a str> {
    shown_cookie(&app.inner.sso, headers).ok_or_else(expired)
}

/// The `Set-Cookie` header after which it shows none.
pub(super) fn forgotten(app: &App) -> Result<HeaderValue> {
    forget_cookie(&app.inner.sso)
}

/// The issuer that proved it.
pub(super) fn of<'a>(app: &'a App, proven: &Proven) -> Result<&'a Provider> {
    provider(&app.inner.sso, &proven.provider)
}

pub(super) fn expired() -> Error {
    let words = "this was used, took too long, or was begun in another browser; begin anew";
    Error::new(Code::SsoExpired, words)
}

/// The digest that 43 letters of base64url are.
fn challenge(text: &str) -> Option<Digest> {
    TEXT.decode(text).ok().and_then(|bytes| Digest::from_bytes(&bytes))
}
