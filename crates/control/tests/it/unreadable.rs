//! A run whose journal cannot be read is shown as far as it can be, and is in nobody's way.

use lantern_engine::{Input, child_run};
use lantern_store::journal::{self, RunRow};
use lantern_store::lease::{self, Held};
use lantern_types::{Dur, ProcessId, RunId};
use serde_json::json;

use crate::app::{Answer, TestApp};
use crate::events::Stream;
use crate::hand::{Hand, READER};

const RUNS: &str = "/v1/runs";
const SPOIL: &str = "UPDATE journal SET bytes = $3 WHERE tenant_id = $1 AND run_id = $2";
const SPOIL_BODY: &str = "UPDATE journal SET body = $3 WHERE tenant_id = $1 AND run_id = $2";

/// Writes into the rows of a run.
async fn write(test: &TestApp, run: &str, sql: &'static str, bytes: &'static [u8]) {
    let params = [run.parse::<RunId>().unwrap().into(), bytes.into()];
    let written =
        test.app.db.write(test.a.scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await }));
    assert_eq!(written.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_spoilt_run_spoils_no_list_and_can_be_seen_and_cancelled() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let body = json!({"agentName": "a", "input": {"q": 1}});
    let (fine, text, sealed) =
        (test.run(body.clone()).await, test.run(body.clone()).await, test.run(body).await);
    write(&test, &text, SPOIL, b"{\"no\": ").await;
    write(&test, &sealed, SPOIL_BODY, b"none of ours").await;

    let listed = test.get(&test.a.owner, RUNS).await.is(200).json;
    let shown: Vec<_> = listed.as_array().unwrap().iter().map(|run| (&run["id"], run.get("input"))).collect();
    assert_eq!(shown, [(&json!(sealed), None), (&json!(text), None), (&json!(fine), Some(&json!({"q": 1})))]);
    for run in [&text, &sealed] {
        let path = format!("{RUNS}/{run}");
        let shown = test.get(&test.a.owner, &path).await.is(200).json;
        assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("queued"), &json!("run_unreadable")));
        assert!(!shown["error"]["message"].as_str().unwrap().is_empty());
        let cancelled = test.post(&test.a.owner, &format!("{path}/cancel"), json!({})).await.is(200).json;
        assert_eq!(cancelled["error"]["code"], "run_unreadable");
        test.post(&test.a.owner, &format!("{path}/approvals/x"), json!({"approved": true}))
            .await
            .refused(409, "run_unreadable");
    }
}

async fn head(test: &TestApp, run: &str) -> RunRow {
    journal::head(&test.app.db, test.a.scope, run.parse().unwrap()).await.unwrap().unwrap()
}

/// A worker that takes up whatever is due, cannot read it, and lets it go.
async fn park(test: &TestApp, run: &str) {
    let process = ProcessId::from_uuid(test.app.ids.uuid());
    lease::register(&test.app.db, process, test.app.clock.now(), Dur::from_secs(86_400)).await.unwrap();
    let id: RunId = run.parse().unwrap();
    let claim =
        async || lease::look(&test.app.db, process, READER, test.app.clock.now(), 256).await.unwrap().claimed;
    while !claim().await.iter().any(|claimed| claimed.run == id) {
        tokio::task::yield_now().await;
    }
    let_go(test, run).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_stands_still_says_why() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let (run, newer) = (test.run(json!({"agentName": "a"})).await, test.run(json!({"agentName": "a"})).await);
    let reason = async |run: &str| {
        test.get(&test.a.owner, &format!("{RUNS}/{run}")).await.is(200).json["parkedReason"].clone()
    };
    let hand = Hand::take(&test, &run).await;
    assert_eq!(reason(&run).await, json!(null));
    let row = head(&test, &run).await;
    let held = Held { run: row.id, epoch: row.epoch, version: row.version, pokes: row.pokes };
    let why = lease::Parked { by: Some("by hand"), reason: "unreadable event: of tomorrow".to_owned() };
    assert!(lease::park(&test.app.db, test.a.scope, held, Some(test.app.clock.now()), why).await.unwrap());
    drop(hand);
    assert_eq!(reason(&run).await, "unreadable event: of tomorrow");
    let listed = test.get(&test.a.owner, RUNS).await.is(200).json;
    assert_eq!(listed[1]["parkedReason"], "unreadable event: of tomorrow");

    let_go(&test, &newer).await;
    let sql = "UPDATE runs SET format = $3 WHERE tenant_id = $1 AND id = $2";
    let params = [newer.parse::<RunId>().unwrap().into(), (lantern_engine::FORMAT + 1).into()];
    test.app
        .db
        .write(test.a.scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await }))
        .await
        .unwrap();
    assert!(reason(&newer).await.as_str().unwrap().contains("a newer build goes on with it"));
}

/// Whoever has the run lets it go.
async fn let_go(test: &TestApp, run: &str) {
    let row = head(test, run).await;
    let held = Held { run: row.id, epoch: row.epoch, version: row.version, pokes: row.pokes };
    assert!(lease::release(&test.app.db, test.a.scope, held, None).await.unwrap());
}

