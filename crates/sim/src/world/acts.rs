//! What happens in a world: each [`Kind`] of step, and whom its dice choose.

use lantern_engine::{Arrival, Input, Run, StepId, StepKind, StepState, questions, taken_up};
use lantern_types::{Dur, EffectKey, Failure};
use serde_json::json;

use super::World;
use super::drive::{Death, Load};
use crate::check::{Checked, Violation};
use crate::generate::SIGNALS;
use crate::op::{Kind, Op};
use crate::outside::model::dearest;
use crate::outside::{Back, Parcel};
use crate::rng::Rng;

/// Done, or nothing to do.
type Acted = Result<bool, Violation>;

impl World {
    pub(super) fn act(&mut self, op: Op) -> Acted {
        let rng = &mut op.rng();
        match op.kind {
            Kind::Deliver => self.deliver(rng, false),
            Kind::Duplicate => self.deliver(rng, true),
            Kind::Drop => Ok(self.drop_result(rng)),
            Kind::Batch => self.batch(rng),
            Kind::Inbox => self.inbox(rng),
            Kind::Wake => self.wake(rng),
            Kind::Errand => self.some_errand(rng, false),
            Kind::ErrandTwice => self.some_errand(rng, true),
            Kind::Crash => self.crash(rng),
            Kind::Kill => self.kill(rng),
            Kind::Drain => self.drain(rng),
            Kind::Recover => self.recover(rng),
            Kind::Cancel => Ok(self.order(rng, |_| Arrival::Cancel { by: "ada".to_owned(), reason: None })),
            Kind::Pause => Ok(self.order(rng, |_| Arrival::Pause { by: "ada".to_owned() })),
            Kind::Resume => Ok(self.order(rng, |_| Arrival::Resume { by: "ada".to_owned() })),
            Kind::Signal => {
                let row = self.rows;
                Ok(self.order(rng, |rng| keyed(signal(rng.one_of(&SIGNALS, "go"), row), rng)))
            }
            Kind::Decide => Ok(self.decide_some(rng)),
            Kind::Resolve => Ok(self.resolve_some(rng)),
            Kind::Tick => Ok(self.pass(Dur::from_millis(rng.within(1, 5_000)))),
            Kind::Due => Ok(self.pass_to_due()),
            Kind::Leap => Ok(self.pass(Dur::from_secs(rng.within(3_600, 200_000)))),
            Kind::Dear => self.dear(rng),
        }
    }

    /// A run that a worker holds.
    fn held(&self, rng: &mut Rng) -> Option<usize> {
        let held: Vec<usize> = (0..self.slots.len()).filter(|n| self.is_held(*n)).collect();
        rng.pick(&held).copied()
    }

    fn is_held(&self, n: usize) -> bool {
        self.slots.get(n).is_some_and(|slot| slot.held)
    }

    /// Takes a result out of the post.
    fn parcel(&mut self, rng: &mut Rng) -> Option<Parcel> {
        let place = rng.place(self.post.len())?;
        let parcel = self.post.swap_remove(place);
        let about = about(&parcel);
        self.note(|| format!("result {about}"));
        Some(parcel)
    }

    fn deliver(&mut self, rng: &mut Rng, keep: bool) -> Acted {
        let Some(parcel) = self.parcel(rng) else { return Ok(false) };
        if keep {
            self.post.push(parcel.clone());
        }
        self.hand_over(parcel).map(|()| true)
    }

    /// A result reaches the run's worker. While there is none it is lost, as a dead process's results are.
    pub(super) fn hand_over(&mut self, parcel: Parcel) -> Checked {
        self.turn(parcel.slot, Load::of(parcel.input()), None)
    }

