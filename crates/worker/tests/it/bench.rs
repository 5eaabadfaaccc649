//! A place to run workers at: one tenant, one database, scripted models and tools, virtual time.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lantern_engine::{Arrival, Context, Event, Manifest, Run, Start, continuation, event, start};
use lantern_ledger::Ledger;
use lantern_net::{RealIds, TaskSet};
use lantern_policy::route::{Choices, Provider};
use lantern_policy::{Admitted, Catalogue, Scope};
use lantern_store::inbox::{self, NewInput};
use lantern_store::journal::{self, GiveUp, RunFilter, RunRow, Stored};
use lantern_store::lease::Reader;
use lantern_store::record::{self, Record};
use lantern_store::seal::Place;
use lantern_store::{Blobs, Db, Error, InForce, Keys, Sealer, SqliteOptions, Vault, versions};
use lantern_types::edge::{BoxFuture, Clock, IdGen};
use lantern_types::llm::{Finish, LlmCall, LlmReply, ToolUse, Usage};
use lantern_types::tool::ToolCall;
use lantern_types::{
    AgentId, At, ChainHead, DEV_TENANT, Dur, EffectClass, Failure, Finding, InboxId, Limits, MicroUsd, Price,
    PriceSource, Route, RunId, ToolDef, ToolName, VersionId,
};
use lantern_worker::edge::Say;
use lantern_worker::{Deps, Llm, Options, Tools};
use serde_json::{Value, json};
use tokio::runtime::Handle;

/// A clock that follows the runtime's virtual time.
struct VirtualClock {
    start: tokio::time::Instant,
}

impl Clock for VirtualClock {
    fn now(&self) -> At {
        let passed = self.start.elapsed();
        At::from_micros(1_700_000_000_000_000) + Dur::from_millis(u64::try_from(passed.as_millis()).unwrap())
    }
    fn sleep(&self, dur: Dur) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(dur.std()))
    }
}

/// The clock of a machine that somebody sets.
pub(crate) struct Ahead {
    clock: Arc<dyn Clock>,
    secs: AtomicU64,
}

impl Ahead {
    /// From now on it shows so many seconds more than the others.
    pub(crate) fn set(&self, secs: u64) {
        self.secs.store(secs, Ordering::Relaxed);
    }
}

impl Clock for Ahead {
    fn now(&self) -> At {
        self.clock.now() + Dur::from_secs(self.secs.load(Ordering::Relaxed))
    }
    fn sleep(&self, dur: Dur) -> BoxFuture<'static, ()> {
        self.clock.sleep(dur)
    }
}

