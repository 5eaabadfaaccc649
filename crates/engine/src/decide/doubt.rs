//! Doubt: steps that may have happened and may not be sent again, and what becomes of them.
//!
//! A reconcilable step's other side is asked; what it does not know, and every irreversible step, waits for a person.

use std::sync::Arc;

use lantern_types::{Acted, At, EffectClass, Finding};

use super::Draft;
use super::perform::GivenUp;
use crate::event::{Content, Fact, StepId, StepKind};
use crate::retry::Wait;
use crate::run::{self, Step, StepState};
use crate::step::{self, Bill};

/// What happened to an attempt when its process died.
pub(super) const CRASHED: &str = "crashed";

impl Draft<'_> {
    pub(super) fn doubt(&mut self, id: &StepId, code: &str, message: String) {
        let Some(generation) = self.run.step(id).map(|step| step.generation) else { return };
        let fact = Fact::StepInDoubt { step: id.clone(), generation, code: code.to_owned() };
        self.emit(fact, Some(Content::Error(message)));
    }

    /// Someone found out whether a step in doubt had happened: what was sent under this generation. A finding that does not say
    /// which it is about is of an earlier build, and lets nothing be done again.
    pub(super) fn resolved(&mut self, id: &StepId, generation: Option<u32>, finding: Finding, by: String) {
        let Some(step) = self.run.step(id).filter(|step| step.state == StepState::InDoubt) else { return };
        debug_assert!(step.kind != StepKind::Llm, "a model call is keyed and never in doubt");
        if generation.is_some_and(|generation| generation != step.generation) {
            return;
        }
        match finding {
            Finding::Happened(output) => {
                self.emit(Fact::StepResolved { step: id.clone(), happened: true, by }, None);
                self.settle(id, &Arc::new(output));
            }
            Finding::DidNotHappen if generation.is_some() => self.did_not_happen(id, by),
            Finding::DidNotHappen => {
                self.emit(Fact::StepResolved { step: id.clone(), happened: false, by }, None);
                self.fail_step(id, "did_not_happen", "found not to have happened".to_owned(), Acted::No);
            }
        }
    }

    /// The other side says whether a step in doubt happened. No answer leaves it in doubt.
    pub(super) fn found(&mut self, id: &StepId, generation: u32, finding: Option<Finding>) {
        let asked = |step: &&Step| is_asked(step) && step.generation == generation;
        let (Some(step), Some(finding)) = (self.run.step(id).filter(asked), finding) else { return };
        let by = step::name_of(step.work.as_ref()).unwrap_or_default();
        match finding {
            Finding::Happened(output) => {
                self.emit(Fact::StepResolved { step: id.clone(), happened: true, by }, None);
                self.returned(id, output);
            }
            Finding::DidNotHappen => self.did_not_happen(id, by),
        }
    }

    /// What did not happen is as good as refused: the step is tried again, under a new key, as often as its policy allows.
    fn did_not_happen(&mut self, id: &StepId, by: String) {
        let Some(step) = self.run.step(id) else { return };
        let (code, again, generation) =
            (step.doubt.clone().unwrap_or_default(), self.again(step), step.generation + 1);
        let crashed = code == CRASHED;
        self.emit(Fact::StepResolved { step: id.clone(), happened: false, by }, None);
        let Some(due) = again else {
            let message = "found not to have happened, and no attempt is left".to_owned();
            return self.fail_step(id, "did_not_happen", message, Acted::No);
        };
        let (acted, bill, elsewhere) = (Acted::No, Bill::default(), false);
        let given_up = GivenUp { generation, code, acted, due, crashed, bill, elsewhere };
        self.make_again(id, given_up, "found not to have happened".to_owned());
    }

    /// When a step that did not happen is tried again: at once after a crash, else as after any failure.
    fn again(&self, step: &Step) -> Option<At> {
        let code = step.doubt.as_deref().unwrap_or_default();
        let retry = run::retry_of(&self.run, step);
        if step.attempt >= self.context.limits.attempts_per_step_max {
            return None;
        }
        if code == CRASHED {
            return Some(self.context.at);
        }
        if retry.non_retryable.iter().any(|never| never == code) {
            return None;
        }
        let salt = format!("{}|{}", self.run.id, step.id);
        let (at, longest) = (self.context.at, self.context.limits.wait_max);
        retry.due(step.failures + 1, &Wait { at, asked: None, longest, salt: &salt })
    }
}

/// Whether the other side of this step is asked what became of it.
pub(crate) fn is_asked(step: &Step) -> bool {
    step.state == StepState::InDoubt
        && step.effect == EffectClass::Reconcilable
        && step.kind == StepKind::Tool
}
