//! Ordinary lives of runs.

use lantern_engine::{Arrival, StepId, StepState};
use lantern_store::approvals::{self, ApprovalFilter};
use lantern_store::inbox::Put;
use lantern_types::approval::Status;
use lantern_types::{Dur, Failure, Limits};
use serde_json::json;

use crate::bench::{Act, Bench};

fn agent() -> serde_json::Value {
    json!({"tools": ["calc", "pay"]})
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_from_queued_to_succeeded() {
    let bench = Bench::new().await;
    bench.agent("a", agent()).await;
    bench.script.on("llm-1", vec![Act::Ask("calc", json!({"expression": "1+1"}))]);
    bench.script.on("llm-1.tool-1", vec![Act::Return(json!({"value": 2}))]);
    bench.script.on("llm-2", vec![Act::Say("two")]);
    bench.start_worker();
    let run = bench.start_run("a", json!({"prompt": "1+1?"})).await;
    let head = bench.until(run, "succeeded").await;
    assert_eq!((head.tokens_in, head.tokens_out, head.owner), (20, 10, None));
    let (run, _) = bench.folded(run).await;
    assert_eq!(*run.output.unwrap(), json!({"result": "two"}));
    assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1.tool-1#1", "llm-2#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_let_go_and_taken_up_again() {
    let bench = Bench::new().await;
    let steps = json!([{"id": "nap", "kind": "sleep", "data": {"duration": "1h"}}, {"id": "go", "kind": "signal", "data": {"name": "go"}},
        {"id": "ok", "kind": "approval", "data": {"reason": "sure?"}}, {"id": "sum", "kind": "tool", "data": {"tool": "calc"}}]);
    bench.agent("s", json!({"program": "steps", "steps": steps})).await;
    bench.script.on("sum", vec![Act::Return(json!(7))]);
    bench.start_worker();
    let run = bench.start_run("s", json!({})).await;
    bench.until(run, "running").await;
    bench.pass(10).await;
    let head = bench.head(run).await;
    assert!(head.owner.is_none() && head.wake_at.is_some(), "nobody holds a run that sleeps");
    bench.pass(3_600).await;
    assert_eq!(bench.head(run).await.wake_at, None, "a signal has no time");
    let go = || Arrival::Signal { name: "go".into(), value: json!(1), key: None };
    assert_eq!(bench.send(run, "k1", go()).await, Put::Stored);
    bench.until(run, "paused").await;
    let yes = Arrival::Approval {
        step: StepId::new("ok"),
        granted: true,
        by: "ada".into(),
        note: None,
        answer: None,
    };
    assert_eq!(bench.send(run, "k2", yes).await, Put::Stored);
    bench.until(run, "succeeded").await;
    assert_eq!(bench.send(run, "k3", go()).await, Put::Closed);
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_question_of_an_earlier_build_gets_its_row_when_its_run_is_taken_up() {
    const FORGET: &str = "DELETE FROM approvals WHERE tenant_id = $1";
    const WAKE: &str = "UPDATE runs SET wake_at = 0 WHERE tenant_id = $1 AND owner IS NULL AND wake_at > 0";
    let bench = Bench::new().await;
    let steps = json!([{"id": "ok", "kind": "approval", "data": {"reason": "sure?"}}]);
    bench.agent("s", json!({"program": "steps", "steps": steps})).await;
    bench.start_worker();
    let run = bench.start_run("s", json!({})).await;
    bench.until(run, "paused").await;
    bench.pass(10).await;
    let rows = async || {
        let filter = ApprovalFilter { statuses: Status::ALL.to_vec(), limit: 9, ..ApprovalFilter::default() };
        approvals::list(&bench.db, bench.scope, filter).await.unwrap()
    };
    let asked = rows().await;
    assert_eq!((asked.len(), asked[0].status, asked[0].run), (1, Status::Pending, run));
    let exec = async |sql| {
        let done = bench.db.write(bench.scope, move |tx| Box::pin(async move { tx.exec(sql, &[]).await }));
        assert_eq!(done.await.unwrap(), 1);
    };
    // What the migration finds: a run that waits, and no row. It makes the run due.
    exec(FORGET).await;
    let version = bench.head(run).await.version;
    exec(WAKE).await;
    bench.pass(10).await;
    assert_eq!(rows().await, asked);
    let head = bench.head(run).await;
    assert_eq!((head.version, head.wake_at), (version, Some(asked[0].expires_at)), "nothing else came of it");
    // It lapses like any other, although nobody looked at it for a day.
    bench.pass(86_400).await;
    assert_eq!(bench.until(run, "failed").await.error_code.as_deref(), Some("approval_expired"));
    assert_eq!(rows().await[0].status, Status::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_is_sent_again_after_it_was_taken_in_changes_nothing() {
    let bench = Bench::new().await;
    let wait = |id: &str| json!({"id": id, "kind": "signal", "data": {"name": "go"}});
    bench.agent("s", json!({"program": "steps", "steps": [wait("a"), wait("b")]})).await;
    bench.start_worker();
    let run = bench.start_run("s", json!({})).await;
    let go =
        |n: u64, key: &str| Arrival::Signal { name: "go".into(), value: json!(n), key: Some(key.into()) };
    assert_eq!(bench.send(run, "k", go(1, "k")).await, Put::Stored);
    bench.pass(60).await;
    assert_eq!(bench.send(run, "k", go(2, "k")).await, Put::Stored, "the first is no longer in the inbox");
    bench.pass(60).await;
    assert_eq!(bench.head(run).await.status, "running");
    bench.kill().await;
    bench.start_worker();
    assert_eq!(bench.send(run, "k", go(3, "k")).await, Put::Stored);
    bench.send(run, "l", go(4, "l")).await;
    bench.until(run, "succeeded").await;
    let (folded, _) = bench.folded(run).await;
    assert_eq!(folded.output.unwrap()["steps"], json!({"a": 1, "b": 4}));
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_made_again_under_a_new_key() {
    let bench = Bench::new().await;
    bench.agent("a", agent()).await;
    let busy = Failure {
        retry_after: Some(Dur::from_secs(20)),
        ..Failure::transient("provider_rate_limited", "busy")
    };
    bench.script.on(
        "llm-1",
        vec![Act::Fail(busy), Act::Fail(Failure::unknown("provider_timeout", "?")), Act::Say("ok")],
    );
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1#2", "llm-1#2"], "an unknown end keeps its key");
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_the_work_that_is_outside() {
    let bench = Bench::new().await;
    bench.agent("a", agent()).await;
    bench.script.on("llm-1", vec![Act::Hang]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    bench.send(run, "c", Arrival::Cancel { by: "ada".into(), reason: None }).await;
    bench.until(run, "cancelled").await;
    bench.pass(7_200).await;
    assert_eq!(bench.script.calls().len(), 1);
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn pausing_and_resuming() {
    let bench = Bench::new().await;
    bench.agent("a", agent()).await;
    bench.script.on("llm-1", vec![Act::Slow(5_000, Box::new(Act::Ask("calc", json!({}))))]);
    bench.script.on("llm-1.tool-1", vec![Act::Return(json!(1))]);
    bench.script.on("llm-2", vec![Act::Say("done")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    bench.send(run, "p", Arrival::Pause { by: "ada".into() }).await;
    bench.until(run, "paused").await;
    bench.pass(600).await;
    assert_eq!(bench.script.calls().len(), 1, "a paused run starts nothing");
    bench.send(run, "r", Arrival::Resume { by: "ada".into() }).await;
    bench.until(run, "succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn a_child_runs_and_reports_and_a_missing_one_fails() {
    let bench = Bench::new().await;
    let steps = |agent: &str| json!({"program": "steps", "steps": [{"id": "sub", "kind": "child", "data": {"agent": agent, "input": {"q": 1}}}]});
    bench.agent("parent", steps("child")).await;
    bench.agent("lost", steps("nobody")).await;
    bench.agent("child", json!({})).await;
    bench.script.on("llm-1", vec![Act::Say("from the child")]);
    bench.start_worker();
    let run = bench.start_run("parent", json!({})).await;
    bench.until(run, "succeeded").await;
    let (folded, _) = bench.folded(run).await;
    assert_eq!(folded.output.unwrap()["steps"]["sub"], json!({"result": "from the child"}));
    let child = bench.child_of(run).await;
    assert_eq!((child.depth, child.trigger_kind.as_str()), (1, "subagent"));
    bench.folded(child.id).await;
    let run = bench.start_run("lost", json!({})).await;
    assert_eq!(bench.until(run, "failed").await.error_code.as_deref(), Some("agent_not_found"));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_lost_its_race_costs_what_it_spent() {
    let bench = Bench::new().await;
    let child = json!({"id": "sub", "kind": "child", "data": {"agent": "child"}});
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"duration": "5s"}});
    let wait = json!({"id": "go", "kind": "signal", "data": {"name": "go"}});
    let race = json!({"id": "r", "kind": "race", "steps": [child, nap]});
    bench.agent("parent", json!({"program": "steps", "steps": [race, wait]})).await;
    bench.agent("child", json!({})).await;
    bench.script.on("llm-1", vec![Act::Hang]);
    bench.start_worker();
    let run = bench.start_run("parent", json!({})).await;
    bench.until_calls(1).await;
    assert!(bench.head(run).await.held.micros() > 0);
    bench.until(bench.child_of(run).await.id, "cancelled").await;
    bench.pass(5).await;
    let head = bench.head(run).await;
    assert_eq!((head.status.as_str(), head.spent.micros(), head.held.micros()), ("running", 0, 0));
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_child_holds_is_waited_for() {
    let bench = Bench::new().await;
    let child = |id: &str, agent: &str| json!({"id": id, "kind": "child", "data": {"agent": agent}});
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"duration": "5s"}});
    let race = json!({"id": "r", "kind": "race", "steps": [child("sub", "slow"), nap]});
    let steps = json!([race, child("next", "quick")]);
    bench.agent("parent", json!({"program": "steps", "steps": steps})).await;
    bench.agent("slow", json!({"program": "steps", "steps": [{"id": "long", "kind": "sleep", "data": {"duration": "1h"}}]})).await;
    bench
        .agent(
            "quick",
            json!({"program": "steps", "steps": [{"id": "go", "kind": "signal", "data": {"name": "go"}}]}),
        )
        .await;
    bench.start_worker();
    let run = bench.start_run("parent", json!({})).await;
    bench.until(run, "running").await;
    bench.pass(20).await;
    // The first child took all there was; the second one has it now, and not nothing.
    let (folded, _) = bench.folded(run).await;
    let granted =
        |id: &str| folded.step(&StepId::new(id)).and_then(|step| step.grant.as_ref()).map(|grant| grant.hold);
    assert_eq!(granted("next"), Some(folded.cap), "of {:?}", folded.held);
    assert_eq!(folded.held, folded.cap);
}

#[tokio::test(start_paused = true)]
async fn a_tree_of_runs_is_bounded_before_anything_is_started() {
    let limits = Limits { child_depth_max: 2, concurrent_runs_per_tenant_max: 4, ..Limits::default() };
    let bench = Bench::under(limits).await;
    let child = |agent: &str| json!({"id": "sub", "kind": "child", "data": {"agent": agent}});
    bench.agent("self", json!({"program": "steps", "steps": [child("self")]})).await;
    let many =
        json!({"id": "all", "kind": "map", "data": {"items": [1, 2, 3, 4, 5]}, "step": child("waits")});
    bench.agent("many", json!({"program": "steps", "steps": [many]})).await;
    let wait = json!({"id": "go", "kind": "signal", "data": {"name": "go"}});
    bench.agent("waits", json!({"program": "steps", "steps": [wait]})).await;
    bench.start_worker();
    let run = bench.start_run("self", json!({})).await;
    bench.until(run, "failed").await;
    let deepest = bench.child_of(bench.child_of(run).await.id).await;
    assert_eq!((deepest.depth, deepest.error_code.as_deref()), (2, Some("too_deep")));

    let run = bench.start_run("many", json!({})).await;
    let head = bench.until(run, "failed").await;
    assert_eq!(head.error_code.as_deref(), Some("too_many_runs"));
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_as_a_new_one() {
    let bench = Bench::new().await;
    let steps = json!([{"id": "go", "kind": "signal", "data": {"name": "{{input.wait}}"}}, {"id": "again", "kind": "continue", "data": {"input": {"wait": "never"}}}]);
    bench.agent("loop", json!({"program": "steps", "steps": steps})).await;
    bench.start_worker();
    let run = bench.start_run("loop", json!({"wait": "go"})).await;
    bench.send(run, "k", Arrival::Signal { name: "go".into(), value: json!(null), key: None }).await;
    bench.until(run, "succeeded").await;
    bench.pass(5).await;
    let next = bench.child_of(run).await;
    let (folded, _) = bench.folded(next.id).await;
    assert_eq!((folded.status().as_str(), folded.input.as_ref()), ("running", &json!({"wait": "never"})));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_asks_for_what_an_agent_does_not_take_fails_and_says_so() {
    let bench = Bench::new().await;
    let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"durationMs": 1}});
    let again = json!({"id": "again", "kind": "continue", "data": {"input": {"n": "many"}}});
    bench.agent("loop", json!({"program": "steps", "steps": [nap, again], "inputSchema": schema})).await;
    bench.agent("picky", json!({"inputSchema": schema})).await;
    let child = json!({"id": "sub", "kind": "child", "data": {"agent": "picky", "input": {"n": "many"}}});
    bench.agent("parent", json!({"program": "steps", "steps": [child]})).await;
    bench.start_worker();
    for agent in ["loop", "parent"] {
        let run = bench.start_run(agent, json!({"n": 1})).await;
        let head = bench.until(run, "failed").await;
        assert_eq!(head.error_code.as_deref(), Some("input_schema_violated"), "{agent}");
        let (folded, _) = bench.folded(run).await;
        assert!(folded.error.unwrap().1.contains("many"), "{agent}");
        assert!(bench.children_of(run).await.is_empty(), "{agent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_given_steps_that_cannot_run_is_not_started_and_its_step_says_why() {
    let bench = Bench::new().await;
    bench.agent("any", json!({})).await;
    bench.script.on("sum", vec![Act::Return(json!(1)), Act::Return(json!(1)), Act::Return(json!(1))]);
    bench.start_worker();
    for (step, words) in [
        (json!({"kind": "jump"}), "input.steps[0].kind"),
        (json!({"id": "sum", "kind": "tool", "tool": "clac"}), "input.steps[0].tool: there is no tool clac"),
        (json!({"kind": "sleep"}), "input.steps[0]: a sleep needs a `duration`"),
    ] {
        let child =
            json!({"id": "sub", "kind": "child", "data": {"agent": "any", "input": {"steps": [step]}}});
        let first = json!({"id": "sum", "kind": "tool", "tool": "calc"});
        let run = bench.start_run("any", json!({"steps": [first, child]})).await;
        assert_eq!(bench.until(run, "failed").await.error_code.as_deref(), Some("steps_invalid"));
        let (folded, _) = bench.folded(run).await;
        let (_, message, step) = folded.error.unwrap();
        assert_eq!(step, Some(StepId::new("sub")));
        assert!(message.contains(words), "{message}");
        assert!(bench.children_of(run).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_journal_is_full_goes_on_with_what_was_said() {
    let limits = Limits { events_per_run_max: 6, ..Limits::default() };
    let bench = Bench::under(limits).await;
    bench.agent("a", json!({"tools": [{"name": "calc", "maxCalls": 1}]})).await;
    bench.script.on("llm-1", vec![Act::Ask("calc", json!({"n": 1}))]);
    bench.script.on("llm-1.tool-1", vec![Act::Return(json!(7))]);
    bench.script.on("llm-2", vec![Act::Ask("calc", json!({"n": 2}))]);
    bench.script.on("llm-3", vec![Act::Say("seven")]);
    bench.start_worker();
    let run = bench.start_run("a", json!({"prompt": "go"})).await;
    bench.until(run, "succeeded").await;
    bench.pass(5).await;
    let next = bench.child_of(run).await;
    bench.archive("a").await;
    assert_eq!(next.trigger_kind, "continue");
    bench.until(next.id, "succeeded").await;
    let (folded, _) = bench.folded(next.id).await;
    assert_eq!(
        (folded.input.as_ref(), folded.carried_calls(&"calc".parse().unwrap())),
        (&json!({"prompt": "go"}), 1)
    );
    let denied = folded.step_named("llm-2.tool-1").unwrap();
    assert!(
        matches!(&denied.state, StepState::Failed { code, .. } if code == "tool_call_limit"),
        "{:?}",
        denied.state
    );
    bench.until(bench.child_of(next.id).await.id, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1.tool-1#1", "llm-2#1", "llm-3#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_map_runs_as_many_at_once_as_it_may() {
    let bench = Bench::new().await;
    let step = json!({"kind": "tool", "data": {"tool": "calc", "arguments": {"n": "{{item}}"}}});
    let steps = json!([{"id": "each", "kind": "map", "data": {"items": [0, 1, 2, 3], "concurrency": 2}, "step": step}]);
    bench.agent("m", json!({"program": "steps", "steps": steps})).await;
    for n in 0..4 {
        bench.script.on(&format!("each[{n}]"), vec![Act::Slow(1_000, Box::new(Act::Return(json!(n))))]);
    }
    bench.start_worker();
    let run = bench.start_run("m", json!({})).await;
    bench.until_calls(2).await;
    bench.pass(0).await;
    assert_eq!(bench.script.calls().len(), 2);
    bench.until(run, "succeeded").await;
    let (folded, _) = bench.folded(run).await;
    assert_eq!(folded.output.unwrap()["steps"]["each"], json!([0, 1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_schema_whose_pattern_would_go_back_is_refused_before_the_model_is_asked() {
    let bench = Bench::new().await;
    let data = json!({"prompt": "hi", "outputSchema": {"type": "string", "pattern": "^(?=(a+)+$)a"}});
    let steps = json!([{"id": "ask", "kind": "llm", "data": data}]);
    bench.agent("s", json!({"program": "steps", "steps": steps})).await;
    bench.start_worker();
    let run = bench.start_run("s", json!({})).await;
    assert_eq!(bench.until(run, "failed").await.error_code.as_deref(), Some("step_data_invalid"));
    assert!(bench.script.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nothing_names_is_swept_and_those_of_runs_stay() {
    let bench = Bench::new().await;
    bench.agent("a", agent()).await;
    bench.script.on("llm-1", vec![Act::Say("fine")]);
    let run = bench.start_run("a", json!({"text": "x".repeat(100_000)})).await;
    let stray = bench.stray().await;
    bench.start_worker();
    bench.until(run, "succeeded").await;
    assert!(bench.is_there(&stray).await);
    bench.pass(700).await;
    assert!(!bench.is_there(&stray).await);
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn the_content_of_a_run_goes_when_it_was_kept_for_long_enough() {
    let mut bench = Bench::new().await;
    bench.keep_content(Some(Dur::from_secs(86_400)));
    bench.agent("a", json!({})).await;
    bench.script.on("llm-1", vec![Act::Say("a secret")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("tell me")).await;
    bench.until(run, "succeeded").await;
    bench.pass(86_000).await;
    assert_eq!(bench.head(run).await.content_removed_at, None);
    let before = bench.appends(run).await;
    bench.pass(1_200).await;
    let head = bench.head(run).await;
    assert!(head.content_removed_at.is_some_and(|at| at <= bench.now()));
    let mut chain = lantern_types::ChainHead::genesis();
    for (was, is) in before.iter().zip(bench.appends(run).await) {
        chain = lantern_store::record::verify(chain, &is).unwrap();
        assert_eq!(
            (&was.bytes, was.body.is_some()),
            (&is.bytes, lantern_store::record::removed_at(&is).is_some())
        );
    }
    assert_eq!(chain, head.chain);
}

/// A model may ask for a tool whatever is on offer, and that makes nothing of what it says right.
#[tokio::test(start_paused = true)]
async fn a_reply_that_asks_for_what_is_not_on_offer_must_hold_its_schema_too() {
    let schema = json!({"type": "object", "required": ["n"]});
    let ask = json!({"id": "ask", "kind": "llm", "prompt": "hi", "outputSchema": schema, "retry": 1});
    let last = json!({"outputSchema": schema, "tools": ["calc"], "maxTurns": 1});
    for (name, manifest, step) in [
        ("none", json!({"outputSchema": schema, "maxTurns": 1}), "llm-1"),
        ("last", last, "llm-1"),
        ("list", json!({"program": "steps", "steps": [ask]}), "ask"),
    ] {
        let bench = Bench::new().await;
        bench.agent(name, manifest).await;
        bench.script.on(step, vec![Act::SayAndAsk("nope", "calc"), Act::SayAndAsk("{\"n\": 1}", "calc")]);
        bench.start_worker();
        let run = bench.start_run(name, json!("hi")).await;
        bench.until(run, "failed").await;
        let (folded, _) = bench.folded(run).await;
        assert_eq!(folded.error.unwrap().0, "output_schema_violated", "{name}");
    }
}
