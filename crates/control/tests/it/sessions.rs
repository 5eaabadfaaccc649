//! Sessions: what each message is told, one exchange at a time, the end of it, and who may see it.

use axum::response::Response;
use http_body_util::BodyExt as _;
use lantern_engine::Input;
use lantern_store::db_test;
use lantern_store::notify::Delta;
use lantern_types::llm::Role;
use lantern_types::{Dur, Failure, Limits};
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, Wishes, on_both, request};
use crate::hand::Hand;

async fn begun(test: &TestApp, agent: Value) -> String {
    let name = test.agent(agent).await["name"].clone();
    let made = test.post(&test.a.owner, "/v1/sessions", json!({"agentName": name})).await.is(201);
    assert_eq!(made.json["status"], "active");
    let id = made.json["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/v1/sessions/{id}"));
    format!("/v1/sessions/{id}")
}

async fn post(test: &TestApp, session: &str, body: Value) -> Answer {
    test.post(&test.a.owner, &format!("{session}/messages"), body).await
}

/// Sends a message, and takes the run that answers it as far as it goes by itself.
async fn says(test: &TestApp, session: &str, body: Value) -> (String, Hand) {
    let taken = post(test, session, body).await.is(202).json;
    assert_eq!(taken["status"], "processing");
    let run = taken["runId"].as_str().unwrap().to_owned();
    let mut hand = Hand::take(test, &run).await;
    hand.give(Input::Wake).await;
    (run, hand)
}

fn words(hand: &Hand, step: &str) -> Vec<String> {
    hand.prompt(step).messages.iter().map(|message| message.content.clone()).collect()
}

async fn get(test: &TestApp, path: &str) -> Value {
    test.get(&test.a.owner, path).await.is(200).json
}

db_test!(each_message_is_a_run_that_is_told_what_was_said_before, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a", "systemPrompt": "be kind", "tools": ["calc"]})).await;
    let (run, mut hand) = says(&test, &session, json!({"content": "my name is Ada"})).await;
    assert_eq!(words(&hand, "llm-1"), ["be kind", "my name is Ada"]);
    let shown = get(&test, &session).await;
    assert_eq!((&shown["status"], &shown["lastRunId"]), (&json!("processing"), &json!(run)));
    hand.asks("llm-1", "", &[("calc", json!({"expression": "1+1"}))]).await;
    hand.returns("llm-1.tool-1", json!("2")).await;
    hand.replies("llm-2", "hello Ada").await;

    let shown = get(&test, &session).await;
    assert_eq!((&shown["status"], &shown["exchanges"]), (&json!("active"), &json!(1)));
    let messages = shown["messages"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        messages.iter().map(|m| (m["role"].as_str().unwrap(), m["content"].as_str().unwrap())).collect();
    assert_eq!(told, [("user", "my name is Ada"), ("assistant", ""), ("assistant", "hello Ada")]);
    let calls =
        json!([{"name": "calc", "args": "{\"expression\":\"1+1\"}", "result": "2", "status": "completed"}]);
    assert_eq!(messages[1]["toolCalls"], calls);

    let (second, mut hand) = says(&test, &session, json!({"content": "who am I?"})).await;
    assert_eq!(words(&hand, "llm-1"), ["be kind", "my name is Ada", "", "2", "hello Ada", "who am I?"]);
    hand.replies("llm-1", "Ada").await;
    // Turns and calls began anew, and money and journals are the runs'.
    let row = get(&test, &format!("/v1/runs/{second}")).await;
    let id = session.rsplit('/').next().unwrap();
    assert_eq!((&row["sessionId"], &row["triggerKind"]), (&json!(id), &json!("session")));
    assert_eq!(
        (&row["input"], row["costUsd"].as_f64() > Some(0.0)),
        (&json!({"message": "who am I?"}), true)
    );
    let listed = get(&test, &format!("/v1/runs?sessionId={id}")).await;
    assert_eq!(listed.as_array().unwrap().len(), 2);

    // A replay costs nothing and needs nobody; a fork recalls what its run did.
    let replay = test.post(&test.a.owner, &format!("/v1/runs/{second}/replay"), json!({})).await.is(201).json;
    let replay = replay["id"].as_str().unwrap();
    Hand::take(&test, replay).await.give(Input::Wake).await;
    let over = get(&test, &format!("/v1/runs/{replay}")).await;
    assert_eq!((&over["status"], &over["costUsd"]), (&json!("succeeded"), &json!(0.0)));
    assert_eq!(over["output"]["result"], "Ada");
    let fork = json!({"fromStep": "llm-1", "input": {"message": "and I?"}});
    let fork = test.post(&test.a.owner, &format!("/v1/runs/{second}/fork"), fork).await.is(201).json;
    let mut hand = Hand::take(&test, fork["id"].as_str().unwrap()).await;
    hand.give(Input::Wake).await;
    assert_eq!(words(&hand, "llm-1")[4..], ["hello Ada", "and I?"]);
    assert_eq!(get(&test, &session).await["exchanges"], 2, "neither is said in the session");
});

