//! What a run will probably cost, learned from the runs of its agent that are over.
//!
//! An interval around the usual cost for an input of this size, wide enough that nine of ten runs fall into it. How wide that is
//! comes from how far earlier runs lay off (conformal prediction), and is corrected by how often the intervals failed lately
//! (Gibbs and Candès, "Adaptive Conformal Inference Under Distribution Shift", 2021). When runs lie off to one side, or too
//! often, a cumulative sum says so (Page, "Continuous Inspection Schemes", 1954), and what was learned before counts no more.
//!
//! Invariant: the coverage that is told was measured, each run against the interval that was made before it was known. Amounts
//! of money round up. Decides nothing: a forecast holds no money.

mod learn;

use lantern_types::MicroUsd;

use learn::Learner;

/// How many of ten runs the interval is to hold, in hundredths.
pub const LEVEL_PERCENT: u32 = 90;
/// Runs before this many tell nothing of the next one.
pub const RUNS_MIN: usize = 8;
/// Drift that is older than this many runs is not told any more: the interval has learned by then.
const DRIFT_RECENT: usize = 50;

/// A run that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Bytes of its input.
    pub input_bytes: u64,
    /// What it cost.
    pub cost: MicroUsd,
    /// Its prompt tokens.
    pub tokens_in: u64,
    /// Its completion tokens.
    pub tokens_out: u64,
}

/// What the next run will probably cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The usual cost for an input of this size.
    pub cost: MicroUsd,
    /// The interval's lower end.
    pub low: MicroUsd,
    /// Its upper end.
    pub high: MicroUsd,
    /// The usual prompt tokens.
    pub tokens_in: u64,
    /// The usual completion tokens.
    pub tokens_out: u64,
    /// How the intervals before this one did.
    pub record: Record,
    /// The costs changed within the last fifty runs.
    pub drifts: bool,
}

/// How intervals did that were made before their run was known.
#[derive(Clone, Debug, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// Runs that an interval was made for.
    pub tried: u32,
    /// Those of them whose cost lay in it.
    pub held: u32,
    /// The sum of the intervals' widths, for their mean.
    pub widths: MicroUsd,
}

impl Record {
    /// The part of runs whose cost lay in their interval; `None` before there was one.
    pub fn coverage(self) -> Option<f64> {
        (self.tried > 0).then(|| f64::from(self.held) / f64::from(self.tried))
    }

    /// How wide the intervals were, on average.
    pub fn mean_width(self) -> MicroUsd {
        MicroUsd::from_micros(self.widths.micros() / i64::from(self.tried.max(1)))
    }
}

/// The forecast for a run with so many bytes of input, from those before it, the oldest first; `None` when there are too few.
pub fn forecast(past: &[Past], input_bytes: u64) -> Option<Forecast> {
    let mut costs = Learner::default();
    let mut record = Record::default();
    let mut drifted_at = None;
    for (n, run) in past.iter().enumerate() {
        let (size, cost) = (run.input_bytes, micros(run.cost));
        if let Some(interval) = costs.interval(size) {
            let (low, high) = (floor(interval.low), ceil(interval.high));
            record.tried += 1;
            record.held += u32::from(low <= run.cost && run.cost <= high);
            let width = high.minus(low).unwrap_or_default();
            record.widths = record.widths.plus(width).unwrap_or(record.widths);
        }
        if costs.see(size, cost) {
            drifted_at = Some(n);
        }
    }
    let interval = costs.interval(input_bytes)?;
    // Tokens follow the size as costs do, and changed with them; nobody needs to know how far they may lie off.
    let recent = past.get(past.len().saturating_sub(costs.runs())..).unwrap_or_default();
    let usual = |tokens: fn(&Past) -> u64| {
        let learner = Learner::of(recent.iter().map(|run| (run.input_bytes, tokens(run))));
        learner.interval(input_bytes).map_or(0, |interval| ceil(interval.middle).micros().unsigned_abs())
    };
    Some(Forecast {
        cost: ceil(interval.middle),
        low: floor(interval.low),
        high: ceil(interval.high),
        tokens_in: usual(|run| run.tokens_in),
        tokens_out: usual(|run| run.tokens_out),
        record,
        drifts: drifted_at.is_some_and(|at| at + DRIFT_RECENT >= past.len()),
    })
}

fn micros(cost: MicroUsd) -> u64 {
    u64::try_from(cost.micros()).unwrap_or(0)
}

fn ceil(amount: f64) -> MicroUsd {
    whole(amount.ceil())
}

fn floor(amount: f64) -> MicroUsd {
    whole(amount.floor())
}

/// At least nothing, and at most what an amount can be.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` keeps within the range of an i64, and there is no other way"
)]
fn whole(amount: f64) -> MicroUsd {
    MicroUsd::from_micros((amount as i64).max(0))
}

#[cfg(test)]
mod tests;
