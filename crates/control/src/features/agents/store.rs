//! Agents and versions in SQL. No decisions here. An agent's instructions are in the manifest of a version.

use std::cmp::Reverse;

use lantern_engine::Manifest;
use lantern_policy::Scope;
use lantern_store::{Db, Error, Result, Row, TenantTx, Value, Where};
use lantern_types::{AgentId, At, Digest, UserId, VersionId};

use super::model::{Agent, Current, Standing, Wanted};

const GET: &str = "SELECT a.id AS id, a.name AS name, a.description AS description, a.labels AS labels,
    a.avatar_url AS avatar_url, a.style_prompt AS style_prompt, a.current_version_id AS current_version_id,
    a.created_by AS created_by, a.created_at AS created_at, a.updated_at AS updated_at,
    a.archived_at AS archived_at, a.version AS version,
    v.number AS number, v.digest AS digest, v.manifest AS manifest
    FROM agents a JOIN agent_versions v ON v.tenant_id = a.tenant_id AND v.id = a.current_version_id
    WHERE a.tenant_id = $1 AND a.name = $2";
const LIST: &str =
    "SELECT id, name, description, labels, avatar_url, style_prompt, current_version_id, created_by,
    created_at, updated_at, archived_at, version FROM agents WHERE tenant_id = $1";
const INSERT: &str = "INSERT INTO agents (tenant_id, id, name, description, labels, avatar_url, style_prompt,
    current_version_id, created_by, created_at, updated_at, version)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, 1)";
const UPDATE: &str = "UPDATE agents SET description = $4, labels = $5, avatar_url = $6, style_prompt = $7,
    current_version_id = $8, updated_at = $9, archived_at = NULL, version = version + 1
    WHERE tenant_id = $1 AND id = $2 AND version = $3";
const ARCHIVE: &str = "UPDATE agents SET archived_at = $4, updated_at = $5, version = version + 1
    WHERE tenant_id = $1 AND id = $2 AND version = $3";
const INSERT_VERSION: &str = "INSERT INTO agent_versions (tenant_id, id, agent_id, number, digest, manifest,
    created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const VERSIONS: &str = "SELECT id, number, digest, created_by, created_at FROM agent_versions
    WHERE tenant_id = $1 AND agent_id = $2 AND number < $3 ORDER BY number DESC LIMIT $4";
const BY_NUMBER: &str = "SELECT id, number, digest, created_by, created_at, manifest FROM agent_versions
    WHERE tenant_id = $1 AND agent_id = $2 AND number = $3";
const BY_ID: &str = "SELECT id, number, digest, created_by, created_at, manifest FROM agent_versions
    WHERE tenant_id = $1 AND agent_id = $2 AND id = $3";
const BY_DIGEST: &str = "SELECT id FROM agent_versions WHERE tenant_id = $1 AND agent_id = $2 AND digest = $3
    ORDER BY number DESC LIMIT 1";
const NEWEST: &str = "created_at DESC, id DESC";

/// Every statement of this file.
pub(crate) const STATEMENTS: &[&str] =
    &[GET, LIST, INSERT, UPDATE, ARCHIVE, INSERT_VERSION, VERSIONS, BY_NUMBER, BY_ID, BY_DIGEST];

/// A version that is to be written.
pub(super) struct NewVersion {
    pub(super) id: VersionId,
    pub(super) number: i64,
    pub(super) digest: Digest,
    pub(super) manifest: String,
    pub(super) by: Option<UserId>,
    pub(super) at: At,
}

/// A version as it is listed.
pub(super) struct VersionRow {
    pub(super) id: VersionId,
    pub(super) number: i64,
    pub(super) digest: Digest,
    pub(super) created_by: Option<UserId>,
    pub(super) created_at: At,
}

/// A version with its manifest's text.
pub(super) struct WholeVersion {
    pub(super) row: VersionRow,
    pub(super) manifest: String,
}

