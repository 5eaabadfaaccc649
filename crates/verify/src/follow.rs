//! The events of a run, one by one: whether each may stand where it stands, and what it does to the money.
//!
//! Written from the meaning of the events and not from the engine's fold, so that what the engine misreads makes the two
//! disagree. What was said is not in a receipt, and nor is the agent's manifest: what only they decide (what a step is asked,
//! how long a retry waits) is taken as it is.

mod admit;
mod attempt;
mod metered;
mod over_cap;
mod ruled;
mod totals;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use lantern_cedar::Policies;
use lantern_engine::{Outcome, StepKind};
use lantern_policy::Known;
use lantern_receipts::Payload;
use lantern_types::{Acted, Digest, MicroUsd, RunId};

use crate::envelope::{Envelope, Parent};
use crate::money::{self, Rules};
use crate::step::{Stand, Step};
use crate::{Fault, compact};

/// How much was derived again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Events that were followed.
    pub events: u64,
    /// Admissions whose hold and route follow from their facts, by the same rules.
    pub admissions: u64,
    /// Admissions under the rules of another build: that they stay within the cap is all that was checked.
    pub bounded: u64,
    /// Replies whose cost follows from their usage.
    pub bills: u64,
    /// Steps of which it was recorded what the policies of the tenant said, and that this fits what became of them.
    pub ruled: u64,
    /// Of these, those whose policies were given, and say the same again.
    pub reasked: u64,
    /// Of the admissions, those whose model follows from what it was chosen from.
    pub choices: u64,
    /// Denials that follow from their grounds.
    pub denials: u64,
    /// Denials whose grounds were not recorded, or not by what this build knows: that they stand in their order is all that was
    /// checked.
    pub untold: u64,
}

/// A broken rule: its name, and how.
type Broken = (&'static str, String);
type Checked<T = ()> = Result<T, Broken>;

fn broken<T>(rule: &'static str, words: impl Into<String>) -> Checked<T> {
    Err((rule, words.into()))
}

fn demand(holds: bool, rule: &'static str, words: impl std::fmt::Display) -> Checked {
    if holds { Ok(()) } else { Err((rule, words.to_string())) }
}

/// Follows the events, and compares where they lead with what the payload says.
pub(crate) fn follow<'a>(
    payload: &Payload,
    events: impl Iterator<Item = &'a str>,
    given: &[Arc<Policies>],
) -> Result<Derived, Fault> {
    let mut run = Follow { given: given.into(), ..Follow::new(payload.run_id) };
    for (line, seq) in events.zip(1_u64..) {
        let fault = |(rule, words)| Fault { event: Some(seq), rule, words };
        demand(compact::is(line), "bytes", "it is not in its one byte form").map_err(fault)?;
        let event = Envelope::read(line).map_err(|error| {
            let words = format!("it cannot be read at byte {}; a newer build may know it", error.column());
            fault(("form", words))
        })?;
        run.take(&event, seq).map_err(fault)?;
    }
    run.compare(payload).map_err(|(rule, words)| Fault { event: None, rule, words })?;
    Ok(run.derived)
}

/// What the first event says.
struct Start {
    manifest: Option<Digest>,
    catalogue: Option<Digest>,
    limits: Option<Digest>,
    cap: MicroUsd,
    depth: u32,
    continues: bool,
    forks: bool,
}

struct Follow {
    rules: Rules,
    run: RunId,
    last_rules: Option<(Digest, Option<Known>)>,
    start: Option<Start>,
    steps: Vec<Step>,
    index: HashMap<String, usize>,
    /// How many are not over.
    open: usize,
    owing: usize,
    /// How often each tool was called.
    calls: HashMap<String, u32>,
    signals: HashMap<String, u32>,
    spent: MicroUsd,
    held: MicroUsd,
    unconfirmed: MicroUsd,
    tokens: (u64, u64),
    paused: bool,
    halted: Option<String>,
    cancelled: bool,
    blocked: bool,
    ending: Option<(Outcome, Option<String>)>,
    over: Option<(Outcome, Option<String>, i64)>,
    first_work: Option<i64>,
    policies: BTreeSet<Digest>,
    models: BTreeSet<String>,
    /// Which model calls of a program were told.
    metered: BTreeSet<String>,
    /// The agent's name, as policies were told.
    agent: Option<String>,
    /// Policies whose text is given.
    given: Arc<[Arc<Policies>]>,
    derived: Derived,
}