db_test!(exchanges_that_failed_or_were_cancelled_leave_a_whole_conversation, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a", "tools": ["calc"], "retry": {"maxAttempts": 1}})).await;
    let (_, mut hand) = says(&test, &session, json!({"content": "one"})).await;
    hand.fails("llm-1", Failure::refused("provider_refused", "no")).await;
    let (run, mut hand) = says(&test, &session, json!({"content": "two"})).await;
    hand.asks("llm-1", "let me see", &[("calc", json!({})), ("no such", json!({}))]).await;
    let cancel = format!("/v1/runs/{run}/cancel");
    let cancel = test.post(&test.a.owner, &cancel, json!({}));
    let (cancelled, ()) = tokio::join!(cancel, async {
        while hand.drain().await == 0 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(cancelled.is(200).json["status"], "cancelled");
    let (_, hand) = says(&test, &session, json!({"content": "three"})).await;
    let asked = hand.prompt("llm-1").messages;
    let roles: Vec<Role> = asked.iter().map(|message| message.role).collect();
    use Role::{Assistant, Tool, User};
    assert_eq!(roles, [User, Assistant, User, Assistant, Tool, Tool, Assistant, User]);
    assert_eq!(
        (&*asked[1].content, &*asked[6].content),
        ("[no reply: provider_refused]", "[no reply: cancelled]")
    );
    assert_eq!(asked[3].tool_calls.len(), 2, "each call has its result");
    let shown = get(&test, &session).await;
    assert_eq!(shown["messages"][1]["error"], "provider_refused: no");
    assert_eq!(shown["messages"][3]["toolCalls"][0]["status"], "failed");
});

db_test!(of_messages_at_once_one_is_taken, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a"})).await;
    let posts = (0..8).map(|n| post(&test, &session, json!({"content": format!("{n}")})));
    let answers = futures_util::future::join_all(posts).await;
    let mut taken = None;
    for answer in answers {
        if answer.status == 202 {
            assert!(taken.replace(answer.json["runId"].clone()).is_none(), "one");
        } else {
            answer.refused(409, "session_busy");
        }
    }
    let run = taken.unwrap();
    let refused = post(&test, &session, json!({"content": "x"})).await.refused(409, "session_busy");
    assert_eq!((&refused.json["runId"], refused.header("retry-after")), (&run, "1"));
    assert_eq!(get(&test, &session).await["exchanges"], 1);
    assert_eq!(get(&test, "/v1/runs").await.as_array().unwrap().len(), 1, "and one run was made");
});

db_test!(a_key_sends_a_message_once, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a"})).await;
    let token = test.key(&["write"]).await;
    let send = |content: &'static str| {
        let body = Some(json!({"content": content}));
        let mut request = request("POST", &format!("{session}/messages"), Some(&token), body);
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        test.send(request)
    };
    let first = send("hi").await.is(202);
    let again = send("hi").await.is(202);
    assert_eq!((&again.json, again.header("idempotent-replayed")), (&first.json, "true"));
    send("other").await.refused(409, "idempotency_mismatch");
    let mut hand = Hand::take(&test, first.json["runId"].as_str().unwrap()).await;
    hand.give(Input::Wake).await;
    hand.replies("llm-1", "hello").await;
    // What was answered is forgotten in a day; the run is known as long as it is there.
    test.clock.pass(Dur::from_secs(25 * 3_600));
    let late = send("hi").await.is(202);
    assert_eq!(late.json["runId"], first.json["runId"]);
    let shown = test.get(&token, &session).await.is(200).json;
    assert_eq!(shown["exchanges"], 1);
});

db_test!(a_stopped_session_stays_so, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a"})).await;
    let (run, mut hand) = says(&test, &session, json!({"content": "hi"})).await;
    // The reply arrives while it is being stopped, before the order to stop is taken in.
    let path = format!("{session}/stop");
    let stop = test.post(&test.a.owner, &path, json!({}));
    let late = async {
        while get(&test, &session).await["status"] != "stopped" {
            tokio::task::yield_now().await;
        }
        hand.replies("llm-1", "too late").await;
    };
    let (stopped, ()) = tokio::join!(stop, late);
    assert_eq!(stopped.is(200).json, json!({"status": "stopped"}));
    assert_eq!(get(&test, &format!("/v1/runs/{run}")).await["status"], "succeeded");
    assert_eq!(get(&test, &session).await["status"], "stopped");
    post(&test, &session, json!({"content": "more"})).await.refused(409, "session_stopped");
    let again = test.post(&test.a.owner, &format!("{session}/stop"), json!({})).await.is(200);
    assert_eq!(again.json, json!({"status": "stopped"}));
});

