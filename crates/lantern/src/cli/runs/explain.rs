//! `lantern runs explain`: which model each call of a run went to and why, who was left out, what was held for it, and which caps let
//! it pass or denied it.

use lantern_types::RunId;
use serde_json::{Value, json};

use crate::cli::api::Api;
use crate::cli::console::Console;
use crate::cli::export::every_event;
use crate::cli::failure::Failure;
use crate::cli::format::{dollars, line, text, usd};
use crate::cli::table::Column;

const DECISIONS: &[Column] = &[
    Column::whole("STEP"),
    Column::text("WHERE"),
    Column::text("WHY"),
    Column::text("LEFT OUT"),
    Column::whole("HELD"),
    Column::text("CAPS"),
];

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
            "priceSource": of("priceSource"), "holdUsd": of("holdUsd"), "choice": of("choice"), "budget": of("budget"),
            "accounts": of("accounts"),
        })),
        "step_denied" => Some(json!({
            "step": step, "denied": of("code"), "why": of("error"), "choice": of("choice"), "budget": of("budget"),
            "account": of("account"), "tool": of("tool"),
        })),
        "budget_asked" => {
            let (max, spent) = (usd(dollars(&of("maxCostUsd"))), usd(dollars(&of("spentUsd"))));
            let period = line(text(data, "period"));
            let why = format!("{spent} of {max} for the {period} are spent; people are asked");
            Some(json!({ "step": step, "budget": "asked", "why": why, "holdUsd": of("holdUsd") }))
        }
        "budget_answered" => {
            let by = text(data, "by");
            let more = data.get("moreUsd").filter(|more| !more.is_null()).map(|more| usd(dollars(more)));
            let why = match (text(data, "status"), more) {
                ("granted", Some(more)) => format!("{by} lets {more} more through"),
                ("granted", None) => format!("{by} lets the rest of the period through"),
                ("denied", _) => format!("{by} said no"),
                (_, _) => "nobody had to answer any more".to_owned(),
            };
            Some(json!({ "step": step, "budget": of("status"), "why": why }))
        }
        _ => None,
    }
}

fn row(decision: &Value) -> Vec<String> {
    let held = decision.get("holdUsd").map(|held| usd(dollars(held))).unwrap_or_default();
    let place = match (text(decision, "denied"), text(decision, "budget")) {
        ("", "") => format!("{}/{}", line(text(decision, "provider")), line(text(decision, "model"))),
        ("", budget) => format!("budget: {}", line(budget)),
        (code, _) => format!("denied: {}", line(code)),
    };
    let why = match text(decision, "why") {
        "" => "named",
        why => why,
    };
    vec![line(text(decision, "step")), place, line(why), left_out(decision), held, caps(decision)]
}

/// Who was left out, and why.
fn left_out(decision: &Value) -> String {
    let choice = decision.get("choice").unwrap_or(&Value::Null);
    let list = |name: &str| choice.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let way = |way: &Value| {
        let why = match text(way, "out") {
            "" => return None,
            "resting" => "did not answer lately",
            "tried" => "tried already",
            "over_budget" => "too dear for the run",
            "over_cap" => "too dear for a cap",
            "forbidden" => "forbidden by a policy",
            other => other,
        };
        let key =
            way.get("key").and_then(Value::as_u64).map(|key| format!(" (key {key})")).unwrap_or_default();
        Some(format!("{}/{}{key}: {}", line(text(way, "provider")), line(text(way, "model")), line(why)))
    };
    let keyless = list("keyless");
    let keyless = keyless.iter().filter_map(Value::as_str).map(|name| format!("{}: no key", line(name)));
    let more = choice.get("more").and_then(Value::as_u64).map(|more| format!("{more} more"));
    let all: Vec<String> = list("ways").iter().filter_map(way).chain(keyless).chain(more).collect();
    all.join(", ")
}

