//! What was used and what it cost, by day, agent, model or tool.
//!
//! Invariant: sums are those of the ledger. What an amount of some days is is what the tenant's accounts of these days have spent, to the
//! micro-dollar; where no line says for what, that is said, and not left out. Days are those of UTC.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, header};
use lantern_edge::openapi::{Kind, PAGING, Param};
use lantern_edge::route::get_route;
use lantern_edge::{Code, Error, Json, Page, Paging, Params, Result, Route};
use lantern_policy::action::ReadUsage;
use lantern_policy::{Permit, Scope};
use lantern_store::usage::{self, By, Days, Group, Part, Sum};
use lantern_types::call::{Owner, Period};
use lantern_types::{AgentId, At, Dur, MicroUsd};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::caps;
use crate::App;
use crate::csv::cell;

const DAY: Dur = Dur::from_secs(86_400);
/// The contract's.
const TOP: u32 = 20;
/// Rows of a table.
const ROWS_MAX: u32 = 10_000;
const BYS: [&str; 4] = ["agent", "model", "tool", "day"];
const FORMATS: [&str; 2] = ["json", "csv"];
const DATE: &str = "a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z";

const FILTERS: &[Param] = &[
    Param {
        name: "by",
        about: "What `groups` are told apart by; by day without it.",
        kind: Kind::Word(&BYS),
    },
    Param {
        name: "from",
        about: "Only from this day on: a date, or a time of the day, in UTC.",
        kind: Kind::Text,
    },
    Param { name: "to", about: "Only days that began before this: a date, or a time.", kind: Kind::Text },
    Param {
        name: "format",
        about: "`csv` for a table of the groups; without it what `Accept` asks for.",
        kind: Kind::Word(&FORMATS),
    },
];

pub(crate) fn routes() -> Vec<Route<App>> {
    let route = |path| {
        get_route(path, "Say what was used, and what it cost", read)
            .takes(&PAGING)
            .takes(FILTERS)
            .answers::<Json<Shown>>()
            .sends("text/csv", "The groups as a table.")
    };
    vec![route("/v1/usage"), route("/v1/settings/usage")]
}

/// What was used.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Usage)]
struct Shown {
    periods: Periods,
    /// The agents whose runs cost most of all time, at most twenty.
    by_agent: Vec<OfAgent>,
    /// All of the days that were asked about.
    sum: Counts,
    /// What of `sum` no group tells of: what was charged for servers that died, whose calls nobody knows the end of, and what an earlier
    /// build wrote.
    untold_usd: f64,
    /// What cost most comes first; of days, the newest. Together with `untoldUsd` all pages add up to `sum`, but for tools, which cost
    /// nothing by themselves.
    groups: Vec<ShownGroup>,
}

/// The contract's periods.
#[derive(Serialize, ToSchema)]
#[schema(as = UsagePeriods)]
struct Periods {
    today: Counts,
    /// Seven days, with today.
    week: Counts,
    /// This month.
    month: Counts,
    total: Counts,
}

/// Sums of a time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UsageCounts)]
struct Counts {
    cost_usd: f64,
    /// Runs that ended in it, and those that began in it and are not over.
    runs: u64,
    succeeded: u64,
    failed: u64,
    /// Runs that began in it and are not over.
    running: u64,
    tokens_in: u64,
    tokens_out: u64,
    /// Calls of models, by runs and through the front doors.
    calls: u64,
    tool_calls: u64,
}

/// What the runs of an agent cost.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UsageOfAgent)]
struct OfAgent {
    agent_name: String,
    cost_usd: f64,
    /// Runs that ended.
    runs: u64,
    succeeded: u64,
    failed: u64,
}

/// Usage of one agent, key, model, tool or day.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UsageGroup)]
struct ShownGroup {
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_name: Option<String>,
    /// Calls through the front doors, by the key that asked. By agents, a group without either is of people who asked by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    cost_usd: f64,
    calls: u64,
    tool_calls: u64,
    /// Runs that ended.
    runs: u64,
    succeeded: u64,
    failed: u64,
    tokens_in: u64,
    tokens_out: u64,
}

/// A day, as somebody names it.
struct Date(At);

impl FromStr for Date {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let date = text.len() == "2026-01-31".len();
        let at = if date { format!("{text}T00:00:00Z").parse() } else { text.parse() };
        at.map(Self).map_err(|_| ())
    }
}

