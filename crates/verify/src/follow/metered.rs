//! Model calls that a program in a box made by itself: what was held for each was there, each is told once, and no more is charged.

use lantern_types::MicroUsd;

use super::{Checked, Follow, broken, demand, plus};
use crate::envelope::Envelope;

impl Follow {
    pub(super) fn metered(&mut self, event: &Envelope<'_>) -> Checked {
        let Some(hold) = event.hold else { return broken("form", "a call has a hold") };
        let (provider, model) = (event.provider.as_ref(), event.model.as_ref());
        let Some((provider, model)) = provider.zip(model) else {
            return broken("form", "a call has a provider and a model");
        };
        let Some(call) = event.call.as_ref() else { return broken("form", "a call has a name") };
        demand(self.metered.insert(call.0.to_string()), "once", "the call was told before")?;
        demand(!event.lost || event.cost == hold, "bill", "a call that nobody heard of costs what was held")?;
        let fits = hold >= MicroUsd::ZERO && event.cost >= MicroUsd::ZERO && event.cost <= hold;
        demand(fits, "bill", format_args!("{hold} was held for it"))?;
        let cap = self.start.as_ref().map_or(MicroUsd::ZERO, |start| start.cap);
        let total = plus(plus(self.spent, self.held)?, hold)?;
        demand(total <= cap, "cap", format_args!("{total} of {cap} would have been spent"))?;
        self.models.insert(format!("{}/{}", provider.0, model.0));
        self.used(event)?;
        self.spent = plus(self.spent, event.cost)?;
        Ok(())
    }
}
