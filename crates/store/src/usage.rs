//! What was used, by day: calls of models and of tools, and runs that ended, each with what it cost.
//!
//! Invariant: a line is added to in the commit that settles what it cost, and `cost` is what the tenant's account of that day was charged. So
//! the lines of a day and what was charged for dead processes on it are together what that account has spent, to the micro-dollar. Sums are
//! made by the database, once what runs used until then is added up ([`pending`]); nothing here decides.

pub mod pending;

use std::collections::BTreeMap;

use lantern_policy::Scope;
use lantern_types::call::Owner;
use lantern_types::{At, MicroUsd};

use crate::db::{Batch, Db, Expect};
use crate::error::{Error, Result};
use crate::value::{Row, Value};

/// Of what something was used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Calls of a model.
    Model {
        /// Who was asked.
        provider: String,
        /// For which model.
        name: String,
    },
    /// Calls of a tool.
    Tool(String),
    /// Runs that ended so.
    Run(String),
}

/// What was used of one thing by one owner on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When the day began.
    pub day: At,
    /// Whose: an agent's, a key's, or a person's of the tenant.
    pub owner: Owner,
    /// Of what.
    pub what: What,
    /// How often, and for what.
    pub amount: Amount,
}

/// How often, and for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How often.
    pub times: u64,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// What the tenant's account of the day was charged.
    pub cost: MicroUsd,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.times = self.times.saturating_add(other.times);
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
        self.cost = self.cost.plus(other.cost).unwrap_or(self.cost);
    }
}

/// What was used in some days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Calls of models.
    pub calls: u64,
    /// Calls of tools.
    pub tool_calls: u64,
    /// Runs that ended.
    pub runs: u64,
    /// Those that did what they were asked.
    pub succeeded: u64,
    /// Those that could not.
    pub failed: u64,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// What it cost.
    pub cost: MicroUsd,
}

/// By what usage is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Whose it is.
    Owner,
    /// The agent, and nobody else.
    Agent,
    /// The provider and model.
    Model,
    /// The tool.
    Tool,
    /// The day.
    Day,
}

/// Usage of one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Whose it is, when it is told apart by that.
    pub owner: Option<Owner>,
    /// The provider, when it is told apart by models.
    pub provider: Option<String>,
    /// The model or the tool.
    pub name: Option<String>,
    /// The day.
    pub day: Option<At>,
    /// What was used.
    pub sum: Sum,
}

/// Usage of a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// All of it; what it cost is what the tenant's accounts of these days have spent.
    pub sum: Sum,
    /// How much of that no line tells of: what was charged for processes that died, and what earlier builds wrote.
    pub untold: MicroUsd,
}

/// Days from one on, and before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// When the first began.
    pub from: At,
    /// When the first that does not count any more begins.
    pub to: At,
}

/// A part of a list of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// So many that come before it.
    pub skipped: u32,
    /// At most so many.
    pub limit: u32,
}

macro_rules! sums {
    ($key:literal, $from:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $key,
            " CAST(SUM(CASE WHEN kind = 'model' THEN times ELSE 0 END) AS BIGINT) AS calls,
            CAST(SUM(CASE WHEN kind = 'tool' THEN times ELSE 0 END) AS BIGINT) AS tool_calls,
            CAST(SUM(CASE WHEN kind = 'run' THEN times ELSE 0 END) AS BIGINT) AS runs,
            CAST(SUM(CASE WHEN kind = 'run' AND name = 'succeeded' THEN times ELSE 0 END) AS BIGINT) AS succeeded,
            CAST(SUM(CASE WHEN kind = 'run' AND name = 'failed' THEN times ELSE 0 END) AS BIGINT) AS failed,
            CAST(COALESCE(SUM(tokens_in), 0) AS BIGINT) AS tokens_in,
            CAST(COALESCE(SUM(tokens_out), 0) AS BIGINT) AS tokens_out,
            CAST(COALESCE(SUM(cost), 0) AS BIGINT) AS cost
            FROM ",
            $from,
            $rest
        )
    };
}

const ADD: &str = "INSERT INTO usage_days
    (tenant_id, day, owner, kind, provider, name, times, tokens_in, tokens_out, cost)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (tenant_id, day, owner, kind, provider, name)
    DO UPDATE SET times = usage_days.times + excluded.times,
    tokens_in = usage_days.tokens_in + excluded.tokens_in,
    tokens_out = usage_days.tokens_out + excluded.tokens_out, cost = usage_days.cost + excluded.cost";
const ALL: &str = sums!("", "usage_days", " WHERE tenant_id = $1 AND day >= $2 AND day < $3");
// The accounts of days of UTC alone: what counts in a cap's own zone is counted there too.
const SPENT: &str = "SELECT CAST(COALESCE(SUM(spent), 0) AS BIGINT) AS spent FROM accounts
    WHERE tenant_id = $1 AND owner = 'tenant' AND period = 'day' AND began_at >= $2 AND began_at < $3
    AND began_at % 86400000000 = 0";
