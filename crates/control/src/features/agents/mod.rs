//! Agents and their versions.
//!
//! An agent is a name with a current version. A version is an immutable manifest named by its digest; every change of
//! an agent makes a new one, and a run keeps the version it started with. To promote a version is to make it current again.
//! An archived agent starts no runs. Restored, it is what it was; created again, it begins afresh: the name and the versions
//! are the old ones, and nothing else of it comes back.

mod diff;
pub(crate) mod model;
pub(crate) mod overrides;
pub(crate) mod routes;
pub(crate) mod service;
mod show;
pub(crate) mod store;
pub(crate) mod templates;
mod versions;
