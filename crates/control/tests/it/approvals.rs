//! Questions to people as a list: what it shows, to whom, in which order, and what becomes of a decision.

use http::Request;
use lantern_engine::{Arrival, Input};
use lantern_types::{Dur, RunId};
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, on_both, request};
use crate::hand::Hand;

on_both! {
    what_waits_is_listed_and_says_what_it_is_about: listed;
    a_list_is_narrowed_and_comes_in_pages: narrowed;
    what_is_no_filter_is_refused: refused;
    a_decision_is_taken_once_and_shown: decided;
    an_answer_is_what_the_step_gives: answered;
    a_decision_is_for_those_who_may: permitted;
    a_question_lapses_or_is_withdrawn: closed;
    what_is_long_is_left_out_of_lists: long;
    a_deleted_run_leaves_no_question_behind: deleted;
}

const APPROVALS: &str = "/v1/approvals";

/// Starts a run of an agent with these steps, and lets it come to its question.
async fn asks(test: &TestApp, agent: &str, steps: Value) -> (String, Hand) {
    let tools = json!([{"name": "pay", "approval": true}, "calc"]);
    let body = json!({"name": agent, "program": "steps", "tools": tools, "steps": steps});
    if test.get(&test.a.owner, &format!("/v1/agents/{agent}")).await.status != 200 {
        test.agent(body).await;
    }
    let run = test.run(json!({"agentName": agent})).await;
    let mut hand = Hand::take(test, &run).await;
    hand.give(Input::Wake).await;
    (run, hand)
}

fn ask(reason: &str) -> Value {
    json!([{"id": "ok", "kind": "approval", "data": {"reason": reason}}])
}

async fn list(test: &TestApp, query: &str) -> Vec<Value> {
    let listed = test.get(&test.a.owner, &format!("{APPROVALS}{query}")).await.is(200).json;
    listed.as_array().unwrap().clone()
}

fn reasons(list: &[Value]) -> Vec<&str> {
    list.iter().map(|approval| approval["reason"].as_str().unwrap_or_default()).collect()
}

/// The one question that waits.
async fn only(test: &TestApp) -> String {
    let mut found = list(test, "").await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)["id"].as_str().unwrap().to_owned()
}

async fn get(test: &TestApp, id: &str) -> Value {
    test.get(&test.a.owner, &format!("{APPROVALS}/{id}")).await.is(200).json
}

async fn post(test: &TestApp, id: &str, what: &str, body: Value) -> Answer {
    test.post(&test.a.owner, &format!("{APPROVALS}/{id}/{what}"), body).await
}

/// What is answered when whoever drives the run takes the decision in.
async fn taken_in(test: &TestApp, hand: &mut Hand, request: Request<axum::body::Body>) -> Answer {
    let mut wakes = test.app.db.hub().workers();
    let drains = async {
        while hand.drain().await == 0 {
            wakes.next().await;
        }
    };
    tokio::join!(test.send(request), drains).0
}

async fn decides(test: &TestApp, hand: &mut Hand, id: &str, what: &str, body: Value) -> Answer {
    let path = format!("{APPROVALS}/{id}/{what}");
    taken_in(test, hand, request("POST", &path, Some(&test.a.owner), Some(body))).await
}

async fn listed(test: &TestApp) {
    assert_eq!(list(test, "").await, [json!(null); 0]);
    let steps = json!([{"id": "ok", "kind": "approval", "data": {"reason": "ship?", "approvers": ["Owner@example.com"]},
        "timeout": "60s"}]);
    let (ship, _hand) = asks(test, "ships", steps).await;
    let pay = json!([{"id": "p", "kind": "tool", "data": {"tool": "pay", "arguments": {"cents": 5}}}]);
    let (pay, _hand) = asks(test, "pays", pay).await;
    // One that asks nobody.
    let (_, _hand) = asks(test, "adds", json!([{"id": "a", "kind": "tool", "data": {"tool": "calc"}}])).await;
    let found = list(test, "").await;
    assert_eq!(found.len(), 2, "{found:?}");
    let mut first = found[0].clone();
    let (asked, expires) = (first["askedAt"].take(), first["expiresAt"].take());
    let at = |text: &Value| text.as_str().unwrap().parse::<lantern_types::At>().unwrap();
    assert_eq!(at(&expires).since(at(&asked)), Dur::from_secs(60));
    let id = first["id"].clone();
    let want = json!({"id": id, "runId": ship, "stepId": "ok", "agentName": "ships", "status": "pending",
        "reason": "ship?", "approvers": ["Owner@example.com"], "askedAt": null, "expiresAt": null});
    assert_eq!(first, want);
    let about = |approval: &Value| {
        ["runId", "tool", "arguments", "approvers", "reason"].map(|name| approval[name].clone())
    };
    assert_eq!(about(&found[1]), [json!(pay), json!("pay"), json!({"cents": 5}), json!([]), json!(null)]);
    assert_eq!(get(test, id.as_str().unwrap()).await, found[0]);
    // A key that reads may look; nobody else's tenant is told anything.
    let key = test.key(&["read"]).await;
    assert_eq!(test.get(&key, APPROVALS).await.is(200).json, json!(found));
    assert_eq!(test.get(&test.b.owner, APPROVALS).await.is(200).json, json!([]));
    let path = format!("{APPROVALS}/{}", id.as_str().unwrap());
    test.get(&test.b.owner, &path).await.refused(404, "approval_not_found");
    test.post(&test.b.owner, &format!("{path}/grant"), json!({})).await.refused(404, "approval_not_found");
    for wrong in [ship.as_str(), "ok", "%20"] {
        test.get(&test.a.owner, &format!("{APPROVALS}/{wrong}")).await.refused(404, "approval_not_found");
    }
}