db_test!(a_session_goes_with_all_that_was_said, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a"})).await;
    let (first, mut hand) = says(&test, &session, json!({"content": "secret"})).await;
    hand.replies("llm-1", "told").await;
    let (second, mut hand) = says(&test, &session, json!({"content": "more"})).await;
    let delete = test.delete(&test.a.owner, &session);
    let (deleted, ()) = tokio::join!(delete, async {
        while hand.drain().await == 0 {
            tokio::task::yield_now().await;
        }
    });
    deleted.is(204);
    test.get(&test.a.owner, &session).await.refused(404, "session_not_found");
    test.delete(&test.a.owner, &session).await.refused(404, "session_not_found");
    for run in [first, second] {
        test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.refused(404, "run_not_found");
    }
    post(&test, &session, json!({"content": "hi"})).await.refused(404, "session_not_found");
});

#[tokio::test(start_paused = true)]
async fn one_that_nobody_stops_is_not_deleted_under_its_run() {
    let test = TestApp::new().await;
    let session = begun(&test, json!({"name": "a"})).await;
    let (_, mut hand) = says(&test, &session, json!({"content": "hi"})).await;
    // Nobody takes the order to stop in.
    test.delete(&test.a.owner, &session).await.refused(409, "session_busy");
    assert_eq!(get(&test, &session).await["status"], "stopped");
    hand.drain().await;
    test.delete(&test.a.owner, &session).await.is(204);
}

