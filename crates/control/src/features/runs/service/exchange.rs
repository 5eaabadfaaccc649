//! Starting the run of a message in a session: what holds for every run holds for it, and it is told what was said before.
//!
//! Invariant: the run, its place in the session and the guard that it is the only one are one transaction. So where the session has a
//! cap, a message may spend what those before it left, and no other message begins with the same money. What it recalls is
//! sealed in its first event, so that it needs nothing of the runs before it from then on.

use std::sync::Arc;

use lantern_edge::{Code, Error, Result};
use lantern_engine::manifest::ToolRef;
use lantern_engine::{Manifest, ProgramKind, Recall, exchange};
use lantern_policy::action::CreateRun;
use lantern_policy::{Actor, Permit, Scope};
use lantern_store::journal::{self, Created};
use lantern_store::sessions::{self, Claim, SessionRow};
use lantern_store::versions::Version;
use lantern_types::{Digest, Dur, EffectClass, MicroUsd, Priority, RunId, SessionId, TraceParent};
use serde_json::{Map, Value};

use super::{Asked, Beginning, FULL_WAIT, Started, allow, check_cost, discard, first_append, started_before};
use crate::App;
use crate::features::agents::overrides;
use crate::features::runs::model::NewRun;
use crate::features::runs::{history, store};

/// How many exchanges back one is looked for that can be read.
const LOOK_BACK: u32 = 32;
/// When somebody who was told that an exchange is going on may ask again.
const BUSY_WAIT: Dur = Dur::from_secs(1);

/// What tools a message leaves its agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tools {
    /// All it has.
    #[default]
    All,
    /// Those that change nothing.
    ReadOnly,
    /// None.
    None,
}

/// A message, ready to be a run's input.
pub(crate) struct Message {
    pub(crate) input: Value,
    pub(crate) labels: Map<String, Value>,
    pub(crate) max_cost: Option<MicroUsd>,
    pub(crate) key: Option<String>,
    /// In place of the agent's system prompt.
    pub(crate) system: Option<String>,
    pub(crate) tools: Tools,
    /// The span that it belongs under.
    pub(crate) trace: Option<TraceParent>,
}

/// What became of a message.
enum Taken {
    Yes,
    TooMany,
    /// The session is not as it was when the message was prepared.
    No,
}

/// Starts the run of a message, or finds the one that its key started.
pub(crate) async fn start_exchange(
    app: &App,
    (scope, actor): (Scope, &Actor),
    session: SessionRow,
    message: Message,
) -> Result<Started> {
    let Message { input, labels, max_cost, key, system, tools, trace } = message;
    let new = NewRun {
        agent_name: session.agent_name.clone(),
        input: Arc::new(input),
        session: Some(session.id),
        labels,
        idempotency_key: key.map(|key| named(session.id, &key)),
        max_cost,
        priority: Priority::default(),
        stream: false,
        trace,
    };
    start(app, (scope, actor), session, new, (system, tools)).await
}

/// Starts a run that names a session, or finds the one that its key started. It is an exchange like any other: it waits for
/// its turn, is told what was said before it, and ends with its session. `session_not_found` when there is no such session, or it
/// is another tenant's.
pub(super) async fn start_within(
    app: &App,
    permit: &Permit<CreateRun>,
    session: SessionId,
    new: NewRun,
) -> Result<Started> {
    let session = sessions::find(&app.db, permit.scope(), session).await?.ok_or_else(not_found)?;
    if session.agent_name != new.agent_name {
        let words = format!("the session is one with {}", session.agent_name);
        let error = Error::new(Code::InvalidBody, format!("agentName: {words}"));
        return Err(error.with_field("agentName", words));
    }
    start(app, (permit.scope(), permit.actor()), session, new, (None, Tools::All)).await
}

