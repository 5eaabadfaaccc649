//! What an agent's run carries into the run that it goes on as: enough that the model sees the conversation it would have
//! seen, and that no limit of the version begins anew.
//!
//! User content: it lies sealed beside the first event. What was asked stays the run's input.

use std::collections::BTreeMap;

use lantern_types::llm::Message;
use lantern_types::{At, Dur, ToolName};
use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;
use crate::run::{Run, Work};

/// The conversation so far, and what was used up in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Carried {
    /// What was said, but for the agent's instructions.
    pub messages: Vec<Message>,
    /// Model turns.
    pub turns: u32,
    /// Turns that were spent on making a reply satisfy the output schema.
    #[serde(default)]
    pub repairs: u32,
    /// Calls of each tool.
    #[serde(default)]
    pub calls: BTreeMap<String, u32>,
    /// When the first of these runs must be over, and so all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<At>,
}

impl Carried {
    /// What `run` carries on after so many turns, with this conversation.
    pub(crate) fn of(run: &Run, turns: u32, repairs: u32, messages: Vec<Message>) -> Self {
        let mut calls = run.carried.as_ref().map(|carried| carried.calls.clone()).unwrap_or_default();
        for step in run.steps().iter().filter(|step| step.attempt > 0) {
            if let Some(Work::Tool { name, .. }) = &step.work {
                *calls.entry(name.as_str().to_owned()).or_insert(0) += 1;
            }
        }
        Self { messages, turns, repairs, calls, deadline: run.deadline }
    }
}

impl Run {
    /// When `timeout` of the manifest ends a run asked for at `at`.
    pub(crate) fn deadline_of(manifest: &Manifest, at: At) -> Option<At> {
        manifest.timeout.filter(|timeout| *timeout > Dur::ZERO).map(|timeout| at + timeout)
    }

    /// How often the runs before this one called a tool; 0 when it continues none.
    pub fn carried_calls(&self, tool: &ToolName) -> u32 {
        self.carried.as_ref().and_then(|carried| carried.calls.get(tool.as_str())).copied().unwrap_or(0)
    }
}
