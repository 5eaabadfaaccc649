//! Machines whose clocks are hours ahead, or are set while runs are under way.

use lantern_engine::{Arrival, Fact, StepId};
use lantern_types::RunId;
use serde_json::json;

use crate::bench::{Act, Bench};

const HOURS: u64 = 5 * 3_600;

/// How often a step was settled, and whether the run stayed within its cap.
async fn settled(bench: &Bench, run: RunId, name: &str) -> usize {
    let (folded, events) = bench.folded(run).await;
    assert!(folded.spent.plus(folded.held).is_ok_and(|all| all <= folded.cap), "within the cap");
    let of = |fact: &Fact| matches!(fact, Fact::StepSettled { step, .. } if step.as_str() == name);
    events.iter().filter(|event| of(&event.fact)).count()
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_hours_ahead_takes_runs_over_and_repeats_nothing_that_must_not_be() {
    let mut bench = Bench::new().await;
    bench.share();
    bench.agent("a", json!({"tools": ["pay"]})).await;
    bench.script.on("llm-1", vec![Act::Ask("pay", json!({}))]);
    bench.script.on("llm-1.tool-1", vec![Act::Slow(60_000, Box::new(Act::Return(json!("too late"))))]);
    bench.script.on("llm-2", vec![Act::Say("paid")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(2).await;
    let machine = bench.machine();
    machine.set(HOURS);
    // To this one every lease of the other has run out, whenever it looks.
    bench.start_worker_by(machine);
    bench.until(run, "paused").await;
    bench.pass(600).await;
    assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1.tool-1#1"], "nobody pays again");
    let step = StepId::new("llm-1.tool-1");
    let found = Arrival::Resolution {
        step,
        happened: true,
        output: json!("receipt 7"),
        by: "ada".into(),
        generation: None,
    };
    bench.send(run, "k", found).await;
    bench.until(run, "succeeded").await;
    assert_eq!(settled(&bench, run, "llm-1.tool-1").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_clock_is_set_forward_lets_its_runs_go_and_takes_them_up_again() {
    let mut bench = Bench::new().await;
    bench.share();
    bench.agent("a", json!({})).await;
    let late = Act::Slow(20_000, Box::new(Act::Say("too late")));
    bench.script.on("llm-1", vec![late, Act::Say("done")]);
    let machine = bench.machine();
    bench.start_worker_by(machine.clone());
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    machine.set(HOURS);
    bench.until(run, "succeeded").await;
    bench.pass(60).await;
    assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1#1"], "again, and under the same key");
    assert_eq!(settled(&bench, run, "llm-1").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_timer_goes_off_once_whatever_the_clock_is_set_to() {
    let mut bench = Bench::new().await;
    bench.share();
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"duration": "2h"}});
    let sum = json!({"id": "sum", "kind": "tool", "data": {"tool": "calc"}});
    bench.agent("s", json!({"program": "steps", "steps": [nap, sum]})).await;
    bench.script.on("sum", vec![Act::Return(json!(7))]);
    let machine = bench.machine();
    bench.start_worker_by(machine.clone());
    let run = bench.start_run("s", json!({})).await;
    bench.until(run, "running").await;
    bench.pass(60).await;
    // Another machine, whose clock is right, looks for what is due as well.
    bench.start_worker();
    machine.set(3_600);
    bench.pass(600).await;
    assert_eq!(bench.script.calls().len(), 0, "half of it is left");
    machine.set(HOURS);
    bench.until(run, "succeeded").await;
    bench.pass(3 * 3_600).await;
    assert_eq!(bench.script.calls(), ["sum#1"]);
    assert_eq!(settled(&bench, run, "nap").await, 1);
}
