//! The real binary with real peers: a provider that misbehaves, a database that dies, processes that are killed.

mod about;
mod agents;
mod api;
mod backup;
mod bodies;
mod children;
mod cluster;
mod digest;
mod edit;
mod explain;
mod export;
mod faults;
mod fork;
mod init;
mod login;
mod onboard;
mod operate;
mod process;
mod provider;
mod recovery;
mod refusals;
mod reset;
mod spawn;
mod start;
mod troubleshooting;
mod watch;
