//! The worker's part in miniature: take, decide, admit, append, perform; and the moments at which it may die.

use lantern_engine::{Effect, Event, Input, Run, StepId, StepState, Work, decide, effects, llm_ask};
use lantern_engine::{offered_tools, timeout, wire};
use lantern_types::{EffectKey, Finding};
use serde_json::Value;

use super::slot::Flight;
use super::{World, admit};
use crate::check::{Checked, Commit, Send, Violation};
use crate::outside::{Ask, Back, Parcel};

/// When a worker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Having decided, with nothing durable.
    BeforeAppend,
    /// With the append durable, and nothing sent.
    AfterAppend,
    /// With everything sent, and no result seen.
    AfterPerform,
}

/// What a turn begins with.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) inputs: Vec<Input>,
    /// The inbox rows among them.
    pub(super) rows: Vec<u64>,
    /// Whether the worker is stopping, and admits nothing.
    pub(super) stopping: bool,
}

impl Load {
    pub(super) fn of(input: Input) -> Self {
        Self { inputs: vec![input], ..Self::default() }
    }
}

/// What a turn decided.
struct Turn {
    run: Run,
    events: Vec<Event>,
    causes: Vec<(Input, usize)>,
    rows: Vec<u64>,
    stopping: bool,
    /// Whether a step waits for what others hold.
    waits: bool,
}

impl World {
    /// One turn of a run's worker.
    pub(super) fn turn(&mut self, n: usize, load: Load, death: Option<Death>) -> Checked {
        let Some(slot) = self.slots.get_mut(n).filter(|slot| slot.held) else { return Ok(()) };
        let Some(run) = slot.run.take() else { return Ok(()) };
        for input in &load.inputs {
            if let Input::Performed { step, generation, .. } = input {
                slot.flights.retain(|f| (&f.step, f.generation) != (step, *generation));
            }
        }
        let turn = self.decide(run, load);
        if death == Some(Death::BeforeAppend) {
            self.note(|| "  the worker died before its append".to_owned());
            return self.die(n);
        }
        let events = self.commit(n, turn)?;
        if death == Some(Death::AfterAppend) {
            self.note(|| "  the worker died after its append, before it sent anything".to_owned());
            return self.die(n);
        }
        self.perform(n, &events)?;
        if death == Some(Death::AfterPerform) {
            self.note(|| "  the worker died with everything sent".to_owned());
            return self.die(n);
        }
        Ok(())
    }

    fn decide(&self, mut run: Run, load: Load) -> Turn {
        let setting = &self.setting;
        let context = setting.context(self.now);
        let (mut events, mut causes) = (Vec::new(), Vec::new());
        let mut give = |run: Run, input: Input| {
            let decision = decide(run, input.clone(), &context);
            causes.push((input, decision.events.len()));
            events.extend(decision.events);
            decision.run
        };
        for input in load.inputs {
            run = give(run, input);
        }
        let mut waiting = Vec::new();
        while let Some(step) = run.awaiting_admission_beside(&waiting).filter(|_| !load.stopping) {
            match admit::verdict(&run, step, setting) {
                Some(verdict) => run = give(run, verdict),
                None => waiting.push(step.id.clone()),
            }
        }
        Turn { run, events, causes, rows: load.rows, stopping: load.stopping, waits: !waiting.is_empty() }
    }

