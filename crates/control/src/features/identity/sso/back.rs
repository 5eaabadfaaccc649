//! Coming back from an issuer: what it says becomes a pass, or a code on the sign-in page.
//!
//! Invariant: every answer is a redirect to a page here or to the program that began; nothing of what came along is in it, and nothing
//! of why it failed but a code. The flow is used up before the issuer is asked, so a code is exchanged once.

use axum::extract::State;
use http::{HeaderMap, HeaderValue};
use lantern_edge::request::Peer;
use lantern_edge::{Code, Error, Found, Params, Path, Result, WithCookie};
use lantern_store::sso::{self as flows, Pass};
use lantern_types::Digest;

use super::super::session::rate_limited;
use super::{
    PASS, PASS_LASTS, Proven, Terminal, Wish, expired, forget_cookie, keep_cookie, provider, random,
    shown_cookie, told,
};
use crate::App;
use crate::sso::{Provider, Trip, escaped};

/// The longest code that an issuer gives.
const CODE_BYTES_MAX: usize = 4_096;
/// As much of what an issuer calls its error is logged.
const ERROR_CHARS_MAX: usize = 64;

/// Come back from an issuer. The answer is a redirect in any case: to the page, or to the program, with a code where it failed.
pub(super) async fn callback(
    State(app): State<App>,
    Path(name): Path<String>,
    peer: Peer,
    headers: HeaderMap,
    params: Params,
) -> Result<WithCookie<Found>> {
    let sso = &app.inner.sso;
    let (wish, came) = match awaited(&app, &name, peer, &headers, &params).await {
        Ok((wish, trip)) => {
            let came = proven(&app, &name, &trip, &params, &wish).await;
            (wish, came)
        }
        Err(error) => (Wish::default(), Err(error)),
    };
    let code = came.as_ref().err().map(|error| {
        tracing::warn!(provider = name, code = error.code().as_str(), %error, "somebody came back from an issuer in vain");
        error.code()
    });
    let pass = came.ok();
    let (location, kept) = match (&wish.terminal, &pass) {
        (Some(terminal), pass) => (to_program(terminal, pass.as_deref().ok_or(code)), None),
        (None, pass) => (to_page(&name, &wish, code), pass.as_deref()),
    };
    let cookie = match kept {
        Some(pass) => keep_cookie(sso, pass, PASS_LASTS, true)?,
        None => forget_cookie(sso)?,
    };
    let location = HeaderValue::from_str(&location).map_err(Error::internal)?;
    Ok(WithCookie { cookie, answer: Found { location } })
}

/// What is to come of whoever brings this state and this cookie, who does not come a second time.
async fn awaited(
    app: &App,
    name: &str,
    peer: Peer,
    headers: &HeaderMap,
    params: &Params,
) -> Result<(Wish, Trip)> {
    let (sso, now) = (&app.inner.sso, app.clock.now());
    provider(sso, name)?;
    app.inner.logins_of_peer.take(peer.0.ip(), now).map_err(rate_limited)?;
    let trip = Trip::of(shown_cookie(sso, headers).ok_or_else(expired)?.to_owned());
    let state = Digest::of(params.text("state").ok_or_else(expired)?.as_bytes());
    let wish = flows::take_flow(&app.db, state, name.to_owned(), trip.digest(), now).await?;
    let wish = serde_json::from_str(&wish.ok_or_else(expired)?).map_err(Error::internal)?;
    Ok((wish, trip))
}

/// The text of a pass for whoever an issuer says that this is.
async fn proven(app: &App, name: &str, trip: &Trip, params: &Params, wish: &Wish) -> Result<String> {
    let (sso, now) = (&app.inner.sso, app.clock.now());
    let provider = provider(sso, name)?;
    let code = given(provider, params)?;
    let proof = sso.prove(provider, trip, code, now).await.map_err(|fault| {
        tracing::warn!(provider = name, %fault, "what an issuer says is not believed");
        Error::new(told(&fault), "the issuer proved nothing")
    })?;
    let proven = Proven { provider: name.to_owned(), proof, link: wish.link, invitation: wish.invitation };
    let text = format!("{PASS}{}", hex::encode(random(&*app.ids)));
    let pass = Pass {
        hash: Digest::of(text.as_bytes()),
        bound: wish.terminal.as_ref().map(|terminal| terminal.challenge),
        proof: serde_json::to_string(&proven).map_err(Error::internal)?,
        expires_at: app.clock.now() + PASS_LASTS,
    };
    flows::keep_pass(&app.db, pass, now).await?;
    Ok(text)
}

/// The code that the issuer gave.
fn given<'a>(provider: &Provider, params: &'a Params) -> Result<&'a str> {
    let failed = |why: &str| Error::new(Code::SsoFailed, format!("the issuer gave no code: {why}"));
    if let Some(error) = params.text("error") {
        if error == "access_denied" {
            return Err(Error::new(Code::SsoDenied, "somebody said no at the issuer"));
        }
        let plain: String = error.chars().filter(char::is_ascii_graphic).take(ERROR_CHARS_MAX).collect();
        return Err(failed(&plain));
    }
    if params.text("iss").is_some_and(|issuer| issuer != provider.said.issuer) {
        return Err(failed("it is another issuer"));
    }
    params.text("code").filter(|code| code.len() <= CODE_BYTES_MAX).ok_or_else(|| failed("there is none"))
}

/// The page of this server that is shown then.
fn to_page(name: &str, wish: &Wish, code: Option<Code>) -> String {
    let page = if wish.link { "/account" } else { "/sign-in" };
    let mut pairs = vec![("sso", name)];
    pairs.extend(code.map(|code| ("error", code.as_str())));
    pairs.extend(wish.next.as_deref().map(|next| ("next", next)));
    format!("{page}?{}", crate::sso::form(&pairs))
}

/// The program that began, on the machine of the browser.
fn to_program(terminal: &Terminal, came: std::result::Result<&str, Option<Code>>) -> String {
    let (what, said) = match came {
        Ok(pass) => ("code", pass),
        Err(code) => ("error", code.unwrap_or(Code::SsoFailed).as_str()),
    };
    format!(
        "http://127.0.0.1:{}/?{what}={}&state={}",
        terminal.port,
        escaped(said),
        escaped(&terminal.handle)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_goes_on_here_or_to_its_own_machine() {
        let wish = |next: &str| Wish { next: Some(next.to_owned()), ..Wish::default() };
        assert_eq!(to_page("id", &Wish::default(), None), "/sign-in?sso=id");
        assert_eq!(
            to_page("id", &wish("/runs?a=b&sso=x"), None),
            "/sign-in?sso=id&next=%2Fruns%3Fa%3Db%26sso%3Dx"
        );
        assert_eq!(
            to_page("//evil", &Wish::default(), Some(Code::SsoFailed)),
            "/sign-in?sso=%2F%2Fevil&error=sso_failed"
        );
        assert_eq!(to_page("id", &Wish { link: true, ..Wish::default() }, None), "/account?sso=id");
        let terminal = Terminal { port: 4_711, challenge: Digest::of(b""), handle: "mine".to_owned() };
        assert_eq!(
            to_program(&terminal, Ok("hlx_sso_1")),
            "http://127.0.0.1:4711/?code=hlx_sso_1&state=mine"
        );
        assert_eq!(
            to_program(&terminal, Err(Some(Code::SsoDenied))),
            "http://127.0.0.1:4711/?error=sso_denied&state=mine"
        );
    }
}
