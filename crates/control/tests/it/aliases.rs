//! Paths that older clients know the same things by.

use serde_json::json;

use crate::app::{TestApp, request};
use crate::events::Stream;

#[tokio::test]
async fn keys_are_among_the_settings_too() {
    let test = TestApp::new().await;
    let made = test.post(&test.a.owner, "/v1/settings/api-keys", json!({"name": "k"})).await.is(201).json;
    let listed = test.get(&test.a.owner, "/v1/settings/api-keys").await.is(200);
    assert_eq!(listed.json, test.get(&test.a.owner, "/v1/api-keys").await.json);
    assert_eq!(listed.json[0]["id"], made["key"]["id"]);
    let path = format!("/v1/settings/api-keys/{}", made["key"]["id"].as_str().unwrap());
    test.delete(&test.a.owner, &path).await.is(204);
    assert_eq!(test.get(&test.a.owner, "/v1/api-keys").await.json[0]["status"], "revoked");
}

#[tokio::test]
async fn the_runs_of_an_agent_are_below_it_too() {
    let test = TestApp::new().await;
    for name in ["one", "two"] {
        test.agent(json!({"name": name})).await;
        test.run(json!({"agentName": name})).await;
    }
    let input = json!({"input": {"q": 1}});
    for path in ["/v1/agents/one/runs", "/v1/agents/one/trigger"] {
        let made = test.post(&test.a.owner, path, input.clone()).await.is(201);
        assert_eq!((&made.json["agentName"], &made.json["input"]), (&json!("one"), &input["input"]));
        let own = format!("/v1/runs/{}", made.json["id"].as_str().unwrap());
        assert_eq!(made.header("location"), own);
    }
    let listed = test.get(&test.a.owner, "/v1/agents/one/runs").await.is(200);
    assert_eq!(listed.json, test.get(&test.a.owner, "/v1/runs?agent=one").await.json);
    assert_eq!(listed.json.as_array().unwrap().len(), 3);
    let page = test.get(&test.a.owner, "/v1/agents/one/runs?limit=2").await.is(200);
    let next = page.header("link").split(['<', '>']).nth(1).unwrap();
    let last = test.get(&test.a.owner, next).await.is(200).json;
    assert_eq!((last.as_array().unwrap().len(), &last[0]["agentName"]), (1, &json!("one")));

    test.get(&test.a.owner, "/v1/agents/none/runs").await.refused(404, "agent_not_found");
    test.post(&test.a.owner, "/v1/agents/none/runs", json!({})).await.refused(404, "agent_not_found");
    let other = json!({"agentName": "two"});
    let refused = test.post(&test.a.owner, "/v1/agents/one/runs", other).await.refused(400, "invalid_body");
    assert_eq!(refused.paths(), ["agentName"]);
}

#[tokio::test]
async fn events_are_called_a_stream_too() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let path = format!("/v1/runs/{}/stream?live=false", test.run(json!({"agentName": "a"})).await);
    let mut stream = Stream::open(&test, &path, None).await;
    assert_eq!(stream.next().await.unwrap().kind, "run_started");
    // A ticket opens it under this name as well.
    let made = test.post(&test.a.owner, "/v1/auth/sse-ticket", json!({})).await.is(200).json;
    let path = format!("{path}&token={}", made["ticket"].as_str().unwrap());
    assert_eq!(test.open(request("GET", &path, None, None)).await.status(), 200);
}
