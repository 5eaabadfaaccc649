//! Starting, reading and deleting runs.
//!
//! Invariant: a run and its first event are one transaction, and a key starts one run however often it is sent: with
//! another agent or input it is refused. What the agent demands of its input is checked before anything is written.

pub(super) mod batch;
pub(crate) mod exchange;

use std::sync::Arc;

use http::HeaderMap;
use lantern_edge::{Code, Error, Page, Paging, Params, Result};
use lantern_engine::{Carried, Context, Forks, Manifest, Recall, Refused, Reusable, Start, event};
use lantern_policy::action::{CreateRun, DeleteRun, RedactRun};
use lantern_policy::{Permit, Scope};
use lantern_store::journal::{self, Created, RunRow};
use lantern_store::labels::{self, Hit};
use lantern_store::record::Record;
use lantern_store::retention;
use lantern_store::versions::{self, Version};
use lantern_types::trace::TRACEPARENT;
use lantern_types::{At, ChainHead, Dur, MicroUsd, Priority, RunId, SessionId, TraceParent};
use serde_json::{Map, Value};

use super::filter::{self, Wanted};
use super::model::{self, NewRun, Run, Said};
use super::{history, store};
use crate::features::agents;
use crate::{App, schema};

/// When a tenant with too many runs may ask again: some of them may be over by then.
const FULL_WAIT: Dur = Dur::from_secs(5);

/// The most runs that one page of a list is made from, where filters are combined that no index answers together. With a
/// thousand stored runs it is all of them, and a list is to take no longer with a million.
pub(super) const LOOKS_MAX: u32 = 1_000;
/// The most agents and labels that one search may find.
const HITS_MAX: usize = 100;

/// A run that a request asked for.
pub(crate) struct Started {
    pub(crate) run: RunId,
    /// Whether this request made it, rather than an earlier one with the same key.
    pub(crate) fresh: bool,
}

/// What a fork begins with.
pub(super) struct Forked {
    pub(super) forks: Forks,
    pub(super) steps: Arc<[Reusable]>,
    pub(super) carried: Option<Arc<Carried>>,
    pub(super) recall: Option<Arc<Recall>>,
    /// What the row says started it.
    pub(super) trigger: &'static str,
}

/// What a run begins with beside what it is asked.
#[derive(Default)]
struct Beginning {
    forks: Option<(Forks, Arc<[Reusable]>)>,
    carried: Option<Arc<Carried>>,
    recall: Option<Arc<Recall>>,
    /// What its session has left of a cap.
    left: Option<MicroUsd>,
    /// What the row says started it, when that was no plain request.
    trigger: Option<&'static str>,
}

impl From<Forked> for Beginning {
    fn from(Forked { forks, steps, carried, recall, trigger }: Forked) -> Self {
        Self { forks: Some((forks, steps)), carried, recall, left: None, trigger: Some(trigger) }
    }
}

/// Counts a fork of a run as this version, unless it may not be made. Before anything is written for it.
pub(super) fn may_fork(app: &App, scope: Scope, version: &Version, most: Option<MicroUsd>) -> Result<()> {
    check_cost(app, scope, most)?;
    if version.archived {
        return Err(agents::service::archived(&version.agent_name));
    }
    allow(app, scope, app.clock.now())
}

/// Starts a fork of a run as this version, which [`may_fork`] has allowed.
pub(super) async fn start_fork(
    app: &App,
    permit: &Permit<CreateRun>,
    version: Version,
    new: NewRun,
    forked: Forked,
) -> Result<RunId> {
    let (scope, now) = (permit.scope(), app.clock.now());
    let run = RunId::from_uuid(app.ids.uuid());
    let first = first_append(app, scope, (run, now), &version, new, forked.into()).await?;
    match write(app, scope, first).await? {
        Created::New => {
            tracing::info!(tenant = %scope.tenant(), %run, agent = %version.agent_name, "a run was forked");
            Ok(run)
        }
        Created::Existing(first) => Ok(first),
    }
}

