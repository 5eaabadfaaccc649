//! Hints between the processes of one PostgreSQL cluster, by `LISTEN` and `NOTIFY`.
//!
//! Invariant: never inside a transaction that matters (`NOTIFY` takes a cluster-wide lock at commit): hints leave on a
//! connection of their own, gathered for 5 ms. Losing them is harmless, so faults are only traced.

use std::collections::HashSet;
use std::sync::Arc;

use deadpool_postgres::Pool;
use futures_util::future::try_join;
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{Dur, RunId};
use tokio::sync::mpsc::Receiver;
use tokio_postgres::AsyncMessage;

use lantern_net::Shutdown;

use super::postgres::{Pools, fault};
use super::relay::{SAID, WATCH};
use super::tls::Way;
use crate::error::{Error, Result};
use crate::notify::{Hint, Hub};

/// The channel of hints.
const WAKE: &str = "lantern_wake";
/// Hints that may wait for the next batch.
const QUEUE_MAX: usize = 4_096;
/// Hints of one payload: PostgreSQL takes 8,000 bytes, a hint has 34.
const PAYLOAD_MAX: usize = 200;
const GATHER: Dur = Dur::from_millis(5);
const RETRY: Dur = Dur::from_secs(1);

/// Starts the two tasks, unless they are running already.
pub(super) fn start(pools: &Pools, hub: &Hub, tasks: &dyn Tasks, clock: Arc<dyn Clock>, stopping: &Shutdown) {
    let Some(hints) = hub.outside(QUEUE_MAX) else {
        return;
    };
    let telling = notify(pools.app().clone(), hints, Arc::clone(&clock));
    tasks.spawn("store.notify", Box::pin(until(stopping.clone(), telling)));
    let hearing = listen(pools.way().clone(), hub.clone(), clock);
    tasks.spawn("store.listen", Box::pin(until(stopping.clone(), hearing)));
}

/// Hints are worth nothing to a process that stops.
pub(super) async fn until(stopping: Shutdown, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = stopping.requested() => {}
        () = work => {}
    }
}

async fn notify(pool: Pool, mut hints: Receiver<Hint>, clock: Arc<dyn Clock>) {
    while let Some(first) = hints.recv().await {
        clock.sleep(GATHER).await;
        let mut batch = HashSet::from([first]);
        while let Ok(hint) = hints.try_recv() {
            batch.insert(hint);
        }
        let words: Vec<String> = batch.iter().map(word).collect();
        for payload in words.chunks(PAYLOAD_MAX) {
            if let Err(e) = send(&pool, WAKE, payload.join(",")).await {
                tracing::debug!(error = %e, "hints to other processes were lost");
            }
        }
    }
}

pub(super) async fn send(pool: &Pool, channel: &'static str, payload: String) -> Result<()> {
    let client = pool.get().await.map_err(Error::unavailable)?;
    let sql = "SELECT 1 FROM (SELECT pg_notify($1, $2)) AS sent";
    let statement = client.prepare_cached(sql).await.map_err(fault)?;
    client.execute(&statement, &[&channel, &payload]).await.map(drop).map_err(fault)
}

async fn listen(way: Way, hub: Hub, clock: Arc<dyn Clock>) {
    loop {
        if let Err(e) = hear(&way, &hub).await {
            tracing::warn!(error = %e, "the connection for hints was lost; polling goes on");
        }
        clock.sleep(RETRY).await;
    }
}

/// Listens until the connection ends.
async fn hear(way: &Way, hub: &Hub) -> Result<()> {
    let (client, mut connection) = way.connect().await.map_err(fault)?;
    let subscribed = async {
        let sql = format!("LISTEN {WAKE}; LISTEN {WATCH}; LISTEN {SAID}");
        client.batch_execute(&sql).await.map_err(fault)?;
        // What was committed before we listened was not heard.
        hub.tell_all();
        Ok::<_, Error>(())
    };
    let hearing = async {
        while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(note) = message.map_err(fault)? {
                match note.channel() {
                    WATCH => hub.watched_elsewhere(note.payload()),
                    SAID => hub.said_elsewhere(note.payload()),
                    _ => note.payload().split(',').filter_map(hint).for_each(|hint| hub.tell_here(hint)),
                }
            }
        }
        Ok::<_, Error>(())
    };
    try_join(subscribed, hearing).await.map(drop)
}

fn word(hint: &Hint) -> String {
    let (letter, run) = match hint {
        Hint::Wake(run) => ('w', run),
        Hint::Changed(run) => ('c', run),
    };
    format!("{letter}{}", hex::encode(run.bytes()))
}

fn hint(word: &str) -> Option<Hint> {
    let (letter, run) = word.split_at_checked(1)?;
    let run = RunId::from_bytes(&hex::decode(run).ok()?)?;
    match letter {
        "w" => Some(Hint::Wake(run)),
        "c" => Some(Hint::Changed(run)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::DEV_USER;

    #[test]
    fn hints_survive_the_wire() {
        let run = RunId::from_uuid(DEV_USER.uuid());
        for sent in [Hint::Wake(run), Hint::Changed(run)] {
            assert_eq!(hint(&word(&sent)), Some(sent));
        }
        for junk in ["", "w", "wzz", "x00000000000000000000000000000002", "é"] {
            assert_eq!(hint(junk), None, "{junk}");
        }
    }
}
