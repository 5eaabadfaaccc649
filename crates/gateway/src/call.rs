//! One call from end to end: read it, see who could answer, and ask one after another.
//!
//! Invariant: an attempt is settled before the next one is made, and once an answer has begun there is no next one.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use lantern_cedar::Who;
use lantern_edge::{Code, Error, Result};
use lantern_ledger::Meter;
use lantern_llm::{Breakers, Door, Endpoint, Line};
use lantern_policy::action::CallModel;
use lantern_policy::strategy::Strategy;
use lantern_policy::{Permit, Principal, Scope};
use lantern_store::escrow::Cap;
use lantern_types::{At, Route};
use uuid::Uuid;

use crate::ask::Asked;
use crate::missed::{Missed, heed};
use crate::open::{Asker, Bill};
use crate::resolve::{Candidate, resolve};
use crate::{Doors, Inner};

pub(crate) const STRATEGY: HeaderName = HeaderName::from_static("lantern-strategy");
/// Providers that are asked for one call.
const ATTEMPTS_MAX: u32 = 4;

/// What is asked: through which door, with which headers and body.
pub(crate) struct Request {
    pub(crate) door: Door,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The agent whose stop it heeds, for a program that runs under one.
    pub(crate) agent: Option<String>,
}

/// Makes the call that a request asks for. What it costs goes on the bill.
pub(crate) async fn call(
    doors: &Doors,
    permit: &Permit<CallModel>,
    request: Request,
    bill: &Bill,
) -> Result<Response> {
    let (asker, id) = match &permit.actor().principal {
        Principal::Key { id, .. } => (Asker::Key(*id), id.to_string()),
        Principal::User { id, .. } => (Asker::Person, id.to_string()),
    };
    let who = if matches!(asker, Asker::Key(_)) { Who::Key(&id) } else { Who::Person(&id) };
    call_of(doors, (permit.scope(), asker, who, None), request, bill).await
}

/// The same, of whoever asks; on a meter, too, if there is one.
pub(crate) async fn call_of(
    doors: &Doors,
    (scope, asker, who, meter): (Scope, Asker, Who<'_>, Option<&Meter>),
    request: Request,
    bill: &Bill,
) -> Result<Response> {
    let inner = doors.inner.clone();
    let Request { door, headers, body, agent } = request;
    let asked = Asked::read(door, &body)?;
    let facts = inner.facts.of(scope).await?;
    heed(facts.stop.as_deref())?;
    if let Some(agent) = &agent {
        heed(inner.facts.halted(scope, agent).await?.as_deref())?;
    }
    let strategy = strategy(&headers, facts.reach.strategy)?;
    let candidates = resolve(&asked.model, door, strategy, &facts.reach, &inner.catalogue)?;
    let (id, caps) = (inner.ids.uuid(), facts.caps.as_slice());
    let caller = Caller {
        inner,
        scope,
        door,
        headers,
        asked: &asked,
        body: &body,
        caps,
        asker,
        who,
        agent: agent.as_deref(),
        meter,
        id,
        bill,
    };
    caller.first_that_answers(candidates).await
}

/// What counts when several models would do: what the caller says, else what holds for its tenant.
fn strategy(headers: &HeaderMap, usual: Strategy) -> Result<Strategy> {
    let Some(said) = headers.get(STRATEGY) else { return Ok(usual) };
    let parsed = said.to_str().ok().and_then(|said| said.parse().ok());
    parsed.ok_or_else(|| {
        let words = format!("{STRATEGY}: {}", lantern_policy::strategy::Unknown);
        Error::new(Code::InvalidBody, words).with_field(STRATEGY.as_str(), "it is no strategy")
    })
}

/// A call, before it is known who answers it.
pub(crate) struct Caller<'a> {
    pub(crate) inner: Arc<Inner>,
    pub(crate) scope: Scope,
    pub(crate) door: Door,
    pub(crate) headers: HeaderMap,
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) body: &'a Bytes,
    pub(crate) caps: &'a [Cap],
    pub(crate) asker: Asker,
    /// The same, as policies name them.
    pub(crate) who: Who<'a>,
    /// The agent whose stop it heeds, beside those of the tenant and the server.
    pub(crate) agent: Option<&'a str>,
    pub(crate) meter: Option<&'a Meter>,
    pub(crate) id: Uuid,
    pub(crate) bill: &'a Bill,
}

