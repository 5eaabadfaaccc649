//! Versions for forks of runs: one that is there, or one with some fields changed that does not become current.

use lantern_edge::{Error, Result};
use lantern_engine::Manifest;
use lantern_policy::{Actor, Scope};
use lantern_store::versions::Version;

use super::model::Changes;
use super::service::{self, Desk};
use super::{store, versions};
use crate::App;

/// A version of an agent by its number or id, to be run. `agent_version_not_found` when there is none.
pub(crate) async fn version(app: &App, scope: Scope, agent: &str, wanted: &str) -> Result<Version> {
    let (_, [found]) = versions::find(app, scope, agent, [wanted]).await?;
    let version = lantern_store::versions::by_id(&app.db, scope, found.row.id).await?;
    version.ok_or_else(|| service::not_found(agent))
}

/// The version that says what `base` says but for these changes: one that is there, else a new one, which is not made current.
pub(crate) async fn changed(
    app: &App,
    scope: Scope,
    actor: &Actor,
    base: Version,
    changes: Changes,
) -> Result<Version> {
    service::vet(app, &changes).await?;
    let manifest: Manifest = serde_json::from_str(&base.manifest).map_err(Error::internal)?;
    let manifest = changes.manifest(manifest, Desk::of(app, actor).terms())?;
    saying(app, scope, actor, base, &manifest).await
}

/// The version of the agent of `base` that says this: one that is there, else a new one, which is not made current.
pub(crate) async fn saying(
    app: &App,
    scope: Scope,
    actor: &Actor,
    base: Version,
    manifest: &Manifest,
) -> Result<Version> {
    let desk = Desk::of(app, actor);
    let (digest, text) = (manifest.digest(), manifest.canonical());
    let (agent, said) = (base.agent, manifest.clone());
    let id = app.db.write(scope, move |tx| {
        Box::pin(async move {
            if let Some(there) = store::by_digest(tx, agent, digest).await? {
                return Ok(there);
            }
            let version = desk.new_version(service::next_number(tx, agent).await?, &said);
            let id = version.id;
            store::insert_version(tx, agent, version).await?;
            Ok(id)
        })
    });
    Ok(Version { id: id.await?, digest, manifest: text, ..base })
}