async fn narrowed(test: &TestApp) {
    let mut hands = Vec::new();
    for n in 0..5 {
        hands.push(asks(test, if n % 2 == 0 { "even" } else { "odd" }, ask(&n.to_string())).await);
    }
    // Questions of one agent have the words of its steps.
    let runs: Vec<&String> = hands.iter().map(|(run, _)| run).collect();
    let of = |found: &[Value]| -> Vec<usize> {
        let place = |approval: &Value| runs.iter().position(|run| approval["runId"] == **run).unwrap();
        found.iter().map(place).collect()
    };
    assert_eq!(of(&list(test, "").await), [0, 1, 2, 3, 4]);
    assert_eq!(of(&list(test, "?status=pending&agent=even").await), [0, 2, 4]);
    assert_eq!(of(&list(test, &format!("?runId={}", runs[3])).await), [3]);
    assert_eq!(of(&list(test, &format!("?run_id={}&agent=even", runs[3])).await), [0; 0]);
    assert_eq!(of(&list(test, "?agent=none").await), [0; 0]);
    let ids: Vec<String> =
        list(test, "").await.iter().map(|found| found["id"].as_str().unwrap().to_owned()).collect();
    for (n, what) in [(0, "grant"), (1, "deny"), (3, "grant")] {
        decides(test, &mut hands[n].1, &ids[n], what, json!({})).await.is(200);
    }
    let runs: Vec<&String> = hands.iter().map(|(run, _)| run).collect();
    let of = |found: &[Value]| -> Vec<usize> {
        let place = |approval: &Value| runs.iter().position(|run| approval["runId"] == **run).unwrap();
        found.iter().map(place).collect()
    };
    assert_eq!(of(&list(test, "").await), [2, 4]);
    assert_eq!(of(&list(test, "?status=granted").await), [3, 0]);
    assert_eq!(of(&list(test, "?status=granted,denied").await), [3, 1, 0]);
    assert_eq!(of(&list(test, "?status=pending&status=denied&agent=even").await), [4, 2]);
    for (query, want) in [("?status=pending", vec![2, 4]), ("?status=granted,pending", vec![4, 3, 2, 0])] {
        let (mut seen, mut next) = (Vec::new(), Some(format!("{APPROVALS}{query}&limit=1")));
        while let Some(path) = next {
            let page = test.get(&test.a.owner, &path).await.is(200);
            seen.extend(of(page.json.as_array().unwrap()));
            let link =
                page.header("link").split_once(">; rel=\"next\"").map(|(link, _)| link[1..].to_owned());
            next = link;
        }
        assert_eq!(seen, want, "{query}");
    }
}

async fn refused(test: &TestApp) {
    for (query, field) in [
        ("status=open", "status"),
        ("status=granted,all", "status"),
        ("runId=5", "runId"),
        ("agentName=x", "agentName"),
        ("agent=x&agent=y", "agent"),
        ("cursor=x", "cursor"),
        ("limit=0", "limit"),
    ] {
        let answer =
            test.get(&test.a.owner, &format!("{APPROVALS}?{query}")).await.refused(400, "invalid_query");
        assert_eq!(answer.paths(), [field], "{query}");
    }
    assert_eq!(list(test, "?pageSize=5&status=").await, [json!(null); 0]);
}

