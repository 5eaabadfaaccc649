//! Secrets over HTTP: handed in, named, used, and never answered.

use http::Request;
use lantern_types::Digest;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, on_both, request};

const CANARY: &str = "sk-canary-5c1d7e90b2";
const PROVIDERS: &str = "/v1/settings/llm-providers";

fn with(
    method: &str,
    path: &str,
    token: &str,
    (name, value): (&str, &str),
    body: Option<Value>,
) -> Request<axum::body::Body> {
    let mut asked = request(method, path, Some(token), body);
    let name: http::HeaderName = name.parse().unwrap();
    asked.headers_mut().insert(name, value.parse().unwrap());
    asked
}

async fn set(test: &TestApp, name: &str, value: &str) -> Answer {
    test.put(&test.a.owner, &format!("/v1/secrets/{name}"), json!({ "value": value })).await
}

on_both! {
    a_secret_goes_in_and_never_comes_out: goes_in;
    a_provider_names_a_secret: named_by_a_provider;
    keys_are_changed_in_batches: rekeyed;
}

async fn goes_in(test: &TestApp) {
    let made = set(test, "stripe", CANARY).await.is(201);
    assert_eq!(made.header("location"), "/v1/secrets/stripe/versions/1");
    assert_eq!(made.header("etag"), "\"1\"");
    assert_eq!(made.json["reference"], "lantern.secret://tenant/stripe");
    assert_eq!((&made.json["version"], &made.json["versions"][0]["enabled"]), (&json!(1), &json!(true)));
    // The same again is no version, and another value is one.
    let same = set(test, "stripe", CANARY).await.is(200);
    assert_eq!((same.header("etag"), &same.json), ("\"1\"", &made.json));
    let next = set(test, "stripe", &format!("{CANARY}-2")).await.is(201);
    assert_eq!(
        (next.header("location"), &next.json["version"]),
        ("/v1/secrets/stripe/versions/2", &json!(2))
    );

    let version = "/v1/secrets/stripe/versions/2";
    let off = test.patch(&test.a.owner, version, json!({"enabled": false})).await.is(200);
    assert_eq!((&off.json["version"], off.header("etag")), (&json!(1), "\"3\""));
    let off =
        test.patch(&test.a.admin, "/v1/secrets/stripe/versions/1", json!({"enabled": false})).await.is(200);
    assert_eq!(off.json.get("version"), None, "none counts");
    test.patch(&test.a.owner, version, json!({"enabled": true})).await.is(200);
    test.delete(&test.a.owner, "/v1/secrets/stripe/versions/1").await.is(204);
    test.delete(&test.a.owner, "/v1/secrets/stripe/versions/1").await.refused(404, "secret_not_found");
    let listed = test.get(&test.a.owner, "/v1/secrets/stripe/versions").await.is(200);
    assert_eq!(listed.json.as_array().unwrap().len(), 1);

    // Revisions.
    let tag = test.get(&test.a.member, "/v1/secrets/stripe").await.is(200).header("etag").to_owned();
    let new = Some(json!({"value": "other"}));
    let put = |header| with("PUT", "/v1/secrets/stripe", &test.a.owner, header, new.clone());
    test.send(put(("if-match", "\"1\""))).await.refused(412, "version_mismatch");
    test.send(put(("if-none-match", "*"))).await.refused(412, "version_mismatch");
    test.send(put(("if-match", &tag))).await.is(201);
    let gone = |header| with("DELETE", "/v1/secrets/stripe", &test.a.owner, header, None);
    test.send(gone(("if-match", &tag))).await.refused(412, "version_mismatch");
    let absent = with("PUT", "/v1/secrets/fresh", &test.a.owner, ("if-match", "\"1\""), new.clone());
    test.send(absent).await.refused(412, "version_mismatch");

    // Another tenant has names of its own, and sees none of these.
    for path in ["/v1/secrets/stripe", "/v1/secrets/stripe/versions"] {
        test.get(&test.b.owner, path).await.refused(404, "secret_not_found");
    }
    test.put(&test.b.owner, "/v1/secrets/stripe", json!({"value": "of b"})).await.is(201);
    test.delete(&test.b.owner, "/v1/secrets/stripe").await.is(204);
    assert_eq!(test.get(&test.b.owner, "/v1/secrets").await.is(200).json, json!([]));

    // Whoever looks sees names; no answer, no audit entry and no denial has the value.
    set(test, "other", CANARY).await.is(201);
    let list = test.get(&test.a.member, "/v1/secrets?limit=1").await.is(200);
    assert!(list.header("link").contains("cursor=") && list.json[0]["name"] == "other", "{}", list.text);
    test.get(&test.a.viewer, "/v1/secrets").await.refused(403, "role_missing");
    let denied = test.put(&test.a.member, "/v1/secrets/stripe", json!({"value": CANARY})).await;
    assert!(!denied.refused(403, "role_missing").text.contains(CANARY));
    let audit = test.get(&test.a.owner, "/v1/audit").await.is(200);
    assert!(audit.text.contains("/v1/secrets/stripe/versions/2") && audit.text.contains("secrets.save"));
    for answer in [made, next, listed, list, audit] {
        assert!(!answer.text.contains("sk-canary"), "{}", answer.text);
    }
    test.delete(&test.a.owner, "/v1/secrets/stripe").await.is(204);
    test.get(&test.a.owner, "/v1/secrets/stripe").await.refused(404, "secret_not_found");
}

