//! For how long content is kept, what a preview says, and what a run without content still shows.

use lantern_engine::Input;
use lantern_types::Dur;
use serde_json::{Value, json};

use crate::app::{TestApp, Wishes, on_both};
use crate::events::Stream;
use crate::hand::Hand;

on_both! {
    settings_and_previews: what_is_kept_is_said_and_counted;
    redacted: a_run_without_content_shows_what_happened_and_begins_nothing;
}

const SETTING: &str = "/v1/settings/retention";
const PREVIEW: &str = "/v1/retention/preview";

/// A run of an agent that has answered, with words in all places.
async fn ended(test: &TestApp, key: &str) -> String {
    let new = json!({"agentName": "a", "input": {"q": "secret question"}, "labels": {"team": "secret team"}, "idempotencyKey": key});
    let run = test.run(new).await;
    let mut hand = Hand::take(test, &run).await;
    hand.give(Input::Wake).await;
    hand.replies("llm-1", "secret answer").await;
    run
}

async fn what_is_kept_is_said_and_counted(test: &TestApp) {
    test.agent(json!({"name": "a"})).await;
    ended(test, "one").await;
    test.clock.pass(Dur::from_secs(1_800));
    ended(test, "two").await;
    let shown =
        |content: Value, source: &str| json!({"content": content, "source": source, "serverContent": null});
    assert_eq!(test.get(&test.a.member, SETTING).await.is(200).json, shown(json!(null), "server"));
    let nothing = test.post(&test.a.member, PREVIEW, json!({})).await.is(200).json;
    assert_eq!((&nothing["content"], &nothing["runs"]), (&json!(null), &json!(0)));
    for wrong in [json!("soon"), json!("0d"), json!("5s"), json!(5)] {
        test.post(&test.a.owner, SETTING, json!({"content": wrong})).await.refused(400, "invalid_body");
    }
    test.post(&test.a.member, SETTING, json!({"content": "10m"})).await.refused(403, "role_missing");
    let one = test.post(&test.a.member, PREVIEW, json!({"content": "10m"})).await.is(200).json;
    assert_eq!((&one["content"], &one["runs"], &one["measuredRuns"]), (&json!("10m"), &json!(1), &json!(1)));
    assert!(
        one["bytes"].as_i64().unwrap() > 0 && one["oldest"] == one["newest"] && one["oldest"].is_string(),
        "{one}"
    );
    let saved = test.post(&test.a.owner, SETTING, json!({"content": "600s"})).await.is(200).json;
    assert_eq!(saved, shown(json!("10m"), "tenant"));
    assert_eq!(test.post(&test.a.member, PREVIEW, json!({})).await.is(200).json, one);
    assert_eq!(
        test.get(&test.b.owner, SETTING).await.is(200).json["source"],
        "server",
        "another tenant's own"
    );
    assert_eq!(test.post(&test.b.owner, PREVIEW, json!({"content": "10m"})).await.is(200).json["runs"], 0);
    let never = test.post(&test.a.owner, SETTING, json!({"content": "never"})).await.is(200).json;
    assert_eq!(never, shown(json!(null), "tenant"));
    for vague in [json!({}), json!({"contnt": "60d"}), json!({"content": "60d", "kontent": 1})] {
        test.post(&test.a.owner, SETTING, vague).await.refused(400, "invalid_body");
    }
    let still = test.get(&test.a.owner, SETTING).await.is(200).json;
    assert_eq!(still, never, "what is misspelt takes nothing away");
    let back = test.post(&test.a.owner, SETTING, json!({"content": null})).await.is(200).json;
    assert_eq!(back, shown(json!(null), "server"));
}

async fn a_run_without_content_shows_what_happened_and_begins_nothing(test: &TestApp) {
    test.agent(json!({"name": "a"})).await;
    let (run, other) = (ended(test, "one").await, ended(test, "two").await);
    let path = format!("/v1/runs/{run}");
    let before = test.get(&test.a.owner, &path).await.is(200).json;
    test.post(&test.a.viewer, &format!("{path}/redact"), json!({})).await.refused(403, "role_missing");
    test.post(&test.b.owner, &format!("{path}/redact"), json!({})).await.refused(404, "run_not_found");
    let redacted = test.post(&test.a.owner, &format!("{path}/redact"), json!({})).await.is(200).json;
    let since = redacted["contentRemovedAt"].as_str().unwrap().to_owned();
    let again = test.post(&test.a.owner, &format!("{path}/redact"), json!({})).await.is(200).json;
    assert_eq!(again["contentRemovedAt"], json!(since), "done before is done");
    for (name, kept) in before.as_object().unwrap() {
        match name.as_str() {
            "input" | "output" => assert_eq!(redacted.get(name), None),
            "labels" => assert_eq!(redacted[name], json!({})),
            _ => assert_eq!(&redacted[name], kept, "{name}"),
        }
    }
    let mut stream = Stream::open(test, &format!("{path}/events"), None).await;
    let mut kinds = Vec::new();
    while let Some(frame) = stream.next().await {
        let text = frame.data.to_string();
        assert!(!text.contains("secret"), "{text}");
        if ["run_started", "step_completed"].contains(&frame.kind.as_str()) {
            assert_eq!(frame.data["contentRemovedAt"], json!(since), "{text}");
        }
        kinds.push(frame.kind.clone());
    }
    assert!(
        kinds.starts_with(&["run_started".to_owned()]) && kinds.ends_with(&["end".to_owned()]),
        "{kinds:?}"
    );
    for (verb, body) in [("fork", json!({"fromStep": "llm-1"})), ("replay", json!({}))] {
        let refused = test.post(&test.a.owner, &format!("{path}/{verb}"), body).await;
        refused.refused(409, "content_removed");
    }
    test.get(&test.a.owner, &format!("{path}/diff/{other}")).await.refused(409, "content_removed");
    test.get(&test.a.owner, &format!("/v1/runs/{other}/diff/{run}")).await.refused(409, "content_removed");
    let listed = test.get(&test.a.owner, "/v1/runs?label=team:secret%20team").await.is(200).json;
    let listed: Vec<&Value> = listed.as_array().unwrap().iter().map(|run| &run["id"]).collect();
    assert_eq!(listed, [&json!(other)]);
    let same = json!({"agentName": "a", "input": {"q": "secret question"}, "labels": {"team": "secret team"}, "idempotencyKey": "one"});
    assert_eq!(
        test.post(&test.a.owner, "/v1/runs", same).await.json["id"],
        json!(run),
        "its key still has started it"
    );
    let open = test.run(json!({"agentName": "a"})).await;
    test.post(&test.a.owner, &format!("/v1/runs/{open}/redact"), json!({}))
        .await
        .refused(409, "run_not_finished");
    test.delete(&test.a.owner, &path).await.is(204);
}

#[tokio::test]
async fn what_the_server_says_holds_where_the_tenant_says_nothing() {
    let wishes = Wishes { content_kept: Some(Dur::from_secs(86_400)), ..Wishes::default() };
    let test = TestApp::with(wishes).await;
    let shown = test.get(&test.a.owner, SETTING).await.is(200).json;
    assert_eq!(shown, json!({"content": "1d", "source": "server", "serverContent": "1d"}));
}
