//! What a driver does about caps that ask: says what is asked, keeps its run for the answer, and says what came of it.
//!
//! Invariant: a question is in the journal before the run is let go to wait for it, and the run looks once more after that, because what
//! was answered in between wakes nobody. What a run is told of an answer is what the question's row says.

use lantern_engine::{Event, Input, Run, StepId};
use lantern_store::escrow::asks;
use lantern_types::approval::{CapAnswer, OverCap, Status};
use lantern_types::{At, Dur};

use super::{ASK_AGAIN, Driver, Ended, held, wait_for_the_store};

/// How often a step asks again whose run cannot be let go, because something of it is outside.
const MEANWHILE: Dur = Dur::from_secs(1);
/// The word for a question that the step needs no answer to any more.
const UNNEEDED: &str = "unneeded";

impl Driver<'_> {
    /// When time alone moves the run on, or lets it ask again.
    pub(super) fn next_due(&self, run: &Run) -> Option<At> {
        run.next_due().into_iter().chain(self.asks_until).min()
    }

    /// A step waits for people to answer this.
    pub(super) async fn ask(
        &mut self,
        step: &StepId,
        over: OverCap,
        events: &mut Vec<Event>,
    ) -> Result<(), Ended> {
        let asked = held(self.run.as_ref())?.step(step).and_then(|step| step.over_cap.as_ref());
        let again = asked.is_some_and(|asked| asked.id() == over.id());
        self.asks_until = Some(self.asks_until.map_or(over.ends_at, |until| until.min(over.ends_at)));
        let now = self.deps.clock.now();
        if again {
            if !self.outside.is_empty() {
                self.ask_at = Some(self.ask_at.map_or(now + MEANWHILE, |at| at.min(now + MEANWHILE)));
            }
            return Ok(());
        }
        while !self.hear(step, events).await? {}
        self.ask_at = Some(now + ASK_AGAIN);
        self.decide(Input::AskCap { step: step.clone(), over }, events)
    }

    /// Says what came of the question that a step waited for, if it did. `false` when the store had to be waited for before it could tell: what
    /// was decided by then is old, and what was held for it may be somebody else's.
    pub(super) async fn hear(&mut self, step: &StepId, events: &mut Vec<Event>) -> Result<bool, Ended> {
        let asked = held(self.run.as_ref())?.step(step).and_then(|step| step.over_cap.as_ref());
        let Some((id, ends_at)) = asked.map(|asked| (asked.id(), asked.ends_at)) else { return Ok(true) };
        let read = self.deps.db.read(self.scope, move |tx| Box::pin(asks::answer(tx, id)));
        let answer = match read.await {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => {
                wait_for_the_store(self.deps, self.stopping, error).await?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let answer = answer.unwrap_or_else(|| unanswered(ends_at, self.deps.clock.now()));
        self.decide(Input::CapAnswered { step: step.clone(), answer }, events).map(|()| true)
    }
}

/// What became of a question that nobody answered.
fn unanswered(ends_at: At, now: At) -> CapAnswer {
    let status = if ends_at <= now { Status::Expired.as_str() } else { UNNEEDED };
    CapAnswer { status: status.to_owned(), by: String::new(), more: None }
}
