//! The outside of tier 2: models and tools as the worker's traits, each call remembered with its time and tenant.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lantern_engine::{Done, LlmAsk};
use lantern_policy::route::Choices;
use lantern_policy::{Admitted, Scope};
use lantern_types::edge::{BoxFuture, Clock};
use lantern_types::llm::{LlmCall, LlmReply};
use lantern_types::tool::ToolCall;
use lantern_types::{
    AdmissionFacts, At, Dur, EffectClass, EffectKey, Failure, Finding, Route, TenantId, ToolDef,
};
use lantern_worker::edge::Say;
use lantern_worker::{Llm, Tools};
use serde_json::Value;

use crate::outside::{Ask, Outside, Sent};
use crate::rng::Rng;

/// One call that reached the outside.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) tenant: TenantId,
    pub(super) key: EffectKey,
    pub(super) effect: EffectClass,
    pub(super) at: At,
    /// Whether the other side did it.
    pub(super) acted: bool,
}

/// Models and tools that misbehave by the seed.
pub(super) struct Edges {
    seed: u64,
    clock: Arc<dyn Clock>,
    choices: Choices,
    defs: Vec<ToolDef>,
    outside: Mutex<Outside>,
    calls: Mutex<Vec<Call>>,
    answered: Arc<Mutex<Vec<(EffectKey, At)>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Edges {
    pub(super) fn new(seed: u64, clock: Arc<dyn Clock>, choices: Choices, defs: Vec<ToolDef>) -> Self {
        let (outside, calls) = (Mutex::new(Outside::new(seed)), Mutex::default());
        Self { seed, clock, choices, defs, outside, calls, answered: Arc::default() }
    }

    /// From now on everything succeeds at once.
    pub(super) fn calm(&self) {
        lock(&self.outside).calm = true;
    }

    /// Every call so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// The calls whose work went on to its end, each with when.
    pub(super) fn answered(&self) -> Vec<(EffectKey, At)> {
        lock(&self.answered).clone()
    }

    /// Sends, and answers what comes back and how long that takes; `None` when nothing ever does.
    fn send(
        &self,
        scope: Scope,
        key: EffectKey,
        effect: EffectClass,
        ask: &Ask,
    ) -> Option<(Dur, Result<Done, Failure>)> {
        let mut outside = lock(&self.outside);
        let Sent { acted, results, .. } = outside.send(&key, effect, ask);
        let calm = outside.calm;
        drop(outside);
        let mut calls = lock(&self.calls);
        let nth = calls.iter().filter(|call| call.key == key).count();
        let mut rng = Rng::of(self.seed, &format!("delay|{key}|{nth}"));
        calls.push(Call { tenant: scope.tenant(), key, effect, at: self.clock.now(), acted });
        let delay = Dur::from_millis(if calm { 0 } else { rng.within(0, 4_000) });
        // The worker waits for one answer; of several, the first counts.
        results.into_iter().next().map(|result| (delay, result))
    }

    fn answer(
        &self,
        key: EffectKey,
        sent: Option<(Dur, Result<Done, Failure>)>,
    ) -> BoxFuture<'static, Result<Done, Failure>> {
        let (clock, answered) = (self.clock.clone(), self.answered.clone());
        Box::pin(async move {
            match sent {
                Some((delay, result)) => {
                    clock.sleep(delay).await;
                    lock(&answered).push((key, clock.now()));
                    result
                }
                None => std::future::pending().await,
            }
        })
    }
}

impl Llm for Edges {
    fn choices(&self, _scope: Scope) -> BoxFuture<'_, Result<Choices, Failure>> {
        Box::pin(async { Ok(self.choices.clone()) })
    }

    fn call(
        &self,
        scope: Scope,
        _route: Route,
        call: Admitted<LlmCall>,
        _timeout: Dur,
        mut say: Say,
    ) -> BoxFuture<'_, Result<LlmReply, Failure>> {
        let call = call.into_work();
        let facts = AdmissionFacts {
            request_bytes: call.messages.iter().map(|message| message.content.len() as u64).sum(),
            max_tokens: call.max_tokens,
            ..AdmissionFacts::default()
        };
        let offered: Vec<String> = call.tools.iter().map(|tool| tool.name.wire()).collect();
        let ask = LlmAsk {
            model: call.model,
            messages: call.messages,
            offer_tools: !offered.is_empty(),
            max_tokens: Some(call.max_tokens),
            temperature: call.temperature,
            output_schema: call.output_schema,
        };
        let _key = call.key.clone();
        let key = call.key.clone();
        let sent = self.send(scope, call.key, EffectClass::Keyed, &Ask::Model { ask, offered, facts });
        let answer = self.answer(key, sent);
        Box::pin(async move {
            match answer.await? {
                Done::Reply { reply, .. } => {
                    say(&reply.content);
                    Ok(reply)
                }
                Done::Output(_) => Err(Failure::refused("not_a_reply", "a model cannot give this")),
            }
        })
    }
}

impl Tools for Edges {
    fn defs(&self) -> &[ToolDef] {
        &self.defs
    }

    fn call(
        &self,
        scope: Scope,
        call: Admitted<ToolCall>,
        _timeout: Dur,
    ) -> BoxFuture<'_, Result<Value, Failure>> {
        let call = call.into_work();
        let declared = self.defs.iter().find(|def| def.name == call.name).map(|def| def.effect);
        let effect = declared.unwrap_or(EffectClass::Irreversible);
        let key = call.key.clone();
        let sent = self.send(
            scope,
            call.key,
            effect,
            &Ask::Tool { name: call.name, arguments: Arc::unwrap_or_clone(call.arguments) },
        );
        let answer = self.answer(key, sent);
        Box::pin(async move {
            match answer.await? {
                Done::Output(value) => Ok(value),
                Done::Reply { .. } => Err(Failure::refused("not_an_output", "a tool cannot give this")),
            }
        })
    }

    fn reconcile(
        &self,
        _scope: Scope,
        call: Admitted<ToolCall>,
        _timeout: Dur,
    ) -> BoxFuture<'_, Result<Option<Finding>, Failure>> {
        let ToolCall { name, arguments, key, .. } = call.into_work();
        let ask = Ask::Tool { name, arguments: Arc::unwrap_or_clone(arguments) };
        let finding = lock(&self.outside).ask(&key, EffectClass::Reconcilable, &ask);
        let mut rng = Rng::of(self.seed, &format!("asked|{key}"));
        let delay = Dur::from_millis(rng.within(0, 2_000));
        Box::pin(async move {
            self.clock.sleep(delay).await;
            Ok(finding)
        })
    }
}
