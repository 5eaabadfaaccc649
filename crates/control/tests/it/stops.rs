//! Emergency stops over HTTP: who may set and lift one, what a list shows, and what measurements say.

use lantern_store::stops::{NewStop, server};
use lantern_types::StopId;
use serde_json::{Value, json};

use crate::app::{TestApp, on_both};

const STOPS: &str = "/v1/stops";

on_both! {
    a_stop_is_set_shown_and_lifted_once: set_shown_lifted;
    lists_are_cut_and_filtered: lists;
    only_the_operator_stops_the_server: operator;
}

async fn set_shown_lifted(test: &TestApp) {
    test.agent(json!({"name": "mine"})).await;
    let asked = json!({"scope": "agent", "agentName": "mine", "reason": "it loops"});
    let made = test.post(&test.a.owner, STOPS, asked).await.is(201);
    let stop = made.json.clone();
    let path = format!("{STOPS}/{}", stop["id"].as_str().unwrap());
    assert_eq!(made.header("location"), path);
    assert_eq!(
        (&stop["scope"], &stop["agentName"], &stop["reason"]),
        (&json!("agent"), &json!("mine"), &json!("it loops"))
    );
    assert_eq!((&stop["status"], stop["setBy"].is_string()), (&json!("holding"), true));
    assert_eq!(test.get(&test.a.member, &path).await.is(200).json, stop);
    // New runs are taken, and wait.
    test.run(json!({"agentName": "mine"})).await;
    test.get(&test.b.owner, &path).await.refused(404, "stop_not_found");
    test.delete(&test.b.owner, &path).await.refused(404, "stop_not_found");
    test.delete(&test.a.member, &path).await.refused(403, "role_missing");
    test.delete(&test.key(&["write"]).await, &path).await.refused(403, "scope_missing");
    test.delete(&test.a.owner, &path).await.is(204);
    let lifted = test.get(&test.a.owner, &path).await.is(200).json;
    assert_eq!((&lifted["status"], &lifted["liftedBy"]), (&json!("lifted"), &stop["setBy"]));
    test.delete(&test.a.owner, &path).await.is(204);
    assert_eq!(test.get(&test.a.owner, &path).await.json, lifted, "by whoever was first");
    test.delete(&test.a.owner, &format!("{STOPS}/nonsense")).await.refused(404, "stop_not_found");
}

async fn lists(test: &TestApp) {
    let set = async |who: &str, reason: &str| {
        let made = test.post(who, STOPS, json!({"scope": "tenant", "reason": reason})).await.is(201);
        made.json["id"].as_str().unwrap().to_owned()
    };
    for reason in ["one", "two", "three"] {
        set(&test.a.owner, reason).await;
    }
    set(&test.b.owner, "theirs").await;
    let two = test.get(&test.a.owner, STOPS).await.json[1]["id"].as_str().unwrap().to_owned();
    test.delete(&test.a.owner, &format!("{STOPS}/{two}")).await.is(204);
    let reasons = async |query: &str| {
        let page = test.get(&test.a.owner, &format!("{STOPS}{query}")).await.is(200);
        page.json.as_array().unwrap().iter().map(|stop| stop["reason"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(reasons("").await, ["three", "two", "one"]);
    assert_eq!(reasons("?limit=2").await, ["three", "two"]);
    assert_eq!(reasons("?status=holding").await, ["three", "one"]);
    assert_eq!(reasons("?status=lifted").await, ["two"]);
    test.get(&test.a.owner, &format!("{STOPS}?status=gone")).await.refused(400, "invalid_query");
}

async fn operator(test: &TestApp) {
    let asked = json!({"scope": "server", "reason": "all of it"});
    test.post(&test.a.owner, STOPS, asked).await.refused(403, "operator_only");
    assert_eq!(test.get("", "/readyz").await.is(200).text, "ok");
    let id = StopId::from_uuid(test.app.ids.uuid());
    let at = test.app.clock.now();
    let new = NewStop { id, agent_name: None, reason: "all of it".into(), by: "ops".into(), at };
    server::set(&test.app.db, new).await.unwrap();
    for who in [&test.a.member, &test.b.owner] {
        let listed = test.get(who, STOPS).await.is(200).json;
        assert_eq!((&listed[0]["scope"], &listed[0]["id"]), (&json!("server"), &json!(id)));
    }
    test.delete(&test.a.owner, &format!("{STOPS}/{id}")).await.refused(403, "operator_only");
    assert!(test.get("", "/readyz").await.is(200).text.contains("emergency stop"));
    test.post(&test.a.owner, STOPS, json!({"scope": "tenant", "reason": "too dear"})).await.is(201);
    // One collection a process, and other tests measure too: what is there is a number for each kind.
    let measured = test.get("", "/metrics").await.is(200).text;
    for scope in ["agent", "tenant", "server"] {
        assert!(measured.contains(&format!("stops_holding{{scope=\"{scope}\"}} ")), "{measured}");
    }
}

#[tokio::test]
async fn a_stop_says_what_it_halts_and_why() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "mine"})).await;
    for (body, paths) in [
        (json!({}), vec!["reason", "scope"]),
        (json!({"scope": "world", "reason": "x"}), vec!["scope"]),
        (json!({"scope": "agent", "reason": "x"}), vec!["agentName"]),
        (json!({"scope": "tenant", "agentName": "mine", "reason": "x"}), vec!["agentName"]),
    ] {
        let refused = test.post(&test.a.owner, STOPS, body).await.refused(400, "invalid_body");
        let mut found = refused.paths();
        found.sort_unstable();
        assert_eq!(found, paths);
    }
    // A name that is misspelt would halt nothing, and look as if it did.
    let asked = json!({"scope": "agent", "agentName": "nime", "reason": "x"});
    test.post(&test.a.owner, STOPS, asked).await.refused(404, "agent_not_found");
    test.post(&test.a.viewer, STOPS, json!({"scope": "tenant", "reason": "x"}))
        .await
        .refused(403, "role_missing");
}
