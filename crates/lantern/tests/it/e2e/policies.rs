//! Policies by the real binary: what they forbid is not sent, a receipt says so, and a test on the past counts it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Redirect;
use axum::routing::get;
use lantern_net::http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::api::{Api, answer, said};
use super::process::{Folder, Server, lantern};
use super::provider::{Answer, Provider};

const POLICIES: &str = r#"
@id("no mini") forbid(principal, action == Action::"call_model", resource) when { context.model like "*-mini" };
@id("no calc for b") forbid(principal == Agent::"b", action == Action::"call_tool", resource == Tool::"calc");
"#;

fn file(folder: &Folder, text: &str) -> String {
    let path = folder.path().join("policies.cedar");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn steps(steps: &Value) -> Value {
    json!({"program": "steps", "maxCostUsd": 1.0, "steps": steps})
}

fn ask(model: &str) -> Value {
    json!({"id": "ask", "kind": "llm", "data": {"prompt": "hi", "model": model, "maxTokens": 50}})
}

fn sum() -> Value {
    json!({"id": "sum", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1+1"}}})
}

async fn exported(server: &Server, api: &Api, run: &str, to: &Path) {
    loop {
        let (_, listed) = api.get("/v1/receipts").await;
        if listed.as_array().unwrap().iter().any(|receipt| receipt["runId"] == run) {
            break;
        }
        super::api::tick().await;
    }
    answer(&said(server, api, &["receipts", "export", run, "--file", to.to_str().unwrap()]));
}

/// What `lantern verify` says of a file, with these policies.
fn verified(file: &Path, policies: &str) -> std::process::Output {
    let mut command = lantern();
    command.args(["verify", "--any-key", "-o", "json", "--policies", policies]).arg(file).output().unwrap()
}

/// The program in docs/verify.
fn other(file: &Path, keys: &Path) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    let mut command = std::process::Command::new(python);
    command.arg(root.join("docs/verify/verify.py")).arg("--key").arg(keys).arg(file);
    command.env("PYTHONDONTWRITEBYTECODE", "1").status().unwrap().success()
}

#[tokio::test]
async fn what_is_forbidden_is_tried_observed_and_then_not_sent() {
    let (folder, provider) = (Folder::new(), Provider::start(vec![Answer::Say("ok")]).await);
    let server = Server::dev_with(&folder.path().join("data"), &provider.env());
    let api = Api::of(&server).await;
    api.agent("a", steps(&json!([ask("gpt-4o-mini"), sum()]))).await;
    api.agent("b", steps(&json!([sum()]))).await;
    for agent in ["a", "b"] {
        let run = api.run(agent, json!({})).await;
        assert_eq!(api.ended(&run).await["status"], "succeeded", "{agent}");
    }
    let (_, listed) = api.get("/v1/runs?agent=a").await;
    let cost = listed[0]["costUsd"].as_f64().unwrap();
    assert!(cost > 0.0);

    // On the past: the call of the small model, and the sum of b.
    let policies = file(&folder, POLICIES);
    let tried = answer(&said(&server, &api, &["policy", "test", &policies]));
    assert_eq!(
        (&tried["runs"], &tried["allowed"], &tried["blocked"]),
        (&json!(2), &json!(1), &json!(2)),
        "{tried}"
    );
    assert_eq!(format!("{:.0}", cost * 1e6), tried["savedMicroUsd"].to_string(), "{tried}");
    assert_eq!(tried["policies"][0]["id"], "no calc for b");
    let of_b = answer(&said(&server, &api, &["policy", "test", &policies, "--agent", "b", "--since", "1h"]));
    assert_eq!((&of_b["blocked"], &of_b["savedMicroUsd"]), (&json!(1), &json!(0)));

    // A cap of each run: under a micro-dollar no call fits, and what a made would not have been spent.
    let words = ["policy", "test", &policies, "--agent", "a", "--max-cost-per-run", "0.000001"];
    let capped = answer(&said(&server, &api, &words));
    assert_eq!(
        (&capped["stoppedRuns"], &capped["stoppedMicroUsd"]),
        (&json!(1), &tried["savedMicroUsd"]),
        "{capped}"
    );

    // Observed: it is told, and happens.
    answer(&said(&server, &api, &["policy", "set", &policies, "--observe"]));
    let run = api.run("b", json!({})).await;
    assert_eq!(api.ended(&run).await["status"], "succeeded");

    // In force: neither the model nor the tool is asked.
    let calls = provider.calls().len();
    answer(&said(&server, &api, &["policy", "set", &policies]));
    for (agent, id) in [("a", "no mini"), ("b", "no calc for b")] {
        let run = api.run(agent, json!({})).await;
        let ended = api.ended(&run).await;
        assert_eq!(
            (&ended["status"], &ended["error"]["code"]),
            (&json!("failed"), &json!("policy_denied")),
            "{ended}"
        );
        assert!(ended.to_string().contains(id), "{ended}");
        let receipt = folder.path().join(format!("{agent}.json"));
        exported(&server, &api, &run, &receipt).await;
        let told = answer(&verified(&receipt, &policies));
        assert_eq!(told["derived"]["policyAnswersAskedAgain"], 1, "{told}");
        assert_eq!(told["derived"]["denials"], 1, "{told}");
        let keys = folder.path().join(format!("{agent}-keys.json"));
        answer(&said(&server, &api, &["receipts", "keys", "--file", keys.to_str().unwrap()]));
        assert!(other(&receipt, &keys), "the second verifier too");
    }
    assert_eq!(provider.calls().len(), calls, "nothing was sent");

    // The front doors answer in the words of their wires.
    let body =
        json!({"model": "gpt-4o-mini", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let (status, told) = api.post(path, &body).await;
        assert_eq!(status, 403, "{path}: {told}");
        assert!(told.to_string().contains("no mini"), "{path}: {told}");
    }
    assert_eq!(provider.calls().len(), calls);
    let (status, _) = api
        .post(
            "/v1/chat/completions",
            &json!({"model": "gpt-4o", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
        )
        .await;
    assert_eq!(status, 200, "another model may be asked");

    // What makes no sense is refused here, with its place, and by the server too.
    let wrong = file(&folder, "forbid(principal,\n  action, resource) when { context.nothing };");
    let refused = said(&server, &api, &["policy", "check", &wrong]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains(":2:"), "{words}");

    // The versions stay, in their order, and the end is one of them.
    answer(&said(&server, &api, &["policy", "off", "--force"]));
    let versions = answer(&said(&server, &api, &["policy", "list"]));
    let modes: Vec<&Value> = versions.as_array().unwrap().iter().map(|version| &version["mode"]).collect();
    assert_eq!(modes, ["off", "enforce", "observe"]);
    let run = api.run("b", json!({})).await;
    assert_eq!(api.ended(&run).await["status"], "succeeded");
}

async fn page(State(asked): State<Arc<Mutex<Vec<String>>>>, uri: Uri) -> Result<&'static str, Redirect> {
    asked.lock().unwrap().push(uri.path().to_owned());
    match uri.query() {
        Some(to) => Err(Redirect::temporary(to)),
        None => Ok("here"),
    }
}

#[tokio::test]
async fn a_host_is_asked_about_before_it_is_asked_and_where_it_leads_too() {
    let folder = Folder::new();
    let config = folder.path().join("lantern.toml");
    std::fs::write(&config, "[tools]\nprivate_addresses = [\"127.0.0.1\"]\n").unwrap();
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(&config);
    command.arg("--data-dir").arg(folder.path().join("data"));
    command.env("LANTERN_ADMIN_EMAIL", "ada@example.com");
    command.env("LANTERN_ADMIN_PASSWORD", "correct horse battery");
    let server = Server::start(command);
    let api = Api::login(&server, "ada@example.com", "correct horse battery").await;
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/{*path}", get(page)).with_state(asked.clone());
    #[expect(
        clippy::disallowed_methods,
        reason = "a peer of the process under test, which ends with the test"
    )]
    tokio::spawn(async move { axum::serve(listener, router).await });

    let text = r#"@id("no localhost") forbid(principal, action == Action::"reach_out", resource == Host::"localhost");"#;
    let saved = api.send(Method::PUT, "/v1/policies", Some(&json!({"text": text})), None).await;
    assert_eq!(saved.status().as_u16(), 200);
    let there = format!("http://127.0.0.1:{port}/there");
    let elsewhere = format!("http://localhost:{port}/elsewhere");
    for (url, code, saw) in [
        (there.clone(), None, vec!["/there"]),
        (elsewhere.clone(), Some("policy_denied"), vec![]),
        (format!("{there}?{elsewhere}"), Some("policy_denied"), vec!["/there"]),
    ] {
        asked.lock().unwrap().clear();
        let fetch =
            json!({"id": "page", "kind": "tool", "data": {"tool": "http.fetch", "arguments": {"url": url}}});
        api.agent("reader", steps(&json!([fetch]))).await;
        let run = api.run("reader", json!({})).await;
        let ended = api.ended(&run).await;
        assert_eq!(ended["error"]["code"].as_str(), code, "{url}: {ended}");
        assert_eq!(*asked.lock().unwrap(), saw, "{url}");
    }
    // Where they went is known to a test on the past.
    let text = r#"forbid(principal, action == Action::"reach_out", resource == Host::"127.0.0.1");"#;
    let (_, tried) = api.post("/v1/policies/test", &json!({"text": text})).await;
    assert_eq!(
        (&tried["blocked"], &tried["freed"], &tried["unknownHosts"]),
        (&json!(2), &json!(1), &json!(0)),
        "{tried}"
    );
}