impl Follow {
    fn new(run: RunId) -> Self {
        Self {
            rules: Rules::of_this_build(),
            run,
            last_rules: None,
            start: None,
            steps: Vec::new(),
            index: HashMap::new(),
            open: 0,
            owing: 0,
            calls: HashMap::new(),
            signals: HashMap::new(),
            spent: MicroUsd::ZERO,
            held: MicroUsd::ZERO,
            unconfirmed: MicroUsd::ZERO,
            tokens: (0, 0),
            paused: false,
            halted: None,
            cancelled: false,
            blocked: false,
            ending: None,
            over: None,
            first_work: None,
            policies: BTreeSet::new(),
            models: BTreeSet::new(),
            metered: BTreeSet::new(),
            agent: None,
            given: Arc::new([]),
            derived: Derived::default(),
        }
    }

    fn take(&mut self, event: &Envelope<'_>, seq: u64) -> Checked {
        demand(event.seq == seq, "sequence", format_args!("it is numbered {}", event.seq))?;
        demand(self.over.is_none(), "end", "the run was over")?;
        let kind = &*event.name_of_kind.0;
        demand((kind == "RunStarted") == (seq == 1), "start", "a run starts with its first event, once")?;
        if seq > 1 {
            self.first_work.get_or_insert(event.at);
        }
        let ending = self.ending.is_some() && !matches!(kind, "StepCharged" | "Finished");
        demand(!ending, "end", "a run that ends waits for what its children spent, and for nothing else")?;
        match kind {
            "RunStarted" => self.started(event)?,
            "StepRequested" => self.requested(event)?,
            "StepAdmitted" => self.admitted(event)?,
            "StepDenied" => self.denied(event)?,
            "StepSettled" => self.settled(event)?,
            "StepReused" => self.reused(event)?,
            "StepFailed" => self.failed(event)?,
            "StepRetrying" => self.retrying(event)?,
            "StepReadmitted" => self.readmitted(event)?,
            "StepReissued" => self.reissued(event)?,
            "StepInDoubt" => self.in_doubt(event)?,
            "StepResolved" => {
                let step = self.standing(event, &[Stand::InDoubt])?;
                let happened = event.happened.unwrap_or_default();
                self.step(step)?.stand = Stand::Resolved(happened);
            }
            "StepAbandoned" => self.abandoned(event)?,
            "StepCharged" => self.charged(event)?,
            "ApprovalAsked" => self.asked(event)?,
            "ApprovalGranted" | "ApprovalDenied" => self.decided(event, kind == "ApprovalGranted")?,
            "CapAsked" | "CapAnswered" => self.over_cap(event, kind == "CapAsked")?,
            "SignalReceived" => {
                let Some(name) = &event.name else { return broken("form", "a signal has a name") };
                *self.signals.entry(name.0.clone().into_owned()).or_default() += 1;
            }
            "CallMetered" => self.metered(event)?,
            "CancelRequested" => self.cancelled = true,
            "Paused" => {
                demand(!self.paused, "pause", "it was paused")?;
                self.paused = true;
            }
            "Resumed" => {
                demand(self.paused, "pause", "it was not paused")?;
                self.paused = false;
            }
            "Halted" => self.halted = event.stop.as_ref().map(|stop| stop.0.clone().into_owned()),
            "StopLifted" => {
                let lifted = event.stop.as_ref().map(|stop| stop.0.as_ref());
                demand(self.halted.as_deref() == lifted && lifted.is_some(), "stop", "no such stop held it")?;
                self.halted = None;
            }
            "ProgressBlocked" => self.blocked = true,
            "ContinuedAsNew" => {}
            "RunEnding" => {
                let Some(outcome) = event.outcome else { return broken("form", "a run ends somehow") };
                self.may_end(event, outcome)?;
                demand(self.owing > 0, "end", "nothing is owed that it could wait for")?;
                self.ending = Some((outcome, code(event)));
            }
            "Finished" => self.finished(event)?,
            _ => return broken("form", "its kind is not known; a newer build may know it"),
        }
        self.derived.events += 1;
        let cap = self.start.as_ref().map_or(MicroUsd::ZERO, |start| start.cap);
        demand(self.spent <= cap, "cap", format_args!("{} are spent of {cap}", self.spent))
    }

    fn started(&mut self, event: &Envelope<'_>) -> Checked {
        let cap = event.cap.unwrap_or_default();
        demand(cap >= MicroUsd::ZERO, "cap", "a cap is not negative")?;
        self.policies.extend(event.policy);
        self.start = Some(Start {
            manifest: event.manifest,
            catalogue: event.catalogue,
            limits: event.limits,
            cap,
            depth: event.depth.unwrap_or_default(),
            continues: event.continues.is_some(),
            forks: event.forks.is_some(),
        });
        Ok(())
    }

