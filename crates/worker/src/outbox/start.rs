//! Starting a run that another run wants: its child, or what it goes on as.
//!
//! Invariant: the row of a start goes in the transaction that makes the run, or that tells the parent why there will be
//! none; a delivery that finds the row gone does nothing. So a refusal is final. Nothing begins for a parent that is over:
//! it was charged what it held for the child, and would not hear what the child spends.

use std::sync::Arc;

use lantern_engine::{
    Arrival, Carried, Continues, Manifest, Outcome, Parent, Run, Start, StepId, event, start,
};
use lantern_policy::Scope;
use lantern_store::inbox::{self, NewInput, Put};
use lantern_store::journal::{self, NewRun};
use lantern_store::outbox::{self, Due};
use lantern_store::record::Record;
use lantern_store::versions::{self, Version};
use lantern_store::{Error, Result, TenantTx};
use lantern_types::{ChainHead, MicroUsd, Priority, RunId, TraceParent, VersionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{full_inbox, sealed};
use crate::{Deps, schema};

/// A run that another run wants: its child, or what it goes on as.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) run: RunId,
    /// The run that it answers to.
    pub(super) parent: Parent,
    pub(super) continues: Option<Continues>,
    /// What an agent's continuation carries on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) carried: Option<Arc<Carried>>,
    pub(super) step: Option<StepId>,
    /// A child's agent; a continuation runs its predecessor's version.
    pub(super) agent: Option<String>,
    pub(super) version: Option<VersionId>,
    pub(super) input: Value,
    pub(super) cap: MicroUsd,
    pub(super) depth: u32,
    /// The span that it belongs under, where traces are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<TraceParent>,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// The run is there.
    There,
    /// It was refused, or nobody is left to answer to: it will never be there.
    Never,
    /// Another delivery of the row came first.
    Elsewhere,
}

type Refusal = (&'static str, String);

/// A start that is decided but for what only its transaction knows.
struct Plan {
    row: Uuid,
    run: RunId,
    /// The run that it continues, whose orders it takes along.
    before: Option<RunId>,
    /// The run whose step waits for it.
    waits: Option<RunId>,
    /// The run; or what its parent is told instead, if it has one.
    new: std::result::Result<NewRun, Option<NewInput>>,
    /// How many runs of the tenant may be open, and what the parent is told when they are.
    bound: Option<(u32, NewInput)>,
    inbox_rows_max: u32,
}

/// Delivers the row of a start: makes the run, or tells the parent why it cannot be started.
pub(super) async fn begin(deps: &Deps, row: &Due, wanted: Wanted) -> Result<Begun> {
    let (run, is_child, parent) = (wanted.run, wanted.step.is_some(), wanted.parent.clone());
    let before = wanted.continues.map(|before| before.run);
    let told =
        Told { deps, row, parent, spent: wanted.continues.map_or(MicroUsd::ZERO, |before| before.spent) };
    let new = match plan(deps, row.scope, wanted).await? {
        Ok(new) => Ok(new),
        Err(refusal) => Err(told.why_not(refusal).await?),
    };
    // A continuation takes the place of the run that it continues.
    let most = deps.limits.concurrent_runs_per_tenant_max;
    let too_many = || ("too_many_runs", format!("the tenant has {most} runs that are not over"));
    let full = if is_child && new.is_ok() { told.why_not(too_many()).await? } else { None };
    let plan = |new, bound| Plan {
        row: row.id,
        run,
        before,
        waits: told.parent.step.is_some().then_some(told.parent.run),
        new,
        bound,
        inbox_rows_max: deps.limits.inbox_rows_max,
    };
    let first = plan(new, full.map(|full| (most, full)));
    match deps.db.write(row.scope, move |tx| Box::pin(settle(tx, first))).await {
        // All of it was undone: the parent is told instead.
        Err(error @ Error::RunsOfDay { .. }) => {
            let refusal = told.why_not(("budget_exceeded", error.to_string())).await?;
            let second = plan(Err(refusal), None);
            deps.db.write(row.scope, move |tx| Box::pin(settle(tx, second))).await
        }
        settled => settled,
    }
}

/// Does what is planned, and forgets the row.
async fn settle(tx: &mut TenantTx<'_>, plan: Plan) -> Result<Begun> {
    if !outbox::done_in(tx, plan.row).await? {
        return Ok(Begun::Elsewhere);
    }
    // A build that started the run and forgot the row in two transactions may have died between them.
    if journal::head_in(tx, plan.run).await?.is_some() {
        return Ok(Begun::There);
    }
    let mut priority = None;
    if let Some(parent) = plan.waits {
        match journal::head_in(tx, parent).await?.filter(|parent| parent.finished_at.is_none()) {
            Some(parent) => priority = Some(parent.priority),
            None => return Ok(Begun::Never),
        }
    }
    let refusal = match (plan.new, plan.bound) {
        (Ok(_), Some((most, full))) if journal::full(tx, most).await? => Some(full),
        // What a run starts is as urgent as that run.
        (Ok(new), _) => {
            let new = NewRun { priority: priority.unwrap_or(new.priority), ..new };
            let (run, at) = (new.id, new.at);
            journal::create(tx, new).await?;
            if let Some(before) = plan.before {
                inbox::pass_on(tx, (before, run), at).await?;
            }
            return Ok(Begun::There);
        }
        (Err(refusal), _) => refusal,
    };
    match refusal {
        Some(refusal) => match inbox::put(tx, refusal, plan.inbox_rows_max).await? {
            Put::Full => Err(full_inbox()),
            _ => Ok(Begun::Never),
        },
        None => Ok(Begun::Never),
    }
}

/// What a parent is told of a run that cannot be started.
struct Told<'a> {
    deps: &'a Deps,
    row: &'a Due,
    parent: Parent,
    /// By the runs that it would have continued.
    spent: MicroUsd,
}

