//! Money for calls: granted from slices that this process has taken, without asking the database for each call.
//!
//! Invariant: a grant is covered by slices that are durable and this process's own. A process that could not prolong its slices
//! in time counts as dead, to itself too: it goes on as another one, with none of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lantern_edge::{Code, Error, Result};
use lantern_policy::Scope;
use lantern_policy::escrow::{self, Account, Granted, Slice, Worst};
use lantern_store::Db;
use lantern_store::escrow::{Ask, Spent, Taken, take};
use lantern_types::call::{AccountId, CallRecord, HeldFrom};
use lantern_types::edge::{Clock, IdGen};
use lantern_types::{At, Dur, MicroUsd, ProcessId, TenantId};
use tokio::sync::Notify;

/// How long slices are a process's that does not beat.
pub(crate) const TTL: Dur = Dur::from_secs(10);
/// How much earlier it stops granting from them itself.
const MARGIN: Dur = Dur::from_secs(2);
/// Calls that are over and not written. More are not admitted.
const UNWRITTEN_MAX: usize = 20_000;
/// Times that a call asks anew for what others were quicker to take.
const TRIES: u32 = 8;
/// After how long unused a slice is given back.
const IDLE: Dur = Dur::from_millis(250);

pub(crate) struct Purse {
    db: Db,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    // Sections under this lock are a few look-ups and sums.
    state: Mutex<State>,
    bell: Notify,
}

struct State {
    process: ProcessId,
    valid_until: At,
    next_n: i64,
    books: HashMap<(TenantId, AccountId), Book>,
    done: Vec<Done>,
    in_flight: usize,
}

/// A slice, and who wants more of it.
struct Book {
    scope: Scope,
    slice: Slice,
    n: i64,
    /// Its row is there.
    durable: bool,
    used_at: At,
    /// One call at a time takes more; the others wait for what it brings. Each of them holds this.
    taking: Arc<tokio::sync::Mutex<()>>,
}

/// Money that is held for one call.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) granted: Granted,
    pub(crate) from: Vec<HeldFrom>,
    scope: Scope,
    process: ProcessId,
    slices: Vec<(AccountId, i64)>,
    accounts: Vec<AccountId>,
}

/// A call that is over and to be written.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) scope: Scope,
    pub(crate) record: CallRecord,
    pub(crate) spent: Vec<Spent>,
}

/// Whose money a call needs.
pub(crate) struct Payers {
    /// Every account that it counts in.
    pub(crate) accounts: Vec<AccountId>,
    /// Those that a cap bounds.
    pub(crate) capped: Vec<AccountId>,
}

