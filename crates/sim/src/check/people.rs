//! People and signals: a question is decided once, by someone who may; a signal settles one step; an order is obeyed.

use lantern_engine::{Content, Event, Fact, StepId, StepKind, Work};

use super::book::{Book, Entry, Mark};
use super::{Checked, demand};

/// Whether a decision or a signal's use is in order.
pub(super) fn check(book: &Book, event: &Event) -> Checked {
    let said = || format!("{:?}", event.fact);
    match &event.fact {
        Fact::ApprovalAsked { step, .. } => demand(
            book.step(step).is_some_and(|entry| {
                entry.asked.is_none() && (entry.needs_approval || entry.kind == StepKind::Approval)
            }),
            "asked-once",
            said,
        ),
        Fact::ApprovalGranted { step, by } => {
            let entry = book.step(step).filter(|entry| undecided(entry));
            demand(entry.is_some(), "decided-once", said)?;
            demand(entry.is_some_and(|entry| may_decide(entry, by)), "decided-by-an-approver", said)
        }
        Fact::ApprovalDenied { step, by } => {
            let entry = book.step(step).filter(|entry| undecided(entry));
            demand(entry.is_some(), "decided-once", said)?;
            let lapsed = entry.and_then(|entry| entry.asked).is_some_and(|due| due <= event.at);
            let someone = !by.is_empty() && entry.is_some_and(|entry| may_decide(entry, by));
            demand(someone || (by.is_empty() && lapsed), "decided-by-an-approver", said)
        }
        Fact::StepSettled { step, kind: StepKind::Signal, .. } => signal(book, event, step),
        _ => Ok(()),
    }
}

fn undecided(entry: &Entry) -> bool {
    entry.open() && entry.asked.is_some() && entry.decided.is_none()
}

fn may_decide(entry: &Entry, by: &str) -> bool {
    match &entry.work {
        Some(Work::Approval { approvers, .. }) if !approvers.is_empty() => approvers.iter().any(|a| a == by),
        _ => !by.is_empty(),
    }
}

/// The nth step to be settled by a signal of a name has the value of the nth that came.
fn signal(book: &Book, event: &Event, step: &StepId) -> Checked {
    let name = book.step(step).and_then(|entry| entry.name.clone()).unwrap_or_default();
    let used = book.consumed.get(&name).copied().unwrap_or_default();
    let value = book.signals.get(&name).and_then(|values| values.get(used));
    let settled = match &event.content {
        Some(Content::Output(output)) => Some(output),
        _ => None,
    };
    demand(value.is_some() && value == settled, "a-signal-settles-one-step", || {
        format!("{step} took {settled:?}; signal {name} number {} is {value:?}", used + 1)
    })
}

/// What must be true once a turn is durable.
pub(super) fn nothing_ignored(book: &Book) -> Checked {
    demand(!book.cancelling || book.goes_no_further(), "cancel-ends-the-run", String::new)?;
    demand(book.next.is_none() || book.over.is_some(), "continuing-ends-the-run", String::new)?;
    for entry in book.open() {
        let said = || format!("{} {:?} decided {:?}", entry.id, entry.mark, entry.decided);
        let ends =
            entry.decided == Some(false) || (entry.kind == StepKind::Approval && entry.decided.is_some());
        demand(!ends, "a-decision-takes-effect", said)?;
        demand(!entry.needs_approval || entry.asked.is_some(), "approval-is-asked", said)?;
        let waits = entry.kind == StepKind::Signal && entry.mark == Mark::Waiting;
        let name = entry.name.as_deref().unwrap_or_default();
        let came = book.signals.get(name).map_or(0, Vec::len);
        let used = book.consumed.get(name).copied().unwrap_or_default();
        demand(!waits || came <= used, "no-signal-overlooked", said)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::*;
    use super::*;
    use lantern_engine::Outcome;
    use lantern_types::{At, EffectClass};

    fn asked() -> Vec<Fact> {
        let due = At::from_micros(50);
        let wait = wants("ok", StepKind::Approval, None, EffectClass::Pure);
        vec![begun(), wait, Fact::ApprovalAsked { step: id("ok"), due }]
    }

    #[test]
    fn a_second_decision_and_a_strangers_are_found() {
        let yes = |by: &str| Fact::ApprovalGranted { step: id("ok"), by: by.into() };
        let no = |by: &str| Fact::ApprovalDenied { step: id("ok"), by: by.into() };
        let decided = [asked(), vec![yes("ada")]].concat();
        for (facts, next, want) in [
            (asked(), yes("ada"), None),
            (asked(), yes(""), Some("decided-by-an-approver")),
            (asked(), no(""), Some("decided-by-an-approver")),
            (decided.clone(), yes("ada"), Some("decided-once")),
            (decided.clone(), no("bob"), Some("decided-once")),
            (vec![begun(), tool("ok", EffectClass::Pure)], yes("ada"), Some("decided-once")),
        ] {
            assert_eq!(broken(&facts, next.clone(), check), want, "{next:?}");
        }
        assert_eq!(rule(nothing_ignored(&book(&decided))), Some("a-decision-takes-effect"));
        let mut listed = book(&asked());
        let approvers = vec!["ada".to_owned()];
        listed.steps[0].work = Some(Work::Approval { reason: String::new(), approvers });
        assert_eq!(rule(check(&listed, &event(3, yes("bob"), None))), Some("decided-by-an-approver"));
    }

    #[test]
    fn a_signal_used_twice_or_overlooked_is_found() {
        let mut book = book(&[begun(), wants("a", StepKind::Signal, None, EffectClass::Pure)]);
        book.steps[0].name = Some("go".into());
        let value = Arc::new(serde_json::json!(1));
        let received = event(
            2,
            Fact::SignalReceived { name: "go".into(), key: None },
            Some(Content::Signal(value.clone())),
        );
        let took = event(3, settled_signal(), Some(Content::Output(value)));
        assert_eq!(rule(check(&book, &took)), Some("a-signal-settles-one-step"));
        book.apply(&received);
        assert_eq!(
            (rule(check(&book, &took)), rule(nothing_ignored(&book))),
            (None, Some("no-signal-overlooked"))
        );
        book.apply(&took);
        assert_eq!(rule(check(&book, &took)), Some("a-signal-settles-one-step"));
    }

    fn settled_signal() -> Fact {
        let mut fact = settled("a", 1, 0);
        if let Fact::StepSettled { kind, .. } = &mut fact {
            *kind = StepKind::Signal;
        }
        fact
    }

    #[test]
    fn a_cancelled_run_that_goes_on_is_found() {
        let facts = [begun(), Fact::CancelRequested { by: "ada".into() }];
        assert_eq!(rule(nothing_ignored(&book(&facts))), Some("cancel-ends-the-run"));
        let facts = [facts.to_vec(), vec![finish(Outcome::Cancelled)]].concat();
        assert_eq!(rule(nothing_ignored(&book(&facts))), None);
    }
}