async fn listed(test: &TestApp) {
    let mut sessions = Vec::new();
    for n in 0..3 {
        sessions.push(begun(test, json!({"name": format!("a{n}")})).await);
    }
    let (_, mut hand) = says(test, &sessions[0], json!({"content": "hi"})).await;
    hand.replies("llm-1", &"x".repeat(40_000)).await;
    let page = test.get(&test.a.owner, "/v1/sessions?limit=2").await.is(200);
    let names = |page: &Value| -> Vec<String> {
        page.as_array().unwrap().iter().map(|s| s["agentName"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&page.json), ["a0", "a2"], "the one that took a message last comes first");
    let messages = &page.json[0]["messages"];
    assert_eq!((&messages[0]["content"], &messages[1]["omitted"]), (&json!("hi"), &json!(true)));
    assert_eq!((&messages[1]["content"], &page.json[1]["messages"]), (&json!(""), &json!([])));
    let next = page.header("link").split(['<', '>']).nth(1).unwrap().to_owned();
    let rest = test.get(&test.a.owner, &next).await.is(200);
    assert_eq!((names(&rest.json), rest.header("link")), (vec!["a1".to_owned()], ""));
    assert_eq!(test.get(&test.b.owner, "/v1/sessions").await.is(200).json, json!([]));
}

on_both! {
    sessions_are_listed_with_their_last_exchange: listed;
}

#[tokio::test]
async fn a_long_session_is_read_in_pieces() {
    let test = TestApp::new().await;
    let session = begun(&test, json!({"name": "a"})).await;
    for n in 1..=3 {
        let (_, mut hand) = says(&test, &session, json!({"content": format!("q{n}")})).await;
        hand.replies("llm-1", &format!("a{n}")).await;
    }
    let contents = |shown: &Value| -> Vec<String> {
        let messages = shown["messages"].as_array().unwrap().iter();
        messages.map(|m| m["content"].as_str().unwrap().to_owned()).collect()
    };
    let last = get(&test, &format!("{session}?limit=2")).await;
    assert_eq!(
        (contents(&last), &last["earlier"]),
        (vec!["q2".into(), "a2".into(), "q3".into(), "a3".into()], &json!(2))
    );
    let first = get(&test, &format!("{session}?before=2")).await;
    assert_eq!((contents(&first), first.get("earlier")), (vec!["q1".into(), "a1".into()], None));
    test.get(&test.a.owner, &format!("{session}?before=0")).await.refused(400, "invalid_query");
    // A run of it that was deleted leaves a gap.
    let run = last["lastRunId"].as_str().unwrap();
    test.delete(&test.a.owner, &format!("/v1/runs/{run}")).await.is(204);
    assert_eq!(contents(&get(&test, &session).await), ["q1", "a1", "q2", "a2"]);
    let (_, hand) = says(&test, &session, json!({"content": "q4"})).await;
    assert_eq!(words(&hand, "llm-1"), ["q1", "a1", "q2", "a2", "q4"]);
    let events = get_text(&test, &format!("{session}/events?live=false")).await;
    assert!(events.contains(r#""dropped":"1""#), "and it is not silent: {events}");
}

async fn get_text(test: &TestApp, path: &str) -> String {
    test.get(&test.a.owner, path).await.is(200).text
}

#[tokio::test]
async fn hints_make_another_version_for_the_message_alone() {
    let test = TestApp::new().await;
    let session = begun(&test, json!({"name": "a", "systemPrompt": "long", "tools": ["calc", "pay"]})).await;
    let hinted = json!({"content": "hi", "systemHint": "short", "readOnlyTools": true, "turnHint": "hard"});
    let mut sent = request("POST", &format!("{session}/messages"), Some(&test.a.owner), Some(hinted));
    sent.headers_mut().insert("x-lantern-turn-hint", "trivial".parse().unwrap());
    let taken = test.send(sent).await.is(202);
    assert_eq!(taken.header("lantern-ignored"), "turnHint,x-lantern-turn-hint");
    let mut hand = Hand::take(&test, taken.json["runId"].as_str().unwrap()).await;
    hand.give(Input::Wake).await;
    assert_eq!(words(&hand, "llm-1"), ["short", "hi"]);
    let tools = |hand: &Hand| -> Vec<String> {
        lantern_engine::offered_tools(hand.run(), &test.app.tools)
            .iter()
            .map(|t| t.name.as_str().to_owned())
            .collect()
    };
    assert_eq!((tools(&hand), hand.prompt("llm-1").offer_tools), (vec!["calc".to_owned()], true));
    hand.replies("llm-1", "a").await;
    let (_, mut hand) = says(&test, &session, json!({"content": "two", "noTools": true})).await;
    assert_eq!((tools(&hand).len(), hand.prompt("llm-1").offer_tools), (0, false));
    hand.replies("llm-1", "b").await;
    let (run, hand) = says(&test, &session, json!({"content": "three"})).await;
    assert_eq!((words(&hand, "llm-1")[0].as_str(), tools(&hand).len()), ("long", 2));
    let agent = get(&test, "/v1/agents/a").await;
    let row = get(&test, &format!("/v1/runs/{run}")).await;
    assert_eq!(
        (&agent["version"], &agent["systemPrompt"]),
        (&json!(1), &json!("long")),
        "the agent is as it was"
    );
    assert_eq!(row["agentVersionId"], get(&test, "/v1/agents/a/versions/1").await["id"]);
}

#[tokio::test]
async fn attachments_are_shown_to_the_model_or_refused() {
    let test = TestApp::new().await;
    let session = begun(&test, json!({"name": "a"})).await;
    let note = json!({"name": "n.txt", "mediaType": "text/plain", "text": "the note"});
    let body = json!({"content": "read", "attachments": [note, "data:image/png;base64,AAE="]});
    let (_, mut hand) = says(&test, &session, body).await;
    let asked = hand.prompt("llm-1").messages.pop().unwrap();
    assert_eq!(
        asked.content,
        "read\n\n[attachment: n.txt]\nthe note\n[end of n.txt]\n\n[picture: attachment-2]"
    );
    assert_eq!((asked.images[0].media_type.as_str(), asked.images[0].data.as_str()), ("image/png", "AAE="));
    hand.replies("llm-1", "a picture").await;
    assert_eq!(get(&test, &session).await["messages"][0]["attachments"], "n.txt, attachment-2");
    let pdf = json!({"content": "x", "attachments": ["data:application/pdf;base64,AAE="]});
    let refused = post(&test, &session, pdf).await.refused(415, "attachment_unsupported");
    assert_eq!(refused.paths(), ["attachments[0]"]);
    for (attachments, path) in [(json!("x"), "attachments"), (json!(["x"]), "attachments[0]")] {
        let bad = json!({"content": "x", "attachments": attachments});
        assert_eq!(post(&test, &session, bad).await.refused(400, "invalid_body").paths(), [path]);
    }
    assert_eq!(get(&test, &session).await["exchanges"], 1);
}

#[tokio::test]
async fn what_holds_for_runs_holds_for_messages() {
    let limits = Limits { concurrent_runs_per_tenant_max: 1, ..Limits::default() };
    let rate = lantern_control::Rate { count: 4, per: Dur::from_secs(60), burst: 4 };
    let test = TestApp::with(Wishes { limits, spawn: Some(rate), ..Wishes::default() }).await;
    test.post(&test.a.owner, "/v1/sessions", json!({"agentName": "none"}))
        .await
        .refused(404, "agent_not_found");
    let made =
        json!({"name": "a", "inputSchema": {"type": "object", "properties": {"message": {"minLength": 2}}}});
    let session = begun(&test, made).await;
    assert_eq!(post(&test, &session, json!({})).await.refused(400, "invalid_body").paths(), ["content"]);
    let dear = json!({"content": "hi", "maxCostUsd": 1e9});
    assert_eq!(post(&test, &session, dear).await.refused(400, "invalid_body").paths(), ["maxCostUsd"]);
    post(&test, &session, json!({"content": "x"})).await.refused(400, "input_schema_violated");
    let busy = test.run(json!({"agentName": "a", "input": {"message": "hi"}})).await;
    post(&test, &session, json!({"content": "hi"})).await.refused(429, "too_many_runs");
    assert_eq!(get(&test, &session).await["exchanges"], 0, "and the session has taken nothing");
    let mut hand = Hand::take(&test, &busy).await;
    hand.give(Input::Wake).await;
    hand.replies("llm-1", "a").await;
    says(&test, &session, json!({"content": "hi"})).await.1.replies("llm-1", "a").await;
    post(&test, &session, json!({"content": "hi"})).await.refused(429, "run_rate_limited");
    test.delete(&test.a.owner, "/v1/agents/a").await.is(204);
    test.clock.pass(Dur::from_secs(61));
    post(&test, &session, json!({"content": "hi"})).await.refused(409, "agent_archived");
    test.post(&test.a.owner, "/v1/sessions", json!({"agentName": "a"})).await.refused(409, "agent_archived");
    let more = json!({"agentName": "b", "environment": {}});
    test.agent(json!({"name": "b"})).await;
    assert_eq!(
        test.post(&test.a.owner, "/v1/sessions", more).await.is(201).header("lantern-ignored"),
        "environment"
    );
}

#[tokio::test]
async fn a_list_of_steps_answers_each_message_by_itself() {
    let test = TestApp::new().await;
    let steps = json!([{"id": "say", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "{{input.message}}"}}}]);
    let session = begun(&test, json!({"name": "a", "program": "steps", "steps": steps})).await;
    for said in ["1+1", "2+2"] {
        let (run, mut hand) = says(&test, &session, json!({"content": said})).await;
        hand.returns("say", json!(said)).await;
        assert_eq!(get(&test, &format!("/v1/runs/{run}")).await["status"], "succeeded");
    }
    let shown = get(&test, &session).await;
    let last = shown["messages"].as_array().unwrap().last().unwrap();
    assert!(last["content"].as_str().unwrap().contains("2+2"), "{shown}");
}

/// A stream of a session being read.
struct Stream {
    body: axum::body::Body,
    text: String,
}

impl Stream {
    async fn open(test: &TestApp, path: &str, last: Option<u64>) -> Self {
        let mut request = request("GET", path, Some(&test.a.owner), None);
        request
            .headers_mut()
            .extend(last.map(|last| (http::HeaderName::from_static("last-event-id"), last.into())));
        Self::of(test.open(request).await)
    }

    fn of(response: Response) -> Self {
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"] == "text/event-stream"),
            (200, true)
        );
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next frame with its id; `None` at the end. Comments are skipped.
    async fn next(&mut self) -> Option<(Option<u64>, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                assert!(!block.contains("event:"), "{block}");
                let field =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let frame = field("data").map(|data| {
                    (field("id").map(|id| id.parse().unwrap()), serde_json::from_str(data).unwrap())
                });
                self.text = rest.to_owned();
                if frame.is_some() {
                    return frame;
                }
                continue;
            }
            let chunk = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn rest(&mut self) -> Vec<(Option<u64>, Value)> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            all.push(frame);
        }
        all
    }

    /// The types of the frames up to the one of this type.
    async fn until(&mut self, kind: &str) -> Vec<String> {
        let mut kinds = Vec::new();
        while kinds.last().is_none_or(|last| last != kind) {
            kinds.push(self.next().await.unwrap().1["type"].as_str().unwrap().to_owned());
        }
        kinds
    }
}

