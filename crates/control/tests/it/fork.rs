//! Forks and replays: what another run did is not done again, and costs nothing.

use lantern_engine::Input;
use lantern_store::db_test;
use serde_json::{Value, json};

use crate::app::{TestApp, Wishes, request};
use crate::hand::Hand;

/// An agent of three steps, and a run of it that is over.
async fn ran(test: &TestApp) -> String {
    let calc = |id: &str, expression: &str| {
        json!({"id": id, "kind": "tool",
        "data": {"tool": "calc", "arguments": {"expression": expression}}})
    };
    let steps = json!([calc("one", "1"), calc("two", "{{input.n}}"), calc("three", "3")]);
    test.agent(json!({"name": "a", "program": "steps", "steps": steps})).await;
    let run = test.run(json!({"agentName": "a", "input": {"n": 2}, "labels": {"env": "prod"}})).await;
    let mut hand = Hand::take(test, &run).await;
    hand.give(Input::Wake).await;
    for step in ["one", "two", "three"] {
        hand.returns(step, json!(step)).await;
    }
    run
}

async fn made(test: &TestApp, path: &str, body: Value) -> Value {
    let made = test.post(&test.a.owner, path, body).await.is(201);
    let id = made.json["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/v1/runs/{id}"));
    made.json
}

async fn get(test: &TestApp, run: &str) -> Value {
    test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.is(200).json
}

fn id(run: &Value) -> String {
    run["id"].as_str().unwrap().to_owned()
}

db_test!(a_run_is_replayed_for_nothing, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let run = ran(&test).await;
    let replay = made(&test, &format!("/v1/runs/{run}/replay"), json!({"labels": {"why": "audit"}})).await;
    assert_eq!((&replay["status"], &replay["triggerKind"]), (&json!("queued"), &json!("replay")));
    assert_eq!(replay["forkedFrom"], json!({"runId": run, "replay": true}));
    assert_eq!((&replay["labels"], &replay["input"]), (&json!({"why": "audit"}), &json!({"n": 2})));
    // It needs nothing of the other run.
    test.delete(&test.a.owner, &format!("/v1/runs/{run}")).await.is(204);
    let mut hand = Hand::take(&test, &id(&replay)).await;
    hand.give(Input::Wake).await;
    let over = get(&test, &id(&replay)).await;
    assert_eq!((&over["status"], &over["costUsd"]), (&json!("succeeded"), &json!(0.0)));
    assert_eq!(over["output"]["steps"], json!({"one": "one", "two": "two", "three": "three"}));
    let log: Vec<&str> =
        over["triggerMeta"].as_array().unwrap().iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert_eq!(log, ["running", "completed"].repeat(3));
});

db_test!(a_fork_goes_on_from_its_step_and_the_runs_are_compared, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let run = ran(&test).await;
    let fork =
        made(&test, &format!("/v1/runs/{run}/fork"), json!({"fromStep": "two", "input": {"n": 5}})).await;
    assert_eq!(fork["forkedFrom"], json!({"runId": run, "stepId": "two", "replay": false}));
    assert_eq!((&fork["labels"], &fork["input"]), (&json!({}), &json!({"n": 5})));
    let mut hand = Hand::take(&test, &id(&fork)).await;
    hand.give(Input::Wake).await;
    hand.returns("two", json!("five")).await;
    hand.returns("three", json!("three")).await;
    assert_eq!(get(&test, &id(&fork)).await["output"]["steps"]["one"], "one");

    let path = format!("/v1/runs/{run}/diff/{}", id(&fork));
    let diff = test.get(&test.a.member, &path).await.is(200).json;
    assert_eq!(
        (&diff["same"], &diff["sameVersion"], &diff["sameInput"]),
        (&json!(false), &json!(true), &json!(false))
    );
    assert_eq!((&diff["sharedSteps"], &diff["firstDivergence"]["stepId"]), (&json!(1), &json!("two")));
    assert_eq!(diff["firstDivergence"]["differs"], "request");
    assert_eq!(diff["firstDivergence"]["a"]["request"]["arguments"]["expression"], 2);
    assert_eq!(diff["firstDivergence"]["b"]["request"]["arguments"]["expression"], 5);
    assert_eq!(diff["firstDivergence"]["b"]["output"], "five");
    let differs: Vec<&Value> =
        diff["steps"].as_array().unwrap().iter().map(|step| &step["differs"]).collect();
    assert_eq!(differs, ["same", "request", "same"]);
    let alike = test.get(&test.a.member, &format!("/v1/runs/{run}/diff/{run}")).await.is(200).json;
    assert_eq!((&alike["same"], alike.get("firstDivergence")), (&json!(true), None));
});

