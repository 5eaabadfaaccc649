//! How models are chosen: what a tenant says of it is checked, kept apart from others, and changed at the revision that was read.

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, on_both};

on_both! {
    saved: what_is_said_is_checked_and_kept;
    apart: no_tenant_sees_or_changes_anothers;
    revised: two_changes_do_not_undo_each_other;
}

const PATH: &str = "/v1/settings/routing";
const PROVIDERS: &str = "/v1/settings/llm-providers";

async fn says(test: &TestApp, body: Value) -> Answer {
    test.post(&test.a.owner, PATH, body).await
}

async fn what_is_said_is_checked_and_kept(test: &TestApp) {
    let nothing =
        json!({"strategy": "balanced", "source": "server", "serverStrategy": "balanced", "aliases": {}});
    assert_eq!(test.get(&test.a.viewer, PATH).await.is(200).json, nothing);
    test.post(&test.a.member, PATH, json!({"strategy": "cheap"})).await.refused(403, "role_missing");

    // The server's own provider takes any model; a model of a provider that is not there goes nowhere.
    for (body, place, words) in [
        (json!({"strategy": "dear"}), "strategy", "balanced, cheap, best or fast"),
        (json!({"aliases": {"chat-lage": ["house/x"]}}), "aliases.chat-lage", "did you mean chat-large"),
        (json!({"aliases": {"chat-lage": null}}), "aliases.chat-lage", "did you mean chat-large"),
        (json!({"aliases": {"auto": ["hause/x"]}}), "aliases.auto[0]", "did you mean house/x?"),
        (json!({"aliases": {"auto": ["house/x", "chat-small"]}}), "aliases.auto[1]", "is an alias itself"),
        (json!({"aliases": {"auto": []}}), "aliases.auto", "1 to 16 models"),
        (json!({"aliases": {"auto": "house/x"}}), "aliases.auto", "expected a list"),
        (json!({"aliases": {"auto": [7]}}), "aliases.auto", "expected a list"),
        (json!({"aliases": [1]}), "aliases", "expected an object"),
        (json!({"strategi": "cheap"}), "strategi", ""),
        (json!({}), "strategy", "say a strategy"),
    ] {
        let refused = says(test, body.clone()).await.refused(400, "invalid_body");
        assert_eq!(refused.paths(), [place], "{body}");
        assert!(refused.text.contains(words), "{body}: {}", refused.text);
    }
    assert_eq!(test.get(&test.a.owner, PATH).await.json, nothing, "none of it was kept");

    let both = json!({"strategy": "cheap", "aliases": {"auto": ["house/big", "house/small"]}});
    let want = json!({"strategy": "cheap", "source": "tenant", "serverStrategy": "balanced",
        "aliases": {"auto": ["house/big", "house/small"]}});
    assert_eq!(says(test, both).await.is(200).json, want);
    let more = says(test, json!({"aliases": {"chat-small": ["house/small"], "auto": null}})).await.is(200);
    assert_eq!(more.json["aliases"], json!({"chat-small": ["house/small"]}), "others stay as they were");
    assert_eq!(more.json["strategy"], "cheap");
    let back = says(test, json!({"strategy": null, "aliases": {"chat-small": null}})).await.is(200);
    assert_eq!(back.json, nothing);

    // Each change is in the audit log, like that of any setting.
    let log = test.get(&test.a.owner, "/v1/audit?limit=50").await.is(200);
    assert!(log.text.contains("routing.save"), "{}", log.text);

    // An agent says what counts for it.
    test.agent(json!({"name": "a", "strategy": "fast"})).await;
    assert_eq!(test.get(&test.a.owner, "/v1/agents/a").await.is(200).json["strategy"], "fast");
    let wrong = json!({"name": "b", "strategy": "dear"});
    assert_eq!(
        test.post(&test.a.owner, "/v1/agents", wrong).await.refused(400, "invalid_manifest").paths(),
        ["strategy"]
    );
}

async fn no_tenant_sees_or_changes_anothers(test: &TestApp) {
    // A provider that only one of them has is none for the other.
    let own = json!({"provider": "lab", "baseUrl": "https://lab.example.com/v1"});
    test.post(&test.a.owner, PROVIDERS, own).await.is(200);
    let table = json!({"strategy": "best", "aliases": {"auto": ["lab/large"]}});
    says(test, table.clone()).await.is(200);
    let theirs = test.get(&test.b.owner, PATH).await.is(200);
    assert_eq!((&theirs.json["source"], &theirs.json["aliases"]), (&json!("server"), &json!({})));
    test.post(&test.b.owner, PATH, table).await.refused(400, "invalid_body");
    let other = json!({"strategy": "fast", "aliases": {"auto": ["house/x"]}});
    test.post(&test.b.owner, PATH, other).await.is(200);
    let ours = test.get(&test.a.owner, PATH).await.is(200).json;
    assert_eq!((&ours["strategy"], &ours["aliases"]), (&json!("best"), &json!({"auto": ["lab/large"]})));
}

async fn two_changes_do_not_undo_each_other(test: &TestApp) {
    let tag = test.get(&test.a.owner, PATH).await.is(200).header("etag").to_owned();
    says(test, json!({"strategy": "fast"})).await.is(200);
    let mut request =
        crate::app::request("POST", PATH, Some(&test.a.owner), Some(json!({"strategy": "best"})));
    request.headers_mut().insert("if-match", tag.parse().unwrap());
    test.send(request).await.refused(412, "version_mismatch");
    assert_eq!(test.get(&test.a.owner, PATH).await.json["strategy"], "fast");
}
