//! The fold: what one event does to a run.
//!
//! Total, and without rules: there is no event it refuses. It asserts what can never be otherwise (sequence numbers
//! follow, a run ends once and with nothing open) and crashes rather than corrupts; the worker parks such a run.

use std::sync::Arc;

use lantern_types::{Acted, Tried};
use serde_json::Value;

use super::{Children, Closing, Ending, Phase, Run, Step, StepState, Work};
use crate::event::{Content, Event, Fact, Outcome, StepId, StepKind};
use crate::fork::{Reuse, Shelf};
use crate::manifest::{Manifest, ProgramKind};
use crate::step::json_bytes;

/// Moves the run on by one event. Total: there is no event it refuses.
pub fn evolve(run: &mut Run, event: &Event) {
    assert!(event.seq == run.seq + 1, "event {} does not follow {}", event.seq, run.seq);
    run.seq = event.seq;
    if run.phase == Phase::Active {
        run.started_at.get_or_insert(event.at);
    }
    match &event.fact {
        Fact::RunStarted { .. } => started(run, event),
        Fact::StepRequested { .. } => requested(run, event),
        Fact::StepAdmitted { step, generation, attempt, grant } => {
            run.held = run.held.plus(grant.hold).unwrap_or(run.held);
            if let Some(step) = run.step_mut(step) {
                step.generation = *generation;
                step.attempt = *attempt;
                step.grant = Some(grant.clone());
                step.state = if step.kind == StepKind::Child {
                    StepState::Waiting { due: step.due_at }
                } else {
                    StepState::Performing
                };
            }
        }
        Fact::StepDenied { step, code, reason, .. } => {
            let state = StepState::Failed { code: code.clone(), message: reason.clone() };
            if let Some(step) = run.step_mut(step) {
                step.denied = true;
            }
            run.close(step, state, Closing::default());
        }
        Fact::StepSettled { .. } => settled(run, event),
        Fact::StepReused { .. } => reused(run, event),
        Fact::StepFailed {
            step, code, cost, tokens_in, tokens_out, unconfirmed, owing, tells_by, ..
        } => {
            run.used(*tokens_in, *tokens_out);
            let message = match &event.content {
                Some(Content::Error(message)) => message.clone(),
                _ => String::new(),
            };
            let closing =
                Closing { cost: *cost, unconfirmed: *unconfirmed, owing: *owing, tells_by: *tells_by };
            run.close(step, StepState::Failed { code: code.clone(), message }, closing);
        }
        Fact::StepRetrying { .. } => retrying(run, &event.fact),
        Fact::StepReadmitted { step, .. } => {
            if let Some(step) = run.step_mut(step) {
                step.state = StepState::Requested;
            }
        }
        Fact::StepReissued { step, attempt, .. } => {
            if let Some(step) = run.step_mut(step) {
                step.attempt = *attempt;
                step.resent = true;
                step.state = StepState::Performing;
            }
        }
        Fact::StepInDoubt { step, code, .. } => {
            if let Some(step) = run.step_mut(step) {
                step.doubt = Some(code.clone());
                step.state = StepState::InDoubt;
            }
        }
        Fact::StepAbandoned { step, cost, unconfirmed, owing, tells_by, .. } => {
            let closing =
                Closing { cost: *cost, unconfirmed: *unconfirmed, owing: *owing, tells_by: *tells_by };
            run.close(step, StepState::Abandoned, closing);
        }
        Fact::StepCharged { step, cost, unconfirmed } => run.charge(step, *cost, *unconfirmed),
        Fact::ApprovalAsked { step, due } => {
            if let Some(step) = run.step_mut(step) {
                step.state = match step.kind {
                    StepKind::Approval => StepState::Waiting { due: Some(*due) },
                    _ => StepState::AwaitingApproval { due: *due },
                };
            }
        }
        Fact::ApprovalGranted { step, .. } => {
            if let Some(step) = run.step_mut(step)
                && step.kind != StepKind::Approval
            {
                step.state = StepState::Requested;
            }
        }
        Fact::CapAsked { step, over } => {
            if let Some(step) = run.step_mut(step) {
                step.over_cap = Some(over.clone());
            }
        }
        Fact::CapAnswered { step, .. } => {
            if let Some(step) = run.step_mut(step) {
                step.over_cap = None;
            }
        }
        Fact::CallMetered { call, cost, tokens_in, tokens_out, .. } => {
            run.signal_keys.insert(*call);
            run.used(*tokens_in, *tokens_out);
            run.spend(*cost);
        }
        Fact::SignalReceived { name, key } => {
            let value = match &event.content {
                Some(Content::Signal(value)) => value.clone(),
                _ => Arc::new(Value::Null),
            };
            run.signal_keys.extend(*key);
            run.signal_bytes = run.signal_bytes.saturating_add(json_bytes(&value));
            run.signals.push((name.clone(), value));
        }
        Fact::Paused { .. } => run.paused = true,
        Fact::Resumed { .. } => run.paused = false,
        Fact::RunEnding { .. } => ending(run, event),
        Fact::Halted { stop, .. } => run.halted = Some(*stop),
        Fact::StopLifted { .. } => run.halted = None,
        Fact::Finished { outcome, code, step, .. } => {
            finished(run, event, *outcome, code.as_deref(), step.as_ref());
        }
        Fact::StepResolved { .. }
        | Fact::ApprovalDenied { .. }
        | Fact::CancelRequested { .. }
        | Fact::ProgressBlocked { .. } => {}
        Fact::ContinuedAsNew { .. } => run.continued = true,
    }
}