/// The agent of that name with its current version, archived or not.
pub(super) async fn find(tx: &mut TenantTx<'_>, name: &str) -> Result<Option<(Agent, Current)>> {
    let Some(row) = tx.one(GET, &[name.into()]).await? else { return Ok(None) };
    Ok(Some((agent(&row)?, current(&row)?)))
}

/// The agents that stand so, newest first.
pub(super) async fn list(
    db: &Db,
    scope: Scope,
    (standing, before): (Standing, Option<(At, AgentId)>),
    limit: u32,
) -> Result<Vec<Agent>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut agents = Vec::new();
            for conditions in queries(standing, before) {
                let rows = tx.all_where(LIST, conditions, NEWEST, limit).await?;
                for row in &rows {
                    agents.push(agent(row)?);
                }
            }
            agents.sort_by_key(|agent| Reverse((agent.created_at, agent.id)));
            agents.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Ok(agents)
        })
    })
    .await
}

/// The conditions of the queries that make a list. Each has an index in its order.
fn queries(standing: Standing, before: Option<(At, AgentId)>) -> Vec<Where> {
    let those = |condition| Where::new().holds(condition).before(("created_at", "id"), before);
    let (active, archived) = ("archived_at IS NULL", "archived_at IS NOT NULL");
    match standing {
        Standing::Active => vec![those(active)],
        Standing::Archived => vec![those(archived)],
        Standing::All => vec![those(active), those(archived)],
    }
}

/// Adds an agent whose first version is `version`.
pub(super) async fn insert(
    tx: &mut TenantTx<'_>,
    agent: &Agent,
    by: Option<UserId>,
    version: NewVersion,
) -> Result<()> {
    let params = [
        agent.id.into(),
        agent.name.as_str().into(),
        agent.description.clone().into(),
        labels(agent)?,
        agent.avatar_url.clone().into(),
        agent.style_prompt.clone().into(),
        agent.current.into(),
        by.into(),
        agent.created_at.into(),
    ];
    tx.exec(INSERT, &params).await?;
    insert_version(tx, agent.id, version).await
}

/// Writes a changed agent, an active one from now on, over its last revision. `Conflict` when that is no longer the last.
pub(super) async fn update(tx: &mut TenantTx<'_>, agent: &Agent) -> Result<()> {
    let params = [
        agent.id.into(),
        agent.revision.into(),
        agent.description.clone().into(),
        labels(agent)?,
        agent.avatar_url.clone().into(),
        agent.style_prompt.clone().into(),
        agent.current.into(),
        agent.updated_at.into(),
    ];
    if tx.exec(UPDATE, &params).await? == 0 { Err(Error::Conflict) } else { Ok(()) }
}

/// Adds a version.
pub(super) async fn insert_version(tx: &mut TenantTx<'_>, agent: AgentId, version: NewVersion) -> Result<()> {
    let params = [
        version.id.into(),
        agent.into(),
        version.number.into(),
        version.digest.into(),
        version.manifest.into(),
        version.by.into(),
        version.at.into(),
    ];
    tx.exec(INSERT_VERSION, &params).await.map(drop)
}

/// The last of an agent's versions that says the same.
pub(super) async fn by_digest(
    tx: &mut TenantTx<'_>,
    agent: AgentId,
    digest: Digest,
) -> Result<Option<VersionId>> {
    tx.one(BY_DIGEST, &[agent.into(), digest.into()]).await?.map(|row| row.id("id")).transpose()
}

/// Writes whether an agent is archived over its last revision. `Conflict` when that is no longer the last.
pub(super) async fn archive(tx: &mut TenantTx<'_>, agent: &Agent) -> Result<()> {
    let params = [agent.id.into(), agent.revision.into(), agent.archived_at.into(), agent.updated_at.into()];
    if tx.exec(ARCHIVE, &params).await? == 0 { Err(Error::Conflict) } else { Ok(()) }
}

