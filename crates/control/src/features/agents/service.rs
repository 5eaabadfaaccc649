//! Creating, changing, archiving and restoring agents: read, decide, write, in one transaction.
//!
//! Invariant: a version is written exactly when the manifest's digest changed or an archived agent is made again, in the
//! transaction that makes it current; so "current" always exists. Everything that can be said of an agent is in the
//! manifest; the columns beside it are for lists.

use lantern_edge::etag::{IfMatch, Wished};
use lantern_edge::{Code, Error, Result};
use lantern_engine::{Manifest, Terms};
use lantern_policy::action::{CreateAgent, DeleteAgent, RestoreAgent, UpdateAgent};
use lantern_policy::{Actor, Permit, Principal, Scope};
use lantern_store::TenantTx;
use lantern_store::versions::Version;
use lantern_types::{AgentId, At, Digest, Limits, ToolDef, UserId, VersionId};

use super::model::{self, Agent, Changes, Current, NewAgent};
use super::store::{self, NewVersion};
use crate::features::identity::members;
use crate::{App, schema};

/// So many names of a manifest are looked for at most.
const APPROVERS_MAX: usize = 50;

/// An agent after a request, and whether the request changed anything.
pub(super) struct Changed {
    /// The digest of its manifest as it was; of a new agent there is none.
    pub(super) before: Option<Digest>,
    pub(super) agent: Agent,
    pub(super) current: Current,
    pub(super) updated: bool,
}

/// With what the names of the server's own agents begin, and nobody else's.
const OWN: char = '(';

/// What a decision needs beside the request and the row.
pub(super) struct Desk {
    now: At,
    by: Option<UserId>,
    agent: AgentId,
    version: VersionId,
    tools: std::sync::Arc<[ToolDef]>,
    limits: std::sync::Arc<Limits>,
}

impl Desk {
    pub(super) fn of(app: &App, actor: &Actor) -> Self {
        let by = match actor.principal {
            Principal::User { id, .. } => Some(id),
            Principal::Key { .. } => None,
        };
        Self {
            now: app.clock.now(),
            by,
            agent: AgentId::from_uuid(app.ids.uuid()),
            version: VersionId::from_uuid(app.ids.uuid()),
            tools: app.tools.clone(),
            limits: app.limits.of(actor.tenant),
        }
    }

    pub(super) fn terms(&self) -> Terms<'_> {
        Terms { tools: &self.tools, limits: &self.limits }
    }

    /// An agent that only this request has said anything about.
    fn fresh(&self, new: NewAgent) -> Agent {
        Agent {
            id: self.agent,
            name: new.name,
            description: new.changes.description.apply(None),
            labels: new.changes.labels.apply(None).unwrap_or_default(),
            avatar_url: new.changes.avatar_url.apply(None),
            style_prompt: new.changes.style_prompt.apply(None),
            current: self.version,
            created_by: self.by.map(|id| id.to_string()),
            created_at: self.now,
            updated_at: self.now,
            archived_at: None,
            revision: 1,
        }
    }

    /// An agent that nobody asked for.
    fn of_server(&self, name: &str) -> Agent {
        Agent {
            id: self.agent,
            name: name.to_owned(),
            description: None,
            labels: serde_json::Map::new(),
            avatar_url: None,
            style_prompt: None,
            current: self.version,
            created_by: None,
            created_at: self.now,
            updated_at: self.now,
            archived_at: None,
            revision: 1,
        }
    }

    pub(super) fn new_version(&self, number: i64, manifest: &Manifest) -> NewVersion {
        NewVersion {
            id: self.version,
            number,
            digest: manifest.digest(),
            manifest: manifest.canonical(),
            by: self.by,
            at: self.now,
        }
    }
}

/// The agent of that name with its current version, archived or not. `agent_not_found` when there is none.
pub(crate) async fn get(app: &App, scope: Scope, name: &str) -> Result<(Agent, Current)> {
    let wanted = named(name)?;
    let found =
        app.db.glance(scope, move |tx| Box::pin(async move { store::find(tx, &wanted).await })).await?;
    found.ok_or_else(|| not_found(name))
}

