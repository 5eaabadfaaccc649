//! One call from end to end: read, resolve, hold, send, pass the answer, settle.
//!
//! Invariant: nothing is sent before what it could cost is held. A provider of the client's own wire gets the client's bytes; any
//! other gets the same request in its own words, and its answer is turned back.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lantern_edge::{Code, Error, Result};
use lantern_ledger::Refused;
use lantern_llm::cross::{self, Crossing, Question, Unsayable};
use lantern_llm::pass::{self, ERROR_BYTES_MAX, Passing};
use lantern_llm::wire::Stamp;
use lantern_llm::{Door, Endpoint, Family, hides_thoughts, peek};
use lantern_policy::action::CallModel;
use lantern_policy::breaker::Trouble;
use lantern_policy::escrow::{Granted, Seen, Worst};
use lantern_policy::strategy::Strategy;
use lantern_policy::{Admitted, Permit, Principal, Scope};
use lantern_store::escrow::Cap;
use lantern_types::call::{CallEnd, CallRecord};
use lantern_types::{Acted, ApiKeyId, Dur, Failure, MicroUsd, Route};
use uuid::Uuid;

use crate::answer::Passed;
use crate::ask::{Asked, Changes};
use crate::breakers::Line;
use crate::open::{Open, draft, payers};
use crate::resolve::{Candidate, resolve};
use crate::turned::Turned;
use crate::{Doors, Inner};

/// An answer that comes whole.
pub(crate) const ANSWER_BYTES_MAX: usize = 32 << 20;

const CALL: HeaderName = HeaderName::from_static("lantern-call-id");
const PROVIDER: HeaderName = HeaderName::from_static("lantern-provider");
const COST: HeaderName = HeaderName::from_static("lantern-cost-usd");
const LOWERED: HeaderName = HeaderName::from_static("lantern-max-tokens");
const IGNORED: HeaderName = HeaderName::from_static("lantern-ignored");
const STRATEGY: HeaderName = HeaderName::from_static("lantern-strategy");
/// Providers that are asked for one call.
const ATTEMPTS_MAX: u32 = 4;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Makes the call that a request asks for.
pub(crate) async fn call(
    doors: Doors,
    permit: Permit<CallModel>,
    door: Door,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    let inner = doors.inner;
    let scope = permit.scope();
    let asked = Asked::read(door, &body)?;
    let facts = inner.facts.of(scope).await?;
    heed(facts.stop.as_deref())?;
    let strategy = strategy(&headers, inner.strategy)?;
    let candidates = resolve(&asked.model, door, strategy, &facts.offers, &inner.catalogue)?;
    let key = match &permit.actor().principal {
        Principal::Key { id, .. } => Some(*id),
        Principal::User { .. } => None,
    };
    let id = inner.ids.uuid();
    let caller =
        Caller { inner, scope, door, headers, asked: &asked, body: &body, caps: &facts.caps, key, id };
    caller.first_that_answers(candidates).await
}

/// What counts when several models would do: what the caller says, else what holds here.
fn strategy(headers: &HeaderMap, usual: Strategy) -> Result<Strategy> {
    let Some(said) = headers.get(STRATEGY) else { return Ok(usual) };
    let parsed = said.to_str().ok().and_then(|said| said.parse().ok());
    parsed.ok_or_else(|| {
        let words = format!("{STRATEGY}: {}", lantern_policy::strategy::Unknown);
        Error::new(Code::InvalidBody, words).with_field(STRATEGY.as_str(), "it is no strategy")
    })
}

/// A call, before it is known who answers it.
struct Caller<'a> {
    inner: Arc<Inner>,
    scope: Scope,
    door: Door,
    headers: HeaderMap,
    asked: &'a Asked<'a>,
    body: &'a Bytes,
    caps: &'a [Cap],
    key: Option<ApiKeyId>,
    id: Uuid,
}

