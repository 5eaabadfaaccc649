//! What people thought of runs: a score, and sealed beside it what they said.
//!
//! Invariant: what was said goes with the content of its run, and the row with the run. A row comes about only beside its run;
//! whoever adds one looks afterwards whether the run is still as it was ([`forget`], [`remove`]).

use lantern_policy::Scope;
use lantern_types::*;

use crate::db::{Db, TenantTx};
use crate::error::Result;
use crate::value::Row;

/// The most that is kept of one run.
pub const PER_RUN_MAX: u32 = 100;
/// Scores from this one down are low.
pub const LOW: u8 = 2;

/// Something that somebody thought of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Its id.
    pub id: FeedbackId,
    /// Of which run.
    pub run: RunId,
    /// From 1 to 5.
    pub score: u8,
    /// Whether it says what would have been better.
    pub preferred: bool,
    /// Where it was said.
    pub source: String,
    /// What was said, sealed.
    pub body: Option<Vec<u8>>,
    /// When.
    pub at: At,
}

/// What was thought of an agent's runs, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub total: i64,
    /// All scores together.
    pub sum: i64,
    /// Scores of 4 and more.
    pub up: i64,
    /// Scores of 2 and less.
    pub down: i64,
    /// Runs of which somebody said what would have been better.
    pub preferred_runs: i64,
    /// How many since the time that was asked for.
    pub recent: i64,
    /// Their scores together.
    pub recent_sum: i64,
}

const ADD: &str =
    "INSERT INTO feedback (tenant_id, id, run_id, agent_id, score, preferred, source, body, created_at)
    SELECT $1, $2, r.id, r.agent_id, $4, $5, $6, $7, $8 FROM runs r WHERE r.tenant_id = $1 AND r.id = $3
    AND (SELECT count(*) FROM feedback f WHERE f.tenant_id = $1 AND f.run_id = $3) < $9";
const OF_RUN: &str = "SELECT id, run_id, score, preferred, source, body, created_at FROM feedback
    WHERE tenant_id = $1 AND run_id = $2 ORDER BY created_at DESC, id DESC LIMIT $3";
const OF_AGENT: &str = "SELECT count(*) AS total, CAST(COALESCE(SUM(score), 0) AS BIGINT) AS sum,
    CAST(COALESCE(SUM(CASE WHEN score >= 4 THEN 1 ELSE 0 END), 0) AS BIGINT) AS up,
    CAST(COALESCE(SUM(CASE WHEN score <= 2 THEN 1 ELSE 0 END), 0) AS BIGINT) AS down,
    count(DISTINCT CASE WHEN preferred > 0 THEN run_id END) AS preferred_runs,
    CAST(COALESCE(SUM(CASE WHEN created_at >= $3 THEN 1 ELSE 0 END), 0) AS BIGINT) AS recent,
    CAST(COALESCE(SUM(CASE WHEN created_at >= $3 THEN score ELSE 0 END), 0) AS BIGINT) AS recent_sum
    FROM feedback WHERE tenant_id = $1 AND agent_id = $2";
const POORLY_RATED: &str = "SELECT r.id AS id FROM runs r WHERE r.tenant_id = $1 AND r.agent_name = $2
    AND r.created_at >= $3 AND r.finished_at IS NOT NULL AND r.id IN
        (SELECT f.run_id FROM feedback f WHERE f.tenant_id = $1 AND f.agent_id = r.agent_id AND f.score <= $4)
    ORDER BY r.created_at DESC, r.id DESC LIMIT $5";
const LOWEST: &str = "SELECT MIN(score) AS score FROM feedback WHERE tenant_id = $1 AND run_id = $2";
const FORGET: &str = "UPDATE feedback SET body = NULL WHERE tenant_id = $1 AND run_id = $2";
const REMOVE: &str = "DELETE FROM feedback WHERE tenant_id = $1 AND run_id = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[ADD, OF_RUN, OF_AGENT, POORLY_RATED, LOWEST, FORGET, REMOVE];

/// Keeps it. `false`, and nothing written, when there is no such run, or as much is kept of it as may be.
pub async fn add(tx: &mut TenantTx<'_>, new: Feedback) -> Result<bool> {
    let Feedback { id, run, score, preferred, source, body, at } = new;
    let (score, preferred) = (i64::from(score), i64::from(preferred));
    let params = [
        id.into(),
        run.into(),
        score.into(),
        preferred.into(),
        source.into(),
        body.into(),
        at.into(),
        PER_RUN_MAX.into(),
    ];
    Ok(tx.exec(ADD, &params).await? > 0)
}

/// What is kept of a run, the newest first.
pub async fn of_run(db: &Db, scope: Scope, run: RunId) -> Result<Vec<Feedback>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            tx.all(OF_RUN, &[run.into(), PER_RUN_MAX.into()]).await?.into_iter().map(read).collect()
        })
    })
    .await
}

fn read(mut row: Row) -> Result<Feedback> {
    Ok(Feedback {
        id: row.id("id")?,
        run: row.id("run_id")?,
        score: u8::try_from(row.int("score")?).unwrap_or_default(),
        preferred: row.int("preferred")? > 0,
        source: row.text("source")?,
        body: row.take_bytes("body")?,
        at: row.at("created_at")?,
    })
}

/// What was thought of an agent's runs; what is recent is of this time or later.
pub async fn of_agent(db: &Db, scope: Scope, agent: AgentId, recent: At) -> Result<Summary> {
    let row = db.read(scope, move |tx| {
        Box::pin(async move { tx.one(OF_AGENT, &[agent.into(), recent.into()]).await })
    });
    let Some(row) = row.await? else { return Ok(Summary::default()) };
    Ok(Summary {
        total: row.int("total")?,
        sum: row.int("sum")?,
        up: row.int("up")?,
        down: row.int("down")?,
        preferred_runs: row.int("preferred_runs")?,
        recent: row.int("recent")?,
        recent_sum: row.int("recent_sum")?,
    })
}

/// Runs of an agent that are over, were made at this time or later, and have a low score; the newest first.
pub async fn poorly_rated(
    db: &Db,
    scope: Scope,
    agent_name: String,
    from: At,
    limit: u32,
) -> Result<Vec<RunId>> {
    let params = [agent_name.into(), from.into(), i64::from(LOW).into(), limit.into()];
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(POORLY_RATED, &params).await })).await?;
    rows.iter().map(|row| row.id("id")).collect()
}

/// The lowest score of each of these runs.
pub async fn lowest(db: &Db, scope: Scope, runs: Vec<RunId>) -> Result<Vec<Option<u8>>> {
    db.read(scope, move |tx| {
        Box::pin(async move {
            let mut all = Vec::with_capacity(runs.len());
            for run in runs {
                let score =
                    tx.one(LOWEST, &[run.into()]).await?.map(|row| row.opt_int("score")).transpose()?;
                all.push(score.flatten().and_then(|score| u8::try_from(score).ok()));
            }
            Ok(all)
        })
    })
    .await
}

/// Removes what was said, and keeps the scores: the content of the run goes.
pub async fn forget(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    tx.exec(FORGET, &[run.into()]).await.map(drop)
}

/// Removes all of it: the run goes.
pub async fn remove(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    tx.exec(REMOVE, &[run.into()]).await.map(drop)
}
