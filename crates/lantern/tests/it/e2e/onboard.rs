//! `lantern onboard`: from a server to an answer, and a clean stop where something is missing.

use serde_json::{Value, json};

use super::process::{Folder, Server};
use super::provider::{Answer, Provider};
use crate::cli_fake::User;

const LOGIN: [&str; 4] = ["--email", "admin@lantern.dev", "--password", "lantern"];

#[test]
fn a_newcomer_comes_to_an_answer() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let user = User::new().with("LANTERN_API_URL", &server.api);
    let done = user.run(&["onboard"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.out.contains("✔ server  it answers\n✘ login   not logged in"), "{done:?}");
    assert!(
        done.out.contains("next: pass --email and --password-stdin or --password, or set LANTERN_API_KEY"),
        "{done:?}"
    );

    let done = user.run(&[&["onboard"], &LOGIN[..]].concat());
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("✔ login   admin@lantern.dev, owner, by the saved login\n"), "{done:?}");
    assert!(done.out.contains("✘ model   no model provider is configured\n"), "{done:?}");
    assert!(done.out.contains("pass --provider NAME") && done.out.contains("or --offline"), "{done:?}");
    assert!(!done.out.contains("agent"), "it stops at the first thing that is missing: {done:?}");

    // Logged in by now.
    let done = user.run(&["onboard", "--offline"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("✔ agent   quickstart-assistant, version 1\n✔ run     "), "{done:?}");
    assert!(done.out.contains("[offline model: extractive"), "{done:?}");
    assert!(done.err.contains("lantern init my-agent"), "{done:?}");
    let answer = user.run(&["onboard", "--offline", "-o", "json"]).ok();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["ok"], &answer["agent"]), (&json!(true), &json!("quickstart-assistant")), "{answer}");
    let run = user.run(&["runs", "get", answer["runId"].as_str().unwrap(), "-o", "json"]).ok();
    let run: Value = serde_json::from_str(&run).unwrap();
    assert_eq!((&run["status"], &run["output"]), (&json!("succeeded"), &answer["output"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_saved_tested_and_asked() {
    let folder = Folder::new();
    let provider = Provider::start(vec![Answer::Say("what it knew"), Answer::Say("again")]).await;
    let server = Server::dev(folder.path());
    let user = User::new().with("LANTERN_API_URL", &server.api);
    let args = ["onboard", "--provider", "lab", "--base-url", &provider.url];
    // The contract's name of the flag: a key that is none of ours is the provider's.
    let done = user.run(&[&args[..], &LOGIN[..], &["--api-key", "sk-lab"]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("✔ model   lab"), "{done:?}");
    assert!(done.out.contains("what it knew"), "{done:?}");
    let listed = user.run(&["providers", "list"]).ok();
    assert!(listed.contains("lab") && !listed.contains("sk-lab"), "{listed}");
    // It is there now, and found.
    let done = user.run(&["onboard"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("✔ model   lab") && done.out.contains("again"), "{done:?}");
}

#[test]
fn a_provider_that_does_not_answer_stops_it() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let user = User::new().with("LANTERN_API_URL", &server.api);
    let nowhere = ["onboard", "--provider", "lab", "--base-url", "http://127.0.0.1:1/v1"];
    let done = user.run(&[&nowhere[..], &LOGIN[..]].concat());
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("✘ model   lab at http://127.0.0.1:1/v1 cannot be used"), "{done:?}");
    let done = user.run(&["onboard", "--provider", "lab"]);
    assert!(done.out.contains("there is nobody to ask for the key of lab"), "{done:?}");
    assert!(done.out.contains("set LANTERN_PROVIDER_KEY"), "{done:?}");
    assert_eq!(user.run(&["onboard", "--offline", "--provider", "lab"]).code, 2);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let user = User::new().with("LANTERN_API_URL", "http://127.0.0.1:1");
    let done = user.run(&["onboard", "--offline"]);
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.out.contains("✘ server  cannot reach http://127.0.0.1:1"), "{done:?}");
}
