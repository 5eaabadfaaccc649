//! The worker of a process: its lease, its claims, and a driver for each run it holds.
//!
//! A process that misses its beats drops every run it holds and registers anew; the runs are then somebody's again
//! within one lease time, and appends under the old epoch fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lantern_net::Shutdown;
use lantern_store::lease::{self, Claimed};
use lantern_store::share::Room;
use lantern_store::{Error, Result};
use lantern_types::{Dur, ProcessId, RunId, TenantId};
use tokio::sync::{Notify, watch};

use crate::{Deps, drive, outbox, retention, seal, sweep, traces};

/// How a worker behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a silent process keeps its runs.
    pub ttl: Dur,
    /// Whether the data folder's lock proves that every earlier process is dead.
    pub sole: bool,
    /// How often to look for work without being told.
    pub poll: Dur,
}

impl Default for Options {
    fn default() -> Self {
        Self { ttl: Dur::from_secs(10), sole: false, poll: Dur::from_millis(250) }
    }
}

/// A lease that only the end of the process ends.
const FOREVER: Dur = Dur::from_secs(100 * 366 * 86_400);
/// Runs claimed by one statement.
const CLAIM_MAX: u32 = 256;

/// The runs that are being driven here, each with what wakes its driver.
#[derive(Clone, Default)]
struct Driven {
    // Sections under this lock are one look-up, insert or removal.
    runs: Arc<Mutex<HashMap<RunId, Arc<Notify>>>>,
    /// Told whenever one was let go: there is room for another, or for another of its tenant.
    let_go: Arc<Notify>,
}

/// Where the looks of one life stand.
#[derive(Debug, Default)]
struct Looks {
    /// The tenant that had the last turn.
    after: Option<TenantId>,
    /// Whether more was due than was taken.
    left: bool,
}

impl Driven {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<RunId, Arc<Notify>>) -> T) -> T {
        f(&mut self.runs.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn len(&self) -> usize {
        self.with(|runs| runs.len())
    }
    /// Wakes every driver: the order to stop has come.
    fn poke_all(&self) {
        for ear in self.with(|runs| runs.values().cloned().collect::<Vec<_>>()) {
            ear.notify_one();
        }
    }
    fn poke(&self, run: RunId) {
        if let Some(ear) = self.with(|runs| runs.get(&run).cloned()) {
            ear.notify_one();
        }
    }
}

/// Works until the process stops, then lets everything go.
pub async fn run(deps: Deps, options: Options, stopping: Shutdown) {
    let deps = Arc::new(deps);
    let (leased, taker) = watch::channel(None);
    let deliveries = outbox::deliver(deps.clone(), taker, stopping.clone());
    let sweeps = sweep::sweep(deps.clone(), stopping.clone());
    let retains = retention::retain(deps.clone(), stopping.clone());
    let seals = seal::seal(deps.clone(), stopping.clone());
    let exports = traces::export(deps.clone(), stopping.clone());
    let lives = async {
        while !stopping.is_requested() {
            let lived = live(&deps, options, &leased, &stopping).await;
            leased.send_replace(None);
            if let Err(error) = lived {
                tracing::warn!(%error, "the worker cannot reach the store; trying again");
                deps.clock.sleep(options.poll).await;
            }
        }
    };
    tokio::join!(deliveries, sweeps, retains, seals, exports, lives);
}

/// One life: from registering a process id to losing it or stopping. `leased` is told the id.
async fn live(
    deps: &Arc<Deps>,
    options: Options,
    leased: &watch::Sender<Option<ProcessId>>,
    stopping: &Shutdown,
) -> Result<()> {
    let process = ProcessId::from_uuid(deps.ids.uuid());
    // Nobody else can be there: the lease ends with the data folder's lock, and a full disk does not end it.
    let options = if options.sole { Options { ttl: FOREVER, ..options } } else { options };
    lease::register(&deps.db, process, deps.clock.now(), options.ttl).await?;
    if options.sole {
        lease::expire_others(&deps.db, process, deps.clock.now()).await?;
    }
    leased.send_replace(Some(process));
    let life = Life { deps, options, process, driven: Driven::default(), ended: stopping.child() };
    let lived = tokio::select! {
        biased;
        lived = life.claim_and_poke() => lived,
        beaten = life.beat() => beaten,
    };
    life.ended.request();
    life.driven.poke_all();
    if stopping.is_requested() {
        // Beats go on meanwhile: what is still outside must not look like a dead process's work.
        tokio::select! {
            biased;
            () = life.drain() => {}
            lost = life.beat() => lost?,
        }
        lease::surrender(&deps.db, process, deps.clock.now()).await?;
    }
    lived
}

struct Life<'a> {
    deps: &'a Arc<Deps>,
    options: Options,
    process: ProcessId,
    driven: Driven,
    /// Requested when this life ends: its drivers let go.
    ended: Shutdown,
}

