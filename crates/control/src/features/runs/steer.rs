//! Steering runs that somebody else drives: cancel, pause, resume, signals, decisions, findings.
//!
//! Invariant: everything goes through the run's inbox, sealed. "Accepted" means that it lies there durably; whether it
//! still means anything is decided by whoever takes it in, and by the checks here as far as they can see. Cancel, pause
//! and resume mean a chain of continuations, follow it to its open end and stay with it; everything else means one run and its
//! steps.

use lantern_edge::{Code, Error, Result};
use lantern_engine::{
    Arrival, Step, StepId, StepKind, StepState, Work, continuation, may_decide, signal_key,
};
use lantern_policy::{Actor, Principal, Scope};
use lantern_store::inbox::{self, Kept, NewInput, Put};
use lantern_store::journal::{self, RunRow};
use lantern_store::outbox;
use lantern_types::{Dur, InboxId, RunId};
use serde_json::Value;

use super::model::{Decision, Finding};
use super::{give_up, history, service};
use crate::App;

/// How long an answer waits for what it asked for.
const WAIT_MAX: Dur = Dur::from_secs(2);
/// How long in all, when the run is cancelled and only waits to hear what its children spent. Most tell at once.
const SETTLING_WAIT_MAX: Dur = Dur::from_secs(10);
/// How often it looks without being told.
const POLL: Dur = Dur::from_millis(250);
const NAME_BYTES_MAX: usize = 200;
/// How the names begin under which runs are told things by the server itself.
const OURS: &str = "lantern:";
const PAUSED: &str = "paused";

/// Who asks, as the journal records it.
pub(crate) fn by(actor: &Actor) -> String {
    match &actor.principal {
        Principal::User { email, .. } => email.clone(),
        Principal::Key { id, .. } => format!("api-key:{id}"),
    }
}

/// Asks a run to stop, and waits a moment for it to have done so, and longer while it only waits for its children. One that
/// nobody can go on with is given up. Answers which run of its chain that was.
pub(crate) async fn cancel(
    app: &App,
    scope: Scope,
    run: RunId,
    by: String,
    reason: Option<String>,
) -> Result<RunId> {
    let order = (give_up::CANCEL.to_owned(), Arrival::Cancel { by, reason });
    let run = ask(app, scope, run, order, |_, now| give_up::at_rest(app, now)).await?;
    let row = service::head(app, scope, run).await?;
    match history::ending(app, scope, &row).await? {
        None => give_up::if_parked(app, scope, run).await?,
        Some(ending) if ending.cancels() => {
            until(app, scope, run, SETTLING_WAIT_MAX, |_| false).await?;
        }
        Some(_) => {}
    }
    Ok(run)
}

/// Asks a run to start nothing new, and waits a moment. Answers which run of its chain that was.
pub(super) async fn pause(app: &App, scope: Scope, run: RunId, by: String) -> Result<RunId> {
    let order = (unique(app, "pause"), Arrival::Pause { by });
    ask(app, scope, run, order, |_, now| now.status == PAUSED || give_up::at_rest(app, now)).await
}

/// Asks a paused run to go on, and waits a moment. Answers which run of its chain that was.
pub(super) async fn resume(app: &App, scope: Scope, run: RunId, by: String) -> Result<RunId> {
    let order = (unique(app, "resume"), Arrival::Resume { by });
    // A run that waits for a person is called paused before and after: there, that somebody looked at it is the answer.
    let reached = |was: &RunRow, now: &RunRow| {
        now.status != PAUSED || now.version > was.version || give_up::at_rest(app, now)
    };
    ask(app, scope, run, order, reached).await
}

