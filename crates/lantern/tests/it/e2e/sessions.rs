//! Sessions over the real binary: a kill in the middle, two processes on one database, and the command line.

use std::io::Write as _;
use std::process::Stdio;

use lantern_net::sse::Event;
use lantern_store::testing::{Cluster, Folder as Home};
use serde_json::{Value, json};

use super::api::Api;
use super::cluster::{LOGIN, serve};
use super::process::{Folder, Server, lantern, signal};
use super::provider::{Answer, Provider};

async fn begun(api: &Api, agent: &str) -> String {
    let (status, made) = api.post("/v1/sessions", &json!({"agentName": agent})).await;
    assert_eq!(status, 201, "{made}");
    format!("/v1/sessions/{}", made["id"].as_str().unwrap())
}

async fn says(api: &Api, session: &str, content: &str) -> String {
    let (status, taken) = api.post(&format!("{session}/messages"), &json!({"content": content})).await;
    assert_eq!(status, 202, "{taken}");
    taken["runId"].as_str().unwrap().to_owned()
}

fn words(body: &Value) -> Vec<&str> {
    body["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap_or_default()).collect()
}

fn kind(event: &Event) -> String {
    let frame: Value = serde_json::from_str(&event.data).unwrap();
    frame["type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_conversation_survives_a_kill_in_the_middle_of_an_answer() {
    let folder = Folder::new();
    let answers = vec![
        Answer::Say("hello Ada"),
        Answer::Call("calc", json!({"expression": "2+2"})),
        Answer::Hang,
        Answer::Say("four"),
        Answer::Say("you are Ada"),
    ];
    let provider = Provider::start(answers).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("talks", json!({"tools": ["calc"], "model": "gpt-4o"})).await;
    let session = begun(&api, "talks").await;
    api.ended(&says(&api, &session, "my name is Ada").await).await;
    let second = says(&api, &session, "2+2?").await;
    provider.called(3).await;
    assert_eq!(api.get(&session).await.1["status"], "processing");
    server.kill();

    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    assert_eq!(api.ended(&second).await["output"]["result"], "four");
    assert_eq!(api.get(&session).await.1["status"], "active", "a crash leaves nothing stuck");
    let third = says(&api, &session, "who am I?").await;
    assert_eq!(api.ended(&third).await["output"]["result"], "you are Ada");

    let calls = provider.calls();
    assert_eq!(calls.len(), 5, "no call that was over was made again");
    assert_eq!(calls[2].0, calls[3].0, "the one that was cut went out again under its own key");
    let asked = words(&calls[4].1);
    assert_eq!(
        asked,
        ["my name is Ada", "hello Ada", "2+2?", "", r#"{"exact":true,"value":4}"#, "four", "who am I?"],
        "{asked:?}"
    );

    let path = format!("{session}/events?live=false");
    let told = api.heard(&path, |_| false).await;
    let kinds: Vec<String> = told.iter().map(kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "user.message").count(), 3);
    assert_eq!(kinds.iter().filter(|kind| *kind == "session.status_idle").count(), 3);
    // A replay of an exchange is free, and asks nobody.
    let (status, replay) = api.post(&format!("/v1/runs/{second}/replay"), &json!({})).await;
    assert_eq!(status, 201, "{replay}");
    let replay = api.ended(replay["id"].as_str().unwrap()).await;
    assert_eq!((&replay["status"], &replay["costUsd"]), (&json!("succeeded"), &json!(0.0)), "{replay}");
    assert_eq!(provider.calls().len(), 5);
}

#[test]
fn what_one_process_says_is_heard_at_another() {
    lantern_store::testing::block_on(async {
        let database = Cluster::shared().database().await;
        let options = database.options();
        let (app, system) = (options.app_url.expose(), options.system_url.expose());
        let provider = Provider::start(vec![Answer::Say("first"), Answer::Talk]).await;
        let (here, there) = (Home::new("answers"), Home::new("listens"));
        // Alone while the first message is answered.
        let answers = serve(&here, app, system, &provider);
        let api = Api::login(&answers, LOGIN.0, LOGIN.1).await;
        api.agent("talks", json!({"model": "gpt-4o"})).await;
        let session = begun(&api, "talks").await;
        api.ended(&says(&api, &session, "one").await).await;

        let listens = serve(&there, app, system, &provider);
        let listener = Api::login(&listens, LOGIN.0, LOGIN.1).await;
        let path = format!("{session}/events");
        let (text, busy) = tokio::join!(
            listener.heard(&path, |event| kind(event) == "agent.delta"),
            // Taken at one process or the other, and refused at both while it is answered.
            async {
                let run = says(&api, &session, "two").await;
                provider.called(2).await;
                let posts = [&api, &listener].map(|api| {
                    let path = format!("{session}/messages");
                    async move { api.post(&path, &json!({"content": "x"})).await }
                });
                let [one, other] = posts;
                (run, one.await, other.await)
            }
        );
        let (run, one, other) = busy;
        for (status, refusal) in [one, other] {
            assert_eq!(
                (status, &refusal["code"], &refusal["runId"]),
                (409, &json!("session_busy"), &json!(run))
            );
        }
        let kinds: Vec<String> = text.iter().map(kind).collect();
        assert_eq!(kinds[..2], ["connected", "user.message"], "what was said before it came");
        assert!(text.last().unwrap().data.contains("word "));
        let seen = text.iter().rev().find_map(|event| event.id.clone()).unwrap();
        let rest = format!("{path}?after={seen}");
        let (rest, ()) =
            tokio::join!(listener.heard(&rest, |event| kind(event) == "session.stopped"), async {
                provider.hush();
                api.ended(&run).await;
                let (status, stopped) = api.post(&format!("{session}/stop"), &json!({})).await;
                assert_eq!((status, stopped), (200, json!({"status": "stopped"})));
            });
        let stored: Vec<String> = rest.iter().map(kind).filter(|kind| kind != "agent.delta").collect();
        assert_eq!(stored, ["connected", "agent.message", "session.status_idle", "session.stopped"]);
        drop((answers, listens));
        database.discard().await;
    });
}

// The provider answers while this waits for the command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_talks() {
    let folder = Folder::new();
    let answers = vec![Answer::Say("hello"), Answer::Say("again"), Answer::Talk];
    let provider = Provider::start(answers).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    api.agent("talks", json!({"model": "gpt-4o"})).await;
    let command = |args: &[&str]| {
        let mut command = lantern();
        command.args(args).env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", &api.token);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let said = |args: &[&str]| -> Value {
        let output = command(&[args, &["-o", "json"]].concat()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let mut chat = command(&["chat", "talks"]).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"one\n\ntwo\n/quit\nthree\n").unwrap();
    let output = chat.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello\nagain\n");

    let listed = said(&["sessions", "list"]);
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&listed[0]["exchanges"], &listed[0]["messages"][1]["content"]), (&json!(2), &json!("again")));
    // Ctrl-C breaks the answer off, and the session goes on.
    let mut chat = command(&["chat", "--session", &id]).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    input.write_all(b"three\n").unwrap();
    provider.called(3).await;
    signal(chat.id(), "-INT");
    let session = format!("/v1/sessions/{id}");
    api.heard(&format!("{session}/events"), |event| event.data.contains("\"cancelled\"")).await;
    drop(input);
    let output = chat.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("the session goes on"));
    let shown = said(&["sessions", "get", &id]);
    assert_eq!(
        (&shown["status"], &shown["messages"][5]["error"]),
        (&json!("active"), &json!("cancelled: interrupted")),
        "{shown}"
    );

    provider.hush();
    let taken = said(&["sessions", "send", &id, "four", "--no-tools"]);
    api.ended(taken["runId"].as_str().unwrap()).await;
    assert_eq!(said(&["sessions", "stop", &id]), json!({"status": "stopped"}));
    let events = command(&["sessions", "events", &id]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(events.stdout).unwrap();
    assert!(text.contains("> one\nhello\n") && text.contains("the session was stopped"), "{text}");
    let refused = command(&["sessions", "send", &id, "five"]).stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("session_stopped"));
    let made = said(&["sessions", "create", "--agent", "talks"]);
    assert_eq!(said(&["sessions", "delete", &id, "--force"]), json!({"id": id, "deleted": true}));
    let left = said(&["sessions", "list"]);
    assert_eq!((left.as_array().unwrap().len(), &left[0]["id"]), (1, &made["id"]));
}

