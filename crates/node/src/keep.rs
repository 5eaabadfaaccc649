//! Looks after one box: keeps what it writes, stops it when nobody waits for it any more, and says how it ended.
//!
//! Invariant: lines are stored in order, some at a time, and no more of them than a workload may have; how it ended is stored after
//! the last of them. Whoever waits hears of the end after that.

use std::sync::Arc;

use lantern_policy::Scope;
use lantern_policy::workload::Placed;
use lantern_sandbox::{Happened, Running, Stream, Why};
use lantern_store::workloads::{self, End, LOST, Lines};
use lantern_types::edge::BoxFuture;
use lantern_types::{Dur, RunId};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use crate::Node;

/// Bytes of lines that are stored together, and how long the first of them may wait for others.
const BATCH_BYTES: usize = 32 << 10;
const BATCH_WAIT: Dur = Dur::from_millis(20);
/// Bytes of lines of one workload that are kept.
const KEPT_BYTES: usize = 16 << 20;
/// How long a program has to end when the server stops.
const STOPPING: Dur = Dur::from_secs(5);
/// How often the end is told to a database that cannot answer, and how long it waits in between.
const TELLINGS: u32 = 60;
const AGAIN: Dur = Dur::from_secs(1);

/// Held by whoever waits for a box; without anybody who waits it is stopped.
pub(crate) struct Leash(pub(crate) Arc<Notify>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// How a box ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reason: &'static str,
    pub(crate) exit_code: Option<i64>,
    pub(crate) lines: i64,
    /// What the runtime said, of a box that was not made.
    pub(crate) words: String,
}

/// Looks after one box.
pub(crate) struct Keeper {
    node: Arc<Node>,
    scope: Scope,
    run: RunId,
    let_go: Arc<Notify>,
    done: oneshot::Sender<Ended>,
    waiting: Vec<Value>,
    bytes: usize,
    /// The number of the next line.
    next: u64,
    kept: usize,
    dropped: i64,
    stopped: bool,
}

impl Keeper {
    pub(crate) fn new(
        node: Arc<Node>,
        (scope, run): (Scope, RunId),
        let_go: Arc<Notify>,
        done: oneshot::Sender<Ended>,
    ) -> Self {
        Self {
            node,
            scope,
            run,
            let_go,
            done,
            waiting: Vec::new(),
            bytes: 0,
            next: 1,
            kept: 0,
            dropped: 0,
            stopped: false,
        }
    }

    /// Takes the workload, makes its box and looks after it until it is gone.
    pub(crate) async fn keep(mut self, placed: Placed, input: String) {
        let (setup, run) = (&self.node.setup, self.run);
        let again = placed.spec().idempotent;
        match workloads::take(&setup.db, self.scope, run, setup.name.clone(), again).await {
            Ok(true) => {}
            // Stopped before it began, or taken by somebody else.
            Ok(false) => return self.over(("stopped", None, String::new())),
            Err(error) => {
                tracing::warn!(%run, %error, "a workload was not taken");
                return self.over((LOST, None, String::new()));
            }
        }
        self.node.with(|boxes| boxes.insert(run, placed.spec().limits));
        let (why, code) = match self.made(&placed, &input).await {
            Ok(running) => self.live(running).await,
            Err(error) => (Why::NotMade(error.to_string()), None),
        };
        let stopping = self.node.setup.stop.is_requested();
        let (reason, words) = match why {
            Why::Exited => ("exited", String::new()),
            Why::TimedOut => ("timed_out", String::new()),
            // The server stops, and nobody asked for the end of this program.
            Why::Stopped if stopping => (LOST, String::new()),
            Why::Stopped => ("stopped", String::new()),
            Why::NotMade(words) => ("not_made", words),
        };
        if reason == "not_made" {
            self.line("harness", &format!("the box could not be made: {words}"));
        }
        if self.dropped > 0 {
            let words = format!("{} lines more were written and are not kept", self.dropped);
            self.kept = 0;
            self.line("harness", &words);
        }
        self.store().await;
        let exit_code = code.map(i64::from);
        self.tell(reason, exit_code).await;
        self.node.with(|boxes| boxes.remove(&run));
        self.over((reason, exit_code, words));
    }