impl Caller<'_> {
    /// Asks one candidate after another until one answers: those in trouble lately last. Each attempt is held for, and settled before
    /// the next one is made; once an answer has begun there is no next one.
    async fn first_that_answers(&self, candidates: Vec<Candidate<'_>>) -> Result<Response> {
        let now = self.inner.clock.now();
        let mut turns: VecDeque<Turn> = self.turns(candidates).into();
        let (mut waiting, mut told, mut after): (Vec<Turn>, Option<Missed>, Option<String>) =
            (Vec::new(), None, None);
        let mut attempt = 1;
        while let Some(mut turn) = turns.pop_front() {
            let is_last_round = turns.is_empty() && waiting.is_empty() && told.is_none();
            if !turn.waited && !self.inner.breakers.lets(&turn.line, self.inner.clock.now()) && !is_last_round
            {
                turn.waited = true;
                waiting.push(turn);
            } else {
                if attempt > 1 {
                    heed(self.inner.facts.of(self.scope).await?.stop.as_deref())?;
                }
                if let Some(after) = &after {
                    let why = turn.route.why.take().map(|why| format!("{why}; ")).unwrap_or_default();
                    turn.route.why = Some(format!("{why}{after}"));
                }
                match self.attempt(&turn, attempt).await {
                    Ok(answer) => {
                        self.inner.breakers.answered(&turn.line);
                        return Ok(answer);
                    }
                    Err(missed) => {
                        let Missed { trouble, asked, .. } = &missed;
                        self.inner.breakers.failed(&turn.line, *trouble, *asked, self.inner.clock.now());
                        let Route { provider, model, .. } = &turn.route;
                        after = Some(format!("after {provider}/{model}: {}", trouble.as_str()));
                        let goes_on = trouble.passes_on();
                        attempt += u32::from(missed.sent);
                        // What came of an attempt says more than that one could not be made.
                        let tells = told.as_ref().is_none_or(|told| missed.sent && !told.sent);
                        if tells || !goes_on {
                            told = Some(missed);
                        }
                        if !goes_on || attempt > ATTEMPTS_MAX {
                            break;
                        }
                    }
                }
            }
            if turns.is_empty() {
                waiting.sort_by_key(|turn| self.inner.breakers.until(&turn.line).unwrap_or(now));
                turns.extend(std::mem::take(&mut waiting));
            }
        }
        told.map_or_else(|| Err(Error::new(Code::Internal, "internal error")), |missed| missed.answer)
    }

    /// Every candidate with each of its keys, which take turns.
    fn turns(&self, candidates: Vec<Candidate<'_>>) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (offer, route) in candidates {
            let endpoints = offer.endpoints();
            // The id is random enough to spread calls over keys.
            let first =
                usize::from(self.id.as_bytes().last().copied().unwrap_or_default()) % endpoints.len().max(1);
            let mut keyed: Vec<(usize, Endpoint)> = endpoints.into_iter().enumerate().collect();
            keyed.rotate_left(first);
            for (key, endpoint) in keyed {
                let (provider, model) = (route.provider.clone(), route.model.clone());
                let line = Line { tenant: self.scope.tenant(), provider, model, key };
                turns.push(Turn { endpoint, route: route.clone(), line, waited: false });
            }
        }
        turns
    }

    /// Asks one provider for one model.
    async fn attempt(&self, turn: &Turn, attempt: u32) -> Result<Response, Missed> {
        let Turn { endpoint, route, .. } = turn;
        let question = self.question(endpoint).map_err(|error| Missed::unsent(Trouble::Unsayable, error))?;
        let written = question.as_ref().map(|question| question.written(&route.model, None));
        let sized = written.as_ref().map(|written| written.body.as_slice());
        let held = self.hold(endpoint, route, (sized, attempt)).await;
        let (mut open, sends) = held.map_err(|error| match error.code() {
            Code::BudgetExceeded => Missed::unsent(Trouble::Budget, error),
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
        let payers = payers(self.key, self.caps, route.price, begun_at);
        let capped = !payers.capped.is_empty();
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
        let least = asked.answers.min(worst.output);
        let held = inner.ledger.admit(self.scope, &payers, &mut worst, least).await.map_err(refused_money)?;
        let each = worst.output / asked.answers;
        let bounded = capped && self.door != Door::Embeddings && asked.most != Some(each);
        let lowered = (bounded && each < most).then_some(each);
        let hides = match written {
            Some(_) => cross::hides(endpoint, &route.model),
            None => hides_thoughts(&route.model),
        };
        let granted = held.granted;
        let draft = draft(self.id, self.door, route, self.key, asked.stream, &held);
        let open = Open {
            inner: inner.clone(),
            held: Some(held),
            draft: Some(CallRecord { lowered_to: lowered, attempt, ..draft }),
            begun_at,
            worst,
            capped,
            seen: Seen { hides, ..Seen::default() },
            unsent: true,
        };
        Ok((open, Sends { granted, most: bounded.then_some(each.max(1)), lowered }))
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

/// A candidate with one of its keys.
struct Turn {
    endpoint: Endpoint,
    route: Route,
    line: Line,
    /// It stood back once for others.
    waited: bool,
}

/// What lets a call be sent, and what is changed in it.
struct Sends {
    granted: Granted,
    /// The most tokens of each answer, where the call is bounded by it.
    most: Option<u64>,
    lowered: Option<u64>,
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
    let mut found =
        resolve(&asked.model, door, Strategy::Balanced, &facts.offers, &inner.catalogue)?.into_iter();
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

/// An attempt that came to nothing.
struct Missed {
    trouble: Trouble,
    /// How long the provider asks to wait.
    asked: Option<Dur>,
    /// What the provider's refusal means, when it was one.
    refusal: Option<Failure>,
    /// Something went out.
    sent: bool,
    /// What the caller is told when nobody else answers.
    answer: Result<Response>,
}

impl Missed {
    fn unsent(trouble: Trouble, error: Error) -> Self {
        Self { trouble, asked: None, refusal: None, sent: false, answer: Err(error) }
    }

    /// It is not known what came of it: it was settled at what it may have cost.
    fn broken(error: Error) -> Self {
        Self { trouble: Trouble::Down, asked: None, refusal: None, sent: true, answer: Err(error) }
    }

    fn failed(failure: Failure) -> Self {
        let trouble = if failure.code == "provider_auth" { Trouble::Key } else { Trouble::Down };
        let answer = Err(failed(&failure));
        Self { trouble, asked: failure.retry_after, refusal: None, sent: true, answer }
    }
}

/// Settles a call that was refused, and says what the refusal means. Its body comes back unread by others.
async fn refused(
    open: &mut Open,
    response: &mut lantern_net::http::Response,
    endpoint: &Endpoint,
) -> (Missed, Bytes) {
    // A status says that the provider did not do it, and so does not charge for it.
    open.settle(CallEnd::Refused);
    let body = response.up_to(ERROR_BYTES_MAX).await.map(|(body, _)| body).unwrap_or_default();
    let failure = cross::failure(endpoint, response, &body);
    let trouble = match response.status().as_u16() {
        401..=403 => Trouble::Key,
        429 if failure.retryable => Trouble::Rate,
        429 => Trouble::Key,
        404 => Trouble::Missing,
        300..=399 | 408 | 409 | 424 | 500.. => Trouble::Down,
        _ if failure.code == "provider_auth" => Trouble::Key,
        _ => Trouble::Wrong,
    };
    let answer = ours(response, endpoint).map(|()| Response::new(Body::empty()));
    (Missed { trouble, asked: failure.retry_after, refusal: Some(failure), sent: true, answer }, body)
}

/// A provider's refusal, in its own words.
fn refusal(response: &lantern_net::http::Response, endpoint: &Endpoint, body: Bytes) -> Response {
    let (status, headers) = (response.status(), pass::returned(response));
    let mut answer = Response::new(Body::from(pass::without_key(endpoint, body)));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    answer
}

/// Fails for a refusal that is about us: what a provider says of our key is not the caller's business.
fn ours(response: &lantern_net::http::Response, endpoint: &Endpoint) -> Result<()> {
    let status = response.status();
    if matches!(status.as_u16(), 401 | 403) {
        let words = format!("{} refuses the key that this server has for it", endpoint.provider);
        return Err(Error::new(Code::ProviderAuth, words));
    }
    if status.is_redirection() {
        let words = format!("{} redirects elsewhere: its base URL is not right", endpoint.provider);
        return Err(Error::new(Code::ProviderRefused, words));
    }
    Ok(())
}

/// What a caller is told for whom no money could be held.
fn refused_money(refused: Refused) -> Error {
    let words = refused.to_string();
    match refused {
        Refused::Exceeded { .. } => {
            Error::new(Code::BudgetExceeded, words).with_extra("reason", "the cap of the period is reached")
        }
        Refused::Busy(_) => Error::new(Code::Unavailable, words).retry_after(Dur::from_secs(1)),
        Refused::Range(error) => Error::internal(error),
        Refused::Store(error) => error.into(),
    }
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