/// The same, also of an agent that the server has for its own purposes: whoever may read its runs may read what they ran.
pub(super) async fn get_any(app: &App, scope: Scope, name: &str) -> Result<(Agent, Current)> {
    if !name.starts_with(OWN) {
        return get(app, scope, name).await;
    }
    let wanted = name.to_owned();
    let found =
        app.db.glance(scope, move |tx| Box::pin(async move { store::find(tx, &wanted).await })).await?;
    found.ok_or_else(|| not_found(name))
}

/// Makes an agent, or changes the one of that name if that is what is wished; an archived one is made afresh, and whether it was is
/// answered too.
pub(super) async fn create(
    app: &App,
    permit: &Permit<CreateAgent>,
    new: NewAgent,
    wished: Wished,
) -> Result<(Changed, bool)> {
    vet(app, &new.changes).await?;
    let desk = Desk::of(app, permit.actor());
    let (answer, renewed) = app
        .db
        .write(permit.scope(), move |tx| {
            Box::pin(async move {
                let found = store::find(tx, &new.name).await?;
                let there = found.as_ref().filter(|(agent, _)| agent.archived_at.is_none());
                if let Err(other) = wished.check(there.map(|(agent, _)| agent.revision)) {
                    return Ok((Err(other), false));
                }
                Ok(match found {
                    Some(found) if found.0.archived_at.is_some() => {
                        (renew(tx, &desk, found, new).await?, true)
                    }
                    Some(found) => (change(tx, &desk, found, new.changes).await?, false),
                    None => (insert(tx, &desk, new).await?, false),
                })
            })
        })
        .await?;
    answer.map(|changed| (changed, renewed))
}

/// Changes an agent, if it is still at the revision that the caller names.
pub(super) async fn update(
    app: &App,
    permit: &Permit<UpdateAgent>,
    name: String,
    changes: Changes,
    asked: IfMatch,
) -> Result<Changed> {
    let (name, desk) = (named(&name)?, Desk::of(app, permit.actor()));
    vet(app, &changes).await?;
    app.db
        .write(permit.scope(), move |tx| {
            Box::pin(async move {
                let Some(found) = store::find(tx, &name).await? else { return Ok(Err(not_found(&name))) };
                if let Err(outdated) = asked.check(found.0.revision) {
                    return Ok(Err(outdated));
                }
                change(tx, &desk, found, changes).await
            })
        })
        .await?
}

/// The version of an agent that the server has for its own purposes in a tenant, with this manifest; made when it is not there. Its
/// name is none that a person can give, and it is archived from the start: nobody is shown it, and nobody starts a run of it.
pub(crate) async fn reserved(
    app: &App,
    scope: Scope,
    name: &'static str,
    manifest: Manifest,
) -> Result<Version> {
    let digest = manifest.digest();
    let found = app.db.glance(scope, move |tx| Box::pin(store::find(tx, name))).await?;
    let (agent, version) = match found {
        Some((agent, current)) if current.digest == digest => (agent.id, agent.current),
        _ => match reserve(app, scope, name, manifest.clone()).await {
            // Two requests made it at once.
            Err(lantern_store::Error::Conflict) => reserve(app, scope, name, manifest.clone()).await?,
            made => made?,
        },
    };
    let (agent_name, manifest) = (name.to_owned(), manifest.canonical());
    Ok(Version {
        agent,
        agent_name,
        id: version,
        digest,
        manifest,
        archived: false,
        run_cost_max: None,
        runs_of_day_max: None,
    })
}

async fn reserve(
    app: &App,
    scope: Scope,
    name: &'static str,
    manifest: Manifest,
) -> lantern_store::Result<(AgentId, VersionId)> {
    let desk = Desk {
        now: app.clock.now(),
        by: None,
        agent: AgentId::from_uuid(app.ids.uuid()),
        version: VersionId::from_uuid(app.ids.uuid()),
        tools: app.tools.clone(),
        limits: app.limits(scope),
    };
    app.db
        .write(scope, move |tx| {
            Box::pin(async move {
                let agent = match store::find(tx, name).await? {
                    Some((agent, current)) if current.digest == manifest.digest() => {
                        return Ok((agent.id, agent.current));
                    }
                    Some((mut agent, _)) => {
                        let number = next_number(tx, agent.id).await?;
                        store::insert_version(tx, agent.id, desk.new_version(number, &manifest)).await?;
                        agent.current = desk.version;
                        store::update(tx, &agent).await?;
                        Agent { revision: agent.revision.saturating_add(1), ..agent }
                    }
                    None => {
                        let agent = desk.of_server(name);
                        store::insert(tx, &agent, None, desk.new_version(1, &manifest)).await?;
                        agent
                    }
                };
                let put_away = Agent { archived_at: Some(desk.now), updated_at: desk.now, ..agent };
                store::archive(tx, &put_away).await?;
                Ok((put_away.id, desk.version))
            })
        })
        .await
}

