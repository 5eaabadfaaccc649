//! The checkers' own account of a run: what its durable events say, folded a second time.
//!
//! Total and without rules, like the engine's fold, but written from the meaning of the events. It shares no code
//! with the engine, so an event that the engine forgets or misreads makes the two disagree.

use std::collections::BTreeMap;
use std::sync::Arc;

use lantern_engine::{Content, Event, Fact, Outcome, ProgramKind, StepId, StepKind, Work};
use lantern_types::{Acted, AdmissionFacts, At, Digest, EffectClass, MicroUsd, Price, RunId};
use serde_json::Value;

use super::micros;

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A person was asked whether it may be performed.
    Asking,
    /// Waits for admission.
    Requested,
    /// Outside.
    Performing,
    /// A wait, a child, a map or a race.
    Waiting,
    /// Between attempts; `fresh` when the next one is admitted anew.
    Backoff { due: At, fresh: bool },
    /// Nobody knows.
    Doubt,
    /// Somebody found out.
    Resolved(bool),
    /// Done.
    Settled,
    /// Failed, denied included.
    Failed,
    /// Dropped.
    Abandoned,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: StepId,
    pub(crate) kind: StepKind,
    pub(crate) parent: Option<StepId>,
    pub(crate) name: Option<String>,
    pub(crate) work: Option<Work>,
    pub(crate) effect: EffectClass,
    pub(crate) request: Digest,
    pub(crate) needs_approval: bool,
    /// When the question to a person lapses, once it is asked.
    pub(crate) asked: Option<At>,
    pub(crate) decided: Option<bool>,
    pub(crate) mark: Mark,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
    /// Attempts that failed and were to be made again, crashes apart.
    pub(crate) failures: u32,
    /// How often it was admitted.
    pub(crate) grants: usize,
    pub(crate) hold: Option<MicroUsd>,
    pub(crate) price: Option<Price>,
    pub(crate) facts: Option<AdmissionFacts>,
    /// Whether an earlier send under the present generation may have acted.
    pub(crate) unsure: bool,
    /// What happened to the attempt that it was last in doubt about.
    pub(crate) doubt: Option<String>,
    /// What it was charged in the end.
    pub(crate) cost: MicroUsd,
    /// What each try before the last was charged.
    pub(crate) tries: Vec<MicroUsd>,
    /// What it may have cost besides.
    pub(crate) doubtful: MicroUsd,
    pub(crate) output: Option<Digest>,
    pub(crate) value: Option<Arc<Value>>,
    /// How many tool calls its reply made, and whether it broke its schema.
    pub(crate) calls: usize,
    pub(crate) breaks_schema: bool,
    /// By when its child has to tell what it spent.
    pub(crate) tells_by: Option<At>,
    /// The event that ended it.
    pub(crate) ended: Option<u64>,
}

impl Entry {
    pub(crate) const fn open(&self) -> bool {
        !matches!(self.mark, Mark::Settled | Mark::Failed | Mark::Abandoned)
    }

    /// Whether something of it is, or may be, outside.
    pub(crate) fn may_have_acted(&self) -> bool {
        match self.mark {
            Mark::Performing | Mark::Doubt | Mark::Backoff { fresh: false, .. } => true,
            Mark::Waiting => self.kind == StepKind::Child,
            _ => false,
        }
    }
}

/// One run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) seq: u64,
    pub(crate) program: ProgramKind,
    pub(crate) cap: MicroUsd,
    pub(crate) deadline: Option<At>,
    pub(crate) paused: bool,
    pub(crate) cancelling: bool,
    /// How it will end, and by when, once its children have told what they spent.
    pub(crate) ending: Option<(Outcome, At)>,
    pub(crate) over: Option<Outcome>,
    pub(crate) spent: i128,
    /// What may have been billed for sends that broke off.
    pub(crate) unconfirmed: i128,
    /// Steps in order of request.
    pub(crate) steps: Vec<Entry>,
    places: BTreeMap<StepId, usize>,
    /// Values of signals by name, in order of receipt.
    pub(crate) signals: BTreeMap<String, Vec<Arc<Value>>>,
    /// How many of them settled a step.
    pub(crate) consumed: BTreeMap<String, usize>,
    /// Turns and calls of each tool in the runs that this one goes on from.
    pub(crate) carried_turns: u32,
    pub(crate) carried_calls: BTreeMap<String, u32>,
    /// The run that this one went on as.
    pub(crate) next: Option<RunId>,
}

impl Book {
    pub(crate) fn step(&self, id: &StepId) -> Option<&Entry> {
        self.steps.get(*self.places.get(id)?)
    }

