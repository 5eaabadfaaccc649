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
    let text = query.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap_or_default();
    // Nothing in a ticket needs an escape, so it is compared as it stands.
    match text {
        "" => Ok(None),
        ticket if ticket.starts_with(PREFIX) && ticket.len() == LENGTH => Ok(Some(auth::hash(ticket))),
        _ => {
            let words = "token: only a ticket may stand in an address; POST /v1/auth/sse-ticket makes one, and keys and \
                session tokens go into the Authorization header";
            Err(Error::new(Code::NotATicket, words))
        }
    }
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
            (format!("ticket={ticket}"), Ok(None)),
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
}
