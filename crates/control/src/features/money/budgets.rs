//! Budgets of agents: what the runs of one may spend in a day, in a month and each, and when somebody is to be warned.
//!
//! Invariant: there is one truth. The amounts of a day and a month are the agent's caps, whoever set them and by which route; that of a run is
//! in the agent's row, and bounds every run that begins. What cannot be enforced is refused when it is asked for, and never kept unread.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use lantern_edge::openapi::PAGING;
use lantern_edge::route::{delete_route, get_route, put_route};
use lantern_edge::{Body, Code, Error, Fields, Json, Model, Page, Paging, Params, Path, Result, Route};
use lantern_policy::action::{DeleteBudget, ListBudgets, ReadBudget, SaveBudget};
use lantern_policy::{Permit, Scope};
use lantern_store::allowances::{self, Allowances};
use lantern_store::escrow::{self, Cap, NewCap, Warning};
use lantern_store::{Row, TenantTx};
use lantern_types::call::{AccountId, OnLimit, Owner, Period};
use lantern_types::{AgentId, At, Dur, MicroUsd, ToolName, Zone};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::caps;
use crate::App;
use crate::features::agents;

const ONE: &str = "SELECT id, name, run_cost_max, budget_at, runs_of_day_max, tools_of_day_max FROM agents
    WHERE tenant_id = $1 AND id = $2";
const ALL: &str = "SELECT id, name, run_cost_max, budget_at, runs_of_day_max, tools_of_day_max FROM agents
    WHERE tenant_id = $1 AND budget_at IS NOT NULL";
const SAVE: &str = "UPDATE agents SET run_cost_max = $3, budget_at = $4 WHERE tenant_id = $1 AND id = $2";

pub(crate) const STATEMENTS: &[&str] = &[ONE, ALL, SAVE];

/// The contract's.
const NOTIFY_AT_PCT: u8 = 80;
/// More than anybody does in a day.
const TIMES_MAX: u64 = 1_000_000_000;
/// Tools that a budget can bound.
const TOOLS_MAX: usize = 256;
/// More than anybody spends: what is said to be more was meant otherwise.
const AMOUNT_MAX: MicroUsd = MicroUsd::from_micros(1_000_000_000_000_000);

pub(crate) fn routes() -> Vec<Route<App>> {
    vec![
        get_route("/v1/budgets", "List the budgets of agents, the one that was set last first", list)
            .takes(&PAGING),
        get_route("/v1/agents/{name}/budget", "Read what an agent may spend, and what it spent", get),
        put_route("/v1/agents/{name}/budget", "Say what an agent may spend, in place of what was said", put),
        delete_route("/v1/agents/{name}/budget", "Let an agent spend what its tenant may", delete),
    ]
}

/// What is to hold from now on, instead of what did.
struct Wanted {
    day: Option<MicroUsd>,
    month: Option<MicroUsd>,
    run: Option<MicroUsd>,
    allowances: Allowances,
    notify_at_pct: u8,
    on_limit: OnLimit,
}

impl Model for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let day = amount(fields, "maxCostUsdPerDay");
        let month = amount(fields, "maxCostUsdPerMonth");
        let run = amount(fields, "maxCostUsdPerRun");
        let pct = fields.integer("notifyAtPct", 1..=100).and_then(|pct| u8::try_from(pct).ok());
        let on_limit = on_limit(fields);
        absent(fields, "maxTokensPerDay", "tokens of a day are counted and bound nothing yet; leave it out");
        let runs = fields.integer("maxRunsPerDay", 1..=TIMES_MAX).and_then(|runs| u32::try_from(runs).ok());
        let allowances = Allowances { runs, tools: tool_limits(fields) };
        // The path says whose it is.
        let _ = fields.text("agentName", 256);
        fields.refuse_unread();
        if let (Some(day), Some(month)) = (day, month)
            && day > month
        {
            fields.issue("maxCostUsdPerDay", "is more than maxCostUsdPerMonth");
        }
        Some(Self { day, month, run, allowances, notify_at_pct: pct.unwrap_or(NOTIFY_AT_PCT), on_limit })
    }
}

