//! Runs: started once, checked before, read back, listed, deleted.

use lantern_control::Rate;
use lantern_engine::Input;
use lantern_types::{Dur, Failure, Limits};
use serde_json::{Value, json};

use crate::app::{TestApp, Wishes, request};
use crate::hand::Hand;

const RUNS: &str = "/v1/runs";

#[tokio::test]
async fn a_run_is_queued_driven_and_read_back() {
    let test = TestApp::new().await;
    let agent = test.agent(json!({"name": "a"})).await;
    let body = json!({"agent_name": "a", "input": {"q": "hi"}, "labels": {"k": "v"}, "x": 1});
    let made = test.post(&test.a.owner, RUNS, body).await.is(201);
    assert_eq!(made.header("lantern-ignored"), "x");
    let id = made.json["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/v1/runs/{id}"));
    for (field, want) in [
        ("status", json!("queued")),
        ("agentName", json!("a")),
        ("agentId", agent["id"].clone()),
        ("agentVersionId", agent["currentVersionId"].clone()),
        ("tenantId", json!(test.a.id)),
        ("input", json!({"q": "hi"})),
        ("labels", json!({"k": "v"})),
        ("triggerKind", json!("api")),
        ("triggerMeta", json!([])),
        ("tokensIn", json!(0)),
    ] {
        assert_eq!(made.json[field], want, "{field}");
    }
    let mut hand = Hand::take(&test, &id).await;
    hand.give(Input::Wake).await;
    hand.replies("llm-1", "hello").await;
    let run = test.get(&test.a.owner, &format!("{RUNS}/{id}")).await.is(200).json;
    assert_eq!((&run["status"], &run["output"]), (&json!("succeeded"), &json!({"result": "hello"})));
    assert_eq!((&run["tokensIn"], &run["tokensOut"]), (&json!(10), &json!(5)));
    assert!(run["costUsd"].as_f64().unwrap() > 0.0 && run["finishedAt"].is_string());
    let log = run["triggerMeta"].as_array().unwrap();
    assert_eq!((&log[0]["step"], &log[0]["status"]), (&json!("llm-1"), &json!("running")));
    assert_eq!(log[1]["status"], "completed");
    let listed = test.get(&test.a.owner, RUNS).await.is(200).json;
    assert_eq!((&listed[0]["output"], &listed[0]["triggerMeta"]), (&run["output"], &run["triggerMeta"]));
}

#[tokio::test]
async fn a_failed_run_says_why() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a", "retry": {"maxAttempts": 1}})).await;
    let id = test.run(json!({"agentName": "a"})).await;
    let mut hand = Hand::take(&test, &id).await;
    hand.give(Input::Wake).await;
    hand.fails("llm-1", Failure::refused("provider_auth", "the key is wrong")).await;
    let run = test.get(&test.a.owner, &format!("{RUNS}/{id}")).await.is(200).json;
    assert_eq!(run["status"], "failed");
    assert_eq!(run["error"]["code"], "provider_auth");
    assert_eq!(run["error"]["stepId"], "llm-1");
    assert!(run["error"]["message"].as_str().unwrap().contains("the key is wrong"), "{run}");
}

