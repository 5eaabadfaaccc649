//! What tenants say may not be: every version of it, and what is in force in this process.
//!
//! Invariant: a version is never changed, and the newest of a tenant is in force. What is in force here is at most [`EVERY`] older than
//! what is stored, while the database answers; when it does not, what was read last stays. Before the first look nothing is known,
//! and whoever asks is told so. Policies that cannot be read are not left out: whoever asks them is told that as well.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use lantern_cedar::{Otherwise, Policies};
use lantern_net::Shutdown;
use lantern_policy::Scope;
use lantern_types::edge::{Clock, Tasks};
use lantern_types::{At, Digest, RunId, TenantId};

use crate::db::{Db, TenantTx};
use crate::error::{Error, Result};
use crate::limits::EVERY;
use crate::value::{Row, Value};

const HEADS: &str = "SELECT tenant_id, MAX(version) AS version FROM policies GROUP BY tenant_id";
const READ: &str = "SELECT version, digest, text, otherwise, mode, made_by, made_at FROM policies
    WHERE tenant_id = $1 AND version = $2";
const NEWEST: &str = "SELECT version, digest, text, otherwise, mode, made_by, made_at FROM policies
    WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1";
const LIST: &str = "SELECT version, digest, text, otherwise, mode, made_by, made_at FROM policies
    WHERE tenant_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3";
const ADD: &str = "INSERT INTO policies (tenant_id, version, digest, text, otherwise, mode, made_by, made_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[NEWEST, LIST, ADD, READ, PAST, PAST_OF, APPENDS, APPENDS_OF];
/// Those across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[HEADS, READ];

/// What policies do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What they forbid does not happen.
    Enforce,
    /// What they forbid is told, and happens.
    Observe,
    /// They are not asked.
    Off,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Enforce, Self::Observe, Self::Off];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// One version of what a tenant says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// From 1.
    pub version: i64,
    /// Names the text.
    pub digest: Digest,
    /// The policies.
    pub text: String,
    /// What is done about what no policy speaks of; `None` of a word that this build does not know.
    pub otherwise: Option<Otherwise>,
    /// What they do; `None` of a word that this build does not know.
    pub mode: Option<Mode>,
    /// Who saved it.
    pub made_by: String,
    /// When.
    pub made_at: At,
}

impl Version {
    /// The version after the newest, of `newest`'s tenant.
    pub fn after(
        newest: Option<&Self>,
        (text, otherwise): (String, Otherwise),
        mode: Mode,
        by: String,
        at: At,
    ) -> Self {
        Self {
            version: newest.map_or(0, |newest| newest.version) + 1,
            digest: lantern_cedar::digest(&text, otherwise),
            text,
            otherwise: Some(otherwise),
            mode: Some(mode),
            made_by: by,
            made_at: at,
        }
    }
}

/// The policies in force for a tenant.
#[derive(Debug)]
pub struct Set {
    /// Which version.
    pub version: i64,
    /// Names the text.
    pub digest: Digest,
    /// Whether what they forbid happens all the same.
    pub observes: bool,
    /// The policies; `None` when this build cannot read them. Then everything is forbidden.
    pub policies: Option<Policies>,
}

impl Set {
    /// The set of a version; `None` when it is off.
    pub fn of(version: &Version) -> Option<Self> {
        if version.mode == Some(Mode::Off) {
            return None;
        }
        let read = |otherwise| Policies::read(&version.text, otherwise).ok();
        let policies = version.otherwise.filter(|_| version.mode.is_some()).and_then(read);
        let policies = policies.filter(|policies| policies.digest() == version.digest);
        // Of what cannot be read it is not known that it may be passed over.
        let observes = version.mode == Some(Mode::Observe) && policies.is_some();
        Some(Self { version: version.version, digest: version.digest, observes, policies })
    }
}

/// The policies in force, for everybody. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    // Sections under this lock are one look-up or one replacement. `None` before the first look.
    known: Arc<RwLock<Option<HashMap<TenantId, Known>>>>,
}

/// A tenant's newest version, and the set if it is asked.
#[derive(Clone, Debug)]
struct Known {
    version: i64,
    set: Option<Arc<Set>>,
}

/// Nobody has looked yet which policies are in force.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it is not known yet which policies are in force")]
pub struct Unknown;

