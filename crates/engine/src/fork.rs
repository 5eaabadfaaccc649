//! Forks: a run that begins with what another one already did, and how two runs differ.
//!
//! A fork asks for the same steps as the run that it is of. One that ended there ends here in the same way, at once, without being
//! admitted: nothing is sent and nothing is spent. That goes on up to the first step that was not asked for there in the same
//! words; from then on nothing is reused, because what follows may mean something else. A step that had not ended there is done
//! here, and nothing that was asked for there can have depended on it. What a person decided there is asked again, unless whoever
//! forks could decide it and changes nothing.
//!
//! A replay is a fork that does nothing anew: where there is nothing to reuse, it ends.

use std::collections::HashMap;
use std::sync::Arc;

use lantern_types::llm::LlmReply;
use lantern_types::{Digest, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Content, StepId, StepKind};
use crate::run::{Run, Step, StepState};

/// What a fork is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forks {
    /// The run.
    pub run: RunId,
    /// The first step that is done anew; `None`: none of those that had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// Whether it is a replay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
    /// Whether what people decided before that step holds here too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decided: bool,
}

/// A step of the other run. User content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reusable {
    /// Its name.
    pub step: StepId,
    /// Names what was asked.
    pub request: Digest,
    /// How it ended, if it had.
    pub end: End,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It was done.
    Settled {
        /// What it gave.
        output: Arc<Value>,
        /// Names that.
        digest: Digest,
        /// What the model replied, for a model call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<Arc<LlmReply>>,
        /// How the reply broke its schema.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        violations: Vec<String>,
    },
    /// It failed for good.
    Failed {
        /// Why.
        code: String,
        /// In words.
        message: String,
    },
    /// It was not admitted, which ended its run.
    Denied {
        /// Why.
        code: String,
        /// Why, with amounts and limits.
        reason: String,
    },
    /// It had not ended, or was abandoned: by what comes after it, which will abandon it here too if it is reused.
    Open,
}

/// How a step that is reused ends, in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// As it settled there.
    Settled,
    /// As it failed there.
    Failed,
}

/// There is no step of that name to fork from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run has no step {0}")]
pub struct NoSuchStep(pub String);

/// What a fork of `run` from this step can reuse: the steps that were asked for before it, in order. Without a step, all of
/// them.
pub fn reusable(run: &Run, from: Option<&StepId>) -> Result<Vec<Reusable>, NoSuchStep> {
    let upto = match from {
        None => run.steps().len(),
        Some(id) => {
            run.steps().iter().position(|step| step.id == *id).ok_or_else(|| NoSuchStep(id.to_string()))?
        }
    };
    // A map or race around the step settles anew; a turn that asked for it is not done again.
    let mut around = Vec::new();
    let mut inner = from.and_then(|id| run.step(id));
    while let Some(outer) = inner.and_then(|step| step.parent.as_ref()).and_then(|id| run.step(id)) {
        around.extend(contains(outer.kind).then_some(&outer.id));
        inner = Some(outer);
    }
    let earlier = run.steps().iter().take(upto).filter(|step| !around.contains(&&step.id));
    Ok(earlier.filter_map(|step| of(run, step)).collect())
}

fn of(run: &Run, step: &Step) -> Option<Reusable> {
    let end = match (&step.state, step.output) {
        // Maps and races that did not fail are settled by their program, from what is inside them.
        (StepState::Settled { .. } | StepState::Abandoned, _) if contains(step.kind) => return None,
        (StepState::Settled { .. }, _) if came_second(run, step) => End::Open,
        (StepState::Settled { output, reply, violations }, Some(digest)) => End::Settled {
            output: output.clone(),
            digest,
            reply: reply.clone(),
            violations: violations.clone(),
        },
        (StepState::Failed { code, message }, _) if ended_by(run, step) => {
            End::Denied { code: code.clone(), reason: message.clone() }
        }
        (StepState::Failed { code, message }, _) => {
            End::Failed { code: code.clone(), message: message.clone() }
        }
        (StepState::Settled { .. }, None) => return None,
        _ => End::Open,
    };
    Some(Reusable { step: step.id.clone(), request: step.request, end })
}

/// Whether the run ended because this step was not admitted.
fn ended_by(run: &Run, step: &Step) -> bool {
    step.denied && run.error.as_ref().is_some_and(|(.., failed)| failed.as_ref() == Some(&step.id))
}

/// Whether a step was done and lost its race all the same, to one that was done just before it.
fn came_second(run: &Run, step: &Step) -> bool {
    let around = step.parent.as_ref().and_then(|id| run.step(id));
    around.is_some_and(|around| {
        around.kind == StepKind::Race
            && around.children.settled.as_ref().is_some_and(|first| *first != step.id)
    })
}

const fn contains(kind: StepKind) -> bool {
    matches!(kind, StepKind::Map | StepKind::Race)
}

/// The steps that a fork has yet to reuse; empty in every other run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shelf(HashMap<StepId, Reusable>);

impl Shelf {
    pub(crate) fn of(steps: &[Reusable]) -> Self {
        Self(steps.iter().map(|step| (step.step.clone(), step.clone())).collect())
    }

