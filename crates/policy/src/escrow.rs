//! Escrow: how much of an account a process takes, what it grants from that in memory, and what a call comes to cost.
//!
//! Invariant: a process grants no more than it has taken, and takes no more than is left. So `spent + held <= cap` of an account
//! holds at every instant whatever any process does, as long as no call costs more than was held for it. What a provider charges
//! beyond that is charged all the same, and said.

use lantern_types::call::{CallEnd, OnLimit, Used};
use lantern_types::money::{self, Overflow};
use lantern_types::{MicroUsd, Price, Tokens};

/// A slice is at most so many of the dearest calls…
const CALLS: i64 = 8;
/// …or this part of what is left, if that is more.
const PART: i64 = 100;
/// What a call is framed with, in tokens, beside its own bytes.
const FRAMING_TOKENS: u64 = 256;
/// A prompt token that is written to a provider's cache costs at most so many.
const CACHE_WRITE: u64 = 2;
/// No text has more bytes for each token, on average.
const BYTES_PER_TOKEN_MAX: u64 = 8;
/// Few texts have less.
const BYTES_PER_TOKEN_MIN: u64 = 2;

/// An account as its row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The most that may be spent in its period.
    pub cap: MicroUsd,
    /// What is settled.
    pub spent: MicroUsd,
    /// What processes have taken and not settled.
    pub held: MicroUsd,
}

impl Account {
    /// What nobody has spent or taken.
    pub fn left(self) -> MicroUsd {
        let taken = self.spent.micros().saturating_add(self.held.micros());
        MicroUsd::from_micros(self.cap.micros().saturating_sub(taken).max(0))
    }

    /// The same for whoever takes a slice: a part of what is left is a part of what `cap` would leave if nothing were spent, and never of
    /// all that there is.
    #[must_use]
    pub fn within(self, cap: MicroUsd, need: MicroUsd) -> Self {
        let taken = self.spent.micros().saturating_add(self.held.micros());
        let most = MicroUsd::from_micros(taken.saturating_add(cap.micros().max(need.micros())));
        Self { cap: self.cap.min(most), ..self }
    }

    /// Why `hold` does not fit, given that it does not.
    pub fn lack(self, hold: MicroUsd) -> Lack {
        match self.spent.plus(hold) {
            Ok(total) if total <= self.cap => Lack::Held,
            _ => Lack::Spent,
        }
    }

    /// How much a process takes that wants `need` now, for a call that costs at most `worst`. For one call it is that and no
    /// more: a crash charges what was taken, and with few calls there is no hurry. With `several` at once it is enough for some
    /// of them, at most half of what is left so that others find something too, and never less than it needs. `None` when there
    /// is not so much.
    pub fn slice(self, worst: MicroUsd, need: MicroUsd, several: bool) -> Option<MicroUsd> {
        let (left, need) = (self.left().micros(), need.micros().max(0));
        let wish = if several { worst.micros().max(0).saturating_mul(CALLS).max(left / PART) } else { 0 };
        (need <= left).then(|| MicroUsd::from_micros(wish.min(left / 2).max(need)))
    }
}

/// What the rest of a period takes: as much as it comes to.
pub const REST: MicroUsd = MicroUsd::from_micros(i64::MAX);

/// What people said about passing a cap in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// How much more may be spent; [`REST`] for all that comes.
    pub more: MicroUsd,
    /// Questions that are closed.
    pub asked: u32,
    /// Somebody said no last.
    pub refused: bool,
}

/// Whether people are asked for what an account does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Nobody is: the cap does not ask.
    Never,
    /// Somebody said no.
    Refused,
    /// They are, by the question after so many.
    After(u32),
}

/// What may be spent of a cap in a period in which people said this. Only a cap that asks is raised by what they say.
pub fn raised(cap: MicroUsd, on_limit: OnLimit, said: Said) -> MicroUsd {
    match on_limit {
        OnLimit::Ask => cap.plus(said.more).unwrap_or(REST),
        OnLimit::Hard | OnLimit::Stop => cap,
    }
}

/// Whether people are asked once a cap leaves too little.
pub const fn asks(on_limit: OnLimit, said: Said) -> Asks {
    match on_limit {
        OnLimit::Ask if said.refused => Asks::Refused,
        OnLimit::Ask => Asks::After(said.asked),
        OnLimit::Hard | OnLimit::Stop => Asks::Never,
    }
}

