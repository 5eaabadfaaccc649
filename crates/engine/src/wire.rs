//! The event stream's frames: one pure, total map from a stored event to the contract's JSON.
//!
//! Every event has one frame `{seq, kind, stepId?, attempt, payload, createdAt, runId, data, ts}`; `payload` and `data`
//! are the same value, because the contract's clients read either. Kinds are the contract's where it has one, else the
//! variant's name in `snake_case`.

mod facts;

use lantern_types::approval::{CapAnswer, OverCap};
use lantern_types::{Grant, MicroUsd, RunId};
use serde_json::{Map, Value, json};

use crate::effect::child_run;
use crate::event::{Content, Event, Fact, Outcome, StepKind};
use crate::fork::Reuse;
use crate::run::Work;

/// Text longer than this many bytes is cut in a frame; the whole of it is in the journal.
const TEXT_MAX: usize = 64 * 1024;

/// A frame's `kind`, which is also the stream's `event:` line.
pub fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::RunStarted { .. } => "run_started",
        Fact::StepRequested { kind: StepKind::Sleep, .. } => "sleep_started",
        Fact::StepRequested { kind: StepKind::Signal, .. } => "signal_waiting",
        Fact::StepRequested { kind: StepKind::Child, .. } => "child_started",
        Fact::StepRequested { .. } => "step_started",
        Fact::StepAdmitted { .. } => "step_admitted",
        Fact::StepDenied { .. } => "step_denied",
        Fact::StepSettled { kind: StepKind::Sleep, .. } => "sleep_completed",
        Fact::StepSettled { kind: StepKind::Child, .. } => "child_completed",
        Fact::StepSettled { .. } => "step_completed",
        Fact::StepReused { end: Reuse::Settled, .. } => "step_completed",
        Fact::StepReused { end: Reuse::Failed, .. } => "step_failed",
        Fact::StepFailed { .. } => "step_failed",
        Fact::StepRetrying { .. } => "step_retrying",
        Fact::StepReadmitted { .. } => "step_readmitted",
        Fact::StepReissued { .. } => "step_reissued",
        Fact::StepInDoubt { .. } => "step_in_doubt",
        Fact::StepResolved { .. } => "step_resolved",
        Fact::StepAbandoned { .. } => "step_abandoned",
        Fact::StepCharged { .. } => "step_charged",
        Fact::ApprovalAsked { .. } => "approval_requested",
        Fact::ApprovalGranted { .. } => "approval_granted",
        Fact::ApprovalDenied { .. } => "approval_denied",
        Fact::CapAsked { .. } => "budget_asked",
        Fact::CapAnswered { .. } => "budget_answered",
        Fact::SignalReceived { .. } => "signal_received",
        Fact::CallMetered { .. } => "model_called",
        Fact::CancelRequested { .. } => "cancel_requested",
        Fact::Paused { .. } | Fact::Halted { .. } => "paused",
        Fact::Resumed { .. } | Fact::StopLifted { .. } => "resumed",
        Fact::ProgressBlocked { .. } => "progress_blocked",
        Fact::ContinuedAsNew { .. } => "continued_as_new",
        Fact::RunEnding { .. } => "run_ending",
        Fact::Finished { outcome: Outcome::Succeeded, .. } => "run_succeeded",
        Fact::Finished { outcome: Outcome::Failed, .. } => "run_failed",
        Fact::Finished { outcome: Outcome::Cancelled, .. } => "run_cancelled",
    }
}

/// The whole frame.
pub fn frame(run: RunId, event: &Event) -> Value {
    let payload = payload(run, event);
    let at = event.at.to_string();
    let mut frame = Map::new();
    frame.insert("seq".into(), event.seq.into());
    frame.insert("kind".into(), kind(&event.fact).into());
    if let Some(step) = event.fact.step() {
        frame.insert("stepId".into(), step.as_str().into());
    }
    frame.insert("attempt".into(), attempt(&event.fact).into());
    frame.insert("payload".into(), payload.clone());
    frame.insert("createdAt".into(), at.clone().into());
    frame.insert("runId".into(), run.to_string().into());
    frame.insert("data".into(), payload);
    frame.insert("ts".into(), at.into());
    Value::Object(frame)
}

fn over_cap(over: &OverCap) -> Value {
    json!({
        "approvalId": over.id().to_string(), "owner": over.owner, "period": over.period,
        "expiresAt": over.ends_at.to_string(), "maxCostUsd": over.cap.to_wire(), "spentUsd": over.spent.to_wire(),
        "holdUsd": over.hold.to_wire(),
    })
}

fn attempt(fact: &Fact) -> u32 {
    match fact {
        Fact::StepAdmitted { attempt, .. }
        | Fact::StepSettled { attempt, .. }
        | Fact::StepFailed { attempt, .. }
        | Fact::StepRetrying { attempt, .. }
        | Fact::StepReissued { attempt, .. } => (*attempt).max(1),
        _ => 1,
    }
}

