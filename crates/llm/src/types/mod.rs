//! Shapes on the wire, as the vendors document them. No behaviour.

pub(crate) mod openai;

/// The wire that every endpoint speaks today.
pub(crate) use openai as wire;
