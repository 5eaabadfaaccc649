//! `lantern sessions send`: one message, with what goes with it.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use lantern_net::{RealClock, Signals};
use lantern_types::{MicroUsd, SessionId};
use serde_json::{Map, Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{line, text};
use crate::cli::input;
use crate::cli::runs::{keyed, price};
use crate::cli::sessions::listen::{Frame, Listener};
use crate::cli::sessions::printer::Printer;

/// Flags of `lantern sessions send`.
#[derive(Debug, Args)]
#[command(
    after_help = "Pictures (png, jpg, gif, webp) are shown to the model; every other file is sent as text."
)]
pub(crate) struct SendArgs {
    /// The session's id
    session: SessionId,
    /// What to say: text, @file, or @- for standard input
    #[arg(value_name = "TEXT|@FILE")]
    content: String,
    /// Send a file along; may be repeated
    #[arg(long = "attach", value_name = "FILE")]
    attachments: Vec<PathBuf>,
    /// Instructions in place of the agent's, for this message
    #[arg(long, value_name = "TEXT|@FILE")]
    system: Option<String>,
    /// Without tools
    #[arg(long)]
    no_tools: bool,
    /// With those tools alone that change nothing
    #[arg(long)]
    read_only_tools: bool,
    /// The most that the answer may cost, in dollars
    #[arg(long, value_name = "USD", value_parser = price, allow_negative_numbers = true)]
    max_cost_usd: Option<MicroUsd>,
    /// Show the answer as it comes
    #[arg(short, long)]
    follow: bool,
    /// A repeat under the same key is the same message
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Sends a message, and shows the answer if that was asked for.
pub(super) async fn send(console: &Console, api: &Api, args: SendArgs) -> Result<Exit, Failure> {
    let read = |argument: &str| -> Result<String, Failure> {
        let read = input::read(argument, std::io::stdin())?;
        read.note.iter().for_each(|note| console.warn(note));
        Ok(read.text)
    };
    let mut body = Map::from_iter([("content".to_owned(), Value::String(read(&args.content)?))]);
    if !args.attachments.is_empty() {
        let attachments = args.attachments.iter().map(|path| attachment(path)).collect::<Result<_, _>>()?;
        body.insert("attachments".to_owned(), Value::Array(attachments));
    }
    if let Some(system) = &args.system {
        body.insert("systemHint".to_owned(), read(system)?.into());
    }
    let tools = [("noTools", args.no_tools), ("readOnlyTools", args.read_only_tools)];
    body.extend(
        tools.into_iter().filter(|(_, said)| *said).map(|(name, said)| (name.to_owned(), said.into())),
    );
    body.extend(args.max_cost_usd.map(|most| ("maxCostUsd".to_owned(), most.to_wire().into())));
    let clock = RealClock::new();
    let after = if args.follow { so_far(api, args.session).await? } else { 0 };
    let taken = post(api, args.session, Value::Object(body), args.idempotency_key.as_deref()).await?;
    let run = text(&taken, "runId");
    if !args.follow {
        console.answer(&taken, || format!("the run {} answers", line(run)))?;
        return Ok(Exit::Ok);
    }
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))?;
    let mut listener = Listener::new(api, &clock, args.session, after, true);
    answer(console, api, &mut listener, &mut signals, run).await
}

/// Sends a message under a key: the one that was given, or a fresh one.
pub(crate) async fn post(
    api: &Api,
    session: SessionId,
    body: Value,
    key: Option<&str>,
) -> Result<Value, Failure> {
    let call = Call::post(format!("{}/messages", super::path(session)), body);
    api.fetch(call.header(keyed(key)?)).await
}

/// The id of the last frame of what was said so far.
pub(crate) async fn so_far(api: &Api, session: SessionId) -> Result<u64, Failure> {
    let clock = RealClock::new();
    let mut listener = Listener::new(api, &clock, session, 0, false);
    while listener.next().await?.is_some() {}
    Ok(listener.after())
}

/// Shows the answer of a run as it comes; answers with the exit code that belongs to how it ended. The first signal cancels
/// the run and not the session, a second one ends the command.
pub(crate) async fn answer(
    console: &Console,
    api: &Api,
    listener: &mut Listener<'_>,
    signals: &mut Signals,
    run: &str,
) -> Result<Exit, Failure> {
    let mut printer = Printer::of_the_agent(console);
    let mut cancelled = false;
    loop {
        let heard = tokio::select! {
            biased;
            _ = signals.recv() => None,
            frame = listener.next() => Some(frame?),
        };
        match heard {
            Some(Some(frame)) => {
                printer.show(&frame)?;
                if let Some(exit) = over(&frame, run) {
                    printer.close()?;
                    return Ok(exit);
                }
            }
            Some(None) => {
                printer.close()?;
                return Ok(Exit::Cancelled);
            }
            None if cancelled => {
                printer.close()?;
                return Err(Failure::new(Exit::Interrupted, "interrupted; the session goes on"));
            }
            None => {
                cancelled = true;
                printer.close()?;
                console.note("cancelling the answer; the session goes on");
                let call = Call::post(format!("/v1/runs/{run}/cancel"), json!({ "reason": "interrupted" }));
                if let Err(failure) = api.fetch(call).await
                    && failure.code.as_deref() != Some("run_finished")
                {
                    return Err(failure);
                }
            }
        }
    }
}

fn over(frame: &Frame, run: &str) -> Option<Exit> {
    if frame.kind != "session.status_idle" || text(&frame.data, "runId") != run {
        return None;
    }
    Some(match text(&frame.data, "status") {
        "succeeded" => Exit::Ok,
        "cancelled" => Exit::Cancelled,
        _ => Exit::Failed,
    })
}

/// A file as the API takes it.
fn attachment(path: &Path) -> Result<Value, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let picture = match extension.as_deref() {
        Some("png") => Some("image/png"),
        Some("jpg" | "jpeg") => Some("image/jpeg"),
        Some("gif") => Some("image/gif"),
        Some("webp") => Some("image/webp"),
        _ => None,
    };
    if let Some(media) = picture {
        return Ok(json!({ "name": name, "mediaType": media, "data": STANDARD.encode(bytes) }));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        unreadable(&"is neither a picture nor text").hint("turn it into text first, or into a png")
    })?;
    let media = if extension.as_deref() == Some("json") { "application/json" } else { "text/plain" };
    Ok(json!({ "name": name, "mediaType": media, "text": text }))
}