    /// A result is lost on its way. The worker's own patience cannot be: it ends with a result of its own.
    fn drop_result(&mut self, rng: &mut Rng) -> bool {
        let awaited = |parcel: &Parcel| {
            let flights = self.slots.get(parcel.slot).map(|slot| slot.flights.as_slice()).unwrap_or_default();
            flights.iter().any(|flight| flight.step == parcel.step && flight.generation == parcel.generation)
        };
        let places: Vec<usize> =
            self.post.iter().enumerate().filter(|(_, parcel)| awaited(parcel)).map(|(n, _)| n).collect();
        let Some(place) = rng.pick(&places).copied() else { return false };
        let about = about(&self.post.swap_remove(place));
        self.note(|| format!("result {about}, lost"));
        true
    }

    fn dear(&mut self, rng: &mut Rng) -> Acted {
        let models: Vec<usize> = (0..self.post.len())
            .filter(|n| {
                self.post.get(*n).is_some_and(|parcel| {
                    parcel.facts.is_some() && matches!(parcel.back, Back::Result(Ok(_)))
                })
            })
            .collect();
        let Some(place) = rng.pick(&models).copied() else { return Ok(false) };
        let mut parcel = self.post.swap_remove(place);
        if let (Back::Result(Ok(lantern_engine::Done::Reply { reply, .. })), Some(facts)) =
            (&mut parcel.back, &parcel.facts)
        {
            dearest(reply, facts);
        }
        let about = about(&parcel);
        self.note(|| format!("result {about}, as dear as it may be"));
        self.hand_over(parcel).map(|()| true)
    }

    fn batch(&mut self, rng: &mut Rng) -> Acted {
        let Some(parcel) = self.parcel(rng) else { return Ok(false) };
        let n = parcel.slot;
        let mut load = self.drained(n);
        load.inputs.push(parcel.input());
        let swap = rng.place(load.inputs.len()).unwrap_or(0);
        let last = load.inputs.len().saturating_sub(1);
        load.inputs.swap(swap, last);
        self.turn(n, load, None).map(|()| true)
    }

    /// All that lies in a run's inbox.
    pub(super) fn drained(&self, n: usize) -> Load {
        let rows = self.slots.get(n).map(|slot| slot.inbox.clone()).unwrap_or_default();
        let (rows, inputs) = rows.into_iter().map(|(row, arrival)| (row, Input::Arrived(arrival))).unzip();
        Load { inputs, rows, stopping: false }
    }

    fn inbox(&mut self, rng: &mut Rng) -> Acted {
        let full = |n: &usize| self.slots.get(*n).is_some_and(|slot| slot.held && !slot.inbox.is_empty());
        let full: Vec<usize> = (0..self.slots.len()).filter(full).collect();
        let Some(n) = rng.pick(&full).copied() else { return Ok(false) };
        let load = self.drained(n);
        self.name(n, &format!("takes {} from its inbox", load.rows.len()));
        self.turn(n, load, None).map(|()| true)
    }

    fn wake(&mut self, rng: &mut Rng) -> Acted {
        let Some(n) = self.held(rng) else { return Ok(false) };
        self.name(n, "wakes");
        self.turn(n, Load::of(Input::Wake), None).map(|()| true)
    }

    fn some_errand(&mut self, rng: &mut Rng, keep: bool) -> Acted {
        let all: Vec<(usize, usize)> = self
            .slots
            .iter()
            .enumerate()
            .flat_map(|(n, slot)| (0..slot.outbox.len()).map(move |m| (n, m)))
            .collect();
        let Some((n, place)) = rng.pick(&all).copied() else { return Ok(false) };
        self.name(n, "has an errand delivered");
        self.errand(n, place, keep)
    }

    fn crash(&mut self, rng: &mut Rng) -> Acted {
        let deaths = [Death::BeforeAppend, Death::AfterAppend, Death::AfterPerform];
        let death = rng.one_of(&deaths, Death::AfterAppend);
        let (n, load) = match rng.below(3) {
            0 => match self.parcel(rng) {
                Some(parcel) => (parcel.slot, Load::of(parcel.input())),
                None => return Ok(false),
            },
            kind => {
                let Some(n) = self.held(rng) else { return Ok(false) };
                let mail = self.drained(n);
                (n, if kind == 1 && !mail.rows.is_empty() { mail } else { Load::of(Input::Wake) })
            }
        };
        self.name(n, "has a turn that ends badly");
        self.turn(n, load, Some(death))?;
        self.lose_post(rng, |slot| slot == n);
        Ok(true)
    }