/// Puts an order into the inbox of the open run of a chain and waits for it, a moment in all. A run that goes on as a new one
/// before it took the order in leaves it to that one: an order that was put is never lost, however quickly they follow each
/// other.
async fn ask(
    app: &App,
    scope: Scope,
    run: RunId,
    (key, order): (String, Arrival),
    reached: impl Fn(&RunRow, &RunRow) -> bool + Send + Sync,
) -> Result<RunId> {
    let late = app.clock.now() + WAIT_MAX;
    let mut was = open_end(app, scope, run).await?;
    loop {
        if let Some(ending) = history::ending(app, scope, &was).await? {
            // It takes no orders any more, and one to stop has nothing left to do.
            let stops = matches!(order, Arrival::Cancel { .. });
            return if stops { Ok(was.id) } else { Err(ending.refusal(Code::RunEnding)) };
        }
        // The same again for each run on the way: where it lies already it is a repeat.
        let run = put_order(app, scope, was.id, key.clone(), &order).await?;
        let wait = late.since(app.clock.now());
        let now = until(app, scope, run, wait, |now| run == was.id && reached(&was, now)).await?;
        if now.finished_at.is_none() || app.clock.now() >= late {
            return Ok(run);
        }
        let Some(next) = history::went_on_as(app, scope, run).await? else { return Ok(run) };
        let Some(begun) = begun(app, scope, (run, next)).await? else { return Ok(run) };
        if begun.finished_at.is_none() && reached(&begun, &begun) {
            return Ok(begun.id);
        }
        was = begun;
    }
}

/// Sends a run a named value. Of several with the same `key` the run receives the first.
pub(super) async fn signal(
    app: &App,
    scope: Scope,
    run: RunId,
    (name, value): (String, Value),
    key: Option<String>,
) -> Result<()> {
    let row = unfinished(app, scope, run).await?;
    if let Some(ending) = history::ending(app, scope, &row).await? {
        return Err(ending.refusal(Code::RunEnding));
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        let words = format!("a signal's name has 1 to {NAME_BYTES_MAX} bytes");
        return Err(Error::new(Code::InvalidBody, words.clone()).with_field("name", words));
    }
    if name.starts_with(OURS) {
        let words = format!("names that begin with {OURS} are the server's own");
        return Err(Error::new(Code::InvalidBody, words.clone()).with_field("name", words));
    }
    // The inbox drops a repeat while the first lies there, and the run knows it for one ever after.
    let place = match &key {
        // Earlier builds wrote `signal:` and the two as they are, which names `a:b` and `c` as it does `a` and `b:c`.
        Some(key) => format!("signal-{}", signal_key(run, &name, key)),
        None => unique(app, "signal"),
    };
    let (bytes, max) = (value.to_string().len() as u64, app.limits(scope).signal_bytes_max);
    if bytes > max {
        let words = format!("the value has {bytes} bytes; the limit is {max}");
        return Err(Error::new(Code::SignalTooLarge, words));
    }
    let new = sealed(app, scope, (run, place), &Arrival::Signal { name: name.clone(), value, key }).await?;
    let most = Kept {
        count: app.limits(scope).signals_per_run_max.into(),
        bytes: app.limits(scope).signal_bytes_per_run_max,
    };
    let rows_max = app.limits(scope).inbox_rows_max;
    let again = new.clone();
    let put = app.db.write(scope, move |tx| Box::pin(inbox::put_signal(tx, new, rows_max, most))).await?;
    if put != Put::Enough || !waits_for_signal(app, scope, &row, &name).await? {
        return taken(app, scope, (run, put)).await.map(drop);
    }
    // What a step waits for is taken in and gone at once: it is not kept beside the others.
    let put = app.db.write(scope, move |tx| Box::pin(inbox::put(tx, again, rows_max))).await?;
    taken(app, scope, (run, put)).await.map(drop)
}

async fn waits_for_signal(app: &App, scope: Scope, row: &RunRow, name: &str) -> Result<bool> {
    let folded = history::fold(app, scope, row).await?;
    let waits = |step: &Step| matches!(&step.work, Some(Work::Signal { name: waiting }) if waiting == name);
    Ok(folded.open_steps().any(waits))
}

/// Decides an approval that a step waits for.
pub(super) async fn decide(
    app: &App,
    scope: Scope,
    run: RunId,
    (step, by): (String, String),
    decision: Decision,
) -> Result<()> {
    let row = unfinished(app, scope, run).await?;
    let kind = waits_for_approval(app, scope, &row, &step, &by).await?;
    answerable(app, scope, &decision, kind)?;
    let (key, step) = (format!("approval:{step}"), StepId::new(step));
    let Decision { approved: granted, note, answer, more: _ } = decision;
    let arrival = Arrival::Approval { step, granted, by, note, answer };
    let second = (Code::StepNotWaiting, "a decision on this step is on its way already");
    put_first(app, scope, run, key, &arrival, second).await
}

