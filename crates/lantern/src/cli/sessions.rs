//! `lantern sessions`: conversations, and what is said in them.
//!
//! Invariant: a message is sent under a key, so that a request that is repeated below us is one message. A session is named
//! whole, to be copied.

pub(crate) mod listen;
pub(crate) mod printer;
pub(crate) mod send;

use clap::{Args, Subcommand};
use lantern_net::RealClock;
use lantern_types::{MicroUsd, SessionId};
use serde_json::{Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{block, dollars, line, number, text, time, usd};
use crate::cli::runs::{confirmed, price};
use crate::cli::table::Column;

use listen::Listener;
use printer::Printer;

/// What a list says of a session.
const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::text("AGENT"),
    Column::whole("STATUS"),
    Column::whole("MESSAGES"),
    Column::text("LAST"),
    Column::spare("UPDATED"),
];

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Begin a session with an agent
    Create {
        /// The agent to talk to
        #[arg(long, value_name = "NAME")]
        agent: String,
        /// The most that all its messages together may cost, in dollars
        #[arg(long, value_name = "USD", value_parser = price, allow_negative_numbers = true)]
        max_cost_usd: Option<MicroUsd>,
    },
    /// List sessions, the one that was updated last first
    List(ListArgs),
    /// Show a session with what was said in it
    Get {
        /// The session's id
        session: SessionId,
        /// Only what was said before the exchange of this number
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        before: Option<u32>,
        /// At most this many exchanges
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Send a message, which a run answers
    Send(send::SendArgs),
    /// Show what is said in a session, from its beginning until it is stopped
    Events(EventsArgs),
    /// Stop a session for good, and cancel what is going on in it
    Stop {
        /// The session's id
        session: SessionId,
    },
    /// Delete a session and all that was said in it
    Delete {
        /// The session's id
        session: SessionId,
        /// Do not ask
        #[arg(long)]
        force: bool,
    },
}

