//! A run that is over has a receipt, which anybody can have checked, and which no change to it survives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lantern_engine::{Arrival, Input};
use lantern_receipts::{File, Signer, VerifyKey, earlier, note};
use lantern_types::Secret;
use serde_json::{Value, json};

use crate::app::{TestApp, Wishes, request};
use crate::hand::Hand;

/// A run of tenant `a` that is over.
async fn over(test: &TestApp) -> String {
    let run = test.run(json!({"agentName": "mine"})).await;
    cancel(test, &run).await;
    run
}

async fn cancel(test: &TestApp, run: &str) {
    let cancel = Arrival::Cancel { by: "ada".into(), reason: None };
    Hand::take(test, run).await.give(Input::Arrived(cancel)).await;
}

async fn verdict(test: &TestApp, receipt: &Value) -> Value {
    test.send(request("POST", "/v1/runs/receipts/verify", None, Some(receipt.clone()))).await.is(200).json
}

#[tokio::test]
async fn a_receipt_has_the_contract_s_shape_and_holds() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "mine"})).await;
    let run = test.run(json!({"agentName": "mine"})).await;
    let path = format!("/v1/runs/{run}/receipt");
    test.post(&test.a.owner, &path, json!({})).await.refused(409, "run_not_finished");
    cancel(&test, &run).await;
    let receipt = test.post(&test.a.owner, &path, json!({})).await.is(200).json;
    assert_eq!(test.get(&test.a.owner, &path).await.is(200).json, receipt, "issued once");
    test.post(&test.b.owner, &path, json!({})).await.refused(404, "run_not_found");
    test.get(&test.b.owner, &format!("{path}/file")).await.refused(404, "run_not_found");
    let payload = &receipt["payload"];
    for (name, want) in [
        ("runId", json!(run)),
        ("tenantId", json!(test.a.scope.tenant())),
        ("agentName", json!("mine")),
        ("status", json!("cancelled")),
        ("tokensIn", json!(0)),
        ("tokensOut", json!(0)),
        ("costUsd", json!(0)),
        ("version", json!(2)),
    ] {
        assert_eq!(payload[name], want, "{name}");
    }
    for name in ["agentVersion", "journalHash", "issuedAt"] {
        assert!(payload[name].is_string(), "{name}");
    }
    assert_eq!(receipt["algorithm"], "Ed25519");
    let said = verdict(&test, &receipt).await;
    assert_eq!(
        said,
        json!({"valid": true, "runId": run, "issuedAt": payload["issuedAt"], "tenantId": payload["tenantId"]})
    );
    // The file says the same, and is about these events.
    let text = test.get(&test.a.owner, &format!("{path}/file")).await.is(200).text;
    let file = File::parse(text.as_bytes()).unwrap();
    file.check().unwrap();
    file.check_chain().unwrap();
    assert_eq!(file.signature.to_string(), receipt["signature"].as_str().unwrap());
    let published = test.send(request("GET", "/.well-known/lantern-receipts", None, None)).await.is(200);
    assert_eq!(published.header("access-control-allow-origin"), "*");
    let key = VerifyKey::parse(published.json["publicKey"].as_str().unwrap()).unwrap();
    assert_eq!((key, published.json["keyFingerprint"].as_str().unwrap()), (file.public_key, file.key_id));
    let jwks = test.send(request("GET", "/.well-known/jwks.json", None, None)).await.is(200).json;
    assert_eq!(jwks["keys"][0]["kid"], receipt["keyId"]);
    // Of agents' identities it is said that there are none, and not that the address is wrong.
    let identity = request("GET", "/.well-known/lantern-agent-identity", None, None);
    test.send(identity).await.refused(501, "agent_identity_unsupported");
}

#[tokio::test]
async fn what_a_receipt_says_is_a_statement_of_in_toto_too() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "mine"})).await;
    let run = test.run(json!({"agentName": "mine"})).await;
    let path = format!("/v1/runs/{run}/receipt/attestation");
    test.get(&test.a.owner, &path).await.refused(409, "run_not_finished");
    cancel(&test, &run).await;
    let envelope = test.get(&test.a.owner, &path).await.is(200).json;
    test.get(&test.b.owner, &path).await.refused(404, "run_not_found");
    let receipt = test.get(&test.a.owner, &format!("/v1/runs/{run}/receipt")).await.is(200).json;
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    assert_eq!(envelope["signatures"][0]["keyid"], receipt["keyId"]);
    let statement = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&statement).unwrap();
    assert_eq!(statement["predicate"], receipt["payload"]);
    assert_eq!(statement["subject"][0]["digest"]["lanternJournal"], receipt["payload"]["journalHash"]);
    // No receipt, and none can be made of it.
    let mut other = receipt;
    other["signature"] = envelope["signatures"][0]["sig"].clone();
    assert_eq!(verdict(&test, &other).await["valid"], false);
}

