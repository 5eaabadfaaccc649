//! What runs owe to others: in which order it goes out, and what happens to what cannot.

use lantern_engine::{Arrival, StepId, child_run};
use lantern_store::inbox::Put;
use lantern_types::{Limits, RunId};
use serde_json::{Value, json};

use crate::bench::Bench;

/// The run that a step starts, and the row that starts it.
fn start(parent: RunId, step: &str) -> (RunId, Value) {
    let run = child_run(parent, &StepId::new(step), 1);
    let row = json!({"do": "start", "run": run, "parent": {"run": parent, "step": step}, "continues": null,
        "step": step, "agent": "waits", "version": null, "input": {}, "cap": 5, "depth": 1});
    (run, row)
}

fn cancel() -> Arrival {
    Arrival::Cancel { by: "ada".into(), reason: None }
}

fn tell(run: RunId, arrival: &Arrival) -> Value {
    json!({"do": "tell", "run": run, "arrival": arrival})
}

/// A run that waits for a signal which nobody sends.
async fn waiting(bench: &Bench) -> RunId {
    let wait = json!({"id": "go", "kind": "signal", "data": {"name": "go"}});
    bench.agent("waits", json!({"program": "steps", "steps": [wait]})).await;
    let run = bench.start_run("waits", json!({})).await;
    bench.start_worker();
    bench.until(run, "running").await;
    bench.pass(10).await;
    run
}

#[tokio::test(start_paused = true)]
async fn an_order_to_stop_overtakes_the_starts_that_wait_its_own_too() {
    let bench = Bench::new().await;
    let parent = waiting(&bench).await;
    let victim = bench.start_run("waits", json!({})).await;
    bench.until(victim, "running").await;
    bench.kill().await;
    let mut last = parent;
    for n in 0..200 {
        let (run, row) = start(parent, &format!("s{n}"));
        bench.owe(parent, "start", &format!("start:{run}"), row).await;
        last = run;
    }
    for run in [victim, last] {
        bench.owe(parent, "stop", &format!("stop {run}"), tell(run, &cancel())).await;
    }
    bench.slow(5);
    bench.start_worker();
    bench.until(victim, "cancelled").await;
    bench.until_there(last).await;
    bench.until(last, "cancelled").await;
    let (starts, _) = bench.owed("start").await;
    assert!(starts > 100, "only {starts} of 200 starts still waited when the orders had arrived");
    assert_eq!(bench.owed("stop").await, (0, 0));
    bench.slow(0);
    bench.pass(60).await;
    assert_eq!(bench.owed("start").await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_order_to_stop_waits_for_a_start_that_an_earlier_build_owes() {
    let bench = Bench::new().await;
    let parent = waiting(&bench).await;
    bench.kill().await;
    let (run, row) = start(parent, "s");
    bench.owe(parent, "start", "7.0", row).await;
    bench.owe(parent, "tell", "8.0", tell(run, &cancel())).await;
    bench.start_worker();
    bench.until_there(run).await;
    bench.until(run, "cancelled").await;
    bench.pass(60).await;
    assert_eq!((bench.owed("start").await, bench.owed("tell").await), ((0, 0), (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_delivered_hold_up_no_others_and_are_tried_less_and_less() {
    let bench = Bench::under(Limits { inbox_rows_max: 3, ..Limits::default() }).await;
    let parent = waiting(&bench).await;
    // Nobody takes in what lies in the inbox of a run that this build cannot read.
    let deaf = bench.start_run("waits", json!({})).await;
    bench.newer(deaf).await;
    bench.pass(10).await;
    let signal = |n: u64| Arrival::Signal { name: "go".into(), value: json!(n), key: None };
    for n in 0..3 {
        assert_eq!(bench.send(deaf, &format!("k{n}"), signal(n)).await, Put::Stored);
    }
    bench.pass(10).await;
    bench.kill().await;
    for n in 0..30 {
        bench.owe(parent, "tell", &format!("{n}.0"), tell(deaf, &signal(n))).await;
    }
    let (run, row) = start(parent, "s");
    bench.owe(parent, "start", &format!("start:{run}"), row).await;
    bench.owe(parent, "stop", "stop", tell(deaf, &cancel())).await;
    bench.start_worker();
    bench.pass(2).await;
    assert_eq!(bench.head(run).await.status, "running");
    assert_eq!(bench.owed("stop").await, (0, 0), "an order to stop finds room in a full inbox");
    assert_eq!(bench.owed("tell").await, (30, 30));
    // At 0, 15, 45 and 90 s.
    bench.pass(100).await;
    assert_eq!(bench.owed("tell").await, (30, 120));
}

#[tokio::test(start_paused = true)]
async fn several_rows_are_delivered_at_once() {
    let bench = Bench::new().await;
    let parent = waiting(&bench).await;
    bench.kill().await;
    for n in 0..40 {
        let (run, row) = start(parent, &format!("s{n}"));
        bench.owe(parent, "start", &format!("start:{run}"), row).await;
    }
    // Each start is two writes, its run's and its row's: 16 s one after another.
    bench.slow(100);
    bench.start_worker();
    bench.pass(6).await;
    assert_eq!(bench.owed("start").await, (0, 0));
}