    /// Makes a turn durable: events, chain, inbox and outbox in one step.
    fn commit(&mut self, n: usize, turn: Turn) -> Result<Vec<Event>, Violation> {
        let Turn { run, events, causes, rows, stopping, waits } = turn;
        let Some(slot) = self.slots.get_mut(n) else { return Ok(events) };
        if !events.is_empty() {
            let unwritable = |error: lantern_engine::event::Unreadable| Violation {
                rule: "journal-writable",
                detail: error.to_string(),
            };
            slot.journal.append(&events).map_err(unwritable)?;
        }
        let owed = events.iter().flat_map(|event| effects(&run, event));
        slot.outbox
            .extend(owed.filter(|effect| !matches!(effect, Effect::Perform(_) | Effect::Reconcile(_))));
        slot.inbox.retain(|(row, _)| !rows.contains(row));
        let commit = Commit {
            run: slot.id,
            at: self.now,
            causes: &causes,
            append: slot.journal.appends().last().filter(|_| !events.is_empty()),
            live: &run,
            limits: &self.setting.limits,
            tools: &self.setting.tools,
            rows: &rows,
            stopping,
        };
        self.checks.commit(&commit)?;
        slot.run = Some(run);
        for event in &events {
            self.coverage.event(event);
        }
        self.coverage.waits(waits);
        let mut kinds: Vec<String> = events.iter().map(told).collect();
        kinds.extend(waits.then(|| "a step waits for what others hold".to_owned()));
        self.note(|| format!("  {}", if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") }));
        Ok(events)
    }

    /// Sends what the durable events ask for, unless a later event of the same append took it back.
    fn perform(&mut self, n: usize, events: &[Event]) -> Checked {
        let Some(run) = self.run(n) else { return Ok(()) };
        let owed: Vec<Effect> = events.iter().flat_map(|event| effects(run, event)).collect();
        owed.iter().try_for_each(|effect| self.owe(n, effect))
    }

    /// Does what is done by the worker itself, if it is still wanted.
    pub(super) fn owe(&mut self, n: usize, effect: &Effect) -> Checked {
        let stands = |id: &StepId, state: &StepState| {
            self.run(n).and_then(|run| run.step(id)).is_some_and(|step| step.state == *state)
        };
        match effect {
            Effect::Perform(step) if stands(step, &StepState::Performing) => self.send(n, step),
            Effect::Reconcile(step) if stands(step, &StepState::InDoubt) => self.ask(n, step),
            _ => Ok(()),
        }
    }

    /// Asks the outside about a step in doubt. The answer takes its time like any other.
    fn ask(&mut self, n: usize, id: &StepId) -> Checked {
        let Some(run) = self.run(n) else { return Ok(()) };
        let Some(step) = run.step(id).cloned() else { return Ok(()) };
        let Some(Work::Tool { name, arguments, .. }) = step.work else { return Ok(()) };
        let (run, generation) = (run.id, step.generation);
        self.checks.asked(run, id, step.effect)?;
        let key = EffectKey { run, step: id.to_string(), generation };
        let finding =
            self.outside.ask(&key, step.effect, &Ask::Tool { name, arguments: Value::clone(&arguments) });
        if finding == Some(Finding::DidNotHappen) {
            self.checks.absent(run, id, generation);
        }
        let back = Back::Answer(finding);
        self.post.push(Parcel { slot: n, step: id.clone(), generation, back, facts: None });
        Ok(())
    }

    fn send(&mut self, n: usize, id: &StepId) -> Checked {
        let Some(slot) = self.slots.get_mut(n) else { return Ok(()) };
        let Some((run, step)) = slot.run.as_ref().and_then(|run| Some((run, run.step(id)?))) else {
            return Ok(());
        };
        let Some(grant) = &step.grant else { return Ok(()) };
        let ask = match &step.work {
            Some(Work::Tool { name, arguments, .. }) => {
                Ask::Tool { name: name.clone(), arguments: Value::clone(arguments) }
            }
            _ => {
                let Some(ask) = llm_ask(run, step) else { return Ok(()) };
                let offered =
                    offered_tools(run, &self.setting.tools).iter().map(|tool| tool.name.wire()).collect();
                Ask::Model { ask, offered, facts: grant.facts.clone() }
            }
        };
        let limits = &self.setting.limits;
        let generation = step.generation;
        let key = EffectKey { run: run.id, step: id.to_string(), generation };
        let sent = self.outside.send(&key, step.effect, &ask);
        let send = Send {
            run: run.id,
            step: id,
            generation,
            effect: step.effect,
            refused: sent.refused,
            attempts_max: limits.attempts_per_step_max,
        };
        self.checks.sent(&send)?;
        let facts = matches!(ask, Ask::Model { .. }).then(|| grant.facts.clone());
        let until = self.now + timeout(run, step, limits);
        slot.flights.push(Flight { step: id.clone(), generation, until });
        let parcel = |result| Parcel {
            slot: n,
            step: id.clone(),
            generation,
            back: Back::Result(result),
            facts: facts.clone(),
        };
        self.post.extend(sent.results.into_iter().map(parcel));
        Ok(())
    }

    /// A worker dies. What comes back to it is lost, or reaches the next one late.
    pub(super) fn die(&mut self, n: usize) -> Checked {
        let Some(slot) = self.slots.get_mut(n) else { return Ok(()) };
        slot.die()?;
        match &slot.run {
            Some(run) => self.checks.refolded(run, &slot.journal),
            None => Ok(()),
        }
    }
}

/// An event in a trace: `step_admitted llm-1`.
fn told(event: &Event) -> String {
    let kind = wire::kind(&event.fact);
    event.fact.step().map_or_else(|| kind.to_owned(), |step| format!("{kind} {step}"))
}
