//! What an admission decided and on which facts: journaled with every admitted step, so that the decision can be
//! derived again later from the same bytes.

use serde::{Deserialize, Serialize};

use crate::{AccountFacts, Choice, Digest, Grounds, MicroUsd, Price, Ruled};

/// Which model answers a call, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The provider's name, as configured.
    pub provider: String,
    /// The provider's own name of the model.
    pub model: String,
    /// Its price.
    pub price: Price,
    /// Where the price comes from.
    pub price_source: PriceSource,
    /// Which of the provider's keys, from 0 in the order in which they were saved.
    #[serde(default, skip_serializing_if = "is_first")]
    pub key: u32,
    /// Why this one, where several would have done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_first(key: &u32) -> bool {
    *key == 0
}

/// A way that was tried for a step, and came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The provider's name.
    pub provider: String,
    /// The provider's own name of the model.
    pub model: String,
    /// Which of the provider's keys, from 0.
    pub key: u32,
    /// Why it came to nothing: a stable code.
    pub code: String,
}

impl Tried {
    /// Whether this is the way that a route goes.
    pub fn is(&self, route: &Route) -> bool {
        (&*self.provider, &*self.model, self.key) == (&*route.provider, &*route.model, route.key)
    }
}

/// Where a price comes from. There is no "guessed".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceSource {
    /// The catalogue names this model.
    Catalogue,
    /// The operator or tenant serves the model itself: nobody charges per token.
    SelfHosted,
    /// The built-in offline model.
    Builtin,
}

/// The facts that an admission was decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionFacts {
    /// The run's cap.
    pub cap: MicroUsd,
    /// Spent by the run before this step.
    pub spent: MicroUsd,
    /// Held by the run's other steps.
    pub held: MicroUsd,
    /// Bytes of the request: no tokenizer makes more tokens than bytes.
    #[serde(default)]
    pub request_bytes: u64,
    /// The most tokens the reply may have.
    #[serde(default)]
    pub max_tokens: u32,
    /// Earlier calls of this tool in the run.
    #[serde(default)]
    pub calls: u32,
    /// For model calls: what the route was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Box<Choice>>,
    /// The accounts whose caps let the hold pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountFacts>,
    /// Of a tool that reaches out: the host that its arguments name. Where else it is sent is not known before it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the policies of the tenant said; `None` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruled: Option<Box<Ruled>>,
}

/// An admission: the step may be performed, and this much is reserved for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Reserved before the call; what is not used is released when the step settles.
    pub hold: MicroUsd,
    /// For model calls: where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// The facts.
    pub facts: AdmissionFacts,
    /// The rules that decided.
    pub policy: Digest,
    /// The model catalogue that named the price.
    pub catalogue: Digest,
    /// The limits in force.
    pub limits: Digest,
}

/// A refusal, with a stable code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Denial {
    /// Stable and documented: `run_budget_exceeded`, `price_unknown`, `tool_not_allowed`, …
    pub code: String,
    /// For people; names amounts and limits, never user content.
    pub reason: String,
    /// What it was decided on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grounds: Option<Box<Grounds>>,
}

impl Denial {
    /// A refusal.
    pub fn new(code: &str, reason: impl Into<String>) -> Self {
        Self { code: code.to_owned(), reason: reason.into(), grounds: None }
    }

    /// The same, with one more reason.
    #[must_use]
    pub fn because(self, more: &str) -> Self {
        Self { reason: format!("{}; {more}", self.reason), ..self }
    }
}
