//! Workloads: other people's programs in boxes. Scheduled here, run by a node, watched and stopped from here again.
//!
//! Invariant: a workload is a run of one step, so what happens to it is in the one journal and ends with a receipt
//! (docs/adr/0044-let-a-workload-be-a-run-of-one-step.md). What is scheduled was placed by the rules of
//! `policy::workload`, on what the node proved; the node asks again. Nothing here makes a box.

mod audit;
mod cluster;
mod exec;
mod logs;
mod metrics;
mod model;
mod quota;
pub(crate) mod routes;
mod schedule;
mod service;
mod steps;
mod told;

pub use cluster::{Load, Runtime};
pub use steps::step;