async fn start(
    app: &App,
    (scope, actor): (Scope, &Actor),
    session: SessionRow,
    new: NewRun,
    narrower: (Option<String>, Tools),
) -> Result<Started> {
    check_cost(app, scope, new.max_cost)?;
    let asked = Asked { bounded: session.cost.is_some(), ..Asked::of(&new) };
    let key = new.idempotency_key.clone();
    if let Some(found) = by_key(app, scope, key.clone()).await? {
        return started_before(app, scope, found, &asked).await;
    }
    takes(&session)?;
    let left = affordable(&session)?;
    let now = app.clock.now();
    let version = super::version(app, scope, &session.agent_name).await?;
    allow(app, scope, now)?;
    let version = narrowed(app, (scope, actor), version, narrower).await?;
    let manifest: Manifest = serde_json::from_str(&version.manifest).map_err(Error::internal)?;
    let recall = match manifest.program_for(&new.input) {
        ProgramKind::Agent => Some(Arc::new(recall(app, scope, &session).await?)),
        ProgramKind::Steps => None,
    };
    let run = RunId::from_uuid(app.ids.uuid());
    let beginning = Beginning { recall, left, trigger: Some(sessions::TRIGGER), ..Beginning::default() };
    let first = first_append(app, scope, (run, now), &version, new, beginning).await?;
    let claim = Claim { session: session.id, exchanges: session.exchanges, run, at: now };
    match write(app, scope, first, claim).await {
        Ok(Taken::Yes) => {
            tracing::info!(tenant = %scope.tenant(), %run, session = %session.id, "a message was taken");
            Ok(Started { run, fresh: true })
        }
        Ok(Taken::TooMany) => {
            let most = app.limits(scope).concurrent_runs_per_tenant_max;
            let words = format!(
                "the tenant has {most} runs that are not over; the limit is concurrentRunsPerTenantMax"
            );
            Err(Error::new(Code::TooManyRuns, words).retry_after(FULL_WAIT))
        }
        Ok(Taken::No) => {
            let found = sessions::find(&app.db, scope, session.id).await?.ok_or_else(not_found)?;
            takes(&found)?;
            Err(busy(found.last_run))
        }
        Err(error) => match by_key(app, scope, key).await? {
            // Two requests raced with one key.
            Some(found) if error.code() == Code::Conflict => started_before(app, scope, found, &asked).await,
            _ => Err(error),
        },
    }
}

/// Under which key the run of a message is known.
fn named(session: SessionId, key: &str) -> String {
    Digest::of_parts(&[b"session", session.bytes(), key.as_bytes()]).to_string()
}

async fn by_key(app: &App, scope: Scope, key: Option<String>) -> Result<Option<RunId>> {
    match key {
        Some(key) => Ok(store::by_key(&app.db, scope, key).await?),
        None => Ok(None),
    }
}

/// Whether a session takes a message as it stands.
fn takes(session: &SessionRow) -> Result<()> {
    if session.stopped_at.is_some() {
        return Err(Error::new(Code::SessionStopped, "session is not active: it was stopped"));
    }
    if session.busy { Err(busy(session.last_run)) } else { Ok(()) }
}

/// What is left for a message in a session as it stands, where that has a cap.
fn affordable(session: &SessionRow) -> Result<Option<MicroUsd>> {
    let Some(cost) = session.cost else { return Ok(None) };
    if cost.left() > MicroUsd::ZERO {
        return Ok(Some(cost.left()));
    }
    let words = format!("the session's cap of {} is spent", cost.max);
    Err(Error::new(Code::BudgetExceeded, words)
        .with_extra("reason", "session")
        .with_extra("maxCostUsd", cost.max.to_wire())
        .with_extra("costUsd", cost.spent.to_wire()))
}

/// 409 for a session whose last message is still being answered.
pub(crate) fn busy(run: Option<RunId>) -> Error {
    let error =
        Error::new(Code::SessionBusy, "session is not active: the last message is still being answered");
    let error = error.retry_after(BUSY_WAIT);
    match run {
        Some(run) => error.with_extra("runId", run.to_string()),
        None => error,
    }
}

