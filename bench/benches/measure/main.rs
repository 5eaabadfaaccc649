//! `make bench`: measures what Lantern promises about speed and memory, each figure beside a limit or a peer that is
//! measured in the same run on the same disk.
//!
//! Invariant: loopback only, bounded load, and whatever is started is stopped: children end with this process. A
//! measurement that cannot be made here is a SKIPPED line with its reason; one that fails ends the run with an error
//! after the others. What the figures mean is written in `docs/benchmarks.md`.
//!
//! Scratch files lie in the system's temporary folder, so `TMPDIR` chooses the disk that is measured.

mod disk;
mod durable;
mod gateway;
mod lists;
mod load;
mod machine;
mod peer;
mod place;
mod policies;
mod postgres;
mod provider;
mod receipts;
mod recovery;
mod requests;
mod restate;
mod server;
mod soak;
mod start;
mod watchers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use lantern_bench::{Line, Report};
use lantern_net::RealClock;
use lantern_types::edge::Clock;

/// The product's own, so that what is measured in this process runs as it does there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What measurements share.
pub(crate) struct Bench {
    /// The time, for everything.
    pub(crate) clock: Arc<dyn Clock>,
    /// Cargo's target folder: holds the release binary, and takes the report and what npm installs.
    pub(crate) target: PathBuf,
}

impl Bench {
    /// The release binary of the product.
    pub(crate) fn lantern(&self) -> PathBuf {
        self.target.join("release/lantern")
    }

    /// How many milliseconds a piece of work takes.
    pub(crate) async fn millis<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(f64, T)> {
        let start = self.clock.now();
        let done = work.await?;
        Ok((self.millis_since(start), done))
    }

    /// Milliseconds since `start`.
    pub(crate) fn millis_since(&self, start: lantern_types::At) -> f64 {
        let micros = u32::try_from(self.clock.now().since(start).micros()).unwrap_or(u32::MAX);
        f64::from(micros) / 1_000.0
    }
}

/// The measurements by name, in the order in which they are made.
const NAMES: &[&str] = &[
    "durable",
    "alone",
    "postgres",
    "start",
    "idle",
    "recovery",
    "read",
    "create",
    "lists",
    "receipts",
    "policies",
    "streams",
    "latency",
    "recovery-many",
    "gateway",
];
/// Made only when asked for by name: nothing but our own steps, for a profiler to look at, or `steps=4` runs of each place
/// for one that is slow; and half an hour of everything, or `soak=5` minutes.
const ASKED: &[&str] = &["steps", "soak"];

fn main() -> ExitCode {
    // Cargo itself passes `--bench`.
    let names: Vec<String> = std::env::args().skip(1).filter(|name| name != "--bench").collect();
    let done = match names.as_slice() {
        [word, bytes] if word == peer::PEER => block_on(peer::serve(bytes)),
        [word, _] if word == gateway::PROVIDER => block_on(gateway::provide()),
        [word, provider] if word == gateway::PROXY => block_on(gateway::proxy(provider)),
        names => run(names),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(names: &[String]) -> Result<()> {
    let known = |name: &str| {
        let counted = said(name, "soak=").or_else(|| said(name, "steps=")).is_some();
        NAMES.contains(&name) || ASKED.contains(&name) || counted
    };
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let asked = ASKED.join(" and ");
        bail!("there is no measurement {unknown:?}; there are {}, and {asked}", NAMES.join(", "));
    }
    block_on(measure(names))
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

async fn measure(names: &[String]) -> Result<()> {
    let bench = Bench { clock: Arc::new(RealClock::new()), target: target()? };
    let (date, commit) = (bench.clock.now().to_string(), machine::commit());
    let machine = machine::look(&bench)?;
    let mut report = Report { date, commit, machine, lines: Vec::new() };
    let mut failed = Vec::new();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in if asked.is_empty() { NAMES } else { &asked } {
        say(&format!("measuring {name}"));
        match one(&bench, name).await {
            Ok(lines) => report.lines.extend(lines),
            Err(error) => {
                say(&format!("{name} failed: {error:#}"));
                report.lines.push(Line::skipped(*name, format!("failed: {error}")));
                failed.push(*name);
            }
        }
    }
    say(&format!("\n{}", report.markdown()));
    let file = bench.target.join("bench.json");
    keep(&report, &file)?;
    say(&format!("written to {}", file.display()));
    if failed.is_empty() { Ok(()) } else { bail!("could not measure {}", failed.join(", ")) }
}

async fn one(bench: &Bench, name: &str) -> Result<Vec<Line>> {
    match name {
        "durable" => durable::in_flight(bench).await,
        "alone" => durable::alone(bench).await,
        "postgres" => postgres::measure(bench).await,
        "start" => start::to_ready(bench).await,
        "idle" => start::idle(bench).await,
        "read" => requests::read(bench).await,
        "create" => requests::start(bench).await,
        "lists" => lists::measure(bench).await,
        "receipts" => receipts::measure(bench).await,
        "policies" => policies::measure(bench).await,
        "streams" => watchers::idle(bench).await,
        "latency" => watchers::latency(bench).await,
        "recovery-many" => recovery::many(bench).await,
        "gateway" => gateway::measure(bench).await,
        "recovery" => recovery::measure(bench).await,
        steps if steps.starts_with("steps") => {
            durable::steps(bench, said(steps, "steps=").map(usize::from)).await
        }
        soak => soak::measure(bench, said(soak, "soak=").map(i64::from)).await,
    }
}

/// How many minutes `soak=MINUTES` asks for, or runs `steps=RUNS`.
fn said(name: &str, what: &str) -> Option<u16> {
    name.strip_prefix(what).and_then(|number| number.parse().ok()).filter(|number| *number > 0)
}

/// Cargo puts this program at `TARGET/release/deps/measure-…`.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where this program lies")?;
    let target = program.ancestors().nth(3).map(Path::to_path_buf);
    target.filter(|folder| folder.join("release").is_dir()).context("run this through `make bench`")
}

fn keep(report: &Report, file: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(file, format!("{json}\n")).with_context(|| format!("cannot write {}", file.display()))
}

/// Says something to whoever started this.
#[expect(clippy::print_stdout, reason = "a bench run's words and its report are its output")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}