impl Purse {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, ids: Arc<dyn IdGen>) -> Self {
        let state = State {
            process: ProcessId::from_uuid(ids.uuid()),
            valid_until: clock.now() + TTL - MARGIN,
            next_n: 1,
            books: HashMap::new(),
            done: Vec::new(),
            in_flight: 0,
        };
        Self { db, clock, ids, state: Mutex::new(state), bell: Notify::new() }
    }

    /// Holds the money for a call, whose completion tokens are lowered to what the caps allow. `budget_exceeded` when that is
    /// fewer than `least`.
    pub(crate) async fn admit(
        &self,
        scope: Scope,
        payers: Payers,
        worst: &mut Worst,
        least: u64,
    ) -> Result<Held> {
        let Payers { accounts, capped } = payers;
        for _ in 0..TRIES {
            let hold = worst.hold().map_err(Error::internal)?;
            let short = match self.grant(scope, (&accounts, &capped), hold)? {
                Ok(held) => return Ok(held),
                Err(short) => short,
            };
            if let Some((account, left)) = self.take(scope, short, hold).await? {
                match worst.affordable(left).filter(|tokens| *tokens >= least) {
                    Some(tokens) if tokens < worst.output => worst.output = tokens,
                    // What was free a moment ago is not any more.
                    Some(_) => {}
                    None => return Err(exceeded(account, hold)),
                }
            }
        }
        let words = "the cap is being spent by many calls at once; try again";
        Err(Error::new(Code::Unavailable, words).retry_after(Dur::from_secs(1)))
    }

    /// All of it or nothing: the account that has too little.
    fn grant(
        &self,
        scope: Scope,
        (accounts, capped): (&[AccountId], &[AccountId]),
        hold: MicroUsd,
    ) -> Result<Result<Held, AccountId>> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.done.len() >= UNWRITTEN_MAX {
            let words = "calls end faster than they can be written down";
            return Err(Error::new(Code::Unavailable, words).retry_after(Dur::from_secs(1)));
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
        let mut slices = Vec::with_capacity(capped.len());
        let mut granted = escrow::grant(&mut [], hold);
        for account in capped {
            let Some(book) = books.get_mut(&(scope.tenant(), *account)) else { continue };
            let free = book.slice.free();
            granted = escrow::grant(&mut [&mut book.slice], hold);
            book.used_at = now;
            slices.push((*account, book.n));
            let owner = account.owner.to_string();
            from.push(HeldFrom { owner, period: account.period, slice: book.n, free });
        }
        let Some(granted) = granted else { return Err(Error::new(Code::Internal, "internal error")) };
        *in_flight += 1;
        let (process, accounts) = (*process, accounts.to_vec());
        Ok(Ok(Held { granted, from, scope, process, slices, accounts }))
    }

    /// Takes more of an account. Answers how much of it there is at the most when that is less than `hold`.
    async fn take(
        &self,
        scope: Scope,
        account: AccountId,
        hold: MicroUsd,
    ) -> Result<Option<(Account, MicroUsd)>> {
        let turn = self.state().book(scope, account, self.clock.now()).taking.clone();
        let _turn = turn.lock().await;
        self.take_in_turn(scope, account, hold).await
    }

    async fn take_in_turn(
        &self,
        scope: Scope,
        account: AccountId,
        hold: MicroUsd,
    ) -> Result<Option<(Account, MicroUsd)>> {
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
            (Ok(Taken::Amount(amount)), Some(book)) => {
                book.durable = true;
                book.slice.add(amount);
            }
            (Ok(Taken::Short(account)), Some(book)) => {
                let free = book.slice.free();
                return Ok(Some((account, account.left().plus(free).unwrap_or(free))));
            }
            (Ok(Taken::Uncapped), _) => {
                let words = "the cap was lifted at this moment; try again";
                return Err(Error::new(Code::Unavailable, words).retry_after(Dur::from_secs(1)));
            }
            (Ok(Taken::Lost), Some(_)) => self.begin_anew(&mut state, now),
            // An earlier attempt whose answer was lost had made the row.
            (Err(lantern_store::Error::Conflict), Some(book)) if !more => book.durable = true,
            (Err(error), _) => return Err(error.into()),
            // The process has begun anew meanwhile: what was taken is its predecessor's.
            (Ok(_), None) => {}
        }
        Ok(None)
    }

    /// Settles a call: what it needed is spent, and the rest is free again.
    pub(crate) fn settle(&self, held: Held, mut record: CallRecord) {
        let Held { granted, scope, process, slices, accounts, .. } = held;
        let mut state = self.state();
        let (now, cost, living) = (self.clock.now(), record.cost, state.process == process);
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
                None => record.late = true,
            }
        }
        state.in_flight = state.in_flight.saturating_sub(1);
        state.done.push(Done { scope, record, spent });
        drop(state);
        self.bell.notify_one();
    }

    // What follows is for the clerk.

    /// Waits until a call is over.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The process whose slices these are, and what is over and not written.
    pub(crate) fn unwritten(&self) -> (ProcessId, Vec<Done>) {
        let mut state = self.state();
        (state.process, std::mem::take(&mut state.done))
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
                n: *next_n,
                durable: false,
                used_at: now,
                taking: Arc::default(),
            }
        })
    }
}

fn exceeded(account: Account, hold: MicroUsd) -> Error {
    let Account { cap, spent, held } = account;
    let words = format!(
        "out of budget: this call could cost {hold}; of the cap of {cap}, {spent} are spent and {held} are held"
    );
    Error::new(Code::BudgetExceeded, words).with_extra("reason", "the cap of the period is reached")
}
