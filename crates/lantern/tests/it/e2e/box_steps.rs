//! Steps of programs in boxes that are more than a result, by the real binary: tools, people who are asked, and signals.
//!
//! Needs root and a runtime: compiled with the feature `boxes` alone.

use serde_json::{Value, json};

use super::api::Api;
use super::metered::verified;
use super::process::{NEVER, Server};
use super::workloads::{House, house, signed_in};
use crate::cli_fake::User;

impl House {
    /// A spec that asks us these things, each a path and a body, and more lines.
    fn asking(&self, verb: &str, asked: &[(&str, Value)], more: &str) -> String {
        let mut args = vec![verb.to_owned()];
        for (path, body) in asked {
            args.extend([(*path).to_owned(), String::new(), body.to_string()]);
        }
        let args = serde_json::to_string(&args).unwrap();
        let head =
            format!("spec:\n  image_digest: {}\n  isolation: trusted\n  network: allowlist\n", self.image);
        self.user.file("spec.yaml", format!("{head}  args: {args}\n{more}"))
    }
}

/// The status of an answer and what it says.
fn answered(line: &str) -> (u16, Value) {
    let mut words = line.splitn(3, ' ');
    let status = words.nth(1).unwrap().parse().unwrap();
    let body = line.find('{').map_or(Value::Null, |at| serde_json::from_str(line[at..].trim()).unwrap());
    (status, body)
}

/// What happened to a workload, by its word.
pub(super) fn events(told: &Value, action: &str) -> Vec<Value> {
    let events = told["events"].as_array().unwrap().iter();
    events.filter(|event| event["action"] == action).map(|event| event["attrs"].clone()).collect()
}

/// The last workload, and what happened to it.
pub(super) fn last(user: &User) -> Value {
    let listed: Value = serde_json::from_str(&user.run(&["vm", "list", "-o", "json"]).ok()).unwrap();
    let vm = listed[0]["vmId"].as_str().unwrap();
    serde_json::from_str(&user.run(&["vm", "get", vm, "-o", "json"]).ok()).unwrap()
}

const TOOL: &str = "/v1/steps/tool";

