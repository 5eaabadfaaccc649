//! Workloads as clients send and see them. Pure.

use lantern_edge::{Fields, Model};
use lantern_store::workloads::WorkloadRow;
use lantern_types::{RunId, TenantId};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// The contract's words.
pub(super) const STATES: [&str; 6] = ["pending", "spawning", "running", "draining", "terminated", "failed"];
/// What the contract calls the input, in both spellings.
const INPUT: [&str; 2] = ["stdinInput", "stdin_input"];

/// A spec that somebody else reads, and what its program is to read.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) document: Map<String, Value>,
    pub(super) input: Value,
}

impl Model for Asked {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        for (name, schema) in described() {
            fields.describe(name, || schema);
        }
        let mut document = fields.whole().clone();
        let given: Vec<Value> = INPUT.iter().filter_map(|name| document.remove(*name)).collect();
        if let [one, other] = given.as_slice()
            && one != other
        {
            fields.differs(INPUT[0], INPUT[1]);
        }
        let input = given.into_iter().next().unwrap_or(Value::Null);
        // Older clients send it as text.
        let input = match &input {
            Value::String(text) => serde_json::from_str(text).unwrap_or(input),
            _ => input,
        };
        Some(Self { document, input })
    }
}

/// What a body may hold; docs/agent-spec.schema.json says all of it.
fn described() -> Vec<(&'static str, Value)> {
    let text = || json!({ "type": ["string", "null"] });
    let texts = || json!({ "type": ["array", "null"], "items": { "type": "string" } });
    let map = || json!({ "type": ["object", "null"], "additionalProperties": { "type": "string" } });
    let any = |about: &str| json!({ "description": about });
    vec![
        (
            "imageDigest",
            json!({ "type": ["string", "null"], "description": "A repository and a digest: `hello@sha256:` and 64 hex digits. It or `image` is required, here or in `spec`." }),
        ),
        (
            "image",
            json!({ "type": ["string", "null"], "description": "In place of `imageDigest`: the same, or an image of a registry by its tag, which becomes a digest now." }),
        ),
        (
            "isolation",
            json!({ "enum": ["trusted", "standard", "untrusted", "hostile", "wasm", "devcontainer", null] }),
        ),
        ("limits", any("What it may use: `vcpu`, `memory`, `pids`, `scratchSize`, `timeout`, and caps.")),
        ("network", json!({ "enum": ["none", "allowlist", "allowlist_domain", "tenant_vpc", "open", null] })),
        (
            "egressRules",
            any(
                "Where the program may connect to, with network allowlist: `pattern`, `httpMethods`, `ports`, `rateBps`.",
            ),
        ),
        ("secrets", any("Refused: secrets are not handed into boxes yet.")),
        ("labels", map()),
        ("preferredRegions", texts()),
        (
            "idempotent",
            json!({ "type": ["boolean", "null"], "description": "Whether it may run again when its node died." }),
        ),
        ("restoreSnapshotId", any("Refused: no box has snapshots yet.")),
        ("agentVersionId", any("Refused: a workload belongs to no agent version yet.")),
        ("runId", any("Refused: a workload is a run of its own.")),
        ("command", texts()),
        ("args", texts()),
        ("env", map()),
        ("apiVersion", text()),
        ("kind", text()),
        ("metadata", any("`name` and `labels`, where the fields above stand in `spec`.")),
        ("spec", any("The fields above, as an agent.yaml has them.")),
        (
            "stdinInput",
            any(
                "What the program reads, as JSON: from its standard input, and from LANTERN_INPUT when it is short.",
            ),
        ),
    ]
}

/// A workload's id: its run's, marked.
pub(super) fn vm_id(run: RunId) -> String {
    format!("vm-{run}")
}