fn started(run: &mut Run, event: &Event) {
    let Fact::RunStarted {
        agent,
        version,
        program,
        parent,
        depth,
        continues,
        forks,
        trace,
        cap,
        deadline,
        ..
    } = &event.fact
    else {
        return;
    };
    run.agent = Some(*agent);
    run.version = Some(*version);
    run.phase = Phase::Active;
    run.program = *program;
    run.parent.clone_from(parent);
    run.depth = *depth;
    run.continues = *continues;
    run.forks.clone_from(forks);
    run.trace = *trace;
    run.cap = *cap;
    run.deadline = *deadline;
    run.created_at = event.at;
    match &event.content {
        Some(Content::Input(input)) => run.input = input.clone(),
        Some(Content::Carried { input, carried }) => {
            run.input = input.clone();
            run.carried = Some(carried.clone());
        }
        Some(Content::Forked { input, carried, steps }) => {
            run.input = input.clone();
            run.carried.clone_from(carried);
            run.shelf = Shelf::of(steps);
        }
        Some(Content::Recalled { input, recall, steps }) => {
            run.input = input.clone();
            run.recall = Some(recall.clone());
            run.shelf = steps.as_deref().map(Shelf::of).unwrap_or_default();
        }
        _ => {}
    }
    if run.program == ProgramKind::Steps && run.defs.is_empty() {
        let steps = run.input.get("steps").map(Manifest::parse_steps);
        run.defs = Arc::new(steps.and_then(Result::ok).unwrap_or_default());
    }
}

fn requested(run: &mut Run, event: &Event) {
    let Fact::StepRequested { step, kind, parent, effect, due, request, .. } = &event.fact else { return };
    let work = match &event.content {
        Some(Content::Work(work)) => Some(work.clone()),
        _ => None,
    };
    let state = match kind {
        StepKind::Llm | StepKind::Tool | StepKind::Child => StepState::Requested,
        StepKind::Sleep | StepKind::Signal | StepKind::Approval | StepKind::Map | StepKind::Race => {
            StepState::Waiting { due: *due }
        }
    };
    run.shelf.asked(step, *kind, *request);
    run.add(Step {
        id: step.clone(),
        kind: *kind,
        parent: parent.clone(),
        work,
        effect: *effect,
        request: *request,
        output: None,
        state,
        generation: 1,
        attempt: 0,
        failures: 0,
        tried: Vec::new(),
        resent: false,
        doubt: None,
        denied: false,
        over_cap: None,
        grant: None,
        requested_at: event.at,
        due_at: *due,
        tells_by: None,
        children: Children::default(),
    });
}