/// From which amount on a warning is due, when it is at so many percent of a cap.
pub fn notify_at(cap: MicroUsd, percent: u8) -> MicroUsd {
    let hundredths = i128::from(cap.micros()) * i128::from(percent.min(100));
    let rounded_up = (hundredths + 99).div_euclid(100);
    MicroUsd::from_micros(i64::try_from(rounded_up).unwrap_or(i64::MAX))
}

/// Why so much cannot be held of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It is held for others, who may give it back.
    Held,
    /// It is spent, or there never was so much.
    Spent,
}

/// What a process has taken of one account and not yet written off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    taken: i64,
    granted: i64,
    charged: i64,
}

/// What settling a call comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// What is spent.
    pub cost: MicroUsd,
    /// How much of that the slice pays: all of it, but for what passes everything that the process has.
    pub drawn: MicroUsd,
}

impl Slice {
    /// What can be granted.
    pub const fn free(&self) -> MicroUsd {
        MicroUsd::from_micros(self.taken - self.granted - self.charged)
    }

    /// Whether something is held of it for a call.
    pub const fn in_use(&self) -> bool {
        self.granted > 0
    }

    /// More was taken, durably.
    pub const fn add(&mut self, amount: MicroUsd) {
        self.taken = self.taken.saturating_add(amount.micros());
    }

    /// Holds so much for a call, if it is there.
    pub const fn grant(&mut self, hold: MicroUsd) -> bool {
        let fits = hold.micros() >= 0 && hold.micros() <= self.free().micros();
        if fits {
            self.granted += hold.micros();
        }
        fits
    }

    /// A call that was granted `hold` has cost `cost`. What it did not need is free again at once; what it did stays taken
    /// until [`written`](Self::written).
    pub fn settle(&mut self, hold: MicroUsd, cost: MicroUsd) -> Charge {
        self.granted = (self.granted - hold.micros()).max(0);
        let drawn = cost.micros().clamp(0, self.free().micros().max(0));
        self.charged += drawn;
        Charge { cost, drawn: MicroUsd::from_micros(drawn) }
    }

    /// What was charged is durable, and no longer of the slice.
    pub fn written(&mut self, drawn: MicroUsd) {
        assert!(drawn.micros() <= self.charged, "no more is written off than was charged");
        self.taken -= drawn.micros();
        self.charged -= drawn.micros();
    }

    /// Whether no call holds any of it, and nothing is to be written: it may be given back.
    pub const fn is_idle(&self) -> bool {
        self.granted == 0 && self.charged == 0
    }
}

/// Money that is held for a call: what lets it be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    hold: MicroUsd,
}

impl Granted {
    /// How much.
    pub const fn hold(&self) -> MicroUsd {
        self.hold
    }
}

/// Holds so much in every one of these slices, or in none. Without any slice nobody bounds what is spent.
pub fn grant(slices: &mut [&mut Slice], hold: MicroUsd) -> Option<Granted> {
    let fits = slices.iter().all(|slice| hold.micros() <= slice.free().micros());
    if !fits || hold < MicroUsd::ZERO {
        return None;
    }
    for slice in slices {
        assert!(slice.grant(hold), "what fits is granted");
    }
    Some(Granted { hold })
}

/// What a call could cost at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worst {
    /// The price.
    pub price: Price,
    /// Prompt tokens: a bound.
    pub input: u64,
    /// Completion tokens of all answers together: a bound.
    pub output: u64,
}

impl Worst {
    /// The bound for a request: no prompt has more tokens than its request has bytes. What `apart` counts is not in the bytes,
    /// such as pictures. A request that asks for its prefix to be cached pays more for it.
    pub const fn input(bytes: u64, apart: u64, cached: bool) -> u64 {
        let tokens = bytes.saturating_add(apart).saturating_add(FRAMING_TOKENS);
        if cached { tokens.saturating_mul(CACHE_WRITE) } else { tokens }
    }

    /// What must be held for it.
    pub fn hold(&self) -> Result<MicroUsd, Overflow> {
        money::cost(self.price, Tokens(self.input), Tokens(self.output))
    }

