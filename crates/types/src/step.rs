//! What a program in a box wants done beside its own work, and what came of it: between the node that it asks and the API that does it.
//!
//! Holds what was said, so it is told to nobody else. Which tools and how long a wait there may be is decided elsewhere.

use serde_json::Value;

use crate::{Dur, RunId};

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A tool is to be called.
    Tool {
        /// Which.
        name: String,
        /// With what.
        arguments: Value,
    },
    /// A person is to be asked.
    Approval {
        /// What.
        reason: String,
        /// Who may answer; everybody who may decide when there are none.
        approvers: Vec<String>,
        /// How long they have.
        wait: Dur,
    },
    /// What was asked for before under the key is wanted no more, because the box is gone: `tool` or `approval`.
    Withdraw(&'static str),
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Stepped {
    /// It is over.
    Over {
        /// The run that it was.
        run: RunId,
        /// What it gave, or its code and why it failed.
        outcome: Result<Value, (String, String)>,
    },
    /// It is not begun.
    Refused {
        /// A code.
        code: String,
        /// Why.
        words: String,
    },
    /// Nobody knows now: the same is to be asked again.
    Away,
}