/// What a scripted model or tool does when it is called.
pub(crate) enum Act {
    Say(&'static str),
    Ask(&'static str, Value),
    /// Says something, and asks for a tool all the same.
    SayAndAsk(&'static str, &'static str),
    Return(Value),
    /// Says that it did not happen, when it is asked about.
    Deny,
    Fail(Failure),
    /// Never answers.
    Hang,
    /// Answers after a while.
    Slow(u64, Box<Act>),
}

/// Models and tools that do what they are told, step by step, and remember every call's key.
pub(crate) struct Script {
    clock: Arc<dyn Clock>,
    acts: Mutex<HashMap<String, VecDeque<Act>>>,
    calls: Mutex<Vec<String>>,
    defs: Vec<ToolDef>,
    /// Whether models have their vendor's price.
    priced: AtomicBool,
}

impl Script {
    /// `step` does these things, one for each call.
    pub(crate) fn on(&self, step: &str, acts: Vec<Act>) {
        self.acts.lock().unwrap().entry(step.to_owned()).or_default().extend(acts);
    }
    /// `step#generation`, in the order of calls.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
    fn next(&self, step: &str, generation: u32) -> Act {
        self.calls.lock().unwrap().push(format!("{step}#{generation}"));
        // Another model of the same provider is asked under a key of its own: `step@model`.
        let scripted = step.split('@').next().unwrap();
        let act = self.acts.lock().unwrap().get_mut(scripted).and_then(VecDeque::pop_front);
        act.unwrap_or_else(|| Act::Fail(Failure::refused("unscripted", step)))
    }
}

fn perform(act: Act, clock: Arc<dyn Clock>) -> BoxFuture<'static, Result<Act, Failure>> {
    Box::pin(async move {
        match act {
            Act::Fail(failure) => Err(failure),
            Act::Hang => std::future::pending().await,
            Act::Slow(millis, act) => {
                clock.sleep(Dur::from_millis(millis)).await;
                perform(*act, clock).await
            }
            other => Ok(other),
        }
    })
}

impl Llm for Script {
    fn choices(&self, _scope: Scope) -> BoxFuture<'_, Result<Choices, Failure>> {
        let vendor =
            || Provider { name: "openai".to_owned(), self_hosted: false, models: Vec::new(), keys: 1 };
        let providers = if self.priced.load(Ordering::Relaxed) { vec![vendor()] } else { Vec::new() };
        Box::pin(async { Ok(Choices { providers, offline_stands_in: true, ..Choices::default() }) })
    }
    fn call(
        &self,
        _scope: Scope,
        route: Route,
        call: Admitted<LlmCall>,
        _timeout: Dur,
        mut say: Say,
    ) -> BoxFuture<'_, Result<LlmReply, Failure>> {
        if !self.priced.load(Ordering::Relaxed) {
            assert_eq!((route.price, route.price_source), (Price::default(), PriceSource::Builtin));
        }
        let key = call.work().key.clone();
        let act = self.next(&key.step, key.generation);
        Box::pin(async move {
            let usage = Some(Usage { tokens_in: 10, tokens_out: 5 });
            let reply = |content: &str, tool_calls: Vec<ToolUse>, finish| LlmReply {
                content: content.into(),
                tool_calls,
                finish,
                usage,
                model: "scripted".into(),
            };
            match perform(act, self.clock.clone()).await? {
                Act::Ask(name, arguments) => {
                    let call = ToolUse {
                        id: "c1".into(),
                        name: name.into(),
                        arguments: arguments.to_string(),
                        proof: None,
                    };
                    Ok(reply("", vec![call], Finish::ToolCalls))
                }
                Act::SayAndAsk(text, name) => {
                    let call =
                        ToolUse { id: "c1".into(), name: name.into(), arguments: "{}".into(), proof: None };
                    Ok(reply(text, vec![call], Finish::ToolCalls))
                }
                Act::Say(text) => {
                    say(text);
                    Ok(reply(text, vec![], Finish::Stop))
                }
                _ => Err(Failure::refused("unscripted", "a model cannot do this")),
            }
        })
    }
}

impl Tools for Script {
    fn defs(&self) -> &[ToolDef] {
        &self.defs
    }
    /// Questions are scripted under the step's name and a question mark; one that is not has no answer.
    fn reconcile(
        &self,
        _scope: Scope,
        call: Admitted<ToolCall>,
        _timeout: Dur,
    ) -> BoxFuture<'_, Result<Option<Finding>, Failure>> {
        let key = call.work().key.clone();
        let act = self.next(&format!("{}?", key.step), key.generation);
        Box::pin(async move {
            match perform(act, self.clock.clone()).await? {
                Act::Return(value) => Ok(Some(Finding::Happened(value))),
                Act::Deny => Ok(Some(Finding::DidNotHappen)),
                _ => Ok(None),
            }
        })
    }
    fn call(
        &self,
        _scope: Scope,
        call: Admitted<ToolCall>,
        _timeout: Dur,
    ) -> BoxFuture<'_, Result<Value, Failure>> {
        let key = call.work().key.clone();
        let act = self.next(&key.step, key.generation);
        Box::pin(async move {
            match perform(act, self.clock.clone()).await? {
                Act::Return(value) => Ok(value),
                _ => Err(Failure::refused("unscripted", "a tool cannot do this")),
            }
        })
    }
}

pub(crate) struct Bench {
    pub(crate) script: Arc<Script>,
    pub(crate) scope: Scope,
    pub(crate) db: Db,
    deps: Deps,
    tasks: Mutex<TaskSet>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    sole: bool,
    broken: Arc<AtomicBool>,
    slow: Arc<AtomicU64>,
}