#[test]
fn a_program_calls_a_tool_once_by_its_key_within_its_steps() {
    let house = house();
    let sum = json!({"key": "sum", "name": "calc", "arguments": {"expression": "6*7"}});
    let wrong = json!({"key": "wrong", "name": "calc", "arguments": {"expression": "6*"}});
    let none = json!({"key": "none", "name": "box.run", "arguments": {}});
    let out = json!({"key": "out", "name": "http.fetch", "arguments": {"url": "http://203.0.113.1/"}});
    let more = json!({"key": "more", "value": 1});
    let spec = house.asking(
        "call",
        &[
            (TOOL, sum.clone()),
            (TOOL, sum),
            (TOOL, none),
            (TOOL, out),
            (TOOL, wrong),
            ("/v1/steps/record", more),
            ("/v1/steps/memory", json!({"key": "m"})),
            (TOOL, json!({"key": "x", "name": "calc", "arguments": 3})),
        ],
        "  limits: {max_steps: 2}\n",
    );
    let done = house.user.run(&["run", &spec]);
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<(u16, Value)> = done.out.lines().map(answered).collect();
    let (first, second) = (&lines[0], &lines[1]);
    assert_eq!((first.0, &first.1["value"]["ok"]), (200, &json!(true)), "{done:?}");
    assert!(first.1["value"]["output"].to_string().contains("42"), "{done:?}");
    assert_eq!(first, second, "the same call");
    assert_eq!((lines[2].0, &lines[2].1["code"]), (409, &json!("tool_unknown")), "{done:?}");
    assert_eq!((lines[3].0, &lines[3].1["code"]), (409, &json!("tool_not_allowed")), "{done:?}");
    assert_eq!((lines[4].0, &lines[4].1["value"]["ok"]), (200, &json!(false)), "{done:?}");
    assert_eq!((lines[5].0, &lines[5].1["code"]), (409, &json!("too_many_steps")), "{done:?}");
    assert_eq!((lines[6].0, &lines[6].1["code"]), (501, &json!("not_built")), "{done:?}");
    assert_eq!(lines[7].0, 400, "{done:?}");
    let told = last(&house.user);
    let tools = events(&told, "tool");
    assert_eq!(tools.len(), 2, "{told:#}");
    assert_eq!((&tools[0]["key"], &tools[0]["ok"]), (&json!("sum"), &json!(true)), "{told:#}");
    // The call is a run of its own, which says whose it is.
    let run = tools[0]["runId"].as_str().unwrap();
    let shown: Value =
        serde_json::from_str(&house.user.run(&["runs", "get", run, "-o", "json"]).ok()).unwrap();
    assert_eq!(shown["status"], "succeeded", "{shown:#}");
    assert_eq!(shown["labels"]["workload"], told["vm"]["vmId"], "{shown:#}");
    verified(&house.user, run);
    verified(&house.user, told["vm"]["runId"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_decides_what_a_program_asks_and_a_signal_reaches_it_also_after_a_kill() {
    let house = tokio::task::spawn_blocking(house).await.unwrap();
    let address = house.server.api.strip_prefix("http://").unwrap().to_owned();
    let ask = |key: &str, reason: &str| ("/v1/steps/approval", json!({"key": key, "reason": reason}));
    let spec = house.asking(
        "call",
        &[
            ask("pay", "pay {{input.reason}} 5 dollars?"),
            ask("more", "and more?"),
            ("/v1/steps/signal", json!({"key": "one", "name": "go"})),
            ("/v1/steps/signal", json!({"key": "two", "name": "go"})),
            ("/v1/steps/signal", json!({"key": "never", "name": "other", "timeoutSeconds": 1})),
        ],
        "  idempotent: true\n",
    );
    let api = Api::of(&house.server).await;
    let mut following = house.user.begin(&["run", &spec]);
    decide(&api, "pay {{input.reason}} 5 dollars?", true).await;
    let (status, paid) = answered(&following.line());
    assert_eq!((status, &paid["value"]["ok"]), (200, &json!(true)), "{paid}");
    // Its server dies while it asks the next thing. Its next life hears what was decided, and the question is the same one.
    let open = question(&api, "and more?").await;
    let House { folder, server, .. } = house;
    server.kill();
    let (server, user) = tokio::task::spawn_blocking({
        let path = folder.path().to_owned();
        move || {
            let server = Server::dev_at(&address, &path, &[]);
            let user = signed_in(&server);
            (server, user)
        }
    })
    .await
    .unwrap();
    let api = Api::of(&server).await;
    assert_eq!(answered(&following.line()), (200, paid), "its second life");
    assert_eq!(question(&api, "and more?").await, open);
    decide(&api, "and more?", false).await;
    let (status, denied) = answered(&following.line());
    assert_eq!((status, &denied["value"]["code"]), (200, &json!("approval_denied")), "{denied}");
    let run = last(&user)["vm"]["runId"].as_str().unwrap().to_owned();
    for value in ["first", "second"] {
        let (status, told) = api.post(&format!("/v1/runs/{run}/signals/go"), &json!({"value": value})).await;
        assert!(status < 300, "{told}");
    }
    for value in ["first", "second"] {
        let (status, heard) = answered(&following.line());
        assert_eq!((status, &heard["value"]["value"]), (200, &json!(value)), "{heard}");
    }
    let (status, none) = answered(&following.line());
    assert_eq!((status, &none["value"]["received"]), (200, &json!(false)), "{none}");
    assert_eq!(following.end().code, 0);
    let told = last(&user);
    assert_eq!((events(&told, "approval").len(), events(&told, "signal").len()), (2, 3), "{told:#}");
    verified(&user, &run);
    assert!(server.stop().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_goes_with_the_box_that_asked_it() {
    let house = tokio::task::spawn_blocking(house).await.unwrap();
    let api = Api::of(&house.server).await;
    let asked = json!({"key": "late", "reason": "anybody there?"});
    let spec = house.asking("call", &[("/v1/steps/approval", asked)], "");
    let following = house.user.begin(&["run", &spec]);
    let id = question(&api, "anybody there?").await;
    let vm = last(&house.user)["vm"]["vmId"].as_str().unwrap().to_owned();
    house.user.run(&["vm", "stop", &vm, "--grace", "0"]).ok();
    drop(following.end());
    let withdrawn = async {
        while api.get(&format!("/v1/approvals/{id}")).await.1["status"] == "pending" {
            super::api::tick().await;
        }
    };
    tokio::time::timeout(NEVER, withdrawn).await.unwrap();
    let (_, asked) = api.get(&format!("/v1/approvals/{id}")).await;
    assert_eq!(asked["status"], "withdrawn", "{asked}");
}

/// The question with this reason, once it is in the inbox.
async fn question(api: &Api, reason: &str) -> String {
    let found = async {
        loop {
            let (_, open) = api.get("/v1/approvals").await;
            let all = open["data"].as_array().or_else(|| open.as_array()).cloned().unwrap_or_default();
            if let Some(one) = all.iter().find(|one| one["reason"] == reason) {
                return one["id"].as_str().unwrap().to_owned();
            }
            super::api::tick().await;
        }
    };
    tokio::time::timeout(NEVER, found).await.unwrap()
}

async fn decide(api: &Api, reason: &str, granted: bool) {
    let id = question(api, reason).await;
    let verb = if granted { "grant" } else { "deny" };
    let (status, told) = api.post(&format!("/v1/approvals/{id}/{verb}"), &json!({})).await;
    assert!(status < 300, "{told}");
}
