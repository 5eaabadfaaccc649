//! Tier 2: some seeds of the whole system, and the proof that a seed is one story.

use lantern_sim::system::run;

#[test]
fn some_seeds_keep_every_promise() {
    let (mut runs, mut calls, mut kills) = (0, 0, 0);
    for seed in 1..=12 {
        let report = run(seed);
        let again = format!("again: cargo run -p lantern-sim --release -- --system --seed {seed}");
        assert_eq!(report.violation, None, "{}\n{again}", report.trace.join("\n"));
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
