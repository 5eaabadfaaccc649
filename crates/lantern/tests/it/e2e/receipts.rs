//! Receipts by the real binary: exported, checked without a server, through a kill and another key.

use std::path::Path;
use std::process::{Command, Output};

use lantern_receipts::note::Note;
use lantern_receipts::{File, Node, entry, merkle};
use lantern_types::Digest;
use serde_json::{Value, json};

use super::api::{Api, answer, said};
use super::process::{Folder, Server, lantern};

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

/// Checks a DSSE envelope by the specification, with nothing of ours.
const DSSE: &str = "
import base64, json, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
envelope, keys = (json.load(open(name)) for name in sys.argv[1:3])
signed = envelope['signatures'][0]
key = next(k['publicKey'] for k in keys['keys'] if k['keyId'] == signed['keyid'])
kind, body = envelope['payloadType'].encode(), base64.b64decode(envelope['payload'])
message = b'DSSEv1 %d %s %d %s' % (len(kind), kind, len(body), body)
Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(base64.b64decode(signed['sig']), message)
print(json.loads(body)['predicate']['status'])
";

fn attested(file: &Path, keys: &Path) -> Output {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    Command::new(python).args(["-c", DSSE]).arg(file).arg(keys).output().unwrap()
}

fn hashes(proof: &Value) -> Vec<Digest> {
    let nodes: Vec<Node> = serde_json::from_value(proof["hashes"].clone()).unwrap();
    nodes.into_iter().map(|node| node.0).collect()
}

fn head(log: &Value) -> (u64, Digest) {
    let checkpoint = Note::parse(log["checkpoint"].as_str().unwrap()).unwrap().checkpoint;
    (checkpoint.size, checkpoint.root)
}

#[tokio::test]
async fn runs_that_did_not_succeed_have_receipts_and_the_log_only_grows() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    let server = Server::dev(&at("data"));
    let api = Api::of(&server).await;
    let sum = json!({"tool": "calc", "arguments": {"expression": "1/0"}});
    api.agent("fails", json!({"program": "steps", "steps": [{"id": "sum", "kind": "tool", "data": sum}]}))
        .await;
    let nap = json!([{"id": "nap", "kind": "sleep", "data": {"duration": "1h"}}]);
    api.agent("waits", json!({"program": "steps", "steps": nap})).await;
    let failed = api.run("fails", json!({})).await;
    assert_eq!(api.ended(&failed).await["status"], "failed");
    exported(&server, &api, &failed, &at("failed.json")).await;
    let (_, first) = api.get("/v1/receipts/log").await;
    let cancelled = api.run("waits", json!({})).await;
    let own = format!("/v1/runs/{cancelled}/receipt");
    let (status, early) = api.post(&own, &json!({})).await;
    assert_eq!((status, &early["code"]), (409, &json!("run_not_finished")));
    api.post(&format!("/v1/runs/{cancelled}/cancel"), &json!({})).await;
    assert_eq!(api.ended(&cancelled).await["status"], "cancelled");
    exported(&server, &api, &cancelled, &at("cancelled.json")).await;
    answer(&said(&server, &api, &["receipts", "keys", "--file", at("keys.json").to_str().unwrap()]));
    let envelope = at("in-toto.json");
    let words =
        ["receipts", "export", &cancelled, "--format", "in-toto", "--file", envelope.to_str().unwrap()];
    answer(&said(&server, &api, &words));
    let shown = attested(&envelope, &at("keys.json"));
    assert_eq!(
        String::from_utf8_lossy(&shown.stdout),
        "cancelled\n",
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );

    // The head that was kept is followed by the one of now, and both receipts are under it.
    let (_, last) = api.get("/v1/receipts/log").await;
    assert_eq!((head(&first).0, head(&last).0), (1, 2));
    let (_, proof) = api.get("/v1/receipts/log/consistency?from=1&size=2").await;
    assert!(merkle::follows(head(&first), head(&last), &hashes(&proof)));
    for (index, file) in [(0, "failed.json"), (1, "cancelled.json")] {
        let bytes = std::fs::read(at(file)).unwrap();
        let payload = File::parse(&bytes).unwrap().payload.bytes().unwrap();
        let (_, proof) = api.get(&format!("/v1/receipts/log/inclusion?index={index}&size=2")).await;
        let leaf = merkle::leaf(entry(&payload).bytes());
        assert!(merkle::includes(leaf, index, 2, &hashes(&proof), head(&last).1), "{file}");
        let keys = at("keys.json");
        assert!(verify(&at(file), &["--key", keys.to_str().unwrap()]).status.success(), "{file}");
        assert!(other(&at(file), keys.to_str().unwrap()), "{file}");
    }

    // Another tenant learns nothing of them, and nobody without a login either.
    let mut eve = Api::nobody(&server);
    for path in [own.as_str(), "/v1/receipts", "/v1/receipts/log", "/v1/receipts/log/tile/0/000.p/2"] {
        assert_eq!(eve.get(path).await.0, 401, "{path}");
    }
    let account = json!({"email": "eve@example.com", "password": "correct horse battery", "name": "Eve", "tenantName": "eve"});
    let (status, account) = eve.post("/auth/signup", &account).await;
    assert_eq!(status, 201, "{account}");
    eve.token = account["token"].as_str().unwrap().to_owned();
    let more = ["/file", "/attestation"].map(|end| format!("{own}{end}"));
    for path in [own.as_str(), &more[0], &more[1], "/v1/receipts/log", "/v1/receipts/log/tile/0/000.p/2"] {
        assert_eq!(eve.get(path).await.0, 404, "{path}");
    }
    assert_eq!(eve.post(&own, &json!({})).await.0, 404);
    assert_eq!(eve.get("/v1/receipts").await, (200, json!([])));
}

/// The operator's own key: what is no key does not start a server, and another cannot be put in its place by accident.
#[tokio::test]
async fn the_operator_s_key_signs_and_is_not_replaced_by_accident() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    let data = at("data");
    drop(Server::dev(&data));
    let rotate = |seed: Option<&str>| {
        let mut command = lantern();
        command.args(["receipts", "rotate-key", "-o", "json", "--data-dir"]).arg(&data);
        if let Some(seed) = seed {
            command.env("LANTERN_RECEIPT_ED25519_SEED", seed);
        }
        command.output().unwrap()
    };
    for (seed, code) in [("abcd", "invalid_key"), (&"11".repeat(32), "invalid_key")] {
        let refused = rotate(Some(seed));
        let failure: Value = serde_json::from_slice(&refused.stderr).unwrap_or_default();
        assert_eq!((refused.status.code(), &failure["code"]), (Some(2), &json!(code)), "{seed}");
    }
    assert_eq!(answer(&rotate(None))["replacedOwnKey"], false);
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
    // What is read need not be a file that knows its length, and what never ends is not read to its end.
    let piped = format!(
        "'{}' verify <(cat '{}') --key '{new}'",
        env!("CARGO_BIN_EXE_lantern"),
        at("first.json").display()
    );
    assert!(Command::new("bash").args(["-c", &piped]).output().unwrap().status.success());
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