db_test!(a_fork_may_be_of_another_version, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    test.agent(json!({"name": "a", "systemPrompt": "long"})).await;
    let run = test.run(json!({"agentName": "a", "input": {"prompt": "hi"}})).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    hand.replies("llm-1", "hello").await;
    let path = format!("/v1/runs/{run}/fork");
    let ask = json!({"fromStep": "llm-1", "overrides": {"systemPrompt": "short", "model": "other"}});
    let first = made(&test, &path, ask.clone()).await;
    let versions = || test.get(&test.a.owner, "/v1/agents/a/versions");
    assert_eq!(versions().await.is(200).json.as_array().unwrap().len(), 2);
    assert_eq!(made(&test, &path, ask).await["agentVersionId"], first["agentVersionId"], "made once");
    assert_eq!(versions().await.is(200).json.as_array().unwrap().len(), 2);
    let agent = test.get(&test.a.owner, "/v1/agents/a").await.is(200).json;
    assert_eq!((&agent["systemPrompt"], &agent["version"]), (&json!("long"), &json!(1)), "and not current");
    let second = made(&test, &path, json!({"fromStep": "llm-1", "version": 2})).await;
    assert_eq!(second["agentVersionId"], first["agentVersionId"]);
    let refused = |body: Value| test.post(&test.a.owner, &path, body);
    refused(json!({"fromStep": "llm-1", "version": 9})).await.refused(404, "agent_version_not_found");
    refused(json!({"fromStep": "llm-9"})).await.refused(404, "step_not_found");
    let unsaid = refused(json!({"overrides": {"model": "other"}})).await.refused(400, "invalid_body");
    assert_eq!(unsaid.paths(), ["fromStep"]);
    for (body, path) in [
        (json!({"fromStep": "llm-1", "overrides": {"modle": "x"}}), "overrides.modle"),
        (json!({"fromStep": "llm-1", "overrides": 5}), "overrides"),
        (json!({"fromStep": "llm-1", "version": true}), "version"),
        (json!({"fromStep": 5}), "fromStep"),
        (json!({"fromStep": "llm-1", "maxCostUsd": 1e9}), "maxCostUsd"),
    ] {
        assert_eq!(refused(body).await.refused(400, "invalid_body").paths(), [path]);
    }
    test.delete(&test.a.owner, "/v1/agents/a").await.is(204);
    refused(json!({"fromStep": "llm-1"})).await.refused(409, "agent_archived");
    let otherwise = json!({"fromStep": "llm-1", "overrides": {"model": "third"}});
    refused(otherwise).await.refused(409, "agent_archived");
    assert_eq!(versions().await.is(200).json.as_array().unwrap().len(), 2, "nothing is written for it");
});

#[tokio::test]
async fn a_run_that_failed_is_forked_where_it_did() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a", "retry": {"maxAttempts": 1}})).await;
    let run = test.run(json!({"agentName": "a", "input": {"prompt": "hi"}})).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    hand.fails("llm-1", lantern_types::Failure::refused("provider_refused", "no")).await;
    assert_eq!(get(&test, &run).await["status"], "failed");
    let fork = made(&test, &format!("/v1/runs/{run}/fork"), json!({"overrides": {"model": "other"}})).await;
    assert_eq!(fork["forkedFrom"]["stepId"], "llm-1");
    let replay = made(&test, &format!("/v1/runs/{run}/replay"), json!({})).await;
    let mut hand = Hand::take(&test, &id(&replay)).await;
    hand.give(Input::Wake).await;
    let over = get(&test, &id(&replay)).await;
    assert_eq!((&over["status"], &over["error"]["code"]), (&json!("failed"), &json!("provider_refused")));
}