fn settled(run: &mut Run, event: &Event) {
    let Fact::StepSettled { step, cost, tokens_in, tokens_out, output, .. } = &event.fact else { return };
    run.used(*tokens_in, *tokens_out);
    let consumes = run.step(step).and_then(|step| match &step.work {
        Some(Work::Signal { name }) => Some(name.clone()),
        _ => None,
    });
    if let Some(name) = consumes
        && let Some(n) = run.signals.iter().position(|(waiting, _)| *waiting == name)
    {
        let (_, value) = run.signals.remove(n);
        run.signal_bytes = run.signal_bytes.saturating_sub(json_bytes(&value));
    }
    let state = match &event.content {
        Some(Content::Reply { reply, violations }) => StepState::Settled {
            output: Arc::new(crate::step::reply_output(reply, *tokens_in, *tokens_out, *cost)),
            reply: Some(Arc::new(reply.clone())),
            violations: violations.clone(),
        },
        Some(Content::Output(output)) => {
            StepState::Settled { output: output.clone(), reply: None, violations: Vec::new() }
        }
        _ => StepState::Settled { output: Arc::new(Value::Null), reply: None, violations: Vec::new() },
    };
    run.close(step, state, Closing { cost: *cost, ..Closing::default() });
    if let Some(step) = run.step_mut(step) {
        step.output = Some(*output);
    }
}

fn reused(run: &mut Run, event: &Event) {
    let Fact::StepReused { step: id, end, code, output, .. } = &event.fact else { return };
    // Without the body of the first event, which may have been dropped, there is nothing on the shelf.
    let found = run.shelf.take(id).and_then(|found| found.end.state());
    let state = found.unwrap_or_else(|| match end {
        Reuse::Settled => {
            StepState::Settled { output: Arc::new(Value::Null), reply: None, violations: Vec::new() }
        }
        Reuse::Failed => StepState::Failed { code: code.clone().unwrap_or_default(), message: String::new() },
    });
    if let Some(step) = run.step_mut(id) {
        // It counts as a call of its tool, as it did there.
        step.attempt = 1;
        step.output = *output;
    }
    run.close(id, state, Closing::default());
}

fn retrying(run: &mut Run, fact: &Fact) {
    let Fact::StepRetrying { step, generation, attempt, code, acted, due, crashed, readmit, .. } = fact
    else {
        return;
    };
    let Some(step) = run.step_mut(step) else { return };
    let route = step.grant.as_ref().and_then(|grant| grant.route.as_ref()).filter(|_| !crashed);
    step.tried.extend(route.map(|route| Tried {
        provider: route.provider.clone(),
        model: route.model.clone(),
        key: route.key,
        code: code.clone(),
    }));
    let grown = *generation != step.generation;
    let readmit = grown || *readmit;
    step.generation = *generation;
    step.attempt = attempt.saturating_sub(1);
    step.failures += u32::from(!crashed);
    // A new key was never sent before.
    step.resent = !grown && (step.resent || *acted == Acted::Unknown);
    step.state = StepState::Backoff { due: *due, readmit };
    let grant = if readmit { step.grant.take() } else { None };
    let Fact::StepRetrying { cost, tokens_in, tokens_out, unconfirmed, .. } = fact else { return };
    run.used(*tokens_in, *tokens_out);
    run.spend(*cost);
    run.let_go(grant.as_ref(), *unconfirmed);
}

fn ending(run: &mut Run, event: &Event) {
    let Fact::RunEnding { outcome, code, step, due } = &event.fact else { return };
    assert!(run.open.is_empty(), "a run that ends has no step open");
    let content = event.content.clone().unwrap_or_else(|| Content::Reason(String::new()));
    run.paused = false;
    run.halted = None;
    run.ending =
        Some(Ending { outcome: *outcome, code: code.clone(), step: step.clone(), due: *due, content });
}

fn finished(run: &mut Run, event: &Event, outcome: Outcome, code: Option<&str>, step: Option<&StepId>) {
    assert!(run.phase == Phase::Active, "a run ends once");
    assert!(run.open.is_empty(), "a run ends with no step open");
    run.phase = Phase::Over(outcome);
    run.paused = false;
    run.halted = None;
    run.ending = None;
    run.finished_at = Some(event.at);
    match &event.content {
        Some(Content::Output(output)) => run.output = Some(output.clone()),
        Some(Content::Error(message) | Content::Reason(message)) => {
            run.error = Some((code.unwrap_or("cancelled").to_owned(), message.clone(), step.cloned()));
        }
        _ if outcome != Outcome::Succeeded => {
            run.error = Some((code.unwrap_or("cancelled").to_owned(), String::new(), step.cloned()));
        }
        _ => {}
    }
}
