//! Performs one admitted step: a model call or a tool call, within its timeout, panics contained. Asks about one in doubt.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use lantern_engine::{Done, Input, LlmAsk, Run, Step, StepId, Work, llm_ask, offered_tools, timeout};
use lantern_llm::breakers::trouble;
use lantern_policy::admit::Purse;
use lantern_policy::turns::{Past, elsewhere};
use lantern_policy::{Admitted, LlmRequest, Scope, admit_llm};
use lantern_store::notify::Delta;
use lantern_types::edge::BoxFuture;
use lantern_types::llm::{LlmCall, LlmReply};
use lantern_types::tool::{Asker, ToolCall};
use lantern_types::{
    Acted, AdmissionFacts, Dur, EffectKey, Failure, Grant, MicroUsd, Route, Strategy, ToolDef, TraceParent,
    Tried,
};
use serde_json::Value;
use tracing::{Instrument as _, Span};

use crate::edge::Say;
use crate::ruling::{self, Ruling};
use crate::{Deps, admission, schema};

/// What came back, for which step.
pub(crate) type Performed = (StepId, Input);

/// Makes the work of a step.
pub(crate) type Start = fn(&Arc<Deps>, Scope, &Run, &Step) -> Option<BoxFuture<'static, Performed>>;

/// The work of a step, ready to be awaited; `None` when there is nothing to perform.
pub(crate) fn perform(
    deps: &Arc<Deps>,
    scope: Scope,
    run: &Run,
    step: &Step,
) -> Option<BoxFuture<'static, Performed>> {
    let grant = step.grant.clone()?;
    let (id, generation) = (step.id.clone(), step.generation);
    let limit = timeout(run, step, &deps.limits);
    let work = work(deps, scope, run, step, &grant, limit)?;
    let clock = deps.clock.clone();
    let span = span(scope, run, step);
    let performing = async move {
        let work = AssertUnwindSafe(work).catch_unwind();
        // A little past the work's own timeout, which gives the better message. Made only when the work is not done at
        // once.
        let late = async { clock.sleep(limit + Dur::from_secs(5)).await };
        let result = tokio::select! {
            biased;
            done = work => done.unwrap_or_else(|_| Err(Failure::unknown("internal_panic", "the step's work panicked"))),
            () = late => Err(Failure::unknown("timeout", format!("no result within {} ms", limit.millis()))),
        };
        (id.clone(), Input::Performed { step: id, generation, result })
    };
    Some(Box::pin(performing.instrument(span)))
}

/// What lines that are logged meanwhile belong to: ids and numbers, nothing that anybody said.
fn span(scope: Scope, run: &Run, step: &Step) -> Span {
    let (tenant, run) = (scope.tenant(), run.id);
    tracing::info_span!("effect", %tenant, %run, step = %step.id, attempt = step.attempt)
}

/// The question whether a step in doubt happened. Whatever goes wrong with it leaves the doubt as it is.
pub(crate) fn reconcile(
    deps: &Arc<Deps>,
    scope: Scope,
    run: &Run,
    step: &Step,
) -> Option<BoxFuture<'static, Performed>> {
    let (id, generation) = (step.id.clone(), step.generation);
    let limit = timeout(run, step, &deps.limits);
    let call = Admitted::by(step.grant.as_ref()?, tool_call(deps, run, step)?);
    let deps = deps.clone();
    let span = span(scope, run, step);
    let asking = async move {
        let late = deps.clock.sleep(limit);
        let asked = AssertUnwindSafe(deps.tools.reconcile(scope, call, limit)).catch_unwind();
        let finding = tokio::select! {
            biased;
            answer = asked => answer.unwrap_or_else(|_| Err(Failure::unknown("internal_panic", "the question panicked"))),
            () = late => Err(Failure::unknown("timeout", format!("no answer within {} ms", limit.millis()))),
        };
        if let Err(failure) = &finding {
            tracing::warn!(code = failure.code, "a step in doubt could not be asked about");
        }
        (id.clone(), Input::Found { step: id, generation, finding: finding.ok().flatten() })
    };
    Some(Box::pin(asking.instrument(span)))
}

type Working = BoxFuture<'static, Result<Done, Failure>>;