    /// The most completion tokens that `left` pays for beside the prompt; `None` when not even the prompt fits. A side that
    /// costs nothing is not bounded by money.
    pub fn affordable(&self, left: MicroUsd) -> Option<u64> {
        let prompt = Self { output: 0, ..*self }.hold().ok()?;
        let rest = u128::try_from(left.minus(prompt).ok()?.micros()).ok()?;
        let rate = u128::try_from(self.price.output.micros()).ok()?;
        match (rest * 1_000_000).checked_div(rate) {
            Some(tokens) => Some(u64::try_from(tokens).unwrap_or(u64::MAX).min(self.output)),
            None => Some(self.output),
        }
    }
}

/// What was seen of a call by the time that it was over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the provider said it used, if it said anything.
    pub reported: Option<Used>,
    /// That was its last word on it.
    pub last_word: bool,
    /// Bytes of text, arguments and visible thoughts in the answer.
    pub bytes: u64,
    /// Pieces that they came in.
    pub pieces: u64,
    /// The model may think without showing it.
    pub hides: bool,
}

impl Seen {
    /// Completion tokens that there surely were.
    pub const fn at_least(&self) -> u64 {
        self.bytes / BYTES_PER_TOKEN_MAX
    }

    /// Completion tokens that there were hardly more of.
    pub const fn at_most(&self) -> u64 {
        let counted = self.bytes.div_ceil(BYTES_PER_TOKEN_MIN);
        if counted > self.pieces { counted } else { self.pieces }
    }

    /// Whether there surely was more than it was let say: what is held for it may be gone.
    pub fn passes(&self, worst: &Worst) -> bool {
        self.at_least().max(self.reported.map_or(0, |used| used.output)) > worst.output
    }

