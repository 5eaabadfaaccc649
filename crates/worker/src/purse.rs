//! What one driver holds of the caps of its tenant and agent: one hold for each attempt that costs something.
//!
//! Invariant: an attempt is settled when its end is durable. What the driver lets go of before that, or never learns the end of,
//! counts at all that was held. A step that was taken over has no hold here: whoever died with it is charged for it.

use std::collections::HashMap;

use lantern_engine::{Event, Fact, StepId, ended};
use lantern_ledger::Hold;

/// The holds of the attempts that are under way.
#[derive(Default)]
pub(crate) struct Holds {
    open: HashMap<StepId, Hold>,
}

impl Holds {
    /// Takes in what became durable: `admitted` was held for what these events admit.
    pub(crate) fn heed(&mut self, events: &[Event], mut admitted: Vec<(StepId, Hold)>) {
        for event in events {
            if let Fact::StepAdmitted { step, .. } = &event.fact {
                if let Some(n) = admitted.iter().position(|(id, _)| id == step) {
                    let (id, mut hold) = admitted.swap_remove(n);
                    hold.sends();
                    self.open.insert(id, hold);
                }
            } else if let Some((step, bill)) = ended(&event.fact)
                && let Some(hold) = self.open.remove(step)
            {
                hold.settle(bill);
            }
        }
    }
}
