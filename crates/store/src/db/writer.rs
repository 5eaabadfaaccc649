//! The writer thread: everything that waits goes into one transaction, one sync, and then all answers go out.
//!
//! Invariant: an answer leaves only after the commit that made it true. A job that fails or panics undoes only what it
//! wrote itself. It never lingers for company: a lone job pays for one sync, a crowd shares it.
//!
//! Batches go first and without savepoints, which would cost each of them a fifth of its time: one that is refused
//! has normally written nothing, since its guard comes first. If one did write, the transaction is begun again and
//! its batches, which are data, run once more with savepoints. Closures run once and always have one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use lantern_types::TenantId;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::sqlite::{self, Refused, run_batch};
use super::tx::{Batch, Conn, Tx, Work};
use crate::error::{Error, Result};
use crate::notify::{Hint, Hub};
use crate::value::Value;

/// Jobs that may wait; beyond it callers are told to come back.
const QUEUE_MAX: usize = 1_024;
/// Jobs of one transaction: bounds how long the first of them waits.
const GROUP_MAX: usize = 512;

/// The queue to the thread that owns SQLite's only write connection.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    hub: Hub,
}

impl Writer {
    /// Starts the thread. `keep` is dropped after its last commit.
    pub(super) fn start(conn: Connection, hub: Hub, keep: impl Send + 'static) -> Result<Self> {
        let (queue, jobs) = sync_channel::<Box<dyn Job>>(QUEUE_MAX);
        let serve = move || {
            run(Tx::new(Conn::Sqlite(conn)), &jobs);
            drop(keep);
        };
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(serve)
            .map_err(|e| Error::file("start the writer thread", e))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), hub })
    }

    /// Queues a closure and answers once its group has committed. Dropping the future does not recall it.
    pub(super) async fn write<T: Send + 'static>(&self, work: Work<T>) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let reply = Reply { outcome: None, answer, hub: self.hub.clone() };
        self.enqueue(Box::new(Closure { work: Some(work), reply }))?;
        answered.await.map_err(|_| stopped())?
    }

    /// Queues a batch, likewise.
    pub(super) async fn submit(&self, tenant: TenantId, batch: Batch) -> Result<Vec<u64>> {
        let (answer, answered) = oneshot::channel();
        let reply = Reply { outcome: None, answer, hub: self.hub.clone() };
        self.enqueue(Box::new(Statements { tenant: tenant.into(), batch, reply }))?;
        answered.await.map_err(|_| stopped())?
    }

    fn enqueue(&self, job: Box<dyn Job>) -> Result<()> {
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => Error::unavailable("too many writes are waiting"),
            TrySendError::Disconnected(_) => stopped(),
        })
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
    fn run(&mut self, tx: &mut Tx) -> Left;
    /// Answers; `Err` when the group it ran in was not committed.
    fn answer(self: Box<Self>, committed: Result<()>);
}

/// Where an outcome waits for its commit.
struct Reply<T> {
    outcome: Option<Result<(T, Vec<Hint>)>>,
    answer: oneshot::Sender<Result<T>>,
    hub: Hub,
}

impl<T> Reply<T> {
    fn send(self, committed: Result<()>) {
        let outcome = self.outcome.unwrap_or_else(|| Err(stopped()));
        let answer = match (outcome, committed) {
            (Ok((value, hints)), Ok(())) => {
                self.hub.tell(&hints);
                Ok(value)
            }
            (Ok(_), Err(e)) | (Err(e), _) => Err(e),
        };
        // The caller may have gone; what is committed stays committed.
        drop(self.answer.send(answer));
    }
}

struct Closure<T> {
    work: Option<Work<T>>,
    reply: Reply<T>,
}

impl<T: Send> Job for Closure<T> {
    fn repeats(&self) -> bool {
        false
    }

    fn run(&mut self, tx: &mut Tx) -> Left {
        let outcome = match self.work.take() {
            Some(work) => poll_once(tx, work),
            None => Err(Error::internal("a closure was run twice")),
        };
        let left = if outcome.is_ok() { Left::Good } else { Left::Bad };
        self.reply.outcome = Some(outcome);
        left
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        self.reply.send(committed);
    }
}

struct Statements {
    tenant: Value,
    batch: Batch,
    reply: Reply<Vec<u64>>,
}

impl Job for Statements {
    fn repeats(&self) -> bool {
        true
    }

    fn run(&mut self, tx: &mut Tx) -> Left {
        let (outcome, left) = match run_batch(tx, &self.tenant, &self.batch) {
            Ok(counts) => (Ok((counts, self.batch.hints.clone())), Left::Good),
            Err(Refused { error, wrote }) => (Err(error), if wrote { Left::Bad } else { Left::Good }),
        };
        self.reply.outcome = Some(outcome);
        left
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        self.reply.send(committed);
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

fn run(mut tx: Tx, jobs: &Receiver<Box<dyn Job>>) {
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        let (batches, closures) = group.into_iter().partition(|job| job.repeats());
        commit(&mut tx, batches, closures);
    }
}

/// Runs a group in one transaction and answers all of it.
fn commit(tx: &mut Tx, mut batches: Vec<Box<dyn Job>>, closures: Vec<Box<dyn Job>>) {
    let mut begun = control(tx, "BEGIN IMMEDIATE");
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
            job.answer(Err(echo(e)));
            continue;
        }
        let kept = run_in_savepoint(tx, job.as_mut());
        ran.push(job);
        if let Err(e) = kept {
            // SQLite gave up the whole transaction (a full disk may do that): those before are undone too.
            answer_all(&mut ran, &Err(e));
            begun = begin_again(tx);
        }
    }
    if begun.is_ok() {
        let committed = control(tx, "COMMIT");
        if committed.is_err() {
            roll_back(tx);
        }
        answer_all(&mut ran, &committed);
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

fn control(tx: &Tx, sql: &'static str) -> Result<()> {
    match &tx.conn {
        Conn::Sqlite(conn) => sqlite::execute(conn, sql, None, &[]).map(drop),
        Conn::Postgres(_) => Err(Error::internal("the writer thread holds a foreign connection")),
    }
}

fn answer_all(jobs: &mut Vec<Box<dyn Job>>, committed: &Result<()>) {
    for job in jobs.drain(..) {
        job.answer(match committed {
            Ok(()) => Ok(()),
            Err(e) => Err(echo(e)),
        });
    }
}

/// The same error for one more caller.
fn echo(error: &Error) -> Error {
    match error {
        Error::Full => Error::Full,
        Error::Corrupt(source) => Error::Corrupt(source.to_string().into()),
        Error::Unavailable(source) | Error::Internal(source) => Error::unavailable(source.to_string()),
        other => Error::unavailable(other.to_string()),
    }
}
