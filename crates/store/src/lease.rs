//! Who drives which run: one lease row for each process, an owner and an epoch on each run.
//!
//! Invariant: a run is claimed by one process at a time, and every claim raises its epoch; appends of an earlier
//! epoch fail. A process that misses its beats loses all its runs at once and must register anew under another id.
//! Runs need no renewal of their own. A build takes only runs whose format it knows, and none that it parked already.

use lantern_policy::Scope;
use lantern_types::*;

use crate::db::{Db, SystemTx, TenantTx};
use crate::dialect;
use crate::error::{Error, Result};
use crate::journal::Stored;
use crate::share::{self, By, Room};
use crate::value::{Row, Value};

/// A process that may claim runs, until it misses its beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLease {
    /// The process.
    pub process: ProcessId,
    /// Until when, unless it beats before.
    pub expires_at: At,
}

/// What a build can read: what it may claim depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Its version and commit.
    pub build: &'static str,
    /// The newest event format that it knows.
    pub format: i64,
}

/// Why a run is let go that nobody drove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The build that cannot read it and leaves it to others; `None` when others could not either.
    pub by: Option<&'static str>,
    /// For people. Has no user content.
    pub reason: String,
}

/// A run that this process now drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its tenant's scope.
    pub scope: Scope,
    /// The run.
    pub run: RunId,
    /// What its appends must carry.
    pub epoch: i64,
    /// The last event's seq.
    pub version: i64,
    /// The chain after the last append.
    pub chain: ChainHead,
    /// The pokes so far.
    pub pokes: i64,
    /// Whether the one who had it last could not go on with it.
    pub parked: bool,
    /// Its whole journal, when that is one append and the claim could bring it along.
    pub journal: Option<Stored>,
}

/// What there is to do for a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The runs that it drives from now on.
    pub claimed: Vec<Claimed>,
    /// The runs that it drives and in whose inbox something lies.
    pub poked: Vec<RunId>,
    /// Whether more is due than was claimed.
    pub left: bool,
    /// The tenant that had the last turn, for the next look.
    pub after: Option<TenantId>,
}

const REGISTER: &str = "INSERT INTO processes (id, started_at, expires_at) VALUES ($1, $2, $3)";
const BEAT: &str = "UPDATE processes SET expires_at = $3 WHERE id = $1 AND expires_at > $2";
// Changes nothing, and keeps the row until the transaction ends.
const STANDS: &str = "UPDATE processes SET expires_at = expires_at WHERE id = $1";
const EXPIRED: &str = "SELECT id FROM processes WHERE expires_at <= $1";
const OTHERS: &str = "SELECT id FROM processes WHERE id <> $1";
const FORGET: &str = "DELETE FROM processes WHERE id = $1";
const FORGET_EXPIRED: &str = "DELETE FROM processes WHERE id = $1 AND expires_at <= $2";
const ORPHAN: &str = "UPDATE runs SET owner = NULL, wake_at = $2 WHERE owner = $1";
// Of those that were halted by a stop that is lifted, each is due for whoever is there; who has one does not let it go
// without looking.
const WAKE_HALTED: &str =
    "UPDATE runs SET pokes = pokes + 1, wake_at = CASE WHEN owner IS NULL THEN $3 ELSE wake_at END
    WHERE tenant_id = $1 AND stop_id = $2 AND finished_at IS NULL";
const WAKE_ALL_HALTED: &str =
    "UPDATE runs SET pokes = pokes + 1, wake_at = CASE WHEN owner IS NULL THEN $2 ELSE wake_at END
    WHERE stop_id = $1 AND finished_at IS NULL";
// The same of those that wait for people to say whether a cap may be passed.
const WAKE_WAITING: &str =
    "UPDATE runs SET pokes = pokes + 1, wake_at = CASE WHEN owner IS NULL THEN $5 ELSE wake_at END
    WHERE tenant_id = $1 AND finished_at IS NULL AND id IN (SELECT w.run_id FROM cap_waits w
        WHERE w.tenant_id = $1 AND w.owner = $2 AND w.period = $3 AND w.began_at = $4)";
