//! The writer thread: everything that waits goes into one transaction, one sync, and then all answers go out.
//!
//! Invariant: an answer leaves only after the commit that made it true. A job that fails or panics undoes only its
//! own savepoint. It never lingers for company: a lone job pays for one sync, a crowd shares it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::sqlite;
use super::tx::{Conn, Tx, Work};
use crate::error::{Error, Result};
use crate::notify::{Hint, Hub};

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

    /// Queues a piece of work and answers once its group has committed. Dropping the future does not recall it.
    pub(super) async fn write<T: Send + 'static>(&self, work: Work<T>) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = Pending { work: Some(work), outcome: None, answer, hub: self.hub.clone() };
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.try_send(Box::new(job)).map_err(|e| match e {
            TrySendError::Full(_) => Error::unavailable("too many writes are waiting"),
            TrySendError::Disconnected(_) => stopped(),
        })?;
        answered.await.map_err(|_| stopped())?
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

/// A queued piece of work, its type forgotten.
trait Job: Send {
    /// Runs it; `false` when what it wrote must be undone.
    fn run(&mut self, tx: &mut Tx) -> bool;
    /// Answers; `Err` when the group it ran in was not committed.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Pending<T> {
    work: Option<Work<T>>,
    outcome: Option<Result<(T, Vec<Hint>)>>,
    answer: oneshot::Sender<Result<T>>,
    hub: Hub,
}

impl<T: Send> Job for Pending<T> {
    fn run(&mut self, tx: &mut Tx) -> bool {
        let outcome = match self.work.take() {
            Some(work) => poll_once(tx, work),
            None => Err(Error::internal("a job ran twice")),
        };
        let kept = outcome.is_ok();
        self.outcome = Some(outcome);
        kept
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
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
        commit(&mut tx, group);
    }
}

/// Runs a group in one transaction and answers all of it.
fn commit(tx: &mut Tx, jobs: Vec<Box<dyn Job>>) {
    let lone = jobs.len() == 1;
    let mut ran: Vec<Box<dyn Job>> = Vec::with_capacity(jobs.len());
    let mut begun = control(tx, "BEGIN IMMEDIATE");
    for mut job in jobs {
        if let Err(e) = &begun {
            job.answer(Err(echo(e)));
            continue;
        }
        let kept = if lone { run_alone(tx, job.as_mut()) } else { run_in_savepoint(tx, job.as_mut()) };
        ran.push(job);
        if let Err(e) = kept {
            // SQLite gave up the whole transaction (a full disk does that): those before are undone too.
            answer_all(&mut ran, &Err(e));
            begun = control(tx, "BEGIN IMMEDIATE");
        }
    }
    if begun.is_ok() {
        let committed = control(tx, "COMMIT");
        if committed.is_err() {
            drop(control(tx, "ROLLBACK"));
        }
        answer_all(&mut ran, &committed);
    }
}

/// Alone in its transaction, a job needs no savepoint: what undoes it undoes everything.
fn run_alone(tx: &mut Tx, job: &mut dyn Job) -> Result<()> {
    if job.run(tx) {
        return still_open(tx);
    }
    drop(control(tx, "ROLLBACK"));
    control(tx, "BEGIN IMMEDIATE")
}

fn run_in_savepoint(tx: &mut Tx, job: &mut dyn Job) -> Result<()> {
    control(tx, "SAVEPOINT job")?;
    let kept = job.run(tx);
    still_open(tx)?;
    if !kept {
        control(tx, "ROLLBACK TO job")?;
    }
    control(tx, "RELEASE job")
}

fn still_open(tx: &Tx) -> Result<()> {
    match &tx.conn {
        Conn::Sqlite(conn) if conn.is_autocommit() => {
            Err(Error::unavailable("the database undid the transaction"))
        }
        _ => Ok(()),
    }
}

fn control(tx: &mut Tx, sql: &'static str) -> Result<()> {
    match &mut tx.conn {
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
