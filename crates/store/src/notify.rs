//! Hints that something was committed: workers wake for new work, event streams read on.
//!
//! Invariant: a hint is told only after its commit, carries no data, and may be lost or repeated. Workers also poll, and for
//! those who watch runs [`watched`](crate::watched) does, so the database stays the only truth.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lantern_policy::Scope;
use lantern_types::{RunId, TenantId};
use tokio::sync::{broadcast, mpsc};

use crate::bell::{Bell, Ear};
use crate::relay::Relay;
use crate::system::Progress;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A run's journal has grown.
    Changed(RunId),
    /// A run wants a worker: it is new, or something lies in its inbox.
    Wake(RunId),
}

/// Text of a model call as it arrives: best effort, never stored, made whole by the event that settles the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: String,
    /// Which send of it: a retry begins anew.
    pub generation: u32,
    /// Bytes of the reply before this piece.
    pub offset: u64,
    /// The piece.
    pub text: String,
}

/// Pieces that a slow listener may be behind before it misses some.
const DELTAS_KEPT: usize = 256;

/// Runs that other processes may watch before no more of them are believed.
const ELSEWHERE_MAX: usize = 65_536;
/// Renewals after which a run that was not named again is watched no more.
const BELIEVED: u8 = 3;

/// The meeting point of commits and those who wait for them. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    workers: Arc<Bell>,
    // Sections under this lock only look up and insert; nothing waits or allocates much.
    runs: Mutex<HashMap<RunId, Told>>,
    outside: OnceLock<mpsc::Sender<Hint>>,
    relay: OnceLock<Outlets>,
    /// How often this process has set caps.
    caps: AtomicU64,
    /// Runs that other processes watch, with the renewals that each is still believed for. As short a lock.
    elsewhere: Mutex<HashMap<RunId, u8>>,
}

/// Where this process says what it watches and what its models say, for other processes.
struct Outlets {
    relay: Relay,
    watched: mpsc::Sender<RunId>,
    said: mpsc::Sender<Arc<Delta>>,
}

/// What a look at a run's row found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    At(Progress),
    Gone,
}

/// What the listeners of one run are told.
struct Told {
    tenant: TenantId,
    listeners: usize,
    changed: Arc<Bell>,
    deltas: broadcast::Sender<Arc<Delta>>,
    /// What the last look at its row found; none has been since somebody listens.
    seen: Option<Found>,
}

impl Told {
    fn new(tenant: TenantId) -> Self {
        let deltas = broadcast::Sender::new(DELTAS_KEPT);
        Self { tenant, listeners: 0, changed: Arc::default(), deltas, seen: None }
    }
}

