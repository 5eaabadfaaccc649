//! Tickets: what a web page puts into the address of an event stream.

use axum::response::Response;
use http::StatusCode;
use lantern_control::routes;
use lantern_policy::Role;
use lantern_store::db_test;
use lantern_types::{At, Dur};
use serde_json::json;

use crate::app::{Answer, TestApp, Wishes, person, request};
use crate::events::Stream;

const TICKET: &str = "/v1/auth/sse-ticket";

async fn ticket(test: &TestApp, token: &str) -> String {
    let made = test.post(token, TICKET, json!({})).await.is(200);
    made.json["ticket"].as_str().unwrap().to_owned()
}

/// The path of the events of a new run of tenant `a`.
async fn run(test: &TestApp) -> String {
    test.agent(json!({"name": "a"})).await;
    format!("/v1/runs/{}/events", test.run(json!({"agentName": "a"})).await)
}

/// Asks as a browser does: by the address alone.
async fn open(test: &TestApp, path: &str, ticket: &str) -> Response {
    test.open(request("GET", &format!("{path}?token={ticket}"), None, None)).await
}

async fn refused(test: &TestApp, path: &str, ticket: &str, code: &str) -> Answer {
    // A stream that is opened after all must come to an end.
    let asked = request("GET", &format!("{path}?live=false&token={ticket}"), None, None);
    test.send(asked).await.refused(401, code)
}

db_test!(a_ticket_opens_one_stream_once, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let path = run(&test).await;
    let made = test.post(&test.a.member, TICKET, json!({})).await.is(200);
    let text = made.json["ticket"].as_str().unwrap();
    assert!(text.starts_with("hlx_sse_") && text.len() == 51, "{text}");
    assert_eq!(made.json["expiresIn"], 60);
    let until: At = made.json["expiresAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(until.since(test.app.clock.now()).millis(), 59_999);
    assert_eq!((made.header("cache-control"), made.header("referrer-policy")), ("no-store", "no-referrer"));

    let response = open(&test, &path, text).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["referrer-policy"], "no-referrer");
    assert_eq!(Stream::of(response).next().await.unwrap().kind, "run_started");
    refused(&test, &path, text, "ticket_spent").await;
    // A browser that comes back by itself sends the same address.
    let mut again = request("GET", &format!("{path}?token={text}"), None, None);
    again.headers_mut().insert("last-event-id", "1".parse().unwrap());
    test.send(again).await.refused(401, "ticket_spent");
    // The next ticket goes on where the stream was.
    let next = ticket(&test, &test.a.owner).await;
    let rest = request("GET", &format!("{path}?from_seq=2&token={next}"), None, None);
    assert_eq!(test.open(rest).await.status(), 200);
});

db_test!(of_two_at_once_one_has_the_ticket, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let path = run(&test).await;
    for _ in 0..5 {
        let text = ticket(&test, &test.a.owner).await;
        let (one, two) = tokio::join!(open(&test, &path, &text), open(&test, &path, &text));
        let mut statuses = [one.status(), two.status()];
        statuses.sort();
        assert_eq!(statuses, [StatusCode::OK, StatusCode::UNAUTHORIZED]);
    }
});

db_test!(a_ticket_is_over_with_its_minute_its_session_and_its_key, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let path = run(&test).await;
    let key = async |body| test.post(&test.a.owner, "/v1/api-keys", body).await.is(201).json;

    let text = ticket(&test, &test.a.owner).await;
    test.clock.pass(Dur::from_secs(60));
    refused(&test, &path, &text, "ticket_spent").await;

    let revoked = key(json!({"name": "revoked", "scopes": ["read"]})).await;
    let text = ticket(&test, revoked["rawKey"].as_str().unwrap()).await;
    let other = ticket(&test, revoked["rawKey"].as_str().unwrap()).await;
    assert_eq!(open(&test, &path, &other).await.status(), 200);
    test.delete(&test.a.owner, &format!("/v1/api-keys/{}", revoked["key"]["id"].as_str().unwrap()))
        .await
        .is(204);
    refused(&test, &path, &text, "ticket_spent").await;

    let short = key(json!({"name": "short", "expiresIn": 30})).await;
    let made = test.post(short["rawKey"].as_str().unwrap(), TICKET, json!({})).await.is(200).json;
    assert_eq!(made["expiresIn"], 29);
    test.clock.pass(Dur::from_secs(30));
    refused(&test, &path, made["ticket"].as_str().unwrap(), "ticket_spent").await;

    let session = test.tokens.issue(&person(test.a.id, Role::Member), test.app.clock.now()).unwrap();
    test.clock.pass(Dur::from_secs(3_590));
    let made = test.post(&session, TICKET, json!({})).await.is(200).json;
    assert!(made["expiresIn"].as_i64().unwrap() < 10, "{made}");
    test.clock.pass(Dur::from_secs(10));
    refused(&test, &path, made["ticket"].as_str().unwrap(), "ticket_spent").await;
});

