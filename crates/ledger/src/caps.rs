//! Which caps bound the runs of a tenant now, and which of its agents' tools may be called so many times a day.
//!
//! Invariant: a cap that this process set holds for the next step, and one that another set a quarter of a second later at the
//! latest. A step asks the database for none of them while they are known.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use lantern_policy::Scope;
use lantern_store::escrow::{self, Cap};
use lantern_store::{Db, allowances};
use lantern_types::edge::Clock;
use lantern_types::{AgentId, At, Dur, TenantId};

/// How old what is known may be, where other processes set caps too.
const FRESH: Dur = Dur::from_millis(250);
/// Tenants whose caps are remembered.
const TENANTS_MAX: usize = 4_096;

/// The most calls of a day, by agent and tool.
pub(crate) type Tools = BTreeMap<AgentId, BTreeMap<String, u32>>;

#[derive(Clone)]
struct Known {
    caps: Arc<[Cap]>,
    tools: Arc<Tools>,
    read_at: At,
    /// How often caps had been set here before.
    set: u64,
}

pub(crate) struct Caps {
    db: Db,
    clock: Arc<dyn Clock>,
    sole: bool,
    // Sections under this lock are one look-up or insert.
    known: Mutex<HashMap<TenantId, Known>>,
}

impl Caps {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, sole: bool) -> Self {
        Self { db, clock, sole, known: Mutex::default() }
    }

    /// The tenant's caps.
    pub(crate) async fn of(&self, scope: Scope) -> lantern_store::Result<Arc<[Cap]>> {
        Ok(self.known(scope).await?.caps)
    }

    /// The limits of the tools of its agents.
    pub(crate) async fn tools(&self, scope: Scope) -> lantern_store::Result<Arc<Tools>> {
        Ok(self.known(scope).await?.tools)
    }

    async fn known(&self, scope: Scope) -> lantern_store::Result<Known> {
        let (now, set) = (self.clock.now(), self.db.hub().caps_set());
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&scope.tenant()).cloned();
        let holds = |known: &Known| known.set == set && (self.sole || now.since(known.read_at) < FRESH);
        if let Some(known) = known.filter(holds) {
            return Ok(known);
        }
        let caps = escrow::caps(&self.db, scope).await?.into();
        let tools = Arc::new(allowances::bounded(&self.db, scope).await?);
        let new = Known { caps, tools, read_at: now, set };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TENANTS_MAX {
            // Rare, and the next look-up of each is one read: simpler than keeping track of age.
            known.clear();
        }
        known.insert(scope.tenant(), new.clone());
        Ok(new)
    }
}
