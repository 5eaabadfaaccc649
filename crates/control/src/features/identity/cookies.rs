//! Signing in as a web page: the same sign-in as any, shown by a cookie that no script can read.
//!
//! Invariant: no token is in an answer to a page. Only a page of this server can sign its visitors in, because only it sends the header
//! beside which a cookie counts. A sign-in of this kind has no refresh token and is not renewed: it is over after [`LASTS`].

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::cookie;
use lantern_edge::request::Peer;
use lantern_edge::route::{delete_route, public_post};
use lantern_edge::{Body, Json, NoContent, Refusal, Result, Route, WithCookie, Witness};
use lantern_policy::Permit;
use lantern_policy::action::SignOut;
use lantern_store::system::Account;
use lantern_types::Dur;

use super::invitations::{self, Acceptance};
use super::session::{self, Device, Login, User};
use crate::App;

const LASTS: Dur = Dur::from_secs(7 * 86_400);

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        public_post("/auth/session", "Sign in as a web page, by a cookie", begin)
            .refuses(&[Refusal::Unauthenticated, Refusal::RateLimited]),
        public_post(
            "/auth/session/invitation",
            "Come into a tenant by an invitation as a web page, by a cookie",
            accept,
        )
        .refuses(&[Refusal::Unauthenticated, Refusal::Conflict]),
        delete_route("/auth/session", "Sign out as a web page", end),
    ]
}

async fn begin(
    State(app): State<App>,
    peer: Peer,
    witness: Witness,
    headers: HeaderMap,
    Body(login): Body<Login>,
) -> Result<WithCookie<Json<User>>> {
    cookie::from_page(&headers)?;
    let account = session::account(&app, peer, &witness, login).await?;
    shown(&app, account, peer, &headers).await
}

/// Come into a tenant by an invitation, from its link: what `POST /auth/invitations/accept` does, without a token in the answer.
async fn accept(
    State(app): State<App>,
    peer: Peer,
    witness: Witness,
    headers: HeaderMap,
    Body(acceptance): Body<Acceptance>,
) -> Result<WithCookie<Json<User>>> {
    cookie::from_page(&headers)?;
    let account = invitations::come_in(&app, &witness, acceptance).await?;
    shown(&app, account, peer, &headers).await
}

/// Signs somebody in who has shown that they are who this account is of.
pub(super) async fn shown(
    app: &App,
    account: Account,
    peer: Peer,
    headers: &HeaderMap,
) -> Result<WithCookie<Json<User>>> {
    let until = app.clock.now() + LASTS;
    let person = session::keep(app, account, until, &Device::of(peer, headers)).await?;
    let cookies = app.inner.gate.cookies();
    let cookie = cookies.issue(person.tenant, person.sign_in, LASTS, cookie::over_tls(headers))?;
    Ok(WithCookie { cookie, answer: Json(User::until(person, until)) })
}

async fn end(
    permit: Permit<SignOut>,
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<WithCookie<NoContent>> {
    session::leave(&app, &permit, false).await?;
    Ok(WithCookie { cookie: cookie::forget(cookie::over_tls(&headers))?, answer: NoContent })
}
