//! Reads that are not sent again, settings that nobody overwrites unseen, and days of a time zone.

use http::Request;
use lantern_types::Dur;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, on_both, request};

on_both! {
    a_reader_is_sent_only_what_is_new: reads;
    caps_are_changed_at_the_revision_that_was_read: caps;
    retention_is_changed_at_the_revision_that_was_read: retention;
    a_cap_counts_the_days_of_its_zone: zones;
}

const CAPS: &str = "/v1/settings/caps";

fn with(
    mut request: Request<axum::body::Body>,
    name: &'static str,
    value: &str,
) -> Request<axum::body::Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

async fn unless(test: &TestApp, path: &str, tag: &str) -> Answer {
    test.send(with(request("GET", path, Some(&test.a.owner), None), "if-none-match", tag)).await
}

async fn at(test: &TestApp, path: &str, tag: &str, body: Value) -> Answer {
    test.send(with(request("POST", path, Some(&test.a.owner), Some(body)), "if-match", tag)).await
}

async fn reads(test: &TestApp) {
    test.agent(json!({"name": "a"})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    let run = format!("/v1/runs/{run}");
    for path in ["/v1/agents", "/v1/agents/a", "/v1/agents/a/versions/1", &run, "/v1/runs", "/v1/tools"] {
        let read = test.get(&test.a.owner, path).await.is(200);
        let tag = read.header("etag").to_owned();
        assert!(tag.starts_with('"'), "{path} {tag}");
        let again = unless(test, path, &tag).await.is(304);
        assert_eq!((again.text.as_str(), again.header("etag")), ("", tag.as_str()), "{path}");
        unless(test, path, "\"other\"").await.is(200);
    }
    let tags = |answer: Answer| answer.header("etag").to_owned();
    let (agent, row) =
        (tags(test.get(&test.a.owner, "/v1/agents/a").await), tags(test.get(&test.a.owner, &run).await));
    test.patch(&test.a.owner, "/v1/agents/a", json!({"description": "new"})).await.is(200);
    unless(test, "/v1/agents/a", &agent).await.is(200);
    test.post(&test.a.owner, &format!("{run}/feedback"), json!({"score": 5})).await.is(201);
    unless(test, &run, &row).await.is(304);
    // Nobody learns by a tag what they may not read.
    let foreign = with(request("GET", "/v1/agents/a", Some(&test.b.owner), None), "if-none-match", "*");
    test.send(foreign).await.refused(404, "agent_not_found");
    test.send(with(request("GET", "/v1/agents/a", None, None), "if-none-match", "*"))
        .await
        .refused(401, "unauthorized");
}

async fn caps(test: &TestApp) {
    let first = test.get(&test.a.owner, CAPS).await.is(200);
    assert_eq!(first.header("etag"), "\"0\"");
    let set = at(test, CAPS, "\"0\"", json!({"maxCostUsdPerDay": 5})).await.is(200);
    let tag = set.header("etag").to_owned();
    assert_ne!(tag, "\"0\"");
    at(test, CAPS, "\"0\"", json!({"maxCostUsdPerDay": 9})).await.refused(412, "version_mismatch");
    let read = test.get(&test.a.owner, CAPS).await.is(200);
    assert_eq!((read.header("etag"), &read.json[0]["maxCostUsd"]), (tag.as_str(), &json!(5.0)));
    // What was spent is no matter of the tag, so a read is whole.
    unless(test, CAPS, &tag).await.is(200);
    at(test, CAPS, &tag, json!({"maxCostUsdPerDay": null})).await.is(200);
    assert_eq!(test.get(&test.b.owner, CAPS).await.header("etag"), "\"0\"", "another tenant's own");
    let (one, two) = {
        let tag = test.get(&test.a.owner, CAPS).await.header("etag").to_owned();
        tokio::join!(
            at(test, CAPS, &tag, json!({"maxCostUsdPerDay": 1})),
            at(test, CAPS, &tag, json!({"maxCostUsdPerDay": 2}))
        )
    };
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "one of two at once");
}

async fn retention(test: &TestApp) {
    const PATH: &str = "/v1/settings/retention";
    let tag = test.get(&test.a.owner, PATH).await.is(200).header("etag").to_owned();
    let set = at(test, PATH, &tag, json!({"content": "90d"})).await.is(200);
    at(test, PATH, &tag, json!({"content": "10d"})).await.refused(412, "version_mismatch");
    let read = test.get(&test.a.owner, PATH).await.is(200);
    assert_eq!((read.header("etag"), &read.json["content"]), (set.header("etag"), &json!("90d")));
    test.post(&test.a.owner, PATH, json!({"content": "30d"})).await.is(200);
    at(test, PATH, "*", json!({"content": null})).await.is(200);
}

async fn zones(test: &TestApp) {
    // A key, which does not end with the hour.
    let key = test.key(&["admin"]).await;
    let save = async |body: Value| test.post(&key, CAPS, body).await;
    for (zone, words) in [
        ("Europe/Berln", "did you mean \"Europe/Berlin\"?"),
        ("Berlin", "did you mean \"Europe/Berlin\"?"),
        ("+02:00", "there is no time zone"),
    ] {
        let refused =
            save(json!({"maxCostUsdPerDay": 1, "timeZone": zone})).await.refused(400, "invalid_body");
        assert_eq!(refused.paths(), ["timeZone"]);
        assert!(refused.text.contains(&words.replace('"', "\\\"")), "{}", refused.text);
    }
    assert_eq!(test.get(&key, CAPS).await.json, json!([]), "nothing was set");
    save(json!({"maxCostUsdPerDay": 1, "maxCostUsdPerMonth": 9})).await.is(200);
    // 2027-01-15T08:00:00Z: in Tokyo the day began at three in the afternoon of the day before.
    let shown = save(json!({"timeZone": "asia/tokyo"})).await.is(200).json;
    let rows: Vec<(&str, &str, &str)> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|cap| ["period", "timeZone", "beganAt"].map(|name| cap[name].as_str().unwrap()).into())
        .collect();
    assert_eq!(
        rows,
        [("day", "Asia/Tokyo", "2027-01-14T15:00:00Z"), ("month", "Asia/Tokyo", "2026-12-31T15:00:00Z")]
    );
    test.clock.pass(Dur::from_secs(7 * 3_600));
    let day = |shown: &Value| shown[0]["beganAt"].as_str().unwrap().to_owned();
    assert_eq!(day(&test.get(&key, CAPS).await.json), "2027-01-15T15:00:00Z");
    // A cap that is set later is of its owner's zone; without one it is UTC's again.
    let later = save(json!({"maxCostUsdPerDay": 2})).await.is(200).json;
    assert_eq!((&later[0]["timeZone"], &later[0]["maxCostUsd"]), (&json!("Asia/Tokyo"), &json!(2.0)));
    let back = save(json!({"timeZone": null})).await.is(200).json;
    assert_eq!((&back[0]["timeZone"], day(&back)), (&json!("UTC"), "2027-01-15T00:00:00Z".to_owned()));
}