pub(crate) const UNHALT: &str = "UPDATE runs SET stop_id = NULL WHERE tenant_id = $1 AND id = $2";
// The inbox is empty most of the time: that is looked at first, and once.
const POKED: &str = "SELECT DISTINCT r.id FROM inbox i
    JOIN runs r ON r.tenant_id = i.tenant_id AND r.id = i.run_id
    WHERE r.owner = $1 AND EXISTS (SELECT 1 FROM inbox)";
const RELEASE: &str = "UPDATE runs SET owner = NULL, wake_at = $6
    WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND pokes = $5 AND owner IS NOT NULL";

const PARK: &str = "UPDATE runs SET owner = NULL, wake_at = $6, parked_by = $7, parked_reason = $8
    WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND pokes = $5 AND owner IS NOT NULL";
const UNPARK: &str = "UPDATE runs SET parked_by = NULL, parked_reason = NULL
    WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND owner IS NOT NULL";

/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] =
    &[REGISTER, BEAT, STANDS, EXPIRED, OTHERS, FORGET, FORGET_EXPIRED, ORPHAN, POKED, WAKE_ALL_HALTED];
/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[RELEASE, PARK, UNPARK, WAKE_HALTED, WAKE_WAITING, UNHALT];

/// Enters a process. Its id is minted anew at every start.
pub async fn register(db: &Db, process: ProcessId, now: At, ttl: Dur) -> Result<ProcessLease> {
    let expires_at = now + ttl;
    db.system_write(move |tx| {
        Box::pin(async move { tx.exec(REGISTER, &[process.into(), now.into(), expires_at.into()]).await })
    })
    .await?;
    Ok(ProcessLease { process, expires_at })
}

/// Prolongs a lease. `false` when it had run out: its runs may be somebody else's, so the process must drop them all
/// and register under a new id.
pub async fn beat(db: &Db, process: ProcessId, now: At, ttl: Dur) -> Result<bool> {
    let params = [process.into(), now.into(), (now + ttl).into()];
    db.system_write(move |tx| Box::pin(async move { Ok(tx.exec(BEAT, &params).await? == 1) })).await
}

/// Takes the due runs that `reader` can read, as far as there is room: see [`share`]; after setting free the runs of
/// processes that missed their beats. And looks which of the process's runs were poked. A process that others have set aside takes none, and is told
/// `Unavailable`: what it took would be nobody's, for good. On SQLite the claims may be gone after a power cut, together
/// with everything that was written after them: then nobody holds these runs, which is true.
pub async fn look(
    db: &Db,
    process: ProcessId,
    reader: Reader,
    now: At,
    room: impl Into<Room>,
) -> Result<Work> {
    let (by, room) = (By { process, reader, now }, room.into());
    db.system_write_lazy(move |tx| {
        Box::pin(async move {
            for row in tx.all(EXPIRED, &[now.into()]).await? {
                let dead: ProcessId = row.id("id")?;
                // A beat that came in between keeps the row, and with it the runs.
                if tx.exec(FORGET_EXPIRED, &[dead.into(), now.into()]).await? == 1 {
                    orphan(tx, dead, now).await?;
                }
            }
            let share::Taken { rows, left, after } = share::take(tx, by, &room).await?;
            // Only then, so that a look which finds nothing writes nothing.
            if !rows.is_empty() && tx.exec(STANDS, &[process.into()]).await? != 1 {
                return Err(Error::unavailable("the process lost its lease"));
            }
            let mut claimed = Vec::with_capacity(rows.len());
            for row in &rows {
                let journal = dialect::journal_of_new(tx, row).await?;
                claimed.push(Claimed { journal, ..self::claimed(row)? });
            }
            let poked = tx.all(POKED, &[process.into()]).await?;
            let poked = poked.iter().map(|row| row.id("id")).collect::<Result<_>>()?;
            Ok(Work { claimed, poked, left, after })
        })
    })
    .await
}

/// Sets free the runs of every other process, at once. Only for a data folder, whose lock proves the others dead.
pub async fn expire_others(db: &Db, process: ProcessId, now: At) -> Result<()> {
    db.system_write(move |tx| {
        Box::pin(async move {
            for row in tx.all(OTHERS, &[process.into()]).await? {
                let dead: ProcessId = row.id("id")?;
                tx.exec(FORGET, &[dead.into()]).await?;
                orphan(tx, dead, now).await?;
            }
            Ok(())
        })
    })
    .await
}

