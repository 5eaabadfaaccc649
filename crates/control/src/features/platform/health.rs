//! Whether the process lives, whether it can serve, and what it measures.
//!
//! Invariant: open to everybody, so nothing here names a tenant.

use axum::extract::State;
use lantern_edge::route::{public_any, public_get};
use lantern_edge::{Either, Json, NotReady, Route};
use lantern_store::stops::server::{self, Holding};
use lantern_store::system;
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        public_any("/healthz", "Whether the process lives", alive),
        public_any("/readyz", "Whether it can serve", ready),
        public_get("/metrics", "Measurements, for Prometheus", measurements),
    ]
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    llm_mode: &'static str,
}

async fn alive(State(app): State<App>) -> Json<Health> {
    let llm_mode = if app.inner.providers.offline { "offline" } else { "api" };
    Json(Health { status: "ok", llm_mode })
}

async fn ready(State(app): State<App>) -> Either<&'static str, NotReady> {
    if app.db.is_damaged() {
        return Either::B(NotReady("database damaged"));
    }
    if app.db.is_read_only() {
        return Either::B(NotReady("database read-only"));
    }
    match system::ping(&app.db).await {
        Ok(()) => Either::A(match server::count(&app.db).await {
            Ok(holding) if holding.server > 0 => "ok, but an emergency stop of the whole server holds",
            _ => "ok",
        }),
        Err(error) => {
            tracing::warn!(%error, "the database is not ready");
            Either::B(NotReady("database not ready"))
        }
    }
}

async fn measurements(State(app): State<App>) -> String {
    // Without the database the rest is still told, and how many hold is as it was.
    if let Ok(Holding { agents, tenants, server }) = server::count(&app.db).await {
        app.inner.metrics.stops([("agent", agents), ("tenant", tenants), ("server", server)]);
    }
    app.inner.metrics.render()
}
