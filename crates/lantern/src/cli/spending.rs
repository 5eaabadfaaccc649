//! `lantern calls` and `lantern caps`: what calls through the front doors cost, and what they may.

use clap::Args;
use lantern_types::{ApiKeyId, MicroUsd};
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{count, dollars, line, number, text, time, usd};
use crate::cli::table::Column;

const CALLS: &str = "/v1/calls";
const CAPS: &str = "/v1/settings/caps";
/// The word for no cap at all.
const NONE: &str = "none";

/// What a list says of a call.
const CALL: &[Column] = &[
    Column::whole("WHEN"),
    Column::spare("DOOR"),
    Column::text("MODEL"),
    Column::whole("END"),
    Column::whole("IN"),
    Column::whole("OUT"),
    Column::whole("COST"),
    Column::spare("MS"),
    Column::spare("WHY"),
    Column::spare("ID"),
];
/// What a list says of a cap.
const CAP: &[Column] = &[
    Column::whole("WHOSE"),
    Column::whole("PERIOD"),
    Column::whole("CAP"),
    Column::whole("SPENT"),
    Column::whole("HELD"),
    Column::spare("SINCE"),
    Column::spare("AT THE LIMIT"),
    Column::spare("ZONE"),
];

/// Flags of `lantern calls`.
#[derive(Debug, Args)]
pub(crate) struct CallsArgs {
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
}

/// Flags of `lantern caps`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without flags it shows what holds. A cap that is not named stays as it is. Days and months are those \
                  of UTC unless the owner of a cap has another time zone."
)]
pub(crate) struct CapsArgs {
    /// At most so many dollars a day, as in 5 or 0.50; none to bound nothing
    #[arg(long, value_name = "USD")]
    day: Option<String>,
    /// At most so many dollars a month; none to bound nothing
    #[arg(long, value_name = "USD")]
    month: Option<String>,
    /// Count days and months in this time zone, such as Europe/Berlin; none for UTC
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// What happens when an amount is reached: `stop`, or `ask` in the inbox whether runs may spend more
    #[arg(long, value_name = "WHAT", value_parser = ["ask", "stop"])]
    on_limit: Option<String>,
    /// What one API key may spend, and not all of the tenant
    #[arg(long, value_name = "ID")]
    key: Option<ApiKeyId>,
    /// What the runs of one agent may spend, and not all of the tenant
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    agent: Option<String>,
}

/// Lists calls.
pub(crate) async fn calls(console: &Console, api: &Api, args: &CallsArgs) -> Result<(), Failure> {
    let path = format!("{CALLS}?limit={}", args.limit);
    let Value::Array(calls) = api.fetch(Call::get(path)).await? else { return Err(api.stranger()) };
    if console.json() {
        return console.value(&Value::Array(calls));
    }
    if calls.is_empty() {
        console.note("no model was called through the front doors yet");
        return Ok(());
    }
    console.table(CALL, &calls.iter().map(call).collect::<Vec<_>>())
}

/// Shows caps, and sets them first when asked to.
pub(crate) async fn caps(console: &Console, api: &Api, args: &CapsArgs) -> Result<(), Failure> {
    let says =
        args.day.is_some() || args.month.is_some() || args.time_zone.is_some() || args.on_limit.is_some();
    let call = if says { Call::post(CAPS, wanted(args)?) } else { Call::get(CAPS) };
    let shown = api.fetch(call).await?;
    let Value::Array(mut caps) = shown else { return Err(api.stranger()) };
    if let Some(key) = args.key {
        caps.retain(|cap| text(cap, "apiKeyId") == key.to_string());
    }
    if let Some(agent) = &args.agent {
        caps.retain(|cap| text(cap, "agentName") == agent);
    }
    if console.json() {
        return console.value(&Value::Array(caps));
    }
    if caps.is_empty() {
        console.note("nothing bounds what is spent, and nothing was spent in this month");
        return Ok(());
    }
    console.table(CAP, &caps.iter().map(cap).collect::<Vec<_>>())
}

