//! Questions to people, as a list of them is kept beside the journals: what events ask, decide or drop.
//!
//! Invariant: derived from events alone, so that the list can be made again from any journal. A step asks at most once;
//! whether a cap may be passed is asked once for each account, and decided there.

use lantern_types::approval::{Asked, Change, Closed, Status};
use lantern_types::{ApprovalId, Digest, RunId, uuid8};

use crate::event::{Event, Fact, StepId, StepKind};
use crate::run::{Run, Step, StepState, Work};

/// The id of the question of this step.
pub fn id(run: RunId, step: &StepId) -> ApprovalId {
    ApprovalId::from_uuid(uuid8(Digest::of(format!("approval|{run}|{step}").as_bytes())))
}

/// What these events of a run do to its questions; `run` is the run after them.
pub fn changes(run: &Run, events: &[Event]) -> Vec<Change> {
    events.iter().filter_map(|event| change(run, event)).collect()
}

/// The questions that are open in a run with these events.
pub fn open(run: &Run, events: &[Event]) -> Vec<Asked> {
    // Most runs ask nobody.
    if !run.open_steps().any(asks) {
        return Vec::new();
    }
    let asked = events.iter().filter_map(|event| asked(run, event));
    asked.filter(|asked| run.step_named(&asked.step).is_some_and(asks)).collect()
}

/// Whether this step waits for a person's decision.
pub fn asks(step: &Step) -> bool {
    match step.state {
        StepState::AwaitingApproval { .. } => true,
        StepState::Waiting { .. } => step.kind == StepKind::Approval,
        _ => false,
    }
}

fn asked(run: &Run, event: &Event) -> Option<Asked> {
    let Fact::ApprovalAsked { step, due } = &event.fact else { return None };
    Some(Asked {
        id: id(run.id, step),
        step: step.as_str().to_owned(),
        seq: seq(event),
        at: event.at,
        due: *due,
    })
}

fn change(run: &Run, event: &Event) -> Option<Change> {
    let (step, status) = match &event.fact {
        Fact::ApprovalAsked { .. } => return asked(run, event).map(Change::Asked),
        Fact::CapAsked { step, over } => {
            let (step, over) = (step.as_str().to_owned(), over.clone());
            return Some(Change::OverCap { step, seq: seq(event), at: event.at, over });
        }
        Fact::ApprovalGranted { step, .. } => (step, Status::Granted),
        Fact::ApprovalDenied { step, by } if by.is_empty() => (step, Status::Expired),
        Fact::ApprovalDenied { step, .. } => (step, Status::Denied),
        Fact::StepAbandoned { step, .. } if may_have_asked(run, step) => (step, Status::Withdrawn),
        _ => return None,
    };
    Some(Change::Closed(Closed { id: id(run.id, step), status, seq: seq(event), at: event.at }))
}

/// Whether a step that was dropped may have waited for a person: those that never ask cost nothing more.
fn may_have_asked(run: &Run, step: &StepId) -> bool {
    run.step(step).is_some_and(|step| match &step.work {
        Some(Work::Tool { name, .. }) => run.manifest.tool(name).is_some_and(|tool| tool.approval),
        Some(_) => step.kind == StepKind::Approval,
        None => matches!(step.kind, StepKind::Approval | StepKind::Tool),
    })
}

fn seq(event: &Event) -> i64 {
    i64::try_from(event.seq).unwrap_or(i64::MAX)
}
