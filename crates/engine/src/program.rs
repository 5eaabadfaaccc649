//! Programs: given a run, what it wants next. Pure; the same answer after any crash.

mod agent;
mod steps;

use std::sync::Arc;

use lantern_types::llm::Message;
use lantern_types::{At, Dur, Limits};
use serde_json::Value;

use crate::carried::Carried;
use crate::decide::Context;
use crate::event::{StepId, StepKind};
use crate::manifest::{ProgramKind, StepDef};
use crate::run::{Run, Step, Work};

/// How long a question to a person waits when its author does not say, and no limit is shorter.
pub(crate) const APPROVAL_WAIT: Dur = Dur::from_secs(86_400);

/// The code of a reply that breaks the schema it was to satisfy.
pub(crate) const OUTPUT_SCHEMA_VIOLATED: &str = "output_schema_violated";

/// What is said of such a reply.
pub(crate) fn violated(violations: &[String]) -> String {
    format!("the reply does not satisfy the output schema: {}", violations.join("; "))
}

/// One thing a program wants.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// A new step.
    Request(NewStep),
    /// A map or race is done.
    Settle { step: StepId, output: Arc<Value> },
    /// A map or race failed.
    Fail { step: StepId, code: String, message: String },
    /// A step is no longer wanted.
    Abandon { step: StepId, code: &'static str },
    /// The run goes in circles: stop it before it spends again.
    Block { period: u32, rounds: u32 },
    /// The run succeeded.
    Succeed(Arc<Value>),
    /// The run goes on as a new one with this input.
    Continue { step: StepId, input: Value },
    /// The journal is full: the agent goes on where it is, as a new run.
    GoOn(Carried),
    /// The run failed.
    FailRun { code: String, message: String, step: Option<StepId> },
}

/// A step as a program asks for it.
#[derive(Clone, Debug)]
pub(crate) struct NewStep {
    pub(crate) id: StepId,
    pub(crate) kind: StepKind,
    pub(crate) parent: Option<StepId>,
    pub(crate) work: Work,
    /// For waits: how long at most.
    pub(crate) wait: Option<Dur>,
    /// For waits: until when, if that is said instead.
    pub(crate) until: Option<At>,
}

/// What the program wants now; empty when it waits.
pub(crate) fn next(run: &Run, context: &Context<'_>) -> Vec<Next> {
    match run.program {
        ProgramKind::Agent => agent::next(run, context),
        ProgramKind::Steps => steps::next(run, context),
    }
}

/// What a model call says and asks for, but for the tools' definitions and the route.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmAsk {
    /// A capability, a model, or `provider/model`.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Whether the manifest's tools are on offer.
    pub offer_tools: bool,
    /// Completion tokens, if the agent names a number.
    pub max_tokens: Option<u32>,
    /// Sampling temperature.
    pub temperature: Option<serde_json::Number>,
    /// JSON Schema of the reply.
    pub output_schema: Option<Value>,
}

/// The model call that `step` stands for; `None` when it is not one.
pub fn llm_ask(run: &Run, step: &Step) -> Option<LlmAsk> {
    match step.work.as_ref()? {
        Work::Turn { turn, offer_tools } => Some(agent::ask(run, *turn, *offer_tools)),
        Work::Llm { model, messages, max_tokens, temperature, output_schema } => Some(LlmAsk {
            model: model.clone(),
            messages: messages.clone(),
            offer_tools: false,
            max_tokens: *max_tokens,
            temperature: temperature.clone(),
            output_schema: output_schema.clone(),
        }),
        _ => None,
    }
}

/// Everything said so far in an agent's run.
pub(crate) fn conversation(run: &Run) -> Vec<Message> {
    agent::so_far(run)
}

/// The person's words in a run's input.
pub fn user_text(input: &Value) -> String {
    agent::user_text(input)
}

/// The definition that a step of a `steps` program was made from.
pub(crate) fn def_of<'a>(run: &'a Run, step: &Step) -> Option<&'a StepDef> {
    match run.program {
        ProgramKind::Agent => None,
        ProgramKind::Steps => steps::def_of(run, step),
    }
}

/// How many more steps of this one may be in flight beside those that are.
pub(crate) fn room(step: &Step, context: &Context<'_>) -> usize {
    let most = context.limits.concurrency_max.max(1);
    usize::try_from(most.saturating_sub(step.children.open)).unwrap_or(0)
}

/// The longest one attempt at this step may take: what its author said, within the limits.
pub fn timeout(run: &Run, step: &Step, limits: &Limits) -> Dur {
    let said = def_of(run, step).and_then(|def| def.timeout).or_else(|| match step.work.as_ref()? {
        Work::Tool { name, .. } => run.manifest.tool(name)?.timeout,
        _ => None,
    });
    said.unwrap_or(limits.step_timeout_default).min(limits.step_timeout_max)
}