/// A receipt of version 1 passes when one of this server's keys signed exactly it, and a receipt of now is none.
#[tokio::test]
async fn receipts_of_the_first_version_pass_by_their_signature_alone() {
    let own = Signer::new(&Secret::new([9; 32]));
    let test = TestApp::with(Wishes { receipt_seed: Some([9; 32]), ..Wishes::default() }).await;
    let payload = json!({"agentName": "a<b>", "costUsd": 0.000_000_5, "issuedAt": "2026-01-01T00:00:00.5Z", "journalHash": "00",
        "runId": "r", "status": "succeeded", "tenantId": "t", "tokensIn": 1, "tokensOut": 2, "version": 1});
    let signed = |payload: &Value| {
        let bytes = earlier::canonical(payload.as_object().unwrap());
        json!({"payload": payload, "signature": own.sign(&bytes).to_string(), "algorithm": "Ed25519"})
    };
    let said = verdict(&test, &signed(&payload)).await;
    assert_eq!(
        said,
        json!({"valid": true, "runId": "r", "issuedAt": "2026-01-01T00:00:00.5Z", "tenantId": "t"})
    );
    let mut changed = signed(&payload);
    changed["payload"]["costUsd"] = json!(0.5);
    assert_eq!(verdict(&test, &changed).await["valid"], false);
    for version in [json!(1.0), json!("1"), json!(0), json!(2), Value::Null] {
        let mut other = payload.clone();
        other["version"] = version;
        assert_eq!(verdict(&test, &signed(&other)).await["valid"], false, "{other}");
    }
}

/// The fault of the system before this one: a genuine signature made every payload pass, for everybody who asked.
#[tokio::test]
async fn a_genuine_signature_does_not_make_another_payload_pass() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "mine"})).await;
    let (first, second) = (over(&test).await, over(&test).await);
    let own = |run: &str| format!("/v1/runs/{run}/receipt");
    let receipt = test.post(&test.a.owner, &own(&first), json!({})).await.is(200).json;
    let other = test.post(&test.a.owner, &own(&second), json!({})).await.is(200).json;
    for (pointer, value) in [
        ("/payload/status", json!("succeeded")),
        ("/payload/costUsd", json!(0.5)),
        ("/payload/costMicroUsd", json!(500_000)),
        ("/payload/runId", json!(second)),
        ("/payload/tenantId", json!(test.b.scope.tenant())),
        ("/payload/issuedAt", json!("2026-01-01T00:00:00Z")),
        ("/payload/version", json!(1)),
        ("/payload/version", json!(3)),
        ("/payload/logIndex", json!(1)),
        ("/payload", other["payload"].clone()),
        ("/signature", other["signature"].clone()),
        ("/checkpoint", json!("lantern/log\n1\nAAAA\n\n")),
        ("/proof", json!([])),
        ("/proof", json!(["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="])),
        ("/keyId", json!("0000000000000000")),
        ("/publicKey", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
    ] {
        let mut changed = other.clone();
        // The second receipt is under a head with a proof.
        if pointer.starts_with("/payload") || pointer == "/signature" {
            changed = receipt.clone();
        }
        if changed.pointer(pointer) == Some(&value) {
            continue;
        }
        *changed.pointer_mut(pointer).unwrap() = value.clone();
        let said = verdict(&test, &changed).await;
        assert_eq!(said["valid"], false, "{pointer} as {value}");
        assert!(said["reason"].is_string() && said.get("runId").is_none(), "{said}");
    }
    let mut more = receipt.clone();
    more["payload"]["approved"] = json!(true);
    assert_eq!(verdict(&test, &more).await["valid"], false, "what is not signed");
    let mut events = receipt.clone();
    events["appends"] = json!([]);
    assert_eq!(verdict(&test, &events).await["valid"], false, "events are not half believed");
    // In another order it is the same receipt: this route alone puts it into its form.
    let mut turned: Vec<(String, Value)> =
        receipt["payload"].as_object().unwrap().clone().into_iter().collect();
    turned.reverse();
    let text: Vec<String> = turned.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    let body = format!(
        "{{\"signature\": {}, \"payload\": {{ {} }}, \"proof\": {}, \"publicKey\": {}, \"keyId\": {}, \"checkpoint\": {}, \
         \"algorithm\": \"Ed25519\"}}",
        receipt["signature"],
        text.join(", "),
        receipt["proof"],
        receipt["publicKey"],
        receipt["keyId"],
        receipt["checkpoint"]
    );
    let sent = http::Request::post("/v1/runs/receipts/verify").body(axum::body::Body::from(body)).unwrap();
    assert_eq!(test.send(sent).await.is(200).json["valid"], true);
}