    /// Whether it does nothing more, but for hearing what its children spent.
    pub(crate) const fn goes_no_further(&self) -> bool {
        self.over.is_some() || self.ending.is_some()
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &Entry> {
        self.steps.iter().filter(|step| step.open())
    }

    pub(crate) fn children<'a>(&'a self, id: &'a StepId) -> impl Iterator<Item = &'a Entry> {
        self.steps.iter().filter(move |step| step.parent.as_ref() == Some(id))
    }

    /// Model turns of this run and those that it goes on from.
    pub(crate) fn turns(&self) -> u32 {
        let here = self.steps.iter().filter(|step| step.kind == StepKind::Llm).count();
        u32::try_from(here).unwrap_or(u32::MAX).saturating_add(self.carried_turns)
    }

    /// Calls of a tool in this run and those that it goes on from. Attempts at one step are one call.
    pub(crate) fn calls(&self, tool: &str) -> u32 {
        let called = |step: &&Entry| {
            step.kind == StepKind::Tool && step.attempt > 0 && step.name.as_deref() == Some(tool)
        };
        let here = u32::try_from(self.steps.iter().filter(called).count()).unwrap_or(u32::MAX);
        here.saturating_add(self.carried_calls.get(tool).copied().unwrap_or(0))
    }

    /// The sum of what open steps hold, and of what is unconfirmed.
    pub(crate) fn held(&self) -> i128 {
        self.steps.iter().filter_map(|step| step.hold).map(micros).sum::<i128>() + self.unconfirmed
    }

    /// Of that, what comes back when its step ends.
    pub(crate) fn coming(&self) -> i128 {
        self.held() - self.unconfirmed
    }

    /// Takes the next event in.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.seq = event.seq;
        match &event.fact {
            Fact::RunStarted { program, cap, deadline, .. } => {
                (self.program, self.cap, self.deadline) = (*program, *cap, *deadline);
                if let Some(Content::Carried { carried, .. }) = &event.content {
                    (self.carried_turns, self.carried_calls) = (carried.turns, carried.calls.clone());
                }
            }
            Fact::StepRequested { .. } => self.request(event),
            Fact::SignalReceived { name, .. } => {
                let value = match &event.content {
                    Some(Content::Signal(value)) => value.clone(),
                    _ => Arc::default(),
                };
                self.signals.entry(name.clone()).or_default().push(value);
            }
            Fact::CancelRequested { .. } => self.cancelling = true,
            Fact::Paused { .. } => self.paused = true,
            Fact::Resumed { .. } => self.paused = false,
            Fact::CallMetered { cost, .. } => self.spent += micros(*cost),
            Fact::ProgressBlocked { .. } | Fact::Halted { .. } | Fact::StopLifted { .. } => {}
            Fact::ContinuedAsNew { run } => self.next = Some(*run),
            Fact::RunEnding { outcome, due, .. } => {
                self.ending = Some((*outcome, *due));
                self.paused = false;
            }
            Fact::Finished { outcome, .. } => self.over = Some(*outcome),
            fact => {
                let cost = charged(fact);
                self.spent += micros(cost);
                self.unconfirmed += micros(doubtful(fact));
                if let Some(step) = self.settles_signal(fact) {
                    *self.consumed.entry(step).or_default() += 1;
                }
                let place = fact.step().and_then(|id| self.places.get(id)).copied();
                if let Some(entry) = place.and_then(|n| self.steps.get_mut(n)) {
                    entry.cost = cost;
                    entry.doubtful = doubtful(fact);
                    advance(entry, event);
                }
            }
        }
    }

    /// The signal that this fact takes, if it settles a step that waits for one.
    fn settles_signal(&self, fact: &Fact) -> Option<String> {
        let Fact::StepSettled { step, kind: StepKind::Signal, .. } = fact else { return None };
        self.step(step)?.name.clone()
    }

    fn request(&mut self, event: &Event) {
        let Fact::StepRequested { step, kind, name, parent, effect, request, approval, .. } = &event.fact
        else {
            return;
        };
        let work = match &event.content {
            Some(Content::Work(work)) => Some(work.clone()),
            _ => None,
        };
        let acts = matches!(kind, StepKind::Llm | StepKind::Tool | StepKind::Child);
        self.places.insert(step.clone(), self.steps.len());
        self.steps.push(Entry {
            id: step.clone(),
            kind: *kind,
            parent: parent.clone(),
            name: name.clone(),
            work,
            effect: *effect,
            request: *request,
            needs_approval: *approval,
            asked: None,
            decided: None,
            mark: if acts { Mark::Requested } else { Mark::Waiting },
            generation: 1,
            attempt: 0,
            failures: 0,
            grants: 0,
            hold: None,
            price: None,
            facts: None,
            unsure: false,
            doubt: None,
            cost: MicroUsd::ZERO,
            doubtful: MicroUsd::ZERO,
            tries: Vec::new(),
            output: None,
            value: None,
            calls: 0,
            breaks_schema: false,
            tells_by: None,
            ended: None,
        });
    }
}