/// Refuses what could not be saved whatever the agent is now, and whatever takes longer to look at than a transaction
/// should.
pub(super) async fn vet(app: &App, changes: &Changes) -> Result<()> {
    let said = changes.said()?;
    let mut issues = Vec::new();
    for (path, schema) in model::schemas(&said) {
        issues.extend(schema::problem(app, &path, &schema).await?);
    }
    issues.extend(model::problems(&said, &app.tools));
    if issues.is_empty() { Ok(()) } else { Err(model::refused(issues)) }
}

/// What was saved and may not be meant so: approvers who could not decide, as things are. They may become members yet, so
/// nothing is refused.
pub(super) async fn warnings(app: &App, scope: Scope, manifest: &Manifest) -> Result<Vec<String>> {
    let named: Vec<(&str, &str)> = model::approvers(manifest).into_iter().take(APPROVERS_MAX).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let names = named.iter().map(|(_, name)| (*name).to_owned()).collect();
    let strangers = members::strangers(&app.db, scope, names).await?;
    let of_strangers = named.iter().filter(|(_, name)| strangers.iter().any(|stranger| stranger == name));
    let told = of_strangers.map(|(step, name)| {
        format!("step {step} names the approver {name}, who is no member of this tenant and so cannot decide")
    });
    Ok(told.collect())
}

/// Archives an agent, if it is still at the revision that the caller names. `agent_not_found` when no active one has that
/// name.
pub(super) async fn archive(
    app: &App,
    permit: &Permit<DeleteAgent>,
    name: &str,
    asked: IfMatch,
) -> Result<()> {
    let (name, now) = (named(name)?, app.clock.now());
    let put_away = move |agent: Agent| match agent.archived_at {
        Some(_) => Err(not_found(&agent.name)),
        None => Ok(Agent { archived_at: Some(now), updated_at: now, ..agent }),
    };
    set_aside(app, permit.scope(), (name, asked), put_away).await.map(drop)
}

/// Brings an archived agent back as it was, if it is still at the revision that the caller names. One that is not archived
/// stays as it is.
pub(super) async fn restore(
    app: &App,
    permit: &Permit<RestoreAgent>,
    name: &str,
    asked: IfMatch,
) -> Result<Changed> {
    let (name, now) = (named(name)?, app.clock.now());
    let bring_back = move |agent: Agent| match agent.archived_at {
        Some(_) => Ok(Agent { archived_at: None, updated_at: now, ..agent }),
        None => Ok(agent),
    };
    set_aside(app, permit.scope(), (name, asked), bring_back).await
}

/// Writes whether an agent is archived, as `decide` says.
async fn set_aside(
    app: &App,
    scope: Scope,
    (name, asked): (String, IfMatch),
    decide: impl FnOnce(Agent) -> Result<Agent> + Send + 'static,
) -> Result<Changed> {
    app.db
        .write(scope, move |tx| {
            Box::pin(async move {
                let Some((old, current)) = store::find(tx, &name).await? else {
                    return Ok(Err(not_found(&name)));
                };
                if let Err(outdated) = asked.check(old.revision) {
                    return Ok(Err(outdated));
                }
                let was = old.archived_at;
                let mut agent = match decide(old) {
                    Ok(agent) => agent,
                    Err(refused) => return Ok(Err(refused)),
                };
                let updated = agent.archived_at != was;
                if updated {
                    store::archive(tx, &agent).await?;
                    agent.revision = agent.revision.saturating_add(1);
                }
                let before = Some(current.digest);
                Ok(Ok(Changed { before, agent, current, updated }))
            })
        })
        .await?
}

/// A name that could be an agent's; the others need no look-up, and might not go into a column.
pub(super) fn named(name: &str) -> Result<String> {
    if model::valid_name(name) { Ok(name.to_owned()) } else { Err(not_found(name)) }
}

