//! Lists of runs over HTTP: what chooses among them, and what is refused. On both databases.

use lantern_engine::Input;
use lantern_store::testing::{Seeded, fill_runs};
use lantern_types::{Failure, RunId};
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, on_both};
use crate::hand::Hand;

const RUNS: &str = "/v1/runs";

on_both! {
    filters_choose_and_combine: filtered;
    pages_go_on_while_runs_arrive: paged;
    a_page_that_looked_at_enough_leads_on: short;
    a_text_is_searched_for: searched;
    what_is_no_filter_is_refused: refused;
}

/// Six runs of tenant `a`, oldest first, and the session of one: 0 failed, 1 succeeded, the others are queued. One run of tenant
/// `b` beside them.
async fn six(test: &TestApp) -> (Vec<Value>, String) {
    for name in ["report", "reply", "digest"] {
        test.agent(json!({"name": name, "retry": {"maxAttempts": 1}})).await;
    }
    let session = test.session("report").await;
    let bodies = [
        json!({"agentName": "report", "labels": {"env": "prod", "customer": "ada"}}),
        json!({"agentName": "reply", "labels": {"env": "prod"}}),
        json!({"agentName": "report", "labels": {"env": "production"}, "sessionId": session}),
        json!({"agentName": "reply"}),
        json!({"agentName": "digest", "labels": {"env": "prod", "note": "re: a & b", "app:tier": "web:1"}}),
        json!({"agentName": "digest"}),
    ];
    let mut runs = Vec::new();
    for (n, body) in bodies.into_iter().enumerate() {
        let run = test.post(&test.a.owner, RUNS, body).await.is(201).json;
        if n < 2 {
            let mut hand = Hand::take(test, run["id"].as_str().unwrap()).await;
            hand.give(Input::Wake).await;
            match n {
                0 => hand.fails("llm-1", Failure::refused("provider_auth", "no")).await,
                _ => hand.replies("llm-1", "ok").await,
            }
        }
        runs.push(run);
    }
    test.post(&test.b.owner, "/v1/agents", json!({"name": "report"})).await.is(201);
    let theirs = json!({"agentName": "report", "labels": {"env": "prod"}});
    test.post(&test.b.owner, RUNS, theirs).await.is(201);
    (runs, session)
}

const RUN: &str = "018f0000-0000-7000-8000-000000000001";

/// The places of the runs that a list shows.
fn places(runs: &[Value], answer: &Answer) -> Vec<usize> {
    let place = |shown: &Value| runs.iter().position(|run| run["id"] == shown["id"]).expect("one of the six");
    answer.json.as_array().unwrap().iter().map(place).collect()
}

