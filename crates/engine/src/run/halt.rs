//! What holds a run back, what an emergency stop halts, and which step waits to be let out.

use lantern_types::EffectClass;

use super::{Run, Step, StepState};
use crate::event::{StepId, StepKind};

impl Run {
    /// Whether it starts nothing new: it was told to pause, or an emergency stop holds it.
    pub const fn held_back(&self) -> bool {
        self.paused || self.halted.is_some()
    }
    /// Whether the step costs money or acts on something: what an emergency stop halts.
    pub fn spends(&self, step: &StepId) -> bool {
        self.step(step).is_some_and(|step| step.effect != EffectClass::Pure)
    }
    /// The first step that waits for its admission.
    pub fn awaiting_admission(&self) -> Option<&Step> {
        self.awaiting_admission_beside(&[])
    }
    /// The same, where these were asked about and wait for money that others hold. Whatever else costs money waits behind
    /// them, so that nobody who came later takes what they wait for; the rest does not.
    pub fn awaiting_admission_beside(&self, waiting: &[StepId]) -> Option<&Step> {
        if self.held_back() {
            return None;
        }
        let costs = |step: &Step| matches!(step.kind, StepKind::Llm | StepKind::Child);
        let behind = |step: &Step| !waiting.is_empty() && costs(step);
        self.open_steps().find(|step| step.state == StepState::Requested && !behind(step))
    }
}
