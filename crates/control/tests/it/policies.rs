//! Policies over HTTP: checked before they are saved, kept as versions, apart for each tenant, and tried on runs of the past.

use lantern_cedar::{Asked, Effect, Who};
use lantern_types::At;
use serde_json::{Value, json};

use crate::app::{TestApp, on_both, request};

on_both! {
    saved: what_is_saved_is_a_version_and_in_force_at_once;
    refused: what_makes_no_sense_is_refused_where_it_stands;
    apart: no_tenant_is_bound_by_anothers;
    revised: two_changes_do_not_undo_each_other;
    tried: runs_of_the_past_are_asked_about;
}

const PATH: &str = "/v1/policies";
const NOTHING: &str = "// nothing is forbidden";
const NO_MAIL: &str =
    r#"@id("no mail") forbid(principal, action == Action::"call_tool", resource == Tool::"mail.send");"#;

async fn saves(test: &TestApp, text: &str) -> Value {
    test.put(&test.a.owner, PATH, json!({ "text": text })).await.is(200).json
}

fn forbidden(test: &TestApp, tenant: lantern_types::TenantId) -> bool {
    let effect = Effect::CallTool { name: "mail.send", class: lantern_types::EffectClass::Keyed, calls: 0 };
    let asked = Asked { who: Who::Agent("x"), effect, spent: 0, at: At::from_micros(0) };
    let set = test.app.standing.of(tenant).unwrap();
    set.is_some_and(|set| set.policies.as_ref().is_none_or(|policies| policies.answer(&asked).forbidden))
}

async fn what_is_saved_is_a_version_and_in_force_at_once(test: &TestApp) {
    let tenant = test.a.id;
    test.get(&test.a.viewer, &format!("{PATH}/current")).await.refused(404, "policy_not_found");
    assert_eq!(test.get(&test.a.viewer, PATH).await.is(200).json, json!([]));
    test.put(&test.a.member, PATH, json!({"text": NOTHING})).await.refused(403, "role_missing");

    let first = saves(test, NO_MAIL).await;
    assert_eq!(
        (&first["version"], &first["mode"], &first["default"]),
        (&json!(1), &json!("enforce"), &json!("allow"))
    );
    assert_eq!((&first["policies"], &first["inForce"]), (&json!(["no mail"]), &json!(true)));
    assert_eq!(first["createdBy"], test.get(&test.a.owner, "/auth/me").await.json["email"]);
    assert!(forbidden(test, tenant), "it is in force before it is answered");
    assert_eq!(saves(test, NO_MAIL).await["version"], 1, "the same is no new version");

    let observed = json!({"text": NO_MAIL, "mode": "observe"});
    let second = test.put(&test.a.owner, PATH, observed).await.is(200).json;
    assert_eq!((&second["version"], &second["digest"]), (&json!(2), &first["digest"]));
    assert!(test.app.standing.of(tenant).unwrap().unwrap().observes);

    let current = test.get(&test.a.viewer, &format!("{PATH}/current")).await.is(200);
    assert_eq!(current.json["text"], NO_MAIL);
    let old = test.get(&test.a.viewer, &format!("{PATH}/1")).await.is(200).json;
    assert_eq!((&old["inForce"], &old["text"]), (&json!(false), &json!(NO_MAIL)));
    test.get(&test.a.viewer, &format!("{PATH}/9")).await.refused(404, "policy_not_found");
    test.get(&test.a.viewer, &format!("{PATH}/x")).await.refused(404, "policy_not_found");

    test.delete(&test.a.owner, PATH).await.is(204);
    assert!(test.app.standing.of(tenant).unwrap().is_none());
    test.delete(&test.a.owner, PATH).await.refused(404, "policy_not_found");
    test.get(&test.a.viewer, &format!("{PATH}/current")).await.refused(404, "policy_not_found");
    let page = test.get(&test.a.viewer, &format!("{PATH}?limit=2")).await.is(200);
    let versions: Vec<&Value> =
        page.json.as_array().unwrap().iter().map(|version| &version["version"]).collect();
    assert_eq!(versions, [&json!(3), &json!(2)]);
    assert_eq!(page.json[0]["mode"], "off");
    let next = format!("{PATH}?limit=2&cursor={}", page.header("x-next-cursor"));
    assert_eq!(test.get(&test.a.viewer, &next).await.is(200).json[0]["version"], 1);
    let log = test.get(&test.a.owner, "/v1/audit?limit=50").await.is(200);
    assert!(log.text.contains("policies.save"), "{}", log.text);
}

