//! One attempt: hold, send, pass the answer, settle.
//!
//! Invariant: nothing is sent before what it could cost is held. A provider of the client's own wire gets the client's bytes; any
//! other gets the same request in its own words, and its answer is turned back.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_cedar::steps::{self, Asker, Step};
use lantern_edge::{Code, Error, Result};
use lantern_llm::cross::{self, Crossing, Question, Unsayable};
use lantern_llm::pass::{self, Passing};
use lantern_llm::wire::Stamp;
use lantern_llm::{Door, Endpoint, Family, hides_thoughts, peek};
use lantern_policy::Admitted;
use lantern_policy::breaker::Trouble;
use lantern_policy::escrow::{Granted, Seen, Worst};
use lantern_types::call::{CallEnd, CallRecord};
use lantern_types::{Acted, At, Failure, MicroUsd, Price, Route};
use uuid::Uuid;

use crate::answer::Passed;
use crate::ask::Changes;
use crate::call::{Caller, Turn};
use crate::missed::{Missed, broken, over_limit, refusal, refused, refused_money};
use crate::open::{Open, draft, payers};
use crate::turned::Turned;

/// An answer that comes whole.
pub(crate) const ANSWER_BYTES_MAX: usize = 32 << 20;

const CALL: HeaderName = HeaderName::from_static("lantern-call-id");
pub(crate) const PROVIDER: HeaderName = HeaderName::from_static("lantern-provider");
const COST: HeaderName = HeaderName::from_static("lantern-cost-usd");
const LOWERED: HeaderName = HeaderName::from_static("lantern-max-tokens");
const IGNORED: HeaderName = HeaderName::from_static("lantern-ignored");
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Caller<'_> {
    /// Asks one provider for one model.
    pub(crate) async fn attempt(&self, turn: &Turn, attempt: u32) -> Result<Response, Missed> {
        let Turn { endpoint, route, .. } = turn;
        let question = self.question(endpoint).map_err(|error| Missed::unsent(Trouble::Unsayable, error))?;
        let written = question.as_ref().map(|question| question.written(&route.model, None));
        let sized = written.as_ref().map(|written| written.body.as_slice());
        let held = self.hold(endpoint, route, (sized, attempt)).await;
        let (mut open, sends) = held.map_err(|error| match error.code() {
            Code::BudgetExceeded => Missed::unsent(Trouble::Budget, error),
            Code::PolicyDenied => Missed::unsent(Trouble::Forbidden, error),
            _ => Missed::unsent(Trouble::Wrong, error),
        })?;
        let mut named =
            Named { id: self.id, provider: &route.provider, lowered: sends.lowered, ignored: Vec::new() };
        let Some((question, written)) = question.zip(written) else {
            let (model, newer_name) = (route.model.clone(), open.seen.hides);
            let changes = Changes { model, most: sends.most, newer_name };
            let body = self.asked.rewritten(&changes);
            let sent = Passing { door: self.door, below: None, headers: self.headers.clone(), body };
            let client = self.inner.client.clone();
            open.unsent = false;
            let came = pass::pass(&client, endpoint, Admitted::held(&sends.granted, sent)).await;
            let response = arrived(&mut open, came)?;
            let hide_usage = self.door == Door::Chat && self.asked.stream && !self.asked.wants_usage;
            return Answered(response).pass(open, endpoint, self.door, hide_usage, &named).await;
        };
        let written = match sends.most {
            None => written,
            most => question.written(&route.model, most),
        };
        named.ignored = written.ignored;
        let crossing = Crossing {
            model: route.model.clone(),
            stream: self.asked.stream,
            body: written.body.into(),
            key: self.idempotency_key(),
        };
        let client = self.inner.client.clone();
        open.unsent = false;
        let work = Admitted::held(&sends.granted, crossing);
        let came = cross::send(&client, endpoint, work, self.inner.clock.now()).await;
        let mut response = arrived(&mut open, came)?;
        let turned = Turned {
            endpoint,
            client: question.client(),
            provider: question.provider(),
            model: &route.model,
            stamp: self.stamp(&question, &route.model),
            stream: self.asked.stream,
        };
        if !response.status().is_success() {
            let (mut missed, _) = refused(&mut open, &mut response, endpoint).await;
            if let (Ok(_), Some(failure)) = (&missed.answer, &missed.refusal) {
                let mut answer = turned.refusal(&response, failure.clone());
                named.mark(answer.headers_mut());
                missed.answer = Ok(answer);
            }
            return Err(missed);
        }
        let mut answer = turned.answer(response, open).await.map_err(Missed::broken)?;
        named.mark(answer.headers_mut());
        Ok(answer)
    }

    /// The request as one for another wire, when this provider speaks another.
    fn question(&self, endpoint: &Endpoint) -> Result<Option<Question>> {
        if pass::speaks(endpoint, self.door) {
            return Ok(None);
        }
        let read = Question::read(self.door, self.body, endpoint);
        let read = read
            .ok_or_else(|| Error::new(Code::WireUnsupported, "embeddings are not converted between wires"))?;
        read.map(Some).map_err(|Unsayable { at, message }| {
            Error::new(Code::InvalidBody, message.clone()).with_field(at, message)
        })
    }

    /// Holds what the call could cost, and opens it. `written` is the body for another wire.
    async fn hold(
        &self,
        endpoint: &Endpoint,
        route: &Route,
        (written, attempt): (Option<&[u8]>, u32),
    ) -> Result<(Open, Sends)> {
        let (inner, asked, begun_at) = (&self.inner, self.asked, self.inner.clock.now());
        let payers = payers(self.asker, self.caps, route.price, begun_at);
        let priced = route.price != Price::default();
        let by_meter = self.meter.is_some_and(|meter| priced || meter.bounds_tokens());
        let capped = !payers.capped.is_empty() || by_meter;
        if capped && let Some(name) = asked.unbounded() {
            let words = format!(
                "{name}: nobody can say beforehand what this costs, so it is refused while a cap holds"
            );
            return Err(Error::new(Code::CallUnbounded, words));
        }
        let apart = if capped { asked.apart() } else { 0 };
        let most = asked.output(u64::from(inner.limits.of(self.scope.tenant()).completion_tokens_max));
        let bytes = asked.bytes().max(written.map_or(0, |body| body.len() as u64));
        let caches = written.map_or_else(|| asked.caches(), cross::caches);
        let mut worst = Worst {
            price: route.price,
            input: Worst::input(bytes, apart, caches),
            output: most.saturating_mul(asked.answers),
        };
        self.may(route, &worst, bytes, begun_at)?;
        let least = asked.answers.min(worst.output);
        let reading = match self.meter {
            Some(meter) => Some(meter.hold(route, &mut worst, least).await.map_err(over_limit)?),
            None => None,
        };
        let held = inner.ledger.admit(self.scope, &payers, &mut worst, least).await.map_err(refused_money)?;
        let each = worst.output / asked.answers;
        let bounded = capped && self.door != Door::Embeddings && asked.most != Some(each);
        let lowered = (bounded && each < most).then_some(each);
        let hides = match written {
            Some(_) => cross::hides(endpoint, &route.model),
            None => hides_thoughts(&route.model),
        };
        let granted = held.granted;
        let draft = draft(self.id, self.door, route, self.asker, asked.stream, &held);
        let open = Open {
            inner: inner.clone(),
            bill: self.bill.clone(),
            held: Some(held),
            draft: Some(CallRecord { lowered_to: lowered, attempt, ..draft }),
            begun_at,
            worst,
            capped,
            seen: Seen { hides, ..Seen::default() },
            unsent: true,
            reading,
        };
        Ok((open, Sends { granted, most: bounded.then_some(each.max(1)), lowered }))
    }

    /// Whether the policies of the tenant let the call be, as it is asked for: before a cap makes it smaller.
    fn may(&self, route: &Route, worst: &Worst, request_bytes: u64, at: At) -> Result<()> {
        let set = self.inner.standing.of(self.scope.tenant());
        let set = set.map_err(|error| Error::new(Code::Unavailable, error.to_string()))?;
        let Some(set) = set else { return Ok(()) };
        let (provider, model) = (route.provider.as_str(), route.model.as_str());
        // What is out of range is more than any policy names.
        let hold = worst.hold().unwrap_or(MicroUsd::from_micros(i64::MAX));
        let step = Step::Model { provider, model, hold, request_bytes, max_tokens: worst.output };
        let asker = Asker { who: self.who, at, spent: MicroUsd::ZERO };
        let forbids = match &set.policies {
            Some(policies) => steps::forbids(policies, asker, step),
            None => steps::all_of(step),
        };
        if forbids.is_empty() {
            return Ok(());
        }
        let (tenant, words) = (self.scope.tenant(), steps::said(&forbids, set.policies.is_none()));
        if set.observes {
            tracing::info!(%tenant, call = %self.id, words, "a policy that is observed would have forbidden a call");
            return Ok(());
        }
        let by: Vec<&str> = forbids.iter().flat_map(|one| one.by.iter().map(String::as_str)).collect();
        Err(Error::new(Code::PolicyDenied, words).with_extra("policies", by))
    }

    /// The caller's own name for this effect, else ours.
    fn idempotency_key(&self) -> String {
        let own = self.headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok());
        own.map_or_else(|| self.id.to_string(), str::to_owned)
    }

    /// What the answer says of itself, in the form of ids that the client knows.
    fn stamp(&self, question: &Question, model: &str) -> Stamp {
        let id = self.id.simple();
        let id = match question.client() {
            Family::Messages => format!("msg_{id}"),
            Family::Responses => format!("resp_{id}"),
            _ => format!("chatcmpl-{id}"),
        };
        // This wire alone does not name the model that answers.
        let model = if question.provider() == Family::Converse { model.to_owned() } else { String::new() };
        Stamp { id, created: self.inner.clock.now().seconds(), model, stream_usage: question.wants_usage() }
    }
}