    fn kill(&mut self, rng: &mut Rng) -> Acted {
        self.note(|| "all workers die".to_owned());
        for n in 0..self.slots.len() {
            if self.is_held(n) {
                self.die(n)?;
            }
        }
        self.lose_post(rng, |_| true);
        Ok(true)
    }

    /// Most of what comes back to a dead worker is lost; some reaches the next one late.
    fn lose_post(&mut self, rng: &mut Rng, of: impl Fn(usize) -> bool) {
        self.post.retain(|parcel| !of(parcel.slot) || rng.chance(30));
    }

    fn drain(&mut self, rng: &mut Rng) -> Acted {
        let Some(n) = self.held(rng) else { return Ok(false) };
        let mut load = Load { stopping: true, ..self.drained(n) };
        load.inputs.push(Input::Wake);
        self.name(n, "has a worker that stops");
        self.turn(n, load, None)?;
        if self.slots.get(n).is_some_and(|slot| slot.flights.is_empty()) {
            self.die(n)?;
        }
        Ok(true)
    }

    fn recover(&mut self, rng: &mut Rng) -> Acted {
        let free: Vec<usize> = self.active().into_iter().filter(|n| !self.is_held(*n)).collect();
        let Some(n) = rng.pick(&free).copied() else { return Ok(false) };
        let mail = rng.chance(50);
        self.take_up(n, mail).map(|()| true)
    }

    /// A worker takes a run up that nobody holds; with `mail`, it looks into the inbox in the same turn.
    pub(super) fn take_up(&mut self, n: usize, mail: bool) -> Checked {
        let mut load = if mail { self.drained(n) } else { Load::default() };
        let Some(slot) = self.slots.get_mut(n) else { return Ok(()) };
        slot.held = true;
        let performing = slot.run.as_ref().is_some_and(Run::performing);
        self.name(n, if performing { "is recovered" } else { "is taken up" });
        let first = if performing { Input::Recovered } else { Input::Wake };
        load.inputs = taken_up(first, load.inputs);
        let asked = self.run(n).map(questions).unwrap_or_default();
        asked.iter().try_for_each(|effect| self.owe(n, effect))?;
        self.turn(n, load, None)
    }

    /// Somebody writes to a run; now and then twice.
    fn order(&mut self, rng: &mut Rng, arrival: impl FnOnce(&mut Rng) -> Arrival) -> bool {
        let active = self.active();
        let Some(n) = rng.pick(&active).copied() else { return false };
        let arrival = arrival(rng);
        self.name(n, &format!("is sent {arrival:?}"));
        if rng.chance(10) {
            self.put(n, arrival.clone());
        }
        self.put(n, arrival);
        true
    }

    fn decide_some(&mut self, rng: &mut Rng) -> bool {
        let asked = self.steps(asks);
        let (n, step) = match rng.pick(&asked).cloned() {
            Some(found) => found,
            // Early, late or mistaken.
            None if rng.chance(10) => match self.held(rng) {
                Some(n) => (n, StepId::new("s0")),
                None => return false,
            },
            None => return false,
        };
        let by = rng.one_of(&["ada", "ada", "ada", "bob"], "ada").to_owned();
        let decision = |granted| Arrival::Approval {
            step: step.clone(),
            granted,
            by: by.clone(),
            note: None,
            answer: None,
        };
        let granted = rng.chance(75);
        self.name(n, &format!("is sent {granted} on {step} by {by}"));
        self.put(n, decision(granted));
        if rng.chance(25) {
            self.put(n, decision(!granted));
        }
        true
    }