const BY_OWNER: &str = sums!(
    "owner,",
    "usage_days",
    " WHERE tenant_id = $1 AND day >= $2 AND day < $3 GROUP BY owner ORDER BY cost DESC, owner LIMIT $4 OFFSET $5"
);
const BY_AGENT: &str = sums!(
    "owner,",
    "usage_days",
    " WHERE tenant_id = $1 AND day >= $2 AND day < $3 AND owner LIKE 'agent:%' GROUP BY owner
    ORDER BY cost DESC, owner LIMIT $4 OFFSET $5"
);
const BY_MODEL: &str = sums!(
    "provider, name,",
    "usage_days",
    " WHERE tenant_id = $1 AND day >= $2 AND day < $3 AND kind = 'model' GROUP BY provider, name
    ORDER BY cost DESC, calls DESC, provider, name LIMIT $4 OFFSET $5"
);
const BY_TOOL: &str = sums!(
    "name,",
    "usage_days",
    " WHERE tenant_id = $1 AND day >= $2 AND day < $3 AND kind = 'tool' GROUP BY name
    ORDER BY tool_calls DESC, name LIMIT $4 OFFSET $5"
);
// What a day cost is what its account says.
const BY_DAY: &str = sums!(
    "day,",
    "(SELECT day, kind, name, times, tokens_in, tokens_out, 0 AS cost FROM usage_days
        WHERE tenant_id = $1 AND day >= $2 AND day < $3
    UNION ALL SELECT began_at, 'account', '', 0, 0, 0, spent FROM accounts
        WHERE tenant_id = $1 AND owner = 'tenant' AND period = 'day' AND began_at >= $2 AND began_at < $3
        AND began_at % 86400000000 = 0) AS days",
    " GROUP BY day ORDER BY day DESC LIMIT $4 OFFSET $5"
);
const OPEN_RUNS: &str = "SELECT COUNT(*) AS n FROM runs
    WHERE tenant_id = $1 AND finished_at IS NULL AND created_at >= $2 AND created_at < $3";

/// Every statement of this file.
#[cfg(feature = "testing")]
pub(crate) const STATEMENTS: &[&str] =
    &[ADD, ALL, SPENT, BY_OWNER, BY_AGENT, BY_MODEL, BY_TOOL, BY_DAY, OPEN_RUNS];

/// Adds lines to those of their days, each row once and in one order, so that no two commits wait for each other.
pub(crate) fn add(batch: &mut Batch, lines: Vec<Line>) {
    let mut rows: BTreeMap<(At, String, What), Amount> = BTreeMap::new();
    for Line { day, owner, what, amount } in lines {
        rows.entry((day, owner.to_string(), what)).or_default().add(amount);
    }
    for ((day, owner, what), Amount { times, tokens_in, tokens_out, cost }) in rows {
        let (kind, provider, name) = match what {
            What::Model { provider, name } => ("model", provider, name),
            What::Tool(name) => ("tool", String::new(), name),
            What::Run(outcome) => ("run", String::new(), outcome),
        };
        let mut row = vec![day.into(), owner.into(), kind.into(), provider.into(), name.into()];
        row.extend([times, tokens_in, tokens_out].map(|n| Value::Int(i64::try_from(n).unwrap_or(i64::MAX))));
        row.push(cost.into());
        batch.add(ADD, row, Expect::Rows(1));
    }
}

/// All usage of some days, which are whole.
pub async fn of(db: &Db, scope: Scope, days: Days) -> Result<Used> {
    pending::add_up_for_a_reader(db, scope).await?;
    db.read(scope, move |tx| {
        Box::pin(async move {
            let params = [days.from.into(), days.to.into()];
            let told = match tx.one(ALL, &params).await? {
                Some(row) => sum(&row)?,
                None => Sum::default(),
            };
            let spent = match tx.one(SPENT, &params).await? {
                Some(row) => row.money("spent")?,
                None => MicroUsd::ZERO,
            };
            let untold = spent.minus(told.cost).unwrap_or(MicroUsd::ZERO);
            Ok(Used { sum: Sum { cost: spent, ..told }, untold })
        })
    })
    .await
}

/// Runs that began in a time and are not over.
pub async fn open_runs(db: &Db, scope: Scope, Days { from, to }: Days) -> Result<u64> {
    let params = [from.into(), to.into()];
    let row = db.read(scope, move |tx| Box::pin(async move { tx.one(OPEN_RUNS, &params).await })).await?;
    row.map_or(Ok(0), |row| count(&row, "n"))
}

/// Usage of some days told apart: what cost most comes first, and of days the newest.
pub async fn groups(db: &Db, scope: Scope, days: Days, by: By, part: Part) -> Result<Vec<Group>> {
    pending::add_up_for_a_reader(db, scope).await?;
    let sql = match by {
        By::Owner => BY_OWNER,
        By::Agent => BY_AGENT,
        By::Model => BY_MODEL,
        By::Tool => BY_TOOL,
        By::Day => BY_DAY,
    };
    let params = [days.from.into(), days.to.into(), part.limit.into(), part.skipped.into()];
    let rows = db.read(scope, move |tx| Box::pin(async move { tx.all(sql, &params).await })).await?;
    rows.iter().map(|row| group(row, by)).collect()
}

fn group(row: &Row, by: By) -> Result<Group> {
    let mut group = Group { owner: None, provider: None, name: None, day: None, sum: sum(row)? };
    match by {
        By::Owner | By::Agent => {
            let owner = row.text("owner")?.parse();
            group.owner = Some(owner.map_err(|_| Error::Corrupt("usage has no known owner".into()))?);
        }
        By::Model => {
            group.provider = Some(row.text("provider")?);
            group.name = Some(row.text("name")?);
        }
        By::Tool => group.name = Some(row.text("name")?),
        By::Day => group.day = Some(row.at("day")?),
    }
    Ok(group)
}

fn sum(row: &Row) -> Result<Sum> {
    Ok(Sum {
        calls: count(row, "calls")?,
        tool_calls: count(row, "tool_calls")?,
        runs: count(row, "runs")?,
        succeeded: count(row, "succeeded")?,
        failed: count(row, "failed")?,
        tokens_in: count(row, "tokens_in")?,
        tokens_out: count(row, "tokens_out")?,
        cost: row.money("cost")?,
    })
}

/// Nothing where there are no rows to sum up.
fn count(row: &Row, name: &str) -> Result<u64> {
    Ok(row.opt_int(name)?.and_then(|n| u64::try_from(n).ok()).unwrap_or_default())
}
