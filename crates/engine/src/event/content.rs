//! What was said in an event: user content, stored sealed apart from the envelope.

use std::sync::Arc;

use lantern_types::llm::LlmReply;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(doc)]
use super::Fact;
use crate::carried::Carried;
use crate::fork::Reusable;
use crate::recall::Recall;
use crate::run::Work;

/// What was said: sealed apart from the envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// What the run was asked ([`Fact::RunStarted`]), or the next one is ([`Fact::ContinuedAsNew`]).
    Input(Arc<Value>),
    /// The same, with what an agent carries on from the run before.
    Carried {
        /// What it was asked.
        input: Arc<Value>,
        /// What was said and used up before.
        carried: Arc<Carried>,
    },
    /// The same for a fork, with what it reuses.
    Forked {
        /// What it was asked.
        input: Arc<Value>,
        /// What the run that it is of carried on from the one before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carried: Option<Arc<Carried>>,
        /// The steps that had ended there.
        steps: Arc<[Reusable]>,
    },
    /// The same for a message in a session and for the forks of one: with what was said before it. A build that knows no
    /// sessions cannot read it.
    Recalled {
        /// What it was asked.
        input: Arc<Value>,
        /// What was said before.
        recall: Arc<Recall>,
        /// Of a fork: what it reuses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        steps: Option<Arc<[Reusable]>>,
    },
    /// What a step is asked to do ([`Fact::StepRequested`]).
    Work(Work),
    /// What a step or the run gave ([`Fact::StepSettled`], [`Fact::StepReused`], [`Fact::RunEnding`], [`Fact::Finished`]).
    Output(Arc<Value>),
    /// What a model replied, and how it broke the schema it was given.
    Reply {
        /// The reply.
        reply: LlmReply,
        /// Violations of the output schema, worded for the model.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        violations: Vec<String>,
    },
    /// What went wrong, in words.
    Error(String),
    /// A signal's value.
    Signal(Arc<Value>),
    /// Why someone asked for something.
    Reason(String),
}

impl Content {
    /// What a run was asked, where this is what it began with.
    pub fn input(&self) -> Option<&Arc<Value>> {
        match self {
            Self::Input(input)
            | Self::Carried { input, .. }
            | Self::Forked { input, .. }
            | Self::Recalled { input, .. } => Some(input),
            _ => None,
        }
    }
}
