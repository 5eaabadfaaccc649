//! Retention: what was said in a run is removed, and what happened is kept.
//!
//! Invariant: a body becomes the digest that the chain links, so a journal verifies as before. Only a run that is over and
//! owes nothing loses its content, and it is marked before the first body goes: from then on nobody shows, forks or replays
//! it, and whoever stops half-way leaves a mark by which the rest is found. Which runs are due is decided by their tenant's
//! time, or the server's. Exports and backups that were made before are not reached.

use lantern_policy::Scope;
use lantern_types::*;

use crate::blob;
use crate::db::{Db, TenantTx};
use crate::error::{Error, Result};
use crate::feedback;
use crate::journal::{CONTENT_GONE, CONTENT_MARK, UNLABEL};
use crate::labels;
use crate::loose;
use crate::value::Row;
use crate::vault::Vault;
use crate::workloads;

/// Bodies that become digests in one transaction.
const BODIES: u32 = 64;
/// Tenants that one look finds.
const TENANTS_MAX: u32 = 64;
/// Runs whose bodies a preview measures; of further ones it says how many.
pub const MEASURED_MAX: u32 = 10_000;

/// For how long content is kept. `None` is for ever.
pub type Kept = Option<Dur>;

/// The shortest time, so that a run can be looked at after its end.
const KEPT_MIN: Dur = Dur::from_secs(60);
/// What a time that content is kept for looks like.
pub const EXPECTED: &str = "expected a time such as \"90d\" or \"12h\", of a minute or longer";

/// Reads such a time.
pub fn parse(text: &str) -> Option<Dur> {
    Dur::parse(text).filter(|kept| *kept >= KEPT_MIN)
}

/// Such a time in the longest unit that it is a whole number of.
pub fn text(kept: Dur) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let whole = units.into_iter().find(|(_, millis)| kept.millis() % millis == 0);
    let (unit, millis) = whole.unwrap_or(("ms", 1));
    format!("{}{unit}", kept.millis() / millis)
}

/// What a tenant would lose if its content were kept for as long as it asks about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Runs that are over for longer, and still have their content.
    pub runs: i64,
    /// When the first of them ended.
    pub oldest: Option<At>,
    /// When the last of them ended.
    pub newest: Option<At>,
    /// Of how many of them, the oldest, the next three tell.
    pub measured: i64,
    /// Their bodies.
    pub bodies: i64,
    /// Bytes of these in the database.
    pub bytes: i64,
    /// How many of these lie beside the database.
    pub large: i64,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Runs that lost their content.
    pub runs: u32,
    /// Bodies that became digests.
    pub bodies: u64,
    /// Whether there may be more.
    pub more: bool,
}

const TENANTS: &str = "SELECT t.tenant_id AS tenant_id, s.content_kept AS content_kept FROM tenants t
    LEFT JOIN tenant_settings s ON s.tenant_id = t.tenant_id
    WHERE COALESCE(s.content_kept, $2) > 0 AND EXISTS (SELECT 1 FROM runs r WHERE r.tenant_id = t.tenant_id
        AND r.finished_at <= $1 - COALESCE(s.content_kept, $2) AND r.content_removed_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.tenant_id = r.tenant_id AND o.run_id = r.id))
    LIMIT $3";
const LEFT: &str =
    "SELECT tenant_id, id, content_removed_at FROM runs WHERE content_left IS NOT NULL LIMIT $1";
const DUE: &str = "SELECT r.id AS id FROM runs r WHERE r.tenant_id = $1 AND r.finished_at <= $2
    AND r.content_removed_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.tenant_id = $1 AND o.run_id = r.id) ORDER BY r.finished_at LIMIT $3";
const NEXT: &str =
    "SELECT first_seq, body FROM journal WHERE tenant_id = $1 AND run_id = $2 AND body IS NOT NULL
    AND substr(body, 1, 1) <> $3 ORDER BY first_seq LIMIT $4";
const FORGET: &str = "UPDATE journal SET body = $4 WHERE tenant_id = $1 AND run_id = $2 AND first_seq = $3
    AND substr(body, 1, 1) <> $5";
const COUNT: &str =
    "SELECT count(*) AS runs, min(finished_at) AS oldest, max(finished_at) AS newest FROM runs
    WHERE tenant_id = $1 AND finished_at <= $2 AND content_removed_at IS NULL";
