//! Being sent to an issuer: a state, a cookie, and a row that binds them.
//!
//! Invariant: of state and cookie only digests are kept. Where somebody goes on to afterwards is a path here, or a port of their own
//! machine; anything else is not kept.

use axum::extract::State;
use http::HeaderValue;
use lantern_edge::request::Peer;
use lantern_edge::{Body, Code, Error, Fields, Found, Json, Model, Params, Path, Result, WithCookie};
use lantern_policy::sso::path_here;
use lantern_store::sso::{self as flows, Flow};
use lantern_types::{Digest, Dur};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::session::rate_limited;
use super::super::slips;
use super::{FLOW_LASTS, Terminal, Wish, challenge, keep_cookie, provider, random, told};
use crate::App;
use crate::sso::Trip;

/// Flows of this server that are under way.
const UNDER_WAY_MAX: u32 = 10_000;
/// The contract's states have so many letters.
const STATE: usize = 24;
const NEXT_BYTES_MAX: usize = 1_024;
const HANDLE_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// Where a browser goes to sign in.
#[derive(Serialize, ToSchema)]
// The contract's one name with an underscore.
#[schema(as = SsoRedirect)]
pub(super) struct Redirect {
    redirect_url: String,
}

pub(super) struct Start {
    next: Option<String>,
    link: bool,
    invitation: Option<String>,
}

impl Model for Start {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let next = fields.text("next", NEXT_BYTES_MAX);
        let link = fields.boolean("link").unwrap_or_default();
        let invitation = fields.text("invitation", slips::BYTES_MAX);
        Some(Self { next, link, invitation })
    }
}

/// Begin to sign in by an issuer, in the browser that asks: it keeps a cookie, goes to `redirect_url`, and comes back to the page
/// `/sign-in`.
pub(super) async fn look(
    State(app): State<App>,
    Path(name): Path<String>,
    peer: Peer,
    params: Params,
) -> Result<WithCookie<Json<Redirect>>> {
    let wish = Wish { next: page(params.text("next")), ..Wish::default() };
    Ok(answered(begin(&app, &name, peer, wish).await?))
}

/// Begin to sign in by an issuer, or to come into a tenant by an invitation that names the address which the issuer vouches for, or
/// to link an identity to the account that one is signed in to.
pub(super) async fn start(
    State(app): State<App>,
    Path(name): Path<String>,
    peer: Peer,
    Body(Start { next, link, invitation }): Body<Start>,
) -> Result<WithCookie<Json<Redirect>>> {
    let invitation = match invitation {
        None => None,
        Some(text) => Some(slips::read(slips::INVITATION, &text).ok_or_else(|| {
            Error::new(Code::InvalidBody, "invitation: is none").with_field("invitation", "is no invitation")
        })?),
    };
    let wish = Wish { next: page(next.as_deref()), link, invitation, terminal: None };
    Ok(answered(begin(&app, &name, peer, wish).await?))
}

/// Begin to sign a program in, in the browser beside it. It ends at the program's own port with a code, which is good for whoever
/// shows what the challenge is the digest of.
pub(super) async fn terminal(
    State(app): State<App>,
    Path(name): Path<String>,
    peer: Peer,
    params: Params,
) -> Result<WithCookie<Found>> {
    let wrong = |what: &str| {
        Error::new(Code::InvalidQuery, format!("{what}: is not what a program would send"))
            .with_field(what, "is wrong")
    };
    let port =
        params.parsed::<u16>("port", "a port")?.filter(|port| *port >= 1_024).ok_or_else(|| wrong("port"))?;
    let challenge = params.text("challenge").and_then(challenge).ok_or_else(|| wrong("challenge"))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let handle =
        params.text("handle").filter(|text| HANDLE_BYTES.contains(&text.len()) && text.bytes().all(plain));
    let handle = handle.ok_or_else(|| wrong("handle"))?.to_owned();
    let wish = Wish { terminal: Some(Terminal { port, challenge, handle }), ..Wish::default() };
    let (redirect_url, cookie) = begin(&app, &name, peer, wish).await?;
    let location = HeaderValue::from_str(&redirect_url).map_err(Error::internal)?;
    Ok(WithCookie { cookie, answer: Found { location } })
}

/// A page that may be gone on to; what is none is as good as nothing.
fn page(next: Option<&str>) -> Option<String> {
    next.and_then(path_here).map(str::to_owned)
}

fn answered((redirect_url, cookie): (String, HeaderValue)) -> WithCookie<Json<Redirect>> {
    WithCookie { cookie, answer: Json(Redirect { redirect_url }) }
}

async fn begin(app: &App, name: &str, peer: Peer, wish: Wish) -> Result<(String, HeaderValue)> {
    let (sso, now) = (&app.inner.sso, app.clock.now());
    let provider = provider(sso, name)?;
    app.inner.logins_of_peer.take(peer.0.ip(), now).map_err(rate_limited)?;
    let secret = hex::encode(random(&*app.ids));
    let mut state = [0; STATE];
    app.ids.fill(&mut state);
    let (state, trip) = (hex::encode(state), Trip::of(secret.clone()));
    let sent_to = sso.sent_to(provider, &trip, &state, now).await.map_err(|fault| {
        tracing::warn!(provider = name, %fault, "nobody can be sent to an issuer");
        Error::new(told(&fault), "nobody can sign in by this now; the server's log says why")
    })?;
    let flow = Flow {
        hash: Digest::of(state.as_bytes()),
        provider: name.to_owned(),
        browser: trip.digest(),
        wish: serde_json::to_string(&wish).map_err(Error::internal)?,
        expires_at: now + FLOW_LASTS,
    };
    if !flows::keep_flow(&app.db, flow, now, UNDER_WAY_MAX).await? {
        let words = "too many people are signing in at once";
        return Err(Error::new(Code::Unavailable, words).retry_after(Dur::from_secs(60)));
    }
    Ok((sent_to, keep_cookie(sso, &secret, FLOW_LASTS, false)?))
}
