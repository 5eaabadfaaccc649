//! `lantern receipts` and `lantern verify`: receipts from a server, and whether one is true, without any.
//!
//! Invariant: `verify` asks nobody. It says that a receipt is verified only when a key that its user brought has signed it; the
//! key inside proves nothing, because whoever makes a file can make a key.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use lantern_cedar::{Otherwise, Policies};
use lantern_receipts::VerifyKey;
use lantern_types::RunId;
use lantern_verify::{Fault, Report, Trust, verify_by};
use serde_json::{Value, json};

use crate::cli::api::{Api, Call};
use crate::cli::console::{Console, fields};
use crate::cli::failure::{Exit, Failure};
use crate::cli::format::{count, dollars, line, number, text, time, usd};
use crate::cli::table::Column;
use crate::server::RotateArgs;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What a list says of a receipt.
const COLUMNS: &[Column] = &[
    Column::whole("NUMBER"),
    Column::whole("RUN"),
    Column::text("AGENT"),
    Column::whole("STATUS"),
    Column::whole("ISSUED"),
    Column::spare("KEY"),
];

/// What can be done with receipts.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List receipts, the newest first
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show the receipt of a run
    Get {
        /// The run's id
        run: RunId,
    },
    /// Write the receipt of a run to a file, with the events that it is about
    Export {
        /// The run's id
        run: RunId,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// What to write: `receipt`, with the events, for `lantern verify`; or `in-toto`, the same statement for tools that know
        /// in-toto and DSSE, without events and proof
        #[arg(long, value_enum, default_value_t = Format::Receipt, hide_possible_values = true)]
        format: Format,
    },
    /// Show how far the log of receipts has come, and its signed head
    Log,
    /// Write the keys that the server publishes to a file, for `lantern verify --key`
    Keys {
        /// The file to write
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Sign receipts with a new key from now on, as the operator of the server
    RotateKey(RotateArgs),
}

/// Forms of what is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The file that `lantern verify` reads.
    Receipt,
    /// A DSSE envelope of a statement of in-toto.
    InToto,
}

/// Flags of `lantern verify`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("trusted").required(true).args(["keys", "any_key"]),
    after_help = "Get the key from where the server publishes it (/.well-known/lantern-receipts, or `lantern receipts keys`), once \
                  and over a connection that you trust, and keep it. Without a key the file is only checked against itself: that \
                  shows damage and no forgery, so the command fails unless --any-key says that this is enough."
)]
pub(crate) struct VerifyArgs {
    /// The receipt file, as `lantern receipts export` writes it
    file: PathBuf,
    /// A key that you trust, in base64, or a file of keys as the server publishes them
    #[arg(long = "key", value_name = "KEY|FILE")]
    keys: Vec<String>,
    /// Check the file against itself only, whoever signed it
    #[arg(long)]
    any_key: bool,
    /// Ask the policies of this file again, wherever the run asked them
    #[arg(long = "policies", value_name = "FILE")]
    policies: Vec<PathBuf>,
}

/// Does what was asked of a server.
pub(crate) async fn run(console: &Console, api: &Api, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { limit } => list(console, api, limit).await,
        Verb::Get { run } => {
            let receipt = api.fetch(Call::get(format!("/v1/runs/{run}/receipt"))).await?;
            console.answer(&receipt, || shown(&receipt))
        }
        Verb::Export { run, file, format } => export(console, api, (run, format), &file).await,
        Verb::Log => log(console, api).await,
        Verb::Keys { file } => {
            let keys = api.fetch(Call::get("/.well-known/lantern-receipts").public()).await?;
            write(&file, format!("{keys:#}\n").as_bytes())?;
            let answer = json!({ "file": file, "keyId": text(&keys, "keyFingerprint") });
            console.answer(&answer, || {
                format!("wrote the keys of {} to {}", api.base().as_str(), line(&file.display().to_string()))
            })
        }
        // The binary's `main` hands it to the server's part.
        Verb::RotateKey(_) => Ok(()),
    }
}

async fn list(console: &Console, api: &Api, limit: u32) -> Result<(), Failure> {
    let listed = api.list("/v1/receipts", limit).await?;
    let receipts = listed.entries;
    if console.json() {
        console.value(&Value::Array(receipts))?;
    } else if receipts.is_empty() {
        console.note("there is no receipt yet: a run gets one when it is over");
    } else {
        console.table(COLUMNS, &receipts.iter().map(row).collect::<Vec<_>>())?;
    }
    console.more(listed.more, limit);
    Ok(())
}

