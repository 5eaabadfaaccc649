//! What is left of the contract's control plane, by the real binary: money of a session and of a day somewhere, what people think,
//! agents to begin with, and answers that need no body.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Output;

use serde_json::{Value, json};

use super::api::{Api, answer, said};
use super::process::{Folder, Server};
use super::provider::{Answer, Provider};

fn refused(output: &Output) -> Value {
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_str(words.lines().last().unwrap()).unwrap()
}

/// What a client reads until the connection ends.
fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.api.trim_start_matches("http://")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn a_session_never_costs_more_than_its_cap() {
    let folder = Folder::new();
    let provider = Provider::start(vec![Answer::Say("hello")]).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("talks", json!({"model": "gpt-4o", "maxTokens": 20, "retry": {"maxAttempts": 1}})).await;
    let made =
        answer(&said(&server, &api, &["sessions", "create", "--agent", "talks", "--max-cost-usd", "0.002"]));
    let session = format!("/v1/sessions/{}", made["id"].as_str().unwrap());
    let (mut taken, mut refused) = (0, 0);
    while refused == 0 {
        let body = json!({"content": "hi"});
        let messages = format!("{session}/messages");
        // Two at once: one of them waits for its turn, in the client's hands.
        let (one, two) = tokio::join!(api.post(&messages, &body), api.post(&messages, &body));
        for (status, answered) in [one, two] {
            match status {
                202 => {
                    api.ended(answered["runId"].as_str().unwrap()).await;
                    taken += 1;
                }
                402 => {
                    assert_eq!(
                        (&answered["code"], &answered["reason"]),
                        (&json!("budget_exceeded"), &json!("session"))
                    );
                    refused += 1;
                }
                _ => assert_eq!((status, &answered["code"]), (409, &json!("session_busy")), "{answered}"),
            }
        }
        let shown = api.get(&session).await.1;
        let cost = |name: &str| shown[name].as_f64().unwrap();
        assert!(cost("costUsd") <= cost("maxCostUsd"), "{shown}");
        assert_eq!(cost("maxCostUsd").to_string(), "0.002");
        // A message that can no longer be afforded is denied by its run, and another may not be taken for ever.
        let last = api.get(&format!("/v1/runs/{}", shown["lastRunId"].as_str().unwrap())).await.1;
        if last["error"]["code"] == "run_budget_exceeded" {
            refused += 1;
        }
    }
    assert!(taken > 1, "{taken} messages were taken");
    assert!(provider.calls().len() <= taken, "what was refused was never sent");
}

#[tokio::test]
async fn agents_feedback_zones_and_refusals_are_those_of_the_contract() {
    let folder = Folder::new();
    let server = Server::dev(folder.path());
    let api = Api::of(&server).await;

    let made = answer(&said(&server, &api, &["agents", "from-template", "tool-use", "--name", "sums"]));
    assert_eq!((&made["agent"]["name"], &made["nextSteps"]), (&json!("sums"), &json!([])));
    let caps = answer(&said(&server, &api, &["caps", "--agent", "sums", "--time-zone", "america/new_york"]));
    assert_eq!((&caps[0]["timeZone"], &caps[0]["maxCostUsd"]), (&json!("America/New_York"), &json!(1.0)));
    let error = refused(&said(&server, &api, &["caps", "--day", "1", "--time-zone", "New York"]));
    assert!(error["details"][0].as_str().unwrap().contains("America/New_York"), "{error}");
    let error = refused(&said(&server, &api, &["agents", "from-template", "jarvis-brief"]));
    assert_eq!(error["code"], "template_unsupported", "{error}");

    let run = api.run("sums", json!({"text": "1+1"})).await;
    api.ended(&run).await;
    answer(&said(&server, &api, &["runs", "rate", &run, "--score", "1", "--comment", "too slow"]));
    let thought = answer(&said(&server, &api, &["runs", "feedback", &run]));
    assert_eq!((&thought[0]["comment"], &thought[0]["source"]), (&json!("too slow"), &json!("cli")));
    assert_eq!(answer(&said(&server, &api, &["agents", "feedback", "sums"]))["thumbsDown"], 1);
    let cases = answer(&said(&server, &api, &["runs", "rehearse", "--agent", "sums"]));
    assert_eq!((&cases["count"], &cases["cases"][0]["originalRunId"]), (&json!(1), &json!(run)));

    answer(&said(&server, &api, &["stop", "--agent", "sums", "--reason", "enough"]));
    let stop = answer(&said(&server, &api, &["stops", "list"]))[0]["id"].as_str().unwrap().to_owned();
    answer(&said(&server, &api, &["stops", "lift", &stop]));
    let told = answer(&said(&server, &api, &["stops", "history"]));
    let told: Vec<(&str, &str)> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["event"].as_str().unwrap(), event["stopId"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("lifted", stop.as_str()), ("set", stop.as_str())]);

    let (status, error) = api.post("/v1/agents/sums/deploy", &json!({})).await;
    assert_eq!((status, &error["code"]), (501, &json!("not_built")), "{error}");
    let get = |more: &str| {
        let bearer = format!("authorization: Bearer {}\r\n", api.token);
        raw(
            &server,
            &format!("GET /v1/runs/{run} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{bearer}{more}\r\n"),
        )
    };
    let whole = get("");
    let tag = whole.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = get(&format!("if-none-match: {tag}\r\n"));
    assert!(whole.starts_with("HTTP/1.1 200") && again.starts_with("HTTP/1.1 304"), "{again}");
    assert_eq!(again.split_once("\r\n\r\n").unwrap().1, "");
    // Nobody has to send gigabytes to be told that they are too many.
    let head = "POST /v1/agents HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999\r\n";
    let refused = raw(&server, &format!("{head}authorization: Bearer {}\r\n\r\n", api.token));
    assert!(refused.starts_with("HTTP/1.1 413") && refused.contains("body_too_large"), "{refused}");
}