impl Standing {
    /// Nobody has any: for tests, and for processes that ask none.
    pub fn none() -> Self {
        Self { known: Arc::new(RwLock::new(Some(HashMap::new()))) }
    }

    /// Those in force for a tenant; `None` when it has none.
    pub fn of(&self, tenant: TenantId) -> std::result::Result<Option<Arc<Set>>, Unknown> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref().ok_or(Unknown)?;
        Ok(known.get(&tenant).and_then(|known| known.set.clone()))
    }

    /// Reads what is stored. A version that was read before is not read again.
    pub async fn refresh(&self, db: &Db) -> Result<()> {
        let before: HashMap<TenantId, i64> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.iter().flatten().map(|(tenant, known)| (*tenant, known.version)).collect()
        };
        let fresh = fresh(db, before).await?;
        let sets: Vec<(TenantId, Known)> = fresh
            .into_iter()
            .map(|(tenant, version)| {
                let set = Set::of(&version).map(Arc::new);
                if set.as_ref().is_some_and(|set| set.policies.is_none()) {
                    tracing::error!(%tenant, version = version.version, "the policies of this tenant cannot be read: everything is forbidden to it");
                }
                (tenant, Known { version: version.version, set })
            })
            .collect();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        for (tenant, new) in sets {
            // Somebody else may have looked later and be done sooner.
            if known.get(&tenant).is_none_or(|old| old.version < new.version) {
                known.insert(tenant, new);
            }
        }
        Ok(())
    }

    /// Reads it again and again until the process stops.
    pub fn keep(&self, db: &Db, tasks: &dyn Tasks, clock: Arc<dyn Clock>, stop: Shutdown) {
        let (standing, db) = (self.clone(), db.clone());
        let keeping = async move {
            loop {
                if let Err(error) = standing.refresh(&db).await {
                    tracing::debug!(%error, "the policies of tenants were not read; the next look does");
                }
                tokio::select! {
                    biased;
                    () = stop.requested() => return,
                    () = clock.sleep(EVERY) => {}
                }
            }
        };
        tasks.spawn("store.policies", Box::pin(keeping));
    }
}

/// The newest version of each tenant that has a newer one than was known.
async fn fresh(db: &Db, before: HashMap<TenantId, i64>) -> Result<Vec<(TenantId, Version)>> {
    db.system_read(move |tx| {
        Box::pin(async move {
            let mut found = Vec::new();
            for row in tx.all(HEADS, &[]).await? {
                let (tenant, version): (TenantId, i64) = (row.id("tenant_id")?, row.int("version")?);
                if before.get(&tenant).is_none_or(|before| *before < version)
                    && let Some(row) = tx.one(READ, &[tenant.into(), version.into()]).await?
                {
                    found.push((tenant, of_row(&row)?));
                }
            }
            Ok(found)
        })
    })
    .await
}

/// A tenant's newest version.
pub async fn newest(db: &Db, scope: Scope) -> Result<Option<Version>> {
    db.read(scope, |tx| Box::pin(async move { newest_in(tx).await })).await
}

/// The same, within a transaction.
pub async fn newest_in(tx: &mut TenantTx<'_>) -> Result<Option<Version>> {
    tx.one(NEWEST, &[]).await?.map(|row| of_row(&row)).transpose()
}

/// One version.
pub async fn get(db: &Db, scope: Scope, version: i64) -> Result<Option<Version>> {
    db.read(scope, move |tx| {
        Box::pin(async move { tx.one(READ, &[version.into()]).await?.map(|row| of_row(&row)).transpose() })
    })
    .await
}

/// Versions below one, the newest first.
pub async fn list(db: &Db, scope: Scope, below: i64, limit: u32) -> Result<Vec<Version>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let rows = tx.all(LIST, &[below.into(), i64::from(limit).into()]).await?;
            rows.iter().map(of_row).collect()
        })
    })
    .await
}

/// Adds a version. A conflict when somebody else added one of that number.
pub async fn add(tx: &mut TenantTx<'_>, version: &Version) -> Result<()> {
    let Version { version, digest, text, otherwise, mode, made_by, made_at } = version.clone();
    let (Some(otherwise), Some(mode)) = (otherwise, mode) else {
        return Err(Error::Corrupt("a version is saved with words that are known".into()));
    };
    let params = [
        version.into(),
        digest.into(),
        text.into(),
        otherwise.as_str().to_owned().into(),
        mode.as_str().to_owned().into(),
        made_by.into(),
        made_at.into(),
    ];
    tx.exec(ADD, &params).await.map(drop)
}