/// The caps that let it pass, or the one that denied it: what is spent and held of how much.
fn caps(decision: &Value) -> String {
    let stood = |name: String, of: &Value| {
        let amount = |name: &str| of.get(name).map(dollars).unwrap_or_default();
        let taken = amount("spentUsd").plus(amount("heldUsd")).unwrap_or_else(|_| amount("spentUsd"));
        let cap = amount("capUsd");
        // Somebody let the rest of the period through.
        let most = if cap.micros() > i64::MAX / 2 { "all that comes".to_owned() } else { usd(cap) };
        format!("{name} {} of {most}", usd(taken))
    };
    let run = decision.get("budget").filter(|budget| budget.is_object());
    let run = run.map(|budget| stood("run".to_owned(), budget));
    let accounts = decision.get("accounts").and_then(Value::as_array).into_iter().flatten();
    let denying = decision.get("account").filter(|account| account.is_object());
    let named = |of: &Value| stood(format!("{}'s {}", line(text(of, "of")), line(text(of, "period"))), of);
    let all: Vec<String> = run.into_iter().chain(accounts.chain(denying).map(named)).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_and_said_of_a_budget() {
        let asked = json!({"kind": "budget_asked", "stepId": "a", "data": {
            "period": "day", "maxCostUsd": 2, "spentUsd": 1.5, "holdUsd": 0.75}});
        let said = |data: Value| json!({"kind": "budget_answered", "stepId": "a", "data": data});
        for (event, want) in [
            (asked, ["budget: asked", "$1.50 of $2.00 for the day are spent; people are asked"]),
            (
                said(json!({"status": "granted", "by": "ada", "moreUsd": 3})),
                ["budget: granted", "ada lets $3.00 more through"],
            ),
            (
                said(json!({"status": "granted", "by": "ada", "moreUsd": null})),
                ["budget: granted", "ada lets the rest of the period through"],
            ),
            (said(json!({"status": "denied", "by": "ada"})), ["budget: denied", "ada said no"]),
            (said(json!({"status": "expired"})), ["budget: expired", "nobody had to answer any more"]),
        ] {
            assert_eq!(row(&decision(&event).unwrap())[1..3], want);
        }
    }

    #[test]
    fn what_an_event_decided() {
        let route =
            json!({"provider": "openai", "model": "gpt-4o", "why": "auto, cheap: 1 of 2", "holdUsd": 0.5});
        let event = json!({"seq": 2, "kind": "step_admitted", "stepId": "llm-1", "data": route});
        assert_eq!(
            row(&decision(&event).unwrap()),
            ["llm-1", "openai/gpt-4o", "auto, cheap: 1 of 2", "", "$0.50", ""]
        );
        let denied = json!({"kind": "step_denied", "stepId": "llm-2", "data": {"code": "price_unknown", "error": "no price"}});
        assert_eq!(
            row(&decision(&denied).unwrap()),
            ["llm-2", "denied: price_unknown", "no price", "", "", ""]
        );
        let named = json!({"kind": "step_admitted", "stepId": "llm-1", "data": {"provider": "p", "model": "m", "holdUsd": 0}});
        assert_eq!(row(&decision(&named).unwrap())[2], "named");
        let tool = json!({"kind": "step_admitted", "stepId": "t", "data": {"provider": null, "model": null}});
        assert_eq!(decision(&tool), None);
    }

    #[test]
    fn who_was_left_out_and_which_caps_there_were() {
        let account = json!({"of": "tenant", "period": "day", "capUsd": 2, "spentUsd": 0.5, "heldUsd": 0.25});
        let choice = json!({"keyless": ["far"], "more": 3, "ways": [
            {"provider": "a", "model": "m", "key": 2, "out": "resting"}, {"provider": "a", "model": "n", "out": "over_cap"},
            {"provider": "b", "model": "m"}]});
        let budget = json!({"capUsd": 1, "spentUsd": 0, "heldUsd": 0.1});
        let data =
            json!({"provider": "b", "model": "m", "choice": choice, "budget": budget, "accounts": [account]});
        let event = json!({"kind": "step_admitted", "stepId": "s", "data": data});
        let row_of = row(&decision(&event).unwrap());
        assert_eq!(
            row_of[3],
            "a/m (key 2): did not answer lately, a/n: too dear for a cap, far: no key, 3 more"
        );
        assert_eq!(row_of[5], "run $0.10 of $1.00, tenant's day $0.75 of $2.00");
        let data = json!({"code": "budget_exceeded", "error": "no", "budget": budget, "account": account});
        let event = json!({"kind": "step_denied", "stepId": "s", "data": data});
        assert_eq!(row(&decision(&event).unwrap())[5], "run $0.10 of $1.00, tenant's day $0.75 of $2.00");
    }
}
