//! The process itself.

use lantern_store::testing::{on_postgres, on_sqlite, prepare_statements};

use crate::app::{TestApp, request};

#[tokio::test]
async fn health_is_open_to_everybody() {
    let test = TestApp::new().await;
    let open = async |method: &str, path: &str| test.send(request(method, path, None, None)).await.is(200);
    for method in ["GET", "POST", "HEAD"] {
        assert_eq!(open(method, "/readyz").await.header("x-content-type-options"), "nosniff");
    }
    assert_eq!(open("GET", "/healthz").await.text, "{\"status\":\"ok\",\"llmMode\":\"api\"}");
    assert_eq!(open("GET", "/readyz").await.text, "ok");
    assert!(open("GET", "/").await.text.contains("<h1>Lantern"));
    test.get(&test.a.owner, "/v1/agents").await.is(200);
    test.get("nobody", "/v1/runs/1?x=y").await.is(401);
    let text = open("GET", "/metrics").await.text;
    let agents = r#"http_requests_total{route="/v1/agents",method="GET",status="200"}"#;
    assert!(text.contains(agents), "{text}");
    assert!(text.contains("http_request_duration_seconds_bucket{route=\"/v1/runs/{id}\",method=\"GET\",le="));
    assert!(!text.contains(&test.a.id.to_string()));
}

#[tokio::test]
async fn tools_are_listed() {
    let test = TestApp::new().await;
    let tools = test.get(&test.a.member, "/v1/tools").await.is(200).json;
    assert_eq!(
        (tools[0]["name"].as_str(), tools[1]["effect"].as_str()),
        (Some("calc"), Some("irreversible"))
    );
    assert_eq!(tools[0]["digest"], test.app.tools[0].digest().to_string());
}

#[test]
fn every_statement_fits_sqlite() {
    on_sqlite(async |db| prepare_statements(&db, lantern_control::statements()).await);
}

#[test]
fn every_statement_fits_postgres() {
    on_postgres(async |db| prepare_statements(&db, lantern_control::statements()).await);
}
