//! What browsers are told: which pages may call, with what, and that nobody's cookies count.

use http::Request;
use serde_json::json;

use crate::app::{Answer, TestApp, request};

const OWN: &str = "http://localhost:3001";

async fn from(test: &TestApp, method: &str, path: &str, origin: &str) -> Answer {
    let token = (method != "OPTIONS").then_some(test.a.owner.as_str());
    let mut request: Request<_> = request(method, path, token, None);
    request.headers_mut().insert("origin", origin.parse().unwrap());
    test.send(request).await
}

#[tokio::test]
async fn a_preflight_is_answered_everywhere_and_asks_for_nobody() {
    let test = TestApp::new().await;
    for path in
        ["/v1/runs", "/v1/runs/x/events", "/v1/auth/sse-ticket", "/auth/login", "/healthz", "/nowhere"]
    {
        let answer = from(&test, "OPTIONS", path, OWN).await.is(204);
        assert_eq!(answer.text, "");
        assert_eq!(answer.header("access-control-allow-origin"), OWN, "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), "GET, POST, PUT, PATCH, DELETE, OPTIONS");
        assert_eq!(answer.header("access-control-max-age"), "86400");
        let allowed = answer.header("access-control-allow-headers").to_lowercase();
        let wanted = [
            "content-type",
            "authorization",
            "x-request-id",
            "x-api-key",
            "idempotency-key",
            "last-event-id",
            "x-lantern-turn-hint",
        ];
        for name in wanted {
            assert!(allowed.split(", ").any(|header| header == name), "{name}");
        }
        // Beside this one a cookie counts.
        assert!(!allowed.contains(lantern_edge::cookie::PAGE.as_str()));
    }
}

#[tokio::test]
async fn only_listed_origins_are_named_and_errors_can_be_read_too() {
    let test = TestApp::new().await;
    for (origin, named) in [
        (OWN, OWN),
        ("https://lantern.example", "https://lantern.example"),
        ("http://localhost:3002", ""),
        ("http://localhost:3001.evil.example", ""),
        ("null", ""),
        ("*", ""),
    ] {
        for (path, status) in [("/v1/agents", 200), ("/v1/agents/none", 404), ("/nowhere", 404)] {
            let answer = from(&test, "GET", path, origin).await.is(status);
            assert_eq!(answer.header("access-control-allow-origin"), named, "{origin} {path}");
            assert_eq!(answer.header("vary"), "Origin");
            assert_eq!(answer.header("access-control-allow-credentials"), "");
        }
    }
    let answer = test.get(&test.a.owner, "/v1/agents").await.is(200);
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_page_may_follow_a_run_by_a_ticket_and_read_why_it_may_not() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    let made = from(&test, "POST", "/v1/auth/sse-ticket", OWN).await.is(200);
    assert_eq!(made.header("access-control-allow-origin"), OWN);
    let path = format!("/v1/runs/{run}/events?live=false&token={}", made.json["ticket"].as_str().unwrap());
    for (status, origin) in [(200, OWN), (401, OWN), (401, "http://localhost:3002")] {
        // An `EventSource` brings its origin and no credentials.
        let mut asked: Request<_> = request("GET", &path, None, None);
        asked.headers_mut().insert("origin", origin.parse().unwrap());
        let answer = test.send(asked).await.is(status);
        assert_eq!(answer.header("access-control-allow-origin"), if origin == OWN { OWN } else { "" });
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
}