async fn what_makes_no_sense_is_refused_where_it_stands(test: &TestApp) {
    for (body, path, words) in [
        (json!({"text": "forbid(principal,\n  action"}), "text:2:9", "expected"),
        (json!({"text": "permit(principal, action, resource);"}), "text:1:1", "changes nothing"),
        (json!({"text": "forbid(principal is Host, action, resource);"}), "text:1:1", "no effect"),
        (json!({"text": " ".repeat(65_537)}), "text", ""),
        (json!({"text": NOTHING, "default": "maybe"}), "default", "expected"),
        (json!({"text": NOTHING, "mode": "off"}), "mode", "expected"),
        (json!({"text": NOTHING, "txt": ""}), "txt", ""),
        (json!({"text": ""}), "text", "empty"),
    ] {
        let refused = test.put(&test.a.owner, PATH, body.clone()).await.refused(400, "invalid_body");
        assert!(refused.paths().contains(&path), "{body}: {}", refused.text);
        assert!(refused.text.contains(words), "{body}: {}", refused.text);
    }
    let tried = json!({"text": "forbid(principal is Host, action, resource);"});
    assert_eq!(
        test.post(&test.a.owner, "/v1/policies/test", tried).await.refused(400, "invalid_body").paths(),
        ["text:1:1"]
    );
    let cursor = json!({"text": NOTHING, "cursor": "x"});
    test.post(&test.a.owner, "/v1/policies/test", cursor).await.refused(400, "invalid_body");
    let nobody = json!({"text": NOTHING, "agentName": "nobody"});
    test.post(&test.a.owner, "/v1/policies/test", nobody).await.refused(404, "agent_not_found");
    assert_eq!(test.get(&test.a.viewer, PATH).await.is(200).json, json!([]), "none of it was kept");
}

async fn no_tenant_is_bound_by_anothers(test: &TestApp) {
    saves(test, NO_MAIL).await;
    assert!(forbidden(test, test.a.id) && !forbidden(test, test.b.id));
    test.get(&test.b.owner, &format!("{PATH}/1")).await.refused(404, "policy_not_found");
    assert_eq!(test.get(&test.b.owner, PATH).await.is(200).json, json!([]));
    test.delete(&test.b.owner, PATH).await.refused(404, "policy_not_found");
    assert!(forbidden(test, test.a.id));
}

async fn two_changes_do_not_undo_each_other(test: &TestApp) {
    saves(test, NO_MAIL).await;
    let tag = test.get(&test.a.owner, &format!("{PATH}/current")).await.is(200).header("etag").to_owned();
    saves(test, NOTHING).await;
    let mut late = request("PUT", PATH, Some(&test.a.owner), Some(json!({"text": NO_MAIL})));
    late.headers_mut().insert("if-match", tag.parse().unwrap());
    test.send(late).await.refused(412, "version_mismatch");
    assert!(!forbidden(test, test.a.id));
}

async fn runs_of_the_past_are_asked_about(test: &TestApp) {
    test.agent(json!({"name": "a"})).await;
    for _ in 0..3 {
        test.run(json!({"agentName": "a", "input": {"text": "hi"}})).await;
    }
    let all = json!({"text": "forbid(principal, action, resource);", "agentName": "a"});
    let tried = test.post(&test.a.viewer, "/v1/policies/test", all).await.is(200).json;
    // Nobody drives them here, so nothing was admitted: they are looked at, and there is nothing to forbid.
    assert_eq!((&tried["runs"], &tried["events"]), (&json!(3), &json!(3)));
    assert_eq!(
        (&tried["allowed"], &tried["blocked"], &tried["savedMicroUsd"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert!(tried.get("cursor").is_none());
    let later = json!({"text": NOTHING, "since": "2100-01-01T00:00:00Z"});
    assert_eq!(test.post(&test.a.viewer, "/v1/policies/test", later).await.is(200).json["runs"], 0);
    let theirs = test.post(&test.b.owner, "/v1/policies/test", json!({"text": NOTHING})).await.is(200).json;
    assert_eq!(theirs["runs"], 0, "nobody tries policies on another tenant's runs");
}