async fn decided(test: &TestApp) {
    let (run, mut hand) = asks(test, "a", ask("sure?")).await;
    let id = only(test).await;
    for body in [json!({}), json!({"approved": "yes"})] {
        assert_eq!(post(test, &id, "answer", body).await.refused(400, "invalid_body").paths(), ["approved"]);
    }
    let shown = decides(test, &mut hand, &id, "grant", json!({"note": "go on"})).await.is(200).json;
    let about =
        |approval: &Value| ["status", "decidedBy", "note", "reason"].map(|name| approval[name].clone());
    assert_eq!(about(&shown), [json!("granted"), json!("owner@example.com"), json!("go on"), json!("sure?")]);
    assert_eq!(get(test, &id).await, shown);
    let asked = shown["askedAt"].as_str().unwrap();
    assert!(shown["decidedAt"].as_str().unwrap() > asked);
    assert_eq!(list(test, "?status=granted").await, [shown]);
    assert_eq!(test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.json["status"], "succeeded");
    for what in ["grant", "deny"] {
        let second = post(test, &id, what, json!({})).await.refused(409, "step_not_waiting");
        assert_eq!(second.json["approvalStatus"], "granted");
    }
    // Nobody has taken the first decision in yet: it counts all the same.
    let (run, mut hand) = asks(test, "a", ask("sure?")).await;
    let id = only(test).await;
    let shown = post(test, &id, "answer", json!({"approved": false})).await.is(200).json;
    assert_eq!(shown["status"], "pending");
    post(test, &id, "grant", json!({})).await.refused(409, "step_not_waiting");
    // The older way is the same way.
    let older = format!("/v1/runs/{run}/approvals/ok");
    test.post(&test.a.owner, &older, json!({"approved": true})).await.refused(409, "step_not_waiting");
    assert_eq!(hand.drain().await, 1);
    assert_eq!(get(test, &id).await["status"], "denied");
}

async fn answered(test: &TestApp) {
    let answer = json!({"tag": "v1", "count": 2});
    let tenant = test.a.id;
    for what in ["answer".to_owned(), "grant".to_owned(), "older".to_owned()] {
        let (run, mut hand) = asks(test, "a", ask("which?")).await;
        let id = only(test).await;
        let path = match what.as_str() {
            "older" => format!("/v1/tenants/{tenant}/approvals/{id}/resolve"),
            what => format!("{APPROVALS}/{id}/{what}"),
        };
        let body = json!({"approved": true, "answer": answer, "note": "as said"});
        let request = request("POST", &path, Some(&test.a.owner), Some(body));
        let shown = taken_in(test, &mut hand, request).await.is(200).json;
        assert_eq!(
            (&shown["answer"], &shown["note"], &shown["status"]),
            (&answer, &json!("as said"), &json!("granted"))
        );
        assert_eq!(get(test, &id).await, shown);
        let over = test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.is(200).json;
        let gave = json!({"approved": true, "by": "owner@example.com", "answer": answer});
        assert_eq!(over["output"]["steps"]["ok"], gave);
    }
    // What nobody would get is refused.
    let (_, _hand) = asks(test, "a", ask("which?")).await;
    let id = only(test).await;
    let refused = post(test, &id, "answer", json!({"approved": false, "answer": 1})).await;
    assert_eq!(refused.refused(400, "invalid_body").paths(), ["answer"]);
    let long = json!({"approved": true, "answer": "x".repeat(2 << 20)});
    assert_eq!(post(test, &id, "answer", long).await.refused(413, "input_too_large").paths(), ["answer"]);
    let (other, path) = (test.b.id, format!("approvals/{id}/resolve"));
    let yes = json!({"approved": true});
    for (token, tenant) in [(&test.a.owner, other), (&test.b.owner, other), (&test.b.owner, tenant)] {
        let path = format!("/v1/tenants/{tenant}/{path}");
        test.post(token, &path, yes.clone()).await.refused(404, "approval_not_found");
    }
    let pay = json!([{"id": "p", "kind": "tool", "data": {"tool": "pay", "arguments": {"cents": 5}}}]);
    let (run, _hand) = asks(test, "pays", pay).await;
    let path = format!("/v1/runs/{run}/approvals/p");
    let refused = test.post(&test.a.owner, &path, json!({"approved": true, "answer": 1})).await;
    assert_eq!(refused.refused(400, "invalid_body").paths(), ["answer"]);
}

