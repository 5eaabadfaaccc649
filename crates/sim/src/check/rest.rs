//! Liveness: no run waits on nothing, no timer is left behind, and a run's own deadline ends it.

use std::collections::BTreeMap;

use lantern_engine::{Input, Run, StepKind};
use lantern_types::RunId;

use super::book::{Book, Entry, Mark};
use super::family::Family;
use super::{Checked, Commit, demand};

/// What must be true after each turn.
pub(super) fn after(book: &Book, commit: &Commit<'_>) -> Checked {
    if book.over.is_some() {
        return Ok(());
    }
    let deadline = book.ending.map(|(_, due)| due).or(book.deadline);
    let late = deadline.is_some_and(|deadline| deadline <= commit.at);
    demand(!late, "the-deadline-ends-the-run", || format!("{deadline:?} at {}", commit.at))?;
    // What costs money may wait for as long as some of it is held and comes back.
    let may_wait = |step: &Entry| matches!(step.kind, StepKind::Llm | StepKind::Child) && book.coming() > 0;
    let waits = book.open().find(|step| step.mark == Mark::Requested && !may_wait(step));
    demand(book.paused || commit.stopping || waits.is_none(), "admission-is-decided-at-once", || {
        waits.map(|step| step.id.to_string()).unwrap_or_default()
    })?;
    // A worker that is woken by a timer, decides nothing and finds the timer still due would wake for ever.
    let idle = matches!(commit.causes, [(Input::Wake, 0)]);
    let due = commit.live.next_due();
    demand(!idle || due.is_none_or(|due| due > commit.at), "a-wake-leaves-nothing-due", || {
        format!("due {due:?} at {:?}, paused: {}", commit.at, book.paused)
    })
}

/// Whether a run with nothing under way waits for time, for somebody, or for a run that is not over.
pub(super) fn at_rest(book: &Book, run: &Run, family: &Family, books: &BTreeMap<RunId, Book>) -> Checked {
    let child_lives = |step: &Entry| match family.child(run.id, &step.id) {
        Some(child) => books.get(&child).is_none_or(|child| child.over.is_none()),
        None => false,
    };
    let waits = |step: &Entry| match step.mark {
        Mark::Asking | Mark::Doubt => true,
        Mark::Waiting => match step.kind {
            StepKind::Approval | StepKind::Signal => true,
            StepKind::Child => child_lives(step),
            _ => false,
        },
        _ => false,
    };
    let fine = book.over.is_some() || book.paused || run.next_due().is_some() || book.open().any(waits);
    demand(fine, "no-run-waits-on-nothing", || {
        let steps: Vec<String> = book.open().map(|step| format!("{} {:?}", step.id, step.mark)).collect();
        format!("run {} has open: {}", run.id, steps.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use lantern_engine::{Fact, Outcome};
    use lantern_types::{Acted, At, EffectClass, Limits};

    fn turn(facts: &[Fact], causes: &[(Input, usize)], at: i64) -> Option<&'static str> {
        let (live, _) = super::super::journal::tests::one_event();
        let mut book = book(facts);
        book.deadline = Some(At::from_micros(100));
        let limits = Limits::default();
        let at = At::from_micros(at);
        let commit = Commit {
            run: live.id,
            at,
            causes,
            append: None,
            live: &live,
            limits: &limits,
            tools: &[],
            rows: &[],
            stopping: false,
        };
        rule(after(&book, &commit))
    }

    #[test]
    fn what_a_turn_leaves_behind_is_found() {
        let open = [begun(), tool("a", EffectClass::Pure)];
        assert_eq!(turn(&open, &[], 5), Some("admission-is-decided-at-once"));
        let held = [begun(), wants("l", StepKind::Llm, None, EffectClass::Keyed), admitted("l", 1, 1, 100)];
        for (kind, want) in [(StepKind::Tool, Some("admission-is-decided-at-once")), (StepKind::Llm, None)] {
            let beside = [held.to_vec(), vec![wants("b", kind, None, EffectClass::Keyed)]].concat();
            assert_eq!(turn(&beside, &[], 5), want, "{kind:?}");
            let lost = [beside, vec![failed("l", Acted::Unknown, 100)]].concat();
            assert_eq!(turn(&lost, &[], 5), Some("admission-is-decided-at-once"), "{kind:?}");
        }
        let paused = [open.to_vec(), vec![Fact::Paused { by: "ada".into() }]].concat();
        assert_eq!(turn(&paused, &[], 5), None);
        assert_eq!(turn(&paused, &[], 100), Some("the-deadline-ends-the-run"));
        assert_eq!(turn(&[begun(), finish(Outcome::Failed)], &[], 100), None);
    }

    #[test]
    fn a_run_that_waits_on_nothing_is_found() {
        let (run, _) = super::super::journal::tests::one_event();
        let rests = |facts: &[Fact]| rule(at_rest(&book(facts), &run, &Family::default(), &BTreeMap::new()));
        let wait = |kind| vec![begun(), wants("w", kind, None, EffectClass::Pure)];
        assert_eq!(rests(&wait(StepKind::Signal)), None);
        for kind in [StepKind::Sleep, StepKind::Map, StepKind::Child, StepKind::Tool] {
            assert_eq!(rests(&wait(kind)), Some("no-run-waits-on-nothing"), "{kind:?}");
        }
        assert_eq!(rests(&[begun()]), Some("no-run-waits-on-nothing"));
    }
}
