//! The limits of this installation, as its clients meet them.

use axum::extract::State;
use lantern_edge::route::get_route;
use lantern_edge::{Json, Route};
use lantern_policy::Permit;
use lantern_policy::action::ReadLimits;
use lantern_types::Limits;
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![get_route("/v1/limits", "Read the limits in force", read)]
}

/// Sizes, counts, times in microseconds and money in millionths of a dollar, under the names of the configuration file.
#[derive(Serialize, ToSchema)]
struct Shown {
    #[schema(value_type = Object)]
    limits: Limits,
    /// What they are when nobody says.
    #[schema(value_type = Object)]
    defaults: Limits,
}

async fn read(_: Permit<ReadLimits>, State(app): State<App>) -> Json<Shown> {
    Json(Shown { limits: Limits::clone(&app.limits), defaults: Limits::default() })
}