/// What is asked about.
struct Asked {
    days: Days,
    by: By,
    table: bool,
}

impl Asked {
    fn of(params: &Params, headers: &HeaderMap) -> Result<Self> {
        let from = params.parsed::<Date>("from", DATE)?.map(|Date(at)| Period::Day.began(at));
        let to = params.parsed::<Date>("to", DATE)?.map(|Date(at)| at);
        let days = Days {
            from: from.unwrap_or(At::from_micros(i64::MIN)),
            to: to.unwrap_or(At::from_micros(i64::MAX)),
        };
        if days.to <= days.from {
            let words = "must be after `from`";
            return Err(Error::new(Code::InvalidQuery, format!("to: {words}")).with_field("to", words));
        }
        let by = match params.word("by", &BYS)? {
            Some("agent") => By::Owner,
            Some("model") => By::Model,
            Some("tool") => By::Tool,
            _ => By::Day,
        };
        let table = match params.word("format", &FORMATS)? {
            Some(format) => format == "csv",
            None => prefers_a_table(headers),
        };
        Ok(Self { days, by, table })
    }
}

/// Whether the first that is named of what there is is a table.
fn prefers_a_table(headers: &HeaderMap) -> bool {
    let said = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds = said.flat_map(|text| text.split(',')).filter_map(|part| part.split(';').next());
    let mut known =
        kinds.map(str::trim).filter(|kind| ["text/csv", "application/json", "*/*"].contains(kind));
    known.next() == Some("text/csv")
}

