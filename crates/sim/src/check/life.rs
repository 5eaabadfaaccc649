//! The life of a run and of its steps: which event may follow which, under which key, and because of what.
//!
//! A step's generation grows only when nothing sent under it can have acted; what cannot be repeated is not; a run
//! that is paused starts nothing, and one that is over does nothing at all.

use lantern_engine::{Arrival, Event, Fact, Input, Outcome, StepId, StepKind};
use lantern_types::{Acted, Dur, EffectClass, Finding, MicroUsd};

use super::book::{Book, Entry, Mark};
use super::{Checked, Violation, demand};

/// Whether `event` may follow what the book holds.
pub(super) fn check(book: &Book, event: &Event, cause: &Input) -> Checked {
    let said = || format!("{:?}", event.fact);
    demand(book.over.is_none(), "nothing-after-the-end", said)?;
    demand(event.seq == 1 || book.seq > 0, "starts-with-run-started", said)?;
    let settles = matches!(event.fact, Fact::StepCharged { .. } | Fact::Finished { .. });
    demand(book.ending.is_none() || settles, "a-run-that-ends-only-settles", said)?;
    match &event.fact {
        Fact::RunStarted { .. } => demand(event.seq == 1, "started-once", said),
        Fact::StepRequested { step, parent, .. } => requested(book, step, parent.as_ref()),
        Fact::RunEnding { outcome, due, .. } => {
            demand(
                book.held() > book.unconfirmed && *due > event.at,
                "a-run-waits-only-for-what-is-owed",
                said,
            )?;
            ends(book, *outcome)
        }
        Fact::Finished { outcome, .. } => finished(book, *outcome),
        Fact::CancelRequested { .. } => demand(!book.cancelling, "cancelled-once", said),
        Fact::Paused { .. } => demand(!book.paused, "paused-once", said),
        Fact::Resumed { .. } => demand(book.paused, "resumed-only-when-paused", said),
        // Nor has it programs that call models by themselves.
        Fact::CallMetered { .. } => demand(false, "nobody-meters", said),
        // Tier 1 has no stops.
        Fact::Halted { .. } | Fact::StopLifted { .. } => demand(false, "nobody-stops", said),
        Fact::ContinuedAsNew { .. } => demand(book.next.is_none(), "continued-once", said),
        Fact::SignalReceived { .. } | Fact::ProgressBlocked { .. } => Ok(()),
        fact => {
            let entry = fact.step().and_then(|id| book.step(id));
            let entry = entry.ok_or_else(|| Violation { rule: "step-known", detail: said() })?;
            // The one thing that may follow for a step that is over: its child tells what it spent.
            let owing = matches!(fact, Fact::StepCharged { .. }) && entry.hold.is_some();
            demand(entry.open() != owing, "final-steps-stay-final", said)?;
            demand(!stale(entry, fact, cause), "stale-results-ignored", || format!("{cause:?} -> {fact:?}"))?;
            step(book, entry, event, cause)
        }
    }
}

fn requested(book: &Book, id: &StepId, parent: Option<&StepId>) -> Checked {
    demand(!book.paused, "paused-starts-nothing", || format!("{id} requested"))?;
    demand(book.step(id).is_none(), "step-ids-unique", || id.to_string())?;
    let Some(parent) = parent else { return Ok(()) };
    let above = book.step(parent);
    let fits = above.is_some_and(|above| match above.kind {
        StepKind::Llm => above.mark == Mark::Settled,
        _ => above.mark == Mark::Waiting,
    });
    demand(fits, "parents-stand", || format!("{id} below {parent}"))
}

fn finished(book: &Book, outcome: Outcome) -> Checked {
    let held = book.held() - book.unconfirmed;
    demand(held == 0, "the-end-leaves-nothing-held", || held.to_string())?;
    let other = book.ending.filter(|(said, _)| *said != outcome);
    demand(other.is_none(), "the-end-is-the-asked-one", || format!("{outcome:?} after {other:?}"))?;
    ends(book, outcome)
}

fn ends(book: &Book, outcome: Outcome) -> Checked {
    let left: Vec<String> = book.open().map(|step| step.id.to_string()).collect();
    demand(left.is_empty(), "the-end-leaves-nothing-open", || left.join(" "))?;
    demand(
        (outcome == Outcome::Cancelled) == book.cancelling
            && (book.next.is_none() || outcome == Outcome::Succeeded),
        "the-end-is-the-asked-one",
        || format!("{outcome:?}, cancel asked: {}", book.cancelling),
    )
}

