//! Money for calls and steps: granted from slices that this process has taken, without asking the database for each call.
//!
//! Invariant: a grant is covered by slices that are durable and this process's own. A process that could not prolong its slices
//! in time counts as dead, to itself too: it goes on as another one, with none of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lantern_policy::Scope;
use lantern_policy::escrow::{self, Account, Asks, Granted, Slice, Worst};
use lantern_store::Db;
use lantern_store::escrow::{Ask, Spent, Taken, take};
use lantern_store::usage::pending;
use lantern_types::call::{AccountId, CallRecord, HeldFrom, Period, StepSpent};
use lantern_types::edge::{Clock, IdGen};
use lantern_types::money::Overflow;
use lantern_types::{AccountFacts, At, Dur, MicroUsd, Payer, ProcessId, TenantId};
use tokio::sync::Notify;

use crate::Refused;

type Result<T> = std::result::Result<T, Refused>;

/// How long slices are a process's that does not beat.
pub(crate) const TTL: Dur = Dur::from_secs(10);
/// How much earlier it stops granting from them itself.
const MARGIN: Dur = Dur::from_secs(2);
/// Calls that are over and not written. More are not admitted.
const UNWRITTEN_MAX: usize = 20_000;
/// Times that a call asks anew for what others were quicker to take.
const TRIES: u32 = 8;
const CONTENDED: Refused = Refused::Busy("the cap is being spent by many calls at once");
/// After how long unused a slice is given back.
const IDLE: Dur = Dur::from_millis(250);

pub(crate) struct Purse {
    db: Db,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    // Sections under this lock are a few look-ups and sums.
    state: Mutex<State>,
    bell: Notify,
    /// Rung when there is something to add up.
    uses: Notify,
}

struct State {
    process: ProcessId,
    valid_until: At,
    next_n: i64,
    books: HashMap<(TenantId, AccountId), Book>,
    done: Vec<Done>,
    /// Whose runs have used something that is not added up.
    used: BTreeMap<TenantId, Scope>,
    in_flight: usize,
}

/// A slice, and who wants more of it.
struct Book {
    scope: Scope,
    slice: Slice,
    /// The account, as its row stood when something was taken of it last.
    stands: Option<Account>,
    n: i64,
    /// Its row is there.
    durable: bool,
    used_at: At,
    /// One call at a time takes more; the others wait for what it brings. Each of them holds this.
    taking: Arc<tokio::sync::Mutex<()>>,
}

/// Money that is held for one call, or for an attempt of a step.
#[derive(Debug)]
pub struct Held {
    /// What lets it be made.
    pub granted: Granted,
    /// The slices that it is held from.
    pub from: Vec<HeldFrom>,
    /// The accounts that let it pass, as far as is known here.
    pub stood: Vec<AccountFacts>,
    scope: Scope,
    process: ProcessId,
    slices: Vec<(AccountId, i64)>,
    accounts: Vec<AccountId>,
}

/// What is over.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Call(Box<CallRecord>),
    /// Of a run. Those that no slice was taken for are told by their run's append.
    Step(StepSpent),
}

impl Entry {
    /// What is charged: what may have been billed, too.
    fn cost(&self) -> MicroUsd {
        match self {
            Self::Call(record) => record.cost,
            Self::Step(step) => step.charged(),
        }
    }

    pub(crate) const fn is_late(&mut self) {
        match self {
            Self::Call(record) => record.late = true,
            Self::Step(step) => step.late = true,
        }
    }
}

/// What is over and to be written.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) scope: Scope,
    /// The day that it counts in.
    pub(crate) day: At,
    pub(crate) entry: Entry,
    pub(crate) spent: Vec<Spent>,
}

/// Whose money a call needs.
#[derive(Clone, Debug)]
pub struct Payers {
    /// Every account that it counts in.
    pub accounts: Vec<AccountId>,
    /// Those that a cap bounds.
    pub capped: Vec<AccountId>,
}

/// The day that these accounts are of.
fn day_of(accounts: &[AccountId]) -> At {
    let day = accounts.iter().find(|account| account.period == Period::Day);
    day.map(|account| account.began_at).unwrap_or_default()
}

