//! What must hold of everything that became durable and everything that was sent. Asks neither engine nor policy what
//! is allowed.

use std::collections::BTreeMap;

use lantern_engine::{Event, Fact, Outcome, ProgramKind, Run, continuation};
use lantern_store::approvals::{self, ApprovalFilter};
use lantern_store::inbox::CONTINUES;
use lantern_store::journal::RunRow;
use lantern_store::outbox::{self, Turns};
use lantern_types::approval::Status;
use lantern_types::{Dur, EffectClass, MicroUsd, RunId, TenantId};
use serde_json::Value;

use super::edges::Call;
use super::place::{Place, Told, unread};
use crate::check::{Checked, demand};

/// Cheap, and true at any instant.
pub(super) async fn while_running(place: &Place) -> Checked {
    for (told, row) in place.everything().await? {
        demand(row.held >= MicroUsd::ZERO && row.spent >= MicroUsd::ZERO, "money", || {
            format!("{}", told.id)
        })?;
        demand(row.finished_at.is_none() || row.owner.is_none(), "owner leaks", || format!("{}", told.id))?;
    }
    Ok(())
}

/// Everything, once nothing moves any more.
pub(super) async fn at_rest(place: &Place) -> Checked {
    let mut calls: BTreeMap<RunId, Vec<Call>> = BTreeMap::new();
    for call in place.edges.calls() {
        calls.entry(call.key.run).or_default().push(call);
    }
    let answered = place.edges.answered();
    for (told, row) in place.everything().await? {
        let (run, events, chain) = place.folded(&told, &row).await?;
        demand(row.chain == chain, "chain", || format!("{}: the row names another head", told.id))?;
        projection(&run, &row)?;
        demand(row.finished_at.is_none() || row.held == run.unconfirmed, "hold leaks", || {
            format!("{}", told.id)
        })?;
        journal(&run, &events)?;
        schema(&run)?;
        let sent = calls.remove(&told.id).unwrap_or_default();
        let tenant = place.tenants.get(told.tenant).map(|tenant| tenant.id);
        outside(&run, &events, &sent, tenant)?;
        questions(place, &told, &events).await?;
        if !place.jumps {
            // It looks at how long something took, which such a clock does not tell.
            dropped(&run, &events, &answered)?;
        }
        people(place, &told, &events).await?;
    }
    heeded(place).await?;
    demand(calls.is_empty(), "strays", || format!("calls of runs that nobody knows: {:?}", calls.keys()))?;
    let due = outbox::take(&place.db, &mut Turns::default(), far(place), Dur::from_secs(1), 1_000).await;
    let due = due.map_err(unread)?;
    demand(due.is_empty(), "outbox", || format!("{} rows were never delivered", due.len()))
}

/// Who was told that a chain of runs is asked to stop was told the truth: at most one run follows that had yet to begin, and it
/// does nothing.
async fn heeded(place: &Place) -> Checked {
    let rows: BTreeMap<RunId, RunRow> =
        place.everything().await?.into_iter().map(|(_, row)| (row.id, row)).collect();
    for (told, at) in &place.cancelled {
        let follows = |run: &&RunRow| {
            let next = rows.get(&continuation(run.id));
            next.filter(|next| next.trigger_kind == CONTINUES)
        };
        let chain = std::iter::successors(rows.get(&told.id), follows);
        let later: Vec<&RunRow> = chain.filter(|run| run.created_at > *at).collect();
        let stopped = later.iter().all(|run| run.status == "cancelled");
        demand(later.len() <= 1 && stopped, "orders-stay-with-their-chain", || {
            let later: Vec<_> = later.iter().map(|run| (run.id, &run.status)).collect();
            format!("{} was to stop at {at}, and then there were {later:?}", told.id)
        })?;
    }
    Ok(())
}

fn far(place: &Place) -> lantern_types::At {
    place.clock.now() + Dur::from_secs(1_000_000)
}

