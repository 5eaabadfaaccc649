//! How many runs of a tenant are at work, which go first, and what their children inherit.

use lantern_engine::Arrival;
use lantern_types::Limits;
use serde_json::json;

use crate::bench::{Act, Bench};

fn slow(secs: u64) -> Act {
    Act::Slow(secs * 1_000, Box::new(Act::Say("done")))
}

#[tokio::test(start_paused = true)]
async fn so_many_runs_of_a_tenant_are_at_work_and_the_next_begins_when_one_ends() {
    let bench = Bench::under(Limits { runs_at_work_per_tenant_max: 2, ..Limits::default() }).await;
    bench.agent("a", json!({})).await;
    bench.script.on("llm-1", (0..6).map(|_| slow(10)).collect());
    let mut runs = Vec::new();
    for n in 0..6 {
        runs.push(bench.start_run("a", json!({ "n": n })).await);
    }
    bench.start_worker();
    for done in [2, 4, 6] {
        bench.pass(9).await;
        assert_eq!(bench.script.calls().len(), done, "two at a time");
        // A second for two turns of ten: nobody waits for the next time that the worker looks by itself.
        bench.pass(1).await;
    }
    for run in runs {
        bench.until(run, "succeeded").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_is_not_at_work() {
    let bench = Bench::under(Limits { runs_at_work_per_tenant_max: 1, ..Limits::default() }).await;
    let steps = json!([{"id": "go", "kind": "signal", "data": {"name": "go"}}]);
    bench.agent("waits", json!({"program": "steps", "steps": steps})).await;
    let child = json!([{"id": "sub", "kind": "child", "data": {"agent": "waits"}}]);
    bench.agent("parent", json!({"program": "steps", "steps": child})).await;
    bench.agent("a", json!({})).await;
    bench.script.on("llm-1", vec![slow(1)]);
    bench.start_worker();
    let parent = bench.start_run("parent", json!({})).await;
    bench.pass(2).await;
    let child = bench.child_of(parent).await.id;
    let other = bench.start_run("a", json!({})).await;
    bench.until(other, "succeeded").await;
    bench.send(child, "k", Arrival::Signal { name: "go".into(), value: json!(null), key: None }).await;
    bench.until(parent, "succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_run_starts_and_goes_on_as_is_as_urgent_as_that_run() {
    let bench = Bench::new().await;
    let wait = json!({"id": "go", "kind": "signal", "data": {"name": "go"}});
    bench.agent("waits", json!({"program": "steps", "steps": [wait]})).await;
    let sub = json!({"id": "sub", "kind": "child", "data": {"agent": "waits"}});
    let again = json!({"id": "again", "kind": "continue", "data": {"input": {}}});
    bench.agent("parent", json!({"program": "steps", "steps": [sub]})).await;
    bench.agent("loop", json!({"program": "steps", "steps": [wait, again]})).await;
    let (parent, before) =
        (bench.start_run("parent", json!({})).await, bench.start_run("loop", json!({})).await);
    bench.urgent(parent, 4).await;
    bench.urgent(before, -3).await;
    bench.start_worker();
    bench.send(before, "k", Arrival::Signal { name: "go".into(), value: json!(null), key: None }).await;
    bench.until(before, "succeeded").await;
    bench.pass(2).await;
    assert_eq!(bench.child_of(parent).await.priority.get(), 4);
    assert_eq!(bench.child_of(before).await.priority.get(), -3);
}
