//! The process itself.

use lantern_policy::Scope;
use lantern_store::testing::{Cluster, Folder, block_on, on_postgres, on_sqlite, prepare_statements};
use lantern_store::{Db, Error, SqliteOptions};
use lantern_types::{At, DEV_TENANT};
use serde_json::json;

use crate::app::{TestApp, Wishes, request};

#[tokio::test]
async fn health_is_open_to_everybody() {
    let test = TestApp::new().await;
    let open = async |method: &str, path: &str| test.send(request(method, path, None, None)).await.is(200);
    for method in ["GET", "POST", "HEAD"] {
        assert_eq!(open(method, "/readyz").await.header("x-content-type-options"), "nosniff");
    }
    assert_eq!(open("GET", "/healthz").await.text, "{\"status\":\"ok\",\"llmMode\":\"api\"}");
    assert_eq!(open("GET", "/readyz").await.text, "ok");
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

#[tokio::test]
async fn the_limits_in_force_are_told() {
    let test = TestApp::new().await;
    let told = test.get(&test.a.member, "/v1/limits").await.is(200).json;
    assert_eq!(told["limits"], serde_json::to_value(&*test.app.limits.base()).unwrap());
    assert_eq!(told["defaults"]["turnsPerRunMax"], 40);
    test.get("nobody", "/v1/limits").await.is(401);
}

#[test]
fn every_statement_fits_sqlite() {
    on_sqlite(async |db| prepare_statements(&db, lantern_control::statements()).await);
}

#[test]
fn every_statement_fits_postgres() {
    on_postgres(async |db| prepare_statements(&db, lantern_control::statements()).await);
}

#[tokio::test]
async fn a_full_disk_is_said_and_reads_go_on() {
    let folder = Folder::new("full");
    let options = SqliteOptions { pages_max: Some(240), ..SqliteOptions::at(At::from_micros(1)) };
    let db = Db::open_sqlite(folder.path(), options).await.unwrap();
    let test = TestApp::over(db, Wishes::default()).await;
    test.agent(json!({"name": "a"})).await;
    let body = json!({"agentName": "a", "input": {"text": "x".repeat(40_000)}});
    let mut answer = test.post(&test.a.owner, "/v1/runs", body.clone()).await;
    while answer.status == 201 {
        answer = test.post(&test.a.owner, "/v1/runs", body.clone()).await;
    }
    assert_eq!(answer.refused(503, "storage_full").header("retry-after"), "60");
    assert!(!test.get(&test.a.owner, "/v1/runs").await.is(200).json.as_array().unwrap().is_empty());
    test.send(request("GET", "/readyz", None, None)).await.is(200);
}

/// A database whose table of agents is spoilt.
async fn damaged(folder: &Folder) -> Db {
    const ROOT: &str =
        "SELECT rootpage FROM sqlite_master WHERE name = 'agents' AND sql LIKE '%tenant_id%' AND $1 = $1";
    let at = At::from_micros(1);
    let db = Db::open_sqlite(folder.path(), SqliteOptions::at(at)).await.unwrap();
    let root = db.read(Scope::of_lease(DEV_TENANT), |tx| Box::pin(async move { tx.one(ROOT, &[]).await }));
    let root = usize::try_from(root.await.unwrap().unwrap().int("rootpage").unwrap()).unwrap();
    drop(db);
    let file = folder.path().join("lantern.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    bytes[(root - 1) * page..root * page].fill(0xAA);
    std::fs::write(&file, bytes).unwrap();
    Db::open_sqlite(folder.path(), SqliteOptions::at(at)).await.unwrap()
}

#[tokio::test]
async fn a_damaged_database_is_said_and_is_not_ready() {
    let folder = Folder::new("damaged");
    let test = TestApp::over(damaged(&folder).await, Wishes::default()).await;
    test.send(request("GET", "/readyz", None, None)).await.is(200);
    test.post(&test.a.owner, "/v1/agents", json!({"name": "a"})).await.refused(503, "storage_damaged");
    assert_eq!(test.send(request("GET", "/readyz", None, None)).await.is(503).text, "database damaged");
}

#[tokio::test]
async fn damage_that_no_request_met_makes_a_process_unready_all_the_same() {
    const ALL: &str = "SELECT description FROM agents NOT INDEXED WHERE tenant_id = $1";
    let folder = Folder::new("damaged-elsewhere");
    let test = TestApp::over(damaged(&folder).await, Wishes::default()).await;
    // As the worker does, which has no answer to give.
    let read = test.app.db.read(test.a.scope, |tx| Box::pin(async move { tx.all(ALL, &[]).await }));
    assert!(matches!(read.await, Err(Error::Corrupt(_))));
    assert_eq!(test.send(request("GET", "/readyz", None, None)).await.is(503).text, "database damaged");
}

#[test]
fn a_database_that_is_gone_is_said() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let db = Db::open_postgres(&database.options()).await.unwrap();
        let test = TestApp::over(db, Wishes::default()).await;
        test.send(request("GET", "/readyz", None, None)).await.is(200);
        database.discard().await;
        let answer = test.send(request("GET", "/readyz", None, None)).await.is(503);
        assert_eq!(answer.text, "database not ready");
        let answer = test.get(&test.a.owner, "/v1/runs").await.refused(503, "unavailable");
        assert_eq!(answer.header("retry-after"), "1");
        test.send(request("GET", "/healthz", None, None)).await.is(200);
    });
}
