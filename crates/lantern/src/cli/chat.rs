//! `lantern chat`: a conversation, line by line.
//!
//! Invariant: Ctrl-C breaks the answer off and not the session. The session outlives the command, which says how to go on.

use clap::Args;
use lantern_net::{RealClock, Signals};
use lantern_types::SessionId;
use serde_json::json;
use tokio::sync::mpsc;

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::text;
use crate::cli::sessions::listen::Listener;
use crate::cli::sessions::{self, send};

/// Flags of `lantern chat`.
#[derive(Debug, Args)]
#[command(
    after_help = "A line is a message. /quit or Ctrl-D ends the command, Ctrl-C the answer that is coming. The session \
                        stays: `lantern chat --session ID` goes on with it, `lantern sessions stop ID` ends it."
)]
pub(crate) struct ChatArgs {
    /// The agent to talk to
    #[arg(required_unless_present_any = ["session", "named"], conflicts_with = "session")]
    agent: Option<String>,
    /// The same as a flag
    #[arg(long = "agent", id = "named", value_name = "NAME", conflicts_with_all = ["agent", "session"])]
    named: Option<String>,
    /// Go on with this session
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
}

/// Talks until there are no more lines.
pub(crate) async fn run(console: &Console, api: &Api, args: ChatArgs) -> Result<Exit, Failure> {
    let session = match (args.session, args.agent.as_ref().or(args.named.as_ref())) {
        (Some(session), _) => {
            api.fetch(Call::get(format!("{}?limit=1", sessions::path(session)))).await?;
            session
        }
        (None, agent) => {
            let made = sessions::create(api, agent.map(String::as_str).unwrap_or_default(), None).await?;
            text(&made, "id").parse().map_err(|_| api.stranger())?
        }
    };
    console.note(&format!("session {session}"));
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))?;
    let clock = RealClock::new();
    let after = send::so_far(api, session).await?;
    let mut listener = Listener::new(api, &clock, session, after, true);
    let mut lines = lines()?;
    let mut last = Exit::Ok;
    loop {
        if console.interactive() {
            console.ask("> ");
        }
        let typed = tokio::select! {
            biased;
            _ = signals.recv() => {
                let hint = format!("go on with `lantern chat --session {session}`");
                return Err(Failure::new(Exit::Interrupted, "interrupted; the session goes on").hint(hint));
            }
            typed = lines.recv() => typed,
        };
        let Some(typed) = typed.filter(|typed| typed.trim() != "/quit") else { return Ok(last) };
        if typed.trim().is_empty() {
            continue;
        }
        let taken = send::post(api, session, json!({ "content": typed }), None).await?;
        let run = text(&taken, "runId").to_owned();
        last = send::answer(console, api, &mut listener, &mut signals, &run).await?;
    }
}

/// The lines of standard input. Read by a thread of their own, which nobody waits for: a read cannot be broken off.
fn lines() -> Result<mpsc::Receiver<String>, Failure> {
    let (sender, receiver) = mpsc::channel(1);
    let read = move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("stdin".to_owned()).spawn(read);
    started.map_err(|error| Failure::new(Exit::Failed, format!("cannot read standard input: {error}")))?;
    Ok(receiver)
}
