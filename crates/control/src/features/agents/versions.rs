//! Versions of an agent: listed, read, compared, and made current.
//!
//! Invariant: a version never changes. Whichever is current, the next one has the next number.

use lantern_edge::etag::IfMatch;
use lantern_edge::{Code, Error, Page, Paging, Params, Result};
use lantern_engine::Manifest;
use lantern_policy::action::PromoteAgent;
use lantern_policy::{Permit, Scope};
use lantern_store::TenantTx;
use lantern_types::{AgentId, At, VersionId};

use super::diff::{self, Differences};
use super::model::{Agent, Current, Wanted};
use super::service::{self, Answer, Changed};
use super::show::{self, ListedVersion, ShownVersion};
use super::store::{self, WholeVersion};
use crate::App;

/// A page of an agent's versions, newest first.
pub(super) async fn list(
    app: &App,
    scope: Scope,
    name: &str,
    params: &Params,
) -> Result<Page<ListedVersion>> {
    let paging = Paging::of(params)?;
    let (agent, _) = service::get(app, scope, name).await?;
    let after = paging.before.map(|(_, id)| Wanted::Id(VersionId::from_uuid(id)));
    let (id, limit) = (agent.id, paging.fetch());
    let rows = app.db.read(scope, move |tx| {
        Box::pin(async move {
            let before = match after {
                None => i64::MAX,
                // One that is another agent's comes before all of this one's.
                Some(after) => store::find_version(tx, id, after).await?.map_or(0, |last| last.row.number),
            };
            store::versions(tx, id, before, limit).await
        })
    });
    let page = Page::cut(rows.await?, &paging, params, |row| (row.created_at, row.id.uuid()));
    Ok(page.map(|row| show::listed_version(agent.current, row)))
}

/// One version, also of an agent of the server's own. `agent_version_not_found` when the agent has none of that number or id.
pub(super) async fn get(app: &App, scope: Scope, name: &str, wanted: &str) -> Result<ShownVersion> {
    let agent = service::get_any(app, scope, name).await?.0;
    let [found] = of_agent(app, scope, agent.id, [wanted]).await?;
    show::version(agent.current, found).map_err(Error::internal)
}

/// What differs from one version to another.
pub(super) async fn diff(
    app: &App,
    scope: Scope,
    name: &str,
    (from, to): (&str, &str),
) -> Result<Differences> {
    let (agent, [from, to]) = find(app, scope, name, [from, to]).await?;
    let said = |version: &WholeVersion| show::said_by(version).map_err(Error::internal);
    let (old, new) = (said(&from)?, said(&to)?);
    let listed = |version: WholeVersion| show::listed_version(agent.current, version.row);
    let (changes, text) = (diff::changes(&old, &new), diff::text(&old, &new));
    Ok(Differences { from: listed(from), to: listed(to), changes, text })
}

/// Makes a version current, if the agent is still at the revision that the caller names: new runs run it, and the agent is
/// what it says. `agent_archived` for an archived agent.
pub(super) async fn promote(
    app: &App,
    permit: &Permit<PromoteAgent>,
    (name, wanted): (&str, &str),
    asked: IfMatch,
) -> Result<Changed> {
    let (name, wanted, now) = (service::named(name)?, named(wanted)?, app.clock.now());
    app.db
        .write(permit.scope(), move |tx| {
            Box::pin(async move {
                let Some((agent, current)) = store::find(tx, &name).await? else {
                    return Ok(Err(service::not_found(&name)));
                };
                if let Err(outdated) = asked.check(agent.revision) {
                    return Ok(Err(outdated));
                }
                make_current(tx, (agent, current), wanted, now).await
            })
        })
        .await?
}

async fn make_current(
    tx: &mut TenantTx<'_>,
    (old, current): (Agent, Current),
    wanted: Wanted,
    now: At,
) -> Answer {
    if old.archived_at.is_some() {
        return Ok(Err(service::archived(&old.name)));
    }
    let Some(found) = store::find_version(tx, old.id, wanted).await? else { return Ok(Err(not_found())) };
    if found.row.id == old.current {
        return Ok(Ok(Changed { before: Some(current.digest), agent: old, current, updated: false }));
    }
    let manifest: Manifest = match serde_json::from_str(&found.manifest) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(Error::internal(error))),
    };
    let mut agent = Agent { current: found.row.id, updated_at: now, ..old.retold(&manifest) };
    store::update(tx, &agent).await?;
    agent.revision = agent.revision.saturating_add(1);
    let before = Some(current.digest);
    let current = Current { number: found.row.number, digest: found.row.digest, manifest };
    Ok(Ok(Changed { before, agent, current, updated: true }))
}

/// An agent, archived or not, and these versions of it.
pub(super) async fn find<const N: usize>(
    app: &App,
    scope: Scope,
    name: &str,
    wanted: [&str; N],
) -> Result<(Agent, [WholeVersion; N])> {
    let (agent, _) = service::get(app, scope, name).await?;
    let found = of_agent(app, scope, agent.id, wanted).await?;
    Ok((agent, found))
}

async fn of_agent<const N: usize>(
    app: &App,
    scope: Scope,
    id: AgentId,
    wanted: [&str; N],
) -> Result<[WholeVersion; N]> {
    let wanted = wanted.into_iter().map(named).collect::<Result<Vec<_>>>()?;
    let found = app.db.read(scope, move |tx| {
        Box::pin(async move {
            let mut found = Vec::with_capacity(wanted.len());
            for wanted in wanted {
                found.extend(store::find_version(tx, id, wanted).await?);
            }
            Ok(found)
        })
    });
    found.await?.try_into().map_err(|_| not_found())
}

/// What is neither a number nor an id names no version.
fn named(wanted: &str) -> Result<Wanted> {
    Wanted::parse(wanted).ok_or_else(not_found)
}

fn not_found() -> Error {
    Error::new(Code::AgentVersionNotFound, "the agent has no such version")
}