/// An account as facts say it.
pub(crate) fn stood_at(of: AccountId, stands: Account, slice: Option<MicroUsd>) -> AccountFacts {
    let AccountId { owner, period, began_at } = of;
    let Account { cap, spent, held } = stands;
    AccountFacts { of: Payer::from(owner), period, began: began_at, cap, spent, held, slice }
}

/// What became of one try.
enum Tried {
    Held(Held),
    /// This account has too little: as it stands, whether people are asked for more, and what is left of it at the most.
    Short(AccountId, Account, Asks, MicroUsd),
    /// Something was taken, or others were quicker.
    Again,
}

impl Purse {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, ids: Arc<dyn IdGen>) -> Self {
        let state = State {
            process: ProcessId::from_uuid(ids.uuid()),
            valid_until: clock.now() + TTL - MARGIN,
            next_n: 1,
            books: HashMap::new(),
            done: Vec::new(),
            used: BTreeMap::new(),
            in_flight: 0,
        };
        Self { db, clock, ids, state: Mutex::new(state), bell: Notify::new(), uses: Notify::new() }
    }

    /// Holds the money for a call, whose completion tokens are lowered to what the caps allow.
    pub(crate) async fn admit(
        &self,
        scope: Scope,
        payers: &Payers,
        worst: &mut Worst,
        least: u64,
    ) -> Result<Held> {
        for _ in 0..TRIES {
            let hold = worst.hold()?;
            match self.try_hold(scope, payers, hold).await? {
                Tried::Held(held) => return Ok(held),
                Tried::Again => {}
                Tried::Short(account, stands, asks, left) => {
                    match worst.affordable(left).filter(|tokens| *tokens >= least) {
                        Some(tokens) if tokens < worst.output => worst.output = tokens,
                        // What was free a moment ago is not any more.
                        Some(_) => {}
                        None => return Err(Refused::Exceeded { account, stands, hold, asks }),
                    }
                }
            }
        }
        Err(CONTENDED)
    }

    /// Holds so much, and no less.
    pub(crate) async fn hold(&self, scope: Scope, payers: &Payers, hold: MicroUsd) -> Result<Held> {
        for _ in 0..TRIES {
            match self.try_hold(scope, payers, hold).await? {
                Tried::Held(held) => return Ok(held),
                Tried::Short(account, stands, asks, left) if left < hold => {
                    return Err(Refused::Exceeded { account, stands, hold, asks });
                }
                Tried::Short(..) | Tried::Again => {}
            }
        }
        Err(CONTENDED)
    }

    async fn try_hold(&self, scope: Scope, payers: &Payers, hold: MicroUsd) -> Result<Tried> {
        let short = match self.grant(scope, payers, hold)? {
            Ok(held) => return Ok(Tried::Held(held)),
            Err(short) => short,
        };
        let taken = self.take(scope, short, hold).await?;
        Ok(taken.map_or(Tried::Again, |(stands, asks, left)| Tried::Short(short, stands, asks, left)))
    }

    /// All of it or nothing: the account that has too little.
    fn grant(
        &self,
        scope: Scope,
        Payers { accounts, capped }: &Payers,
        hold: MicroUsd,
    ) -> Result<std::result::Result<Held, AccountId>> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.done.len() >= UNWRITTEN_MAX {
            return Err(Refused::Busy("calls end faster than they can be written down"));
        }
        if now >= state.valid_until {
            self.begin_anew(&mut state, now);
        }
        let State { process, books, in_flight, .. } = &mut *state;
        let mut from = Vec::with_capacity(capped.len());
        for account in capped {
            let free =
                books.get(&(scope.tenant(), *account)).map_or(MicroUsd::ZERO, |book| book.slice.free());
            if free < hold {
                return Ok(Err(*account));
            }
        }
        let (mut slices, mut stood) = (Vec::with_capacity(capped.len()), Vec::with_capacity(capped.len()));
        let mut granted = escrow::grant(&mut [], hold);
        for account in capped {
            let Some(book) = books.get_mut(&(scope.tenant(), *account)) else { continue };
            let free = book.slice.free();
            granted = escrow::grant(&mut [&mut book.slice], hold);
            book.used_at = now;
            slices.push((*account, book.n));
            stood.extend(book.stands.map(|stands| stood_at(*account, stands, Some(free))));
            let owner = account.owner.to_string();
            from.push(HeldFrom { owner, period: account.period, slice: book.n, free });
        }
        // No hold is below zero.
        let Some(granted) = granted else { return Err(Refused::Range(Overflow)) };
        *in_flight += 1;
        let (process, accounts) = (*process, accounts.clone());
        Ok(Ok(Held { granted, from, stood, scope, process, slices, accounts }))
    }

    /// Takes more of an account. Answers how much of it there is at the most when that is less than `hold`.
    async fn take(
        &self,
        scope: Scope,
        account: AccountId,
        hold: MicroUsd,
    ) -> Result<Option<(Account, Asks, MicroUsd)>> {
        let turn = self.state().book(scope, account, self.clock.now()).taking.clone();
        let _turn = turn.lock().await;
        self.take_in_turn(scope, account, hold).await
    }

    async fn take_in_turn(
        &self,
        scope: Scope,
        account: AccountId,
        hold: MicroUsd,
    ) -> Result<Option<(Account, Asks, MicroUsd)>> {
        // What was spent until now bounds what is taken. This may take a while, and a slice lives from when it is taken.
        pending::add_up(&self.db, scope).await?;
        let now = self.clock.now();
        let (process, n, (more, several), free) = {
            let mut state = self.state();
            let process = state.process;
            let book = state.book(scope, account, now);
            (process, book.n, (book.durable, book.slice.in_use()), book.slice.free())
        };
        let need = hold.minus(free).unwrap_or(hold);
        if need <= MicroUsd::ZERO {
            // Whoever was before brought enough.
            return Ok(None);
        }
        let expires_at = now + TTL;
        let ask = Ask { account, process, n, more, several, worst: hold, need, expires_at };
        let taken = take(&self.db, scope, ask).await;
        let mut state = self.state();
        let same = state.process == process;
        let book = state.books.get_mut(&(scope.tenant(), account)).filter(|book| same && book.n == n);
        match (taken, book) {
            (Ok(Taken::Amount(amount, stands)), Some(book)) => {
                (book.durable, book.stands) = (true, Some(stands));
                book.slice.add(amount);
                self.bell.notify_one();
            }
            (Ok(Taken::Short(account, asks)), Some(book)) => {
                let free = book.slice.free();
                return Ok(Some((account, asks, account.left().plus(free).unwrap_or(free))));
            }
            (Ok(Taken::Uncapped), _) => {
                return Err(Refused::Busy("the cap was lifted at this moment"));
            }
            (Ok(Taken::Lost), Some(_)) => self.begin_anew(&mut state, now),
            // An earlier attempt whose answer was lost had made the row.
            (Err(lantern_store::Error::Conflict), Some(book)) if !more => book.durable = true,
            (Err(error), _) => return Err(Refused::Store(error)),
            // The process has begun anew meanwhile: what was taken is its predecessor's.
            (Ok(_), None) => {}
        }
        Ok(None)
    }

    /// Settles: what was needed is spent, and the rest is free again.
    pub(crate) fn settle(&self, held: Held, mut entry: Entry) {
        let Held { granted, scope, process, slices, accounts, .. } = held;
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if slices.is_empty() && matches!(entry, Entry::Step(_)) {
            // The append that ends it says so.
            return;
        }
        let (now, cost, living) = (self.clock.now(), entry.cost(), state.process == process);
        let day = day_of(&accounts);
        let mut spent = Vec::with_capacity(accounts.len());
        for account in accounts {
            let Some((_, n)) = slices.iter().find(|(of, _)| *of == account) else {
                spent.push(Spent { account, cost, from: None });
                continue;
            };
            let book = state.books.get_mut(&(scope.tenant(), account));
            match book.filter(|book| living && book.n == *n) {
                Some(book) => {
                    let charge = book.slice.settle(granted.hold(), cost);
                    book.used_at = now;
                    spent.push(Spent { account, cost, from: Some((*n, charge.drawn)) });
                }
                // All of the slice was charged, or will be.
                None => entry.is_late(),
            }
        }
        state.done.push(Done { scope, day, entry, spent });
        drop(state);
        self.bell.notify_one();
    }

    /// A run of this tenant has used something, which is durable.
    pub(crate) fn used(&self, scope: Scope) {
        let mut state = self.state();
        let first = state.used.is_empty();
        state.used.insert(scope.tenant(), scope);
        if first {
            self.uses.notify_one();
        }
    }

    /// Waits until there is something to add up.
    pub(crate) async fn uses(&self) {
        self.uses.notified().await;
    }

    // What follows is for the clerk.

    /// Waits until something is over, or taken.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The process whose slices these are, and what is over and not written.
    pub(crate) fn unwritten(&self) -> (ProcessId, Vec<Done>) {
        let mut state = self.state();
        (state.process, std::mem::take(&mut state.done))
    }

    /// Whose runs have used something since this was asked last.
    pub(crate) fn take_used(&self) -> Vec<Scope> {
        std::mem::take(&mut self.state().used).into_values().collect()
    }

    /// What was drawn on slices is durable.
    pub(crate) fn written(&self, scope: Scope, process: ProcessId, spent: &[Spent]) {
        let mut state = self.state();
        if state.process != process {
            return;
        }
        for Spent { account, from, .. } in spent {
            let Some((n, drawn)) = from else { continue };
            let book = state.books.get_mut(&(scope.tenant(), *account));
            if let Some(book) = book.filter(|book| book.n == *n) {
                book.slice.written(*drawn);
            }
        }
    }

    /// Who the process is now.
    pub(crate) fn process(&self) -> ProcessId {
        self.state().process
    }

    /// Whether there is anything to prolong.
    pub(crate) fn has_slices(&self) -> bool {
        !self.state().books.is_empty()
    }

    /// The slices of this process were prolonged at this time.
    pub(crate) fn prolonged(&self, process: ProcessId, at: At) {
        let mut state = self.state();
        if state.process == process {
            state.valid_until = state.valid_until.max(at + TTL - MARGIN);
        }
    }

    /// Goes on as another process, with no slices, and says as which.
    pub(crate) fn lost(&self, process: ProcessId) -> ProcessId {
        let mut state = self.state();
        if state.process == process {
            self.begin_anew(&mut state, self.clock.now());
        }
        state.process
    }

    /// Takes out the slices that are to be given back: all that nobody uses, or has not used for a while.
    pub(crate) fn idle(&self, all: bool) -> Vec<(Scope, ProcessId, i64)> {
        let now = self.clock.now();
        let mut state = self.state();
        let process = state.process;
        let mut idle = Vec::new();
        state.books.retain(|_, book| {
            let unused = book.slice.is_idle() && Arc::strong_count(&book.taking) == 1;
            let goes = unused && (all || book.used_at + IDLE <= now);
            if goes {
                idle.push((book.scope, process, book.n));
            }
            !goes
        });
        idle
    }

    /// Whether there is nothing to write, to prolong or to give back.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.books.is_empty() && state.done.is_empty()
    }

    /// Whether a call is under way, or over and not written.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.state();
        state.in_flight > 0 || !state.done.is_empty()
    }

    fn begin_anew(&self, state: &mut State, now: At) {
        if !state.books.is_empty() {
            tracing::warn!(process = %state.process, "slices could not be prolonged; what was held of them is charged");
        }
        state.process = ProcessId::from_uuid(self.ids.uuid());
        state.valid_until = now + TTL - MARGIN;
        state.books.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn book(&mut self, scope: Scope, account: AccountId, now: At) -> &mut Book {
        let next_n = &mut self.next_n;
        self.books.entry((scope.tenant(), account)).or_insert_with(|| {
            *next_n += 1;
            Book {
                scope,
                slice: Slice::default(),
                stands: None,
                n: *next_n,
                durable: false,
                used_at: now,
                taking: Arc::default(),
            }
        })
    }
}
