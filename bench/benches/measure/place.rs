//! A worker at work: the real one over a real database, with a tenant, an agent of ten tool steps, and a tool that
//! answers at once.
//!
//! Invariant: nothing is short-cut that a server does: every append is sealed, chained, admitted and committed as it
//! is there. Only the API is left out; runs are written as the API writes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use lantern_engine::{Context, Manifest, Run, Start, event, start};
use lantern_net::{RealIds, TaskSet};
use lantern_policy::route::Choices;
use lantern_policy::{Admitted, Catalogue, Scope};
use lantern_store::journal::{self, NewRun};
use lantern_store::notify::{Hub, RunWatch};
use lantern_store::record::Record;
use lantern_store::versions::{self, Version};
use lantern_store::{Blobs, Db, Keys, Sealer, Vault};
use lantern_types::edge::{BoxFuture, Clock, IdGen, Tasks as _};
use lantern_types::llm::{LlmCall, LlmReply};
use lantern_types::tool::ToolCall;
use lantern_types::{
    AgentId, ChainHead, DEV_TENANT, Dur, EffectClass, Failure, Limits, MicroUsd, Route, RunId, ToolDef,
    ToolName, VersionId,
};
use lantern_worker::edge::Say;
use lantern_worker::{Deps, Llm, Options, Tools};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Steps of a run.
pub(crate) const STEPS: u32 = 10;
/// The most seconds that one run may take before the measurement is given up.
const STUCK: Dur = Dur::from_secs(120);

const TENANT: &str =
    "INSERT INTO tenants (tenant_id, slug, name, tier, created_at) VALUES ($1, 'bench', 'Bench', 'team', 0)";
const AGENT: &str =
    "INSERT INTO agents (tenant_id, id, name, labels, created_at, updated_at, version, current_version_id)
    VALUES ($1, $2, 'ten', '{}', 0, 0, 1, $3)";
const VERSION: &str =
    "INSERT INTO agent_versions (tenant_id, id, agent_id, number, digest, manifest, created_at)
    VALUES ($1, $2, $3, 1, $4, $5, 0)";
const SUCCEEDED: &str = "SELECT count(*) AS n FROM runs WHERE tenant_id = $1 AND status = 'succeeded'";

/// A tool that answers at once and tells who waits for a run that its last step is being made.
struct Instant {
    defs: Vec<ToolDef>,
    hub: Hub,
    last: String,
    // Sections under this lock are one insert or removal.
    waiting: Mutex<HashMap<RunId, oneshot::Sender<RunWatch>>>,
}

impl Instant {
    /// Answers, once the run's last step is being made, what will tell of the append that ends the run.
    fn wait_for(&self, run: RunId) -> oneshot::Receiver<RunWatch> {
        let (told, waits) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(run, told);
        waits
    }
}

impl Tools for Instant {
    fn defs(&self) -> &[ToolDef] {
        &self.defs
    }

    fn call(&self, scope: Scope, call: Admitted<ToolCall>, _: Dur) -> BoxFuture<'_, Result<Value, Failure>> {
        let key = &call.work().key;
        if key.step == self.last {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.run);
            // Subscribed before the last result exists, so the append that ends the run cannot be missed; and not
            // earlier, so that the nine appends before it wake nobody.
            if let Some(waiting) = waiting {
                drop(waiting.send(self.hub.subscribe(scope, key.run)));
            }
        }
        Box::pin(async { Ok(json!({ "value": 2, "exact": true })) })
    }
}

/// These runs call no model.
struct NoModels;

impl Llm for NoModels {
    fn choices(&self, _: Scope) -> BoxFuture<'_, Result<Choices, Failure>> {
        Box::pin(async { Ok(Choices::default()) })
    }

    fn call(
        &self,
        _: Scope,
        _: Route,
        _: Admitted<LlmCall>,
        _: Dur,
        _: Say,
    ) -> BoxFuture<'_, Result<LlmReply, Failure>> {
        Box::pin(async { Err(Failure::refused("no_llm", "there are no models here")) })
    }
}

/// A worker with what it needs, running.
pub(crate) struct Place {
    deps: Deps,
    tool: Arc<Instant>,
    tasks: TaskSet,
    scope: Scope,
    version: Version,
    manifest: Arc<Manifest>,
}

impl Place {
    /// Sets up a tenant and an agent in an empty database, and starts a worker on it.
    pub(crate) async fn open(db: Db, clock: Arc<dyn Clock>, sole: bool) -> Result<Arc<Self>> {
        let ids: Arc<dyn IdGen> = Arc::new(RealIds::new(clock.clone()));
        let (agent, version) = (AgentId::from_uuid(ids.uuid()), VersionId::from_uuid(ids.uuid()));
        let manifest = Arc::new(manifest()?);
        let scope = Scope::of_lease(DEV_TENANT);
        let (digest, text) = (manifest.digest(), manifest.canonical());
        db.write(scope, move |tx| {
            Box::pin(async move {
                tx.exec(TENANT, &[]).await?;
                tx.exec(AGENT, &[agent.into(), version.into()]).await?;
                tx.exec(VERSION, &[version.into(), agent.into(), digest.into(), text.into()]).await
            })
        })
        .await?;
        let tool = Arc::new(Instant {
            defs: vec![calc()?],
            hub: db.hub().clone(),
            last: format!("s{STEPS}"),
            waiting: Mutex::default(),
        });
        let tasks = TaskSet::new(Handle::current());
        let deps = deps(db, clock, ids, &tool, &tasks)?;
        deps.db.follow(&tasks, deps.clock.clone(), &tasks.stopping());
        let options = Options { sole, ..Options::default() };
        tasks.spawn("worker", Box::pin(lantern_worker::run(deps.clone(), options, tasks.stopping())));
        let version = deps.db.read(scope, |tx| Box::pin(versions::current(tx, "ten"))).await?;
        let version = version.context("the agent is not there")?;
        Ok(Arc::new(Self { deps, tool, tasks, scope, version, manifest }))
    }

