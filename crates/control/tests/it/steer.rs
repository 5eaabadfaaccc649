//! Cancel, pause, resume, signals, decisions and findings: what lies in the inbox, and what is refused.

use std::time::Duration;

use lantern_engine::{Arrival, Input, Outcome, StepId};
use lantern_store::inbox;
use lantern_types::{Dur, Failure, Limits, MicroUsd, RunId};
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, Wishes, request};
use crate::hand::Hand;

async fn steps(test: &TestApp, steps: Value) -> String {
    test.agent(json!({"name": "s", "program": "steps", "steps": steps})).await;
    test.run(json!({"agentName": "s"})).await
}

async fn nap(test: &TestApp) -> String {
    steps(test, json!([{"id": "nap", "kind": "sleep", "data": {"duration": "1h"}}])).await
}

/// What is answered when whoever drives the run takes in what was asked.
async fn obeyed(test: &TestApp, run: &str, hand: &mut Hand, what: &str, body: Value) -> Answer {
    let mut wakes = test.app.db.hub().workers();
    let obeys = async {
        while hand.drain().await == 0 {
            wakes.next().await;
        }
    };
    tokio::join!(post(test, run, what, body), obeys).0
}

async fn post(test: &TestApp, run: &str, what: &str, body: Value) -> Answer {
    test.post(&test.a.owner, &format!("/v1/runs/{run}/{what}"), body).await
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_is_over_and_says_so() {
    let test = TestApp::new().await;
    let run = nap(&test).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    let answer = obeyed(&test, &run, &mut hand, "cancel", json!({"reason": "enough"})).await;
    assert_eq!(answer.is(200).json["status"], "cancelled");
    for what in ["cancel", "pause", "resume", "signals/go"] {
        post(&test, &run, what, json!({})).await.refused(409, "run_finished");
    }
    post(&test, &run, "approvals/nap", json!({"approved": true})).await.refused(409, "run_finished");
    post(&test, &run, "steps/nap/resolve", json!({"happened": true})).await.refused(409, "run_finished");
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_even_when_nobody_drives_the_run() {
    let test = TestApp::new().await;
    let run = nap(&test).await;
    assert_eq!(post(&test, &run, "cancel", json!({})).await.is(200).json["status"], "queued");
    assert_eq!(post(&test, &run, "cancel", json!({})).await.is(200).json["status"], "queued");
    let mut hand = Hand::take(&test, &run).await;
    assert_eq!(hand.drain().await, 1, "the second request is the first");
    assert_eq!(test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.json["status"], "cancelled");
}

/// Lets a run that waits to add go on as a new one, which nobody has started yet.
async fn go_on(test: &TestApp, run: &str) -> RunId {
    let mut hand = Hand::take(test, run).await;
    hand.give(Input::Wake).await;
    hand.returns("add", json!({"value": 1})).await;
    let shown = test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.json;
    shown["continuedAs"].as_str().unwrap().parse().unwrap()
}

/// An agent whose runs go on as new ones for ever.
async fn endless(test: &TestApp) -> String {
    let add =
        json!({"id": "add", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1"}}});
    steps(test, json!([add, {"id": "again", "kind": "continue", "data": {"input": {"n": 1}}}])).await
}

/// A row by which a run owes the start of another one.
async fn owe(test: &TestApp, run: &str) {
    const OWED: &str = "INSERT INTO outbox (tenant_id, id, run_id, key, kind, payload, due_at, attempts)
        VALUES ($1, $2, $2, 'k', 'start', $3, 1, 0)";
    let params = [run.parse::<RunId>().unwrap().into(), b"sealed".as_slice().into()];
    let owed =
        test.app.db.write(test.a.scope, move |tx| Box::pin(async move { tx.exec(OWED, &params).await }));
    owed.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_order_follows_a_chain_to_its_open_end() {
    let test = TestApp::new().await;
    let first = endless(&test).await;
    let second = go_on(&test, &first).await;
    Hand::continues(&test, &first, second).await;
    let third = go_on(&test, &second.to_string()).await;
    Hand::continues(&test, &second.to_string(), third).await;
    let mut hand = Hand::take(&test, &third.to_string()).await;
    hand.give(Input::Wake).await;
    for (what, status) in [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")] {
        let shown = obeyed(&test, &first, &mut hand, what, json!({})).await.is(200).json;
        assert_eq!((&shown["id"], &shown["status"]), (&json!(third), &json!(status)), "{what}");
    }
    for run in [first, second.to_string(), third.to_string()] {
        let refused = post(&test, &run, "cancel", json!({})).await.refused(409, "run_finished");
        assert_eq!(refused.json["runStatus"], "cancelled");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_waits_for_a_run_that_has_not_begun() {
    let test = TestApp::new().await;
    let first = endless(&test).await;
    let second = go_on(&test, &first).await;
    // Nobody owes its start, so it was refused or is gone.
    post(&test, &first, "cancel", json!({})).await.refused(409, "run_finished");
    owe(&test, &first).await;
    let away = post(&test, &first, "cancel", json!({})).await.refused(503, "unavailable");
    assert_eq!(away.header("retry-after"), "1");
    let cancel = post(&test, &first, "cancel", json!({}));
    let (answer, ()) = tokio::join!(cancel, Hand::continues(&test, &first, second));
    assert_eq!(answer.is(200).json["id"], json!(second));
    assert_eq!(Hand::take(&test, &second.to_string()).await.drain().await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_a_run_ends_on_reaches_the_next() {
    let test = TestApp::new().await;
    let first = endless(&test).await;
    let mut hand = Hand::take(&test, &first).await;
    hand.give(Input::Wake).await;
    let goes_on = async {
        let id = first.parse().unwrap();
        while inbox::list(&test.app.db, test.a.scope, id).await.unwrap().1.is_empty() {
            tokio::task::yield_now().await;
        }
        owe(&test, &first).await;
        hand.returns("add", json!({"value": 1})).await;
        let shown = test.get(&test.a.owner, &format!("/v1/runs/{first}")).await.json;
        let second = shown["continuedAs"].as_str().unwrap().parse().unwrap();
        Hand::continues(&test, &first, second).await;
        Hand::take(&test, &second.to_string()).await.drain().await;
        second
    };
    let (answer, second) = tokio::join!(post(&test, &first, "cancel", json!({})), goes_on);
    assert_eq!(answer.is(200).json["id"], json!(second));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_paused_and_goes_on() {
    let test = TestApp::new().await;
    let run = nap(&test).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    for (what, status) in [("pause", "paused"), ("resume", "running"), ("pause", "paused")] {
        let answer = obeyed(&test, &run, &mut hand, what, json!({})).await;
        assert_eq!(answer.is(200).json["status"], status);
    }
}

#[tokio::test(start_paused = true)]
async fn other_news_of_a_run_is_no_answer() {
    let test = TestApp::new().await;
    for (what, status) in [("pause", "paused"), ("cancel", "cancelled")] {
        let run = nap(&test).await;
        let mut hand = Hand::take(&test, &run).await;
        let asks = post(&test, &run, what, json!({}));
        let obeys = async {
            let scope = test.a.scope;
            let id = run.parse().unwrap();
            let mut wakes = test.app.db.hub().workers();
            while inbox::list(&test.app.db, scope, id).await.unwrap().1.is_empty() {
                wakes.next().await;
            }
            // The run begins, and whoever waits hears of it.
            hand.give(Input::Wake).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            hand.drain().await;
        };
        let (answer, ()) = tokio::join!(asks, obeys);
        assert_eq!(answer.is(200).json["status"], status, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_holds_already_is_answered_at_once() {
    let test = TestApp::new().await;
    let run = nap(&test).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    let quick = async |what: &str| {
        let answer = post(&test, &run, what, json!({}));
        let answer = tokio::time::timeout(Duration::from_secs(1), answer).await;
        answer.expect("it waited for what holds already").is(200).json["status"].clone()
    };
    assert_eq!(quick("resume").await, "running");
    hand.give(Input::Arrived(Arrival::Pause { by: "x".to_owned() })).await;
    assert_eq!(quick("pause").await, "paused");
}

#[tokio::test]
async fn signals_arrive_once_for_each_key() {
    let test = TestApp::new().await;
    let wait = |id: &str| json!({"id": id, "kind": "signal", "data": {"name": "go"}});
    let run = steps(&test, json!([wait("v"), wait("w")])).await;
    let sender = test.key(&["write"]).await;
    let keyed = async |key: &str, n: u64| {
        let path = format!("/v1/runs/{run}/signals/go");
        let mut request = request("POST", &path, Some(&sender), Some(json!({"value": {"n": n}})));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        test.send(request).await
    };
    let accepted = async |key: &str, n: u64| keyed(key, n).await.is(200).json["status"] == "accepted";
    assert!(accepted("k", 1).await);
    assert!(accepted("k", 1).await);
    keyed("k", 2).await.refused(409, "idempotency_mismatch");
    // When the request is forgotten, the run still knows the key.
    test.clock.pass(Dur::from_secs(86_400));
    assert!(accepted("k", 2).await);
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    assert_eq!(hand.drain().await, 1);
    test.clock.pass(Dur::from_secs(86_400));
    assert!(accepted("k", 3).await, "and still after it was taken in");
    assert!(accepted("l", 4).await);
    assert_eq!(hand.drain().await, 2);
    let shown = test.get(&sender, &format!("/v1/runs/{run}")).await.json;
    assert_eq!(
        (&shown["status"], &shown["output"]["steps"]),
        (&json!("succeeded"), &json!({"v": {"n": 1}, "w": {"n": 4}}))
    );
}

#[tokio::test]
async fn an_inbox_takes_so_much_and_no_more() {
    let limits = Limits { inbox_rows_max: 2, ..Limits::default() };
    let test = TestApp::with(Wishes { limits, ..Wishes::default() }).await;
    let run = steps(&test, json!([{"id": "w", "kind": "signal", "data": {"name": "go"}}])).await;
    post(&test, &run, "signals/a", json!({})).await.is(200);
    post(&test, &run, "signals/b", json!({})).await.is(200);
    let full = post(&test, &run, "signals/c", json!({})).await.refused(429, "inbox_full");
    assert_eq!(full.header("retry-after"), "1");
    let name = "n".repeat(300);
    post(&test, &run, &format!("signals/{name}"), json!({})).await.refused(400, "invalid_body");
    post(&test, &run, "signals/%00", json!({})).await.refused(400, "invalid_body");
}

#[tokio::test]
async fn a_signal_is_no_other_because_its_name_and_key_read_alike_together() {
    let test = TestApp::new().await;
    let wait = |id: &str, name: &str| json!({"id": id, "kind": "signal", "data": {"name": name}});
    let run = steps(&test, json!([wait("v", "a:b"), wait("w", "a")])).await;
    let sender = test.key(&["write"]).await;
    for (name, key, n) in [("a:b", "c", 1), ("a", "b:c", 2)] {
        let path = format!("/v1/runs/{run}/signals/{name}");
        let mut request = request("POST", &path, Some(&sender), Some(json!({"value": n})));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        test.send(request).await.is(200);
    }
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    assert_eq!(hand.drain().await, 2, "what was accepted is there");
    let shown = test.get(&sender, &format!("/v1/runs/{run}")).await.json;
    assert_eq!(shown["output"]["steps"], json!({"v": 1, "w": 2}));
}

#[tokio::test]
async fn a_run_keeps_so_many_signals_and_no_more() {
    let limits = Limits {
        signal_bytes_max: 1_000,
        signals_per_run_max: 3,
        signal_bytes_per_run_max: 2_500,
        ..Limits::default()
    };
    let test = TestApp::with(Wishes { limits, ..Wishes::default() }).await;
    let wait = |id: &str, name: &str| json!({"id": id, "kind": "signal", "data": {"name": name}});
    let run = steps(&test, json!([wait("u", "x"), wait("v", "early"), wait("w", "early")])).await;
    let send = async |name: &str, bytes: usize| {
        post(&test, &run, &format!("signals/{name}"), json!({"value": "x".repeat(bytes)})).await
    };
    send("early", 999).await.refused(413, "signal_too_large");
    send("early", 900).await.is(200);
    send("early", 900).await.is(200);
    let full = send("early", 900).await.refused(429, "signals_full");
    assert_eq!(full.header("retry-after"), "1");
    // Taken in they lie in the run itself, and count as before.
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    assert_eq!(hand.drain().await, 2);
    send("early", 900).await.refused(429, "signals_full");
    send("early", 1).await.is(200);
    send("early", 1).await.refused(429, "signals_full");
    assert_eq!(hand.drain().await, 1);
    assert_eq!((hand.run().signals.len(), hand.run().signal_bytes), (3, 902 + 902 + 3));
    // What a step waits for comes in however much is kept.
    send("x", 900).await.is(200);
    assert_eq!(hand.drain().await, 1);
    let shown = test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.json;
    assert_eq!(shown["status"], "succeeded", "what was kept was not lost");
}

#[tokio::test]
async fn an_approval_is_decided_by_those_who_may() {
    let test = TestApp::new().await;
    let ask = |id: &str, approvers: Value| json!({"id": id, "kind": "approval", "data": {"reason": "sure?", "approvers": approvers}});
    let run = steps(
        &test,
        json!([ask("one", json!(["owner@example.com"])), ask("two", json!(["boss@example.com"]))]),
    )
    .await;
    post(&test, &run, "approvals/one", json!({"approved": true})).await.refused(404, "step_not_found");
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    assert_eq!(test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.json["status"], "paused");
    for body in [json!({}), json!({"approved": "yes"}), json!({"approved": null})] {
        assert_eq!(
            post(&test, &run, "approvals/one", body).await.refused(400, "invalid_body").paths(),
            ["approved"]
        );
    }
    post(&test, &run, "approvals/one", json!({"approved": true, "note": "ok"})).await.is(200);
    post(&test, &run, "approvals/one", json!({"approved": false})).await.refused(409, "step_not_waiting");
    assert_eq!(hand.drain().await, 1);
    post(&test, &run, "approvals/one", json!({"approved": true})).await.refused(409, "step_not_waiting");
    post(&test, &run, "approvals/two", json!({"approved": true})).await.refused(403, "not_an_approver");
    post(&test, &run, "signals/approval:two", json!({"value": {"approved": 1}}))
        .await
        .refused(400, "invalid_body");
    post(&test, &run, "signals/approval:none", json!({"value": {"approved": true}}))
        .await
        .refused(404, "step_not_found");
}

#[tokio::test]
async fn a_signal_can_be_a_decision() {
    let test = TestApp::new().await;
    let run = steps(&test, json!([{"id": "ok", "kind": "approval", "data": {"reason": "sure?"}}])).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    post(&test, &run, "signals/approval:ok", json!({"value": {"approved": false, "note": "no"}}))
        .await
        .is(200);
    assert_eq!(hand.drain().await, 1);
    let shown = test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.json;
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!("approval_denied")));
}

#[tokio::test]
async fn a_step_in_doubt_is_resolved_by_someone_who_looked() {
    let test = TestApp::new().await;
    let run =
        steps(&test, json!([{"id": "p", "kind": "tool", "data": {"tool": "pay", "arguments": {}}}])).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    post(&test, &run, "steps/p/resolve", json!({"happened": true})).await.refused(409, "step_not_in_doubt");
    hand.fails("p", Failure::unknown("timeout", "nobody knows")).await;
    post(&test, &run, "steps/q/resolve", json!({"happened": true})).await.refused(404, "step_not_found");
    post(&test, &run, "steps/p/resolve", json!({"output": 1})).await.refused(400, "invalid_body");
    post(&test, &run, "steps/p/resolve", json!({"happened": true, "output": {"paid": 5}})).await.is(200);
    assert_eq!(hand.drain().await, 1);
    let shown = test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.json;
    assert_eq!(
        (&shown["status"], &shown["output"]["steps"]["p"]),
        (&json!("succeeded"), &json!({"paid": 5}))
    );
}

/// A run that was cancelled, and has a child that has not told what it spent.
async fn ending(test: &TestApp) -> (String, Hand) {
    let run = steps(test, json!([{"id": "sub", "kind": "child", "data": {"agent": "s"}}])).await;
    let mut hand = Hand::take(test, &run).await;
    hand.give(Input::Wake).await;
    hand.give(Input::Arrived(Arrival::Cancel { by: "x".to_owned(), reason: None })).await;
    (run, hand)
}

/// The child tells.
async fn told(hand: &mut Hand) {
    let (step, generation, spent) = (StepId::new("sub"), Some(1), MicroUsd::from_micros(7));
    let outcome = Outcome::Cancelled;
    let told = Arrival::ChildFinished { step, generation, outcome, spent, output: json!(null) };
    hand.give(Input::Arrived(told)).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_ending_says_so_and_takes_no_orders() {
    let test = TestApp::new().await;
    let (run, mut hand) = ending(&test).await;
    let path = format!("/v1/runs/{run}");
    let shown = test.get(&test.a.owner, &path).await.is(200).json;
    let due = shown["ending"]["due"].as_str().unwrap();
    assert_eq!(
        (&shown["status"], &shown["ending"]["outcome"]),
        (&json!("running"), &json!("cancelled")),
        "{shown}"
    );
    for what in ["pause", "resume", "signals/go"] {
        let refused = post(&test, &run, what, json!({})).await.refused(409, "run_ending");
        assert_eq!(refused.json["ending"], shown["ending"], "{what}");
    }
    let refused = test.delete(&test.a.owner, &path).await.refused(409, "run_not_finished");
    let words = refused.json["error"].as_str().unwrap();
    assert!(words.contains("is ending") && words.contains(due), "{words}");
    assert_eq!(hand.drain().await, 0, "nothing was put where nobody looks");
    told(&mut hand).await;
    let shown = test.get(&test.a.owner, &path).await.is(200).json;
    assert_eq!((&shown["status"], shown.get("ending")), (&json!("cancelled"), None));
}

#[tokio::test(start_paused = true)]
async fn to_cancel_waits_for_children_that_are_slow_to_tell() {
    let test = TestApp::new().await;
    let (run, mut hand) = ending(&test).await;
    let tells = async {
        test.app.clock.sleep(Dur::from_secs(5)).await;
        told(&mut hand).await;
    };
    let (answer, ()) = tokio::join!(post(&test, &run, "cancel", json!({})), tells);
    assert_eq!(answer.is(200).json["status"], "cancelled");

    let (run, mut hand) = ending(&test).await;
    let shown = post(&test, &run, "cancel", json!({})).await.is(200).json;
    assert_eq!((&shown["status"], &shown["ending"]["outcome"]), (&json!("running"), &json!("cancelled")));
    assert_eq!(hand.drain().await, 0, "it is cancelled already");
}