const TENANT: &str =
    "INSERT INTO tenants (tenant_id, slug, name, tier, created_at) VALUES ($1, 'dev', 'Dev', 'team', 0)";
const AGENT: &str =
    "INSERT INTO agents (tenant_id, id, name, labels, created_at, updated_at, version, current_version_id)
    VALUES ($1, $2, $3, '{}', 0, 0, 1, $4)";
const TOMORROW: &str = "INSERT INTO journal (tenant_id, run_id, first_seq, n, at, format, bytes, body, chain)
    VALUES ($1, $2, $3, 1, $4, 1, $5, NULL, $6)";
const MOVED: &str = "UPDATE runs SET version = $3, chain = $4 WHERE tenant_id = $1 AND id = $2";
const GARBLE: &str = "UPDATE journal SET bytes = $3 WHERE tenant_id = $1 AND run_id = $2";
const END: &str = "UPDATE runs SET status = 'failed', finished_at = 1, owner = NULL, wake_at = NULL
    WHERE tenant_id = $1 AND id = $2";
const PRIORITY: &str = "UPDATE runs SET priority = $3 WHERE tenant_id = $1 AND id = $2";
const FORMAT: &str = "UPDATE journal SET format = $3 WHERE tenant_id = $1 AND run_id = $2";
const OWE: &str = "INSERT INTO outbox (tenant_id, id, run_id, key, kind, payload, due_at, attempts)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0)";
const OWED: &str = "SELECT count(*) AS owed, coalesce(sum(attempts), 0) AS attempts FROM outbox
    WHERE tenant_id = $1 AND kind = $2";
const OVERDUE: &str = "UPDATE loose_blobs SET stage = 1, due_at = 0 WHERE tenant_id = $1";
const ARCHIVE: &str = "UPDATE agents SET archived_at = 1 WHERE tenant_id = $1 AND name = $2";
const VERSION: &str =
    "INSERT INTO agent_versions (tenant_id, id, agent_id, number, digest, manifest, created_at)
    VALUES ($1, $2, $3, 1, $4, $5, 0)";

const STRAY: Place<'static> = Place { purpose: "journal", row: b"stray" };

