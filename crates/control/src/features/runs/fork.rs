//! Forks and replays: a new run that begins with what another one did, and how two runs differ.
//!
//! Invariant: what a fork reuses is in its first event, sealed; it needs nothing of the other run from then on. The engine decides
//! what may be reused.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use lantern_edge::prefer::Held;
use lantern_edge::{Body, Code, Created, Error, Fields, Json, Model, Path, Result};
use lantern_engine::{
    Differs, Forks, Reusable, Step, StepId, StepKind, StepState, compare, may_decide, reusable,
};
use lantern_policy::action::{CreateRun, DecideApproval, ReadRun, allows};
use lantern_policy::{Act as _, Actor, Permit, Scope};
use lantern_store::journal::RunRow;
use lantern_store::versions;
use lantern_types::{MicroUsd, RunId, VersionId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::model::{self, NewRun};
use super::service::Forked;
use super::{history, routes, service, steer};
use crate::App;
use crate::features::agents::model::Changes;
use crate::features::agents::overrides;

const STEP_BYTES_MAX: usize = 1_024;
/// The longest request or output of a step that a comparison shows, in bytes of JSON.
const CONTENT_MAX: usize = 32 << 10;
/// The most that a fork keeps of what it reuses, in bytes of JSON.
const REUSED_MAX: usize = 32 << 20;

// Model

/// How a fork is to be made.
#[derive(Debug)]
pub(super) struct Ask {
    from_step: Option<StepId>,
    input: Option<Arc<Value>>,
    version: Option<String>,
    overrides: Option<Changes>,
    labels: Map<String, Value>,
    max_cost: Option<MicroUsd>,
}

impl Model for Ask {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.describe(
            "input",
            || json!({ "description": "What the run is asked in place of what it was asked." }),
        );
        let input = fields.value("input").cloned().map(Arc::new);
        fields.describe("version", || {
            json!({ "type": ["integer", "string", "null"], "description": "Another version: its number or id." })
        });
        let version = fields.value("version").and_then(|version| match version {
            Value::Number(number) => Some(number.to_string()),
            Value::String(text) => Some(text.clone()),
            _ => None,
        });
        if version.is_none() && fields.value("version").is_some() {
            fields.issue("version", "expected a version's number or id");
        }
        fields.describe("overrides", || {
            let about =
                "Fields of the agent that the fork has otherwise: model, systemPrompt, tools, maxTurns, …";
            json!({ "type": ["object", "null"], "description": about })
        });
        let overrides = fields.value("overrides").map(|said| overridden(fields, said));
        let labels = match fields.labels("labels") {
            lantern_edge::Change::Set(labels) => labels,
            lantern_edge::Change::Keep | lantern_edge::Change::Clear => Map::new(),
        };
        Some(Self {
            from_step: fields.text("fromStep", STEP_BYTES_MAX).map(StepId::new),
            input,
            version,
            overrides: overrides.flatten(),
            labels,
            max_cost: fields.dollars("maxCostUsd"),
        })
    }
}

fn overridden(fields: &mut Fields<'_>, said: &Value) -> Option<Changes> {
    let Some(said) = said.as_object() else {
        fields.issue("overrides", "expected an object");
        return None;
    };
    let mut inner = Fields::of(said);
    let changes = Changes::read(&mut inner);
    let problems = match inner.finish() {
        Ok(unknown) => {
            unknown.into_iter().map(|name| (name, "is not a field of an agent".to_owned())).collect()
        }
        Err(issues) => issues.into_iter().map(|issue| (issue.path, issue.message)).collect::<Vec<_>>(),
    };
    for (path, message) in problems {
        fields.issue(format!("overrides.{path}"), message);
    }
    changes
}

impl Ask {
    /// Whether the fork differs from the run in anything.
    const fn differs(&self) -> bool {
        self.input.is_some() || self.version.is_some() || self.overrides.is_some()
    }
}

/// How a replay is to be made: of all that was done, or from a step on, which is done anew.
#[derive(Debug)]
pub(super) struct Replay {
    labels: Map<String, Value>,
    from_step: Option<StepId>,
    input: Option<Arc<Value>>,
}

impl Model for Replay {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let labels = match fields.labels("labels") {
            lantern_edge::Change::Set(labels) => labels,
            lantern_edge::Change::Keep | lantern_edge::Change::Clear => Map::new(),
        };
        fields.describe("fromStep", || {
            let about = "The step from which on it is done anew, and paid for, as a fork does. Without it nothing is.";
            json!({ "type": ["string", "null"], "maxLength": STEP_BYTES_MAX, "description": about })
        });
        let from_step = fields.text("fromStep", STEP_BYTES_MAX).map(StepId::new);
        fields.describe("modifiedInput", || {
            json!({ "description": "With `fromStep`: what the run is asked in place of what it was asked." })
        });
        let input = fields.value("modifiedInput").cloned().map(Arc::new);
        if input.is_some() && from_step.is_none() {
            fields.issue("modifiedInput", "name the step in fromStep from which it is done anew");
        }
        Some(Self { labels, from_step, input })
    }
}

