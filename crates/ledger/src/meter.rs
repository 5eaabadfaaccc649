//! The meter of one workload: what its model calls may come to, held in its own row before each of them is made.
//!
//! Invariant: no call is let through that would pass what the workload's spec or its run allows, whoever died before; and each that was
//! let through is told once, when it is over, to whoever looks after the workload. That one writes it down.

use std::sync::Arc;

use lantern_policy::Scope;
use lantern_policy::escrow::Worst;
use lantern_store::Db;
use lantern_store::metered::{self, Bounds, Came, NewCall, Stands};
use lantern_types::edge::{Clock, IdGen};
use lantern_types::money::Overflow;
use lantern_types::{CallId, MicroUsd, Route, RunId};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

/// Times that a call asks anew for what others were quicker to take.
const TRIES: u32 = 8;

/// Why a call is not let through.
#[derive(Debug, thiserror::Error)]
pub enum OverLimit {
    /// Too little money is left.
    #[error(
        "out of budget: this call could cost {hold}; of the workload's limits.max_cost_usd of {cap}, {spent} are spent and {held} are held"
    )]
    Cost {
        /// What was asked for.
        hold: MicroUsd,
        /// The most that the workload may spend.
        cap: MicroUsd,
        /// What is settled.
        spent: MicroUsd,
        /// What is held for other calls.
        held: MicroUsd,
    },
    /// Too few tokens are left.
    #[error(
        "out of tokens: this call could have {asked}; of the workload's limits.max_tokens of {most}, {used} are used or held"
    )]
    Tokens {
        /// What was asked for.
        asked: u64,
        /// The most that the workload may use.
        most: u64,
        /// What it has used, and what is held for other calls.
        used: u64,
    },
    /// Too many calls.
    #[error(
        "out of steps: the workload has made as many model calls as it may, {0}; limits.max_steps says how many"
    )]
    Calls(u64),
    /// The workload is over, or somebody else's.
    #[error("the workload is over")]
    Over,
    /// Not now: in a second it may be.
    #[error("the workload's money is being spent by many calls at once; try again")]
    Busy,
    /// The amount is out of range.
    #[error(transparent)]
    Range(#[from] Overflow),
    /// The database could not say.
    #[error(transparent)]
    Store(#[from] lantern_store::Error),
}

/// A call that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metered {
    /// Its id.
    pub id: CallId,
    /// Who was asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// What was held for it.
    pub hold: MicroUsd,
    /// What it came to, at most what was held for it.
    pub came: Came,
}

/// Whose calls are counted.
#[derive(Clone, Debug)]
pub struct Whose {
    /// The tenant.
    pub scope: Scope,
    /// The run of the workload.
    pub run: RunId,
    /// The node that has it.
    pub node: String,
    /// What its spec allows.
    pub bounds: Bounds,
    /// How many steps it may have: its calls, and what else is counted beside them.
    pub steps_max: Option<u64>,
}

impl Whose {
    /// What is left of the bounds for calls, beside so many other steps.
    fn beside(&self, steps: u64) -> Bounds {
        let calls = self.steps_max.map_or(u64::MAX, |most| most.saturating_sub(steps));
        Bounds { calls: calls.min(self.bounds.calls), ..self.bounds }
    }
}

/// The meter of one workload. Cheap to clone.
#[derive(Clone)]
pub struct Meter {
    db: Db,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    whose: Whose,
    told: mpsc::Sender<Metered>,
    // Held from the look at how many steps there are until there is one more, of either kind. Holds whoever has it to a database call
    // or two.
    beside: Arc<Mutex<u64>>,
}

/// The steps of a workload, for as long as nobody else takes one.
pub struct Steps {
    meter: Meter,
    beside: OwnedMutexGuard<u64>,
}

impl Steps {
    /// Says how many steps there are that are no model calls.
    pub fn count(&mut self, beside: u64) {
        *self.beside = beside;
    }

    /// Whether there may be one more.
    pub async fn has_room(&self) -> Result<bool, OverLimit> {
        let Some(most) = self.meter.whose.steps_max else { return Ok(true) };
        let whose = &self.meter.whose;
        let stands = metered::stands(&self.meter.db, whose.scope, whose.run).await?.ok_or(OverLimit::Over)?;
        Ok(self.beside.saturating_add(stands.calls) < most)
    }

    /// There is one more.
    pub fn take(&mut self) {
        *self.beside = self.beside.saturating_add(1);
    }

    /// There is one less.
    pub fn give_back(&mut self) {
        *self.beside = self.beside.saturating_sub(1);
    }
}

impl Meter {
    /// A meter, and what is told of each call that is over.
    pub fn new(
        db: Db,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGen>,
        whose: Whose,
        calls_at_once: usize,
    ) -> (Self, mpsc::Receiver<Metered>) {
        let (told, hears) = mpsc::channel(calls_at_once);
        // Nobody has said yet how many there are, and until then there is no room for a call.
        let beside = Arc::new(Mutex::new(u64::MAX));
        (Self { db, clock, ids, whose, told, beside }, hears)
    }

    /// Whether a bound of the spec holds for calls that cost nothing.
    pub const fn bounds_tokens(&self) -> bool {
        self.whose.bounds.tokens < u64::MAX
    }

