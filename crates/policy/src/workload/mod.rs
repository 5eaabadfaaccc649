//! Workloads: programs that somebody else wrote, what they ask for, and in which box they may run.
//!
//! Invariant: an `AgentSpec` is read once, into a type that cannot be wrong; every field is honoured or refused by name,
//! and no box is chosen that its isolation class does not allow. Pure: what this machine can do comes as facts.

pub mod doc;
pub mod egress;
mod exec;
pub mod hello;
pub mod place;
mod read;
mod registry;
pub mod schema;
pub mod spec;
mod units;
mod yaml;

pub use doc::{Node, What};
pub use exec::{Exec, Execd, Unrun};
pub use place::{Backend, Capabilities, Mode, Placed, Refusal, Usable, place};
pub use read::{Asked, Problem, read};
pub use registry::{Unfetched, Wanted, Which, registry_of};
pub use spec::{AgentSpec, Deliver, EgressRule, Image, Isolation, Limits, Network, SecretRef};
pub use yaml::parse;

/// Reads a spec as text, YAML or JSON.
pub fn read_text(text: &str) -> Result<AgentSpec, Vec<Problem>> {
    let node = parse(text).map_err(|problem| vec![problem])?;
    read(&node)
}

/// The same, of a spec that may name its image by a tag.
pub fn read_asked(text: &str) -> Result<Asked, Vec<Problem>> {
    let node = parse(text).map_err(|problem| vec![problem])?;
    read::asked(&node)
}
