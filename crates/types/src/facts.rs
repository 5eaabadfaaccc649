//! What a decision about one step was made on, beside the money of its run: the caps that bounded it, what a model was chosen
//! from, and the grounds of a denial.
//!
//! Invariant: amounts, names, digests and words of fixed lists; nothing of what was asked or answered. Absent facts were not
//! recorded, and are not checked.

use serde::{Deserialize, Serialize};

use crate::call::{Owner, Period};
use crate::{AdmissionFacts, At, Digest, MicroUsd, Route, Strategy};

/// Whose cap bounded a step. Which agent is said by the run, which key by nothing: runs draw from none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payer {
    /// The tenant's.
    Tenant,
    /// That of the run's agent.
    Agent,
    /// An API key's.
    Key,
}

impl From<Owner> for Payer {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::Tenant => Self::Tenant,
            Owner::Agent(_) => Self::Agent,
            Owner::Key(_) => Self::Key,
        }
    }
}

/// One account that a step was held from, or was denied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountFacts {
    /// Whose it is.
    pub of: Payer,
    /// Of which kind of period.
    pub period: Period,
    /// When that began.
    pub began: At,
    /// The most that may be spent in it.
    pub cap: MicroUsd,
    /// What was settled, when the process last took money of it, or could not.
    pub spent: MicroUsd,
    /// What processes held of it then, this one's slice included.
    pub held: MicroUsd,
    /// What was left of this process's slice before this step; of an account that denied it, nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<MicroUsd>,
}

/// What a model was chosen from: as much of it as bears on the choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// The model, capability or `provider/model` that was asked for.
    pub asked: String,
    /// What counted.
    pub strategy: Strategy,
    /// The models that the tenant means by that name, where it says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meaning: Vec<String>,
    /// The providers that could be called, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Offered>,
    /// Providers that could not, because their key was not to be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyless: Vec<String>,
    /// Whether the offline model stands in where there is no provider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stands_in: bool,
    /// The candidates as they rank, the best first: at least those that come before the one that was chosen, and that one. It is
    /// the first that was not left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
    /// Candidates that were left out and are not listed: then the choice cannot be made again from this.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_one(count: &u32) -> bool {
    *count == 1
}

const fn one() -> u32 {
    1
}

/// A provider that could be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offered {
    /// Its configured name.
    pub name: String,
    /// Whether it is a server of one's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// How many keys there were for it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub keys: u32,
    /// Of the models that it lists, those that bear on the choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

/// One candidate: a model of a provider, by one of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// The provider's name.
    pub provider: String,
    /// The provider's own name of the model.
    pub model: String,
    /// Which of its keys, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub key: u32,
    /// Why it was left out; `None` for the one that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<Out>,
    /// Until when its breaker is open, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<At>,
    /// The account that it was too dear for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountFacts>,
}

/// Why a candidate was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Out {
    /// It did not answer lately: its breaker is open.
    Resting,
    /// This step tried it already.
    Tried,
    /// It is too dear for what is left of the run's cap.
    OverBudget,
    /// It is too dear for what is left of a cap of the tenant or the agent.
    OverCap,
    /// A policy of the tenant forbids it.
    Forbidden,
}

impl Out {
    /// Its stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resting => "resting",
            Self::Tried => "tried",
            Self::OverBudget => "over_budget",
            Self::OverCap => "over_cap",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What was known of a tool that was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolFacts {
    /// Whether the agent's version lists it.
    pub listed: bool,
    /// Whether the process had it.
    pub known: bool,
    /// The most calls of it that the agent allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_max: Option<u32>,
}

/// What a denial was decided on, so that it can be made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grounds {
    /// The facts, as an admission has them.
    pub facts: AdmissionFacts,
    /// Of a model call: the way whose denial this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Of a tool: what was known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolFacts>,
    /// The account whose cap denied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountFacts>,
    /// The rules that decided.
    pub policy: Digest,
    /// The model catalogue that named the price.
    pub catalogue: Digest,
    /// The limits in force.
    pub limits: Digest,
}

/// What the policies of its tenant said of a step, and what they were asked with beside the other facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ruled {
    /// Names the text of the policies.
    pub set: Digest,
    /// Whether what they forbid is only told, and happens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observes: bool,
    /// Whether this build could not read them: then everything is forbidden.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// The agent's name.
    pub agent: String,
    /// When they were asked.
    pub at: At,
    /// What they forbid: of the step itself, and of the ways that were left out before the one that was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbids: Vec<Forbids>,
}

/// One effect that policies forbid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forbids {
    /// Its kind: `call_model`, `spend`, `call_tool`, `reach_out` or `call_agent`.
    pub action: String,
    /// The model as `provider/model`, the tool, the host or the agent.
    pub on: String,
    /// The policies that say so. None where nothing permits it, and where they could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
}