    /// The steps of the workload: no call is let through and no other step is taken until this is dropped.
    pub async fn steps(&self) -> Steps {
        Steps { meter: self.clone(), beside: self.beside.clone().lock_owned().await }
    }

    /// Holds what a call could come to, its completion tokens lowered to what is left. Fails when that is fewer than `least`.
    pub async fn hold(&self, route: &Route, worst: &mut Worst, least: u64) -> Result<Reading, OverLimit> {
        // First, so that what becomes of it can be told for sure.
        let permit = self.told.clone().reserve_owned().await.map_err(|_| OverLimit::Over)?;
        let Whose { scope, run, node, .. } = &self.whose;
        let beside = self.beside.lock().await;
        let bounds = self.whose.beside(*beside);
        for _ in 0..TRIES {
            let call = NewCall {
                id: CallId::from_uuid(self.ids.uuid()),
                provider: route.provider.clone(),
                model: route.model.clone(),
                hold: worst.hold()?,
                tokens: tokens(worst),
                at: self.clock.now(),
            };
            let metered = Metered {
                id: call.id,
                provider: call.provider.clone(),
                model: call.model.clone(),
                hold: call.hold,
                came: Came::default(),
            };
            if metered::hold(&self.db, *scope, (*run, node.clone()), call, bounds).await? {
                return Ok(Reading { open: Some((permit, metered)) });
            }
            let stands = metered::stands(&self.db, *scope, *run).await?.ok_or(OverLimit::Over)?;
            worst.output = fitting(&stands, bounds, worst, least)?;
        }
        Err(OverLimit::Busy)
    }
}

fn tokens(worst: &Worst) -> u64 {
    worst.input.saturating_add(worst.output)
}

/// The completion tokens that a call which does not fit may have so that it does.
fn fitting(stands: &Stands, bounds: Bounds, worst: &Worst, least: u64) -> Result<u64, OverLimit> {
    if stands.calls >= bounds.calls {
        return Err(OverLimit::Calls(bounds.calls));
    }
    let (cap, spent, held) = (stands.cap.unwrap_or_default(), stands.spent, stands.held);
    let left = cap.minus(spent).and_then(|left| left.minus(held)).unwrap_or_default();
    let cost =
        || -> Result<OverLimit, Overflow> { Ok(OverLimit::Cost { hold: worst.hold()?, cap, spent, held }) };
    let Some(paid) = worst.affordable(left).filter(|paid| *paid >= least) else { return Err(cost()?) };
    let used = stands.tokens_in.saturating_add(stands.tokens_out).saturating_add(stands.tokens_held);
    let room = bounds.tokens.saturating_sub(used).checked_sub(worst.input);
    let Some(room) = room.filter(|room| *room >= least) else {
        return Err(OverLimit::Tokens { asked: tokens(worst), most: bounds.tokens, used });
    };
    // What fits by these numbers was free a moment ago only, or its workload is over: the next try tells.
    Ok(paid.min(room).min(worst.output))
}

/// A call that is held for. Dropped, it was not made.
#[derive(Debug)]
pub struct Reading {
    open: Option<(mpsc::OwnedPermit<Metered>, Metered)>,
}

impl Reading {
    /// The call is over. It is charged what was held for it at the most.
    pub fn settle(mut self, came: Came) {
        if let Some((permit, metered)) = self.open.take() {
            let cost = came.cost.min(metered.hold);
            permit.send(Metered { came: Came { cost, ..came }, ..metered });
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some((permit, metered)) = self.open.take() {
            permit.send(metered);
        }
    }
}

#[cfg(test)]
mod tests {
    use lantern_types::Price;

    use super::*;

    const fn usd(micros: i64) -> MicroUsd {
        MicroUsd::from_micros(micros)
    }

    #[test]
    fn a_call_is_lowered_to_what_is_left_or_refused_with_what_bounds_it() {
        let price = Price { input: usd(1_000_000), output: usd(2_000_000) };
        let worst = Worst { price, input: 10, output: 100 };
        let stands = Stands {
            cap: Some(usd(200)),
            spent: usd(50),
            held: usd(40),
            calls: 2,
            tokens_in: 20,
            tokens_out: 10,
            tokens_held: 10,
        };
        for (bounds, least, want) in [
            (Bounds { calls: 3, tokens: u64::MAX }, 1, "50"),
            (Bounds { calls: 3, tokens: 80 }, 1, "30"),
            (Bounds { calls: 3, tokens: 51 }, 1, "1"),
            (Bounds { calls: 3, tokens: 50 }, 1, "out of tokens"),
            (Bounds { calls: 3, tokens: 45 }, 1, "out of tokens"),
            (Bounds { calls: 2, tokens: u64::MAX }, 1, "out of steps"),
            (Bounds { calls: 3, tokens: u64::MAX }, 51, "out of budget: this call could cost $0.000210"),
        ] {
            let got = match fitting(&stands, bounds, &worst, least) {
                Ok(tokens) => tokens.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(got.starts_with(want), "{bounds:?} {least}: {got}");
        }
        let none = Stands { cap: None, ..stands };
        let bounds = Bounds { calls: 3, tokens: u64::MAX };
        assert!(matches!(fitting(&none, bounds, &worst, 1), Err(OverLimit::Cost { .. })));
    }
}
