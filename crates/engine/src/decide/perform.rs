//! Admission, results and retries: the life of a step that acts outside.

use lantern_types::approval::{CapAnswer, OverCap};
use lantern_types::limits::{JSON_DEPTH_MAX, within_depth};
use lantern_types::{Acted, At, Digest, EffectClass, Failure, Grant};
use serde_json::Value;
use std::sync::Arc;

use super::doubt::CRASHED;
use super::{Draft, performing};
use crate::event::{Content, Fact, StepId, StepKind};
use crate::input::Done;
use crate::program;
use crate::retry::Wait;
use crate::run::{self, StepState, Work};
use crate::step::{self, Bill};

/// An attempt that is given up, and the one that follows it.
pub(super) struct GivenUp {
    /// The generation of the next one.
    pub(super) generation: u32,
    /// Why this one is given up.
    pub(super) code: String,
    /// Whether this one may have acted.
    pub(super) acted: Acted,
    /// When the next one is made.
    pub(super) due: At,
    /// Whether the process failed and not the step.
    pub(super) crashed: bool,
    /// What this one is known to have cost.
    pub(super) bill: Bill,
    /// Whether the next one goes to somebody else.
    pub(super) elsewhere: bool,
}

impl Draft<'_> {
    pub(super) fn admit(&mut self, id: StepId, grant: Grant) {
        let Some(step) = self.run.step(&id).filter(|step| step.state == StepState::Requested) else { return };
        let over = self.run.spent.plus(self.run.held).and_then(|sum| sum.plus(grant.hold));
        assert!(
            over.is_ok_and(|total| total <= self.run.cap) || grant.hold.micros() == 0,
            "a grant passes the cap"
        );
        let (generation, attempt) = (step.generation, step.attempt + 1);
        self.emit(Fact::StepAdmitted { step: id, generation, attempt, grant }, None);
    }

    /// Says that the step waits for people to answer this, once for each question.
    pub(super) fn ask_cap(&mut self, id: StepId, over: OverCap) {
        let Some(step) = self.run.step(&id).filter(|step| step.state == StepState::Requested) else { return };
        if step.over_cap.as_ref().is_none_or(|asked| asked.id() != over.id()) {
            self.emit(Fact::CapAsked { step: id, over }, None);
        }
    }

    pub(super) fn cap_answered(&mut self, id: StepId, answer: CapAnswer) {
        if self.run.step(&id).is_some_and(|step| step.over_cap.is_some()) {
            self.emit(Fact::CapAnswered { step: id, answer }, None);
        }
    }

    pub(super) fn performed(&mut self, id: &StepId, generation: u32, result: Result<Done, Failure>) {
        if performing(&self.run, id, generation).is_none() {
            return;
        }
        match result {
            Ok(Done::Reply { reply, violations }) => {
                let calls: usize = reply.tool_calls.iter().map(|call| call.arguments.len()).sum();
                let (bytes, max) =
                    ((reply.content.len() + calls) as u64, self.context.limits.output_bytes_max);
                let bill = step::bill(self.run.step(id).and_then(|step| step.grant.as_ref()), &reply);
                if bytes > max {
                    let message = format!("the reply has {bytes} bytes; the limit is {max}");
                    return self.fail_step_with(id, ("output_too_large", message), Acted::Yes, bill);
                }
                if !violations.is_empty() && self.must_hold(id) {
                    let (code, message) = (program::OUTPUT_SCHEMA_VIOLATED, program::violated(&violations));
                    let failure = Failure { acted: Acted::Yes, ..Failure::unknown(code, message) };
                    return self.attempt_failed(id, failure, bill);
                }
                self.settle_with(
                    id,
                    Content::Reply { reply, violations },
                    lantern_types::MicroUsd::ZERO,
                    None,
                );
            }
            Ok(Done::Output(output)) => self.returned(id, output),
            Err(failure) => self.attempt_failed(id, failure, Bill::default()),
        }
    }

    /// Whether a reply that breaks its schema is a failure of its step. An agent's is not: it is told, in its next turn.
    fn must_hold(&self, id: &StepId) -> bool {
        let work = self.run.step(id).and_then(|step| step.work.as_ref());
        matches!(work, Some(Work::Llm { .. }))
    }

    /// Settles a tool call with what it gave, if that may be stored.
    pub(super) fn returned(&mut self, id: &StepId, output: Value) {
        let text = step::json(&output);
        let bytes = text.len() as u64;
        let max = self.context.limits.output_bytes_max;
        if bytes > max {
            let message = format!("the output has {bytes} bytes; the limit is {max}");
            return self.fail_step(id, "output_too_large", message, Acted::Unknown);
        }
        if !within_depth(&output, JSON_DEPTH_MAX) {
            let message = format!("the output nests deeper than {JSON_DEPTH_MAX} levels");
            return self.fail_step(id, "output_too_deep", message, Acted::Unknown);
        }
        let named = Some(Digest::of(&text));
        self.settle_with(id, Content::Output(Arc::new(output)), lantern_types::MicroUsd::ZERO, named);
    }

    /// Settles a step, whose output is named anew unless its caller has done so. For a model's reply the cost comes from its usage and the granted price.
    pub(super) fn settle_with(
        &mut self,
        id: &StepId,
        content: Content,
        cost: lantern_types::MicroUsd,
        output: Option<Digest>,
    ) {
        let Some(step) = self.run.step(id).filter(|step| !step.is_final()) else { return };
        let grant = step.grant.as_ref();
        let route = grant.and_then(|grant| grant.route.as_ref());
        let (bill, model) = match &content {
            Content::Reply { reply, .. } => (step::bill(grant, reply), Some(reply.model.clone())),
            _ => (Bill { cost, ..Bill::default() }, None),
        };
        let output = output.unwrap_or_else(|| match &content {
            Content::Reply { reply, .. } => step::digest_of(&serde_json::to_value(reply).unwrap_or_default()),
            Content::Output(value) => step::digest_of(value),
            _ => step::digest_of(&Value::Null),
        });
        let fact = Fact::StepSettled {
            step: id.clone(),
            kind: step.kind,
            name: step::name_of(step.work.as_ref()),
            generation: step.generation,
            attempt: step.attempt,
            cost: bill.cost,
            tokens_in: bill.tokens_in,
            tokens_out: bill.tokens_out,
            claimed: bill.claimed,
            output,
            provider: route.map(|route| route.provider.clone()),
            model,
        };
        self.emit(fact, Some(content));
    }

    /// Retries, doubts or gives up, by what the failure and the step's class say. `bill` is what is known of its cost.
    fn attempt_failed(&mut self, id: &StepId, failure: Failure, bill: Bill) {
        let Some(step) = self.run.step(id) else { return };
        let doubtful = failure.acted == Acted::Unknown && !step.effect.repeats();
        if doubtful {
            return self.doubt(id, failure.code, failure.message);
        }
        let retry = run::retry_of(&self.run, step);
        // Who has somebody else to ask asks at once: it was not them who failed.
        let elsewhere = failure.elsewhere;
        let allowed =
            (failure.retryable || elsewhere) && !retry.non_retryable.iter().any(|code| code == failure.code);
        let left = step.attempt < self.context.limits.attempts_per_step_max;
        let salt = format!("{}|{id}", self.run.id);
        let wait = Wait {
            at: self.context.at,
            asked: failure.retry_after,
            longest: self.context.limits.wait_max,
            salt: &salt,
        };
        let due = (allowed && left).then(|| retry.due(step.failures + 1, &wait)).flatten();
        let due = due.map(|due| if elsewhere { self.context.at } else { due });
        // A refusal speaks for its own send only: one before it, under the same key, may have acted all the same. What
        // that one may have cost is held already.
        let acted = match failure.acted {
            Acted::No if step.resent => Acted::Unknown,
            known => known,
        };
        let Some(due) = due else {
            let bill = Bill { unconfirmed: step::unconfirmed(step, failure.acted), ..bill };
            return self.fail_step_with(id, (failure.code, failure.message), acted, bill);
        };
        // What answered is asked anew: under its old key it could only give the same again.
        let generation = match acted {
            Acted::No | Acted::Yes => step.generation + 1,
            Acted::Unknown => step.generation,
        };
        let (code, crashed) = (failure.code.to_owned(), false);
        let given_up = GivenUp { generation, code, acted: failure.acted, due, crashed, bill, elsewhere };
        self.make_again(id, given_up, failure.message);
    }

    /// Gives an attempt up for another one. A hold covers one attempt: the next of a call that costs money is admitted with
    /// its own, and what this one may have been billed for stays held. So is one that goes to somebody else, whatever they charge.
    pub(super) fn make_again(&mut self, id: &StepId, given_up: GivenUp, message: String) {
        let Some(step) = self.run.step(id) else { return };
        let GivenUp { generation, code, acted, due, crashed, bill, elsewhere } = given_up;
        let fact = Fact::StepRetrying {
            step: id.clone(),
            generation,
            attempt: step.attempt + 1,
            code,
            acted,
            due,
            crashed,
            cost: bill.cost,
            tokens_in: bill.tokens_in,
            tokens_out: bill.tokens_out,
            unconfirmed: step::unconfirmed(step, acted),
            readmit: generation == step.generation && (step::holds_money(step) || elsewhere),
        };
        self.emit(fact, Some(Content::Error(message)));
    }

    /// The backoff is over, and the admission still stands: send again under the same key.
    pub(super) fn reissue(&mut self, id: &StepId) {
        let Some(step) = self.run.step(id) else { return };
        let fact =
            Fact::StepReissued { step: id.clone(), generation: step.generation, attempt: step.attempt + 1 };
        self.emit(fact, None);
    }

    /// The backoff is over, and the admission with it: the step asks for another.
    pub(super) fn readmit(&mut self, id: &StepId) {
        let Some(step) = self.run.step(id) else { return };
        let kind = (step.kind == StepKind::Child).then_some(step.kind);
        let fact = Fact::StepReadmitted { step: id.clone(), generation: step.generation, kind };
        self.emit(fact, None);
    }

    /// A crash cut the attempt short: it is made again, under the same key, once the run is not held back and, if it may have
    /// been billed, another hold is granted.
    fn put_off(&mut self, id: &StepId) {
        let Some(step) = self.run.step(id) else { return };
        let (code, due) = (CRASHED.to_owned(), self.context.at);
        let (generation, acted, crashed, bill) = (step.generation, Acted::Unknown, true, Bill::default());
        let elsewhere = false;
        let given_up = GivenUp { generation, code, acted, due, crashed, bill, elsewhere };
        self.make_again(id, given_up, "the process died before an answer was stored".to_owned());
    }

    /// After a crash: whatever was outside is of unknown outcome. How often a step may be sent is bounded, but no crash
    /// uses up what its retry policy allows.
    pub(super) fn recover(&mut self) {
        let outside: Vec<StepId> = self
            .run
            .open_steps()
            .filter(|step| step.state == StepState::Performing)
            .map(|step| step.id.clone())
            .collect();
        for id in outside {
            let Some(step) = self.run.step(&id) else { continue };
            let spent = step.attempt >= self.context.limits.attempts_per_step_max;
            match step.effect {
                EffectClass::Reconcilable | EffectClass::Irreversible => {
                    let message = "the process died after the step was admitted".to_owned();
                    self.doubt(&id, CRASHED, message);
                }
                _ if spent => {
                    let message = format!("{} attempts ended without a result", step.attempt);
                    self.fail_step(&id, "attempts_exhausted", message, Acted::Unknown);
                }
                _ if self.run.held_back() || step::holds_money(step) => self.put_off(&id),
                _ => self.reissue(&id),
            }
        }
    }
}
