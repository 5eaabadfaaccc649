//! Makes a failing list of steps short: whatever can be left out with the same promise still broken is left out.

use crate::op::Op;
use crate::seed::{Report, replay};

/// How many replays a shrink may cost.
const REPLAYS_MAX: usize = 2_000;

/// The shortest failure found from `report`, which must be one; `report` itself when nothing can go.
pub fn shrink(report: Report) -> Report {
    let Some(rule) = report.violation.as_ref().map(|violation| violation.rule) else { return report };
    let mut best = report;
    let mut replays = 0;
    let mut chunk = best.ops.len().div_ceil(2);
    while chunk > 0 && replays < REPLAYS_MAX {
        let mut from = 0;
        let mut shorter = false;
        while from < best.ops.len() && replays < REPLAYS_MAX {
            let tried = replay(best.seed, &without(&best.ops, from, chunk));
            replays += 1;
            if tried.violation.as_ref().is_some_and(|violation| violation.rule == rule) {
                best = tried;
                shorter = true;
            } else {
                from += chunk;
            }
        }
        if !shorter || chunk > 1 {
            chunk /= 2;
        }
    }
    best
}

fn without(ops: &[Op], from: usize, count: usize) -> Vec<Op> {
    ops.iter().enumerate().filter(|(n, _)| !(from..from + count).contains(n)).map(|(_, op)| *op).collect()
}
