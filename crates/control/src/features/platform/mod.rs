//! The process itself, as operators and load balancers see it.

pub(crate) mod health;