fn row(receipt: &Value) -> Vec<String> {
    let column = |name: &str| text(receipt, name).to_owned();
    vec![
        number(receipt, "logIndex").to_string(),
        column("runId"),
        column("agentName"),
        column("status"),
        time(text(receipt, "issuedAt")),
        column("keyId"),
    ]
}

fn shown(receipt: &Value) -> String {
    let payload = receipt.get("payload").unwrap_or(&Value::Null);
    fields(&[
        ("run", line(text(payload, "runId"))),
        ("agent", line(text(payload, "agentName"))),
        ("status", line(text(payload, "status"))),
        ("cost", usd(dollars(payload.get("costUsd").unwrap_or(&Value::Null)))),
        ("events", count(number(payload, "events"))),
        ("journal", line(text(payload, "journalHash"))),
        ("number", number(payload, "logIndex").to_string()),
        ("issued", time(text(payload, "issuedAt"))),
        ("key", line(text(receipt, "keyId"))),
    ])
}

async fn export(
    console: &Console,
    api: &Api,
    (run, format): (RunId, Format),
    file: &Path,
) -> Result<(), Failure> {
    let what = if format == Format::InToto { "attestation" } else { "file" };
    let bytes = api.bytes(Call::get(format!("/v1/runs/{run}/receipt/{what}"))).await?;
    write(file, &bytes)?;
    let answer = json!({ "run": run, "file": file, "bytes": bytes.len() });
    console.answer(&answer, || {
        let name = line(&file.display().to_string());
        match format {
            Format::Receipt => format!(
                "wrote the receipt to {name}: `lantern verify {name} --key KEYS` checks it without a server"
            ),
            Format::InToto => format!("wrote what the receipt says to {name}, in a DSSE envelope"),
        }
    })
}

async fn log(console: &Console, api: &Api) -> Result<(), Failure> {
    let log = api.fetch(Call::get("/v1/receipts/log")).await?;
    console.answer(&log, || {
        format!(
            "{} in the log {}\n\n{}",
            of(number(&log, "size"), "receipt"),
            line(text(&log, "origin")),
            text(&log, "checkpoint").trim_end()
        )
    })
}

/// Checks a receipt file.
pub(crate) fn check(console: &Console, args: &VerifyArgs) -> Result<(), Failure> {
    let mut trusted = Vec::new();
    for key in &args.keys {
        trusted.extend(keys(key)?);
    }
    let bytes = read(&args.file)?;
    let trusted = (!args.any_key).then_some(trusted.as_slice());
    let mut policies = Vec::new();
    for file in &args.policies {
        policies.extend(policies_of(file)?);
    }
    let report = verify_by(&bytes, trusted, &policies)
        .map_err(|fault| if is_receipt(&bytes) { refused(&fault) } else { other(&args.file) })?;
    let answer = json!({
        "verified": report.trust == Trust::Key,
        "trust": if report.trust == Trust::Key { "key" } else { "none" },
        "keyId": report.key.id(),
        "payload": report.payload,
        "logSize": report.log_size,
        "derived": { "events": report.derived.events, "admissions": report.derived.admissions,
            "boundedAdmissions": report.derived.bounded, "bills": report.derived.bills,
            "choices": report.derived.choices, "policyAnswers": report.derived.ruled,
            "policyAnswersAskedAgain": report.derived.reasked, "denials": report.derived.denials, "uncheckedDenials": report.derived.untold },
    });
    console.answer(&answer, || words(&report))
}

fn words(report: &Report) -> String {
    let (payload, derived) = (&report.payload, report.derived);
    let first = match report.trust {
        Trust::Key => format!("VERIFIED: the key {} signed it, and every event follows", report.key.id()),
        Trust::None => format!(
            "NOT VERIFIED: the file agrees with itself, but nobody vouches for the key {} inside it; anybody could have made \
             both. Give the published key with --key",
            report.key.id()
        ),
    };
    let limits = match derived.bounded {
        0 => String::new(),
        n => format!(
            " ({} by the rules of another build: only that they stay within the cap was checked)",
            of(n, "admission")
        ),
    };
    let untold = match derived.untold {
        0 => String::new(),
        n => format!(" ({} without what it takes to decide it again: not checked)", of(n, "denial")),
    };
    let facts = fields(&[
        ("run", payload.run_id.to_string()),
        ("agent", line(&payload.agent_name)),
        ("version", payload.agent_version.to_string()),
        ("status", line(&payload.status)),
        ("cost", format!("{} of at most {}", usd(payload.cost_micro_usd), usd(payload.cap_micro_usd))),
        ("may have been billed besides", usd(payload.unconfirmed_micro_usd)),
        ("events", count(derived.events)),
        (
            "decisions",
            format!(
                "{}, {}, {}, {}{limits}{untold}",
                of(derived.admissions + derived.bounded, "admission"),
                of(derived.choices, "model choice"),
                of(derived.denials + derived.untold, "denial"),
                of(derived.bills, "bill")
            ),
        ),
        ("policies", ruled(derived.ruled, derived.reasked)),
        ("log", format!("{}, number {} of {}", line(&payload.log), payload.log_index, report.log_size)),
        ("issued", time(&payload.issued_at.0.to_string())),
    ]);
    format!("{first}\n{facts}")
}

