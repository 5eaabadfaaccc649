//! Whatever a client may send, the answer is a clear refusal and nothing is written.

use axum::body::Body;
use http::Request;
use lantern_types::Limits;
use serde_json::json;

use crate::app::{TestApp, Wishes};

fn raw(method: &str, path: &str, token: &str, body: impl Into<Body>) -> Request<Body> {
    let authorization = format!("Bearer {token}");
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", authorization)
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn bodies_that_are_none() {
    let limits = Limits { body_bytes_max: 4_096, ..Limits::default() };
    let test = TestApp::with(Wishes { limits, ..Wishes::default() }).await;
    for (body, status, code) in [
        (&b"{"[..], 400, "invalid_json"),
        (b"not json", 400, "invalid_json"),
        (b"{\"name\": 1e999}", 400, "invalid_json"),
        (b"{\"name\": \"\\ud800\"}", 400, "invalid_json"),
        (b"{\"name\": \"\xff\"}", 400, "invalid_utf8"),
        (b"[]", 400, "invalid_body"),
        (b"null", 400, "invalid_body"),
        (b"", 400, "invalid_body"),
        (b"{\"name\": \"a\\u0000b\"}", 400, "invalid_body"),
        (&[b' '; 5_000], 413, "body_too_large"),
        (&[b'['; 4_000], 400, "invalid_json"),
    ] {
        for path in ["/v1/agents", "/v1/runs", "/v1/api-keys", "/v1/settings/llm-providers"] {
            test.send(raw("POST", path, &test.a.owner, body)).await.refused(status, code);
        }
    }
    assert_eq!(test.get(&test.a.owner, "/v1/agents").await.json, json!([]));
}

#[tokio::test]
async fn bodies_that_are_encoded() {
    let test = TestApp::new().await;
    for key in [None, Some("k")] {
        for (coding, status) in [("gzip", 415), ("identity", 201)] {
            let mut request =
                raw("POST", "/v1/agents", &test.a.owner, format!(r#"{{"name":"a{}"}}"#, key.is_some()));
            request.headers_mut().insert("content-encoding", coding.parse().unwrap());
            if let Some(key) = key {
                request.headers_mut().insert("idempotency-key", key.parse().unwrap());
            }
            let answer = test.send(request).await.is(status);
            if status == 415 {
                answer.refused(415, "encoding_unsupported");
            }
        }
    }
}

#[tokio::test]
async fn bodies_nest_as_deep_as_the_limit_and_no_deeper() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "n"})).await;
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let start = |input: String| {
        raw("POST", "/v1/runs", &test.a.owner, format!(r#"{{"agentName":"n","input":{input}}}"#))
    };
    test.send(start(nested(63))).await.is(201);
    let deep = test.send(start(nested(64))).await.refused(400, "invalid_json");
    assert!(deep.text.contains("nested deeper than 64"), "{}", deep.text);
    // A bracket in text nests nothing, whatever stands before it.
    let text = format!(r#"{{"text": "\\\"{}", "more": "{}\\"}}"#, "[".repeat(100), "{".repeat(100));
    test.send(start(text)).await.is(201);
    let schema = format!(r#"{{"name":"m","inputSchema":{}}}"#, nested(64));
    test.send(raw("POST", "/v1/agents", &test.a.owner, schema)).await.refused(400, "invalid_json");
}

#[tokio::test]
async fn a_label_has_no_nul_on_either_side() {
    let test = TestApp::new().await;
    for labels in [json!({"a\u{0}b": "c"}), json!({"a": "b\u{0}c"})] {
        let body = json!({"name": "n", "labels": labels});
        test.post(&test.a.owner, "/v1/agents", body).await.refused(400, "invalid_body");
    }
}

#[tokio::test]
async fn absurd_numbers() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "n"})).await;
    for number in
        ["-1", "1e300", "0.0000001", "123456789012345678901234567890", "\"1e5\"", "\"NaN\"", "true", "[]"]
    {
        let body = format!("{{\"agentName\": \"n\", \"maxCostUsd\": {number}}}");
        let answer =
            test.send(raw("POST", "/v1/runs", &test.a.owner, body)).await.refused(400, "invalid_body");
        assert_eq!(answer.paths(), ["maxCostUsd"], "{number}");
        let body = format!("{{\"name\": \"n\", \"maxTurns\": {number}}}");
        test.send(raw("PATCH", "/v1/agents/n", &test.a.owner, body)).await.refused(400, "invalid_manifest");
    }
    // Numbers inside an input are the agent's business.
    test.run(json!({"agentName": "n", "input": {"n": 1e300, "m": -0.0, "k": u64::MAX}})).await;
}

#[tokio::test]
async fn paths_and_methods_that_are_none() {
    let test = TestApp::new().await;
    for path in ["/v1/nothing", "/v1/agents/", "/v2/runs", "/v1/runs/x/y/z", "/AUTH/me"] {
        let answer = test.get(&test.a.owner, path).await.refused(404, "route_not_found");
        assert_eq!(answer.json["instance"], path);
    }
    let answer = test.delete(&test.a.owner, "/v1/runs").await.refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET,HEAD,POST");
    for id in ["nonsense", "0", "00000000-0000-0000-0000-000000000000", "%00", "{id}"] {
        test.get(&test.a.owner, &format!("/v1/runs/{}", id.replace(['{', '}'], "%7B")))
            .await
            .refused(404, "run_not_found");
    }
}

#[tokio::test]
async fn a_request_is_known_by_its_id_and_its_error_by_its_media_type() {
    let test = TestApp::new().await;
    let id = "0190b8a0-0000-7000-8000-000000000001";
    let mut request = raw("GET", "/v1/nothing", "", Body::empty());
    request.headers_mut().insert("x-request-id", id.parse().unwrap());
    request.headers_mut().insert("accept", "application/problem+json".parse().unwrap());
    let answer = test.send(request).await.refused(404, "route_not_found");
    assert_eq!(
        (answer.header("x-request-id"), answer.header("content-type")),
        (id, "application/problem+json")
    );
    let mut request = raw("GET", "/v1/nothing", "", Body::empty());
    request.headers_mut().insert("x-request-id", "<script>".parse().unwrap());
    assert!(test.send(request).await.header("x-request-id").parse::<lantern_types::RequestId>().is_ok());
}

#[tokio::test]
async fn what_can_never_work_or_says_two_things_is_refused_before_it_is_kept() {
    let test = TestApp::new().await;
    let steps = json!([{"id": "a", "kind": "llm", "data": {"prompt": "{{steps.zz.text}}"}}]);
    let body = json!({"name": "s", "steps": steps});
    let refused = test.post(&test.a.owner, "/v1/agents", body).await.refused(400, "invalid_manifest");
    assert_eq!(refused.paths(), ["steps[0].data.prompt"]);
    test.agent(json!({"name": "own"})).await;
    let body = json!({"agentName": "own", "input": {"steps": steps}});
    let refused = test.post(&test.a.owner, "/v1/runs", body).await.refused(400, "invalid_input");
    assert_eq!(refused.json["reason"], "steps_invalid");
    let body = json!({"agentName": "own", "agent_name": "other"});
    let refused = test.post(&test.a.owner, "/v1/runs", body).await.refused(400, "invalid_body");
    assert_eq!(refused.paths(), ["agentName"]);
    test.post(&test.a.owner, "/v1/runs", json!({"agentName": "own", "agent_name": "own"})).await.is(201);
    test.get(&test.a.owner, "/v1/runs?agent=%ff").await.refused(400, "invalid_query");
}
