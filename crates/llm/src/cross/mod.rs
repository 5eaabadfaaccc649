//! A call from a client of one wire to a provider of another.
//!
//! Invariant: what would change the meaning of a request and cannot be said on the other wire is refused before anything is
//! sent; what only tunes it is left out and named. A reply is turned as it comes: of a stream no more is kept than one event and
//! what the encoder needs. Where both sides speak one wire, none of this is used.

mod answer;
mod question;

pub use answer::Turning;
pub use question::{OWN, Question, Unsayable, caches};

use bytes::Bytes;
use lantern_net::Client;
use lantern_net::http::{Method, Request, Response, header};
use lantern_policy::Admitted;
use lantern_policy::escrow::Seen;
use lantern_types::call::Used;
use lantern_types::{At, Failure};

use crate::failure::{of_connection, presentable};
use crate::neutral::{Content, Part, Reply, Usage};
use crate::pass::DEADLINES;
use crate::vendor::{errors, request};
use crate::wire::{Problem, ProblemKind, Stamp, read_reply, write_reply};
use crate::{Door, Endpoint, Family};

/// A request in the words of the provider.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// The model, which some wires name in the path.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// The body.
    pub body: Bytes,
    /// Names the effect, where a repeat of it can be recognised.
    pub key: String,
}

/// Sends it at `now`, which goes into signatures only, and answers with status and headers; any status is an answer. Nothing is
/// retried, and dropping the answer ends the request. Fails with the codes of [`call`](crate::call).
pub async fn send(
    client: &Client,
    endpoint: &Endpoint,
    call: Admitted<Crossing>,
    now: At,
) -> Result<Response, Failure> {
    let Crossing { model, stream, body, key } = call.into_work();
    let vendor = endpoint.vendor();
    let url = request::call_url(endpoint, &vendor, &model, stream);
    let mut headers = request::call_headers(endpoint, &vendor, &key)?;
    request::signed(endpoint, &vendor, &url, &body, now, &mut headers)?;
    let request = Request { method: Method::POST, url, headers, body };
    let sent = client.send(endpoint.reach, request, DEADLINES).await;
    sent.map_err(|error| presentable(of_connection(error), endpoint))
}

/// Whether an answer comes as a stream.
pub fn streams(response: &Response) -> bool {
    let kind = response.header(&header::CONTENT_TYPE).unwrap_or_default();
    kind.starts_with("text/event-stream") || kind.starts_with("application/vnd.amazon.eventstream")
}

/// The wire of a front door; embeddings are no conversation.
pub const fn family(door: Door) -> Option<Family> {
    match door {
        Door::Chat => Some(Family::Chat),
        Door::Messages => Some(Family::Messages),
        Door::Responses => Some(Family::Responses),
        Door::Embeddings => None,
    }
}

/// Whether thoughts of this model may be charged and not shown.
pub fn hides(endpoint: &Endpoint, model: &str) -> bool {
    crate::hides_thoughts(model) || endpoint.vendor().dialect.family == Family::Generate
}

/// A whole reply of the provider in the client's words, and what it used and said.
pub fn whole(
    endpoint: &Endpoint,
    client: Family,
    body: &[u8],
    asked: &str,
    stamp: &Stamp,
) -> Result<(Vec<u8>, Seen), Failure> {
    let from = endpoint.vendor().dialect.family;
    let reply = read_reply(from, body, asked).map_err(|failure| presentable(failure, endpoint))?;
    let seen = seen_whole(from, &reply, hides(endpoint, asked));
    Ok((write_reply(client, &reply, stamp).body, seen))
}

/// What a provider's refusal means, without our key.
pub fn failure(endpoint: &Endpoint, response: &Response, body: &[u8]) -> Failure {
    presentable(errors::refusal(response.status(), response.headers(), body), endpoint)
}

/// A provider's refusal as its client is to be told of it.
pub fn refused(response: &Response, failure: Failure) -> Problem {
    let status = response.status();
    let kind = match status.as_u16() {
        429 if !failure.retryable => ProblemKind::OverBudget,
        429 => ProblemKind::RateLimited,
        402 => ProblemKind::OverBudget,
        404 => ProblemKind::NotFound,
        413 => ProblemKind::TooLarge,
        408 | 504 => ProblemKind::Timeout,
        409 | 424 | 503 | 529 => ProblemKind::Unavailable,
        500.. => ProblemKind::Internal,
        _ => ProblemKind::Invalid,
    };
    Problem {
        retry_after: failure.retry_after,
        code: Some(failure.code.to_owned()),
        ..Problem::new(kind, failure.message)
    }
}

/// What a reply broke off with, for a client that is reading it.
pub(crate) fn broken(failure: &Failure) -> Problem {
    let kind = match failure.code {
        crate::failure::RATE_LIMITED => ProblemKind::RateLimited,
        crate::failure::UNAVAILABLE | crate::failure::INTERRUPTED => ProblemKind::Unavailable,
        crate::failure::TIMEOUT => ProblemKind::Timeout,
        _ => ProblemKind::Internal,
    };
    Problem { code: Some(failure.code.to_owned()), ..Problem::new(kind, failure.message.clone()) }
}

/// Tokens by what they cost. Where a vendor's own wire counts what came from a cache in full, so does this.
pub(crate) fn used(from: Family, usage: Usage) -> Used {
    match from {
        Family::Messages | Family::Converse => Used {
            input: usage.input.saturating_sub(usage.cache_read).saturating_sub(usage.cache_write),
            cache_read: usage.cache_read,
            cache_write: usage.cache_write.saturating_sub(usage.cache_write_long),
            cache_write_long: usage.cache_write_long,
            output: usage.output,
        },
        Family::Chat | Family::Responses | Family::Generate => {
            Used { input: usage.input, output: usage.output, ..Used::default() }
        }
    }
}

fn seen_whole(from: Family, reply: &Reply, hides: bool) -> Seen {
    let bytes: usize = reply.parts.iter().map(said).sum();
    Seen {
        reported: reply.usage.map(|usage| used(from, usage)),
        last_word: reply.usage.is_some(),
        bytes: bytes as u64,
        pieces: u64::from(bytes > 0),
        hides,
    }
}

fn said(part: &Part) -> usize {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => text.len(),
        Content::Thought(thought) => thought.text.len(),
        Content::Call(call) => call.name.len() + call.arguments.len(),
        Content::Other(json) => json.text().len(),
        _ => 0,
    }
}
