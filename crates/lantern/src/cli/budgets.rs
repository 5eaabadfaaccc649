//! `lantern budgets`: what the runs of an agent may spend in a day, in a month and each.

use clap::{Args, Subcommand};
use lantern_types::MicroUsd;
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call, encode};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{count, dollars, line, number, text, time, usd};
use crate::cli::table::Column;

const LIST: &str = "/v1/budgets";

const COLUMNS: &[Column] = &[
    Column::whole("AGENT"),
    Column::whole("A DAY"),
    Column::whole("TODAY"),
    Column::whole("A MONTH"),
    Column::whole("THIS MONTH"),
    Column::spare("A RUN"),
    Column::spare("WARNED"),
    Column::spare("SET"),
];

/// What can be done with budgets.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the budgets of agents, the one that was set last first
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show what one agent may spend, and what it spent
    Get {
        /// The agent's name
        agent: String,
    },
    /// Say what one agent may spend, in place of what was said before
    Set(SetArgs),
    /// Let an agent spend what its tenant may
    #[command(visible_alias = "rm")]
    Delete {
        /// The agent's name
        agent: String,
    },
}

/// Flags of `lantern budgets set`.
#[derive(Debug, Args)]
#[command(after_help = "What is not said bounds nothing any more. Days and months are those of UTC.")]
pub(crate) struct SetArgs {
    /// The agent's name
    agent: String,
    /// At most so many dollars a day, as in 5 or 0.50
    #[arg(long, value_name = "USD", required_unless_present_any = ["month", "run", "runs_per_day", "tool"])]
    day: Option<String>,
    /// At most so many dollars a month
    #[arg(long, value_name = "USD")]
    month: Option<String>,
    /// At most so many dollars for each run
    #[arg(long, value_name = "USD")]
    run: Option<String>,
    /// At most so many runs a day
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs_per_day: Option<u32>,
    /// At most so many calls of a tool a day, as in http.fetch=100; as often as there are tools
    #[arg(long, value_name = "TOOL=N", value_parser = times)]
    tool: Vec<(String, u32)>,
    /// Warn once when so many percent of a day's or month's amount are spent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    notify_at: Option<u8>,
    /// What happens when a day's or month's amount is reached: `stop`, or `ask` in the inbox whether more may be spent
    #[arg(long, value_name = "WHAT", value_parser = ["ask", "stop"])]
    on_limit: Option<String>,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { limit } => list(console, api, limit).await,
        Verb::Get { agent } => get(console, api, &agent).await,
        Verb::Set(args) => {
            api.fetch(Call::put(path(&args.agent), wanted(&args)?)).await?;
            get(console, api, &args.agent).await
        }
        Verb::Delete { agent } => {
            let done = api.fetch(Call::delete(path(&agent))).await?;
            console.answer(&done, || format!("{} has no budget of its own any more", line(&agent)))
        }
    }
}

fn path(agent: &str) -> String {
    format!("/v1/agents/{}/budget", encode(agent))
}

async fn list(console: &Console, api: &Api, limit: u32) -> Result<(), Failure> {
    let listed = api.list(LIST, limit).await?;
    if console.json() {
        return console.value(&Value::Array(listed.entries));
    }
    if listed.entries.is_empty() {
        console.note("no agent has a budget of its own; set one with `lantern budgets set`");
        return Ok(());
    }
    console.table(COLUMNS, &listed.entries.iter().map(row).collect::<Vec<_>>())?;
    console.more_from(listed.more, limit, listed.cursor.as_deref());
    Ok(())
}

async fn get(console: &Console, api: &Api, agent: &str) -> Result<(), Failure> {
    let budget = api.fetch(Call::get(path(agent))).await?;
    console.answer(&budget, || {
        let warned = warnings(&budget);
        fields(&[
            ("agent", text(&budget, "agentName").to_owned()),
            ("a day", amount(&budget, "maxCostUsdPerDay")),
            ("today", amount(&budget, "spentTodayUsd")),
            ("held", amount(&budget, "heldTodayUsd")),
            ("a month", amount(&budget, "maxCostUsdPerMonth")),
            ("this month", amount(&budget, "spentThisMonthUsd")),
            ("a run", amount(&budget, "maxCostUsdPerRun")),
            ("runs a day", runs(&budget)),
            ("tools a day", tools(&budget)),
            ("warns at", format!("{}%", number(&budget, "notifyAtPct"))),
            ("warned", warned),
            ("when reached", line(text(&budget, "onLimit"))),
            ("set", time(text(&budget, "updatedAt"))),
        ])
    })
}

fn amount(budget: &Value, name: &str) -> String {
    budget.get(name).map(|amount| usd(dollars(amount))).unwrap_or_default()
}

/// `3 of 20 today`
fn runs(budget: &Value) -> String {
    let most = budget.get("maxRunsPerDay").and_then(Value::as_u64);
    most.map(|most| format!("{} of {}", count(number(budget, "runsToday")), count(most))).unwrap_or_default()
}

