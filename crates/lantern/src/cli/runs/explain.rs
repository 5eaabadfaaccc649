//! `lantern runs explain`: which model each call of a run went to and why, and what was held for it.

use lantern_types::RunId;
use serde_json::{Value, json};

use crate::cli::api::Api;
use crate::cli::console::Console;
use crate::cli::export::every_event;
use crate::cli::failure::Failure;
use crate::cli::format::{dollars, line, text, usd};
use crate::cli::table::Column;

const DECISIONS: &[Column] =
    &[Column::whole("STEP"), Column::text("WHERE"), Column::text("WHY"), Column::whole("HELD")];

/// Shows the decisions of a run.
pub(crate) async fn explain(console: &Console, api: &Api, run: RunId) -> Result<(), Failure> {
    let mut decisions: Vec<Value> = Vec::new();
    every_event(api, run, &mut |event| {
        decisions.extend(decision(event));
        Ok(())
    })
    .await?;
    if console.json() {
        return console.value(&Value::Array(decisions));
    }
    if decisions.is_empty() {
        console.note("nothing was decided in this run yet: it called no model, and nothing was denied");
        return Ok(());
    }
    console.table(DECISIONS, &decisions.iter().map(row).collect::<Vec<_>>())
}

/// What an event decided of where a call goes, or that it is not made.
fn decision(event: &Value) -> Option<Value> {
    let data = event.get("data").unwrap_or(event);
    let of = |name: &str| data.get(name).cloned().unwrap_or_default();
    let step = event.get("stepId").cloned().unwrap_or_default();
    match text(event, "kind") {
        "step_admitted" if data.get("model").is_some_and(Value::is_string) => Some(json!({
            "step": step, "provider": of("provider"), "model": of("model"), "why": of("why"),
            "priceSource": of("priceSource"), "holdUsd": of("holdUsd"),
        })),
        "step_denied" => Some(json!({ "step": step, "denied": of("code"), "why": of("error") })),
        _ => None,
    }
}

fn row(decision: &Value) -> Vec<String> {
    let held = decision.get("holdUsd").map(|held| usd(dollars(held))).unwrap_or_default();
    let place = match text(decision, "denied") {
        "" => format!("{}/{}", line(text(decision, "provider")), line(text(decision, "model"))),
        code => format!("denied: {}", line(code)),
    };
    let why = match text(decision, "why") {
        "" => "named",
        why => why,
    };
    vec![line(text(decision, "step")), place, line(why), held]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_event_decided() {
        let route =
            json!({"provider": "openai", "model": "gpt-4o", "why": "auto, cheap: 1 of 2", "holdUsd": 0.5});
        let event = json!({"seq": 2, "kind": "step_admitted", "stepId": "llm-1", "data": route});
        assert_eq!(
            row(&decision(&event).unwrap()),
            ["llm-1", "openai/gpt-4o", "auto, cheap: 1 of 2", "$0.50"]
        );
        let denied = json!({"kind": "step_denied", "stepId": "llm-2", "data": {"code": "price_unknown", "error": "no price"}});
        assert_eq!(row(&decision(&denied).unwrap()), ["llm-2", "denied: price_unknown", "no price", ""]);
        let named = json!({"kind": "step_admitted", "stepId": "llm-1", "data": {"provider": "p", "model": "m", "holdUsd": 0}});
        assert_eq!(row(&decision(&named).unwrap())[2], "named");
        let tool = json!({"kind": "step_admitted", "stepId": "t", "data": {"provider": null, "model": null}});
        assert_eq!(decision(&tool), None);
    }
}
