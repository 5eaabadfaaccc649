//! What one driver holds of the caps of its tenant and agent: one hold for each attempt that costs something.
//!
//! Invariant: an attempt is settled when its end is durable. What the driver lets go of before that, or never learns the end of,
//! counts at all that was held. A step that was taken over has no hold here: whoever died with it is charged for it.

use std::collections::HashMap;

use lantern_engine::{Event, Fact, StepId};
use lantern_ledger::{Bill, Hold};

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

/// Which attempt a fact ends, and what it came to.
fn ended(fact: &Fact) -> Option<(&StepId, Bill)> {
    match fact {
        Fact::StepSettled { step, cost, tokens_in, tokens_out, .. } => {
            let (tokens_in, tokens_out) = (*tokens_in, *tokens_out);
            Some((step, Bill { cost: *cost, tokens_in, tokens_out, ..Bill::default() }))
        }
        Fact::StepFailed { step, cost, unconfirmed, tokens_in, tokens_out, .. }
        | Fact::StepRetrying { step, cost, unconfirmed, tokens_in, tokens_out, .. } => {
            let (tokens_in, tokens_out) = (*tokens_in, *tokens_out);
            Some((step, Bill { cost: *cost, unconfirmed: *unconfirmed, tokens_in, tokens_out }))
        }
        Fact::StepAbandoned { step, cost, unconfirmed, .. } => {
            Some((step, Bill { cost: *cost, unconfirmed: *unconfirmed, ..Bill::default() }))
        }
        _ => None,
    }
}