/// Whether the event takes a result of a send that is not the one under way.
fn stale(entry: &Entry, fact: &Fact, cause: &Input) -> bool {
    let Input::Performed { step, generation, .. } = cause else { return false };
    let takes = matches!(
        fact,
        Fact::StepSettled { .. }
            | Fact::StepFailed { .. }
            | Fact::StepRetrying { .. }
            | Fact::StepInDoubt { .. }
    );
    takes && *step == entry.id && (*generation != entry.generation || entry.mark != Mark::Performing)
}

fn step(book: &Book, entry: &Entry, event: &Event, cause: &Input) -> Checked {
    let wrong = |rule: &'static str| Violation {
        rule,
        detail: format!(
            "{:?} after {:?} generation {} attempt {}",
            event.fact, entry.mark, entry.generation, entry.attempt
        ),
    };
    let must = |holds: bool, rule: &'static str| if holds { Ok(()) } else { Err(wrong(rule)) };
    match &event.fact {
        Fact::StepAdmitted { generation, attempt, .. } => {
            must(!book.paused, "paused-starts-nothing")?;
            must(entry.mark == Mark::Requested, "admitted-when-requested")?;
            must(!entry.needs_approval || entry.decided == Some(true), "approved-before-admitted")?;
            must(*generation == entry.generation && *attempt == entry.attempt + 1, "attempts-count")
        }
        Fact::StepDenied { .. } => must(entry.mark == Mark::Requested, "denied-when-requested"),
        Fact::StepSettled { generation, .. } => {
            let acts = matches!(entry.kind, StepKind::Llm | StepKind::Tool);
            let from = if acts { Mark::Performing } else { Mark::Waiting };
            must(entry.mark == from || entry.mark == Mark::Resolved(true), "settled-when-done")?;
            must(*generation == entry.generation, "settled-under-its-key")
        }
        Fact::StepFailed { .. } => {
            let from =
                [Mark::Performing, Mark::Waiting, Mark::Asking, Mark::Resolved(false)].contains(&entry.mark);
            must(from, "failed-when-tried")
        }
        Fact::StepRetrying { generation, attempt, acted, due, crashed, cost, .. } => {
            let died = entry.doubt.as_deref() == Some("crashed");
            let found = finds(cause);
            let crash = matches!(cause, Input::Recovered) || (found && died);
            must(*crashed == crash, "crashes-are-no-failures")?;
            let told = told(entry, cause);
            let from = match (found, told) {
                (true, _) => Mark::Resolved(false),
                (false, Some(_)) => Mark::Waiting,
                (false, None) => Mark::Performing,
            };
            must(entry.mark == from && *attempt == entry.attempt + 1, "attempts-count")?;
            must(!found || *generation == entry.generation + 1, "what-did-not-happen-has-a-new-key")?;
            must(*due >= event.at + asked(cause), "waits-as-asked")?;
            must(told.is_none_or(|spent| spent == *cost), "charged-as-told")?;
            let answered = told.is_some() || matches!(cause, Input::Performed { result: Ok(_), .. });
            must((*acted == Acted::Yes) == answered, "acted-when-answered")?;
            let certain = (*acted == Acted::No && !entry.unsure) || answered;
            must(certain || entry.effect.repeats(), "unrepeatable-not-repeated")?;
            let grown = *generation == entry.generation + 1;
            must(grown || *generation == entry.generation, "generations-count")?;
            must(!grown || certain, "no-new-key-after-unknown")
        }
        Fact::StepReadmitted { generation, .. } => {
            must(*generation == entry.generation, "generations-count")?;
            must(waited(entry, event, true) && !book.paused, "readmitted-when-due")
        }
        Fact::StepReissued { generation, attempt, .. } => {
            must(entry.effect.repeats(), "unrepeatable-not-repeated")?;
            must(*generation == entry.generation && *attempt == entry.attempt + 1, "reissued-under-its-key")?;
            must(!book.paused, "paused-starts-nothing")?;
            let crashed = entry.mark == Mark::Performing && matches!(cause, Input::Recovered);
            must(crashed || waited(entry, event, false), "reissued-when-due")
        }
        Fact::StepCharged { cost, unconfirmed, .. } => {
            let hold = entry.hold.unwrap_or_default();
            let (told, doubtful) = match told(entry, cause) {
                Some(spent) => (spent, MicroUsd::ZERO),
                // Nobody has told in time; a run that goes on as a new one does not wait.
                None => {
                    let late = entry.tells_by.is_some_and(|due| due <= event.at);
                    must(late || book.next.is_some(), "children-have-time-to-tell")?;
                    (MicroUsd::ZERO, hold)
                }
            };
            must((*cost, *unconfirmed) == (told, doubtful), "charged-as-told")
        }
        Fact::StepInDoubt { generation, .. } => {
            must(entry.mark == Mark::Performing && !entry.effect.repeats(), "doubted-when-unrepeatable")?;
            must(*generation == entry.generation, "generations-count")
        }
        Fact::StepResolved { happened, .. } => {
            must(entry.mark == Mark::Doubt, "resolved-when-in-doubt")?;
            let Input::Found { step, generation, finding } = cause else { return Ok(()) };
            let about = *step == entry.id && *generation == entry.generation;
            let said = *happened == matches!(finding, Some(Finding::Happened(_)));
            must(about && finding.is_some() && said, "resolved-as-found")?;
            must(entry.effect == EffectClass::Reconcilable, "only-the-reconcilable-is-found-out")
        }
        _ => Ok(()),
    }
}

