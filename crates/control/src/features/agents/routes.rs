//! Agents over HTTP.

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::etag::{IfMatch, Versioned, Wished};
use lantern_edge::openapi::{Kind, PAGING, Param};
use lantern_edge::route::{delete_route, get_route, patch_route, post_route};
use lantern_edge::{Body, Created, Json, NoContent, Page, Paging, Params, Path, Result, Route, Witness};
use lantern_policy::action::{
    CreateAgent, DeleteAgent, ListAgents, PromoteAgent, ReadAgent, RestoreAgent, UpdateAgent,
};
use lantern_policy::{Permit, Scope};
use lantern_types::AgentId;

use super::diff::Differences;
use super::model::{Changes, NewAgent, Standing};
use super::service::Changed;
use super::show::{self, Detail, Listed, ListedVersion, Patched, ShownVersion};
use super::{service, store, versions};
use crate::App;

/// What a list of agents takes besides its page.
const STATUS: Param = Param {
    name: "status",
    about: "Agents that stand so; without it, the active ones.",
    kind: Kind::Word(&Standing::WORDS),
};

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/agents", "List agents", list).takes(&PAGING).takes(&[STATUS]),
        post_route("/v1/agents", "Create an agent, or change the one of that name", create).conditional(),
        get_route("/v1/agents/{name}", "Read an agent with its current manifest", get),
        patch_route("/v1/agents/{name}", "Change an agent", update),
        delete_route("/v1/agents/{name}", "Archive an agent", archive).conditional(),
        post_route("/v1/agents/{name}/restore", "Bring an archived agent back as it was", restore)
            .conditional(),
        get_route("/v1/agents/{name}/versions", "List an agent's versions", list_versions).takes(&PAGING),
        get_route("/v1/agents/{name}/versions/{version}", "Read a version, by its number or id", version),
        get_route("/v1/agents/{name}/versions/{version}/diff/{other}", "Compare two versions", diff),
        post_route("/v1/agents/{name}/versions/{version}/promote", "Make a version current", promote)
            .conditional(),
    ]
}

async fn list(permit: Permit<ListAgents>, State(app): State<App>, params: Params) -> Result<Page<Listed>> {
    let paging = Paging::of(&params)?;
    let before = paging.before.map(|(at, id)| (at, AgentId::from_uuid(id)));
    let standing = Standing::parse(params.word(STATUS.name, &Standing::WORDS)?);
    let agents = store::list(&app.db, permit.scope(), (standing, before), paging.fetch()).await?;
    let page = Page::cut(agents, &paging, &params, |agent| (agent.created_at, agent.id.uuid()));
    Ok(page.map(|agent| show::listed(permit.scope().tenant(), agent)))
}

/// What is said of an agent whose name an archived one had.
const RENEWED: &str = "an archived agent had this name: it is back, with its id, its runs and its versions, and with nothing of \
                       what it said";

async fn create(
    permit: Permit<CreateAgent>,
    State(app): State<App>,
    witness: Witness,
    headers: HeaderMap,
    Body(new): Body<NewAgent>,
) -> Result<Versioned<Created<Detail>>> {
    let (changed, renewed) = service::create(&app, &permit, new, Wished::of(&headers)?).await?;
    witness.changed(changed.before, Some(changed.current.digest));
    let mut warnings = service::warnings(&app, permit.scope(), &changed.current.manifest).await?;
    warnings.extend(renewed.then(|| RENEWED.to_owned()));
    let (revision, location) = (changed.agent.revision, format!("/v1/agents/{}", changed.agent.name));
    let body = show::detail(permit.scope().tenant(), changed.agent, &changed.current);
    let body = body.with_warnings(warnings);
    Ok(Versioned { body: Created { body, location }, revision })
}

async fn get(
    permit: Permit<ReadAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Versioned<Json<Detail>>> {
    let (agent, current) = service::get(&app, permit.scope(), &name).await?;
    let revision = agent.revision;
    Ok(Versioned { body: Json(show::detail(permit.scope().tenant(), agent, &current)), revision })
}

async fn update(
    permit: Permit<UpdateAgent>,
    State(app): State<App>,
    witness: Witness,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(changes): Body<Changes>,
) -> Result<Versioned<Json<Patched>>> {
    let changed = service::update(&app, &permit, name, changes, IfMatch::of(&headers)?).await?;
    witness.changed(changed.before, Some(changed.current.digest));
    let warnings = service::warnings(&app, permit.scope(), &changed.current.manifest).await?;
    let revision = changed.agent.revision;
    let body = Json(Patched {
        name: changed.agent.name,
        updated: changed.updated,
        version: changed.current.number,
        digest: changed.current.digest,
        current_version_id: changed.agent.current,
        warnings,
    });
    Ok(Versioned { body, revision })
}

async fn archive(
    permit: Permit<DeleteAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<NoContent> {
    service::archive(&app, &permit, &name, IfMatch::of(&headers)?).await?;
    Ok(NoContent)
}

async fn restore(
    permit: Permit<RestoreAgent>,
    State(app): State<App>,
    witness: Witness,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Versioned<Json<Detail>>> {
    let changed = service::restore(&app, &permit, &name, IfMatch::of(&headers)?).await?;
    witness.changed(changed.before, Some(changed.current.digest));
    Ok(shown(permit.scope(), changed))
}

async fn promote(
    permit: Permit<PromoteAgent>,
    State(app): State<App>,
    witness: Witness,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Versioned<Json<Detail>>> {
    let changed = versions::promote(&app, &permit, (&name, &version), IfMatch::of(&headers)?).await?;
    witness.changed(changed.before, Some(changed.current.digest));
    Ok(shown(permit.scope(), changed))
}

/// An agent after a request.
fn shown(scope: Scope, changed: Changed) -> Versioned<Json<Detail>> {
    let revision = changed.agent.revision;
    Versioned { body: Json(show::detail(scope.tenant(), changed.agent, &changed.current)), revision }
}

async fn list_versions(
    permit: Permit<ReadAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Page<ListedVersion>> {
    versions::list(&app, permit.scope(), &name, &params).await
}

async fn version(
    permit: Permit<ReadAgent>,
    State(app): State<App>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<ShownVersion>> {
    versions::get(&app, permit.scope(), &name, &version).await.map(Json)
}

async fn diff(
    permit: Permit<ReadAgent>,
    State(app): State<App>,
    Path((name, version, other)): Path<(String, String, String)>,
) -> Result<Json<Differences>> {
    versions::diff(&app, permit.scope(), &name, (&version, &other)).await.map(Json)
}