/// The caller's span. A header that cannot be read names none, as the standard has it.
pub(crate) fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// Counts one more run of the tenant, unless there were too many lately.
pub(crate) fn allow(app: &App, scope: Scope, now: At) -> Result<()> {
    let Some(spawns) = app.spawns() else { return Ok(()) };
    spawns.take(scope.tenant(), now).map_err(|wait| {
        Error::new(Code::RunRateLimited, "rate limited: too many runs, slow down").retry_after(wait)
    })
}

/// Writes a run, unless the tenant has too many that are not over. What was sealed for one that is not made is dropped.
pub(crate) async fn write(app: &App, scope: Scope, first: journal::NewRun) -> Result<Created> {
    let body = first.body.clone();
    let most = app.limits(scope).concurrent_runs_per_tenant_max;
    let created = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if journal::full(tx, most).await? {
                return Ok(None);
            }
            journal::create(tx, first).await.map(Some)
        })
    });
    let created = created.await?;
    if created != Some(Created::New) {
        discard(app, scope, body).await?;
    }
    created.ok_or_else(|| too_many(most))
}

/// Whoever has so many runs starts no other.
pub(crate) fn too_many(most: u32) -> Error {
    let words =
        format!("the tenant has {most} runs that are not over; the limit is concurrentRunsPerTenantMax");
    Error::new(Code::TooManyRuns, words).retry_after(FULL_WAIT)
}

/// Starts a run, or finds the one that its key started.
pub(super) async fn start(app: &App, permit: &Permit<CreateRun>, new: NewRun) -> Result<Started> {
    if let Some(session) = new.session {
        return exchange::start_within(app, permit, session, new).await;
    }
    let scope = permit.scope();
    check_cost(app, scope, new.max_cost)?;
    let asked = Asked::of(&new);
    if let Some(key) = &new.idempotency_key
        && let Some(run) = store::by_key(&app.db, scope, key.clone()).await?
    {
        return started_before(app, scope, run, &asked).await;
    }
    let now = app.clock.now();
    let version = version(app, scope, &new.agent_name).await?;
    allow(app, scope, now)?;
    let run = RunId::from_uuid(app.ids.uuid());
    let first = first_append(app, scope, (run, now), &version, new, Beginning::default()).await?;
    match write(app, scope, first).await? {
        Created::New => {
            tracing::info!(tenant = %scope.tenant(), %run, agent = %version.agent_name, "a run was asked for");
            Ok(Started { run, fresh: true })
        }
        // Two requests raced with one key.
        Created::Existing(first) => started_before(app, scope, first, &asked).await,
    }
}

/// Drops what was sealed for a run that was not made: it belongs to nobody.
pub(crate) async fn discard(app: &App, scope: Scope, body: Option<Vec<u8>>) -> Result<()> {
    if let Some(body) = body {
        app.vault.discard(scope, &[lantern_store::Vault::digest(&body)?]).await?;
    }
    Ok(())
}

/// What makes two requests with one key the same request.
struct Asked {
    agent: String,
    input: Arc<Value>,
    labels: Map<String, Value>,
    session: Option<SessionId>,
    max_cost: Option<MicroUsd>,
    priority: Priority,
    /// What its session left of its cap may have lowered what it may cost.
    bounded: bool,
}

impl Asked {
    fn of(new: &NewRun) -> Self {
        Self {
            agent: new.agent_name.clone(),
            input: new.input.clone(),
            labels: new.labels.clone(),
            session: new.session,
            max_cost: new.max_cost,
            priority: new.priority,
            bounded: false,
        }
    }

    /// Whether the run of this row was asked for by the same request, as far as its row says.
    fn is_of(&self, row: &RunRow) -> bool {
        let labels: Option<Map<String, Value>> = serde_json::from_str(&row.labels).ok();
        // Nobody knows any more what they were.
        let labelled = row.content_removed_at.is_some() || labels.as_ref() == Some(&self.labels);
        row.agent_name == self.agent
            && row.session_id == self.session
            && row.priority == self.priority
            && labelled
    }
}

