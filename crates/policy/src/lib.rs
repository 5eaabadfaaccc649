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
pub mod child;
pub mod choice;
pub mod egress;
pub mod escrow;
pub mod forecast;
pub mod lockout;
pub mod network;
pub mod people;
pub mod route;
pub mod sso;
pub mod strategy;
pub mod turns;
pub mod workload;

pub use action::{ACTIONS, Access, Act, authorize};
pub use actor::{Actor, Permit, Principal, Role, Scope};
pub use admit::{
    Admitted, LlmRequest, Terms, ToolRequest, admit_llm, admit_or_wait, admit_plain, admit_tool, grounds,
};
pub use catalogue::Catalogue;
pub use child::{ChildRequest, admit_child};

use lantern_types::Digest;

/// The number of the rules in this crate. It is raised with every change of what they decide: `cargo xtask tidy` compares it with
/// the files that decide (`golden/policy-rules.txt`).
pub const RULES: u32 = 4;

/// Names the rules of this build: any change to the version or the number is another digest in the journal.
pub fn digest() -> Digest {
    numbered(RULES)
}

/// What this build can derive again of what rules decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// They are this build's: everything.
    Same,
    /// They hold and admit as this build's do, but for what a child is held: [`child::before`] knows that. The second version
    /// chose models otherwise than the third; neither recorded what it chose from.
    Earlier,
}

/// What is known of the rules with this digest; `None` of those of another build.
pub fn known(rules: Digest) -> Option<Known> {
    match rules {
        rules if rules == digest() => Some(Known::Same),
        rules if rules == numbered(3) || rules == numbered(2) => Some(Known::Earlier),
        _ => None,
    }
}

fn numbered(rules: u32) -> Digest {
    Digest::of(format!("lantern-policy/{}/{rules}", env!("CARGO_PKG_VERSION")).as_bytes())
}
