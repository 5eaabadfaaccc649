//! What a run's row says once events of it are appended. Pure.

use lantern_engine::{Event, Fact, Run, Status, StepKind};
use lantern_store::inbox::Kept;
use lantern_store::journal::Projection;

/// What a run keeps of signals, when these events change it.
pub(super) fn kept(run: &Run, events: &[Event]) -> Option<Kept> {
    let changes = events.iter().any(|event| {
        matches!(event.fact, Fact::SignalReceived { .. } | Fact::StepSettled { kind: StepKind::Signal, .. })
    });
    changes.then_some(Kept { count: run.signals.len() as u64, bytes: run.signal_bytes })
}

pub(super) fn projection(run: &Run) -> Projection {
    let failed = run.status() == Status::Failed;
    Projection {
        status: run.status().as_str(),
        spent: run.spent,
        held: run.held,
        tokens_in: i64::try_from(run.tokens_in).unwrap_or(i64::MAX),
        tokens_out: i64::try_from(run.tokens_out).unwrap_or(i64::MAX),
        started_at: run.started_at,
        finished_at: run.finished_at,
        error_code: run.error.as_ref().filter(|_| failed).map(|(code, ..)| code.clone()),
    }
}