    fn resolve_some(&mut self, rng: &mut Rng) -> bool {
        let doubts =
            self.steps(|run, step| run.step(step).is_some_and(|step| step.state == StepState::InDoubt));
        let Some((n, step)) = rng.pick(&doubts).cloned() else { return false };
        let Some((run, generation)) = self.run(n).and_then(|run| Some((run.id, run.step(&step)?.generation)))
        else {
            return false;
        };
        // Whoever says that it did not happen has looked; that it did is said at times of what did not.
        let key = EffectKey { run, step: step.to_string(), generation };
        let happened = rng.chance(60) || self.outside.acted(&key);
        self.name(n, &format!("is told that {step} happened: {happened}"));
        if !happened {
            self.checks.absent(run, &step, generation);
        }
        self.put(n, resolution(step, happened, Some(generation)));
        true
    }

    /// The open steps of all runs that are as described.
    pub(super) fn steps(&self, wanted: impl Fn(&Run, &StepId) -> bool) -> Vec<(usize, StepId)> {
        let mut found = Vec::new();
        for n in self.active() {
            let Some(run) = self.run(n) else { continue };
            found.extend(
                run.open_steps().filter(|step| wanted(run, &step.id)).map(|step| (n, step.id.clone())),
            );
        }
        found
    }

    pub(super) fn pass(&mut self, dur: Dur) -> bool {
        self.now = self.now + dur;
        self.note(|| "time passes".to_owned());
        self.time_out();
        true
    }

    /// To the next thing that time brings about: a timer, or a worker's patience. `false` when there is none.
    pub(super) fn pass_to_due(&mut self) -> bool {
        let timers = self.active().into_iter().filter_map(|n| self.run(n)?.next_due());
        let flights = self.slots.iter().flat_map(|slot| slot.flights.iter().map(|flight| flight.until));
        let Some(due) = timers.chain(flights).filter(|due| *due > self.now).min() else { return false };
        self.pass(due.since(self.now))
    }

    /// Workers stop waiting for what took too long. The true result may still come.
    fn time_out(&mut self) {
        let now = self.now;
        for (n, slot) in self.slots.iter_mut().enumerate() {
            for flight in slot.flights.extract_if(.., |flight| flight.until <= now) {
                let back = Back::Result(Err(Failure::unknown("timeout", "no result in time")));
                let (step, generation) = (flight.step, flight.generation);
                self.post.push(Parcel { slot: n, step, generation, back, facts: None });
            }
        }
    }

    pub(super) fn name(&mut self, n: usize, what: &str) {
        let name = self.slots.get(n).map(|slot| slot.name.clone()).unwrap_or_default();
        self.note(|| format!("{name} {what}"));
    }
}

fn about(parcel: &Parcel) -> String {
    let said = match &parcel.back {
        Back::Result(Ok(_)) => "ok".to_owned(),
        Back::Result(Err(failure)) => format!("{} (acted: {:?})", failure.code, failure.acted),
        Back::Answer(finding) => format!("found {finding:?}"),
    };
    format!("for slot {} {} generation {}: {said}", parcel.slot, parcel.step, parcel.generation)
}

/// Whether a person is asked about the step.
pub(super) fn asks(run: &Run, step: &StepId) -> bool {
    run.step(step).is_some_and(|step| match step.state {
        StepState::AwaitingApproval { .. } => true,
        StepState::Waiting { .. } => step.kind == StepKind::Approval,
        _ => false,
    })
}

/// A signal whose value nobody else sends.
pub(super) fn signal(name: &str, nth: u64) -> Arrival {
    Arrival::Signal { name: name.to_owned(), value: json!({ "nth": nth }), key: None }
}

/// Now and then a sender names a key, which somebody may have used before.
fn keyed(mut arrival: Arrival, rng: &mut Rng) -> Arrival {
    if let Arrival::Signal { key, .. } = &mut arrival {
        *key = rng.chance(50).then(|| format!("key-{}", rng.below(4)));
    }
    arrival
}

pub(super) fn resolution(step: StepId, happened: bool, generation: Option<u32>) -> Arrival {
    Arrival::Resolution { step, happened, output: json!("found out"), by: "ada".to_owned(), generation }
}
