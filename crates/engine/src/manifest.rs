//! An agent version's manifest: which program runs, with which model, tools and limits. Immutable; named by digest.
//!
//! [`Manifest::parse`] reads what people write (both casings, aliases, durations) and refuses what it does not know,
//! with the path. What is stored is the canonical form that [`Manifest::canonical`] writes.

mod check;
mod read;
mod steps;

use std::sync::Arc;

use lantern_types::{Digest, Dur, EffectClass, MicroUsd, Strategy, ToolName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use check::Terms;
pub use read::{Invalid, Issue};
pub(crate) use read::{duration, whole};

use crate::event::StepKind;
use crate::retry::Retry;

/// Which program a version runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramKind {
    /// A model in a loop with tools.
    #[default]
    Agent,
    /// A list of steps.
    Steps,
}

/// A version's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The program. `None`: `steps` when the run's input carries steps, else `agent`.
    pub program: Option<ProgramKind>,
    /// A capability, a model, or `provider/model`.
    pub model: String,
    /// What counts when several models would do; `None` leaves it to the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// The agent's instructions.
    pub system_prompt: Option<String>,
    /// How the agent should write; added to its instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style_prompt: Option<String>,
    /// What else a version says of its agent (description, labels, picture): shown, and never run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Value>,
    /// The tools it may use; `None` when the manifest does not say.
    pub tools: Option<Vec<ToolRef>>,
    /// Model turns of one run.
    pub max_turns: u32,
    /// Completion tokens of one turn.
    pub max_tokens: Option<u32>,
    /// Sampling temperature.
    pub temperature: Option<serde_json::Number>,
    /// JSON Schema of the run's input.
    pub input_schema: Option<Value>,
    /// JSON Schema of the final reply.
    pub output_schema: Option<Value>,
    /// Retry policy of model and tool steps.
    pub retry: Option<Retry>,
    /// What one run may cost.
    pub max_cost: Option<MicroUsd>,
    /// How long one run may take.
    pub timeout: Option<Dur>,
    /// The steps of a `steps` program; empty when they come with the run's input.
    pub steps: Arc<Vec<StepDef>>,
}

/// A tool as a version names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolRef {
    /// Which tool.
    pub name: ToolName,
    /// A stricter effect class than the tool declares.
    pub effect: Option<EffectClass>,
    /// Whether a person approves each call.
    pub approval: bool,
    /// The longest one call may take.
    pub timeout: Option<Dur>,
    /// The most calls in one run.
    pub max_calls: Option<u32>,
    /// Passed to the tool with each call.
    pub config: Option<Value>,
}

/// One step of a `steps` program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepDef {
    /// Its name, unique in the list.
    pub id: String,
    /// Its kind; `None` is the `continue` step, which goes on as a new run.
    pub kind: Option<StepKind>,
    /// What it does; strings may hold `{{…}}` references.
    pub data: Value,
    /// Its retry policy.
    pub retry: Option<Retry>,
    /// The longest one attempt may take; for waits, the longest wait.
    pub timeout: Option<Dur>,
    /// For a map: the step made for each item. For a race: the branches.
    pub inner: Vec<StepDef>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            program: None,
            model: "auto".to_owned(),
            system_prompt: None,
            strategy: None,
            style_prompt: None,
            about: None,
            tools: None,
            max_turns: 12,
            max_tokens: None,
            temperature: None,
            input_schema: None,
            output_schema: None,
            retry: None,
            max_cost: None,
            timeout: None,
            steps: Arc::default(),
        }
    }
}

impl Manifest {
    /// Reads a manifest as people write it. Every problem is reported at once, each with its path.
    pub fn parse(value: &Value) -> Result<Self, Invalid> {
        read::manifest(value)
    }

    /// Reads the steps that come with a run's input.
    pub fn parse_steps(value: &Value) -> Result<Vec<StepDef>, Invalid> {
        steps::list(value)
    }

    /// What can be known to be wrong with the steps that come with a run's input and is not refused by reading them: the
    /// fold of a run that was started before must go on reading them.
    pub fn check_input(&self, input: &Value, terms: Terms<'_>) -> Result<(), Invalid> {
        let said = input.get("steps").filter(|_| self.steps.is_empty());
        let Some(list) = said.filter(|_| self.program_for(input) == ProgramKind::Steps) else {
            return Ok(());
        };
        let (steps, mut issues) = (Self::parse_steps(list)?, Vec::new());
        check::steps(list, &steps, "steps", &mut issues);
        check::on_terms(self, (list, &steps), terms, &mut issues);
        if issues.is_empty() { Ok(()) } else { Err(Invalid { issues }) }
    }

    /// What can be known to be wrong with this manifest's own steps, which are written like this, where these tools and
    /// limits are: [`parse`](Self::parse) knows of none.
    pub fn check_steps(&self, list: &Value, terms: Terms<'_>) -> Vec<Issue> {
        let mut issues = Vec::new();
        check::on_terms(self, (list, &self.steps), terms, &mut issues);
        issues
    }

    /// What of this manifest's own goes beyond these limits: its retry policy, the lengths of its replies, of its runs and of
    /// its tools' calls. Its steps are [`check_steps`](Self::check_steps)'s.
    pub fn check_limits(&self, terms: Terms<'_>) -> Vec<Issue> {
        let mut issues = Vec::new();
        check::own_fits(self, terms.limits, &mut issues);
        issues
    }

    /// The stored form: these bytes are what the digest names.
    pub fn canonical(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        // The digest of nothing would name every manifest that cannot be written.
        assert!(!text.is_empty(), "a manifest is always JSON");
        text
    }

    /// Names this manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// The program that runs for this input.
    pub fn program_for(&self, input: &Value) -> ProgramKind {
        match self.program {
            Some(program) => program,
            None if !self.steps.is_empty() => ProgramKind::Steps,
            None if input.get("steps").is_some_and(looks_like_steps) => ProgramKind::Steps,
            None => ProgramKind::Agent,
        }
    }

    /// How the version names a tool. A `steps` version that says nothing of tools lists every tool its author's
    /// steps could name.
    pub fn tool(&self, name: &ToolName) -> Option<&ToolRef> {
        self.tools.as_ref()?.iter().find(|tool| &tool.name == name)
    }
}

/// A list of nothing is one: there is nothing to do, and nothing to ask a model.
fn looks_like_steps(value: &Value) -> bool {
    value.as_array().is_some_and(|steps| steps.iter().all(|step| step.get("kind").is_some()))
}
