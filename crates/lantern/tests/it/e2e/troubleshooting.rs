//! `docs/troubleshooting.md`: every message that it quotes is one that the program really says.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use super::process::{Folder, Server, lantern};
use crate::cli_fake::{Done, User};

const PAGE: &str = include_str!("../../../../../docs/troubleshooting.md");

/// The messages that the page quotes.
fn quoted() -> Vec<String> {
    let mut messages = Vec::new();
    let mut open: Option<String> = None;
    for line in PAGE.lines() {
        match (line, &mut open) {
            ("```text", None) => open = Some(String::new()),
            ("```", Some(_)) => messages.extend(open.take()),
            (line, Some(text)) => text.extend([line, "\n"]),
            _ => {}
        }
    }
    messages
}

/// Whether `said` has the message, with something for each `…` of it.
fn says(said: &str, message: &str) -> bool {
    let Some(first) = message.split('…').next() else { return false };
    said.match_indices(first).any(|(at, _)| {
        let mut rest = &said[at..];
        message.split('…').all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    })
}

/// Everything that the program says in the situations of the page.
struct Heard(Vec<String>);

impl Heard {
    fn hear(&mut self, done: &Done) {
        self.0.push(format!("{}{}", done.out, done.err));
    }
}

/// A server that does not start, or not for long.
fn unstarted(args: &[&str], env: &[(&str, &str)]) -> Done {
    let mut command = lantern();
    command.args(args).envs(env.iter().copied()).stdin(Stdio::null());
    Done::of(command.output().unwrap())
}

fn servers(heard: &mut Heard, server: &Server, folder: &Folder) {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, other) = (path("data"), path("other"));
    let listen = server.api.trim_start_matches("http://");
    heard.hear(&unstarted(&["dev", "--no-open", "--listen", listen, "--data-dir", &other], &[]));
    heard.hear(&unstarted(&["dev", "--no-open", "--listen", "127.0.0.1:0", "--data-dir", &data], &[]));
    let nowhere = ["dev", "--no-open", "--listen", "127.0.0.1:0", "--data-dir", "/proc/nothing"];
    heard.hear(&unstarted(&nowhere, &[]));
    let key = [("LANTERN_CREDENTIAL_KEY", "short")];
    let fresh = path("fresh");
    heard.hear(&unstarted(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &fresh], &key));
    let config = path("lantern.toml");
    std::fs::write(&config, "[server]\nlisen = 3\n").unwrap();
    heard.hear(&unstarted(&["serve", "--config", &config], &[]));
}

fn logins(heard: &mut Heard, user: &User, server: &Server) {
    let away = [("LANTERN_API_URL", "http://127.0.0.1:1")];
    heard.hear(&user.run(&["whoami"]));
    heard.hear(&user.run_with(&away, &["login", "--email", "a@b.c", "--password", "pw"]));
    heard.hear(&user.run(&["login", "--email", "admin@lantern.dev", "--password", "wrong"]));
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    heard.hear(&user.run_with(&away, &["whoami"]));
    let file = user.home.join(".lantern/credentials.json");
    let mode = |bits| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o644);
    heard.hear(&user.run(&["whoami"]));
    mode(0o600);
    let key = user.run(&["keys", "create", "--name", "reads", "--scope", "read"]).ok();
    for (key, args) in [
        (key.trim(), vec!["agents", "create", "--name", "z"]),
        ("hlx_live_00000000000000000000000000000000", vec!["whoami"]),
    ] {
        heard.hear(&user.run_with(&[("LANTERN_API_KEY", key)], &args));
    }
    assert!(server.api.starts_with("http"));
}

fn refusals(heard: &mut Heard, user: &User) {
    user.file("a.yaml", "name: x\n");
    heard.hear(&user.run(&["agents", "create", "--file", "a.yaml"]));
    user.file(
        "a.json",
        "{\"name\":\"x\",\"steps\":[{\"id\":\"a\",\"kind\":\"tool\",\"data\":{\"tool\":\"calc\",\"timeot\":3}}]}",
    );
    heard.hear(&user.run(&["agents", "create", "--file", "a.json"]));
    user.run(&["agents", "create", "--name", "said"]).ok();
    heard.hear(&user.run(&["runs", "create", "--agent", "said", "--input", "{\"a\":"]));
    let large = user.file("large.txt", "a".repeat(5_000_000));
    heard.hear(&user.run(&["runs", "create", "--agent", "said", "--input", &format!("@{large}")]));
    heard.hear(&user.run(&["runs", "create", "--agent", "digets"]));
    let editor = user.file(
        "editor",
        "#!/bin/sh\n\"$LANTERN\" agents create --name said --description theirs\necho '{}' > \"$1\"\n",
    );
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let env =
        [("EDITOR", editor.as_str()), ("LANTERN", env!("CARGO_BIN_EXE_lantern")), ("PATH", "/usr/bin:/bin")];
    let home = user.home.to_str().unwrap();
    heard.hear(&user.run_with(&[&env[..], &[("TMPDIR", home)]].concat(), &["agents", "edit", "said"]));
}

