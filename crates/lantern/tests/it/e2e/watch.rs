//! `lantern runs watch` in a real terminal, against a real server.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server};
use crate::cli_fake::User;

/// Runs the program in a terminal, step by step; answers with how it left the terminal.
fn terminal(user: &User, server: &Server, args: &[&str], steps: &Value) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/e2e/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(env!("CARGO_BIN_EXE_lantern")).args(args);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TERM", "xterm-256color");
    command.env("HOME", &user.home).env("LANTERN_API_URL", &server.api).current_dir(&user.home);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(steps.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{words}"))
}

/// An agent that asks a person, and a run of it that waits.
async fn waiting(api: &Api) -> String {
    let sum = json!({"tool": "calc", "arguments": {"expression": "120+33"}});
    let steps = json!([{"id": "sum", "kind": "tool", "data": sum},
        {"id": "ship", "kind": "approval", "data": {"reason": "{{steps.sum.value}} lines. Ship it?"}}]);
    api.agent("release", json!({"program": "steps", "steps": steps})).await;
    asked(api).await
}

async fn asked(api: &Api) -> String {
    let run = api.run("release", json!({})).await;
    api.listen(&run, |event| event.event == "approval_requested").await;
    run
}

fn left(end: &Value, exit: i64) {
    let how = json!([end["exit"], end["entered"], end["alternate"], end["hidden"], end["restored"]]);
    assert_eq!(how, json!([exit, true, false, false, true]), "{end}");
}

#[tokio::test]
async fn runs_are_watched_approved_and_cancelled_on_the_whole_screen() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    let first = waiting(&api).await;
    let second = asked(&api).await;
    let steps = json!([
        ["see", "2 runs, 2 not over"],
        ["see", "ship waits for approval: 153 lines. Ship it?"],
        ["see", format!("lantern runs approve {second} ship")],
        ["size", 30, 120],
        ["see", format!("release · {second} ───")],
        ["type", "a"],
        ["see", "Approve ship (153 lines. Ship it?)? [y/N]"],
        ["type", "n"],
        ["see", "nothing was changed"],
        ["type", "a"],
        ["see", "Approve ship (153 lines. Ship it?)? [y/N]"],
        ["type", "y"],
        ["see", "✔ succeeded in"],
        ["see", "2 runs, 1 not over"],
        ["type", "j"],
        ["see", format!("lantern runs approve {first} ship")],
        ["type", "c"],
        ["see", format!("Cancel the run {first} for good? [y/N]")],
        ["type", "y"],
        ["see", "■ cancelled in"],
        ["see", "2 runs, 0 not over"],
        ["type", "q"],
    ]);
    left(&terminal(&user, &server, &["runs", "watch"], &steps), 0);
    for (run, status) in [(&first, "cancelled"), (&second, "succeeded")] {
        assert_eq!(api.ended(run).await["status"], status);
    }
}

#[tokio::test]
async fn the_terminal_is_given_back_whatever_ends_it() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    let run = waiting(&api).await;
    for (last, exit) in [
        (json!(["signal", "SIGTERM"]), 130),
        (json!(["signal", "SIGINT"]), 130),
        (json!(["type", "\u{3}"]), 130),
        (json!(["type", "\u{1b}"]), 0),
    ] {
        let steps = json!([["see", "Ship it?"], last]);
        left(&terminal(&user, &server, &["runs", "watch", "--agent", "release"], &steps), exit);
    }
    let (_, row) = api.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(row["status"], "paused", "a run goes on without who watches it");
}

#[test]
fn without_a_terminal_there_is_advice() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    let done = user.run(&["runs", "watch"]);
    assert_eq!((done.code, done.out.as_str()), (2, ""), "{done:?}");
    assert!(
        done.err.contains("(no_terminal)\nnext: use `lantern runs list`, or `lantern logs RUN -f`"),
        "{done:?}"
    );
}
