//! What runs owe to other runs: starting children and continuations, cancelling children, telling parents.
//!
//! Rows are written with the events that ask for them and deleted only once absorbed; each is absorbed once, because a
//! child's id follows from its key and an inbox takes a key once. Several are delivered at once, in no order: an order to
//! stop that finds its run not started yet sees to the start itself.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lantern_engine::{
    Arrival, Carried, Continues, Effect, Event, Fact, Manifest, Outcome, Parent, Run, Start, StepId, effects,
    event, start,
};
use lantern_net::Shutdown;
use lantern_policy::Scope;
use lantern_store::inbox::{NewInput, Put};
use lantern_store::journal::{self, NewRun};
use lantern_store::outbox::{self, Due, Kind, NewOutbox, Turns};
use lantern_store::record::Record;
use lantern_store::seal::Place;
use lantern_store::versions::{self, Version};
use lantern_store::{Error, Result, inbox};
use lantern_types::{ChainHead, Dur, InboxId, MicroUsd, RunId, VersionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Deps, schema};

/// A row is taken again if it was not absorbed within this time, and later each time.
const AGAIN_AFTER: Dur = Dur::from_secs(15);
/// Rows are looked for at least this often.
const POLL: Dur = Dur::from_millis(1_000);
/// Rows that are under way at once. On PostgreSQL each has a connection that requests and runs want, too.
const AT_ONCE: usize = 8;
/// Rows are taken when so many more may be under way: each time costs a transaction.
const ROOM_MIN: usize = 4;

/// What a row says. Sealed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Errand {
    Start(Wanted),
    Tell { run: RunId, arrival: Arrival },
}

/// A run that another run wants: its child, or what it goes on as.
#[derive(Debug, Serialize, Deserialize)]
struct Wanted {
    run: RunId,
    /// The run that it answers to.
    parent: Parent,
    continues: Option<Continues>,
    /// What an agent's continuation carries on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carried: Option<Arc<Carried>>,
    step: Option<StepId>,
    /// A child's agent; a continuation runs its predecessor's version.
    agent: Option<String>,
    version: Option<VersionId>,
    input: Value,
    cap: MicroUsd,
    depth: u32,
}

impl Errand {
    const fn kind(&self) -> Kind {
        match self {
            Self::Start(Wanted { step: Some(_), .. }) => Kind::Start,
            Self::Start(_) => Kind::Continue,
            Self::Tell { arrival: Arrival::Cancel { .. }, .. } => Kind::Stop,
            Self::Tell { .. } => Kind::Tell,
        }
    }
}

/// The key of the row that starts a run, so that whoever knows the run finds it.
fn start_key(run: RunId) -> String {
    format!("start:{run}")
}

/// The rows that these events ask for.
pub(crate) async fn rows(deps: &Deps, scope: Scope, run: &Run, events: &[Event]) -> Result<Vec<NewOutbox>> {
    let mut rows = Vec::new();
    for event in events {
        for (n, effect) in effects(run, event).into_iter().enumerate() {
            let Some(errand) = errand(run, effect) else { continue };
            let id = deps.ids.uuid();
            let plain = serde_json::to_vec(&errand).map_err(|error| Error::Internal(error.into()))?;
            let place = Place { purpose: "outbox", row: id.as_bytes() };
            let payload = deps.vault.sealer().seal(scope, place, &plain).await?;
            let key = match &errand {
                Errand::Start(wanted) => start_key(wanted.run),
                Errand::Tell { .. } => format!("{}.{n}", event.seq),
            };
            rows.push(NewOutbox { id, key, kind: errand.kind(), payload, due_at: deps.clock.now() });
        }
    }
    Ok(rows)
}

fn errand(run: &Run, effect: Effect) -> Option<Errand> {
    match effect {
        Effect::Perform(_) | Effect::Reconcile(_) => None,
        Effect::StartRun { run: id, parent, continues, carried, step, agent, input, cap } => {
            Some(Errand::Start(Wanted {
                run: id,
                parent,
                continues,
                carried,
                version: run.version.filter(|_| agent.is_none()),
                depth: if step.is_some() { run.depth + 1 } else { run.depth },
                step,
                agent,
                input,
                cap,
            }))
        }
        Effect::CancelRun(child) => Some(Errand::Tell {
            run: child,
            arrival: Arrival::Cancel {
                by: format!("run {}", run.id),
                reason: Some("the parent run ended".to_owned()),
            },
        }),
        Effect::TellParent { run: parent, arrival } => Some(Errand::Tell { run: parent, arrival: *arrival }),
    }
}

