//! Money of a process: slices of the caps of a tenant, its agents and its keys, from which calls and steps of runs are granted.
//!
//! Invariant: nothing is granted that is not covered by a slice which is durable, so no cap is passed whoever dies. Without a
//! cap nothing is taken, and what is spent is counted all the same. Knows no route, no wire and no run.
//!
//! ```text
//! purse.rs  grants in memory, settles        caps.rs  what bounds a tenant's runs now
//! clerk.rs  what is written of it, and what dead processes left        hold.rs  money of one attempt of a step
//! adder.rs  what runs used that no slice was taken for
//! meter.rs  what the model calls of one workload may come to
//! ```

mod adder;
mod caps;
mod clerk;
mod hold;
mod meter;
mod purse;

use std::sync::Arc;

use lantern_net::Shutdown;
use lantern_policy::escrow::{Account, Asks, Worst};
use lantern_policy::{Scope, admit, escrow};
use lantern_store::Db;
use lantern_store::allowances::{self, Call};
use lantern_store::escrow::{Cap, accounts_of};
use lantern_types::approval::OverCap;
use lantern_types::call::{AccountId, CallRecord, Owner};
use lantern_types::edge::{Clock, IdGen, Tasks};
use lantern_types::{AccountFacts, AgentId, At, Denial, MicroUsd, Route, RunId};

use adder::Adder;
use caps::Caps;
use clerk::Clerk;
use purse::Purse;

pub use hold::Hold;
pub use meter::{Meter, Metered, OverLimit, Reading, Steps, Whose};
pub use purse::{Held, Payers};

/// Why nothing was granted.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A cap does not leave so much.
    #[error("out of budget: this call could cost {hold}; of the cap of {}, {} are spent and {} are held{}", .stands.cap, .stands.spent, .stands.held, why(*.asks))]
    Exceeded {
        /// Whose, and of which period.
        account: AccountId,
        /// As it stands.
        stands: Account,
        /// What was asked for.
        hold: MicroUsd,
        /// Whether people are asked for more, where somebody waits for what they say: a run does, and a call does not.
        asks: Asks,
    },
    /// Not now: in a second it may be.
    #[error("{0}; try again")]
    Busy(&'static str),
    /// The amount is out of range.
    #[error(transparent)]
    Range(#[from] lantern_types::money::Overflow),
    /// The database could not say.
    #[error(transparent)]
    Store(#[from] lantern_store::Error),
}

/// What is added for who asks by a call.
const fn why(asks: Asks) -> &'static str {
    match asks {
        Asks::Never => "",
        Asks::Refused => "; somebody was asked whether more may be spent, and said no",
        Asks::After(_) => {
            "; people are asked for runs whether more may be spent, and a call does not wait for them"
        }
    }
}

/// Why a step of a run was not granted anything.
#[derive(Debug)]
pub enum Withheld {
    /// What is spent leaves too little, of this account, and people are asked whether more may be spent.
    Asks(Box<OverCap>, AccountFacts),
    /// What is spent leaves too little, of this account.
    Denied(Denial, Option<AccountFacts>),
    /// Others hold what is missing, and may give it back.
    Waits,
    /// The database could not say.
    Store(lantern_store::Error),
}

/// The ledger of a process. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    db: Db,
    clock: Arc<dyn Clock>,
    caps: Arc<Caps>,
    purse: Arc<Purse>,
    sole: bool,
}

impl Ledger {
    /// A ledger with nothing in it. `sole`: nobody else can have this database open, so whatever another process left behind is
    /// that of a dead one, and no cap changes but here.
    pub fn new(db: Db, clock: Arc<dyn Clock>, ids: Arc<dyn IdGen>, sole: bool) -> Self {
        let caps = Arc::new(Caps::new(db.clone(), clock.clone(), sole));
        let purse = Arc::new(Purse::new(db.clone(), clock.clone(), ids));
        Self { db, clock, caps, purse, sole }
    }

    /// Starts what writes down what was spent and gives back what is not used, until the process stops.
    pub fn keep(&self, tasks: &dyn Tasks, stop: Shutdown) {
        let clerk = Clerk::new(self.db.clone(), self.clock.clone(), self.purse.clone(), self.sole);
        tasks.spawn("clerk", Box::pin(clerk.run(stop.clone())));
        let adder = Adder::new(self.db.clone(), self.clock.clone(), self.purse.clone(), self.sole);
        tasks.spawn("adder", Box::pin(adder.run(stop)));
    }