/// What a fact charges the run.
fn charged(fact: &Fact) -> MicroUsd {
    match fact {
        Fact::StepSettled { cost, .. }
        | Fact::StepFailed { cost, .. }
        | Fact::StepAbandoned { cost, .. }
        | Fact::StepRetrying { cost, .. }
        | Fact::StepCharged { cost, .. } => *cost,
        _ => MicroUsd::ZERO,
    }
}

/// What a fact says may have been spent, for all that is known.
fn doubtful(fact: &Fact) -> MicroUsd {
    match fact {
        Fact::StepFailed { unconfirmed, .. }
        | Fact::StepAbandoned { unconfirmed, .. }
        | Fact::StepRetrying { unconfirmed, .. }
        | Fact::StepCharged { unconfirmed, .. } => *unconfirmed,
        _ => MicroUsd::ZERO,
    }
}

/// The end of a step. What it holds is released, unless its child has yet to tell.
fn end(entry: &mut Entry, mark: Mark, seq: u64, owing: bool) {
    entry.mark = mark;
    entry.hold = entry.hold.filter(|_| owing);
    entry.ended = Some(seq);
}

fn advance(entry: &mut Entry, event: &Event) {
    match &event.fact {
        Fact::StepAdmitted { generation, attempt, grant, .. } => {
            entry.generation = *generation;
            entry.attempt = *attempt;
            entry.grants += 1;
            entry.hold = Some(grant.hold);
            entry.price = grant.route.as_ref().map(|route| route.price);
            entry.facts = Some(grant.facts.clone());
            entry.mark = if entry.kind == StepKind::Child { Mark::Waiting } else { Mark::Performing };
        }
        Fact::StepSettled { output, .. } => {
            entry.output = Some(*output);
            entry.value = match &event.content {
                Some(Content::Output(value)) => Some(value.clone()),
                _ => None,
            };
            if let Some(Content::Reply { reply, violations }) = &event.content {
                entry.calls = reply.tool_calls.len();
                entry.breaks_schema = !violations.is_empty();
            }
            end(entry, Mark::Settled, event.seq, false);
        }
        Fact::StepDenied { .. } => end(entry, Mark::Failed, event.seq, false),
        Fact::StepFailed { owing, tells_by, .. } => {
            end(entry, Mark::Failed, event.seq, *owing);
            entry.tells_by = *tells_by;
        }
        Fact::StepAbandoned { owing, tells_by, .. } => {
            end(entry, Mark::Abandoned, event.seq, *owing);
            entry.tells_by = *tells_by;
        }
        Fact::StepCharged { .. } => entry.hold = None,
        Fact::StepRetrying { generation, acted, due, crashed, readmit, .. } => {
            let grown = *generation != entry.generation;
            let fresh = grown || *readmit;
            entry.generation = *generation;
            entry.unsure = !grown && (entry.unsure || *acted == Acted::Unknown);
            entry.failures += u32::from(!crashed);
            entry.tries.push(entry.cost);
            entry.mark = Mark::Backoff { due: *due, fresh };
            if fresh {
                entry.hold = None;
            }
        }
        Fact::StepReadmitted { .. } => entry.mark = Mark::Requested,
        Fact::StepReissued { attempt, .. } => {
            entry.attempt = *attempt;
            entry.unsure = true;
            entry.mark = Mark::Performing;
        }
        Fact::StepInDoubt { code, .. } => {
            entry.doubt = Some(code.clone());
            entry.mark = Mark::Doubt;
        }
        Fact::StepResolved { happened, .. } => entry.mark = Mark::Resolved(*happened),
        Fact::ApprovalAsked { due, .. } => {
            entry.asked = Some(*due);
            if entry.kind != StepKind::Approval {
                entry.mark = Mark::Asking;
            }
        }
        Fact::ApprovalGranted { .. } => {
            entry.decided = Some(true);
            if entry.kind != StepKind::Approval {
                entry.mark = Mark::Requested;
            }
        }
        Fact::ApprovalDenied { .. } => entry.decided = Some(false),
        _ => {}
    }
}