async fn filtered(test: &TestApp) {
    let (runs, session) = six(test).await;
    let list = async |query: &str| {
        let answer = test.get(&test.a.owner, &format!("{RUNS}?{query}")).await.is(200);
        places(&runs, &answer)
    };
    let at = |n: usize| runs[n]["createdAt"].as_str().unwrap();
    let offset = at(3).replace('Z', "%2B00:00");
    for (query, want) in [
        (String::new(), &[5, 4, 3, 2, 1, 0][..]),
        ("agent=reply".to_owned(), &[3, 1]),
        ("agent=reply&agent=reply".to_owned(), &[3, 1]),
        ("status=failed".to_owned(), &[0]),
        ("status=completed".to_owned(), &[1]),
        ("status=queued".to_owned(), &[5, 4, 3, 2]),
        ("status=failed,succeeded".to_owned(), &[1, 0]),
        ("status=failed&status=queued".to_owned(), &[5, 4, 3, 2, 0]),
        ("status=canceled".to_owned(), &[]),
        (format!("sessionId={session}"), &[2]),
        (format!("session_id={session}&status=queued"), &[2]),
        (format!("created[gte]={}", at(4)), &[5, 4]),
        (format!("created[gt]={}", at(4)), &[5]),
        (format!("created[lt]={}", at(1)), &[0]),
        (format!("created%5Blte%5D={}", at(1)), &[1, 0]),
        (format!("created[gte]={}&created[lt]={}", at(2), at(4)), &[3, 2]),
        (format!("created[gte]={offset}"), &[5, 4, 3]),
        (format!("created[gte]={}&agent=reply", at(2)), &[3]),
        ("label=env:prod".to_owned(), &[4, 1, 0]),
        ("label=env:prod&label=customer:ada".to_owned(), &[0]),
        ("label=note:re:%20a%20%26%20b".to_owned(), &[4]),
        ("label=env:prod&status=queued,failed".to_owned(), &[4, 0]),
        ("label=env:prod&agent=reply".to_owned(), &[1]),
        ("label=env:".to_owned(), &[]),
        (r"label=app\:tier:web:1".to_owned(), &[4]),
        ("label=app%5C%3Atier%3Aweb%3A1".to_owned(), &[4]),
        ("label=app:tier:web:1".to_owned(), &[]),
        ("pageSize=10&page_token=".to_owned(), &[5, 4, 3, 2, 1, 0]),
        ("page_size=2".to_owned(), &[5, 4]),
    ] {
        assert_eq!(list(&query).await, want, "{query}");
    }
    let below = test.get(&test.a.owner, "/v1/agents/reply/runs?status=queued").await.is(200);
    assert_eq!(places(&runs, &below), [3]);
    // A child of a run, as a worker writes it.
    let (parent, child) = (runs[5]["id"].as_str().unwrap(), RunId::from_uuid(test.app.ids.uuid()));
    Hand::continues(test, parent, child).await;
    for name in ["parent", "parentRunId", "parent_run_id"] {
        let shown = test.get(&test.a.owner, &format!("{RUNS}?{name}={parent}")).await.is(200).json;
        assert_eq!((shown.as_array().unwrap().len(), &shown[0]["id"]), (1, &json!(child)), "{name}");
        let none = test.get(&test.b.owner, &format!("{RUNS}?{name}={parent}")).await.is(200).json;
        assert_eq!(none, json!([]));
    }
    // What is deleted is found by none of its labels.
    test.delete(&test.a.owner, &format!("{RUNS}/{}", runs[0]["id"].as_str().unwrap())).await.is(204);
    assert_eq!(list("label=env:prod").await, [4, 1]);
}

async fn paged(test: &TestApp) {
    let (runs, _) = six(test).await;
    for query in ["status=queued,failed&limit=1", "label=env:prod&limit=1", "q=re&limit=1", "limit=2"] {
        let whole =
            test.get(&test.a.owner, &format!("{RUNS}?{}", query.split("&limit").next().unwrap())).await;
        let known = |answer: &Answer| -> Vec<Value> {
            let shown = answer.json.as_array().unwrap().iter();
            shown
                .filter(|run| runs.iter().any(|old| old["id"] == run["id"]))
                .map(|run| run["id"].clone())
                .collect()
        };
        let (mut path, mut seen) = (format!("{RUNS}?{query}"), Vec::new());
        loop {
            let page = test.get(&test.a.owner, &path).await.is(200);
            seen.extend(page.json.as_array().unwrap().iter().map(|run| run["id"].clone()));
            let Some(next) = page.header("link").split(['<', '>']).nth(1) else { break };
            path = next.to_owned();
            test.run(json!({"agentName": "reply", "labels": {"env": "prod"}})).await;
        }
        seen.retain(|id| runs.iter().any(|run| run["id"] == *id));
        let whole = if query == "limit=2" {
            runs.iter().rev().map(|run| run["id"].clone()).collect()
        } else {
            known(&whole)
        };
        assert_eq!(seen, whole, "{query}");
    }
}

/// Five thousand runs, half of them with a label and none of these failed; newer than all of them is one that did.
async fn short(test: &TestApp) {
    let agent = test.agent(json!({"name": "digest", "retry": {"maxAttempts": 1}})).await;
    let body = json!({"agentName": "digest", "labels": {"env": "prod"}});
    let wanted = test.post(&test.a.owner, RUNS, body).await.is(201).json;
    let mut hand = Hand::take(test, wanted["id"].as_str().unwrap()).await;
    hand.give(Input::Wake).await;
    hand.fails("llm-1", Failure::refused("provider_auth", "no")).await;
    let id = |name: &str| agent[name].as_str().unwrap().to_owned();
    let seeded = Seeded {
        scope: test.a.scope,
        agent: id("id").parse().unwrap(),
        version: id("currentVersionId").parse().unwrap(),
    };
    fill_runs(&test.app.db, seeded, 2_500).await.unwrap();

    let (mut at, mut pages) = ("/v1/runs?label=env:prod&status=failed".to_owned(), Vec::new());
    loop {
        let page = test.get(&test.a.owner, &at).await.is(200);
        pages.push(page.json.as_array().unwrap().len());
        let Some(next) = page.header("link").split(['<', '>']).nth(1) else { break };
        assert!(next.ends_with(&format!("cursor={}", page.header("x-next-cursor"))), "{next}");
        at = next.to_owned();
    }
    assert_eq!(pages, [1, 0], "the newest one, then the rest of the label's runs");
    let all = test.get(&test.a.owner, "/v1/runs?status=failed&limit=100").await.is(200);
    assert!(all.header("link").is_empty(), "what one index answers is not cut: {}", all.header("link"));
}

