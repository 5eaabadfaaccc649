//! The entries that are due, and the task that writes them in groups.
//!
//! Invariant: an entry stays here until it is written or its tenant's log cannot take it, which is an error in the process's own log with
//! all that it says. A group is one transaction for each tenant, whoever waits. Bounded: when [`WAITING_MAX`] are due, everybody waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, StreamExt as _};
use lantern_net::Shutdown;
use lantern_policy::Scope;
use lantern_store::audit::{self, Entry, Marks};
use lantern_store::{Db, Keys};
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{Dur, TenantId};
use tokio::sync::{Notify, oneshot};

use super::{Answered, Asked, Due, Witness, due};

/// How long an entry that nobody waits for may be due.
pub(super) const EVERY: Dur = Dur::from_millis(250);
/// How long an answer waits for its entry.
const WAIT_MAX: Dur = Dur::from_secs(10);
/// How long the writer waits after the database did not take a group.
const AFTER_FAILURE: Dur = Dur::from_secs(1);
/// Entries that are due at once.
const WAITING_MAX: usize = 10_000;
/// Entries of one transaction.
const GROUP: usize = 256;
/// Tenants that are written for at once.
const AT_ONCE: usize = 8;
/// How far back an entry looks for one like it.
const LOOKED_AT: usize = 64;

/// The audit logs, as requests write them. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    db: Db,
    marks: Marks,
    clock: Arc<dyn Clock>,
    // Sections under this lock are one look at some entries, or one exchange.
    due: Mutex<Vec<Item>>,
    /// Something is due.
    some: Notify,
    /// Somebody waits.
    now: Notify,
    /// Requests that may leave an entry yet.
    open: AtomicUsize,
    over: AtomicBool,
}

struct Item {
    tenant: TenantId,
    entry: Entry,
    counted: bool,
    told: Vec<oneshot::Sender<()>>,
}

impl Log {
    /// Logs in this database, under this instance's marks.
    pub fn new(db: Db, keys: &Keys, clock: Arc<dyn Clock>) -> lantern_store::Result<Self> {
        Ok(Self(Arc::new(Inner {
            db,
            marks: Marks::new(keys)?,
            clock,
            due: Mutex::default(),
            some: Notify::new(),
            now: Notify::new(),
            open: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        })))
    }

    /// What the heads of the logs are marked with.
    pub fn marks(&self) -> &Marks {
        &self.0.marks
    }

    /// Writes what is due until the process stops and the last request that was let in is answered.
    pub fn keep(&self, tasks: &dyn Tasks, stop: Shutdown) {
        let inner = self.0.clone();
        tasks.spawn("audit", Box::pin(async move { inner.run(stop).await }));
    }

    /// Looks after a request until it is answered.
    pub(crate) fn watch(&self, asked: Asked, witness: Witness) -> Watch {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Watch { log: self.0.clone(), asked, witness, answered: false }
    }
}

/// A request that is not answered yet. Dropped before that, it leaves an entry that says so.
pub(crate) struct Watch {
    log: Arc<Inner>,
    asked: Asked,
    witness: Witness,
    answered: bool,
}

