//! A world: runs, a clock, the post between runs and the outside, and everyone who may interfere.
//!
//! Invariant: after each [`World::apply`] every checker has looked at whatever became durable or was sent. The world
//! decides what happens, never what is right.

mod acts;
mod admit;
mod calm;
mod drive;
mod errand;
mod slot;

use std::collections::BTreeMap;

use lantern_engine::{Arrival, Run, child_run};
use lantern_types::{At, DEV_TENANT, RunId};

use crate::check::{Checked, Checks, Violation};
use crate::coverage::Coverage;
use crate::generate::{self, Setting};
use crate::op::Op;
use crate::outside::{Outside, Parcel};
use crate::rng::Rng;

use slot::{Birth, Slot};

/// When every world begins: some day in 2026.
const DAWN: At = At::from_micros(1_790_000_000_000_000);

/// The most runs of one world: a family that would grow further is told that there is no room.
const RUNS_MAX: usize = 24;

/// A world.
#[derive(Debug)]
pub struct World {
    setting: Setting,
    now: At,
    slots: Vec<Slot>,
    places: BTreeMap<RunId, usize>,
    outside: Outside,
    /// Results on their way.
    post: Vec<Parcel>,
    rows: u64,
    checks: Checks,
    /// What was met.
    pub coverage: Coverage,
    /// What happened, one line each.
    pub trace: Vec<String>,
}

impl World {
    /// The world of a seed, with its first runs queued.
    pub fn new(seed: u64) -> Result<Self, Violation> {
        let mut rng = Rng::of(seed, "world");
        let setting =
            generate::setting(&mut rng).map_err(|detail| Violation { rule: "generator", detail })?;
        let mut world = Self {
            setting,
            now: DAWN,
            slots: Vec::new(),
            places: BTreeMap::new(),
            outside: Outside::new(seed),
            post: Vec::new(),
            rows: 0,
            checks: Checks::default(),
            coverage: Coverage::default(),
            trace: Vec::new(),
        };
        for n in 1..=rng.within(1, 4) {
            world.root(&mut rng, n)?;
        }
        Ok(world)
    }

    fn root(&mut self, rng: &mut Rng, n: u64) -> Checked {
        let Some(agent) = rng.pick(&self.setting.agents).cloned() else { return Ok(()) };
        let base = RunId::from_uuid(DEV_TENANT.uuid());
        let id = child_run(base, &lantern_engine::StepId::new(format!("root-{n}")), 1);
        let cap = generate::cap(rng);
        let birth = Birth {
            id,
            name: format!("run-{n}"),
            cap,
            parent: None,
            continues: None,
            carried: None,
            depth: 0,
        };
        match self.begin(birth, &agent.manifest, agent.input)? {
            // Steps that one of this world's tight limits does not allow are refused before they run.
            Ok(()) | Err(("steps_invalid", _)) => Ok(()),
            Err((code, message)) => {
                Err(Violation { rule: "generator", detail: format!("{code}: {message}") })
            }
        }
    }

    /// Lets one thing happen. `false` when there was nothing for it to happen to.
    pub fn apply(&mut self, op: Op) -> Result<bool, Violation> {
        let done = self.act(op)?;
        for slot in &self.slots {
            self.checks.inbox(slot.id, &slot.rows())?;
        }
        if done {
            self.coverage.op(op.kind);
        }
        Ok(done)
    }

    /// Counts how every run ended, and refolds each journal once more.
    pub fn close(&mut self) -> Checked {
        for slot in &self.slots {
            self.checks.refolded(&slot.refold()?, &slot.journal)?;
            if let Some(run) = &slot.run {
                self.coverage.end(run);
            }
        }
        self.checks.closed()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let line = format!("{:>10.3}s {}", seconds(self.now.since(DAWN)), what());
        self.trace.push(line);
    }

    fn run(&self, n: usize) -> Option<&Run> {
        self.slots.get(n)?.run.as_ref()
    }

    /// The runs that are not over.
    fn active(&self) -> Vec<usize> {
        let active = |slot: &Slot| slot.run.as_ref().is_some_and(|run| !run.status().is_final());
        self.slots.iter().enumerate().filter(|(_, slot)| active(slot)).map(|(n, _)| n).collect()
    }

    /// Puts something into a run's inbox, unless the run is over.
    fn put(&mut self, n: usize, arrival: Arrival) {
        let over = self.run(n).is_none_or(|run| run.status().is_final());
        let Some(slot) = self.slots.get_mut(n).filter(|_| !over) else { return };
        self.rows += 1;
        self.checks.put(slot.id, self.rows, &arrival);
        slot.inbox.push((self.rows, arrival));
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to people only")]
fn seconds(dur: lantern_types::Dur) -> f64 {
    dur.micros() as f64 / 1e6
}