/// The run that this key started, if it was started by this request.
async fn started_before(app: &App, scope: Scope, run: RunId, asked: &Asked) -> Result<Started> {
    let row = head(app, scope, run).await?;
    // Of a run that cannot be read nobody knows the input; it was started all the same.
    let opening = history::readable(run, history::opening(app, scope, run).await)?.unwrap_or_default();
    let found = versions::by_id(&app.db, scope, row.agent_version_id).await?;
    let manifest: Option<Manifest> =
        found.as_ref().and_then(|version| serde_json::from_str(&version.manifest).ok());
    let limits = app.limits(scope);
    let cap = manifest.map(|manifest| model::cap(&limits, manifest.max_cost, asked.max_cost));
    // The budget of its agent may have been another then.
    let budget = found.and_then(|version| version.run_cost_max);
    let explained = |was: MicroUsd, would_be: MicroUsd| was == would_be || budget.is_some() && was < would_be;
    let same = asked.is_of(&row)
        && opening.input.is_none_or(|input| input == *asked.input)
        && opening
            .cap
            .zip(cap)
            .is_none_or(|(was, would_be)| explained(was, would_be) || asked.bounded && was < would_be);
    if !same {
        let words = "this idempotency key started a run by another request";
        return Err(Error::new(Code::IdempotencyMismatch, words).with_extra("existing", run.to_string()));
    }
    Ok(Started { run, fresh: false })
}

fn check_cost(app: &App, scope: Scope, asked: Option<MicroUsd>) -> Result<()> {
    let most = app.limits(scope).run_cost_max;
    if asked.is_none_or(|cost| cost <= most) {
        return Ok(());
    }
    let words = format!("a run may cost at most {} USD", most.to_wire());
    Err(Error::new(Code::InvalidBody, format!("maxCostUsd: {words}")).with_field("maxCostUsd", words))
}

/// The version that a new run runs.
async fn version(app: &App, scope: Scope, name: &str) -> Result<Version> {
    let (agent, _) = agents::service::get(app, scope, name).await?;
    if agent.archived_at.is_some() {
        return Err(agents::service::archived(name));
    }
    let wanted = agent.name;
    let found =
        app.db.glance(scope, move |tx| Box::pin(async move { versions::current(tx, &wanted).await })).await?;
    found.ok_or_else(|| agents::service::not_found(name))
}

/// What a run is asked that belongs to a feature beside this one.
pub(crate) struct Plain {
    pub(crate) input: Value,
    pub(crate) labels: Map<String, Value>,
    pub(crate) max_cost: Option<MicroUsd>,
}

/// A run of this version with event 1, for a transaction that writes more beside it; `trigger` is what its row says started it.
pub(crate) async fn first_of(
    app: &App,
    scope: Scope,
    run: (RunId, At),
    version: &Version,
    Plain { input, labels, max_cost }: Plain,
    trigger: &'static str,
) -> Result<journal::NewRun> {
    let new = NewRun {
        agent_name: version.agent_name.clone(),
        input: Arc::new(input),
        session: None,
        labels,
        idempotency_key: None,
        max_cost,
        priority: Priority::default(),
        stream: false,
        trace: None,
    };
    let beginning = Beginning { trigger: Some(trigger), ..Beginning::default() };
    first_append(app, scope, run, version, new, beginning).await
}