/// What the run of this step's last try says it spent, of what was held for it.
fn told(entry: &Entry, cause: &Input) -> Option<MicroUsd> {
    match cause {
        Input::Arrived(Arrival::ChildFinished { step, generation, spent, .. })
            if *step == entry.id && generation.is_none_or(|of| of == entry.generation) =>
        {
            Some((*spent).min(entry.hold.unwrap_or_default()))
        }
        _ => None,
    }
}

/// Whether somebody, the other side or a person, says what became of a step in doubt.
pub(super) fn finds(cause: &Input) -> bool {
    matches!(cause, Input::Found { .. } | Input::Arrived(Arrival::Resolution { .. }))
}

/// How long the other side asked to wait.
fn asked(cause: &Input) -> Dur {
    match cause {
        // It was not somebody else who asked.
        Input::Performed { result: Err(failure), .. } if failure.elsewhere => Dur::ZERO,
        Input::Performed { result: Err(failure), .. } => failure.retry_after.unwrap_or(Dur::ZERO),
        _ => Dur::ZERO,
    }
}

/// Whether the step's backoff, of that kind, is over.
fn waited(entry: &Entry, event: &Event, fresh: bool) -> bool {
    matches!(entry.mark, Mark::Backoff { due, fresh: is } if is == fresh && due <= event.at)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use lantern_types::Failure;

    fn after(facts: &[Fact], next: Fact) -> Option<&'static str> {
        broken(facts, next, |book, event| check(book, event, &Input::Wake))
    }

    #[test]
    fn a_plain_life_is_fine() {
        let facts = [begun(), tool("a", EffectClass::Keyed), admitted("a", 1, 1, 0), settled("a", 1, 0)];
        assert_eq!(after(&facts, finish(Outcome::Succeeded)), None);
    }

    #[test]
    fn events_out_of_place_are_found() {
        let keyed = || tool("a", EffectClass::Keyed);
        let once = || tool("a", EffectClass::Irreversible);
        let open = || vec![begun(), keyed(), admitted("a", 1, 1, 0)];
        let done = || [open(), vec![settled("a", 1, 0)]].concat();
        let over = [done(), vec![finish(Outcome::Succeeded)]].concat();
        let paused = vec![begun(), keyed(), Fact::Paused { by: "x".into() }];
        let crashed = [open(), vec![reissued("a", 1, 2)]].concat();
        for (facts, next, rule) in [
            (over, finish(Outcome::Succeeded), "nothing-after-the-end"),
            (open(), finish(Outcome::Succeeded), "the-end-leaves-nothing-open"),
            (done(), finish(Outcome::Cancelled), "the-end-is-the-asked-one"),
            (done(), settled("a", 1, 0), "final-steps-stay-final"),
            (done(), keyed(), "step-ids-unique"),
            (paused.clone(), admitted("a", 1, 1, 0), "paused-starts-nothing"),
            (paused, tool("b", EffectClass::Pure), "paused-starts-nothing"),
            (
                [open(), vec![Fact::Paused { by: "x".into() }]].concat(),
                reissued("a", 1, 2),
                "paused-starts-nothing",
            ),
            (open(), settled("a", 2, 0), "settled-under-its-key"),
            (open(), settled("b", 1, 0), "step-known"),
            (open(), retrying("a", 2, 2, Acted::Unknown, 9), "no-new-key-after-unknown"),
            (crashed, retrying("a", 2, 3, Acted::No, 9), "no-new-key-after-unknown"),
            (open(), retrying("a", 3, 2, Acted::No, 9), "generations-count"),
            (open(), reissued("a", 1, 2), "reissued-when-due"),
            (open(), reissued("a", 2, 2), "reissued-under-its-key"),
            (vec![begun(), once(), admitted("a", 1, 1, 0)], reissued("a", 1, 2), "unrepeatable-not-repeated"),
            (
                vec![begun(), once(), admitted("a", 1, 1, 0)],
                retrying("a", 1, 2, Acted::Unknown, 9),
                "unrepeatable-not-repeated",
            ),
            (open(), resolved("a", true), "resolved-when-in-doubt"),
            (vec![begun(), keyed()], admitted("a", 1, 2, 0), "attempts-count"),
        ] {
            assert_eq!(after(&facts, next.clone()), Some(rule), "{next:?}");
        }
    }

    #[test]
    fn a_dropped_child_that_is_charged_otherwise_is_found() {
        let child = wants("c", StepKind::Child, None, EffectClass::Keyed);
        let dropped = || vec![begun(), child.clone(), admitted("c", 1, 1, 100), owing("c")];
        let told = |spent: i64| {
            Input::Arrived(Arrival::ChildFinished {
                step: id("c"),
                generation: Some(1),
                outcome: Outcome::Cancelled,
                spent: MicroUsd::from_micros(spent),
                output: serde_json::Value::Null,
            })
        };
        let over = || [dropped(), vec![charged("c", 40)]].concat();
        let ends = |due| [dropped(), vec![ending(Outcome::Succeeded, due)]].concat();
        let told_at_the_end = || [ends(99), vec![charged("c", 40)]].concat();
        for (facts, next, cause, want) in [
            (dropped(), charged("c", 40), told(40), None),
            (dropped(), charged("c", 100), told(400), None),
            (dropped(), charged("c", 40), told(30), Some("charged-as-told")),
            (dropped(), untold("c", 100), Input::Wake, Some("children-have-time-to-tell")),
            (ends(99), charged("c", 40), told(40), None),
            (ends(99), untold("c", 100), Input::Wake, None),
            (ends(99), untold("c", 0), Input::Wake, Some("charged-as-told")),
            (ends(99), charged("c", 100), Input::Wake, Some("charged-as-told")),
            (ends(99), finish(Outcome::Succeeded), Input::Wake, Some("the-end-leaves-nothing-held")),
            (told_at_the_end(), finish(Outcome::Succeeded), Input::Wake, None),
            (told_at_the_end(), finish(Outcome::Failed), Input::Wake, Some("the-end-is-the-asked-one")),
            (ends(99), tool("t", EffectClass::Pure), Input::Wake, Some("a-run-that-ends-only-settles")),
            (over(), ending(Outcome::Succeeded, 99), Input::Wake, Some("a-run-waits-only-for-what-is-owed")),
            (dropped(), settled("c", 1, 0), Input::Wake, Some("final-steps-stay-final")),
            (dropped(), finish(Outcome::Succeeded), Input::Wake, Some("the-end-leaves-nothing-held")),
            (over(), charged("c", 40), told(40), Some("final-steps-stay-final")),
            (over(), finish(Outcome::Succeeded), Input::Wake, None),
        ] {
            assert_eq!(
                broken(&facts, next.clone(), |book, event| check(book, event, &cause)),
                want,
                "{next:?}"
            );
        }
    }

    #[test]
    fn a_finding_that_says_otherwise_or_keeps_the_key_is_found() {
        let doubt = |effect| vec![begun(), tool("a", effect), admitted("a", 1, 1, 0), doubted("a", "x")];
        let once = || doubt(EffectClass::Reconcilable);
        let absent = || [once(), vec![resolved("a", false)]].concat();
        let found =
            |generation| Input::Found { step: id("a"), generation, finding: Some(Finding::DidNotHappen) };
        for (facts, next, generation, want) in [
            (once(), resolved("a", false), 1, None),
            (once(), resolved("a", true), 1, Some("resolved-as-found")),
            (once(), resolved("a", false), 2, Some("resolved-as-found")),
            (
                doubt(EffectClass::Irreversible),
                resolved("a", false),
                1,
                Some("only-the-reconcilable-is-found-out"),
            ),
            (absent(), retrying("a", 2, 2, Acted::No, 9), 1, None),
            (absent(), retrying("a", 1, 2, Acted::No, 9), 1, Some("what-did-not-happen-has-a-new-key")),
        ] {
            let cause = found(generation);
            assert_eq!(
                broken(&facts, next.clone(), |book, event| check(book, event, &cause)),
                want,
                "{next:?}"
            );
        }
    }

    #[test]
    fn a_result_of_an_earlier_key_is_stale() {
        let facts = [
            begun(),
            tool("a", EffectClass::Keyed),
            admitted("a", 1, 1, 0),
            retrying("a", 2, 2, Acted::No, 0),
            Fact::StepReadmitted { step: id("a"), generation: 2, kind: None },
            admitted("a", 2, 2, 0),
        ];
        let cause = |generation| Input::Performed {
            step: id("a"),
            generation,
            result: Err(Failure::transient("busy", "")),
        };
        let next = || retrying("a", 3, 3, Acted::No, 9);
        let found = |generation| broken(&facts, next(), |book, event| check(book, event, &cause(generation)));
        assert_eq!((found(1), found(2)), (Some("stale-results-ignored"), None));
    }
}
