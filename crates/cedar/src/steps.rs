//! Which effects a step of a run has, and what policies say of each: asked before the step is admitted, asked again by whoever
//! verifies, and asked of stored runs by whoever tries a policy.

use lantern_types::{AdmissionFacts, At, Denial, EffectClass, Forbids, MicroUsd, Route, Ruled};

use crate::{Asked, Effect, Policies, Who};

/// The code of a denial because a policy forbids it.
pub const DENIED: &str = "policy_denied";
/// Policies that a message names.
const NAMED_MAX: usize = 8;

/// Whose step it is.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Who.
    pub who: Who<'a>,
    /// When.
    pub at: At,
    /// What its run spent before.
    pub spent: MicroUsd,
}

/// A step, as far as policies look at it.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A model is called.
    Model {
        /// Whose model.
        provider: &'a str,
        /// Its name there.
        model: &'a str,
        /// The most that it could cost.
        hold: MicroUsd,
        /// Bytes of what is asked.
        request_bytes: u64,
        /// The most tokens that the answer may have.
        max_tokens: u64,
    },
    /// A tool is called.
    Tool {
        /// Its name.
        name: &'a str,
        /// What it does outside.
        class: EffectClass,
        /// How often the run called it before.
        calls: u32,
        /// The host that it reaches out to, if it is known to.
        host: Option<&'a str>,
    },
    /// Another agent is called.
    Child {
        /// Its name.
        name: &'a str,
    },
}

impl<'a> Step<'a> {
    /// The call of a model by this way, on these facts.
    pub fn model(route: &'a Route, hold: MicroUsd, facts: &AdmissionFacts) -> Self {
        Self::Model {
            provider: &route.provider,
            model: &route.model,
            hold,
            request_bytes: facts.request_bytes,
            max_tokens: u64::from(facts.max_tokens),
        }
    }
}

/// What of a step is forbidden; nothing when it may be.
pub fn forbids(policies: &Policies, asker: Asker<'_>, step: Step<'_>) -> Vec<Forbids> {
    let Asker { who, at, spent } = asker;
    let mut found = Vec::new();
    each(step, |effect| {
        let answer = policies.answer(&Asked { who, effect, spent: spent.micros(), at });
        if answer.forbidden {
            found.push(Forbids { by: answer.by, ..named(effect) });
        }
    });
    found
}

/// What is forbidden when the policies cannot be read: all of it.
pub fn all_of(step: Step<'_>) -> Vec<Forbids> {
    let mut found = Vec::new();
    each(step, |effect| found.push(named(effect)));
    found
}

fn named(effect: Effect<'_>) -> Forbids {
    Forbids { action: effect.action().as_str().to_owned(), on: effect.resource().to_owned(), by: Vec::new() }
}

fn each(step: Step<'_>, mut ask: impl FnMut(Effect<'_>)) {
    match step {
        Step::Model { provider, model, hold, request_bytes, max_tokens } => {
            let (name, micros) = (format!("{provider}/{model}"), hold.micros());
            ask(Effect::CallModel { name: &name, hold: micros, request_bytes, max_tokens });
            ask(Effect::Spend { name: &name, amount: micros });
        }
        Step::Tool { name, class, calls, host } => {
            ask(Effect::CallTool { name, class, calls });
            if let Some(host) = host {
                ask(Effect::ReachOut { host });
            }
        }
        Step::Child { name } => ask(Effect::CallAgent { name }),
    }
}

/// The denial of what is forbidden.
pub fn denial(forbids: &[Forbids], unread: bool) -> Denial {
    Denial::new(DENIED, said(forbids, unread))
}

/// Why something is forbidden, in words.
pub fn said(forbids: &[Forbids], unread: bool) -> String {
    let Some(Forbids { action, on, .. }) = forbids.first() else { return "a policy forbids it".to_owned() };
    if unread {
        return format!(
            "{action} {on}: the policies of the tenant cannot be read, so everything is forbidden"
        );
    }
    let mut by: Vec<&str> = forbids.iter().flat_map(|one| one.by.iter().map(String::as_str)).collect();
    by.dedup();
    let more = by.len().saturating_sub(NAMED_MAX);
    by.truncate(NAMED_MAX);
    match (by.as_slice(), more) {
        ([], _) => format!("{action} {on}: no policy permits it"),
        ([one], _) => format!("{action} {on}: the policy {one} forbids it"),
        (some, 0) => format!("{action} {on}: the policies {} forbid it", some.join(", ")),
        (some, more) => format!("{action} {on}: the policies {} and {more} more forbid it", some.join(", ")),
    }
}

/// Whether what was recorded denies the step that it was recorded of. What was left out before it is listed too, so the step is
/// named: every effect that is on this thing, or on this host.
pub fn denies(ruled: &Ruled, on: &str, host: Option<&str>) -> bool {
    !ruled.observes && ruled.forbids.iter().any(|one| one.on == on || Some(one.on.as_str()) == host)
}
