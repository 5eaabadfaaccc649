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
        (b"{\"name\": 1e999}", 400, "number_too_large"),
        (b"{\"name\": \"a\", \"name\": \"a\"}", 400, "duplicate_key"),
        (b"\xef\xbb\xbf{\"name\": \"a\"}", 400, "invalid_json"),
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
    for number in ["-1", "1e300", "0.0000001", "1234567890123456789", "\"1e5\"", "\"NaN\"", "true", "[]"] {
        let body = format!("{{\"agentName\": \"n\", \"maxCostUsd\": {number}}}");
        let answer =
            test.send(raw("POST", "/v1/runs", &test.a.owner, body)).await.refused(400, "invalid_body");
        assert_eq!(answer.paths(), ["maxCostUsd"], "{number}");
        let body = format!("{{\"name\": \"n\", \"maxTurns\": {number}}}");
        test.send(raw("PATCH", "/v1/agents/n", &test.a.owner, body)).await.refused(400, "invalid_manifest");
    }
    for number in ["123456789012345678901234567890", "18446744073709551616", "-9223372036854775809", "1e999"]
    {
        let body = format!("{{\"agentName\": \"n\", \"maxCostUsd\": {number}}}");
        let answer =
            test.send(raw("POST", "/v1/runs", &test.a.owner, body)).await.refused(400, "number_too_large");
        assert_eq!(answer.paths(), ["maxCostUsd"], "{number}");
        let body = format!("{{\"agentName\": \"n\", \"input\": {{\"a\": [0, {{\"b/c\": {number}}}]}}}}");
        let answer =
            test.send(raw("POST", "/v1/runs", &test.a.owner, body)).await.refused(400, "number_too_large");
        assert_eq!(answer.paths(), ["input.a[1].b/c"]);
        assert_eq!(answer.json["pointer"], "/input/a/1/b~1c");
    }
}

#[tokio::test]
async fn what_a_run_is_given_comes_back_as_it_was() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "n"})).await;
    for input in [
        r#"{"a":0.1,"b":1e+300,"c":5e-324,"d":-0.0,"e":18446744073709551615,"f":-9223372036854775808}"#,
        r#"{"a":9007199254740993,"b":2.2250738585072014e-308,"c":31.245270191439438,"d":1.7976931348623157e+308}"#,
        r#"{"":1,"$serde_json::private::Number":"12","__proto__":{},"a":{"a":[]},"b":"\u0001\u2028"}"#,
    ] {
        let body = format!("{{\"agentName\":\"n\",\"input\":{input}}}");
        let made = test.send(raw("POST", "/v1/runs", &test.a.owner, body)).await.is(201);
        let path = format!("/v1/runs/{}", made.json["id"].as_str().unwrap());
        let back = test.get(&test.a.owner, &path).await.is(200);
        let plain = input.replace("\\u2028", "\u{2028}");
        assert!(back.text.contains(&format!("\"input\":{plain}")), "{plain}: {}", back.text);
    }
}

#[tokio::test]
async fn what_would_be_altered_is_refused_wherever_it_stands() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "n"})).await;
    for (path, body, code, place) in [
        ("/v1/runs", r#"{"agentName":"n","agentName":"n"}"#, "duplicate_key", "agentName"),
        (
            "/v1/runs",
            r#"{"agentName":"n","input":{"a":[{"b":1,"\u0062":2}]}}"#,
            "duplicate_key",
            "input.a[0].b",
        ),
        ("/v1/agents", r#"{"name":"m","labels":{"a":"1","a":"2"}}"#, "duplicate_key", "labels.a"),
        ("/v1/agents", r#"{"name":"m","ignored":{"x":1,"x":1}}"#, "duplicate_key", "ignored.x"),
        (
            "/v1/runs/batch",
            r#"{"runs":[{"agentName":"n"},{"agentName":"n","input":{"n":18446744073709551616}}]}"#,
            "number_too_large",
            "runs[1].input.n",
        ),
        (
            "/v1/runs",
            r#"{"agentName":"n","input":{"$serde_json::private::RawValue":"[1]"}}"#,
            "invalid_json",
            "input.$serde_json::private::RawValue",
        ),
    ] {
        let answer = test.send(raw("POST", path, &test.a.owner, body)).await.refused(400, code);
        assert_eq!(answer.paths(), [place], "{body}");
    }
    assert_eq!(test.get(&test.a.owner, "/v1/runs").await.json, json!([]));
    // A body that would be altered is no repeat of what it would be altered to.
    let keyed = |body: &'static str| {
        let mut request = raw("POST", "/v1/runs", &test.a.owner, body);
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    test.send(keyed(r#"{"agentName":"n","input":{"a":2}}"#)).await.is(201);
    test.send(keyed(r#"{"input":{"a":2},"agentName":"n"}"#)).await.is(201);
    let other = keyed(r#"{"agentName":"n","input":{"a":1,"a":2}}"#);
    test.send(other).await.refused(409, "idempotency_mismatch");
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
