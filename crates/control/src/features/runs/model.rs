//! What a request may say about a run, and what a run looks like from outside. Pure.

use std::sync::Arc;

use lantern_edge::{Change, Code, Error, Fields, Model, idempotency};
use lantern_engine::{Content, Event, FORMAT, Fact, Outcome};
use lantern_store::journal::RunRow;
use lantern_types::{
    AgentId, At, Limits, MicroUsd, Priority, RunId, SessionId, TenantId, TraceParent, VersionId,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

const CANCELLED: &str = "cancelled";
const WORDS_BYTES_MAX: usize = 4_096;
const AGENT_NAME_BYTES_MAX: usize = 1_024;
/// What is said of a run whose journal is spoilt.
pub(super) const UNREADABLE: &str = "the run's journal cannot be read";

/// A request to start a run.
#[derive(Debug)]
pub(super) struct NewRun {
    pub(super) agent_name: String,
    pub(super) input: Arc<Value>,
    pub(super) session: Option<SessionId>,
    pub(super) labels: Map<String, Value>,
    pub(super) idempotency_key: Option<String>,
    pub(super) max_cost: Option<MicroUsd>,
    pub(super) priority: Priority,
    pub(super) stream: bool,
    /// The span that it belongs under, as the request's head names it.
    pub(super) trace: Option<TraceParent>,
}

/// The same where the path names the agent: `agent_name` is empty unless the body names it too.
#[derive(Debug)]
pub(super) struct NewRunOfAgent(pub(super) NewRun);

impl Model for NewRunOfAgent {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let agent_name = fields.text("agentName", AGENT_NAME_BYTES_MAX).unwrap_or_default();
        Some(Self(NewRun::of(agent_name, fields)))
    }
}

impl Model for NewRun {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let agent_name = fields.required_text("agentName", AGENT_NAME_BYTES_MAX);
        let new = Self::of(agent_name.clone().unwrap_or_default(), fields);
        agent_name.map(|_| new)
    }
}

impl NewRun {
    fn of(agent_name: String, fields: &mut Fields<'_>) -> Self {
        fields.describe("input", || json!({ "description": "What the run is asked: usually an object." }));
        let input = fields.value("input").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        fields.describe("sessionId", || {
            let about = "The session whose next message the run answers; it has the session's agent.";
            json!({ "type": ["string", "null"], "format": "uuid", "description": about })
        });
        let session = fields.parsed_if_any("sessionId");
        let labels = match fields.labels("labels") {
            Change::Set(labels) => labels,
            Change::Keep | Change::Clear => Map::new(),
        };
        let idempotency_key = fields.text("idempotencyKey", idempotency::KEY_BYTES_MAX);
        let max_cost = fields.dollars("maxCostUsd");
        let priority = fields.signed("priority", Priority::MIN..=Priority::MAX).and_then(Priority::of);
        let priority = priority.unwrap_or_default();
        let stream = fields.boolean("stream").unwrap_or(false);
        let input = Arc::new(input);
        Self { agent_name, input, session, labels, idempotency_key, max_cost, priority, stream, trace: None }
    }
}

/// Why a run is cancelled.
#[derive(Debug)]
pub(super) struct Cancel {
    pub(super) reason: Option<String>,
}

impl Model for Cancel {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { reason: fields.text("reason", WORDS_BYTES_MAX) })
    }
}

/// A signal's value.
#[derive(Debug)]
pub(super) struct Signal {
    pub(super) value: Value,
}

impl Model for Signal {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { value: fields.value("value").cloned().unwrap_or(Value::Null) })
    }
}

/// A person's decision.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) approved: bool,
    pub(super) note: Option<Value>,
    /// What the step gives, when it is a yes.
    pub(super) answer: Option<Value>,
    /// How much more may be spent, when it is asked whether a cap may be passed.
    pub(super) more: Option<MicroUsd>,
}

impl Model for Decision {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let approved = fields.required_boolean("approved");
        let note = fields.value("note").cloned();
        let (answer, more) = (answer(fields), more(fields));
        Some(Self { approved: approved?, note, answer, more })
    }
}

/// What a person answers beside a yes.
pub(super) fn answer(fields: &mut Fields<'_>) -> Option<Value> {
    fields.describe("answer", || {
        json!({ "description": "What the approval step gives as its `answer`, with a yes. Without it, that is the note." })
    });
    fields.value("answer").cloned()
}

/// The most that a person lets through at once.
const MORE_MAX: MicroUsd = MicroUsd::from_micros(1_000_000_000_000_000);

