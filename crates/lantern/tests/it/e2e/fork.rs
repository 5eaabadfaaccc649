//! Forks and replays by the real worker, a real provider counting: what was done is not done again, also across a kill.

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};
use super::provider::{Answer, Provider};

async fn made(api: &Api, path: &str, body: &Value) -> String {
    let (status, run) = api.post(path, body).await;
    assert_eq!(status, 201, "{run}");
    run["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_replay_asks_the_provider_nothing_and_a_fork_what_is_new() {
    let folder = Folder::new();
    let answers = vec![
        Answer::Call("calc", json!({"expression": "2+2"})),
        Answer::Say("four"),
        Answer::Hang,
        Answer::Say("vier"),
    ];
    let provider = Provider::start(answers).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("sums", json!({"tools": ["calc"], "model": "gpt-4o"})).await;
    let run = api.run("sums", json!({"prompt": "2+2?"})).await;
    let ended = api.ended(&run).await;
    assert_eq!((&ended["output"]["result"], provider.calls().len()), (&json!("four"), 2));

    let replay = made(&api, &format!("/v1/runs/{run}/replay"), &json!({})).await;
    let replayed = api.ended(&replay).await;
    assert_eq!((&replayed["status"], &replayed["output"]), (&json!("succeeded"), &ended["output"]));
    assert_eq!((&replayed["costUsd"], &replayed["tokensIn"]), (&json!(0.0), &json!(0)));
    assert_eq!(provider.calls().len(), 2, "a replay asks nobody");

    let said = |args: &[&str]| {
        let mut command = lantern();
        command.args(args).env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", &api.token);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let log = said(&["logs", &replay]);
    assert!(log.contains(&format!("a replay of {run}\n")), "{log}");
    let reused = log.lines().filter(|line| line.contains("reused, not done again")).count();
    assert_eq!(reused, 3, "two turns and a tool call: {log}");
    assert!(!said(&["logs", &run]).contains("reused"));
    let shown = said(&["runs", "get", &replay]);
    for part in [format!("origin    a replay of {run}\n"), "input     {\"prompt\":\"2+2?\"}\n".to_owned()] {
        assert!(shown.contains(&part), "{part:?} in {shown}");
    }

    // The fork's own call hangs; the server is killed under it.
    let ask = json!({"fromStep": "llm-2", "overrides": {"systemPrompt": "Answer in German."}});
    let fork = made(&api, &format!("/v1/runs/{run}/fork"), &ask).await;
    provider.called(3).await;
    server.kill();
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    let forked = api.ended(&fork).await;
    assert_eq!((&forked["status"], &forked["output"]["result"]), (&json!("succeeded"), &json!("vier")));
    let calls = provider.calls();
    assert_eq!(calls.len(), 4, "the first turn was not asked for again, before the kill or after it");
    assert_eq!(calls[2].0, calls[3].0, "the call that was cut went out again under its own key");
    let words = calls[3].1["messages"].to_string();
    assert!(words.contains("Answer in German.") && words.contains("2+2"), "{words}");
    // One turn of its own: 1000 in and 100 out at 2.50 and 10 dollars a million.
    assert_eq!((&forked["costUsd"], &forked["tokensIn"]), (&json!(0.0035), &json!(1000)));

    let (status, diff) = api.get(&format!("/v1/runs/{run}/diff/{fork}")).await;
    assert_eq!((status, &diff["firstDivergence"]["stepId"]), (200, &json!("llm-2")), "{diff}");
    assert_eq!((&diff["sharedSteps"], &diff["sameVersion"]), (&json!(2), &json!(false)));
}
