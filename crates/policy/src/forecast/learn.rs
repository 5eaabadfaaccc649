//! One quantity as it depends on the size of the input, learned one run at a time.
//!
//! Works on logarithms: costs spread by factors and not by amounts. A line through the last runs says what is usual for a size,
//! and the distances from it how far a run may lie off.

use std::collections::VecDeque;

/// How many of ten runs may lie outside.
const OUTSIDE: f64 = 0.1;
/// Runs that are remembered.
const REMEMBERED: usize = 120;
/// Runs that are kept when the quantity has changed: about those that it took to notice.
const KEPT: usize = 12;
/// Before this many runs their sizes say nothing.
const SLOPE_RUNS_MIN: usize = 20;
/// Nothing grows faster than this power of the input: twice the text read twice as often, and a bit.
const SLOPE_MAX: f64 = 1.5;
/// How far one run inside or outside moves the level.
const STEP: f64 = 0.04;
/// The level's own bounds.
const LEVEL: (f64, f64) = (0.002, 0.5);
/// A run lies off to one side from this many standard deviations on.
const TOLERANCE: f64 = 0.5;
/// Sums from which the quantity has changed: lying off to one side, and lying outside. With neither, that is seen about once
/// in eight thousand runs.
const LEANS_MAX: f64 = 10.0;
const MISSES_MAX: f64 = 7.0;
/// Among runs that have changed, this part at least is taken to lie outside.
const OUTSIDE_CHANGED: f64 = 0.35;
/// The logistic distribution with this scale is close to the normal one.
const LOGISTIC: f64 = 1.702;
/// Distances that are no distances.
const SAME: f64 = 1e-9;

/// Where the next run will probably lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) middle: f64,
    pub(super) high: f64,
}

/// What is known after some runs.
#[derive(Clone, Debug)]
pub(super) struct Learner {
    /// Sizes and quantities, as logarithms.
    runs: VecDeque<(f64, f64)>,
    level: f64,
    above: f64,
    below: f64,
    misses: f64,
}

impl Default for Learner {
    fn default() -> Self {
        Self { runs: VecDeque::new(), level: OUTSIDE, above: 0.0, below: 0.0, misses: 0.0 }
    }
}

/// What is usual for a size.
#[derive(Clone, Copy)]
struct Line {
    size: f64,
    quantity: f64,
    slope: f64,
}

impl Line {
    fn at(self, size: f64) -> f64 {
        self.slope.mul_add(size - self.size, self.quantity)
    }
}

impl Learner {
    /// Where a run of this size will probably lie; `None` when there were too few.
    pub(super) fn interval(&self, size: u64) -> Option<Interval> {
        if self.runs.len() < super::RUNS_MIN {
            return None;
        }
        let (line, size) = (self.line(), log(size));
        let distances = self.distances(line);
        let (low, middle, high) = (self.level / 2.0, 0.5, 1.0 - self.level / 2.0);
        let at = |part| (line.at(size) + quantile(&distances, part)).exp_m1().max(0.0);
        Some(Interval { low: at(low), middle: at(middle), high: at(high) })
    }

    /// Learns from a run, and says whether the quantity has changed with it.
    pub(super) fn see(&mut self, size: u64, quantity: u64) -> bool {
        let (size, quantity) = (log(size), log(quantity));
        let changed = self.runs.len() >= super::RUNS_MIN && self.judge(size, quantity);
        if changed {
            let old = self.runs.len().saturating_sub(KEPT);
            let runs = self.runs.split_off(old);
            *self = Self { runs, ..Self::default() };
        }
        if self.runs.len() == REMEMBERED {
            self.runs.pop_front();
        }
        self.runs.push_back((size, quantity));
        changed
    }

    /// Knows these runs, and judges none of them.
    pub(super) fn of(runs: impl Iterator<Item = (u64, u64)>) -> Self {
        Self { runs: runs.map(|(size, quantity)| (log(size), log(quantity))).collect(), ..Self::default() }
    }