/// The answer inside a transaction: the store's error undoes it, ours is an answer about nothing written.
pub(super) type Answer = lantern_store::Result<Result<Changed>>;

async fn insert(tx: &mut TenantTx<'_>, desk: &Desk, new: NewAgent) -> Answer {
    let manifest = match new.changes.manifest(Manifest::default(), desk.terms()) {
        Ok(manifest) => manifest,
        Err(invalid) => return Ok(Err(invalid)),
    };
    let agent = desk.fresh(new);
    let manifest = agent.told(manifest);
    let version = desk.new_version(1, &manifest);
    let digest = version.digest;
    store::insert(tx, &agent, desk.by, version).await?;
    let current = Current { number: 1, digest, manifest };
    Ok(Ok(Changed { before: None, agent, current, updated: true }))
}

/// An archived agent begins again with what this request says and nothing of what it was.
async fn renew(tx: &mut TenantTx<'_>, desk: &Desk, (old, was): (Agent, Current), new: NewAgent) -> Answer {
    let manifest = match new.changes.manifest(Manifest::default(), desk.terms()) {
        Ok(manifest) => manifest,
        Err(invalid) => return Ok(Err(invalid)),
    };
    let fresh = desk.fresh(new);
    let manifest = fresh.told(manifest);
    let version = desk.new_version(next_number(tx, old.id).await?, &manifest);
    let (number, digest) = (version.number, version.digest);
    let mut agent = Agent {
        id: old.id,
        created_by: old.created_by,
        created_at: old.created_at,
        revision: old.revision,
        ..fresh
    };
    store::insert_version(tx, agent.id, version).await?;
    store::update(tx, &agent).await?;
    agent.revision = agent.revision.saturating_add(1);
    let current = Current { number, digest, manifest };
    Ok(Ok(Changed { before: Some(was.digest), agent, current, updated: true }))
}

async fn change(
    tx: &mut TenantTx<'_>,
    desk: &Desk,
    (old, current): (Agent, Current),
    changes: Changes,
) -> Answer {
    if old.archived_at.is_some() {
        return Ok(Err(archived(&old.name)));
    }
    if changes.is_empty() {
        return Ok(Ok(Changed { before: Some(current.digest), agent: old, current, updated: false }));
    }
    let manifest = match changes.manifest(current.manifest.clone(), desk.terms()) {
        Ok(manifest) => manifest,
        Err(invalid) => return Ok(Err(invalid)),
    };
    let mut agent = Agent {
        description: changes.description.apply(old.description.clone()),
        labels: changes.labels.apply(Some(old.labels.clone())).unwrap_or_default(),
        avatar_url: changes.avatar_url.apply(old.avatar_url.clone()),
        style_prompt: changes.style_prompt.apply(old.style_prompt.clone()),
        updated_at: desk.now,
        ..old.clone()
    };
    let manifest = agent.told(manifest);
    let digest = manifest.digest();
    if digest == current.digest {
        return Ok(Ok(Changed { before: Some(current.digest), agent: old, current, updated: false }));
    }
    let number = next_number(tx, agent.id).await?;
    store::insert_version(tx, agent.id, desk.new_version(number, &manifest)).await?;
    agent.current = desk.version;
    store::update(tx, &agent).await?;
    agent.revision = agent.revision.saturating_add(1);
    let before = Some(current.digest);
    Ok(Ok(Changed { before, agent, current: Current { number, digest, manifest }, updated: true }))
}

/// The number of an agent's next version: an older one than the last may be current.
pub(super) async fn next_number(tx: &mut TenantTx<'_>, agent: AgentId) -> lantern_store::Result<i64> {
    Ok(store::last_number(tx, agent).await?.saturating_add(1))
}

/// 404 for an agent that is not there, or is somebody else's.
pub(crate) fn not_found(name: &str) -> Error {
    let name: String = name.chars().take(80).collect();
    Error::new(Code::AgentNotFound, format!("agent {name:?} not found"))
}

/// 409 for an agent that is no longer in use.
pub(crate) fn archived(name: &str) -> Error {
    let words = format!("agent {name:?} is archived; restore it, or create it again to begin afresh");
    Error::new(Code::AgentArchived, words)
}
