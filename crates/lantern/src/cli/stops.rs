//! `lantern stop` and `lantern stops`: emergency stops of an agent or of the tenant, over the API.
//!
//! A stop of the whole server is the operator's: `lantern stop --server` does not come here.

use clap::Subcommand;
use lantern_types::{At, StopId};
use serde_json::{Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::{Console, fields};
use crate::cli::failure::Failure;
use crate::cli::format::{line, text, time};
use crate::cli::table::Column;

const PATH: &str = "/v1/stops";

/// What a list says of a stop.
const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::whole("SCOPE"),
    Column::text("AGENT"),
    Column::whole("STATUS"),
    Column::text("REASON"),
    Column::text("BY"),
    Column::whole("SET"),
    Column::spare("LIFTED"),
];

/// What a history says of one thing that happened.
const HISTORY: &[Column] = &[
    Column::whole("WHEN"),
    Column::whole("WHAT"),
    Column::text("BY"),
    Column::whole("SCOPE"),
    Column::text("AGENT"),
    Column::text("REASON"),
    Column::spare("ID"),
];

/// What can be done with emergency stops.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List emergency stops, the newest first, those that were lifted too
    List {
        /// Only those that hold
        #[arg(long)]
        holding: bool,
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// List who set and who lifted emergency stops, one line each, the newest first
    #[command(
        after_help = "A stop is kept for good, with who set and who lifted it. The audit log has the same requests, each with the hash of \
                      all before it: `lantern audit list --action stops.set --action stops.lift`."
    )]
    History {
        /// Of at most this many stops
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show one emergency stop
    Get {
        /// The stop's id
        stop: StopId,
    },
    /// Lift an emergency stop: the runs that it halted go on
    Lift {
        /// The stop's id
        stop: StopId,
    },
}

/// A stop that is to be set.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Whose runs; `None` for all of the tenant.
    pub(crate) agent: Option<String>,
    /// Why.
    pub(crate) reason: String,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { holding, limit } => list(console, api, holding, limit).await,
        Verb::History { limit } => history(console, api, limit).await,
        Verb::Get { stop } => {
            let stop = api.fetch(Call::get(format!("{PATH}/{stop}"))).await?;
            console.answer(&stop, || described(&stop))
        }
        Verb::Lift { stop } => {
            api.send(Call::delete(format!("{PATH}/{stop}"))).await?;
            console.answer(&json!({ "id": stop, "lifted": true }), || {
                format!("lifted the emergency stop {stop}: what it halted goes on")
            })
        }
    }
}

/// Sets a stop.
pub(crate) async fn set(console: &Console, api: &Api, asked: Asked) -> Result<(), Failure> {
    let scope = if asked.agent.is_some() { "agent" } else { "tenant" };
    let body = json!({ "scope": scope, "agentName": asked.agent, "reason": asked.reason });
    let stop = api.fetch(Call::post(PATH, body)).await?;
    console.answer(&stop, || {
        let id = line(text(&stop, "id"));
        format!("{} is halted: lift it with `lantern stops lift {id}`", halted(&stop))
    })
}

/// What a stop halts, in words.
pub(crate) fn halted(stop: &Value) -> String {
    match text(stop, "scope") {
        "agent" => format!("all spending of the agent {}", line(text(stop, "agentName"))),
        "server" => "all spending of the server".to_owned(),
        _ => "all spending of the tenant".to_owned(),
    }
}

async fn list(console: &Console, api: &Api, holding: bool, limit: u32) -> Result<(), Failure> {
    let path = if holding { "/v1/stops?status=holding" } else { PATH };
    let listed = api.list(path, limit).await?;
    let stops = listed.entries;
    if console.json() {
        console.value(&Value::Array(stops))?;
    } else if stops.is_empty() {
        console.note(if holding { "no emergency stop holds" } else { "there was no emergency stop yet" });
    } else {
        console.table(COLUMNS, &stops.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(listed.more, limit);
    Ok(())
}

async fn history(console: &Console, api: &Api, limit: u32) -> Result<(), Failure> {
    let listed = api.list(PATH, limit).await?;
    let events = events(&listed.entries);
    if console.json() {
        console.value(&Value::Array(events))?;
    } else if events.is_empty() {
        console.note("there was no emergency stop yet");
    } else {
        console.table(HISTORY, &events.iter().map(event).collect::<Vec<_>>())?;
    }
    console.more(listed.more, limit);
    Ok(())
}

/// What happened to these stops, the newest first.
fn events(stops: &[Value]) -> Vec<Value> {
    let mut events = Vec::new();
    for stop in stops {
        for (what, by, at) in [("set", "setBy", "setAt"), ("lifted", "liftedBy", "liftedAt")] {
            let Some(at) = stop.get(at).and_then(Value::as_str) else { continue };
            events.push(json!({ "at": at, "event": what, "by": text(stop, by), "stopId": text(stop, "id"),
                "scope": text(stop, "scope"), "agentName": stop.get("agentName"), "reason": text(stop, "reason") }));
        }
    }
    let moment = |event: &Value| text(event, "at").parse::<At>().unwrap_or_default();
    events.sort_by_key(|event| std::cmp::Reverse(moment(event)));
    events
}

fn event(event: &Value) -> Vec<String> {
    let column = |name: &str| line(text(event, name));
    let [what, by, scope, agent, reason, id] =
        ["event", "by", "scope", "agentName", "reason", "stopId"].map(column);
    vec![time(text(event, "at")), what, by, scope, agent, reason, id]
}

fn described(stop: &Value) -> String {
    let names = ["id", "scope", "agent", "status", "reason", "by", "set", "lifted"];
    let pairs: Vec<(&str, String)> = names.into_iter().zip(row(stop)).collect();
    fields(&pairs)
}

fn row(stop: &Value) -> Vec<String> {
    let column = |name: &str| text(stop, name).to_owned();
    let words = ["id", "scope", "agentName", "status", "reason", "setBy"].map(column);
    let times = ["setAt", "liftedAt"].map(|name| time(text(stop, name)));
    words.into_iter().chain(times).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_a_line_for_each_thing_that_happened() {
        let stops = [
            json!({"id": "b", "scope": "agent", "agentName": "x", "reason": "r", "setBy": "me", "setAt": "2026-08-01T11:00:00Z"}),
            json!({"id": "a", "scope": "tenant", "reason": "r", "setBy": "me", "setAt": "2026-08-01T10:00:00Z",
                "liftedBy": "you", "liftedAt": "2026-08-01T11:00:00.5Z"}),
        ];
        let told: Vec<String> = events(&stops)
            .iter()
            .map(|event| {
                format!("{} {} by {}", text(event, "stopId"), text(event, "event"), text(event, "by"))
            })
            .collect();
        assert_eq!(told, ["a lifted by you", "b set by me", "a set by me"]);
    }
}