db_test!(a_ticket_is_its_tenants, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let path = run(&test).await;
    let foreign = ticket(&test, &test.b.owner).await;
    let asked = request("GET", &format!("{path}?token={foreign}"), None, None);
    test.send(asked).await.refused(404, "run_not_found");
    refused(&test, &path, &foreign, "ticket_spent").await;
});

#[tokio::test]
async fn a_ticket_opens_event_streams_and_nothing_else() {
    let test = TestApp::new().await;
    let path = run(&test).await;
    let text = ticket(&test, &test.a.owner).await;
    let mut streams = Vec::new();
    for route in routes().into_iter().filter(|route| route.action().is_some()) {
        let filled = match route.path() {
            "/v1/runs/{id}/events" => path.clone(),
            other => other.replace("{id}", "x").replace("{name}", "a"),
        };
        let asked = request(route.method(), &format!("{filled}?token={text}"), None, None);
        let response = test.open(asked).await;
        if response.status() == 200 {
            streams.push((route.method(), route.path()));
        } else {
            assert_eq!(response.status(), 401, "{} {}", route.method(), route.path());
        }
    }
    assert_eq!(streams, [("GET", "/v1/runs/{id}/events")]);
    let text = ticket(&test, &test.a.owner).await;
    test.get(&text, &path).await.refused(401, "unauthorized");
    let mut header = request("GET", &path, None, None);
    header.headers_mut().insert("x-api-key", text.parse().unwrap());
    test.send(header).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn nothing_but_a_ticket_may_stand_in_an_address() {
    let test = TestApp::new().await;
    let path = run(&test).await;
    let key = test.key(&["admin"]).await;
    for long in [test.a.owner.as_str(), key.as_str(), "x", "hlx_sse_short"] {
        let answer = refused(&test, &path, long, "not_a_ticket").await;
        assert!(
            answer.json["error"].as_str().unwrap().contains("POST /v1/auth/sse-ticket"),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains(&format!("token={long}")) && answer.json["instance"] == path);
    }
    refused(&test, &path, "", "unauthorized").await;
    refused(&test, &path, &format!("hlx_sse_{}", "A".repeat(43)), "ticket_spent").await;
    // A header counts first, and leaves the ticket for later.
    let text = ticket(&test, &test.a.owner).await;
    let with_token = format!("{path}?token={text}&live=false");
    test.get("nobody", &with_token).await.refused(401, "unauthorized");
    test.get(&test.b.owner, &with_token).await.refused(404, "run_not_found");
    test.get(&test.a.owner, &with_token).await.is(200);
    assert_eq!(open(&test, &path, &text).await.status(), 200);
}

#[tokio::test]
async fn a_tickets_text_is_kept_nowhere() {
    let test = TestApp::new().await;
    let path = run(&test).await;
    let keyed = async || {
        let mut asked = request("POST", TICKET, Some(&test.a.owner), Some(json!({})));
        asked.headers_mut().insert("idempotency-key", "again".parse().unwrap());
        test.send(asked).await.is(200).json["ticket"].as_str().unwrap().to_owned()
    };
    let (first, second) = (keyed().await, keyed().await);
    assert_ne!(first, second, "an answer that holds a ticket is not remembered");
    const STORED: &str = "SELECT hash FROM tickets WHERE tenant_id = $1";
    let read = |sql: &'static str| {
        test.app.db.read(test.a.scope, move |tx| Box::pin(async move { tx.all(sql, &[]).await }))
    };
    let stored = format!("{:?}", read(STORED).await.unwrap());
    assert!(!stored.contains(&first) && !stored.contains(&second), "{stored}");
    assert!(read("SELECT id FROM idempotency_keys WHERE tenant_id = $1").await.unwrap().is_empty());
    open(&test, &path, &first).await;
    let metrics = test.send(request("GET", "/metrics", None, None)).await.is(200).text;
    assert!(metrics.contains("route=\"/v1/runs/{id}/events\"") && !metrics.contains("hlx_sse_"));
}
