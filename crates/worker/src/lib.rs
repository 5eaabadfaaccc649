//! Runs the effects: claims runs, folds them, decides, admits, appends, performs.
//!
//! Invariant: an effect is performed only after the append that admits it is durable, and only by the holder of the
//! run's lease. No business rules live here: an `if` about agents belongs in `engine`, one about money or permission in
//! `policy`.

mod admission;
mod drive;
pub mod edge;
mod load;
mod mail;
mod memo;
mod outbox;
mod perform;
pub mod providers;
mod purse;
mod retention;
mod ruling;
mod schema;
mod seal;
mod service;
mod sweep;
pub mod tools;
pub mod traces;

use std::sync::Arc;

use lantern_engine::Context;
use lantern_ledger::Ledger;
use lantern_policy::Catalogue;
use lantern_store::lease::Reader;
use lantern_store::retention::Kept;
use lantern_store::{Db, InForce, Notary, Standing, Vault};
use lantern_types::edge::{Clock, IdGen, Tasks};
use lantern_types::{Limits, TenantId};

pub use edge::{Llm, Tools};
pub use mail::Mail;
pub use memo::Memo;
pub use service::{Options, run};

/// What a worker works with. Everything that touches the outside is a trait, so that simulation can replace it.
#[derive(Clone)]
pub struct Deps {
    /// The database.
    pub db: Db,
    /// Seals and opens bodies.
    pub vault: Vault,
    /// Issues the receipts of runs that are over.
    pub notary: Notary,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdGen>,
    /// Where the drivers run.
    pub tasks: Arc<dyn Tasks>,
    /// Models.
    pub llm: Arc<dyn Llm>,
    /// The money of tenants and agents, of which the front doors have a part too.
    pub ledger: Ledger,
    /// Tools.
    pub tools: Arc<dyn Tools>,
    /// The limits in force, for everybody.
    pub in_force: InForce,
    /// Those of the server, or of the tenant whose run is driven.
    pub limits: Arc<Limits>,
    /// The policies in force, for everybody.
    pub standing: Standing,
    /// The model catalogue in force.
    pub catalogue: Arc<Catalogue>,
    /// For how long the content of ended runs is kept, where their tenant does not say.
    pub content_kept: Kept,
    /// What this build can read.
    pub reader: Reader,
    /// What is remembered; new and empty at first.
    pub memo: Memo,
    /// Who takes the spans of runs; without one none are made.
    pub traces: Option<Arc<traces::Collector>>,
}

impl Deps {
    /// The same with the limits that are in force for a tenant now. Whoever holds a run goes by these until it lets the run go.
    pub(crate) fn of(self: &Arc<Self>, tenant: TenantId) -> Arc<Self> {
        let limits = self.in_force.of(tenant);
        if Arc::ptr_eq(&limits, &self.limits) {
            return self.clone();
        }
        Arc::new(Self { limits, ..Self::clone(self) })
    }

    /// What decisions are made on, now.
    fn context(&self) -> Context<'_> {
        Context {
            at: self.clock.now(),
            limits: &self.limits,
            tools: self.tools.defs(),
            violations: schema::broken,
        }
    }
}