#[tokio::test]
async fn a_message_whose_run_goes_on_as_new_ones_is_one_exchange() {
    let folder = Folder::new();
    let sums = (1..=6).map(|n| Answer::Call("calc", json!({"expression": format!("{n}+{n}")})));
    let answers = sums.chain([Answer::Say("all six"), Answer::Say("they were sums")]).collect();
    let provider = Provider::start(answers).await;
    let file = folder.path().join("lantern.toml");
    std::fs::write(&file, "[limits]\neventsPerRunMax = 20\n").unwrap();
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(&file);
    command.arg("--data-dir").arg(folder.path().join("data")).envs(provider.env());
    command
        .env("LANTERN_ADMIN_EMAIL", "ada@example.com")
        .env("LANTERN_ADMIN_PASSWORD", "correct horse battery");
    let server = Server::start(command);
    let api = Api::login(&server, "ada@example.com", "correct horse battery").await;
    api.agent("sums", json!({"tools": ["calc"], "model": "gpt-4o"})).await;
    let session = begun(&api, "sums").await;

    let first = says(&api, &session, "six sums").await;
    let (mut last, mut runs) = (api.ended(&first).await, 1);
    while let Some(next) = last["continuedAs"].as_str() {
        // It is named before it is begun.
        api.until(next, |run| run["id"].is_string()).await;
        last = api.ended(next).await;
        runs += 1;
    }
    assert!(runs > 1, "its journal was never full: {last}");
    assert_eq!(last["output"]["result"], "all six", "{last}");
    let (_, shown) = api.get(&session).await;
    assert_eq!(shown["status"], "active", "{shown}");
    let said = words(&shown);
    assert_eq!((said.first(), said.last()), (Some(&"six sums"), Some(&"all six")), "{said:?}");

    let second = says(&api, &session, "what were they?").await;
    assert_eq!(api.ended(&second).await["output"]["result"], "they were sums");
    let calls = provider.calls();
    assert_eq!(calls.len(), 8);
    let asked = words(&calls[7].1);
    assert_eq!((asked.first(), asked.last()), (Some(&"six sums"), Some(&"what were they?")), "{asked:?}");
    assert!(asked.contains(&"all six"), "{asked:?}");
    for n in 1..=6 {
        let sum = format!("\"value\":{}}}", 2 * n);
        assert!(asked.iter().any(|words| words.ends_with(&sum)), "{sum}: {asked:?}");
    }
}
