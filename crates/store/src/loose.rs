//! Loose blobs: those that no append names. Announced before they are put, and named by deleting that row in the
//! transaction of the append; what is left after a day was put for an append that never came.
//!
//! Invariant: a blob is removed only when its row is doomed, and a doomed blob can be named by nobody. Both the sweep and
//! the append change the one row, so whoever is first wins, whatever the clocks say and however long an append waited.
//! Blobs are never looked for where they lie: what this database does not know of may be another's.

use lantern_policy::Scope;
use lantern_types::*;

use crate::blob;
use crate::db::{Batch, Db, Expect, TenantTx};
use crate::error::{Error, Result};
use crate::value::Row;

/// How long an append may take to name what was put for it.
const UNNAMED_MAX: Dur = Dur::from_secs(24 * 60 * 60);
/// When a row is looked at again. Long enough for whoever waited for a database that has only now come back.
const AGAIN_AFTER: Dur = Dur::from_secs(60 * 60);

/// How far a loose blob is from being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Put, or about to be.
    Put,
    /// Put long ago. It may still be named.
    Overdue,
    /// To be removed.
    Doomed,
}

impl Stage {
    const fn stored(self) -> i64 {
        match self {
            Self::Put => 0,
            Self::Overdue => 1,
            Self::Doomed => 2,
        }
    }

    fn read(stored: i64) -> Result<Self> {
        let all = [Self::Put, Self::Overdue, Self::Doomed];
        let found = all.into_iter().find(|stage| stage.stored() == stored);
        found.ok_or_else(|| Error::Corrupt(format!("a loose blob has no stage {stored}").into()))
    }

    /// What becomes of one that is due. Nothing is doomed at first sight: a database that takes this note takes the
    /// append of whoever waits for it, too.
    const fn next(self) -> Self {
        match self {
            Self::Put => Self::Overdue,
            Self::Overdue | Self::Doomed => Self::Doomed,
        }
    }
}

const ANNOUNCE: &str = "INSERT INTO loose_blobs (tenant_id, digest, stage, due_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant_id, digest) DO NOTHING";
const NAME: &str = "DELETE FROM loose_blobs WHERE tenant_id = $1 AND digest = $2 AND stage < $3";
const FORGET: &str = "DELETE FROM loose_blobs WHERE tenant_id = $1 AND digest = $2";
const DUE: &str = "SELECT tenant_id, digest, stage, due_at FROM loose_blobs WHERE due_at <= $1
    ORDER BY due_at LIMIT $2";
const TAKE: &str = "UPDATE loose_blobs SET stage = $5, due_at = $6
    WHERE tenant_id = $1 AND digest = $2 AND stage = $3 AND due_at = $4";

/// Every statement of this file that runs for one tenant.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[ANNOUNCE, NAME, FORGET];
/// Every statement of this file that runs across tenants.
#[cfg(feature = "testing")]
pub(crate) const SYSTEM_STATEMENTS: &[&str] = &[DUE, TAKE];

/// Says that a blob is about to be put. Durable when this answers.
pub(crate) async fn announce(db: &Db, scope: Scope, blob: Digest, now: At) -> Result<()> {
    let params = [blob.into(), Stage::Put.stored().into(), (now + UNNAMED_MAX).into()];
    db.write(scope, move |tx| Box::pin(async move { tx.exec(ANNOUNCE, &params).await.map(drop) })).await
}

/// Names the blob of a stored body with an append, if it has one. The append fails when the blob is doomed.
pub(crate) fn name(batch: &mut Batch, body: Option<&[u8]>) {
    if let Some(blob) = body.and_then(blob::named) {
        batch.add(NAME, vec![blob.into(), Stage::Doomed.stored().into()], Expect::Rows(1));
    }
}

/// The same inside a transaction. Whoever is refused seals and puts the body anew.
pub(crate) async fn name_in(tx: &mut TenantTx<'_>, body: Option<&[u8]>) -> Result<()> {
    let Some(blob) = body.and_then(blob::named) else { return Ok(()) };
    if tx.exec(NAME, &[blob.into(), Stage::Doomed.stored().into()]).await? == 1 {
        return Ok(());
    }
    Err(Error::unavailable("the body was put too long ago"))
}

/// Dooms a blob together with the row that named it.
pub(crate) async fn doom(tx: &mut TenantTx<'_>, blob: Digest, now: At) -> Result<()> {
    let params = [blob.into(), Stage::Doomed.stored().into(), (now + AGAIN_AFTER).into()];
    tx.exec(ANNOUNCE, &params).await.map(drop)
}

/// Forgets a blob that is no longer there.
pub(crate) async fn forget(db: &Db, scope: Scope, blob: Digest) -> Result<()> {
    db.write(scope, move |tx| Box::pin(async move { tx.exec(FORGET, &[blob.into()]).await.map(drop) })).await
}

/// What a look at the blobs that are due came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// To be removed. Each is due again in a while, unless it is forgotten before.
    pub(crate) doomed: Vec<(Scope, Digest)>,
    /// Whether there may be more.
    pub(crate) more: bool,
}

/// Looks at no more than `limit` blobs that are due, and takes each a stage further. No two processes take the same.
pub(crate) async fn take(db: &Db, now: At, limit: u32) -> Result<Due> {
    db.system_write(move |tx| {
        Box::pin(async move {
            let rows = tx.all(DUE, &[now.into(), limit.into()]).await?;
            let more = u32::try_from(rows.len()).is_ok_and(|n| n == limit);
            let mut doomed = Vec::new();
            for row in rows {
                let Looked { tenant, blob, stage, due_at } = Looked::read(&row)?;
                let (next, again) = (stage.next(), now + AGAIN_AFTER);
                let was = [tenant.into(), blob.into(), stage.stored().into(), due_at.into()];
                let params = [&was[..], &[next.stored().into(), again.into()]].concat();
                if tx.exec(TAKE, &params).await? == 1 && next == Stage::Doomed {
                    doomed.push((Scope::of_lease(tenant), blob));
                }
            }
            Ok(Due { doomed, more })
        })
    })
    .await
}

struct Looked {
    tenant: TenantId,
    blob: Digest,
    stage: Stage,
    due_at: At,
}

impl Looked {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            tenant: row.id("tenant_id")?,
            blob: row.digest("digest")?,
            stage: Stage::read(row.int("stage")?)?,
            due_at: row.at("due_at")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_doomed_at_first_sight() {
        for (stage, stored, next) in [
            (Stage::Put, 0, Stage::Overdue),
            (Stage::Overdue, 1, Stage::Doomed),
            (Stage::Doomed, 2, Stage::Doomed),
        ] {
            assert_eq!((stage.stored(), stage.next()), (stored, next));
            assert_eq!(Stage::read(stored).unwrap(), stage);
        }
        assert!(matches!(Stage::read(3), Err(Error::Corrupt(_))));
    }
}