/// Says whether a step in doubt happened.
pub(super) async fn resolve(
    app: &App,
    scope: Scope,
    run: RunId,
    (step, by): (String, String),
    finding: Finding,
) -> Result<()> {
    let row = unfinished(app, scope, run).await?;
    let folded = history::fold(app, scope, &row).await?;
    let found = folded.step_named(&step).ok_or_else(|| no_step(&step))?;
    if found.state != StepState::InDoubt {
        return Err(Error::new(Code::StepNotInDoubt, format!("step {step} is not in doubt")));
    }
    let generation = Some(found.generation);
    let (key, step) = (format!("resolve:{step}:{}", found.generation), StepId::new(step));
    let Finding { happened, output } = finding;
    let arrival = Arrival::Resolution { step, happened, output, by, generation };
    let second = (Code::StepNotInDoubt, "a finding on this step is on its way already");
    put_first(app, scope, run, key, &arrival, second).await
}

/// Refuses an answer that nobody would get.
fn answerable(app: &App, scope: Scope, decision: &Decision, kind: StepKind) -> Result<()> {
    let Some(answer) = &decision.answer else { return Ok(()) };
    let (bytes, most) = (answer.to_string().len() as u64, app.limits(scope).output_bytes_max);
    let (code, words) = if !decision.approved {
        (Code::InvalidBody, "only a yes has an answer; `note` says why it is a no".to_owned())
    } else if kind != StepKind::Approval {
        (Code::InvalidBody, "the step gives what its tool returns, and takes no answer".to_owned())
    } else if bytes > most {
        (Code::InputTooLarge, format!("has {bytes} bytes; the limit (outputBytesMax) is {most}"))
    } else {
        return Ok(());
    };
    Err(Error::new(code, format!("answer: {words}")).with_field("answer", words))
}

/// Of which kind the step is that waits for a decision.
async fn waits_for_approval(app: &App, scope: Scope, row: &RunRow, step: &str, by: &str) -> Result<StepKind> {
    let folded = history::fold(app, scope, row).await?;
    let found = folded.step_named(step).ok_or_else(|| no_step(step))?;
    let waits = match found.state {
        StepState::AwaitingApproval { .. } => true,
        StepState::Waiting { .. } => found.kind == StepKind::Approval,
        _ => false,
    };
    if let Some(over) = found.over_cap.as_ref().filter(|_| found.state == StepState::Requested) {
        let id = over.id();
        let words = format!(
            "step {step} waits for a budget and not for a decision of its run: `lantern approvals grant {id}` lets more \
             be spent, and so does POST /v1/approvals/{id}/grant"
        );
        return Err(Error::new(Code::StepNotWaiting, words));
    }
    if !waits {
        return Err(Error::new(Code::StepNotWaiting, format!("step {step} does not wait for a decision")));
    }
    if !may_decide(found.work.as_ref(), by) {
        return Err(Error::new(Code::NotAnApprover, format!("step {step} names other approvers than {by}")));
    }
    Ok(found.kind)
}

/// The run itself, or the one at the end of the chain that it went on as. `run_finished` when that one is over.
async fn open_end(app: &App, scope: Scope, run: RunId) -> Result<RunRow> {
    let mut row = service::head(app, scope, run).await?;
    for _ in 0..=app.limits(scope).continuations_max {
        if row.finished_at.is_none() {
            return Ok(row);
        }
        let Some(next) = history::went_on_as(app, scope, row.id).await? else { break };
        let Some(begun) = begun(app, scope, (row.id, next)).await? else { break };
        row = begun;
    }
    Err(finished(&row.status))
}

/// The run that another one went on as, which may take a moment to begin. `None` when it is gone or was refused.
async fn begun(app: &App, scope: Scope, (before, run): (RunId, RunId)) -> Result<Option<RunRow>> {
    let mut watch = app.db.hub().subscribe(scope, run);
    let mut late = app.clock.sleep(WAIT_MAX);
    loop {
        // In this order: what is no longer owed when it is asked for is there when it is looked for.
        let coming = outbox::owes_start(&app.db, scope, before, run).await?;
        let row = journal::head(&app.db, scope, run).await?;
        if row.is_some() || !coming {
            return Ok(row);
        }
        tokio::select! {
            biased;
            () = watch.changed() => {}
            () = app.clock.sleep(POLL) => {}
            () = &mut late => {
                let words = "the run went on as a new one that has not begun yet";
                return Err(Error::new(Code::Unavailable, words).retry_after(Dur::from_secs(1)));
            }
        }
    }
}

