//! What runs owe to other runs: starts, cancellations, and the news of how a child ended. Delivered at least once.

use std::sync::Arc;

use lantern_engine::{Arrival, Effect, Manifest, Outcome, Run, Start, StepId, child_run, start};
use lantern_types::{AgentId, MicroUsd, RunId, VersionId};
use serde_json::{Value, json};

use super::slot::{Birth, Slot};
use super::{RUNS_MAX, World};
use crate::check::{self, Checked, Violation};
use crate::journal::Journal;

/// Why a run may not start.
type Refusal = (&'static str, String);

impl World {
    /// Delivers what lies at `place` of a run's outbox; `keep` leaves it there, to be delivered again.
    /// `false` when it has to wait.
    pub(super) fn errand(&mut self, n: usize, place: usize, keep: bool) -> Result<bool, Violation> {
        let Some(effect) = self.slots.get(n).and_then(|slot| slot.outbox.get(place)).cloned() else {
            return Ok(false);
        };
        let delivered = match effect {
            Effect::Perform(_) | Effect::Reconcile(_) => true,
            Effect::StartRun { run, parent, continues, carried, step, agent, input, cap } => {
                let agent = self.agent_for(n, agent.as_deref());
                let birth = self.birth(n, run, step.as_ref(), cap);
                let birth = Birth { parent: Some(parent), continues, carried, ..birth };
                self.start(n, birth, step, agent, input)?;
                true
            }
            Effect::CancelRun(child) => self.cancel(n, child),
            Effect::TellParent { run, arrival } => self.tell(run, *arrival),
        };
        if let Some(slot) = self.slots.get_mut(n).filter(|_| delivered && !keep) {
            slot.outbox.remove(place);
        }
        Ok(delivered)
    }

    /// Errands are not ordered: while the child's start lies in the outbox, cancelling nothing would leave it to run
    /// later. A child that was refused needs no cancelling.
    fn cancel(&mut self, n: usize, child: RunId) -> bool {
        let Some(to) = self.places.get(&child).copied() else {
            let starts = |effect: &Effect| matches!(effect, Effect::StartRun { run, .. } if *run == child);
            return !self.slots.get(n).is_some_and(|slot| slot.outbox.iter().any(starts));
        };
        // An order to stop follows a run to the one that it went on as.
        if self.run(to).is_some_and(|run| run.continued) {
            self.checks.cancelled(child);
            return self.cancel(to, child_run(child, &StepId::new("continue"), 1));
        }
        self.note(|| "  a child is cancelled".to_owned());
        self.checks.cancelled(child);
        self.put(to, Arrival::Cancel { by: "its parent".to_owned(), reason: None });
        true
    }

    fn tell(&mut self, parent: RunId, arrival: Arrival) -> bool {
        if let Some(to) = self.places.get(&parent).copied() {
            self.note(|| "  a parent is told".to_owned());
            self.put(to, arrival);
        }
        true
    }

    /// The version that a child runs: the named agent's, or for a continuation its predecessor's own.
    fn agent_for(&self, n: usize, name: Option<&str>) -> Option<Arc<Manifest>> {
        match name {
            Some(name) => {
                let named = self.setting.agents.iter().find(|agent| agent.name == name);
                named.map(|agent| agent.manifest.clone())
            }
            None => self.slots.get(n).map(|slot| slot.manifest.clone()),
        }
    }

    fn birth(&self, n: usize, id: RunId, step: Option<&StepId>, cap: MicroUsd) -> Birth {
        let slot = self.slots.get(n);
        let above = slot.map_or("", |slot| slot.name.as_str());
        let name = format!("{above}>{}", step.map_or("next", StepId::as_str));
        let depth = self.run(n).map_or(0, |run| run.depth) + u32::from(step.is_some());
        Birth { id, name, cap, parent: None, continues: None, carried: None, depth }
    }

    /// Starts a child, or tells its parent why it cannot be started.
    fn start(
        &mut self,
        n: usize,
        birth: Birth,
        asked: Option<StepId>,
        agent: Option<Arc<Manifest>>,
        input: Value,
    ) -> Checked {
        let (id, cap, parent) = (birth.id, birth.cap, birth.parent.clone());
        let spent = birth.continues.map_or(MicroUsd::ZERO, |before| before.spent);
        let from = self.slots.get(n).map(|slot| slot.id);
        let begun = match agent {
            None => Err(("agent_not_found", "there is no such agent".to_owned())),
            Some(_) if self.slots.len() >= RUNS_MAX => Err(("no_room", "too many runs".to_owned())),
            Some(manifest) => self.begin(birth, &manifest, input)?,
        };
        let (Some(parent), Some(from)) = (parent, from) else { return Ok(()) };
        let generation = parent.generation;
        match (begun, parent.step) {
            (Ok(()), _) => self.checks.born(id, check::Birth { parent: from, step: asked, generation, cap }),
            (Err((code, message)), Some(step)) => {
                let output = json!({ "code": code, "message": message });
                let outcome = Outcome::Failed;
                let arrival = Arrival::ChildFinished { step, generation, outcome, spent, output };
                self.tell(parent.run, arrival);
                Ok(())
            }
            (Err(_), None) => Ok(()),
        }
    }

    /// Starts a run, once for each id, with a worker that holds it.
    pub(super) fn begin(
        &mut self,
        birth: Birth,
        manifest: &Arc<Manifest>,
        input: Value,
    ) -> Result<Result<(), Refusal>, Violation> {
        if self.places.contains_key(&birth.id) {
            return Ok(Ok(()));
        }
        let setting = &self.setting;
        let context = setting.context(self.now);
        let begin = Start {
            agent: AgentId::from_uuid(birth.id.uuid()),
            version: VersionId::from_uuid(birth.id.uuid()),
            manifest: manifest.digest(),
            input: Arc::new(input),
            parent: birth.parent,
            depth: birth.depth,
            continues: birth.continues,
            carried: birth.carried,
            recall: None,
            forks: None,
            trace: None,
            cap: birth.cap,
            policy: lantern_policy::digest(),
            catalogue: setting.catalogue.digest(),
        };
        let decision = match start(Run::new(birth.id, manifest.clone()), begin, &context) {
            Ok(decision) => decision,
            Err(refused) => return Ok(Err((refused.code, refused.message))),
        };
        let mut journal = Journal::default();
        let unwritable = |error: lantern_engine::event::Unreadable| error.to_string();
        let written = journal.append(&decision.events).map_err(unwritable);
        written.map_err(|detail| Violation { rule: "journal-writable", detail })?;
        for append in journal.appends() {
            self.checks.started(&decision.run, append)?;
        }
        for event in &decision.events {
            self.coverage.event(event);
        }
        self.note(|| format!("{} starts, cap {}", birth.name, birth.cap));
        self.places.insert(birth.id, self.slots.len());
        self.slots.push(Slot {
            id: birth.id,
            name: birth.name,
            manifest: manifest.clone(),
            journal,
            inbox: Vec::new(),
            outbox: Vec::new(),
            held: false,
            run: Some(decision.run),
            flights: Vec::new(),
        });
        Ok(Ok(()))
    }
}