/// Event 1, sealed and chained.
async fn first_append(
    app: &App,
    scope: Scope,
    (run, now): (RunId, At),
    version: &Version,
    new: NewRun,
    beginning: Beginning,
) -> Result<journal::NewRun> {
    let manifest: Manifest = serde_json::from_str(&version.manifest).map_err(Error::internal)?;
    check_input(app, &manifest, &new).await?;
    let limits = app.limits(scope);
    let Beginning { forks, carried, recall, left, trigger } = beginning;
    let cap = model::cap(&limits, version.run_cap(manifest.max_cost), new.max_cost);
    let start = Start {
        agent: version.agent,
        version: version.id,
        manifest: version.digest,
        input: new.input,
        parent: None,
        depth: 0,
        continues: None,
        carried,
        recall,
        forks,
        trace: new.trace.filter(|_| app.inner.traces.is_some()),
        cap: left.map_or(cap, |left| cap.min(left)),
        policy: lantern_policy::digest(),
        catalogue: app.catalogue.digest(),
    };
    let context = Context {
        at: now,
        limits: &limits,
        tools: &app.tools,
        violations: |schema, value| {
            lantern_schema::violations(schema, value, 5).into_iter().map(|problem| problem.message).collect()
        },
    };
    let decision = lantern_engine::start(lantern_engine::Run::new(run, Arc::new(manifest)), start, &context)
        .map_err(refused)?;
    let plain = event::encode(&decision.events).map_err(Error::internal)?;
    let record = Record::seal(&app.vault, scope, (run, 1), ChainHead::genesis(), plain).await?;
    let labels = serde_json::to_string(&new.labels).map_err(Error::internal)?;
    let queued = version.queued_run(run, record, now);
    let traced = app.inner.traces.is_some() && new.trace.is_none_or(|trace| trace.sampled);
    Ok(journal::NewRun {
        session_id: new.session,
        labels,
        priority: new.priority,
        idempotency_key: new.idempotency_key,
        trigger_kind: trigger.map_or(queued.trigger_kind, str::to_owned),
        format: event::format(&decision.events),
        traced,
        ..queued
    })
}

async fn check_input(app: &App, manifest: &Manifest, new: &NewRun) -> Result<()> {
    let Some(schema) = &manifest.input_schema else { return Ok(()) };
    let fields = schema::violations(app, "input", schema, &new.input).await?;
    if fields.is_empty() {
        return Ok(());
    }
    let words = format!("the input does not match the input schema of {}", new.agent_name);
    Err(Error::about(Code::InputSchemaViolated, &words, fields))
}

fn refused(refused: Refused) -> Error {
    let code = match refused.code {
        "input_too_large" => Code::InputTooLarge,
        _ => Code::InvalidInput,
    };
    Error::new(code, refused.message.clone())
        .with_extra("reason", refused.code)
        .with_field("input", refused.message)
}

/// A run's row. `run_not_found` when there is none, or it is another tenant's.
pub(super) async fn head(app: &App, scope: Scope, run: RunId) -> Result<RunRow> {
    journal::head(&app.db, scope, run).await?.ok_or_else(model::not_found)
}

/// Whether the tenant has the run that a path names. What is no id names none.
pub(crate) async fn there(app: &App, scope: Scope, id: &str) -> Result<()> {
    let run = id.parse().map_err(|_| model::not_found())?;
    head(app, scope, run).await.map(drop)
}

/// A run with its input, its outcome and its step log; with `run_unreadable` in their place when they are spoilt.
pub(super) async fn get(app: &App, scope: Scope, run: RunId) -> Result<Run> {
    let glanced = history::glance(app, scope, run).await?.ok_or_else(model::not_found)?;
    let told = history::readable(run, history::whole(app, scope, &glanced).await)?;
    let (said, log) = told.unwrap_or_else(|| (Said::unreadable(), Vec::new()));
    let ending = history::ending(app, scope, &glanced.row).await?;
    Ok(model::shown(scope.tenant(), glanced.row, said, log).with_ending(ending))
}

