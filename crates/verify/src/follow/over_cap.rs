//! Questions whether a cap of the tenant or the agent may be passed.
//!
//! The caps themselves are not in a receipt; what is checked is that no step was admitted while one was open.

use super::{Checked, Follow, demand};
use crate::envelope::Envelope;
use crate::step::Stand;

impl Follow {
    /// Whether a cap may be passed is asked of a step that waits for its admission, and answered before that.
    pub(super) fn over_cap(&mut self, event: &Envelope<'_>, asks: bool) -> Checked {
        let n = self.standing(event, &[Stand::Requested, Stand::Granted])?;
        let said = if asks { event.over.is_some() } else { event.answer.is_some() };
        demand(said, "form", "a question about a cap says what is asked, and its answer what was said")?;
        let step = self.step(n)?;
        demand(step.over_cap != asks, "cap", "a question about a cap is asked, and then answered")?;
        step.over_cap = asks;
        Ok(())
    }
}