/// How often each tool may be called in a day.
fn tool_limits(fields: &mut Fields<'_>) -> BTreeMap<String, u32> {
    fields.describe("toolLimits", || {
        json!({
            "type": ["object", "null"], "maxProperties": TOOLS_MAX,
            "additionalProperties": { "type": "integer", "minimum": 1, "maximum": TIMES_MAX },
            "description": "How often each of these tools may be called in a day of UTC.",
        })
    });
    let said = match fields.value("toolLimits") {
        None | Some(Value::Null) => return BTreeMap::new(),
        Some(Value::Object(said)) if said.len() <= TOOLS_MAX => said,
        Some(_) => {
            fields.issue("toolLimits", "expected an object of at most 256 tools, each with a number");
            return BTreeMap::new();
        }
    };
    let mut limits = BTreeMap::new();
    for (name, most) in said {
        let tool = ToolName::parse(name).ok();
        let most = most
            .as_u64()
            .filter(|most| (1..=TIMES_MAX).contains(most))
            .and_then(|most| u32::try_from(most).ok());
        match (tool, most) {
            (Some(tool), Some(most)) => drop(limits.insert(tool.as_str().to_owned(), most)),
            (None, _) => fields.issue("toolLimits", "has a name that no tool can have"),
            (_, None) => fields.issue("toolLimits", "expected whole numbers from 1 to 1000000000"),
        }
    }
    limits
}

/// What the amounts of a day and a month do when they are reached. Without a word they are hard; a soft one asks unless it says that it stops.
fn on_limit(fields: &mut Fields<'_>) -> OnLimit {
    let hard = fields.boolean("hardFail").unwrap_or(true);
    let word = fields.text("onLimit", 16);
    match (hard, word.as_deref()) {
        (true, None | Some("stop")) => OnLimit::Hard,
        (true, Some("ask")) => {
            fields.issue("onLimit", "a hard budget never asks; say `hardFail: false` with it");
            OnLimit::Hard
        }
        (false, None | Some("ask")) => OnLimit::Ask,
        (false, Some("stop")) => OnLimit::Stop,
        (_, Some(_)) => {
            fields.issue("onLimit", "expected `ask` or `stop`");
            OnLimit::Hard
        }
    }
}

/// An amount that bounds something and leaves something.
fn amount(fields: &mut Fields<'_>, name: &'static str) -> Option<MicroUsd> {
    let amount = fields.dollars(name)?;
    if amount <= MicroUsd::ZERO {
        fields.issue(name, "must be more than nothing; an emergency stop halts an agent");
        return None;
    }
    if amount > AMOUNT_MAX {
        fields.issue(name, "must be at most 1000000000");
        return None;
    }
    Some(amount)
}

/// A field of the contract that is refused where it says something.
fn absent(fields: &mut Fields<'_>, name: &'static str, why: &str) {
    fields.describe(
        name,
        || json!({ "type": ["null", "object"], "maxProperties": 0, "description": "Not there yet." }),
    );
    let says_nothing = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    if fields.value(name).is_some_and(|value| !says_nothing(value)) {
        fields.issue(name, why);
    }
}

/// What the runs of an agent may spend, and what they did.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Budget)]
struct Shown {
    agent_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost_usd_per_day: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost_usd_per_month: Option<f64>,
    /// Every run that begins may spend no more, whatever its version says.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_cost_usd_per_run: Option<f64>,
    /// Whether what passes the budget of a day or a month is denied, and nobody is asked. That of a run is always hard.
    hard_fail: bool,
    /// What happens when that of a day or a month is reached: `ask`, whether more may be spent, or `stop`.
    on_limit: &'static str,
    /// When so much of a day's or a month's amount is spent, a warning is given once in that day or month.
    notify_at_pct: u8,
    updated_at: String,
    /// The most runs that may begin in a day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_runs_per_day: Option<u32>,
    /// How many of them began today, where they are bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_today: Option<u64>,
    /// How often each tool may be called in a day of UTC.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tool_limits: BTreeMap<String, u32>,
    /// How often each of them was called today.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tool_calls_today: BTreeMap<String, u64>,
    spent_today_usd: f64,
    spent_this_month_usd: f64,
    /// What is set aside for steps that are under way, of the day's amount.
    held_today_usd: f64,
    /// Those of this day and this month.
    warnings: Vec<ShownWarning>,
}

/// That so much of an amount was spent that a warning was due.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BudgetWarning)]
struct ShownWarning {
    /// `day` or `month`.
    period: &'static str,
    /// When it was due.
    at: String,
    /// What was spent by then.
    spent_usd: f64,
    /// The amount.
    max_cost_usd: f64,
}