fn payload(run: RunId, event: &Event) -> Value {
    let content = event.content.as_ref();
    match &event.fact {
        Fact::RunStarted { .. } => started(event),
        Fact::StepRequested { step, kind, name, parent, effect, due, approval, .. } => {
            let mut asked = json!({
                "name": label(event, name.as_deref()), "type": kind, "parent": parent, "effect": effect,
                "due": due.map(|due| due.to_string()), "approval": approval,
                "arguments": match content { Some(Content::Work(work)) => asked(work), _ => Value::Null },
            });
            if let (StepKind::Child, Some(members)) = (kind, asked.as_object_mut()) {
                // The run of its first try; of a later one it is said when that is asked for.
                members.insert("childRunId".to_owned(), child_run(run, step, 1).to_string().into());
            }
            asked
        }
        Fact::StepAdmitted { generation, grant, .. } => admitted(*generation, grant),
        Fact::StepDenied { code, reason, grounds, .. } => {
            let mut said = json!({ "code": code, "error": reason });
            if let Some(grounds) = grounds {
                facts::add_grounds(&mut said, grounds);
            }
            said
        }
        Fact::StepSettled { .. } => settled(event),
        Fact::StepReused { kind, name, code, .. } => reused(event, (*kind, name.as_deref()), code.as_deref()),
        Fact::StepFailed { kind, name, code, acted, cost, unconfirmed, owing, .. } => json!({
            "name": label(event, name.as_deref()), "type": kind, "code": code, "error": words(content),
            "acted": acted, "cost_usd": cost.to_wire(), "unconfirmedUsd": nonzero(*unconfirmed), "owing": owing,
        }),
        Fact::StepRetrying { code, acted, due, generation, crashed, cost, unconfirmed, .. } => json!({
            "code": code, "error": words(content), "acted": acted, "due": due.to_string(), "generation": generation,
            "crashed": crashed, "cost_usd": nonzero(*cost), "unconfirmedUsd": nonzero(*unconfirmed),
        }),
        Fact::StepReadmitted { step, generation, kind: Some(StepKind::Child) } => {
            json!({ "generation": generation, "childRunId": child_run(run, step, *generation).to_string() })
        }
        Fact::StepReadmitted { generation, .. } | Fact::StepReissued { generation, .. } => {
            json!({ "generation": generation })
        }
        Fact::StepInDoubt { code, generation, .. } => {
            json!({ "code": code, "generation": generation, "error": words(content) })
        }
        Fact::StepResolved { happened, by, .. } => json!({ "happened": happened, "by": by }),
        Fact::StepAbandoned { code, cost, unconfirmed, owing, .. } => json!({
            "code": code, "cost_usd": cost.to_wire(), "unconfirmedUsd": nonzero(*unconfirmed), "owing": owing,
        }),
        Fact::StepCharged { cost, unconfirmed, .. } => {
            json!({ "cost_usd": cost.to_wire(), "unconfirmedUsd": nonzero(*unconfirmed) })
        }
        Fact::CapAsked { over, .. } => over_cap(over),
        Fact::CapAnswered { answer: CapAnswer { status, by, more }, .. } => json!({
            "status": status, "by": Some(by).filter(|by| !by.is_empty()), "moreUsd": more.map(MicroUsd::to_wire),
            "restOfPeriod": status == "granted" && more.is_none(),
        }),
        Fact::ApprovalAsked { due, .. } => json!({ "expiresAt": due.to_string() }),
        Fact::ApprovalGranted { by, .. } | Fact::ApprovalDenied { by, .. } => {
            json!({ "by": by, "note": words(content) })
        }
        Fact::SignalReceived { name, .. } => json!({
            "name": name, "value": match content { Some(Content::Signal(value)) => cut(value), _ => Value::Null },
        }),
        Fact::CallMetered { provider, model, cost, tokens_in, tokens_out, lost, .. } => json!({
            "provider": provider, "model": model, "cost_usd": cost.to_wire(), "tokens_in": tokens_in,
            "tokens_out": tokens_out, "lost": lost,
        }),
        Fact::CancelRequested { by } => json!({ "by": by, "reason": words(content) }),
        Fact::Paused { by } | Fact::Resumed { by } => json!({ "by": by }),
        Fact::Halted { stop, scope } => json!({ "stopId": stop, "scope": scope, "reason": words(content) }),
        Fact::StopLifted { stop } => json!({ "stopId": stop }),
        Fact::ProgressBlocked { period, rounds } => json!({ "period": period, "rounds": rounds }),
        Fact::ContinuedAsNew { run } => json!({ "runId": run }),
        Fact::RunEnding { outcome, code, due, .. } => json!({
            "outcome": outcome, "code": code, "due": due.to_string(), "reason": words(content),
        }),
        Fact::Finished { code, .. } => match content {
            Some(Content::Output(output)) => json!({ "output": cut(output) }),
            _ => json!({ "code": code, "reason": words(content) }),
        },
    }
}

