//! The writer: everything that waits goes into one transaction, one sync, and then all answers go out. A thread of its
//! own does that for a crowd; a caller that comes alone does it itself, and spares two threads from being woken.
//!
//! Invariant: an answer leaves only after the commit that made it true, and after its sync unless every job of the group
//! says that it need not wait for one. A job that fails or panics undoes only what it
//! wrote itself. It never lingers for company: a lone job pays for one sync, a crowd shares it.
//!
//! Batches go first and without savepoints, which would cost each of them a fifth of its time: one that is refused
//! has normally written nothing, since its guard comes first. If one did write, the transaction is begun again and
//! its batches, which are data, run once more with savepoints. Closures run once and always have one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use lantern_types::TenantId;
use rusqlite::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::sqlite::{self, Refused, control, run_batch};
use super::tx::{Batch, Conn, Tx, Work};
use crate::error::{Error, Result};
use crate::notify::{Hint, Hub};
use crate::value::Value;

/// Jobs that may wait; beyond it callers are told to come back.
const QUEUE_MAX: usize = 1_024;
/// Jobs of one transaction: bounds how long the first of them waits.
const GROUP_MAX: usize = 512;

/// The way to SQLite's only write connection: a queue to the thread that works for it, and the connection itself for
/// whoever comes while it has nothing to do.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    hub: Hub,
}

/// Whether a job's answer waits until the disk has what it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// It does.
    Now,
    /// The log is in order: the next sync, of whatever is committed then, takes it along.
    Later,
}

/// The connection, and what its commits do at present.
struct Desk {
    tx: Tx,
    flush: Flush,
    /// Where the callers of a crowd are told.
    runtime: Option<Handle>,
}

impl Desk {
    /// Sees to it that the next commit syncs, or need not. A statement that is prepared does nothing here: SQLite
    /// changes this when it reads the text.
    fn set(&mut self, flush: Flush) -> Result<()> {
        if self.flush != flush {
            let sql =
                if flush == Flush::Now { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            sqlite::say(&self.tx, sql)?;
            self.flush = flush;
        }
        Ok(())
    }
}

/// What the thread and the callers share.
struct Shared {
    // Held for one group's transaction, by the thread or by a caller that found it free.
    desk: Mutex<Desk>,
    /// Jobs in the queue. Whoever finds some leaves the connection to the thread, which takes them all at once.
    waiting: AtomicUsize,
    /// Whether the last group had more than one job: then the next should have, too.
    crowded: AtomicBool,
    /// What must outlive the connection. Below it, because fields go in this order.
    _keep: Box<dyn Send + Sync>,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, when nobody has it, nothing waits for it, and no crowd is about.
    fn free(&self) -> Option<MutexGuard<'_, Desk>> {
        if self.crowded.load(Ordering::Relaxed) || self.waiting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        match self.desk.try_lock() {
            Ok(desk) => Some(desk),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Writer {
    /// Starts the thread. `keep` is dropped once the connection is closed.
    pub(super) fn start(conn: Connection, hub: Hub, keep: impl Send + Sync + 'static) -> Result<Self> {
        let (queue, jobs) = sync_channel::<Box<dyn Job>>(QUEUE_MAX);
        let runtime = Handle::try_current().ok();
        let desk = Mutex::new(Desk { tx: Tx::new(Conn::Sqlite(conn)), flush: Flush::Now, runtime });
        let shared = Arc::new(Shared {
            desk,
            waiting: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
            _keep: Box::new(keep),
        });
        let served = Arc::clone(&shared);
        let serve = move || run(&served, &jobs);
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(serve)
            .map_err(|e| Error::file("start the writer thread", e))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), shared, hub })
    }

    /// Queues a closure and answers once its group has committed. Dropping the future does not recall it.
    pub(super) async fn write<T: Send + 'static>(&self, work: Work<T>, flush: Flush) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let hub = self.hub.clone();
        self.enqueue(Box::new(Closure { work: Some(work), flush, outcome: None, answer, hub }))?;
        heard(answered).await
    }

    /// Queues a batch, likewise.
    pub(super) async fn submit(&self, tenant: TenantId, batch: Arc<Batch>) -> Result<Vec<u64>> {
        let (answer, answered) = oneshot::channel();
        let hub = self.hub.clone();
        self.enqueue(Box::new(Statements { tenant: tenant.into(), batch, outcome: None, answer, hub }))?;
        heard(answered).await
    }

    fn enqueue(&self, job: Box<dyn Job>) -> Result<()> {
        let Some(job) = self.at_once(job) else { return Ok(()) };
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        queue.try_send(job).map_err(|e| {
            self.shared.waiting.fetch_sub(1, Ordering::SeqCst);
            match e {
                TrySendError::Full(_) => Error::unavailable("too many writes are waiting"),
                TrySendError::Disconnected(_) => stopped(),
            }
        })
    }

    /// Runs a lone job on its caller's own thread while nothing else wants the connection: waking the thread and being
    /// woken by it takes about as long as a sync does. Gives the job back when it must wait its turn.
    ///
    /// For one commit that thread does nothing else. It is never more than one of the runtime's: whoever comes meanwhile
    /// finds the connection taken. To tell the runtime would have it wake another thread at every commit, which costs a
    /// lone run an eighth of its time.
    fn at_once(&self, job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        let Some(mut desk) = self.shared.free().filter(|_| may_block()) else { return Some(job) };
        let (batches, closures) = if job.repeats() { (vec![job], vec![]) } else { (vec![], vec![job]) };
        commit(&mut desk, batches, closures);
        None
    }
}

