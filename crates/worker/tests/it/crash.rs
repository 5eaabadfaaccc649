//! Processes that die, stop, or lose their lease.

use lantern_engine::{Arrival, Fact, StepId};
use lantern_store::journal::{GiveUp, RunRow};
use lantern_types::{Dur, Failure};
use serde_json::json;

use crate::bench::{Act, Bench};

#[tokio::test(start_paused = true)]
async fn a_completed_model_call_is_never_made_again() {
    let bench = Bench::new().await;
    bench.agent("a", json!({"tools": ["calc"]})).await;
    bench.script.on("llm-1", vec![Act::Ask("calc", json!({}))]);
    bench.script.on("llm-1.tool-1", vec![Act::Return(json!(1))]);
    bench.script.on("llm-2", vec![Act::Hang, Act::Say("after the crash")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(3).await;
    bench.kill().await;
    bench.pass(60).await;
    assert_eq!(bench.head(run).await.status, "running");
    bench.start_worker();
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1.tool-1#1", "llm-2#1", "llm-2#1"]);
    let (_, events) = bench.folded(run).await;
    let reissued = events.iter().filter(|e| matches!(e.fact, Fact::StepReissued { .. })).count();
    assert_eq!(reissued, 1, "the journal shows both attempts");
}

#[tokio::test(start_paused = true)]
async fn a_crash_uses_up_no_retry() {
    let bench = Bench::new().await;
    bench.agent("a", json!({"retry": {"maxAttempts": 2}})).await;
    let busy = || Act::Fail(Failure::unknown("provider_timeout", "?"));
    bench.script.on("llm-1", vec![Act::Hang, Act::Hang, busy(), Act::Say("at last")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    for calls in 1..=2 {
        bench.crash_after(calls).await;
    }
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1"; 4]);
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_at_the_same_step_again_and_again_is_not_asked_for_ever() {
    let bench = Bench::new().await;
    bench.agent("a", json!({})).await;
    let most = usize::try_from(lantern_types::Limits::default().attempts_per_step_max).unwrap();
    bench.script.on("llm-1", (0..most).map(|_| Act::Hang).collect());
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    for calls in 1..=most {
        bench.crash_after(calls).await;
    }
    assert_eq!(bench.until(run, "failed").await.error_code.as_deref(), Some("attempts_exhausted"));
    assert_eq!(bench.script.calls().len(), most);
}

#[tokio::test(start_paused = true)]
async fn a_paused_run_makes_no_call_again_before_it_is_resumed() {
    for while_dead in [false, true] {
        let bench = Bench::new().await;
        bench.agent("a", json!({})).await;
        bench.script.on("llm-1", vec![Act::Hang, Act::Say("after lunch")]);
        bench.start_worker();
        let run = bench.start_run("a", json!("hi")).await;
        bench.until_calls(1).await;
        if while_dead {
            bench.kill().await;
        }
        bench.send(run, "p", Arrival::Pause { by: "ada".into() }).await;
        if !while_dead {
            bench.until(run, "paused").await;
            bench.kill().await;
        }
        bench.start_worker();
        bench.until(run, "paused").await;
        bench.pass(3_600).await;
        let head = bench.head(run).await;
        assert_eq!(
            (bench.script.calls().len(), head.owner),
            (1, None),
            "nothing is sent, and nobody holds it"
        );
        bench.send(run, "r", Arrival::Resume { by: "ada".into() }).await;
        bench.until(run, "succeeded").await;
        assert_eq!(bench.script.calls(), ["llm-1#1"; 2], "under the same key");
        bench.folded(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_irreversible_call_is_doubted_after_a_crash_and_resolved_by_a_person() {
    let bench = Bench::new().await;
    bench.agent("a", json!({"tools": ["pay"]})).await;
    bench.script.on("llm-1", vec![Act::Ask("pay", json!({}))]);
    bench.script.on("llm-1.tool-1", vec![Act::Hang]);
    bench.script.on("llm-2", vec![Act::Say("paid")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.crash_after(2).await;
    bench.until(run, "paused").await;
    bench.pass(3_600).await;
    assert_eq!(bench.script.calls().len(), 2, "nobody sends it again");
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
}

#[tokio::test(start_paused = true)]
async fn a_reconcilable_call_is_asked_about_after_a_crash() {
    for (answer, calls) in [
        (Act::Return(json!("booked")), vec!["llm-1.tool-1?#1", "llm-2#1"]),
        (Act::Deny, vec!["llm-1.tool-1?#1", "llm-1.tool-1#2", "llm-2#1"]),
    ] {
        let bench = Bench::new().await;
        bench.agent("a", json!({"tools": ["book"], "retry": {"maxAttempts": 1}})).await;
        bench.script.on("llm-1", vec![Act::Ask("book", json!({}))]);
        bench.script.on("llm-1.tool-1", vec![Act::Hang, Act::Return(json!("booked"))]);
        bench.script.on("llm-1.tool-1?", vec![answer]);
        bench.script.on("llm-2", vec![Act::Say("done")]);
        bench.start_worker();
        let run = bench.start_run("a", json!("hi")).await;
        bench.crash_after(2).await;
        bench.until(run, "succeeded").await;
        assert_eq!(bench.script.calls()[2..], calls);
        let (folded, _) = bench.folded(run).await;
        assert_eq!(**folded.step_named("llm-1.tool-1").unwrap().output().unwrap(), json!("booked"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_leaves_the_doubt_to_a_person_and_is_asked_again() {
    let bench = Bench::new().await;
    bench.agent("a", json!({"tools": ["book"]})).await;
    bench.script.on("llm-1", vec![Act::Ask("book", json!({}))]);
    bench.script.on("llm-1.tool-1", vec![Act::Fail(Failure::unknown("tool_broke", "half an answer"))]);
    let down = || Act::Fail(Failure::transient("tool_down", "later"));
    bench.script.on("llm-1.tool-1?", vec![Act::Hang, down(), Act::Slow(60_000, Box::new(Act::Deny))]);
    bench.script.on("llm-2", vec![Act::Say("done")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.crash_after(3).await;
    bench.until_calls(4).await;
    bench.pass(3_600).await;
    let head = bench.head(run).await;
    assert_eq!(
        (head.status.as_str(), head.owner, head.wake_at),
        ("paused", None, None),
        "it waits for a person"
    );
    bench.send(run, "s", Arrival::Signal { name: "x".into(), value: json!(1), key: None }).await;
    bench.until_calls(5).await;
    let step = StepId::new("llm-1.tool-1");
    let found = Arrival::Resolution {
        step,
        happened: true,
        output: json!("booked"),
        by: "ada".into(),
        generation: None,
    };
    bench.send(run, "k", found).await;
    bench.until(run, "succeeded").await;
    bench.pass(120).await;
    let asked = bench.script.calls().iter().filter(|call| call.contains('?')).count();
    let sent = bench.script.calls().iter().filter(|call| call.starts_with("llm-1.tool-1#")).count();
    assert_eq!((asked, sent), (3, 1), "the person was quicker than the last answer");
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_finishes_what_is_outside_and_starts_nothing_new() {
    let bench = Bench::new().await;
    bench.agent("a", json!({"tools": ["calc"]})).await;
    bench.script.on("llm-1", vec![Act::Slow(5_000, Box::new(Act::Ask("calc", json!({}))))]);
    bench.script.on("llm-1.tool-1", vec![Act::Return(json!(1))]);
    bench.script.on("llm-2", vec![Act::Say("done")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    assert!(bench.stop().await.is_empty(), "everything let go in time");
    assert_eq!(bench.script.calls().len(), 1);
    let head = bench.head(run).await;
    assert!(head.owner.is_none() && head.wake_at.is_some());
    bench.start_worker();
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1.tool-1#1", "llm-2#1"], "nothing was done twice");
}

#[tokio::test(start_paused = true)]
async fn what_arrived_while_nobody_ran_is_taken_in_first() {
    let bench = Bench::new().await;
    bench.agent("a", json!({})).await;
    bench.script.on("llm-1", vec![Act::Hang]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    bench.kill().await;
    bench.send(run, "c", Arrival::Cancel { by: "ada".into(), reason: Some("enough".into()) }).await;
    bench.start_worker();
    bench.until(run, "cancelled").await;
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_comes_too_late_is_late_though_nobody_ran() {
    let bench = Bench::new().await;
    let steps = json!([{"id": "ok", "kind": "approval", "data": {"reason": "sure?", "timeout": 60}}]);
    bench.agent("s", json!({"program": "steps", "steps": steps})).await;
    bench.start_worker();
    let run = bench.start_run("s", json!({})).await;
    bench.until(run, "paused").await;
    bench.kill().await;
    bench.pass(3_600).await;
    let yes = Arrival::Approval {
        step: StepId::new("ok"),
        granted: true,
        by: "ada".into(),
        note: None,
        answer: None,
    };
    bench.send(run, "k", yes).await;
    bench.start_worker();
    assert_eq!(bench.until(run, "failed").await.error_code.as_deref(), Some("approval_expired"));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_costs_no_second_model_call() {
    let bench = Bench::new().await;
    bench.agent("a", json!({})).await;
    bench.script.on("llm-1", vec![Act::Slow(2_000, Box::new(Act::Say("paid for")))]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    bench.full(true);
    bench.pass(60).await;
    assert_eq!(bench.head(run).await.status, "running", "the reply is here, and nowhere durable");
    bench.full(false);
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1"]);
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_goes_on_as_a_new_run_answers_once_and_can_be_stopped() {
    let bench = Bench::new().await;
    bench.agent("child", json!({})).await;
    let steps = json!([{"id": "go", "kind": "signal", "data": {"name": "go"}}, {"id": "again", "kind": "continue",
        "data": {"input": {"steps": [{"id": "go", "kind": "signal", "data": {"name": "go"}}]}}}]);
    let parent =
        json!([{"id": "sub", "kind": "child", "data": {"agent": "child", "input": {"steps": steps}}}]);
    bench.agent("looping", json!({"program": "steps", "steps": parent})).await;
    bench.start_worker();
    for stop in [false, true] {
        let run = bench.start_run("looping", json!({})).await;
        bench.until(run, "running").await;
        bench.pass(5).await;
        let child = bench.child_of(run).await;
        bench.send(child.id, "k", Arrival::Signal { name: "go".into(), value: json!(1), key: None }).await;
        bench.until(child.id, "succeeded").await;
        bench.pass(5).await;
        assert_eq!(bench.head(run).await.status, "running", "the child has not answered yet");
        let next = lantern_engine::child_run(child.id, &StepId::new("continue"), 1);
        if stop {
            bench.send(run, "c", Arrival::Cancel { by: "ada".into(), reason: None }).await;
            bench.until(next, "cancelled").await;
        } else {
            bench.send(next, "k", Arrival::Signal { name: "go".into(), value: json!(42), key: None }).await;
            bench.until(run, "succeeded").await;
            let (folded, _) = bench.folded(run).await;
            assert_eq!(folded.output.unwrap()["steps"]["sub"]["steps"]["go"], json!(42));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_keeps_its_lease_until_its_work_is_done() {
    let mut bench = Bench::new().await;
    bench.share();
    bench.agent("a", json!({})).await;
    bench.script.on("llm-1", vec![Act::Slow(20_000, Box::new(Act::Say("done"))), Act::Say("again")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    let first = bench.process();
    bench.start_worker();
    first.shutdown(Dur::from_secs(30)).await;
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1"], "nobody took over what was still under way");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_read_is_left_alone_once_it_was_given_up() {
    let bench = Bench::new().await;
    bench.agent("a", json!({})).await;
    bench.start_worker();
    let fine = bench.start_run("a", json!("hi")).await;
    bench.script.on("llm-1", vec![Act::Say("hello")]);
    bench.until(fine, "succeeded").await;
    bench.kill().await;
    let run = bench.start_run("a", json!("hi")).await;
    bench.newer(run).await;
    bench.start_worker();
    bench.pass(30).await;
    let end = |row: &RunRow| GiveUp {
        run,
        epoch: row.epoch,
        version: row.version,
        at: lantern_types::At::from_micros(1),
        error_code: "run_unreadable",
        asked: "cancel",
    };
    let parked = bench.head(run).await;
    assert_eq!(parked.owner, None, "a format that this build does not know");
    assert!(parked.wake_at.is_some_and(|at| at > bench.now()), "it is looked at again");
    assert!(!bench.give_up(end(&parked)).await, "nobody has asked for that");
    bench.send(run, "cancel", Arrival::Cancel { by: "ada".into(), reason: None }).await;
    bench.pass(30).await;
    let parked = bench.head(run).await;
    assert_eq!((parked.owner, parked.status.as_str()), (None, "queued"));
    assert!(bench.give_up(end(&parked)).await);
    bench.pass(600).await;
    let head = bench.head(run).await;
    assert_eq!((head.status.as_str(), head.epoch), ("failed", parked.epoch), "and nobody takes it up again");
    assert_eq!(bench.script.calls(), ["llm-1#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_one_build_cannot_read_goes_on_in_another_though_nobody_pokes_it() {
    let bench = Bench::new().await;
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"duration": "1h"}});
    bench.agent("s", json!({"program": "steps", "steps": [nap]})).await;
    bench.start_worker();
    let run = bench.start_run("s", json!({})).await;
    bench.until(run, "running").await;
    bench.newer(run).await;
    // The older build looks at it once when the hour is over.
    bench.pass(3_600 + 300).await;
    let parked = bench.head(run).await;
    assert_eq!((parked.status.as_str(), parked.owner, parked.epoch), ("running", None, 2));
    assert!(parked.parked_reason.is_some_and(|why| why.contains("format 2")));
    bench.kill().await;
    bench.start_worker_of("the next one", 2);
    bench.until(run, "succeeded").await;
    assert_eq!(bench.head(run).await.parked_reason, None);
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_of_an_unknown_kind_parks_a_run_once_for_each_build_and_drops_nothing() {
    let bench = Bench::new().await;
    bench.agent("a", json!({})).await;
    let run = bench.start_run("a", json!("hi")).await;
    bench.tomorrow(run).await;
    let before = bench.appends(run).await;
    for (epoch, build) in [(1, "this one"), (2, "another one"), (2, "another one")] {
        bench.start_worker_of(build, lantern_engine::FORMAT);
        bench.pass(600).await;
        let parked = bench.head(run).await;
        assert_eq!((parked.status.as_str(), parked.owner, parked.epoch), ("queued", None, epoch), "{build}");
        assert!(parked.parked_reason.is_some_and(|why| why.contains("Teleported")), "{build}");
        bench.kill().await;
    }
    assert_eq!(bench.appends(run).await, before, "as it was");
    assert!(bench.script.calls().is_empty());
}