fn projection(run: &Run, row: &RunRow) -> Checked {
    let folded = (run.status().as_str(), run.spent, run.held, run.seq, run.tokens_in, run.tokens_out);
    let count = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let stored = (
        row.status.as_str(),
        row.spent,
        row.held,
        count(row.version),
        count(row.tokens_in),
        count(row.tokens_out),
    );
    demand(folded == stored, "projection", || format!("{}: {folded:?} and {stored:?}", run.id))
}

/// The rows of a run's questions say what its journal says, and nobody else has them.
async fn questions(place: &Place, told: &Told, events: &[Event]) -> Checked {
    let mut asked: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for event in events {
        let (step, status) = match &event.fact {
            Fact::ApprovalAsked { step, .. } => {
                asked.insert(step.as_str(), (event.seq, "pending"));
                continue;
            }
            Fact::ApprovalGranted { step, .. } => (step, "granted"),
            Fact::ApprovalDenied { step, by } if by.is_empty() => (step, "expired"),
            Fact::ApprovalDenied { step, .. } => (step, "denied"),
            Fact::StepAbandoned { step, .. } => (step, "withdrawn"),
            _ => continue,
        };
        if let Some(open) = asked.get_mut(step.as_str()).filter(|open| open.1 == "pending") {
            open.1 = status;
        }
    }
    let want: Vec<(String, u64, &str)> =
        asked.into_iter().map(|(step, (seq, status))| (step.to_owned(), seq, status)).collect();
    let pending = want.iter().find(|(.., status)| *status == "pending");
    demand(pending.is_none(), "questions", || format!("{}: {pending:?} is over and asks", told.id))?;
    for (n, tenant) in place.tenants.iter().enumerate() {
        let filter = ApprovalFilter {
            statuses: Status::ALL.to_vec(),
            run: Some(told.id),
            limit: 10_000,
            ..ApprovalFilter::default()
        };
        let rows = approvals::list(&place.db, tenant.scope, filter).await.map_err(unread)?;
        let mut found: Vec<(String, u64, &str)> = rows
            .into_iter()
            .map(|row| (row.step, u64::try_from(row.asked_seq).unwrap_or_default(), row.status.as_str()))
            .collect();
        found.sort();
        let want = if n == told.tenant { want.as_slice() } else { &[] };
        demand(found == want, "questions", || format!("{}: {found:?}, and not {want:?}", told.id))?;
    }
    Ok(())
}

fn journal(run: &Run, events: &[Event]) -> Checked {
    let numbered = events.iter().zip(1..).all(|(event, seq)| event.seq == seq);
    demand(numbered, "sequence", || run.id.to_string())?;
    let ends = events.iter().filter(|event| matches!(event.fact, Fact::Finished { .. })).count();
    let last = matches!(events.last().map(|event| &event.fact), Some(Fact::Finished { .. }));
    demand(ends == 1 && last, "one end", || run.id.to_string())?;
    let mut spent = MicroUsd::ZERO;
    for event in events {
        let cost = match &event.fact {
            Fact::StepSettled { cost, .. }
            | Fact::StepFailed { cost, .. }
            | Fact::StepAbandoned { cost, .. }
            | Fact::CallMetered { cost, .. }
            | Fact::StepCharged { cost, .. } => *cost,
            _ => MicroUsd::ZERO,
        };
        spent = spent.plus(cost).unwrap_or(MicroUsd::from_micros(i64::MAX));
        demand(spent <= run.cap, "cap", || {
            format!("{} spent {spent} of {} at event {}", run.id, run.cap, event.seq)
        })?;
    }
    Ok(())
}

/// The schemas of this world ask for an object.
fn schema(run: &Run) -> Checked {
    let succeeded = run.phase == lantern_engine::Phase::Over(Outcome::Succeeded) && !run.continued;
    if !succeeded || run.program != ProgramKind::Agent || run.manifest.output_schema.is_none() {
        return Ok(());
    }
    let said = run.output.as_ref().and_then(|output| output.get("structured"));
    demand(said.is_some_and(Value::is_object), "schemas-are-kept", || format!("{}: {said:?}", run.id))
}

/// The step that a call was made for: another model of the same provider is asked under a key of its own, the step's id with `@` and
/// the model behind it.
fn step_of(call: &Call) -> &str {
    call.key.step.split('@').next().unwrap_or_default()
}