fn clock() -> Arc<dyn Clock> {
    #[expect(clippy::disallowed_methods, reason = "the virtual clock is made of the runtime's")]
    Arc::new(VirtualClock { start: tokio::time::Instant::now() })
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::under(Limits::default()).await
    }

    pub(crate) async fn under(limits: Limits) -> Self {
        let clock = clock();
        let broken = Arc::new(AtomicBool::new(false));
        let slow = Arc::new(AtomicU64::new(0));
        let (disk, pace, time) = (broken.clone(), slow.clone(), clock.clone());
        let db = Db::paced_sqlite(Arc::new(move |_| {
            let (fails, millis) = (disk.load(Ordering::Relaxed), pace.load(Ordering::Relaxed));
            let wait = (millis > 0).then(|| time.sleep(Dur::from_millis(millis)));
            Box::pin(async move {
                if let Some(wait) = wait {
                    wait.await;
                }
                if fails { Err(Error::Full) } else { Ok(()) }
            })
        }))
        .unwrap();
        Self { broken, slow, ..Self::of(db, clock, limits).await }
    }

    /// On a data folder, with the writer that servers have. Time passes as it does: its disk is not paced.
    pub(crate) async fn on_disk(folder: &Path) -> Self {
        let clock = clock();
        let db = Db::open_sqlite(folder, SqliteOptions::at(clock.now())).await.unwrap();
        Self::of(db, clock, Limits::default()).await
    }

    async fn of(db: Db, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        let ids: Arc<dyn IdGen> = Arc::new(RealIds::new(clock.clone()));
        let scope = Scope::of_lease(DEV_TENANT);
        db.write(scope, |tx| Box::pin(async move { tx.exec(TENANT, &[]).await })).await.unwrap();
        let sealer =
            Sealer::new(db.clone(), &Keys::from_ids(ids.as_ref()), ids.clone(), clock.clone()).unwrap();
        let def = |name: &str, effect| ToolDef {
            name: ToolName::parse(name).unwrap(),
            description: String::new(),
            input_schema: json!({"type": "object"}),
            effect,
        };
        let defs = vec![
            def("calc", EffectClass::Pure),
            def("pay", EffectClass::Irreversible),
            def("book", EffectClass::Reconcilable),
        ];
        let script = Arc::new(Script {
            clock: clock.clone(),
            acts: Mutex::default(),
            calls: Mutex::default(),
            defs,
            priced: AtomicBool::default(),
        });
        let tasks = TaskSet::new(Handle::current());
        let deps = Deps {
            db: db.clone(),
            notary: lantern_store::Notary::new(&sealer, None),
            vault: Vault::new(sealer, Blobs::memory()),
            clock: clock.clone(),
            ids: ids.clone(),
            tasks: Arc::new(tasks.clone()),
            llm: script.clone(),
            ledger: Ledger::new(db.clone(), clock.clone(), ids.clone(), true),
            tools: script.clone(),
            in_force: InForce::new(limits.clone()),
            limits: Arc::new(limits),
            catalogue: Arc::new(Catalogue::builtin().unwrap()),
            content_kept: None,
            reader: Reader { build: "this one", format: lantern_engine::FORMAT },
            standing: lantern_store::Standing::none(),
            memo: lantern_worker::Memo::default(),
            traces: None,
        };
        let tasks = Mutex::new(tasks);
        let (broken, slow) = (Arc::default(), Arc::default());
        Self { script, scope, db, deps, tasks, clock, ids, sole: true, broken, slow }
    }

    /// The policies that are in force here.
    pub(crate) fn standing(&self) -> &lantern_store::Standing {
        &self.deps.standing
    }

    /// From now on processes share the database with others.
    pub(crate) fn share(&mut self) {
        self.sole = false;
    }

    /// From now on content is kept so long.
    pub(crate) fn keep_content(&mut self, kept: Option<Dur>) {
        self.deps.content_kept = kept;
    }

    /// The clock of another machine.
    pub(crate) fn machine(&self) -> Arc<Ahead> {
        Arc::new(Ahead { clock: self.clock.clone(), secs: AtomicU64::new(0) })
    }

    /// The process that was started last.
    pub(crate) fn process(&self) -> TaskSet {
        self.tasks.lock().unwrap().clone()
    }

    /// Starts a worker process.
    pub(crate) fn start_worker(&self) {
        self.start_worker_of(self.deps.reader.build, self.deps.reader.format);
    }

    /// Starts a worker process of a build that knows this format.
    pub(crate) fn start_worker_of(&self, build: &'static str, format: i64) {
        self.start_worker_as(Reader { build, format }, self.clock.clone());
    }

    /// Starts a worker process with a clock of its own.
    pub(crate) fn start_worker_by(&self, clock: Arc<dyn Clock>) {
        self.start_worker_as(self.deps.reader, clock);
    }

    fn start_worker_as(&self, reader: Reader, clock: Arc<dyn Clock>) {
        use lantern_types::edge::Tasks as _;
        let tasks = TaskSet::new(Handle::current());
        let ledger = Ledger::new(self.db.clone(), clock.clone(), self.ids.clone(), self.sole);
        ledger.keep(&tasks, tasks.stopping());
        let deps = Deps { tasks: Arc::new(tasks.clone()), reader, clock, ledger, ..self.deps.clone() };
        let options = Options { sole: self.sole, ..Options::default() };
        tasks.spawn("worker", Box::pin(lantern_worker::run(deps, options, tasks.stopping())));
        *self.tasks.lock().unwrap() = tasks;
    }

    /// From now on models have their vendor's price.
    pub(crate) fn priced(&self) {
        self.script.priced.store(true, Ordering::Relaxed);
    }

    /// Fills the disk, or makes room again.
    pub(crate) fn full(&self, full: bool) {
        self.broken.store(full, Ordering::Relaxed);
    }

    /// From now on every write takes twice so long.
    pub(crate) fn slow(&self, millis: u64) {
        self.slow.store(millis, Ordering::Relaxed);
    }

    /// `kill -9`: every future of the process is dropped where it stands.
    pub(crate) async fn kill(&self) {
        let tasks = self.tasks.lock().unwrap().clone();
        tasks.kill();
        tokio::task::yield_now().await;
    }

    /// A process dies once so many calls were made, and another starts.
    pub(crate) async fn crash_after(&self, calls: usize) {
        self.until_calls(calls).await;
        self.kill().await;
        self.start_worker();
    }

    /// A stop that waits for what is outside.
    pub(crate) async fn stop(&self) -> Vec<&'static str> {
        let tasks = self.tasks.lock().unwrap().clone();
        tasks.shutdown(Dur::from_secs(30)).await
    }

    pub(crate) async fn agent(&self, name: &'static str, manifest: Value) {
        let manifest = Manifest::parse(&manifest).unwrap();
        let (agent, version) = (AgentId::from_uuid(self.ids.uuid()), VersionId::from_uuid(self.ids.uuid()));
        let (digest, text) = (manifest.digest(), manifest.canonical());
        self.db
            .write(self.scope, move |tx| {
                Box::pin(async move {
                    tx.exec(AGENT, &[agent.into(), name.into(), version.into()]).await?;
                    tx.exec(VERSION, &[version.into(), agent.into(), digest.into(), text.into()]).await
                })
            })
            .await
            .unwrap();
    }

    pub(crate) async fn start_run(&self, agent: &'static str, input: Value) -> RunId {
        let version = self
            .db
            .read(self.scope, move |tx| Box::pin(async move { versions::current(tx, agent).await }))
            .await
            .unwrap()
            .unwrap();
        let id = RunId::from_uuid(self.ids.uuid());
        let manifest: Arc<Manifest> = Arc::new(serde_json::from_str(&version.manifest).unwrap());
        let begin = Start {
            agent: version.agent,
            version: version.id,
            manifest: version.digest,
            input: Arc::new(input),
            parent: None,
            depth: 0,
            continues: None,
            carried: None,
            recall: None,
            forks: None,
            trace: None,
            cap: manifest.max_cost.unwrap_or(MicroUsd::from_micros(1_000_000)),
            policy: lantern_policy::digest(),
            catalogue: self.deps.catalogue.digest(),
        };
        let at = self.clock.now();
        let context = Context {
            at,
            limits: &self.deps.limits,
            tools: self.script.defs(),
            violations: |_, _| Vec::new(),
        };
        let events = start(Run::new(id, manifest), begin, &context).unwrap().events;
        let encoded = event::encode(&events).unwrap();
        let record =
            Record::seal(&self.deps.vault, self.scope, (id, 1), ChainHead::genesis(), encoded).await.unwrap();
        let new = version.queued_run(id, record, at);
        self.db
            .write(self.scope, move |tx| Box::pin(async move { journal::create(tx, new).await }))
            .await
            .unwrap();
        id
    }

    pub(crate) async fn send(&self, run: RunId, key: &str, arrival: Arrival) -> inbox::Put {
        let minted = (InboxId::from_uuid(self.ids.uuid()), self.clock.now());
        let (to, plain) = ((run, key.to_owned()), serde_json::to_vec(&arrival).unwrap());
        let new = NewInput::seal(self.deps.vault.sealer(), self.scope, minted, to, &plain).await.unwrap();
        self.db
            .write(self.scope, move |tx| Box::pin(async move { inbox::put(tx, new, 100).await }))
            .await
            .unwrap()
    }

    /// Gives an order to a chain of runs.
    pub(crate) async fn order(&self, run: RunId, key: &str, order: Arrival) -> (RunId, inbox::Put) {
        let minted = (InboxId::from_uuid(self.ids.uuid()), self.clock.now());
        let (to, plain) = ((run, key.to_owned()), serde_json::to_vec(&order).unwrap());
        let new = NewInput::seal(self.deps.vault.sealer(), self.scope, minted, to, &plain).await.unwrap();
        self.db.write(self.scope, move |tx| Box::pin(inbox::order(tx, new, 100, continuation))).await.unwrap()
    }

    pub(crate) async fn head(&self, run: RunId) -> RunRow {
        journal::head(&self.db, self.scope, run).await.unwrap().unwrap()
    }

    pub(crate) async fn child_of(&self, run: RunId) -> RunRow {
        self.children_of(run).await.remove(0)
    }

    pub(crate) async fn children_of(&self, run: RunId) -> Vec<RunRow> {
        let filter = RunFilter { parent_run_id: Some(run), limit: 10, ..Default::default() };
        journal::list(&self.db, self.scope, filter).await.unwrap()
    }

    /// A run owes this to others, as a row of the outbox has it.
    pub(crate) async fn owe(&self, run: RunId, kind: &'static str, key: &str, errand: Value) {
        let id = self.ids.uuid();
        let place = Place { purpose: "outbox", row: id.as_bytes() };
        let plain = errand.to_string().into_bytes();
        let payload = self.deps.vault.sealer().seal(self.scope, place, &plain).await.unwrap();
        let id = lantern_store::Value::from(id.as_bytes().as_slice());
        let params = [id, run.into(), key.into(), kind.into(), payload.into(), self.clock.now().into()];
        self.db
            .write(self.scope, move |tx| Box::pin(async move { tx.exec(OWE, &params).await }))
            .await
            .unwrap();
    }

    /// How many rows of this kind are still to be delivered, and how often they were taken in all.
    pub(crate) async fn owed(&self, kind: &'static str) -> (i64, i64) {
        let count =
            self.db.read(self.scope, move |tx| Box::pin(async move { tx.one(OWED, &[kind.into()]).await }));
        let row = count.await.unwrap().unwrap();
        (row.int("owed").unwrap(), row.int("attempts").unwrap())
    }

    /// Makes the run's journal one of a newer build.
    pub(crate) async fn newer(&self, run: RunId) {
        self.format(run, 2).await;
    }

    /// Gives the run this priority, as whoever asks for it may.
    pub(crate) async fn urgent(&self, run: RunId, priority: i64) {
        let params = [run.into(), priority.into()];
        let set =
            self.db.write(self.scope, move |tx| Box::pin(async move { tx.exec(PRIORITY, &params).await }));
        assert_eq!(set.await.unwrap(), 1);
    }

    /// Makes the run's journal one of a build that writes this format.
    pub(crate) async fn format(&self, run: RunId, format: i64) {
        let params = [run.into(), format.into()];
        self.db
            .write(self.scope, move |tx| Box::pin(async move { tx.exec(FORMAT, &params).await }))
            .await
            .unwrap();
    }

    /// Gives the run an event of a kind that no build knows yet, in a journal that is whole.
    pub(crate) async fn tomorrow(&self, run: RunId) {
        let head = self.head(run).await;
        let (seq, at) = (head.version + 1, self.clock.now());
        let bytes =
            format!("{{\"seq\":{seq},\"at\":{},\"type\":\"Teleported\"}}\n", at.micros()).into_bytes();
        let chain = lantern_types::link(head.chain, &bytes, lantern_types::Digest::of(b""));
        let row = [run.into(), seq.into(), at.into(), bytes.into(), chain.into()];
        let moved = [run.into(), seq.into(), chain.into()];
        let written = self.db.write(self.scope, move |tx| {
            Box::pin(async move {
                tx.exec(TOMORROW, &row).await?;
                tx.exec(MOVED, &moved).await
            })
        });
        assert_eq!(written.await.unwrap(), 1);
    }

    /// The run's journal as it is stored.
    pub(crate) async fn appends(&self, run: RunId) -> Vec<Stored> {
        journal::read(&self.db, self.scope, run, 1, 1_000).await.unwrap()
    }

    /// Makes the run's journal one that no build can read.
    pub(crate) async fn garble(&self, run: RunId) {
        let params = [run.into(), lantern_store::Value::from(b"{".as_slice())];
        self.db
            .write(self.scope, move |tx| Box::pin(async move { tx.exec(GARBLE, &params).await }))
            .await
            .unwrap();
    }

    /// Ends a run in its row alone.
    pub(crate) async fn end(&self, run: RunId) {
        self.db
            .write(self.scope, move |tx| Box::pin(async move { tx.exec(END, &[run.into()]).await }))
            .await
            .unwrap();
    }

    /// Whether a run has begun.
    pub(crate) async fn began(&self, run: RunId) -> bool {
        journal::head(&self.db, self.scope, run).await.unwrap().is_some()
    }

    /// A large body that was put for an append long ago.
    pub(crate) async fn stray(&self) -> Vec<u8> {
        let sealed = self.deps.vault.seal(self.scope, STRAY, &vec![7; 100_000]).await.unwrap();
        self.db.write(self.scope, |tx| Box::pin(async move { tx.exec(OVERDUE, &[]).await })).await.unwrap();
        sealed.stored
    }

    /// Whether a body that was put is still there.
    pub(crate) async fn is_there(&self, stored: &[u8]) -> bool {
        self.deps.vault.open(self.scope, STRAY, stored).await.is_ok()
    }

    pub(crate) async fn give_up(&self, end: GiveUp) -> bool {
        journal::give_up(&self.db, self.scope, end, Vec::new()).await.unwrap()
    }

    pub(crate) async fn archive(&self, name: &'static str) {
        self.db
            .write(self.scope, move |tx| Box::pin(async move { tx.exec(ARCHIVE, &[name.into()]).await }))
            .await
            .unwrap();
    }

    /// Waits until the run is in `status`; virtual time passes as fast as it can.
    pub(crate) async fn until(&self, run: RunId, status: &str) -> RunRow {
        for _ in 0..20_000 {
            let head = self.head(run).await;
            if head.status == status {
                return head;
            }
            self.clock.sleep(Dur::from_millis(50)).await;
        }
        panic!(
            "the run is {} and not {status}; calls: {:?}",
            self.head(run).await.status,
            self.script.calls()
        );
    }

    /// Waits until a run has begun that another one starts.
    pub(crate) async fn until_there(&self, run: RunId) {
        for _ in 0..20_000 {
            if self.began(run).await {
                return;
            }
            self.clock.sleep(Dur::from_millis(10)).await;
        }
        panic!("{run} was never started");
    }

    /// Waits until so many calls were made.
    pub(crate) async fn until_calls(&self, n: usize) {
        for _ in 0..20_000 {
            if self.script.calls().len() >= n {
                return;
            }
            self.clock.sleep(Dur::from_millis(10)).await;
        }
        panic!("only {:?}", self.script.calls());
    }

    pub(crate) fn now(&self) -> At {
        self.clock.now()
    }

    pub(crate) async fn pass(&self, secs: u64) {
        self.pass_millis(secs * 1_000).await;
    }

    pub(crate) async fn pass_millis(&self, millis: u64) {
        self.clock.sleep(Dur::from_millis(millis)).await;
    }

    /// The run, folded from its journal, whose chain is checked.
    pub(crate) async fn folded(&self, run: RunId) -> (Run, Vec<Event>) {
        let mut chain = ChainHead::genesis();
        let mut events = Vec::new();
        for stored in journal::read(&self.db, self.scope, run, 1, 1_000).await.unwrap() {
            chain = record::verify(chain, &stored).unwrap();
            let body = record::open(&self.deps.vault, self.scope, run, &stored).await.unwrap();
            events.extend(event::decode(&stored.bytes, body.as_deref()).unwrap());
        }
        let head = self.head(run).await;
        let version = versions::by_id(&self.db, self.scope, head.agent_version_id).await.unwrap().unwrap();
        let run = Run::fold(run, Arc::new(serde_json::from_str(&version.manifest).unwrap()), &events);
        assert_eq!(
            (run.status().as_str(), run.seq),
            (head.status.as_str(), u64::try_from(head.version).unwrap())
        );
        assert_eq!((run.spent, run.held, head.chain), (head.spent, head.held, chain));
        (run, events)
    }
}