const ANSWERED: [&str; 5] =
    ["user.message", "agent.thinking", "agent.llm_attempt", "agent.message", "session.status_idle"];

#[tokio::test(start_paused = true)]
async fn a_stream_tells_what_was_said_and_then_what_is_said() {
    let test = TestApp::new().await;
    let session = begun(&test, json!({"name": "a"})).await;
    let (_, mut hand) = says(&test, &session, json!({"content": "one"})).await;
    hand.replies("llm-1", "first").await;
    let path = format!("{session}/events");
    let mut stream = Stream::open(&test, &path, None).await;
    assert_eq!(stream.next().await.unwrap(), (None, json!({"type": "connected", "data": {}})));
    assert_eq!(stream.until("session.status_idle").await, ANSWERED);

    // From here on it is woken, and never looks by itself.
    test.clock.sleep_endlessly();
    let (run, mut hand) = says(&test, &session, json!({"content": "two"})).await;
    let first = stream.next().await.unwrap().1;
    assert_eq!((&first["type"], &first["data"]["content"]), (&json!("user.message"), &json!("two")));
    assert_eq!(first["data"]["timestamp"], first["timestamp"]);
    assert_eq!(stream.until("agent.llm_attempt").await, ANSWERED[1..3]);
    let delta = |text: &str| Delta {
        run: run.parse().unwrap(),
        step: "llm-1".to_owned(),
        generation: 1,
        offset: 0,
        text: text.to_owned(),
    };
    test.app.db.hub().delta(delta("sec"));
    let (id, said) = stream.next().await.unwrap();
    assert_eq!((id, &said["type"], &said["data"]["content"]), (None, &json!("agent.delta"), &json!("sec")));
    hand.replies("llm-1", "second").await;
    test.app.db.hub().delta(delta("late"));
    assert_eq!(stream.until("session.status_idle").await, ANSWERED[3..], "text that comes late is dropped");

    test.post(&test.a.owner, &format!("{session}/stop"), json!({})).await.is(200);
    let (last, stopped) = stream.next().await.unwrap();
    assert_eq!(stopped["type"], "session.stopped");
    assert_eq!(stream.next().await, None);
    let mut again = request("GET", &path, Some(&test.a.owner), None);
    again.headers_mut().insert("last-event-id", last.unwrap().into());
    assert_eq!(test.send(again).await.status, 204, "whoever has seen the end need not come back");
}

