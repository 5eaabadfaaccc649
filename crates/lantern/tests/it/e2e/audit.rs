//! `lantern audit` by the real binary: who did what, the log as a file, and the log and the file checked.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};

fn audit(server: &Server, token: &str, args: &[&str]) -> Output {
    let mut command = lantern();
    command.args(["-o", "json", "audit"]).args(args);
    command.env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", token);
    command.output().unwrap()
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks a file where there is no server.
fn check(file: &Path) -> (Option<i32>, Value) {
    let mut command = lantern();
    command.args(["-o", "json", "audit", "verify"]).arg(file).env("LANTERN_API_URL", "http://127.0.0.1:1");
    let output = command.output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[tokio::test]
async fn what_was_done_is_listed_exported_and_checked_with_and_without_the_server() {
    let folder = Folder::new();
    let server = Server::dev(&folder.path().join("data"));
    let api = Api::of(&server).await;
    for name in ["one", "two", "three"] {
        api.agent(name, json!({})).await;
    }
    let made = answer(&audit(&server, &api.token, &["list", "--action", "agents.create"]));
    let made: Vec<&str> =
        made.as_array().unwrap().iter().map(|entry| entry["resource"].as_str().unwrap()).collect();
    assert_eq!(made, ["/v1/agents/three", "/v1/agents/two", "/v1/agents/one"]);
    let verified = answer(&audit(&server, &api.token, &["verify"]));
    assert_eq!(verified["valid"], true, "{verified}");

    let file = folder.path().join("log.jsonl");
    let name = file.to_str().unwrap();
    let exported = answer(&audit(&server, &api.token, &["export", "--file", name]));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(exported["entries"], text.lines().count());
    let (code, checked) = check(&file);
    assert_eq!((code, &checked["valid"], &checked["entries"]), (Some(0), &json!(true), &exported["entries"]));
    assert_eq!(checked["head"], verified["head"]);
    assert!(!audit(&server, &api.token, &["export", "--file", name]).status.success(), "it is there already");

    let other = folder.path().join("other.jsonl");
    std::fs::write(&other, text.replace("/v1/agents/two", "/v1/agents/2wo")).unwrap();
    let (code, checked) = check(&other);
    assert_eq!((code, &checked["valid"]), (Some(1), &json!(false)), "{checked}");
    assert_eq!(audit(&server, "nobody", &["list"]).status.code(), Some(3));
}
