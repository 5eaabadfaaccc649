//! Policies that a tenant writes in the Cedar language, over every effect of its agents: read, checked, and asked.
//!
//! ```text
//! lex.rs     words and where they stand          schema.rs  what there is to speak of: effects, things, facts
//! parse.rs   the grammar                         check.rs   whether a policy makes sense for what it speaks of
//! ast.rs     what was read                       eval.rs    what it says of one effect
//! steps.rs   which effects a step of a run has, and what is recorded of the answers
//! ```
//!
//! Invariant: nothing here waits, fails or grows without a bound. A text is refused with line and column, or is understood whole:
//! what this build does not know of the language is refused and never left out. What cannot be worked out forbids.
//! Pure: the time is a fact that is passed in.

#![warn(missing_docs)]

mod ast;
mod check;
mod eval;
mod lex;
mod parse;
pub mod schema;
pub mod steps;

use std::fmt;

use lantern_types::Digest;

use ast::{Policy, Says};
pub use schema::{Action, Asked, Effect, Who};

/// Bytes of a text of policies.
pub const BYTES_MAX: usize = 64 << 10;
/// Policies of one text.
pub const POLICIES_MAX: usize = 512;

/// What is done about an effect that no policy speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It is allowed: policies take away, and there is nothing to permit.
    Allow,
    /// It is forbidden, as Cedar itself has it: what may be done is permitted.
    Deny,
}

impl Otherwise {
    /// Its word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Allow, Self::Deny].into_iter().find(|otherwise| otherwise.as_str() == word)
    }
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// For people.
    pub words: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.words)
    }
}

impl std::error::Error for Fault {}

/// A text of policies that was understood.
#[derive(Debug)]
pub struct Policies {
    list: Vec<Policy>,
    otherwise: Otherwise,
    digest: Digest,
}

/// What policies say of one effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it may not be.
    pub forbidden: bool,
    /// The policies that say so, in the order of the text. Of what is forbidden because nothing permits it: none.
    pub by: Vec<String>,
}

impl Policies {
    /// Reads a text. Every fault of the first kind that there is: of words, of grammar, of sense.
    pub fn read(text: &str, otherwise: Otherwise) -> Result<Self, Vec<Fault>> {
        let policies = parse::policies(text).map_err(|fault| vec![fault])?;
        let faults = check::check(&policies, otherwise);
        if !faults.is_empty() {
            return Err(faults);
        }
        let list = policies.into_iter().map(|(policy, _)| policy).collect();
        Ok(Self { list, otherwise, digest: digest(text, otherwise) })
    }

    /// Names the text, and what it does with what it does not speak of.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What is done about an effect that no policy speaks of.
    pub const fn otherwise(&self) -> Otherwise {
        self.otherwise
    }

    /// The ids of its policies, in the order of the text.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|policy| policy.id.as_str())
    }

    /// What the policies say of an effect. Who forbids wins over who permits, as in Cedar; but a policy that forbids and cannot be
    /// worked out forbids, where Cedar would leave it out.
    pub fn answer(&self, asked: &Asked<'_>) -> Answer {
        let (mut by, mut permitted) = (Vec::new(), self.otherwise == Otherwise::Allow);
        for policy in &self.list {
            match policy.says {
                Says::Permit if !permitted => permitted = eval::applies(policy, asked) == Some(true),
                Says::Permit => {}
                Says::Forbid if eval::applies(policy, asked) != Some(false) => by.push(policy.id.clone()),
                Says::Forbid => {}
            }
        }
        Answer { forbidden: !by.is_empty() || !permitted, by }
    }
}

/// Names a text of policies, whether or not it can be read.
pub fn digest(text: &str, otherwise: Otherwise) -> Digest {
    Digest::of_parts(&[b"lantern-cedar/1", otherwise.as_str().as_bytes(), text.as_bytes()])
}
