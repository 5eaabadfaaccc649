//! `Idempotency-Key` on every POST: one thing is made, its answer is given again, and nobody else learns of it.

use axum::body::Body;
use futures_util::FutureExt as _;
use http::Request;
use lantern_types::{Digest, Dur};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::app::{Answer, TestApp, request};
use crate::hand::Hand;

fn keyed(token: &str, path: &str, key: &str, body: Value) -> Request<Body> {
    let mut request = request("POST", path, Some(token), Some(body));
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

pub(crate) async fn a_key_makes_one_thing(test: &TestApp) {
    let post =
        async |path: &str, key: &str, body: Value| test.send(keyed(&test.a.owner, path, key, body)).await;
    let same = |first: &Answer, again: &Answer| {
        assert_eq!((first.status, &first.text), (again.status, &again.text));
        assert_eq!(first.header("location"), again.header("location"));
        assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
    };
    let body = json!({"name": "ci"});
    let first = post("/v1/api-keys", "k", body.clone()).await.is(201);
    same(&first, &post("/v1/api-keys", "k", body.clone()).await.is(201));
    let count = async || test.get(&test.a.owner, "/v1/api-keys").await.json.as_array().unwrap().len();
    let keys = count().await;
    post("/v1/api-keys", "k", json!({"name": "other"})).await.refused(409, "idempotency_mismatch");
    // The same key to another path is another key, and so is another tenant's.
    post("/v1/agents", "k", json!({"name": "keyed"})).await.is(201);
    let other = test.send(keyed(&test.b.owner, "/v1/api-keys", "k", body.clone())).await.is(201);
    assert_ne!(other.json["rawKey"], first.json["rawKey"]);
    // Whoever may not make a key learns nothing of the one that was made.
    let reads = test.key(&["read"]).await;
    test.send(keyed(&reads, "/v1/api-keys", "k", body.clone())).await.refused(403, "scope_missing");
    test.send(keyed("nobody", "/v1/api-keys", "k", body.clone())).await.refused(401, "unauthorized");
    // What is refused is not remembered.
    post("/v1/agents", "late", json!({"name": "-"})).await.refused(400, "invalid_body");
    post("/v1/agents", "late", json!({"name": "fine"})).await.is(201);
    assert_eq!(count().await, keys + 1, "the reader's own key and no other");
}

#[tokio::test]
async fn where_no_key_is_read_the_answer_names_it() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let invite = json!({"email": "new@example.com", "role": "member"});
    for (path, body, said) in [
        ("/v1/invitations", invite, "Idempotency-Key"),
        ("/v1/auth/sse-ticket", json!({}), "Idempotency-Key"),
        ("/v1/runs/forecast", json!({"agentName": "a"}), "Idempotency-Key"),
        ("/v1/runs", json!({"agentName": "a"}), ""),
    ] {
        let answer = test.send(keyed(&test.a.owner, path, "k", body)).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        assert_eq!(answer.header("lantern-ignored"), said, "{path}");
    }
}

#[tokio::test]
async fn bodies_that_say_the_same_are_the_same() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let send = async |path: &str, key: &str, body: &'static str| {
        let mut request = keyed(&test.a.owner, path, key, json!({}));
        *request.body_mut() = Body::from(body);
        test.send(request).await
    };
    let first = send("/v1/runs", "r", r#"{"agentName": "a", "input": {"x": 1, "y": [1, 2]}}"#).await.is(201);
    let again = "{\n \"input\" : {\"y\":[1,2],\"x\":1},\"agentName\":\"\\u0061\"}\n";
    let again = send("/v1/runs", "r", again).await.is(201);
    assert_eq!((&again.json["id"], again.header("idempotent-replayed")), (&first.json["id"], "true"));
    for other in [
        r#"{"agentName": "a", "input": {"x": 1, "y": [2, 1]}}"#,
        r#"{"agentName": "a", "input": {"x": "1", "y": [1, 2]}}"#,
        "{",
    ] {
        send("/v1/runs", "r", other).await.refused(409, "idempotency_mismatch");
    }
    let pause = format!("/v1/runs/{}/pause", first.json["id"].as_str().unwrap());
    send(&pause, "p", "").await.is(200);
    for body in ["{}", " { }\n", ""] {
        assert_eq!(send(&pause, "p", body).await.is(200).header("idempotent-replayed"), "true", "{body:?}");
    }
}

#[tokio::test]
async fn a_post_with_a_key_is_made_once() {
    let test = TestApp::new().await;
    a_key_makes_one_thing(&test).await;
    // A day later nothing is remembered.
    test.clock.pass(Dur::from_secs(86_400));
    let owner = crate::app::person(test.a.id, lantern_policy::Role::Owner);
    let owner = test.tokens.issue(&owner, test.app.clock.now()).unwrap();
    let late = test.send(keyed(&owner, "/v1/api-keys", "k", json!({"name": "another"}))).await.is(201);
    assert_eq!(late.header("idempotent-replayed"), "");
}

