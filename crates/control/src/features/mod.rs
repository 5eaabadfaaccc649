//! The resources, one folder or file each, in groups. Adding one is a line in [`routes`] and one in [`statements`].
//!
//! A feature may use another's `model` and `service`, never its `store` or `routes`.

pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod money;
pub(crate) mod platform;
pub(crate) mod policies;
pub(crate) mod receipts;
pub(crate) mod runs;
pub(crate) mod runtime;
pub(crate) mod secrets;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod stops;
pub(crate) mod tools;
pub(crate) mod unbuilt;

use lantern_edge::Route;

use crate::{App, seed};

/// Every route.
pub(crate) fn routes() -> Vec<Route<App>> {
    [
        platform::health::routes(),
        platform::api_docs::routes(),
        identity::accounts::routes(),
        identity::session::routes(),
        identity::cookies::routes(),
        identity::sign_ins::routes(),
        identity::passwords::routes(),
        identity::factors::routes(),
        identity::sso::routes(),
        identity::identities::routes(),
        identity::people::routes(),
        identity::invitations::routes(),
        identity::api_keys::routes(),
        identity::tickets::routes(),
        agents::routes::routes(),
        agents::templates::routes(),
        runs::routes::routes(),
        runs::approvals::routes(),
        runs::feedback::routes(),
        runs::rehearse::routes(),
        runs::takeover::routes(),
        receipts::routes(),
        sessions::routes::routes(),
        settings::providers::routes(),
        secrets::routes(),
        settings::retention::routes(),
        settings::routing::routes(),
        policies::routes(),
        tools::routes(),
        limits::routes(),
        audit::routes(),
        stops::routes(),
        money::calls::routes(),
        money::caps::routes(),
        money::budgets::routes(),
        money::usage::routes(),
        money::forecast::routes(),
        runtime::routes::routes(),
        unbuilt::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every SQL statement.
pub(crate) fn statements() -> Vec<&'static str> {
    [
        seed::STATEMENTS,
        lantern_edge::auth::STATEMENTS,
        lantern_edge::idempotency::STATEMENTS,
        identity::accounts::STATEMENTS,
        identity::api_keys::STATEMENTS,
        identity::session::STATEMENTS,
        identity::members::STATEMENTS,
        identity::people::STATEMENTS,
        identity::factors::STATEMENTS,
        identity::invitations::STATEMENTS,
        identity::passwords::STATEMENTS,
        agents::store::STATEMENTS,
        runs::store::STATEMENTS,
        settings::providers::STATEMENTS,
        money::caps::STATEMENTS,
        money::budgets::STATEMENTS,
        audit::STATEMENTS,
    ]
    .concat()
}
