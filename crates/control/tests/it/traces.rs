//! Traces, as far as the API has to do with them: what a caller's `traceparent` does, and who is told where spans go.

use axum::body::Body;
use http::{HeaderValue, Request};
use lantern_store::{journal, traces};
use lantern_types::{At, RunId};
use serde_json::{Value, json};

use crate::app::{TestApp, Wishes, request};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
const TO: &str = "http://collector.internal:4318";

async fn app(to: Option<&str>) -> TestApp {
    let test = TestApp::with(Wishes { traces: to.map(str::to_owned), ..Wishes::default() }).await;
    test.agent(json!({"name": "a"})).await;
    test
}

fn under(trace: &str, path: &str, token: &str, body: Value) -> Request<Body> {
    let mut request = request("POST", path, Some(token), Some(body));
    request.headers_mut().insert("traceparent", HeaderValue::from_str(trace).unwrap());
    request
}

/// What the first event of a run says of its trace.
async fn named(test: &TestApp, run: &Value) -> Option<String> {
    let run: RunId = run.as_str().unwrap().parse().unwrap();
    let first = journal::read(&test.app.db, test.a.scope, run, 1, 1).await.unwrap().remove(0);
    let first: Value =
        serde_json::from_slice(first.bytes.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    first["trace"].as_str().map(str::to_owned)
}

/// The runs whose spans are to be exported.
async fn due(test: &TestApp) -> Vec<String> {
    let late = At::from_micros(i64::MAX - 1);
    let due = traces::take(&test.app.db, late, late, 100).await.unwrap();
    due.into_iter().map(|due| due.run.to_string()).collect()
}

#[tokio::test]
async fn a_callers_trace_is_recorded_where_traces_are_made() {
    let test = app(Some(TO)).await;
    let body = json!({"agentName": "a"});
    let sampled = format!("{PARENT}-01");
    for (trace, recorded, exported) in [
        (sampled.as_str(), Some(sampled.clone()), true),
        (&format!("{PARENT}-00"), Some(format!("{PARENT}-00")), false),
        ("no trace", None, true),
    ] {
        let run = test.send(under(trace, "/v1/runs", &test.a.owner, body.clone())).await.is(201).json;
        assert_eq!(named(&test, &run["id"]).await, recorded, "{trace}");
        assert_eq!(due(&test).await.contains(&run["id"].as_str().unwrap().to_owned()), exported, "{trace}");
    }
    let batch = json!({"runs": [body.clone(), body]});
    let runs = test.send(under(&sampled, "/v1/runs/batch", &test.a.owner, batch)).await.is(201).json;
    for run in runs.as_array().unwrap() {
        assert_eq!(named(&test, &run["id"]).await.as_ref(), Some(&sampled));
    }
    let session = test.session("a").await;
    let path = format!("/v1/sessions/{session}/messages");
    let message = json!({"content": "hello"});
    let taken = test.send(under(&sampled, &path, &test.a.owner, message)).await.is(202).json;
    assert_eq!(named(&test, &taken["runId"]).await, Some(sampled));
}

#[tokio::test]
async fn nothing_is_recorded_where_no_traces_are_made() {
    let test = app(None).await;
    let body = json!({"agentName": "a"});
    let run = test.send(under(&format!("{PARENT}-01"), "/v1/runs", &test.a.owner, body)).await.is(201).json;
    assert_eq!(named(&test, &run["id"]).await, None);
    assert!(due(&test).await.is_empty());
    let told = test.get(&test.a.owner, "/v1/limits").await.is(200).json;
    assert_eq!(told["traces"], json!({"exported": false}));
}

#[tokio::test]
async fn only_admins_are_told_where_spans_go() {
    let test = app(Some(TO)).await;
    for (token, to) in [(&test.a.owner, Some(TO)), (&test.a.admin, Some(TO)), (&test.a.member, None)] {
        let told = test.get(token, "/v1/limits").await.is(200).json;
        assert_eq!((&told["traces"]["exported"], told["traces"]["to"].as_str()), (&json!(true), to));
    }
}
