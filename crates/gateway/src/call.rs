//! One call from end to end: read, resolve, hold, send, pass the answer, settle.
//!
//! Invariant: whatever becomes of a call that is open, it is settled once, when it is dropped at the latest: at what it cost, as
//! far as that can be told, else at all that was held for it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_edge::{Code, Error, Result};
use lantern_llm::pass::{self, ERROR_BYTES_MAX, Passing};
use lantern_llm::{Door, Endpoint, hides_thoughts, peek};
use lantern_policy::action::CallModel;
use lantern_policy::escrow::{Granted, Seen, Worst};
use lantern_policy::{Admitted, Permit, Principal};
use lantern_store::escrow::Cap;
use lantern_types::call::{AccountId, CallEnd, CallRecord, Owner, Period};
use lantern_types::{Acted, ApiKeyId, At, Failure, MicroUsd, Price, Route};
use uuid::Uuid;

use crate::answer::Passed;
use crate::ask::{Asked, Changes};
use crate::purse::{Held, Payers};
use crate::resolve::resolve;
use crate::{Doors, Inner};

/// An answer that comes whole.
const ANSWER_BYTES_MAX: usize = 32 << 20;

const CALL: HeaderName = HeaderName::from_static("lantern-call-id");
const PROVIDER: HeaderName = HeaderName::from_static("lantern-provider");
const COST: HeaderName = HeaderName::from_static("lantern-cost-usd");
const LOWERED: HeaderName = HeaderName::from_static("lantern-max-tokens");

/// A call that money is held for, until it is settled.
pub(crate) struct Open {
    inner: Arc<Inner>,
    held: Option<Held>,
    draft: Option<CallRecord>,
    begun_at: At,
    pub(crate) worst: Worst,
    pub(crate) capped: bool,
    pub(crate) seen: Seen,
    /// Nothing went out yet.
    unsent: bool,
}

impl Open {
    /// Settles it. A second time does nothing.
    pub(crate) fn settle(&mut self, end: CallEnd) -> MicroUsd {
        let (Some(held), Some(mut record)) = (self.held.take(), self.draft.take()) else {
            return MicroUsd::ZERO;
        };
        let cost = self.seen.due(&self.worst, held.granted.hold(), end);
        let now = self.inner.clock.now();
        record.at = now;
        record.took_ms = now.since(self.begun_at).millis();
        record.end = end;
        record.cost = cost;
        record.reported = self.seen.reported;
        record.counted = self.seen.at_least();
        self.inner.purse.settle(held, record);
        cost
    }