#[tokio::test]
async fn what_is_remembered_can_be_read_by_nobody_else() {
    let test = TestApp::new().await;
    let made = test.send(keyed(&test.a.owner, "/v1/api-keys", "k", json!({"name": "ci"}))).await.is(201);
    const ALL: &str = "SELECT answer FROM idempotency_keys WHERE tenant_id = $1";
    let rows =
        test.app.db.read(test.a.scope, |tx| Box::pin(async move { tx.all(ALL, &[]).await })).await.unwrap();
    let stored = rows[0].bytes("answer").unwrap();
    let raw = made.json["rawKey"].as_str().unwrap();
    assert!(!stored.windows(raw.len()).any(|part| part == raw.as_bytes()));
}

#[tokio::test]
async fn a_stream_is_not_remembered_and_starts_one_run_all_the_same() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let body = json!({"agentName": "a", "stream": true});
    for _ in 0..2 {
        let response = test.open(keyed(&test.a.owner, "/v1/runs", "k", body.clone())).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
    }
    assert_eq!(test.get(&test.a.owner, "/v1/runs").await.json.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_run_was_asked_is_not_remembered_apart_from_it() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let post =
        async |path: &str, key: &str, body: Value| test.send(keyed(&test.a.owner, path, key, body)).await;
    let asked = json!({"agentName": "a", "input": "the plan"});
    let id = post("/v1/runs", "new", asked.clone()).await.is(201).json["id"].as_str().unwrap().to_owned();
    let run = format!("/v1/runs/{id}");
    let said = [("pause", json!({})), ("resume", json!({})), ("cancel", json!({"reason": "enough"}))];
    for (verb, body) in &said {
        post(&format!("{run}/{verb}"), verb, body.clone()).await.is(200);
    }
    Hand::take(&test, &id).await.drain().await;
    let again = post("/v1/runs", "new", asked.clone()).await.is(201);
    assert_eq!((again.header("location"), again.header("idempotent-replayed")), (run.as_str(), "true"));
    assert_eq!((&again.json["input"], &again.json["status"]), (&json!("the plan"), &json!("cancelled")));
    test.delete(&test.a.owner, &run).await.is(204);
    let gone = |answer: Answer| assert!(!answer.refused(404, "run_not_found").text.contains("the plan"));
    gone(post("/v1/runs", "new", asked).await);
    for (verb, body) in said {
        gone(post(&format!("{run}/{verb}"), verb, body).await);
    }
}

#[tokio::test]
async fn a_request_that_died_halfway_may_be_made_again_after_a_while() {
    let test = TestApp::new().await;
    let body = json!({"name": "ci"});
    let id = Digest::of_parts(&[b"/v1/api-keys", b"k"]);
    let params = [id.into(), Digest::of(body.to_string().as_bytes()).into(), test.app.clock.now().into()];
    const CLAIM: &str = "INSERT INTO idempotency_keys (tenant_id, id, request, claimed_at, expires_at)
        VALUES ($1, $2, $3, $4, 9000000000000000)";
    let claims = test.app.db.write(test.a.scope, |tx| Box::pin(async move { tx.exec(CLAIM, &params).await }));
    claims.await.unwrap();
    let again = async || test.send(keyed(&test.a.owner, "/v1/api-keys", "k", body.clone())).await;
    assert_eq!(again().await.refused(409, "conflict").header("retry-after"), "1");
    test.clock.pass(Dur::from_secs(60));
    again().await.is(201);
}

#[tokio::test]
async fn a_key_that_an_earlier_build_took_by_its_bytes_is_known() {
    const EARLIER: &str = "UPDATE idempotency_keys SET request = $2 WHERE tenant_id = $1";
    let test = TestApp::new().await;
    let body = "{ \"name\": \"ci\" }";
    let send = async |body: &'static str| {
        let mut request = keyed(&test.a.owner, "/v1/api-keys", "k", json!({}));
        *request.body_mut() = Body::from(body);
        test.send(request).await
    };
    let first = send(body).await.is(201);
    let params = [Digest::of(body.as_bytes()).into()];
    let taken =
        test.app.db.write(test.a.scope, move |tx| Box::pin(async move { tx.exec(EARLIER, &params).await }));
    assert_eq!(taken.await.unwrap(), 1);
    assert_eq!(send(body).await.is(201).text, first.text);
    send("{}").await.refused(409, "idempotency_mismatch");
}

/// Whoever goes away, however far their request has come, finds that it was done once, or not at all and is done now.
pub(crate) async fn who_goes_away_in_the_middle_has_made_one_thing(test: &TestApp) {
    for polls in 0..16 {
        let key = format!("gone-{polls}");
        let body = json!({"name": key});
        let mut going =
            Box::pin(test.router.clone().oneshot(keyed(&test.a.owner, "/v1/api-keys", &key, body.clone())));
        for _ in 0..polls {
            if going.as_mut().now_or_never().is_some() {
                break;
            }
            // Meanwhile the database goes on.
            test.get(&test.a.owner, "/auth/me").await.is(200);
        }
        drop(going);
        let mut again = test.send(keyed(&test.a.owner, "/v1/api-keys", &key, body.clone())).await;
        for _ in 0..1_000 {
            if again.status != 409 {
                break;
            }
            again = test.send(keyed(&test.a.owner, "/v1/api-keys", &key, body.clone())).await;
        }
        assert_eq!(again.status, 201, "{polls}: {}", again.text);
        let keys = test.get(&test.a.owner, "/v1/api-keys").await;
        let named = keys.json.as_array().unwrap().iter().filter(|found| found["name"] == *key).count();
        assert_eq!(named, 1, "after {polls} looks");
    }
}