/// Delivers rows until the process stops, and then those that are under way.
pub(crate) async fn deliver(deps: Arc<Deps>, stopping: Shutdown) {
    let mut wakes = deps.db.hub().workers();
    let (mut turns, mut under_way, mut look) = (Turns::default(), FuturesUnordered::new(), true);
    while !stopping.is_requested() {
        let room = AT_ONCE.saturating_sub(under_way.len());
        if look && room >= ROOM_MIN {
            let due = take(&deps, &mut turns, room).await;
            look = due.len() == room;
            under_way.extend(due.into_iter().map(|row| deliver_one(&deps, row)));
        }
        tokio::select! {
            biased;
            () = stopping.requested() => {}
            Some(()) = under_way.next() => {}
            () = wakes.next() => look = true,
            () = deps.clock.sleep(POLL) => look = true,
        }
    }
    while under_way.next().await.is_some() {}
}

async fn take(deps: &Deps, turns: &mut Turns, room: usize) -> Vec<Due> {
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    let taken = outbox::take(&deps.db, turns, deps.clock.now(), AGAIN_AFTER, room).await;
    taken.unwrap_or_else(|error| {
        tracing::warn!(%error, "the outbox cannot be read now; trying again");
        Vec::new()
    })
}

async fn deliver_one(deps: &Deps, row: Due) {
    let delivered = match perform(deps, &row).await {
        Ok(()) => outbox::done(&deps.db, row.scope, row.id).await,
        failed => failed,
    };
    if let Err(error) = delivered {
        tracing::warn!(run = %row.run, attempts = row.attempts, %error, "not delivered; trying again");
    }
}

async fn perform(deps: &Deps, row: &Due) -> Result<()> {
    match read(deps, row).await? {
        Errand::Tell { run, arrival } => {
            let key = format!("{}|{}", row.run, row.key);
            let to = Addressed { from: row.run, run, key };
            match arrival {
                Arrival::Cancel { .. } => stop(deps, row.scope, to, arrival).await,
                _ => put(deps, row.scope, (to.run, to.key), &arrival).await.map(drop),
            }
        }
        Errand::Start(wanted) => begin(deps, row.scope, wanted, &row.key).await.map(drop),
    }
}

async fn read(deps: &Deps, row: &Due) -> Result<Errand> {
    let place = Place { purpose: "outbox", row: row.id.as_bytes() };
    let plain = deps.vault.sealer().open(row.scope, place, &row.payload).await?;
    serde_json::from_slice(&plain).map_err(|error| Error::Corrupt(error.into()))
}

/// Starts a run, or tells the parent why it cannot be started; `false` then.
async fn begin(deps: &Deps, scope: Scope, wanted: Wanted, key: &str) -> Result<bool> {
    let (parent, step) = (wanted.parent.run, wanted.parent.step.clone());
    let spent = wanted.continues.map_or(MicroUsd::ZERO, |before| before.spent);
    let Err((code, message)) = start_run(deps, scope, wanted).await? else { return Ok(true) };
    let Some(step) = step else {
        tracing::error!(run = %parent, code, message, "a run could not go on as a new one");
        return Ok(false);
    };
    let output = json!({ "code": code, "message": message });
    let arrival = Arrival::ChildFinished { step, outcome: Outcome::Failed, spent, output };
    put(deps, scope, (parent, format!("{parent}|{key}")), &arrival).await?;
    Ok(false)
}

