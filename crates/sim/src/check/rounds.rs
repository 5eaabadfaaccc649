//! Loops: an agent whose last turns made the same calls, round after round, and got the same makes no further model call, and
//! one that does not go in circles is never stopped for it. A call that cannot be read got nothing.

use std::collections::BTreeSet;

use lantern_engine::{Event, Fact, ProgramKind, StepKind, Work};
use lantern_types::{Digest, Limits};

use super::book::{Book, Entry, Mark};
use super::{Checked, demand};

/// The longest round that is promised to be seen, in turns.
const PERIOD_MAX: usize = 4;

/// Whether a model turn is asked for while the run goes in circles, or a run is stopped that does not.
pub(super) fn check(book: &Book, event: &Event, limits: &Limits) -> Checked {
    let promised = limits.identical_calls_max.max(2);
    match &event.fact {
        Fact::StepRequested { kind: StepKind::Llm, step, .. } if book.program == ProgramKind::Agent => {
            let circles = (1..=PERIOD_MAX).find_map(|period| circling(book, period, promised));
            demand(circles.is_none(), "loops-are-stopped", || {
                format!("{step} was asked for after {promised} identical rounds of {circles:?} calls")
            })
        }
        Fact::ProgressBlocked { period, rounds } => {
            let circles = |turns| circling(book, turns, *rounds) == usize::try_from(*period).ok();
            let circles = *rounds >= promised && (1..=PERIOD_MAX).any(circles);
            demand(circles, "only-loops-are-stopped", || {
                format!("{rounds} rounds of {period}; {promised} are promised")
            })
        }
        _ => Ok(()),
    }
}

/// How many calls make a round, when the last `rounds` rounds of `period` turns asked the same and got the same.
fn circling(book: &Book, period: usize, rounds: u32) -> Option<usize> {
    let turns: Vec<&Entry> = book.steps.iter().filter(|step| step.calls > 0 && offered(step)).collect();
    let needed = period * usize::try_from(rounds).unwrap_or(0);
    let window = turns.get(turns.len().checked_sub(needed)?..).filter(|window| !window.is_empty())?;
    let said: Vec<_> = window.iter().map(|turn| said(book, turn)).collect();
    let first = said.get(..period)?;
    let last = window.iter().rev().take(period).map(|turn| turn.calls).sum();
    said.chunks(period).all(|round| round == first).then_some(last)
}

fn offered(step: &Entry) -> bool {
    matches!(step.work, Some(Work::Turn { offer_tools: true, .. }))
}

/// What a turn's calls asked and got. Nothing in the place of one that nobody could read.
fn said(book: &Book, turn: &Entry) -> BTreeSet<Option<(Digest, Option<Digest>)>> {
    let made = book.children(&turn.id);
    let made: Vec<_> =
        made.map(|call| Some((call.request, call.output.filter(|_| call.mark == Mark::Settled)))).collect();
    let garbled = (made.len() < turn.calls).then_some(None);
    made.into_iter().chain(garbled).collect()
}

#[cfg(test)]
mod tests {
    use lantern_engine::Content;
    use lantern_types::EffectClass;
    use lantern_types::llm::{Finish, LlmReply, ToolUse};

    use super::super::testing::*;
    use super::*;

    /// A book of so many turns, each with so many calls, of which so many could be read.
    fn turns(turns: &[(usize, usize)]) -> Book {
        let mut book = Book::default();
        let mut next = |fact: Fact, content: Option<Content>| {
            let n = usize::try_from(book.seq).unwrap();
            book.apply(&event(n, fact, content));
        };
        next(begun(), None);
        for (n, (calls, read)) in turns.iter().enumerate() {
            let turn = format!("llm-{n}");
            let call = ToolUse { id: "c".into(), name: "t".into(), arguments: "{".into(), proof: None };
            let reply = LlmReply {
                content: String::new(),
                tool_calls: vec![call; *calls],
                finish: Finish::ToolCalls,
                usage: None,
                model: "m".into(),
            };
            let work = Work::Turn { turn: 1, offer_tools: true };
            next(wants(&turn, StepKind::Llm, None, EffectClass::Keyed), Some(Content::Work(work)));
            next(settled(&turn, 1, 0), Some(Content::Reply { reply, violations: Vec::new() }));
            for call in 0..*read {
                let step = format!("{turn}.tool-{call}");
                next(wants(&step, StepKind::Tool, Some(&turn), EffectClass::Pure), None);
                next(settled(&step, 1, 0), None);
            }
        }
        book
    }

    #[test]
    fn a_turn_after_the_promised_round_is_found() {
        let limits = Limits { identical_calls_max: 3, ..Limits::default() };
        let turn = || wants("llm-9", StepKind::Llm, None, EffectClass::Keyed);
        let block = |period, rounds| Fact::ProgressBlocked { period, rounds };
        let of = |calls: usize, count: usize| vec![(calls, calls); count];
        for (made, next, want) in [
            (of(1, 2), turn(), None),
            (of(1, 3), turn(), Some("loops-are-stopped")),
            (of(3, 1), turn(), None),
            (of(3, 3), turn(), Some("loops-are-stopped")),
            (vec![(1, 0), (2, 0), (1, 0)], turn(), Some("loops-are-stopped")),
            (vec![(1, 0), (1, 1), (1, 0)], turn(), None),
            (of(1, 3), block(1, 3), None),
            (of(2, 3), block(2, 3), None),
            (of(2, 3), block(1, 3), Some("only-loops-are-stopped")),
            (of(1, 2), block(1, 2), Some("only-loops-are-stopped")),
            (of(1, 2), block(1, 3), Some("only-loops-are-stopped")),
            (of(3, 1), block(1, 3), Some("only-loops-are-stopped")),
        ] {
            let book = turns(&made);
            let next = event(usize::try_from(book.seq).unwrap(), next, None);
            assert_eq!(rule(check(&book, &next, &limits)), want, "{made:?} {next:?}");
        }
    }
}
