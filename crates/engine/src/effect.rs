//! What the world must do because of an event. Derivable again after any crash, from the run and the event alone.
//!
//! The run is a parameter because prompts are stored once, in the events that first said them, and not again with
//! every request (ADR 0003).

use std::sync::Arc;

use lantern_types::{Digest, MicroUsd, RunId, uuid8};
use serde_json::Value;

use crate::carried::Carried;
use crate::decide::is_asked;
use crate::event::{Content, Continues, Event, Fact, Outcome, Parent, StepId};
use crate::input::Arrival;
use crate::run::{Run, Step, Work};

/// Something for the outside to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Perform the step under its key.
    Perform(StepId),
    /// Ask the step's other side whether what was sent under its key happened.
    Reconcile(StepId),
    /// Start a run: a child step's, or this run's continuation. Idempotent by `run`.
    StartRun {
        /// The id it must have.
        run: RunId,
        /// Whom it answers to: this run's step, or whoever this run's continuation inherits.
        parent: Parent,
        /// What a continuation goes on from.
        continues: Option<Continues>,
        /// What an agent carries on from it.
        carried: Option<Arc<Carried>>,
        /// The child step; `None` for a continuation.
        step: Option<StepId>,
        /// The agent; `None` for this run's own version.
        agent: Option<String>,
        /// What it is asked.
        input: Value,
        /// The most it may spend.
        cap: MicroUsd,
    },
    /// Ask a run that this one started to stop.
    CancelRun(RunId),
    /// Tell the run that started this one how it ended.
    TellParent {
        /// The parent.
        run: RunId,
        /// What to put in its inbox.
        arrival: Box<Arrival>,
    },
}

/// The id of the run that a child step starts: the same after any crash.
pub fn child_run(run: RunId, step: &StepId, generation: u32) -> RunId {
    RunId::from_uuid(uuid8(Digest::of(format!("child|{run}|{step}|{generation}").as_bytes())))
}

/// The id of the run that a run goes on as, if it does: the same after any crash.
pub fn continuation(run: RunId) -> RunId {
    child_run(run, &StepId::new("continue"), 1)
}

/// What must be done because of `event`; `run` is the run after it.
pub fn effects(run: &Run, event: &Event) -> Vec<Effect> {
    match &event.fact {
        Fact::StepAdmitted { step, grant, generation, .. } => {
            match run.step(step).and_then(|s| s.work.as_ref()) {
                Some(Work::Child { agent, input }) => vec![Effect::StartRun {
                    run: child_run(run.id, step, *generation),
                    parent: Parent { run: run.id, step: Some(step.clone()), generation: Some(*generation) },
                    continues: None,
                    carried: None,
                    step: Some(step.clone()),
                    agent: Some(agent.clone()),
                    input: input.clone(),
                    cap: grant.hold,
                }],
                _ => vec![Effect::Perform(step.clone())],
            }
        }
        Fact::StepReissued { step, .. } => vec![Effect::Perform(step.clone())],
        Fact::StepInDoubt { step, .. } => run.step(step).and_then(question).into_iter().collect(),
        Fact::StepAbandoned { step, .. } => stop_child(run, step),
        Fact::StepFailed { step, code, .. } if code == "timeout" => stop_child(run, step),
        Fact::ContinuedAsNew { run: next } => {
            let left = run.cap.minus(run.cost()).unwrap_or_default().max(MicroUsd::ZERO);
            let (input, carried) = match &event.content {
                Some(Content::Input(input)) => (Value::clone(input), None),
                Some(Content::Carried { input, carried }) => (Value::clone(input), Some(carried.clone())),
                _ => (Value::Null, None),
            };
            let before = run.continues.map_or((0, MicroUsd::ZERO), |before| (before.count, before.spent));
            let spent = before.1.plus(run.cost()).unwrap_or(before.1);
            let continues = Some(Continues { run: run.id, count: before.0 + 1, spent });
            let inherited = run.parent.clone().filter(|parent| parent.step.is_some());
            let parent = inherited.unwrap_or(Parent { run: run.id, step: None, generation: None });
            vec![Effect::StartRun {
                run: *next,
                parent,
                continues,
                carried,
                step: None,
                agent: None,
                input,
                cap: left,
            }]
        }
        Fact::Finished { outcome, .. } => tell_parent(run, *outcome),
        _ => Vec::new(),
    }
}

/// The questions that a run in doubt still has. They are asked anew whenever a worker takes it up, because no event tells
/// of a question that was cut short or had no answer.
pub fn questions(run: &Run) -> Vec<Effect> {
    run.open_steps().filter_map(question).collect()
}

fn question(step: &Step) -> Option<Effect> {
    is_asked(step).then(|| Effect::Reconcile(step.id.clone()))
}

fn stop_child(run: &Run, step: &StepId) -> Vec<Effect> {
    match run.step(step) {
        // Each try is admitted once: one that waits to be made has started nothing.
        Some(Step { id, attempt, generation, work: Some(Work::Child { .. }), .. })
            if attempt >= generation =>
        {
            vec![Effect::CancelRun(child_run(run.id, id, *generation))]
        }
        _ => Vec::new(),
    }
}

/// A run that went on as a new one leaves the answer to it.
fn tell_parent(run: &Run, outcome: Outcome) -> Vec<Effect> {
    if run.continued {
        return Vec::new();
    }
    let Some(Parent { run: parent, step: Some(step), generation }) = run.parent.clone() else {
        return Vec::new();
    };
    let output = match (&run.output, &run.error) {
        (Some(output), _) => Value::clone(output),
        (None, Some((code, message, _))) => serde_json::json!({ "code": code, "message": message }),
        (None, None) => Value::Null,
    };
    let before = run.continues.map_or(MicroUsd::ZERO, |before| before.spent);
    let spent = run.cost().plus(before).unwrap_or(before);
    let arrival = Arrival::ChildFinished { step, generation, outcome, spent, output };
    vec![Effect::TellParent { run: parent, arrival: Box::new(arrival) }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_id_is_a_version_8_uuid_that_depends_on_all_of_its_key() {
        let run: RunId = "018f0000-0000-7000-8000-000000000001".parse().unwrap();
        let step = StepId::new("a");
        let id = child_run(run, &step, 1);
        assert_eq!((id.uuid().get_version_num(), id.uuid().get_variant()), (8, uuid_variant()));
        assert_eq!(id, child_run(run, &step, 1));
        assert_ne!(id, child_run(run, &step, 2));
        assert_ne!(id, child_run(run, &StepId::new("b"), 1));
    }

    fn uuid_variant() -> uuid::Variant {
        uuid::Variant::RFC4122
    }
}