impl Caller<'_> {
    /// Asks one candidate after another until one answers: those in trouble lately last.
    async fn first_that_answers(&self, candidates: Vec<Candidate<'_>>) -> Result<Response> {
        let breakers = &self.inner.breakers;
        let mut turns = self.turns(candidates);
        let (mut told, mut after): (Option<Missed>, Option<String>) = (None, None);
        let mut attempt = 1;
        while let Some(mut turn) = turns.next(breakers, self.inner.clock.now(), told.is_none()) {
            if attempt > 1 {
                heed(self.inner.facts.of(self.scope).await?.stop.as_deref())?;
                if let Some(agent) = self.agent {
                    heed(self.inner.facts.halted(self.scope, agent).await?.as_deref())?;
                }
            }
            if let Some(after) = &after {
                let why = turn.route.why.take().map(|why| format!("{why}; ")).unwrap_or_default();
                turn.route.why = Some(format!("{why}{after}"));
            }
            let missed = match self.attempt(&turn, attempt).await {
                Ok(answer) => {
                    breakers.answered(&turn.line);
                    return Ok(answer);
                }
                Err(missed) => missed,
            };
            let Missed { trouble, asked, sent, .. } = &missed;
            breakers.failed(&turn.line, *trouble, *asked, self.inner.clock.now());
            let Route { provider, model, .. } = &turn.route;
            after = Some(format!("after {provider}/{model}: {}", trouble.as_str()));
            let goes_on = trouble.passes_on();
            attempt += u32::from(*sent);
            // What came of an attempt says more than that one could not be made.
            let tells = told.as_ref().is_none_or(|told| *sent && !told.sent);
            if tells || !goes_on {
                told = Some(missed);
            }
            if !goes_on || attempt > ATTEMPTS_MAX {
                break;
            }
        }
        told.map_or_else(|| Err(Error::new(Code::Internal, "internal error")), |missed| missed.answer)
    }

    /// Every candidate with each of its keys, which take turns.
    fn turns(&self, candidates: Vec<Candidate<'_>>) -> Turns {
        let mut turns = Turns::default();
        for (offer, route) in candidates {
            let endpoints = offer.endpoints();
            // The id is random enough to spread calls over keys.
            let first =
                usize::from(self.id.as_bytes().last().copied().unwrap_or_default()) % endpoints.len().max(1);
            let mut keyed: Vec<(u32, Endpoint)> = (0..).zip(endpoints).collect();
            keyed.rotate_left(first);
            for (key, endpoint) in keyed {
                let (provider, model) = (route.provider.clone(), route.model.clone());
                let line = Line { tenant: self.scope.tenant(), provider, model, key };
                turns.queue.push_back(Turn { endpoint, route: route.clone(), line, stood_back: false });
            }
        }
        turns
    }
}

/// A candidate with one of its keys.
pub(crate) struct Turn {
    pub(crate) endpoint: Endpoint,
    pub(crate) route: Route,
    line: Line,
    /// It let the others go first, once.
    stood_back: bool,
}

/// Who is asked, in which order.
#[derive(Default)]
struct Turns {
    queue: VecDeque<Turn>,
    stood_back: Vec<Turn>,
}

impl Turns {
    /// Who is asked next. Who is in trouble lets the others go first, unless there is nobody else.
    fn next(&mut self, breakers: &Breakers, now: At, nobody_was: bool) -> Option<Turn> {
        loop {
            if self.queue.is_empty() {
                self.stood_back.sort_by_key(|turn| breakers.until(&turn.line).unwrap_or(now));
                self.queue.extend(self.stood_back.drain(..));
            }
            let mut turn = self.queue.pop_front()?;
            let is_alone = nobody_was && self.queue.is_empty() && self.stood_back.is_empty();
            if turn.stood_back || breakers.lets(&turn.line, now) || is_alone {
                return Some(turn);
            }
            turn.stood_back = true;
            self.stood_back.push(turn);
        }
    }
}
