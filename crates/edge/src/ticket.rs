//! Tickets: what may stand in the address of an event stream, because a browser's `EventSource` sends no header.
//!
//! Invariant: a ticket is 256 random bits that are stored as a hash alone, and is read from the address of a route that
//! takes tickets and nowhere else. Whatever else stands there is refused and not looked up: addresses end up in logs and
//! histories, where a key or a session's token must not be. What a ticket opens is decided in `auth.rs`.

use axum::extract::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TEXT;
use http::request::Parts;
use lantern_types::Digest;
use lantern_types::edge::IdGen;

use crate::auth;
use crate::code::Code;
use crate::problem::{Error, Result};

/// What a ticket is given as.
pub(crate) const PARAMS: [&str; 2] = ["token", "ticket"];

const PREFIX: &str = "hlx_sse_";
const RANDOM: usize = 32;
/// The prefix and 43 letters.
const LENGTH: usize = PREFIX.len() + 43;

/// Marks a request to a route that takes tickets.
#[derive(Clone, Copy)]
struct Taken;

/// A new ticket's text.
pub fn mint(ids: &dyn IdGen) -> String {
    let mut bytes = [0; RANDOM];
    ids.fill(&mut bytes);
    format!("{PREFIX}{}", TEXT.encode(bytes))
}

/// From here on a ticket in this request's address counts.
pub(crate) fn take(request: &mut Request) {
    request.extensions_mut().insert(Taken);
}

/// The hash of the ticket in the address, if there is one that counts. `not_a_ticket` for anything else in its place.
pub(crate) fn presented(parts: &Parts) -> Result<Option<Digest>> {
    let counts = parts.extensions.get::<Taken>().is_some();
    let query = parts.uri.query().filter(|_| counts).unwrap_or_default();
    let given = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
    // Nothing in a ticket needs an escape, so it is compared as it stands.
    match given("token=") {
        "" if given("ticket=").is_empty() => Ok(None),
        ticket if ticket.starts_with(PREFIX) && ticket.len() == LENGTH => Ok(Some(auth::hash(ticket))),
        other => Err(Error::new(Code::NotATicket, expected(other))),
    }
}

/// What to put there in place of what stands there. It is not repeated: it may be a key.
fn expected(given: &str) -> String {
    let wrong = match given {
        "" => "ticket: a ticket goes into `token`".to_owned(),
        cut if cut.starts_with(PREFIX) => format!(
            "token: a ticket is `{PREFIX}` and 43 letters, digits, `-` or `_`; this one has {} characters",
            cut.chars().count()
        ),
        escaped if escaped.contains('%') => {
            "token: a ticket stands there as it is, without escapes".to_owned()
        }
        _ => "token: only a ticket may stand in an address; keys and session tokens go into the \
            Authorization header"
            .to_owned(),
    };
    format!("{wrong}; POST /v1/auth/sse-ticket makes one")
}

/// What every ticket is answered that opens nothing.
pub(crate) fn spent() -> Error {
    let words = "the ticket was used or is over, or whoever asked for it may no longer; \
        POST /v1/auth/sse-ticket makes another";
    Error::new(Code::TicketSpent, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sevens;

    impl IdGen for Sevens {
        fn uuid(&self) -> uuid::Uuid {
            uuid::Uuid::nil()
        }
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    #[test]
    fn a_ticket_is_found_where_it_counts_and_nothing_else_is() {
        let ticket = mint(&Sevens);
        let hash = Some(auth::hash(&ticket));
        let key = "hlx_live_00000000000000000000000000000000";
        for (query, want) in [
            (format!("token={ticket}"), Ok(hash)),
            (format!("from_seq=3&token={ticket}&token=x"), Ok(hash)),
            ("token=".to_owned(), Ok(None)),
            ("from_seq=3".to_owned(), Ok(None)),
            (format!("ticket={ticket}"), Err(Code::NotATicket)),
            (format!("ticket=x&token={ticket}"), Ok(hash)),
            ("ticket=".to_owned(), Ok(None)),
            (format!("token={key}"), Err(Code::NotATicket)),
            ("token=a.b.c".to_owned(), Err(Code::NotATicket)),
            (format!("token={ticket}0"), Err(Code::NotATicket)),
            (format!("token=%68{}", &ticket[1..]), Err(Code::NotATicket)),
        ] {
            let (parts, ()) = http::Request::get(format!("/e?{query}")).body(()).unwrap().into_parts();
            assert_eq!(presented(&parts).unwrap(), None, "no route that takes tickets: {query}");
            let mut request = Request::from_parts(parts, axum::body::Body::empty());
            take(&mut request);
            let got = presented(&request.into_parts().0).map_err(|error| error.code());
            assert_eq!(got, want, "{query}");
        }
    }

    #[test]
    fn who_puts_something_else_there_is_told_what_is_expected() {
        let ticket = mint(&Sevens);
        for (query, words) in [
            (
                format!("token={ticket}0"),
                "`hlx_sse_` and 43 letters, digits, `-` or `_`; this one has 52 characters",
            ),
            (format!("token={}", &ticket[..20]), "this one has 20 characters"),
            (format!("token=%68{}", &ticket[1..]), "without escapes"),
            ("token=a.b.c".to_owned(), "go into the Authorization header"),
            ("token=hlx_live_0".to_owned(), "go into the Authorization header"),
            (format!("ticket={ticket}"), "a ticket goes into `token`"),
        ] {
            let mut request = Request::new(axum::body::Body::empty());
            *request.uri_mut() = format!("/e?{query}").parse().unwrap();
            take(&mut request);
            let error = presented(&request.into_parts().0).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("POST /v1/auth/sse-ticket"), "{query}: {error}");
        }
    }
}
