//! The front doors for models: an existing agent calls its model through them by changing its base URL.
//!
//! ```text
//! routes.rs   the doors, and who may use them          shape.rs   errors in the words of each wire
//! ask.rs      what a request asks for, and the few bytes that are changed in it
//! resolve.rs  which provider and model are meant        facts.rs   what a tenant has: providers, caps, stops
//! call.rs     one call from end to end: who is asked, one after another
//! attempt.rs  one attempt: hold, send, pass on          missed.rs  one that came to nothing, and what its caller is told
//! open.rs     a call that money is held for, until it is settled
//! answer.rs   its answer, as it passes                  turned.rs  its answer, from another wire
//! count.rs    counting tokens                           models.rs  the list of models
//! own/        doors that speak no vendor's wire         inside.rs  the doors as a program in a box has them
//! ```
//!
//! Invariant: no call is made before what it could cost was held, where a cap bounds it; and every call that was made is settled
//! once, however it ends. Between two of one wire bytes pass as they came, both ways, but for what a cap or the count of tokens needs.
//! Knows no run; of a workload it knows a meter.

#![warn(missing_docs)]

mod answer;
mod ask;
mod attempt;
mod call;
mod count;
mod facts;
mod inside;
mod missed;
mod models;
mod open;
mod own;
mod permit;
mod resolve;
mod routes;
mod shape;
mod turned;

use std::sync::Arc;

use axum::Router;
use lantern_edge::{Entry, Gate, Route, route};
use lantern_ledger::Ledger;
use lantern_llm::{Breakers, Offer};
use lantern_net::Client;
use lantern_policy::alias::Aliases;
use lantern_policy::strategy::Strategy;
use lantern_policy::{Catalogue, Scope};
use lantern_schema::Checker;
use lantern_store::{Db, InForce, Standing};
use lantern_types::Failure;
use lantern_types::edge::{BoxFuture, Clock, IdGen};

use facts::Facts;

pub use inside::{Answered, Inside};
pub use routes::routes;

/// What a tenant's calls may go to.
#[derive(Clone, Debug, Default)]
pub struct Reachable {
    /// Its providers: its own first, then the operator's.
    pub offers: Vec<Offer>,
    /// What counts for it when several models would do.
    pub strategy: Strategy,
    /// Which models it means by a name of the catalogue's.
    pub aliases: Aliases,
}

/// Says what a tenant's calls may go to.
pub type Directory = Arc<dyn Fn(Scope) -> BoxFuture<'static, Result<Reachable, Failure>> + Send + Sync>;

/// What the process brings.
pub struct Setup {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdGen>,
    /// The limits in force.
    pub limits: InForce,
    /// The policies in force.
    pub standing: Standing,
    /// The model catalogue in force.
    pub catalogue: Arc<Catalogue>,
    /// Who did not answer lately, which runs look at too.
    pub breakers: Arc<Breakers>,
    /// The way out.
    pub client: Client,
    /// Tells who is asking.
    pub gate: Gate,
    /// What a tenant's calls may go to.
    pub directory: Directory,
    /// The money, of which runs have a part too.
    pub ledger: Ledger,
}

/// The state of the front doors. Cheap to clone.
#[derive(Clone)]
pub struct Doors {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    limits: InForce,
    standing: Standing,
    catalogue: Arc<Catalogue>,
    breakers: Arc<Breakers>,
    client: Client,
    gate: Gate,
    facts: Facts,
    ledger: Ledger,
    checker: Checker,
}

impl Doors {
    /// Opens the doors.
    pub fn open(setup: Setup) -> Self {
        let Setup { db, clock, ids, limits, standing, catalogue, breakers, client, gate, directory, ledger } =
            setup;
        let facts = Facts::new(db, clock.clone(), directory);
        let checker = Checker::default();
        let inner =
            Inner { clock, ids, limits, standing, catalogue, breakers, client, gate, facts, ledger, checker };
        Self { inner: Arc::new(inner) }
    }
}

/// Everything this crate serves, to be merged into a router that is wrapped by [`lantern_edge::request::wrap`].
pub fn router<S: Clone + Send + Sync + 'static>(doors: Doors) -> Router<S> {
    route::mount::<Doors>(routes()).with_state(doors)
}

/// Every route as it is described.
pub fn entries() -> Vec<Entry> {
    routes().iter().map(|route| route.entry().clone()).collect()
}

/// Method, path and action of every route, for the list of them.
pub fn table() -> String {
    let routes: Vec<Route<Doors>> = routes();
    route::table(&routes)
}
