//! Parents and children: one run for each child step, within what the step holds, and booked for what it spent.

use std::collections::{BTreeMap, BTreeSet};

use lantern_engine::{StepId, StepKind};
use lantern_types::{MicroUsd, RunId};

use super::book::{Book, Entry, Mark};
use super::{Checked, demand, micros};

/// How a run came to be started by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    /// The run that started it.
    pub(crate) parent: RunId,
    /// The child step; `None` for a continuation.
    pub(crate) step: Option<StepId>,
    /// Which try of it; of a continuation, that of the first run.
    pub(crate) generation: Option<u32>,
    /// What it may spend.
    pub(crate) cap: MicroUsd,
}

/// Every start so far, and every child that was told to stop.
#[derive(Debug, Default)]
pub(crate) struct Family {
    births: BTreeMap<RunId, Birth>,
    told: BTreeSet<RunId>,
}

impl Family {
    /// Looks at a start, which may be a second copy of an earlier one.
    pub(super) fn born(&mut self, child: RunId, birth: Birth, books: &BTreeMap<RunId, Book>) -> Checked {
        let said = || format!("{birth:?}");
        let known = self.births.get(&child);
        demand(known.is_none_or(|known| *known == birth), "child-ids-unique", said)?;
        let twin = |(id, other): (&RunId, &Birth)| {
            let same = other.step == birth.step && other.generation == birth.generation;
            *id != child && other.parent == birth.parent && same
        };
        demand(!self.births.iter().any(twin), "one-run-for-each-child-step", said)?;
        if let Some(parent) = books.get(&birth.parent) {
            match birth.step.as_ref() {
                Some(step) => {
                    let hold = parent.step(step).and_then(|entry| entry.hold).unwrap_or(birth.cap);
                    demand(birth.cap <= hold, "a-child-may-spend-its-hold", said)?;
                }
                None => demand(
                    parent.next == Some(child)
                        && parent.spent + parent.held() + micros(birth.cap) <= micros(parent.cap),
                    "a-continuation-may-spend-what-is-left",
                    said,
                )?,
            }
        }
        self.births.insert(child, birth);
        Ok(())
    }

    /// Looks at a run as somebody's parent and as somebody's child.
    pub(super) fn commit(&self, run: RunId, books: &BTreeMap<RunId, Book>) -> Checked {
        for (child, birth) in
            self.births.iter().filter(|(child, birth)| **child == run || birth.parent == run)
        {
            pair(&self.chain(*child), birth, books)?;
        }
        Ok(())
    }

    /// A run and those that it went on as, in order.
    fn chain(&self, first: RunId) -> Vec<RunId> {
        let mut chain = vec![first];
        let next = |last: RunId| {
            self.births
                .iter()
                .find(|(_, birth)| birth.parent == last && birth.step.is_none())
                .map(|(run, _)| *run)
        };
        while let Some(run) = chain.last().copied().and_then(next) {
            chain.push(run);
        }
        chain
    }

    /// A child was told to stop.
    pub(super) fn cancelled(&mut self, child: RunId) {
        self.told.insert(child);
    }

    /// Whether every child whose step was dropped was told to stop.
    pub(super) fn closed(&self, books: &BTreeMap<RunId, Book>) -> Checked {
        for (child, birth) in &self.births {
            let step = birth.step.as_ref().and_then(|step| books.get(&birth.parent)?.step(step));
            let last = |step: &&Entry| birth.generation == Some(step.generation);
            let dropped = step.filter(last).is_some_and(|step| step.mark == Mark::Abandoned);
            demand(!dropped || self.told.contains(child), "dropped-children-are-cancelled", || {
                format!("{birth:?}")
            })?;
        }
        Ok(())
    }

    /// The run that answers for a child step, if one was started: the last that it went on as.
    pub(super) fn child(&self, parent: RunId, step: &StepId) -> Option<RunId> {
        let of = |birth: &Birth| birth.parent == parent && birth.step.as_ref() == Some(step);
        let tries = self.births.iter().filter(|(_, birth)| of(birth));
        let first = tries.max_by_key(|(_, birth)| birth.generation).map(|(child, _)| *child)?;
        self.chain(first).pop()
    }
}

