//! What a request may say about a session, and what a session looks like from outside. Pure.

use lantern_edge::{Change, Fields, Model};
use lantern_engine::user_text;
use lantern_store::sessions::SessionRow;
use lantern_types::{MicroUsd, RunId, SessionId, TenantId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::attachments::{self, Attachment};
use super::transcript::Message;
use crate::features::runs::model::Said;
use crate::features::runs::service::exchange::Tools;

const AGENT_NAME_BYTES_MAX: usize = 1_024;
/// A message is bounded by what a run's input may be.
const CONTENT_BYTES_MAX: usize = 64 << 20;
const HINT_BYTES_MAX: usize = 64 << 10;

/// A request to begin a session.
pub(super) struct NewSession {
    pub(super) agent_name: String,
    /// The most that all its messages together may cost.
    pub(super) max_cost: Option<MicroUsd>,
}

impl Model for NewSession {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let agent_name = fields.required_text("agentName", AGENT_NAME_BYTES_MAX);
        let max_cost = fields.dollars("maxCostUsd");
        Some(Self { agent_name: agent_name?, max_cost })
    }
}

/// A message as it is sent.
pub(super) struct NewMessage {
    pub(super) content: String,
    pub(super) attachments: Vec<Attachment>,
    pub(super) system: Option<String>,
    pub(super) tools: Tools,
    pub(super) labels: Map<String, Value>,
    pub(super) max_cost: Option<MicroUsd>,
}

impl Model for NewMessage {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let content = fields.required_text("content", CONTENT_BYTES_MAX);
        let attachments = attachments::read(fields);
        let system = fields.text("systemHint", HINT_BYTES_MAX).filter(|hint| !hint.trim().is_empty());
        // Nothing is routed by it yet, so it is not read, and named among what is ignored.
        fields
            .describe("turnHint", || json!({ "type": ["string", "null"], "description": "Not obeyed yet." }));
        let none = fields.boolean("noTools").unwrap_or(false);
        let read_only = fields.boolean("readOnlyTools").unwrap_or(false);
        let tools = match (none, read_only) {
            (true, _) => Tools::None,
            (false, true) => Tools::ReadOnly,
            (false, false) => Tools::All,
        };
        let labels = match fields.labels("labels") {
            Change::Set(labels) => labels,
            Change::Keep | Change::Clear => Map::new(),
        };
        let max_cost = fields.dollars("maxCostUsd");
        Some(Self { content: content?, attachments, system, tools, labels, max_cost })
    }
}

/// A session, as clients see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    #[schema(value_type = String, format = "uuid")]
    id: SessionId,
    #[schema(value_type = String, format = "uuid")]
    tenant_id: TenantId,
    agent_name: String,
    /// `active`, `processing` or `stopped`.
    status: &'static str,
    /// The oldest first. In a list: those of the last exchange, without tool calls.
    messages: Vec<Message>,
    /// How many messages it has taken.
    exchanges: u32,
    /// The run of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    last_run_id: Option<RunId>,
    /// The most that all its messages together may cost; without it each is bounded by itself alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost_usd: Option<f64>,
    /// What of that its messages have cost, or hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    /// There were more exchanges: ask with `before` for those before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier: Option<u32>,
    created_at: String,
    updated_at: String,
}

/// Where a session stands.
pub(super) const fn status(row: &SessionRow) -> &'static str {
    match (row.stopped_at, row.busy) {
        (Some(_), _) => "stopped",
        (None, true) => "processing",
        (None, false) => "active",
    }
}

/// The session of this row.
pub(super) fn shown(
    tenant: TenantId,
    row: &SessionRow,
    messages: Vec<Message>,
    earlier: Option<u32>,
) -> Session {
    Session {
        id: row.id,
        tenant_id: tenant,
        agent_name: row.agent_name.clone(),
        status: status(row),
        messages,
        exchanges: row.exchanges,
        last_run_id: row.last_run,
        max_cost_usd: row.cost.map(|cost| cost.max.to_wire()),
        cost_usd: row.cost.map(|cost| cost.spent.to_wire()),
        earlier,
        created_at: row.created_at.to_string(),
        updated_at: row.updated_at.to_string(),
    }
}

/// The last exchange of a session, as a list has it: from the ends of its run.
pub(super) fn last_exchange(row: &SessionRow, said: &Said) -> Vec<Message> {
    let omitted = |name| said.omitted.contains(&name);
    let text = |value: &Value, name: &str| match value.get(name).and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    let mut messages = Vec::new();
    let Some(asked_at) = row.asked_at else { return messages };
    let asked = said.input.as_ref().map_or_else(String::new, |input| match input.get("message") {
        Some(Value::String(message)) => message.clone(),
        _ => user_text(input),
    });
    messages.push(Message { omitted: omitted("input"), ..Message::new("user", asked_at, asked) });
    if let Some(at) = row.answered_at {
        let answered = said.output.as_ref().map_or_else(String::new, |output| text(output, "result"));
        let error = said.error.as_ref().map(|error| format!("{}: {}", error.code, error.message));
        messages.push(Message {
            omitted: omitted("output"),
            error,
            ..Message::new("assistant", at, answered)
        });
    }
    messages
}

/// A session that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = NewSession)]
pub(super) struct Made {
    #[schema(value_type = String, format = "uuid")]
    pub(super) id: SessionId,
    pub(super) status: &'static str,
}

/// A message that was taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MessageTaken)]
pub(super) struct Taken {
    pub(super) status: &'static str,
    /// The run that answers it.
    #[schema(value_type = String, format = "uuid")]
    pub(super) run_id: RunId,
}

/// A session that was stopped.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionStopped)]
pub(super) struct Stopped {
    pub(super) status: &'static str,
}
