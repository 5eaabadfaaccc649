//! The API's description, for programs and for people: what the routes say of themselves.
//!
//! Invariant: made of the very routes that are mounted, those beside ours too, once for each process, when somebody first asks.

use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::response::Html;
use lantern_edge::openapi::{self, About};
use lantern_edge::route::public_get;
use lantern_edge::{Entry, Json, Route};
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

/// What is described, and its description once somebody asked.
pub(crate) struct Described {
    /// The routes that are mounted beside ours.
    beside: Vec<Entry>,
    document: OnceLock<Arc<Value>>,
    page: OnceLock<String>,
}

impl Described {
    pub(crate) const fn new(beside: Vec<Entry>) -> Self {
        Self { beside, document: OnceLock::new(), page: OnceLock::new() }
    }

    fn document(&self) -> Arc<Value> {
        self.document.get_or_init(|| Arc::new(openapi(&self.beside))).clone()
    }

    fn page(&self) -> String {
        self.page.get_or_init(|| openapi::page(&self.document())).clone()
    }
}

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
struct Document(Arc<Value>);

async fn document(Extension(described): Extension<Arc<Described>>) -> Json<Document> {
    Json(Document(described.document()))
}

/// The description of our routes and of those that are mounted beside them.
pub fn openapi(beside: &[Entry]) -> Value {
    let ours = crate::routes();
    openapi::document(ABOUT, ours.iter().map(Route::entry).chain(beside))
}

async fn page(Extension(described): Extension<Arc<Described>>) -> Html<String> {
    Html(described.page())
}