async fn named_by_a_provider(test: &TestApp) {
    let reference = "lantern.secret://tenant/models";
    let body = json!({"provider": "vendor", "apiKey": reference});
    test.post(&test.a.owner, PROVIDERS, body.clone()).await.refused(404, "secret_not_found");
    set(test, "models", &format!("{CANARY}\n")).await.is(201);
    test.post(&test.b.owner, PROVIDERS, body.clone()).await.refused(404, "secret_not_found");
    for wrong in [
        "lantern.secret://tenant/",
        "lantern.secret/llm/vendor",
        "lantern.secret/connector/x/oauth",
        "Lantern.Secret://tenant/models",
    ] {
        let refused =
            test.post(&test.a.owner, PROVIDERS, json!({"provider": "vendor", "apiKey": wrong})).await;
        assert_eq!(refused.refused(400, "invalid_body").paths(), ["apiKey"], "{wrong}");
    }
    let theirs = format!("lantern.secret://tenant/{}/key/models", test.b.id);
    test.post(&test.a.owner, PROVIDERS, json!({"provider": "vendor", "apiKey": theirs}))
        .await
        .refused(404, "secret_not_found");
    test.post(&test.a.owner, PROVIDERS, body).await.is(200);
    let listed = test.get(&test.a.owner, PROVIDERS).await.is(200);
    assert_eq!(listed.json[0]["keyMasked"], reference);
    assert!(!listed.text.contains(CANARY));

    let tested = async || test.post(&test.a.owner, &format!("{PROVIDERS}/vendor/test"), json!({})).await;
    let asked = || test.probed.asked.lock().unwrap().last().cloned();
    tested().await.is(200);
    assert_eq!(asked(), Some(format!("vendor - {CANARY}")));
    // The newest version counts from its first moment on, and none is no key.
    set(test, "models", "sk-next").await.is(201);
    tested().await.is(200);
    assert_eq!(asked().as_deref(), Some("vendor - sk-next"));
    for version in [1, 2] {
        let path = format!("/v1/secrets/models/versions/{version}");
        test.patch(&test.a.owner, &path, json!({"enabled": false})).await.is(200);
    }
    tested().await.refused(404, "secret_not_found");
    assert!(
        !test.probed.asked.lock().unwrap().iter().any(|ask| ask == "vendor - -"),
        "nobody is asked without"
    );
    // What is no key is not sent as one.
    set(test, "models", "two words").await.is(201);
    let odd = tested().await.is(200);
    assert_eq!((&odd.json["success"], &odd.json["code"]), (&json!(false), &json!("provider_auth")));
    assert!(!odd.text.contains("two words"));
    let other = json!({"provider": "lab", "baseUrl": "http://10.0.0.1/v1", "apiKey": reference});
    let refused = test.post(&test.a.owner, PROVIDERS, other).await.refused(400, "invalid_body");
    assert!(refused.paths() == ["apiKey"] && !refused.text.contains("two words"), "{}", refused.text);
    // A key of its own takes the place of the secret.
    test.post(&test.a.owner, PROVIDERS, json!({"provider": "vendor", "apiKey": "sk-own-0123456789"}))
        .await
        .is(200);
    tested().await.is(200);
    assert_eq!(asked().as_deref(), Some("vendor - sk-own-0123456789"));
}

