//! Versions: listed, read, compared and promoted; agents archived and restored. On both databases.

use http::HeaderValue;
use lantern_policy::Role;
use lantern_types::Digest;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, on_both, person, request};

on_both! {
    versions_are_listed_by_number: listed;
    a_version_is_read_by_its_number_or_id: read;
    two_versions_are_compared: compared;
    a_promoted_version_is_what_new_runs_run: promoted;
    a_promotion_may_name_the_state_it_is_about: conditional;
    an_archived_agent_comes_back_as_it_was: restored;
}

/// An agent `v` of tenant `a` with three versions, of which the third is current.
async fn three(test: &TestApp) -> [Value; 3] {
    let first = json!({"name": "v", "description": "d", "labels": {"team": "x"}, "stylePrompt": "dry",
        "avatarUrl": "https://x.example/a.png", "temperature": 0.70, "outputSchema": {"b": 1, "a": [1.0, 2]}});
    let first = test.agent(first).await;
    let second =
        test.agent(json!({"name": "v", "model": "gpt-4o", "tools": ["calc"], "stylePrompt": null})).await;
    let third = test.agent(json!({"name": "v", "maxTurns": 3})).await;
    [first, second, third]
}

async fn post(test: &TestApp, path: &str, tag: Option<&str>) -> Answer {
    changed(test, "POST", path, tag).await
}

async fn changed(test: &TestApp, method: &str, path: &str, tag: Option<&str>) -> Answer {
    let mut request = request(method, path, Some(&test.a.owner), None);
    if let Some(tag) = tag {
        request.headers_mut().insert("if-match", HeaderValue::from_str(tag).unwrap());
    }
    test.send(request).await
}

async fn listed(test: &TestApp) {
    let owner = person(test.a.id, Role::Owner).id;
    let [first, _, third] = three(test).await;
    let page = test.get(&test.a.owner, "/v1/agents/v/versions?limit=2").await.is(200);
    let numbers = |page: &Answer| -> Vec<i64> {
        page.json.as_array().unwrap().iter().map(|one| one["number"].as_i64().unwrap()).collect()
    };
    assert_eq!(numbers(&page), [3, 2]);
    let newest = &page.json[0];
    assert_eq!(
        (&newest["id"], &newest["digest"], &newest["current"]),
        (&third["currentVersionId"], &third["digest"], &json!(true))
    );
    assert_eq!((&newest["createdBy"], newest.get("manifest")), (&json!(owner), None));
    assert_eq!(page.json[1]["current"], false);
    // A version that comes in between neither repeats nor hides another.
    test.agent(json!({"name": "v", "maxTurns": 4})).await;
    let next = page.header("link").split(['<', '>']).nth(1).unwrap().to_owned();
    let last = test.get(&test.a.owner, &next).await.is(200);
    assert_eq!((numbers(&last), last.header("link")), (vec![1], ""));
    assert_eq!(last.json[0]["id"], first["currentVersionId"]);
    // What a key made is nobody's.
    let key = test.key(&["write"]).await;
    test.patch(&key, "/v1/agents/v", json!({"maxTurns": 5})).await.is(200);
    let page = test.get(&test.a.owner, "/v1/agents/v/versions?limit=1").await.is(200);
    assert_eq!((numbers(&page), page.json[0].get("createdBy")), (vec![5], None));
    test.get(&test.a.owner, "/v1/agents/none/versions").await.refused(404, "agent_not_found");
    test.get(&test.b.owner, "/v1/agents/v/versions").await.refused(404, "agent_not_found");
    test.get(&test.a.owner, "/v1/agents/v/versions?cursor=x").await.refused(400, "invalid_query");
}

