//! Sessions: conversations with an agent, in which each message is one run.
//!
//! Invariant: a session has no state of its own that its runs could contradict: what was said, what it cost and whether it is
//! going on is read from them. So a message has everything that a run has: a budget, a journal, a replay.

mod attachments;
mod events;
mod frames;
mod model;
pub(crate) mod routes;
mod service;
mod transcript;