async fn unfinished(app: &App, scope: Scope, run: RunId) -> Result<RunRow> {
    let row = service::head(app, scope, run).await?;
    if row.finished_at.is_some() { Err(finished(&row.status)) } else { Ok(row) }
}

/// What only the first may say: a second is refused in these words.
async fn put_first(
    app: &App,
    scope: Scope,
    run: RunId,
    key: String,
    arrival: &Arrival,
    second: (Code, &'static str),
) -> Result<()> {
    match put(app, scope, run, key, arrival).await? {
        Put::Duplicate => Err(Error::new(second.0, second.1)),
        _ => Ok(()),
    }
}

async fn put(app: &App, scope: Scope, run: RunId, key: String, arrival: &Arrival) -> Result<Put> {
    let new = sealed(app, scope, (run, key), arrival).await?;
    let rows_max = app.limits(scope).inbox_rows_max;
    let put =
        app.db.write(scope, move |tx| Box::pin(async move { inbox::put(tx, new, rows_max).await })).await?;
    taken(app, scope, (run, put)).await
}

/// Puts an order where the chain of a run will find it. Answers in which run's inbox it lies.
async fn put_order(app: &App, scope: Scope, run: RunId, key: String, order: &Arrival) -> Result<RunId> {
    let new = sealed(app, scope, (run, key), order).await?;
    // An order to stop finds room in a full inbox.
    let more = u32::from(matches!(order, Arrival::Cancel { .. }));
    let rows_max = app.limits(scope).inbox_rows_max.saturating_add(more);
    let (run, put) =
        app.db.write(scope, move |tx| Box::pin(inbox::order(tx, new, rows_max, continuation))).await?;
    taken(app, scope, (run, put)).await.map(|_| run)
}

async fn taken(app: &App, scope: Scope, (run, put): (RunId, Put)) -> Result<Put> {
    match put {
        Put::Stored | Put::Duplicate => Ok(put),
        Put::Full => {
            let words = "the run has too many undelivered inputs";
            Err(Error::new(Code::InboxFull, words).retry_after(Dur::from_secs(1)))
        }
        Put::Enough => {
            let words = "the run keeps as many signals as it may, and nothing in it has waited for them yet";
            Err(Error::new(Code::SignalsFull, words).retry_after(Dur::from_secs(1)))
        }
        // It was there a moment ago, so it has ended since.
        Put::Closed => Err(finished(&service::head(app, scope, run).await?.status)),
    }
}

/// An arrival as a row of a run's inbox, under a key.
pub(super) async fn sealed(
    app: &App,
    scope: Scope,
    to: (RunId, String),
    arrival: &Arrival,
) -> Result<NewInput> {
    let plain = serde_json::to_vec(arrival).map_err(Error::internal)?;
    let minted = (InboxId::from_uuid(app.ids.uuid()), app.clock.now());
    Ok(NewInput::seal(app.vault.sealer(), scope, minted, to, &plain).await?)
}

/// Waits until the run is what was asked for, or over, or has taken its time, and answers what it is then. Other news of
/// it is no answer. A server that stops waits no longer.
async fn until(
    app: &App,
    scope: Scope,
    run: RunId,
    most: Dur,
    reached: impl Fn(&RunRow) -> bool + Send,
) -> Result<RunRow> {
    let mut watch = app.db.hub().subscribe(scope, run);
    let mut late = app.clock.sleep(most);
    loop {
        let row = service::head(app, scope, run).await?;
        if row.finished_at.is_some() || reached(&row) {
            return Ok(row);
        }
        tokio::select! {
            biased;
            () = watch.changed() => {}
            () = app.clock.sleep(POLL) => {}
            () = &mut late => return Ok(row),
            () = app.stop.requested() => return Ok(row),
        }
    }
}

fn unique(app: &App, what: &str) -> String {
    format!("{what}:{}", app.ids.uuid())
}

fn finished(status: &str) -> Error {
    Error::new(Code::RunFinished, format!("the run is over: {status}")).with_extra("runStatus", status)
}

fn no_step(step: &str) -> Error {
    let step: String = step.chars().take(80).collect();
    Error::new(Code::StepNotFound, format!("the run has no step {step:?}"))
}
