//! How a run ends: what it drops, what it waits for, and what it goes on as.

use std::sync::Arc;

use lantern_types::{At, Dur, MicroUsd};
use serde_json::Value;

use super::{Draft, check_given_steps, check_input};
use crate::carried::Carried;
use crate::event::{Content, Fact, Outcome, StepId};
use crate::run::{Ending, Step};
use crate::step;

/// How long a run that ends waits for a child that has no children to tell what it spent. Three times the default lease:
/// a worker that died is missed, and the child taken up and stopped, well within it.
const SETTLING_WAIT: Dur = Dur::from_secs(30);

impl Draft<'_> {
    pub(super) fn fail_run(&mut self, code: &str, message: String, step: Option<StepId>) {
        self.finish(Outcome::Failed, Some(code.to_owned()), step, Content::Error(message));
    }

    /// Ends the run: nothing stays open, and the last event says how. Written once. A run that dropped children which have
    /// not told what they spent waits for that first.
    pub(super) fn finish(
        &mut self,
        outcome: Outcome,
        code: Option<String>,
        step: Option<StepId>,
        content: Content,
    ) {
        let why = if outcome == Outcome::Cancelled { "cancelled" } else { "run_ended" };
        let open: Vec<StepId> = self.run.open_steps().map(|step| step.id.clone()).collect();
        for id in open.iter().rev() {
            self.abandon(id, why);
        }
        // What a run that goes on as a new one leaves it to spend is known only when nobody owes anything.
        if self.run.continued {
            self.charge(|_| true);
        }
        match self.run.owing_steps().map(|step| step.tells_by.unwrap_or(self.context.at)).max() {
            Some(due) if due > self.context.at => {
                self.emit(Fact::RunEnding { outcome, code, step, due }, Some(content));
            }
            _ => {
                self.charge(|_| true);
                self.end(outcome, code, step, content);
            }
        }
    }

    /// Ends a run that only waited for its children, once they have told or have had their time.
    pub(super) fn end_when_settled(&mut self) {
        if self.run.ending.is_none() {
            return;
        }
        self.charge_what_is_overdue();
        let late = |ending: &Ending| ending.due <= self.context.at || self.run.owing_steps().next().is_none();
        let Some(ending) = self.run.ending.clone().filter(late) else { return };
        self.charge(|_| true);
        self.end(ending.outcome, ending.code, ending.step, ending.content);
    }

    fn end(&mut self, outcome: Outcome, code: Option<String>, step: Option<StepId>, content: Content) {
        let output = match &content {
            Content::Output(output) => Some(step::digest_of(output)),
            _ => None,
        };
        self.emit(Fact::Finished { outcome, code, step, output }, Some(content));
    }

    /// By when a child that is dropped now has to tell what it spent: for each level of runs that may stand below, one more
    /// stretch, so that a child that waits for its own children still answers in time.
    pub(super) fn tells_by(&self) -> At {
        let below = self.context.limits.child_depth_max.saturating_sub(self.run.depth);
        self.context.at + SETTLING_WAIT.times(u64::from(below).max(1))
    }

    /// Gives up waiting for children that have had their time.
    pub(super) fn charge_what_is_overdue(&mut self) {
        let now = self.context.at;
        self.charge(|step| step.tells_by.is_some_and(|due| due <= now));
    }

    /// Gives up waiting for what these children spent: all that was held for them may be.
    fn charge(&mut self, these: impl Fn(&Step) -> bool) {
        let owed = self.run.owing_steps().filter(|step| these(step));
        let owed: Vec<_> = owed.filter_map(|step| Some((step.id.clone(), step.owed()?))).collect();
        for (step, unconfirmed) in owed {
            self.emit(Fact::StepCharged { step, cost: MicroUsd::ZERO, unconfirmed }, None);
        }
    }

    /// Goes on as a new run with this input, if a run of this version may be asked that: whoever reads that a run
    /// succeeded relies on it.
    pub(super) fn continue_with(&mut self, step: &StepId, input: Value) {
        let manifest = &self.run.manifest;
        let schema = manifest.input_schema.as_ref();
        let broken = schema.map(|schema| (self.context.violations)(schema, &input)).unwrap_or_default();
        let refused = check_input(manifest, &input, self.context.limits)
            .and_then(|()| check_given_steps(manifest, &input, self.context))
            .err();
        if let Some(refused) = refused {
            let message = format!("the new run: {}", refused.message);
            return self.fail_run(refused.code, message, Some(step.clone()));
        }
        if !broken.is_empty() {
            let message = format!("the new run's input: {}", broken.join("; "));
            return self.fail_run("input_schema_violated", message, Some(step.clone()));
        }
        self.continue_as_new(Content::Input(Arc::new(input)));
    }

    /// Goes on as a new run of the same input, with what was said and used up.
    pub(super) fn go_on(&mut self, carried: Carried) {
        let (input, carried) = (self.run.input.clone(), Arc::new(carried));
        self.continue_as_new(Content::Carried { input, carried });
    }

    fn continue_as_new(&mut self, content: Content) {
        if self.replays() {
            let message = "the run went on as another one here, and a replay starts none".to_owned();
            return self.fail_run("replay_ended", message, None);
        }
        let count = self.run.continues.map_or(0, |before| before.count);
        if self.run.steps().is_empty() {
            let message = "a run that does nothing may not go on as a new one".to_owned();
            return self.fail_run("continue_empty", message, None);
        }
        if count >= self.context.limits.continuations_max {
            let message = format!("the run went on as a new one {count} times");
            return self.fail_run("continuations_limit", message, None);
        }
        let next = crate::effect::continuation(self.run.id);
        self.emit(Fact::ContinuedAsNew { run: next }, Some(content));
        let output = Arc::new(serde_json::json!({ "continuedAs": next.to_string() }));
        self.finish(Outcome::Succeeded, None, None, Content::Output(output));
    }
}
