//! Loop detection: a run whose calls repeat in rounds with the same results is stopped *before* it spends again.
//!
//! Reads digests only, so the verdict can be derived again from the envelopes.

use lantern_types::Digest;

use crate::event::StepKind;
use crate::run::{Run, Step};

/// The longest round that is looked for: `A`, `A B`, `A B C`, `A B C D`.
const PERIOD_MAX: usize = 4;

/// Calls per round and rounds seen, when the last tool calls are identical rounds with identical results.
pub(crate) fn circling(run: &Run, rounds_max: u32) -> Option<(u32, u32)> {
    let rounds = usize::try_from(rounds_max.max(2)).unwrap_or(2);
    let recent: Vec<(Digest, Option<Digest>)> = run
        .steps()
        .iter()
        .rev()
        .filter(|step| step.kind == StepKind::Tool && step.is_final())
        .take(PERIOD_MAX * rounds)
        .map(fingerprint)
        .collect();
    (1..=PERIOD_MAX).find_map(|period| {
        let window = recent.get(..period * rounds)?;
        let circles = window.iter().zip(window.get(period..)?).all(|(a, b)| a == b);
        circles.then(|| (u32::try_from(period).unwrap_or(0), rounds_max.max(2)))
    })
}

/// What was asked and what came back; a failure counts as coming back with nothing.
fn fingerprint(step: &Step) -> (Digest, Option<Digest>) {
    (step.request, step.output)
}