/// How much more may be spent of a cap that asks.
pub(super) fn more(fields: &mut Fields<'_>) -> Option<MicroUsd> {
    let more = fields.dollars("moreUsd")?;
    if more <= MicroUsd::ZERO || more > MORE_MAX {
        fields.issue(
            "moreUsd",
            "must be more than 0 and at most 1000000000; leave it out for the rest of the period",
        );
        return None;
    }
    Some(more)
}

/// What somebody found out about a step in doubt.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) happened: bool,
    pub(super) output: Value,
}

impl Model for Finding {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let happened = fields.required_boolean("happened");
        let output = fields.value("output").cloned().unwrap_or(Value::Null);
        Some(Self { happened: happened?, output })
    }
}

/// A run, as clients see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    #[schema(value_type = String, format = "uuid")]
    id: RunId,
    #[schema(value_type = String, format = "uuid")]
    tenant_id: TenantId,
    #[schema(value_type = String, format = "uuid")]
    agent_id: AgentId,
    agent_name: String,
    #[schema(value_type = String, format = "uuid")]
    agent_version_id: VersionId,
    status: String,
    cost_usd: f64,
    /// Reserved by calls under way. Of a run that is over: what may have been billed for calls that broke off.
    held_usd: f64,
    tokens_in: i64,
    tokens_out: i64,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    labels: Value,
    /// Before which runs of its tenant it is taken up, when more is due than there is room for: from -5, the last, to 5.
    #[schema(value_type = i64)]
    priority: Priority,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    parent_run_id: Option<RunId>,
    trigger_kind: String,
    trigger_meta: Vec<StepLog>,
    /// Since when there is nothing left of what was said in it: neither input nor output, nor labels. What happened is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_removed_at: Option<String>,
    /// Why it stands still: no process that looked can go on with it. Another build may.
    #[serde(skip_serializing_if = "Option::is_none")]
    parked_reason: Option<String>,
    /// Of a run that is decided and not over. Lists do not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<Ending>,
    #[serde(flatten)]
    said: Said,
}

impl Run {
    /// The same with what is known of its end.
    pub(super) fn with_ending(self, ending: Option<Ending>) -> Self {
        Self { ending, ..self }
    }
}

/// How a run will end that does nothing more and waits to hear what its child runs spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RunEnding)]
pub(super) struct Ending {
    /// The status that it will have.
    outcome: &'static str,
    /// When it ends at the latest.
    due: String,
}

impl Ending {
    pub(super) fn of(outcome: Outcome, due: At) -> Self {
        let outcome = match outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => CANCELLED,
        };
        Self { outcome, due: due.to_string() }
    }

    /// Whether it was cancelled.
    pub(super) fn cancels(&self) -> bool {
        self.outcome == CANCELLED
    }

    /// Why the run is not what was asked for.
    pub(super) fn refusal(&self, code: Code) -> Error {
        let Self { outcome, due } = self;
        let words = format!(
            "the run is ending: it is {outcome} when its child runs have told what they spent, at the latest at {due}"
        );
        Error::new(code, words).with_extra("ending", json!(self))
    }
}

/// What a run was asked and what came of it.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RunContent)]
pub(crate) struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<RunError>,
    /// The run that this one went on as.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub(super) continued_as: Option<RunId>,
    /// What it is a fork of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forked_from: Option<ForkedFrom>,
    /// Fields that are there and too long for a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) omitted: Vec<&'static str>,
}

impl Said {
    /// The same without what is longer than `bytes_max`, which is named instead.
    pub(super) fn cut(mut self, bytes_max: usize) -> Self {
        for (name, value) in [("input", &mut self.input), ("output", &mut self.output)] {
            if value.as_ref().is_some_and(|value| value.to_string().len() > bytes_max) {
                *value = None;
                self.omitted.push(name);
            }
        }
        self
    }

    /// What is said of a run whose journal is spoilt.
    pub(super) fn unreadable() -> Self {
        let code = Code::RunUnreadable.as_str().to_owned();
        let error = RunError { code, message: UNREADABLE.to_owned(), step_id: None };
        Self { error: Some(error), ..Self::default() }
    }
}

/// What a run is a fork of.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForkedFrom {
    #[schema(value_type = String, format = "uuid")]
    run_id: RunId,
    /// The first step that was done anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    step_id: Option<String>,
    /// Whether nothing was.
    replay: bool,
}

/// What a run is a fork of, from its first event.
pub(super) fn forked_from(event: &Event) -> Option<ForkedFrom> {
    let Fact::RunStarted { forks: Some(forks), .. } = &event.fact else { return None };
    let step_id = forks.step.as_ref().map(|step| step.as_str().to_owned());
    Some(ForkedFrom { run_id: forks.run, step_id, replay: forks.replay })
}