/// Flags of `lantern sessions list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where an earlier list was cut
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Flags of `lantern sessions events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// The session's id
    session: SessionId,
    /// Only what comes after the frame of this id
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    after: u64,
    /// End after what was said so far
    #[arg(long)]
    no_follow: bool,
}

/// Does what was asked.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Create { agent, max_cost_usd } => {
            let made = create(api, &agent, max_cost_usd).await?;
            console.answer(&made, || format!("began the session {}", line(text(&made, "id"))))?;
            if !console.json() {
                console.note(&format!("talk: lantern chat --session {}", line(text(&made, "id"))));
            }
        }
        Verb::List(args) => list(console, api, args).await?,
        Verb::Get { session, before, limit } => {
            let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
            let shown = api.fetch(Call::get(format!("{}?limit={limit}{before}", path(session)))).await?;
            console.answer(&shown, || described(&shown))?;
        }
        Verb::Send(args) => return send::send(console, api, args).await,
        Verb::Events(args) => events(console, api, &args).await?,
        Verb::Stop { session } => {
            let stopped = api.fetch(Call::post(format!("{}/stop", path(session)), json!({}))).await?;
            console.answer(&stopped, || format!("stopped the session {session}"))?;
        }
        Verb::Delete { session, force } => {
            confirmed(console, force, &format!("delete the session {session} and all that was said in it"))?;
            api.send(Call::delete(path(session))).await?;
            console.answer(&json!({ "id": session, "deleted": true }), || {
                format!("deleted the session {session}")
            })?;
        }
    }
    Ok(Exit::Ok)
}

/// Begins a session.
pub(crate) async fn create(api: &Api, agent: &str, most: Option<MicroUsd>) -> Result<Value, Failure> {
    let mut body = json!({ "agentName": agent });
    if let (Some(most), Some(body)) = (most, body.as_object_mut()) {
        body.insert("maxCostUsd".to_owned(), json!(most.to_wire()));
    }
    api.fetch(Call::post("/v1/sessions", body)).await
}

/// Where the server keeps a session.
pub(crate) fn path(session: SessionId) -> String {
    format!("/v1/sessions/{session}")
}

async fn list(console: &Console, api: &Api, args: ListArgs) -> Result<(), Failure> {
    let listed = api.list_from("/v1/sessions", args.limit, args.cursor).await?;
    if console.json() {
        console.value(&Value::Array(listed.entries))?;
    } else if listed.entries.is_empty() {
        console.note("there are no sessions: begin one with `lantern chat AGENT`");
    } else {
        console.table(COLUMNS, &listed.entries.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more_from(listed.more, args.limit, listed.cursor.as_deref());
    Ok(())
}

async fn events(console: &Console, api: &Api, args: &EventsArgs) -> Result<(), Failure> {
    let clock = RealClock::new();
    let mut listener = Listener::new(api, &clock, args.session, args.after, !args.no_follow);
    let mut printer = Printer::new(console);
    while let Some(frame) = listener.next().await? {
        printer.show(&frame)?;
    }
    printer.close()
}

fn row(session: &Value) -> Vec<String> {
    let column = |name: &str| text(session, name).to_owned();
    let messages = session.get("messages").and_then(Value::as_array);
    let last = messages.and_then(|messages| messages.last());
    let last = last.map(|last| [text(last, "content"), text(last, "error")]).unwrap_or_default();
    let last = last.into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned();
    let exchanges = number(session, "exchanges").to_string();
    vec![
        column("id"),
        column("agentName"),
        column("status"),
        exchanges,
        last,
        time(text(session, "updatedAt")),
    ]
}

fn described(session: &Value) -> String {
    let column = |name: &str| text(session, name).to_owned();
    let amount = |name: &str| session.get(name).map(|amount| usd(dollars(amount))).unwrap_or_default();
    let cost = match session.get("maxCostUsd") {
        Some(_) => format!("{} of {}", amount("costUsd"), amount("maxCostUsd")),
        None => String::new(),
    };
    let head = fields(&[
        ("id", column("id")),
        ("agent", column("agentName")),
        ("status", column("status")),
        ("cost", cost),
        ("created", time(text(session, "createdAt"))),
        ("updated", time(text(session, "updatedAt"))),
    ]);
    let earlier = session.get("earlier").and_then(Value::as_u64);
    let earlier = earlier
        .map(|n| format!("… earlier: lantern sessions get {} --before {n}", line(text(session, "id"))));
    let messages = session.get("messages").and_then(Value::as_array).into_iter().flatten();
    let parts = [Some(head), earlier].into_iter().flatten().chain(messages.map(message));
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn message(message: &Value) -> String {
    let mut lines = Vec::new();
    if text(message, "role") == "user" {
        lines.push(format!("> {}", block(text(message, "content")).replace('\n', "\n> ")));
    } else if !text(message, "content").is_empty() {
        lines.push(block(text(message, "content")));
    }
    for call in message.get("toolCalls").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!(
            "  · {} {} {}",
            line(text(call, "name")),
            line(text(call, "args")),
            line(text(call, "status"))
        ));
    }
    if !text(message, "error").is_empty() {
        lines.push(format!("  ✗ {}", line(text(message, "error"))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_shown_as_a_conversation() {
        let session = json!({ "id": "s", "agentName": "a", "status": "active", "exchanges": 2, "earlier": 2,
            "createdAt": "2026-11-29T09:00:00Z", "updatedAt": "2026-11-29T09:01:00Z", "messages": [
                { "role": "user", "content": "one\ntwo" },
                { "role": "assistant", "content": "", "toolCalls": [{ "name": "calc", "args": "{}", "status": "completed" }] },
                { "role": "assistant", "content": "done" },
                { "role": "assistant", "content": "", "error": "cancelled" },
            ] });
        let want = "id       s\nagent    a\nstatus   active\ncreated  2026-11-29 09:00:00Z\nupdated  2026-11-29 09:01:00Z\n\n\
            … earlier: lantern sessions get s --before 2\n\n> one\n> two\n\n  · calc {} completed\n\ndone\n\n  ✗ cancelled";
        assert_eq!(described(&session), want);
        assert_eq!(row(&session)[3..5], ["2", "cancelled"]);
    }
}
