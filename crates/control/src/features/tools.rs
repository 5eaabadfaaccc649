//! The tools that agents may use.

use axum::extract::State;
use lantern_edge::route::get_route;
use lantern_edge::{Json, Route};
use lantern_policy::Permit;
use lantern_policy::action::ListTools;
use lantern_types::{Digest, EffectClass, ToolDef};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![get_route("/v1/tools", "List the tools that agents may use", list)]
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tool {
    name: String,
    description: String,
    input_schema: Value,
    #[schema(value_type = String)]
    effect: EffectClass,
    #[schema(value_type = String)]
    digest: Digest,
}

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
