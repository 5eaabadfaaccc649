//! Where a tier-2 story happens: a database, two tenants, a router, worker processes, virtual time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use http::Request;
use lantern_control::{App, Providers, Setup};
use lantern_edge::token::{Person, Tokens};
use lantern_engine::{Event, Run, event};
use lantern_ledger::Ledger;
use lantern_net::{Shutdown, TaskSet};
use lantern_policy::egress::Reach;
use lantern_policy::strategy::Strategy;
use lantern_policy::{Role, Scope};
use lantern_store::journal::{self, RunRow};
use lantern_store::record;
use lantern_store::sign_ins::{self, NewSignIn};
use lantern_store::{Blobs, Db, Error, InForce, Keys, Moment, Pace, Sealer, Vault, receipts, versions};
use lantern_types::edge::{BoxFuture, Clock, IdGen, Tasks as _};
use lantern_types::llm::Unlisted;
use lantern_types::{AgentId, At, ChainHead, Dur, RunId, SignInId, TenantId, UserId, VersionId};
use lantern_worker::{Deps, Options};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::edges::Edges;
use crate::check::Violation;
use crate::generate::{self, Setting};
use crate::rng::Rng;

/// The runtime's virtual time, as the clock of a machine that somebody sets shows it: like the real clock's, no answer of it
/// is earlier than an earlier one, and after it was set back it goes at half its pace.
pub(super) struct VirtualClock {
    start: Instant,
    hands: Mutex<Hands>,
}

struct Hands {
    /// How far it was set.
    set: i64,
    last: At,
    passed: Dur,
}

const START: At = At::from_micros(1_800_000_000_000_000);

impl VirtualClock {
    fn new(start: Instant) -> Self {
        Self { start, hands: Mutex::new(Hands { set: 0, last: START, passed: Dur::ZERO }) }
    }

    /// Sets the machine's clock so far on, or back.
    pub(super) fn set(&self, micros: i64) {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).set += micros;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> At {
        let passed = Dur::from_millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX));
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = At::from_micros((START + passed).micros().saturating_add(hands.set));
        let half = Dur::from_micros((passed.micros() - hands.passed.micros()) / 2);
        (hands.last, hands.passed) = (wall.max(hands.last + half), passed);
        hands.last
    }
    fn sleep(&self, dur: Dur) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(dur.std()))
    }
}

/// Ids and randomness from the seed.
struct SeededIds {
    seed: u64,
    next: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl SeededIds {
    fn roll(&self) -> Rng {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        Rng::of(self.seed, &format!("ids|{n}"))
    }
}

impl IdGen for SeededIds {
    fn uuid(&self) -> Uuid {
        let mut rng = self.roll();
        let random = u128::from(rng.roll()) << 64 | u128::from(rng.roll());
        lantern_types::id::uuid7(self.clock.now(), random)
    }
    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = self.roll();
        for chunk in bytes.chunks_mut(8) {
            for (to, from) in chunk.iter_mut().zip(rng.roll().to_le_bytes()) {
                *to = from;
            }
        }
    }
}

/// A disk that takes its time, sometimes refuses, and sometimes does not say that it did what it did.
pub(super) struct Disk {
    seed: u64,
    writes: AtomicU64,
    faulty: AtomicBool,
}

impl Disk {
    /// Whether there are faults from now on.
    pub(super) fn faulty(&self, faulty: bool) {
        self.faulty.store(faulty, Ordering::Relaxed);
    }

    fn pace(self: Arc<Self>, clock: Arc<dyn Clock>) -> Pace {
        Arc::new(move |moment| {
            if !self.faulty.load(Ordering::Relaxed) {
                return Box::pin(async { Ok(()) });
            }
            let n = self.writes.fetch_add(1, Ordering::Relaxed);
            let mut rng = Rng::of(self.seed, &format!("disk|{n}"));
            let millis = if rng.chance(4) { rng.within(100, 2_000) } else { rng.within(0, 12) };
            let fails = rng.chance(1);
            let wait = clock.sleep(Dur::from_millis(millis));
            Box::pin(async move {
                wait.await;
                let words = if moment == Moment::Before { "refused" } else { "not told" };
                if fails { Err(Error::Unavailable(words.into())) } else { Ok(()) }
            })
        })
    }
}

/// One tenant and how its owner signs in.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) scope: Scope,
    person: Person,
}

/// One run of the story.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) tenant: usize,
    pub(super) id: RunId,
}