/// A child, with all that it went on as, beside the step that asked for it.
fn pair(chain: &[RunId], birth: &Birth, books: &BTreeMap<RunId, Book>) -> Checked {
    let entry = birth.step.as_ref().and_then(|step| books.get(&birth.parent)?.step(step));
    let runs: Vec<&Book> = chain.iter().filter_map(|run| books.get(run)).collect();
    let (Some(last), Some(entry)) = (runs.last(), entry) else { return Ok(()) };
    let spent = runs.iter().map(|book| book.spent + book.unconfirmed).sum();
    let held = last.held() - last.unconfirmed;
    let said = || {
        format!("{} {:?} cost {}; its run spent {spent} and holds {held}", entry.id, entry.mark, entry.cost)
    };
    demand(entry.kind == StepKind::Child, "only-child-steps-start-runs", said)?;
    let tried = birth.generation.filter(|of| *of < entry.generation);
    if let Some(of) = tried {
        let charged = usize::try_from(of).ok().and_then(|of| entry.tries.get(of.saturating_sub(1)));
        demand(last.over.is_some(), "a-child-is-made-again-after-it-ended", said)?;
        return demand(charged.copied().map(micros) == Some(spent), "a-child-costs-what-it-spent", said);
    }
    match entry.mark {
        _ if entry.hold.is_some() => {
            let hold = entry.hold.map_or(0, micros);
            demand(hold >= spent + held, "a-childs-spending-is-covered", said)
        }
        Mark::Settled | Mark::Failed => {
            demand(last.over.is_some(), "a-child-step-ends-after-its-run", said)?;
            demand(micros(entry.cost) == spent, "a-child-costs-what-it-spent", said)
        }
        // Charged what its child told, or all that it held.
        Mark::Abandoned => {
            let covered = micros(entry.cost) + micros(entry.doubtful);
            demand(covered >= spent + held, "a-childs-spending-is-covered", said)
        }
        _ => demand(spent + held == 0, "a-childs-spending-is-covered", said),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use lantern_engine::{Fact, Outcome};
    use lantern_types::{DEV_TENANT, DEV_USER, EffectClass};

    const PARENT: RunId = RunId::from_uuid(DEV_TENANT.uuid());
    const CHILD: RunId = RunId::from_uuid(DEV_USER.uuid());

    /// A child run that spent 40 of the 100 that its step holds; the parent then lives through `end`.
    fn spent_40(end: Vec<Fact>, over: bool) -> (Family, BTreeMap<RunId, Book>) {
        let wants = wants("c", StepKind::Child, None, EffectClass::Keyed);
        let parent = [vec![begun(), wants, admitted("c", 1, 1, 100)], end].concat();
        let mut child =
            vec![begun(), tool("t", EffectClass::Keyed), admitted("t", 1, 1, 40), settled("t", 1, 40)];
        if over {
            child.push(finish(Outcome::Succeeded));
        }
        let books = BTreeMap::from([(PARENT, book(&parent)), (CHILD, book(&child))]);
        (Family { births: BTreeMap::from([(CHILD, birth(100))]), told: BTreeSet::new() }, books)
    }

    fn birth(cap: i64) -> Birth {
        Birth { parent: PARENT, step: Some(id("c")), generation: Some(1), cap: MicroUsd::from_micros(cap) }
    }

    #[test]
    fn a_child_that_costs_another_amount_is_found() {
        for (end, over, want) in [
            (vec![], false, None),
            (vec![settled("c", 1, 40)], true, None),
            (vec![settled("c", 1, 40)], false, Some("a-child-step-ends-after-its-run")),
            (vec![settled("c", 1, 0)], true, Some("a-child-costs-what-it-spent")),
            (vec![abandoned("c", 100)], false, None),
            (vec![abandoned("c", 0)], false, Some("a-childs-spending-is-covered")),
            (vec![owing("c")], false, None),
            (vec![owing("c"), charged("c", 40)], true, None),
            (vec![owing("c"), charged("c", 30)], true, Some("a-childs-spending-is-covered")),
        ] {
            let (family, books) = spent_40(end, over);
            assert_eq!(rule(family.commit(CHILD, &books)), want);
            assert_eq!(rule(family.commit(PARENT, &books)), want);
        }
    }

    #[test]
    fn a_dropped_child_that_nobody_told_is_found() {
        let (mut family, books) = spent_40(vec![abandoned("c", 100)], false);
        assert_eq!(rule(family.closed(&books)), Some("dropped-children-are-cancelled"));
        family.cancelled(CHILD);
        assert_eq!(rule(family.closed(&books)), None);
    }

    #[test]
    fn twins_and_generous_caps_are_found() {
        let (mut family, books) = spent_40(vec![], false);
        assert_eq!(rule(family.born(CHILD, birth(100), &books)), None, "a second copy");
        assert_eq!(rule(family.born(CHILD, birth(101), &books)), Some("child-ids-unique"));
        assert_eq!(rule(family.born(PARENT, birth(100), &books)), Some("one-run-for-each-child-step"));
        assert_eq!(
            rule(Family::default().born(CHILD, birth(101), &books)),
            Some("a-child-may-spend-its-hold")
        );
        let next = Birth { step: None, ..birth(1_000) };
        let rich = rule(Family::default().born(CHILD, next, &books));
        assert_eq!(rich, Some("a-continuation-may-spend-what-is-left"));
    }
}
