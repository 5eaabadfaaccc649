//! One run's place in a world: what is durable of it, and what only its worker knows.

use std::sync::Arc;

use lantern_engine::{Arrival, Effect, Manifest, Run, StepId};
use lantern_types::{At, MicroUsd, RunId};

use crate::check::Violation;
use crate::journal::Journal;

/// A send whose result a worker waits for.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) step: StepId,
    pub(super) generation: u32,
    /// When the worker stops waiting.
    pub(super) until: At,
}

/// A run.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: RunId,
    /// For people: `run-1`, `run-1>sub`.
    pub(super) name: String,
    pub(super) manifest: Arc<Manifest>,

    // Durable.
    pub(super) journal: Journal,
    pub(super) inbox: Vec<(u64, Arrival)>,
    pub(super) outbox: Vec<Effect>,

    // Gone when the worker dies.
    /// Whether a worker holds the run.
    pub(super) held: bool,
    /// The run in the worker's memory; while nobody holds it, the fold of its journal. `None` only during a turn.
    pub(super) run: Option<Run>,
    pub(super) flights: Vec<Flight>,
}

/// How a run begins.
pub(super) struct Birth {
    pub(super) id: RunId,
    pub(super) name: String,
    pub(super) cap: MicroUsd,
    pub(super) parent: Option<lantern_engine::Parent>,
    pub(super) continues: Option<lantern_engine::Continues>,
    pub(super) carried: Option<Arc<lantern_engine::Carried>>,
    pub(super) depth: u32,
}

impl Slot {
    /// The inbox's row numbers.
    pub(super) fn rows(&self) -> Vec<u64> {
        self.inbox.iter().map(|(row, _)| *row).collect()
    }

    /// The run as the next worker would fold it.
    pub(super) fn refold(&self) -> Result<Run, Violation> {
        let events = self.journal.read();
        let events =
            events.map_err(|error| Violation { rule: "journal-readable", detail: error.to_string() })?;
        Ok(Run::fold(self.id, self.manifest.clone(), &events))
    }

    /// The worker dies: only what is durable is left.
    pub(super) fn die(&mut self) -> Result<(), Violation> {
        self.held = false;
        self.flights.clear();
        self.run = Some(self.refold()?);
        Ok(())
    }
}
