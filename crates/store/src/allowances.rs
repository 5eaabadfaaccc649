//! How often an agent may begin runs and call its tools in a day.
//!
//! Invariant: what is counted is counted before it happens, in a transaction that refuses what would be one too many; so however many
//! processes there are and whichever of them dies, no more of it happens. A run counts in the transaction that makes it. A call of a tool
//! counts once for its step, however often that is taken up. What nothing bounds is not counted here; a bound that is set later begins with what
//! runs and usage say of the day.

use std::collections::BTreeMap;

use lantern_policy::Scope;
use lantern_types::call::Period;
use lantern_types::{AgentId, At, RunId};

use crate::db::{Db, TenantTx};
use crate::error::{Error, Result};
use crate::usage::pending;
use crate::value::Row;

/// What is bounded of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowances {
    /// The most runs of a day.
    pub runs: Option<u32>,
    /// The most calls of a day, by tool.
    pub tools: BTreeMap<String, u32>,
}

/// A step that calls a tool.
#[derive(Clone, Debug)]
pub struct Call {
    /// The run.
    pub run: RunId,
    /// Its step.
    pub step: String,
    /// Whose run it is.
    pub agent: AgentId,
    /// The tool.
    pub tool: String,
    /// When.
    pub at: At,
}

const RUNS: &str = "runs";

const READ: &str = "SELECT runs_of_day_max, tools_of_day_max FROM agents WHERE tenant_id = $1 AND id = $2";
const SET: &str =
    "UPDATE agents SET runs_of_day_max = $3, tools_of_day_max = $4 WHERE tenant_id = $1 AND id = $2";
const BOUNDED: &str =
    "SELECT id, tools_of_day_max FROM agents WHERE tenant_id = $1 AND tools_of_day_max IS NOT NULL";
// What began before anything was bounded counts too; it is looked for once a day.
const BEGIN_RUNS: &str = "INSERT INTO day_counts (tenant_id, agent_id, day, what, n)
    SELECT $1, $2, $3, 'runs', (SELECT COUNT(*) FROM runs r WHERE r.tenant_id = $1 AND r.agent_name = $4 AND r.created_at >= $3)
    WHERE NOT EXISTS (SELECT 1 FROM day_counts WHERE tenant_id = $1 AND agent_id = $2 AND day = $3 AND what = 'runs')
    ON CONFLICT (tenant_id, agent_id, day, what) DO NOTHING";
const BEGIN_CALLS: &str = "INSERT INTO day_counts (tenant_id, agent_id, day, what, n)
    SELECT $1, $2, $3, $4, COALESCE((SELECT times FROM usage_days u WHERE u.tenant_id = $1 AND u.day = $3 AND u.owner = $5
        AND u.kind = 'tool' AND u.provider = '' AND u.name = $6), 0)
    WHERE NOT EXISTS (SELECT 1 FROM day_counts WHERE tenant_id = $1 AND agent_id = $2 AND day = $3 AND what = $4)
    ON CONFLICT (tenant_id, agent_id, day, what) DO NOTHING";
const COUNT: &str = "UPDATE day_counts SET n = n + 1
    WHERE tenant_id = $1 AND agent_id = $2 AND day = $3 AND what = $4 AND n < $5";
const UNCOUNT: &str = "UPDATE day_counts SET n = n - 1
    WHERE tenant_id = $1 AND agent_id = $2 AND day = $3 AND what = $4 AND n > 0";
const FORGET: &str = "DELETE FROM day_counts WHERE tenant_id = $1 AND agent_id = $2 AND what = $3";
const MARK: &str = "INSERT INTO day_calls (tenant_id, run_id, step) VALUES ($1, $2, $3)
    ON CONFLICT (tenant_id, run_id, step) DO NOTHING";
const UNMARK: &str = "DELETE FROM day_calls WHERE tenant_id = $1 AND run_id = $2 AND step = $3";
const OVER: &str = "DELETE FROM day_calls WHERE tenant_id = $1 AND run_id = $2";
const COUNTED: &str = "SELECT agent_id, what, n FROM day_counts WHERE tenant_id = $1 AND day = $2";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] =
    &[READ, SET, BOUNDED, BEGIN_RUNS, BEGIN_CALLS, COUNT, UNCOUNT, FORGET, MARK, UNMARK, OVER, COUNTED];

/// The agents whose calls of tools are bounded, each with the most of a day.
pub async fn bounded(db: &Db, scope: Scope) -> Result<BTreeMap<AgentId, BTreeMap<String, u32>>> {
    let rows = db.read(scope, |tx| Box::pin(async move { tx.all(BOUNDED, &[]).await })).await?;
    rows.iter().map(|row| Ok((row.id("id")?, tools(row)?))).collect()
}

/// What bounds an agent.
pub async fn of(tx: &mut TenantTx<'_>, agent: AgentId) -> Result<Allowances> {
    tx.one(READ, &[agent.into()]).await?.as_ref().map_or_else(|| Ok(Allowances::default()), read)
}

