//! Who may do what, and whether this effect may happen: facts in, verdict out.
//!
//! Pure and table-driven. Fails closed: an unknown action, model, price or address is refused. Knows no clock, no
//! socket and no database; callers bring the facts and journal the verdict.

pub mod action;
pub mod actor;
pub mod admit;
pub mod alias;
pub mod breaker;
pub mod catalogue;
pub mod egress;
pub mod escrow;
pub mod forecast;
pub mod lockout;
pub mod network;
pub mod people;
pub mod route;
pub mod strategy;
pub mod turns;
pub mod workload;

pub use action::{ACTIONS, Access, Act, authorize};
pub use actor::{Actor, Permit, Principal, Role, Scope};
pub use admit::{
    Admitted, LlmRequest, Terms, ToolRequest, admit_llm, admit_or_wait, admit_plain, admit_tool,
};
pub use catalogue::Catalogue;

use lantern_types::Digest;

/// Names the rules of this build: any change to the version is another digest in the journal.
pub fn digest() -> Digest {
    Digest::of(concat!("lantern-policy/", env!("CARGO_PKG_VERSION"), "/3").as_bytes())
}

/// Whether rules of this digest hold and admit as this build's do, so that their decisions can be made again. The second
/// version chose models otherwise, and that is all that it did otherwise.
pub fn admits_alike(rules: Digest) -> bool {
    rules == digest()
        || rules == Digest::of(concat!("lantern-policy/", env!("CARGO_PKG_VERSION"), "/2").as_bytes())
}
