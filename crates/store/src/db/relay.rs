//! Carries text of model calls between the processes of one PostgreSQL cluster, to those that watch a run.
//!
//! Invariant: nothing is sent for a run that nobody watches elsewhere, nothing is stored, and nobody waits for it: what
//! does not fit into the queues is dropped. Processes say which runs they watch when somebody begins to, and every ten
//! seconds; a run that was not named for half a minute is watched no more.

use std::sync::Arc;

use deadpool_postgres::Pool;
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{Dur, RunId};
use tokio::sync::mpsc::Receiver;

use lantern_net::Shutdown;

use super::listen::{send, until};
use super::postgres::Pools;
use crate::notify::{Delta, Hub};
use crate::relay::{Relay, pieces};

/// The channel on which processes say what they watch.
pub(super) const WATCH: &str = "lantern_watch";
/// The channel of what models say.
pub(super) const SAID: &str = "lantern_said";

/// Runs that may wait to be named, and pieces that may wait to be sent.
const QUEUE_MAX: usize = 1_024;
/// Runs of one payload: PostgreSQL takes 8,000 bytes, a run has 33.
const PAYLOAD_MAX: usize = 200;
/// So that a page that opens ten streams costs one notification.
const GATHER: Dur = Dur::from_millis(5);
/// How often runs are named again.
const RENEW: Dur = Dur::from_secs(10);
/// How long text is gathered: more than a reader notices would be too long.
const BATCH: Dur = Dur::from_millis(50);

/// Starts the two tasks, unless they are running already.
pub(super) fn start(
    pools: &Pools,
    hub: &Hub,
    relay: Relay,
    tasks: &dyn Tasks,
    clock: Arc<dyn Clock>,
    stopping: &Shutdown,
) {
    let Some((watched, said)) = hub.relay(relay.clone(), QUEUE_MAX) else {
        return;
    };
    let naming = name(pools.app().clone(), hub.clone(), relay.clone(), watched, Arc::clone(&clock));
    tasks.spawn("store.watch", Box::pin(until(stopping.clone(), naming)));
    let telling = tell(pools.app().clone(), relay, said, clock);
    tasks.spawn("store.said", Box::pin(until(stopping.clone(), telling)));
}

/// Names the runs that are watched here.
async fn name(pool: Pool, hub: Hub, relay: Relay, mut new: Receiver<RunId>, clock: Arc<dyn Clock>) {
    let mut renewal = clock.sleep(RENEW);
    loop {
        let runs = tokio::select! {
            biased;
            () = &mut renewal => {
                renewal = clock.sleep(RENEW);
                hub.renew()
            }
            Some(first) = new.recv() => {
                clock.sleep(GATHER).await;
                let mut runs = vec![first];
                while let Ok(run) = new.try_recv() {
                    runs.push(run);
                }
                runs
            }
        };
        for runs in runs.chunks(PAYLOAD_MAX) {
            if let Err(e) = send(&pool, WATCH, relay.watching(runs)).await {
                tracing::debug!(error = %e, "other processes were not told what is watched here");
            }
        }
    }
}

/// Sends what was said, a batch at a time.
async fn tell(pool: Pool, relay: Relay, mut said: Receiver<Arc<Delta>>, clock: Arc<dyn Clock>) {
    while let Some(first) = said.recv().await {
        clock.sleep(BATCH).await;
        let mut batch = vec![first];
        while let Ok(delta) = said.try_recv() {
            batch.push(delta);
        }
        for piece in pieces(batch) {
            let sent = match relay.seal(&piece) {
                Ok(payload) => send(&pool, SAID, payload).await,
                Err(error) => Err(error),
            };
            if let Err(e) = sent {
                tracing::debug!(error = %e, "text of a model call was lost on its way to other processes");
            }
        }
    }
}