/// Why a run failed.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunError {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_id: Option<String>,
}

/// One line of the contract's step log.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct StepLog {
    step: String,
    status: &'static str,
    detail: String,
    ts: String,
}

/// The run of this row.
pub(super) fn shown(tenant: TenantId, row: RunRow, mut said: Said, log: Vec<StepLog>) -> Run {
    // A run that was given up failed in its row alone, whether or not this build can read its journal.
    let given_up = row.error_code.as_deref() == Some(Code::RunUnreadable.as_str());
    if given_up && said.error.is_none() {
        said.error = Said::unreadable().error;
    }
    let parked_reason = parked(&row);
    Run {
        id: row.id,
        tenant_id: tenant,
        agent_id: row.agent_id,
        agent_name: row.agent_name,
        agent_version_id: row.agent_version_id,
        status: row.status,
        cost_usd: row.spent.to_wire(),
        held_usd: row.held.to_wire(),
        tokens_in: row.tokens_in,
        tokens_out: row.tokens_out,
        created_at: row.created_at.to_string(),
        started_at: row.started_at.map(|at| at.to_string()),
        finished_at: row.finished_at.map(|at| at.to_string()),
        labels: serde_json::from_str(&row.labels).unwrap_or_default(),
        priority: row.priority,
        session_id: row.session_id,
        parent_run_id: row.parent_run_id,
        trigger_kind: row.trigger_kind,
        trigger_meta: log,
        content_removed_at: row.content_removed_at.map(|at| at.to_string()),
        parked_reason,
        ending: None,
        said,
    }
}

/// Why a run that is not over stands still, if nobody can go on with it.
fn parked(row: &RunRow) -> Option<String> {
    if row.finished_at.is_some() || row.owner.is_some() {
        return None;
    }
    let newer = || {
        let needs = row.format;
        format!(
            "its events have format {needs}, and this build knows {FORMAT}: a newer build goes on with it"
        )
    };
    (row.format > FORMAT).then(newer).or_else(|| row.parked_reason.clone())
}

/// What a run was asked, from its first event.
pub(super) fn asked(event: &Event) -> Option<Value> {
    event.content.as_ref().and_then(Content::input).map(|input| Value::clone(input))
}

/// What came of a run, from its last event: its output or its error.
pub(super) fn outcome(event: &Event) -> (Option<Value>, Option<RunError>) {
    let Fact::Finished { outcome, code, step, .. } = &event.fact else { return (None, None) };
    match (outcome, &event.content) {
        (Outcome::Succeeded, Some(Content::Output(output))) => (Some((**output).clone()), None),
        (Outcome::Failed, content) => {
            let message = match content {
                Some(Content::Error(message)) => message.clone(),
                _ => String::new(),
            };
            let code = code.clone().unwrap_or_else(|| "failed".to_owned());
            let step_id = step.as_ref().map(|step| step.as_str().to_owned());
            (None, Some(RunError { code, message, step_id }))
        }
        _ => (None, None),
    }
}

/// What the step log says of an event, if anything. Needs no contents.
pub(super) fn logged(event: &Event) -> Option<StepLog> {
    let (step, status, detail) = match &event.fact {
        Fact::StepRequested { step, name, .. } => (step, "running", name.clone().unwrap_or_default()),
        Fact::StepSettled { step, name, .. } => (step, "completed", name.clone().unwrap_or_default()),
        Fact::StepReused { step, code: Some(code), .. } | Fact::StepFailed { step, code, .. } => {
            (step, "failed", code.clone())
        }
        Fact::StepReused { step, name, .. } => (step, "completed", name.clone().unwrap_or_default()),
        Fact::StepDenied { step, code, reason, .. } => (step, "failed", format!("{code}: {reason}")),
        Fact::StepAbandoned { step, code, .. } => (step, "failed", code.clone()),
        _ => return None,
    };
    Some(StepLog { step: step.to_string(), status, detail, ts: event.at.to_string() })
}

/// The most that the run may spend: the least of what its version, its request and the limits say.
pub(crate) fn cap(limits: &Limits, version: Option<MicroUsd>, request: Option<MicroUsd>) -> MicroUsd {
    let said = version.into_iter().chain(request).min();
    said.unwrap_or(limits.run_cost_default).min(limits.run_cost_max)
}

/// 404 for a run that is not there, or is somebody else's.
pub(crate) fn not_found() -> Error {
    Error::new(Code::RunNotFound, "run not found")
}
