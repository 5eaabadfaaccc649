//! Loop detection: a run whose turns repeat in rounds, with the same calls and the same results, is stopped *before* it
//! spends again.
//!
//! A turn is one thing, however many calls it makes at once. Reads digests only, and of a reply how many calls it made: one
//! that cannot be read makes no step, and comes back with nothing whatever it says.

use std::collections::BTreeSet;

use lantern_types::Digest;

use crate::run::{Run, Step, Work};

/// The longest round that is looked for, in turns: `A`, `A B`, `A B C`, `A B C D`.
const PERIOD_MAX: usize = 4;

/// Calls per round and rounds seen, when the last turns that called tools are identical rounds with identical results.
pub(crate) fn circling(run: &Run, rounds_max: u32) -> Option<(u32, u32)> {
    let rounds = usize::try_from(rounds_max.max(2)).unwrap_or(2);
    let recent: Vec<Turn> =
        run.steps().iter().rev().filter_map(|step| Turn::of(run, step)).take(PERIOD_MAX * rounds).collect();
    (1..=PERIOD_MAX).find_map(|period| {
        let window = recent.get(..period * rounds)?;
        let circles = window.iter().zip(window.get(period..)?).all(|(a, b)| a.asked == b.asked);
        let calls: usize = window.iter().take(period).map(|turn| turn.calls).sum();
        circles.then(|| (u32::try_from(calls).unwrap_or(u32::MAX), rounds_max.max(2)))
    })
}

/// A turn that called tools.
struct Turn {
    /// How many calls it made.
    calls: usize,
    /// What was asked and what came back, the same only once; a failure counts as coming back with nothing. `None`: something
    /// that cannot be read.
    asked: BTreeSet<Option<(Digest, Option<Digest>)>>,
}

impl Turn {
    fn of(run: &Run, step: &Step) -> Option<Self> {
        let calls = step.tool_calls().len();
        if calls == 0 || !matches!(step.work, Some(Work::Turn { offer_tools: true, .. })) {
            return None;
        }
        let made = step.children.ids.iter().filter_map(|id| run.step(id));
        let mut asked: BTreeSet<_> = made.map(|made| Some((made.request, made.output))).collect();
        if step.children.ids.len() < calls {
            asked.insert(None);
        }
        Some(Self { calls, asked })
    }
}