    fn requested(&mut self, event: &Envelope<'_>) -> Checked {
        let (Some(id), Some(kind), Some(effect)) = (&event.step, event.kind, event.effect) else {
            return broken("form", "a step has a name, a kind and a class");
        };
        demand(!self.held_back(), "held back", "nothing is asked for while the run is paused or halted")?;
        demand(!self.index.contains_key(&*id.0), "step", "a step is asked for once")?;
        let keyed = matches!(kind, StepKind::Llm | StepKind::Child);
        let class = if keyed {
            effect == lantern_types::EffectClass::Keyed
        } else {
            kind == StepKind::Tool || effect == lantern_types::EffectClass::Pure
        };
        demand(class, "class", "its kind has another class")?;
        let parent = match &event.parent {
            Some(Parent::Step(parent)) => match self.index.get(&*parent.0) {
                Some(parent) => Some(*parent),
                None => return broken("step", "it belongs to a step that is not there"),
            },
            Some(Parent::Run(_)) => return broken("form", "a step belongs to a step"),
            None => None,
        };
        let stand = match kind {
            StepKind::Llm | StepKind::Tool | StepKind::Child => Stand::Requested,
            _ => Stand::Waiting,
        };
        if let Some(parent) = parent.and_then(|parent| self.steps.get_mut(parent)) {
            parent.inside += 1;
        }
        self.index.insert(id.0.clone().into_owned(), self.steps.len());
        self.open += 1;
        self.steps.push(Step {
            kind,
            name: event.name.as_ref().map(|name| name.0.clone().into_owned()),
            effect,
            approval: event.approval,
            over_cap: false,
            due: event.due,
            stand,
            generation: 1,
            attempt: 0,
            resent: false,
            tried: Vec::new(),
            grant: None,
            owing: false,
            inside: 0,
            parent,
        });
        Ok(())
    }

    /// How many steps that cost money wait for their admission.
    fn asking(&self) -> usize {
        let costs = self.steps.iter().filter(|step| matches!(step.kind, StepKind::Child | StepKind::Llm));
        costs.filter(|step| matches!(step.stand, Stand::Requested | Stand::Granted)).count()
    }

    /// Counts the first attempt of a tool as one call of it.
    fn called(&mut self, n: usize, first: bool) -> Checked {
        let step = self.step(n)?;
        if let Some(name) = step.name.clone().filter(|_| first && step.kind == StepKind::Tool) {
            *self.calls.entry(name).or_default() += 1;
        }
        Ok(())
    }

    fn settled(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.find(event)?;
        self.same_attempt(event, n)?;
        let signals = &mut self.signals;
        let Some(step) = self.steps.get(n) else { return broken("step", "there is no such step") };
        demand(event.claimed.is_none() || step.kind == StepKind::Llm, "bill", "only a model claims a cost")?;
        let stands = |stand: bool| demand(stand, "order", format_args!("it stood at {:?}", step.stand));
        match step.kind {
            StepKind::Llm => {
                stands(step.stand == Stand::Performing)?;
                let Some(grant) = &step.grant else { return broken("bill", "nothing was granted for it") };
                let used = (event.tokens_in, event.tokens_out);
                if let Some(words) = money::reply(grant, used, event.cost, event.claimed) {
                    return broken("bill", words);
                }
                let provider = grant.route.as_ref().map(|route| route.provider.as_str());
                let answered = event.provider.as_ref().map(|provider| &*provider.0);
                demand(provider == answered, "route", "another provider answered than was granted")?;
                self.derived.bills += 1;
                let model = event.model.as_ref().map_or("", |model| &*model.0);
                self.models.insert(format!("{}/{model}", answered.unwrap_or_default()));
            }
            StepKind::Tool => {
                stands(matches!(step.stand, Stand::Performing | Stand::Resolved(true)))?;
                demand(event.cost.is_zero(), "bill", "a tool costs nothing")?;
            }
            StepKind::Child => {
                stands(step.stand == Stand::Waiting)?;
                demand(event.cost <= step.hold(), "bill", "a child spends no more than it was held for")?;
            }
            StepKind::Sleep => {
                stands(step.stand == Stand::Waiting && step.due.is_some_and(|due| due <= event.at))?;
            }
            StepKind::Signal => {
                stands(step.stand == Stand::Waiting)?;
                let waiting =
                    step.name.as_ref().and_then(|name| signals.get_mut(name)).filter(|count| **count > 0);
                let Some(count) = waiting else { return broken("signal", "no such signal came") };
                *count -= 1;
            }
            StepKind::Approval => stands(step.stand == Stand::Granted)?,
            StepKind::Map | StepKind::Race => stands(step.stand == Stand::Waiting && step.inside == 0)?,
        }
        let costs = matches!(step.kind, StepKind::Llm | StepKind::Child);
        demand(costs || event.cost.is_zero(), "bill", "its kind costs nothing")?;
        demand(!event.owing && event.unconfirmed.is_zero(), "bill", "what is settled is known")?;
        self.close(n, event)
    }

