//! Model calls of one run that do not fit its cap together: they wait for one another.

use lantern_engine::{Arrival, Event, Fact, Run, StepState};
use lantern_types::{Acted, Failure, RunId};
use serde_json::{Value, json};

use crate::bench::{Act, Bench};

/// A call that could cost a little more than 10,000 micro-dollars.
fn ask(id: &str) -> Value {
    json!({"id": id, "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o", "maxTokens": 1_000}})
}

/// A map over so many calls, in a run that may spend what one of them and a half could cost.
async fn map(bench: &Bench, items: usize, more: Value) -> RunId {
    bench.priced();
    let mut map = json!({"id": "m", "kind": "map", "items": vec![1; items], "step": ask("each")});
    map.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bench.agent("a", json!({"program": "steps", "maxCostUsd": 0.015, "steps": [map]})).await;
    bench.start_worker();
    bench.start_run("a", json!({})).await
}

fn say(millis: u64) -> Act {
    Act::Slow(millis, Box::new(Act::Say("yes")))
}

/// How many calls stand admitted at once, at most.
fn at_once(run: &Run, events: &[Event]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for event in events {
        let is_call = event.fact.step().and_then(|id| run.step(id)).is_some_and(|step| step.parent.is_some());
        match event.fact {
            Fact::StepAdmitted { .. } if is_call => open += 1,
            Fact::StepSettled { .. } if is_call => open -= 1,
            _ => {}
        }
        most = most.max(open);
    }
    most
}

#[tokio::test(start_paused = true)]
async fn calls_that_fit_one_by_one_wait_for_one_another() {
    let bench = Bench::new().await;
    for n in 0..3 {
        bench.script.on(&format!("m[{n}]"), vec![say(1_000)]);
    }
    let run = map(&bench, 3, json!({})).await;
    bench.until(run, "succeeded").await;
    let (folded, events) = bench.folded(run).await;
    assert_eq!(at_once(&folded, &events), 1);
    assert_eq!(bench.script.calls(), ["m[0]#1", "m[1]#1", "m[2]#1"]);
    assert!(!events.iter().any(|event| matches!(event.fact, Fact::StepDenied { .. })));
    // The next one is admitted with what settled: no append is made for the wait.
    for pair in events.windows(2) {
        if matches!(&pair[1].fact, Fact::StepAdmitted { step, .. } if step.as_str() == "m[1]") {
            assert!(matches!(&pair[0].fact, Fact::StepSettled { step, .. } if step.as_str() == "m[0]"));
            assert_eq!(pair[0].at, pair[1].at);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_costs_nothing_waits_for_nobody() {
    let bench = Bench::new().await;
    bench.priced();
    let tool = json!({"id": "sum", "kind": "tool", "tool": "calc"});
    let race = json!({"id": "r", "kind": "race", "steps": [ask("slow"), ask("waits"), tool]});
    bench.agent("a", json!({"program": "steps", "maxCostUsd": 0.015, "steps": [race]})).await;
    bench.script.on("r.slow", vec![Act::Hang]);
    bench.script.on("r.sum", vec![Act::Return(json!(7))]);
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["r.slow#1", "r.sum#1"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_can_be_stopped_and_its_time_runs_out() {
    let bench = Bench::new().await;
    bench.script.on("m[0]", vec![Act::Hang, Act::Hang]);
    let run = map(&bench, 2, json!({"timeout": 5})).await;
    bench.until(run, "failed").await;
    let (folded, _) = bench.folded(run).await;
    assert_eq!(folded.error.as_ref().unwrap().0, "timeout");
    assert_eq!(folded.step_named("m[1]").unwrap().state, StepState::Abandoned);

    let run = bench.start_run("a", json!({})).await;
    bench.until_calls(2).await;
    let stop = Arrival::Cancel { by: "ada".to_owned(), reason: None };
    bench.send(run, "k", stop).await;
    bench.until(run, "cancelled").await;
    assert_eq!(bench.script.calls(), ["m[0]#1", "m[0]#1"], "who waited was never called");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_is_lost_is_denied() {
    let bench = Bench::new().await;
    let lost = Failure { acted: Acted::Unknown, ..Failure::refused("provider_interrupted", "broke off") };
    bench.script.on("r.first", vec![Act::Slow(1_000, Box::new(Act::Fail(lost)))]);
    bench.priced();
    let race = json!({"id": "r", "kind": "race", "steps": [ask("first"), ask("second")]});
    bench.agent("a", json!({"program": "steps", "maxCostUsd": 0.015, "steps": [race]})).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    let head = bench.until(run, "failed").await;
    assert_eq!(head.error_code.as_deref(), Some("run_budget_exceeded"));
    assert_eq!(bench.script.calls(), ["r.first#1"]);
    let (folded, _) = bench.folded(run).await;
    assert!(folded.step_named("r.second").unwrap().denied);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_child_is_let_go_and_goes_on_waiting_after_a_crash() {
    let bench = Bench::new().await;
    bench.priced();
    let child = json!({"id": "sub", "kind": "child", "data": {"agent": "child"}});
    let race = json!({"id": "r", "kind": "race", "steps": [child, ask("call")]});
    bench.agent("a", json!({"program": "steps", "maxCostUsd": 0.015, "steps": [race]})).await;
    let (go, fails) =
        (json!({"kind": "signal", "name": "go"}), json!({"id": "sum", "kind": "tool", "tool": "calc"}));
    bench.agent("child", json!({"program": "steps", "steps": [go, fails]})).await;
    bench.script.on("r.call", vec![Act::Say("done")]);
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.pass(10).await;
    assert!(bench.head(run).await.owner.is_none(), "nobody holds a run that only waits");
    let seq = bench.head(run).await.version;
    bench.kill().await;
    bench.start_worker();
    bench.pass(60).await;
    assert_eq!(bench.head(run).await.version, seq, "nothing is written for a wait");
    let go = Arrival::Signal { name: "go".to_owned(), value: json!(1), key: None };
    bench.send(bench.child_of(run).await.id, "k", go).await;
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["sum#1", "r.call#1"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_a_crash_took_is_denied() {
    let bench = Bench::new().await;
    bench.script.on("m[0]", vec![Act::Hang]);
    let run = map(&bench, 2, json!({})).await;
    bench.crash_after(1).await;
    let head = bench.until(run, "failed").await;
    assert_eq!(head.error_code.as_deref(), Some("run_budget_exceeded"));
    assert_eq!(bench.script.calls(), ["m[0]#1"]);
    bench.folded(run).await;
}
