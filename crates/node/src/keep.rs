//! Looks after one box: keeps what it writes, stops it when nobody waits for it any more, and says how it ended.
//!
//! Invariant: lines are stored in order, some at a time, and no more of them than a workload may have; how it ended is stored after
//! the last of them. Whoever waits hears of the end after that.

use std::collections::BTreeSet;
use std::sync::Arc;

use lantern_ledger::{Meter, Metered, Whose};
use lantern_policy::Scope;
use lantern_policy::workload::{Network, Placed};
use lantern_sandbox::{Given, Happened, PORT, Running, Stream, Why, Wire};
use lantern_store::journal;
use lantern_store::metered::{self, Bounds, Came};
use lantern_store::workloads::{self, End, LOST, Lines};
use lantern_types::edge::BoxFuture;
use lantern_types::secret::BOX_TOKEN_PREFIX;
use lantern_types::{Digest, Dur, RunId, Secret, TraceParent};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::Node;
use crate::egress::{Door, Egress, Local, OPEN_MAX, Said, Told};
use crate::exec::Held;
use crate::secrets::{self, Vended};

/// Bytes of lines that are stored together, and how long the first of them may wait for others.
const BATCH_BYTES: usize = 32 << 10;
const BATCH_WAIT: Dur = Dur::from_millis(20);
/// Bytes of lines of one workload that are kept.
const KEPT_BYTES: usize = 16 << 20;
/// Bytes of lines about its egress that are kept, beside those.
const AUDIT_BYTES: usize = 4 << 20;
/// Model calls of one workload: each is an event of its run, which may have so many.
const CALLS_MAX: u64 = 4_000;
/// Under which names its run is told of its egress and of model calls that were refused, and of how many kinds of those.
const TOLD: &str = "lantern:egress";
const REFUSED: &str = "lantern:model";
const TOLD_MAX: usize = 200;
/// How long the run may take to hear of them before it hears of the end.
const HEAR_MAX: Dur = Dur::from_secs(5);
/// How long a program has to end when the server stops.
const STOPPING: Dur = Dur::from_secs(5);
/// How often the end is told to a database that cannot answer, and how long it waits in between.
const TELLINGS: u32 = 60;
const AGAIN: Dur = Dur::from_secs(1);

/// Variables by which programs find the way out.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
const NOT_BY_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// What is heard next of a box that has a way out.
async fn heard(way: &mut Option<Way>) -> Heard {
    let Some(Way { said, metered, .. }) = way else { return std::future::pending().await };
    tokio::select! {
        biased;
        Some(over) = metered.recv() => Heard::Over(over),
        Some(said) = said.recv() => Heard::Told(said),
        else => std::future::pending().await,
    }
}

enum Heard {
    /// A model call is over.
    Over(Metered),
    Told(Told),
}

/// What a program finds in its environment to call models by. Whoever brings a provider of their own keeps it.
fn access(token: &Secret<String>, here: &str, placed: &Placed, run: RunId) -> Vec<(&'static str, String)> {
    let token = || token.expose().clone();
    let mut facts =
        vec![("LANTERN_AGENT_INSTANCE_ID", format!("ai-{run}")), ("LANTERN_AGENT_INSTANCE_TOKEN", token())];
    for (url, key, base) in [
        ("OPENAI_BASE_URL", "OPENAI_API_KEY", format!("{here}/v1")),
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", here.to_owned()),
    ] {
        let spec = placed.spec();
        if ![url, key].into_iter().any(|name| spec.env.contains_key(name) || spec.keeps_secret(name)) {
            facts.extend([(url, base), (key, token())]);
        }
    }
    facts
}

/// Tells a run what a model call of its program came to, and then writes it off in the workload's row: in this order, so that a call
/// whose end was told is never told again as lost.
async fn write_off(node: &Node, (scope, run): (Scope, RunId), over: Metered, lost: bool) {
    let (setup, id, came) = (&node.setup, over.id, over.came);
    if came.made || came.cost > lantern_types::MicroUsd::ZERO {
        match setup.mail.metered((scope, run), over, lost).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(%run, call = %id, "a run was not told of a model call of its program");
            }
            // The row stays, and whoever looks after the workload next tells of it as lost.
            Err(error) => {
                tracing::warn!(%run, call = %id, %error, "a run was not told of a model call of its program yet");
                return;
            }
        }
    }
    if let Err(error) = metered::settle(&setup.db, scope, (run, id), came).await {
        // What was held for it stays held, and whoever runs the workload again counts it as spent.
        tracing::warn!(%run, call = %id, %error, "a model call of a workload was not written off");
    }
}

