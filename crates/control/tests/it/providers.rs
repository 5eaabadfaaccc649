//! Model providers: keys go in and never come out.

use lantern_policy::egress::Reach;
use lantern_store::seal::Place;
use lantern_types::llm::{Cause, Unlisted};
use serde_json::{Value, json};

use crate::app::{TestApp, Wishes};

const PROVIDERS: &str = "/v1/settings/llm-providers";

async fn models(test: &TestApp) -> String {
    const MODELS: &str = "SELECT models FROM llm_providers WHERE tenant_id = $1";
    let row = test
        .app
        .db
        .read(test.a.scope, |tx| Box::pin(async move { tx.one(MODELS, &[]).await }))
        .await
        .unwrap();
    row.unwrap().text("models").unwrap()
}

#[tokio::test]
async fn a_key_is_sealed_masked_and_asked_with() {
    let test = TestApp::new().await;
    let body = json!({"provider": "vendor", "api_key": " sk-secret-abcd1234 "});
    let saved = test.post(&test.a.owner, PROVIDERS, body).await.is(200);
    assert_eq!(saved.json, json!({"status": "saved", "provider": "vendor"}));
    let listed = test.get(&test.a.owner, PROVIDERS).await.is(200);
    assert_eq!(listed.json[0]["keyMasked"], "****1234");
    assert!(!listed.text.contains("secret"));
    assert_eq!(
        listed.json[1],
        json!({"provider": "house", "status": "active", "keyMasked": "****env****",
        "source": "environment", "unpricedAreFree": true})
    );

    const KEY: &str = "SELECT api_key FROM llm_providers WHERE tenant_id = $1";
    let row =
        test.app.db.read(test.a.scope, |tx| Box::pin(async move { tx.one(KEY, &[]).await })).await.unwrap();
    let sealed = row.unwrap().bytes("api_key").unwrap();
    let place = Place { purpose: "llm_provider", row: b"vendor" };
    let plain = test.app.vault.sealer().open(test.a.scope, place, &sealed).await.unwrap();
    assert_eq!(plain, b"sk-secret-abcd1234");

    let tested = test.post(&test.a.owner, &format!("{PROVIDERS}/vendor/test"), json!({})).await.is(200);
    assert_eq!(tested.json["success"], true);
    assert!(test.probed.asked.lock().unwrap().contains(&"vendor - sk-secret-abcd1234".to_owned()));
    assert_eq!(models(&test).await, r#"["small","large"]"#);
}

#[tokio::test]
async fn saving_again_replaces_and_keeps_no_key_for_another_address() {
    let test = TestApp::new().await;
    test.post(&test.a.owner, PROVIDERS, json!({"provider": "vendor", "apiKey": "sk-0123456789"}))
        .await
        .is(200);
    let moved = json!({"provider": "vendor", "baseUrl": "https://evil.example.com/v1"});
    test.post(&test.a.owner, PROVIDERS, moved).await.is(200);
    test.post(&test.a.owner, &format!("{PROVIDERS}/vendor/test"), json!({})).await.is(200);
    let asked = test.probed.asked.lock().unwrap().last().cloned();
    assert_eq!(asked.as_deref(), Some("vendor https://evil.example.com/v1 -"));
    test.delete(&test.a.owner, &format!("{PROVIDERS}/vendor")).await.is(204);
    test.delete(&test.a.owner, &format!("{PROVIDERS}/vendor")).await.refused(404, "provider_not_found");
    assert_eq!(test.get(&test.a.owner, PROVIDERS).await.json.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_failed_test_says_why_and_not_what_the_other_side_said() {
    let test = TestApp::new().await;
    let lab = json!({"provider": "lab", "baseUrl": "http://10.0.0.1/v1"});
    test.post(&test.a.owner, PROVIDERS, lab).await.is(200);
    for (code, cause, reason, words) in [
        ("provider_auth", Some(Cause::Status(401)), Some("status"), "it answered with the status 401"),
        ("provider_unreachable", Some(Cause::Name), Some("name"), "no address is known for its name"),
        ("provider_unreachable", Some(Cause::Refused), Some("refused"), "the connection was refused"),
        ("provider_unreachable", Some(Cause::Tls), Some("tls"), "its TLS or its certificate is not accepted"),
        ("provider_timeout", Some(Cause::Slow), Some("timeout"), "it did not answer in time"),
        ("provider_interrupted", Some(Cause::Broken), Some("interrupted"), "the connection broke off"),
        ("provider_invalid_response", Some(Cause::Form), Some("form"), "its answer is no list of models"),
        // Which address it was that may not be reached, and why, is the operator's business.
        ("egress_denied", None, None, "egress_denied"),
    ] {
        *test.probed.fails.lock().unwrap() = Some(Unlisted { code, cause });
        for name in ["house", "lab"] {
            let tested =
                test.post(&test.a.owner, &format!("{PROVIDERS}/{name}/test"), json!({})).await.is(200);
            let words = format!("{name} cannot be used: {words}");
            let mut want = json!({"success": false, "code": code, "error": words});
            if let Some(reason) = reason {
                want["reason"] = json!(reason);
            }
            assert_eq!(tested.json, want);
        }
    }
    test.post(&test.a.owner, &format!("{PROVIDERS}/none/test"), json!({}))
        .await
        .refused(404, "provider_not_found");
}

#[tokio::test]
async fn a_base_url_that_turns_prices_off_is_said_to_when_it_is_set() {
    let test = TestApp::new().await;
    for (body, warned) in [
        (json!({"provider": "vendor", "apiKey": "k"}), false),
        (json!({"provider": "vendor", "apiKey": "k", "baseUrl": "https://vendor.example.com/v1"}), false),
        (json!({"provider": "vendor", "apiKey": "k", "baseUrl": "https://proxy.example.com/v1"}), true),
        (json!({"provider": "lab", "baseUrl": "http://10.0.0.1/v1"}), true),
    ] {
        let saved = test.post(&test.a.owner, PROVIDERS, body.clone()).await.is(200);
        let words = saved.json["warning"].as_str().unwrap_or_default();
        assert_eq!(words.contains("count as free"), warned, "{body}: {}", saved.json);
        let listed = test.get(&test.a.owner, PROVIDERS).await.is(200);
        let name = &body["provider"];
        let list = listed.json.as_array().unwrap();
        let found = list.iter().find(|provider| provider["provider"] == *name).unwrap();
        assert_eq!(found["unpricedAreFree"] == true, warned, "{body}: {found}");
    }
    let listed = test.get(&test.a.owner, PROVIDERS).await.is(200);
    let house = listed.json.as_array().unwrap().iter().find(|provider| provider["provider"] == "house");
    assert_eq!(house.unwrap()["unpricedAreFree"], true, "the operator's, at an address of theirs");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let test = TestApp::new().await;
    let refused =
        async |body: Value| test.post(&test.a.owner, PROVIDERS, body).await.refused(400, "invalid_body");
    for (body, path) in [
        (json!({"apiKey": "k"}), "provider"),
        (json!({"provider": "Bad Name", "apiKey": "k"}), "provider"),
        (json!({"provider": "vendor"}), "apiKey"),
        (json!({"provider": "vendor", "apiKey": ""}), "apiKey"),
        (json!({"provider": "vendor", "apiKey": "a\r\nb"}), "apiKey"),
        (json!({"provider": "unknown", "apiKey": "k"}), "baseUrl"),
        (json!({"provider": "lab", "baseUrl": "ftp://x"}), "baseUrl"),
        (json!({"provider": "lab", "baseUrl": "http://u:p@x/"}), "baseUrl"),
        (json!({"provider": "lab", "baseUrl": "http://x/#f"}), "baseUrl"),
        (json!({"provider": "lab", "baseUrl": 5}), "baseUrl"),
    ] {
        assert_eq!(refused(body.clone()).await.paths(), [path], "{body}");
    }
}

#[tokio::test]
async fn an_address_out_of_reach_is_not_saved() {
    for (reach, url, saved) in [
        (Reach::Public, "http://10.0.0.1/v1", false),
        (Reach::Public, "http://169.254.169.254/latest", false),
        (Reach::Public, "https://models.example.com/v1", true),
        (Reach::Private, "http://10.0.0.1/v1", true),
        (Reach::Private, "http://169.254.169.254/latest", false),
    ] {
        let test = TestApp::with(Wishes { reach, ..Wishes::default() }).await;
        let lab = json!({"provider": "lab", "baseUrl": url});
        let answer = test.post(&test.a.owner, PROVIDERS, lab).await;
        let listed = test.get(&test.a.owner, PROVIDERS).await.is(200).json.as_array().unwrap().len();
        assert_eq!((answer.status == 200, listed), (saved, 1 + usize::from(saved)), "{reach:?} {url}");
        if !saved {
            assert_eq!(answer.refused(400, "invalid_body").paths(), ["baseUrl"]);
        }
    }
}