    /// Tells whoever waits, who may have gone.
    fn over(self, (reason, exit_code, words): (&'static str, Option<i64>, String)) {
        let lines = i64::try_from(self.next.saturating_sub(1)).unwrap_or(i64::MAX);
        let _ = self.done.send(Ended { reason, exit_code, lines, words });
    }

    async fn made(&self, placed: &Placed, input: &str) -> lantern_sandbox::Result<Running> {
        let id = format!("vm-{}", self.run);
        let facts = [
            ("LANTERN_RUNTIME", "true".to_owned()),
            ("LANTERN_VM_ID", id.clone()),
            ("LANTERN_RUN_ID", self.run.to_string()),
            ("LANTERN_TENANT_ID", self.scope.tenant().to_string()),
        ];
        self.node.setup.machine.start(placed, &id, &facts, input.as_bytes()).await
    }

    async fn live(&mut self, mut running: Running) -> (Why, Option<i32>) {
        let setup = &self.node.setup;
        let (clock, stop, name) = (setup.clock.clone(), setup.stop.clone(), setup.name.clone());
        match workloads::find(&setup.db, self.scope, self.run).await {
            Ok(Some(row)) => self.next = u64::try_from(row.lines).unwrap_or_default().saturating_add(1),
            Ok(None) => running.stop(Dur::ZERO).await,
            Err(error) => tracing::warn!(run = %self.run, %error, "a box began without being looked up"),
        }
        if let Err(error) = workloads::started(&setup.db, self.scope, self.run, name, clock.now()).await {
            tracing::warn!(run = %self.run, %error, "that a box was made was not noted");
        }
        let let_go = self.let_go.clone();
        let mut due: Option<BoxFuture<'static, ()>> = None;
        loop {
            let store = async {
                match &mut due {
                    Some(due) => due.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.requested(), if !self.stopped => {
                    self.stopped = true;
                    running.stop(STOPPING).await;
                }
                () = let_go.notified(), if !self.stopped => {
                    self.stopped = true;
                    let grace = self.grace().await;
                    running.stop(grace).await;
                }
                () = store => {
                    due = None;
                    self.store().await;
                }
                happened = running.next() => match happened {
                    Happened::Line(Stream::Stdout, text) => self.line("stdout", &text),
                    Happened::Line(Stream::Stderr, text) => self.line("stderr", &text),
                    Happened::Ended(ended) => return (ended.why, ended.code),
                },
            }
            if self.bytes >= BATCH_BYTES {
                due = None;
                self.store().await;
            } else if !self.waiting.is_empty() && due.is_none() {
                due = Some(clock.sleep(BATCH_WAIT));
            }
        }
    }

    /// How long the program has: what whoever stopped it said.
    async fn grace(&self) -> Dur {
        let row = workloads::find(&self.node.setup.db, self.scope, self.run).await;
        row.ok().flatten().map_or(STOPPING, |row| row.grace)
    }

    fn line(&mut self, stream: &str, text: &str) {
        if self.kept.saturating_add(text.len()) > KEPT_BYTES {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.kept = self.kept.saturating_add(text.len().saturating_add(64));
        self.bytes = self.bytes.saturating_add(text.len().saturating_add(64));
        let at = self.node.setup.clock.now().to_string();
        self.waiting.push(json!({ "stream": stream, "text": text, "at": at }));
    }

    /// Stores the lines that wait. Those that cannot be stored are counted.
    async fn store(&mut self) {
        let lines = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        if lines.is_empty() {
            return;
        }
        let n = u64::try_from(lines.len()).unwrap_or_default();
        let plain = Value::Array(lines).to_string().into_bytes();
        let (setup, lines) = (&self.node.setup, Lines { first: self.next, n, plain });
        match workloads::keep(&setup.db, &setup.sealer, self.scope, self.run, lines).await {
            Ok(true) => self.next = self.next.saturating_add(n),
            Ok(false) => self.dropped = self.dropped.saturating_add(i64::try_from(n).unwrap_or_default()),
            Err(error) => {
                tracing::warn!(run = %self.run, %error, "what a box wrote was not kept");
                self.dropped = self.dropped.saturating_add(i64::try_from(n).unwrap_or_default());
            }
        }
    }

    /// Says in the database how the box ended.
    async fn tell(&self, reason: &'static str, exit_code: Option<i64>) {
        let setup = &self.node.setup;
        let fine = reason == "stopped" || (reason == "exited" && exit_code == Some(0));
        let state = if fine { "terminated" } else { "failed" };
        for _ in 0..TELLINGS {
            let end = End { state, reason, exit_code, dropped: self.dropped, at: setup.clock.now() };
            match workloads::end(&setup.db, self.scope, self.run, setup.name.clone(), end).await {
                Ok(_) => return,
                Err(error) => tracing::warn!(run = %self.run, %error, "how a box ended was not noted"),
            }
            setup.clock.sleep(AGAIN).await;
        }
    }
}