impl Hub {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            workers: Arc::default(),
            runs: Mutex::new(HashMap::new()),
            outside: OnceLock::new(),
            relay: OnceLock::new(),
            caps: AtomicU64::new(0),
            elsewhere: Mutex::new(HashMap::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Caps were set here, durably: what is remembered of them is old.
    pub fn caps_changed(&self) {
        self.inner.caps.fetch_add(1, Ordering::Release);
    }

    /// How often that was.
    pub fn caps_set(&self) -> u64 {
        self.inner.caps.load(Ordering::Acquire)
    }

    /// Woken whenever some run may want a worker.
    pub fn workers(&self) -> Wakes {
        Wakes { ear: self.inner.workers.ear() }
    }

    /// Woken whenever the journal of one of this tenant's runs may have grown.
    pub fn subscribe(&self, scope: Scope, run: RunId) -> RunWatch {
        let mut runs = self.runs();
        let told = runs.entry(run).or_insert_with(|| Told::new(scope.tenant()));
        told.listeners += 1;
        if told.listeners == 1
            && let Some(outlets) = self.inner.relay.get()
        {
            // A full queue drops it: it is named again at the next renewal.
            outlets.watched.try_send(run).ok();
        }
        RunWatch { ear: told.changed.ear(), deltas: told.deltas.subscribe(), run, hub: self.clone() }
    }

    /// How many runs are being watched.
    pub fn watched(&self) -> usize {
        self.runs().len()
    }

    /// The runs that are being watched, in the order of their ids.
    pub(crate) fn all_watched(&self) -> Vec<(TenantId, RunId)> {
        let mut watched: Vec<_> = self.runs().iter().map(|(run, told)| (told.tenant, *run)).collect();
        watched.sort_unstable();
        watched
    }

    /// What a look at the row of a watched run found. Its listeners are woken, unless it is what the look before found:
    /// each of them has read the row itself since it began to listen.
    pub(crate) fn found(&self, run: RunId, found: Option<Progress>) {
        let found = found.map_or(Found::Gone, Found::At);
        if let Some(told) = self.runs().get_mut(&run)
            && told.seen.replace(found) != Some(found)
        {
            told.changed.ring();
        }
    }

    /// Tells this process, and the others when [`Db::follow`](crate::Db::follow) runs.
    pub(crate) fn tell(&self, hints: &[Hint]) {
        for hint in hints {
            self.tell_here(*hint);
            if let Some(outside) = self.inner.outside.get() {
                // A full queue drops the hint: the other processes poll.
                outside.try_send(*hint).ok();
            }
        }
    }

    /// Tells this process alone.
    pub(crate) fn tell_here(&self, hint: Hint) {
        match hint {
            Hint::Wake(_) => self.wake(),
            Hint::Changed(run) => {
                if let Some(told) = self.runs().get(&run) {
                    told.changed.ring();
                }
            }
        }
    }

    /// Tells this process that anything may have happened, because hints may have been lost.
    pub(crate) fn tell_all(&self) {
        self.wake();
        self.runs().values().for_each(|told| told.changed.ring());
    }

    /// Whether anybody listens to this run, here or elsewhere, so that nobody makes deltas for no one.
    pub fn is_watched(&self, run: RunId) -> bool {
        self.runs().contains_key(&run) || self.elsewhere().contains_key(&run)
    }

    /// Tells the listeners of a run what its model says, those in other processes too.
    pub fn delta(&self, delta: Delta) {
        let delta = Arc::new(delta);
        if let Some(outlets) = self.inner.relay.get()
            && self.elsewhere().contains_key(&delta.run)
        {
            // A full queue drops it: the event that settles the step makes it whole.
            outlets.said.try_send(Arc::clone(&delta)).ok();
        }
        self.delta_here(delta);
    }

    fn delta_here(&self, delta: Arc<Delta>) {
        if let Some(told) = self.runs().get(&delta.run) {
            // Nobody listening any more is no failure.
            drop(told.deltas.send(delta));
        }
    }

    /// Where runs that are watched here and what is said of runs that are watched elsewhere go from now on; `None` when
    /// they already go somewhere.
    pub(crate) fn relay(
        &self,
        relay: Relay,
        capacity: usize,
    ) -> Option<(mpsc::Receiver<RunId>, mpsc::Receiver<Arc<Delta>>)> {
        let ((watched, runs), (said, deltas)) = (mpsc::channel(capacity), mpsc::channel(capacity));
        self.inner.relay.set(Outlets { relay, watched, said }).ok().map(|()| (runs, deltas))
    }

    /// A renewal: the runs that are watched here, to be named again. What others have not named lately is forgotten.
    pub(crate) fn renew(&self) -> Vec<RunId> {
        self.elsewhere().retain(|_, believed| {
            *believed = believed.saturating_sub(1);
            *believed > 0
        });
        self.runs().keys().copied().collect()
    }

    /// Another process named runs that it watches.
    pub(crate) fn watched_elsewhere(&self, payload: &str) {
        let Some(outlets) = self.inner.relay.get() else { return };
        let mut elsewhere = self.elsewhere();
        for run in outlets.relay.watched(payload) {
            if elsewhere.len() < ELSEWHERE_MAX || elsewhere.contains_key(&run) {
                elsewhere.insert(run, BELIEVED);
            }
        }
    }

    /// Another process's model said something. It is opened only when somebody listens here.
    pub(crate) fn said_elsewhere(&self, payload: &str) {
        let Some(outlets) = self.inner.relay.get() else { return };
        if self.watched() > 0
            && let Some(delta) = outlets.relay.open(payload)
        {
            self.delta_here(Arc::new(delta));
        }
    }

    /// Wakes this process's workers.
    pub fn wake(&self) {
        self.inner.workers.ring();
    }

    /// Where hints for other processes go from now on; `None` when they already go somewhere.
    pub(crate) fn outside(&self, capacity: usize) -> Option<mpsc::Receiver<Hint>> {
        let (sender, receiver) = mpsc::channel(capacity);
        self.inner.outside.set(sender).ok().map(|()| receiver)
    }

    fn elsewhere(&self) -> MutexGuard<'_, HashMap<RunId, u8>> {
        self.inner.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, Told>> {
        self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's ear.
pub struct Wakes {
    ear: Ear,
}

impl Wakes {
    /// Completes at the next hint, or at once when there was one since the last call.
    pub async fn next(&mut self) {
        self.ear.next().await;
    }
}

/// A listener to one run. Forgotten by the hub when dropped.
pub struct RunWatch {
    ear: Ear,
    deltas: broadcast::Receiver<Arc<Delta>>,
    run: RunId,
    hub: Hub,
}

impl RunWatch {
    /// Completes at the next hint, or at once when there was one since the last call.
    pub async fn changed(&mut self) {
        self.ear.next().await;
    }
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The journal may have grown.
    Changed,
    /// A model said something.
    Delta(Arc<Delta>),
}

impl RunWatch {
    /// Completes at the next hint or piece of text. Pieces that came too quickly are skipped.
    pub async fn next(&mut self) -> Heard {
        loop {
            tokio::select! {
                biased;
                () = self.ear.next() => return Heard::Changed,
                delta = self.deltas.recv() => {
                    if let Ok(delta) = delta {
                        return Heard::Delta(delta);
                    }
                }
            }
        }
    }
}

impl Drop for RunWatch {
    fn drop(&mut self) {
        let mut runs = self.hub.runs();
        let Some(told) = runs.get_mut(&self.run) else { return };
        told.listeners = told.listeners.saturating_sub(1);
        if told.listeners == 0 {
            runs.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use lantern_types::{At, DEV_TENANT, DEV_USER};

    const SCOPE: Scope = Scope::of_lease(DEV_TENANT);

    #[test]
    fn hints_reach_those_who_wait_and_are_forgotten_with_them() {
        let hub = Hub::new();
        let run = RunId::from_uuid(DEV_USER.uuid());
        let (mut workers, mut watch) = (hub.workers(), hub.subscribe(SCOPE, run));
        let second = hub.subscribe(SCOPE, run);
        assert!(watch.changed().now_or_never().is_none());
        hub.tell(&[Hint::Changed(run), Hint::Wake(run)]);
        assert!(watch.changed().now_or_never().is_some());
        assert!(watch.changed().now_or_never().is_none());
        assert!(workers.next().now_or_never().is_some());
        hub.tell_all();
        assert!(watch.changed().now_or_never().is_some() && workers.next().now_or_never().is_some());
        drop(watch);
        assert_eq!(hub.watched(), 1);
        drop(second);
        assert_eq!(hub.watched(), 0);
    }

    #[test]
    fn a_look_that_finds_something_else_wakes_whoever_listens() {
        let hub = Hub::new();
        let run = RunId::from_uuid(DEV_USER.uuid());
        let at = |version, finished_at| Some(Progress { version, finished_at });
        hub.found(run, at(1, None));
        let mut watch = hub.subscribe(SCOPE, run);
        assert_eq!(hub.all_watched(), [(DEV_TENANT, run)]);
        for (found, wakes) in [
            // Nobody has looked since, so the listener may have read an earlier row.
            (at(1, None), true),
            (at(1, None), false),
            (at(2, None), true),
            (at(2, Some(At::from_micros(1))), true),
            (at(2, Some(At::from_micros(1))), false),
            (None, true),
            (None, false),
        ] {
            hub.found(run, found);
            assert_eq!(watch.changed().now_or_never().is_some(), wakes, "{found:?}");
        }
        drop(watch);
        assert_eq!(hub.all_watched(), []);
        let mut again = hub.subscribe(SCOPE, run);
        hub.found(run, None);
        assert!(
            again.changed().now_or_never().is_some(),
            "what was seen is forgotten with the last listener"
        );
    }

    /// Draws of one byte.
    struct Same(u8);

    impl lantern_types::edge::IdGen for Same {
        fn uuid(&self) -> uuid::Uuid {
            DEV_USER.uuid()
        }
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn text_goes_where_somebody_watches_and_nowhere_else() {
        let run = RunId::from_uuid(DEV_USER.uuid());
        let relay = |process| Relay::new(&crate::Keys::from_ids(&Same(1)), Arc::new(Same(process))).unwrap();
        let (here, there) = (Hub::new(), Hub::new());
        let (_, mut said) = here.relay(relay(2), 2).unwrap();
        let (mut named, _) = there.relay(relay(3), 2).unwrap();
        assert!(there.relay(relay(3), 2).is_none(), "once");
        let delta = |offset| Delta { run, step: "a".to_owned(), generation: 1, offset, text: "x".to_owned() };
        here.delta(delta(0));
        assert!(said.try_recv().is_err() && !here.is_watched(run), "nobody watches");

        let mut watch = there.subscribe(SCOPE, run);
        let second = there.subscribe(SCOPE, run);
        assert_eq!((named.try_recv().ok(), named.try_recv().ok()), (Some(run), None), "named once");
        here.watched_elsewhere(&relay(2).watching(&[run]));
        assert!(!here.is_watched(run), "a process does not hear itself");
        here.watched_elsewhere(&relay(3).watching(&there.renew()));
        assert!(here.is_watched(run));
        (1..5).for_each(|offset| here.delta(delta(offset)));
        let first = said.try_recv().unwrap();
        assert!(said.try_recv().is_ok() && said.try_recv().is_err(), "the queue is bounded");
        there.said_elsewhere(&relay(2).seal(&first).unwrap());
        assert_eq!(watch.next().now_or_never(), Some(Heard::Delta(first)));
        assert!(said.try_recv().is_err(), "what is heard is not sent on");

        drop((watch, second));
        assert!(there.renew().is_empty());
        for believed in [true, true, false] {
            here.renew();
            assert_eq!(here.is_watched(run), believed);
        }
    }
}
