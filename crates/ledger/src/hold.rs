//! Money of one attempt of a step, from its admission to its end.
//!
//! Invariant: it is settled once, when it is dropped at the latest: at all that was held when the attempt may have been made, and
//! at nothing when it was not. What no slice was taken for is not counted here: the append that ends the attempt says what it was.

use std::sync::Arc;

use lantern_types::call::{Bill, StepSpent};
use lantern_types::{AccountFacts, AgentId, MicroUsd, Route};

use crate::purse::{Entry, Held, Purse};

/// Money that is held for one attempt of a step.
pub struct Hold {
    purse: Arc<Purse>,
    open: Option<(Held, StepSpent)>,
    sent: bool,
}

impl Hold {
    pub(crate) fn new(purse: Arc<Purse>, held: Held, agent: AgentId, route: &Route) -> Self {
        let spent = StepSpent {
            agent,
            provider: route.provider.clone(),
            model: route.model.clone(),
            calls: 1,
            cost: MicroUsd::ZERO,
            unconfirmed: MicroUsd::ZERO,
            tokens_in: 0,
            tokens_out: 0,
            late: false,
        };
        Self { purse, open: Some((held, spent)), sent: false }
    }

    /// Takes out the accounts whose caps let it pass.
    pub fn take_stood(&mut self) -> Vec<AccountFacts> {
        self.open.as_mut().map(|(held, _)| std::mem::take(&mut held.stood)).unwrap_or_default()
    }

    /// From now on the attempt may be made.
    pub const fn sends(&mut self) {
        self.sent = true;
    }

    /// The attempt is over.
    pub fn settle(mut self, bill: Bill) {
        self.close(bill);
    }

    fn close(&mut self, bill: Bill) {
        let Some((held, spent)) = self.open.take() else { return };
        let Bill { cost, unconfirmed, tokens_in, tokens_out } = bill;
        let calls = u64::from(self.sent);
        let spent = StepSpent { calls, cost, unconfirmed, tokens_in, tokens_out, ..spent };
        self.purse.settle(held, Entry::Step(spent));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = self.open.as_ref().map_or(MicroUsd::ZERO, |(held, _)| held.granted.hold());
        let unconfirmed = if self.sent { held } else { MicroUsd::ZERO };
        self.close(Bill { unconfirmed, ..Bill::default() });
    }
}