    fn status(&mut self, status: u16) {
        if let Some(record) = &mut self.draft {
            record.status = Some(status);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.settle(if self.unsent { CallEnd::Refused } else { CallEnd::ClientGone });
    }
}

/// Makes the call that a request asks for.
pub(crate) async fn call(
    doors: Doors,
    permit: Permit<CallModel>,
    door: Door,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    let inner = doors.inner;
    let (scope, begun_at) = (permit.scope(), inner.clock.now());
    let asked = Asked::read(door, &body)?;
    let facts = inner.facts.of(scope).await?;
    heed(facts.stop.as_deref())?;
    let (offer, route) = resolve(&asked.model, door, &facts.offers, &inner.catalogue)?;
    let key = match &permit.actor().principal {
        Principal::Key { id, .. } => Some(*id),
        Principal::User { .. } => None,
    };
    let payers = payers(key, &facts.caps, route.price, begun_at);
    let capped = !payers.capped.is_empty();
    if capped && let Some(name) = asked.unbounded() {
        let words =
            format!("{name}: nobody can say beforehand what this costs, so it is refused while a cap holds");
        return Err(Error::new(Code::CallUnbounded, words));
    }
    let apart = if capped { asked.apart() } else { 0 };
    let most = asked.output(u64::from(inner.limits.of(permit.scope().tenant()).completion_tokens_max));
    let mut worst = Worst {
        price: route.price,
        input: Worst::input(asked.bytes(), apart, asked.caches()),
        output: most.saturating_mul(asked.answers),
    };
    let least = asked.answers.min(worst.output);
    let held = inner.purse.admit(scope, payers, &mut worst, least).await?;
    let each = worst.output / asked.answers;
    let bounded = capped && door != Door::Embeddings && asked.most != Some(each);
    let lowered = (bounded && asked.most.is_some_and(|most| each < most)).then_some(each);
    let id = inner.ids.uuid();
    let granted = held.granted;
    let draft = draft(id, door, &route, key, asked.stream, &held);
    let draft = CallRecord { lowered_to: lowered, price: route.price, ..draft };
    let hides = hides_thoughts(&route.model);
    let mut open = Open {
        inner,
        held: Some(held),
        draft: Some(draft),
        begun_at,
        worst,
        capped,
        seen: Seen { hides, ..Seen::default() },
        unsent: true,
    };
    let changes =
        Changes { model: route.model.clone(), most: bounded.then_some(each.max(1)), newer_name: hides };
    let sent = Passing { door, below: None, headers, body: asked.rewritten(&changes) };
    let hide_usage = door == Door::Chat && asked.stream && !asked.wants_usage;
    let named = Named { id, provider: &route.provider, lowered };
    send(&mut open, &offer.endpoint, granted, sent)
        .await?
        .pass(open, &offer.endpoint, door, hide_usage, &named)
        .await
}

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
    let (offer, route) = resolve(&asked.model, door, &facts.offers, &inner.catalogue)?;
    let changes = Changes { model: route.model, ..Changes::default() };
    let sent = Passing { door, below: Some("count_tokens"), headers, body: asked.rewritten(&changes) };
    let free = lantern_policy::escrow::grant(&mut [], MicroUsd::ZERO);
    let free = free.ok_or_else(|| Error::new(Code::Internal, "internal error"))?;
    let mut response = pass::pass(&inner.client, &offer.endpoint, Admitted::held(&free, sent))
        .await
        .map_err(|failure| failed(&failure))?;
    if !response.status().is_success() {
        return refusal(&mut response, &offer.endpoint).await;
    }
    let (status, headers) = (response.status(), pass::returned(&response));
    let body = response.bytes(ANSWER_BYTES_MAX).await.map_err(|error| broken(&error))?;
    let mut answer = Response::new(Body::from(body));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    Ok(answer)
}

/// What an answer is marked with.
struct Named<'a> {
    id: Uuid,
    provider: &'a str,
    lowered: Option<u64>,
}

impl Named<'_> {
    fn mark(&self, headers: &mut HeaderMap) {
        let mut add = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        add(CALL, self.id.to_string());
        add(PROVIDER, self.provider.to_owned());
        if let Some(lowered) = self.lowered {
            add(LOWERED, lowered.to_string());
        }
    }
}

/// The provider's answer, before its body.
struct Answered(lantern_net::http::Response);

async fn send(open: &mut Open, endpoint: &Endpoint, granted: Granted, sent: Passing) -> Result<Answered> {
    let client = open.inner.client.clone();
    open.unsent = false;
    match pass::pass(&client, endpoint, Admitted::held(&granted, sent)).await {
        Ok(response) => {
            open.status(response.status().as_u16());
            Ok(Answered(response))
        }
        Err(failure) => {
            open.settle(if failure.acted == Acted::No { CallEnd::Refused } else { CallEnd::Broken });
            Err(failed(&failure))
        }
    }
}

impl Answered {
    async fn pass(
        self,
        mut open: Open,
        endpoint: &Endpoint,
        door: Door,
        hide_usage: bool,
        named: &Named<'_>,
    ) -> Result<Response> {
        let Self(mut response) = self;
        if !response.status().is_success() {
            // A status says that the provider did not do it, and so does not charge for it.
            open.settle(CallEnd::Refused);
            let mut refusal = refusal(&mut response, endpoint).await?;
            named.mark(refusal.headers_mut());
            return Ok(refusal);
        }
        let (status, mut headers) = (response.status(), pass::returned(&response));
        named.mark(&mut headers);
        let kind = response.header(&header::CONTENT_TYPE).unwrap_or_default();
        let body = if kind.starts_with("text/event-stream") {
            Passed::new(response, open, door, hide_usage).body()
        } else {
            let hides = open.seen.hides;
            let body = match response.bytes(ANSWER_BYTES_MAX).await {
                Ok(body) => body,
                Err(error) => {
                    open.settle(CallEnd::Broken);
                    return Err(broken(&error));
                }
            };
            open.seen = peek::whole(door, &body, hides);
            let cost = open.settle(CallEnd::Complete);
            if let Ok(cost) = HeaderValue::try_from(cost.to_string().trim_start_matches('$')) {
                headers.insert(COST, cost);
            }
            Body::from(body)
        };
        let mut answer = Response::new(body);
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok(answer)
    }
}

