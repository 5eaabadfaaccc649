//! Agent versions as those who start and drive runs need them: the current one by name, and any one by id.
//!
//! Reads only. How versions come about is the control plane's business.

use lantern_policy::Scope;
use lantern_types::{AgentId, At, Digest, MicroUsd, Priority, RunId, VersionId};

use crate::db::{Db, TenantTx};
use crate::error::Result;
use crate::journal::{self, NewRun};
use crate::record::Record;
use crate::value::Row;

/// A version that may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub agent_name: String,
    /// The version.
    pub id: VersionId,
    /// What names the manifest.
    pub digest: Digest,
    /// The manifest's canonical text.
    pub manifest: String,
    /// Whether its agent is archived: what runs goes on, and nothing new begins.
    pub archived: bool,
    /// The most that one run of its agent may spend, by the agent's budget.
    pub run_cost_max: Option<MicroUsd>,
    /// The most runs that its agent may begin in a day, by the agent's budget.
    pub runs_of_day_max: Option<u32>,
}

impl Version {
    /// The most that a run of this version may spend, where either says so: its manifest, or the budget of its agent.
    pub fn run_cap(&self, of_manifest: Option<MicroUsd>) -> Option<MicroUsd> {
        of_manifest.into_iter().chain(self.run_cost_max).min()
    }

    /// A run of this version with its first event, waiting to be taken up: asked for through the API, no run's child, in
    /// no conversation, without labels and key.
    pub fn queued_run(&self, id: RunId, first: Record, at: At) -> NewRun {
        NewRun {
            id,
            agent_id: self.agent,
            agent_name: self.agent_name.clone(),
            agent_version_id: self.id,
            status: "queued",
            trigger_kind: "api".to_owned(),
            parent: None,
            session_id: None,
            depth: 0,
            priority: Priority::default(),
            labels: "{}".to_owned(),
            idempotency_key: None,
            format: journal::FORMAT,
            n: 1,
            bytes: first.bytes,
            body: first.body,
            chain: first.chain,
            at,
            runs_of_day_max: self.runs_of_day_max,
            traced: false,
        }
    }
}

const CURRENT: &str = "SELECT a.id AS agent_id, a.name AS agent_name, v.id AS id, v.digest AS digest,
    v.manifest AS manifest, a.archived_at AS archived_at, a.run_cost_max AS run_cost_max,
    a.runs_of_day_max AS runs_of_day_max FROM agents a
    JOIN agent_versions v ON v.tenant_id = a.tenant_id AND v.id = a.current_version_id
    WHERE a.tenant_id = $1 AND a.name = $2 AND a.archived_at IS NULL";
const BY_ID: &str = "SELECT v.agent_id AS agent_id, a.name AS agent_name, v.id AS id, v.digest AS digest,
    v.manifest AS manifest, a.archived_at AS archived_at, a.run_cost_max AS run_cost_max,
    a.runs_of_day_max AS runs_of_day_max FROM agent_versions v
    JOIN agents a ON a.tenant_id = v.tenant_id AND a.id = v.agent_id
    WHERE v.tenant_id = $1 AND v.id = $2";

/// Every statement of this file.
pub const STATEMENTS: &[&str] = &[CURRENT, BY_ID];

/// The version that a new run of this agent runs; `None` when there is no such agent, or it is archived.
pub async fn current(tx: &mut TenantTx<'_>, agent_name: &str) -> Result<Option<Version>> {
    tx.one(CURRENT, &[agent_name.into()]).await?.map(read).transpose()
}

/// One version, archived agent or not: a run that has started goes on.
pub async fn by_id(db: &Db, scope: Scope, id: VersionId) -> Result<Option<Version>> {
    db.glance(scope, move |tx| {
        Box::pin(async move { tx.one(BY_ID, &[id.into()]).await?.map(read).transpose() })
    })
    .await
}

fn read(row: Row) -> Result<Version> {
    Ok(Version {
        agent: row.id("agent_id")?,
        agent_name: row.text("agent_name")?,
        id: row.id("id")?,
        digest: row.digest("digest")?,
        manifest: row.text("manifest")?,
        archived: row.opt_at("archived_at")?.is_some(),
        run_cost_max: row.opt_int("run_cost_max")?.map(MicroUsd::from_micros),
        runs_of_day_max: row.opt_int("runs_of_day_max")?.and_then(|most| u32::try_from(most).ok()),
    })
}
