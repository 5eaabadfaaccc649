//! Background work: named, counted, isolated from each other's panics, drained and then cut at shutdown.
//!
//! Invariant: once [`TaskSet::shutdown`] has returned, no task of the set is running any more, save one that did not
//! reach an await for a second. Decides nothing about what the tasks do.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use lantern_types::Dur;
use lantern_types::edge::{BoxFuture, Tasks};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a task that is being cut may take to reach its next await.
const CUT_MAX: Dur = Dur::from_secs(1);

/// Tells long-lived work that the process is stopping. Cheap to clone; every clone hears the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A token of its own, for work that is stopped by other means than a [`TaskSet`].
    pub fn new() -> Self {
        Self::default()
    }
    /// Completes once stopping was requested; at once when it already was.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
    /// Whether stopping was requested.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }
    /// Requests stopping.
    pub fn request(&self) {
        self.0.cancel();
    }
    /// A token that stops with this one, and that can be stopped alone.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}

/// The process's background tasks. Clones are handles to the same set.
#[derive(Clone, Debug)]
pub struct TaskSet {
    handle: Handle,
    tracker: TaskTracker,
    stopping: Shutdown,
    cut: CancellationToken,
    names: Names,
}

impl TaskSet {
    /// An empty set whose tasks run on `handle`'s runtime, from whichever thread they are started.
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            tracker: TaskTracker::new(),
            stopping: Shutdown::new(),
            cut: CancellationToken::new(),
            names: Names::default(),
        }
    }

    /// What tells the tasks to come to an end.
    pub fn stopping(&self) -> Shutdown {
        self.stopping.clone()
    }

    /// The running tasks by name, with how many of each.
    pub fn running(&self) -> Vec<(&'static str, usize)> {
        self.names.list()
    }

    /// Asks every task to end, waits at most `grace`, then drops what is left at its next await.
    /// Returns the names of the tasks that had to be cut. Tasks started from now on end at once.
    pub async fn shutdown(&self, grace: Dur) -> Vec<&'static str> {
        self.stopping.request();
        self.tracker.close();
        let drained = tokio::time::timeout(grace.std(), self.tracker.wait()).await;
        let late = match drained {
            Ok(()) => Vec::new(),
            Err(_) => self.running().into_iter().map(|(name, _)| name).collect(),
        };
        self.cut.cancel();
        if tokio::time::timeout(CUT_MAX.std(), self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = ?self.running(), "tasks that do not yield are left behind");
        }
        late
    }
}

impl TaskSet {
    /// Drops every task at its next await, without asking: what a crash leaves behind. For tests and simulation.
    pub fn kill(&self) {
        self.tracker.close();
        self.cut.cancel();
    }
}

impl Tasks for TaskSet {
    fn spawn(&self, name: &'static str, work: BoxFuture<'static, ()>) {
        let running = self.names.enter(name);
        let cut = self.cut.clone();
        let guarded = async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            if let Some(Err(_)) = cut.run_until_cancelled_owned(work).await {
                tracing::error!(task = name, "a background task panicked");
            }
            drop(running);
        };
        self.tracker.spawn_on(guarded, &self.handle);
    }
}

/// How many tasks of each name are running. The lock is held for a map update only, never across an await.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<BTreeMap<&'static str, usize>>>);

impl Names {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<&'static str, usize>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn enter(&self, name: &'static str) -> Running {
        self.with(|names| *names.entry(name).or_default() += 1);
        Running { names: self.clone(), name }
    }
    fn list(&self) -> Vec<(&'static str, usize)> {
        self.with(|names| names.iter().map(|(name, count)| (*name, *count)).collect())
    }
}

/// Counts its task as running until dropped, however the task ends.
struct Running {
    names: Names,
    name: &'static str,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.names.with(|names| {
            if let Some(count) = names.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    names.remove(self.name);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(start_paused = true)]
    async fn tasks_that_listen_are_drained_and_others_are_cut() {
        let tasks = TaskSet::new(Handle::current());
        let stopping = tasks.stopping();
        tasks.spawn("listens", Box::pin(async move { stopping.requested().await }));
        tasks.spawn("deaf", Box::pin(pending()));
        tasks.spawn("deaf", Box::pin(pending()));
        assert_eq!(tasks.running(), [("deaf", 2), ("listens", 1)]);
        assert_eq!(tasks.shutdown(Dur::from_secs(5)).await, ["deaf"]);
        assert_eq!(tasks.running(), []);
    }

    #[tokio::test]
    async fn nothing_starts_after_shutdown() {
        let tasks = TaskSet::new(Handle::current());
        assert!(tasks.shutdown(Dur::ZERO).await.is_empty());
        tasks.spawn("late", Box::pin(pending()));
        assert!(tasks.shutdown(Dur::from_secs(1)).await.is_empty());
    }

    #[tokio::test]
    async fn a_panic_stays_in_its_task() {
        let tasks = TaskSet::new(Handle::current());
        tasks.spawn("panics", Box::pin(async { panic!("on purpose") }));
        assert!(tasks.shutdown(Dur::from_secs(1)).await.is_empty());
        assert_eq!(tasks.running(), []);
    }

    #[test]
    fn tasks_start_from_threads_outside_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let tasks = TaskSet::new(runtime.handle().clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let here = tasks.clone();
        std::thread::spawn(move || {
            here.spawn("sends", Box::pin(async move { sender.send(7).unwrap() }));
        })
        .join()
        .unwrap();
        assert_eq!(runtime.block_on(receiver), Ok(7));
    }

    #[tokio::test]
    async fn a_child_stops_alone_or_with_its_parent() {
        let parent = Shutdown::new();
        let (one, two) = (parent.child(), parent.child());
        one.request();
        assert!(one.is_requested() && !two.is_requested() && !parent.is_requested());
        parent.request();
        two.requested().await;
    }
}
