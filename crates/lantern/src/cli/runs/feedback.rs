//! `lantern runs rate`, `feedback` and `rehearse`: what people think of runs, and which are worth trying again.

use clap::Args;
use lantern_types::RunId;
use serde_json::{Map, Value, json};

use super::path;
use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{line, number, text, time};
use crate::cli::table::Column;

const FEEDBACK: &[Column] = &[
    Column::whole("WHEN"),
    Column::whole("SCORE"),
    Column::text("COMMENT"),
    Column::spare("BETTER"),
    Column::spare("SOURCE"),
];
const CASES: &[Column] = &[
    Column::whole("RUN"),
    Column::whole("STATUS"),
    Column::whole("SCORE"),
    Column::text("INPUT"),
    Column::spare("CREATED"),
];

/// Flags of `lantern runs rate`.
#[derive(Debug, Args)]
pub(crate) struct RateArgs {
    /// The run's id
    run: RunId,
    /// From 1, which is bad, to 5
    #[arg(long, value_name = "1-5", value_parser = clap::value_parser!(u8).range(1..=5))]
    score: u8,
    /// Why
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// What would have been better
    #[arg(long, value_name = "TEXT")]
    preferred: Option<String>,
}

/// Flags of `lantern runs rehearse`.
#[derive(Debug, Args)]
#[command(
    after_help = "It lists runs and starts none; `lantern runs fork` and `lantern runs replay` do. Without --failed and \
                        --low-score it lists both kinds."
)]
pub(crate) struct RehearseArgs {
    /// The agent
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// How far back: hours, days or weeks
    #[arg(long, value_name = "TIME", default_value = "7d")]
    window: String,
    /// Runs that failed
    #[arg(long)]
    failed: bool,
    /// Runs that somebody gave 1 or 2
    #[arg(long)]
    low_score: bool,
    /// At most this many
    #[arg(long, default_value_t = 25, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
}

pub(super) async fn rate(console: &Console, api: &Api, args: RateArgs) -> Result<(), Failure> {
    let mut body =
        Map::from_iter([("score".to_owned(), json!(args.score)), ("source".to_owned(), json!("cli"))]);
    body.extend(args.comment.map(|comment| ("comment".to_owned(), json!(comment))));
    body.extend(args.preferred.map(|preferred| ("preferredOutput".to_owned(), json!(preferred))));
    let kept = api.fetch(Call::post(format!("{}/feedback", path(args.run)), Value::Object(body))).await?;
    console.answer(&kept, || format!("gave the run {} a {}", args.run, args.score))
}

pub(super) async fn feedback(console: &Console, api: &Api, run: RunId) -> Result<(), Failure> {
    let Value::Array(all) = api.fetch(Call::get(format!("{}/feedback", path(run)))).await? else {
        return Err(api.stranger());
    };
    if console.json() {
        return console.value(&Value::Array(all));
    }
    if all.is_empty() {
        console.note("nobody has said anything of this run yet");
        return Ok(());
    }
    let row = |found: &Value| {
        let column = |name: &str| line(text(found, name));
        let score = number(found, "score").to_string();
        vec![
            time(text(found, "createdAt")),
            score,
            column("comment"),
            column("preferredOutput"),
            column("source"),
        ]
    };
    console.table(FEEDBACK, &all.iter().map(row).collect::<Vec<_>>())
}

pub(super) async fn rehearse(console: &Console, api: &Api, args: RehearseArgs) -> Result<(), Failure> {
    let body = json!({ "agentName": args.agent, "window": args.window, "includeFailures": args.failed,
        "includeLowScore": args.low_score, "limit": args.limit });
    let found = api.fetch(Call::post("/v1/runs/rehearse", body)).await?;
    if console.json() {
        return console.value(&found);
    }
    let cases = found.get("cases").and_then(Value::as_array).cloned().unwrap_or_default();
    if cases.is_empty() {
        console.note(&line(text(&found, "reason")));
        return Ok(());
    }
    console.table(CASES, &cases.iter().map(case).collect::<Vec<_>>())
}

fn case(case: &Value) -> Vec<String> {
    let score = case.get("originalScore").and_then(Value::as_u64);
    let input = case.get("input").map(Value::to_string).unwrap_or_default();
    vec![
        text(case, "originalRunId").to_owned(),
        text(case, "originalStatus").to_owned(),
        score.map(|score| score.to_string()).unwrap_or_default(),
        line(&input),
        time(text(case, "originalAt")),
    ]
}
