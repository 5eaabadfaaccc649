//! An answer as it comes: the provider's stream, said in our own frames.
//!
//! Invariant: the last frame says that it is over or that it failed, and comes after the call was settled. Dropping the
//! body drops the call.

use std::convert::Infallible;

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use lantern_llm::Family;
use lantern_llm::neutral::{Delta, Opening, Usage};
use lantern_llm::wire::Decoder;

use super::said::{Say, Wording};
use super::{provider, told};
use crate::open::Bill;

/// A stream on its way.
struct Flow {
    /// Nothing once it is over.
    from: Option<BodyDataStream>,
    decoder: Decoder,
    /// The parts that are words, and not thoughts or calls.
    words: Vec<usize>,
    model: String,
    provider: String,
    usage: Usage,
    bill: Bill,
    wording: Wording,
}

/// The answer's stream in other frames.
pub(super) fn turned(answer: Response, model: &str, bill: Bill, wording: Wording) -> Response {
    let (provider, told) = (provider(&answer), told(&answer));
    let from = Some(answer.into_body().into_data_stream());
    let flow = Flow {
        from,
        decoder: Decoder::new(Family::Chat),
        words: Vec::new(),
        model: model.to_owned(),
        provider,
        usage: Usage::default(),
        bill,
        wording,
    };
    let frames = stream::unfold(flow, |mut flow| async move {
        let next = flow.next().await?;
        Some((Ok::<_, Infallible>(next), flow))
    });
    let mut made = Response::new(Body::from_stream(frames));
    made.headers_mut().extend(told);
    made.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    made.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    made
}

impl Flow {
    /// The frames that are next; nothing once the last was said.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let said = match self.from.as_mut()?.next().await {
                Some(Ok(bytes)) => self.push(&bytes),
                Some(Err(_)) => self.failed(Vec::new()),
                None => self.over(),
            };
            if !said.is_empty() {
                return Some(said.iter().map(self.wording).collect::<String>().into());
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<Say> {
        let mut deltas = Vec::new();
        let read = self.decoder.push_into(bytes, &mut deltas);
        let said = self.said(deltas);
        match read {
            Ok(()) => said,
            Err(_) => self.failed(said),
        }
    }

    fn failed(&mut self, mut said: Vec<Say>) -> Vec<Say> {
        // To let go of it settles the call.
        self.from = None;
        said.push(Say::Failed("the provider's answer broke off".to_owned()));
        said
    }

    fn over(&mut self) -> Vec<Say> {
        let rest = std::mem::replace(&mut self.decoder, Decoder::new(Family::Chat)).finish();
        let Ok(rest) = rest else { return self.failed(Vec::new()) };
        let mut said = self.said(rest);
        self.from = None;
        let (model, provider) = (self.model.clone(), self.provider.clone());
        said.push(Say::Done { model, provider, usage: self.usage, cost: self.bill.total() });
        said
    }

    /// The words in these steps; what else they tell is remembered.
    fn said(&mut self, deltas: Vec<Delta>) -> Vec<Say> {
        let mut said = Vec::new();
        for delta in deltas {
            match delta {
                Delta::Start { model: Some(model), .. } if !model.is_empty() => self.model = model,
                Delta::Open { part, what: Opening::Text | Opening::Refusal } => self.words.push(part),
                Delta::Add { part, text } if self.words.contains(&part) => said.push(Say::Words(text)),
                Delta::Usage(usage) => self.usage = usage,
                _ => {}
            }
        }
        said
    }
}