type Refusal = (&'static str, String);

async fn start_run(deps: &Deps, scope: Scope, wanted: Wanted) -> Result<Result<(), Refusal>> {
    let found = match (&wanted.agent, wanted.version) {
        (Some(name), _) => {
            let name = name.clone();
            deps.db.read(scope, move |tx| Box::pin(async move { versions::current(tx, &name).await })).await?
        }
        (None, Some(version)) => versions::by_id(&deps.db, scope, version).await?,
        (None, None) => None,
    };
    // Of an archived agent nothing new begins, but what runs goes on.
    let Some(version) = found.filter(|version| wanted.continues.is_some() || !version.archived) else {
        return Ok(Err(("agent_not_found", "there is no such agent".to_owned())));
    };
    let manifest: Manifest =
        serde_json::from_str(&version.manifest).map_err(|error| Error::Corrupt(error.into()))?;
    if let Some(schema) = &manifest.input_schema {
        let broken = schema::violations(deps.memo.schemas(), schema, &wanted.input).await;
        if !broken.is_empty() {
            return Ok(Err(("input_schema_violated", broken.join("; "))));
        }
    }
    create(deps, scope, wanted, version, manifest).await
}

async fn create(
    deps: &Deps,
    scope: Scope,
    wanted: Wanted,
    version: Version,
    manifest: Manifest,
) -> Result<Result<(), Refusal>> {
    let context = deps.context();
    let cap = manifest.max_cost.map_or(wanted.cap, |own| own.min(wanted.cap));
    let begin = Start {
        agent: version.agent,
        version: version.id,
        manifest: version.digest,
        input: Arc::new(wanted.input),
        parent: Some(wanted.parent.clone()),
        depth: wanted.depth,
        continues: wanted.continues,
        carried: wanted.carried,
        cap,
        policy: lantern_policy::digest(),
        catalogue: deps.catalogue.digest(),
    };
    let decision = match start(Run::new(wanted.run, Arc::new(manifest)), begin, &context) {
        Ok(decision) => decision,
        Err(refused) => return Ok(Err((refused.code, refused.message))),
    };
    let encoded = event::encode(&decision.events).map_err(|error| Error::Internal(error.into()))?;
    let record = Record::seal(&deps.vault, scope, (wanted.run, 1), ChainHead::genesis(), encoded).await?;
    // A continuation is its predecessor under another name: it keeps labels and conversation.
    let before = match wanted.continues {
        Some(before) => journal::head(&deps.db, scope, before.run).await?,
        None => None,
    };
    let (session_id, labels) =
        before.map_or_else(|| (None, "{}".to_owned()), |before| (before.session_id, before.labels));
    let new = NewRun {
        trigger_kind: if wanted.step.is_some() { "subagent" } else { "continue" }.to_owned(),
        parent: Some((
            wanted.parent.run,
            wanted.parent.step.map(|step| step.to_string()).unwrap_or_default(),
        )),
        session_id,
        depth: wanted.depth,
        labels,
        ..version.queued_run(wanted.run, record, context.at)
    };
    let id = wanted.run;
    // A continuation takes the place of the run that it continues.
    let most = wanted.step.is_some().then_some(deps.limits.concurrent_runs_per_tenant_max);
    let created = deps.db.write(scope, move |tx| {
        Box::pin(async move {
            match most {
                Some(most) if journal::full(tx, most).await? => Ok(None),
                _ => journal::create(tx, new).await.map(Some),
            }
        })
    });
    match created.await {
        // An earlier delivery of this row may have started it, and filled the tenant up with it.
        Ok(None) if journal::head(&deps.db, scope, id).await?.is_some() => Ok(Ok(())),
        Ok(None) => {
            let most = deps.limits.concurrent_runs_per_tenant_max;
            Ok(Err(("too_many_runs", format!("the tenant has {most} runs that are not over"))))
        }
        // The same id means that an earlier delivery of this row started it.
        Ok(Some(_)) | Err(Error::Conflict) => Ok(Ok(())),
        Err(error) => Err(error),
    }
}

/// Something for a run, and who sends it.
struct Addressed {
    from: RunId,
    run: RunId,
    key: String,
}

/// Puts an order to stop in a run's inbox. It follows the run to the one that it went on as, and when it comes before the
/// start of its run has been delivered, it delivers that first.
async fn stop(deps: &Deps, scope: Scope, to: Addressed, order: Arrival) -> Result<()> {
    let (mut starter, mut run) = (to.from, to.run);
    while put(deps, scope, (run, to.key.clone()), &order).await? == Put::Closed {
        // Asked in this order: a start that is no longer owed has left a run, or will never leave one.
        let start = outbox::find(&deps.db, scope, starter, start_key(run)).await?;
        // Rows of earlier builds have other keys.
        let owed = start.is_some() || outbox::owes_start(&deps.db, scope, starter).await?;
        let head = journal::head(&deps.db, scope, run).await?;
        match unheard(owed, head.map(|head| head.finished_at.is_some())) {
            Unheard::NotYet => {
                let not_yet = || Error::Unavailable("the run to stop has not started yet".into());
                if !start_now(deps, &start.ok_or_else(not_yet)?).await? {
                    return Ok(());
                }
            }
            Unheard::ByNobody => return Ok(()),
            Unheard::SinceStarted => {}
            Unheard::SinceOver => {
                let Some(next) = went_on_as(deps, scope, run).await? else { return Ok(()) };
                (starter, run) = (run, next);
            }
        }
    }
    Ok(())
}

/// Delivers the row of a start out of its turn; `false` when it was refused. Somebody may be delivering it, too.
async fn start_now(deps: &Deps, row: &Due) -> Result<bool> {
    let Errand::Start(wanted) = read(deps, row).await? else { return Ok(false) };
    let started = begin(deps, row.scope, wanted, &row.key).await?;
    outbox::done(&deps.db, row.scope, row.id).await?;
    Ok(started)
}

/// Why a run did not take an order to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unheard {
    /// It is still to be started.
    NotYet,
    /// It was refused, or is deleted.
    ByNobody,
    /// It was started a moment ago: it takes the order now.
    SinceStarted,
    /// It is over.
    SinceOver,
}