db_test!(a_stream_resumes_after_any_frame, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a", "tools": ["calc"]})).await;
    for said in ["one", "two"] {
        let (_, mut hand) = says(&test, &session, json!({"content": said})).await;
        hand.asks("llm-1", "let me see", &[("calc", json!({}))]).await;
        hand.returns("llm-1.tool-1", json!("x".repeat(3_000))).await;
        hand.replies("llm-2", "done").await;
    }
    test.post(&test.a.owner, &format!("{session}/stop"), json!({})).await.is(200);
    let path = format!("{session}/events");
    let all = Stream::open(&test, &path, None).await.rest().await;
    let (frames, ids): (Vec<Value>, Vec<u64>) =
        all[1..].iter().map(|(id, frame)| (frame.clone(), id.unwrap())).unzip();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let kinds: Vec<&str> = frames[..10].iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "user.message",
            "agent.thinking",
            "agent.llm_attempt",
            "agent.message",
            "agent.tool_call_started",
            "agent.tool_call_completed",
            "agent.thinking",
            "agent.llm_attempt",
            "agent.message",
            "session.status_idle"
        ]
    );
    assert_eq!(frames[5]["data"]["result"].as_str().unwrap().len(), 2_000);
    for (n, id) in ids.iter().enumerate().take(ids.len() - 1) {
        let rest = Stream::open(&test, &path, Some(*id)).await.rest().await;
        let rest: Vec<Value> = rest.into_iter().skip(1).map(|(_, frame)| frame).collect();
        assert_eq!(rest, frames[n + 1..], "after {n}");
    }
    let asked = Stream::open(&test, &format!("{path}?after={}", ids[11]), None).await.rest().await;
    assert_eq!(asked.len(), frames.len() - 12 + 1);
});

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_what_opened_it_and_with_its_session() {
    let test = TestApp::new().await;
    let session = begun(&test, json!({"name": "a"})).await;
    let path = format!("{session}/events");
    let made =
        test.post(&test.a.owner, "/v1/api-keys", json!({"name": "k", "scopes": ["read"]})).await.is(201).json;
    let key = made["rawKey"].as_str().unwrap();
    let mut stream = Stream::of(test.open(request("GET", &path, Some(key), None)).await);
    stream.next().await.unwrap();
    let id = made["key"]["id"].as_str().unwrap();
    test.delete(&test.a.owner, &format!("/v1/api-keys/{id}")).await.is(204);
    assert_eq!(stream.next().await.unwrap().1["data"]["code"], "unauthorized");
    assert_eq!(stream.next().await, None);

    let ticket = test.post(&test.a.member, "/v1/auth/sse-ticket", json!({})).await.is(200).json;
    let ticketed = format!("{path}?token={}", ticket["ticket"].as_str().unwrap());
    let mut stream = Stream::of(test.open(request("GET", &ticketed, None, None)).await);
    stream.next().await.unwrap();
    test.send(request("GET", &ticketed, None, None)).await.refused(401, "ticket_spent");
    test.delete(&test.a.owner, &session).await.is(204);
    assert_eq!(stream.next().await, None);
    test.get(&test.a.owner, &path).await.refused(404, "session_not_found");
}

