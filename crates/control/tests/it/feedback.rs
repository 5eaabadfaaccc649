//! What people think of runs: said, listed, summed up, removed with what was said; and which runs are worth trying again.

use lantern_engine::Input;
use lantern_types::{Dur, Failure};
use serde_json::{Value, json};

use crate::app::{TestApp, on_both};
use crate::hand::Hand;

on_both! {
    feedback_is_kept_and_summed_up: kept;
    what_was_said_goes_with_the_content_and_the_rest_with_the_run: goes;
    runs_worth_trying_again_are_listed: rehearsed;
}

/// A run that is over; with a key, which does not end with the hour.
async fn ended(test: &TestApp, key: &str, agent: &str, well: bool) -> String {
    let asked = json!({"agentName": agent, "input": {"q": "why"}});
    let run = test.post(key, "/v1/runs", asked).await.is(201).json["id"].as_str().unwrap().to_owned();
    let mut hand = Hand::take(test, &run).await;
    hand.give(Input::Wake).await;
    if well {
        hand.replies("llm-1", "because").await;
    } else {
        hand.fails("llm-1", Failure::refused("provider_refused", "no")).await;
    }
    run
}

async fn kept(test: &TestApp) {
    test.agent(json!({"name": "a"})).await;
    let key = test.key(&["write"]).await;
    let run = ended(test, &key, "a", true).await;
    let path = format!("/v1/runs/{run}/feedback");
    assert_eq!(test.get(&test.a.owner, &path).await.is(200).json, json!([]));
    let summary = test.get(&test.a.member, "/v1/agents/a/feedback").await.is(200).json;
    assert_eq!((&summary["totalFeedback"], &summary["avgScore"]), (&json!(0), &Value::Null));
    for wrong in
        [json!({}), json!({"score": 0}), json!({"score": 6}), json!({"score": 4.5}), json!({"score": "5"})]
    {
        let refused = test.post(&test.a.owner, &path, wrong).await.refused(400, "invalid_body");
        assert_eq!(refused.paths()[0], "score");
    }
    test.post(&test.a.viewer, &path, json!({"score": 5})).await.refused(403, "role_missing");
    for path in [&path, "/v1/agents/a/feedback"] {
        test.get(&test.b.owner, path).await.is(404);
    }
    let said = json!({"score": 2, "comment": "secret words", "preferredOutput": "better words"});
    let made = test.post(&test.a.owner, &path, said).await.is(201);
    assert_eq!((&made.json["status"], made.header("location")), (&json!("recorded"), path.as_str()));
    test.clock.pass(Dur::from_secs(8 * 86_400));
    test.post(&key, &path, json!({"score": 5, "source": "cli"})).await.is(201);
    test.post(&key, &path, json!({"score": 1})).await.is(201);
    let all = test.get(&key, &path).await.is(200).json;
    let scores: Vec<i64> = all.as_array().unwrap().iter().map(|one| one["score"].as_i64().unwrap()).collect();
    assert_eq!(scores, [1, 5, 2], "the newest first");
    assert_eq!((&all[1]["source"], &all[2]["source"]), (&json!("cli"), &json!("dashboard")));
    assert_eq!(
        (&all[2]["comment"], &all[2]["preferredOutput"], &all[2]["agentName"], &all[2]["runId"]),
        (&json!("secret words"), &json!("better words"), &json!("a"), &json!(run))
    );
    let summary = test.get(&key, "/v1/agents/a/feedback").await.is(200).json;
    let want = json!({"agentName": "a", "totalFeedback": 3, "avgScore": 2.67, "thumbsUp": 1, "thumbsDown": 2,
        "runsWithPreferredOutput": 1, "last7DaysAvgScore": 3.0});
    assert_eq!(summary, want);
    let rows = test.app.db.read(test.a.scope, |tx| {
        Box::pin(async move {
            tx.all("SELECT body FROM feedback WHERE tenant_id = $1 AND body IS NOT NULL", &[]).await
        })
    });
    let bodies: Vec<Vec<u8>> = rows.await.unwrap().iter().map(|row| row.bytes("body").unwrap()).collect();
    assert_eq!(bodies.len(), 1, "a score alone has no words");
    assert!(!String::from_utf8_lossy(&bodies[0]).contains("secret"), "it is sealed");
    for _ in 0..97 {
        test.post(&key, &path, json!({"score": 3})).await.is(201);
    }
    test.post(&key, &path, json!({"score": 3})).await.refused(409, "conflict");
}