/// Gives up everything at shutdown: the process's runs are due at once, for whoever is there.
pub async fn surrender(db: &Db, process: ProcessId, now: At) -> Result<()> {
    db.system_write(move |tx| {
        Box::pin(async move {
            tx.exec(FORGET, &[process.into()]).await?;
            orphan(tx, process, now).await
        })
    })
    .await?;
    db.hub().wake();
    Ok(())
}

/// What the holder of a run knows of it when letting go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The run.
    pub run: RunId,
    /// The lease.
    pub epoch: i64,
    /// The last event's seq.
    pub version: i64,
    /// The pokes that were seen.
    pub pokes: i64,
}

/// Lets a run go until `wake_at` or a poke. `false`, and it is still held, when a poke or an append came in between,
/// or when it was somebody else's already.
pub async fn release(db: &Db, scope: Scope, held: Held, wake_at: Option<At>) -> Result<bool> {
    let params = [held.run.into(), held.epoch.into(), held.version.into(), held.pokes.into(), wake_at.into()];
    db.write(scope, move |tx| {
        Box::pin(async move {
            let released = tx.exec(RELEASE, &params).await? == 1;
            if released {
                tx.wake(held.run);
            }
            Ok(released)
        })
    })
    .await
}

/// Makes the runs due that this stop of a tenant has halted.
pub(crate) async fn wake_halted(tx: &mut TenantTx<'_>, stop: StopId, now: At) -> Result<()> {
    tx.exec(WAKE_HALTED, &[stop.into(), now.into()]).await.map(drop)
}

/// Makes the runs due that wait for what people say about this account: its owner, period and beginning.
pub(crate) async fn wake_waiting(tx: &mut TenantTx<'_>, account: [Value; 3], now: At) -> Result<()> {
    let [owner, period, began_at] = account;
    tx.exec(WAKE_WAITING, &[owner, period, began_at, now.into()]).await.map(drop)
}

/// Makes the runs due that this stop of the server has halted, of whichever tenant.
pub(crate) async fn wake_all_halted(tx: &mut SystemTx<'_>, stop: StopId, now: At) -> Result<()> {
    tx.exec(WAKE_ALL_HALTED, &[stop.into(), now.into()]).await.map(drop)
}

/// The same for a run that this process cannot drive; says why, and changes nothing else of it.
pub async fn park(db: &Db, scope: Scope, held: Held, wake_at: Option<At>, why: Parked) -> Result<bool> {
    let Held { run, epoch, version, pokes } = held;
    let held = [run.into(), epoch.into(), version.into(), pokes.into(), wake_at.into()];
    let params = [&held[..], &[why.by.into(), why.reason.into()]].concat();
    db.write(scope, move |tx| Box::pin(async move { Ok(tx.exec(PARK, &params).await? == 1) })).await
}

/// Forgets why a run was parked, by the holder who can drive it.
pub async fn unpark(db: &Db, scope: Scope, run: RunId, epoch: i64) -> Result<()> {
    let params = [run.into(), epoch.into()];
    db.write(scope, move |tx| Box::pin(async move { tx.exec(UNPARK, &params).await.map(drop) })).await
}

/// What a process had that is gone: its runs, and what it was to deliver, are due.
async fn orphan(tx: &mut SystemTx<'_>, process: ProcessId, now: At) -> Result<()> {
    let params = [process.into(), now.into()];
    tx.exec(ORPHAN, &params).await?;
    dialect::give_back(tx, &params).await.map(drop)
}

fn claimed(row: &Row) -> Result<Claimed> {
    Ok(Claimed {
        scope: Scope::of_lease(row.id("tenant_id")?),
        run: row.id("id")?,
        epoch: row.int("epoch")?,
        version: row.int("version")?,
        chain: row.chain("chain")?,
        pokes: row.int("pokes")?,
        parked: row.opt_text("parked_reason")?.is_some(),
        journal: None,
    })
}
