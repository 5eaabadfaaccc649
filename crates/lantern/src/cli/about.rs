//! `lantern tools` and `lantern limits`: what a server offers to agents, and how much of everything it allows.
//!
//! Shows what the server says and decides nothing.

use lantern_types::{Dur, MicroUsd};
use serde_json::Value;

use crate::cli::api::{Api, Call, mebibytes};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::format::{count, duration, line, text, usd};
use crate::cli::table::Column;

/// What a list says of a tool.
const TOOLS: &[Column] = &[Column::whole("NAME"), Column::whole("EFFECT"), Column::text("DESCRIPTION")];
/// What a list says of a limit.
const LIMITS: &[Column] = &[Column::whole("NAME"), Column::whole("LIMIT"), Column::spare("USUALLY")];

/// Lists the tools that agents may use.
pub(crate) async fn tools(console: &Console, api: &Api) -> Result<(), Failure> {
    let Value::Array(tools) = api.fetch(Call::get("/v1/tools")).await? else { return Err(api.stranger()) };
    if console.json() {
        return console.value(&Value::Array(tools));
    }
    let row = |tool: &Value| ["name", "effect", "description"].map(|name| line(text(tool, name))).to_vec();
    console.table(TOOLS, &tools.iter().map(row).collect::<Vec<_>>())
}

/// Lists the limits in force, and what they are where nobody says otherwise.
pub(crate) async fn limits(console: &Console, api: &Api) -> Result<(), Failure> {
    let told = api.fetch(Call::get("/v1/limits")).await?;
    if console.json() {
        return console.value(&told);
    }
    console.table(LIMITS, &rows(&told))
}

fn rows(told: &Value) -> Vec<Vec<String>> {
    let limits = told.get("limits").and_then(Value::as_object).into_iter().flatten();
    let usual = |name: &str| told.get("defaults").and_then(|defaults| defaults.get(name));
    let row = |(name, value): (&String, &Value)| {
        let usual = usual(name).filter(|usual| *usual != value).map(|usual| shown(name, usual));
        vec![line(name), shown(name, value), usual.unwrap_or_default()]
    };
    limits.map(row).collect()
}

/// A limit as people read it. The API has times in microseconds, money in millionths of a dollar and sizes in bytes, and
/// the names say which is which.
fn shown(name: &str, value: &Value) -> String {
    let Some(number) = value.as_i64() else { return line(&value.to_string()) };
    let whole = u64::try_from(number).unwrap_or_default();
    if name.contains("Bytes") {
        return if whole < 1 << 20 { format!("{} bytes", count(whole)) } else { mebibytes(whole) };
    }
    if name.contains("Cost") {
        return usd(MicroUsd::from_micros(number));
    }
    if name.contains("Timeout") || name == "waitMax" {
        return duration(Dur::from_micros(number));
    }
    count(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lantern_types::Limits;
    use serde_json::json;

    #[test]
    fn limits_have_their_units() {
        let defaults = serde_json::to_value(Limits::default()).unwrap();
        let mut limits = defaults.clone();
        limits["inputBytesMax"] = json!(1 << 20);
        let rows = rows(&json!({ "limits": limits, "defaults": defaults }));
        let row = |name: &str| rows.iter().find(|row| row[0] == name).unwrap()[1..].to_vec();
        for (name, want) in [
            ("stepsPerRunMax", ["2,000", ""]),
            ("inputBytesMax", ["1.0 MiB", "4.0 MiB"]),
            ("stepTimeoutMax", ["1h 00m", ""]),
            ("waitMax", ["8784h 00m", ""]),
            ("runCostDefault", ["$5.00", ""]),
            ("runCostMax", ["$100.00", ""]),
        ] {
            assert_eq!(row(name), want, "{name}");
        }
        assert_eq!(rows.len(), defaults.as_object().unwrap().len());
    }
}