    /// How a step ended that is asked for, if it was asked for in the same words and had ended. What was not admitted counts in
    /// a replay alone, and what a person decided where the fork says so: it may be about something else.
    pub(crate) fn find(
        &self,
        (step, kind): (&StepId, StepKind),
        request: Digest,
        forks: Option<&Forks>,
    ) -> Option<&End> {
        let (replay, decided) = forks.map_or((false, false), |forks| (forks.replay, forks.decided));
        let reused = |end: &&End| match end {
            End::Open => false,
            End::Denied { .. } => replay,
            End::Settled { .. } | End::Failed { .. } => replay || decided || kind != StepKind::Approval,
        };
        self.there(step, request).map(|found| &found.end).filter(reused)
    }

    fn there(&self, step: &StepId, request: Digest) -> Option<&Reusable> {
        self.0.get(step).filter(|found| found.request == request)
    }

    /// A step was asked for. When there is nothing for it, nothing that follows is reused.
    pub(crate) fn asked(&mut self, step: &StepId, kind: StepKind, request: Digest) {
        if !self.0.is_empty() && !contains(kind) && self.there(step, request).is_none() {
            self.0.clear();
        }
    }

    /// Takes what a step is reused with.
    pub(crate) fn take(&mut self, step: &StepId) -> Option<Reusable> {
        self.0.remove(step)
    }
}

impl End {
    /// What the envelope says of it, and what is sealed apart from that; nothing when it had not ended.
    pub(crate) fn parts(&self) -> Option<(Reuse, Option<String>, Option<Digest>, Content)> {
        Some(match self {
            Self::Settled { digest, reply: Some(reply), violations, .. } => {
                let content = Content::Reply { reply: (**reply).clone(), violations: violations.clone() };
                (Reuse::Settled, None, Some(*digest), content)
            }
            Self::Settled { output, digest, .. } => {
                (Reuse::Settled, None, Some(*digest), Content::Output(output.clone()))
            }
            Self::Failed { code, message } | Self::Denied { code, reason: message } => {
                (Reuse::Failed, Some(code.clone()), None, Content::Error(message.clone()))
            }
            Self::Open => return None,
        })
    }

    /// Where a step stands that is reused so.
    pub(crate) fn state(self) -> Option<StepState> {
        Some(match self {
            Self::Settled { output, reply, violations, .. } => {
                StepState::Settled { output, reply, violations }
            }
            Self::Failed { code, message } | Self::Denied { code, reason: message } => {
                StepState::Failed { code, message }
            }
            Self::Open => return None,
        })
    }
}

/// How two runs differ in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Differs {
    /// They do not.
    Same,
    /// Only the first has it.
    OnlyA,
    /// Only the second has it.
    OnlyB,
    /// They asked for something else.
    Request,
    /// It ended otherwise, or has not ended in one of them.
    End,
    /// It gave something else.
    Output,
}

/// The steps of two runs side by side: those of the first in the order in which they were asked for, then those that only the
/// second has. Without those inside a map or race that the other one did not go into before it was over.
pub fn compare<'a>(a: &'a Run, b: &'a Run) -> Vec<(&'a StepId, StepKind, Differs)> {
    let ours = a.steps().iter().filter(|step| !passed_over(a, step, b));
    let mut steps: Vec<_> = ours.map(|step| (&step.id, step.kind, differs(step, b.step(&step.id)))).collect();
    let only = b.steps().iter().filter(|step| a.step(&step.id).is_none() && !passed_over(b, step, a));
    steps.extend(only.map(|step| (&step.id, step.kind, Differs::OnlyB)));
    steps
}

/// Whether `other` has no such step because the map or race around it was over before.
fn passed_over(of: &Run, step: &Step, other: &Run) -> bool {
    if other.step(&step.id).is_some() {
        return false;
    }
    let mut around = step.parent.as_ref();
    while let Some(id) = around {
        if let Some(there) = other.step(id) {
            return contains(there.kind) && there.is_final();
        }
        around = of.step(id).and_then(|step| step.parent.as_ref());
    }
    false
}

/// Whether two replies say the same and ask for the same calls, whatever they cost and whichever model it was.
fn says_the_same(a: &LlmReply, b: &LlmReply) -> bool {
    let calls = |reply: &LlmReply| -> Vec<(String, String)> {
        reply.tool_calls.iter().map(|call| (call.name.clone(), call.arguments.clone())).collect()
    };
    a.content == b.content && calls(a) == calls(b)
}

fn differs(a: &Step, b: Option<&Step>) -> Differs {
    let Some(b) = b else { return Differs::OnlyA };
    if a.request != b.request || a.kind != b.kind {
        return Differs::Request;
    }
    match (&a.state, &b.state) {
        (StepState::Settled { reply: Some(a), .. }, StepState::Settled { reply: Some(b), .. }) => {
            if says_the_same(a, b) {
                Differs::Same
            } else {
                Differs::Output
            }
        }
        (StepState::Settled { .. }, StepState::Settled { .. }) if a.output == b.output => Differs::Same,
        (StepState::Settled { .. }, StepState::Settled { .. }) => Differs::Output,
        (StepState::Failed { code: a, .. }, StepState::Failed { code: b, .. }) if a == b => Differs::Same,
        (StepState::Abandoned, StepState::Abandoned) => Differs::Same,
        (_, _) if !a.is_final() && !b.is_final() => Differs::Same,
        _ => Differs::End,
    }
}
