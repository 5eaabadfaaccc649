//! `lantern export`: runs as files that can be read without us.
//!
//! Invariant: a run's folder gets its name when all of it is there, with every event once and in order. One of a run that was not over
//! is made again by the next export, and is there until the new one is whole; one of a run that was over is never touched. What is exported is
//! what the caller may read, in the clear; so the files are for their owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use lantern_net::sse;
use lantern_types::RunId;
use serde_json::{Value, json};

use crate::cli::api::{Api, Call, encode};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{line, text};

/// The longest frame that is read. A frame carries its payload twice.
const FRAME_BYTES_MAX: usize = 32 << 20;
/// Runs that are listed at once.
const PAGE: u32 = 100;

/// Flags of `lantern export`.
#[derive(Debug, Args)]
#[command(
    after_help = "DIR/RUN/ holds run.json (the run, with its whole input and output), manifest.json (the agent's version \
                  that ran) and journal.jsonl (its events as `logs -o json` shows them, one a line; long texts in them are \
                  cut). Nothing in them is encrypted. A run that is there already is left alone, unless it was not over: then it is exported again."
)]
pub(crate) struct ExportArgs {
    /// The run's id
    #[arg(required_unless_present = "agent", conflicts_with = "agent")]
    run: Option<RunId>,
    /// All runs of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The folder to write to
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// What was done so far.
#[derive(Default)]
struct Done {
    runs: u64,
    events: u64,
    /// Runs that were there already, and over.
    kept: u64,
    /// Runs that were there as they stood before they were over.
    renewed: u64,
    /// Runs that are not over: more will happen to them.
    open: u64,
}

/// Exports what was asked for.
pub(crate) async fn run(console: &Console, api: &Api, args: &ExportArgs) -> Result<(), Failure> {
    make(&args.to)?;
    let mut done = Done::default();
    match (&args.run, &args.agent) {
        (Some(run), _) => {
            let row = api.fetch(Call::get(format!("/v1/runs/{run}"))).await?;
            one(api, &row, &args.to, &mut done).await?;
        }
        (None, Some(agent)) => all(api, agent, &args.to, &mut done).await?,
        (None, None) => return Err(Failure::usage("name a run, or an agent with --agent")),
    }
    if done.kept > 0 {
        console.note(&format!("{} runs were there already and are as they were", done.kept));
    }
    if done.open > 0 {
        console.note(&format!("{} runs are not over: export them again when they are", done.open));
    }
    if done.renewed > 0 {
        console
            .note(&format!("{} runs were there as they stood before, and were exported again", done.renewed));
    }
    let folder = args.to.display().to_string();
    let answer = json!({ "to": folder, "runs": done.runs, "events": done.events, "kept": done.kept,
        "renewed": done.renewed, "open": done.open });
    console.answer(&answer, || {
        format!("exported {} runs with {} events to {}", done.runs, done.events, line(&folder))
    })
}

/// Every run of an agent, page by page: a run that starts meanwhile may be missed, and none is met twice.
async fn all(api: &Api, agent: &str, to: &Path, done: &mut Done) -> Result<(), Failure> {
    // One that was never there has no runs either, and nobody means that.
    api.fetch(Call::get(format!("/v1/agents/{}", encode(agent)))).await?;
    let path = format!("/v1/runs?agent={}", encode(agent));
    let mut cursor = None;
    loop {
        let listed = api.list_from(&path, PAGE, cursor).await?;
        for run in &listed.entries {
            // A list shortens what is long.
            let row = api.fetch(Call::get(format!("/v1/runs/{}", encode(text(run, "id"))))).await;
            match row {
                // Deleted meanwhile.
                Err(failure) if failure.exit == Exit::NotFound => {}
                row => one(api, &row?, to, done).await?,
            }
        }
        cursor = listed.cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn one(api: &Api, row: &Value, to: &Path, done: &mut Done) -> Result<(), Failure> {
    // An id, and so no path.
    let run: RunId = text(row, "id").parse().map_err(|_| api.stranger())?;
    let folder = to.join(run.to_string());
    let there = folder.exists();
    if there && was_over(&folder)? {
        done.kept += 1;
        return Ok(());
    }
    let part = to.join(format!(".{run}.part"));
    drop(fs::remove_dir_all(&part));
    make(&part)?;
    let version = format!(
        "/v1/agents/{}/versions/{}",
        encode(text(row, "agentName")),
        encode(text(row, "agentVersionId"))
    );
    let version = api.fetch(Call::get(version)).await?;
    keep(&part.join("manifest.json"), version.get("manifest").unwrap_or(&version))?;
    let events = journal(api, run, &part.join("journal.jsonl")).await?;
    keep(&part.join("run.json"), row)?;
    if there {
        let old = to.join(format!(".{run}.old"));
        drop(fs::remove_dir_all(&old));
        fs::rename(&folder, &old).map_err(|error| unwritable(&folder, &error))?;
        let moved = fs::rename(&part, &folder);
        if moved.is_err() {
            drop(fs::rename(&old, &folder));
        }
        moved.map_err(|error| unwritable(&folder, &error))?;
        drop(fs::remove_dir_all(&old));
        done.renewed += 1;
    } else {
        fs::rename(&part, &folder).map_err(|error| unwritable(&folder, &error))?;
    }
    done.runs += 1;
    done.events += events;
    if !over(row) {
        done.open += 1;
    }
    Ok(())
}

fn over(row: &Value) -> bool {
    matches!(text(row, "status"), "succeeded" | "failed" | "cancelled")
}

/// Whether the run of this folder was over when it was exported. Of one that cannot be read nobody knows, and it stays.
fn was_over(folder: &Path) -> Result<bool, Failure> {
    let path = folder.join("run.json");
    let row =
        fs::read(&path).and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(io::Error::from));
    row.map(|row| over(&row)).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display()))
            .code("output_failed")
            .hint("it is no export of a run: name another folder in --to, or remove it")
    })
}