/// Closing waits for what was queued, so that a folder is free again when its `Db` is gone.
impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}

/// Whether this thread belongs to a runtime that has others to go on with meanwhile.
fn may_block() -> bool {
    let Ok(runtime) = Handle::try_current() else { return false };
    runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
}

fn stopped() -> Error {
    Error::unavailable("the writer thread has stopped")
}

/// What a job left in the open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// What is to be committed, which may be nothing.
    Good,
    /// What must be undone.
    Bad,
}

/// A queued piece of work, its type forgotten.
trait Job: Send {
    /// Whether it may run a second time after being undone.
    fn repeats(&self) -> bool;
    fn flush(&self) -> Flush;
    fn run(&mut self, tx: &mut Tx) -> Left;
    /// Answers its caller; `Err` when the group was not committed.
    fn answer(self: Box<Self>, committed: Result<()>);
}

/// Jobs of a committed group whose callers were not told yet. They are when this is dropped, wherever that is.
struct Committed(Vec<Box<dyn Job>>);

impl Drop for Committed {
    fn drop(&mut self) {
        for job in self.0.drain(..) {
            job.answer(Ok(()));
        }
    }
}

async fn heard<T>(answered: oneshot::Receiver<Result<T>>) -> Result<T> {
    answered.await.map_err(|_| stopped())?
}

struct Closure<T> {
    work: Option<Work<T>>,
    flush: Flush,
    outcome: Option<Result<(T, Vec<Hint>)>>,
    answer: oneshot::Sender<Result<T>>,
    hub: Hub,
}

impl<T: Send> Job for Closure<T> {
    fn repeats(&self) -> bool {
        false
    }

    fn flush(&self) -> Flush {
        self.flush
    }

    fn run(&mut self, tx: &mut Tx) -> Left {
        let outcome = match self.work.take() {
            Some(work) => poll_once(tx, work),
            None => Err(Error::internal("a closure was run twice")),
        };
        let left = if outcome.is_ok() { Left::Good } else { Left::Bad };
        self.outcome = Some(outcome);
        left
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let Self { outcome, answer, hub, .. } = *self;
        // Its own error says more than the group's.
        let outcome = outcome.unwrap_or_else(|| Err(stopped())).and_then(|done| committed.map(|()| done));
        let outcome = outcome.map(|(value, hints)| {
            hub.tell(&hints);
            value
        });
        // The caller may have gone; what is committed stays committed.
        drop(answer.send(outcome));
    }
}

struct Statements {
    tenant: Value,
    batch: Arc<Batch>,
    outcome: Option<Result<Vec<u64>>>,
    answer: oneshot::Sender<Result<Vec<u64>>>,
    hub: Hub,
}

impl Job for Statements {
    fn repeats(&self) -> bool {
        true
    }

    fn flush(&self) -> Flush {
        Flush::Now
    }

    fn run(&mut self, tx: &mut Tx) -> Left {
        let (outcome, left) = match run_batch(tx, &self.tenant, &self.batch) {
            Ok(counts) => (Ok(counts), Left::Good),
            Err(Refused { error, wrote }) => (Err(error), if wrote { Left::Bad } else { Left::Good }),
        };
        self.outcome = Some(outcome);
        left
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let Self { batch, outcome, answer, hub, .. } = *self;
        // Its own error says more than the group's.
        let outcome = outcome.unwrap_or_else(|| Err(stopped())).and_then(|done| committed.map(|()| done));
        if outcome.is_ok() {
            hub.tell(&batch.hints);
        }
        // Let go of before the answer goes out: what its caller made, its caller's thread takes apart.
        drop(batch);
        // The caller may have gone; what is committed stays committed.
        drop(answer.send(outcome));
    }
}

/// Runs a transaction's closure to its end. It cannot wait: it owns the connection.
pub(super) fn poll_once<T>(tx: &mut Tx, work: Work<T>) -> Result<(T, Vec<Hint>)> {
    let polled =
        catch_unwind(AssertUnwindSafe(|| work(tx).as_mut().poll(&mut Context::from_waker(Waker::noop()))));
    let outcome = match polled {
        Ok(Poll::Ready(outcome)) => outcome,
        Ok(Poll::Pending) => {
            Err(Error::Misuse("a transaction may await nothing but its own statements".to_owned()))
        }
        Err(_) => Err(Error::internal("a transaction panicked")),
    };
    tx.settle(outcome)
}