async fn read(test: &TestApp) {
    let [first, second, _] = three(test).await;
    let path = |name: &str| format!("/v1/agents/v/versions/{name}");
    let one = test.get(&test.a.owner, &path("1")).await.is(200);
    assert_eq!((&one.json["number"], &one.json["current"]), (&json!(1), &json!(false)));
    assert_eq!(one.json["manifest"]["stylePrompt"], "dry");
    assert_eq!(one.json["manifest"]["maxCostUsd"], json!(null));
    // The bytes are the ones that the digest names.
    let canonical = one.text.split_once("\"canonical\":").unwrap().1.strip_suffix('}').unwrap();
    assert_eq!(json!(Digest::of(canonical.as_bytes())), one.json["digest"]);
    assert_eq!(one.json["digest"], first["digest"]);
    let by_id = test.get(&test.a.owner, &path(second["currentVersionId"].as_str().unwrap())).await.is(200);
    assert_eq!((&by_id.json["number"], &by_id.json["digest"]), (&json!(2), &second["digest"]));
    let other = test.agent(json!({"name": "w"})).await;
    for unknown in ["4", "0", "-1", "latest", "%00", other["currentVersionId"].as_str().unwrap()] {
        test.get(&test.a.owner, &path(unknown)).await.refused(404, "agent_version_not_found");
    }
    test.get(&test.b.owner, &path("1")).await.refused(404, "agent_not_found");
}

async fn compared(test: &TestApp) {
    three(test).await;
    let diff = async |from: &str, to: &str| {
        test.get(&test.a.owner, &format!("/v1/agents/v/versions/{from}/diff/{to}")).await.is(200).json
    };
    let there = diff("2", "3").await;
    assert_eq!((&there["from"]["number"], &there["to"]["number"]), (&json!(2), &json!(3)));
    assert_eq!(there["to"]["current"], true);
    assert_eq!(there["changes"], json!([{"path": "/maxTurns", "op": "replace", "from": 12, "to": 3}]));
    let text = there["text"].as_str().unwrap();
    assert!(
        text.starts_with("@@ -1,") && text.contains("\n-  \"maxTurns\": 12,\n+  \"maxTurns\": 3,\n"),
        "{text}"
    );
    let back = diff("3", "2").await;
    assert_eq!(back["changes"], json!([{"path": "/maxTurns", "op": "replace", "from": 3, "to": 12}]));
    let far = diff("1", "2").await;
    let of = |path: &str| {
        let found = far["changes"].as_array().unwrap().iter().find(|change| change["path"] == path);
        found.cloned().unwrap_or_default()
    };
    assert_eq!(of("/labels"), json!({"path": "/labels", "op": "remove", "from": {"team": "x"}}));
    assert_eq!(of("/tools"), json!({"path": "/tools", "op": "add", "to": ["calc"]}));
    assert_eq!(of("/model"), json!({"path": "/model", "op": "replace", "from": "auto", "to": "gpt-4o"}));
    assert_eq!(of("/temperature"), Value::Null);
    let same = diff("2", "2").await;
    assert_eq!((&same["changes"], &same["text"]), (&json!([]), &json!("")));
    for path in ["2/diff/9", "9/diff/2", "2/diff/x"] {
        let path = format!("/v1/agents/v/versions/{path}");
        test.get(&test.a.owner, &path).await.refused(404, "agent_version_not_found");
    }
    test.get(&test.b.owner, "/v1/agents/v/versions/1/diff/2").await.refused(404, "agent_not_found");
}

