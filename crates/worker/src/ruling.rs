//! What the policies of a run's tenant say of its steps.
//!
//! Invariant: while it is not known which policies are in force nothing is admitted, and policies that cannot be read forbid
//! everything. Who is not asked about what was admitted already: a step is performed as it was admitted.

use std::sync::Arc;

use lantern_cedar::Who;
use lantern_cedar::steps::{self, Asker, Step};
use lantern_engine::Run;
use lantern_policy::Scope;
use lantern_store::journal;
use lantern_store::policies::Set;
use lantern_types::tool::ToolCall;
use lantern_types::{AdmissionFacts, At, Failure, Forbids, MicroUsd, Ruled};
use serde_json::Value;

use crate::{Deps, tools};

/// The policies in force, and whose steps they are asked about.
#[derive(Clone, Debug)]
pub(crate) struct Ruling {
    set: Arc<Set>,
    agent: Arc<str>,
    at: At,
    spent: MicroUsd,
}

/// What is asked about the steps of a run; `None` when its tenant has no policies. `Err` when that is not known now.
pub(crate) async fn of(deps: &Deps, scope: Scope, run: &Run) -> Result<Option<Ruling>, Failure> {
    let unavailable = |error: &dyn std::error::Error| Failure::refused("unavailable", error.to_string());
    let set = deps.standing.of(scope.tenant()).map_err(|error| unavailable(&error))?;
    let (Some(set), Some(agent)) = (set, run.agent) else { return Ok(None) };
    let name = match deps.memo.agent(scope, agent) {
        Some(name) => name,
        None => {
            let row = journal::head(&deps.db, scope, run.id).await.map_err(|error| unavailable(&error))?;
            let name: Arc<str> = row.map(|row| row.agent_name).unwrap_or_default().into();
            deps.memo.keep_agent(scope, agent, name.clone());
            name
        }
    };
    Ok(Some(Ruling { set, agent: name, at: deps.clock.now(), spent: run.spent }))
}

/// The same for a step that was admitted on these facts: by the policies that are in force now.
pub(crate) fn again(deps: &Deps, scope: Scope, facts: &AdmissionFacts) -> Option<Ruling> {
    let ruled = facts.ruled.as_ref()?;
    let set = deps.standing.of(scope.tenant()).ok()??;
    Some(Ruling { set, agent: ruled.agent.as_str().into(), at: ruled.at, spent: facts.spent })
}

impl Ruling {
    /// What of a step is forbidden.
    fn forbids(&self, step: Step<'_>) -> Vec<Forbids> {
        let asker = Asker { who: Who::Agent(&self.agent), at: self.at, spent: self.spent };
        match &self.set.policies {
            Some(policies) => steps::forbids(policies, asker, step),
            None => steps::all_of(step),
        }
    }

    /// What is recorded of a step.
    pub(crate) fn on(&self, step: Step<'_>) -> Ruled {
        self.ruled(self.forbids(step))
    }

    /// Whether a step may be.
    pub(crate) fn lets(&self, step: Step<'_>) -> bool {
        self.set.observes || self.forbids(step).is_empty()
    }

    /// What is recorded of what is forbidden.
    pub(crate) fn ruled(&self, forbids: Vec<Forbids>) -> Ruled {
        Ruled {
            set: self.set.digest,
            observes: self.set.observes,
            unread: self.set.policies.is_none(),
            agent: self.agent.to_string(),
            at: self.at,
            forbids,
        }
    }

    /// Whether this build cannot read the policies.
    pub(crate) fn unread(&self) -> bool {
        self.set.policies.is_none()
    }
}

/// The host that a tool reaches out to, if its arguments name one.
pub(crate) fn host(name: &str, arguments: &Value) -> Option<String> {
    if name != tools::FETCH {
        return None;
    }
    lantern_net::http::host(arguments.get("url").and_then(Value::as_str)?)
}

/// Why a call may not go on to this host, when it is sent there by what it called; `None` when it may.
pub(crate) fn refused(set: Option<&Set>, call: &ToolCall, host: &str, at: At) -> Option<String> {
    let (set, asker) = (set?, call.asker.as_ref()?);
    let asked = lantern_cedar::Asked {
        who: Who::Agent(&asker.agent),
        effect: lantern_cedar::Effect::ReachOut { host },
        spent: asker.spent.micros(),
        at,
    };
    let answer = set.policies.as_ref().map(|policies| policies.answer(&asked));
    let forbidden = answer.as_ref().is_none_or(|answer| answer.forbidden);
    if !forbidden || set.observes {
        return None;
    }
    let by = answer.map(|answer| answer.by).unwrap_or_default();
    let forbids = Forbids { action: "reach_out".to_owned(), on: host.to_owned(), by };
    Some(steps::said(&[forbids], set.policies.is_none()))
}