async fn rekeyed(test: &TestApp) {
    assert_eq!(test.get(&test.a.owner, "/v1/secret-keys").await.is(200).json, json!([]));
    let rotate = async |body| test.post(&test.a.owner, "/v1/secret-keys/rotate", body).await;
    assert_eq!(rotate(json!({})).await.is(200).json, json!({"keyVersion": 0, "resealed": 0, "remaining": 0}));
    for n in 0..3 {
        set(test, &format!("s{n}"), CANARY).await.is(201);
    }
    assert_eq!(rotate(json!({})).await.is(200).json, json!({"keyVersion": 2, "resealed": 3, "remaining": 0}));
    let again = rotate(json!({"toVersion": 2})).await.is(200).json;
    assert_eq!(again, json!({"keyVersion": 2, "resealed": 0, "remaining": 0}));
    let keys = test.get(&test.a.owner, "/v1/secret-keys").await.is(200).json;
    assert_eq!(
        (keys.as_array().unwrap().len(), &keys[0]["version"], &keys[0]["sealed"]),
        (1, &json!(2), &json!(3))
    );
    test.post(&test.a.member, "/v1/secret-keys/rotate", json!({})).await.refused(403, "role_missing");
}

#[tokio::test]
async fn what_is_no_name_or_no_value_is_refused_and_not_repeated() {
    let test = TestApp::new().await;
    for body in [
        json!({}),
        json!({"value": null}),
        json!({"value": 5}),
        json!({"value": ""}),
        json!({"value": "  "}),
        json!({"value": "a\u{0}b"}),
        json!({"value": "x".repeat((64 << 10) + 1)}),
        json!({"value": [CANARY]}),
        json!({"value": "x", "valeu": CANARY}),
    ] {
        let refused = test.put(&test.a.owner, "/v1/secrets/s", body).await.refused(400, "invalid_body");
        assert!(!refused.text.contains("sk-canary"), "{}", refused.text);
    }
    for (text, code) in [
        (format!("{{\"value\": \"{CANARY}"), "invalid_json"),
        (format!("{{\"value\": \"{CANARY}\", \"value\": \"x\"}}"), "duplicate_key"),
        (format!("{{\"value\": {CANARY}}}"), "invalid_json"),
    ] {
        let mut asked = request("PUT", "/v1/secrets/s", Some(&test.a.owner), None);
        *asked.body_mut() = text.into();
        let refused = test.send(asked).await.refused(400, code);
        assert!(!refused.text.contains("sk-canary"), "{}", refused.text);
    }
    let name = format!("/v1/secrets/{}", "x".repeat(129));
    for path in ["/v1/secrets/-a", "/v1/secrets/a%2Fb", "/v1/secrets/a%20b", "/v1/secrets/%C3%A4", &name] {
        let refused = test.put(&test.a.owner, path, json!({"value": "x"})).await.refused(400, "invalid_body");
        assert_eq!(refused.paths(), ["name"], "{path}");
        test.get(&test.a.owner, path).await.refused(404, "secret_not_found");
    }
    for version in ["0", "-1", "x", "99999999999999999999"] {
        set(&test, "s", "x").await;
        let path = format!("/v1/secrets/s/versions/{version}");
        test.delete(&test.a.owner, &path).await.refused(404, "secret_not_found");
    }
    // The longest, and as many as there may be.
    set(&test, "long", &"x".repeat(64 << 10)).await.is(201);
    for n in 0..100 {
        set(&test, "many", &format!("v{n}")).await.is(201);
    }
    set(&test, "many", "v99").await.is(200);
    set(&test, "many", "one more").await.refused(409, "secrets_full");
}

#[tokio::test]
async fn of_many_who_hand_in_at_once_each_has_a_version() {
    let test = TestApp::new().await;
    let values: Vec<String> = (0..6).map(|n| format!("value {n}")).collect();
    let all = futures_util::future::join_all(values.iter().map(|value| set(&test, "s", value))).await;
    let made = all.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 6);
    let shown = test.get(&test.a.owner, "/v1/secrets/s").await.is(200).json;
    let numbers: Vec<i64> =
        shown["versions"].as_array().unwrap().iter().map(|v| v["version"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [6, 5, 4, 3, 2, 1]);
    // The rows have no value in the clear, and no digest of one.
    const ROWS: &str = "SELECT sealed FROM secret_versions WHERE tenant_id = $1";
    let rows =
        test.app.db.read(test.a.scope, |tx| Box::pin(async move { tx.all(ROWS, &[]).await })).await.unwrap();
    for row in rows {
        let sealed = row.bytes("sealed").unwrap();
        let has = |needle: &[u8]| sealed.windows(needle.len()).any(|window| window == needle);
        assert!(!has(b"value "));
        assert!(!values.iter().any(|value| has(Digest::of(value.as_bytes()).bytes())));
    }
}
