//! Between the neutral form and each family's wire. Pure: no IO, no clock; time and ids come in as a [`Stamp`].
//!
//! Invariant: a stream's steps do not depend on where its bytes were cut; a reply that broke off is a failure; and what
//! one family says and another cannot is left out and named.

mod chat;
mod converse;
mod door;
mod generate;
mod lost;
mod messages;
mod problem;
mod responses;
mod shared;
mod stream;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod golden;

use serde_json::Value;

pub use door::{Encoder, write_reply};
pub use problem::{Problem, ProblemKind, Told};
pub use shared::Malformed;
pub use stream::Decoder;

use lantern_types::Failure;

use crate::Family;
use crate::neutral::{Reply, Request};
use crate::vendor::Dialect;

/// Something written for another side, and what had no place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The body.
    pub body: Vec<u8>,
    /// What was left out because the family has no way to say it, by name: `top_k`, `content.input_audio`.
    pub ignored: Vec<String>,
}

/// What a front door says of itself in a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The reply's id, in the caller's own form.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The model's name to show. Empty for the name that the provider gives.
    pub model: String,
    /// Whether the client asked a stream of [`Family::Chat`] for its usage.
    pub stream_usage: bool,
}

impl Stamp {
    /// The name to show for a model that calls itself `answered`.
    pub(crate) fn model<'a>(&'a self, answered: &'a str) -> &'a str {
        if self.model.is_empty() { answered } else { &self.model }
    }
    /// Takes over the name that the provider gives, when there is none to show.
    pub(crate) fn answered(&mut self, model: Option<&str>) {
        if self.model.is_empty() {
            model.unwrap_or_default().clone_into(&mut self.model);
        }
    }
}

/// Reads a request of a front door. In [`Family::Generate`] and [`Family::Converse`] the path names the model and says
/// whether to stream: the caller sets [`Request::model`] and [`Request::stream`].
pub fn read_request(family: Family, body: &[u8]) -> Result<Request, Malformed> {
    match family {
        Family::Chat => chat::request::read(body),
        Family::Responses => responses::request::read(body),
        Family::Messages => messages::request::read(body),
        Family::Generate => generate::request::read(body),
        Family::Converse => converse::request::read(body),
    }
}

/// Writes a request for a provider that speaks this dialect.
pub fn write_request(request: &Request, dialect: &Dialect) -> Written {
    let (body, ignored) = match dialect.family {
        Family::Chat => {
            let (wire, ignored) = chat::write::write(request, dialect);
            (shared::bytes(&wire), ignored)
        }
        Family::Responses => {
            let (wire, ignored) = responses::request::write(request);
            (shared::bytes(&wire), ignored)
        }
        Family::Messages => {
            let (wire, ignored) = messages::request::write(request);
            (shared::bytes(&wire), ignored)
        }
        Family::Generate => {
            let (wire, ignored) = generate::request::write(request);
            (shared::bytes(&wire), ignored)
        }
        Family::Converse => {
            let (wire, ignored) = converse::request::write(request);
            (shared::bytes(&wire), ignored)
        }
    };
    Written { body, ignored }
}

/// Reads a reply that a provider sent whole, with a 2xx status. `asked` names the model where the reply does not.
pub fn read_reply(family: Family, body: &[u8], asked: &str) -> Result<Reply, Failure> {
    match family {
        Family::Chat => chat::reply::read(body, asked),
        Family::Responses => responses::reply::read(body, asked),
        Family::Messages => messages::reply::read(body, asked),
        Family::Generate => generate::reply::read(body, asked),
        Family::Converse => converse::reply::read(body, asked),
    }
}

/// One server-sent event.
pub(crate) fn sse(event: Option<&str>, data: &Value, out: &mut Vec<u8>) {
    if let Some(event) = event {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(&shared::bytes(data));
    out.extend_from_slice(b"\n\n");
}