/// What scheduling answers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Scheduled {
    pub(super) vm_id: String,
    /// The run that tells what happens to it.
    #[schema(value_type = String, format = "uuid")]
    pub(super) run_id: RunId,
    pub(super) node: String,
    pub(super) state: &'static str,
    /// Its box: `process`, `oci` or `gvisor`.
    pub(super) backend: &'static str,
    /// Whether the operator lets it run in a weaker box than its class asks for.
    pub(super) degraded: bool,
    pub(super) created_at: String,
}

/// A workload.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workload {
    vm_id: String,
    #[schema(value_type = String, format = "uuid")]
    tenant_id: TenantId,
    #[schema(value_type = String, format = "uuid")]
    run_id: RunId,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    isolation_class: String,
    backend: String,
    degraded: bool,
    /// `pending`, `spawning`, `running`, `draining`, `terminated` or `failed`.
    state: String,
    /// Why it ended: `exited`, `timed_out`, `stopped`, `not_made` or `lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i64>,
    /// Lines that it wrote and that are kept.
    log_lines: i64,
    /// Lines that it wrote and that are not.
    log_lines_dropped: i64,
    /// What its model calls cost, as far as they are over. What is held for those under way is not in it.
    cost_usd: f64,
    /// Their prompt tokens.
    tokens_in: u64,
    /// Their completion tokens.
    tokens_out: u64,
    /// Model calls that were made, or are under way.
    model_calls: u64,
    /// What it asks for; nothing once what was said in its run is removed.
    spec: Value,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminated_at: Option<String>,
}

/// The workload of this row, with what its run was asked.
pub(super) fn shown(tenant: TenantId, row: WorkloadRow, input: Option<&Value>) -> Workload {
    let state = row.shown_state().to_owned();
    let ended = row.ended_at.or_else(|| row.run_ended_at.filter(|_| row.over()));
    Workload {
        vm_id: vm_id(row.run),
        tenant_id: tenant,
        run_id: row.run,
        node: row.node,
        isolation_class: row.isolation,
        backend: row.backend,
        degraded: row.degraded,
        state,
        reason: row.reason,
        exit_code: row.exit_code,
        log_lines: row.lines,
        log_lines_dropped: row.dropped,
        cost_usd: row.metered.spent.to_wire(),
        tokens_in: row.metered.tokens_in,
        tokens_out: row.metered.tokens_out,
        model_calls: row.metered.calls,
        spec: input.and_then(|input| input.get("spec")).cloned().unwrap_or(Value::Null),
        created_at: row.created_at.to_string(),
        started_at: row.started_at.map(|at| at.to_string()),
        terminated_at: ended.map(|at| at.to_string()),
    }
}

/// A workload, and what happened to it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Told {
    pub(super) vm: Workload,
    pub(super) events: Vec<Happening>,
}

/// One thing that happened to a workload, read from its run's journal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Happening {
    /// Its number in the journal.
    pub(super) id: u64,
    #[schema(value_type = String, format = "uuid")]
    pub(super) tenant_id: TenantId,
    pub(super) vm_id: String,
    /// `schedule`, `place`, `spawn`, `respawn`, `exec`, `egress`, `step`, `llm`, `model`, `model_refused`, `stop`, `report`, `terminate`, or the journal's own word.
    pub(super) action: &'static str,
    pub(super) attrs: Value,
    pub(super) at: String,
}

/// The contract's word for a kind of event of such a run.
pub(super) fn action(kind: &'static str) -> &'static str {
    match kind {
        "run_started" => "schedule",
        "step_started" => "place",
        "step_admitted" => "spawn",
        "step_denied" => "schedule_denied",
        "step_retrying" | "step_readmitted" | "step_reissued" => "respawn",
        "model_called" => "model",
        "cancel_requested" => "stop",
        "step_completed" | "step_failed" | "step_abandoned" => "report",
        "run_succeeded" | "run_failed" | "run_cancelled" => "terminate",
        other => other,
    }
}

/// What stopping answers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stopped {
    pub(super) vm_id: String,
    /// `terminated`, or `draining` while its program has time to end.
    pub(super) status: String,
}