#[tokio::test]
async fn what_cannot_start_is_refused_before_anything_is_written() {
    let limits = Limits { input_bytes_max: 200, ..Limits::default() };
    let test = TestApp::with(Wishes { limits, ..Wishes::default() }).await;
    let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    test.agent(json!({"name": "strict", "inputSchema": schema})).await;
    test.agent(json!({"name": "steps", "program": "steps"})).await;
    let post = async |body: Value| test.post(&test.a.owner, RUNS, body).await;
    post(json!({"agentName": "nobody"})).await.refused(404, "agent_not_found");
    post(json!({"agentName": "\u{1F4A9}/../x"})).await.refused(404, "agent_not_found");
    post(json!({})).await.refused(400, "invalid_body");
    let wrong = json!({"agentName": "strict", "input": {"n": "one"}});
    assert_eq!(post(wrong).await.refused(400, "input_schema_violated").paths(), ["input.n"]);
    assert_eq!(
        post(json!({"agentName": "strict"})).await.refused(400, "input_schema_violated").paths(),
        ["input"]
    );
    let long = json!({"agentName": "strict", "input": {"n": 1, "pad": "x".repeat(300)}});
    post(long).await.refused(413, "input_too_large");
    let steps = json!({"agentName": "steps", "input": {"steps": [{"kind": "jump"}]}});
    assert_eq!(post(steps).await.refused(400, "invalid_input").json["reason"], "steps_invalid");
    for (field, value) in [
        ("labels", json!({"a": 1})),
        ("labels", json!([])),
        ("stream", json!("yes")),
        ("idempotencyKey", json!("x".repeat(300))),
        ("maxCostUsd", json!("free")),
    ] {
        let answer = post(json!({"agentName": "strict", field: value})).await.refused(400, "invalid_body");
        assert!(answer.paths()[0].starts_with(field), "{}", answer.text);
    }
    assert_eq!(test.get(&test.a.owner, RUNS).await.json, json!([]));
}

#[tokio::test]
async fn a_key_starts_one_run_for_each_tenant() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let keyed = async |token: &str, key: &str| {
        let mut request = request("POST", RUNS, Some(token), Some(json!({"agentName": "a"})));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        test.send(request).await
    };
    let first = keyed(&test.a.owner, "once").await.is(201).json;
    let again = keyed(&test.a.owner, "once").await.is(201);
    assert_eq!((again.header("idempotent-replayed"), &again.json), ("true", &first));
    assert_ne!(keyed(&test.a.owner, "twice").await.is(201).json["id"], first["id"]);
    let body = json!({"agentName": "a", "idempotency_key": "once"});
    let again = test.post(&test.a.owner, RUNS, body).await.is(201);
    assert_eq!((again.header("idempotent-replayed"), &again.json["id"]), ("true", &first["id"]));
    test.post(&test.b.owner, "/v1/agents", json!({"name": "a"})).await.is(201);
    assert_ne!(keyed(&test.b.owner, "once").await.is(201).json["id"], first["id"]);
    assert_eq!(test.get(&test.a.owner, RUNS).await.json.as_array().unwrap().len(), 2);
    // The first run stands even when its agent could not be started any more.
    test.delete(&test.a.owner, "/v1/agents/a").await.is(204);
    assert_eq!(keyed(&test.a.owner, "once").await.is(201).json["id"], first["id"]);
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let test = TestApp::new().await;
    for name in ["a", "b"] {
        test.agent(json!({"name": name})).await;
    }
    let session = test.session("a").await;
    let post = async |body: Value| test.post(&test.a.owner, RUNS, body).await;
    let body = json!({"agentName": "a", "input": {"n": 1.50, "m": [1]}, "labels": {"a": "b"}, "idempotencyKey": "k",
        "maxCostUsd": 1, "sessionId": session});
    let first = post(body.clone()).await.is(201).json;
    assert_eq!(post(body.clone()).await.is(201).json["id"], first["id"]);
    for (field, value) in [
        ("labels", json!({})),
        ("maxCostUsd", json!(2)),
        ("maxCostUsd", json!(null)),
        ("sessionId", json!(null)),
        ("input", json!({"n": 1.5})),
    ] {
        let mut other = body.clone();
        other[field] = value;
        post(other).await.refused(409, "idempotency_mismatch");
    }
    for other in [
        json!({"agentName": "a", "input": {"n": 2, "m": [1]}, "idempotencyKey": "k"}),
        json!({"agentName": "b", "input": {"n": 1.50, "m": [1]}, "idempotencyKey": "k"}),
        json!({"agentName": "a", "idempotencyKey": "k"}),
    ] {
        post(other).await.refused(409, "idempotency_mismatch");
    }
    assert_eq!(test.get(&test.a.owner, RUNS).await.json.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_session_that_is_no_id_is_left_out_and_said_so() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    for (field, value) in [("sessionId", json!("chat-7")), ("session_id", json!(7))] {
        let made = test.post(&test.a.owner, RUNS, json!({"agentName": "a", field: value})).await.is(201);
        assert_eq!((made.json.get("sessionId"), made.header("lantern-ignored")), (None, field));
    }
}

