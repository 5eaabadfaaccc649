//! Admissions and denials: what the run and its accounts had left, which model was chosen from what, and whether the rules say the
//! same of it again.

use lantern_cedar::steps::DENIED;
use lantern_engine::StepKind;
use lantern_policy::Known;
use lantern_policy::admit::{OVER_CAP, Purse};
use lantern_policy::escrow::{Account, Lack};
use lantern_types::{AccountFacts, AdmissionFacts, Digest, Grant, Grounds, MicroUsd, Payer};

use super::{Checked, Follow, broken, demand, plus};
use crate::choice::{self, Asked, Outcome};
use crate::envelope::Envelope;
use crate::money::Rules;
use crate::step::Stand;

/// How long after the choice of its model an admission may be decided, in microseconds: caps are asked in between.
const LATE: i64 = 60_000_000;

impl Follow {
    pub(super) fn admitted(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.standing(event, &[Stand::Requested, Stand::Granted])?;
        let Some(grant) = event.grant.clone() else { return broken("form", "an admission is a grant") };
        demand(!self.held_back(), "held back", "nothing is admitted while the run is paused or halted")?;
        self.in_its_order(event, n)?;
        let facts = &grant.facts;
        self.purse_is(facts)?;
        let total = self.spent.plus(self.held).and_then(|sum| sum.plus(grant.hold));
        let within = grant.hold >= MicroUsd::ZERO && total.is_ok_and(|total| total <= self.cap());
        demand(
            within || grant.hold.is_zero(),
            "cap",
            format_args!("its hold of {} passes the cap", grant.hold),
        )?;
        for account in &facts.accounts {
            let slice = account.slice.unwrap_or(MicroUsd::from_micros(-1));
            let from = stands(account, event.at)?;
            let covered = grant.hold <= slice && slice <= from.held;
            let within = from.spent.plus(from.held).is_ok_and(|total| total <= from.cap);
            demand(
                covered && within,
                "cap",
                format_args!("its hold of {} passes a cap of {}", grant.hold, from.cap),
            )?;
        }
        self.calls_are(n, facts)?;
        self.ruled(n, facts, (grant.route.as_ref(), grant.hold), (false, event.at))?;
        match self.known(grant.policy) {
            Some(known) => {
                self.follows(n, &grant, (known, event.at))?;
                self.derived.admissions += 1;
            }
            None => self.derived.bounded += 1,
        }
        self.held = plus(self.held, grant.hold)?;
        self.policies.insert(grant.policy);
        let (generation, attempt) = (event.generation.unwrap_or_default(), event.attempt.unwrap_or_default());
        let step = self.step(n)?;
        step.stand = if step.kind == StepKind::Child { Stand::Waiting } else { Stand::Performing };
        let first = step.attempt == 0;
        (step.generation, step.attempt, step.grant) = (generation, attempt, Some(grant));
        self.called(n, first)
    }

    pub(super) fn denied(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.standing(event, &[Stand::Requested, Stand::Granted])?;
        let code = event.code.as_ref().map(|code| code.0.clone()).unwrap_or_default();
        match &event.grounds {
            Some(grounds) => {
                self.purse_is(&grounds.facts)?;
                self.calls_are(n, &grounds.facts)?;
                let (facts, route) = (&grounds.facts, grounds.route.as_ref());
                let worst = route.and_then(|route| choice::worst(facts, route)).unwrap_or_default();
                self.ruled(n, facts, (route, worst), (code == DENIED, event.at))?;
                let derived = match self.known(grounds.policy) {
                    Some(Known::Same) => self.denies(n, &code, grounds, event.at)?,
                    _ => false,
                };
                self.derived.denials += u64::from(derived);
                self.derived.untold += u64::from(!derived);
            }
            None => {
                demand(code != DENIED, "policy", "it is denied by policies, and names none")?;
                self.derived.untold += 1;
            }
        }
        self.close(n, event)
    }