const MEASURE: &str = "SELECT count(*) AS bodies, CAST(COALESCE(SUM(length(j.body)), 0) AS BIGINT) AS bytes,
    CAST(COALESCE(SUM(CASE WHEN substr(j.body, 1, 1) = $4 THEN 1 ELSE 0 END), 0) AS BIGINT) AS large
    FROM (SELECT id FROM runs WHERE tenant_id = $1 AND finished_at <= $2 AND content_removed_at IS NULL
        ORDER BY finished_at LIMIT $3) r
    JOIN journal j ON j.tenant_id = $1 AND j.run_id = r.id WHERE j.body IS NOT NULL";
const KEPT: &str = "SELECT content_kept, revision FROM tenant_settings WHERE tenant_id = $1";
const KEEP: &str = "INSERT INTO tenant_settings (tenant_id, content_kept, updated_at, revision) VALUES ($1, $2, $3, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET content_kept = excluded.content_kept, updated_at = excluded.updated_at,
        revision = tenant_settings.revision + 1";
const LOCK: &str = "INSERT INTO tenant_settings (tenant_id, updated_at) VALUES ($1, $2)
    ON CONFLICT (tenant_id) DO UPDATE SET revision = tenant_settings.revision";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[DUE, NEXT, FORGET, COUNT, MEASURE, KEPT, KEEP, LOCK];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[TENANTS, LEFT];

/// For how long the tenant itself says that content is kept; `None` when it leaves that to the server.
pub async fn own(db: &Db, scope: Scope) -> Result<Option<Kept>> {
    Ok(revised(db, scope).await?.0)
}

/// The same, and how often the tenant has said so.
pub async fn revised(db: &Db, scope: Scope) -> Result<(Option<Kept>, i64)> {
    db.read(scope, |tx| {
        Box::pin(async move {
            let Some(row) = tx.one(KEPT, &[]).await? else { return Ok((None, 0)) };
            let kept = row.opt_int("content_kept")?;
            let kept = kept.map(|micros| (micros > 0).then(|| Dur::from_micros(micros)));
            Ok((kept, row.int("revision")?))
        })
    })
    .await
}

/// How often the tenant has said so, for a transaction that says it anew: whoever comes second waits for the first.
pub async fn locked_revision(tx: &mut TenantTx<'_>, now: At) -> Result<i64> {
    tx.exec(LOCK, &[now.into()]).await?;
    tx.one(KEPT, &[]).await?.map_or(Ok(0), |row| row.int("revision"))
}

/// Keeps what the tenant itself says.
pub async fn set_own(tx: &mut TenantTx<'_>, kept: Option<Kept>, now: At) -> Result<()> {
    let micros = kept.map(|kept| kept.map_or(0, Dur::micros));
    tx.exec(KEEP, &[micros.into(), now.into()]).await.map(drop)
}

/// What the tenant would lose that is older than `cutoff`. Changes nothing.
pub async fn preview(db: &Db, scope: Scope, cutoff: At) -> Result<Preview> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let counted = tx.one(COUNT, &[cutoff.into()]).await?.ok_or_else(nothing)?;
            let runs = counted.int("runs")?;
            let params = [cutoff.into(), MEASURED_MAX.into(), vec![blob::NAMED].into()];
            let measured = tx.one(MEASURE, &params).await?.ok_or_else(nothing)?;
            Ok(Preview {
                runs,
                oldest: counted.opt_at("oldest")?,
                newest: counted.opt_at("newest")?,
                measured: runs.min(MEASURED_MAX.into()),
                bodies: measured.int("bodies")?,
                bytes: measured.int("bytes")?,
                large: measured.int("large")?,
            })
        })
    })
    .await
}

fn nothing() -> Error {
    Error::internal("a count answered nothing")
}

/// Marks a run as one without content, and removes its labels. `false`, and nothing done, when it is not there, is not over,
/// still owes something to others, or is marked already. Its bodies go by [`finish`].
pub async fn mark(tx: &mut TenantTx<'_>, run: RunId, now: At) -> Result<bool> {
    if tx.exec(CONTENT_MARK, &[run.into(), now.into()]).await? == 0 {
        return Ok(false);
    }
    labels::remove(tx, run).await?;
    workloads::forget(tx, run).await?;
    feedback::forget(tx, run).await?;
    tx.exec(UNLABEL, &[run.into()]).await?;
    tx.changed(run);
    Ok(true)
}

/// Makes digests of all bodies that a marked run still has, some in each transaction, and answers how many there were.
/// Blobs that cannot be removed now are swept.
pub async fn finish(db: &Db, vault: &Vault, scope: Scope, run: RunId, at: At) -> Result<u64> {
    let mut all = 0;
    loop {
        let forgotten = db.write(scope, move |tx| Box::pin(forget(tx, run, at))).await?;
        all += forgotten.bodies;
        if let Err(error) = vault.discard(scope, &forgotten.blobs).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(%run, error, "large bodies whose content is removed are swept later");
        }
        if forgotten.done {
            return Ok(all);
        }
    }
}

