//! What a tenant has that calls depend on: its providers and what it says of them, its caps, and a stop that holds.
//!
//! Invariant: no fact is older than [`FRESH`] when a call is admitted by it. So a cap, a provider or an emergency stop holds for
//! every process that much later at the latest, and a call asks the database for none of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lantern_edge::{Error, Result};
use lantern_policy::Scope;
use lantern_store::escrow::{self, Cap};
use lantern_store::{Db, stops};
use lantern_types::edge::Clock;
use lantern_types::{At, Dur, TenantId};

use crate::missed::failed;
use crate::{Directory, Reachable};

/// How old a fact may be.
const FRESH: Dur = Dur::from_millis(250);
/// Tenants whose facts are remembered.
const TENANTS_MAX: usize = 4_096;

/// What one tenant has.
pub(crate) struct Tenancy {
    pub(crate) reach: Reachable,
    pub(crate) caps: Vec<Cap>,
    /// Why nothing may be spent now.
    pub(crate) stop: Option<String>,
    read_at: At,
}

pub(crate) struct Facts {
    db: Db,
    clock: Arc<dyn Clock>,
    directory: Directory,
    // Sections under this lock are one look-up or insert.
    known: Mutex<HashMap<TenantId, Arc<Tenancy>>>,
}

impl Facts {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, directory: Directory) -> Self {
        Self { db, clock, directory, known: Mutex::default() }
    }

    /// Why nothing may be spent for an agent of this name, looked up now. `None` when nothing holds.
    pub(crate) async fn halted(&self, scope: Scope, agent: &str) -> Result<Option<String>> {
        let holding = stops::holding(&self.db, scope, agent.to_owned()).await;
        holding.map(|stop| stop.map(|stop| stop.reason)).map_err(Error::from)
    }

    /// What the tenant has.
    pub(crate) async fn of(&self, scope: Scope) -> Result<Arc<Tenancy>> {
        let now = self.clock.now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&scope.tenant()).cloned();
        if let Some(known) = known.filter(|known| now.since(known.read_at) < FRESH) {
            return Ok(known);
        }
        let reach = (self.directory)(scope).await.map_err(|failure| failed(&failure))?;
        let caps = escrow::caps(&self.db, scope).await.map_err(Error::from)?;
        // No agent has this name, so what is found halts the whole tenant or server.
        let stop = stops::holding(&self.db, scope, String::new()).await?.map(|stop| stop.reason);
        let tenancy = Arc::new(Tenancy { reach, caps, stop, read_at: now });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TENANTS_MAX {
            // Rare, and the next look-up of each is one read: simpler than keeping track of age.
            known.clear();
        }
        known.insert(scope.tenant(), tenancy.clone());
        Ok(tenancy)
    }
}
