//! Receipts by the real binary: exported, checked without a server, through a kill and another key.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};

fn said(server: &Server, api: &Api, args: &[&str]) -> Output {
    let mut command = lantern();
    command.args(args).args(["-o", "json"]).env("LANTERN_API_URL", &server.api);
    command.env("LANTERN_API_TOKEN", &api.token).output().unwrap()
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `lantern verify`, with no server to ask.
fn verify(file: &Path, more: &[&str]) -> Output {
    let mut command = lantern();
    command.arg("verify").arg(file).args(more).env("LANTERN_API_URL", "http://127.0.0.1:1").output().unwrap()
}

/// The program in docs/verify.
fn other(file: &Path, keys: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    let mut command = Command::new(python);
    command.arg(root.join("docs/verify/verify.py")).args(["--key", keys]).arg(file);
    command.env("PYTHONDONTWRITEBYTECODE", "1").status().unwrap().success()
}

/// The receipt of a run as a file, as soon as the server has issued it without being asked.
async fn exported(server: &Server, api: &Api, run: &str, to: &Path) -> Value {
    loop {
        let (status, listed) = api.get("/v1/receipts").await;
        assert_eq!(status, 200);
        if listed.as_array().unwrap().iter().any(|receipt| receipt["runId"] == run) {
            break;
        }
        super::api::tick().await;
    }
    answer(&said(server, api, &["receipts", "export", run, "--file", to.to_str().unwrap()]))
}

#[tokio::test]
async fn a_receipt_is_checked_without_a_server_and_outlives_its_key() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let at = |name: &str| folder.path().join(name);
    let server = Server::dev(&data);
    let api = Api::of(&server).await;
    let sum = json!({"tool": "calc", "arguments": {"expression": "1+1"}});
    let steps = json!([{"id": "sum", "kind": "tool", "data": sum}, {"id": "say", "kind": "llm", "data": {"prompt": "hi"}}]);
    api.agent("sum", json!({"program": "steps", "steps": steps})).await;
    let first = api.run("sum", json!({})).await;
    api.ended(&first).await;
    exported(&server, &api, &first, &at("first.json")).await;
    answer(&said(&server, &api, &["receipts", "keys", "--file", at("old.json").to_str().unwrap()]));
    server.kill();

    let server = Server::dev(&data);
    let api = Api::of(&server).await;
    let rotate =
        lantern().args(["receipts", "rotate-key", "-o", "json", "--data-dir"]).arg(&data).output().unwrap();
    let made = answer(&rotate)["keyId"].clone();
    let second = api.run("sum", json!({})).await;
    api.ended(&second).await;
    exported(&server, &api, &second, &at("second.json")).await;
    answer(&said(&server, &api, &["receipts", "keys", "--file", at("new.json").to_str().unwrap()]));
    let shown = answer(&said(&server, &api, &["receipts", "get", &second]));
    assert_eq!((&shown["keyId"], &shown["payload"]["logIndex"]), (&made, &json!(1)));
    assert_eq!(answer(&said(&server, &api, &["receipts", "log"]))["size"], 2);
    let (status, verdict) = api.post("/v1/runs/receipts/verify", &shown).await;
    assert_eq!((status, &verdict["valid"]), (200, &json!(true)));
    drop(server);

    let (old, new) = (at("old.json"), at("new.json"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    for (file, keys, holds) in [
        ("first.json", old, true),
        ("first.json", new, true),
        ("second.json", new, true),
        ("second.json", old, false),
    ] {
        let output = verify(&at(file), &["--key", keys]);
        let words = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            (output.status.success(), words.starts_with("VERIFIED")),
            (holds, holds),
            "{file} {keys}: {words}"
        );
        assert_eq!(other(&at(file), keys), holds, "{file} {keys}");
    }
    // Without a key it does not say that it is verified, and with none it is not checked at all.
    let alone = verify(&at("first.json"), &["--any-key"]);
    assert!(String::from_utf8(alone.stdout).unwrap().starts_with("NOT VERIFIED"));
    assert_eq!(verify(&at("first.json"), &[]).status.code(), Some(2));
    let text = std::fs::read_to_string(at("first.json")).unwrap();
    std::fs::write(at("changed.json"), text.replacen("\"tokensIn\":", "\"tokensIn\":1", 1)).unwrap();
    let changed = verify(&at("changed.json"), &["--key", new, "-o", "json"]);
    assert_eq!(changed.status.code(), Some(1));
    let failure: Value = serde_json::from_slice(&changed.stderr).unwrap_or_default();
    assert_eq!(failure["code"], "receipt_invalid", "{}", String::from_utf8_lossy(&changed.stderr));
    assert!(!other(&at("changed.json"), new));
}
