//! What a client would rather have (RFC 7240): that an answer waits until what it is about is over.
//!
//! Invariant: a preference is never an error. One that cannot be read is not there, and one that cannot be met changes
//! nothing; `Preference-Applied` says which was met, and with how much of it. An answer is held outside of what is remembered
//! for its `Idempotency-Key`: who lost it while it was held asks again, and is held again.

use std::future::Future;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use lantern_policy::Scope;
use lantern_types::Dur;
use uuid::Uuid;

use crate::idempotency::{REPLAYED, Remembers};
use crate::problem::Result;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The longest that an answer is held: proxies usually give up after a minute without one.
pub const WAIT_MAX: Dur = Dur::from_secs(55);

/// What an answer is about, as an extension of it, when it can be held until that is over.
#[derive(Clone, Copy, Debug)]
pub struct Held(pub Scope, pub Uuid);

/// An application whose answers can be held.
pub trait Holds: Remembers {
    /// Waits until what an answer is about is over, for at most so long. Whether it is over, and how it is shown then;
    /// nothing when it cannot be waited for.
    fn until_over(
        &self,
        about: Held,
        most: Dur,
    ) -> impl Future<Output = Result<Option<(bool, Response)>>> + Send;
}

/// How long the client would wait, in whole seconds and at most [`WAIT_MAX`].
pub fn wait(headers: &HeaderMap) -> Option<Dur> {
    let lines = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    // Of several that say how long only the first counts, even when it cannot be read.
    let said = lines.flat_map(|line| parts(line, ',')).find_map(|preference| {
        let plain = parts(preference, ';').next()?;
        let (name, value) = plain.split_once('=').unwrap_or((plain, ""));
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim())
    })?;
    let digits = said.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(said);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // A number that does not fit is longer than any wait.
    number.then(|| digits.parse().map_or(WAIT_MAX, Dur::from_secs).min(WAIT_MAX))
}

/// The parts of a list, where a separator between quotes is none.
fn parts(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |c: char| {
        let after_backslash = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !after_backslash => escaped = true,
            '"' if !after_backslash => quoted = !quoted,
            _ => {}
        }
        c == separator && !quoted
    })
}

/// Says that the client was waited for.
pub fn applied(mut response: Response, wish: Dur) -> Response {
    let seconds = wish.millis() / 1_000;
    if let Ok(value) = HeaderValue::from_str(&format!("wait={seconds}")) {
        response.headers_mut().insert(APPLIED, value);
    }
    response
}

/// The answer, when what it is about is over or the client has waited as long as it would.
pub(crate) async fn hold(state: &impl Holds, wish: Option<Dur>, response: Response) -> Response {
    let Some((wish, about)) = wish.zip(response.extensions().get::<Held>().copied()) else {
        return response;
    };
    match state.until_over(about, wish).await {
        Ok(Some((over, mut shown))) => {
            *shown.status_mut() = if over { StatusCode::OK } else { response.status() };
            for name in [header::LOCATION, REPLAYED] {
                if let Some(value) = response.headers().get(&name) {
                    shown.headers_mut().insert(name, value.clone());
                }
            }
            applied(shown, wish)
        }
        // What was asked for is done. That nobody could wait for it, or see what became of it, is no reason to say otherwise.
        Ok(None) | Err(_) => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_that_is_said_counts_if_it_can_be_read() {
        for (lines, want) in [
            (vec!["wait=10"], Some(10)),
            (vec!["respond-async, wait=10"], Some(10)),
            (vec!["Wait = \"7\" ; foo=bar"], Some(7)),
            (vec!["return=minimal", "wait=3"], Some(3)),
            (vec!["wait=3, wait=4", "wait=5"], Some(3)),
            (vec!["note=\"a, wait=9\", wait=2"], Some(2)),
            (vec!["note=\"a \\\" , wait=9\""], None),
            (vec!["wait=0"], Some(0)),
            (vec!["wait=99999999999999999999999"], Some(55)),
            (vec!["wait=56"], Some(55)),
            (vec!["wait=x, wait=4"], None),
            (vec!["wait"], None),
            (vec!["wait="], None),
            (vec!["wait=\"\""], None),
            (vec!["wait=-1"], None),
            (vec!["wait=+1"], None),
            (vec!["wait=1.5"], None),
            (vec!["wait=1 2"], None),
            (vec!["waiting=3"], None),
            (vec![",,;=,"], None),
            (vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(PREFER, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(wait(&headers), want.map(Dur::from_secs), "{lines:?}");
        }
        let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_bytes(b"wait=3\xff").unwrap())]);
        assert_eq!(wait(&headers), None);
    }
}
