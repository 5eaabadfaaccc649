//! An agent as clients see it: the contract's fields, and the manifest in the words that people write it in.
//!
//! Invariant: what is shown of a manifest reads back as the same manifest.

use lantern_engine::Manifest;
use lantern_engine::manifest::{StepDef, ToolRef};
use lantern_types::{AgentId, Digest, Dur, MicroUsd, TenantId, UserId, VersionId};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::model::{Agent, Current};
use super::store::{VersionRow, WholeVersion};

/// An agent in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentSummary)]
pub(super) struct Listed {
    #[schema(value_type = String, format = "uuid")]
    id: AgentId,
    #[schema(value_type = String, format = "uuid")]
    tenant_id: TenantId,
    name: String,
    created_at: String,
    updated_at: String,
    #[schema(value_type = Object)]
    labels: Map<String, Value>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[schema(value_type = String, format = "uuid")]
    current_version_id: VersionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    style_prompt: Option<String>,
}

/// An agent alone: with its manifest, field by field.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Agent)]
pub(super) struct Detail {
    #[serde(flatten)]
    agent: Listed,
    version: i64,
    #[schema(value_type = String)]
    digest: Digest,
    /// In the answer to a request that saves it: what was saved and may not be meant so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    manifest: Map<String, Value>,
}

impl Detail {
    /// The same with what is to be said of it.
    pub(super) fn with_warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

/// What an update answers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentChanged)]
pub(super) struct Patched {
    pub(super) name: String,
    pub(super) updated: bool,
    pub(super) version: i64,
    #[schema(value_type = String)]
    pub(super) digest: Digest,
    #[schema(value_type = String, format = "uuid")]
    pub(super) current_version_id: VersionId,
    /// What was saved and may not be meant so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// A version in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentVersionSummary)]
pub(super) struct ListedVersion {
    #[schema(value_type = String, format = "uuid")]
    id: VersionId,
    number: i64,
    #[schema(value_type = String)]
    digest: Digest,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    created_by: Option<UserId>,
    /// Whether it is the one that new runs run.
    current: bool,
}

/// One version alone: the manifest as a request would say it, whole, so that to send it again says the same; and the bytes
/// that its digest names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentVersion)]
pub(super) struct ShownVersion {
    #[serde(flatten)]
    version: ListedVersion,
    #[schema(value_type = Object)]
    manifest: Map<String, Value>,
    #[schema(value_type = Object)]
    canonical: Box<RawValue>,
}

pub(super) fn listed(tenant: TenantId, agent: Agent) -> Listed {
    Listed {
        id: agent.id,
        tenant_id: tenant,
        name: agent.name,
        created_at: agent.created_at.to_string(),
        updated_at: agent.updated_at.to_string(),
        labels: agent.labels,
        status: if agent.archived_at.is_some() { "archived" } else { "active" },
        description: agent.description,
        current_version_id: agent.current,
        created_by: agent.created_by,
        archived_at: agent.archived_at.map(|at| at.to_string()),
        avatar_url: agent.avatar_url,
        style_prompt: agent.style_prompt,
    }
}

pub(super) fn detail(tenant: TenantId, agent: Agent, current: &Current) -> Detail {
    Detail {
        agent: listed(tenant, agent),
        version: current.number,
        digest: current.digest,
        warnings: Vec::new(),
        manifest: manifest(&current.manifest),
    }
}

/// A version of an agent whose current one is `current`.
pub(super) fn listed_version(current: VersionId, row: VersionRow) -> ListedVersion {
    ListedVersion {
        id: row.id,
        number: row.number,
        digest: row.digest,
        created_at: row.created_at.to_string(),
        created_by: row.created_by,
        current: row.id == current,
    }
}

/// The same with all that it says.
pub(super) fn version(current: VersionId, found: WholeVersion) -> serde_json::Result<ShownVersion> {
    Ok(ShownVersion {
        version: listed_version(current, found.row),
        manifest: whole(&serde_json::from_str(&found.manifest)?),
        canonical: RawValue::from_string(found.manifest)?,
    })
}

/// What a version says, as a request would say it; what it does not say is left out.
pub(super) fn said_by(version: &WholeVersion) -> serde_json::Result<Value> {
    let whole = whole(&serde_json::from_str(&version.manifest)?);
    Ok(Value::Object(whole.into_iter().filter(|(_, value)| !value.is_null()).collect()))
}

/// Everything that a version says, as a request would say it. What it does not say is null, which goes back to the
/// default.
fn whole(version: &Manifest) -> Map<String, Value> {
    let about =
        |name: &str| version.about.as_ref().and_then(|about| about.get(name)).cloned().unwrap_or_default();
    let mut all: Map<String, Value> = ["description", "labels", "avatarUrl"]
        .into_iter()
        .map(|name| (name.to_owned(), about(name)))
        .collect();
    all.insert("stylePrompt".to_owned(), json!(version.style_prompt));
    all.extend(fields(version).into_iter().map(|(name, value)| (name.to_owned(), value)));
    all
}

/// The manifest as a request would say it; what it does not say is left out.
fn manifest(manifest: &Manifest) -> Map<String, Value> {
    said(fields(manifest))
}

fn fields(manifest: &Manifest) -> Vec<(&'static str, Value)> {
    let steps: Vec<Value> = manifest.steps.iter().map(step).collect();
    vec![
        ("program", json!(manifest.program)),
        ("model", json!(manifest.model)),
        ("strategy", json!(manifest.strategy)),
        ("systemPrompt", json!(manifest.system_prompt)),
        ("tools", json!(manifest.tools.as_ref().map(|tools| tools.iter().map(tool).collect::<Vec<_>>()))),
        ("maxTurns", json!(manifest.max_turns)),
        ("maxTokens", json!(manifest.max_tokens)),
        ("temperature", json!(manifest.temperature)),
        ("inputSchema", json!(manifest.input_schema)),
        ("outputSchema", json!(manifest.output_schema)),
        ("retry", json!(manifest.retry)),
        ("maxCostUsd", json!(manifest.max_cost.map(MicroUsd::to_wire))),
        ("timeoutMs", millis(manifest.timeout)),
        ("steps", if steps.is_empty() { Value::Null } else { Value::Array(steps) }),
    ]
}

/// Milliseconds, whole ones as an integer.
#[expect(
    clippy::cast_precision_loss,
    reason = "durations are at most a century, which is exact in microseconds"
)]
fn millis(dur: Option<Dur>) -> Value {
    match dur {
        None => Value::Null,
        Some(dur) if dur.micros() % 1_000 == 0 => json!(dur.millis()),
        Some(dur) => json!(dur.micros() as f64 / 1_000.0),
    }
}

