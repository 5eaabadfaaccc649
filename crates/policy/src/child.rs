//! What a run may hand on to a run that it starts.
//!
//! Invariant: a child is held no more than is left of its parent's cap, so a tree of runs never spends more than its root may.
//! What the child's own version allows is not known yet: it bounds the child when that starts, and what it leaves comes back.

use lantern_types::{Denial, Grant, Limits, MicroUsd};

use crate::admit::{OVER_BUDGET, Purse, Terms, admit_plain};

/// What a step that starts a run asks for.
#[derive(Clone, Copy, Debug)]
pub struct ChildRequest {
    /// How many runs stand above the one that asks.
    pub depth: u32,
    /// Steps that cost money and wait for their admission at the same time, this one included.
    pub asking: usize,
}

/// Whether a run may be started, and what is held for it: its share of what is left. The first of several must not take it all.
pub fn admit_child(
    purse: Purse,
    request: ChildRequest,
    limits: &Limits,
    terms: Terms,
) -> Result<Grant, Denial> {
    let deepest = limits.child_depth_max;
    if request.depth >= deepest {
        return Err(Denial::new("too_deep", format!("runs start runs at most {deepest} deep")));
    }
    let left = left(purse);
    if left == MicroUsd::ZERO && purse.cap > MicroUsd::ZERO {
        return Err(Denial::new(OVER_BUDGET, "nothing is left of the run's budget for another run"));
    }
    Ok(Grant { hold: share(left, request.asking), ..admit_plain(purse, terms) })
}

/// What the rules before the fourth held for a child: at most what a run may spend that says nothing.
pub fn before(purse: Purse, asking: usize, usual: MicroUsd) -> MicroUsd {
    share(left(purse), asking).min(usual)
}

fn left(purse: Purse) -> MicroUsd {
    let left = purse.cap.minus(purse.spent).and_then(|left| left.minus(purse.held));
    left.unwrap_or_default().max(MicroUsd::ZERO)
}

/// An equal part, rounded down.
fn share(left: MicroUsd, asking: usize) -> MicroUsd {
    MicroUsd::from_micros(left.micros() / i64::try_from(asking).unwrap_or(i64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, admit_or_wait};

    const DOLLAR: i64 = 1_000_000;

    fn purse(cap: i64, spent: i64, held: i64) -> Purse {
        let usd = MicroUsd::from_micros;
        Purse { cap: usd(cap), spent: usd(spent), held: usd(held), unconfirmed: MicroUsd::ZERO }
    }

    #[test]
    fn what_is_left_is_shared_among_those_that_ask_and_nothing_is_made_up() {
        let limits = Limits::default();
        let terms = Terms::of(&Catalogue::builtin().unwrap(), &limits);
        for (purse, depth, asking, want) in [
            (purse(40 * DOLLAR, 0, 0), 0, 1, Ok(Some(40 * DOLLAR))),
            (purse(40 * DOLLAR, 10 * DOLLAR, 2 * DOLLAR), 0, 1, Ok(Some(28 * DOLLAR))),
            (purse(40 * DOLLAR, 0, 0), 0, 4, Ok(Some(10 * DOLLAR))),
            (purse(10, 0, 0), 0, 3, Ok(Some(3))),
            (purse(10, 0, 9), 0, 1, Ok(Some(1))),
            (purse(10, 1, 9), 0, 1, Ok(None)),
            (purse(10, 10, 0), 0, 1, Err("run_budget_exceeded")),
            (purse(10, 11, 0), 0, 1, Err("run_budget_exceeded")),
            (purse(0, 0, 0), 0, 1, Ok(Some(0))),
            (purse(10, 0, 0), limits.child_depth_max, 1, Err("too_deep")),
            (purse(10, 0, 0), limits.child_depth_max - 1, 0, Ok(Some(10))),
            (purse(i64::MAX, i64::MIN, 0), 0, 1, Err("run_budget_exceeded")),
        ] {
            let request = ChildRequest { depth, asking };
            let got = admit_or_wait(purse, |purse| admit_child(purse, request, &limits, terms));
            let got = got.map(|grant| grant.map(|grant| grant.hold.micros())).map_err(|denial| denial.code);
            assert_eq!(got, want.map_err(str::to_owned), "{purse:?} {depth} {asking}");
        }
    }

    #[test]
    fn several_that_ask_at_once_come_to_no_more_than_there_is() {
        let limits = Limits::default();
        let terms = Terms::of(&Catalogue::builtin().unwrap(), &limits);
        for (cap, children) in [(40 * DOLLAR, 4_usize), (7, 3), (2, 5), (1, 1)] {
            let (mut purse, mut holds) = (purse(cap, 0, 0), Vec::new());
            for asking in (1..=children).rev() {
                let Ok(grant) = admit_child(purse, ChildRequest { depth: 0, asking }, &limits, terms) else {
                    break;
                };
                purse.held = purse.held.plus(grant.hold).unwrap();
                holds.push(grant.hold.micros());
            }
            assert!(holds.iter().sum::<i64>() <= cap, "{holds:?} of {cap}");
            let (least, most) = (holds.iter().min().unwrap(), holds.iter().max().unwrap());
            assert!(most - least <= 1, "{holds:?} are equal parts");
        }
    }

    #[test]
    fn earlier_rules_held_what_a_run_may_spend_that_says_nothing() {
        let usual = MicroUsd::from_micros(5 * DOLLAR);
        for (purse, asking, want) in
            [(purse(40 * DOLLAR, 0, 0), 1, 5 * DOLLAR), (purse(9, 0, 0), 2, 4), (purse(1, 2, 0), 1, 0)]
        {
            assert_eq!(before(purse, asking, usual).micros(), want);
        }
    }
}
