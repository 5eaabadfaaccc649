//! Maps, races and an agent's tool calls: bounded, in order, complete; and nothing stays open below something that is over.

use lantern_engine::{Content, Event, Fact, StepId, StepKind, Work};
use lantern_types::Limits;
use serde_json::Value;

use super::book::{Book, Entry, Mark};
use super::{Checked, demand};

/// Whether a composite's steps and results are in order.
pub(super) fn check(book: &Book, event: &Event, limits: &Limits) -> Checked {
    match &event.fact {
        Fact::StepRequested { step, parent: Some(parent), .. } => child(book, step, parent, limits),
        Fact::StepSettled { step, .. } => {
            nothing_open_below(book, step)?;
            let Some(entry) = book.step(step) else { return Ok(()) };
            match (&entry.work, &event.content) {
                (Some(Work::Map { items, .. }), Some(Content::Output(output))) => {
                    map(book, entry, items, output)
                }
                (Some(Work::Race), Some(Content::Output(output))) => race(book, entry, output),
                _ => Ok(()),
            }
        }
        Fact::StepFailed { step, .. } | Fact::StepAbandoned { step, .. } => nothing_open_below(book, step),
        _ => Ok(()),
    }
}

fn child(book: &Book, step: &StepId, parent: &StepId, limits: &Limits) -> Checked {
    let open = book.children(parent).filter(|entry| entry.open()).count();
    let at_once = usize::try_from(limits.concurrency_max).unwrap_or(usize::MAX);
    demand(open < at_once, "what-is-at-once-is-bounded", || format!("{step}: {open} are open already"))?;
    let Some(Work::Map { items, concurrency }) = book.step(parent).and_then(|entry| entry.work.as_ref())
    else {
        return Ok(());
    };
    let most = usize::try_from((*concurrency).min(limits.concurrency_max)).unwrap_or(usize::MAX);
    demand(open < most, "maps-are-bounded", || format!("{step}: {open} of {most} are open already"))?;
    let asked = book.children(parent).count();
    demand(asked < items.len() && step.as_str() == format!("{parent}[{asked}]"), "maps-ask-in-order", || {
        format!("{step} is number {asked} of {}", items.len())
    })
}

fn map(book: &Book, entry: &Entry, items: &[Value], output: &Value) -> Checked {
    let said = || format!("{} gave {output}", entry.id);
    let got = output.as_array().map(Vec::as_slice).unwrap_or_default();
    demand(got.len() == items.len(), "maps-are-complete", said)?;
    for (child, got) in book.children(&entry.id).zip(got) {
        demand(child.mark == Mark::Settled, "maps-are-complete", said)?;
        let same = child.value.as_ref().is_none_or(|value| **value == *got);
        demand(same, "maps-keep-order", || format!("{} gave {got} for {}", entry.id, child.id))?;
    }
    Ok(())
}

fn race(book: &Book, entry: &Entry, output: &Value) -> Checked {
    let settled = book.children(&entry.id).filter(|child| child.mark == Mark::Settled);
    let winner = settled.min_by_key(|child| child.ended);
    demand(winner.is_some(), "races-are-won", || entry.id.to_string())?;
    let first = winner.and_then(|child| child.value.as_ref());
    demand(first.is_none_or(|value| **value == *output), "the-first-wins", || {
        format!("{} gave {output}, the first to settle gave {first:?}", entry.id)
    })
}

fn nothing_open_below(book: &Book, step: &StepId) -> Checked {
    let left = book.children(step).find(|child| child.open());
    demand(left.is_none(), "nothing-open-below-the-done", || {
        format!("{step} ends while {:?} is open", left.map(|child| child.id.as_str()))
    })
}

/// Whether every open step's map or race is open too. A model turn is done before its tools are asked for.
pub(super) fn nothing_orphaned(book: &Book) -> Checked {
    for entry in book.open() {
        let above = entry.parent.as_ref().and_then(|id| book.step(id));
        let stands = above.is_none_or(|above| above.open() || above.kind == StepKind::Llm);
        demand(stands, "nothing-open-below-the-done", || entry.id.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::*;
    use super::*;
    use lantern_types::EffectClass;
    use serde_json::json;

    /// A map of two items, or a race, with these children open.
    fn composite(kind: StepKind, work: Work, children: &[&str]) -> Book {
        let mut book = book(&[begun(), wants("m", kind, None, EffectClass::Pure)]);
        book.steps[0].work = Some(work);
        for child in children {
            book.apply(&event(2, wants(child, StepKind::Tool, Some("m"), EffectClass::Pure), None));
        }
        book
    }

    fn done(book: &mut Book, n: usize, step: &str, value: Value) {
        book.apply(&event(n, settled(step, 1, 0), Some(Content::Output(Arc::new(value)))));
    }

    fn gives(book: &Book, value: Value) -> Option<&'static str> {
        let event = event(9, settled("m", 1, 0), Some(Content::Output(Arc::new(value))));
        rule(check(book, &event, &Limits::default()))
    }

    #[test]
    fn a_map_out_of_bounds_or_order_is_found() {
        let work = || Work::Map { items: vec![json!(1), json!(2)], concurrency: 1 };
        let asks = |children: &[&str], next: &str| {
            let book = composite(StepKind::Map, work(), children);
            let event = event(3, wants(next, StepKind::Tool, Some("m"), EffectClass::Pure), None);
            rule(check(&book, &event, &Limits::default()))
        };
        assert_eq!(asks(&[], "m[0]"), None);
        assert_eq!(asks(&[], "m[1]"), Some("maps-ask-in-order"));
        assert_eq!(asks(&["m[0]"], "m[1]"), Some("maps-are-bounded"));
        let tight = Limits { concurrency_max: 1, ..Limits::default() };
        let race = composite(StepKind::Race, Work::Race, &["m.x"]);
        let next = event(3, wants("m.y", StepKind::Tool, Some("m"), EffectClass::Pure), None);
        assert_eq!(rule(check(&race, &next, &tight)), Some("what-is-at-once-is-bounded"));
        assert_eq!(rule(check(&race, &next, &Limits::default())), None);
        let mut book = composite(StepKind::Map, work(), &["m[0]", "m[1]"]);
        assert_eq!(gives(&book, json!([])), Some("nothing-open-below-the-done"));
        done(&mut book, 3, "m[0]", json!("a"));
        done(&mut book, 4, "m[1]", json!("b"));
        assert_eq!(gives(&book, json!(["a", "b"])), None);
        assert_eq!(gives(&book, json!(["b", "a"])), Some("maps-keep-order"));
        assert_eq!(gives(&book, json!(["a"])), Some("maps-are-complete"));
    }

    #[test]
    fn a_race_with_a_wrong_winner_or_a_loser_left_is_found() {
        let mut book = composite(StepKind::Race, Work::Race, &["m.x", "m.y"]);
        done(&mut book, 3, "m.y", json!("y"));
        assert_eq!(gives(&book, json!("y")), Some("nothing-open-below-the-done"));
        done(&mut book, 4, "m.x", json!("x"));
        assert_eq!((gives(&book, json!("y")), gives(&book, json!("x"))), (None, Some("the-first-wins")));
        let mut orphaned = composite(StepKind::Race, Work::Race, &["m.x"]);
        done(&mut orphaned, 5, "m", json!(null));
        assert_eq!(rule(nothing_orphaned(&orphaned)), Some("nothing-open-below-the-done"));
    }
}
