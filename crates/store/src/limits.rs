//! The limits in force for each tenant: the server's, and over them what the operator sets for that tenant.
//!
//! Invariant: no tenant writes its own, on PostgreSQL by its grants. What is in force in a process is at most [`EVERY`] older
//! than what is stored, while the database answers; when it does not, what was read last stays. A stored limit that this build
//! does not know, or cannot mean, is left out, and the others of its tenant hold.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use lantern_net::Shutdown;
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{At, Dur, Limits, TenantId};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::db::Db;
use crate::error::{Error, Result};
use crate::share::Bounds;

/// How often a process reads what is stored.
pub const EVERY: Dur = Dur::from_secs(2);

const ALL: &str = "SELECT tenant_id, limits FROM tenant_limits";
const GET: &str = "SELECT limits FROM tenant_limits WHERE tenant_id = $1";
const SET: &str = "INSERT INTO tenant_limits (tenant_id, limits, set_by, set_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant_id) DO UPDATE SET limits = excluded.limits, set_by = excluded.set_by, set_at = excluded.set_at";
const UNSET: &str = "DELETE FROM tenant_limits WHERE tenant_id = $1";
const NAMED: &str = "SELECT tenant_id FROM tenants WHERE slug = $1";
const THERE: &str = "SELECT tenant_id FROM tenants WHERE tenant_id = $1";

/// Every statement of this file, all across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[ALL, GET, SET, UNSET, NAMED, THERE];

/// What one tenant has of its own, by the names of [`Limits`] in JSON.
pub type Own = Map<String, Json>;

/// The limits in force, for everybody. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct InForce {
    // Sections under this lock are one look-up or one replacement.
    inner: Arc<RwLock<State>>,
}

#[derive(Debug)]
struct State {
    base: Arc<Limits>,
    stored: HashMap<TenantId, Own>,
    own: HashMap<TenantId, Arc<Limits>>,
    at_work: Arc<HashMap<TenantId, Option<u32>>>,
}

impl State {
    fn of(base: Arc<Limits>, stored: HashMap<TenantId, Own>) -> Self {
        let own: HashMap<_, _> =
            stored.iter().map(|(tenant, own)| (*tenant, Arc::new(over(&base, *tenant, own)))).collect();
        let at_work = own.iter().map(|(tenant, limits)| (*tenant, limits.at_work_max())).collect();
        Self { base, stored, own, at_work: Arc::new(at_work) }
    }
}

/// Each by itself: one that is of no use does not take the others with it.
fn over(base: &Limits, tenant: TenantId, own: &Own) -> Limits {
    own.iter().fold(base.clone(), |limits, (name, value)| {
        let one = Own::from_iter([(name.clone(), value.clone())]);
        limits.with(&one).unwrap_or_else(|error| {
            tracing::warn!(%tenant, %error, "a limit of this tenant is left out");
            limits
        })
    })
}

impl InForce {
    /// These, for everybody, until more is known.
    pub fn new(base: Limits) -> Self {
        Self { inner: Arc::new(RwLock::new(State::of(Arc::new(base), HashMap::new()))) }
    }

    fn with<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, make: impl FnOnce(&State) -> State) {
        let mut state = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        *state = make(&state);
    }

    /// The server's own: those of the process, and of whoever has none.
    pub fn base(&self) -> Arc<Limits> {
        self.with(|state| state.base.clone())
    }

    /// A tenant's.
    pub fn of(&self, tenant: TenantId) -> Arc<Limits> {
        self.with(|state| state.own.get(&tenant).unwrap_or(&state.base).clone())
    }

    /// What the operator set for a tenant, as it is stored.
    pub fn own(&self, tenant: TenantId) -> Own {
        self.with(|state| state.stored.get(&tenant).cloned().unwrap_or_default())
    }

    /// How many runs of each tenant may be at work.
    pub fn bounds(&self) -> Bounds {
        self.with(|state| Bounds { each: state.base.at_work_max(), own: state.at_work.clone() })
    }

    /// From now on the server's are these, below what tenants have.
    pub fn rebase(&self, base: Limits) {
        self.replace(|state| State::of(Arc::new(base), state.stored.clone()));
    }

    /// Reads what is stored.
    pub async fn refresh(&self, db: &Db) -> Result<()> {
        let stored = all(db).await?;
        if self.with(|state| state.stored != stored) {
            self.replace(|state| State::of(state.base.clone(), stored));
        }
        Ok(())
    }

    /// Reads it again and again until the process stops.
    pub fn keep(&self, db: &Db, tasks: &dyn Tasks, clock: Arc<dyn Clock>, stop: Shutdown) {
        let (limits, db) = (self.clone(), db.clone());
        let keeping = async move {
            loop {
                if let Err(error) = limits.refresh(&db).await {
                    tracing::debug!(%error, "the limits of tenants were not read; the next look does");
                }
                tokio::select! {
                    biased;
                    () = stop.requested() => return,
                    () = clock.sleep(EVERY) => {}
                }
            }
        };
        tasks.spawn("store.limits", Box::pin(keeping));
    }
}

impl From<Limits> for InForce {
    fn from(base: Limits) -> Self {
        Self::new(base)
    }
}

async fn all(db: &Db) -> Result<HashMap<TenantId, Own>> {
    db.system_read(|tx| {
        Box::pin(async move {
            let mut found = HashMap::new();
            for row in tx.all(ALL, &[]).await? {
                found.insert(row.id("tenant_id")?, read(row.text("limits")?)?);
            }
            Ok(found)
        })
    })
    .await
}

fn read(text: impl AsRef<str>) -> Result<Own> {
    serde_json::from_str(text.as_ref()).map_err(Error::internal)
}

/// The tenant of this id or slug.
pub async fn tenant(db: &Db, named: &str) -> Result<Option<TenantId>> {
    let (id, slug) = (named.parse::<Uuid>().ok().map(TenantId::from_uuid), named.to_owned());
    db.system_read(move |tx| {
        Box::pin(async move {
            let found = match id {
                Some(id) => tx.one(THERE, &[id.into()]).await?,
                None => tx.one(NAMED, &[slug.into()]).await?,
            };
            found.map(|row| row.id("tenant_id")).transpose()
        })
    })
    .await
}

/// What is stored for a tenant.
pub async fn own(db: &Db, tenant: TenantId) -> Result<Own> {
    db.system_read(move |tx| {
        Box::pin(async move {
            let row = tx.one(GET, &[tenant.into()]).await?;
            row.map_or_else(|| Ok(Own::new()), |row| read(row.text("limits")?))
        })
    })
    .await
}

/// Stores all that a tenant has of its own; nothing leaves it with the server's.
pub async fn set(db: &Db, tenant: TenantId, own: Own, by: String, at: At) -> Result<()> {
    db.system_write(move |tx| {
        Box::pin(async move {
            let done = if own.is_empty() {
                tx.exec(UNSET, &[tenant.into()]).await
            } else {
                let text = Json::Object(own).to_string();
                tx.exec(SET, &[tenant.into(), text.into(), by.into(), at.into()]).await
            };
            done.map(drop)
        })
    })
    .await
}