/// What is to hold: what is not said stays.
fn wanted(args: &CapsArgs) -> Result<Value, Failure> {
    let mut body = Map::new();
    for (name, flag, said) in
        [("maxCostUsdPerDay", "--day", &args.day), ("maxCostUsdPerMonth", "--month", &args.month)]
    {
        let Some(said) = said.as_deref() else { continue };
        if said == NONE {
            body.insert(name.to_owned(), Value::Null);
            continue;
        }
        let Some(amount) = MicroUsd::parse_usd(said) else {
            let words = format!("{flag}: expected dollars such as 5 or 0.50, or {NONE}");
            return Err(Failure::new(Exit::Usage, words));
        };
        body.insert(name.to_owned(), json!(amount.to_wire()));
    }
    if let Some(zone) = &args.time_zone {
        let zone = if zone == NONE { Value::Null } else { json!(zone) };
        body.insert("timeZone".to_owned(), zone);
    }
    if let Some(on_limit) = &args.on_limit {
        body.insert("onLimit".to_owned(), json!(on_limit));
    }
    if let Some(key) = args.key {
        body.insert("apiKeyId".to_owned(), json!(key));
    }
    if let Some(agent) = &args.agent {
        body.insert("agentName".to_owned(), json!(agent));
    }
    Ok(Value::Object(body))
}

fn call(call: &Value) -> Vec<String> {
    let cost = call.get("costUsd").map(dollars).unwrap_or_default();
    let (model, end) = match text(call, "kind") {
        "crash_charge" => ("(a process died)".to_owned(), "charged".to_owned()),
        _ => (
            format!("{}/{}", line(text(call, "provider")), line(text(call, "model"))),
            text(call, "end").to_owned(),
        ),
    };
    vec![
        time(text(call, "at")),
        line(text(call, "door")),
        model,
        end,
        count(number(call, "tokensIn")),
        count(number(call, "tokensOut")),
        usd(cost),
        number(call, "tookMs").to_string(),
        line(text(call, "why")),
        line(text(call, "id")),
    ]
}

fn cap(cap: &Value) -> Vec<String> {
    let amount = |name: &str| cap.get(name).map(dollars);
    let whose = match (text(cap, "apiKeyId"), text(cap, "agentName")) {
        ("", "") => text(cap, "scope").to_owned(),
        ("", agent) => format!("agent {}", line(agent)),
        (key, _) => format!("key {}", line(key)),
    };
    vec![
        whose,
        text(cap, "period").to_owned(),
        amount("maxCostUsd").map_or_else(|| NONE.to_owned(), usd),
        usd(amount("spentUsd").unwrap_or_default()),
        usd(amount("heldUsd").unwrap_or_default()),
        time(text(cap, "beganAt")),
        text(cap, "onLimit").to_owned(),
        text(cap, "timeZone").to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_are_read_or_refused() {
        let args = |day: Option<&str>, month: Option<&str>| CapsArgs {
            day: day.map(str::to_owned),
            month: month.map(str::to_owned),
            time_zone: None,
            on_limit: None,
            key: None,
            agent: None,
        };
        let body = |day, month| wanted(&args(day, month)).unwrap();
        assert_eq!(
            body(Some("5"), Some("none")),
            json!({"maxCostUsdPerDay": 5.0, "maxCostUsdPerMonth": null})
        );
        assert_eq!(body(None, Some("0.50")), json!({"maxCostUsdPerMonth": 0.5}));
        let mut agent = args(Some("5"), None);
        agent.agent = Some("digest".to_owned());
        assert_eq!(wanted(&agent).unwrap(), json!({"maxCostUsdPerDay": 5.0, "agentName": "digest"}));
        let mut zone = args(None, None);
        zone.time_zone = Some("Europe/Berlin".to_owned());
        assert_eq!(wanted(&zone).unwrap(), json!({"timeZone": "Europe/Berlin"}));
        zone.time_zone = Some("none".to_owned());
        assert_eq!(wanted(&zone).unwrap(), json!({"timeZone": null}));
        let mut asks = args(None, None);
        asks.on_limit = Some("ask".to_owned());
        assert_eq!(wanted(&asks).unwrap(), json!({"onLimit": "ask"}));
        for wrong in ["-1", "much", "0.0000001", "1e3"] {
            assert!(wanted(&args(Some(wrong), None)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_says_what_it_is_of() {
        let crash = call(&json!({"kind": "crash_charge", "costUsd": 0.25, "at": ""}));
        assert_eq!((crash[2].as_str(), crash[3].as_str()), ("(a process died)", "charged"));
        let shown = cap(&json!({"scope": "tenant", "period": "day", "spentUsd": 0.0, "heldUsd": 0.0}));
        assert_eq!(shown[..3], ["tenant", "day", "none"].map(str::to_owned));
        let shown =
            cap(&json!({"scope": "agent", "agentName": "digest", "period": "day", "maxCostUsd": 2.0}));
        assert_eq!(shown[..2], ["agent digest", "day"].map(str::to_owned));
    }
}