async fn searched(test: &TestApp) {
    let (runs, _) = six(test).await;
    let id = |n: usize| runs[n]["id"].as_str().unwrap();
    for (query, want) in [
        ("q=re", &[4, 3, 2, 1, 0][..]),
        ("q=rep", &[3, 2, 1, 0]),
        ("q=report", &[2, 0]),
        ("q=reports", &[]),
        ("q=Report", &[]),
        ("q=prod", &[4, 2, 1, 0]),
        ("q=produ", &[2]),
        ("q=re:%20a", &[4]),
        ("q=prod&agent=reply", &[1]),
        ("q=re&status=queued", &[4, 3, 2]),
        ("q=re&label=env:prod", &[4, 1, 0]),
        ("q=%25", &[]),
        ("q=env", &[]),
        (&format!("q={}", id(3)), &[3]),
        (&format!("q={}", id(3).to_uppercase()), &[3]),
        (&format!("q={}", &id(3)[..35]), &[3]),
        (&format!("q={}&agent=report", id(3)), &[]),
        (&format!("q={}", &id(3)[..7]), &[]),
    ] {
        let answer = test.get(&test.a.owner, &format!("{RUNS}?{query}")).await.is(200);
        let shown = places(&runs, &answer);
        // The end of an id that is cut off may fit a neighbour's, too.
        let fits = if query.len() == 37 { shown.contains(&want[0]) } else { shown == want };
        assert!(fits, "{query}: {shown:?}, not {want:?}");
    }
    let theirs = test.get(&test.b.owner, &format!("{RUNS}?q={}", id(3))).await.is(200);
    assert_eq!(theirs.json, json!([]));
    for n in 0..101 {
        test.agent(json!({"name": format!("many-{n}")})).await;
    }
    let many = test.get(&test.a.owner, &format!("{RUNS}?q=many")).await.refused(400, "invalid_query");
    assert!(many.json["error"].as_str().unwrap().contains("write more of it"), "{}", many.text);
    test.get(&test.a.owner, &format!("{RUNS}?q=many-1")).await.is(200);
}

async fn refused(test: &TestApp) {
    six(test).await;
    let long = format!("q={}", "x".repeat(257));
    let labels = vec!["label=a:b"; 17].join("&");
    for (query, path) in [
        ("colour=red", "colour"),
        ("created=2026-01-01T00:00:00Z", "created"),
        ("created[since]=2026-01-01T00:00:00Z", "created[since]"),
        ("created[gte]=yesterday", "created[gte]"),
        ("created[lt]=2026-01-01T00:00:00+02:00", "created[lt]"),
        ("status=done", "status"),
        ("status=failed,", "status"),
        ("status=failed,done", "status"),
        ("sessionId=x", "sessionId"),
        ("parent=x", "parent"),
        ("label=env", "label"),
        ("label=:prod", "label"),
        (r"label=app\:tier", "label"),
        ("agent=a&agent=b", "agent"),
        (&format!("parent={RUN}&parentRunId=018f0000-0000-7000-8000-000000000002"), "parentRunId"),
        (&long, "q"),
        (&labels, "label"),
        ("Agent=a", "Agent"),
        ("tenantId=018f0000-0000-7000-8000-000000000001", "tenantId"),
    ] {
        let answer = test.get(&test.a.owner, &format!("{RUNS}?{query}")).await.refused(400, "invalid_query");
        assert_eq!(answer.paths(), [path], "{}", answer.text);
        let filters = answer.json["filters"].as_array().unwrap();
        for name in ["agent", "status", "sessionId", "parent", "created[gte]", "label", "q"] {
            assert!(filters.contains(&json!(name)), "{name}: {}", answer.text);
        }
    }
    let below =
        test.get(&test.a.owner, "/v1/agents/reply/runs?agent=report").await.refused(400, "invalid_query");
    assert!(!below.json["filters"].as_array().unwrap().contains(&json!("agent")));
}