/// What was checked of what policies said.
fn ruled(told: u64, again: u64) -> String {
    match (told, again) {
        (0, _) => "none were asked".to_owned(),
        (told, 0) => format!(
            "{} fit what became of the steps; not asked again: give their text with --policies",
            of(told, "answer")
        ),
        (told, again) => format!(
            "{} fit what became of the steps, {} of them asked again",
            of(told, "answer"),
            count(again)
        ),
    }
}

/// The policies of a file, both ways in which they may have been saved.
fn policies_of(file: &Path) -> Result<Vec<Arc<Policies>>, Failure> {
    let bytes = read(file)?;
    let text = String::from_utf8_lossy(&bytes);
    let both = [Otherwise::Allow, Otherwise::Deny].map(|otherwise| Policies::read(&text, otherwise));
    let [allow, deny] = both;
    match (allow, deny) {
        (Err(_), Err(faults)) => {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            Err(Failure::usage(format!("{}: {first}", file.display())).hint("name a file of policies"))
        }
        (allow, deny) => Ok([allow, deny].into_iter().flatten().map(Arc::new).collect()),
    }
}

/// So many of them.
fn of(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Whether it is meant to be a receipt file, true or not.
fn is_receipt(bytes: &[u8]) -> bool {
    let Ok(Value::Object(file)) = serde_json::from_slice(bytes) else { return false };
    ["payload", "signature"].iter().all(|name| file.contains_key(*name))
}

fn other(file: &Path) -> Failure {
    let words = format!("{} is no receipt file", line(&file.display().to_string()));
    Failure::new(Exit::Failed, words)
        .code("receipt_invalid")
        .hint("export one with `lantern receipts export RUN --file FILE`")
}

fn refused(fault: &Fault) -> Failure {
    let failure =
        Failure::new(Exit::Failed, format!("the receipt is not true: {fault}")).code("receipt_invalid");
    failure.hint(match fault.rule {
        "key" => "get the server's keys with `lantern receipts keys`; if this one is not among them, somebody else made the file",
        "form" => "a newer `lantern` may know these events; otherwise do not trust the file",
        _ => "do not trust the file: export the receipt again from the server that issued it",
    })
}

/// The keys that an argument names: one in base64, or those of a file.
fn keys(argument: &str) -> Result<Vec<VerifyKey>, Failure> {
    if let Some(key) = VerifyKey::parse(argument) {
        return Ok(vec![key]);
    }
    let none = |what: &str| {
        Failure::usage(format!("{}: {what}", line(argument)))
            .hint("give a key as base64 of its 32 bytes, or the file that `lantern receipts keys` writes")
    };
    let bytes = fs::read(argument).map_err(|_| none("no key, and no file that can be read"))?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|_| none("not a file of keys"))?;
    let listed = document.get("keys").and_then(Value::as_array).ok_or_else(|| none("not a file of keys"))?;
    let parsed: Option<Vec<VerifyKey>> =
        listed.iter().map(|key| VerifyKey::parse(text(key, "publicKey"))).collect();
    parsed.filter(|keys| !keys.is_empty()).ok_or_else(|| none("it has something that is no key"))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("cannot read {}: {error}", path.display())).hint("name a receipt file")
    };
    // What says that it is short need not be: a pipe, or a device.
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{} is too large for a receipt", path.display())));
    }
    Ok(bytes)
}

/// What is in a receipt is for whoever exports it, until they hand it on.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = made.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
            .code("output_failed")
            .hint("name a file that is not there yet, in a folder that can be written in")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_receipt_is_not_called_a_forged_one() {
        for (bytes, receipt) in [
            (&br#"{"payload":{},"signature":"x"}"#[..], true),
            (br#"{"payload":{}}"#, false),
            (br#"{"keys":[]}"#, false),
            (b"PK\x03\x04", false),
            (b"", false),
        ] {
            assert_eq!(is_receipt(bytes), receipt);
        }
    }
}
