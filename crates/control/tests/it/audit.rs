//! The audit log: every route that may change something, every denial, and nobody else's.

use std::net::SocketAddr;

use lantern_control::routes;
use lantern_edge::request::Peer;
use lantern_net::RealClock;
use lantern_policy::Access;
use lantern_types::Dur;
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};

use crate::app::{TestApp, on_both, request};
use crate::walk;

/// The newest entries of tenant `a`, once what nobody waits for is written too: there are `least` of them.
async fn entries(test: &TestApp, token: &str, query: &str, least: usize) -> Vec<Value> {
    let clock = RealClock::new();
    let look = async {
        loop {
            let found = test.get(token, &format!("/v1/audit{query}")).await.is(200).json;
            let found = found.as_array().unwrap().clone();
            if found.len() >= least {
                return found;
            }
            clock.sleep(Dur::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Dur::from_secs(30).std(), look).await.expect("the entries are written")
}

#[tokio::test]
async fn every_route_that_may_change_something_leaves_an_entry() {
    let test = TestApp::new().await;
    let things = walk::things(&test).await;
    for (n, route) in (1_u128..).zip(routes()) {
        let Some((action, _)) = route.action() else { continue };
        if route.method() == "GET" || action == "self.sign_out" {
            continue;
        }
        let path = walk::filled(route.path(), &things);
        let id = uuid::Uuid::from_u128(n).to_string();
        let mut asked = request(route.method(), &path, Some(&test.a.owner), walk::body(action, &path));
        asked.headers_mut().insert("x-request-id", id.parse().unwrap());
        let answer = test.send(asked).await;
        let found = entries(&test, &test.a.owner, &format!("?requestId={id}"), 1).await;
        assert_eq!(found.len(), 1, "{} {path}", route.method());
        assert_eq!(
            (&found[0]["action"], &found[0]["status"]),
            (&json!(action), &json!(answer.status.as_u16()))
        );
        assert_eq!(
            (&found[0]["actor"], &found[0]["actorName"]),
            (&json!("user"), &json!("owner@example.com"))
        );
        let done = if answer.status.is_success() { "succeeded" } else { "refused" };
        assert_eq!(found[0]["outcome"], done, "{} {path}", route.method());
    }
    let verified = test.get(&test.a.owner, "/v1/audit/verify").await.is(200).json;
    assert_eq!(verified["valid"], true, "{verified}");
}

#[tokio::test]
async fn every_denial_leaves_an_entry_and_a_read_none() {
    let test = TestApp::new().await;
    let things = walk::things(&test).await;
    let key = test.key(&["runtime:read"]).await;
    for (method, path, action, access) in walk::guarded() {
        // What the key may do.
        let runtimes = action.starts_with("runtime.") && access <= Access::Read;
        if access == Access::Known || runtimes {
            continue;
        }
        let path = walk::filled(path, &things);
        let asked = request(method, &path, Some(&key), walk::body(action, &path));
        test.send(asked).await.refused(403, "scope_missing");
        // Routes of two spellings may be counted together.
        let found =
            entries(&test, &test.a.owner, &format!("?action={action}&outcome=denied&limit=1"), 1).await;
        assert_eq!(
            (&found[0]["actor"], &found[0]["code"]),
            (&json!("api_key"), &json!("scope_missing")),
            "{path}"
        );
    }
    let before = entries(&test, &test.a.owner, "", 1).await;
    test.get(&test.a.owner, "/v1/runs").await.is(200);
    test.get(&test.a.owner, "/v1/agents/mine").await.is(200);
    assert_eq!(entries(&test, &test.a.owner, "", 1).await[0], before[0]);
}

on_both! {
    a_log_is_paged_filtered_exported_and_its_tenants_own: paged;
}

async fn paged(test: &TestApp) {
    for n in 0..5 {
        test.agent(json!({"name": format!("n{n}")})).await;
    }
    test.patch(&test.a.owner, "/v1/agents/n1", json!({"description": "other"})).await.is(200);
    let all = entries(test, &test.a.owner, "", 6).await;
    let ids: Vec<i64> = all.iter().map(|entry| entry["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [6, 5, 4, 3, 2, 1]);
    assert_eq!((&all[0]["action"], &all[0]["resource"]), (&json!("agents.update"), &json!("/v1/agents/n1")));
    assert_eq!(all[0]["before"], all[4 - 1 + 1]["after"], "what it was is what it had become");
    assert_ne!(all[0]["before"], all[0]["after"]);
    assert_eq!(all[5]["resource"], "/v1/agents/n0", "what was made");
    assert_eq!(all[5].get("before"), None);

    let page = test.get(&test.a.owner, "/v1/audit?limit=4&action=agents.create").await.is(200);
    assert_eq!(page.json.as_array().unwrap().len(), 4);
    let next = page.header("link").split(['<', '>']).nth(1).unwrap().to_owned();
    let rest = test.get(&test.a.owner, &next).await.is(200).json;
    assert_eq!((rest.as_array().unwrap().len(), &rest[0]["id"]), (1, &json!(1)));
    let older = test.get(&test.a.owner, "/v1/audit?before=3").await.is(200).json;
    assert_eq!(older[0]["id"], 2);
    test.get(&test.a.owner, "/v1/audit?outcome=nonsense").await.refused(400, "invalid_query");

    let lines = test.get(&test.a.owner, "/v1/audit/export").await.is(200);
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let links: Vec<_> = lines
        .text
        .lines()
        .map(|line| lantern_store::audit::chain::link(line).expect("it is whole"))
        .collect();
    assert_eq!(links.len(), 6);
    assert!(links.windows(2).all(|two| two[1].prev == two[0].hash && two[1].id == two[0].id + 1));
    let part = test.get(&test.a.owner, "/v1/audit/export?after=2&limit=3").await.is(200).text;
    let want: Vec<&str> = lines.text.lines().skip(2).take(3).collect();
    assert_eq!(part.lines().collect::<Vec<_>>(), want);
    let table = test.get(&test.a.owner, "/v1/audit/export?format=csv").await.is(200);
    assert_eq!((table.text.lines().count(), table.text.starts_with("id,at,actor,")), (7, true));

    let verified = test.get(&test.a.owner, "/v1/audit/verify").await.is(200).json;
    assert_eq!((&verified["valid"], &verified["entries"]), (&json!(true), &json!(6)));
    assert_eq!(verified["head"], links[5].hash.to_string());
    // The other tenant has a log of its own, and a member may not read theirs.
    assert_eq!(test.get(&test.b.owner, "/v1/audit").await.is(200).json, json!([]));
    assert_eq!(test.get(&test.b.owner, "/v1/audit/export").await.is(200).text, "");
    test.get(&test.a.member, "/v1/audit").await.refused(403, "role_missing");
}

#[tokio::test]
async fn who_tampers_with_the_database_is_found_out() {
    let test = TestApp::new().await;
    for n in 0..3 {
        test.agent(json!({"name": format!("n{n}")})).await;
    }
    const TAMPER: &str =
        "UPDATE audit_entries SET resource = '/v1/agents/other' WHERE tenant_id = $1 AND id = 2";
    let tamper = test.app.db.write(test.a.scope, |tx| Box::pin(async move { tx.exec(TAMPER, &[]).await }));
    assert_eq!(tamper.await.unwrap(), 1);
    let verified = test.get(&test.a.owner, "/v1/audit/verify").await.is(200).json;
    assert_eq!((&verified["valid"], &verified["entries"]), (&json!(false), &json!(1)));
    assert_eq!(verified["firstBroken"]["id"], 2);
}

#[tokio::test]
async fn signing_in_leaves_an_entry_in_the_tenant_that_it_opens() {
    let test = TestApp::new().await;
    let signup = json!({"email": "ada@new.example.com", "password": "correct horse battery"});
    let mut asked = request("POST", "/auth/signup", None, Some(signup.clone()));
    asked.extensions_mut().insert(Peer(SocketAddr::from(([10, 0, 0, 1], 5))));
    asked.headers_mut().insert("x-forwarded-for", "203.0.113.9, 198.51.100.7".parse().unwrap());
    let token = test.send(asked).await.is(201).json["token"].as_str().unwrap().to_owned();
    let wrong = json!({"email": "ada@new.example.com", "password": "wrong horse battery"});
    let mut asked = request("POST", "/auth/login", None, Some(wrong));
    asked.extensions_mut().insert(Peer(SocketAddr::from(([192, 0, 2, 1], 5))));
    asked.headers_mut().insert("x-forwarded-for", "198.51.100.7".parse().unwrap());
    test.send(asked).await.refused(401, "invalid_credentials");
    test.send(request("POST", "/auth/login", None, Some(signup))).await.is(200);
    let found = entries(&test, &token, "", 3).await;
    let said = |n: usize| ["action", "actor", "outcome", "sourceAddress"].map(|name| found[n][name].clone());
    assert_eq!(said(2), ["auth.sign_up", "user", "succeeded", "198.51.100.7"].map(Value::from));
    assert_eq!(
        said(1),
        ["auth.sign_in", "nobody", "denied", "192.0.2.1"].map(Value::from),
        "no proxy of ours"
    );
    assert_eq!(found[0]["outcome"], "succeeded");
    assert_eq!(found[0]["principalId"], found[1]["principalId"]);
    // A key that was revoked is known, and what it asks for is denied.
    let made = test.post(&token, "/v1/api-keys", json!({"name": "k"})).await.is(201).json;
    test.delete(&token, &format!("/v1/api-keys/{}", made["key"]["id"].as_str().unwrap())).await.is(204);
    for _ in 0..3 {
        test.get(made["rawKey"].as_str().unwrap(), "/v1/runs").await.refused(401, "unauthorized");
    }
    let denied = entries(&test, &token, "?outcome=denied&action=runs.list", 1).await;
    assert_eq!((&denied[0]["times"], &denied[0]["actorName"]), (&json!(3), &json!("k")));
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_an_entry() {
    let test = TestApp::new().await;
    let never =
        axum::body::Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
    let mut asked = request("POST", "/v1/agents", Some(&test.a.owner), None);
    *asked.body_mut() = never;
    {
        let answer = tower::ServiceExt::oneshot(test.router.clone(), asked);
        let mut answer = std::pin::pin!(answer);
        // As far as it goes without its body.
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut answer => panic!("there is no body"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let found = entries(&test, &test.a.owner, "?action=agents.create", 1).await;
    assert_eq!((&found[0]["outcome"], &found[0]["status"]), (&json!("abandoned"), &json!(0)));
}
