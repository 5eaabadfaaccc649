//! Tier 2: the real worker, control plane and store, in one thread and virtual time, from one seed.
//!
//! Two worker processes share a database in memory; models and tools are the misbehaving `Outside` of tier 1; people
//! reach runs through the real router. `kill -9` is every future of a process dropped where it stands. After the
//! faults stop, every run must come to its end, and `check` looks at what became durable and what was sent.
//!
//! Invariant: the same seed gives the same story. No thread, no socket and no real clock is involved.

mod check;
mod edges;
mod people;
mod place;
mod receipts;
mod stops;
mod turns;

use lantern_types::Dur;

use crate::check::Violation;
use crate::generate;
use crate::rng::Rng;
use place::Place;

/// What one seed of tier 2 gave.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What happened, a line each.
    pub trace: Vec<String>,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// Runs, calls to the outside, kills.
    pub counts: [usize; 3],
    /// The receipt of every run, as a file.
    pub receipts: Vec<Vec<u8>>,
}

/// Things that people and machines do before the world calms down.
const ACTS: u64 = 40;
/// Rounds within which a calm world must be at rest.
const ROUNDS_MAX: u32 = 400;
/// A round, unless all that is left is due later: then it lasts until then.
const ROUND: Dur = Dur::from_secs(30);
const ROUND_MAX: Dur = Dur::from_secs(6 * 60 * 60);

/// Runs one seed.
pub fn run(seed: u64) -> Report {
    tell(seed, false)
}

/// The command that tells the story of a seed again, with those jumps of the clock or without.
pub fn again(seed: u64, jumps: bool) -> String {
    let jumps = if jumps { " --jumps" } else { "" };
    format!("again: cargo run -p lantern-sim --release -- --system{jumps} --seed {seed}")
}

/// The same story on a machine whose clock is set by hours in between, on and back.
pub fn run_with_jumps(seed: u64) -> Report {
    tell(seed, true)
}

fn tell(seed: u64, jumps: bool) -> Report {
    let mut report =
        Report { seed, trace: Vec::new(), violation: None, counts: [0; 3], receipts: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    report.violation = match runtime {
        Ok(runtime) => runtime.block_on(story(seed, jumps, &mut report)).err(),
        Err(error) => Some(Violation { rule: "runtime", detail: error.to_string() }),
    };
    report
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Start,
    Pass,
    Kill,
    Stop,
    Steer,
}

const WEIGHTS: [(u64, Act); 5] =
    [(30, Act::Start), (35, Act::Pass), (10, Act::Kill), (4, Act::Stop), (21, Act::Steer)];

async fn story(seed: u64, jumps: bool, report: &mut Report) -> Result<(), Violation> {
    let broken = |detail: String| Violation { rule: "setting", detail };
    if !jumps {
        turns::fair(seed).await?;
    }
    let setting = generate::setting(&mut Rng::of(seed, "setting")).map_err(broken)?;
    // Dice of their own, so that a story without a stop is the one that it was before there were any.
    let (mut rng, mut stop) = (Rng::of(seed, "acts"), Rng::of(seed, "stops"));
    let mut hands = Rng::of(seed, "hands");
    let mut place = Place::new(seed, setting).await.map_err(broken)?;
    place.disk.faulty(true);
    place.start_process(0);
    place.start_process(1);
    for _ in 0..ACTS {
        stops::perhaps(&mut place, &mut stop).await?;
        match rng.weighted(&WEIGHTS, Act::Pass) {
            Act::Start => place.start_run(&mut rng).await.map_err(broken)?,
            Act::Pass => place.pass(Dur::from_millis(rng.within(1, 9_000))).await,
            Act::Kill => place.kill(&mut rng).await,
            Act::Stop => place.stop(&mut rng).await,
            Act::Steer => place.steer(&mut rng).await?,
        }
        if jumps && hands.chance(20) {
            place.jump(&mut hands);
        }
        check::while_running(&place).await?;
        stops::kept(&place).await?;
    }
    let rested = calm(&mut place).await;
    report.trace = std::mem::take(&mut place.trace);
    report.counts = [place.runs.len(), place.edges.calls().len(), place.kills];
    rested?;
    check::at_rest(&place).await?;
    report.receipts = receipts::hold(&place).await?;
    Ok(())
}

/// Ends the faults, helps every run that waits for someone, and demands that all come to an end.
async fn calm(place: &mut Place) -> Result<(), Violation> {
    place.edges.calm();
    place.disk.faulty(false);
    stops::lift_all(place).await?;
    for n in 0..place.processes() {
        place.restart(n);
    }
    // At half its pace a clock needs twice the rounds.
    let rounds = if place.jumps { 2 * ROUNDS_MAX } else { ROUNDS_MAX };
    for _ in 0..rounds {
        place.pass(ROUND.max(place.until_due().await.min(ROUND_MAX))).await;
        if place.at_rest().await? {
            return Ok(());
        }
        people::help(place).await?;
    }
    let late = place.late().await;
    Err(Violation { rule: "liveness", detail: format!("in a calm world these never end: {late}") })
}
