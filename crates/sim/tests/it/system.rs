//! Tier 2: some seeds of the whole system, and the proof that a seed is one story.

use lantern_sim::system::{again, run, run_with_jumps};

#[test]
fn some_seeds_keep_every_promise() {
    let (mut runs, mut calls, mut kills) = (0, 0, 0);
    for seed in 1..=12 {
        let report = run(seed);
        assert_eq!(report.violation, None, "{}\n{}", report.trace.join("\n"), again(seed, false));
        let [r, c, k] = report.counts;
        (runs, calls, kills) = (runs + r, calls + c, kills + k);
    }
    assert!(runs > 50 && calls > 100 && kills > 10, "{runs} runs, {calls} calls, {kills} kills prove little");
}

#[test]
fn a_seed_is_one_story() {
    let (first, second) = (run(3), run(3));
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.counts, second.counts);
}

#[test]
fn clocks_that_are_set_by_hours_break_no_promise() {
    let (mut jumps, mut calls) = (0, 0);
    for seed in 1..=8 {
        let report = run_with_jumps(seed);
        assert_eq!(report.violation, None, "{}\n{}", report.trace.join("\n"), again(seed, true));
        jumps += report.trace.iter().filter(|line| line.contains("the clock is set by")).count();
        calls += report.counts[1];
    }
    assert!(jumps > 30 && calls > 60, "{jumps} jumps and {calls} calls prove little");
}
