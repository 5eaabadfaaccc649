//! What runs owe to others: in which order it goes out, and what happens to what cannot.

use lantern_engine::{Arrival, StepId, child_run, continuation};
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
    // Each start is a write of twice 100 ms: 8 s one after another.
    bench.slow(100);
    bench.start_worker();
    bench.pass(4).await;
    assert_eq!(bench.owed("start").await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn rows_go_on_being_delivered_while_others_are_taken() {
    let bench = Bench::new().await;
    let parent = waiting(&bench).await;
    bench.kill().await;
    for n in 0..4 {
        let (run, row) = start(parent, &format!("s{n}"));
        bench.owe(parent, "start", &format!("start:{run}"), row).await;
        let signal = Arrival::Signal { name: "later".into(), value: json!(n), key: None };
        bench.owe(parent, "tell", &format!("{n}.0"), tell(parent, &signal)).await;
    }
    bench.slow(1_000);
    bench.start_worker();
    while bench.owed("tell").await != (4, 4) {
        bench.pass_millis(10).await;
    }
    // 3 s from now the starts are made, and more rows are taken for 2 s. What was told is forgotten after 4 s.
    bench.pass_millis(4_500).await;
    assert_eq!(bench.owed("tell").await, (0, 0));
}

/// Told and forgotten in one commit: a row that is left of a refusal would start the child later, when nobody counts
/// any more what it spends. Killed at any moment.
#[tokio::test(start_paused = true)]
async fn a_child_that_was_refused_is_never_started() {
    let (mut refused, mut begun) = (0, 0);
    for moment in 0..40 {
        let bench = Bench::new().await;
        let sub = json!({"id": "sub", "kind": "child", "data": {"agent": "late"}});
        bench.agent("parent", json!({"program": "steps", "steps": [sub]})).await;
        let parent = bench.start_run("parent", json!({})).await;
        bench.slow(1_000);
        bench.start_worker();
        bench.pass_millis(250 + moment * 500).await;
        bench.kill().await;
        bench.slow(0);
        let wait = json!({"id": "go", "kind": "signal", "data": {"name": "go"}});
        bench.agent("late", json!({"program": "steps", "steps": [wait]})).await;
        bench.start_worker();
        bench.pass(60).await;
        let (head, children) = (bench.head(parent).await, bench.children_of(parent).await.len());
        match head.error_code.as_deref() {
            Some("agent_not_found") => refused += 1,
            _ => begun += 1,
        }
        assert_eq!(children == 0, head.finished_at.is_some(), "killed at {moment}: {}", head.status);
        assert_eq!(bench.owed("start").await, (0, 0));
    }
    assert!(refused > 0 && begun > 0, "{refused} were refused before the kill, {begun} begun after it");
}

/// An order to stop delivers the start that it overtakes, while that is being delivered already.
#[tokio::test(start_paused = true)]
async fn a_start_is_refused_or_made_whoever_delivers_it() {
    let limits = Limits { concurrent_runs_per_tenant_max: 2, ..Limits::default() };
    let bench = Bench::under(limits).await;
    let parent = waiting(&bench).await;
    let other = bench.start_run("waits", json!({})).await;
    bench.until(other, "running").await;
    bench.kill().await;
    let (run, row) = start(parent, "s");
    bench.owe(parent, "start", &format!("start:{run}"), row).await;
    bench.owe(parent, "stop", "stop", tell(run, &cancel())).await;
    bench.slow(1_000);
    bench.start_worker();
    while bench.owed("start").await != (1, 1) {
        bench.pass_millis(10).await;
    }
    // 1 s later they are taken, and after another one the start is refused; the order is a write behind.
    bench.pass_millis(1_500).await;
    bench.end(other).await;
    bench.slow(0);
    bench.pass(60).await;
    assert!(!bench.began(run).await, "the parent was told that it does not begin");
    assert_eq!((bench.owed("start").await, bench.owed("stop").await), ((0, 0), (0, 0)));
}

/// All that was held for the child is charged by then, and nobody would hear what it spends.
#[tokio::test(start_paused = true)]
async fn nothing_is_started_for_a_run_that_is_over_or_gone() {
    let bench = Bench::new().await;
    let (parent, child) = (waiting(&bench).await, bench.start_run("waits", json!({})).await);
    for run in [parent, child] {
        bench.send(run, "cancel", cancel()).await;
        bench.until(run, "cancelled").await;
    }
    bench.kill().await;
    let (run, row) = start(parent, "s");
    bench.owe(parent, "start", &format!("start:{run}"), row).await;
    bench.owe(parent, "stop", "stop", tell(run, &cancel())).await;
    // What a child goes on as answers to its parent, too.
    let gone = child_run(parent, &StepId::new("gone"), 1);
    let mut begun = vec![run];
    for (n, above) in [parent, gone].into_iter().enumerate() {
        let next = child_run(child, &StepId::new("next"), u32::try_from(n).unwrap());
        let version = bench.head(child).await.agent_version_id;
        let row = json!({"do": "start", "run": next, "parent": {"run": above, "step": "s"},
            "continues": {"run": child, "count": 1, "spent": 0}, "step": null, "agent": null,
            "version": version, "input": {}, "cap": 5, "depth": 1});
        bench.owe(child, "continue", &format!("start:{next}"), row).await;
        begun.push(next);
    }
    bench.start_worker();
    bench.pass(60).await;
    for run in begun {
        assert!(!bench.began(run).await, "{run}");
    }
    for kind in ["start", "continue", "stop"] {
        assert_eq!(bench.owed(kind).await, (0, 0), "{kind}");
    }
}

/// The process that took it is gone, and so is its lease.
#[tokio::test(start_paused = true)]
async fn what_a_dead_process_took_is_delivered_at_once_by_the_next() {
    let bench = Bench::new().await;
    let parent = waiting(&bench).await;
    bench.kill().await;
    let (run, row) = start(parent, "s");
    bench.owe(parent, "start", &format!("start:{run}"), row).await;
    bench.slow(1_000);
    bench.start_worker();
    while bench.owed("start").await != (1, 1) {
        bench.pass_millis(10).await;
    }
    bench.kill().await;
    bench.slow(0);
    assert!(!bench.began(run).await, "killed before it was delivered");
    bench.start_worker();
    bench.pass(2).await;
    assert!(bench.began(run).await);
    assert_eq!(bench.owed("start").await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_order_to_stop_what_was_refused_ends_though_its_parent_owes_other_starts() {
    let bench = Bench::under(Limits { inbox_rows_max: 1, ..Limits::default() }).await;
    waiting(&bench).await;
    // Its full inbox holds what it owes back: nobody takes in what lies there.
    let deaf = bench.start_run("waits", json!({})).await;
    bench.newer(deaf).await;
    bench.pass(10).await;
    let signal = Arrival::Signal { name: "go".into(), value: json!(1), key: None };
    assert_eq!(bench.send(deaf, "k", signal).await, Put::Stored);
    bench.kill().await;
    let (other, mut row) = start(deaf, "other");
    row["agent"] = json!("nobody");
    bench.owe(deaf, "start", &format!("start:{other}"), row).await;
    let (refused, _) = start(deaf, "refused");
    bench.owe(deaf, "stop", "stop", tell(refused, &cancel())).await;
    bench.start_worker();
    bench.pass(2).await;
    assert_eq!(bench.owed("start").await, (1, 1), "it is owed as before");
    assert_eq!(bench.owed("stop").await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_order_to_stop_ends_at_a_run_whose_end_nobody_can_read() {
    let bench = Bench::new().await;
    let parent = waiting(&bench).await;
    let over = bench.start_run("waits", json!({})).await;
    bench.send(over, "cancel", cancel()).await;
    bench.until(over, "cancelled").await;
    bench.garble(over).await;
    bench.owe(parent, "stop", "stop", tell(over, &cancel())).await;
    bench.pass(60).await;
    assert_eq!(bench.owed("stop").await, (0, 0));
}

/// A chain of runs each of which is over as soon as it is taken up: it does nothing that takes time.
#[tokio::test(start_paused = true)]
async fn an_order_reaches_a_chain_whose_runs_live_for_a_moment() {
    for (key, order, status) in [
        ("cancel", cancel(), "cancelled"),
        ("pause:1", Arrival::Pause { by: "ada".into() }, "paused"),
        ("stop:parent|2.0", cancel(), "cancelled"),
    ] {
        let limits = Limits { continuations_max: 1_000_000, ..Limits::default() };
        let bench = Bench::under(limits).await;
        bench.slow(5);
        let nothing =
            json!({"id": "m", "kind": "map", "items": [], "step": {"kind": "tool", "tool": "calc"}});
        let again = json!({"id": "again", "kind": "continue"});
        bench.agent("quick", json!({"program": "steps", "steps": [nothing, again]})).await;
        let first = bench.start_run("quick", json!({})).await;
        bench.start_worker();
        bench.until_there(continuation(continuation(first))).await;
        let (at, put) = bench.order(first, key, order).await;
        assert_eq!(put, Put::Stored);
        let next = continuation(at);
        bench.pass(30).await;
        let last = if bench.began(next).await { next } else { at };
        assert_eq!(bench.head(last).await.status, status, "{key}");
        assert!(!bench.began(continuation(last)).await, "{key}: it goes on no more");
    }
}