async fn goes(test: &TestApp) {
    test.agent(json!({"name": "a"})).await;
    let run = ended(test, &test.a.owner, "a", true).await;
    let path = format!("/v1/runs/{run}/feedback");
    let said = || json!({"score": 2, "comment": "words"});
    test.post(&test.a.owner, &path, said()).await.is(201);
    test.post(&test.a.owner, &format!("/v1/runs/{run}/redact"), json!({})).await.is(200);
    test.post(&test.a.owner, &path, said()).await.is(201);
    let all = test.get(&test.a.owner, &path).await.is(200).json;
    for one in all.as_array().unwrap() {
        assert_eq!(
            (&one["score"], &one["comment"]),
            (&json!(2), &Value::Null),
            "before and after it was removed"
        );
    }
    assert_eq!(all.as_array().unwrap().len(), 2);
    test.delete(&test.a.owner, &format!("/v1/runs/{run}")).await.is(204);
    test.get(&test.a.owner, &path).await.refused(404, "run_not_found");
    let summary = test.get(&test.a.owner, "/v1/agents/a/feedback").await.is(200).json;
    assert_eq!(summary["totalFeedback"], 0);
}

async fn rehearsed(test: &TestApp) {
    test.agent(json!({"name": "a", "retry": {"maxAttempts": 1}})).await;
    test.agent(json!({"name": "b", "retry": {"maxAttempts": 1}})).await;
    let key = test.key(&["write"]).await;
    let old = ended(test, &key, "a", false).await;
    test.clock.pass(Dur::from_secs(3 * 86_400));
    let failed = ended(test, &key, "a", false).await;
    let disliked = ended(test, &key, "a", true).await;
    let liked = ended(test, &key, "a", true).await;
    ended(test, &key, "b", false).await;
    for (run, score) in [(&disliked, 2), (&disliked, 4), (&liked, 5)] {
        test.post(&key, &format!("/v1/runs/{run}/feedback"), json!({"score": score})).await.is(201);
    }
    let ask = async |mut body: Value| {
        body["agentName"] = json!("a");
        let found = test.post(&key, "/v1/runs/rehearse", body).await.is(200).json;
        let cases = found["cases"].as_array().unwrap();
        assert_eq!(found["count"], cases.len());
        assert_eq!(cases.is_empty(), found["reason"].is_string());
        let ids = cases.iter().map(|case| case["originalRunId"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), found)
    };
    let (ids, found) = ask(json!({})).await;
    assert_eq!(ids, [disliked.clone(), failed.clone(), old.clone()], "both kinds, the newest first");
    let case = &found["cases"][0];
    assert_eq!(
        (&case["originalStatus"], &case["originalScore"], &case["input"], &case["expectedOutput"]["result"]),
        (&json!("succeeded"), &json!(2), &json!({"q": "why"}), &json!("because"))
    );
    assert_eq!(found["window"], "7d");
    assert_eq!(ask(json!({"includeFailures": true})).await.0, [failed.clone(), old.clone()]);
    assert_eq!(ask(json!({"includeLowScore": true})).await.0, std::slice::from_ref(&disliked));
    assert_eq!(ask(json!({"window": "1d"})).await.0, [disliked.clone(), failed.clone()]);
    assert_eq!(ask(json!({"limit": 1})).await.0, [disliked]);
    test.clock.pass(Dur::from_secs(10 * 86_400));
    assert!(ask(json!({"window": "1h"})).await.0.is_empty());
    for wrong in [json!({"agentName": "a", "window": "1y"}), json!({"agentName": "a", "limit": 0}), json!({})]
    {
        test.post(&key, "/v1/runs/rehearse", wrong).await.refused(400, "invalid_body");
    }
    let nobody = json!({"agentName": "nobody"});
    test.post(&key, "/v1/runs/rehearse", nobody).await.refused(404, "agent_not_found");
}