/// Two runs side by side.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RunDifferences)]
pub(super) struct Compared {
    a: Side,
    b: Side,
    /// Whether they asked for the same steps, which ended alike, and ended alike themselves.
    same: bool,
    same_version: bool,
    same_input: bool,
    /// Steps before the first that differs.
    shared_steps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_divergence: Option<Divergence>,
    /// The steps of `a` in the order in which they were asked for, then those that only `b` has.
    steps: Vec<ComparedStep>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ComparedRun)]
struct Side {
    #[schema(value_type = String, format = "uuid")]
    run_id: RunId,
    #[schema(value_type = String, format = "uuid")]
    agent_version_id: VersionId,
    status: String,
    cost_usd: f64,
    tokens_in: i64,
    tokens_out: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ComparedStep {
    step_id: String,
    kind: String,
    /// `same`, `onlyA`, `onlyB`, `request`, `end` or `output`.
    #[schema(value_type = String)]
    differs: Differs,
}

/// The first step that differs, with what each run has of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Divergence {
    step_id: String,
    #[schema(value_type = String)]
    differs: Differs,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<SideOfStep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<SideOfStep>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SideOfStep {
    /// `settled`, `failed`, `abandoned` or `open`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What is there and too long to be shown here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    omitted: Vec<&'static str>,
}

// Service

/// Forks a run from a step: the one that is named, else the one that it failed at.
async fn fork(app: &App, permit: &Permit<CreateRun>, run: RunId, ask: Ask) -> Result<RunId> {
    let scope = permit.scope();
    let (row, source) = read(app, scope, run).await?;
    let failed_at = source.error.as_ref().and_then(|(.., step)| step.clone());
    let differs = ask.differs();
    let from = ask.from_step.or(failed_at);
    if from.is_none() && differs {
        let words = "name the step from which the run is to be done anew: it did not fail at one";
        return Err(Error::new(Code::InvalidBody, format!("fromStep: {words}")).with_field("fromStep", words));
    }
    let steps =
        reusable(&source, from.as_ref()).map_err(|none| Error::new(Code::StepNotFound, none.to_string()))?;
    let mut version = match &ask.version {
        Some(wanted) => overrides::version(app, scope, &row.agent_name, wanted).await?,
        None => version_of(app, scope, &row).await?,
    };
    service::may_fork(app, scope, &version, ask.max_cost)?;
    fits(&steps)?;
    if let Some(changes) = ask.overrides {
        version = overrides::changed(app, scope, permit.actor(), version, changes).await?;
    }
    let decided = !differs && may_decide_all(&source, &steps, permit.actor());
    let forked = Forked {
        forks: Forks { run, step: from, replay: false, decided },
        steps: steps.into(),
        carried: source.carried.clone(),
        recall: source.recall.clone(),
        trigger: "fork",
    };
    let new = NewRun {
        agent_name: row.agent_name,
        input: ask.input.unwrap_or_else(|| source.input.clone()),
        session: None,
        labels: ask.labels,
        idempotency_key: None,
        max_cost: ask.max_cost,
        priority: row.priority,
        stream: false,
        trace: None,
    };
    service::start_fork(app, permit, version, new, forked).await
}

async fn replay(app: &App, permit: &Permit<CreateRun>, run: RunId, ask: Replay) -> Result<RunId> {
    let scope = permit.scope();
    if ask.from_step.is_some() {
        let Replay { labels, from_step, input } = ask;
        let ask = Ask { from_step, input, version: None, overrides: None, labels, max_cost: None };
        return fork(app, permit, run, ask).await;
    }
    let (row, source) = read(app, scope, run).await?;
    let version = version_of(app, scope, &row).await?;
    let steps = reusable(&source, None).unwrap_or_default();
    service::may_fork(app, scope, &version, None)?;
    fits(&steps)?;
    let forked = Forked {
        forks: Forks { run, step: None, replay: true, decided: false },
        steps: steps.into(),
        carried: source.carried.clone(),
        recall: source.recall.clone(),
        trigger: "replay",
    };
    let new = NewRun {
        agent_name: row.agent_name,
        input: source.input.clone(),
        session: None,
        labels: ask.labels,
        idempotency_key: None,
        max_cost: None,
        priority: row.priority,
        stream: false,
        trace: None,
    };
    service::start_fork(app, permit, version, new, forked).await
}

/// Whether this is somebody who could decide again all that was decided in these steps: nobody gets a yes for a second time
/// who may not say it.
fn may_decide_all(source: &lantern_engine::Run, steps: &[Reusable], actor: &Actor) -> bool {
    let by = steer::by(actor);
    let found = steps.iter().filter_map(|reused| source.step(&reused.step));
    let mut asked = found.filter(|step| step.kind == StepKind::Approval);
    allows(&actor.principal, DecideApproval::ACCESS) && asked.all(|step| may_decide(step.work.as_ref(), &by))
}

/// Whether so much may be kept beside the first event of a run.
fn fits(steps: &[Reusable]) -> Result<()> {
    let bytes = serde_json::to_vec(steps).map_err(Error::internal)?.len();
    if bytes <= REUSED_MAX {
        return Ok(());
    }
    let words = format!("what the run's steps gave has {bytes} bytes; a fork keeps {REUSED_MAX}");
    Err(Error::new(Code::InputTooLarge, words))
}

async fn version_of(app: &App, scope: Scope, row: &RunRow) -> Result<versions::Version> {
    let found = versions::by_id(&app.db, scope, row.agent_version_id).await?;
    found.ok_or_else(|| Error::new(Code::RunUnreadable, "the version of the run is gone"))
}

async fn read(app: &App, scope: Scope, run: RunId) -> Result<(RunRow, lantern_engine::Run)> {
    let row = service::head(app, scope, run).await?;
    let folded = history::fold(app, scope, &row).await?;
    Ok((row, folded))
}

async fn compared(app: &App, scope: Scope, (a, b): (RunId, RunId)) -> Result<Compared> {
    let ((row_a, a), (row_b, b)) = (read(app, scope, a).await?, read(app, scope, b).await?);
    let all = compare(&a, &b);
    let first = all.iter().position(|(.., differs)| *differs != Differs::Same);
    let first_divergence = first.and_then(|n| all.get(n)).map(|(id, _, differs)| Divergence {
        step_id: id.to_string(),
        differs: *differs,
        a: a.step(id).map(side_of_step),
        b: b.step(id).map(side_of_step),
    });
    let shared_steps = first.unwrap_or(all.len());
    let step = |(id, kind, differs): &(&StepId, StepKind, Differs)| ComparedStep {
        step_id: id.to_string(),
        kind: json!(kind).as_str().unwrap_or_default().to_owned(),
        differs: *differs,
    };
    let steps = all.iter().map(step).collect();
    Ok(Compared {
        same: first.is_none() && row_a.status == row_b.status && row_a.error_code == row_b.error_code,
        same_version: row_a.agent_version_id == row_b.agent_version_id,
        same_input: a.input == b.input,
        shared_steps,
        first_divergence,
        steps,
        a: side(row_a),
        b: side(row_b),
    })
}

fn side(row: RunRow) -> Side {
    Side {
        run_id: row.id,
        agent_version_id: row.agent_version_id,
        status: row.status,
        cost_usd: row.spent.to_wire(),
        tokens_in: row.tokens_in,
        tokens_out: row.tokens_out,
        error_code: row.error_code,
    }
}

fn side_of_step(step: &Step) -> SideOfStep {
    let mut omitted = Vec::new();
    let mut cut = |name, value: Option<Value>| {
        let long = value.as_ref().is_some_and(|value| value.to_string().len() > CONTENT_MAX);
        omitted.extend(long.then_some(name));
        value.filter(|_| !long)
    };
    let request = cut("request", step.work.as_ref().map(|work| json!(work)));
    let output = match &step.state {
        StepState::Settled { reply: Some(reply), .. } => {
            Some(json!({ "text": reply.content, "toolCalls": reply.tool_calls, "model": reply.model }))
        }
        _ => step.output().map(|output| Value::clone(output)),
    };
    let output = cut("output", output);
    let (state, error) = match &step.state {
        StepState::Settled { .. } => ("settled", None),
        StepState::Failed { code, message } => ("failed", Some(format!("{code}: {message}"))),
        StepState::Abandoned => ("abandoned", None),
        _ => ("open", None),
    };
    SideOfStep { state, request, output, error, omitted }
}

// Routes

pub(super) async fn post_fork(
    permit: Permit<CreateRun>,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(ask): Body<Ask>,
) -> Result<Response> {
    let run = fork(&app, &permit, id.parse().map_err(|_| model::not_found())?, ask).await?;
    made(&app, permit.scope(), run).await
}

pub(super) async fn post_replay(
    permit: Permit<CreateRun>,
    State(app): State<App>,
    Path(id): Path<String>,
    Body(ask): Body<Replay>,
) -> Result<Response> {
    let run = replay(&app, &permit, id.parse().map_err(|_| model::not_found())?, ask).await?;
    made(&app, permit.scope(), run).await
}

async fn made(app: &App, scope: Scope, run: RunId) -> Result<Response> {
    let (about, Json(body)) = routes::shown(app, scope, run).await?;
    let held = Extension(Held(scope, run.uuid()));
    Ok((held, about, Created { body, location: format!("/v1/runs/{run}") }).into_response())
}

pub(super) async fn get_diff(
    permit: Permit<ReadRun>,
    State(app): State<App>,
    Path((a, b)): Path<(String, String)>,
) -> Result<Json<Compared>> {
    let read = |id: String| id.parse().map_err(|_| model::not_found());
    compared(&app, permit.scope(), (read(a)?, read(b)?)).await.map(Json)
}
