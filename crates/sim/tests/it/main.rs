//! Seeds: a few hundred at each test run, after those that ever failed, with everything met that can be met.

#[cfg(feature = "system")]
mod system;

use lantern_sim::coverage::Coverage;
use lantern_sim::seed::{remembered, run};
use lantern_sim::shrink::shrink;

#[test]
fn six_hundred_seeds_keep_every_promise() {
    let mut met = Coverage::default();
    for seed in remembered().chain(1..=600) {
        let report = run(seed);
        met.add(&report.coverage);
        if report.violation.is_some() {
            let report = shrink(report);
            panic!(
                "seed {seed}: {:?}\n{}\nagain: cargo run -p lantern-sim --release -- --seed {seed}",
                report.violation,
                report.trace.join("\n")
            );
        }
    }
    assert_eq!(met.missing(), [""; 0], "a simulator that never meets a state proves nothing about it");
}