/// That something was done.
#[derive(Serialize, ToSchema)]
#[schema(as = BudgetStatus)]
struct Done {
    /// `saved` or `removed`.
    status: &'static str,
}

/// An agent as its row says.
struct Own {
    id: AgentId,
    name: String,
    run: Option<MicroUsd>,
    allowances: Allowances,
    at: Option<At>,
}

fn own(row: &Row) -> lantern_store::Result<Own> {
    Ok(Own {
        id: row.id("id")?,
        name: row.text("name")?,
        run: row.opt_int("run_cost_max")?.map(MicroUsd::from_micros),
        allowances: allowances::read(row)?,
        at: row.opt_at("budget_at")?,
    })
}

/// A budget with what it is made of.
struct Budget {
    own: Own,
    caps: Vec<Cap>,
    updated_at: At,
}

impl Budget {
    /// `None` when nothing bounds the agent.
    fn of(own: Own, caps: &[Cap]) -> Option<Self> {
        let caps: Vec<Cap> = caps.iter().filter(|cap| cap.owner == Owner::Agent(own.id)).copied().collect();
        let updated_at = caps.iter().map(|cap| cap.updated_at).chain(own.at).max()?;
        Some(Self { own, caps, updated_at })
    }
}

/// What was spent, and what was warned of.
struct Facts {
    now: At,
    accounts: BTreeMap<AccountId, (MicroUsd, MicroUsd)>,
    warnings: Vec<Warning>,
    /// Runs under nothing, and calls of tools.
    counted: Vec<(AgentId, Option<String>, u64)>,
}

async fn facts(app: &App, scope: Scope) -> Result<Facts> {
    let now = app.clock.now();
    // A month begins up to a day sooner elsewhere.
    let since = Period::Month.began(now) - Dur::from_secs(86_400);
    let accounts = escrow::accounts(&app.db, scope, since).await?;
    let accounts = accounts.into_iter().map(|(account, spent, held)| (account, (spent, held))).collect();
    let counted = allowances::counted(&app.db, scope, now).await?;
    Ok(Facts { now, accounts, warnings: escrow::warnings(&app.db, scope, since).await?, counted })
}

fn shown(budget: Budget, facts: &Facts) -> Shown {
    let owner = Owner::Agent(budget.own.id);
    // All caps of an owner are of one zone.
    let zone = budget.caps.first().map_or(Zone::UTC, |cap| cap.zone);
    let current = |period| AccountId::within(zone, owner, period, facts.now);
    let stands = |period| facts.accounts.get(&current(period)).copied().unwrap_or_default();
    let cap = |period| budget.caps.iter().find(|cap| cap.period == period);
    let amount = |period| cap(period).map(|cap| cap.cap.to_wire());
    let on_limit = budget.caps.first().map_or(OnLimit::Hard, |cap| cap.on_limit);
    let allowances = budget.own.allowances;
    let counted = |tool: Option<&str>| {
        let mut counted = facts.counted.iter();
        let found = counted.find(|(agent, what, _)| *agent == budget.own.id && what.as_deref() == tool);
        found.map_or(0, |(.., n)| *n)
    };
    let warnings = facts.warnings.iter().filter(|warning| warning.account == current(warning.account.period));
    Shown {
        max_cost_usd_per_day: amount(Period::Day),
        max_cost_usd_per_month: amount(Period::Month),
        max_cost_usd_per_run: budget.own.run.map(MicroUsd::to_wire),
        hard_fail: on_limit == OnLimit::Hard,
        on_limit: if on_limit == OnLimit::Ask { "ask" } else { "stop" },
        notify_at_pct: budget.caps.iter().find_map(|cap| cap.notify_at_pct).unwrap_or(NOTIFY_AT_PCT),
        updated_at: budget.updated_at.to_string(),
        max_runs_per_day: allowances.runs,
        runs_today: allowances.runs.map(|_| counted(None)),
        tool_calls_today: allowances.tools.keys().map(|tool| (tool.clone(), counted(Some(tool)))).collect(),
        tool_limits: allowances.tools,
        spent_today_usd: stands(Period::Day).0.to_wire(),
        spent_this_month_usd: stands(Period::Month).0.to_wire(),
        held_today_usd: stands(Period::Day).1.to_wire(),
        warnings: warnings
            .map(|warning| ShownWarning {
                period: warning.account.period.as_str(),
                at: warning.at.to_string(),
                spent_usd: warning.spent.to_wire(),
                max_cost_usd: warning.cap.to_wire(),
            })
            .collect(),
        agent_name: budget.own.name,
    }
}