    /// Whether an admission comes when it may.
    fn in_its_order(&self, event: &Envelope<'_>, n: usize) -> Checked {
        let (Some(start), Some(step)) = (self.start.as_ref(), self.steps.get(n)) else {
            return broken("step", "there is no such step");
        };
        let approved = !step.approval || step.stand == Stand::Granted || step.attempt > 0;
        demand(approved, "approval", "nobody approved it")?;
        demand(!step.over_cap, "cap", "it waits for people to say whether a cap may be passed")?;
        let (generation, attempt) = (event.generation.unwrap_or_default(), event.attempt.unwrap_or_default());
        demand(
            generation == step.generation,
            "generation",
            format_args!("its generation is {}", step.generation),
        )?;
        demand(attempt == step.attempt + 1, "attempt", format_args!("{} attempts were made", step.attempt))?;
        if start.limits.is_some_and(|limits| self.rules.knows_limits(limits)) {
            demand(attempt <= self.rules.attempts_max(), "attempt", "no step is tried so often")?;
        }
        Ok(())
    }

    /// Whether the facts say what the events before come to.
    fn purse_is(&self, facts: &AdmissionFacts) -> Checked {
        demand(facts.cap == self.cap(), "facts", format_args!("the cap is {}", self.cap()))?;
        demand(facts.spent == self.spent, "facts", format_args!("{} were spent", self.spent))?;
        demand(facts.held == self.held, "facts", format_args!("{} were held", self.held))
    }

    fn calls_are(&self, n: usize, facts: &AdmissionFacts) -> Checked {
        let Some(step) = self.steps.get(n).filter(|step| step.kind == StepKind::Tool) else { return Ok(()) };
        let before = step.name.as_ref().and_then(|name| self.calls.get(name)).copied().unwrap_or_default();
        let before = before.saturating_sub(u32::from(step.attempt > 0));
        let continues = self.start.as_ref().is_some_and(|start| start.continues);
        let counted = if continues { facts.calls >= before } else { facts.calls == before };
        demand(counted, "facts", format_args!("the tool was called {before} times before"))
    }

    /// Whether a grant follows from its facts by rules that are known.
    fn follows(&mut self, n: usize, grant: &Grant, (known, at): (Known, i64)) -> Checked {
        let Some(step) = self.steps.get(n) else { return broken("step", "there is no such step") };
        // Only children share what is left, and a run has few.
        let asking = if step.kind == StepKind::Child { self.asking() } else { 1 };
        if let Some(words) =
            self.rules.admission(step.kind, grant, self.unconfirmed, (known, self.depth(), asking))
        {
            return broken("hold", words);
        }
        if let Some(words) = self.rules.route(grant) {
            return broken("route", words);
        }
        let choice = grant.facts.choice.as_deref().filter(|_| known == Known::Same);
        let Some(choice) = choice else { return Ok(()) };
        demand(step.kind == StepKind::Llm, "form", "only a model is chosen")?;
        let first = choice.ways.iter().find(|way| way.out.is_none());
        let told = first.map(|way| (&*way.provider, &*way.model, way.key));
        let went = grant.route.as_ref().map(|route| (&*route.provider, &*route.model, route.key));
        demand(told == went, "route", "its route is not the first that was not left out")?;
        match self.choose(n, &grant.facts, (grant.catalogue, grant.limits), at)? {
            None => Ok(()),
            Some(Outcome::Goes(route)) => {
                demand(
                    grant.route.as_ref() == Some(&route),
                    "route",
                    "another route follows from what it was chosen from",
                )?;
                self.derived.choices += 1;
                Ok(())
            }
            Some(Outcome::Denied(denial, _)) => {
                broken("route", format!("the rules deny it ({})", denial.code))
            }
        }
    }

