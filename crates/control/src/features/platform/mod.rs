//! The process itself, as operators and load balancers see it.

pub(crate) mod api_docs;
pub(crate) mod health;
