//! Trees of runs in a real server on a real data folder: they end, their books balance, and neither a kill nor a stop
//! loses or doubles a child.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, NEVER, Server};
use super::provider::{Answer, Provider};

/// How soon a server stops that waits for nothing outside.
const SOON: Duration = Duration::from_secs(5);

fn steps(steps: Value) -> Value {
    json!({"program": "steps", "steps": steps})
}

fn calc(id: &str, expression: &str) -> Value {
    json!({"id": id, "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": expression}}})
}

fn ask() -> Value {
    json!({"id": "ask", "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o"}})
}

fn child(id: &str) -> Value {
    json!({"id": id, "kind": "child", "data": {"agent": "kid", "input": {"sum": "1+1"}}})
}

#[expect(clippy::disallowed_methods, reason = "it is another process that is timed")]
fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// Saves `parent`, which maps over so many children of the agent `kid`.
async fn maps(api: &Api, children: usize) {
    let items: Vec<usize> = (0..children).collect();
    let map = json!({"id": "each", "kind": "map", "concurrency": children, "items": items, "steps": [child("sub")]});
    api.agent("parent", steps(json!([map]))).await;
}

async fn parents(api: &Api, runs: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..runs {
        ids.push(api.run("parent", json!({})).await);
    }
    ids
}

async fn children(api: &Api, run: &str) -> Vec<Value> {
    let (status, runs) = api.get(&format!("/v1/runs?parentRunId={run}&limit=100")).await;
    assert_eq!(status, 200, "{runs}");
    runs.as_array().unwrap().clone()
}

/// Demands that every one of these runs ends well, with so many children that did.
async fn all_succeed(api: &Api, runs: &[String], each: usize) {
    for run in runs {
        let ended = tokio::time::timeout(NEVER, api.ended(run)).await.expect("the run never ended");
        assert_eq!(ended["status"], "succeeded", "{ended}");
        let children = children(api, run).await;
        assert_eq!(children.len(), each);
        assert!(children.iter().all(|child| child["status"] == "succeeded"), "{children:?}");
        balanced(&ended, &children);
    }
}

/// A run that calls no model itself is charged what its children were, with what of it nobody has confirmed.
fn balanced(run: &Value, children: &[Value]) {
    let micros = |run: &Value, field: &str| (run[field].as_f64().unwrap() * 1e6).round();
    let spent: f64 = children.iter().map(|child| micros(child, "costUsd") + micros(child, "heldUsd")).sum();
    assert_eq!((micros(run, "costUsd"), micros(run, "heldUsd")), (spent, 0.0), "{run} {children:?}");
}

#[tokio::test]
async fn many_runs_map_over_children() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    api.agent("kid", steps(json!([calc("sum", "{{input.sum}}")]))).await;
    maps(&api, 8).await;
    let runs = parents(&api, 10).await;
    all_succeed(&api, &runs, 8).await;
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_child_that_loses_a_race_is_stopped_and_the_books_balance() {
    let folder = Folder::new();
    let provider = Provider::start(vec![Answer::Hang, Answer::Say("first")]).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("kid", steps(json!([ask()]))).await;
    let race = json!({"id": "race", "kind": "race", "steps": [child("one"), child("two")]});
    api.agent("parent", steps(json!([race]))).await;
    let run = api.run("parent", json!({})).await;
    let ended = tokio::time::timeout(NEVER, api.ended(&run)).await.expect("the run never ended");
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let children = children(&api, &run).await;
    let mut ends: Vec<&str> = children.iter().map(|child| child["status"].as_str().unwrap()).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["cancelled", "succeeded"]);
    balanced(&ended, &children);
    assert_eq!(provider.calls().len(), 2);
}

#[tokio::test]
async fn a_parent_hears_of_the_run_that_its_child_went_on_as() {
    let folder = Folder::new();
    let provider = Provider::start(vec![Answer::Say("noted")]).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    let again = json!({"id": "again", "kind": "continue", "data": {"input": {"sum": "1/0"}}});
    api.agent("kid", steps(json!([ask(), calc("sum", "{{input.sum}}"), again]))).await;
    api.agent("parent", steps(json!([child("sub")]))).await;
    let run = api.run("parent", json!({})).await;
    let ended = tokio::time::timeout(NEVER, api.ended(&run)).await.expect("the run never ended");
    let kids = children(&api, &run).await;
    let (next, first) = (&kids[0], &kids[1]);
    assert_eq!((kids.len(), &first["status"]), (2, &json!("succeeded")));
    assert_eq!(
        api.get(&format!("/v1/runs/{}", first["id"].as_str().unwrap())).await.1["continuedAs"],
        next["id"]
    );
    // It cannot divide by nothing, and its parent is told so and charged what both of them spent.
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &next["error"]["code"]));
    assert_eq!(ended["costUsd"], json!(0.007));
    balanced(&ended, &kids);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_tree_loses_and_doubles_no_child() {
    let folder = Folder::new();
    let answers = vec![Answer::Hang, Answer::Hang, Answer::Hang, Answer::Say("done")];
    let provider = Provider::start(answers).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("kid", steps(json!([ask()]))).await;
    maps(&api, 8).await;
    let runs = parents(&api, 5).await;
    provider.called(4).await;
    server.kill();
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    all_succeed(&api, &runs, 8).await;
    let keys = provider.keys();
    assert!(keys.len() >= 43, "three calls were cut: {}", keys.len());
    assert_eq!(
        keys.into_iter().collect::<HashSet<_>>().len(),
        40,
        "one call for each child, however often sent"
    );
}

#[tokio::test]
async fn a_server_stops_soon_while_children_run_and_the_next_one_goes_on() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"duration": "1s"}});
    api.agent("kid", steps(json!([calc("sum", "{{input.sum}}"), nap, calc("more", "2+2")]))).await;
    maps(&api, 8).await;
    let runs = parents(&api, 10).await;
    let begun = async { while children(&api, &runs[0]).await.is_empty() {} };
    tokio::time::timeout(NEVER, begun).await.expect("no child began");
    let took = timed(|| assert!(server.stop().success()));
    assert!(took < SOON, "it took {took:?}");
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    all_succeed(&api, &runs, 8).await;
}