/// What an agent's row says, of which both columns were read.
pub fn read(row: &Row) -> Result<Allowances> {
    Ok(Allowances { runs: runs(row)?, tools: tools(row)? })
}

/// Lets this bound an agent from now on, instead of what did. What was not bounded before is counted anew, from what there is: runs
/// at once, calls of a tool when the next is made.
pub async fn set(
    tx: &mut TenantTx<'_>,
    (agent, name): (AgentId, &str),
    new: &Allowances,
    now: At,
) -> Result<()> {
    let before = of(tx, agent).await?;
    if before.runs.is_none() {
        tx.exec(FORGET, &[agent.into(), RUNS.into()]).await?;
    }
    for tool in new.tools.keys().filter(|tool| !before.tools.contains_key(*tool)) {
        tx.exec(FORGET, &[agent.into(), of_tool(tool).into()]).await?;
    }
    let tools = (!new.tools.is_empty())
        .then(|| serde_json::to_string(&new.tools).map_err(|error| Error::Internal(error.into())))
        .transpose()?;
    tx.exec(SET, &[agent.into(), new.runs.map(i64::from).into(), tools.into()]).await?;
    if new.runs.is_some() {
        tx.exec(BEGIN_RUNS, &[agent.into(), Period::Day.began(now).into(), name.into()]).await?;
    }
    Ok(())
}

/// What was counted in the day that this is in: runs under nothing, calls under their tool.
pub async fn counted(db: &Db, scope: Scope, now: At) -> Result<Vec<(AgentId, Option<String>, u64)>> {
    let day = Period::Day.began(now);
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(COUNTED, &[day.into()]).await }));
    let read = |row: &Row| {
        let (what, n) = (row.text("what")?, u64::try_from(row.int("n")?).unwrap_or_default());
        Ok((row.id("agent_id")?, what.strip_prefix("tool:").map(str::to_owned), n))
    };
    rows.await?.iter().map(read).collect()
}

/// Counts one more run of an agent. `false`, and nothing counted, when that would be one too many.
pub(crate) async fn take_run(
    tx: &mut TenantTx<'_>,
    (agent, name): (AgentId, &str),
    at: At,
    most: u32,
) -> Result<bool> {
    let day = Period::Day.began(at);
    tx.exec(BEGIN_RUNS, &[agent.into(), day.into(), name.into()]).await?;
    Ok(tx.exec(COUNT, &[agent.into(), day.into(), RUNS.into(), i64::from(most).into()]).await? == 1)
}

/// One run less: it was there before.
pub(crate) async fn give_run_back(tx: &mut TenantTx<'_>, agent: AgentId, at: At) -> Result<()> {
    tx.exec(UNCOUNT, &[agent.into(), Period::Day.began(at).into(), RUNS.into()]).await.map(drop)
}

/// Counts a call of a tool, durable when it answers; a step that is counted already is not counted again. `false`, and nothing
/// counted, when that would be one too many.
pub async fn take_call(db: &Db, scope: Scope, call: Call, most: u32) -> Result<bool> {
    pending::add_up(db, scope).await?;
    db.write(scope, move |tx| Box::pin(take_call_in(tx, call, most))).await
}

async fn take_call_in(tx: &mut TenantTx<'_>, call: Call, most: u32) -> Result<bool> {
    let Call { run, step, agent, tool, at } = call;
    if tx.exec(MARK, &[run.into(), step.clone().into()]).await? == 0 {
        return Ok(true);
    }
    let (day, what, owner) = (Period::Day.began(at), of_tool(&tool), format!("agent:{agent}"));
    let begin = [agent.into(), day.into(), what.clone().into(), owner.into(), tool.into()];
    tx.exec(BEGIN_CALLS, &begin).await?;
    if tx.exec(COUNT, &[agent.into(), day.into(), what.into(), i64::from(most).into()]).await? == 1 {
        return Ok(true);
    }
    tx.exec(UNMARK, &[run.into(), step.into()]).await?;
    Ok(false)
}

/// Forgets which calls of a run were counted: it is over.
pub(crate) async fn over(tx: &mut TenantTx<'_>, run: RunId) -> Result<()> {
    tx.exec(OVER, &[run.into()]).await.map(drop)
}

fn of_tool(name: &str) -> String {
    format!("tool:{name}")
}

fn runs(row: &Row) -> Result<Option<u32>> {
    Ok(row.opt_int("runs_of_day_max")?.and_then(|most| u32::try_from(most).ok()))
}

fn tools(row: &Row) -> Result<BTreeMap<String, u32>> {
    let Some(text) = row.opt_text("tools_of_day_max")? else { return Ok(BTreeMap::new()) };
    serde_json::from_str(&text).map_err(|error| Error::Corrupt(error.into()))
}