#[tokio::test]
async fn what_is_no_receipt_is_told_so() {
    let test = TestApp::new().await;
    let path = "/v1/runs/receipts/verify";
    let other = json!({"payload": {"version": 1}, "signature": "x", "algorithm": "HMAC-SHA256"});
    let answer =
        test.send(request("POST", path, None, Some(other))).await.refused(400, "unsupported_algorithm");
    assert_eq!(
        (&answer.json["error"], &answer.json["received"]),
        (&json!("unsupported algorithm"), &json!("HMAC-SHA256"))
    );
    for body in [json!({}), json!({"payload": [], "signature": "x", "algorithm": "Ed25519"})] {
        test.send(request("POST", path, None, Some(body))).await.refused(400, "invalid_body");
    }
    for body in [
        json!({"payload": {}, "signature": "x", "algorithm": "Ed25519"}),
        json!({"payload": {"version": 1}, "signature": "x", "algorithm": "Ed25519"}),
        json!({"payload": {"version": 2}, "signature": "x", "algorithm": "Ed25519"}),
        json!({"payload": {"version": 2, "costMicroUsd": 1, "costUsd": 0.000_001}, "signature": "x", "algorithm": "Ed25519"}),
    ] {
        assert_eq!(verdict(&test, &body).await["valid"], false, "{body}");
    }
    let twice = "{\"algorithm\":\"Ed25519\",\"signature\":\"x\",\"payload\":{\"version\":2,\"version\":2}}";
    let sent = http::Request::post(path).body(axum::body::Body::from(twice)).unwrap();
    test.send(sent).await.refused(400, "duplicate_key");
}

#[tokio::test]
async fn the_log_is_the_tenant_s_own_and_has_no_gaps() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "mine"})).await;
    let log = "/v1/receipts/log";
    test.get(&test.a.owner, log).await.refused(404, "log_entry_not_found");
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = over(&test).await;
        test.post(&test.a.owner, &format!("/v1/runs/{run}/receipt"), json!({})).await.is(200);
        runs.push(run);
    }
    let head = test.get(&test.a.owner, log).await.is(200).json;
    assert_eq!(head["size"], 3);
    let text = test.get(&test.a.owner, &format!("{log}/checkpoint")).await.is(200).text;
    assert_eq!(text, head["checkpoint"].as_str().unwrap());
    assert_eq!(note::Note::parse(&text).unwrap().checkpoint.origin, head["origin"].as_str().unwrap());
    test.get(&test.a.owner, &format!("{log}/checkpoint?size=9")).await.refused(404, "log_entry_not_found");
    for (path, status) in [
        ("tile/0/000.p/3", 200),
        ("tile/entries/000.p/3", 200),
        ("tile/0/000.p/4", 404),
        ("tile/0/000", 404),
        ("tile/0/..%2f000", 404),
        ("inclusion?index=1", 200),
        ("inclusion?index=3", 404),
        ("inclusion?index=18446744073709551615", 400),
        ("consistency?from=1&size=3", 200),
        ("consistency?from=0", 404),
    ] {
        let answer = test.get(&test.a.owner, &format!("{log}/{path}")).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        // Whoever has no log is told of none.
        assert_eq!(test.get(&test.b.owner, &format!("{log}/{path}")).await.status, 404, "{path}");
    }
    let listed = test.get(&test.a.owner, "/v1/receipts?limit=2").await.is(200);
    let numbers: Vec<u64> =
        listed.json.as_array().unwrap().iter().map(|r| r["logIndex"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    let next = format!("/v1/receipts?limit=2&cursor={}", listed.header("x-next-cursor"));
    assert_eq!(test.get(&test.a.owner, &next).await.is(200).json[0]["runId"], json!(runs[0]));
    assert_eq!(test.get(&test.b.owner, "/v1/receipts").await.is(200).json, json!([]));
}

/// Whoever deletes a run at once does not make it as if it had never been: it has a number first.
#[tokio::test]
async fn a_run_that_is_deleted_had_a_number() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "mine"})).await;
    let run = over(&test).await;
    test.delete(&test.a.owner, &format!("/v1/runs/{run}")).await.is(204);
    assert_eq!(test.get(&test.a.owner, "/v1/receipts/log").await.is(200).json["size"], 1);
    assert_eq!(test.get(&test.a.owner, "/v1/receipts").await.is(200).json, json!([]));
    test.get(&test.a.owner, &format!("/v1/runs/{run}/receipt")).await.refused(404, "run_not_found");
}
