//! `kill -9` in the middle of a run, and what the next start makes of it.

use serde_json::json;

use super::api::{Api, seqs};
use super::process::{Folder, Server};
use super::provider::{Answer, Provider};

#[tokio::test]
async fn a_killed_server_finishes_the_run_and_repeats_no_completed_call() {
    let folder = Folder::new();
    let answers = vec![Answer::Call("calc", json!({"expression": "2+2"})), Answer::Hang, Answer::Say("four")];
    let provider = Provider::start(answers).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("sums", json!({"tools": ["calc"], "model": "gpt-4o"})).await;
    let run = api.run("sums", json!({"prompt": "2+2?"})).await;
    provider.called(2).await;
    server.kill();

    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    let ended = api.ended(&run).await;
    assert_eq!((&ended["status"], &ended["output"]["result"]), (&json!("succeeded"), &json!("four")));
    let keys = provider.keys();
    assert_eq!(keys.len(), 3, "the completed call was not made again");
    assert_eq!(keys[1], keys[2], "the call that was cut went out again under its own key");
    assert_ne!(keys[0], keys[1]);
    // 1000 in and 100 out at 2.50 and 10 dollars a million, twice; what the cut attempt cost nobody knows, so its hold stays.
    assert_eq!((&ended["costUsd"], &ended["tokensIn"]), (&json!(0.007), &json!(2000)));
    assert!(ended["heldUsd"].as_f64().is_some_and(|held| held > 0.0), "{ended}");

    let (_, all) = api.events(&run, None).await;
    let whole = seqs(&all);
    assert_eq!(whole, (1..=u64::try_from(whole.len()).unwrap()).collect::<Vec<_>>(), "no gap and no repeat");
    let (_, rest) = api.events(&run, Some(4)).await;
    assert_eq!(seqs(&rest), whole[4..], "a stream resumes after the last event that was seen");
    let end = rest.last().unwrap();
    assert_eq!(end.event, "end");
    assert!(end.data.contains("succeeded"));
}

#[tokio::test]
async fn what_waits_for_a_person_survives_a_kill() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let steps = json!([{"id": "ok", "kind": "approval", "data": {"reason": "ship?"}}]);
    api.agent("ask", json!({"program": "steps", "steps": steps})).await;
    let run = api.run("ask", json!({})).await;
    api.until(&run, |run| run["status"] == "paused").await;
    server.kill();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    assert_eq!(api.get(&format!("/v1/runs/{run}")).await.1["status"], "paused");
    let (status, _) = api.post(&format!("/v1/runs/{run}/approvals/ok"), &json!({"approved": true})).await;
    assert_eq!(status, 200);
    assert_eq!(api.ended(&run).await["status"], "succeeded");
}

#[tokio::test]
async fn a_graceful_stop_waits_for_what_is_outside() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    api.agent("a", json!({})).await;
    let run = api.run("a", json!({"prompt": "say something"})).await;
    assert!(server.stop().success());
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    assert_eq!(api.ended(&run).await["status"], "succeeded");
}
