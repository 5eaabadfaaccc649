//! The same application over PostgreSQL: one pass through what each feature does.

use lantern_control::App;
use lantern_store::Db;
use lantern_store::testing::{Cluster, block_on, on_postgres};
use lantern_types::Dur;
use serde_json::json;

use crate::app::{TestApp, Wishes};
use crate::events::Stream;
use crate::hand::Hand;

#[test]
fn the_features_work_over_postgres() {
    on_postgres(async |db| {
        let test = TestApp::over(db, Wishes::default()).await;
        lantern_control::seed_dev(&test.app).await.unwrap();
        test.agent(json!({"name": "pg", "systemPrompt": "x"})).await;
        test.patch(&test.a.owner, "/v1/agents/pg", json!({"maxTurns": 2})).await.is(200);
        let body = json!({"agentName": "pg", "input": {"q": 1}, "idempotencyKey": "once"});
        let run = test.run(body.clone()).await;
        assert_eq!(test.post(&test.a.owner, "/v1/runs", body).await.is(201).json["id"], run.as_str());
        crate::keyed::a_key_makes_one_thing(&test).await;
        crate::keyed::who_goes_away_in_the_middle_has_made_one_thing(&test).await;
        let mut hand = Hand::take(&test, &run).await;
        hand.give(lantern_engine::Input::Wake).await;
        hand.replies("llm-1", "done").await;
        let shown = test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.is(200).json;
        assert_eq!((&shown["status"], &shown["output"]["result"]), (&json!("succeeded"), &json!("done")));
        assert_eq!(
            test.get(&test.a.owner, "/v1/runs?limit=1&status=succeeded").await.is(200).json[0]["id"],
            run.as_str()
        );
        let key = test.key(&["read"]).await;
        test.get(&key, "/v1/api-keys?limit=1").await.is(200);
        let lab = json!({"provider": "lab", "apiKey": "sk-0123456789", "baseUrl": "http://10.0.0.1/v1"});
        test.post(&test.a.owner, "/v1/settings/llm-providers", lab).await.is(200);
        test.post(&test.a.owner, "/v1/settings/llm-providers/lab/test", json!({})).await.is(200);
        test.get(&test.b.owner, &format!("/v1/runs/{run}")).await.refused(404, "run_not_found");
        test.delete(&test.a.owner, &format!("/v1/runs/{run}")).await.is(204);
        test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.refused(404, "run_not_found");
    });
}

#[test]
fn a_stream_follows_a_run_that_another_process_drives() {
    block_on(async {
        let database = Cluster::shared().database().await;
        // Nobody carries hints between these two, so what is seen is found by reading, once the time for it has come.
        let ours = Db::open_postgres(&database.options()).await.unwrap();
        let theirs = Db::open_postgres(&database.options()).await.unwrap();
        let test = TestApp::over(ours, Wishes::default()).await;
        test.agent(json!({"name": "far"})).await;
        let run = test.run(json!({"agentName": "far"})).await;
        let mut stream = Stream::open(&test, &format!("/v1/runs/{run}/events"), None).await;
        assert_eq!(stream.next().await.unwrap().kind, "run_started");
        let mut elsewhere: App = test.app.clone();
        elsewhere.db = theirs;
        let mut hand = Hand::of(elsewhere, test.a.scope, &run).await;
        let drives = async {
            hand.give(lantern_engine::Input::Wake).await;
            hand.replies("llm-1", "done").await;
            tokio::time::pause();
            tokio::time::advance(Dur::from_secs(5).std()).await;
            tokio::time::resume();
        };
        let (kinds, ()) = tokio::join!(stream.kinds(), drives);
        assert_eq!(kinds, ["step_started", "step_admitted", "step_completed", "run_succeeded", "end"]);
        drop((test, hand, stream));
        database.discard().await;
    });
}
