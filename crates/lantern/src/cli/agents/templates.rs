//! `lantern agents templates`, `from-template` and `feedback`: agents to begin with, and what people think of their runs.

use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::{Console, fields};
use crate::cli::failure::Failure;
use crate::cli::format::{dollars, line, number, text, usd};
use crate::cli::table::Column;

const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::text("DESCRIPTION"),
    Column::spare("MODEL"),
    Column::whole("A RUN"),
    Column::whole("A DAY"),
];

pub(super) async fn list(console: &Console, api: &Api) -> Result<(), Failure> {
    let Value::Array(all) = api.fetch(Call::get("/v1/agents/templates")).await? else {
        return Err(api.stranger());
    };
    if console.json() {
        return console.value(&Value::Array(all));
    }
    console.table(COLUMNS, &all.iter().map(row).collect::<Vec<_>>())
}

fn row(template: &Value) -> Vec<String> {
    let column = |name: &str| line(text(template, name));
    let amount = |name: &str| template.get(name).map(|amount| usd(dollars(amount))).unwrap_or_default();
    let (run, day) = (amount("maxCostUsdPerRun"), amount("maxCostUsdDay"));
    vec![column("id"), column("description"), column("model"), run, day]
}

pub(super) async fn make(
    console: &Console,
    api: &Api,
    template: String,
    name: Option<String>,
) -> Result<(), Failure> {
    let mut body = Map::from_iter([("templateId".to_owned(), json!(template))]);
    body.extend(name.map(|name| ("name".to_owned(), json!(name))));
    let made = api.fetch(Call::post("/v1/agents/from-template", Value::Object(body))).await?;
    let name = made.get("agent").map(|agent| line(text(agent, "name"))).unwrap_or_default();
    console.answer(&made, || {
        format!("made the agent {name} from the template {}", line(text(&made, "templateId")))
    })?;
    if !console.json() {
        console.note(&format!("run it: lantern runs create --agent {name} --input '…' --follow"));
    }
    Ok(())
}

pub(super) async fn feedback(console: &Console, api: &Api, path: &str) -> Result<(), Failure> {
    let found = api.fetch(Call::get(format!("{path}/feedback"))).await?;
    console.answer(&found, || summary(&found))
}

fn summary(found: &Value) -> String {
    let score = |name: &str| found.get(name).and_then(Value::as_f64).map(|score| format!("{score:.2}"));
    fields(&[
        ("agent", line(text(found, "agentName"))),
        ("feedback", number(found, "totalFeedback").to_string()),
        ("average", score("avgScore").unwrap_or_default()),
        ("last 7 days", score("last7DaysAvgScore").unwrap_or_default()),
        ("up", number(found, "thumbsUp").to_string()),
        ("down", number(found, "thumbsDown").to_string()),
        ("better said", number(found, "runsWithPreferredOutput").to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_leaves_out_what_nobody_knows() {
        let none = summary(&json!({"agentName": "a", "totalFeedback": 0, "thumbsUp": 0, "thumbsDown": 0,
            "runsWithPreferredOutput": 0}));
        assert!(!none.contains("average") && none.contains("feedback     0"), "{none}");
        let some = summary(&json!({"agentName": "a", "totalFeedback": 3, "avgScore": 2.67, "thumbsUp": 1,
            "thumbsDown": 1, "runsWithPreferredOutput": 1}));
        assert!(some.contains("average      2.67"), "{some}");
        let template =
            json!({"id": "basic", "description": "d", "maxCostUsdDay": 1.0, "maxCostUsdPerRun": 0.25});
        assert_eq!(row(&template)[3..], [usd(dollars(&json!(0.25))), usd(dollars(&json!(1.0)))]);
    }
}
