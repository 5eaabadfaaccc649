//! `lantern costs`: what was spent, as a chart in the terminal.

use clap::{Args, ValueEnum};
use lantern_types::MicroUsd;
use serde_json::{Value, json};

use crate::cli::api::{Api, Call, encode};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{count, dollars, line, number, text, usd};
use crate::cli::table::Column;

const PATH: &str = "/v1/usage";
/// Bars are so many columns wide at the most.
const BAR: u64 = 24;
/// What a server is asked for at once.
const PAGE: usize = 100;

const COLUMNS: &[Column] = &[
    Column::text("WHAT"),
    Column::spare("SHARE"),
    Column::whole("COST"),
    Column::spare("CALLS"),
    Column::spare("TOOLS"),
    Column::spare("RUNS"),
    Column::spare("IN"),
    Column::spare("OUT"),
];

/// By what costs are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Agent,
    Model,
    Tool,
    Day,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Tool => "tool",
            Self::Day => "day",
        }
    }
}

/// Flags of `lantern costs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Costs are those of calls of models, by runs and through the front doors. Days are those of UTC. Tools cost nothing by \
                  themselves; their calls are counted."
)]
pub(crate) struct CostsArgs {
    /// What they are told apart by
    #[arg(long, value_enum, default_value_t = By::Day, hide_possible_values = true, value_name = "agent|model|tool|day")]
    by: By,
    /// Only from this day on, as in 2026-01-31
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Only days before this one
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// At most so many lines
    #[arg(long, default_value_t = 31, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Shows what was spent.
pub(crate) async fn run(console: &Console, api: &Api, args: &CostsArgs) -> Result<(), Failure> {
    let limit = args.limit as usize;
    let days = [("from", &args.from), ("to", &args.to)].into_iter();
    let days = days.filter_map(|(name, day)| day.as_ref().map(|day| format!("&{name}={}", encode(day))));
    let path = format!("{PATH}?by={}{}", args.by.word(), days.collect::<String>());
    let (mut groups, mut cursor) = (Vec::new(), None::<String>);
    let mut usage = loop {
        let page = (limit - groups.len()).min(PAGE);
        let from = cursor.as_ref().map(|cursor| format!("&cursor={}", encode(cursor))).unwrap_or_default();
        let mut reply = api.send(Call::get(format!("{path}&limit={page}{from}"))).await?;
        let Some(Value::Array(found)) = reply.body.get_mut("groups").map(Value::take) else {
            return Err(api.stranger());
        };
        groups.extend(found);
        let same = reply.cursor == cursor;
        cursor = reply.cursor.filter(|_| !same);
        if groups.len() >= limit || cursor.is_none() {
            break reply.body;
        }
    };
    if console.json() {
        if let Some(usage) = usage.as_object_mut() {
            usage.insert("groups".to_owned(), Value::Array(groups));
        }
        return console.value(&usage);
    }
    console.say(&periods(&usage))?;
    if groups.is_empty() {
        console.note("nothing was used in that time");
        return Ok(());
    }
    console.say("")?;
    console.table(COLUMNS, &chart(args.by, &usage, &groups))?;
    console.more(cursor.is_some(), args.limit);
    Ok(())
}

/// `today $1.00, 7 days $2.00, this month $3.00, in all $4.00`
fn periods(usage: &Value) -> String {
    let names = [("today", "today"), ("week", "7 days"), ("month", "this month"), ("total", "in all")];
    let cost = |key: &str| usage.pointer(&format!("/periods/{key}/costUsd")).map(dollars).unwrap_or_default();
    let shown = names.map(|(key, name)| format!("{name} {}", usd(cost(key))));
    shown.join(", ")
}

/// A line for each group, and one for what no group tells of. Days go on downwards.
fn chart(by: By, usage: &Value, groups: &[Value]) -> Vec<Vec<String>> {
    let untold = usage.get("untoldUsd").map(dollars).unwrap_or_default();
    let rest = json!({ "untold": true, "costUsd": usage.get("untoldUsd") });
    let rest = (untold != MicroUsd::ZERO && by != By::Tool).then_some(&rest);
    let mut groups: Vec<&Value> = groups.iter().collect();
    if by == By::Day {
        groups.reverse();
    }
    let groups: Vec<&Value> = groups.into_iter().chain(rest).collect();
    let weigh = |group: &Value| match by {
        By::Tool => number(group, "toolCalls"),
        By::Agent | By::Model | By::Day => {
            u64::try_from(group.get("costUsd").map(dollars).unwrap_or_default().micros()).unwrap_or_default()
        }
    };
    let most = groups.iter().map(|group| weigh(group)).max().unwrap_or_default();
    groups.iter().map(|group| row(group, bar(weigh(group), most))).collect()
}

fn row(group: &Value, bar: String) -> Vec<String> {
    vec![
        what(group),
        bar,
        usd(group.get("costUsd").map(dollars).unwrap_or_default()),
        count(number(group, "calls")),
        count(number(group, "toolCalls")),
        count(number(group, "runs")),
        count(number(group, "tokensIn")),
        count(number(group, "tokensOut")),
    ]
}

fn what(group: &Value) -> String {
    if group.get("untold").is_some() {
        return "(servers that died)".to_owned();
    }
    let model = text(group, "model");
    if !model.is_empty() {
        return format!("{}/{}", line(text(group, "provider")), line(model));
    }
    let named =
        ["day", "agentName", "tool"].into_iter().map(|name| text(group, name)).find(|name| !name.is_empty());
    match (named, text(group, "apiKeyId")) {
        (Some(name), _) => line(name),
        (None, "") => "(people)".to_owned(),
        (None, key) => format!("key {}", line(key)),
    }
}

/// A bar as long as its part of the longest, in eighths of a column; what is more than nothing is seen.
fn bar(part: u64, most: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let Some(eighths) = (u128::from(part) * u128::from(BAR) * 8).checked_div(u128::from(most)) else {
        return String::new();
    };
    let eighths = usize::try_from(eighths.max(u128::from(part > 0))).unwrap_or_default();
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS.get(eighths % 8).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_part() {
        for (part, most, want) in [
            (0, 0, ""),
            (0, 10, ""),
            (10, 10, "████████████████████████"),
            (5, 10, "████████████"),
            (1, 24, "█"),
            (1, 48, "▌"),
            (1, u64::MAX, "▏"),
            (u64::MAX, u64::MAX, "████████████████████████"),
        ] {
            assert_eq!(bar(part, most), want, "{part} of {most}");
        }
    }

    #[test]
    fn a_chart_says_whose_it_is_and_leaves_nothing_out() {
        let groups = [
            json!({"agentName": "digest", "costUsd": 0.002, "calls": 2, "runs": 1, "tokensIn": 30, "tokensOut": 4}),
            json!({"apiKeyId": "k", "costUsd": 0.001, "calls": 1}),
            json!({"costUsd": 0.0, "calls": 1}),
        ];
        let rows = chart(By::Agent, &json!({"untoldUsd": 0.0005}), &groups);
        let told: Vec<(&str, &str)> = rows.iter().map(|row| (row[0].as_str(), row[2].as_str())).collect();
        assert_eq!(
            told.iter().map(|(what, _)| *what).collect::<Vec<_>>(),
            ["digest", "key k", "(people)", "(servers that died)"]
        );
        assert_eq!(rows[0][1].chars().count(), 24);
        assert_eq!(rows[3][1].chars().count(), 6, "a quarter of the most");
        let days = [json!({"day": "2026-02-02", "costUsd": 1}), json!({"day": "2026-02-01", "costUsd": 2})];
        let rows = chart(By::Day, &json!({"untoldUsd": 0}), &days);
        assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["2026-02-01", "2026-02-02"]);
        let model = json!({"provider": "openai", "model": "gpt-4o", "costUsd": 1});
        assert_eq!(what(&model), "openai/gpt-4o");
    }
}