/// 404 for a session that is not there, or is somebody else's.
pub(crate) fn not_found() -> Error {
    Error::new(Code::SessionNotFound, "session not found")
}

/// Writes the run of a message, unless its session does not take it.
async fn write(app: &App, scope: Scope, first: journal::NewRun, claim: Claim) -> Result<Taken> {
    let body = first.body.clone();
    let most = app.limits(scope).concurrent_runs_per_tenant_max;
    let taken = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if journal::full(tx, most).await? {
                return Ok(Taken::TooMany);
            }
            if !sessions::claim(tx, claim).await? {
                return Ok(Taken::No);
            }
            match journal::create(tx, first).await? {
                Created::New => Ok(Taken::Yes),
                // The session has not taken a message, then.
                Created::Existing(_) => Err(lantern_store::Error::Conflict),
            }
        })
    });
    let taken = taken.await;
    if !matches!(taken, Ok(Taken::Yes)) {
        discard(app, scope, body).await?;
    }
    Ok(taken?)
}

/// The version that this message is for: the agent's own, or one like it with another prompt or fewer tools.
async fn narrowed(
    app: &App,
    (scope, actor): (Scope, &Actor),
    version: Version,
    (system, tools): (Option<String>, Tools),
) -> Result<Version> {
    if system.is_none() && tools == Tools::All {
        return Ok(version);
    }
    let mut manifest: Manifest = serde_json::from_str(&version.manifest).map_err(Error::internal)?;
    manifest.system_prompt = system.or(manifest.system_prompt);
    if let Some(listed) = &mut manifest.tools {
        listed.retain(|tool| tools == Tools::All || tools == Tools::ReadOnly && changes_nothing(app, tool));
    }
    overrides::saying(app, scope, actor, version, &manifest).await
}

fn changes_nothing(app: &App, listed: &ToolRef) -> bool {
    let own = app.tools.iter().find(|tool| tool.name == listed.name).map(|tool| tool.effect);
    listed.effect.or(own) == Some(EffectClass::Pure)
}

/// What was said in a session so far. Exchanges whose runs are gone, have lost their content or cannot be read are counted
/// among what was left out.
async fn recall(app: &App, scope: Scope, session: &SessionRow) -> Result<Recall> {
    for (n, run) in sessions::exchanges(&app.db, scope, session.id, session.exchanges, LOOK_BACK).await? {
        if let Some(recall) = after(app, scope, (n, run)).await? {
            return Ok(recall.without(session.exchanges.saturating_sub(n)));
        }
    }
    Ok(Recall::default().without(session.exchanges))
}

/// What is recalled after this exchange, if its run can be read.
async fn after(app: &App, scope: Scope, (n, run): (u32, RunId)) -> Result<Option<Recall>> {
    let Some(mut row) = journal::head(&app.db, scope, run).await? else { return Ok(None) };
    let Some(opening) = history::readable(run, history::opening(app, scope, run).await)? else {
        return Ok(None);
    };
    // It recalls nothing when its program was a list of steps.
    let before =
        opening.recall.map_or_else(|| Recall::default().without(n - 1), |recall| Recall::clone(&recall));
    for _ in 0..=app.limits(scope).continuations_max {
        let Some(next) = history::went_on_as(app, scope, row.id).await? else { break };
        let Some(next) = journal::head(&app.db, scope, next).await? else { break };
        row = next;
    }
    match history::fold(app, scope, &row).await {
        Ok(folded) => {
            let said = exchange(&folded, before.messages().count());
            Ok(Some(before.and(said, &app.limits(scope))))
        }
        // It cannot be read, or nothing is left of what was said in it.
        Err(error) if matches!(error.code(), Code::RunUnreadable | Code::ContentRemoved) => Ok(None),
        Err(error) => Err(error),
    }
}
