//! The end of a simulation: faults stop, people do their part, and every run has to come to an end.

use lantern_engine::{Arrival, Input, StepKind, StepState};

use super::World;
use super::acts::{asks, resolution, signal};
use super::drive::Load;
use crate::check::{Checked, Violation};

/// More than the longest run of any world needs by far.
const TURNS_MAX: usize = 20_000;

impl World {
    /// Lets every run end. Whoever waits for a person gets what it waits for; whoever waits for nothing is a fault.
    pub fn settle(&mut self) -> Checked {
        self.note(|| "faults stop".to_owned());
        self.outside.calm = true;
        for _ in 0..TURNS_MAX {
            if self.move_on()? {
                continue;
            }
            if self.active().is_empty() {
                return Ok(());
            }
            for n in self.active() {
                if let Some(slot) = self.slots.get(n).filter(|slot| slot.flights.is_empty())
                    && let Some(run) = &slot.run
                {
                    self.checks.at_rest(run)?;
                }
            }
            if !self.people_act() && !self.pass_to_due() {
                let left: Vec<&str> =
                    self.slots.iter().filter(|slot| is_open(slot)).map(|s| s.name.as_str()).collect();
                return Err(Violation { rule: "every-run-ends", detail: left.join(", ") });
            }
        }
        Err(Violation { rule: "every-run-ends", detail: format!("not within {TURNS_MAX} turns") })
    }

    /// One thing that needs neither time nor people. `false` when there is none.
    fn move_on(&mut self) -> Result<bool, Violation> {
        for n in self.active() {
            let Some(slot) = self.slots.get(n) else { continue };
            if !slot.held {
                return self.take_up(n, false).map(|()| true);
            }
            if !slot.inbox.is_empty() {
                let load = self.drained(n);
                self.name(n, "takes what lies in its inbox");
                return self.turn(n, load, None).map(|()| true);
            }
            let due = slot.run.as_ref().and_then(lantern_engine::Run::next_due);
            if due.is_some_and(|due| due <= self.now) {
                self.name(n, "wakes");
                return self.turn(n, Load::of(Input::Wake), None).map(|()| true);
            }
        }
        for n in 0..self.slots.len() {
            let owed = self.slots.get(n).map_or(0, |slot| slot.outbox.len());
            for place in 0..owed {
                if self.errand(n, place, false)? {
                    return Ok(true);
                }
            }
        }
        match self.post.pop() {
            Some(parcel) => self.hand_over(parcel).map(|()| true),
            None => Ok(false),
        }
    }

    /// Somebody does what runs wait for. `false` when they wait for nobody.
    fn people_act(&mut self) -> bool {
        let mut acted = false;
        for n in self.active() {
            if self.run(n).is_some_and(|run| run.paused) {
                self.put(n, Arrival::Resume { by: "ada".to_owned() });
                acted = true;
            }
        }
        for (n, step) in self.steps(asks) {
            self.put(
                n,
                Arrival::Approval { step, granted: true, by: "ada".to_owned(), note: None, answer: None },
            );
            acted = true;
        }
        for (n, step) in self.steps(|run, step| run.step(step).is_some_and(|s| s.state == StepState::InDoubt))
        {
            self.put(n, resolution(step, true, None));
            acted = true;
        }
        for (n, step) in self.steps(|run, step| run.step(step).is_some_and(|s| s.kind == StepKind::Signal)) {
            let name = self.run(n).and_then(|run| match &run.step(&step)?.work {
                Some(lantern_engine::Work::Signal { name }) => Some(name.clone()),
                _ => None,
            });
            let row = self.rows;
            self.put(n, signal(&name.unwrap_or_default(), row));
            acted = true;
        }
        if acted {
            self.note(|| "people do their part".to_owned());
        }
        acted
    }
}

fn is_open(slot: &super::Slot) -> bool {
    slot.run.as_ref().is_some_and(|run| !run.status().is_final())
}