/// What was sent, against what was durable when it was sent.
fn outside(run: &Run, events: &[Event], calls: &[Call], tenant: Option<TenantId>) -> Checked {
    let mut sends: BTreeMap<String, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        demand(Some(call.tenant) == tenant, "tenants", || {
            format!("{} was performed for a stranger", call.key)
        })?;
        sends.entry(format!("{}|{}", step_of(call), call.key.generation)).or_default().push(call);
    }
    for (key, sent) in sends {
        let Some(first) = sent.first() else { continue };
        let permits = |event: &&Event| match &event.fact {
            Fact::StepAdmitted { step, generation, .. } | Fact::StepReissued { step, generation, .. } => {
                step.as_str() == step_of(first) && *generation == first.key.generation
            }
            _ => false,
        };
        let permitted: Vec<&Event> = events.iter().filter(permits).collect();
        demand(sent.len() <= permitted.len(), "permits", || format!("{key} sent {} times", sent.len()))?;
        for (call, permit) in sent.iter().zip(&permitted) {
            demand(permit.at <= call.at, "durable first", || {
                format!("{key} was sent before it was admitted")
            })?;
        }
        let acted = calls.iter().filter(|call| step_of(call) == step_of(first) && call.acted).count();
        let repeats =
            matches!(first.effect, EffectClass::Pure | EffectClass::Idempotent | EffectClass::Keyed);
        // Under whichever keys: what did not happen is sent again under a new one.
        demand(repeats || (sent.len() <= 1 && acted <= 1), "double act", || {
            format!("{key} was sent {} times; its step acted {acted} times", sent.len())
        })?;
        let settled = events.iter().find(
            |event| matches!(&event.fact, Fact::StepSettled { step, .. } if step.as_str() == step_of(first)),
        );
        let late = settled.and_then(|settled| sent.iter().find(|call| call.at > settled.at));
        demand(late.is_none(), "repeated after settling", || key.clone())?;
    }
    let ended = events.last().map(|event| event.at);
    let cancelled = run.phase == lantern_engine::Phase::Over(Outcome::Cancelled);
    let after = calls.iter().find(|call| ended.is_some_and(|ended| call.at > ended));
    demand(after.is_none(), if cancelled { "cancelled means stopped" } else { "after the end" }, || {
        run.id.to_string()
    })
}

/// How long a process may go on with work that another one's append has dropped: until it learns that it lost the run.
const UNTOLD: Dur = Dur::from_secs(3);

/// Work that is no longer wanted does not go on.
fn dropped(
    run: &Run,
    events: &[Event],
    answered: &[(lantern_types::EffectKey, lantern_types::At)],
) -> Checked {
    for event in events {
        let Fact::StepAbandoned { step, .. } = &event.fact else { continue };
        let late = |(key, at): &&(lantern_types::EffectKey, lantern_types::At)| {
            key.run == run.id && key.step == step.as_str() && *at > event.at + UNTOLD
        };
        let late = answered.iter().find(late);
        demand(late.is_none(), "dropped means stopped", || format!("{}: {step} went on to its end", run.id))?;
    }
    Ok(())
}

/// What its owner and a stranger see of a run.
async fn people(place: &Place, told: &Told, events: &[Event]) -> Checked {
    let wrong = |detail: String| crate::check::Violation { rule: "answers", detail };
    let path = format!("/v1/runs/{}", told.id);
    let (status, _) = place.ask(1 - told.tenant, "GET", &path, None).await.map_err(wrong)?;
    demand(status == 404, "strangers", || format!("{path}: {status} for another tenant"))?;
    let (status, stream) =
        place.ask(told.tenant, "GET", &format!("{path}/events"), None).await.map_err(wrong)?;
    let text = stream.as_str().unwrap_or_default();
    let shown: Vec<usize> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    // Each event once and in order, and the end after them.
    let whole = shown.iter().copied().eq(1..=events.len() + 1);
    demand(status == 200 && whole, "stream", || format!("{path}: {shown:?} of {} events", events.len()))?;
    demand(text.contains("event: end\n"), "stream", || format!("{path}: no end"))
}
