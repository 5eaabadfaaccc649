//! Money: `spent + held <= cap` after every event, holds are what open steps hold, and nothing that may have been
//! billed goes uncharged.

use lantern_engine::{Content, Event, Fact, Input, Run, StepKind};
use lantern_types::{Acted, MicroUsd, Price};

use super::book::{Book, Entry, Mark};
use super::{Checked, demand, micros};

/// Whether an event's amounts are the right ones.
pub(super) fn check(book: &Book, event: &Event, cause: &Input) -> Checked {
    let Some(entry) = event.fact.step().and_then(|id| book.step(id)) else { return Ok(()) };
    let hold = entry.hold.map_or(0, micros);
    let said = || format!("{:?}; {:?} holds {hold}", event.fact, entry.mark);
    match &event.fact {
        Fact::StepAdmitted { grant, .. } => {
            let total = book.spent + book.held() + micros(grant.hold);
            demand(total <= micros(book.cap) || micros(grant.hold) == 0, "grant-within-cap", said)?;
            let facts = &grant.facts;
            let known = (micros(facts.cap), micros(facts.spent), micros(facts.held));
            let true_facts = (micros(book.cap), book.spent, book.held());
            demand(known == true_facts, "grant-facts-true", || format!("{known:?}, were {true_facts:?}"))
        }
        Fact::StepDenied { reason, .. } => match worst(reason) {
            // Somebody else's hold would have made room: then it was to wait for that.
            Some(worst) if book.coming() > 0 => {
                let at_best = book.spent + book.unconfirmed + worst;
                demand(at_best > micros(book.cap), "denied-only-when-nothing-comes-back", said)
            }
            _ => Ok(()),
        },
        Fact::StepSettled { cost, .. } => {
            demand((0..=hold).contains(&micros(*cost)), "cost-within-hold", said)?;
            match reply_cost(entry, event) {
                Some(due) => demand(micros(*cost) == due, "cost-is-usage-at-price", || {
                    format!("{} is due {due}, charged {cost}", entry.id)
                }),
                None => Ok(()),
            }
        }
        Fact::StepFailed { acted, cost, unconfirmed, owing, tells_by, .. } => {
            if entry.kind == StepKind::Child {
                demand(*owing == tells_by.is_some(), "who-owes-has-a-time", said)?;
                return demand((0..=hold).contains(&micros(*cost)), "cost-within-hold", said);
            }
            let resolved = entry.mark == Mark::Resolved(false);
            demand(*acted != Acted::No || !entry.unsure || resolved, "unknown-stays-unknown", said)?;
            // A refusal of the last send does not cost, though an earlier one may have acted, and is unconfirmed.
            let last = match cause {
                Input::Performed { result: Err(failure), .. } => failure.acted,
                _ => *acted,
            };
            amounts((last, hold), (*cost, *unconfirmed), said)
        }
        Fact::StepRetrying { acted, cost, unconfirmed, .. } => {
            amounts((*acted, hold), (*cost, *unconfirmed), said)
        }
        Fact::StepAbandoned { cost, unconfirmed, owing, tells_by, .. } => {
            let waits = entry.kind == StepKind::Child && hold > 0;
            demand(*owing == waits, "a-child-that-has-not-told-is-owing", said)?;
            demand(*owing == tells_by.is_some(), "who-owes-has-a-time", said)?;
            let may = entry.may_have_acted() && !waits;
            let acted = if may { Acted::Unknown } else { Acted::No };
            amounts((acted, hold), (*cost, *unconfirmed), said)
        }
        _ => Ok(()),
    }
}

/// What a call that was denied for want of money could have cost, as the denial says.
fn worst(reason: &str) -> Option<i128> {
    let (amount, _) = reason.strip_prefix("this call could cost ")?.split_once(';')?;
    MicroUsd::parse_usd(amount.strip_prefix('$')?).map(micros)
}

/// Whether an attempt that ended is booked as what is known of it: nothing, its cost, or its hold as what it may have cost.
fn amounts(
    (acted, hold): (Acted, i128),
    (cost, unconfirmed): (MicroUsd, MicroUsd),
    said: impl Fn() -> String,
) -> Checked {
    let most = if acted == Acted::Yes { hold } else { 0 };
    demand((0..=most).contains(&micros(cost)), "cost-within-hold", &said)?;
    let due = if acted == Acted::Unknown { hold } else { 0 };
    demand(micros(unconfirmed) == due, "held-when-it-may-have-acted", said)
}

/// What a reply costs by its usage; the whole hold when the provider did not say.
fn reply_cost(entry: &Entry, event: &Event) -> Option<i128> {
    let Some(Content::Reply { reply, .. }) = &event.content else { return None };
    let Some(usage) = reply.usage else { return entry.hold.map(micros) };
    let Price { input, output } = entry.price?;
    let side = |tokens: u64, rate| (i128::from(tokens) * micros(rate) + 999_999) / 1_000_000;
    Some(side(usage.tokens_in, input) + side(usage.tokens_out, output))
}

