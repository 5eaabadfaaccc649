//! The only door out: connections on behalf of tenants, the real clock, fresh ids, background tasks and signals.
//!
//! Invariant: no socket is dialled before [`lantern_policy::egress`] has seen its address, and everything that other
//! crates must not touch (time, randomness, the task scheduler) has its one real body here. Knows nothing of models,
//! tools or runs.

#![warn(missing_docs)]

mod clock;
pub mod dial;
mod dns;
mod error;
pub mod http;
mod ids;
mod retry_after;
mod signal;
pub mod sigv4;
pub mod sse;
mod tasks;

pub use crate::http::Client;
pub use clock::RealClock;
pub use error::{Error, Why};
pub use ids::RealIds;
pub use lantern_policy::egress::Reach;
pub use lantern_policy::network::Network;
pub use signal::{Hangups, Signals};
pub use tasks::{Shutdown, TaskSet};