/// A tool of which nothing is said is its name.
fn tool(tool: &ToolRef) -> Value {
    let said = said(vec![
        ("name", json!(tool.name)),
        ("effect", json!(tool.effect)),
        ("approval", if tool.approval { json!(true) } else { Value::Null }),
        ("timeoutMs", millis(tool.timeout)),
        ("maxCalls", json!(tool.max_calls)),
        ("config", json!(tool.config)),
    ]);
    if said.len() == 1 { json!(tool.name) } else { Value::Object(said) }
}

fn step(def: &StepDef) -> Value {
    let inner: Vec<Value> = def.inner.iter().map(step).collect();
    let holds = |kind| def.kind == Some(kind);
    let (one, many) = match inner.split_first() {
        Some((first, _)) if holds(lantern_engine::StepKind::Map) => (first.clone(), Value::Null),
        Some(_) => (Value::Null, Value::Array(inner)),
        None => (Value::Null, Value::Null),
    };
    Value::Object(said(vec![
        ("id", json!(def.id)),
        ("kind", def.kind.map_or_else(|| json!("continue"), |kind| json!(kind))),
        ("data", def.data.clone()),
        ("retry", json!(def.retry)),
        ("timeoutMs", millis(def.timeout)),
        ("step", one),
        ("steps", many),
    ]))
}