    /// How many runs it goes by.
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Holds a run against what was known before it.
    fn judge(&mut self, size: f64, quantity: f64) -> bool {
        let line = self.line();
        let distances = self.distances(line);
        let distance = quantity - line.at(size);
        let outside = |level: f64| {
            let (low, high) = (quantile(&distances, level / 2.0), quantile(&distances, 1.0 - level / 2.0));
            distance < low - SAME || distance > high + SAME
        };
        let missed = if outside(self.level) { 1.0 } else { 0.0 };
        // By the level that is asked for, and not by the corrected one, which hides what it corrects.
        let likelier = if outside(OUTSIDE) {
            (OUTSIDE_CHANGED / OUTSIDE).ln()
        } else {
            ((1.0 - OUTSIDE_CHANGED) / (1.0 - OUTSIDE)).ln()
        };
        self.level = STEP.mul_add(OUTSIDE - missed, self.level).clamp(LEVEL.0, LEVEL.1);
        self.misses = (self.misses + likelier).max(0.0);
        let leans = deviation(&distances, distance);
        self.above = (self.above + leans - TOLERANCE).max(0.0);
        self.below = (self.below - leans - TOLERANCE).max(0.0);
        self.misses >= MISSES_MAX || self.above.max(self.below) >= LEANS_MAX
    }

    /// By least squares; level where there are too few runs, or all have the same size.
    fn line(&self) -> Line {
        let n = count(self.runs.len().max(1));
        let size = self.runs.iter().map(|(size, _)| size).sum::<f64>() / n;
        let quantity = self.runs.iter().map(|(_, quantity)| quantity).sum::<f64>() / n;
        let spread: f64 = self.runs.iter().map(|(at, _)| (at - size).powi(2)).sum();
        let together: f64 = self.runs.iter().map(|(at, of)| (at - size) * (of - quantity)).sum();
        let tells = self.runs.len() >= SLOPE_RUNS_MIN && spread > SAME;
        let slope = if tells { (together / spread).clamp(0.0, SLOPE_MAX) } else { 0.0 };
        Line { size, quantity, slope }
    }

    /// How far the runs lie off, the lowest first.
    fn distances(&self, line: Line) -> Vec<f64> {
        let mut distances: Vec<f64> =
            self.runs.iter().map(|(size, quantity)| quantity - line.at(*size)).collect();
        distances.sort_by(f64::total_cmp);
        distances
    }
}

/// How many standard deviations a distance lies off, by its rank among the others.
fn deviation(distances: &[f64], distance: f64) -> f64 {
    let lower = distances.iter().filter(|other| **other < distance - SAME).count();
    let same = distances.iter().filter(|other| (**other - distance).abs() <= SAME).count();
    let rank = (count(lower) + f64::midpoint(count(same), 1.0)) / count(distances.len() + 1);
    (rank / (1.0 - rank)).ln() / LOGISTIC
}

/// Below which distance this part of one more run lies. Beyond the outermost as far as those near it lie apart.
fn quantile(distances: &[f64], part: f64) -> f64 {
    let (Some(first), Some(last)) = (distances.first(), distances.last()) else { return 0.0 };
    let at = part.mul_add(count(distances.len() + 1), -1.0);
    let near = distances.len() / 10 + 1;
    if at <= 0.0 {
        let inner = distances.get(near).unwrap_or(last);
        return (at / 2.0).mul_add(inner - first, *first);
    }
    let beyond = at - count(distances.len() - 1);
    if beyond >= 0.0 {
        let inner = distances.get(distances.len().saturating_sub(near + 1)).unwrap_or(first);
        return (beyond / 2.0).mul_add(last - inner, *last);
    }
    let below = distances.iter().zip(distances.iter().skip(1)).nth(floor(at));
    below.map_or(*last, |(lower, upper)| at.fract().mul_add(upper - lower, *lower))
}

/// Of nothing it is nothing.
#[expect(clippy::cast_precision_loss, reason = "a logarithm of 2^53 is as good as that of its neighbours")]
fn log(quantity: u64) -> f64 {
    (quantity as f64).ln_1p()
}

/// Of runs there are few.
fn count(n: usize) -> f64 {
    u32::try_from(n).map_or_else(|_| f64::from(u32::MAX), f64::from)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` keeps within the range, and a place in a list is none of its ends"
)]
fn floor(at: f64) -> usize {
    at.floor() as usize
}
