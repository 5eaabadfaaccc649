//! The API's description, for programs and for people: what the routes say of themselves.
//!
//! Invariant: made of the very routes that are mounted, once for each process, when somebody first asks.

use std::sync::LazyLock;

use axum::response::Html;
use lantern_edge::openapi::{self, About};
use lantern_edge::route::public_get;
use lantern_edge::{Json, Route};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::App;

const ABOUT: About = About {
    title: "Lantern",
    version: env!("CARGO_PKG_VERSION"),
    description: "Durable agents: every effect an agent has is an event in one journal. Errors carry a stable `code`. \
        Fields are in camelCase; requests may use snake_case as well, and fields that nobody reads are named in the \
        `Lantern-Ignored` header of the answer.",
};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi::document(ABOUT, &crate::routes()));
static PAGE: LazyLock<String> = LazyLock::new(|| openapi::page(&DOCUMENT));

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        public_get("/openapi.json", "This description, for programs", document),
        public_get("/docs/api", "This description, for people", page),
    ]
}

/// The description itself.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
#[schema(as = OpenApi, value_type = Object)]
struct Document(&'static Value);

async fn document() -> Json<Document> {
    Json(Document(&DOCUMENT))
}

/// The description, as it is committed.
pub fn openapi() -> &'static Value {
    &DOCUMENT
}

async fn page() -> Html<&'static str> {
    Html(&PAGE)
}
