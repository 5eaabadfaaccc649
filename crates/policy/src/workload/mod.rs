//! Workloads: programs that somebody else wrote, what they ask for, and in which box they may run.
//!
//! Invariant: an `AgentSpec` is read once, into a type that cannot be wrong; every field is honoured or refused by name,
//! and no box is chosen that its isolation class does not allow. Pure: what this machine can do comes as facts.

pub mod doc;
pub mod egress;
pub mod hello;
pub mod place;
mod read;
pub mod schema;
pub mod spec;
mod units;
mod yaml;

pub use doc::{Node, What};
pub use place::{Backend, Capabilities, Mode, Placed, Refusal, Usable, place};
pub use read::{Problem, read};
pub use spec::{AgentSpec, Deliver, EgressRule, Image, Isolation, Limits, Network, SecretRef};
pub use yaml::parse;

/// Reads a spec as text, YAML or JSON.
pub fn read_text(text: &str) -> Result<AgentSpec, Vec<Problem>> {
    let node = parse(text).map_err(|problem| vec![problem])?;
    read(&node)
}