/// A provider's refusal, in its own words. What it says of our key is not the caller's business.
async fn refusal(response: &mut lantern_net::http::Response, endpoint: &Endpoint) -> Result<Response> {
    let status = response.status();
    if matches!(status.as_u16(), 401 | 403) {
        let words = format!("{} refuses the key that this server has for it", endpoint.provider);
        return Err(Error::new(Code::ProviderAuth, words));
    }
    if status.is_redirection() {
        let words = format!("{} redirects elsewhere: its base URL is not right", endpoint.provider);
        return Err(Error::new(Code::ProviderRefused, words));
    }
    let headers = pass::returned(response);
    let body = response.up_to(ERROR_BYTES_MAX).await.map(|(body, _)| body).unwrap_or_default();
    let mut answer = Response::new(Body::from(pass::without_key(endpoint, body)));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    Ok(answer)
}

fn heed(stop: Option<&str>) -> Result<()> {
    match stop {
        Some(reason) => {
            let words = format!("an emergency stop holds, so no model is called: {reason}");
            Err(Error::new(Code::StopHolds, words))
        }
        None => Ok(()),
    }
}

/// Whose accounts a call counts in, and which of them a cap bounds. What costs nothing needs no cap.
fn payers(key: Option<ApiKeyId>, caps: &[Cap], price: Price, now: At) -> Payers {
    let owners = [Some(Owner::Tenant), key.map(Owner::Key)];
    let of = |owner: Owner| Period::ALL.map(|period| AccountId::at(owner, period, now));
    let accounts: Vec<AccountId> = owners.into_iter().flatten().flat_map(of).collect();
    let bounds = |account: &&AccountId| {
        caps.iter().any(|cap| cap.owner == account.owner && cap.period == account.period)
    };
    let capped = if price == Price::default() {
        Vec::new()
    } else {
        accounts.iter().filter(bounds).copied().collect()
    };
    Payers { accounts, capped }
}

fn draft(
    id: Uuid,
    door: Door,
    route: &Route,
    key: Option<ApiKeyId>,
    stream: bool,
    held: &Held,
) -> CallRecord {
    let door = match door {
        Door::Chat => "chat",
        Door::Messages => "messages",
        Door::Responses => "responses",
        Door::Embeddings => "embeddings",
    };
    CallRecord {
        seq: 0,
        id,
        at: At::default(),
        took_ms: 0,
        door: door.to_owned(),
        provider: route.provider.clone(),
        model: route.model.clone(),
        key,
        stream,
        status: None,
        end: CallEnd::Broken,
        price: route.price,
        hold: held.granted.hold(),
        cost: MicroUsd::ZERO,
        lowered_to: None,
        reported: None,
        counted: 0,
        held_from: held.from.clone(),
        late: false,
    }
}

/// A failure on the way to a provider, for whoever asked.
pub(crate) fn failed(failure: &Failure) -> Error {
    let code = match failure.code {
        "egress_denied" => Code::EgressDenied,
        "provider_auth" => Code::ProviderAuth,
        "provider_timeout" => Code::ProviderTimeout,
        "provider_interrupted" => Code::ProviderInterrupted,
        "provider_invalid_response" => Code::ProviderInvalidResponse,
        "provider_unreachable" => Code::ProviderUnreachable,
        "unavailable" => Code::Unavailable,
        _ => Code::ProviderRefused,
    };
    Error::new(code, failure.message.clone())
}

fn broken(error: &lantern_net::Error) -> Error {
    Error::new(Code::ProviderInterrupted, format!("the provider's answer broke off: {error}"))
}
