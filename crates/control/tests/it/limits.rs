//! Limits that the operator sets for one tenant, as two tenants meet them.

use lantern_store::limits;
use lantern_types::At;
use serde_json::{Value, json};

use crate::app::{TestApp, on_both};

on_both! {
    two_tenants_have_different_limits: differ;
}

async fn differ(test: &TestApp) {
    let own = json!({"turnsPerRunMax": 3, "concurrentRunsPerTenantMax": 1, "inputBytesMax": 100, "signalBytesMax": 10});
    let stored = own.as_object().unwrap().clone();
    limits::set(&test.app.db, test.a.id, stored, "ada".to_owned(), At::from_micros(1)).await.unwrap();
    test.app.limits.refresh(&test.app.db).await.unwrap();

    for (path, owner, want, turns) in [
        ("/v1/limits", &test.a.owner, &own, 3),
        ("/v1/settings/limits", &test.a.member, &own, 3),
        ("/v1/limits", &test.b.owner, &json!({}), 40),
    ] {
        let told = test.get(owner, path).await.is(200).json;
        assert_eq!((&told["own"], &told["limits"]["turnsPerRunMax"]), (want, &json!(turns)), "{told}");
        assert_eq!(told["defaults"]["turnsPerRunMax"], 40);
    }

    let four = json!({"name": "four", "maxTurns": 4});
    test.post(&test.a.owner, "/v1/agents", four.clone()).await.refused(400, "invalid_manifest");
    test.post(&test.b.owner, "/v1/agents", four).await.is(201);
    test.agent(json!({"name": "four"})).await;

    let long = json!({"agentName": "four", "input": {"prompt": "a".repeat(200)}});
    test.post(&test.a.owner, "/v1/runs", long.clone()).await.refused(413, "input_too_large");
    test.post(&test.b.owner, "/v1/runs", long).await.is(201);

    let run = test.run(json!({"agentName": "four"})).await;
    let other = test.post(&test.b.owner, "/v1/runs", json!({"agentName": "four"})).await.is(201).json;
    let second = json!({"agentName": "four"});
    test.post(&test.a.owner, "/v1/runs", second.clone()).await.refused(429, "too_many_runs");
    test.post(&test.b.owner, "/v1/runs", second).await.is(201);

    let signal = json!({"value": "a value of more than ten bytes"});
    let path = |run: &Value| format!("/v1/runs/{}/signals/go", run.as_str().unwrap());
    test.post(&test.a.owner, &path(&json!(run)), signal.clone()).await.refused(413, "signal_too_large");
    test.post(&test.b.owner, &path(&other["id"]), signal).await.is(200);
}