/// Writes the events that there are, a line each, and answers how many.
async fn journal(api: &Api, run: RunId, path: &Path) -> Result<u64, Failure> {
    let mut file = BufWriter::new(create(path)?);
    let mut keep = |data: &Value| writeln!(file, "{data}").map_err(|error| unwritable(path, &error));
    let last = every_event(api, run, &mut keep).await?;
    let file = file.into_inner().map_err(|error| unwritable(path, error.error()))?;
    file.sync_all().map_err(|error| unwritable(path, &error))?;
    Ok(last)
}

/// Hands on the events that a run has so far, in their order, and answers how many.
pub(crate) async fn every_event(api: &Api, run: RunId, keep: Keep<'_>) -> Result<u64, Failure> {
    let mut last = 0;
    loop {
        let before = last;
        match read(api, run, &mut last, keep).await {
            Ok(true) => break,
            // It ended without saying that this was the end, as it does when the server has trouble: whether there is more
            // is known when a connection brings nothing.
            Ok(false) if last == before => break,
            Ok(false) => {}
            Err(failure) if failure.passing && last > before => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(last)
}

/// Takes an event.
type Keep<'a> = &'a mut (dyn FnMut(&Value) -> Result<(), Failure> + Send);

/// One connection; whether it brought the end of the run.
async fn read(api: &Api, run: RunId, last: &mut u64, keep: Keep<'_>) -> Result<bool, Failure> {
    let mut response = api.events(run, *last, false).await?;
    let mut parser = sse::Parser::new(FRAME_BYTES_MAX);
    while let Some(chunk) = response.chunk().await.map_err(|error| api.unreached(&error))? {
        let events = parser.push(&chunk).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        for event in events {
            let data: Value = serde_json::from_str(&event.data).map_err(|_| api.stranger())?;
            match event.event.as_str() {
                "end" => return Ok(true),
                "error" => return Err(api.broke_off(text(&data, "code"), text(&data, "error"))),
                _ => {}
            }
            let Some(seq) = data.get("seq").and_then(Value::as_u64) else { continue };
            if seq != *last + 1 {
                let message = format!("event {} of the run {run} is missing", *last + 1);
                return Err(Failure::new(Exit::Failed, message));
            }
            keep(&data)?;
            *last = seq;
        }
    }
    Ok(false)
}

fn keep(path: &Path, value: &Value) -> Result<(), Failure> {
    let written = writeln!(create(path)?, "{value:#}");
    written.map_err(|error| unwritable(path, &error))
}

fn create(path: &Path) -> Result<File, Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| unwritable(path, &error))
}

fn make(folder: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| unwritable(folder, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
        .code("output_failed")
        .hint("make space, or name a folder that can be written in --to")
}
