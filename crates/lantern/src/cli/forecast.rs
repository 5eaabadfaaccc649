//! `lantern forecast`: what a run would probably cost, and how good such forecasts were.

use clap::Args;
use http::StatusCode;
use lantern_types::MicroUsd;
use serde_json::{Map, Value};

use crate::cli::api::{Api, Call};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{count, dollars, line, number, text, usd};
use crate::cli::input;

/// Flags of `lantern forecast`.
#[derive(Debug, Args)]
#[command(
    after_help = "The interval is to hold nine of ten runs. --backtest shows for how many of the agent's past runs it did, \
                        each forecast from the runs before it.\n\n\
                        The exit code is 1 when the run would probably pass what it may cost."
)]
pub(crate) struct ForecastArgs {
    /// The agent that would run
    #[arg(value_name = "AGENT", required_unless_present = "named")]
    agent: Option<String>,
    /// The same as a flag
    #[arg(long = "agent", id = "named", value_name = "NAME", conflicts_with = "agent")]
    named: Option<String>,
    /// What the run would get: JSON, text, @file, or @- for standard input
    #[arg(long, value_name = "JSON|TEXT|@FILE")]
    input: Option<String>,
    /// The model that would be asked, if not the agent's own
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Show how forecasts of past runs held
    #[arg(long)]
    backtest: bool,
}

/// Shows a forecast.
pub(crate) async fn run(console: &Console, api: &Api, args: &ForecastArgs) -> Result<Exit, Failure> {
    let mut body = Map::new();
    let agent = args.agent.as_deref().or(args.named.as_deref()).unwrap_or_default();
    body.insert("agentName".into(), agent.into());
    if let Some(argument) = &args.input {
        let read = input::read(argument, std::io::stdin())?;
        read.note.iter().for_each(|note| console.warn(note));
        body.insert("input".into(), input::as_input(&read)?);
    }
    if let Some(model) = &args.model {
        body.insert("model".into(), model.as_str().into());
    }
    let call = Call::post("/v1/runs/forecast", body.into()).or(StatusCode::PAYMENT_REQUIRED);
    let forecast = api.fetch(call).await?;
    console.answer(&forecast, || if args.backtest { backtest(&forecast) } else { told(&forecast) })?;
    let over = forecast.get("wouldExceedBudget") == Some(&Value::Bool(true));
    if over {
        console.warn(&line(text(&forecast, "blockReason")));
    } else if forecast.get("drift") == Some(&Value::Bool(true)) {
        console
            .note("what this agent's runs cost has changed lately; the interval goes by the runs since then");
    }
    Ok(if over && !args.backtest { Exit::Failed } else { Exit::Ok })
}

fn told(forecast: &Value) -> String {
    let amount = |value: Option<&Value>| value.map(dollars).unwrap_or_default();
    let interval = forecast.get("interval");
    let bound = |name: &str| amount(interval.and_then(|interval| interval.get(name)));
    let (low, high) = (bound("lowUsd"), bound("highUsd"));
    let cost = forecast.get("estimatedCostUsd").map_or_else(
        || "unknown: nobody who is configured serves the model, or it has no price".to_owned(),
        |cost| usd(dollars(cost)),
    );
    let tokens = match (forecast.get("estimatedTokensIn"), forecast.get("estimatedTokensOut")) {
        (Some(_), Some(_)) => {
            let of = |name: &str| count(number(forecast, name));
            format!("{} in, {} out", of("estimatedTokensIn"), of("estimatedTokensOut"))
        }
        _ => String::new(),
    };
    let model = [text(forecast, "provider"), text(forecast, "model")];
    let model: Vec<String> = model.iter().filter(|part| !part.is_empty()).map(|part| line(part)).collect();
    fields(&[
        ("agent", line(text(forecast, "agentName"))),
        ("model", model.join("/")),
        ("cost", cost),
        ("nine of ten", format!("{} to {}", usd(low), usd(high))),
        ("held", held(forecast)),
        ("tokens", tokens),
        ("basis", basis(forecast)),
        ("may cost", usd(amount(forecast.get("maxCostUsd")))),
    ])
}

/// What it was learned from.
fn basis(forecast: &Value) -> String {
    let runs = forecast.get("reasoning").map_or(0, |reasoning| number(reasoning, "historical_runs"));
    let confidence = forecast.get("confidence").and_then(Value::as_f64).unwrap_or_default();
    let from = match (text(forecast, "basis"), runs) {
        ("history", runs) => format!("{} runs of this agent", count(runs)),
        (_, 0) => "prices alone: the agent has not run yet".to_owned(),
        (_, runs) => format!("prices, because {} runs are too few to learn from", count(runs)),
    };
    format!("{from} (confidence {confidence:.2})")
}

/// How the intervals before this one did.
fn held(forecast: &Value) -> String {
    let Some(interval) = forecast.get("interval") else { return String::new() };
    let Some(coverage) = interval.get("coverage").and_then(Value::as_f64) else { return String::new() };
    format!("{:.1} % of {} past runs", coverage * 100.0, count(number(interval, "tried")))
}

fn backtest(forecast: &Value) -> String {
    let interval = forecast.get("interval").cloned().unwrap_or_default();
    let Some(coverage) = interval.get("coverage").and_then(Value::as_f64) else {
        return "too few runs to tell: a forecast is learned from eight runs on".to_owned();
    };
    let width: MicroUsd = interval.get("meanWidthUsd").map(dollars).unwrap_or_default();
    let changed = forecast.get("drift") == Some(&Value::Bool(true));
    fields(&[
        ("agent", line(text(forecast, "agentName"))),
        ("runs", count(number(&interval, "tried"))),
        ("held", format!("{:.1} % (90 % wanted)", coverage * 100.0)),
        ("mean width", usd(width)),
        ("changed", if changed { "within the last 50 runs".to_owned() } else { "no".to_owned() }),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_forecast_says_what_it_is_from_and_how_good_it_was() {
        let learned = json!({
            "agentName": "digest", "provider": "openai", "model": "gpt-4o", "estimatedTokensIn": 1200,
            "estimatedTokensOut": 90, "estimatedCostUsd": 0.02, "confidence": 0.6, "basis": "history",
            "interval": { "lowUsd": 0.01, "highUsd": 0.04, "coverage": 0.915, "tried": 92, "meanWidthUsd": 0.03 },
            "drift": false, "reasoning": { "historical_runs": 100 }, "maxCostUsd": 5.0
        });
        let said = told(&learned);
        for part in ["openai/gpt-4o", "91.5 % of 92 past runs", "100 runs of this agent (confidence 0.60)"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(backtest(&learned).contains("91.5 % (90 % wanted)"));
        let prior = json!({
            "agentName": "new", "model": "auto", "confidence": 0.0, "basis": "prior", "maxCostUsd": 5.0,
            "interval": { "lowUsd": 0.0, "highUsd": 5.0, "tried": 0 }, "reasoning": { "historical_runs": 0 }
        });
        assert!(told(&prior).contains("prices alone"), "{}", told(&prior));
        assert!(backtest(&prior).contains("too few runs"));
    }
}
