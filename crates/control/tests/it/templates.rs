//! Agents to begin with, questions in the contract's words, and routes that say why they do nothing.

use lantern_engine::Input;
use serde_json::{Value, json};

use crate::app::{TestApp, on_both, request};
use crate::hand::Hand;

on_both! {
    a_template_makes_an_agent_with_a_cap: made;
    a_question_is_released_in_the_contracts_words: released;
    what_is_not_built_says_so: unbuilt;
}

const MAKE: &str = "/v1/agents/from-template";

async fn made(test: &TestApp) {
    let listed = test.send(request("GET", "/v1/agents/templates", None, None)).await.is(200).json;
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["basic", "research", "tool-use", "approval", "lantern-guide"]);
    let research = &listed[1];
    assert_eq!(
        (&research["maxCostUsdDay"], &research["maxCostUsdPerRun"], &research["connectors"]),
        (&json!(5.0), &json!(1.0), &json!([]))
    );
    // `http.fetch` is no tool of this server.
    for id in ids.into_iter().filter(|id| *id != "research") {
        let made = test.post(&test.a.owner, MAKE, json!({"templateId": id})).await.is(201);
        assert_eq!(made.header("location"), format!("/v1/agents/{id}"));
        assert_eq!((&made.json["templateId"], &made.json["nextSteps"]), (&json!(id), &json!([])));
        let agent = test.get(&test.a.owner, &format!("/v1/agents/{id}")).await.is(200).json;
        assert_eq!(
            (&agent["id"], &agent["labels"]),
            (&made.json["agent"]["id"], &json!({"lantern.template": id}))
        );
        let setup = test.get(&test.a.owner, &format!("/v1/agents/{id}/setup")).await.is(200).json;
        assert_eq!((&setup["templateId"], &setup["ready"]), (&json!(id), &json!(true)));
        // It runs as it is.
        let run = test.run(json!({"agentName": id, "input": {"changes": "1+2", "text": "hi"}})).await;
        Hand::take(test, &run).await.give(Input::Wake).await;
    }
    let again =
        test.post(&test.a.owner, MAKE, json!({"templateId": "basic"})).await.refused(409, "agent_exists");
    assert_eq!(again.json["existing"], "basic");
    let named = json!({"templateId": "basic", "name": "mine"});
    assert_eq!(test.post(&test.a.owner, MAKE, named).await.is(201).json["agent"]["name"], "mine");
    let caps = test.get(&test.a.owner, "/v1/settings/caps").await.is(200).json;
    let cap = |name: &str| {
        caps.as_array().unwrap().iter().find(|cap| cap["agentName"] == name).unwrap()["maxCostUsd"].clone()
    };
    assert_eq!((cap("mine"), cap("lantern-guide")), (json!(1.0), json!(0.5)));
    // Whoever makes the agent afresh does not raise what an admin allows it.
    let lower = json!({"agentName": "mine", "maxCostUsdPerDay": 0.01});
    test.post(&test.a.owner, "/v1/settings/caps", lower).await.is(200);
    test.delete(&test.a.owner, "/v1/agents/mine").await.is(204);
    let afresh = json!({"templateId": "tool-use", "name": "mine"});
    test.post(&test.key(&["write"]).await, MAKE, afresh).await.is(201);
    let caps = test.get(&test.a.owner, "/v1/settings/caps").await.is(200).json;
    let cap = caps.as_array().unwrap().iter().find(|cap| cap["agentName"] == "mine").unwrap();
    assert_eq!(cap["maxCostUsd"], 0.01);

    let refused = test.post(&test.a.owner, MAKE, json!({"templateId": "morning-brief"})).await;
    assert!(refused.refused(501, "template_unsupported").text.contains("schedules"));
    let unknown = test.post(&test.a.owner, MAKE, json!({"templateId": "reserch"})).await;
    assert!(unknown.refused(404, "template_not_found").text.contains("did you mean"));
    test.post(&test.a.viewer, MAKE, json!({"templateId": "basic"})).await.refused(403, "role_missing");
}

async fn released(test: &TestApp) {
    let steps = json!([{"id": "go", "kind": "approval", "data": {"reason": "ship it?"}}]);
    test.agent(json!({"name": "asks", "program": "steps", "steps": steps})).await;
    let run = test.run(json!({"agentName": "asks"})).await;
    let path = format!("/v1/runs/{run}/takeover");
    assert_eq!(test.get(&test.a.owner, &path).await.is(200).json, json!([]));
    let mut hand = Hand::take(test, &run).await;
    hand.give(Input::Wake).await;
    let asked = test.get(&test.a.owner, &path).await.is(200).json;
    let question = &asked[0];
    assert_eq!(
        (&question["status"], &question["stepId"], &question["reason"], &question["hasOffer"]),
        (&json!("pending"), &json!("go"), &json!("ship it?"), &json!(false))
    );
    let id = question["id"].as_str().unwrap();
    let other = test.run(json!({"agentName": "asks"})).await;
    let elsewhere = format!("/v1/runs/{other}/takeover/{id}/release");
    test.post(&test.a.owner, &elsewhere, json!({})).await.refused(404, "approval_not_found");
    let release = format!("{path}/{id}/release");
    let (released, ()) = tokio::join!(test.post(&test.a.owner, &release, json!({})), async {
        while hand.drain().await == 0 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(released.is(200).json, json!({"id": id, "status": "released"}));
    let asked = test.get(&test.a.owner, &path).await.is(200).json;
    assert_eq!((&asked[0]["status"], asked[0]["releasedAt"].is_string()), (&json!("released"), true));
    assert_eq!(test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.json["status"], "succeeded");
    test.post(&test.a.owner, &release, json!({})).await.refused(409, "step_not_waiting");
}

async fn unbuilt(test: &TestApp) {
    test.agent(json!({"name": "a"})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    let (takeover, tenant) = (format!("/v1/runs/{run}/takeover"), test.a.id);
    for (method, path) in [
        ("PUT", "/v1/agents/a/workflow".to_owned()),
        ("GET", "/v1/agents/a/workflow".to_owned()),
        ("POST", "/v1/agents/a/deploy".to_owned()),
        ("GET", "/v1/agents/a/deploy".to_owned()),
        ("POST", "/v1/agents/a/deploy/stop".to_owned()),
        ("POST", "/v1/agents/loop".to_owned()),
        ("POST", "/v1/audio/transcriptions".to_owned()),
        ("POST", "/v1/voice/tts".to_owned()),
        ("POST", format!("{takeover}/request")),
        ("POST", format!("{takeover}/x/grant")),
        ("POST", format!("{takeover}/x/answer")),
        ("DELETE", format!("/v1/tenants/{tenant}")),
    ] {
        let refused = test.send(request(method, &path, Some(&test.a.owner), None)).await;
        let refused = refused.refused(501, "not_built");
        assert!(refused.json["error"].as_str().unwrap().len() > 30, "{method} {path} says why");
    }
    for (method, path, code) in [
        ("PUT", "/v1/agents/b/workflow".to_owned(), "agent_not_found"),
        ("POST", "/v1/runs/x/takeover/request".to_owned(), "run_not_found"),
        ("DELETE", format!("/v1/tenants/{}", test.b.id), "tenant_not_found"),
    ] {
        test.send(request(method, &path, Some(&test.a.owner), None)).await.refused(404, code);
    }
    assert_eq!(test.get(&test.a.owner, "/v1/agents/a").await.is(200).json["status"], Value::from("active"));
}
