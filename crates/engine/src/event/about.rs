//! What can be told of a fact by its kind: the format that first has it, and the step that it is about.

use super::{Fact, StepId};

impl Fact {
    /// The first format that has this kind. Nothing is released yet, so all are of the first. After that, a kind that is not
    /// listed here, which does not compile, belongs to the format after that of the last release, and this becomes a `match`.
    pub const fn format(&self) -> i64 {
        let (Self::RunStarted { .. }
        | Self::StepRequested { .. }
        | Self::StepAdmitted { .. }
        | Self::StepDenied { .. }
        | Self::StepSettled { .. }
        | Self::StepReused { .. }
        | Self::StepFailed { .. }
        | Self::StepRetrying { .. }
        | Self::StepReadmitted { .. }
        | Self::StepReissued { .. }
        | Self::StepInDoubt { .. }
        | Self::StepResolved { .. }
        | Self::StepAbandoned { .. }
        | Self::StepCharged { .. }
        | Self::ApprovalAsked { .. }
        | Self::ApprovalGranted { .. }
        | Self::ApprovalDenied { .. }
        | Self::CapAsked { .. }
        | Self::CapAnswered { .. }
        | Self::SignalReceived { .. }
        | Self::CallMetered { .. }
        | Self::CancelRequested { .. }
        | Self::Paused { .. }
        | Self::Resumed { .. }
        | Self::Halted { .. }
        | Self::StopLifted { .. }
        | Self::ProgressBlocked { .. }
        | Self::ContinuedAsNew { .. }
        | Self::RunEnding { .. }
        | Self::Finished { .. }) = self;
        1
    }

    /// The step this is about, if it is about one.
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::StepRequested { step, .. }
            | Self::StepAdmitted { step, .. }
            | Self::StepDenied { step, .. }
            | Self::StepSettled { step, .. }
            | Self::StepReused { step, .. }
            | Self::StepFailed { step, .. }
            | Self::StepRetrying { step, .. }
            | Self::StepReadmitted { step, .. }
            | Self::StepReissued { step, .. }
            | Self::StepInDoubt { step, .. }
            | Self::StepResolved { step, .. }
            | Self::StepAbandoned { step, .. }
            | Self::StepCharged { step, .. }
            | Self::ApprovalAsked { step, .. }
            | Self::ApprovalGranted { step, .. }
            | Self::ApprovalDenied { step, .. }
            | Self::CapAsked { step, .. }
            | Self::CapAnswered { step, .. } => Some(step),
            Self::RunEnding { step, .. } | Self::Finished { step, .. } => step.as_ref(),
            _ => None,
        }
    }
}
