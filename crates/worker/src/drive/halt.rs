//! What a driver does about emergency stops: finds the one that refused an append, reads the run again, and asks whether one that
//! halts its run still holds.
//!
//! Invariant: only the append's guard decides whether a stop holds. What is asked here names the stop, and lets go of it.

use lantern_engine::{Event, Fact, Input, Run};
use lantern_store::stops::{self, Halt, StopRow};
use lantern_store::{Error, journal};

use super::{Driver, Ended, held, wait_for_the_store};
use crate::load::{self, Unloadable};

impl Driver<'_> {
    /// The stop that did not let an append be; `None` when none holds any more. `Lost` when it was something else.
    pub(super) async fn halted_by(&mut self, expected: i64) -> Result<Option<StopRow>, Ended> {
        let id = held(self.run.as_ref())?.id;
        loop {
            let found = async {
                let head = journal::head(&self.deps.db, self.scope, id).await?;
                let own = |head: &journal::RunRow| {
                    head.epoch == self.epoch && head.owner.is_some() && head.version == expected
                };
                let Some(head) = head.filter(own) else { return Err(Error::Conflict) };
                stops::holding(&self.deps.db, self.scope, head.agent_name).await
            };
            match found.await {
                Err(error) if error.is_transient() => {
                    wait_for_the_store(self.deps, self.stopping, error).await?;
                }
                found => return Ok(found?),
            }
        }
    }

    /// What the holder of a halted run must tell it: that its stop was lifted, or that another holds now.
    pub(super) async fn stop_of_a_halted_run(&mut self) -> Result<Option<Input>, Ended> {
        let run = held(self.run.as_ref())?;
        let Some(stop) = run.halted else { return Ok(None) };
        let expected = i64::try_from(run.seq).unwrap_or(i64::MAX);
        Ok(match self.halted_by(expected).await? {
            None => Some(Input::StopLifted { stop }),
            Some(other) if other.id == stop => None,
            Some(other) => Some(Input::Halt { stop: other.id, scope: other.scope, reason: other.reason }),
        })
    }

    /// Reads the run as its journal has it, after a decision that came to nothing.
    pub(super) async fn read_again(&mut self) -> Result<(), Ended> {
        let run = held(self.run.as_ref())?.id;
        loop {
            match load::as_it_stands(self.deps, self.scope, run).await {
                Ok(loaded) => {
                    self.chain = loaded.chain;
                    self.summary = loaded.summary;
                    self.tally = loaded.tally;
                    self.run = Some(loaded.run);
                    return Ok(());
                }
                Err(Unloadable::Store(error)) if error.is_transient() => {
                    wait_for_the_store(self.deps, self.stopping, error).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether an event lets something be sent that an emergency stop halts.
pub(super) fn admits(run: &Run, event: &Event) -> bool {
    match &event.fact {
        Fact::StepAdmitted { step, .. } | Fact::StepReissued { step, .. } => run.spends(step),
        _ => false,
    }
}

/// What these events say of the stop that halts their run.
pub(super) fn told(events: &[Event]) -> Option<Halt> {
    events.iter().rev().find_map(|event| match event.fact {
        Fact::Halted { stop, .. } => Some(Halt::By(stop)),
        Fact::StopLifted { .. } => Some(Halt::Over),
        _ => None,
    })
}
