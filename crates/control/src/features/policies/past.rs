//! What policies, and a cap of each run, would have done to a run of the past, from its journal alone.
//!
//! Each step is asked about by itself, as if the rest of its run had gone as it went: what an agent would have done in place of a step
//! that is forbidden is not known. Amounts are sums of what was charged, so they are exact: what a run of another agent cost is counted
//! in that run, and once. Pure.

use std::collections::{BTreeMap, HashMap};

use lantern_cedar::steps::{self, Asker, DENIED, Step};
use lantern_cedar::{Policies, Who};
use lantern_engine::{Event, Fact, StepId, StepKind};
use lantern_types::{AdmissionFacts, At, EffectClass, Forbids, Grant, MicroUsd};

/// Steps that are named.
pub(super) const BLOCKS_MAX: usize = 100;
/// The tool that reaches out to a host which its arguments name.
const FETCH: &str = "http.fetch";

/// What came of asking.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) runs: u64,
    pub(super) events: u64,
    /// Admissions that were asked about: attempts, and not steps.
    pub(super) asked: u64,
    pub(super) blocked: u64,
    pub(super) blocked_runs: u64,
    /// What all of them cost.
    pub(super) spent: i64,
    /// What those cost that are forbidden.
    pub(super) saved: i64,
    /// What the runs cost that forbidden calls of agents began. It is part of `spent`, and may be of `saved`: they are runs by themselves.
    pub(super) children: i64,
    /// Denials by policies of that time which these would not have made.
    pub(super) freed: u64,
    /// Calls of `http.fetch` of which it was not recorded where they went.
    pub(super) unknown_hosts: u64,
    /// Model calls of programs in boxes: of them it is not recorded what they asked for.
    pub(super) unasked: u64,
    /// Runs that the cap would have stopped, and what they spent on what they did after that.
    pub(super) stopped: u64,
    pub(super) stopped_cost: i64,
    pub(super) by: BTreeMap<String, ByPolicy>,
    pub(super) blocks: Vec<Block>,
    /// Blocks beyond those that are named.
    pub(super) unnamed: u64,
}

/// What one policy forbids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ByPolicy {
    pub(super) blocked: u64,
    pub(super) saved: i64,
}

/// One admission that is forbidden.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) run: String,
    pub(super) step: String,
    pub(super) attempt: u32,
    pub(super) at: At,
    pub(super) forbids: Vec<Forbids>,
    pub(super) cost: i64,
}

/// What is known of a step.
#[derive(Debug)]
struct Known {
    kind: StepKind,
    name: Option<String>,
    class: EffectClass,
    /// The present attempt, if it is forbidden.
    blocked: Option<Blocked>,
    /// Whether it would not have come to that: the cap would have stopped the run before.
    stopped: bool,
}

#[derive(Debug)]
struct Blocked {
    by: Vec<String>,
    /// Its place among those that are named.
    named: Option<usize>,
}

