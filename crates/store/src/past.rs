//! Runs that are over, as a forecast learns from them.
//!
//! Reads only.

use lantern_policy::Scope;
use lantern_policy::forecast::Past;
use lantern_types::{At, MicroUsd};

use crate::db::Db;
use crate::error::Result;
use crate::value::Row;

/// The newest runs of an agent that are looked at, whatever became of them.
const LOOKED_AT: u32 = 2_000;

// What a run was asked lies sealed in its first append: its length is that of the input, and a little more that is the same for
// every run. Replays and forks pay for part of a run; a run that another one goes on as, too.
const PAST: &str = "SELECT r.spent, r.tokens_in, r.tokens_out, COALESCE(length(j.body), 0) AS input_bytes
    FROM (SELECT id, status, trigger_kind, spent, tokens_in, tokens_out, created_at FROM runs
        WHERE tenant_id = $1 AND agent_name = $2 AND created_at >= $3
        ORDER BY created_at DESC, id DESC LIMIT $4) r
    LEFT JOIN journal j ON j.tenant_id = $1 AND j.run_id = r.id AND j.first_seq = 1
    WHERE r.status = 'succeeded' AND r.trigger_kind NOT IN ('replay', 'fork', 'continue')
    ORDER BY r.created_at DESC, r.id DESC LIMIT $5";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[PAST];

/// What the last successful runs of an agent since then cost, at most `most` of them, the oldest first.
pub async fn of_agent(db: &Db, scope: Scope, agent: String, since: At, most: u32) -> Result<Vec<Past>> {
    let mut past = db
        .read(scope, move |tx| {
            Box::pin(async move {
                let params = [agent.into(), since.into(), LOOKED_AT.into(), most.into()];
                tx.all(PAST, &params).await?.iter().map(read).collect::<Result<Vec<Past>>>()
            })
        })
        .await?;
    past.reverse();
    Ok(past)
}

fn read(row: &Row) -> Result<Past> {
    let whole = |name| Ok::<u64, crate::Error>(u64::try_from(row.int(name)?).unwrap_or(0));
    Ok(Past {
        input_bytes: whole("input_bytes")?,
        cost: MicroUsd::from_micros(row.int("spent")?),
        tokens_in: whole("tokens_in")?,
        tokens_out: whole("tokens_out")?,
    })
}
