//! What reaches the outside: only what the durable journal owes, and each thing as often as its class allows.
//!
//! Here the checker knows what the engine cannot: whether a send that brought no answer had acted.

use std::collections::BTreeMap;

use lantern_engine::StepId;
use lantern_types::{EffectClass, MicroUsd, RunId};

use super::book::{Book, Mark};
use super::{Checked, demand};

/// One send, as the outside sees it.
pub(crate) struct Send<'a> {
    pub(crate) run: RunId,
    pub(crate) step: &'a StepId,
    pub(crate) generation: u32,
    pub(crate) effect: EffectClass,
    /// Whether the other side certainly does nothing, and says so.
    pub(crate) refused: bool,
    /// The most sends of one step.
    pub(crate) attempts_max: u32,
}

/// Whether the question about a step is one that may be asked.
pub(super) fn asked(book: Option<&Book>, step: &StepId, effect: EffectClass) -> Checked {
    let doubted = book.and_then(|book| book.step(step)).is_some_and(|entry| entry.mark == Mark::Doubt);
    demand(doubted && effect == EffectClass::Reconcilable, "only-the-doubted-is-asked-about", || {
        format!("{step} ({effect:?})")
    })
}

/// Every send so far.
#[derive(Debug, Default)]
pub(super) struct Sends(BTreeMap<(RunId, StepId), Vec<Sent>>);

/// One of them.
#[derive(Debug)]
struct Sent {
    generation: u32,
    /// Which admission of the step it was made under.
    grant: usize,
    /// Whether it certainly did nothing, because it was refused or later denied.
    nothing: bool,
}

impl Sends {
    /// What was sent under a key did not happen.
    pub(super) fn absent(&mut self, run: RunId, step: &StepId, generation: u32) {
        let sends = self.0.get_mut(&(run, step.clone())).into_iter().flatten();
        sends.filter(|sent| sent.generation == generation).for_each(|sent| sent.nothing = true);
    }

