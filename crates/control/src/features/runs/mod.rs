//! Runs: started here, driven by workers, watched and steered from here again.
//!
//! Invariant: of a run's journal this crate writes event 1 and nothing more. To steer a run is to put something into
//! its inbox; whoever holds the run takes it in. Only a run that nobody can read is ended from here, in its row. What a
//! run looks like is read from its row and its journal.

pub(crate) mod approvals;
mod events;
pub(crate) mod feedback;
mod filter;
mod fork;
mod give_up;
pub(crate) mod history;
pub(crate) mod model;
pub(crate) mod rehearse;
pub(crate) mod routes;
pub(crate) mod service;
pub(crate) mod steer;
pub(crate) mod store;
pub(crate) mod takeover;
pub(crate) mod wait;

pub(crate) use steer::by;