/// Asks about one run, as its events come.
pub(super) struct Run<'a> {
    policies: &'a Policies,
    agent: &'a str,
    id: String,
    /// The most that a run may spend.
    cap: Option<MicroUsd>,
    steps: HashMap<StepId, Known>,
    blocked: bool,
    stopped: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(policies: &'a Policies, (agent, id): (&'a str, String), cap: Option<MicroUsd>) -> Self {
        Self { policies, agent, id, cap, steps: HashMap::new(), blocked: false, stopped: false }
    }

    pub(super) fn take(&mut self, event: &Event, sums: &mut Sums) {
        sums.events += 1;
        match &event.fact {
            Fact::StepRequested { step, kind, name, effect, .. } => {
                let known =
                    Known { kind: *kind, name: name.clone(), class: *effect, blocked: None, stopped: false };
                if matches!(kind, StepKind::Llm | StepKind::Tool | StepKind::Child) {
                    self.steps.insert(step.clone(), known);
                }
            }
            Fact::StepAdmitted { step, attempt, grant, .. } => {
                self.admitted((step, *attempt), grant, event.at, sums);
            }
            Fact::StepDenied { step, code, grounds, .. } if code == DENIED => {
                let Some(known) = self.steps.get(step) else { return };
                let facts = grounds.as_ref().map(|grounds| (&grounds.facts, grounds.route.as_ref()));
                let Some((facts, route)) = facts else { return };
                let hold = MicroUsd::ZERO;
                let asked = match route {
                    Some(route) => Some(Step::model(route, hold, facts)),
                    None => looked(known, facts),
                };
                let lets = asked.is_some_and(|step| {
                    steps::forbids(self.policies, self.asker(facts, event.at), step).is_empty()
                });
                sums.freed += u64::from(lets);
            }
            Fact::StepSettled { step, cost, .. }
            | Fact::StepFailed { step, cost, .. }
            | Fact::StepRetrying { step, cost, .. }
            | Fact::StepAbandoned { step, cost, .. }
            | Fact::StepCharged { step, cost, .. } => self.cost(step, *cost, sums),
            Fact::CallMetered { cost, .. } => {
                sums.unasked += 1;
                sums.spent = sums.spent.saturating_add(cost.micros());
            }
            _ => {}
        }
    }

    /// The run has no more events.
    pub(super) fn end(self, sums: &mut Sums) {
        sums.runs += 1;
        sums.blocked_runs += u64::from(self.blocked);
        sums.stopped += u64::from(self.stopped);
    }

    fn asker(&self, facts: &AdmissionFacts, at: At) -> Asker<'a> {
        let at = facts.ruled.as_ref().map_or(at, |ruled| ruled.at);
        Asker { who: Who::Agent(self.agent), at, spent: facts.spent }
    }

    fn admitted(&mut self, (step, attempt): (&StepId, u32), grant: &Grant, at: At, sums: &mut Sums) {
        let asker = self.asker(&grant.facts, at);
        self.stopped |= self.cap.is_some_and(|cap| passes(grant, cap));
        let stopped = self.stopped;
        let Some(known) = self.steps.get_mut(step) else { return };
        known.stopped = stopped;
        let asked = match &grant.route {
            Some(route) => Some(Step::model(route, grant.hold, &grant.facts)),
            None => looked(known, &grant.facts),
        };
        let Some(asked) = asked else { return };
        sums.asked += 1;
        if matches!(asked, Step::Tool { name: FETCH, host: None, .. }) {
            sums.unknown_hosts += 1;
        }
        let forbids = steps::forbids(self.policies, asker, asked);
        known.blocked = None;
        if forbids.is_empty() {
            return;
        }
        sums.blocked += 1;
        self.blocked = true;
        let mut by: Vec<String> = forbids.iter().flat_map(|one| one.by.iter().cloned()).collect();
        by.sort();
        by.dedup();
        for id in &by {
            sums.by.entry(id.clone()).or_default().blocked += 1;
        }
        let named = (sums.blocks.len() < BLOCKS_MAX).then_some(sums.blocks.len());
        if named.is_some() {
            let (run, step) = (self.id.clone(), step.to_string());
            sums.blocks.push(Block { run, step, attempt, at, forbids, cost: 0 });
        } else {
            sums.unnamed += 1;
        }
        known.blocked = Some(Blocked { by, named });
    }

    fn cost(&self, step: &StepId, cost: MicroUsd, sums: &mut Sums) {
        let Some(known) = self.steps.get(step) else { return };
        let child = known.kind == StepKind::Child;
        if !child {
            sums.spent = sums.spent.saturating_add(cost.micros());
        }
        if known.stopped && !child {
            sums.stopped_cost = sums.stopped_cost.saturating_add(cost.micros());
        }
        let Some(blocked) = &known.blocked else { return };
        if child {
            sums.children = sums.children.saturating_add(cost.micros());
            return;
        }
        sums.saved = sums.saved.saturating_add(cost.micros());
        for id in &blocked.by {
            let by = sums.by.entry(id.clone()).or_default();
            by.saved = by.saved.saturating_add(cost.micros());
        }
        if let Some(block) = blocked.named.and_then(|n| sums.blocks.get_mut(n)) {
            block.cost = block.cost.saturating_add(cost.micros());
        }
    }
}