pub(super) struct Place {
    pub(super) edges: Arc<Edges>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) runs: Vec<Told>,
    /// The runs that somebody asked to stop, and when they were told that it was heard.
    pub(super) cancelled: Vec<(Told, At)>,
    pub(super) trace: Vec<String>,
    pub(super) kills: usize,
    /// The emergency stop that holds, if somebody was told that one does.
    pub(super) stop: Option<super::stops::Holding>,
    pub(super) setting: Setting,
    pub(super) disk: Arc<Disk>,
    pub(super) db: Db,
    pub(super) vault: Vault,
    pub(super) clock: Arc<dyn Clock>,
    /// The same clock, for whoever sets it; and whether somebody has.
    pub(super) machine: Arc<VirtualClock>,
    pub(super) jumps: bool,
    tokens: Tokens,
    pub(super) ids: Arc<dyn IdGen>,
    router: Router,
    pub(super) deps: Deps,
    processes: Vec<TaskSet>,
}

pub(super) const TENANT: &str =
    "INSERT INTO tenants (tenant_id, slug, name, tier, created_at) VALUES ($1, $2, $2, 'team', 1)";
pub(super) const AGENT: &str =
    "INSERT INTO agents (tenant_id, id, name, labels, created_at, updated_at, version, current_version_id)
    VALUES ($1, $2, $3, '{}', 1, 1, 1, $4)";
const USER: &str =
    "INSERT INTO users (tenant_id, id, email, email_key, name, role, password_hash, created_at)
    VALUES ($1, $2, $3, $3, 'Owner', 'owner', 'none', 0)";
/// How long an owner is signed in: longer than any story.
const LASTS: Dur = Dur::from_secs(400 * 86_400);
pub(super) const VERSION: &str =
    "INSERT INTO agent_versions (tenant_id, id, agent_id, number, digest, manifest, created_at)
    VALUES ($1, $2, $3, 1, $4, $5, 1)";

