//! A run whose journal cannot be read is shown as far as it can be, and is in nobody's way.

use lantern_types::RunId;
use serde_json::json;

use crate::app::TestApp;

const RUNS: &str = "/v1/runs";
const SPOIL: &str = "UPDATE journal SET bytes = $3 WHERE tenant_id = $1 AND run_id = $2";
const SPOIL_BODY: &str = "UPDATE journal SET body = $3 WHERE tenant_id = $1 AND run_id = $2";

/// Writes into the rows of a run.
async fn write(test: &TestApp, run: &str, sql: &'static str, bytes: &'static [u8]) {
    let params = [run.parse::<RunId>().unwrap().into(), bytes.into()];
    let written =
        test.app.db.write(test.a.scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await }));
    assert_eq!(written.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_spoilt_run_spoils_no_list_and_can_be_seen_and_cancelled() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let body = json!({"agentName": "a", "input": {"q": 1}});
    let (fine, text, sealed) =
        (test.run(body.clone()).await, test.run(body.clone()).await, test.run(body).await);
    write(&test, &text, SPOIL, b"{\"no\": ").await;
    write(&test, &sealed, SPOIL_BODY, b"none of ours").await;

    let listed = test.get(&test.a.owner, RUNS).await.is(200).json;
    let shown: Vec<_> = listed.as_array().unwrap().iter().map(|run| (&run["id"], run.get("input"))).collect();
    assert_eq!(shown, [(&json!(sealed), None), (&json!(text), None), (&json!(fine), Some(&json!({"q": 1})))]);
    for run in [&text, &sealed] {
        let path = format!("{RUNS}/{run}");
        let shown = test.get(&test.a.owner, &path).await.is(200).json;
        assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("queued"), &json!("run_unreadable")));
        assert!(!shown["error"]["message"].as_str().unwrap().is_empty());
        let cancelled = test.post(&test.a.owner, &format!("{path}/cancel"), json!({})).await.is(200).json;
        assert_eq!(cancelled["error"]["code"], "run_unreadable");
        test.post(&test.a.owner, &format!("{path}/approvals/x"), json!({"approved": true}))
            .await
            .refused(409, "run_unreadable");
    }
}
