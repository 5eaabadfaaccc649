//! The control plane: people, keys, agents, runs and settings over HTTP.
//!
//! Invariant: nothing here calls a model or runs user code, and of a run's journal only the first event is written
//! here; whatever else comes for a run goes into its inbox. A handler acts for the tenant of its permit and no other.

#![warn(missing_docs)]

mod app;
mod csv;
mod features;
mod lockout;
mod password;
mod permit;
mod schema;
mod seed;
mod sso;
#[cfg(feature = "testing")]
pub mod testing;

use std::sync::Arc;

use axum::{Extension, Router};
use lantern_edge::request::{self, Around};
use lantern_edge::{Entry, Route, route};

pub use app::{App, OwnEndpoint, Probe, ProbeAsk, Providers, Setup, SharedProvider};
pub use features::identity::factors::remove_factor_by_operator;
pub use features::identity::passwords::reset_by_operator;
use features::platform::api_docs::Described;
pub use features::platform::api_docs::openapi;
pub use features::runtime::{Load, Runtime, step};
pub use features::settings::providers::url_problem as base_url_problem;
pub use lantern_edge::limit::Rate;
pub use seed::{nobody_yet, seed_dev, seed_first};
pub use sso::{SsoProvider, SsoSetup};

/// Everything this crate serves, ready for [`lantern_edge::serve()`].
pub fn router(app: App) -> Router {
    router_beside(app, Router::new(), Vec::new())
}

/// The same with other routes beside it, which brought their own state. The API's description has `described` of them.
pub fn router_beside(app: App, others: Router<App>, described: Vec<Entry>) -> Router {
    let around = Around {
        ids: app.ids.clone(),
        clock: app.clock.clone(),
        cors: app.inner.cors.clone(),
        trusted: app.inner.trusted.clone(),
        audit: Some(app.inner.audit.clone()),
    };
    let described = Extension(Arc::new(Described::new(described)));
    let router = route::mount(routes()).merge(others).layer(described);
    request::wrap(router, around, &app.limits.base()).with_state(app)
}

/// Every route: method, path and action.
pub fn routes() -> Vec<Route<App>> {
    features::routes()
}

/// Every SQL statement of this crate, for the test that prepares them on both databases.
pub fn statements() -> Vec<&'static str> {
    features::statements()
}