impl Life<'_> {
    /// Keeps the lease; ends when it was lost. Beats go on until it is certain that the lease has run out.
    async fn beat(&self) -> Result<()> {
        let mut kept_until = self.deps.clock.now() + self.options.ttl;
        loop {
            self.deps.clock.sleep(Dur::from_micros(self.options.ttl.micros() / 3)).await;
            let now = self.deps.clock.now();
            match lease::beat(&self.deps.db, self.process, now, self.options.ttl).await {
                Ok(true) => kept_until = now + self.options.ttl,
                Ok(false) => return Err(Error::Unavailable("the process lost its lease".into())),
                Err(error) if self.deps.clock.now() >= kept_until => return Err(error),
                Err(error) => tracing::warn!(%error, "a beat failed; trying again"),
            }
        }
    }

    /// Claims and pokes until this life ends. A store that cannot answer is asked again: only a lost lease ends a life,
    /// because what the drivers hold in memory would be lost with it.
    async fn claim_and_poke(&self) -> Result<()> {
        let mut wakes = self.deps.db.hub().workers();
        let mut looks = Looks::default();
        loop {
            match self.look(&mut looks).await {
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) => tracing::warn!(%error, "the store cannot be asked for work; trying again"),
                Ok(()) => {}
            }
            tokio::select! {
                biased;
                () = self.ended.requested() => return Ok(()),
                () = wakes.next() => {}
                () = self.driven.let_go.notified(), if looks.left => {}
                () = self.deps.clock.sleep(self.options.poll) => {}
            }
        }
    }

    /// Claims what is due and starts a driver for each, and wakes the drivers in whose inbox something lies.
    async fn look(&self, looks: &mut Looks) -> Result<()> {
        loop {
            let held = u32::try_from(self.driven.len()).unwrap_or(u32::MAX);
            let room = self.deps.limits.runs_in_memory_max.saturating_sub(held);
            let limit = if self.ended.is_requested() { 0 } else { room.min(CLAIM_MAX) };
            let bounds = self.deps.in_force.bounds();
            let room = Room { limit, after: looks.after, bounds };
            let work =
                lease::look(&self.deps.db, self.process, self.deps.reader, self.deps.clock.now(), room)
                    .await?;
            *looks = Looks { after: work.after, left: work.left };
            let more = work.left && !work.claimed.is_empty();
            for run in work.claimed {
                self.start(run);
            }
            for run in work.poked {
                self.driven.poke(run);
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn start(&self, claimed: Claimed) {
        let (run, ear) = (claimed.run, Arc::new(Notify::new()));
        self.driven.with(|runs| runs.insert(run, ear.clone()));
        let (deps, driven, ended) = (self.deps.clone(), self.driven.clone(), self.ended.clone());
        let work = async move {
            drive::drive(deps, claimed, ear.clone(), ended).await;
            driven.with(|runs| {
                // A later claim of the same run has put its own ear there.
                if runs.get(&run).is_some_and(|other| Arc::ptr_eq(other, &ear)) {
                    runs.remove(&run);
                }
            });
            driven.let_go.notify_one();
        };
        self.deps.tasks.spawn("run", Box::pin(work));
    }

    /// Waits until every driver has let go. The process's own grace period bounds this.
    async fn drain(&self) {
        while self.driven.len() > 0 {
            self.deps.clock.sleep(Dur::from_millis(20)).await;
        }
    }
}
