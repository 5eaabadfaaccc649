//! What arrives through the inbox: signals, decisions, results of children, and orders to stop, pause or go on.

use std::sync::Arc;

use lantern_types::limits::{JSON_DEPTH_MAX, within_depth};
use lantern_types::{Acted, At, Digest, Finding, MicroUsd, RunId};
use serde_json::{Value, json};

use super::Draft;
use super::perform::GivenUp;
use crate::event::{Content, Fact, Outcome, StepId, StepKind};
use crate::input::Arrival;
use crate::program;
use crate::retry::Wait;
use crate::run::{StepState, Work};
use crate::step::{Bill, json_bytes};

impl Draft<'_> {
    pub(super) fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Signal { name, value, key } => self.signalled(name, value, key.as_deref()),
            metered @ Arrival::Metered { .. } => self.metered(metered),
            Arrival::Approval { step, granted, by, note, answer } => {
                self.approved(&step, granted, by, (note, answer));
            }
            Arrival::Resolution { step, happened, output, by, generation } => {
                let finding = if happened { Finding::Happened(output) } else { Finding::DidNotHappen };
                self.resolved(&step, generation, finding, by);
            }
            Arrival::ChildFinished { step, generation, outcome, spent, output } => {
                let current = self.run.step(&step).map(|step| step.generation);
                // The word of a try that was given up for another says nothing of that one.
                if generation.is_none() || generation == current {
                    self.child_finished(&step, outcome, spent, output);
                }
            }
            Arrival::Cancel { by, reason } => {
                let reason = Content::Reason(reason.unwrap_or_default());
                self.emit(Fact::CancelRequested { by }, Some(reason.clone()));
                self.finish(Outcome::Cancelled, None, None, reason);
            }
            Arrival::Pause { by } => {
                if !self.run.paused {
                    self.emit(Fact::Paused { by }, None);
                }
            }
            Arrival::Resume { by } => {
                if self.run.paused {
                    self.emit(Fact::Resumed { by }, None);
                    self.fire_due();
                }
            }
        }
    }

    /// A signal settles the first step that waits for it, or is kept for one that will. One whose key came before is a
    /// repeat, however long ago that was.
    fn signalled(&mut self, name: String, value: Value, key: Option<&str>) {
        let key = key.map(|key| signal_key(self.run.id, &name, key));
        if key.is_some_and(|key| self.run.signal_keys.contains(&key)) {
            return;
        }
        let waiting = self.run.open_steps().find(|step| {
            matches!(step.state, StepState::Waiting { .. })
                && matches!(&step.work, Some(Work::Signal { name: wanted }) if *wanted == name)
        });
        let waiting = waiting.map(|step| step.id.clone());
        if !self.has_room(&value, waiting.is_some()) {
            return;
        }
        let value = Arc::new(value);
        self.emit(Fact::SignalReceived { name, key }, Some(Content::Signal(value.clone())));
        if let Some(id) = waiting {
            self.settle(&id, &value);
        }
    }

    /// What a program's model call cost is the run's. More than what was held for it, or than the run has left, is not charged.
    fn metered(&mut self, metered: Arrival) {
        let Arrival::Metered { call, provider, model, hold, cost, tokens_in, tokens_out, lost } = metered
        else {
            return;
        };
        if self.run.signal_keys.contains(&call) {
            return;
        }
        let left = self.run.cap.minus(self.run.spent).and_then(|left| left.minus(self.run.held));
        let hold = hold.min(left.unwrap_or_default()).max(MicroUsd::ZERO);
        let cost = cost.min(hold).max(MicroUsd::ZERO);
        self.emit(Fact::CallMetered { call, provider, model, hold, cost, tokens_in, tokens_out, lost }, None);
    }

    /// Whether a signal is small enough to be received, and few enough are kept for another one. Whoever puts signals into
    /// inboxes refuses others; this is for those that a build with other limits let in.
    fn has_room(&self, value: &Value, is_waited_for: bool) -> bool {
        let (run, limits) = (&self.run, self.context.limits);
        let (bytes, count) = (json_bytes(value), run.signals.len() as u64);
        let room = count < u64::from(limits.signals_per_run_max)
            && run.signal_bytes.saturating_add(bytes) <= limits.signal_bytes_per_run_max;
        bytes <= limits.signal_bytes_max && (is_waited_for || room)
    }

    fn approved(
        &mut self,
        id: &StepId,
        granted: bool,
        by: String,
        (note, answer): (Option<Value>, Option<Value>),
    ) {
        let Some(step) = self.run.step(id) else { return };
        let asks = match step.state {
            StepState::AwaitingApproval { .. } => true,
            StepState::Waiting { .. } => step.kind == StepKind::Approval,
            _ => false,
        };
        if !asks || !may_decide(step.work.as_ref(), &by) {
            return;
        }
        let is_step = step.kind == StepKind::Approval;
        let note_content = note.clone().map(|note| Content::Reason(crate::template::as_text(&note)));
        if !granted {
            self.emit(Fact::ApprovalDenied { step: id.clone(), by: by.clone() }, note_content);
            let message = match note {
                Some(note) => format!("denied by {by}: {}", crate::template::as_text(&note)),
                None => format!("denied by {by}"),
            };
            return self.fail_step(id, "approval_denied", message, Acted::No);
        }
        self.emit(Fact::ApprovalGranted { step: id.clone(), by: by.clone() }, note_content);
        if is_step {
            let output = json!({ "approved": true, "by": by, "answer": answer.or(note) });
            if !within_depth(&output, JSON_DEPTH_MAX) {
                let message = "the answer nests too deeply".to_owned();
                return self.fail_step(id, "output_too_deep", message, Acted::No);
            }
            if let Some(message) = self.too_large(&output) {
                return self.fail_step(id, "output_too_large", message, Acted::No);
            }
            self.settle(id, &Arc::new(output));
        }
    }

    fn child_finished(&mut self, id: &StepId, outcome: Outcome, spent: MicroUsd, output: Value) {
        let Some(step) = self.run.step(id) else { return };
        if step.kind != StepKind::Child {
            return;
        }
        let hold = step.grant.as_ref().map_or(MicroUsd::ZERO, |grant| grant.hold);
        let spent = spent.max(MicroUsd::ZERO).min(hold);
        if step.owed().is_some() {
            let unconfirmed = MicroUsd::ZERO;
            return self.emit(Fact::StepCharged { step: id.clone(), cost: spent, unconfirmed }, None);
        }
        if !matches!(step.state, StepState::Waiting { .. }) {
            return;
        }
        if !within_depth(&output, JSON_DEPTH_MAX) {
            let message = "the child's output nests too deeply".to_owned();
            return self.fail_child(id, "output_too_deep", message, spent);
        }
        if let Some(message) = self.too_large(&output) {
            return self.fail_child(id, "output_too_large", message, spent);
        }
        if outcome == Outcome::Succeeded {
            return self.settle_with(id, Content::Output(Arc::new(output)), spent, None);
        }
        let code = output.get("code").and_then(Value::as_str).unwrap_or("child_failed").to_owned();
        let message = output.get("message").map(crate::template::as_text).unwrap_or_default();
        // Who cancelled the child did not want it done again.
        match self.child_again(id, &code).filter(|_| outcome == Outcome::Failed) {
            Some(due) => self.start_again(id, (code, message), spent, due),
            None => self.fail_child(id, &code, message, spent),
        }
    }

    /// When a child that failed is started again, as another run: only where its step says so, because it costs as much again.
    fn child_again(&self, id: &StepId, code: &str) -> Option<At> {
        let step = self.run.step(id)?;
        let retry = program::def_of(&self.run, step)?.retry.as_ref()?;
        let left = step.attempt < self.context.limits.attempts_per_step_max;
        if !left || retry.non_retryable.iter().any(|never| never == code) {
            return None;
        }
        let salt = format!("{}|{id}", self.run.id);
        let (at, longest) = (self.context.at, self.context.limits.wait_max);
        retry.due(step.failures + 1, &Wait { at, asked: None, longest, salt: &salt })
    }

    fn start_again(&mut self, id: &StepId, (code, message): (String, String), cost: MicroUsd, due: At) {
        let Some(step) = self.run.step(id) else { return };
        let (generation, acted) = (step.generation + 1, Acted::Yes);
        let bill = Bill { cost, ..Bill::default() };
        let (crashed, elsewhere) = (false, false);
        self.make_again(id, GivenUp { generation, code, acted, due, crashed, bill, elsewhere }, message);
    }

    /// A failed child is charged what it spent, not its whole hold.
    fn fail_child(&mut self, id: &StepId, code: &str, message: String, cost: MicroUsd) {
        let Some(step) = self.run.step(id) else { return };
        let fact = Fact::StepFailed {
            step: id.clone(),
            kind: step.kind,
            name: crate::step::name_of(step.work.as_ref()),
            generation: step.generation,
            attempt: step.attempt,
            code: code.to_owned(),
            acted: Acted::Unknown,
            cost,
            unconfirmed: MicroUsd::ZERO,
            tokens_in: 0,
            tokens_out: 0,
            owing: false,
            tells_by: None,
        };
        self.emit(fact, Some(Content::Error(message)));
    }
}

/// Names a sender's key for signals of this name. The run is part of it, so that journals do not tell who sent to several
/// runs.
pub fn signal_key(run: RunId, name: &str, key: &str) -> Digest {
    Digest::of_parts(&[run.to_string().as_bytes(), name.as_bytes(), key.as_bytes()])
}

/// Whether `by` is among the approvers of what a step asks for, when it names any.
pub fn may_decide(work: Option<&Work>, by: &str) -> bool {
    match work {
        Some(Work::Approval { approvers, .. }) if !approvers.is_empty() => {
            approvers.iter().any(|approver| approver.eq_ignore_ascii_case(by))
        }
        _ => true,
    }
}