fn run(shared: &Shared, jobs: &Receiver<Box<dyn Job>>) {
    while let Ok(first) = jobs.recv() {
        // While a caller commits a job of its own, more may come: they are taken too.
        let mut desk = shared.desk();
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        shared.crowded.store(group.len() > 1, Ordering::Relaxed);
        shared.waiting.fetch_sub(group.len(), Ordering::SeqCst);
        let (batches, closures) = group.into_iter().partition(|job| job.repeats());
        commit(&mut desk, batches, closures);
    }
}

/// Runs a group in one transaction and answers all of it.
fn commit(desk: &mut Desk, mut batches: Vec<Box<dyn Job>>, closures: Vec<Box<dyn Job>>) {
    let later = batches.iter().chain(&closures).all(|job| job.flush() == Flush::Later);
    let set = desk.set(if later { Flush::Later } else { Flush::Now });
    let tx = &mut desk.tx;
    let mut begun = set.and_then(|()| control(tx, "BEGIN IMMEDIATE"));
    let bare = begun.is_ok() && batches.iter_mut().all(|job| job.run(tx) == Left::Good) && is_open(tx);
    let mut ran = Vec::with_capacity(batches.len() + closures.len());
    let mut rest = closures;
    if bare {
        ran = batches;
    } else {
        if begun.is_ok() {
            begun = begin_again(tx);
        }
        batches.append(&mut rest);
        rest = batches;
    }
    for mut job in rest {
        if let Err(e) = &begun {
            job.answer(Err(e.echo()));
            continue;
        }
        let kept = run_in_savepoint(tx, job.as_mut());
        ran.push(job);
        if let Err(e) = kept {
            // SQLite gave up the whole transaction (a full disk may do that): those before are undone too.
            answer_all(&mut ran, &Err(e), desk.runtime.as_ref());
            begun = begin_again(tx);
        }
    }
    if begun.is_ok() {
        let committed = control(tx, "COMMIT");
        if committed.is_err() {
            roll_back(tx);
        }
        answer_all(&mut ran, &committed, desk.runtime.as_ref());
    }
}

fn run_in_savepoint(tx: &mut Tx, job: &mut dyn Job) -> Result<()> {
    control(tx, "SAVEPOINT job")?;
    let left = job.run(tx);
    if !is_open(tx) {
        return Err(Error::unavailable("the database undid the transaction"));
    }
    if left == Left::Bad {
        control(tx, "ROLLBACK TO job")?;
    }
    control(tx, "RELEASE job")
}

fn begin_again(tx: &mut Tx) -> Result<()> {
    roll_back(tx);
    control(tx, "BEGIN IMMEDIATE")
}

/// Ends a transaction whose work is lost; SQLite may have ended it already.
fn roll_back(tx: &mut Tx) {
    if is_open(tx)
        && let Err(e) = control(tx, "ROLLBACK")
    {
        tracing::error!(error = %e, "a transaction could not be undone");
    }
}

fn is_open(tx: &Tx) -> bool {
    matches!(&tx.conn, Conn::Sqlite(conn) if !conn.is_autocommit())
}

/// Tells every caller. Those of a crowd are told by a task: one thread of the runtime is woken, and wakes the others where
/// that costs a tenth. It must be a task of its own, since nobody polls a caller that is not asked for just now.
fn answer_all(jobs: &mut Vec<Box<dyn Job>>, committed: &Result<()>, runtime: Option<&Handle>) {
    let told = match committed {
        Ok(()) => Committed(std::mem::take(jobs)),
        Err(e) => return jobs.drain(..).for_each(|job| job.answer(Err(e.echo()))),
    };
    if let Some(runtime) = runtime.filter(|_| told.0.len() > 1) {
        runtime.spawn(async move { drop(told) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(flush: Flush) -> Box<dyn Job> {
        let (answer, _answered) = oneshot::channel::<Result<()>>();
        let work: Work<()> = Box::new(|_| Box::pin(async { Ok(()) }));
        Box::new(Closure { work: Some(work), flush, outcome: None, answer, hub: Hub::new() })
    }

    #[test]
    fn a_group_waits_for_the_disk_unless_all_of_it_may_do_without() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("PRAGMA synchronous = FULL").unwrap();
        let mut desk = Desk { tx: Tx::new(Conn::Sqlite(conn)), flush: Flush::Now, runtime: None };
        let (normal, full) = (1, 2);
        for (group, level) in [
            (vec![Flush::Later], normal),
            (vec![Flush::Later, Flush::Later], normal),
            (vec![Flush::Later, Flush::Now], full),
            (vec![Flush::Later], normal),
            (vec![Flush::Now], full),
        ] {
            commit(&mut desk, vec![], group.iter().copied().map(job).collect());
            let Conn::Sqlite(conn) = &desk.tx.conn else { panic!("a foreign connection") };
            let now: i64 = conn.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
            assert_eq!(now, level, "{group:?}");
        }
    }
}