    /// Holds the money for a call, whose completion tokens are lowered to what the caps allow. `Exceeded` when that is fewer
    /// than `least`.
    pub async fn admit(
        &self,
        scope: Scope,
        payers: &Payers,
        worst: &mut Worst,
        least: u64,
    ) -> Result<Held, Refused> {
        self.purse.admit(scope, payers, worst, least).await
    }

    /// Settles a call: what it needed is spent, and the rest is free again.
    pub fn settle(&self, held: Held, record: CallRecord) {
        self.purse.settle(held, purse::Entry::Call(Box::new(record)));
    }

    /// A run of this tenant has appended that it used something. It is added up within a second, and before anybody asks.
    pub fn used(&self, scope: Scope) {
        self.purse.used(scope);
    }

    /// Counts a call of a tool, where the budget of the run's agent bounds its calls of a day: durable when it answers, and once for each
    /// step. `Some`, and nothing counted, when it may be called no more: how often it may in a day.
    pub async fn take_call(
        &self,
        scope: Scope,
        agent: AgentId,
        (run, step, tool): (RunId, &str, &str),
    ) -> Result<Option<u32>, lantern_store::Error> {
        let limits = self.caps.tools(scope).await?;
        let Some(most) = limits.get(&agent).and_then(|tools| tools.get(tool)).copied() else {
            return Ok(None);
        };
        let (step, tool, at) = (step.to_owned(), tool.to_owned(), self.clock.now());
        let call = Call { run, step, agent, tool, at };
        Ok((!allowances::take_call(&self.db, scope, call, most).await?).then_some(most))
    }

    /// Holds so much for an attempt of a step of one of the agent's runs: all of it, from every cap that bounds it, or nothing.
    /// What costs nothing asks for nothing.
    pub async fn hold(
        &self,
        scope: Scope,
        agent: AgentId,
        route: &Route,
        amount: MicroUsd,
    ) -> Result<Hold, Withheld> {
        let owners = [Owner::Tenant, Owner::Agent(agent)];
        let caps: Arc<[Cap]> = if amount == MicroUsd::ZERO {
            Arc::default()
        } else {
            self.caps.of(scope).await.map_err(Withheld::Store)?
        };
        let now = self.clock.now();
        let (accounts, capped) = accounts_of(&owners, &caps, now);
        match self.purse.hold(scope, &Payers { accounts, capped }, amount).await {
            Ok(held) => Ok(Hold::new(self.purse.clone(), held, agent, route)),
            Err(Refused::Exceeded { account, stands, hold, asks }) => Err(match stands.lack(hold) {
                escrow::Lack::Held => Withheld::Waits,
                escrow::Lack::Spent => {
                    let facts = purse::stood_at(account, stands, None);
                    let denial = || admit::over_cap(account, stands, hold);
                    match asks {
                        Asks::Never => Withheld::Denied(denial(), Some(facts)),
                        Asks::Refused => {
                            Withheld::Denied(denial().because("somebody was asked, and said no"), Some(facts))
                        }
                        Asks::After(asked) => {
                            let cap = caps.iter().find(|cap| cap.account(now) == account);
                            let ends_at = cap.map_or(now, |cap| cap.zone.ends(account.period, now));
                            Withheld::Asks(Box::new(question(account, ends_at, (stands, hold), asked)), facts)
                        }
                    }
                }
            }),
            Err(Refused::Busy(_)) => Err(Withheld::Waits),
            Err(Refused::Range(_)) => {
                let denial = Denial::new(admit::OVER_CAP, "the worst-case cost is out of range");
                Err(Withheld::Denied(denial, None))
            }
            Err(Refused::Store(error)) => Err(Withheld::Store(error)),
        }
    }
}

/// What people are asked about an account that leaves too little.
fn question(of: AccountId, ends_at: At, (stands, hold): (Account, MicroUsd), asked: u32) -> OverCap {
    let AccountId { owner, period, began_at } = of;
    let Account { cap, spent, .. } = stands;
    OverCap { owner: owner.to_string(), period, began_at, ends_at, asked, cap, spent, hold }
}
