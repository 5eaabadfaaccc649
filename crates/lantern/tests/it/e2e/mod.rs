//! The real binary with real peers: a provider that misbehaves, a database that dies, processes that are killed.

mod about;
mod agents;
mod api;
mod audit;
mod backup;
mod bodies;
#[cfg(feature = "boxes")]
mod box_steps;
mod children;
mod cluster;
mod contract;
mod database;
mod digest;
mod doors;
mod edit;
#[cfg(feature = "boxes")]
mod egress;
mod explain;
mod export;
mod faults;
mod forecast;
mod fork;
#[cfg(feature = "boxes")]
mod images;
mod init;
#[expect(dead_code, reason = "the tests of the control plane make it do more")]
#[path = "../../../../control/tests/it/issuer.rs"]
mod issuer;
mod live;
mod login;
#[cfg(feature = "boxes")]
mod metered;
mod onboard;
mod operate;
mod policies;
mod process;
mod provider;
mod receipts;
mod recovery;
mod refusals;
mod reset;
mod retention;
mod secrets;
mod sessions;
mod slow;
mod spawn;
mod sso;
mod start;
mod stops;
mod traces;
mod troubleshooting;
#[cfg(feature = "boxes")]
mod vended;
mod watch;
mod wires;
#[cfg(feature = "boxes")]
mod workloads;