/// A page of the runs that are wanted, newest first. Where filters are combined that no index answers together, it is made of
/// so many runs as may be looked at, and may have fewer than its limit, or none, with more to come.
pub(super) async fn list(app: &App, scope: Scope, wanted: Wanted, params: &Params) -> Result<Page<Run>> {
    let paging = Paging::of(params)?;
    let Wanted { mut filter, search } = wanted;
    if let Some(text) = search {
        filter.hits = Some(hits(app, scope, text).await?);
    }
    filter.before = paging.before.map(|(at, id)| (at, RunId::from_uuid(id)));
    filter.limit = paging.fetch();
    let found = journal::look(&app.db, scope, filter, LOOKS_MAX).await?;
    let key = |(at, id): (At, RunId)| (at, id.uuid());
    let page = Page::cut_or(found.runs, found.down_to.map(key), &paging, params, |row| {
        key((row.created_at, row.id))
    });
    let (rows, page) = page.split();
    let ids: Vec<RunId> = rows.iter().map(|row| row.id).collect();
    let said = history::said_of_all(app, scope, &ids).await?;
    let logs = history::logs(app, scope, &ids).await?;
    let shown = |((row, said), log)| model::shown(scope.tenant(), row, said, log);
    Ok(page.with(rows.into_iter().zip(said).zip(logs).map(shown).collect()))
}

/// What begins with a text that is searched for: each is a look-up of its own, so there may be so many.
async fn hits(app: &App, scope: Scope, text: String) -> Result<Vec<Hit>> {
    labels::search(&app.db, scope, text, HITS_MAX).await?.ok_or_else(|| {
        filter::wrong("q", format!("more than {HITS_MAX} agents and labels begin so; write more of it"))
    })
}

/// Removes what was said in a run that is over, at once. Done before is done.
pub(super) async fn redact(app: &App, permit: &Permit<RedactRun>, run: RunId) -> Result<()> {
    let scope = permit.scope();
    let row = head(app, scope, run).await?;
    let now = app.clock.now();
    let mark = app.db.write(scope, move |tx| Box::pin(async move { retention::mark(tx, run, now).await }));
    let since = match (mark.await?, row.content_removed_at) {
        (true, _) => now,
        (false, Some(at)) => at,
        (false, None) => return Err(not_over(app, scope, &head(app, scope, run).await?).await),
    };
    let bodies = retention::finish(&app.db, &app.vault, scope, run, since).await?;
    tracing::info!(tenant = %scope.tenant(), %run, bodies, "the content of a run was removed");
    Ok(())
}

/// Why a run cannot be taken apart yet.
async fn not_over(app: &App, scope: Scope, row: &RunRow) -> Error {
    match history::ending(app, scope, row).await {
        Ok(Some(ending)) => return ending.refusal(Code::RunNotFinished),
        Ok(None) => {}
        Err(error) => return error,
    }
    let words = match row.finished_at {
        None => "the run is not over; cancel it first",
        Some(_) => "the run is over, but something that it started is still on its way; try again",
    };
    Error::new(Code::RunNotFinished, words)
}

/// Deletes a run that is over, with its journal.
pub(super) async fn delete(app: &App, permit: &Permit<DeleteRun>, run: RunId) -> Result<()> {
    remove(app, permit.scope(), run).await
}

/// The same, for whoever may delete what the run is part of.
pub(crate) async fn remove(app: &App, scope: Scope, run: RunId) -> Result<()> {
    let row = head(app, scope, run).await?;
    let now = app.clock.now();
    // No run goes without having had a number, so that one that is missing shows.
    if row.finished_at.is_some() {
        app.notary.receipt(scope, run, now).await?;
    }
    let deleted =
        app.db.write(scope, move |tx| Box::pin(async move { journal::delete(tx, run, now).await })).await?;
    let Some(blobs) = deleted else {
        return Err(not_over(app, scope, &row).await);
    };
    if let Err(error) = app.vault.discard(scope, &blobs).await {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(tenant = %scope.tenant(), %run, error, "a deleted run's large bodies are removed later");
    }
    tracing::info!(tenant = %scope.tenant(), %run, "a run was deleted");
    Ok(())
}