impl Watch {
    /// Adds the entry, if there is one. `false` when it had to be written before the answer and was not.
    pub(crate) async fn answered(mut self, answered: Answered) -> bool {
        self.answered = true;
        let due = due(&self.asked, &self.witness, answered, self.log.clock.now());
        let Some(written) = due.and_then(|due| self.log.add(due)) else { return true };
        tokio::select! {
            biased;
            written = written => written.is_ok(),
            () = self.log.clock.sleep(WAIT_MAX) => false,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.answered
            && let Some(due) = due(&self.asked, &self.witness, Answered::never(), self.log.clock.now())
        {
            drop(self.log.add(Due { waits: false, ..due }));
        }
        self.log.open.fetch_sub(1, Ordering::Relaxed);
        if self.log.over.load(Ordering::Relaxed) {
            return;
        }
        self.log.some.notify_one();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Vec<Item>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an entry due, and answers with what to wait for, if anything.
    fn add(&self, new: Due) -> Option<oneshot::Receiver<()>> {
        let Due { tenant, entry, waits, counted } = new;
        if self.over.load(Ordering::Relaxed) {
            lost(tenant, &entry);
            return None;
        }
        let mut due = self.lock();
        let (mut told, mut wait) = (Vec::new(), None);
        if waits || due.len() >= WAITING_MAX {
            let (tell, written) = oneshot::channel();
            told.push(tell);
            wait = Some(written);
        }
        let like = due
            .iter_mut()
            .rev()
            .take(LOOKED_AT)
            .find(|item| counted && item.counted && item.tenant == tenant && alike(&item.entry, &entry));
        match like {
            Some(item) => {
                item.entry.times = item.entry.times.saturating_add(1);
                item.told.append(&mut told);
            }
            None => due.push(Item { tenant, entry, counted, told }),
        }
        drop(due);
        if wait.is_some() {
            self.now.notify_one();
        } else {
            self.some.notify_one();
        }
        wait
    }

    async fn run(&self, stop: Shutdown) {
        loop {
            let stopping = stop.is_requested();
            let (empty, awaited) = {
                let due = self.lock();
                (due.is_empty(), due.iter().any(|item| !item.told.is_empty()))
            };
            if empty {
                if stopping && self.open.load(Ordering::Relaxed) == 0 {
                    break;
                }
                tokio::select! {
                    biased;
                    () = self.some.notified() => {}
                    () = self.now.notified() => {}
                    () = stop.requested(), if !stopping => {}
                }
                continue;
            }
            if !awaited && !stopping {
                tokio::select! {
                    biased;
                    () = self.now.notified() => {}
                    () = stop.requested() => {}
                    () = self.clock.sleep(EVERY) => {}
                }
            }
            if self.flush().await {
                continue;
            }
            if stop.is_requested() {
                break;
            }
            self.clock.sleep(AFTER_FAILURE).await;
        }
        self.over.store(true, Ordering::Relaxed);
        let left = std::mem::take(&mut *self.lock());
        for item in &left {
            lost(item.tenant, &item.entry);
        }
    }

    /// Writes what is due, for each tenant in its order. `false` when some of it is due still.
    async fn flush(&self) -> bool {
        let mut of_tenants: BTreeMap<TenantId, Vec<Item>> = BTreeMap::new();
        for item in std::mem::take(&mut *self.lock()) {
            of_tenants.entry(item.tenant).or_default().push(item);
        }
        let writes = of_tenants.into_iter().map(|(tenant, items)| self.write(tenant, items));
        let left: Vec<Vec<Item>> = stream::iter(writes).buffer_unordered(AT_ONCE).collect().await;
        let mut left: Vec<Item> = left.into_iter().flatten().collect();
        let done = left.is_empty();
        let mut due = self.lock();
        left.append(&mut due);
        *due = left;
        done
    }

    /// Writes a tenant's entries, and answers with those that are to be tried again.
    async fn write(&self, tenant: TenantId, mut items: Vec<Item>) -> Vec<Item> {
        while !items.is_empty() {
            let group: Vec<Entry> = items.iter().take(GROUP).map(|item| item.entry.clone()).collect();
            match audit::append(&self.db, Scope::of_lease(tenant), &self.marks, &group).await {
                Ok(()) => {
                    for item in items.drain(..group.len()) {
                        for told in item.told {
                            // Whoever waited may have left.
                            told.send(()).ok();
                        }
                    }
                }
                Err(lantern_store::Error::Misuse(what)) => {
                    tracing::error!(%tenant, what, "the audit log cannot take these entries");
                    for entry in &group {
                        lost(tenant, entry);
                    }
                    drop(items.drain(..group.len()));
                }
                Err(error) => {
                    tracing::warn!(%tenant, %error, due = items.len(), "the audit log was not written; it is tried again");
                    break;
                }
            }
        }
        items
    }
}

/// Whether two calls differ in nothing but their time and their request.
fn alike(one: &Entry, other: &Entry) -> bool {
    let whole = Entry { at: one.at, request: one.request, times: one.times, ..other.clone() };
    *one == whole
}

fn lost(tenant: TenantId, entry: &Entry) {
    tracing::error!(%tenant, ?entry, "an entry of the audit log was not written");
}