fn runs(heard: &mut Heard, user: &User) {
    user.run(&["init", "app", "--template", "approval"]).ok();
    user.run(&["agents", "create", "--file", "app/agent.json"]).ok();
    let started = user.run(&["runs", "create", "--agent", "app", "--input", "@app/input.json"]).ok();
    let run = started.split_whitespace().last().unwrap();
    // It waits when its step has begun to.
    let mut log = user.begin(&["logs", run, "-f"]);
    while !log.line().contains("approval_requested") {}
    log.interrupt();
    log.end();
    heard.hear(&user.run(&["runs", "get", run]));
    heard.hear(&user.run(&["runs", "approve", run, "ship"]));
    user.run(&["logs", run, "-f"]).ok();
    heard.hear(&user.run(&["runs", "approve", run, "ship"]));
    heard.hear(&user.run(&["runs", "cancel", crate::cli_fake::RUN]));
    heard.hear(&user.run(&["runs", "watch"]));
    heard.hear(&user.run(&["runs", "create", "--agent", "said", "--input", "hi", "--follow"]));
    let steps = "[{\"id\":\"page\",\"kind\":\"tool\",\"data\":{\"tool\":\"http.fetch\",\"arguments\":{\"url\":\"http://127.0.0.1/\"}}}]";
    user.file("page.json", format!("{{\"name\":\"page\",\"steps\":{steps}}}"));
    user.run(&["agents", "create", "--file", "page.json"]).ok();
    heard.hear(&user.run(&["runs", "create", "--agent", "page", "--follow"]));
    user.run(&["providers", "set", "lab", "--base-url", "http://127.0.0.1:1/v1"]).ok();
    heard.hear(&user.run(&["providers", "test", "lab"]));
    user.file("asks.json", "{\"name\":\"asks\",\"model\":\"lab/llama\",\"retry\":{\"maxAttempts\":1}}");
    user.run(&["agents", "create", "--file", "asks.json"]).ok();
    heard.hear(&user.run(&["runs", "create", "--agent", "asks", "--input", "hi", "--follow"]));
}

#[test]
fn every_message_of_the_troubleshooting_page_is_a_real_one() {
    let folder = Folder::new();
    let server = Server::dev(&folder.path().join("data"));
    let user = User::new().with("LANTERN_API_URL", &server.api);
    let mut heard = Heard(Vec::new());
    servers(&mut heard, &server, &folder);
    logins(&mut heard, &user, &server);
    refusals(&mut heard, &user);
    runs(&mut heard, &user);
    server.kill();
    let (data, key) = (folder.path().join("data"), "07".repeat(32));
    let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    heard.hear(&unstarted(&args, &[("LANTERN_CREDENTIAL_KEY", &key)]));

    let quoted = quoted();
    assert!(quoted.len() > 25, "the page was read: {}", quoted.len());
    for message in &quoted {
        assert!(heard.0.iter().any(|said| says(said, message)), "nobody says\n{message}\n{:#?}", heard.0);
    }
    for said in &heard.0 {
        let known = quoted.iter().any(|message| says(said, message)) || said == "accepted\n";
        assert!(known, "the page does not have\n{said}");
    }
}

#[test]
fn a_message_is_what_is_said_with_something_for_each_gap() {
    for (said, message, want) in [
        ("error: a (b)\nnext: c\n", "error: a (b)\n", true),
        ("error: a 1 (b)\nnext: c\n", "error: a … (b)\nnext: c\n", true),
        ("error: x\nerror: a 1 (b)\n", "error: a … (b)\n", true),
        ("error: a 1 (c)\n", "error: a … (b)\n", false),
        ("next: c\nerror: a\n", "error: a\nnext: c\n", false),
    ] {
        assert_eq!(says(said, message), want, "{said:?} {message:?}");
    }
}
