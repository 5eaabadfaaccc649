//! Agents and their versions.
//!
//! An agent is a name with a current version. A version is an immutable manifest named by its digest; every change of
//! what an agent does makes a new one, and a run keeps the version it started with. Archiving is for good: an archived
//! agent starts no runs and is not revived by creating it again.

pub(crate) mod model;
pub(crate) mod routes;
pub(crate) mod service;
mod show;
pub(crate) mod store;