type Made<T> = Result<T, String>;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Place {
    pub(super) async fn new(seed: u64, setting: Setting) -> Made<Self> {
        // The first tick of the runtime's timer, so that what is left of a millisecond is the same in every story.
        drop(tokio::time::timeout(Dur::from_millis(1).std(), std::future::pending::<()>()).await);
        #[expect(clippy::disallowed_methods, reason = "the virtual clock is made of the runtime's")]
        let machine = Arc::new(VirtualClock::new(Instant::now()));
        let clock: Arc<dyn Clock> = machine.clone();
        let ids: Arc<dyn IdGen> = Arc::new(SeededIds { seed, next: AtomicU64::new(0), clock: clock.clone() });
        let disk = Arc::new(Disk { seed, writes: AtomicU64::new(0), faulty: AtomicBool::new(false) });
        let db = Db::paced_sqlite(disk.clone().pace(clock.clone())).map_err(told)?;
        let keys = Keys::from_ids(ids.as_ref());
        let sealer = Sealer::new(db.clone(), &keys, ids.clone(), clock.clone()).map_err(told)?;
        let notary = lantern_store::Notary::new(&sealer, None);
        let vault = Vault::new(sealer, Blobs::memory());
        let edges = Arc::new(Edges::new(seed, clock.clone(), setting.choices.clone(), setting.tools.clone()));
        let tasks = TaskSet::new(Handle::current());
        let deps = Deps {
            db: db.clone(),
            vault: vault.clone(),
            notary,
            clock: clock.clone(),
            ids: ids.clone(),
            tasks: Arc::new(tasks.clone()),
            llm: edges.clone(),
            ledger: Ledger::new(db.clone(), clock.clone(), ids.clone(), false),
            tools: edges.clone(),
            in_force: InForce::new(setting.limits.clone()),
            limits: Arc::new(setting.limits.clone()),
            catalogue: Arc::new(setting.catalogue.clone()),
            content_kept: None,
            reader: lantern_store::lease::Reader { build: "this one", format: lantern_engine::FORMAT },
            standing: lantern_store::Standing::none(),
            memo: lantern_worker::Memo::default(),
            traces: None,
        };
        let app = App::new(setup(&deps, &keys, &setting)).map_err(told)?;
        let tokens = Tokens::new(&keys).map_err(told)?;
        let mut tenants = Vec::new();
        for n in [1, 2] {
            tenants.push(tenant(&deps, &setting, n).await?);
        }
        Ok(Self {
            edges,
            tenants,
            runs: Vec::new(),
            cancelled: Vec::new(),
            trace: Vec::new(),
            kills: 0,
            stop: None,
            setting,
            disk,
            db,
            vault,
            clock,
            machine,
            jumps: false,
            tokens,
            ids,
            router: lantern_control::router(app),
            deps,
            processes: Vec::new(),
        })
    }

    pub(super) fn tell(&mut self, line: String) {
        self.trace.push(format!("{} {line}", self.clock.now()));
    }

    pub(super) fn processes(&self) -> usize {
        self.processes.len()
    }

    pub(super) fn start_process(&mut self, n: usize) {
        let tasks = TaskSet::new(Handle::current());
        let ledger = Ledger::new(self.db.clone(), self.clock.clone(), self.ids.clone(), false);
        ledger.keep(&tasks, tasks.stopping());
        let deps = Deps { tasks: Arc::new(tasks.clone()), ledger, ..self.deps.clone() };
        let options = Options { poll: Dur::from_secs(1), ..Options::default() };
        tasks.spawn("worker", Box::pin(lantern_worker::run(deps, options, tasks.stopping())));
        match self.processes.get_mut(n) {
            Some(process) => *process = tasks,
            None => self.processes.push(tasks),
        }
    }

    /// Kills a process and starts it again at once.
    pub(super) fn restart(&mut self, n: usize) {
        if let Some(process) = self.processes.get(n) {
            process.kill();
        }
        self.start_process(n);
    }

    pub(super) async fn kill(&mut self, rng: &mut Rng) {
        let Some(n) = rng.place(self.processes.len()) else { return };
        self.tell(format!("process {n} is killed"));
        self.kills += 1;
        if let Some(process) = self.processes.get(n) {
            process.kill();
        }
        self.pass(Dur::from_millis(rng.within(0, 15_000))).await;
        self.start_process(n);
    }

    pub(super) async fn stop(&mut self, rng: &mut Rng) {
        let Some(n) = rng.place(self.processes.len()) else { return };
        self.tell(format!("process {n} is asked to stop"));
        if let Some(process) = self.processes.get(n).cloned() {
            process.shutdown(Dur::from_secs(rng.within(0, 10))).await;
        }
        self.start_process(n);
    }

    /// Somebody sets the machine's clock by hours.
    pub(super) fn jump(&mut self, rng: &mut Rng) {
        let hours = i64::try_from(rng.within(1, 6)).unwrap_or(1);
        let hours = if rng.chance(40) { -hours } else { hours };
        self.jumps = true;
        self.machine.set(hours * 3_600_000_000);
        self.tell(format!("the clock is set by {hours} hours"));
    }

    pub(super) async fn pass(&self, dur: Dur) {
        self.clock.sleep(dur).await;
    }

    pub(super) async fn start_run(&mut self, rng: &mut Rng) -> Made<()> {
        let (Some(who), Some(agent)) = (rng.place(self.tenants.len()), rng.pick(&self.setting.agents)) else {
            return Ok(());
        };
        let cap = generate::cap(rng).to_wire();
        let body = json!({ "agentName": agent.name, "input": agent.input, "maxCostUsd": cap });
        let (status, answer) = self.ask(who, "POST", "/v1/runs", Some(body)).await?;
        let id: Option<RunId> = answer.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        self.tell(format!("tenant {who} starts a run: {status} {id:?}"));
        match id {
            Some(id) if status == 201 => self.runs.push(Told { tenant: who, id }),
            // A tight limit may refuse a run, and a bad disk may not say whether it started.
            _ if status < 500 || status == 503 => {}
            _ => return Err(answer.to_string()),
        }
        Ok(())
    }

    /// Asks the router as the owner of a tenant.
    pub(super) async fn ask(
        &self,
        who: usize,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Made<(u16, Value)> {
        // A new one each time: a token is good for an hour, and stories may take longer.
        let person = self.tenants.get(who).map(|tenant| &tenant.person).ok_or("nobody asks")?;
        let token = self.tokens.issue(person, self.clock.now()).map_err(told)?;
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.router.clone().oneshot(request.body(body).map_err(told)?).await.map_err(told)?;
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await.map_err(told)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub(super) fn scope(&self, told: &Told) -> Scope {
        self.tenants
            .get(told.tenant)
            .map_or_else(|| Scope::of_lease(lantern_types::DEV_TENANT), |tenant| tenant.scope)
    }

    /// Every run of the story, with those that runs started.
    pub(super) async fn everything(&self) -> Result<Vec<(Told, RunRow)>, Violation> {
        let mut all = Vec::new();
        for (n, tenant) in self.tenants.iter().enumerate() {
            let filter = journal::RunFilter { limit: 10_000, ..Default::default() };
            let rows = journal::list(&self.db, tenant.scope, filter).await.map_err(unread)?;
            all.extend(rows.into_iter().map(|row| (Told { tenant: n, id: row.id }, row)));
        }
        Ok(all)
    }

    pub(super) async fn at_rest(&self) -> Result<bool, Violation> {
        for (told, row) in self.everything().await? {
            if row.finished_at.is_none()
                || receipts::find(&self.db, self.scope(&told), told.id).await.map_err(unread)?.is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn late(&self) -> String {
        let rows = self.everything().await.unwrap_or_default();
        let mut late = Vec::new();
        for (told, row) in rows.iter().filter(|(_, row)| row.finished_at.is_none()) {
            let open = match self.folded(told, row).await {
                Ok((run, ..)) => {
                    run.open_steps().map(|step| format!("{} {:?}", step.id, step.state)).collect()
                }
                Err(broken) => vec![broken.detail],
            };
            late.push(format!("{} ({}; {})", told.id, row.status, open.join(", ")));
        }
        late.join(", ")
    }

    /// How long until the first of the runs that are left is due: they may have asked for hours.
    pub(super) async fn until_due(&self) -> Dur {
        let rows = self.everything().await.unwrap_or_default();
        let open = rows.iter().filter(|(_, row)| row.finished_at.is_none());
        let due = open.filter_map(|(_, row)| row.wake_at).min();
        due.map_or(Dur::ZERO, |due| due.since(self.clock.now()))
    }

    /// A run folded from its journal, whose chain is checked on the way, with its events and the chain's head.
    pub(super) async fn folded(
        &self,
        told: &Told,
        row: &RunRow,
    ) -> Result<(Run, Vec<Event>, ChainHead), Violation> {
        let scope = self.scope(told);
        let mut chain = ChainHead::genesis();
        let mut events = Vec::new();
        for stored in journal::read(&self.db, scope, told.id, 1, 100_000).await.map_err(unread)? {
            chain = record::verify(chain, &stored).map_err(unread)?;
            let body = record::open(&self.vault, scope, told.id, &stored).await.map_err(unread)?;
            events.extend(event::decode(&stored.bytes, body.as_deref()).map_err(unread)?);
        }
        let version = versions::by_id(&self.db, scope, row.agent_version_id).await.map_err(unread)?;
        let text = version.map(|version| version.manifest).unwrap_or_default();
        let manifest = serde_json::from_str(&text).map_err(unread)?;
        Ok((Run::fold(told.id, Arc::new(manifest), &events), events, chain))
    }
}

/// What cannot be read back is itself a broken promise.
pub(super) fn unread(error: impl std::fmt::Display) -> Violation {
    Violation { rule: "readable", detail: error.to_string() }
}

fn setup(deps: &Deps, keys: &Keys, setting: &Setting) -> Setup {
    Setup {
        db: deps.db.clone(),
        vault: deps.vault.clone(),
        notary: deps.notary.clone(),
        keys: keys.clone(),
        clock: deps.clock.clone(),
        ids: deps.ids.clone(),
        tasks: deps.tasks.clone(),
        limits: deps.in_force.clone(),
        standing: deps.standing.clone(),
        content_kept: deps.content_kept,
        runtime: None,
        traces: None,
        catalogue: deps.catalogue.clone(),
        tools: setting.tools.clone(),
        spawn: None,
        signup: false,
        cors_origins: Vec::new(),
        trusted_proxies: Arc::default(),
        providers: Providers {
            vendor_urls: BTreeMap::new(),
            shared: Vec::new(),
            reach: Reach::Public,
            offline: false,
            strategy: Strategy::default(),
            probe: Arc::new(|_| Box::pin(async { Err(Unlisted { code: "no_llm", cause: None }) })),
        },
        stop: Shutdown::new(),
        sso: None,
    }
}

async fn tenant(deps: &Deps, setting: &Setting, n: u128) -> Made<Tenant> {
    let id = TenantId::from_uuid(Uuid::from_u128(n));
    let scope = Scope::of_lease(id);
    let slug = format!("tenant-{n}");
    let mut rows = Vec::new();
    for agent in &setting.agents {
        let (agent_id, version) =
            (AgentId::from_uuid(deps.ids.uuid()), VersionId::from_uuid(deps.ids.uuid()));
        rows.push((
            agent_id,
            version,
            agent.name.clone(),
            agent.manifest.digest(),
            agent.manifest.canonical(),
        ));
    }
    let at = deps.clock.now();
    let person = Person {
        tenant: id,
        id: UserId::from_uuid(Uuid::from_u128(n)),
        email: format!("owner-{n}@example.com"),
        name: "Owner".to_owned(),
        role: Role::Owner,
        sign_in: SignInId::from_uuid(Uuid::from_u128(n)),
    };
    let owner = person.clone();
    deps.db
        .write(scope, move |tx| {
            Box::pin(async move {
                tx.exec(TENANT, &[slug.into()]).await?;
                for (agent, version, name, digest, text) in rows {
                    tx.exec(AGENT, &[agent.into(), name.into(), version.into()]).await?;
                    tx.exec(VERSION, &[version.into(), agent.into(), digest.into(), text.into()]).await?;
                }
                tx.exec(USER, &[owner.id.into(), owner.email.into()]).await?;
                let new = NewSignIn { id: owner.sign_in, user: owner.id, expires_at: at + LASTS };
                sign_ins::begin(tx, new, at).await
            })
        })
        .await
        .map_err(told)?;
    Ok(Tenant { id, scope, person })
}
