//! Receipts: every run that is over gets one, once, and it is a leaf of its tenant's log.
//!
//! Invariant: a receipt, its leaf, the grown tiles, the signed head and the run's number are one transaction, guarded by the
//! log's size; so numbers have no gaps, and no run has two. Who finds a run without a number seals it, whoever was meant to.
//! What a receipt says is computed from the run's row and its stored envelopes; only these are read, and no body.

pub(crate) mod keys;
pub(crate) mod log;
mod seal;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lantern_policy::Scope;
use lantern_receipts::{Published, Signature, Signer, Summary, VerifyKey, Written};
use lantern_types::*;
use tokio::sync::Notify;

use crate::db::{Db, TenantTx};
use crate::error::{Error, Result};
use crate::seal::Sealer;
use crate::system;
use crate::value::{Row, Value};

pub use log::{Head, checkpoint, consistency, head, inclusion, tile};

/// Seals runs, and knows the keys that receipts are signed with. Cheap to clone.
#[derive(Clone)]
pub struct Notary {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    sealer: Sealer,
    /// The operator's own key, when there is one.
    own: Option<Signer>,
    // Sections under this lock are one look-up or insert.
    opened: Mutex<Option<Signer>>,
    told: Mutex<HashMap<RunId, Summary>>,
    ended: Notify,
}

/// A receipt that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its run.
    pub run: RunId,
    /// Its leaf in the log.
    pub index: u64,
    /// How many leaves the log had under the first head that covers it.
    pub size: u64,
    /// What was signed.
    pub payload: String,
    /// The signature.
    pub signature: Signature,
    /// The key that signed.
    pub key: VerifyKey,
    /// Its signature of the same as a statement of in-toto.
    pub attested: Signature,
    /// When.
    pub at: At,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Receipts that were issued.
    pub issued: u32,
    /// Runs for which there can be none.
    pub unreadable: u32,
    /// Whether there may be more.
    pub more: bool,
}

/// Runs that were told of and are not sealed yet; what is told of others is forgotten.
const TOLD_MAX: usize = 4_096;
/// Runs of one append to a log.
const GROUP_MAX: usize = 128;
/// Tries of one append.
const TRIES: u32 = 5;
/// Tenants in trouble that a round looks past.
const PASSED_MAX: usize = 4;
/// The setting that tells logs of this installation from those of others.
const INSTALLATION: &str = "installation";

const DUE: &str = "SELECT tenant_id, id FROM runs WHERE finished_at IS NOT NULL AND receipt IS NULL
    AND tenant_id NOT IN ($2, $3, $4, $5) ORDER BY finished_at LIMIT $1";
const FIND: &str =
    "SELECT run_id, log_index, log_size, payload, signature, public_key, attested, issued_at FROM receipts
    WHERE tenant_id = $1 AND run_id = $2";
const LIST: &str =
    "SELECT run_id, log_index, log_size, payload, signature, public_key, attested, issued_at FROM receipts
    WHERE tenant_id = $1 AND log_index < $2 ORDER BY log_index DESC LIMIT $3";
const REMOVE: &str = "DELETE FROM receipts WHERE tenant_id = $1 AND run_id = $2";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[FIND, LIST, REMOVE, seal::RUN, seal::EVENTS, seal::KEEP];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[DUE];

impl Notary {
    /// A notary with the operator's own key, or with keys that it makes and keeps sealed.
    pub fn new(sealer: &Sealer, own: Option<&Secret<[u8; 32]>>) -> Self {
        let (db, sealer, own) = (sealer.db().clone(), sealer.clone(), own.map(Signer::new));
        let (opened, told, ended) = (Mutex::new(None), Mutex::default(), Notify::new());
        Self { inner: Arc::new(Inner { db, sealer, own, opened, told, ended }) }
    }

    /// Says that a run is over.
    pub fn nudge(&self) {
        self.inner.ended.notify_one();
    }

