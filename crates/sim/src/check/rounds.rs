//! Loops: an agent whose last tool calls were identical rounds with identical results makes no further model call,
//! and one that does not go in circles is never stopped for it.

use lantern_engine::{Event, Fact, ProgramKind, StepKind};
use lantern_types::{Digest, Limits};

use super::book::{Book, Mark};
use super::{Checked, demand};

/// The longest round that is promised to be seen.
const PERIOD_MAX: usize = 4;

/// Whether a model turn is asked for while the run goes in circles, or a run is stopped that does not.
pub(super) fn check(book: &Book, event: &Event, limits: &Limits) -> Checked {
    let promised = limits.identical_calls_max.max(2);
    match &event.fact {
        Fact::StepRequested { kind: StepKind::Llm, step, .. } if book.program == ProgramKind::Agent => {
            let circles = (1..=PERIOD_MAX).find(|period| circling(book, *period, promised));
            demand(circles.is_none(), "loops-are-stopped", || {
                format!("{step} was asked for after {promised} identical rounds of {circles:?} calls")
            })
        }
        Fact::ProgressBlocked { period, rounds } => {
            let period = usize::try_from(*period).unwrap_or(0);
            demand(*rounds >= promised && circling(book, period, *rounds), "only-loops-are-stopped", || {
                format!("{rounds} rounds of {period}; {promised} are promised")
            })
        }
        _ => Ok(()),
    }
}

/// Whether the last `rounds` rounds of `period` calls asked the same and got the same.
fn circling(book: &Book, period: usize, rounds: u32) -> bool {
    let calls: Vec<(Digest, Option<Digest>)> = book
        .steps
        .iter()
        .filter(|step| step.kind == StepKind::Tool && !step.open())
        .map(|step| (step.request, step.output.filter(|_| step.mark == Mark::Settled)))
        .collect();
    let needed = period * usize::try_from(rounds).unwrap_or(0);
    let Some(window) = calls.len().checked_sub(needed).and_then(|from| calls.get(from..)) else {
        return false;
    };
    let first = window.get(..period).unwrap_or_default();
    needed > 0 && window.chunks(period).all(|round| round == first)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use lantern_types::EffectClass;

    fn calls(count: usize) -> Vec<Fact> {
        let one = |n: usize| {
            let step = format!("t-{n}");
            [tool(&step, EffectClass::Pure), admitted(&step, 1, 1, 0), settled(&step, 1, 0)]
        };
        std::iter::once(begun()).chain((0..count).flat_map(one)).collect()
    }

    #[test]
    fn a_turn_after_the_promised_round_is_found() {
        let limits = Limits { identical_calls_max: 3, ..Limits::default() };
        let turn = || wants("llm-9", StepKind::Llm, None, EffectClass::Keyed);
        let block = |rounds| Fact::ProgressBlocked { period: 1, rounds };
        for (count, next, want) in [
            (2, turn(), None),
            (3, turn(), Some("loops-are-stopped")),
            (3, block(3), None),
            (2, block(2), Some("only-loops-are-stopped")),
            (2, block(3), Some("only-loops-are-stopped")),
        ] {
            assert_eq!(
                broken(&calls(count), next, |book, event| check(book, event, &limits)),
                want,
                "{count}"
            );
        }
    }
}
