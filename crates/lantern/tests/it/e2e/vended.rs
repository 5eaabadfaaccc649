//! Secrets that boxes are handed, by the real binary: what their programs have, what is told of it, and that nothing else says a value.
//!
//! Needs root and a runtime: compiled with the feature `boxes` alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lantern_net::http::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::box_steps::{events, last};
use super::metered::verified;
use super::process::{Folder, Server};
use super::secrets::{CANARY, shows, talkative, traces};
use super::workloads::{left, odd_image, signed_in};
use crate::cli_fake::{Done, User};

const AS_FILE: &str = "  secrets: [{env_name: KEY, secret_uri: 'lantern.secret://tenant/models'}]\n";
const AS_BOTH: &str = "  secrets:\n    - {env_name: KEY, secret_uri: 'lantern.secret://__tenant__/key/models', deliver: env}\n    - {env_name: FILED, secret_uri: lantern.secret/llm/lab}\n";

/// What the odd program says of a value.
fn sum(value: &str) -> String {
    let sum = value.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("{sum:x}")
}

struct House {
    folder: Folder,
    place: Folder,
    server: Server,
    user: User,
    image: String,
}

impl House {
    fn new() -> Self {
        let (folder, place) = (Folder::new(), Folder::new());
        let image = odd_image(folder.path());
        let server = talkative(folder.path(), &place.path().join("server.log"));
        let user = signed_in(&server);
        Self { folder, place, server, user, image }
    }

    fn spec(&self, class: &str, args: &[&str], more: &str) -> String {
        let args = serde_json::to_string(args).unwrap();
        let head = format!("spec:\n  image_digest: {}\n  isolation: {class}\n  args: {args}\n", self.image);
        self.user.file("spec.yaml", head + more)
    }

    fn run(&self, class: &str, args: &[&str], more: &str) -> Done {
        let spec = self.spec(class, args, more);
        self.user.run(&["run", &spec])
    }
}

fn shown_in_command_lines() -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.map(|entry| entry.path().join("cmdline"));
    lines.filter(|path| shows(&std::fs::read(path).unwrap_or_default())).collect()
}