#[tokio::test]
async fn a_request_may_not_ask_for_more_than_a_run_may_cost() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let post = async |dollars: Value| {
        test.post(&test.a.owner, RUNS, json!({"agentName": "a", "maxCostUsd": dollars})).await
    };
    post(json!(100)).await.is(201);
    for more in [json!("100.000001"), json!(1_000_000)] {
        assert_eq!(post(more).await.refused(400, "invalid_body").paths(), ["maxCostUsd"]);
    }
}

#[tokio::test]
async fn a_tenant_starts_as_many_runs_as_the_rate_lets_through() {
    let spawn = Some(Rate { count: 120, per: Dur::from_secs(60), burst: 2 });
    let test = TestApp::with(Wishes { spawn, ..Wishes::default() }).await;
    test.agent(json!({"name": "a"})).await;
    test.run(json!({"agentName": "a"})).await;
    test.run(json!({"agentName": "a"})).await;
    let late =
        test.post(&test.a.owner, RUNS, json!({"agentName": "a"})).await.refused(429, "run_rate_limited");
    assert_eq!(late.json["error"], "rate limited: too many runs, slow down");
    assert_eq!(late.header("retry-after"), "1");
    test.post(&test.b.owner, RUNS, json!({"agentName": "a"})).await.is(404);
    test.clock.pass(Dur::from_secs(1));
    test.run(json!({"agentName": "a"})).await;
}

