//! `lantern stop` and `lantern stops`: emergency stops of an agent or of the tenant, over the API.
//!
//! A stop of the whole server is the operator's: `lantern stop --server` does not come here.

use clap::Subcommand;
use lantern_types::StopId;
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
