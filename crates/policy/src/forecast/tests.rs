//! Histories that are made up, steady and changing, and what was forecast of them.

use super::*;

/// Numbers that look random and are the same each time: splitmix64, and Box and Muller's way to a normal distribution.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let uniform = ((z ^ (z >> 31)) >> 11) as f64;
        (uniform + 1.0) / 9_007_199_254_740_994.0
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// How what a run usually costs depends on the size of its input and on how many runs there were, both as logarithms and part.
type Usual = fn(f64, f64) -> f64;

/// So many runs of an agent: sizes and costs that spread by factors, and one in twenty that is far off.
fn history(seed: u64, runs: u32, usual: Usual) -> Vec<Past> {
    let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut past = Vec::new();
    for n in 0..runs {
        let size = 1.2f64.mul_add(dice.normal(), 6.0);
        let wide = if dice.uniform() < 0.05 { 1.0 } else { 0.35 };
        let cost = wide * dice.normal() + 8.0 + usual(size - 6.0, f64::from(n) / f64::from(runs));
        let (bytes, cost) = (ceil(size.exp()), ceil(cost.exp()));
        let tokens = micros(bytes) / 4;
        past.push(Past {
            input_bytes: micros(bytes),
            cost,
            tokens_in: tokens,
            tokens_out: micros(cost) / 10,
        });
    }
    past
}

/// Shapes of history: steady, by size, suddenly dearer at half of the runs, dearer and cheaper again, and ever dearer.
const SHAPES: [(&str, Usual); 6] = [
    ("steady", |_, _| 0.0),
    ("by size", |size, _| 0.7 * size),
    ("a step", |_, part| if part < 0.5 { 0.0 } else { 1.2 }),
    ("a step, by size", |size, part| 0.7f64.mul_add(size, if part < 0.5 { 0.0 } else { 1.0 })),
    ("two steps", |_, part| {
        if part < 1.0 / 3.0 {
            0.0
        } else if part < 2.0 / 3.0 {
            1.0
        } else {
            -0.5
        }
    }),
    ("a trend", |_, part| 1.5 * part),
];

/// The runs after which the costs were said to have changed.
fn changes(past: &[Past]) -> Vec<usize> {
    let mut learner = Learner::default();
    let seen = past.iter().enumerate().filter(|(_, run)| learner.see(run.input_bytes, micros(run.cost)));
    seen.map(|(n, _)| n).collect()
}

#[test]
fn nine_of_ten_runs_cost_what_was_said_before_whatever_the_history() {
    for (name, usual) in SHAPES {
        let mut sum = Record::default();
        for seed in 0..10 {
            let record = forecast(&history(seed, 400, usual), 400).unwrap().record;
            assert_eq!(record.tried, 400 - 8);
            sum.tried += record.tried;
            sum.held += record.held;
        }
        let coverage = sum.coverage().unwrap();
        assert!((0.87..=0.93).contains(&coverage), "{name}: {coverage}");
    }
}

#[test]
fn a_change_is_seen_within_fifty_runs_and_none_where_there_is_none() {
    let (mut false_alarms, mut late) = (0, Vec::new());
    for seed in 100..112 {
        for (_, usual) in SHAPES.iter().take(2) {
            false_alarms += changes(&history(seed, 400, *usual)).len();
        }
        for step in [0.6, 1.2] {
            let usual: Usual = if step < 1.0 {
                |size, part| 0.7f64.mul_add(size, if part < 0.5 { 0.0 } else { 0.6 })
            } else {
                |_, part| if part < 0.5 { 0.0 } else { -1.2 }
            };
            let seen = changes(&history(seed, 400, usual)).into_iter().find(|n| *n >= 200);
            if seen.is_none_or(|n| n >= 250) {
                late.push((seed, step, seen));
            }
        }
    }
    assert!(late.is_empty(), "{late:?}");
    assert!(false_alarms <= 4, "{false_alarms} in 9,600 runs");
}

#[test]
fn what_changed_lately_is_told_and_forgotten() {
    let usual: Usual = |_, part| if part < 0.5 { 0.0 } else { 1.2 };
    let past = history(7, 400, usual);
    let drifts = |runs: usize| forecast(past.get(..runs).unwrap(), 400).unwrap().drifts;
    assert_eq!((drifts(200), drifts(240), drifts(400)), (false, true, false));
    let (before, after) = (forecast(past.get(..200).unwrap(), 400).unwrap(), forecast(&past, 400).unwrap());
    let ratio = after.cost.to_wire() / before.cost.to_wire();
    assert!((2.5..4.5).contains(&ratio), "three times as dear, not {ratio}");
}

#[test]
fn a_larger_input_costs_more_where_it_did() {
    let past = history(3, 300, |size, _| 0.7 * size);
    let [small, large] = [100, 4_000].map(|bytes| forecast(&past, bytes).unwrap());
    assert!(small.high < large.high && small.cost < large.cost && small.tokens_in < large.tokens_in);
    assert!(small.low <= small.cost && small.cost <= small.high);
}

#[test]
fn few_runs_tell_nothing_and_equal_runs_all() {
    let run = Past { input_bytes: 40, cost: MicroUsd::from_micros(1_250), tokens_in: 10, tokens_out: 3 };
    assert_eq!(forecast(&[run; 7], 40), None);
    for (run, cost) in [(run, 1_250), (Past { cost: MicroUsd::ZERO, ..run }, 0)] {
        let all = forecast(&[run; 60], 40).unwrap();
        let near = |amount: MicroUsd| (amount.micros() - cost).abs() <= 1;
        assert!(near(all.low) && near(all.cost) && near(all.high), "{all:?}");
        assert_eq!((all.record.tried, all.record.held, all.drifts), (52, 52, false));
        assert!(all.tokens_in.abs_diff(10) <= 1 && all.tokens_out.abs_diff(3) <= 1, "{all:?}");
    }
    let absurd = Past { cost: MicroUsd::from_micros(i64::MAX), input_bytes: u64::MAX, ..run };
    assert!(forecast(&[absurd; 30], u64::MAX).unwrap().high > run.cost);
}