    fn reused(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.standing(event, &[Stand::Requested, Stand::Waiting])?;
        let forks = self.start.as_ref().is_some_and(|start| start.forks);
        demand(forks, "fork", "the run is no fork, so there is nothing to reuse")?;
        demand(self.steps.get(n).is_some_and(|step| step.attempt == 0), "fork", "it was tried")?;
        self.step(n)?.attempt = 1;
        self.called(n, true)?;
        self.close(n, event)
    }

    fn failed(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.find(event)?;
        self.same_attempt(event, n)?;
        let Some(step) = self.steps.get(n) else { return broken("step", "there is no such step") };
        demand(event.owing == (step.would_owe() && event.owing), "bill", "only a child can owe")?;
        if event.owing {
            demand(event.tells_by.is_some_and(|by| by >= event.at), "bill", "it says by when it tells")?;
        }
        demand(
            event.cost <= step.hold(),
            "bill",
            format_args!("it cost {} and {} was held", event.cost, step.hold()),
        )?;
        let known = event.acted != Some(Acted::Unknown);
        let fits = event.unconfirmed.is_zero() || (!known && event.unconfirmed == step.hold());
        demand(fits, "bill", "what may have been billed is what was held, when nobody knows")?;
        // A refusal after a send that may have acted speaks for itself alone; a child that failed told what it spent.
        let must = !known && !step.resent && step.kind != StepKind::Child;
        demand(!must || event.unconfirmed == step.hold(), "bill", "what may have been billed stays held")?;
        self.close(n, event)
    }

    fn abandoned(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.find(event)?;
        let Some(step) = self.steps.get(n).filter(|step| step.is_open()) else {
            return broken("order", "it was over");
        };
        demand(
            event.owing == step.would_owe(),
            "bill",
            "a child that was started owes what it spent, and nothing else does",
        )?;
        let may = step.may_have_acted() == Acted::Unknown && !event.owing;
        let unconfirmed = if may { step.hold() } else { MicroUsd::ZERO };
        demand(event.unconfirmed == unconfirmed, "bill", format_args!("{unconfirmed} may have been billed"))?;
        demand(event.cost.is_zero(), "bill", "what is dropped is not charged")?;
        self.close(n, event)
    }

    fn charged(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.find(event)?;
        let step = self.step(n)?;
        demand(step.owing, "order", "it owes nothing")?;
        let hold = step.hold();
        let told = event.unconfirmed.is_zero() && event.cost <= hold;
        let untold = event.cost.is_zero() && event.unconfirmed == hold;
        demand(told || untold, "bill", format_args!("{hold} was held for it"))?;
        (step.owing, step.grant) = (false, None);
        self.owing -= 1;
        self.spent = plus(self.spent, event.cost)?;
        self.let_go(hold, event.unconfirmed)
    }

    fn asked(&mut self, event: &Envelope<'_>) -> Checked {
        let n = self.standing(event, &[Stand::Requested, Stand::Waiting])?;
        let step = self.step(n)?;
        demand(step.approval || step.kind == StepKind::Approval, "approval", "it asks nobody")?;
        step.stand = Stand::Asking;
        step.due = event.due;
        Ok(())
    }

    fn decided(&mut self, event: &Envelope<'_>, granted: bool) -> Checked {
        let n = self.standing(event, &[Stand::Asking])?;
        let by = event.by.as_ref().is_some_and(|by| !by.0.is_empty());
        let step = self.step(n)?;
        demand(
            by || granted || step.due.is_some_and(|due| due <= event.at),
            "approval",
            "the question had not lapsed",
        )?;
        step.stand = if granted { Stand::Granted } else { Stand::Refused };
        Ok(())
    }

    fn finished(&mut self, event: &Envelope<'_>) -> Checked {
        let Some(outcome) = event.outcome else { return broken("form", "a run ends somehow") };
        match &self.ending {
            Some(ending) => {
                demand(*ending == (outcome, code(event)), "end", "it was to end in another way")?;
            }
            None => self.may_end(event, outcome)?,
        }
        demand(self.owing == 0, "end", "a child has not told what it spent")?;
        demand(self.held == self.unconfirmed, "ledger", format_args!("{} are still held", self.held))?;
        self.over = Some((outcome, code(event), event.at));
        Ok(())
    }

