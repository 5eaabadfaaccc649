//! `lantern audit`: who did what, as a list, as a file, and whether nothing of it was changed.
//!
//! Invariant: a file is checked here, by its own hashes, and no server is asked. What is exported is for its owner alone.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use lantern_store::audit::chain;
use lantern_types::Digest;
use serde_json::{Value, json};

use crate::cli::api::{Api, Call, encode};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{line, number, text, time};
use crate::cli::table::Column;

/// Entries that are asked for at once.
const PAGE: usize = 5_000;

const COLUMNS: &[Column] = &[
    Column::whole("ID"),
    Column::whole("AT"),
    Column::text("WHO"),
    Column::whole("ACTION"),
    Column::text("RESOURCE"),
    Column::whole("OUTCOME"),
    Column::whole("TIMES"),
    Column::spare("FROM"),
];

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List who did what and what was denied, the newest first
    List {
        /// Only this action, such as agents.update; may be given several times
        #[arg(long = "action", value_name = "ACTION")]
        actions: Vec<String>,
        /// Only with this outcome: succeeded, replayed, denied, refused, failed or abandoned
        #[arg(long, value_name = "OUTCOME")]
        outcome: Option<String>,
        /// Only of this person or key
        #[arg(long, value_name = "ID")]
        principal: Option<String>,
        /// Only from this time on
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only before this time
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Write the whole log to a file, the oldest entry first
    Export {
        /// The file to write
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// jsonl, which `lantern audit verify` reads, or csv
        #[arg(long, value_enum, default_value_t = Format::Jsonl, hide_possible_values = true)]
        format: Format,
    },
    /// Check that no entry was changed, added or removed: on the server, or in a file without any server
    #[command(
        after_help = "A file shows by itself that none of its entries was changed or is missing between the first and the last. \
                      That it has all there are, and that the server wrote them, the server says."
    )]
    Verify {
        /// A file that `lantern audit export` wrote
        file: Option<PathBuf>,
    },
}

/// Forms of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One entry a line, with its hash.
    Jsonl,
    /// A table.
    Csv,
}

/// Does what was asked of a server.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { actions, outcome, principal, since, until, limit } => {
            let mut asked: Vec<String> =
                actions.iter().map(|action| format!("action={}", encode(action))).collect();
            for (name, said) in
                [("outcome", outcome), ("principalId", principal), ("since", since), ("until", until)]
            {
                asked.extend(said.map(|said| format!("{name}={}", encode(&said))));
            }
            list(console, api, &format!("/v1/audit?{}", asked.join("&")), limit).await
        }
        Verb::Export { file, format } => export(console, api, &file, format).await,
        Verb::Verify { .. } => {
            let verified = api.fetch(Call::get("/v1/audit/verify")).await?;
            told(console, &verified)
        }
    }
}

/// Checks a file.
pub(crate) fn check(console: &Console, file: &Path) -> Result<(), Failure> {
    told(console, &followed(file)?)
}

async fn list(console: &Console, api: &Api, path: &str, limit: u32) -> Result<(), Failure> {
    let listed = api.list(path, limit).await?;
    let entries = listed.entries;
    if console.json() {
        console.value(&Value::Array(entries))?;
    } else if entries.is_empty() {
        console.note("there is no such entry");
    } else {
        console.table(COLUMNS, &entries.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(listed.more, limit);
    Ok(())
}

fn row(entry: &Value) -> Vec<String> {
    let column = |name: &str| text(entry, name).to_owned();
    let named = ["actorName", "principalId", "actor"].map(column);
    vec![
        number(entry, "id").to_string(),
        time(text(entry, "at")),
        named.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
        column("action"),
        column("resource"),
        column("outcome"),
        number(entry, "times").to_string(),
        column("sourceAddress"),
    ]
}

async fn export(console: &Console, api: &Api, path: &Path, format: Format) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        let what = format!("cannot write {}: {error}", line(&path.display().to_string()));
        Failure::new(Exit::Failed, what)
            .hint("name a file that is not there yet, in a folder that you may write to")
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    let word = if format == Format::Csv { "csv" } else { "jsonl" };
    let mut entries = 0_usize;
    loop {
        let asked = format!("/v1/audit/export?format={word}&after={entries}&limit={PAGE}");
        let bytes = api.bytes(Call::get(asked)).await?;
        file.write_all(&bytes).map_err(cannot)?;
        let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
        // The first piece of a table begins with its headings. Numbers have no gaps, so the count is the last one's.
        let found = lines - usize::from(format == Format::Csv && entries == 0 && lines > 0);
        entries += found;
        if found < PAGE {
            break;
        }
    }
    file.sync_all().map_err(cannot)?;
    let name = path.display().to_string();
    console.answer(&json!({ "file": name, "entries": entries }), || {
        format!("wrote {entries} entries to {}", line(&name))
    })
}

/// What following the chain in a file comes to, in the form of the server's answer.
fn followed(path: &Path) -> Result<Value, Failure> {
    let cannot = |error: std::io::Error| {
        let what = format!("cannot read {}: {error}", line(&path.display().to_string()));
        Failure::new(Exit::Usage, what).hint("name a file that `lantern audit export` wrote")
    };
    let file = BufReader::new(std::fs::File::open(path).map_err(cannot)?);
    let (mut entries, mut last): (u64, Option<chain::Link>) = (0, None);
    for text in file.lines() {
        let found = chain::link(&text.map_err(cannot)?);
        let expected = last.map_or(1, |last| last.id + 1);
        let why = match (found, last) {
            (None, _) => Some("its hash is not that of what it says"),
            (Some(link), _) if link.id != expected => Some("it is missing"),
            (Some(link), last) if link.prev != last.map_or_else(nothing, |last| last.hash) => {
                Some("it does not follow the one before")
            }
            _ => None,
        };
        if let Some(reason) = why {
            let broken = json!({ "id": expected, "reason": reason });
            return Ok(
                json!({ "valid": false, "entries": entries, "head": head(last), "firstBroken": broken }),
            );
        }
        (entries, last) = (entries + 1, found);
    }
    Ok(json!({ "valid": true, "entries": entries, "head": head(last) }))
}

fn nothing() -> Digest {
    Digest::from_bytes(&chain::NOTHING).unwrap_or_else(|| Digest::of(&[]))
}

fn head(last: Option<chain::Link>) -> String {
    last.map_or_else(nothing, |last| last.hash).to_string()
}

fn told(console: &Console, verified: &Value) -> Result<(), Failure> {
    let broken = verified.get("firstBroken");
    console.answer(verified, || match broken {
        None => format!(
            "{} entries are as they were written; the last has the hash {}",
            number(verified, "entries"),
            line(text(verified, "head"))
        ),
        Some(broken) => format!(
            "the first {} entries are as they were written; entry {} is not: {}",
            number(verified, "entries"),
            number(broken, "id"),
            line(text(broken, "reason"))
        ),
    })?;
    match broken {
        None => Ok(()),
        Some(broken) => {
            let what = format!("the audit log is broken at entry {}", number(broken, "id"));
            Err(Failure::new(Exit::Failed, what)
                .code("audit_broken")
                .hint("compare it with an earlier export, and ask who could write to the database"))
        }
    }
}
