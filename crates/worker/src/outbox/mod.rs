//! What runs owe to other runs: starting children and continuations, cancelling children, telling parents.
//!
//! Rows are written with the events that ask for them and deleted only once absorbed; each is absorbed once, because a
//! start goes with its row and an inbox takes a key once. Several are delivered at once, in no order: an order to stop
//! that finds its run not started yet sees to the start itself.

mod start;
mod stop;

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lantern_engine::{Arrival, Effect, Event, Run, continuation, effects};
use lantern_net::Shutdown;
use lantern_policy::Scope;
use lantern_store::inbox::{NewInput, Put};
use lantern_store::outbox::{self, Due, Kind, NewOutbox, Turns};
use lantern_store::seal::Place;
use lantern_store::{Error, Result, inbox};
use lantern_types::{Dur, InboxId, ProcessId, RunId};
use serde::{Deserialize, Serialize};
use start::Wanted;
use tokio::sync::watch;

use crate::Deps;

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

/// The rows that these events ask for.
pub(crate) async fn rows(deps: &Deps, scope: Scope, run: &Run, events: &[Event]) -> Result<Vec<NewOutbox>> {
    let mut rows = Vec::new();
    for event in events {
        for (n, effect) in effects(run, event).into_iter().enumerate() {
            let Some(errand) = errand(run, effect, deps.traces.is_some()) else { continue };
            let id = deps.ids.uuid();
            let plain = serde_json::to_vec(&errand).map_err(|error| Error::Internal(error.into()))?;
            let place = Place { purpose: "outbox", row: id.as_bytes() };
            let payload = deps.vault.sealer().seal(scope, place, &plain).await?;
            let key = match &errand {
                Errand::Start(wanted) => outbox::start_key(wanted.run),
                Errand::Tell { .. } => format!("{}.{n}", event.seq),
            };
            rows.push(NewOutbox { id, key, kind: errand.kind(), payload, due_at: deps.clock.now() });
        }
    }
    Ok(rows)
}

fn errand(run: &Run, effect: Effect, traced: bool) -> Option<Errand> {
    match effect {
        Effect::Perform(_) | Effect::Reconcile(_) => None,
        Effect::StartRun { run: id, parent, continues, carried, step, agent, input, cap } => {
            Some(Errand::Start(Wanted {
                run: id,
                trace: traced.then(|| run.span_above(&parent)),
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

/// Delivers rows until the process stops, and then those that are under way. `taker` is under which lease the process lives
/// at the moment: without one it takes none, because nobody would know that they are to be taken again.
pub(crate) async fn deliver(
    deps: Arc<Deps>,
    mut taker: watch::Receiver<Option<ProcessId>>,
    stopping: Shutdown,
) {
    let mut wakes = deps.db.hub().workers();
    let (mut turns, mut under_way, mut look) = (Turns::default(), FuturesUnordered::new(), true);
    while !stopping.is_requested() {
        turns.taker = *taker.borrow_and_update();
        let room = AT_ONCE.saturating_sub(under_way.len());
        if look && room >= ROOM_MIN && turns.taker.is_some() {
            let due = taken(&deps, &mut turns, room, &mut under_way).await;
            look = due.len() == room;
            under_way.extend(due.into_iter().map(|row| deliver_one(&deps, row)));
        }
        tokio::select! {
            biased;
            () = stopping.requested() => {}
            Some(()) = under_way.next() => {}
            Ok(()) = taker.changed() => look = true,
            () = wakes.next() => look = true,
            () = deps.clock.sleep(POLL) => look = true,
        }
    }
    while under_way.next().await.is_some() {}
}

/// Takes rows while those that are under way go on.
async fn taken(
    deps: &Deps,
    turns: &mut Turns,
    room: usize,
    under_way: &mut FuturesUnordered<impl Future<Output = ()>>,
) -> Vec<Due> {
    let mut taking = pin!(take(deps, turns, room));
    loop {
        tokio::select! {
            biased;
            due = &mut taking => return due,
            Some(()) = under_way.next() => {}
        }
    }
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
    if let Err(error) = perform(deps, &row).await {
        tracing::warn!(run = %row.run, attempts = row.attempts, %error, "not delivered; trying again");
    }
}

async fn perform(deps: &Deps, row: &Due) -> Result<()> {
    match read(deps, row).await? {
        Errand::Start(wanted) => return start::begin(deps, row, wanted).await.map(drop),
        Errand::Tell { run, arrival } => {
            let key = format!("{}|{}", row.run, row.key);
            match arrival {
                Arrival::Cancel { .. } => {
                    stop::stop(deps, row, (run, format!("stop:{key}")), arrival).await?;
                }
                _ => drop(put(deps, row.scope, (run, key), &arrival).await?),
            }
        }
    }
    outbox::done(&deps.db, row.scope, row.id).await
}

async fn read(deps: &Deps, row: &Due) -> Result<Errand> {
    let place = Place { purpose: "outbox", row: row.id.as_bytes() };
    let plain = deps.vault.sealer().open(row.scope, place, &row.payload).await?;
    serde_json::from_slice(&plain).map_err(|error| Error::Corrupt(error.into()))
}

/// Puts something in a run's inbox. A run that is over needs to hear nothing.
async fn put(deps: &Deps, scope: Scope, to: (RunId, String), arrival: &Arrival) -> Result<Put> {
    let new = sealed(deps, scope, to, arrival).await?;
    let rows_max = deps.limits.inbox_rows_max;
    match deps.db.write(scope, move |tx| Box::pin(inbox::put(tx, new, rows_max))).await? {
        Put::Full => Err(full_inbox()),
        put => Ok(put),
    }
}

/// Puts an order to stop in the inbox of a chain's open end, where it finds room in a full one. Answers which run that was.
async fn order(deps: &Deps, scope: Scope, to: (RunId, String), stop: &Arrival) -> Result<(RunId, Put)> {
    let new = sealed(deps, scope, to, stop).await?;
    let rows_max = deps.limits.inbox_rows_max.saturating_add(1);
    match deps.db.write(scope, move |tx| Box::pin(inbox::order(tx, new, rows_max, continuation))).await? {
        (_, Put::Full) => Err(full_inbox()),
        reached => Ok(reached),
    }
}

async fn sealed(deps: &Deps, scope: Scope, to: (RunId, String), arrival: &Arrival) -> Result<NewInput> {
    let minted = (InboxId::from_uuid(deps.ids.uuid()), deps.clock.now());
    let plain = serde_json::to_vec(arrival).map_err(|error| Error::Internal(error.into()))?;
    NewInput::seal(deps.vault.sealer(), scope, minted, to, &plain).await
}

fn full_inbox() -> Error {
    Error::Unavailable("the run's inbox is full".into())
}

#[cfg(test)]
mod tests {
    use super::*;

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