#[tokio::test]
async fn another_tenants_runs_are_not_there() {
    let test = TestApp::new().await;
    let run = ran(&test).await;
    test.post(&test.b.owner, "/v1/agents", json!({"name": "a"})).await.is(201);
    let theirs = test.post(&test.b.owner, "/v1/runs", json!({"agentName": "a"})).await.is(201).json;
    for (token, a, b) in
        [(&test.b.owner, run.clone(), id(&theirs)), (&test.b.owner, id(&theirs), run.clone())]
    {
        test.get(token, &format!("/v1/runs/{a}/diff/{b}")).await.refused(404, "run_not_found");
    }
    for verb in ["fork", "replay"] {
        test.post(&test.b.owner, &format!("/v1/runs/{run}/{verb}"), json!({}))
            .await
            .refused(404, "run_not_found");
    }
}

db_test!(what_was_decided_holds_for_who_could_decide_it_again, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let steps = json!([
        {"id": "ok", "kind": "approval", "data": {"reason": "sure?", "approvers": ["owner@example.com"]}},
        {"id": "sum", "kind": "tool", "data": {"tool": "calc", "arguments": {}}}]);
    test.agent(json!({"name": "a", "program": "steps", "steps": steps})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    let path = format!("/v1/runs/{run}");
    test.post(&test.a.owner, &format!("{path}/approvals/ok"), json!({"approved": true, "answer": "yes"}))
        .await
        .is(200);
    hand.drain().await;
    hand.returns("sum", json!(1)).await;
    let key = test.key(&["write"]).await;
    for (token, body, status) in [
        (&test.a.owner, json!({"fromStep": "sum"}), "running"),
        (&test.a.owner, json!({"fromStep": "ok"}), "paused"),
        // Nobody has said yes to this, and a key is nobody whom the step names.
        (&test.a.owner, json!({"fromStep": "sum", "input": {"n": 2}}), "paused"),
        (&key, json!({"fromStep": "sum"}), "paused"),
    ] {
        for verb in ["fork", "replay"] {
            let body = match verb {
                "replay" => {
                    serde_json::from_str(&body.to_string().replace("input", "modifiedInput")).unwrap()
                }
                _ => body.clone(),
            };
            let fork = test.post(token, &format!("{path}/{verb}"), body.clone()).await.is(201).json;
            let forked = json!({"runId": run, "stepId": body["fromStep"], "replay": false});
            assert_eq!(fork["forkedFrom"], forked, "{verb}");
            let mut hand = Hand::take(&test, &id(&fork)).await;
            hand.give(Input::Wake).await;
            let now = get(&test, &id(&fork)).await;
            assert_eq!(now["status"], status, "{verb} {body}: {now}");
            if status == "running" {
                hand.returns("sum", json!(2)).await;
                let over = get(&test, &id(&fork)).await;
                assert_eq!(
                    (&over["output"]["steps"]["sum"], &over["output"]["steps"]["ok"]["answer"]),
                    (&json!(2), &json!("yes"))
                );
            }
        }
    }
    let refused = test.post(&test.a.owner, &format!("{path}/replay"), json!({"modifiedInput": 1})).await;
    assert_eq!(refused.refused(400, "invalid_body").paths(), ["modifiedInput"]);
    let nowhere = json!({"fromStep": "none"});
    test.post(&test.a.owner, &format!("{path}/replay"), nowhere).await.refused(404, "step_not_found");
});

#[tokio::test(start_paused = true)]
async fn who_forks_may_wait_for_the_end() {
    let test = TestApp::new().await;
    let run = ran(&test).await;
    for (verb, body) in [("fork", json!({"fromStep": "two"})), ("replay", json!({}))] {
        let path = format!("/v1/runs/{run}/{verb}");
        let mut request = request("POST", &path, Some(&test.a.owner), Some(body));
        request.headers_mut().insert("prefer", "wait=2".parse().unwrap());
        let made = test.send(request).await.is(201);
        assert_eq!(
            (made.header("preference-applied"), &made.json["status"]),
            ("wait=2", &json!("queued")),
            "{verb}"
        );
    }
}
