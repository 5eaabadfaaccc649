//! What the policies of a tenant said of a step: whether it fits what became of the step, and what stands beside it.
//!
//! The policies themselves are not in a receipt. Who has their text gives it along: then they are asked again, with the facts that
//! they were asked with.

use lantern_cedar::Who;
use lantern_cedar::steps::{self, Asker, Step};
use lantern_engine::StepKind;
use lantern_types::{AdmissionFacts, Forbids, MicroUsd, Out, Route, Ruled};

use super::{Checked, Follow, broken, demand};

const ACTIONS: [&str; 5] = ["call_model", "spend", "call_tool", "reach_out", "call_agent"];

impl Follow {
    /// Whether what was recorded of policies may stand beside these facts. `denied` is whether it is what denies the step; then
    /// nothing was held.
    pub(super) fn ruled(
        &mut self,
        n: usize,
        facts: &AdmissionFacts,
        (route, hold): (Option<&Route>, MicroUsd),
        (denied, at): (bool, i64),
    ) -> Checked {
        let kind = self.step(n)?.kind;
        demand(facts.host.is_none() || kind == StepKind::Tool, "form", "only a tool reaches out")?;
        let left_out = facts.choice.iter().flat_map(|choice| &choice.ways);
        let left_out: Vec<String> = left_out
            .filter(|way| way.out == Some(Out::Forbidden))
            .map(|way| format!("{}/{}", way.provider, way.model))
            .collect();
        let Some(ruled) = facts.ruled.as_deref() else {
            demand(!denied, "policy", "it is denied by policies, and names none")?;
            return demand(
                left_out.is_empty(),
                "policy",
                "a model is left out by policies, and none are named",
            );
        };
        let known = ruled.forbids.iter().all(|one| ACTIONS.contains(&one.action.as_str()));
        demand(known, "form", "there is no such effect")?;
        demand(ruled.at.micros() <= at, "policy", "they were asked later than it was decided")?;
        demand(!(ruled.unread && ruled.observes), "policy", "what cannot be read is not observed")?;
        let by_nobody = ruled.forbids.iter().all(|one| one.by.is_empty());
        demand(!ruled.unread || by_nobody, "policy", "policies that cannot be read have no names")?;
        let agent = self.agent.get_or_insert_with(|| ruled.agent.clone());
        demand(*agent == ruled.agent, "policy", "the agent has another name")?;
        let own = self.own(n, (route, hold))?;
        let (thing, host) =
            own.as_ref().map_or(("", None), |own| (own.thing.as_str(), facts.host.as_deref()));
        let denies = steps::denies(ruled, thing, host);
        demand(
            denies == denied || denied && !left_out.is_empty(),
            "policy",
            if denied { "they do not forbid it" } else { "they forbid what was admitted" },
        )?;
        demand(denied || !ruled.unread, "policy", "policies that cannot be read let nothing be")?;
        demand(left_out.is_empty() || !ruled.observes, "policy", "what is observed leaves nothing out")?;
        for one in &ruled.forbids {
            let fits = one.on == thing || Some(one.on.as_str()) == host || left_out.contains(&one.on);
            demand(fits, "policy", format_args!("{} is nothing that the step would do", one.on))?;
        }
        for way in &left_out {
            let named = ruled.forbids.iter().any(|one| one.on == *way);
            demand(named, "policy", format_args!("{way} is left out, and no policy forbids it"))?;
        }
        self.derived.ruled += 1;
        self.asked_again(n, facts, ruled, (route, hold))
    }

    /// Asks policies again whose text is given.
    fn asked_again(
        &mut self,
        n: usize,
        facts: &AdmissionFacts,
        ruled: &Ruled,
        (route, hold): (Option<&Route>, MicroUsd),
    ) -> Checked {
        let given = self.given.clone();
        let Some(policies) = given.iter().find(|given| given.digest() == ruled.set) else { return Ok(()) };
        if ruled.unread {
            // Another build could not read what this one can.
            return Ok(());
        }
        let asker = Asker { who: Who::Agent(&ruled.agent), at: ruled.at, spent: facts.spent };
        let Some(own) = self.own(n, (route, hold))? else { return Ok(()) };
        let want = steps::forbids(policies, asker, own.step(facts));
        let host = facts.host.as_deref();
        let is_own = |one: &&Forbids| one.on == own.thing || Some(one.on.as_str()) == host;
        let told: Vec<Forbids> = ruled.forbids.iter().filter(is_own).cloned().collect();
        demand(told == want, "policy", format_args!("the policies say otherwise of {}", own.thing))?;
        self.derived.reasked += 1;
        Ok(())
    }

    /// What a step would do, as far as policies look at it.
    fn own(&self, n: usize, (route, hold): (Option<&Route>, MicroUsd)) -> Checked<Option<Own>> {
        let Some(step) = self.steps.get(n) else { return broken("step", "there is no such step") };
        Ok(match (step.kind, route) {
            (StepKind::Llm, Some(route)) => Some(Own {
                thing: format!("{}/{}", route.provider, route.model),
                what: What::Model(route.clone(), hold),
            }),
            (StepKind::Tool, _) => {
                let name = step.name.clone().unwrap_or_default();
                Some(Own { thing: name, what: What::Tool(step.effect) })
            }
            (StepKind::Child, _) => {
                Some(Own { thing: step.name.clone().unwrap_or_default(), what: What::Child })
            }
            _ => None,
        })
    }
}

/// A step's own effect.
struct Own {
    /// On what.
    thing: String,
    what: What,
}

enum What {
    Model(Route, MicroUsd),
    Tool(lantern_types::EffectClass),
    Child,
}

impl Own {
    fn step<'a>(&'a self, facts: &'a AdmissionFacts) -> Step<'a> {
        let name = self.thing.as_str();
        match &self.what {
            What::Model(route, hold) => Step::model(route, *hold, facts),
            What::Tool(class) => {
                Step::Tool { name, class: *class, calls: facts.calls, host: facts.host.as_deref() }
            }
            What::Child => Step::Child { name },
        }
    }
}
