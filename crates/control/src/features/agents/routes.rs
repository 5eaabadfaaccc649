//! Agents over HTTP.

use axum::extract::State;
use http::HeaderMap;
use lantern_edge::etag::{self, Versioned};
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{delete_route, get_route, patch_route, post_route};
use lantern_edge::{Body, Created, Error, Json, NoContent, Page, Paging, Params, Path, Result, Route};
use lantern_policy::Permit;
use lantern_policy::action::{CreateAgent, DeleteAgent, ListAgents, ReadAgent, UpdateAgent};
use lantern_types::{AgentId, VersionId};

use super::model::{Changes, NewAgent};
use super::show::{self, Detail, Listed, Patched, ShownVersion};
use super::{service, store};
use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/agents", "List the active agents", list).takes(&PAGING),
        post_route("/v1/agents", "Create an agent, or change the one of that name", create),
        get_route("/v1/agents/{name}", "Read an agent with its current manifest", get),
        patch_route("/v1/agents/{name}", "Change an agent", update),
        delete_route("/v1/agents/{name}", "Archive an agent", archive),
        get_route("/v1/agents/{name}/versions", "List an agent's versions", versions).takes(&PAGING),
    ]
}

async fn list(permit: Permit<ListAgents>, State(app): State<App>, params: Params) -> Result<Page<Listed>> {
    let paging = Paging::of(&params)?;
    let before = paging.before.map(|(at, id)| (at, AgentId::from_uuid(id)));
    let agents = store::list(&app.db, permit.scope(), before, paging.fetch()).await?;
    let page = Page::cut(agents, &paging, &params, |agent| (agent.created_at, agent.id.uuid()));
    Ok(page.map(|agent| show::listed(permit.scope().tenant(), agent)))
}

async fn create(
    permit: Permit<CreateAgent>,
    State(app): State<App>,
    Body(new): Body<NewAgent>,
) -> Result<Versioned<Created<Detail>>> {
    let changed = service::create(&app, &permit, new).await?;
    let (version, location) = (changed.agent.revision, format!("/v1/agents/{}", changed.agent.name));
    let body = show::detail(permit.scope().tenant(), changed.agent, &changed.current);
    Ok(Versioned { body: Created { body, location }, version })
}

async fn get(
    permit: Permit<ReadAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Versioned<Json<Detail>>> {
    let (agent, current) = service::get(&app, permit.scope(), &name).await?;
    let version = agent.revision;
    Ok(Versioned { body: Json(show::detail(permit.scope().tenant(), agent, &current)), version })
}

async fn update(
    permit: Permit<UpdateAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(changes): Body<Changes>,
) -> Result<Versioned<Json<Patched>>> {
    let changed = service::update(&app, &permit, name, changes, etag::if_match(&headers)?).await?;
    let version = changed.agent.revision;
    let body = Json(Patched {
        name: changed.agent.name,
        updated: changed.updated,
        version: changed.current.number,
        digest: changed.current.digest,
        current_version_id: changed.agent.current,
    });
    Ok(Versioned { body, version })
}

async fn archive(
    permit: Permit<DeleteAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<NoContent> {
    service::archive(&app, &permit, &name).await?;
    Ok(NoContent)
}

async fn versions(
    permit: Permit<ReadAgent>,
    State(app): State<App>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Page<ShownVersion>> {
    let paging = Paging::of(&params)?;
    let (agent, _) = service::get(&app, permit.scope(), &name).await?;
    let before = paging.before.map(|(at, id)| (at, VersionId::from_uuid(id)));
    let limit = paging.fetch();
    let rows = app
        .db
        .read(permit.scope(), move |tx| {
            Box::pin(async move { store::versions(tx, agent.id, before, limit).await })
        })
        .await?;
    let page = Page::cut(rows, &paging, &params, |row| (row.created_at, row.id.uuid()));
    page.try_map(show::version).map_err(Error::internal)
}