/// Counts what is left held as spent, by a server that died or a database that was away: nobody knows what came of those calls.
pub(crate) async fn reckon(node: &Node, scope: Scope, run: RunId) -> lantern_store::Result<()> {
    for left in metered::left(&node.setup.db, scope, run).await? {
        let metered::Left { id, provider, model, hold, tokens } = left;
        let came = Came { cost: hold, tokens_in: tokens, tokens_out: 0, made: true };
        write_off(node, (scope, run), Metered { id, provider, model, hold, came }, true).await;
    }
    Ok(())
}

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
    /// The span that its program is told to lie under.
    trace: Option<TraceParent>,
    let_go: Arc<Notify>,
    done: oneshot::Sender<Ended>,
    waiting: Vec<Value>,
    bytes: usize,
    /// The number of the next line.
    next: u64,
    kept: usize,
    audit_kept: usize,
    dropped: i64,
    stopped: bool,
    way: Option<Way>,
    /// What the run was told of its egress, and what it is to be told.
    told: BTreeSet<String>,
    to_tell: Vec<(&'static str, String, Value)>,
}

/// The way out of a box. Who drops it closes it.
struct Way {
    egress: Arc<Egress>,
    said: mpsc::Receiver<Told>,
    metered: mpsc::Receiver<Metered>,
    open: oneshot::Sender<()>,
    /// Nothing is served any more.
    shut: oneshot::Receiver<()>,
}

impl Keeper {
    pub(crate) fn new(
        node: Arc<Node>,
        (scope, run, trace): (Scope, RunId, Option<TraceParent>),
        let_go: Arc<Notify>,
        done: oneshot::Sender<Ended>,
    ) -> Self {
        Self {
            node,
            scope,
            run,
            trace,
            let_go,
            done,
            waiting: Vec::new(),
            bytes: 0,
            next: 1,
            kept: 0,
            audit_kept: 0,
            dropped: 0,
            stopped: false,
            way: None,
            told: BTreeSet::new(),
            to_tell: Vec::new(),
        }
    }

    /// Takes the workload, makes its box and looks after it until it is gone.
    pub(crate) async fn keep(mut self, placed: Placed, vended: Vec<Vended>, input: String) {
        let (node, run) = (self.node.clone(), self.run);
        let setup = &node.setup;
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
        self.node.with(|boxes| boxes.insert(run, Held::new(placed.spec().limits)));
        let told = placed.spec().network == Network::Allowlist || !vended.is_empty();
        let (why, code) = match self.made(&placed, vended, &input).await {
            Ok(running) => {
                let (shell, class) = (running.shell(), placed.spec().isolation);
                self.node.with(|boxes| boxes.get_mut(&run).map(|held| held.made(shell, class)));
                self.live(running).await
            }
            Err(error) => (Why::NotMade(error.to_string()), None),
        };
        self.close_way().await;
        if let Err(error) = reckon(&node, self.scope, run).await {
            tracing::warn!(%run, %error, "what is left of a workload's model calls was not counted yet");
        }
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
        if told && !stopping {
            setup.mail.taken_in((self.scope, run), HEAR_MAX).await;
        }
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

    async fn made(
        &mut self,
        placed: &Placed,
        vended: Vec<Vended>,
        input: &str,
    ) -> lantern_sandbox::Result<Running> {
        let told = secrets::tell(&self.node, (self.scope, self.run), &vended).await;
        told.map_err(lantern_sandbox::Error::NotMade)?;
        for vended in &vended {
            self.audit(&vended.line());
        }
        let id = format!("vm-{}", self.run);
        let mut facts = vec![
            ("LANTERN_RUNTIME", "true".to_owned()),
            ("LANTERN_VM_ID", id.clone()),
            ("LANTERN_RUN_ID", self.run.to_string()),
            ("LANTERN_TENANT_ID", self.scope.tenant().to_string()),
        ];
        facts.extend(self.trace.map(|trace| ("LANTERN_TRACE_PARENT", trace.to_string())));
        let mut wire = None;
        if placed.spec().network == Network::Allowlist {
            let proxy = format!("http://127.0.0.1:{PORT}");
            facts.extend(PROXIES.map(|name| (name, proxy.clone())));
            facts.extend(NOT_BY_PROXY.map(|name| (name, "127.0.0.1,localhost".to_owned())));
            let token = self.token();
            facts.extend(access(&token, &proxy, placed, self.run));
            facts.push(("LANTERN_LOCAL_URL", proxy));
            wire = Some(self.open_way(placed, &token).await?);
        }
        let secrets = vended.into_iter().map(|vended| vended.handed).collect();
        let given = Given { facts: &facts, input: input.as_bytes(), wire, secrets };
        self.node.setup.machine.start(placed, &id, given).await
    }

    /// Makes the network of a box, and serves what comes from it.
    async fn open_way(&mut self, placed: &Placed, token: &Secret<String>) -> lantern_sandbox::Result<Wire> {
        let setup = &self.node.setup;
        let (wire, listener) = Wire::lay().await?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| lantern_sandbox::Error::NotMade(error.to_string()))?;
        let rules = placed.spec().egress.clone();
        let (door, metered) = self.door(placed, token).await?;
        let local = Local::new(setup.mail.clone(), (self.scope, self.run), door, setup.steps.clone());
        let (egress, said) = Egress::new(rules, setup.outside.clone(), setup.clock.clone(), Some(local));
        let (open, gone) = oneshot::channel();
        let (shutting, shut) = oneshot::channel();
        let serving = egress.clone().serve(listener, gone);
        let serving = async move {
            serving.await;
            let _ = shutting.send(());
        };
        setup.tasks.spawn("node.egress", Box::pin(serving));
        self.way = Some(Way { egress, said, metered, open, shut });
        Ok(wire)
    }