/// Whether what is held for a model call would not have fit under another cap of its run, by the rule that admits it.
fn passes(grant: &Grant, cap: MicroUsd) -> bool {
    let facts = &grant.facts;
    let total = facts.spent.plus(facts.held).and_then(|sum| sum.plus(grant.hold));
    grant.route.is_some() && total.is_ok_and(|total| total > cap)
}

/// What policies look at of a step that calls no model.
fn looked<'a>(known: &'a Known, facts: &'a AdmissionFacts) -> Option<Step<'a>> {
    let name = known.name.as_deref()?;
    match known.kind {
        StepKind::Tool => {
            let (calls, host) = (facts.calls, facts.host.as_deref());
            Some(Step::Tool { name, class: known.class, calls, host })
        }
        StepKind::Child => Some(Step::Child { name }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use lantern_cedar::Otherwise;
    use lantern_types::{Acted, Digest, Price, PriceSource, Route};

    fn event(seq: u64, fact: Fact) -> Event {
        Event { seq, at: At::from_micros(i64::try_from(seq).unwrap()), fact, content: None }
    }

    fn requested(seq: u64, step: &str, kind: StepKind, name: Option<&str>, effect: EffectClass) -> Event {
        let fact = Fact::StepRequested {
            step: StepId::new(step),
            kind,
            name: name.map(str::to_owned),
            parent: None,
            effect,
            due: None,
            request: Digest::of(b""),
            tools: None,
            approval: false,
        };
        event(seq, fact)
    }

    fn admitted(seq: u64, step: &str, attempt: u32, model: Option<&str>, facts: AdmissionFacts) -> Event {
        let price = Price::default();
        let route = model.map(|model| Route {
            provider: "lab".to_owned(),
            model: model.to_owned(),
            price,
            price_source: PriceSource::SelfHosted,
            key: 0,
            why: None,
        });
        let hold = MicroUsd::from_micros(if model.is_some() { 100 } else { 0 });
        let digest = Digest::of(b"");
        let grant = Grant { hold, route, facts, policy: digest, catalogue: digest, limits: digest };
        event(seq, Fact::StepAdmitted { step: StepId::new(step), generation: 1, attempt, grant })
    }

    fn settled(seq: u64, step: &str, kind: StepKind, cost: i64) -> Event {
        let fact = Fact::StepSettled {
            step: StepId::new(step),
            kind,
            name: None,
            generation: 1,
            attempt: 1,
            cost: MicroUsd::from_micros(cost),
            tokens_in: 0,
            tokens_out: 0,
            claimed: None,
            output: Digest::of(b""),
            provider: None,
            model: None,
        };
        event(seq, fact)
    }

    fn sums(text: &str, events: &[Event]) -> Sums {
        under(text, events, None)
    }

    fn under(text: &str, events: &[Event], cap: Option<i64>) -> Sums {
        let policies = Policies::read(text, Otherwise::Allow).unwrap();
        let cap = cap.map(MicroUsd::from_micros);
        let (mut sums, mut run) = (Sums::default(), Run::new(&policies, ("scout", "r".to_owned()), cap));
        for event in events {
            run.take(event, &mut sums);
        }
        run.end(&mut sums);
        sums
    }

    fn a_run() -> Vec<Event> {
        let facts = AdmissionFacts::default;
        let retrying = Fact::StepRetrying {
            step: StepId::new("m"),
            generation: 2,
            attempt: 2,
            code: "x".to_owned(),
            acted: Acted::No,
            due: At::from_micros(5),
            crashed: false,
            cost: MicroUsd::from_micros(7),
            unconfirmed: MicroUsd::ZERO,
            tokens_in: 0,
            tokens_out: 0,
            readmit: true,
        };
        vec![
            requested(2, "m", StepKind::Llm, None, EffectClass::Keyed),
            admitted(3, "m", 1, Some("big"), facts()),
            event(4, retrying),
            admitted(5, "m", 2, Some("small"), facts()),
            settled(6, "m", StepKind::Llm, 40),
            requested(7, "t", StepKind::Tool, Some("http.fetch"), EffectClass::Idempotent),
            admitted(8, "t", 1, None, AdmissionFacts { host: Some("example.com".to_owned()), ..facts() }),
            settled(9, "t", StepKind::Tool, 0),
            requested(10, "old", StepKind::Tool, Some("http.fetch"), EffectClass::Idempotent),
            admitted(11, "old", 1, None, facts()),
            settled(12, "old", StepKind::Tool, 0),
            requested(13, "c", StepKind::Child, Some("clerk"), EffectClass::Keyed),
            admitted(14, "c", 1, None, facts()),
            settled(15, "c", StepKind::Child, 60),
        ]
    }

    #[test]
    fn what_is_forbidden_is_summed_to_the_micro_dollar() {
        for (text, blocked, saved) in [
            ("", 0, 0),
            (r#"forbid(principal, action == Action::"call_model", resource == Model::"lab/big");"#, 1, 7),
            (r#"forbid(principal, action == Action::"call_model", resource == Model::"lab/small");"#, 1, 40),
            (r#"forbid(principal, action == Action::"spend", resource);"#, 2, 47),
            (r#"forbid(principal, action == Action::"reach_out", resource);"#, 1, 0),
            (r#"forbid(principal, action == Action::"call_tool", resource);"#, 2, 0),
            (r#"forbid(principal, action == Action::"call_agent", resource);"#, 1, 0),
            (r#"forbid(principal == Agent::"clerk", action, resource);"#, 0, 0),
            ("forbid(principal, action, resource);", 5, 47),
        ] {
            let got = sums(text, &a_run());
            assert_eq!((got.blocked, got.saved), (blocked, saved), "{text}");
            assert_eq!((got.asked, got.spent, got.runs, got.events), (5, 47, 1, 14), "{text}");
            assert_eq!(got.blocked_runs, u64::from(blocked > 0));
            let calls_agents =
                text.contains("call_agent") || text.contains("action, resource);") && blocked == 5;
            assert_eq!(got.children, if calls_agents { 60 } else { 0 }, "{text}");
            assert_eq!(got.unknown_hosts, 1, "one of them does not say where it went");
            assert_eq!(got.blocks.iter().map(|block| block.cost).sum::<i64>(), saved, "{text}");
            let by = got.by.get("policy0").map_or((0, 0), |by| (by.blocked, by.saved));
            assert_eq!(by, (blocked, saved), "{text}");
        }
    }

    #[test]
    fn a_cap_stops_a_run_where_what_is_held_passes_it() {
        // Two calls that hold 100 each; the first cost 7, and the second, which begins at 7, cost 40.
        let spent = |n| AdmissionFacts { spent: MicroUsd::from_micros(n), ..AdmissionFacts::default() };
        let events = [
            requested(2, "m", StepKind::Llm, None, EffectClass::Keyed),
            admitted(3, "m", 1, Some("big"), spent(0)),
            settled(4, "m", StepKind::Llm, 7),
            requested(5, "n", StepKind::Llm, None, EffectClass::Keyed),
            admitted(6, "n", 1, Some("big"), spent(7)),
            settled(7, "n", StepKind::Llm, 40),
        ];
        for (cap, want) in [
            (None, (0, 0)),
            (Some(107), (0, 0)),
            (Some(106), (1, 40)),
            (Some(100), (1, 40)),
            (Some(99), (1, 47)),
        ] {
            let got = under("", &events, cap);
            assert_eq!((got.stopped, got.stopped_cost, got.blocked), (want.0, want.1, 0), "{cap:?}");
        }
    }

    #[test]
    fn what_was_forbidden_then_and_is_not_now_is_counted() {
        let (digest, facts) = (Digest::of(b""), AdmissionFacts::default());
        let grounds = lantern_types::Grounds {
            facts,
            route: None,
            tool: None,
            account: None,
            policy: digest,
            catalogue: digest,
            limits: digest,
        };
        let denied = Fact::StepDenied {
            step: StepId::new("t"),
            code: DENIED.to_owned(),
            reason: String::new(),
            grounds: Some(Box::new(grounds)),
        };
        let events =
            [requested(2, "t", StepKind::Tool, Some("pay"), EffectClass::Irreversible), event(3, denied)];
        assert_eq!(sums("", &events).freed, 1);
        assert_eq!(sums("forbid(principal, action, resource);", &events).freed, 0);
    }
}
