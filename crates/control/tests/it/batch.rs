//! Several runs at once: all or none, in order, once for each key, and counted as so many.

use axum::body::Body;
use http::Request;
use lantern_control::Rate;
use lantern_types::{Dur, Limits};
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, Wishes, on_both, request};

on_both! {
    a_batch_is_started_whole_and_in_order: whole;
    what_is_wrong_with_one_starts_none: none;
    a_key_starts_one_batch: keyed;
    a_run_has_its_priority_and_so_has_what_is_made_of_it: priorities;
}

const BATCH: &str = "/v1/runs/batch";

async fn post(test: &TestApp, runs: Value) -> Answer {
    test.post(&test.a.owner, BATCH, json!({ "runs": runs })).await
}

async fn count(test: &TestApp) -> usize {
    test.get(&test.a.owner, "/v1/runs").await.is(200).json.as_array().unwrap().len()
}

fn ids(answer: &Answer) -> Vec<String> {
    answer.json.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}

async fn agents(test: &TestApp) {
    test.agent(json!({"name": "a"})).await;
    let schema = json!({"type": "object", "required": ["q"]});
    test.agent(json!({"name": "b", "inputSchema": schema})).await;
}

async fn whole(test: &TestApp) {
    agents(test).await;
    let body = json!({"runs": [
        {"agentName": "a", "input": {"n": 0}, "labels": {"env": "prod"}, "maxCostUsd": 0.5},
        {"agent_name": "b", "input": {"q": 1}, "urgent": true},
        {"agentName": "a"}], "note": 1});
    let answer = test.post(&test.a.owner, BATCH, body).await.is(201);
    let ids = ids(&answer);
    let of = |run: &Value| (run["agentName"].clone(), run["status"].clone(), run["omitted"].clone());
    let shown: Vec<_> = answer.json.as_array().unwrap().iter().map(of).collect();
    let want = |agent: &str| (json!(agent), json!("queued"), json!(["input"]));
    assert_eq!(shown, [want("a"), want("b"), want("a")]);
    assert_eq!(answer.header("lantern-ignored"), "note,runs[1].urgent");
    for (id, input) in ids.iter().zip([json!({"n": 0}), json!({"q": 1}), json!({})]) {
        let run = test.get(&test.a.owner, &format!("/v1/runs/{id}")).await.is(200).json;
        assert_eq!((&run["input"], &run["triggerKind"]), (&input, &json!("api")));
        test.get(&test.b.owner, &format!("/v1/runs/{id}")).await.refused(404, "run_not_found");
    }
    let labelled = test.get(&test.a.owner, "/v1/runs?label=env:prod").await.is(200).json;
    assert_eq!(labelled[0]["id"], json!(ids[0]));
    assert_eq!(count(test).await, 3);
}

async fn priorities(test: &TestApp) {
    agents(test).await;
    let post_run = async |body: Value| test.post(&test.a.owner, "/v1/runs", body).await;
    let first = post_run(json!({"agentName": "a", "priority": 5, "idempotencyKey": "k"})).await.is(201);
    assert_eq!(first.json["priority"], 5);
    let again = post_run(json!({"agentName": "a", "priority": 5, "idempotencyKey": "k"})).await.is(201);
    assert_eq!(again.json["id"], first.json["id"]);
    let other = json!({"agentName": "a", "priority": 4, "idempotencyKey": "k"});
    post_run(other).await.refused(409, "idempotency_mismatch");
    for wrong in [json!(6), json!(-6), json!(0.5), json!("high")] {
        let refused =
            post_run(json!({"agentName": "a", "priority": wrong})).await.refused(400, "invalid_body");
        assert_eq!(refused.json["fields"][0]["path"], "priority", "{wrong}");
    }
    let runs =
        json!([{"agentName": "a", "priority": -5}, {"agentName": "a"}, {"agentName": "a", "priority": null}]);
    let batch = post(test, runs).await.is(201);
    let shown: Vec<&Value> = batch.json.as_array().unwrap().iter().map(|run| &run["priority"]).collect();
    assert_eq!(shown, [&json!(-5), &json!(0), &json!(0)]);
    let wrong = post(test, json!([{"agentName": "a"}, {"agentName": "a", "priority": 9}])).await;
    let wrong = wrong.refused(400, "invalid_body");
    assert_eq!(wrong.json["fields"][0]["path"], "runs[1].priority");
    let replay = format!("/v1/runs/{}/replay", ids(&batch)[0]);
    let replay = test.post(&test.a.owner, &replay, json!({})).await.is(201).json;
    assert_eq!(replay["priority"], -5, "it stands in for that run");
    let listed = test.get(&test.a.owner, "/v1/runs?limit=1").await.is(200).json;
    assert_eq!((&listed[0]["id"], &listed[0]["priority"]), (&replay["id"], &json!(-5)));
}

