//! A streamed answer on its way to whoever asked: passed on, read along, and stopped when it passes what it may say.
//!
//! Invariant: what the provider sends is handed on unchanged, whole events at a time. Dropping the body drops the connection to the
//! provider and settles the call.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use lantern_llm::Door;
use lantern_llm::peek::{Peek, Piece};
use lantern_net::http::Response;
use lantern_types::Dur;
use lantern_types::call::CallEnd;

use crate::open::Open;

/// How long to wait, after an answer has said that it is over, for the end of its body: a connection is used again only then.
pub(crate) const END_WAIT: Dur = Dur::from_millis(100);

pub(crate) struct Passed {
    response: Option<Response>,
    open: Open,
    peek: Peek,
    hide_usage: bool,
}

impl Passed {
    pub(crate) fn new(response: Response, open: Open, door: Door, hide_usage: bool) -> Self {
        let peek = Peek::new(door, open.seen.hides);
        Self { response: Some(response), open, peek, hide_usage }
    }

    pub(crate) fn body(self) -> Body {
        let pieces = stream::unfold(self, |mut passed| async move {
            let next = passed.next().await?;
            Some((next, passed))
        });
        Body::from_stream(pieces)
    }

    /// What is handed on next; nothing once all was.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let response = self.response.as_mut()?;
            let came = if self.peek.is_over() {
                tokio::time::timeout(END_WAIT.std(), response.chunk()).await.unwrap_or(Ok(None))
            } else {
                response.chunk().await
            };
            let out = match came {
                Ok(Some(bytes)) => self.passes(&bytes),
                Ok(None) => {
                    let whole = self.peek.is_over() || self.open.seen.last_word;
                    self.open.settle(if whole { CallEnd::Complete } else { CallEnd::Broken });
                    self.response = None;
                    self.peek.rest()
                }
                Err(_) if self.peek.is_over() => {
                    self.response = None;
                    self.peek.rest()
                }
                Err(error) => {
                    tracing::debug!(%error, "a provider broke off");
                    self.open.settle(CallEnd::Broken);
                    self.response = None;
                    return Some(Err(io::Error::other("the provider broke off")));
                }
            };
            if !out.is_empty() {
                return Some(Ok(out));
            }
        }
    }

    fn passes(&mut self, bytes: &[u8]) -> Bytes {
        let pieces = self.peek.push(bytes);
        self.open.seen = self.peek.seen();
        let mut out = joined(pieces, self.hide_usage);
        if self.peek.is_over() {
            self.open.settle(CallEnd::Complete);
        } else if self.open.capped && !self.open.seen.last_word && self.open.seen.passes(&self.open.worst) {
            self.response = None;
            self.open.settle(CallEnd::Stopped);
            out = [out, self.peek.ending(!self.hide_usage)].concat().into();
        }
        out
    }
}

/// The pieces as one, without those that say what only we asked for.
fn joined(mut pieces: Vec<Piece>, hide_usage: bool) -> Bytes {
    if hide_usage {
        pieces.retain(|piece| !piece.only_usage);
    }
    match (pieces.pop(), pieces.is_empty()) {
        (None, _) => Bytes::new(),
        (Some(piece), true) => piece.raw,
        (Some(last), false) => {
            let mut all = Vec::new();
            for piece in pieces.iter().chain([&last]) {
                all.extend_from_slice(&piece.raw);
            }
            all.into()
        }
    }
}
