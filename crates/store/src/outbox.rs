//! What must go out because of a run, and must be found without loading it: child starts, deliveries to people.
//!
//! Invariant: a row is written by the append whose events ask for it, and deleted only when its delivery is known to
//! have been absorbed under its key. Delivery is at least once; the receiver absorbs repeats by key. Tenants take turns:
//! what one of them has waiting delays no other. Of one tenant's rows the more urgent kind goes first.

use lantern_policy::Scope;
use lantern_types::*;
use uuid::Uuid;

use crate::db::{Batch, Db, Expect, SystemTx, TenantTx};
use crate::dialect;
use crate::error::Result;
use crate::value::{Row, Value};

/// What a row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Orders a run to stop: what waits for it spends money.
    Stop,
    /// Tells a run what became of another.
    Tell,
    /// Starts the run that another goes on as.
    Continue,
    /// Starts a child.
    Start,
}

impl Kind {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Stop, Self::Tell, Self::Continue, Self::Start];

    /// As it is stored. A build that does not know a kind leaves its rows to one that does.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Tell => "tell",
            Self::Continue => "continue",
            Self::Start => "start",
        }
    }
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOutbox {
    /// Minted.
    pub id: Uuid,
    /// The receiver absorbs a repeat of the same key; one row for each key of a run.
    pub key: String,
    /// What it does.
    pub kind: Kind,
    /// Sealed.
    pub payload: Vec<u8>,
    /// Not before.
    pub due_at: At,
}

/// A row to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its tenant's scope.
    pub scope: Scope,
    /// Its row.
    pub id: Uuid,
    /// The run.
    pub run: RunId,
    /// Its key.
    pub key: String,
    /// Sealed.
    pub payload: Vec<u8>,
    /// How often it was taken before.
    pub attempts: i64,
}

const ADD: &str = "INSERT INTO outbox (tenant_id, id, run_id, key, kind, payload, due_at, attempts)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT (tenant_id, run_id, key) DO NOTHING";
// From tenant to tenant along the index, and from kind to kind, never past all the rows that one of them has: a condition
// on several kinds at once would be, and an EXISTS would become a join with all rows.
pub(crate) const WAITING: &str = "WITH RECURSIVE present (tenant_id) AS (
        SELECT * FROM (SELECT tenant_id FROM outbox WHERE tenant_id > $1 ORDER BY tenant_id LIMIT 1) AS first
        UNION ALL
        SELECT (SELECT o.tenant_id FROM outbox o WHERE o.tenant_id > p.tenant_id ORDER BY o.tenant_id LIMIT 1)
        FROM present p WHERE p.tenant_id IS NOT NULL)
    SELECT p.tenant_id FROM present p WHERE p.tenant_id IS NOT NULL AND (
        (SELECT min(o.due_at) FROM outbox o WHERE o.tenant_id = p.tenant_id AND o.kind = 'stop') <= $2
        OR (SELECT min(o.due_at) FROM outbox o WHERE o.tenant_id = p.tenant_id AND o.kind = 'tell') <= $2
        OR (SELECT min(o.due_at) FROM outbox o WHERE o.tenant_id = p.tenant_id AND o.kind = 'continue') <= $2
        OR (SELECT min(o.due_at) FROM outbox o WHERE o.tenant_id = p.tenant_id AND o.kind = 'start') <= $2)
    LIMIT $3";
const FIND: &str = "SELECT tenant_id, id, run_id, key, payload, attempts FROM outbox
    WHERE tenant_id = $1 AND run_id = $2 AND key = $3";
const DONE: &str = "DELETE FROM outbox WHERE tenant_id = $1 AND id = $2";
// Rows of earlier builds have keys that do not name the run that they start: one of them may start it.
const OWES: &str = "SELECT 1 AS owes FROM outbox WHERE tenant_id = $1 AND run_id = $2
    AND kind IN ('continue', 'start') AND (key = $3 OR key NOT LIKE 'start:%') LIMIT 1";

const GOES_ON: &str =
    "SELECT 1 AS owes FROM outbox WHERE tenant_id = $1 AND run_id = $2 AND kind = 'continue' LIMIT 1";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[ADD, FIND, DONE, OWES, GOES_ON];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[WAITING];

/// Adds a row to an append.
pub(crate) fn add(batch: &mut Batch, run: RunId, new: NewOutbox) {
    let id = Value::Id(*new.id.as_bytes());
    let params =
        vec![id, run.into(), new.key.into(), new.kind.as_str().into(), new.payload.into(), new.due_at.into()];
    batch.add(ADD, params, Expect::Any);
}

/// Whose turn it is to have rows taken. Kept by whoever takes; a new one begins anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    after: Option<TenantId>,
    /// The process that takes them: what it leaves behind when its lease is gone is due at once.
    pub taker: Option<ProcessId>,
}

impl Turns {
    /// Those of a process.
    pub fn of(taker: ProcessId) -> Self {
        Self { taker: Some(taker), ..Self::default() }
    }
}

