//! What each vendor does in its own way: headers, errors, waiting times, models that want other fields.

pub(crate) mod openai;

/// The wire that every endpoint speaks today.
pub(crate) use openai as wire;