fn started(event: &Event) -> Value {
    let Fact::RunStarted { program, depth, cap, parent, forks, recall, .. } = &event.fact else {
        return Value::Null;
    };
    let input = event.content.as_ref().and_then(Content::input).map_or(Value::Null, |input| cut(input));
    let mut started = json!({
        "program": program, "depth": depth, "capUsd": cap.to_wire(),
        "parentRunId": parent.as_ref().map(|parent| parent.run), "input": input,
    });
    if let (Some(forks), Some(members)) = (forks, started.as_object_mut()) {
        let from = json!({ "runId": forks.run, "stepId": forks.step, "replay": forks.replay });
        members.insert("forkedFrom".to_owned(), from);
    }
    if let (Some(recall), Some(members)) = (recall, started.as_object_mut()) {
        members.insert("recalled".to_owned(), json!(recall));
    }
    started
}

/// What the contract calls a step's `name`: the tool, signal or agent, else the step itself.
fn label(event: &Event, name: Option<&str>) -> Value {
    let step = event.fact.step().map(crate::event::StepId::as_str);
    name.or(step).map_or(Value::Null, Value::from)
}

fn settled(event: &Event) -> Value {
    let Fact::StepSettled { kind, name, cost, tokens_in, tokens_out, claimed, provider, model, .. } =
        &event.fact
    else {
        return Value::Null;
    };
    let name = label(event, name.as_deref());
    match &event.content {
        Some(Content::Reply { reply, violations }) => json!({
            "name": name, "type": kind, "result": cut_text(&reply.content), "toolCalls": reply.tool_calls,
            "tokens_in": tokens_in, "tokens_out": tokens_out, "cost_usd": cost.to_wire(),
            "claimed_usd": claimed.map(MicroUsd::to_wire), "provider": provider, "model": model, "finish": reply.finish, "violations": violations,
        }),
        Some(Content::Output(output)) => json!({
            "name": name, "type": kind, "output": cut(output), "cost_usd": nonzero(*cost),
        }),
        _ => json!({ "name": name, "type": kind }),
    }
}

/// A step of the run that this one is a fork of: as it ended there, and for nothing.
fn reused(event: &Event, (kind, name): (StepKind, Option<&str>), code: Option<&str>) -> Value {
    let name = label(event, name);
    match &event.content {
        Some(Content::Reply { reply, violations }) => json!({
            "name": name, "type": kind, "result": cut_text(&reply.content), "toolCalls": reply.tool_calls,
            "tokens_in": 0, "tokens_out": 0, "cost_usd": 0, "model": reply.model, "finish": reply.finish,
            "violations": violations, "reused": true,
        }),
        Some(Content::Output(output)) => {
            json!({ "name": name, "type": kind, "output": cut(output), "cost_usd": 0, "reused": true })
        }
        content => json!({
            "name": name, "type": kind, "code": code, "error": words(content.as_ref()), "cost_usd": 0, "reused": true,
        }),
    }
}

fn admitted(generation: u32, grant: &Grant) -> Value {
    let route = grant.route.as_ref();
    let mut said = json!({
        "generation": generation, "holdUsd": grant.hold.to_wire(),
        "provider": route.map(|r| r.provider.as_str()), "model": route.map(|r| r.model.as_str()),
        "priceSource": route.map(|r| r.price_source), "why": route.and_then(|r| r.why.as_deref()),
    });
    facts::add(&mut said, &grant.facts);
    said
}

fn nonzero(cost: MicroUsd) -> Value {
    if cost == MicroUsd::ZERO { Value::from(0) } else { Value::from(cost.to_wire()) }
}

fn asked(work: &Work) -> Value {
    match work {
        Work::Tool { arguments, .. } => cut(arguments),
        Work::Child { input, .. } => cut(input),
        Work::Approval { reason, approvers } => json!({ "reason": reason, "approvers": approvers }),
        Work::Map { items, concurrency } => json!({ "items": items.len(), "concurrency": concurrency }),
        Work::Turn { turn, .. } => json!({ "turn": turn }),
        Work::Llm { model, .. } => json!({ "model": model }),
        Work::Sleep | Work::Signal { .. } | Work::Race => Value::Null,
    }
}

fn words(content: Option<&Content>) -> Value {
    match content {
        Some(Content::Error(text) | Content::Reason(text)) if !text.is_empty() => cut_text(text),
        _ => Value::Null,
    }
}

fn cut(value: &Value) -> Value {
    match value {
        Value::String(text) => cut_text(text),
        other => {
            let text = other.to_string();
            if text.len() <= TEXT_MAX {
                other.clone()
            } else {
                json!({ "truncated": true, "preview": cut_text(&text) })
            }
        }
    }
}

fn cut_text(text: &str) -> Value {
    if text.len() <= TEXT_MAX {
        return Value::from(text);
    }
    let end = (0..=TEXT_MAX).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
    Value::from(format!("{}…", text.get(..end).unwrap_or_default()))
}
