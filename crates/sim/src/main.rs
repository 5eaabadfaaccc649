//! `lantern-sim`: runs seeds, and shows the shortest story of the first that breaks a promise.
//!
//! Exit code 0 when every promise held, 1 when one was broken or something was never met, 2 for wrong arguments.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lantern_sim::check::Violation;
use lantern_sim::coverage::Coverage;
use lantern_sim::seed::{Report, remembered, run};
use lantern_sim::shrink::shrink;

const USAGE: &str = "\
usage: lantern-sim [--seeds N] [--from S]   run N seeds (300) from seed S (1), after those that ever failed
       lantern-sim --seed S                 run one seed and show its story
       lantern-sim ... --twice              run each seed twice and compare
       lantern-sim --system [...]           the same with the real worker, control plane and store (tier 2)
       lantern-sim --system --jumps [...]   ... on a machine whose clock is set by hours meanwhile
       lantern-sim --system --receipts DIR  write the receipt of every run there
       lantern-sim --bug NAME|all           prove that a planted bug is found (see bugs/)
";

/// From how many seeds on every kind of event must have been met.
const COVERED_BY: u64 = 2_000;

/// The longest story that is shown whole.
const LINES_MAX: usize = 120;

struct Args {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    twice: bool,
    system: bool,
    jumps: bool,
    receipts: Option<PathBuf>,
    bug: Option<String>,
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let Some(args) = read(std::env::args().skip(1)) else {
        out.write_all(USAGE.as_bytes())?;
        return Ok(ExitCode::from(2));
    };
    if let Some(bug) = args.bug {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bugs/run.sh");
        let status = Command::new("bash").arg(script).arg(bug).status()?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // A panic of the engine is a finding; it is reported once, with its story.
    std::panic::set_hook(Box::new(|_| {}));
    if args.system {
        return system(&mut out, &args);
    }
    match args.seed {
        Some(seed) => one(&mut out, seed, args.twice),
        None => many(&mut out, &args),
    }
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args {
        seeds: 300,
        from: 1,
        seed: None,
        twice: false,
        system: false,
        jumps: false,
        receipts: None,
        bug: None,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--twice" => args.twice = true,
            "--system" => args.system = true,
            "--jumps" => args.jumps = true,
            "--receipts" => args.receipts = Some(words.next()?.into()),
            "--seeds" => args.seeds = words.next()?.parse().ok()?,
            "--from" => args.from = words.next()?.parse().ok()?,
            "--seed" => args.seed = Some(words.next()?.parse().ok()?),
            "--bug" => args.bug = Some(words.next()?),
            _ => return None,
        }
    }
    // Tier 1 has no clock that could be set.
    (args.system || !args.jumps).then_some(args)
}

fn one(out: &mut impl Write, seed: u64, twice: bool) -> io::Result<ExitCode> {
    let report = checked(seed, twice);
    if report.violation.is_some() {
        return fail(out, report);
    }
    for line in &report.trace {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "seed {seed}: every promise held\n{}", report.coverage)?;
    Ok(ExitCode::SUCCESS)
}

/// Tier 2: the same promises of the real parts.
#[cfg(feature = "system")]
fn system(out: &mut impl Write, args: &Args) -> io::Result<ExitCode> {
    use lantern_sim::system::{again, run, run_with_jumps};
    let run = if args.jumps { run_with_jumps } else { run };
    let seeds = args
        .seed
        .map_or_else(|| args.from..args.from.saturating_add(args.seeds), |seed| seed..seed.saturating_add(1));
    let mut counts = [0; 3];
    for seed in seeds.clone() {
        let report = run(seed);
        let differs = args.twice && run(seed).trace != report.trace;
        let violation = report.violation.clone().or_else(|| {
            differs.then(|| Violation {
                rule: "the-same-twice",
                detail: "two runs of one seed differ".to_owned(),
            })
        });
        if args.seed.is_some() || violation.is_some() {
            for line in &report.trace {
                writeln!(out, "{line}")?;
            }
        }
        if let Some(violation) = violation {
            writeln!(out, "seed {seed} broke a promise\n{}: {}", violation.rule, violation.detail)?;
            writeln!(out, "{}", again(seed, args.jumps))?;
            return Ok(ExitCode::FAILURE);
        }
        if let Some(folder) = &args.receipts {
            for (n, receipt) in report.receipts.iter().enumerate() {
                std::fs::write(folder.join(format!("{seed}-{n}.json")), receipt)?;
            }
        }
        for (sum, n) in counts.iter_mut().zip(report.counts) {
            *sum += n;
        }
    }
    let [runs, calls, kills] = counts;
    writeln!(out, "{} seeds, {runs} runs, {calls} calls, {kills} kills: every promise held", seeds.count())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(feature = "system"))]
fn system(out: &mut impl Write, _args: &Args) -> io::Result<ExitCode> {
    out.write_all(b"this build has tier 1 only; build it with --features system\n")?;
    Ok(ExitCode::from(2))
}

fn many(out: &mut impl Write, args: &Args) -> io::Result<ExitCode> {
    let mut met = Coverage::default();
    let mut count: u64 = 0;
    #[expect(
        clippy::disallowed_methods,
        reason = "the speed of the simulator itself, shown and used for nothing"
    )]
    let begun = std::time::Instant::now();
    for seed in remembered().chain(args.from..args.from.saturating_add(args.seeds)) {
        let report = checked(seed, args.twice);
        if report.violation.is_some() {
            return fail(out, report);
        }
        met.add(&report.coverage);
        count += 1;
    }
    let millis = begun.elapsed().as_millis().max(1);
    let speed = u128::from(count) * 1_000 / millis;
    let (ops, events) = (met.ops(), met.events());
    writeln!(
        out,
        "{count} seeds, {ops} steps, {events} events: every promise held ({speed} seeds/s)\n{met}"
    )?;
    let missing = met.missing();
    if count >= COVERED_BY && !missing.is_empty() {
        writeln!(out, "never met: {}", missing.join(", "))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a seed; with `twice`, a seed that goes two ways is a broken promise too.
fn checked(seed: u64, twice: bool) -> Report {
    let first = run(seed);
    if !twice || first.violation.is_some() {
        return first;
    }
    let second = run(seed);
    let differs = first.trace.iter().zip(&second.trace).find(|(a, b)| a != b);
    let detail = differs.map_or_else(|| "one goes on for longer".to_owned(), |(a, b)| format!("{a}\n  {b}"));
    let violation = (first != second).then_some(Violation { rule: "the-same-twice", detail });
    Report { violation, ..first }
}

fn fail(out: &mut impl Write, report: Report) -> io::Result<ExitCode> {
    let (seed, long) = (report.seed, report.ops.len());
    let report = shrink(report);
    let Some(violation) = &report.violation else { return Ok(ExitCode::FAILURE) };
    let skipped = report.trace.len().saturating_sub(LINES_MAX);
    if skipped > 0 {
        writeln!(out, "... {skipped} lines before")?;
    }
    for line in report.trace.iter().skip(skipped) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "seed {seed} broke a promise; {} of its {long} steps are enough", report.ops.len())?;
    writeln!(out, "{}: {}", violation.rule, violation.detail)?;
    writeln!(out, "again: cargo run -p lantern-sim --release -- --seed {seed}   (or: make sim SEED={seed})")?;
    Ok(ExitCode::FAILURE)
}
