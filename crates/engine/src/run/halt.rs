//! What holds a run back, and what an emergency stop halts.

use lantern_types::EffectClass;

use super::Run;
use crate::event::StepId;

impl Run {
    /// Whether it starts nothing new: it was told to pause, or an emergency stop holds it.
    pub const fn held_back(&self) -> bool {
        self.paused || self.halted.is_some()
    }
    /// Whether the step costs money or acts on something: what an emergency stop halts.
    pub fn spends(&self, step: &StepId) -> bool {
        self.step(step).is_some_and(|step| step.effect != EffectClass::Pure)
    }
}