    /// Keeps `width` runs in flight until each place has seen `rounds` of them end. Each has a task of its own, as each
    /// client of a server has.
    pub(crate) async fn in_flight(self: &Arc<Self>, width: usize, rounds: usize) -> Result<()> {
        let mut places = JoinSet::new();
        for _ in 0..width {
            let place = Arc::clone(self);
            places.spawn(async move {
                for _ in 0..rounds {
                    place.one_run().await?;
                }
                Ok(())
            });
        }
        places.join_all().await.into_iter().collect()
    }

    /// Starts a run and answers when its end is durable.
    pub(crate) async fn one_run(&self) -> Result<()> {
        let id = RunId::from_uuid(self.deps.ids.uuid());
        let last = self.tool.wait_for(id);
        let new = self.first_append(id).await?;
        self.deps
            .db
            .write(self.scope, move |tx| Box::pin(async move { journal::create(tx, new).await }))
            .await?;
        let ended = async {
            last.await.context("the run's last step was never made")?.changed().await;
            Ok(())
        };
        tokio::time::timeout(STUCK.std(), ended).await.with_context(|| format!("run {id} does not end"))?
    }

    async fn first_append(&self, id: RunId) -> Result<NewRun> {
        let begin = Start {
            agent: self.version.agent,
            version: self.version.id,
            manifest: self.version.digest,
            input: Arc::new(json!({})),
            parent: None,
            depth: 0,
            continues: None,
            carried: None,
            recall: None,
            forks: None,
            trace: None,
            cap: MicroUsd::from_micros(1_000_000),
            policy: lantern_policy::digest(),
            catalogue: self.deps.catalogue.digest(),
        };
        let at = self.deps.clock.now();
        let context =
            Context { at, limits: &self.deps.limits, tools: &self.tool.defs, violations: |_, _| Vec::new() };
        let events = start(Run::new(id, self.manifest.clone()), begin, &context)?.events;
        let encoded = event::encode(&events)?;
        let head = ChainHead::genesis();
        let record = Record::seal(&self.deps.vault, self.scope, (id, 1), head, encoded).await?;
        Ok(self.version.queued_run(id, record, at))
    }

    /// Fails unless exactly so many runs have succeeded.
    pub(crate) async fn check(&self, runs: usize) -> Result<()> {
        let read = self.deps.db.read(self.scope, |tx| Box::pin(async move { tx.one(SUCCEEDED, &[]).await }));
        let found = read.await?.context("no count")?.int("n")?;
        ensure!(usize::try_from(found)? == runs, "{found} of {runs} runs succeeded");
        Ok(())
    }

    /// Stops the worker and closes the database.
    pub(crate) async fn close(self: Arc<Self>) {
        self.tasks.shutdown(Dur::from_secs(10)).await;
    }
}

fn deps(
    db: Db,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    tool: &Arc<Instant>,
    tasks: &TaskSet,
) -> Result<Deps> {
    let sealer = Sealer::new(db.clone(), &Keys::from_ids(ids.as_ref()), ids.clone(), clock.clone())?;
    // Bodies of these runs are small: none becomes a blob.
    let notary = lantern_store::Notary::new(&sealer, None);
    let vault = Vault::new(sealer, Blobs::memory());
    let ledger = lantern_ledger::Ledger::new(db.clone(), clock.clone(), ids.clone(), true);
    Ok(Deps {
        db,
        ledger,
        vault,
        notary,
        clock,
        ids,
        tasks: Arc::new(tasks.clone()),
        llm: Arc::new(NoModels),
        tools: tool.clone(),
        in_force: Limits::default().into(),
        limits: Arc::new(Limits::default()),
        catalogue: Arc::new(Catalogue::builtin()?),
        content_kept: None,
        reader: lantern_store::lease::Reader { build: "bench", format: journal::FORMAT },
        standing: lantern_store::Standing::none(),
        memo: lantern_worker::Memo::default(),
        traces: None,
    })
}

fn manifest() -> Result<Manifest> {
    let step = |n| {
        let arguments = json!({ "expression": "1 + 1" });
        json!({ "id": format!("s{n}"), "kind": "tool", "data": { "tool": "calc", "arguments": arguments } })
    };
    let steps: Vec<Value> = (1..=STEPS).map(step).collect();
    Ok(Manifest::parse(&json!({ "program": "steps", "steps": steps }))?)
}

fn calc() -> Result<ToolDef> {
    Ok(ToolDef {
        name: ToolName::parse("calc")?,
        description: "Evaluates an arithmetic expression exactly.".to_owned(),
        input_schema: json!({ "type": "object" }),
        effect: EffectClass::Pure,
    })
}