/// An agent's versions before the one of this number, newest first.
pub(super) async fn versions(
    tx: &mut TenantTx<'_>,
    agent: AgentId,
    before: i64,
    limit: u32,
) -> Result<Vec<VersionRow>> {
    let rows = tx.all(VERSIONS, &[agent.into(), before.into(), limit.into()]).await?;
    rows.iter().map(version).collect()
}

/// The number of the version that an agent got last, whichever is current.
pub(super) async fn last_number(tx: &mut TenantTx<'_>, agent: AgentId) -> Result<i64> {
    let last = versions(tx, agent, i64::MAX, 1).await?;
    Ok(last.first().map_or(0, |version| version.number))
}

/// One version of an agent.
pub(super) async fn find_version(
    tx: &mut TenantTx<'_>,
    agent: AgentId,
    wanted: Wanted,
) -> Result<Option<WholeVersion>> {
    let found = match wanted {
        Wanted::Number(number) => tx.one(BY_NUMBER, &[agent.into(), number.into()]).await?,
        Wanted::Id(id) => tx.one(BY_ID, &[agent.into(), id.into()]).await?,
    };
    found.map(|row| Ok(WholeVersion { row: version(&row)?, manifest: row.text("manifest")? })).transpose()
}

fn version(row: &Row) -> Result<VersionRow> {
    Ok(VersionRow {
        id: row.id("id")?,
        number: row.int("number")?,
        digest: row.digest("digest")?,
        created_by: row.opt_id("created_by")?,
        created_at: row.at("created_at")?,
    })
}

fn agent(row: &Row) -> Result<Agent> {
    let labels = serde_json::from_str(&row.text("labels")?).map_err(unreadable)?;
    Ok(Agent {
        id: row.id("id")?,
        name: row.text("name")?,
        description: row.opt_text("description")?,
        labels,
        avatar_url: row.opt_text("avatar_url")?,
        style_prompt: row.opt_text("style_prompt")?,
        current: row.id("current_version_id")?,
        created_by: row.opt_id::<UserId>("created_by")?.map(|id| id.to_string()),
        created_at: row.at("created_at")?,
        updated_at: row.at("updated_at")?,
        archived_at: row.opt_at("archived_at")?,
        revision: row.int("version")?,
    })
}

fn current(row: &Row) -> Result<Current> {
    let manifest: Manifest = serde_json::from_str(&row.text("manifest")?).map_err(unreadable)?;
    Ok(Current { number: row.int("number")?, digest: row.digest("digest")?, manifest })
}

fn labels(agent: &Agent) -> Result<Value> {
    serde_json::to_string(&agent.labels).map(Value::from).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Internal(error.into())
}

#[cfg(test)]
mod tests {
    use lantern_types::DEV_TENANT;

    use super::*;

    #[tokio::test]
    async fn every_list_has_an_index_in_its_order() {
        let db = Db::inline_sqlite().unwrap();
        let explain: &'static str = format!("EXPLAIN QUERY PLAN {LIST}").leak();
        let last = Some((At::from_micros(9), AgentId::from_uuid(uuid::Uuid::nil())));
        for (standing, indexes) in [
            (Standing::Active, &["agents_active"][..]),
            (Standing::Archived, &["agents_archived"]),
            (Standing::All, &["agents_active", "agents_archived"]),
        ] {
            for before in [None, last] {
                for (conditions, index) in queries(standing, before).into_iter().zip(indexes) {
                    let rows = db.read(Scope::of_lease(DEV_TENANT), move |tx| {
                        Box::pin(async move { tx.all_where(explain, conditions, NEWEST, 50).await })
                    });
                    let lines: Vec<String> =
                        rows.await.unwrap().iter().map(|row| row.text("detail").unwrap()).collect();
                    let plan = lines.join("; ");
                    assert!(plan.contains(&format!("USING INDEX {index} ")), "{standing:?}: {plan}");
                    assert!(!plan.contains("TEMP B-TREE"), "{standing:?}: {plan}");
                }
            }
        }
    }
}
