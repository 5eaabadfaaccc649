//! `kill -9` in the middle of a run, and what the next start makes of it.

use serde_json::{Value, json};

use super::api::{Api, seqs};
use super::process::{Folder, Server, lantern};
use super::provider::{Answer, Provider};
use crate::cli_fake::User;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_follows_goes_on_through_a_kill_to_the_end_of_the_run() {
    let folder = Folder::new();
    let answers = vec![Answer::Call("calc", json!({"expression": "2+2"})), Answer::Hang, Answer::Say("four")];
    let provider = Provider::start(answers).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let address = server.api.strip_prefix("http://").unwrap().to_owned();
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    user.run(&["agents", "create", "--name", "sums", "--tool", "calc", "--model", "gpt-4o"]).ok();
    let mut following = user.begin(&["runs", "create", "--agent", "sums", "--input", "2+2?", "--follow"]);
    let mut lines = Vec::new();
    // The second call is out, and its admission was shown.
    while !lines.last().is_some_and(|line: &String| line.contains("step_admitted") && line.contains("llm-2"))
    {
        let line = following.line();
        assert!(!line.is_empty(), "it ended early: {lines:#?}");
        lines.push(line);
    }
    provider.called(2).await;
    server.kill();
    let _server = Server::dev_at(&address, folder.path(), &provider.env());
    let done = following.end();
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("connection lost, resuming\n") && done.err.contains("resumed\n"), "{done:?}");
    lines.extend(done.out.lines().map(|line| format!("{line}\n")));
    let whole = lines.concat();
    assert!(
        whole.contains("run_succeeded") && whole.contains("✔ succeeded in ") && whole.ends_with("four\n")
    );
    let seqs: Vec<usize> =
        lines.iter().filter_map(|line| line.get(20..)?.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(seqs, (1..=seqs.len()).collect::<Vec<_>>(), "each event once and in order: {whole}");
    let keys = provider.keys();
    assert_eq!(keys.len(), 3, "the completed call was not made again: {whole}");
    assert!(
        keys[1] == keys[2] && keys[0] != keys[1],
        "the one that was cut went out under its own key: {keys:?}"
    );
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
async fn the_list_of_what_waits_survives_a_kill_and_the_command_line_decides() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let ask =
        |timeout| json!([{"id": "ok", "kind": "approval", "data": {"reason": "ship?"}, "timeout": timeout}]);
    api.agent("ask", json!({"program": "steps", "steps": ask("1h")})).await;
    api.agent("hasty", json!({"program": "steps", "steps": ask("1s")})).await;
    let (run, hasty) = (api.run("ask", json!({})).await, api.run("hasty", json!({})).await);
    api.until(&run, |run| run["status"] == "paused").await;
    server.kill();

    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    assert_eq!(api.ended(&hasty).await["error"]["code"], "approval_expired");
    let said = |args: &[&str]| -> Value {
        let mut command = lantern();
        command.args(args).args(["-o", "json"]).env("LANTERN_API_URL", &server.api);
        let output = command.env("LANTERN_API_TOKEN", &api.token).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let lapsed = said(&["approvals", "list", "--status", "expired"]);
    assert_eq!((&lapsed[0]["runId"], lapsed.as_array().unwrap().len()), (&json!(hasty), 1), "{lapsed}");
    let waits = said(&["approvals", "list"]);
    assert_eq!((&waits[0]["runId"], &waits[0]["reason"]), (&json!(run), &json!("ship?")), "{waits}");
    assert_eq!(waits.as_array().unwrap().len(), 1, "{waits}");
    let id = waits[0]["id"].as_str().unwrap();
    let decided = said(&["approvals", "grant", id, "--note", "fine"]);
    assert_eq!((&decided["status"], &decided["note"]), (&json!("granted"), &json!("fine")), "{decided}");
    assert_eq!(api.ended(&run).await["status"], "succeeded");
    assert_eq!(said(&["approvals", "get", id]), decided);
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

#[tokio::test]
async fn the_command_line_waits_for_a_run_and_says_how_it_ended() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    api.agent("quick", json!({})).await;
    let nap = json!([{"id": "nap", "kind": "sleep", "data": {"duration": "1h"}}]);
    api.agent("slow", json!({"program": "steps", "steps": nap})).await;
    let bad =
        json!([{"id": "x", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1/0"}}}]);
    api.agent("bad", json!({"program": "steps", "steps": bad})).await;
    let said = |agent: &str, seconds: &str| -> (Option<i32>, Value) {
        let mut command = lantern();
        command.args(["runs", "create", "--agent", agent, "--wait", seconds, "-o", "json"]);
        command.env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", &api.token);
        let output = command.output().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    };
    for (agent, seconds, code, status) in
        [("quick", "60", 0, "succeeded"), ("bad", "60", 1, "failed"), ("slow", "1", 0, "running")]
    {
        let (exit, run) = said(agent, seconds);
        assert_eq!((exit, &run["status"]), (Some(code), &json!(status)), "{agent}: {run}");
    }
}

#[tokio::test]
async fn a_file_of_runs_is_started_whole_or_not_at_all() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    api.agent("a", json!({})).await;
    let file = folder.path().join("runs.jsonl");
    let said = |lines: &str| -> (Option<i32>, Value, String) {
        std::fs::write(&file, lines).unwrap();
        let mut command = lantern();
        command.args(["runs", "create", "--agent", "a", "-o", "json", "--batch"]);
        command.arg(&file);
        command.env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", &api.token);
        let output = command.output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), words)
    };
    let (code, _, words) = said("{\"input\": {\"n\": 0}}\n{\"agentName\": \"none\"}\n");
    assert!(code == Some(4) && words.contains("runs[1].agentName"), "{words}");
    assert_eq!(api.get("/v1/runs").await.1, json!([]));
    let (code, runs, words) = said("{\"input\": {\"text\": \"one\"}}\n{\"input\": {\"text\": \"two\"}}\n");
    assert_eq!(code, Some(0), "{words}");
    for (run, text) in runs.as_array().unwrap().iter().zip(["one", "two"]) {
        let ended = api.ended(run["id"].as_str().unwrap()).await;
        assert_eq!((&ended["status"], &ended["input"]["text"]), (&json!("succeeded"), &json!(text)));
    }
}
