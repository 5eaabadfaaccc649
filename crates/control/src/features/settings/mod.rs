//! What a tenant configures for all of its agents.

pub(crate) mod providers;
pub(crate) mod retention;
pub(crate) mod routing;