async fn cancel(test: &TestApp, run: &str) -> Answer {
    test.post(&test.a.owner, &format!("{RUNS}/{run}/cancel"), json!({"reason": "enough"})).await
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_can_read_is_given_up_when_somebody_cancels_it() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    write(&test, &run, SPOIL, b"{\"no\": ").await;
    let path = format!("{RUNS}/{run}");
    park(&test, &run).await;
    test.delete(&test.a.owner, &path).await.refused(409, "run_not_finished");
    test.post(&test.a.owner, &format!("{path}/pause"), json!({})).await.is(200);
    park(&test, &run).await;
    assert_eq!(head(&test, &run).await.status, "queued", "nobody has asked to give it up");

    let (answer, ()) = tokio::join!(cancel(&test, &run), park(&test, &run));
    let shown = answer.is(200).json;
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!("run_unreadable")));
    cancel(&test, &run).await.refused(409, "run_finished");
    let mut stream = Stream::open(&test, &format!("{path}/events"), None).await;
    assert_eq!(stream.kinds().await, ["error", "end"]);
    test.delete(&test.a.owner, &path).await.is(204);
    test.get(&test.a.owner, &path).await.refused(404, "run_not_found");
}

#[tokio::test(start_paused = true)]
async fn a_stream_says_what_can_be_read_of_a_run_and_then_ends() {
    let test = TestApp::new().await;
    let nap = json!([{"id": "nap", "kind": "sleep", "data": {"duration": "1h"}}]);
    test.agent(json!({"name": "s", "program": "steps", "steps": nap})).await;
    let run = test.run(json!({"agentName": "s"})).await;
    Hand::take(&test, &run).await.give(Input::Wake).await;
    let_go(&test, &run).await;
    let sql = "UPDATE journal SET bytes = $3 WHERE tenant_id = $1 AND run_id = $2 AND first_seq > 1";
    write(&test, &run, sql, b"{}").await;
    let (answer, ()) = tokio::join!(cancel(&test, &run), park(&test, &run));
    assert_eq!(answer.is(200).json["status"], "failed");
    let mut stream = Stream::open(&test, &format!("{RUNS}/{run}/events"), None).await;
    assert_eq!(stream.kinds().await, ["run_started", "error", "end"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_leaves_something_out_says_so_and_can_be_opened_again() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    let path = format!("{RUNS}/{run}/events");
    let spoil = "UPDATE journal SET body = $3 WHERE tenant_id = $1 AND run_id = $2 AND first_seq = 1";
    write(&test, &run, spoil, b"none of ours").await;
    assert_eq!(Stream::open(&test, &path, None).await.kinds().await, ["error"], "it is not over");
    hand.replies("llm-1", "hello").await;
    let mut stream = Stream::open(&test, &path, None).await;
    let error = stream.next().await.unwrap();
    let reason = json!({"code": "run_unreadable", "error": "the run's journal cannot be read"});
    assert_eq!((error.id, error.kind.as_str()), (None, "error"));
    assert_eq!(
        error.data,
        json!({"kind": "error", "runId": run, "code": reason["code"], "error": reason["error"],
            "data": reason, "payload": reason})
    );
    let end = stream.next().await.unwrap();
    assert_eq!((end.id, &end.data["status"]), (None, &json!("succeeded")));
    assert_eq!(stream.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_its_worker_can_read_is_cancelled_and_not_given_up() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    // This build cannot read it, but a worker of another build can, and has it.
    let mut hand = Hand::take(&test, &run).await;
    write(&test, &run, SPOIL, b"{\"no\": ").await;
    assert_eq!(cancel(&test, &run).await.is(200).json["status"], "queued", "it may take its time");
    assert_eq!(hand.drain().await, 1);
    assert_eq!(head(&test, &run).await.status, "cancelled");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_that_was_given_up_is_heard_by_its_parent_and_its_children() {
    let test = TestApp::new().await;
    let child = |agent: &str| json!([{"id": "sub", "kind": "child", "data": {"agent": agent}}]);
    for (name, steps) in [("top", child("middle")), ("middle", child("bottom"))] {
        test.agent(json!({"name": name, "program": "steps", "steps": steps})).await;
    }
    test.agent(json!({"name": "bottom"})).await;
    let mut runs = Vec::new();
    for agent in ["top", "middle", "bottom"] {
        runs.push(test.run(json!({"agentName": agent})).await);
    }
    let (top, middle, bottom) = (runs[0].clone(), runs[1].clone(), runs[2].clone());
    let step = lantern_engine::StepId::new("sub");
    assert_ne!(child_run(top.parse().unwrap(), &step, 1), middle.parse().unwrap(), "related by hand");
    let relate = async |run: &str, parent: &str| {
        let (run, parent): (RunId, RunId) = (run.parse().unwrap(), parent.parse().unwrap());
        let sql = "UPDATE runs SET parent_run_id = $3, parent_step = 'sub' WHERE tenant_id = $1 AND id = $2";
        let params = [run.into(), parent.into()];
        let written =
            test.app.db.write(test.a.scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await }));
        assert_eq!(written.await.unwrap(), 1);
    };
    relate(&middle, &top).await;
    relate(&bottom, &middle).await;
    let mut parent = Hand::take(&test, &top).await;
    parent.give(Input::Wake).await;
    // The first to claim has them all.
    let_go(&test, &middle).await;
    let_go(&test, &bottom).await;
    write(&test, &middle, SPOIL, b"{\"no\": ").await;
    let (answer, ()) = tokio::join!(cancel(&test, &middle), park(&test, &middle));
    answer.is(200);
    assert_eq!(parent.drain().await, 1);
    let shown = test.get(&test.a.owner, &format!("{RUNS}/{top}")).await.json;
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!("run_unreadable")));
    assert_eq!(Hand::take(&test, &bottom).await.drain().await, 1);
    assert_eq!(head(&test, &bottom).await.status, "cancelled");
}