    fn may_end(&self, event: &Envelope<'_>, outcome: Outcome) -> Checked {
        demand(self.open == 0, "end", format_args!("{} steps are not over", self.open))?;
        demand(
            (outcome == Outcome::Failed) == event.code.is_some(),
            "end",
            "a failure has a code, and nothing else has",
        )?;
        demand(outcome != Outcome::Cancelled || self.cancelled, "end", "nobody asked for that")?;
        demand(!self.blocked || outcome == Outcome::Failed, "end", "it was going round in circles")
    }

    /// Ends a step: its cost is booked, and its hold let go of unless a child has yet to tell.
    fn close(&mut self, n: usize, event: &Envelope<'_>) -> Checked {
        self.used(event)?;
        self.spent = plus(self.spent, event.cost)?;
        let (hold, parent) = {
            let step = self.step(n)?;
            demand(step.is_open(), "order", "it was over")?;
            step.stand = Stand::Final;
            step.owing = event.owing;
            let hold = if event.owing { MicroUsd::ZERO } else { step.hold() };
            if !event.owing {
                step.grant = None;
            }
            (hold, step.parent)
        };
        self.open -= 1;
        self.owing += usize::from(event.owing);
        if let Some(parent) = parent.and_then(|parent| self.steps.get_mut(parent)) {
            parent.inside = parent.inside.saturating_sub(1);
        }
        self.let_go(hold, event.unconfirmed)
    }

    fn let_go(&mut self, hold: MicroUsd, unconfirmed: MicroUsd) -> Checked {
        demand(
            unconfirmed >= MicroUsd::ZERO && unconfirmed <= hold,
            "ledger",
            "more may be billed than was held",
        )?;
        let free = minus(hold, unconfirmed)?;
        self.unconfirmed = plus(self.unconfirmed, unconfirmed)?;
        self.held = minus(self.held, free)?;
        demand(self.held >= self.unconfirmed, "ledger", "more was let go of than was held")
    }

    fn used(&mut self, event: &Envelope<'_>) -> Checked {
        demand(event.cost >= MicroUsd::ZERO, "ledger", "a cost is not negative")?;
        let (tokens_in, tokens_out) = self.tokens;
        self.tokens =
            (tokens_in.saturating_add(event.tokens_in), tokens_out.saturating_add(event.tokens_out));
        Ok(())
    }

    const fn held_back(&self) -> bool {
        self.paused || self.halted.is_some()
    }

    fn find(&self, event: &Envelope<'_>) -> Checked<usize> {
        let found = event.step.as_ref().and_then(|step| self.index.get(&*step.0));
        found.copied().ok_or_else(|| ("step", "there is no such step".to_owned()))
    }

    fn step(&mut self, n: usize) -> Checked<&mut Step> {
        self.steps.get_mut(n).ok_or_else(|| ("step", "there is no such step".to_owned()))
    }

    fn standing(&self, event: &Envelope<'_>, at: &[Stand]) -> Checked<usize> {
        let n = self.find(event)?;
        let stand = self.steps.get(n).map(|step| step.stand);
        demand(
            stand.is_some_and(|stand| at.contains(&stand)),
            "order",
            format_args!("it stood at {stand:?}"),
        )?;
        Ok(n)
    }

    fn same_attempt(&self, event: &Envelope<'_>, n: usize) -> Checked {
        let Some(step) = self.steps.get(n) else { return broken("step", "there is no such step") };
        demand(step.is_open(), "order", "it was over")?;
        demand(event.kind == Some(step.kind), "step", "it is of another kind")?;
        demand(
            event.generation == Some(step.generation),
            "generation",
            format_args!("its generation is {}", step.generation),
        )?;
        demand(
            event.attempt == Some(step.attempt),
            "attempt",
            format_args!("{} attempts were made", step.attempt),
        )
    }
}

fn code(event: &Envelope<'_>) -> Option<String> {
    event.code.as_ref().map(|code| code.0.clone().into_owned())
}

fn plus(a: MicroUsd, b: MicroUsd) -> Checked<MicroUsd> {
    a.plus(b).map_err(|_| ("ledger", "an amount is out of range".to_owned()))
}

fn minus(a: MicroUsd, b: MicroUsd) -> Checked<MicroUsd> {
    a.minus(b).map_err(|_| ("ledger", "an amount is out of range".to_owned()))
}