#[tokio::test]
async fn a_minute_lets_as_many_runs_through_as_the_limit_says() {
    for count in [5, 120] {
        let spawn = Some(Rate { count, per: Dur::from_secs(60), burst: count });
        let test = TestApp::with(Wishes { spawn, ..Wishes::default() }).await;
        test.agent(json!({"name": "a"})).await;
        // What starts no run is not counted.
        test.post(&test.a.owner, RUNS, json!({"agentName": "nobody"})).await.refused(404, "agent_not_found");
        for _ in 0..count {
            test.run(json!({"agentName": "a"})).await;
        }
        let body = json!({"agentName": "a"});
        let late = test.post(&test.a.owner, RUNS, body).await.refused(429, "run_rate_limited");
        assert!((1..=60).contains(&late.header("retry-after").parse::<u32>().unwrap()));
        test.clock.pass(Dur::from_secs(60));
        test.run(json!({"agentName": "a"})).await;
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_runs_at_once_and_no_more() {
    let limits = Limits { concurrent_runs_per_tenant_max: 2, ..Limits::default() };
    let test = TestApp::with(Wishes { limits, ..Wishes::default() }).await;
    test.agent(json!({"name": "a"})).await;
    let first = test.run(json!({"agentName": "a"})).await;
    test.run(json!({"agentName": "a"})).await;
    let long = json!({"agentName": "a", "input": {"text": "x".repeat(100_000)}});
    let late = test.post(&test.a.owner, RUNS, long).await.refused(429, "too_many_runs");
    assert_eq!(late.header("retry-after"), "5");
    test.post(&test.b.owner, "/v1/agents", json!({"name": "a"})).await.is(201);
    test.post(&test.b.owner, RUNS, json!({"agentName": "a"})).await.is(201);
    let mut hand = Hand::take(&test, &first).await;
    hand.give(Input::Wake).await;
    hand.replies("llm-1", "ok").await;
    test.run(json!({"agentName": "a"})).await;
}

#[tokio::test]
async fn a_list_leaves_out_what_is_long_and_says_so() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let long = test.run(json!({"agentName": "a", "input": {"text": "x".repeat(100_000)}})).await;
    let short = test.run(json!({"agentName": "a", "input": {"n": 1}})).await;
    let mut hand = Hand::take(&test, &long).await;
    hand.give(Input::Wake).await;
    hand.fails("llm-1", Failure::refused("provider_auth", "the key is wrong")).await;
    let list = test.get(&test.a.owner, RUNS).await.is(200).json;
    assert_eq!((&list[0]["id"], &list[0]["input"]), (&json!(short), &json!({"n": 1})));
    assert_eq!((list[0].get("omitted"), list[1].get("input")), (None, None));
    assert_eq!(list[1]["omitted"], json!(["input"]));
    // What went wrong, and where, is never left out.
    assert_eq!(list[1]["error"]["code"], "provider_auth");
    assert_eq!((&list[1]["triggerMeta"][0]["step"], &list[0]["triggerMeta"]), (&json!("llm-1"), &json!([])));
    let shown = test.get(&test.a.owner, &format!("{RUNS}/{long}")).await.is(200).json;
    assert_eq!(shown["input"]["text"].as_str().unwrap().len(), 100_000);
    assert_eq!(shown["triggerMeta"], list[1]["triggerMeta"]);
}

#[tokio::test]
async fn a_run_that_went_on_as_a_new_one_names_it() {
    let test = TestApp::new().await;
    let steps = json!([{"id": "add", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1"}}},
        {"id": "again", "kind": "continue", "data": {"input": {"n": 1}}}]);
    test.agent(json!({"name": "a", "program": "steps", "steps": steps})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    let shown = test.get(&test.a.owner, &format!("{RUNS}/{run}")).await.is(200).json;
    assert_eq!(shown.get("continuedAs"), None);
    hand.returns("add", json!({"value": 1})).await;
    let shown = test.get(&test.a.owner, &format!("{RUNS}/{run}")).await.is(200).json;
    assert_eq!(shown["status"], "succeeded");
    assert_eq!(shown["continuedAs"], shown["output"]["continuedAs"]);
    assert_eq!(test.get(&test.a.owner, RUNS).await.json[0]["continuedAs"], shown["continuedAs"]);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let test = TestApp::new().await;
    for name in ["a", "b"] {
        test.agent(json!({"name": name})).await;
        for _ in 0..3 {
            test.run(json!({"agentName": name})).await;
        }
    }
    let list = async |query: &str| test.get(&test.a.owner, &format!("{RUNS}?{query}")).await;
    assert_eq!(list("agent=a").await.is(200).json.as_array().unwrap().len(), 3);
    assert_eq!(list("status=failed").await.is(200).json, json!([]));
    let page = list("agent=b&limit=2&status=queued").await.is(200);
    let next = page.header("link").split(['<', '>']).nth(1).unwrap().to_owned();
    let rest = test.get(&test.a.owner, &next).await.is(200);
    assert_eq!((page.json.as_array().unwrap().len(), rest.json.as_array().unwrap().len()), (2, 1));
    assert_eq!(list("limit=1000").await.is(200).json.as_array().unwrap().len(), 6);
    for word in ["canceled", "cancelled", "completed", "succeeded"] {
        assert_eq!(list(&format!("status={word}")).await.is(200).json, json!([]), "{word}");
    }
    for bad in ["status=done", "sessionId=x", "session_id=5", "limit=0", "parentRunId=y", "agent=%00"] {
        list(bad).await.refused(400, "invalid_query");
    }
}

#[tokio::test]
async fn only_a_run_that_is_over_can_be_deleted() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    // Large enough for a blob of its own.
    let id = test.run(json!({"agentName": "a", "input": {"text": "x".repeat(100_000)}})).await;
    let path = format!("{RUNS}/{id}");
    test.delete(&test.a.owner, &path).await.refused(409, "run_not_finished");
    let mut hand = Hand::take(&test, &id).await;
    hand.give(Input::Wake).await;
    hand.replies("llm-1", "ok").await;
    assert_eq!(
        test.get(&test.a.owner, &path).await.is(200).json["input"]["text"].as_str().unwrap().len(),
        100_000
    );
    test.delete(&test.a.owner, &path).await.is(204);
    test.delete(&test.a.owner, &path).await.refused(404, "run_not_found");
}