/// Who, about what, and with which outcome: of every entry about a secret that a workload asked for.
fn entries(audit: &Value) -> Vec<[String; 3]> {
    let all = audit["data"].as_array().or_else(|| audit.as_array()).unwrap().iter();
    let word = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let vended = all.filter(|entry| entry["action"] == "secrets.vend");
    vended.map(|entry| ["actor", "resource", "outcome"].map(|name| word(entry, name))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_has_its_secrets_and_nothing_else_says_them() {
    let house = tokio::task::spawn_blocking(House::new).await.unwrap();
    let api = Api::of(&house.server).await;
    let mut told = Vec::new();
    let mut run = |args: &[&str], input: &str| {
        let done = house.user.run_reading(args, input);
        assert_eq!(done.code, 0, "{done:?}");
        told.push(done.out.clone() + &done.err);
        done
    };
    run(&["secrets", "set", "models"], "an older value\n");
    run(&["secrets", "set", "models"], &format!("{CANARY}\n"));
    run(&["providers", "set", "lab", "--base-url", "http://127.0.0.1:9/v1", "--secret", "models"], "");

    // As a file that its user alone reads, in every box that there is; and as a variable where a class may have one.
    let says = format!("KEY {} 400 {}\n", CANARY.len(), sum(CANARY));
    for class in ["trusted", "standard", "untrusted"] {
        let spec = house.spec(class, &["secrets", "KEY"], AS_FILE);
        let done = run(&["run", &spec], "");
        assert_eq!(done.out, format!("file {says}"), "{class} {done:?}");
        assert!(done.err.contains("secret handed: KEY: lantern.secret://tenant/models, version 2, as file"));
    }
    let spec = house.spec("trusted", &["secrets", "KEY", "FILED"], AS_BOTH);
    let done = run(&["run", &spec], "");
    let (length, sum) = (CANARY.len(), sum(CANARY));
    assert_eq!(done.out, format!("env KEY {length} {sum}\nfile FILED {length} 400 {sum}\n"), "{done:?}");

    // While a box has them, in no command line.
    let spec = house.spec("trusted", &["wait"], AS_BOTH);
    let mut following = house.user.begin(&["run", &spec]);
    assert_eq!(following.line(), "up\n");
    assert_eq!(shown_in_command_lines(), Vec::<PathBuf>::new());
    let vm = last(&house.user)["vm"]["vmId"].as_str().unwrap().to_owned();
    run(&["vm", "stop", &vm, "--grace", "0"], "");
    drop(following.end());
    assert_eq!(left(house.folder.path()), BTreeSet::new());

    // What is told of it, everywhere.
    let last = last(&house.user);
    let vended = events(&last, "secret_vend");
    assert_eq!(vended.len(), 2, "{last:#}");
    let of = |event: &Value| (event["envName"].clone(), event["secret"].clone(), event["version"].clone());
    assert_eq!(of(&vended[0]), (json!("KEY"), json!("models"), json!(2)), "{last:#}");
    assert_eq!(vended[0]["deliver"], "env");
    let id = last["vm"]["runId"].as_str().unwrap().to_owned();
    let (status, audit) = api.get("/v1/audit?action=secrets.vend").await;
    assert_eq!(status, 200, "{audit}");
    let logged = entries(&audit);
    assert_eq!(logged.len(), 7, "{audit:#}");
    let entry = ["workload", "/v1/secrets/models/versions/2", "succeeded"];
    assert!(logged.iter().all(|logged| *logged == entry), "{audit:#}");
    let (_, checked) = api.get("/v1/audit/verify").await;
    assert_eq!(checked["valid"], true, "{checked}");
    for args in [
        &["vm", "get", &vm][..],
        &["vm", "logs", &vm],
        &["runs", "get", &id, "-o", "json"],
        &["runs", "list", "-o", "json"],
        &["audit", "-o", "json"],
    ] {
        let done = house.user.run(args);
        told.push(done.out + &done.err);
    }
    for path in [
        "/v1/audit/export",
        "/v1/runtime/vms",
        "/metrics",
        &format!("/v1/runs/{id}"),
        &format!("/v1/runs/{id}/journal"),
    ] {
        let answer = api.send(Method::GET, path, None, None).await;
        told.push(String::from_utf8(answer.bytes(16 << 20).await.unwrap().to_vec()).unwrap());
    }
    let to = |name: &str| house.place.path().join(name).to_str().unwrap().to_owned();
    house.user.run(&["receipts", "export", &id, "--file", &to("receipt")]).ok();
    verified(&house.user, &id);
    let words: Vec<&String> = told.iter().filter(|text| shows(text.as_bytes())).collect();
    assert!(words.is_empty(), "{words:?}");
    let House { folder, place, server, .. } = house;
    assert!(server.stop().success());
    for dir in [folder.path(), place.path()] {
        assert_eq!(traces(dir), Vec::<PathBuf>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_not_to_be_had_refuses_the_workload_before_there_is_a_box() {
    let house = tokio::task::spawn_blocking(House::new).await.unwrap();
    let api = Api::of(&house.server).await;
    let refused = |more: &str, words: &str| {
        let done = house.run("trusted", &["secrets", "KEY"], more);
        assert!(done.code != 0 && done.out.is_empty() && done.err.contains(words), "{words}: {done:?}");
        let last = last(&house.user);
        assert_eq!(last["vm"]["logLines"], 0, "no box was made: {last:#}");
        assert!(events(&last, "secret_vend").is_empty(), "{last:#}");
    };
    refused(AS_FILE, "secrets[0]: KEY: lantern.secret://tenant/models leads to no secret");
    house.user.run_reading(&["secrets", "set", "models"], CANARY);
    house.user.run(&["secrets", "disable", "models", "1"]).ok();
    refused(AS_FILE, "with a version that is enabled");
    // What another tenant has is nobody's here.
    let nobody = Api::nobody(&house.server);
    let account = json!({"email": "eve@example.com", "password": "a long password", "name": "Eve"});
    let (status, made) = nobody.post("/auth/signup", &account).await;
    assert!(status < 300, "{made}");
    let eve = Api::login(&house.server, "eve@example.com", "a long password").await;
    let put = eve.send(Method::PUT, "/v1/secrets/models", Some(&json!({"value": CANARY})), None).await;
    assert!(put.status().is_success());
    let tenant = made["user"]["tenantId"].as_str().unwrap();
    let theirs = format!(
        "  secrets: [{{env_name: KEY, secret_uri: 'lantern.secret://tenant/{tenant}/key/models'}}]\n"
    );
    refused(&theirs, "leads to no secret");
    let (_, audit) = api.get("/v1/audit?action=secrets.vend").await;
    assert_eq!(entries(&audit), vec![["workload", "/v1/secrets/models", "refused"]; 3], "{audit:#}");
    // Code that nobody knows has none in its environment, whoever asks.
    let done = house.run("untrusted", &["secrets", "KEY"], AS_BOTH);
    assert!(done.code != 0 && done.err.contains("only trusted and standard code"), "{done:?}");
    let done = house.run("trusted", &["env"], "  env: {KEY: 'lantern.secret://tenant/models'}\n");
    assert!(done.code != 0 && done.err.contains("belongs in secrets"), "{done:?}");
    assert_eq!(left(house.folder.path()), BTreeSet::new());
    assert!(!shows(&std::fs::read(log(&house)).unwrap()));
}

fn log(house: &House) -> PathBuf {
    Path::new(house.place.path()).join("server.log")
}