    /// Whether a denial follows from its grounds; `false` when they do not have all that it takes.
    fn denies(&self, n: usize, code: &str, grounds: &Grounds, at: i64) -> Checked<bool> {
        let Some(step) = self.steps.get(n) else { return broken("step", "there is no such step") };
        let purse = self.purse();
        let same = |again: Option<&str>| {
            let words =
                format_args!("the rules do not deny it for that: {}", again.unwrap_or("they admit it"));
            demand(again == Some(code), "denial", words)
        };
        match step.kind {
            // What was too long by other limits is not known.
            StepKind::Llm if code == "prompt_too_large" && !self.rules.knows_limits(grounds.limits) => {
                return Ok(false);
            }
            StepKind::Llm => {
                let rules = (grounds.catalogue, grounds.limits);
                match self.choose(n, &grounds.facts, rules, at)? {
                    None => return Ok(false),
                    Some(Outcome::Goes(_)) => same(None)?,
                    Some(Outcome::Denied(denial, route)) => {
                        same(Some(&denial.code))?;
                        demand(grounds.route == route, "denial", "it is the denial of another route")?;
                    }
                }
                if code == OVER_CAP {
                    let hold = grounds.route.as_ref().and_then(|route| choice::worst(&grounds.facts, route));
                    let short = grounds.account.as_ref().zip(hold);
                    let Some((account, hold)) = short else { return broken("denial", "it names no cap") };
                    let lack = stands(account, at)?.lack(hold);
                    demand(lack == Lack::Spent, "denial", "the cap leaves so much")?;
                }
            }
            // That the policies say so was looked at already; what is left is that nothing else denies it first.
            StepKind::Tool | StepKind::Child if code == DENIED => {
                let again = match (step.kind, grounds.tool) {
                    (StepKind::Tool, Some(tool)) => Rules::denies_tool(purse, tool, grounds),
                    (StepKind::Child, _) if self.rules.knows_limits(grounds.limits) => {
                        self.rules.denies_child(purse, (self.depth(), self.asking()), grounds)
                    }
                    _ => return Ok(false),
                };
                demand(again.is_none(), "denial", "the rules deny it for something else")?;
            }
            StepKind::Tool => {
                let Some(tool) = grounds.tool else { return Ok(false) };
                same(Rules::denies_tool(purse, tool, grounds).as_deref())?;
            }
            StepKind::Child => {
                if !self.rules.knows_limits(grounds.limits) {
                    return Ok(false);
                }
                same(self.rules.denies_child(purse, (self.depth(), self.asking()), grounds).as_deref())?;
            }
            _ => same(None)?,
        }
        Ok(true)
    }

    /// Makes a choice of a model again; `None` when it was recorded in part, or by what this build does not know.
    fn choose(
        &self,
        n: usize,
        facts: &AdmissionFacts,
        rules: (Digest, Digest),
        at: i64,
    ) -> Checked<Option<Outcome>> {
        let Some(step) = self.steps.get(n) else { return broken("step", "there is no such step") };
        let ways = facts.choice.iter().flat_map(|choice| &choice.ways);
        let open = ways.filter_map(|way| way.until).all(|until| until.micros() > at.saturating_sub(LATE));
        demand(open, "route", "a breaker was closed by then")?;
        let asked = Asked { facts, tried: &step.tried, run: self.run, purse: self.purse() };
        self.rules.choose(&asked, rules).map_err(|words| ("route", words))
    }

    fn purse(&self) -> Purse {
        Purse { cap: self.cap(), spent: self.spent, held: self.held, unconfirmed: self.unconfirmed }
    }

    fn cap(&self) -> MicroUsd {
        self.start.as_ref().map_or(MicroUsd::ZERO, |start| start.cap)
    }

    fn depth(&self) -> u32 {
        self.start.as_ref().map_or(0, |start| start.depth)
    }

    /// What is known of these rules. Runs rarely have more than one kind.
    fn known(&mut self, policy: Digest) -> Option<Known> {
        match self.last_rules {
            Some((last, known)) if last == policy => known,
            _ => {
                let known = lantern_policy::known(policy);
                self.last_rules = Some((policy, known));
                known
            }
        }
    }
}

/// An account as facts say it stood.
fn stands(account: &AccountFacts, at: i64) -> Checked<Account> {
    let AccountFacts { of, began, cap, spent, held, .. } = *account;
    demand(of != Payer::Key, "facts", "runs draw from no key's account")?;
    demand(began.micros() <= at, "facts", "the account's period had not begun")?;
    let sound = [cap, spent, held].iter().all(|amount| *amount >= MicroUsd::ZERO);
    demand(sound, "facts", "an amount of an account is not negative")?;
    Ok(Account { cap, spent, held })
}
