//! An answer of another wire on its way to whoever asked: turned as it comes, and stopped when it passes what it may say.
//!
//! Invariant: a stream ends in the client's own words, whatever ended it. Dropping the body drops the connection to the provider and
//! settles the call.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use lantern_edge::{Code, Error, Result};
use lantern_llm::cross::{self, Turning};
use lantern_llm::wire::{Encoder, Stamp, Told};
use lantern_llm::{Endpoint, Family};
use lantern_net::http::Response;
use lantern_types::Failure;
use lantern_types::call::CallEnd;

use crate::answer::END_WAIT;
use crate::attempt::{ANSWER_BYTES_MAX, priced};
use crate::missed::failed;
use crate::open::Open;

type Answer = axum::response::Response;

/// What is known of an answer before its body.
pub(crate) struct Turned<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) client: Family,
    pub(crate) provider: Family,
    /// The model that was asked.
    pub(crate) model: &'a str,
    pub(crate) stamp: Stamp,
    pub(crate) stream: bool,
}

impl Turned<'_> {
    /// The provider's success, for the client.
    pub(crate) async fn answer(self, response: Response, mut open: Open) -> Result<Answer> {
        if self.stream && !cross::streams(&response) {
            open.settle(CallEnd::Broken);
            let words = format!("{} does not stream its answer", self.endpoint.provider);
            return Err(Error::new(Code::ProviderInvalidResponse, words));
        }
        if self.stream {
            let turning = Turning::new(self.client, self.provider, self.stamp, open.seen.hides);
            let kind = Encoder::content_type(self.client);
            let body = Passing { response: Some(response), open, turning }.body();
            let mut answer = Answer::new(body);
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            return Ok(answer);
        }
        let body = response.bytes(ANSWER_BYTES_MAX).await.map_err(|_| broke_off());
        let turned =
            body.and_then(|body| cross::whole(self.endpoint, self.client, &body, self.model, &self.stamp));
        match turned {
            Ok((body, seen)) => {
                open.seen = seen;
                let cost = open.settle(CallEnd::Complete);
                let mut answer = json(StatusCode::OK, body);
                priced(answer.headers_mut(), cost);
                Ok(answer)
            }
            Err(failure) => {
                open.settle(CallEnd::Broken);
                Err(failed(&failure))
            }
        }
    }

    /// The provider's refusal, in the client's shape.
    pub(crate) fn refusal(&self, response: &Response, failure: Failure) -> Answer {
        let Told { status, headers, body } = cross::refused(response, failure).told(self.client);
        let mut answer = json(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), body);
        let headers = headers.into_iter().filter_map(|(name, value)| {
            Some((http::HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
        });
        answer.headers_mut().extend(headers.collect::<HeaderMap>());
        answer
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Answer::new(Body::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn broke_off() -> Failure {
    Failure::unknown("provider_interrupted", "the provider broke off")
}

/// A stream on its way.
struct Passing {
    response: Option<Response>,
    open: Open,
    turning: Turning,
}

impl Passing {
    fn body(self) -> Body {
        let pieces = stream::unfold(self, |mut passing| async move {
            let next = passing.next().await?;
            Some((Ok::<_, io::Error>(next), passing))
        });
        Body::from_stream(pieces)
    }

    /// What is handed on next; nothing once all was.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let response = self.response.as_mut()?;
            if self.turning.is_over() {
                // A connection is used again only when its body was read to the end.
                drop(tokio::time::timeout(END_WAIT.std(), response.chunk()).await);
                self.response = None;
                return None;
            }
            let out = match response.chunk().await {
                Ok(Some(bytes)) => self.turn(&bytes),
                Ok(None) => {
                    let out = self.turning.end();
                    self.over();
                    out
                }
                Err(error) => {
                    tracing::debug!(%error, "a provider broke off");
                    let out = self.turning.fail(&broke_off());
                    self.over();
                    out
                }
            };
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }

    fn turn(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = self.turning.push(bytes);
        let seen = self.turning.seen();
        if self.turning.is_over() {
            self.over();
        } else if self.open.capped && !seen.last_word && seen.passes(&self.open.worst) {
            self.response = None;
            out.extend(self.turning.stop());
            self.open.seen = seen;
            self.open.settle(CallEnd::Stopped);
        } else {
            self.open.seen = seen;
        }
        out
    }

    fn over(&mut self) {
        self.open.seen = self.turning.seen();
        self.open.settle(if self.turning.is_whole() { CallEnd::Complete } else { CallEnd::Broken });
    }
}
