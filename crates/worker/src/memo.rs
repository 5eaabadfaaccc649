//! What never changes and is dear to make, remembered: the digests in force, manifests by version, names of agents, compiled schemas.
//!
//! Each map is bounded: a full one is emptied, and what is needed again is made again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lantern_engine::Manifest;
use lantern_policy::admit::Terms;
use lantern_policy::{Catalogue, Scope};
use lantern_schema::Checker;
use lantern_types::{AgentId, At, Dur, Limits, VersionId};

/// Entries of one map.
const KEPT_MAX: usize = 1_024;
/// Sets of limits whose digests are kept.
const TERMS_MAX: usize = 32;

/// How often to tell of a store that does not answer.
const TELL_AFTER: Dur = Dur::from_secs(10);

/// A process's memory. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Memo {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    // The sets of limits in force are few: the server's, and those of tenants that have some of their own.
    terms: Mutex<Vec<(Arc<Limits>, Terms)>>,
    // Sections under this lock are one look-up or insert.
    manifests: Mutex<HashMap<(Scope, VersionId), Arc<Manifest>>>,
    agents: Mutex<HashMap<(Scope, AgentId), Arc<str>>>,
    schemas: Checker,
    /// When a store that does not answer was last told of.
    told: AtomicI64,
}

fn find<K: Eq + Hash, V: Clone>(map: &Mutex<HashMap<K, V>>, key: &K) -> Option<V> {
    map.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
}

fn keep<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= KEPT_MAX {
        map.clear();
    }
    map.insert(key, value);
}

impl Memo {
    /// Whether to tell of a store that does not answer: every run that waits for it would, twice a second.
    pub(crate) fn tells(&self, now: At) -> bool {
        let last = self.inner.told.load(Ordering::Relaxed);
        let due = now.micros().saturating_sub(last) >= TELL_AFTER.micros();
        due && self
            .inner
            .told
            .compare_exchange(last, now.micros(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// The digests of the rules in force. The catalogue is the same at every call.
    pub(crate) fn terms(&self, catalogue: &Catalogue, limits: &Arc<Limits>) -> Terms {
        let mut known = self.inner.terms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, terms)) = known.iter().find(|(known, _)| Arc::ptr_eq(known, limits)) {
            return *terms;
        }
        let terms = Terms::of(catalogue, limits);
        if known.len() >= TERMS_MAX {
            known.clear();
        }
        known.push((limits.clone(), terms));
        terms
    }

    /// A version's manifest, if it was kept.
    pub(crate) fn manifest(&self, scope: Scope, id: VersionId) -> Option<Arc<Manifest>> {
        find(&self.inner.manifests, &(scope, id))
    }

    /// Keeps a version's manifest, which is immutable.
    pub(crate) fn keep_manifest(&self, scope: Scope, id: VersionId, manifest: Arc<Manifest>) {
        keep(&self.inner.manifests, (scope, id), manifest);
    }

    /// An agent's name, if it was kept.
    pub(crate) fn agent(&self, scope: Scope, id: AgentId) -> Option<Arc<str>> {
        find(&self.inner.agents, &(scope, id))
    }

    /// Keeps an agent's name, which never changes.
    pub(crate) fn keep_agent(&self, scope: Scope, id: AgentId, name: Arc<str>) {
        keep(&self.inner.agents, (scope, id), name);
    }

    /// What checks values against schemas, and remembers these.
    pub(crate) fn schemas(&self) -> &Checker {
        &self.inner.schemas
    }
}
