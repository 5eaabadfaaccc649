//! One seed, from its world's first run to its last: rolled, or replayed from a list of steps.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::check::{Checked, Violation};
use crate::coverage::Coverage;
use crate::op::Op;
use crate::rng::Rng;
use crate::world::World;

/// The seeds that ever failed, oldest first: they are tried before any other. Changing the generators gives every seed
/// another story, so this list remembers luck, not stories; those are told by tests of the engine.
pub fn remembered() -> impl Iterator<Item = u64> {
    include_str!("../seeds.txt").lines().filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

/// How a seed went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The steps that did something, in order.
    pub ops: Vec<Op>,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// What happened, one line each.
    pub trace: Vec<String>,
    /// What was met.
    pub coverage: Coverage,
}

/// Rolls a seed's steps and takes them.
pub fn run(seed: u64) -> Report {
    let mut rng = Rng::of(seed, "steps");
    let mut left = rng.within(60, 600);
    play(seed, move || {
        left = left.checked_sub(1)?;
        Some(Op::roll(&mut rng))
    })
}

/// Takes the given steps.
pub fn replay(seed: u64, ops: &[Op]) -> Report {
    let mut ops = ops.iter().copied();
    play(seed, move || ops.next())
}

fn play(seed: u64, mut next: impl FnMut() -> Option<Op>) -> Report {
    let mut report =
        Report { seed, ops: Vec::new(), violation: None, trace: Vec::new(), coverage: Coverage::default() };
    let mut world = match World::new(seed) {
        Ok(world) => world,
        Err(violation) => {
            report.violation = Some(violation);
            return report;
        }
    };
    let mut ops = Vec::new();
    let checked = contained(|| {
        while let Some(op) = next() {
            ops.push(op);
            if !world.apply(op)? {
                ops.pop();
            }
        }
        world.settle()?;
        world.close()
    });
    report.violation = checked.err();
    report.ops = ops;
    report.trace = world.trace;
    report.coverage = world.coverage;
    report
}

/// A panic is a broken promise too: the engine asserts what can never be otherwise.
fn contained(play: impl FnOnce() -> Checked) -> Checked {
    catch_unwind(AssertUnwindSafe(play))
        .unwrap_or_else(|panic| Err(Violation { rule: "no-panic", detail: message(panic.as_ref()) }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_same_twice_and_when_replayed() {
        for seed in 0..20 {
            let first = run(seed);
            assert_eq!(first, run(seed));
            assert_eq!(first, replay(seed, &first.ops));
        }
    }
}