struct Forgotten {
    bodies: u64,
    blobs: Vec<Digest>,
    done: bool,
}

async fn forget(tx: &mut TenantTx<'_>, run: RunId, at: At) -> Result<Forgotten> {
    let removed = || vec![blob::REMOVED];
    let rows = tx.all(NEXT, &[run.into(), removed().into(), BODIES.into()]).await?;
    let done = rows.len() < BODIES as usize;
    let (mut bodies, mut blobs) = (0, Vec::new());
    for row in rows {
        let (seq, body) = read(row)?;
        // What has no known form has no digest that the chain could link: it is noise, and is left for whoever looks into it.
        let Some(left) = blob::remains(&body, at) else { continue };
        if tx.exec(FORGET, &[run.into(), seq.into(), left.into(), removed().into()]).await? == 0 {
            continue;
        }
        bodies += 1;
        if let Some(blob) = blob::named(&body) {
            loose::doom(tx, blob, at).await?;
            blobs.push(blob);
        }
    }
    // A page of nothing but noise would come again for ever.
    let done = done || bodies == 0;
    if done {
        tx.exec(CONTENT_GONE, &[run.into()]).await?;
    }
    Ok(Forgotten { bodies, blobs, done })
}

fn read(mut row: Row) -> Result<(i64, Vec<u8>)> {
    Ok((row.int("first_seq")?, row.take_bytes("body")?.unwrap_or_default()))
}

/// Removes the content of at most `limit` runs that are over for longer than it is kept, after those that somebody began
/// with and did not finish. Several processes may do so at once.
pub async fn round(db: &Db, vault: &Vault, usual: Kept, now: At, limit: u32) -> Result<Round> {
    let (mut round, mut found) = (Round::default(), 0);
    for (scope, run, at) in left(db, limit).await? {
        round.bodies += finish(db, vault, scope, run, at).await?;
    }
    for (scope, cutoff) in tenants(db, usual, now).await? {
        let room = limit.saturating_sub(found);
        if room == 0 {
            break;
        }
        for run in due(db, scope, cutoff, room).await? {
            found += 1;
            if db.write(scope, move |tx| Box::pin(mark(tx, run, now))).await? {
                round.bodies += finish(db, vault, scope, run, now).await?;
                round.runs += 1;
            }
        }
    }
    // Other processes may have taken some of what was found, so what this one removed says nothing of what is left.
    round.more = found >= limit;
    Ok(round)
}

async fn left(db: &Db, limit: u32) -> Result<Vec<(Scope, RunId, At)>> {
    let read = |row: &Row| {
        let at = row.opt_at("content_removed_at")?.unwrap_or(At::from_micros(0));
        Ok((Scope::of_lease(row.id("tenant_id")?), row.id("id")?, at))
    };
    let rows = db.system_read(move |tx| Box::pin(async move { tx.all(LEFT, &[limit.into()]).await })).await?;
    rows.iter().map(read).collect()
}

/// Tenants that have something due, and until when it must have ended.
async fn tenants(db: &Db, usual: Kept, now: At) -> Result<Vec<(Scope, At)>> {
    let usual = usual.map_or(0, Dur::micros);
    let params = [now.into(), usual.into(), TENANTS_MAX.into()];
    let rows = db.system_read(move |tx| Box::pin(async move { tx.all(TENANTS, &params).await })).await?;
    let read = |row: &Row| {
        let kept = row.opt_int("content_kept")?.unwrap_or(usual);
        let cutoff = At::from_micros(now.micros().saturating_sub(kept));
        Ok((Scope::of_lease(row.id("tenant_id")?), cutoff))
    };
    rows.iter().map(read).collect()
}

async fn due(db: &Db, scope: Scope, cutoff: At, limit: u32) -> Result<Vec<RunId>> {
    let params = [cutoff.into(), limit.into()];
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(DUE, &params).await })).await?;
    rows.iter().map(|row| row.id("id")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_they_are_read() {
        for (said, shown) in [
            ("90d", Some("90d")),
            ("24h", Some("1d")),
            ("90m", Some("90m")),
            ("61s", Some("61s")),
            ("60500ms", Some("60500ms")),
            ("59s", None),
            ("0d", None),
            ("never", None),
        ] {
            assert_eq!(parse(said).map(text).as_deref(), shown, "{said}");
        }
    }
}
