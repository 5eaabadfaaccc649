//! What the model calls of a workload cost: sums in its row, and a row for each call that money is held for.
//!
//! Invariant: `spent + held <= cap` of a workload at every instant, whoever dies: a call is in `held` before it is made, in the
//! transaction that writes its row, and goes from there to `spent` with that row. Knows no models and decides nothing.

use lantern_policy::Scope;
use lantern_types::*;

use crate::db::Db;
use crate::error::Result;
use crate::value::Row;

/// A call that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCall {
    /// Minted.
    pub id: CallId,
    /// Who is asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// What it costs at the most.
    pub hold: MicroUsd,
    /// The tokens that it has at the most.
    pub tokens: u64,
    /// When.
    pub at: At,
}

/// What a workload's spec allows beside the money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Model calls.
    pub calls: u64,
    /// Tokens, of prompts and of answers.
    pub tokens: u64,
}

/// How a workload stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stands {
    /// The most that it may spend; nothing for a workload from before there was such a thing.
    pub cap: Option<MicroUsd>,
    /// What is settled.
    pub spent: MicroUsd,
    /// What is held for calls under way.
    pub held: MicroUsd,
    /// Calls that were made, or are.
    pub calls: u64,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// Tokens that calls under way may have.
    pub tokens_held: u64,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// What it cost.
    pub cost: MicroUsd,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// Whether it was made: one that was refused counts as none.
    pub made: bool,
}

/// A call that was made and never settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its id.
    pub id: CallId,
    /// Who was asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// What was held for it.
    pub hold: MicroUsd,
    /// The tokens that it may have had.
    pub tokens: u64,
}

const HOLD: &str = "UPDATE workloads SET held = held + $3, tokens_held = tokens_held + $4, calls = calls + 1
    WHERE tenant_id = $1 AND run_id = $2 AND node = $5 AND ended_at IS NULL AND spent + held + $3 <= cap AND calls < $6
    AND tokens_in + tokens_out + tokens_held + $4 <= $7";
const OPEN: &str =
    "INSERT INTO workload_calls (tenant_id, run_id, call_id, provider, model, hold, tokens, at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const CLOSE: &str = "DELETE FROM workload_calls WHERE tenant_id = $1 AND run_id = $2 AND call_id = $3
    RETURNING hold, tokens";
const SETTLE: &str = "UPDATE workloads SET held = held - $3, tokens_held = tokens_held - $4, spent = spent + $5,
    tokens_in = tokens_in + $6, tokens_out = tokens_out + $7, calls = calls - $8 WHERE tenant_id = $1 AND run_id = $2";
const STANDS: &str = "SELECT cap, spent, held, calls, tokens_in, tokens_out, tokens_held FROM workloads
    WHERE tenant_id = $1 AND run_id = $2";
const LEFT: &str = "SELECT call_id, provider, model, hold, tokens FROM workload_calls
    WHERE tenant_id = $1 AND run_id = $2 ORDER BY at, call_id";
pub(crate) const FORGET: &str = "DELETE FROM workload_calls WHERE tenant_id = $1 AND run_id = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] = &[HOLD, OPEN, CLOSE, SETTLE, STANDS, LEFT, FORGET];

/// Holds what a call of a workload could come to, for the node that has it. `false`, and nothing held, when that does not fit.
pub async fn hold(
    db: &Db,
    scope: Scope,
    (run, node): (RunId, String),
    call: NewCall,
    bounds: Bounds,
) -> Result<bool> {
    let NewCall { id, provider, model, hold, tokens, at } = call;
    let tokens = int(tokens);
    let held = [
        run.into(),
        hold.into(),
        tokens.into(),
        node.into(),
        int(bounds.calls).into(),
        int(bounds.tokens).into(),
    ];
    let opened =
        [run.into(), id.into(), provider.into(), model.into(), hold.into(), tokens.into(), at.into()];
    db.write(scope, move |tx| {
        Box::pin(async move {
            if tx.exec(HOLD, &held).await? == 0 {
                return Ok(false);
            }
            tx.exec(OPEN, &opened).await?;
            Ok(true)
        })
    })
    .await
}

/// Settles a call. A second time does nothing.
pub async fn settle(db: &Db, scope: Scope, (run, id): (RunId, CallId), came: Came) -> Result<()> {
    let Came { cost, tokens_in, tokens_out, made } = came;
    db.write(scope, move |tx| {
        Box::pin(async move {
            let Some(row) = tx.one(CLOSE, &[run.into(), id.into()]).await? else { return Ok(()) };
            let (hold, tokens) = (row.int("hold")?, row.int("tokens")?);
            let used = [int(tokens_in), int(tokens_out), i64::from(!made)];
            let [tokens_in, tokens_out, unmade] = used.map(Into::into);
            let params = [run.into(), hold.into(), tokens.into(), cost.into(), tokens_in, tokens_out, unmade];
            tx.exec(SETTLE, &params).await?;
            tx.changed(run);
            Ok(())
        })
    })
    .await
}

/// How a workload stands; `None` when there is no such workload.
pub async fn stands(db: &Db, scope: Scope, run: RunId) -> Result<Option<Stands>> {
    let row = db.read(scope, move |tx| Box::pin(async move { tx.one(STANDS, &[run.into()]).await })).await?;
    row.map(|row| read(&row)).transpose()
}

/// Calls that were made and never settled.
pub async fn left(db: &Db, scope: Scope, run: RunId) -> Result<Vec<Left>> {
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(LEFT, &[run.into()]).await })).await?;
    let left = |row: &Row| {
        Ok(Left {
            id: row.id("call_id")?,
            provider: row.text("provider")?,
            model: row.text("model")?,
            hold: MicroUsd::from_micros(row.int("hold")?),
            tokens: u64::try_from(row.int("tokens")?).unwrap_or_default(),
        })
    };
    rows.iter().map(left).collect()
}

/// The sums of a row of workloads.
pub(crate) fn read(row: &Row) -> Result<Stands> {
    let count = |name| row.int(name).map(|count| u64::try_from(count).unwrap_or_default());
    Ok(Stands {
        cap: row.opt_int("cap")?.map(MicroUsd::from_micros),
        spent: MicroUsd::from_micros(row.int("spent")?),
        held: MicroUsd::from_micros(row.int("held")?),
        calls: count("calls")?,
        tokens_in: count("tokens_in")?,
        tokens_out: count("tokens_out")?,
        tokens_held: count("tokens_held")?,
    })
}

fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