    /// What the call is charged: the greater of what was reported and what was counted; all that was held where nobody can
    /// tell; and nothing where the provider refused.
    pub fn due(&self, worst: &Worst, hold: MicroUsd, end: CallEnd) -> MicroUsd {
        match (end, self.reported) {
            (CallEnd::Refused, _) => MicroUsd::ZERO,
            (CallEnd::Stopped, None) => hold,
            (CallEnd::Stopped, Some(used)) => used.cost(worst.price).unwrap_or(hold).max(hold),
            (CallEnd::Complete | CallEnd::ClientGone | CallEnd::Broken, Some(used)) if self.last_word => {
                let used = Used { output: used.output.max(self.at_least()), ..used };
                used.cost(worst.price).unwrap_or(hold)
            }
            (CallEnd::ClientGone | CallEnd::Broken, reported) if self.bytes > 0 && !self.hides => {
                let output = self.at_most().max(reported.map_or(0, |used| used.output));
                let prompt = reported.filter(|used| used.prompt() > 0);
                let bound = Used { input: worst.input, ..Used::default() };
                let used = prompt.unwrap_or(bound);
                Used { output, ..used }.cost(worst.price).unwrap_or(hold).min(hold)
            }
            _ => hold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn usd(micros: i64) -> MicroUsd {
        MicroUsd::from_micros(micros)
    }

    const PRICE: Price = Price { input: usd(1_000_000), output: usd(2_000_000) };

    fn account(cap: i64, spent: i64, held: i64) -> Account {
        Account { cap: usd(cap), spent: usd(spent), held: usd(held) }
    }

    #[test]
    fn a_slice_is_some_calls_or_a_part_of_much_and_never_more_than_is_left() {
        for (account, worst, need, want) in [
            (account(1_000_000, 0, 0), 100, 100, Some(10_000)),
            (account(1_000, 0, 0), 100, 100, Some(500)),
            (account(1_000, 0, 0), 50, 50, Some(400)),
            (account(1_000, 900, 0), 100, 100, Some(100)),
            (account(1_000, 900, 1), 100, 100, None),
            (account(1_000, 2_000, 0), 1, 1, None),
            (account(0, 0, 0), 0, 0, Some(0)),
            (account(i64::MAX, i64::MAX, i64::MAX), 1, 1, None),
        ] {
            let sliced = |several| account.slice(usd(worst), usd(need), several).map(MicroUsd::micros);
            assert_eq!((sliced(true), sliced(false)), (want, want.map(|_| need)), "{account:?}");
        }
    }

    #[test]
    fn what_others_hold_may_come_back_and_what_is_spent_does_not() {
        for (account, hold, want) in [
            (account(100, 40, 60), 60, Lack::Held),
            (account(100, 40, 60), 61, Lack::Spent),
            (account(100, 100, 0), 1, Lack::Spent),
            (account(100, 200, 0), 1, Lack::Spent),
            (account(0, 0, 0), 1, Lack::Spent),
            (account(i64::MAX, i64::MAX, 0), i64::MAX, Lack::Spent),
        ] {
            assert_eq!(account.lack(usd(hold)), want, "{account:?} {hold}");
        }
    }

    #[test]
    fn only_a_cap_that_asks_is_raised_and_asks() {
        use OnLimit::{Ask, Hard, Stop};
        let said = |more, asked, refused| Said { more: usd(more), asked, refused };
        for (on_limit, said, want, asked) in [
            (Hard, said(0, 0, false), 100, Asks::Never),
            (Hard, said(50, 3, false), 100, Asks::Never),
            (Stop, said(50, 3, false), 100, Asks::Never),
            (Ask, said(0, 0, false), 100, Asks::After(0)),
            (Ask, said(50, 1, false), 150, Asks::After(1)),
            (Ask, said(50, 2, true), 150, Asks::Refused),
            (Ask, said(i64::MAX, 1, false), i64::MAX, Asks::After(1)),
        ] {
            assert_eq!(
                (raised(usd(100), on_limit, said), asks(on_limit, said)),
                (usd(want), asked),
                "{on_limit:?} {said:?}"
            );
        }
    }

    #[test]
    fn a_slice_of_all_that_comes_is_one_of_the_cap() {
        for (account, cap, need, want) in [
            (account(i64::MAX, 1_000, 0), 1_000, 10, 80),
            (account(i64::MAX, 1_000, 500), 1_000_000, 10, 10_000),
            (account(i64::MAX, 1_000, 0), 1_000, 5_000, 5_000),
            (account(1_000, 0, 0), 1_000, 10, 80),
        ] {
            let within = account.within(usd(cap), usd(need));
            assert_eq!(within.slice(usd(10), usd(need), true), Some(usd(want)), "{account:?}");
        }
    }

    #[test]
    fn a_warning_is_due_at_its_part_and_not_a_micro_dollar_before() {
        for (cap, percent, want) in [
            (100, 80, 80),
            (101, 80, 81),
            (1, 1, 1),
            (0, 80, 0),
            (1_000, 100, 1_000),
            (1_000, 255, 1_000),
            (i64::MAX, 100, i64::MAX),
        ] {
            assert_eq!(notify_at(usd(cap), percent), usd(want), "{percent}% of {cap}");
        }
    }

    #[test]
    fn what_can_be_paid_bounds_the_answer() {
        let worst = Worst { price: PRICE, input: 100, output: 50 };
        assert_eq!(worst.hold(), Ok(usd(200)));
        for (left, want) in [(1_000, Some(50)), (200, Some(50)), (199, Some(49)), (101, Some(0)), (99, None)]
        {
            assert_eq!(worst.affordable(usd(left)), want, "{left}");
        }
        assert_eq!(Worst { price: Price::default(), ..worst }.affordable(usd(0)), Some(50));
    }

    #[test]
    fn the_greater_of_reported_and_counted_is_charged() {
        use CallEnd::{Broken, ClientGone, Complete, Refused, Stopped};
        let worst = Worst { price: PRICE, input: 100, output: 50 };
        let used = |input, output| Some(Used { input, output, ..Used::default() });
        let seen = |reported, last_word, bytes| Seen { reported, last_word, bytes, pieces: 1, hides: false };
        for (seen, end, want) in [
            (seen(used(10, 5), true, 20), Complete, 20),
            (seen(used(10, 0), true, 400), Complete, 10 + 100),
            (seen(used(10, 1_000), true, 20), Complete, 2_010),
            (seen(None, false, 20), Complete, 200),
            (seen(None, false, 0), Refused, 0),
            (seen(None, false, 0), ClientGone, 200),
            (seen(None, false, 20), ClientGone, 100 + 20),
            (seen(used(7, 1), false, 20), ClientGone, 7 + 20),
            (seen(None, false, 4_000), Broken, 200),
            (Seen { hides: true, ..seen(None, false, 20) }, ClientGone, 200),
            (seen(used(10, 5), true, 20), ClientGone, 20),
            (seen(None, false, 800), Stopped, 200),
            (seen(used(500, 5), false, 800), Stopped, 510),
        ] {
            assert_eq!(seen.due(&worst, usd(200), end).micros(), want, "{seen:?} {end:?}");
        }
    }

    #[test]
    fn a_stream_is_stopped_when_it_surely_passed_what_it_may_say() {
        let worst = Worst { price: PRICE, input: 100, output: 50 };
        let seen = |bytes| Seen { bytes, ..Seen::default() };
        for (bytes, want) in [(0, false), (407, false), (408, true), (4_000, true)] {
            assert_eq!(seen(bytes).passes(&worst), want, "{bytes}");
        }
        let reported = |output| Seen { reported: Some(Used { output, ..Used::default() }), ..seen(0) };
        assert!(!reported(50).passes(&worst) && reported(51).passes(&worst));
    }

    /// One account, and what three processes do with it.
    #[derive(Debug)]
    struct World {
        account: Account,
        processes: [Process; 3],
    }

    #[derive(Clone, Debug, Default)]
    struct Process {
        slice: Slice,
        /// What its row in the database says.
        row: i64,
        holds: Vec<i64>,
        unwritten: Vec<Charge>,
    }

    #[derive(Clone, Debug)]
    enum Op {
        Call(usize, i64),
        Settle(usize, u8),
        Write(usize),
        GiveBack(usize),
        Crash(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            5 => (0_usize..3, 0_i64..2_000).prop_map(|(p, hold)| Op::Call(p, hold)),
            4 => (0_usize..3, any::<u8>()).prop_map(|(p, share)| Op::Settle(p, share)),
            3 => (0_usize..3).prop_map(Op::Write),
            1 => (0_usize..3).prop_map(Op::GiveBack),
            1 => (0_usize..3).prop_map(Op::Crash),
        ]
    }

    impl World {
        fn act(&mut self, op: &Op) {
            let account = &mut self.account;
            match *op {
                Op::Call(p, hold) => {
                    let process = &mut self.processes[p];
                    let need = hold - process.slice.free().micros();
                    if need > 0
                        && let Some(amount) = account.slice(usd(hold), usd(need), !process.holds.is_empty())
                    {
                        account.held = account.held.plus(amount).unwrap();
                        process.row += amount.micros();
                        process.slice.add(amount);
                    }
                    if process.slice.grant(usd(hold)) {
                        process.holds.push(hold);
                    }
                }
                Op::Settle(p, share) => {
                    let process = &mut self.processes[p];
                    let Some(hold) = process.holds.pop() else { return };
                    let charge = process.slice.settle(usd(hold), usd(hold * i64::from(share) / 255));
                    process.unwritten.push(charge);
                }
                Op::Write(p) => {
                    let process = &mut self.processes[p];
                    for Charge { cost, drawn } in process.unwritten.drain(..) {
                        account.spent = account.spent.plus(cost).unwrap();
                        account.held = account.held.minus(drawn).unwrap();
                        process.row -= drawn.micros();
                        process.slice.written(drawn);
                    }
                }
                Op::GiveBack(p) => {
                    let process = &mut self.processes[p];
                    if process.slice.is_idle() {
                        account.held = account.held.minus(usd(process.row)).unwrap();
                        *process = Process::default();
                    }
                }
                Op::Crash(p) => {
                    let row = usd(std::mem::take(&mut self.processes[p]).row);
                    account.spent = account.spent.plus(row).unwrap();
                    account.held = account.held.minus(row).unwrap();
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever three processes do, in whatever order, and wherever they die.
        #[test]
        fn no_interleaving_passes_the_cap(cap in 0_i64..20_000, ops in proptest::collection::vec(op(), 0..200)) {
            let mut world = World { account: account(cap, 0, 0), processes: Default::default() };
            for op in &ops {
                world.act(op);
                let Account { cap, spent, held } = world.account;
                prop_assert!(spent.plus(held).unwrap() <= cap, "{:?} after {:?}", world, op);
                let rows: i64 = world.processes.iter().map(|process| process.row).sum();
                prop_assert_eq!(held.micros(), rows, "what is held is the sum of the slices");
                for process in &world.processes {
                    prop_assert!(process.slice.free().micros() >= 0, "{:?}", process);
                    let open: i64 = process.holds.iter().sum();
                    let unwritten: i64 = process.unwritten.iter().map(|charge| charge.cost.micros()).sum();
                    prop_assert!(open + unwritten <= process.row, "{:?} grants what it has", process);
                }
            }
            for p in 0..3 {
                world.act(&Op::Crash(p));
            }
            prop_assert_eq!(world.account.held, MicroUsd::ZERO);
            prop_assert!(world.account.spent <= world.account.cap);
        }
    }
}