async fn permitted(test: &TestApp) {
    let steps = json!([{"id": "ok", "kind": "approval", "data": {"approvers": ["boss@example.com"]}}]);
    let (_, mut hand) = asks(test, "a", steps).await;
    let id = only(test).await;
    post(test, &id, "grant", json!({})).await.refused(403, "not_an_approver");
    let path = format!("{APPROVALS}/{id}/grant");
    test.post(&test.a.viewer, &path, json!({})).await.refused(403, "role_missing");
    let key = test.key(&["read"]).await;
    test.post(&key, &path, json!({})).await.refused(403, "scope_missing");
    assert_eq!(hand.drain().await, 0);
    assert_eq!(get(test, &id).await["status"], "pending");
}

async fn closed(test: &TestApp) {
    let steps = json!([{"id": "ok", "kind": "approval", "data": {"reason": "soon?"}, "timeout": "60s"}]);
    let (_, mut hand) = asks(test, "a", steps).await;
    let id = only(test).await;
    test.clock.pass(Dur::from_secs(61));
    hand.give(Input::Wake).await;
    let shown = get(test, &id).await;
    assert_eq!((&shown["status"], shown.get("decidedBy")), (&json!("expired"), None));
    assert_eq!(reasons(&list(test, "?status=expired").await), ["soon?"]);
    post(test, &id, "grant", json!({})).await.refused(409, "step_not_waiting");
    let (_, mut hand) = asks(test, "b", ask("still?")).await;
    let id = only(test).await;
    hand.give(Input::Arrived(Arrival::Cancel { by: "ada".to_owned(), reason: Some("no".to_owned()) })).await;
    let shown = get(test, &id).await;
    assert_eq!(
        (&shown["status"], shown.get("decidedBy"), shown.get("note")),
        (&json!("withdrawn"), None, None)
    );
    assert_eq!(reasons(&list(test, "?status=withdrawn").await), ["still?"]);
    assert_eq!(list(test, "").await, [json!(null); 0]);
    let late = post(test, &id, "deny", json!({})).await.refused(409, "step_not_waiting");
    assert_eq!(late.json["approvalStatus"], "withdrawn");
}

async fn long(test: &TestApp) {
    let many = "x".repeat(40_000);
    let arguments = json!({"tool": "pay", "arguments": {"memo": many}});
    let (_, _hand) = asks(test, "a", json!([{"id": "p", "kind": "tool", "data": arguments}])).await;
    let found = list(test, "").await.remove(0);
    assert_eq!(
        (found.get("arguments"), &found["omitted"], &found["tool"]),
        (None, &json!(["arguments"]), &json!("pay"))
    );
    let whole = get(test, found["id"].as_str().unwrap()).await;
    assert_eq!((whole["arguments"]["memo"].as_str().unwrap().len(), whole.get("omitted")), (40_000, None));
}

async fn deleted(test: &TestApp) {
    let (run, mut hand) = asks(test, "a", ask("sure?")).await;
    let id = only(test).await;
    let keyed = || {
        let mut request =
            request("POST", &format!("{APPROVALS}/{id}/grant"), Some(&test.a.owner), Some(json!({})));
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    let first = taken_in(test, &mut hand, keyed()).await.is(200);
    let again = test.send(keyed()).await.is(200);
    assert_eq!((again.json, again.headers.contains_key("idempotent-replayed")), (first.json, true));
    test.delete(&test.a.owner, &format!("/v1/runs/{run}")).await.is(204);
    assert_eq!(list(test, "?status=granted").await, [json!(null); 0]);
    test.get(&test.a.owner, &format!("{APPROVALS}/{id}")).await.refused(404, "approval_not_found");
    assert!(!test.send(keyed()).await.text.contains("sure?"), "what was deleted is gone");
}

#[tokio::test]
async fn a_question_whose_journal_is_spoilt_is_listed_without_words() {
    let test = &TestApp::new().await;
    const SPOIL: &str = "UPDATE journal SET body = $3 WHERE tenant_id = $1 AND run_id = $2";
    let (run, _hand) = asks(test, "a", ask("sure?")).await;
    let params = [run.parse::<RunId>().unwrap().into(), b"none of ours".as_slice().into()];
    let spoils =
        test.app.db.write(test.a.scope, move |tx| Box::pin(async move { tx.exec(SPOIL, &params).await }));
    assert!(spoils.await.unwrap() > 0);
    let found = list(test, "").await.remove(0);
    assert_eq!((&found["runId"], &found["status"]), (&json!(run), &json!("pending")));
    assert_eq!((found.get("reason"), found.get("approvers")), (None, None));
    post(test, found["id"].as_str().unwrap(), "grant", json!({})).await.refused(409, "run_unreadable");
}