    /// The same, with what its events say, which need not be read again then.
    pub fn over(&self, run: RunId, summary: Summary) {
        {
            let mut told = self.inner.told.lock().unwrap_or_else(PoisonError::into_inner);
            // Whatever is forgotten is read again.
            if told.len() >= TOLD_MAX {
                told.clear();
            }
            told.insert(run, summary);
        }
        self.nudge();
    }

    /// Completes once somebody said so since the last call.
    pub async fn nudged(&self) {
        self.inner.ended.notified().await;
    }

    /// Issues receipts for at most `limit` runs that have none, of whichever tenant, the longest over first. Runs of tenants
    /// whose log cannot be appended to hold nobody up; fails when there were only such.
    pub async fn round(&self, now: At, limit: u32) -> Result<Round> {
        let (mut round, mut passed, mut failed) = (Round::default(), Vec::new(), None);
        loop {
            let (groups, more) = self.due(limit, &passed).await?;
            let before = passed.len();
            for (scope, runs) in groups {
                match self.seal(scope, &runs, now).await {
                    Ok((issued, unreadable)) => {
                        round.issued += issued;
                        round.unreadable += unreadable;
                    }
                    Err(error) => {
                        let told: &dyn std::error::Error = &error;
                        tracing::warn!(tenant = %scope.tenant(), error = told, "receipts could not be issued; trying again");
                        failed = Some(error);
                        if !passed.contains(&scope.tenant()) {
                            passed.push(scope.tenant());
                        }
                    }
                }
            }
            round.more = more;
            // Runs of those in trouble stay first in line: look past them.
            if !more || passed.len() == before || passed.len() > PASSED_MAX {
                break;
            }
        }
        match failed {
            Some(error) if round.issued == 0 => Err(error),
            _ => Ok(round),
        }
    }

    /// Runs without a receipt, by tenant, but for those of these tenants; and whether there may be more.
    async fn due(&self, limit: u32, passed: &[TenantId]) -> Result<(Vec<(Scope, Vec<RunId>)>, bool)> {
        let mut values = vec![limit.into()];
        let nobody = TenantId::from_uuid(uuid::Uuid::nil());
        values.extend(passed.iter().copied().chain([nobody; PASSED_MAX]).take(PASSED_MAX).map(Value::from));
        let due = self.inner.db.system_read(move |tx| Box::pin(async move { tx.all(DUE, &values).await }));
        let mut groups: Vec<(Scope, Vec<RunId>)> = Vec::new();
        let rows = due.await?;
        for row in &rows {
            let (tenant, run) = (row.id("tenant_id")?, row.id("id")?);
            match groups.iter_mut().find(|(scope, runs)| scope.tenant() == tenant && runs.len() < GROUP_MAX) {
                Some((_, runs)) => runs.push(run),
                None => groups.push((Scope::of_lease(tenant), vec![run])),
            }
        }
        Ok((groups, u32::try_from(rows.len()).is_ok_and(|n| n == limit)))
    }

    /// The receipt of a run, issued now if it has none yet. `None` when the run is not there, is not over, or cannot be read.
    pub async fn receipt(&self, scope: Scope, run: RunId, now: At) -> Result<Option<Issued>> {
        if let Some(issued) = find(&self.inner.db, scope, run).await? {
            return Ok(Some(issued));
        }
        self.seal(scope, &[run], now).await?;
        find(&self.inner.db, scope, run).await
    }

    /// The keys that receipts are, or were, signed with, the newest first. The first key is made when there is none.
    pub async fn published(&self) -> Result<Vec<Published>> {
        self.signer().await?;
        keys::published(&self.inner.db).await
    }

    /// Signs with a new key from now on. What the one before has signed stays good; it signs nothing more. Answers also
    /// whether the one before was the operator's: whoever still has it takes it again.
    pub async fn rotate(&self) -> Result<(VerifyKey, bool)> {
        if self.inner.own.is_some() {
            return Err(Error::Misuse("the key is the operator's: give the server another one".to_owned()));
        }
        let (signer, own) = keys::replace(&self.inner.db, &self.inner.sealer).await?;
        Ok((signer.public(), own))
    }