    /// Looks at one more send.
    pub(super) fn sent(&mut self, send: &Send<'_>, book: Option<&Book>) -> Checked {
        let said = || format!("{} generation {} ({:?})", send.step, send.generation, send.effect);
        let entry = book.filter(|book| book.over.is_none()).and_then(|book| book.step(send.step));
        let owed = entry.is_some_and(|e| e.mark == Mark::Performing && e.generation == send.generation);
        demand(owed, "only-what-is-owed-is-sent", || {
            format!("{}; the journal says {:?}", said(), entry.map(|entry| entry.mark))
        })?;
        let earlier = self.0.entry((send.run, send.step.clone())).or_default();
        let again = earlier.iter().any(|sent| sent.generation == send.generation);
        demand(send.effect.repeats() || !again, "the-unrepeatable-is-sent-once", said)?;
        let mut older = earlier.iter().filter(|sent| sent.generation < send.generation);
        demand(older.all(|sent| sent.nothing), "a-new-key-only-after-refusals", || {
            format!("{}; an earlier key may have acted", said())
        })?;
        // The other side may bill every send, whatever its key says.
        let (grant, paid) =
            entry.map_or((0, false), |e| (e.grants, e.hold.unwrap_or_default() > MicroUsd::ZERO));
        let shares = earlier.iter().any(|sent| sent.grant == grant && !sent.nothing);
        demand(!(paid && shares), "every-billable-send-has-its-own-hold", said)?;
        earlier.push(Sent { generation: send.generation, grant, nothing: send.refused });
        let most = usize::try_from(send.attempts_max).unwrap_or(usize::MAX);
        demand(earlier.len() <= most, "attempts-are-bounded", || {
            format!("{}: {} sends", said(), earlier.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use lantern_engine::Fact;
    use lantern_types::{Acted, DEV_TENANT};

    fn send(step: &StepId, generation: u32, effect: EffectClass, refused: bool) -> Send<'_> {
        let run = RunId::from_uuid(DEV_TENANT.uuid());
        Send { run, step, generation, effect, refused, attempts_max: 3 }
    }

    #[test]
    fn sends_that_nobody_owes_are_found() {
        let (a, keyed) = (id("a"), EffectClass::Keyed);
        let open = [begun(), tool("a", keyed), admitted("a", 1, 1, 0)];
        let done = [open.to_vec(), vec![settled("a", 1, 0)]].concat();
        let wrong = Some("only-what-is-owed-is-sent");
        for (facts, generation, want) in
            [(&open[..2], 1, wrong), (&open[..], 1, None), (&open[..], 2, wrong), (&done[..], 1, wrong)]
        {
            let send = send(&a, generation, keyed, false);
            assert_eq!(rule(Sends::default().sent(&send, Some(&book(facts)))), want);
        }
    }

    #[test]
    fn repeats_and_new_keys_that_may_act_twice_are_found() {
        let a = id("a");
        for (effect, want) in [
            (EffectClass::Keyed, None),
            (EffectClass::Reconcilable, Some("the-unrepeatable-is-sent-once")),
            (EffectClass::Irreversible, Some("the-unrepeatable-is-sent-once")),
        ] {
            let mut sends = Sends::default();
            let book = book(&[begun(), tool("a", effect), admitted("a", 1, 1, 0)]);
            sends.sent(&send(&a, 1, effect, false), Some(&book)).unwrap();
            assert_eq!(rule(sends.sent(&send(&a, 1, effect, false), Some(&book))), want);
        }
        for (refused, want) in [(true, None), (false, Some("a-new-key-only-after-refusals"))] {
            let (mut sends, keyed) = (Sends::default(), EffectClass::Keyed);
            let first = [begun(), tool("a", keyed), admitted("a", 1, 1, 0)];
            let ready = Fact::StepReadmitted { step: id("a"), generation: 2, kind: None };
            let again = vec![retrying("a", 2, 2, Acted::No, 3), ready, admitted("a", 2, 2, 0)];
            sends.sent(&send(&a, 1, keyed, refused), Some(&book(&first))).unwrap();
            let second = book(&[first.to_vec(), again].concat());
            assert_eq!(rule(sends.sent(&send(&a, 2, keyed, false), Some(&second))), want);
        }
    }

    #[test]
    fn two_sends_that_may_be_billed_under_one_hold_are_found() {
        let (a, keyed) = (id("a"), EffectClass::Keyed);
        for (hold, refused, want) in
            [(100, false, Some("every-billable-send-has-its-own-hold")), (100, true, None), (0, false, None)]
        {
            let mut sends = Sends::default();
            let first = vec![begun(), tool("a", keyed), admitted("a", 1, 1, hold)];
            sends.sent(&send(&a, 1, keyed, refused), Some(&book(&first))).unwrap();
            let shared = book(&[first.clone(), vec![reissued("a", 1, 2)]].concat());
            assert_eq!(rule(sends.sent(&send(&a, 1, keyed, false), Some(&shared))), want);
            let own = vec![lost("a", 2, hold, 3), readmitted("a", 1), admitted("a", 1, 2, hold)];
            let own = book(&[first, own].concat());
            assert_eq!(rule(sends.sent(&send(&a, 1, keyed, false), Some(&own))), None);
        }
    }

    #[test]
    fn a_new_key_after_a_finding_is_fine_and_a_wrong_question_is_found() {
        let (a, effect, mut sends) = (id("a"), EffectClass::Reconcilable, Sends::default());
        let first = [begun(), tool("a", effect), admitted("a", 1, 1, 0)];
        sends.sent(&send(&a, 1, effect, false), Some(&book(&first))).unwrap();
        let ready = Fact::StepReadmitted { step: id("a"), generation: 2, kind: None };
        let again = vec![retrying("a", 2, 2, Acted::No, 3), ready, admitted("a", 2, 2, 0)];
        let second = book(&[first.to_vec(), again].concat());
        sends.absent(RunId::from_uuid(DEV_TENANT.uuid()), &a, 1);
        assert_eq!(rule(sends.sent(&send(&a, 2, effect, false), Some(&second))), None);
        let doubted = book(&[first.to_vec(), vec![doubted("a", "crashed")]].concat());
        let wrong = Some("only-the-doubted-is-asked-about");
        assert_eq!(rule(asked(Some(&doubted), &a, effect)), None);
        assert_eq!(rule(asked(Some(&doubted), &a, EffectClass::Irreversible)), wrong);
        assert_eq!(rule(asked(Some(&second), &a, effect)), wrong);
    }

    #[test]
    fn endless_attempts_are_found() {
        let (a, mut sends) = (id("a"), Sends::default());
        let book = book(&[begun(), tool("a", EffectClass::Pure), admitted("a", 1, 1, 0)]);
        let mut again = || rule(sends.sent(&send(&a, 1, EffectClass::Pure, false), Some(&book)));
        assert_eq!([again(), again(), again(), again()], [None, None, None, Some("attempts-are-bounded")]);
    }
}