/// `http.fetch 3 of 100`, of each tool that is bounded.
fn tools(budget: &Value) -> String {
    let limits = budget.get("toolLimits").and_then(Value::as_object).into_iter().flatten();
    let called = |tool: &str| budget.get("toolCallsToday").map_or(0, |calls| number(calls, tool));
    let shown = limits.map(|(tool, most)| {
        format!("{} {} of {}", line(tool), count(called(tool)), count(most.as_u64().unwrap_or_default()))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// `http.fetch=100`
fn times(said: &str) -> Result<(String, u32), String> {
    let read = said.split_once('=').and_then(|(tool, most)| Some((tool.to_owned(), most.parse().ok()?)));
    read.filter(|(tool, most)| !tool.is_empty() && *most > 0).ok_or_else(|| "expected TOOL=N".to_owned())
}

/// `day at $4.00`, of each period in which a warning was given.
fn warnings(budget: &Value) -> String {
    let warnings = budget.get("warnings").and_then(Value::as_array).into_iter().flatten();
    let shown = warnings
        .map(|warning| format!("{} at {}", line(text(warning, "period")), amount(warning, "spentUsd")));
    shown.collect::<Vec<_>>().join(", ")
}

fn row(budget: &Value) -> Vec<String> {
    vec![
        line(text(budget, "agentName")),
        amount(budget, "maxCostUsdPerDay"),
        amount(budget, "spentTodayUsd"),
        amount(budget, "maxCostUsdPerMonth"),
        amount(budget, "spentThisMonthUsd"),
        amount(budget, "maxCostUsdPerRun"),
        warnings(budget),
        time(text(budget, "updatedAt")),
    ]
}

/// What is to hold.
fn wanted(args: &SetArgs) -> Result<Value, Failure> {
    let mut body = Map::new();
    let amounts = [
        ("maxCostUsdPerDay", "--day", &args.day),
        ("maxCostUsdPerMonth", "--month", &args.month),
        ("maxCostUsdPerRun", "--run", &args.run),
    ];
    for (name, flag, said) in amounts {
        let Some(said) = said.as_deref() else { continue };
        let Some(amount) = MicroUsd::parse_usd(said).filter(|amount| *amount > MicroUsd::ZERO) else {
            let words = format!("{flag}: expected dollars such as 5 or 0.50, and more than nothing");
            return Err(Failure::new(Exit::Usage, words));
        };
        body.insert(name.to_owned(), json!(amount.to_wire()));
    }
    if let Some(runs) = args.runs_per_day {
        body.insert("maxRunsPerDay".to_owned(), json!(runs));
    }
    if !args.tool.is_empty() {
        let tools = args.tool.iter().map(|(tool, most)| (tool.clone(), json!(most)));
        body.insert("toolLimits".to_owned(), Value::Object(tools.collect()));
    }
    if let Some(percent) = args.notify_at {
        body.insert("notifyAtPct".to_owned(), json!(percent));
    }
    if let Some(on_limit) = &args.on_limit {
        body.insert("hardFail".to_owned(), json!(on_limit == "stop"));
        body.insert("onLimit".to_owned(), json!(on_limit));
    }
    Ok(Value::Object(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_read_or_refused() {
        let args = |day: Option<&str>, run: Option<&str>, on_limit: Option<&str>| SetArgs {
            agent: "a".to_owned(),
            day: day.map(str::to_owned),
            month: None,
            run: run.map(str::to_owned),
            runs_per_day: None,
            tool: Vec::new(),
            notify_at: Some(50),
            on_limit: on_limit.map(str::to_owned),
        };
        assert_eq!(
            wanted(&args(Some("5"), Some("0.25"), None)).unwrap(),
            json!({"maxCostUsdPerDay": 5.0, "maxCostUsdPerRun": 0.25, "notifyAtPct": 50})
        );
        for (on_limit, hard) in [("ask", false), ("stop", true)] {
            let body = wanted(&args(Some("5"), None, Some(on_limit))).unwrap();
            assert_eq!((&body["hardFail"], &body["onLimit"]), (&json!(hard), &json!(on_limit)));
        }
        let mut counts = args(None, None, None);
        counts.runs_per_day = Some(20);
        counts.tool = vec![times("calc=3").unwrap(), times("http.fetch=100").unwrap()];
        let body = wanted(&counts).unwrap();
        assert_eq!(
            (&body["maxRunsPerDay"], &body["toolLimits"]),
            (&json!(20), &json!({"calc": 3, "http.fetch": 100}))
        );
        for wrong in ["calc", "calc=", "=3", "calc=0", "calc=-1", "calc=1.5"] {
            assert!(times(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "0.00", "-1", "much", "0.0000001"] {
            assert!(wanted(&args(Some(wrong), None, None)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_says_what_is_left_and_what_was_warned_of() {
        let budget = json!({
            "agentName": "digest", "maxCostUsdPerDay": 5, "spentTodayUsd": 4.5, "spentThisMonthUsd": 9,
            "warnings": [{"period": "day", "spentUsd": 4.1}],
        });
        let shown = row(&budget);
        assert_eq!((shown[0].as_str(), shown[3].as_str()), ("digest", ""));
        assert!(shown[6].starts_with("day at $4.1"), "{}", shown[6]);
    }
}
