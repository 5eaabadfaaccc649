//! Counting the tokens of a request, which costs nothing and holds nothing.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use lantern_edge::{Code, Error, Result};
use lantern_llm::Door;
use lantern_llm::pass::{self, ERROR_BYTES_MAX, Passing};
use lantern_policy::action::CallModel;
use lantern_policy::{Admitted, Permit};
use lantern_types::{MicroUsd, Strategy};

use crate::Doors;
use crate::ask::{Asked, Changes};
use crate::attempt::ANSWER_BYTES_MAX;
use crate::missed::{broken, failed, heed, ours, refusal};
use crate::resolve::resolve;

/// Counts the tokens of a request, which costs nothing.
pub(crate) async fn count(
    doors: Doors,
    permit: Permit<CallModel>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    let (inner, door) = (doors.inner, Door::Messages);
    let asked = Asked::read(door, &body)?;
    let facts = inner.facts.of(permit.scope()).await?;
    heed(facts.stop.as_deref())?;
    let mut found =
        resolve(&asked.model, door, Strategy::Balanced, &facts.reach, &inner.catalogue)?.into_iter();
    let (offer, route) = found.next().ok_or_else(|| Error::new(Code::Internal, "internal error"))?;
    if !pass::speaks(&offer.endpoint, door) {
        let words = format!("{} cannot count the tokens of messages", route.provider);
        return Err(Error::new(Code::WireUnsupported, words));
    }
    let changes = Changes { model: route.model, ..Changes::default() };
    let sent = Passing { door, below: Some("count_tokens"), headers, body: asked.rewritten(&changes) };
    let free = lantern_policy::escrow::grant(&mut [], MicroUsd::ZERO);
    let free = free.ok_or_else(|| Error::new(Code::Internal, "internal error"))?;
    let mut response = pass::pass(&inner.client, &offer.endpoint, Admitted::held(&free, sent))
        .await
        .map_err(|failure| failed(&failure))?;
    if !response.status().is_success() {
        ours(&response, &offer.endpoint)?;
        let body = response.up_to(ERROR_BYTES_MAX).await.map(|(body, _)| body).unwrap_or_default();
        return Ok(refusal(&response, &offer.endpoint, body));
    }
    let (status, headers) = (response.status(), pass::returned(&response));
    let body = response.bytes(ANSWER_BYTES_MAX).await.map_err(|error| broken(&error))?;
    let mut answer = Response::new(Body::from(body));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    Ok(answer)
}