/// `over` is that of the run, if it is there.
const fn unheard(owed: bool, over: Option<bool>) -> Unheard {
    match (over, owed) {
        (Some(true), _) => Unheard::SinceOver,
        (Some(false), _) => Unheard::SinceStarted,
        (None, true) => Unheard::NotYet,
        (None, false) => Unheard::ByNobody,
    }
}

/// The run that a run went on as, if it did.
async fn went_on_as(deps: &Deps, scope: Scope, run: RunId) -> Result<Option<RunId>> {
    let ends = journal::ends(&deps.db, scope, vec![run]).await?;
    let Some((_, last)) = ends.into_iter().flatten().next() else { return Ok(None) };
    let events = event::decode(&last.bytes, None).map_err(|error| Error::Corrupt(error.into()))?;
    Ok(events.iter().find_map(|event| match event.fact {
        Fact::ContinuedAsNew { run } => Some(run),
        _ => None,
    }))
}

/// Puts something in a run's inbox. A run that is over needs to hear nothing. An order to stop finds room in a full one.
async fn put(deps: &Deps, scope: Scope, (run, key): (RunId, String), arrival: &Arrival) -> Result<Put> {
    let minted = (InboxId::from_uuid(deps.ids.uuid()), deps.clock.now());
    let plain = serde_json::to_vec(arrival).map_err(|error| Error::Internal(error.into()))?;
    let new = NewInput::seal(deps.vault.sealer(), scope, minted, (run, key), &plain).await?;
    let more = u32::from(matches!(arrival, Arrival::Cancel { .. }));
    let rows_max = deps.limits.inbox_rows_max.saturating_add(more);
    match deps.db.write(scope, move |tx| Box::pin(inbox::put(tx, new, rows_max))).await? {
        Put::Full => Err(Error::Unavailable("the run's inbox is full".into())),
        put => Ok(put),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start that was delivered between the first try and these questions must not lose the order.
    #[test]
    fn an_order_to_stop_is_lost_only_when_nobody_can_take_it() {
        for (owed, over, why) in [
            (true, None, Unheard::NotYet),
            (true, Some(false), Unheard::SinceStarted),
            (false, Some(false), Unheard::SinceStarted),
            (true, Some(true), Unheard::SinceOver),
            (false, Some(true), Unheard::SinceOver),
            (false, None, Unheard::ByNobody),
        ] {
            assert_eq!(unheard(owed, over), why, "owed {owed}, over {over:?}");
        }
    }

    /// Rows outlive the build that wrote them.
    #[test]
    fn what_rows_say_is_spelt_as_ever() {
        let run = "00000000-0000-0000-0000-000000000001";
        let child = format!(
            r#"{{"do":"start","run":"{run}","parent":{{"run":"{run}","step":"s"}},"continues":null,"step":"s","agent":"a","version":null,"input":{{"n":1.5}},"cap":5,"depth":1}}"#
        );
        let order =
            format!(r#"{{"do":"tell","run":"{run}","arrival":{{"type":"cancel","by":"x","reason":null}}}}"#);
        for row in [child, order] {
            let errand: Errand = serde_json::from_str(&row).unwrap();
            assert_eq!(serde_json::to_string(&errand).unwrap(), row);
        }
    }
}