fn of_row(row: &Row) -> Result<Version> {
    Ok(Version {
        version: row.int("version")?,
        digest: row.digest("digest")?,
        text: row.text("text")?,
        otherwise: Otherwise::parse(&row.text("otherwise")?),
        mode: Mode::parse(&row.text("mode")?),
        made_by: row.text("made_by")?,
        made_at: row.at("made_at")?,
    })
}

/// A place among runs, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// When the last one was made.
    pub at: At,
    /// Which it was.
    pub run: RunId,
}

/// A run of the past.
#[derive(Clone, Debug)]
pub struct PastRun {
    /// Which.
    pub id: RunId,
    /// Its agent's name.
    pub agent: String,
    /// When it was made.
    pub at: At,
    /// The envelopes of its appends, in their order.
    pub appends: Vec<Vec<u8>>,
}

/// Some runs of the past.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order in which they were made.
    pub runs: Vec<PastRun>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// Runs that are looked at for one page, and the events after which a page has no further run.
const RUNS: u32 = 256;
const EVENTS: i64 = 2_000;

const PAST: &str = "SELECT id, agent_name, created_at, version FROM runs
    WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 AND (created_at, id) > ($4, $5)
    ORDER BY created_at, id LIMIT $6";
const PAST_OF: &str = "SELECT id, agent_name, created_at, version FROM runs
    WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 AND (created_at, id) > ($4, $5)
    AND agent_name = $7 ORDER BY created_at, id LIMIT $6";
// The same rows again, the first $6 of them: so many that a page is not too large.
const APPENDS: &str = "SELECT j.run_id, j.bytes FROM (SELECT id, created_at FROM runs
    WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 AND (created_at, id) > ($4, $5)
    ORDER BY created_at, id LIMIT $6) r
    JOIN journal j ON j.tenant_id = $1 AND j.run_id = r.id ORDER BY r.created_at, r.id, j.first_seq";
const APPENDS_OF: &str = "SELECT j.run_id, j.bytes FROM (SELECT id, created_at FROM runs
    WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 AND (created_at, id) > ($4, $5)
    AND agent_name = $7 ORDER BY created_at, id LIMIT $6) r
    JOIN journal j ON j.tenant_id = $1 AND j.run_id = r.id ORDER BY r.created_at, r.id, j.first_seq";

/// Runs that were made within a time, behind a place, with their journals as they stand.
pub async fn past(
    db: &Db,
    scope: Scope,
    agent: Option<String>,
    (from, until): (At, At),
    after: Option<After>,
) -> Result<Page> {
    let After { at, run } =
        after.unwrap_or(After { at: At::from_micros(i64::MIN), run: RunId::from_uuid(uuid::Uuid::nil()) });
    db.read(scope, move |tx| {
        Box::pin(async move {
            let params = |limit: i64| -> Vec<Value> {
                let bounds = [from.into(), until.into(), at.into(), run.into(), limit.into()];
                bounds.into_iter().chain(agent.clone().map(Value::from)).collect()
            };
            let (heads, appends) = if agent.is_some() { (PAST_OF, APPENDS_OF) } else { (PAST, APPENDS) };
            let rows = tx.all(heads, &params(i64::from(RUNS))).await?;
            let full = rows.len() == RUNS as usize;
            let (mut runs, mut events) = (Vec::new(), 0);
            for row in &rows {
                if events >= EVENTS {
                    break;
                }
                events += row.int("version")?;
                let (id, agent, at) = (row.id("id")?, row.text("agent_name")?, row.at("created_at")?);
                runs.push(PastRun { id, agent, at, appends: Vec::new() });
            }
            let more = full || runs.len() < rows.len();
            let count = i64::try_from(runs.len()).unwrap_or(i64::MAX);
            let mut next = runs.iter_mut().peekable();
            for mut row in tx.all(appends, &params(count)).await? {
                let id: RunId = row.id("run_id")?;
                while next.peek().is_some_and(|run| run.id != id) {
                    next.next();
                }
                if let (Some(run), Some(bytes)) = (next.peek_mut(), row.take_bytes("bytes")?) {
                    run.appends.push(bytes);
                }
            }
            Ok(Page { runs, more })
        })
    })
    .await
}