    async fn seal(&self, scope: Scope, runs: &[RunId], now: At) -> Result<(u32, u32)> {
        let signer = self.signer().await?;
        let told: Vec<(RunId, Option<Summary>)> = {
            let mut told = self.inner.told.lock().unwrap_or_else(PoisonError::into_inner);
            runs.iter().map(|run| (*run, told.remove(run))).collect()
        };
        for _ in 0..TRIES {
            match seal::group(&self.inner.db, scope, told.clone(), (&signer, now)).await {
                Ok(Some(counts)) => return Ok(counts),
                Ok(None) => log::begin(&self.inner.db, scope, &self.origin(scope).await?).await?,
                // Somebody who appends at the same time was first: what is left is looked at again.
                Err(Error::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("others are writing to the log"))
    }

    async fn origin(&self, scope: Scope) -> Result<String> {
        let mut fresh = [0; 8];
        self.inner.sealer.fill(&mut fresh);
        let kept = match system::find_setting(&self.inner.db, INSTALLATION).await? {
            Some(kept) => kept,
            None => system::keep_setting(&self.inner.db, INSTALLATION, fresh.to_vec(), || Ok(())).await?,
        };
        Ok(format!("lantern/{}/{}", hex::encode(kept), scope.tenant()))
    }

    /// The key that signs now. Which one that is is asked every time; the key itself is opened once.
    async fn signer(&self) -> Result<Signer> {
        let inner = &self.inner;
        let opened = inner.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let signer = keys::in_use(&inner.db, &inner.sealer, inner.own.as_ref(), opened).await?;
        *inner.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(signer.clone());
        Ok(signer)
    }
}

/// The receipt of a run, if it has one.
pub async fn find(db: &Db, scope: Scope, run: RunId) -> Result<Option<Issued>> {
    let row = db.read(scope, move |tx| Box::pin(async move { tx.one(FIND, &[run.into()]).await })).await?;
    row.as_ref().map(read).transpose()
}

/// At most `limit` receipts below a number, the newest first. Those of runs that were deleted are left out.
pub async fn list(db: &Db, scope: Scope, below: Option<u64>, limit: u32) -> Result<Vec<Issued>> {
    let below = below.and_then(|below| i64::try_from(below).ok()).unwrap_or(i64::MAX);
    let rows =
        db.read(scope, move |tx| Box::pin(async move { tx.all(LIST, &[below.into(), limit.into()]).await }));
    rows.await?.iter().map(read).collect()
}

/// A receipt as it is handed out: with its proof, and the head that it is under. `None` when the log has lost them.
pub async fn written(db: &Db, scope: Scope, issued: &Issued) -> Result<Option<Written>> {
    let proof = inclusion(db, scope, issued.index, issued.size).await?;
    let note = checkpoint(db, scope, Some(issued.size)).await?;
    let (Some(proof), Some(checkpoint)) = (proof, note) else { return Ok(None) };
    Ok(Some(Written {
        payload: issued.payload.clone().into_bytes(),
        signature: issued.signature,
        key: issued.key,
        proof,
        checkpoint,
    }))
}

pub(crate) async fn remove(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    tx.exec(REMOVE, &[run.into()]).await.map(drop)
}

fn read(row: &Row) -> Result<Issued> {
    Ok(Issued {
        run: row.id("run_id")?,
        index: row.int("log_index")?.unsigned_abs(),
        size: row.int("log_size")?.unsigned_abs(),
        payload: row.text("payload")?,
        signature: signature(&row.bytes("signature")?)?,
        key: keys::verify_key(&row.bytes("public_key")?)?,
        attested: signature(&row.bytes("attested")?)?,
        at: row.at("issued_at")?,
    })
}

fn signature(bytes: &[u8]) -> Result<Signature> {
    let bytes = bytes.try_into().map_err(|_| Error::Corrupt("a signature of another length".into()))?;
    Ok(Signature::from_bytes(bytes))
}