async fn none(test: &TestApp) {
    agents(test).await;
    let fine = || json!({"agentName": "a"});
    for (runs, status, code, paths) in [
        (
            json!([fine(), {"input": 1}, {"agentName": 5}]),
            400,
            "invalid_body",
            vec!["runs[1].agentName", "runs[2].agentName"],
        ),
        (json!([fine(), 7]), 400, "invalid_body", vec!["runs[1]"]),
        (
            json!([fine(), {"agentName": "a", "labels": {"x": 1}}]),
            400,
            "invalid_body",
            vec!["runs[1].labels.x"],
        ),
        (json!([{"agentName": "a", "stream": true}]), 400, "invalid_body", vec!["runs[0].stream"]),
        (
            json!([{"agentName": "a", "idempotencyKey": "k"}]),
            400,
            "invalid_body",
            vec!["runs[0].idempotencyKey"],
        ),
        (
            json!([fine(), {"agentName": "a", "maxCostUsd": 1e6}]),
            400,
            "invalid_body",
            vec!["runs[1].maxCostUsd"],
        ),
        (
            json!([fine(), fine(), fine(), {"agentName": "none"}]),
            404,
            "agent_not_found",
            vec!["runs[3].agentName"],
        ),
        (
            json!([fine(), {"agentName": "b", "input": {}}]),
            400,
            "input_schema_violated",
            vec!["runs[1].input"],
        ),
        (json!([]), 400, "invalid_body", vec!["runs"]),
        (json!({}), 400, "invalid_body", vec!["runs"]),
        (json!(null), 400, "invalid_body", vec!["runs"]),
        (Value::from(vec![fine(); 101]), 400, "invalid_body", vec!["runs"]),
    ] {
        let refused = post(test, runs.clone()).await.refused(status, code);
        assert_eq!(refused.paths(), paths, "{runs} {}", refused.text);
    }
    test.post(&test.a.viewer, BATCH, json!({"runs": [fine()]})).await.refused(403, "role_missing");
    test.post(&test.b.owner, BATCH, json!({"runs": [fine()]})).await.refused(404, "agent_not_found");
    assert_eq!(count(test).await, 0);
    post(test, Value::from(vec![fine(); 100])).await.is(201);
    assert_eq!(count(test).await, 100);
}

fn with_key(test: &TestApp, runs: &Value) -> Request<Body> {
    let mut request = request("POST", BATCH, Some(&test.a.owner), Some(json!({ "runs": runs })));
    request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    request
}

async fn keyed(test: &TestApp) {
    const FORGET: &str = "DELETE FROM idempotency_keys WHERE tenant_id = $1";
    agents(test).await;
    let runs = json!([{"agentName": "a", "input": {"n": 0}}, {"agentName": "a", "input": {"n": 1}}]);
    let first = test.send(with_key(test, &runs)).await.is(201);
    // Remembered, and then known by the runs that are there: the answer may have been lost with its server.
    for _ in 0..2 {
        let again = test.send(with_key(test, &runs)).await.is(201);
        assert_eq!((ids(&again), again.header("idempotent-replayed")), (ids(&first), "true"));
        let forgets =
            test.app.db.write(test.a.scope, |tx| Box::pin(async move { tx.exec(FORGET, &[]).await }));
        assert_eq!(forgets.await.unwrap(), 1);
    }
    for other in [
        json!([{"agentName": "a", "input": {"n": 0}}]),
        json!([{"agentName": "a", "input": {"n": 0}}, {"agentName": "a", "input": {"n": 2}}]),
        json!([{"agentName": "a", "input": {"n": 0}}, {"agentName": "a", "input": {"n": 1}}, {"agentName": "a"}]),
    ] {
        test.send(with_key(test, &other)).await.refused(409, "idempotency_mismatch");
    }
    assert_eq!(count(test).await, 2);
}

#[tokio::test]
async fn a_batch_counts_as_so_many_runs() {
    let spawn = Some(Rate { count: 6, per: Dur::from_secs(60), burst: 4 });
    let limits = Limits { concurrent_runs_per_tenant_max: 5, ..Limits::default() };
    let test = TestApp::with(Wishes { limits, spawn, ..Wishes::default() }).await;
    agents(&test).await;
    let runs = |n: usize| Value::from(vec![json!({"agentName": "a"}); n]);
    // More than there ever may be at once.
    assert_eq!(post(&test, runs(5)).await.refused(400, "invalid_body").paths(), ["runs"]);
    post(&test, runs(3)).await.is(201);
    let refused = post(&test, runs(2)).await.refused(429, "run_rate_limited");
    assert_eq!(refused.header("retry-after"), "10");
    test.post(&test.a.owner, "/v1/runs", json!({"agentName": "a"})).await.is(201);
    test.clock.pass(Dur::from_secs(120));
    // There are four, and two more would be six.
    post(&test, runs(2)).await.refused(429, "too_many_runs");
    post(&test, runs(1)).await.is(201);
    assert_eq!(count(&test).await, 5);
}