fn said(fields: Vec<(&str, Value)>) -> Map<String, Value> {
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reads_back(text: &Value) {
        let read = Manifest::parse(text).unwrap();
        for shown in [manifest(&read), fields(&read).into_iter().map(|(k, v)| (k.to_owned(), v)).collect()] {
            let shown = Value::Object(shown);
            assert_eq!(Manifest::parse(&shown).unwrap(), read, "{shown}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_manifest() {
        for text in [
            json!({}),
            json!({
                "model": "gpt-4o", "systemPrompt": "x", "maxTurns": 3, "maxTokens": 100, "temperature": 0.5,
                "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"}, "maxCostUsd": 0.25,
                "timeout": "30s", "retry": {"maxAttempts": 2, "backoff": 1.5, "nonRetryable": ["x"]},
                "tools": ["calc", {"name": "http.fetch", "approval": true, "timeoutMs": 500, "maxCalls": 2,
                    "effect": "irreversible", "config": {"a": 1}}],
            }),
            json!({"tools": []}),
            json!({"program": "steps", "steps": [
                {"id": "m", "kind": "map", "data": {"items": [1, 2], "step": {"kind": "tool", "data": {"tool": "calc"}}}},
                {"id": "r", "kind": "race", "steps": [{"id": "x", "kind": "sleep", "duration": 1}, {"id": "y", "kind": "signal", "name": "go"}]},
                {"id": "c", "kind": "continue", "timeout": 5, "retries": 1},
            ]}),
        ] {
            reads_back(&text);
        }
    }

    fn optional(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
        prop_oneof![Just(Value::Null), value].boxed()
    }

    fn duration() -> impl Strategy<Value = Value> {
        prop_oneof![
            (1_i64..100_000_000).prop_map(|n| json!(n)),
            (1_i32..100_000_000).prop_map(|n| json!(f64::from(n) / 1_000.0)),
            (1_i64..1_000).prop_map(|n| json!(format!("{n}s"))),
            (1_i64..1_000).prop_map(|n| json!(format!("{n}ms"))),
        ]
    }

    fn retry() -> impl Strategy<Value = Value> {
        (1_u32..30, optional(duration()), 100_u32..5_000).prop_map(|(attempts, first, backoff)| {
            json!({"max_attempts": attempts, "initialInterval": first, "backoff": f64::from(backoff) / 100.0})
        })
    }

    fn step() -> impl Strategy<Value = Value> {
        let kinds = prop_oneof![
            Just(json!({"kind": "llm", "data": {"prompt": "x", "temperature": 1}})),
            Just(json!({"type": "tool_call", "tool": "calc", "args": {"n": 1}})),
            Just(json!({"kind": "approval", "data": {"reason": "x", "timeoutMs": 5}})),
            Just(json!({"kind": "subagent", "data": {"agent_name": "x"}})),
            Just(json!({"kind": "map", "items": [1], "step": {"kind": "signal", "name": "go"}})),
            Just(json!({"kind": "race", "branches": [{"kind": "sleep", "until": "2100-01-01T00:00:00Z"}]})),
        ];
        (kinds, optional(duration()), optional(retry())).prop_map(|(mut step, timeout, retry)| {
            step["timeout"] = timeout;
            step["retry"] = retry;
            step
        })
    }

    proptest! {
        #[test]
        fn whatever_is_shown_reads_back(
            cost in optional((0_i64..9_000_000_000_000).prop_map(|micros| {
                json!(format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000))
            })),
            timeout in optional(duration()),
            retry in optional(retry()),
            tool in optional(duration()),
            turns in optional((1_u32..1_000).prop_map(|n| json!(n))),
            temperature in optional((0_u32..2_000).prop_map(|n| json!(f64::from(n) / 1_000.0))),
            steps in proptest::collection::vec(step(), 0..4),
        ) {
            reads_back(&json!({
                "max_cost_usd": cost, "timeout": timeout, "retry": retry, "max_turns": turns, "temperature": temperature,
                "tools": ["calc", {"name": "http__fetch", "timeout": tool}], "steps": steps,
            }));
        }
    }
}