/// The agents that a list of budgets is about.
async fn owns(tx: &mut TenantTx<'_>, capped: BTreeSet<AgentId>) -> lantern_store::Result<Vec<Own>> {
    let mut owns: Vec<Own> = tx.all(ALL, &[]).await?.iter().map(own).collect::<Result<_, _>>()?;
    for id in capped {
        if !owns.iter().any(|own| own.id == id)
            && let Some(row) = tx.one(ONE, &[id.into()]).await?
        {
            owns.push(own(&row)?);
        }
    }
    Ok(owns)
}

async fn list(permit: Permit<ListBudgets>, State(app): State<App>, params: Params) -> Result<Page<Shown>> {
    let paging = Paging::of(&params)?;
    let scope = permit.scope();
    let caps = escrow::caps(&app.db, scope).await?;
    let capped = caps::capped(&caps);
    let owns = app.db.read(scope, move |tx| Box::pin(owns(tx, capped))).await?;
    let key = |budget: &Budget| (budget.updated_at, budget.own.id.uuid());
    let mut budgets: Vec<Budget> = owns.into_iter().filter_map(|own| Budget::of(own, &caps)).collect();
    budgets.sort_by_key(|budget| std::cmp::Reverse(key(budget)));
    budgets.retain(|budget| paging.before.is_none_or(|before| key(budget) < before));
    let facts = facts(&app, scope).await?;
    Ok(Page::cut(budgets, &paging, &params, key).map(|budget| shown(budget, &facts)))
}

async fn get(
    permit: Permit<ReadBudget>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Shown>> {
    let scope = permit.scope();
    let id = agents::service::get(&app, scope, &name).await?.0.id;
    let caps = escrow::caps(&app.db, scope).await?;
    let row = app.db.read(scope, move |tx| Box::pin(async move { tx.one(ONE, &[id.into()]).await })).await?;
    let own = row.as_ref().map(own).transpose()?.ok_or_else(|| agents::service::not_found(&name))?;
    let nothing = || Error::new(Code::BudgetNotFound, "no budget configured");
    let budget = Budget::of(own, &caps).ok_or_else(nothing)?;
    Ok(Json(shown(budget, &facts(&app, scope).await?)))
}

async fn put(
    permit: Permit<SaveBudget>,
    State(app): State<App>,
    Path(name): Path<String>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Done>> {
    save(&app, permit.scope(), &name, Some(wanted)).await?;
    Ok(Json(Done { status: "saved" }))
}

async fn delete(
    permit: Permit<DeleteBudget>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Done>> {
    save(&app, permit.scope(), &name, None).await?;
    Ok(Json(Done { status: "removed" }))
}

/// Lets this hold, and nothing else.
async fn save(app: &App, scope: Scope, name: &str, wanted: Option<Wanted>) -> Result<()> {
    let (agent, now) = (agents::service::get(app, scope, name).await?.0, app.clock.now());
    let (agent, name) = (agent.id, agent.name);
    let owner = Owner::Agent(agent);
    let (at, run) = (wanted.as_ref().map(|_| now), wanted.as_ref().and_then(|wanted| wanted.run));
    let bounds = wanted.as_ref().map(|wanted| wanted.allowances.clone()).unwrap_or_default();
    let of = |period| {
        let wanted = wanted.as_ref()?;
        let amount = match period {
            Period::Day => wanted.day,
            Period::Month => wanted.month,
        };
        let (notify_at_pct, on_limit) = (Some(wanted.notify_at_pct), wanted.on_limit);
        Some(NewCap { cap: amount?, notify_at_pct, on_limit })
    };
    let caps = Period::ALL.map(|period| (period, of(period)));
    let saved = app.db.write(scope, move |tx| {
        Box::pin(async move {
            for (period, cap) in caps {
                escrow::set_cap_with(tx, (owner, period), cap, now).await?;
            }
            allowances::set(tx, (agent, &name), &bounds, now).await?;
            tx.exec(SAVE, &[agent.into(), run.into(), at.into()]).await
        })
    });
    saved.await?;
    app.db.hub().caps_changed();
    // Those that waited for people to say whether it may be passed look again.
    app.db.hub().wake();
    tracing::info!(tenant = %scope.tenant(), %owner, "said what an agent may spend");
    Ok(())
}
