//! The limits of this installation, as its clients meet them.
//!
//! Invariant: a tenant sees its own, and changes none: what one tenant has apart from the others, the operator sets.

use axum::extract::State;
use lantern_edge::route::get_route;
use lantern_edge::{Json, Route};
use lantern_policy::Permit;
use lantern_policy::action::{Access, ReadLimits, allows};
use lantern_store::limits::Own;
use lantern_types::Limits;
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/limits", "Read the limits in force", read),
        // Beside the other settings of a tenant.
        get_route("/v1/settings/limits", "Read the limits in force", read),
    ]
}

/// Sizes, counts, times in microseconds and money in millionths of a dollar, under the names of the configuration file.
#[derive(Serialize, ToSchema)]
struct Shown {
    /// The tenant's.
    #[schema(value_type = Object)]
    limits: Limits,
    /// What they are when nobody says.
    #[schema(value_type = Object)]
    defaults: Limits,
    /// Those of them that the operator set for this tenant.
    #[schema(value_type = Object)]
    own: Own,
    /// Whether traces of runs are made here, and where they go.
    traces: Traces,
}

#[derive(Serialize, ToSchema)]
struct Traces {
    /// Whether spans of runs are exported to a collector.
    exported: bool,
    /// Where that is; only admins are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

async fn read(permit: Permit<ReadLimits>, State(app): State<App>) -> Json<Shown> {
    let scope = permit.scope();
    let limits = Limits::clone(&app.limits(scope));
    let to = app.inner.traces.as_ref();
    let told = to.filter(|_| allows(&permit.actor().principal, Access::Admin)).cloned();
    let traces = Traces { exported: to.is_some(), to: told };
    Json(Shown { limits, defaults: Limits::default(), own: app.limits.own(scope.tenant()), traces })
}