/// Whether the run's own account is the book's.
pub(super) fn agrees(book: &Book, run: &Run) -> Checked {
    let theirs = (micros(run.spent), micros(run.held));
    let ours = (book.spent, book.held());
    demand(theirs == ours, "books-agree", || {
        format!("run says {theirs:?}, events say {ours:?} (spent, held)")
    })?;
    demand(ours.0 + ours.1 <= micros(book.cap), "spent-and-held-within-cap", || {
        format!("{ours:?} of {}", book.cap)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use lantern_types::EffectClass;

    #[test]
    fn wrong_amounts_are_found() {
        let open = || vec![begun(), tool("a", EffectClass::Keyed), admitted("a", 1, 1, 100)];
        let two = || [open(), vec![tool("b", EffectClass::Keyed)]].concat();
        let crashed = || [open(), vec![reissued("a", 1, 2)]].concat();
        let resting = || [open(), vec![retrying("a", 1, 2, Acted::Unknown, 9)]].concat();
        let again =
            || [open(), vec![lost("a", 2, 100, 9), readmitted("a", 1), admitted("a", 1, 2, 100)]].concat();
        let refused = || [open(), vec![retrying("a", 2, 2, Acted::No, 9)]].concat();
        let denied = |amount: &str| Fact::StepDenied {
            step: id("b"),
            code: "run_budget_exceeded".into(),
            reason: format!("this call could cost {amount}; the run has spent some"),
            grounds: None,
        };
        let lost_too = || [two(), vec![lost("a", 2, 100, 9)]].concat();
        for (facts, next, want) in [
            (two(), denied("$0.000950"), Some("denied-only-when-nothing-comes-back")),
            (two(), denied("$0.001001"), None),
            (lost_too(), denied("$0.000950"), None),
            (open(), settled("a", 1, 100), None),
            (open(), settled("a", 1, 101), Some("cost-within-hold")),
            (two(), admitted("b", 1, 1, 901), Some("grant-within-cap")),
            (two(), admitted("b", 1, 1, 9), Some("grant-facts-true")),
            (open(), failed("a", Acted::Unknown, 100), None),
            (open(), failed("a", Acted::Unknown, 0), Some("held-when-it-may-have-acted")),
            (open(), failed("a", Acted::No, 0), None),
            (crashed(), failed("a", Acted::No, 0), Some("unknown-stays-unknown")),
            (open(), lost("a", 2, 100, 9), None),
            (open(), lost("a", 2, 99, 9), Some("held-when-it-may-have-acted")),
            (open(), retrying("a", 1, 2, Acted::Unknown, 9), Some("held-when-it-may-have-acted")),
            (open(), retrying("a", 2, 2, Acted::No, 9), None),
            (again(), failed("a", Acted::Unknown, 100), None),
            (open(), abandoned("a", 0), Some("held-when-it-may-have-acted")),
            (resting(), abandoned("a", 100), None),
            (refused(), abandoned("a", 100), Some("held-when-it-may-have-acted")),
        ] {
            let check = |book: &Book, event: &Event| check(book, event, &Input::Wake);
            assert_eq!(broken(&facts, next.clone(), check), want, "{next:?}");
        }
    }

    #[test]
    fn a_refusal_after_a_send_that_broke_off_costs_nothing() {
        let lost = [begun(), tool("a", EffectClass::Keyed), admitted("a", 1, 1, 100), lost("a", 2, 100, 9)];
        let facts = [lost.to_vec(), vec![readmitted("a", 1), admitted("a", 1, 2, 100)]].concat();
        let refusal = |acted| Input::Performed {
            step: id("a"),
            generation: 1,
            result: Err(lantern_types::Failure { acted, ..lantern_types::Failure::refused("x", "no") }),
        };
        for (acted, cost, want) in [
            (Acted::No, 0, None),
            (Acted::No, 100, Some("held-when-it-may-have-acted")),
            (Acted::Unknown, 0, Some("held-when-it-may-have-acted")),
        ] {
            let check = |book: &Book, event: &Event| check(book, event, &refusal(acted));
            assert_eq!(broken(&facts, failed("a", Acted::Unknown, cost), check), want, "{acted:?} {cost}");
        }
    }

    #[test]
    fn a_run_that_keeps_other_books_is_found() {
        let (mut run, _) = super::super::journal::tests::one_event();
        let facts = [begun(), tool("a", EffectClass::Keyed), admitted("a", 1, 1, 100)];
        assert_eq!(rule(agrees(&book(&facts), &run)), Some("books-agree"));
        run.held = MicroUsd::from_micros(100);
        assert_eq!(rule(agrees(&book(&facts), &run)), None);
        let mut over = book(&facts);
        over.cap = MicroUsd::from_micros(99);
        assert_eq!(rule(agrees(&over, &run)), Some("spent-and-held-within-cap"));
    }
}