db_test!(a_session_goes_on_when_what_was_said_in_it_is_removed, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a"})).await;
    let mut runs = Vec::new();
    for (text, answer) in [("one", "first"), ("two", "second")] {
        let (run, mut hand) = says(&test, &session, json!({"content": text})).await;
        hand.replies("llm-1", answer).await;
        runs.push(run);
    }
    let redact = async |run: &str| {
        test.post(&test.a.owner, &format!("/v1/runs/{run}/redact"), json!({})).await.is(200);
    };
    redact(&runs[1]).await;
    assert_eq!(get(&test, &session).await["status"], "active");
    // What an exchange before it left is recalled still.
    let (run, mut hand) = says(&test, &session, json!({"content": "three"})).await;
    assert_eq!(words(&hand, "llm-1"), ["one", "first", "three"]);
    hand.replies("llm-1", "third").await;
    redact(&runs[0]).await;
    redact(&run).await;
    let (_, mut hand) = says(&test, &session, json!({"content": "four"})).await;
    assert_eq!(words(&hand, "llm-1"), ["four"]);
    hand.replies("llm-1", "fourth").await;
    assert_eq!(get(&test, &session).await["exchanges"], 4);
});

db_test!(a_run_that_names_a_session_is_an_exchange_of_it, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = begun(&test, json!({"name": "a"})).await;
    let id = session.rsplit('/').next().unwrap();
    let (_, mut hand) = says(&test, &session, json!({"content": "my name is Ada"})).await;
    hand.replies("llm-1", "hello Ada").await;
    let body = json!({"agentName": "a", "sessionId": id, "input": {"prompt": "who am I?"}, "priority": 2,
        "idempotencyKey": "k"});
    let made = test.post(&test.a.owner, "/v1/runs", body.clone()).await.is(201).json;
    assert_eq!((&made["sessionId"], &made["priority"]), (&json!(id), &json!(2)));
    let run = made["id"].as_str().unwrap().to_owned();
    let again = test.post(&test.a.owner, "/v1/runs", body.clone()).await.is(201);
    assert_eq!((&again.json["id"], again.header("idempotent-replayed")), (&json!(run), "true"));
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    assert_eq!(words(&hand, "llm-1"), ["my name is Ada", "hello Ada", "who am I?"]);
    // One at a time, in whichever way they come.
    post(&test, &session, json!({"content": "x"})).await.refused(409, "session_busy");
    let plain = json!({"agentName": "a", "sessionId": id});
    test.post(&test.a.owner, "/v1/runs", plain.clone()).await.refused(409, "session_busy");
    hand.replies("llm-1", "Ada").await;
    let shown = get(&test, &session).await;
    assert_eq!((&shown["exchanges"], &shown["lastRunId"]), (&json!(2), &json!(run)));
    let said: Vec<&Value> =
        shown["messages"].as_array().unwrap().iter().map(|message| &message["content"]).collect();
    assert_eq!(said, ["my name is Ada", "hello Ada", "who am I?", "Ada"]);
    let (_, mut hand) = says(&test, &session, json!({"content": "and?"})).await;
    assert_eq!(words(&hand, "llm-1")[2..], ["who am I?", "Ada", "and?"]);
    hand.replies("llm-1", "still Ada").await;

    // Its session's end is its own.
    let last = test.run(plain.clone()).await;
    let mut hand = Hand::take(&test, &last).await;
    hand.give(Input::Wake).await;
    let stop = format!("{session}/stop");
    let stop = test.post(&test.a.owner, &stop, json!({}));
    let (stopped, ()) = tokio::join!(stop, async {
        while hand.drain().await == 0 {
            tokio::task::yield_now().await;
        }
    });
    stopped.is(200);
    assert_eq!(get(&test, &format!("/v1/runs/{last}")).await["status"], "cancelled");
    test.post(&test.a.owner, "/v1/runs", plain.clone()).await.refused(409, "session_stopped");
    test.delete(&test.a.owner, &session).await.is(204);
    for run in [run, last] {
        test.get(&test.a.owner, &format!("/v1/runs/{run}")).await.refused(404, "run_not_found");
    }
    test.post(&test.a.owner, "/v1/runs", plain).await.refused(404, "session_not_found");
});