fn work(
    deps: &Arc<Deps>,
    scope: Scope,
    run: &Run,
    step: &Step,
    grant: &Grant,
    limit: Dur,
) -> Option<Working> {
    match step.work.as_ref()? {
        Work::Turn { .. } | Work::Llm { .. } => {
            let ask = llm_ask(run, step)?;
            let tools = if ask.offer_tools { offered_tools(run, deps.tools.defs()) } else { Vec::new() };
            let (key, trace) = (key(run, step), trace(deps, run, step));
            let asked = Asked { ask, tools, grant, key, trace };
            let others = Others {
                model: asked.ask.model.clone(),
                strategy: run.manifest.strategy,
                tried: step.tried.clone(),
                spread: lantern_policy::turns::spread(run.id),
                facts: grant.facts.clone(),
                hold: grant.hold,
                ruling: ruling::again(deps, scope, &grant.facts),
            };
            Some(llm(deps, scope, asked, (others, limit)))
        }
        Work::Tool { .. } => Some(tool(deps, scope, Admitted::by(grant, tool_call(deps, run, step)?), limit)),
        _ => None,
    }
}

/// The call that a tool step makes, or made.
fn tool_call(deps: &Deps, run: &Run, step: &Step) -> Option<ToolCall> {
    let Some(Work::Tool { name, arguments, .. }) = &step.work else { return None };
    let config = run.manifest.tool(name).and_then(|tool| tool.config.clone());
    let facts = step.grant.as_ref().map(|grant| &grant.facts);
    let asker = facts.and_then(|facts| {
        facts.ruled.as_ref().map(|ruled| Asker { agent: ruled.agent.clone(), spent: facts.spent })
    });

    let (arguments, trace) = (arguments.clone(), trace(deps, run, step));
    Some(ToolCall { name: name.clone(), arguments, config, key: key(run, step), trace, asker })
}

/// What the other side is told of the attempt's span.
fn trace(deps: &Deps, run: &Run, step: &Step) -> Option<TraceParent> {
    deps.traces.is_some().then(|| run.span_of_attempt(step))
}

fn key(run: &Run, step: &Step) -> EffectKey {
    EffectKey { run: run.id, step: step.id.to_string(), generation: step.generation }
}

/// A model call that was admitted.
struct Asked<'a> {
    ask: LlmAsk,
    tools: Vec<ToolDef>,
    grant: &'a Grant,
    key: EffectKey,
    trace: Option<TraceParent>,
}

/// By what it is told whether somebody else can be asked, when a call comes to nothing.
struct Others {
    model: String,
    strategy: Option<Strategy>,
    tried: Vec<Tried>,
    spread: u32,
    /// What the call was admitted on, and what is held for it.
    facts: AdmissionFacts,
    hold: MicroUsd,
    /// The policies that it was admitted by.
    ruling: Option<Ruling>,
}

impl Others {
    /// Whether the run could go this way too, and pay for it, when the call came to nothing in this way: what may have been billed stays held.
    fn fits(&self, deps: &Deps, route: &Route, acted: Acted) -> bool {
        let AdmissionFacts { cap, spent, held, request_bytes, max_tokens, .. } = self.facts;
        let kept = if acted == Acted::No { MicroUsd::ZERO } else { self.hold };
        let Ok(held) = held.plus(kept) else { return false };
        let purse = Purse { cap, spent, held, unconfirmed: MicroUsd::ZERO };
        let request = LlmRequest { route: route.clone(), request_bytes, max_tokens };
        let terms = deps.memo.terms(&deps.catalogue, &deps.limits);
        let Ok(grant) = admit_llm(purse, &request, &deps.limits, terms) else { return false };
        let step = lantern_cedar::steps::Step::model(route, grant.hold, &grant.facts);
        self.ruling.as_ref().is_none_or(|ruling| ruling.lets(step))
    }

    /// The key that a call goes out under this way: the step's own for the first model that the provider was asked for. Another
    /// of its models is another request: under the first one's key the provider could only refuse it, or give it that one's answer.
    fn key(&self, route: &Route, key: EffectKey) -> EffectKey {
        let first = self.tried.iter().find(|tried| tried.provider == route.provider);
        if first.is_none_or(|first| first.model == route.model) {
            return key;
        }
        EffectKey { step: format!("{}@{}", key.step, route.model), ..key }
    }

