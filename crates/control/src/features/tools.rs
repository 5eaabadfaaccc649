//! The tools that agents may use.

use axum::extract::State;
use lantern_edge::route::get_route;
use lantern_edge::{Json, Route};
use lantern_policy::Permit;
use lantern_policy::action::ListTools;
use lantern_types::{Digest, EffectClass, ToolDef};
use serde::Serialize;
use serde_json::Value;

use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![get_route("/v1/tools", list)]
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tool {
    name: String,
    description: String,
    input_schema: Value,
    effect: EffectClass,
    digest: Digest,
}

/// List the tools that agents may use.
async fn list(_: Permit<ListTools>, State(app): State<App>) -> Json<Vec<Tool>> {
    Json(app.tools.iter().map(shown).collect())
}

fn shown(tool: &ToolDef) -> Tool {
    Tool {
        name: tool.name.to_string(),
        description: tool.description.clone(),
        input_schema: tool.input_schema.clone(),
        effect: tool.effect,
        digest: tool.digest(),
    }
}
