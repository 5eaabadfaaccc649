//! API keys: shown once, scoped, ending.

use lantern_policy::Scope;
use lantern_types::Dur;
use serde_json::json;

use crate::app::{TestApp, request};

const KEYS: &str = "/v1/api-keys";

#[tokio::test]
async fn a_key_is_shown_once_and_works_in_both_headers() {
    let test = TestApp::new().await;
    let made = test.post(&test.a.owner, KEYS, json!({"name": "ci", "expiresInDays": 30})).await.is(201);
    let raw = made.json["rawKey"].as_str().unwrap();
    assert!(raw.starts_with("hlx_live_") && raw.len() == 41);
    let key = &made.json["key"];
    assert_eq!((&key["scopes"], key["prefix"].as_str()), (&json!(["write"]), raw.get(..16)));
    assert_eq!(key["status"], "active");
    assert!(key["expiresAt"].as_str().unwrap() > key["createdAt"].as_str().unwrap());
    let listed = test.get(&test.a.owner, KEYS).await.is(200);
    assert!(!listed.text.contains(raw) && listed.json[0]["id"] == key["id"]);
    test.get(raw, "/v1/agents").await.is(200);
    let mut other = request("GET", "/auth/me", None, None);
    other.headers_mut().insert("x-api-key", raw.parse().unwrap());
    let me = test.send(other).await.is(200).json;
    assert_eq!((me["role"].as_str(), me["id"].as_str()), (Some("service"), Some("")));
    assert_eq!(me["tenantId"], test.a.id.to_string());
    assert_eq!((&me["scopes"], &me["expiresAt"]), (&json!(["write"]), &key["expiresAt"]));
    let me = test.get(&test.key(&["read"]).await, "/auth/me").await.is(200).json;
    assert_eq!(
        (me.get("expiresAt"), me.get("signInExpiresAt")),
        (None, None),
        "it is good until it is revoked"
    );
}

#[tokio::test]
async fn keys_end_by_time_and_by_revoking() {
    let test = TestApp::new().await;
    let made = test.post(&test.a.owner, KEYS, json!({"name": "short", "expiresIn": "1d"})).await.is(201);
    let raw = made.json["rawKey"].as_str().unwrap();
    test.get(raw, "/v1/agents").await.is(200);
    test.clock.pass(Dur::from_secs(86_400));
    test.get(raw, "/v1/agents").await.refused(401, "unauthorized");

    let owner =
        test.tokens.issue(&crate::app::person(test.a.id, lantern_policy::Role::Owner), test.app.clock.now());
    let owner = owner.unwrap();
    assert_eq!(test.get(&owner, KEYS).await.json[0]["status"], "expired");
    let made = test.post(&owner, KEYS, json!({"name": "gone"})).await.is(201);
    let (raw, id) = (made.json["rawKey"].as_str().unwrap(), made.json["key"]["id"].as_str().unwrap());
    test.delete(&owner, &format!("{KEYS}/{id}")).await.is(204);
    test.delete(&owner, &format!("{KEYS}/{id}")).await.is(204);
    test.get(raw, "/v1/agents").await.refused(401, "unauthorized");
    assert_eq!(test.get(&owner, KEYS).await.json[0]["status"], "revoked");
    test.delete(&owner, &format!("{KEYS}/nonsense")).await.refused(404, "api_key_not_found");
}

#[tokio::test]
async fn nobody_hands_on_more_than_they_have() {
    let test = TestApp::new().await;
    let write = test.key(&["write"]).await;
    for scopes in [json!(["admin"]), json!(["read"])] {
        let body = json!({"name": "up", "scopes": scopes});
        test.post(&write, KEYS, body).await.refused(403, "scope_missing");
    }
    let admin = test.key(&["read", "admin"]).await;
    let made = test.post(&admin, KEYS, json!({"name": "same", "scopes": ["admin"]})).await.is(201);
    assert_eq!(made.json["key"].get("createdBy"), None);
    for (body, path) in [
        (json!({"name": "x", "scopes": ["owner"]}), "scopes[0]"),
        (json!({"name": "x", "scopes": "admin"}), "scopes"),
        (json!({"name": "x", "scopes": [7]}), "scopes[0]"),
        (json!({"name": "x", "scopes": []}), "scopes"),
        (json!({"name": "x", "scopes": ["runtime:root"]}), "scopes[0]"),
        (json!({"name": "x", "expiresIn": "soon"}), "expiresIn"),
        (json!({"name": "x", "expiresIn": 0}), "expiresIn"),
        (json!({"name": "x", "expiresIn": "3651d"}), "expiresIn"),
        (json!({"name": "x", "expiresIn": "1d", "expiresInDays": 1}), "expiresAt"),
        (json!({"name": "x", "expiresInDays": 0}), "expiresInDays"),
        (json!({"name": "x", "expiresInDays": 1e30}), "expiresInDays"),
        (json!({"name": "x", "expiresAt": "tomorrow"}), "expiresAt"),
        (json!({"name": "x", "expiresAt": "2001-01-01T00:00:00Z"}), "expiresAt"),
    ] {
        assert_eq!(test.post(&admin, KEYS, body).await.refused(400, "invalid_body").paths()[0], path);
    }
    let late = |at: &str| json!({"name": "x", "expiresAt": at});
    let refused = test.post(&admin, KEYS, late("9999-12-31T23:59:59Z")).await.refused(400, "invalid_body");
    assert!(refused.text.contains("up to 9999-12-30T22:00:00Z"), "{}", refused.text);
    let made = test.post(&admin, KEYS, late("9999-12-30T22:00:00Z")).await.is(201);
    assert_eq!(made.json["key"]["expiresAt"], "9999-12-30T22:00:00Z");
    // The runtime's scopes open nothing but the runtime, whose administrators alone hand them on.
    test.post(&write, KEYS, json!({"name": "x", "scopes": ["runtime:read"]}))
        .await
        .refused(403, "scope_missing");
    let runtime = test.key(&["runtime:read", "runtime:write", "runtime:admin"]).await;
    for path in ["/v1/agents", "/v1/runs", "/v1/tools", KEYS, "/v1/settings/llm-providers"] {
        let refused = test.get(&runtime, path).await.refused(403, "scope_missing");
        assert_eq!(refused.json["required_scope"], "read", "{path}");
    }
    for path in ["/v1/agents", "/v1/auth/sse-ticket"] {
        test.post(&runtime, path, json!({"name": "x"})).await.refused(403, "scope_missing");
    }
    test.get(&runtime, "/auth/me").await.is(200);
    let both = test.key(&["runtime:admin", "read"]).await;
    test.get(&both, "/v1/agents").await.is(200);
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_without_making_anybody_wait() {
    let test = TestApp::new().await;
    let raw = test.key(&["read"]).await;
    assert_eq!(test.get(&test.a.owner, KEYS).await.json[0].get("lastUsedAt"), None);
    test.get(&raw, "/v1/agents").await.is(200);
    while last_used(&test, test.a.scope).await.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(test.get(&test.a.owner, KEYS).await.json[0]["lastUsedAt"].is_string());
}

async fn last_used(test: &TestApp, scope: Scope) -> Option<i64> {
    const USED: &str = "SELECT last_used_at FROM api_keys WHERE tenant_id = $1";
    let row = test.app.db.read(scope, |tx| Box::pin(async move { tx.one(USED, &[]).await })).await.unwrap();
    row.unwrap().opt_int("last_used_at").unwrap()
}