async fn promoted(test: &TestApp) {
    let [first, second, third] = three(test).await;
    let before = test.run(json!({"agentName": "v"})).await;
    let back = post(test, "/v1/agents/v/versions/1/promote", None).await.is(200);
    assert_eq!((&back.json["version"], &back.json["digest"]), (&json!(1), &first["digest"]));
    for field in ["description", "labels", "stylePrompt", "avatarUrl", "currentVersionId", "temperature"] {
        assert_eq!(back.json[field], first[field], "{field}");
    }
    assert_eq!(test.get(&test.a.owner, "/v1/agents/v").await.is(200).json, back.json);
    let list = test.get(&test.a.owner, "/v1/agents").await.is(200).json;
    assert_eq!((&list[0]["description"], &list[0]["labels"]), (&json!("d"), &json!({"team": "x"})));
    // A run keeps what it began with; the next one runs what is current.
    let after = test.run(json!({"agentName": "v"})).await;
    for (run, agent) in [(&before, &third), (&after, &first)] {
        let run = test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.is(200).json;
        assert_eq!(run["agentVersionId"], agent["currentVersionId"]);
    }
    // Again changes nothing, and by id is as good as by number.
    let again = post(test, "/v1/agents/v/versions/1/promote", None).await.is(200);
    assert_eq!((again.header("etag"), &again.json), (back.header("etag"), &back.json));
    let id = second["currentVersionId"].as_str().unwrap();
    let by_id = post(test, &format!("/v1/agents/v/versions/{id}/promote"), None).await.is(200);
    assert_eq!((&by_id.json["version"], by_id.json.get("stylePrompt")), (&json!(2), None));
    // A change of an older version is a new one, after the last.
    let fourth = test.patch(&test.a.owner, "/v1/agents/v", json!({"maxTurns": 7})).await.is(200).json;
    assert_eq!(fourth["version"], 4);
    let made = test.get(&test.a.owner, "/v1/agents/v/versions/4").await.is(200).json;
    assert_eq!((&made["manifest"]["model"], &made["manifest"]["maxTurns"]), (&json!("gpt-4o"), &json!(7)));
    post(test, "/v1/agents/v/versions/9/promote", None).await.refused(404, "agent_version_not_found");
    let theirs = request("POST", "/v1/agents/v/versions/1/promote", Some(&test.b.owner), None);
    test.send(theirs).await.refused(404, "agent_not_found");
    // Another tenant's agent of the same name has versions of its own.
    test.post(&test.b.owner, "/v1/agents", json!({"name": "v"})).await.is(201);
    let theirs = request("POST", &format!("/v1/agents/v/versions/{id}/promote"), Some(&test.b.owner), None);
    test.send(theirs).await.refused(404, "agent_version_not_found");
}

async fn conditional(test: &TestApp) {
    three(test).await;
    let tag = test.get(&test.a.owner, "/v1/agents/v").await.header("etag").to_owned();
    let promote = "/v1/agents/v/versions/1/promote";
    let moved = post(test, promote, Some(&tag)).await.is(200).header("etag").to_owned();
    assert_ne!(moved, tag);
    post(test, "/v1/agents/v/versions/2/promote", Some(&tag)).await.refused(412, "version_mismatch");
    post(test, promote, Some("nonsense")).await.refused(400, "invalid_header");
    changed(test, "DELETE", "/v1/agents/v", Some(&tag)).await.refused(412, "version_mismatch");
    changed(test, "DELETE", "/v1/agents/v", Some(&moved)).await.is(204);
    let away = test.get(&test.a.owner, "/v1/agents/v").await.is(200);
    assert_eq!((&away.json["status"], &away.json["version"]), (&json!("archived"), &json!(1)));
    post(test, "/v1/agents/v/restore", Some(&moved)).await.refused(412, "version_mismatch");
    post(test, "/v1/agents/v/restore", Some(away.header("etag"))).await.is(200);
}

async fn restored(test: &TestApp) {
    let [_, _, third] = three(test).await;
    test.delete(&test.a.owner, "/v1/agents/v").await.is(204);
    post(test, "/v1/agents/v/versions/1/promote", None).await.refused(409, "agent_archived");
    // What is archived can be looked at.
    test.get(&test.a.owner, "/v1/agents/v/versions/1/diff/3").await.is(200);
    let back = post(test, "/v1/agents/v/restore", None).await.is(200);
    for field in
        ["status", "version", "digest", "currentVersionId", "maxTurns", "model", "tools", "createdAt"]
    {
        assert_eq!(back.json[field], third[field], "{field}");
    }
    assert_eq!(back.json.get("archivedAt"), None);
    assert_eq!(test.get(&test.a.owner, "/v1/agents/v").await.is(200).json, back.json);
    test.run(json!({"agentName": "v"})).await;
    let again = post(test, "/v1/agents/v/restore", None).await.is(200);
    assert_eq!((again.header("etag"), &again.json), (back.header("etag"), &back.json));
    post(test, "/v1/agents/none/restore", None).await.refused(404, "agent_not_found");
    let theirs = request("POST", "/v1/agents/v/restore", Some(&test.b.owner), None);
    test.send(theirs).await.refused(404, "agent_not_found");
}