/// What lets a call be sent, and what is changed in it.
struct Sends {
    granted: Granted,
    /// The most tokens of each answer, where the call is bounded by it.
    most: Option<u64>,
    lowered: Option<u64>,
}

/// What an answer is marked with.
struct Named<'a> {
    id: Uuid,
    provider: &'a str,
    lowered: Option<u64>,
    /// What was left out of the request because the provider's wire has no word for it.
    ignored: Vec<String>,
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
        if !self.ignored.is_empty() {
            add(IGNORED, self.ignored.join(", "));
        }
    }
}

/// Says what a whole answer cost.
pub(crate) fn priced(headers: &mut HeaderMap, cost: MicroUsd) {
    if let Ok(cost) = HeaderValue::try_from(cost.to_string().trim_start_matches('$')) {
        headers.insert(COST, cost);
    }
}

/// What came back of a call that was sent.
fn arrived(
    open: &mut Open,
    came: std::result::Result<lantern_net::http::Response, Failure>,
) -> Result<lantern_net::http::Response, Missed> {
    match came {
        Ok(response) => {
            open.status(response.status().as_u16());
            Ok(response)
        }
        Err(failure) => {
            open.settle(if failure.acted == Acted::No { CallEnd::Refused } else { CallEnd::Broken });
            Err(Missed::failed(failure))
        }
    }
}

/// The provider's answer, before its body.
struct Answered(lantern_net::http::Response);

impl Answered {
    async fn pass(
        self,
        mut open: Open,
        endpoint: &Endpoint,
        door: Door,
        hide_usage: bool,
        named: &Named<'_>,
    ) -> Result<Response, Missed> {
        let Self(mut response) = self;
        if !response.status().is_success() {
            let (mut missed, body) = refused(&mut open, &mut response, endpoint).await;
            if missed.answer.is_ok() {
                let mut refusal = refusal(&response, endpoint, body);
                named.mark(refusal.headers_mut());
                missed.answer = Ok(refusal);
            }
            return Err(missed);
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
                    return Err(Missed::broken(broken(&error)));
                }
            };
            open.seen = peek::whole(door, &body, hides);
            priced(&mut headers, open.settle(CallEnd::Complete));
            Body::from(body)
        };
        let mut answer = Response::new(body);
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok(answer)
    }
}