/// Takes at most `limit` due rows, as many of each tenant that has some, as far as they go round. Unless it is [`done`]
/// before, a row is due again after `again_after`, and after so much more each time that it was taken, up to twenty
/// times as much; or as soon as the taker's lease is gone. No row is taken by two processes at once. On SQLite a power cut may undo this: they are still due then.
pub async fn take(db: &Db, turns: &mut Turns, now: At, again_after: Dur, limit: u32) -> Result<Vec<Due>> {
    let Turns { after, taker } = *turns;
    // A look first: the outbox is empty most of the time, and nobody who writes should wait for that to be seen.
    let tenants = db.system_read(move |tx| Box::pin(waiting(tx, after, now, limit))).await?;
    if tenants.is_empty() {
        turns.after = None;
        return Ok(Vec::new());
    }
    // Whoever was not reached is next; when all were, another one is the first.
    let all = u32::try_from(tenants.len()).is_ok_and(|n| n < limit);
    let next = if all { tenants.first() } else { tenants.last() }.copied();
    let taken = db
        .system_write_lazy(move |tx| Box::pin(share_out(tx, tenants, (taker, now, again_after), limit)))
        .await?;
    turns.after = next;
    Ok(taken)
}

/// Tenants that have due rows, those after `after` first.
async fn waiting(
    tx: &mut SystemTx<'_>,
    after: Option<TenantId>,
    now: At,
    limit: u32,
) -> Result<Vec<TenantId>> {
    let from = |after: Value| [after, now.into(), limit.into()];
    // Every id comes after no bytes at all.
    let lowest = || Value::Bytes(Vec::new());
    let rows = tx.all(WAITING, &from(after.map_or_else(lowest, Into::into))).await?;
    let mut tenants: Vec<TenantId> = rows.iter().map(|row| row.id("tenant_id")).collect::<Result<_>>()?;
    let room = usize::try_from(limit).unwrap_or(usize::MAX);
    if after.is_some() && tenants.len() < room {
        for row in tx.all(WAITING, &from(lowest())).await? {
            let tenant = row.id("tenant_id")?;
            if tenants.len() < room && !tenants.contains(&tenant) {
                tenants.push(tenant);
            }
        }
    }
    Ok(tenants)
}

/// Takes an equal share of each tenant's rows, and shares out again what some of them had no use for.
async fn share_out(
    tx: &mut SystemTx<'_>,
    mut tenants: Vec<TenantId>,
    (taker, now, again_after): (Option<ProcessId>, At, Dur),
    limit: u32,
) -> Result<Vec<Due>> {
    let (mut taken, mut left) = (Vec::new(), limit);
    while left > 0 && !tenants.is_empty() {
        let share = (left / u32::try_from(tenants.len()).unwrap_or(u32::MAX)).max(1);
        let mut have_more = Vec::new();
        for tenant in tenants {
            let mut room = share.min(left);
            for kind in Kind::ALL {
                if room == 0 {
                    break;
                }
                let kind = kind.as_str().into();
                let params = [tenant.into(), kind, now.into(), again_after.into(), room.into(), taker.into()];
                let rows = dialect::take(tx, &params).await?;
                let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                (room, left) = (room.saturating_sub(count), left.saturating_sub(count));
                taken.extend(rows.into_iter().map(read).collect::<Result<Vec<_>>>()?);
            }
            if room == 0 {
                have_more.push(tenant);
            }
        }
        tenants = have_more;
    }
    Ok(taken)
}

/// What a run has to deliver under this key, if it still has, whether it is due or not.
pub async fn find(db: &Db, scope: Scope, run: RunId, key: String) -> Result<Option<Due>> {
    db.read(scope, move |tx| {
        Box::pin(async move { tx.one(FIND, &[run.into(), key.into()]).await?.map(read).transpose() })
    })
    .await
}

/// Whether `starter` still owes the start of this run, as far as keys tell.
pub async fn owes_start(db: &Db, scope: Scope, starter: RunId, run: RunId) -> Result<bool> {
    let params = [starter.into(), start_key(run).into()];
    db.read(scope, move |tx| Box::pin(async move { Ok(tx.one(OWES, &params).await?.is_some()) })).await
}

/// Whether a run has yet to go on as a new one.
pub(crate) async fn goes_on(tx: &mut TenantTx<'_>, run: RunId) -> Result<bool> {
    Ok(tx.one(GOES_ON, &[run.into()]).await?.is_some())
}

/// The key of the row that starts a run, so that whoever knows the run finds it.
pub fn start_key(run: RunId) -> String {
    format!("start:{run}")
}

/// Forgets a row whose delivery was absorbed.
pub async fn done(db: &Db, scope: Scope, id: Uuid) -> Result<()> {
    db.write(scope, move |tx| Box::pin(async move { done_in(tx, id).await.map(drop) })).await
}

/// Forgets a row inside the transaction that absorbs it. `false` when it is not there: then another one did.
pub async fn done_in(tx: &mut TenantTx<'_>, id: Uuid) -> Result<bool> {
    Ok(tx.exec(DONE, &[Value::Id(*id.as_bytes())]).await? > 0)
}

fn read(mut row: Row) -> Result<Due> {
    let id = row.bytes("id")?;
    Ok(Due {
        scope: Scope::of_lease(row.id("tenant_id")?),
        id: Uuid::from_slice(&id).map_err(crate::Error::internal)?,
        run: row.id("run_id")?,
        key: row.text("key")?,
        attempts: row.int("attempts")?,
        payload: row.take_bytes("payload")?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind that this statement does not name would never be delivered.
    #[test]
    fn every_kind_is_looked_for() {
        for kind in Kind::ALL {
            let named = WAITING.matches(&format!("kind = '{}'", kind.as_str())).count();
            assert_eq!(named, 1, "{kind:?}");
        }
    }
}
