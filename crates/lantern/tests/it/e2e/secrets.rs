//! Secrets by the real binary: used where they are named, and found nowhere else in what it says and leaves behind.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use lantern_net::http::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};
use super::provider::{Answer, Provider};

/// Nothing else in the world says this.
pub(super) const CANARY: &str = "sk-canary-7f3b9d21e6a84c05";

/// A command of the client, with what it reads.
pub(super) fn client(server: &Server, token: &str, args: &[&str], input: &str) -> Output {
    let mut command = lantern();
    command.args(args).env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", token);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it said, on both streams, when it worked.
#[track_caller]
pub(super) fn said(output: &Output) -> String {
    let words = [&output.stdout[..], &output.stderr].concat();
    let words = String::from_utf8(words).unwrap();
    assert!(output.status.success(), "{words}");
    words
}

/// `lantern dev` that logs all it can into a file.
pub(super) fn talkative(folder: &Path, log: &Path) -> Server {
    let mut command = lantern();
    command
        .args(["dev", "--no-open", "--output", "json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder);
    command.env("LOG_LEVEL", "trace");
    let log = File::options().create(true).append(true).open(log).unwrap();
    Server::start_deaf(&mut command, Stdio::from(log))
}

/// Every file below a folder that has the canary in it, as it is or in hexadecimal digits.
pub(super) fn traces(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(traces(&path));
        } else if shows(&std::fs::read(&path).unwrap()) {
            found.push(path);
        }
    }
    found
}

pub(super) fn shows(bytes: &[u8]) -> bool {
    let halves = CANARY.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits: String = halves.filter_map(|half| char::from_digit(half.into(), 16)).collect();
    [CANARY.to_owned(), digits]
        .iter()
        .any(|needle| bytes.windows(needle.len()).any(|window| window == needle.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_used_where_it_is_named_and_found_nowhere_else() {
    let (folder, place) = (Folder::new(), Folder::new());
    let answers =
        vec![Answer::Say("hello"), Answer::Say("again"), Answer::Status(401, None), Answer::Say("through")];
    let provider = Provider::start(answers).await;
    let log = place.path().join("server.log");
    let server = talkative(folder.path(), &log);
    let api = Api::of(&server).await;
    let run = |args: &[&str], input: &str| client(&server, &api.token, args, input);
    let mut told = Vec::new();

    // Handed in by standard input and by a file; named by a provider.
    told.push(said(&run(&["secrets", "set", "models"], &format!("{CANARY}\n"))));
    let source = folder.path().with_extension("source");
    std::fs::write(&source, CANARY).unwrap();
    told.push(said(&run(&["secrets", "set", "models", "--file", source.to_str().unwrap()], "")));
    std::fs::remove_file(&source).unwrap();
    let saved = run(&["providers", "set", "lab", "--base-url", &provider.url, "--secret", "models"], "");
    told.push(said(&saved));
    told.push(said(&run(&["providers", "test", "lab"], "")));
    for verb in [
        &["secrets", "list"][..],
        &["secrets", "versions", "models"],
        &["secrets", "keys"],
        &["providers", "list"],
    ] {
        told.push(said(&run(verb, "")));
        told.push(said(&run(&[&["-o", "json"], verb].concat(), "")));
    }
    assert!(told.concat().contains("lantern.secret://tenant/models"));

    // Used by runs and by a front door; the third call is refused by the provider.
    api.agent("talker", json!({"model": "lab/gpt-4o"})).await;
    let first = api.run("talker", json!({"text": "hi"})).await;
    assert_eq!(api.ended(&first).await["status"], "succeeded");
    told.push(said(&run(&["secrets", "rekey"], "")));
    let second = api.run("talker", json!({"text": "hi"})).await;
    assert_eq!(api.ended(&second).await["status"], "succeeded");
    let third = api.run("talker", json!({"text": "hi"})).await;
    assert_eq!(api.ended(&third).await["status"], "failed");
    let body = json!({"model": "lab/gpt-4o", "max_tokens": 10, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    told.push(api.text("/v1/chat/completions", &body).await);
    let bearers = provider.bearers();
    assert!(
        bearers.len() >= 4 && bearers.iter().all(|bearer| *bearer == format!("Bearer {CANARY}")),
        "{bearers:?}"
    );

    // Refusals of all kinds.
    let put = |path: &'static str, body: Value| {
        let api = &api;
        async move {
            let answer = api.send(Method::PUT, path, Some(&body), None).await;
            String::from_utf8(answer.bytes(1 << 20).await.unwrap().to_vec()).unwrap()
        }
    };
    told.push(put("/v1/secrets/-bad-", json!({"value": CANARY})).await);
    told.push(put("/v1/secrets/models", json!({"value": [CANARY]})).await);
    told.push(put("/v1/secrets/models", json!({"value": CANARY, "other": CANARY})).await);
    told.push(put("/v1/secrets/models/versions/1", json!({"value": CANARY})).await);

    // A version that may be used no more stops runs, with a code; and comes back.
    told.push(said(&run(&["secrets", "disable", "models", "1"], "")));
    let calls = provider.calls().len();
    let stopped = api.run("talker", json!({"text": "hi"})).await;
    let stopped = api.ended(&stopped).await;
    assert_eq!(stopped["status"], "failed", "{stopped}");
    assert!(stopped.to_string().contains("secret_not_found"), "{stopped}");
    assert_eq!(provider.calls().len(), calls, "nobody is called without the key");
    // The doors go by what they knew a quarter of a second ago.
    let refused = async {
        loop {
            let answer = api.send(Method::POST, "/v1/chat/completions", Some(&body), None).await;
            if answer.status().as_u16() >= 400 {
                return String::from_utf8(answer.bytes(1 << 20).await.unwrap().to_vec()).unwrap();
            }
            super::api::tick().await;
        }
    };
    let refused = tokio::time::timeout(super::process::NEVER, refused).await.unwrap();
    assert!(refused.contains("secret_not_found"), "{refused}");
    told.push(refused);
    told.push(said(&run(&["secrets", "enable", "models", "1"], "")));

    // Everything that can be read or taken away.
    for path in [
        "/v1/secrets",
        "/v1/secrets/models",
        "/v1/secrets/models/versions",
        "/v1/secret-keys",
        "/v1/settings/llm-providers",
        "/v1/audit",
        "/v1/audit/export",
        "/v1/runs",
        "/v1/calls",
        "/v1/usage",
        "/openapi.json",
        "/metrics",
    ] {
        let answer = api.send(Method::GET, path, None, None).await;
        assert_eq!(answer.status(), 200, "{path}");
        told.push(String::from_utf8(answer.bytes(16 << 20).await.unwrap().to_vec()).unwrap());
    }
    let audit = told.iter().find(|text| text.contains("/v1/secrets/models/versions/1")).cloned();
    assert!(audit.is_some(), "the log names the secret and its version");
    let to = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    for (one, name) in [(&first, "first"), (&third, "third")] {
        told.push(said(&run(&["export", one, "--to", &to(name)], "")));
    }
    told.push(said(&run(&["receipts", "export", &first, "--file", &to("receipt")], "")));
    let data = folder.path().to_str().unwrap();
    let backup = ["backup", "--with-key", "--data-dir", data, "--to", &to("backup.tar")];
    told.push(said(&lantern().args(backup).output().unwrap()));
    let words: Vec<&String> = told.iter().filter(|text| shows(text.as_bytes())).collect();
    assert!(words.is_empty(), "{words:?}");
    assert_eq!(traces(folder.path()), Vec::<PathBuf>::new(), "while it runs");
    assert!(server.stop().success());
    assert_eq!(traces(folder.path()), Vec::<PathBuf>::new(), "the data folder");
    assert_eq!(traces(place.path()), Vec::<PathBuf>::new(), "log, export, receipt and backup");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("a secret was handed in"), "what is searched is the log");
}

#[tokio::test]
async fn a_change_of_keys_is_gone_on_with_after_a_kill() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    for n in 0..120 {
        let body = json!({"value": format!("value {n}")});
        let path = format!("/v1/secrets/s{n}");
        assert_eq!(api.send(Method::PUT, &path, Some(&body), None).await.status(), 201, "{path}");
    }
    let (status, half) = api.post("/v1/secret-keys/rotate", &json!({})).await;
    assert_eq!((status, half), (200, json!({"keyVersion": 2, "resealed": 100, "remaining": 20})));
    server.kill();

    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;
    let (_, keys) = api.get("/v1/secret-keys").await;
    let under = |n: usize| (keys[n]["version"].clone(), keys[n]["sealed"].clone());
    assert_eq!((under(0), under(1)), ((json!(2), json!(100)), (json!(1), json!(20))));
    let done = said(&client(&server, &api.token, &["secrets", "rekey"], ""));
    assert!(done.contains("key 2 seals all secrets now: 20 values were sealed anew"), "{done}");
    let (_, keys) = api.get("/v1/secret-keys").await;
    assert_eq!(keys.as_array().unwrap().len(), 1, "{keys}");
    // Each says what it said: the same value again is no version.
    for n in [0, 57, 119] {
        let body = json!({"value": format!("value {n}")});
        let path = format!("/v1/secrets/s{n}");
        assert_eq!(api.send(Method::PUT, &path, Some(&body), None).await.status(), 200, "{path}");
    }
}