impl Told<'_> {
    /// `None` when no step waits for it.
    async fn why_not(&self, (code, message): Refusal) -> Result<Option<NewInput>> {
        let parent = self.parent.run;
        let generation = self.parent.generation;
        let Some(step) = self.parent.step.clone() else {
            tracing::error!(run = %parent, code, message, "a run could not go on as a new one");
            return Ok(None);
        };
        let output = json!({ "code": code, "message": message });
        let (outcome, spent) = (Outcome::Failed, self.spent);
        let arrival = Arrival::ChildFinished { step, generation, outcome, spent, output };
        let key = format!("{parent}|{}", self.row.key);
        sealed(self.deps, self.row.scope, (parent, key), &arrival).await.map(Some)
    }
}

/// The run that is wanted, or why it cannot be started.
async fn plan(deps: &Deps, scope: Scope, wanted: Wanted) -> Result<Result<NewRun, Refusal>> {
    let found = match (&wanted.agent, wanted.version) {
        (Some(name), _) => {
            let name = name.clone();
            deps.db.read(scope, move |tx| Box::pin(async move { versions::current(tx, &name).await })).await?
        }
        (None, Some(version)) => versions::by_id(&deps.db, scope, version).await?,
        (None, None) => None,
    };
    // Of an archived agent nothing new begins, but what runs goes on.
    let Some(version) = found.filter(|version| wanted.continues.is_some() || !version.archived) else {
        return Ok(Err(("agent_not_found", "there is no such agent".to_owned())));
    };
    let manifest: Manifest =
        serde_json::from_str(&version.manifest).map_err(|error| Error::Corrupt(error.into()))?;
    if let Some(schema) = &manifest.input_schema {
        let broken = schema::violations(deps.memo.schemas(), schema, &wanted.input).await;
        if !broken.is_empty() {
            return Ok(Err(("input_schema_violated", broken.join("; "))));
        }
    }
    first(deps, scope, wanted, version, manifest).await
}

/// The run with its first append.
async fn first(
    deps: &Deps,
    scope: Scope,
    wanted: Wanted,
    version: Version,
    manifest: Manifest,
) -> Result<Result<NewRun, Refusal>> {
    let context = deps.context();
    let cap = version.run_cap(manifest.max_cost).map_or(wanted.cap, |own| own.min(wanted.cap));
    let begin = Start {
        agent: version.agent,
        version: version.id,
        manifest: version.digest,
        input: Arc::new(wanted.input),
        parent: Some(wanted.parent.clone()),
        depth: wanted.depth,
        continues: wanted.continues,
        carried: wanted.carried,
        recall: None,
        forks: None,
        trace: wanted.trace,
        cap,
        policy: lantern_policy::digest(),
        catalogue: deps.catalogue.digest(),
    };
    let decision = match start(Run::new(wanted.run, Arc::new(manifest)), begin, &context) {
        Ok(decision) => decision,
        Err(refused) => return Ok(Err((refused.code, refused.message))),
    };
    let encoded = event::encode(&decision.events).map_err(|error| Error::Internal(error.into()))?;
    let record = Record::seal(&deps.vault, scope, (wanted.run, 1), ChainHead::genesis(), encoded).await?;
    // A continuation is its predecessor under another name: it keeps labels, priority and conversation.
    let before = match wanted.continues {
        Some(before) => journal::head(&deps.db, scope, before.run).await?,
        None => None,
    };
    let (session_id, labels, priority) = before.map_or_else(
        || (None, "{}".to_owned(), Priority::default()),
        |before| (before.session_id, before.labels, before.priority),
    );
    Ok(Ok(NewRun {
        trigger_kind: if wanted.step.is_some() { "subagent" } else { inbox::CONTINUES }.to_owned(),
        parent: Some((
            wanted.parent.run,
            wanted.parent.step.map(|step| step.to_string()).unwrap_or_default(),
        )),
        session_id,
        depth: wanted.depth,
        labels,
        priority,
        format: event::format(&decision.events),
        traced: deps.traces.is_some() && wanted.trace.is_none_or(|trace| trace.sampled),
        // A continuation is no other run.
        runs_of_day_max: version.runs_of_day_max.filter(|_| wanted.continues.is_none()),
        ..version.queued_run(wanted.run, record, context.at)
    }))
}