    /// The failure of a call that went this way, and whether another way is left.
    async fn told(mut self, deps: &Deps, scope: Scope, route: Route, failure: Failure) -> Failure {
        if !trouble(&failure).passes_on() {
            return failure;
        }
        let Ok(choices) = admission::choices(deps, scope, self.strategy).await else { return failure };
        let Route { provider, model, key, .. } = route;
        self.tried.push(Tried { provider, model, key, code: failure.code.to_owned() });
        let past = Past { tried: &self.tried, now: deps.clock.now(), spread: self.spread };
        let fits = |route: &Route| self.fits(deps, route, failure.acted);
        Failure { elsewhere: elsewhere(&self.model, &choices, &deps.catalogue, past, fits), ..failure }
    }
}

fn llm(deps: &Arc<Deps>, scope: Scope, asked: Asked<'_>, (others, limit): (Others, Dur)) -> Working {
    let Asked { ask, tools, grant, key, trace } = asked;
    let Some(route) = grant.route.clone() else {
        return Box::pin(async { Err(Failure::refused("no_llm", "the admission names no model")) });
    };
    let max_tokens = admission::max_tokens(deps, &ask);
    let say = say(deps, &key);
    let (offers, output_schema) = (ask.offer_tools, ask.output_schema.clone());
    let call = LlmCall {
        model: route.model.clone(),
        messages: ask.messages,
        tools,
        max_tokens,
        temperature: ask.temperature,
        output_schema: ask.output_schema,
        key: others.key(&route, key),
        trace,
    };
    let (deps, call) = (deps.clone(), Admitted::by(grant, call));
    Box::pin(async move {
        if let Some(schema) = &output_schema {
            // A step's own schema came with the run's input: nobody has looked at it yet.
            if let Some(problem) = schema::problem(deps.memo.schemas(), schema).await {
                return Err(Failure::refused("step_data_invalid", format!("outputSchema: {problem}")));
            }
        }
        let reply = match deps.llm.call(scope, route.clone(), call, limit, say).await {
            Ok(reply) => reply,
            Err(failure) => return Err(others.told(&deps, scope, route, failure).await),
        };
        let violations = match &output_schema {
            Some(schema) if is_final(offers, &reply) => broken(&deps, schema, &reply).await,
            _ => Vec::new(),
        };
        Ok(Done::Reply { reply, violations })
    })
}

/// Whether a reply is what the model has to say. One that asks for tools is not, unless none were on offer: then no call is
/// made, and nothing more is said.
const fn is_final(offers: bool, reply: &LlmReply) -> bool {
    !offers || reply.tool_calls.is_empty()
}

/// How a final reply breaks the schema it was given.
async fn broken(deps: &Deps, schema: &Value, reply: &LlmReply) -> Vec<String> {
    match serde_json::from_str(&reply.content) {
        Ok(value) => schema::violations(deps.memo.schemas(), schema, &value).await,
        Err(error) => vec![format!("the reply is not JSON: {error}")],
    }
}

/// Tells those who watch the run what the model says, piece by piece.
fn say(deps: &Arc<Deps>, key: &EffectKey) -> Say {
    let run = key.run;
    let hub = deps.db.hub().clone();
    let (step, generation) = (key.step.clone(), key.generation);
    let mut offset = 0;
    Box::new(move |text| {
        if hub.is_watched(run) {
            hub.delta(Delta { run, step: step.clone(), generation, offset, text: text.to_owned() });
        }
        offset += text.len() as u64;
    })
}

fn tool(deps: &Arc<Deps>, scope: Scope, call: Admitted<ToolCall>, limit: Dur) -> Working {
    let deps = deps.clone();
    Box::pin(async move {
        if let Some(def) = deps.tools.defs().iter().find(|def| def.name == call.work().name) {
            let (schema, arguments) = (&def.input_schema, &call.work().arguments);
            let broken = schema::violations(deps.memo.schemas(), schema, arguments).await;
            if !broken.is_empty() {
                return Err(Failure::refused("tool_arguments_invalid", broken.join("; ")));
            }
        }
        deps.tools.call(scope, call, limit).await.map(Done::Output)
    })
}
