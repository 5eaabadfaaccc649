//! What runs owe to other runs: starts, cancellations, and the news of how a child ended. Delivered at least once.

use std::sync::Arc;

use lantern_engine::{Arrival, Context, Effect, Manifest, Outcome, Parent, Run, Start, StepId, start};
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
        match effect {
            Effect::Perform(_) => {}
            Effect::StartRun { run, step, agent, input, cap } => {
                self.start(n, run, step, agent, input, cap)?
            }
            Effect::CancelRun(child) => {
                // Errands are not ordered: the child's start may still lie in the outbox, and cancelling nothing
                // now would leave it to run later.
                let Some(to) = self.places.get(&child).copied() else {
                    let starts =
                        |effect: &Effect| matches!(effect, Effect::StartRun { run, .. } if *run == child);
                    let unborn = self.slots.get(n).is_some_and(|slot| slot.outbox.iter().any(starts));
                    return if unborn { Ok(false) } else { self.done(n, place) };
                };
                self.note(|| "  a child is cancelled".to_owned());
                self.checks.cancelled(child);
                self.put(to, Arrival::Cancel { by: "its parent".to_owned(), reason: None });
            }
            Effect::TellParent { run, arrival } => {
                if let Some(to) = self.places.get(&run).copied() {
                    self.note(|| "  a parent is told".to_owned());
                    self.put(to, *arrival);
                }
            }
        }
        if keep { Ok(true) } else { self.done(n, place) }
    }

    fn done(&mut self, n: usize, place: usize) -> Result<bool, Violation> {
        if let Some(slot) = self.slots.get_mut(n).filter(|slot| place < slot.outbox.len()) {
            slot.outbox.remove(place);
        }
        Ok(true)
    }

    fn start(
        &mut self,
        n: usize,
        id: RunId,
        step: Option<StepId>,
        agent: Option<String>,
        input: Value,
        cap: MicroUsd,
    ) -> Checked {
        let Some(slot) = self.slots.get(n) else { return Ok(()) };
        let parent = slot.id;
        let named = agent.as_ref().map(|name| self.setting.agents.iter().find(|agent| agent.name == *name));
        let manifest = match named {
            Some(found) => found.map(|agent| agent.manifest.clone()),
            None => Some(slot.manifest.clone()),
        };
        let depth = self.run(n).map_or(0, |run| run.depth) + u32::from(step.is_some());
        let name = step
            .as_ref()
            .map_or_else(|| format!("{}>next", slot.name), |step| format!("{}>{step}", slot.name));
        let begun = match manifest {
            None => Err(("agent_not_found", "there is no such agent".to_owned())),
            Some(_) if self.slots.len() >= RUNS_MAX => Err(("no_room", "too many runs".to_owned())),
            Some(manifest) => {
                let born = check::Birth { parent, step: step.clone(), cap };
                let parent = Some(Parent { run: parent, step: step.clone() });
                let begun = self.begin(Birth { id, name, cap, parent, depth }, &manifest, input)?;
                if begun.is_ok() {
                    self.checks.born(id, born)?;
                }
                begun
            }
        };
        if let (Err((code, message)), Some(step)) = (begun, step) {
            let output = json!({ "code": code, "message": message });
            let spent = MicroUsd::ZERO;
            self.put(n, Arrival::ChildFinished { step, outcome: Outcome::Failed, spent, output });
        }
        Ok(())
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
        let context = Context { at: self.now, limits: &setting.limits, tools: &setting.tools };
        let begin = Start {
            agent: AgentId::from_uuid(birth.id.uuid()),
            version: VersionId::from_uuid(birth.id.uuid()),
            manifest: manifest.digest(),
            input: Arc::new(input),
            parent: birth.parent,
            depth: birth.depth,
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
        decision.events.iter().for_each(|event| self.coverage.event(event));
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