#[tokio::test]
async fn a_run_names_a_session_of_its_tenant_and_agent() {
    let test = TestApp::new().await;
    let session = begun(&test, json!({"name": "a"})).await;
    let id = session.rsplit('/').next().unwrap();
    test.agent(json!({"name": "other"})).await;
    test.post(&test.b.owner, "/v1/agents", json!({"name": "a"})).await.is(201);
    let body = json!({"agentName": "a", "sessionId": id});
    test.post(&test.b.owner, "/v1/runs", body.clone()).await.refused(404, "session_not_found");
    test.post(&test.b.owner, "/v1/agents/a/runs", body.clone()).await.refused(404, "session_not_found");
    let nobodys = json!({"agentName": "a", "sessionId": "018f0000-0000-7000-8000-000000000001"});
    test.post(&test.a.owner, "/v1/runs", nobodys).await.refused(404, "session_not_found");
    let others = json!({"agentName": "other", "sessionId": id});
    let refused = test.post(&test.a.owner, "/v1/runs", others).await.refused(400, "invalid_body");
    assert_eq!(refused.paths(), ["agentName"]);
    let batch = json!({"runs": [body]});
    let refused = test.post(&test.a.owner, "/v1/runs/batch", batch).await.refused(400, "invalid_body");
    assert_eq!(refused.paths(), ["runs[0].sessionId"]);
    let attached = json!({"content": "x", "attachments": ["data:application/pdf;base64,AAE="]});
    let refused = post(&test, &session, attached).await.refused(415, "attachment_unsupported");
    let words = "attachments[0]: application/pdf is neither text nor one of image/png, image/jpeg, image/gif, image/webp";
    assert_eq!((&refused.json["error"], refused.paths()), (&json!(words), vec!["attachments[0]"]));
}

/// A session with 1,015 micro-dollars for all of its messages.
async fn capped(test: &TestApp) -> String {
    test.agent(json!({"name": "a"})).await;
    for wrong in [json!(-1), json!("much")] {
        let new = json!({"agentName": "a", "maxCostUsd": wrong});
        test.post(&test.a.owner, "/v1/sessions", new).await.refused(400, "invalid_body");
    }
    let new = json!({"agentName": "a", "maxCostUsd": 0.001_015});
    let made = test.post(&test.a.owner, "/v1/sessions", new).await.is(201).json;
    format!("/v1/sessions/{}", made["id"].as_str().unwrap())
}

/// What a run may cost.
async fn of_run(test: &TestApp, run: &str) -> Value {
    let first = test.get(&test.a.owner, &format!("/v1/runs/{run}/events?live=false")).await.is(200);
    let line = first.text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    event["payload"]["capUsd"].clone()
}

db_test!(a_session_with_a_cap_is_never_passed_by_its_messages, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let session = capped(&test).await;
    assert_eq!(get(&test, &session).await["costUsd"], 0.0);
    let (first, mut hand) = says(&test, &session, json!({"content": "one"})).await;
    post(&test, &session, json!({"content": "at once"})).await.refused(409, "session_busy");
    hand.replies("llm-1", "1").await;
    assert_eq!(get(&test, &session).await["costUsd"], 0.000_015);
    let keyed = || {
        let body = json!({"content": "two", "maxCostUsd": 1});
        let mut request = request("POST", &format!("{session}/messages"), Some(&test.a.owner), Some(body));
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    let second = test.send(keyed()).await.is(202).json["runId"].as_str().unwrap().to_owned();
    assert_eq!([of_run(&test, &first).await, of_run(&test, &second).await], [0.001_015, 0.001]);
    assert_eq!(test.send(keyed()).await.is(202).json["runId"], json!(second), "while it is answered");
    let mut hand = Hand::take(&test, &second).await;
    hand.give(Input::Wake).await;
    assert_eq!(get(&test, &session).await["costUsd"], 0.001_015, "what is held counts");
    hand.replies_at_length("llm-1", "2", 990).await;

    let shown = get(&test, &session).await;
    assert_eq!((&shown["maxCostUsd"], &shown["costUsd"]), (&json!(0.001_015), &json!(0.001_015)));
    let refused = post(&test, &session, json!({"content": "three"})).await.refused(402, "budget_exceeded");
    assert_eq!(refused.json["reason"], "session");
    let run = json!({"agentName": "a", "sessionId": session.rsplit('/').next().unwrap()});
    test.post(&test.a.owner, "/v1/runs", run).await.refused(402, "budget_exceeded");
    // The same message again, by what its run says and not by what the answer was.
    let key = test.key(&["write"]).await;
    test.clock.pass(Dur::from_secs(2 * 86_400));
    let mut again = keyed();
    again.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    assert_eq!(test.send(again).await.is(202).json["runId"], json!(second));
    // What a run cost is remembered when it is deleted.
    for run in [&first, &second] {
        test.delete(&key, &format!("/v1/runs/{run}")).await.is(204);
    }
    assert_eq!(test.get(&key, &session).await.is(200).json["costUsd"], 0.001_015);
    let four = json!({"content": "four"});
    test.post(&key, &format!("{session}/messages"), four).await.refused(402, "budget_exceeded");
});