    /// What whoever is in the box shows us: nobody else is told it, and it ends with the box.
    fn token(&self) -> Secret<String> {
        let mut bytes = [0; 32];
        self.node.setup.ids.fill(&mut bytes);
        // The digest of what was drawn, so that it is text.
        Secret::new(format!("{BOX_TOKEN_PREFIX}{}", Digest::of(&bytes)))
    }

    /// The door to models, with the meter of the workload.
    async fn door(
        &self,
        placed: &Placed,
        token: &Secret<String>,
    ) -> lantern_sandbox::Result<(Door, mpsc::Receiver<Metered>)> {
        let setup = &self.node.setup;
        let away = |error: lantern_store::Error| lantern_sandbox::Error::NotMade(error.to_string());
        let agent = journal::head(&setup.db, self.scope, self.run).await.map_err(away)?;
        let limits = &placed.spec().limits;
        let whose = Whose {
            scope: self.scope,
            run: self.run,
            node: setup.name.clone(),
            bounds: Bounds {
                calls: limits.max_steps.unwrap_or(CALLS_MAX).min(CALLS_MAX),
                tokens: limits.max_tokens.unwrap_or(u64::MAX),
            },
            steps_max: limits.max_steps,
        };
        let (meter, metered) =
            Meter::new(setup.db.clone(), setup.clock.clone(), setup.ids.clone(), whose, OPEN_MAX);
        let door = Door {
            models: setup.models.clone(),
            scope: self.scope,
            agent: agent.map(|row| (row.agent_id, row.agent_name)),
            meter,
            token: Digest::of(token.expose().as_bytes()),
            under_way: std::sync::Mutex::default(),
        };
        Ok((door, metered))
    }

    /// Cuts what is left of its connections, and takes note of what was decided last.
    async fn close_way(&mut self) {
        let Some(Way { egress, mut said, mut metered, open, shut }) = self.way.take() else { return };
        // What is under way is cut here, and told as what it came to.
        drop(open);
        let _ = shut.await;
        // A server that stops has not ended the program for good: its next life may hear the answers.
        if !self.node.setup.stop.is_requested() {
            egress.withdraw().await;
        }
        said.close();
        metered.close();
        while let Ok(told) = said.try_recv() {
            self.heard(&told);
        }
        while let Ok(over) = metered.try_recv() {
            self.over_and_done(over).await;
        }
        let (sent, received) = egress.counted();
        if sent + received > 0 {
            self.audit(&format!("egress: {sent} bytes sent, {received} received"));
        }
    }

    fn heard(&mut self, told: &Told) {
        match told {
            Told::Decided(said) => self.decided(said),
            Told::Logged(text) => self.line("harness", text),
            Told::Refused(path, why) => {
                self.audit(&format!("model call refused: {path}: {why}"));
                let value = json!({ "action": "model_refused", "path": path, "reason": why });
                self.note(REFUSED, value);
            }
        }
    }

    /// Tells the run what a model call came to, and then writes it off.
    async fn over_and_done(&mut self, over: Metered) {
        let Came { cost, tokens_in, tokens_out, made } = over.came;
        if made {
            let Metered { provider, model, .. } = &over;
            self.audit(&format!(
                "model call: {provider}/{model}: {tokens_in} tokens in, {tokens_out} out, {cost}"
            ));
        }
        write_off(&self.node, (self.scope, self.run), over, false).await;
    }

    fn note(&mut self, name: &'static str, value: Value) {
        let key = value.to_string();
        if self.told.len() < TOLD_MAX && self.told.insert(key.clone()) {
            self.to_tell.push((name, key, value));
        }
    }

    fn decided(&mut self, said: &Said) {
        self.audit(&said.line());
        self.note(TOLD, said.told());
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
                // Last: a flood of connections keeps nobody from ending the box.
                heard = heard(&mut self.way) => match heard {
                    Heard::Over(over) => self.over_and_done(over).await,
                    Heard::Told(told) => self.heard(&told),
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

    /// A line about its egress, which no flood of its own lines keeps out.
    fn audit(&mut self, text: &str) {
        let (kept, bytes) = (self.kept, text.len().saturating_add(64));
        if self.audit_kept.saturating_add(bytes) > AUDIT_BYTES {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.audit_kept = self.audit_kept.saturating_add(bytes);
        self.kept = 0;
        self.line("audit", text);
        self.kept = kept;
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

    /// Stores the lines that wait, and tells the run what it is to be told. Lines that cannot be stored are counted.
    async fn store(&mut self) {
        for (name, key, value) in std::mem::take(&mut self.to_tell) {
            let told = self.node.setup.mail.tell((self.scope, self.run), (name, &key), value).await;
            if !matches!(told, Ok(true)) {
                tracing::warn!(run = %self.run, "a run was not told of a connection that its box asked for");
            }
        }
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