async fn read(
    permit: Permit<ReadUsage>,
    State(app): State<App>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response> {
    let scope = permit.scope();
    let asked = Asked::of(&params, &headers)?;
    let mut paging = Paging::of(&params)?;
    if asked.table && params.text("limit").is_none() {
        paging.limit = ROWS_MAX;
    }
    let skipped = paging.before.map_or(0, |(_, place)| u32::try_from(place.as_u128()).unwrap_or(u32::MAX));
    let part = Part { skipped, limit: paging.fetch() };
    let found = usage::groups(&app.db, scope, asked.days, asked.by, part).await?;
    let place = |(n, _): &(u32, Group)| (At::from_micros(0), Uuid::from_u128(u128::from(*n)));
    let numbered = (skipped.saturating_add(1)..).zip(found).collect();
    let (groups, page) = Page::cut(numbered, &paging, &params, place).split();
    let groups: Vec<Group> = groups.into_iter().map(|(_, group)| group).collect();
    let names = names(&app, scope, &groups).await?;
    let groups = groups.into_iter().map(|group| (group.sum.cost, shown(group, asked.by, &names)));
    if asked.table {
        let text = table(groups);
        let mut response = text.into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
        return Ok(page.leads(response));
    }
    let groups = groups.map(|(_, group)| group).collect();
    Ok(page.leads(Json(summary(&app, scope, &asked, groups).await?).into_response()))
}

async fn summary(app: &App, scope: Scope, asked: &Asked, groups: Vec<ShownGroup>) -> Result<Shown> {
    let now = app.clock.now();
    let (today, ever) = (Period::Day.began(now), At::from_micros(i64::MIN));
    let since = |from| Days { from, to: At::from_micros(i64::MAX) };
    let week = today - Dur::from_secs(6 * 86_400);
    let periods = Periods {
        today: counts(app, scope, Days { from: today, to: today + DAY }).await?.0,
        week: counts(app, scope, since(week)).await?.0,
        month: counts(app, scope, since(Period::Month.began(now))).await?.0,
        total: counts(app, scope, since(ever)).await?.0,
    };
    let top = usage::groups(&app.db, scope, since(ever), By::Agent, Part { skipped: 0, limit: TOP }).await?;
    let names = names(app, scope, &top).await?;
    let (sum, untold) = counts(app, scope, asked.days).await?;
    let untold = if asked.by == By::Day { MicroUsd::ZERO } else { untold };
    let by_agent = top.into_iter().map(|group| OfAgent {
        agent_name: group.owner.and_then(|owner| named(owner, &names)).unwrap_or_default(),
        cost_usd: group.sum.cost.to_wire(),
        runs: group.sum.runs,
        succeeded: group.sum.succeeded,
        failed: group.sum.failed,
    });
    Ok(Shown { periods, by_agent: by_agent.collect(), sum, untold_usd: untold.to_wire(), groups })
}

async fn counts(app: &App, scope: Scope, days: Days) -> Result<(Counts, MicroUsd)> {
    let used = usage::of(&app.db, scope, days).await?;
    let running = usage::open_runs(&app.db, scope, days).await?;
    let Sum { calls, tool_calls, runs, succeeded, failed, tokens_in, tokens_out, cost } = used.sum;
    let counts = Counts {
        cost_usd: cost.to_wire(),
        runs: runs.saturating_add(running),
        succeeded,
        failed,
        running,
        tokens_in,
        tokens_out,
        calls,
        tool_calls,
    };
    Ok((counts, used.untold))
}

type Names = BTreeMap<AgentId, String>;

async fn names(app: &App, scope: Scope, groups: &[Group]) -> Result<Names> {
    let agents = groups.iter().filter_map(|group| match group.owner {
        Some(Owner::Agent(id)) => Some(id),
        _ => None,
    });
    caps::names(app, scope, agents.collect::<BTreeSet<_>>()).await
}

fn named(owner: Owner, names: &Names) -> Option<String> {
    match owner {
        // Its row goes with its tenant alone.
        Owner::Agent(id) => Some(names.get(&id).cloned().unwrap_or_else(|| id.to_string())),
        Owner::Key(_) | Owner::Tenant => None,
    }
}

fn shown(group: Group, by: By, names: &Names) -> ShownGroup {
    let Group { owner, provider, name, day, sum } = group;
    let (model, tool) = if by == By::Tool { (None, name) } else { (name, None) };
    ShownGroup {
        day: day.map(date),
        agent_name: owner.and_then(|owner| named(owner, names)),
        api_key_id: owner.and_then(|owner| match owner {
            Owner::Key(id) => Some(id.to_string()),
            Owner::Agent(_) | Owner::Tenant => None,
        }),
        provider,
        model,
        tool,
        cost_usd: sum.cost.to_wire(),
        calls: sum.calls,
        tool_calls: sum.tool_calls,
        runs: sum.runs,
        succeeded: sum.succeeded,
        failed: sum.failed,
        tokens_in: sum.tokens_in,
        tokens_out: sum.tokens_out,
    }
}

/// `2026-01-31`.
fn date(at: At) -> String {
    at.to_string().chars().take("2026-01-31".len()).collect()
}

const HEADINGS: &str = "day,agentName,apiKeyId,provider,model,tool,calls,toolCalls,runs,succeeded,failed,tokensIn,tokensOut,costUsd\n";

fn table(groups: impl Iterator<Item = (MicroUsd, ShownGroup)>) -> String {
    let row = |(cost, group): (MicroUsd, ShownGroup)| {
        let text = |text: Option<String>| cell(&text.unwrap_or_default());
        let row = [
            text(group.day),
            text(group.agent_name),
            text(group.api_key_id),
            text(group.provider),
            text(group.model),
            text(group.tool),
            group.calls.to_string(),
            group.tool_calls.to_string(),
            group.runs.to_string(),
            group.succeeded.to_string(),
            group.failed.to_string(),
            group.tokens_in.to_string(),
            group.tokens_out.to_string(),
            cost.to_string().replace('$', ""),
        ];
        row.join(",") + "\n"
    };
    std::iter::once(HEADINGS.to_owned()).chain(groups.map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_sent_to_whoever_names_it_first() {
        for (accept, want) in [
            (&[][..], false),
            (&["*/*"], false),
            (&["text/csv"], true),
            (&["text/html, text/csv;q=0.9, */*"], true),
            (&["application/json, text/csv"], false),
            (&["text/html", "text/csv"], true),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(prefers_a_table(&headers), want, "{accept:?}");
        }
    }

    #[test]
    fn days_are_dates_or_times() {
        let day = |text: &str| text.parse::<Date>().ok().map(|Date(at)| at.to_string());
        assert_eq!(day("2026-01-31").as_deref(), Some("2026-01-31T00:00:00Z"));
        assert_eq!(day("2026-01-31T12:00:00Z").as_deref(), Some("2026-01-31T12:00:00Z"));
        for wrong in ["", "today", "2026-13-31", "2026-1-31", "31.01.2026"] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }
}
