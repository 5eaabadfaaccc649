//! Event streams end with the credential that opened them.

use lantern_engine::Input;
use lantern_policy::Role;
use lantern_store::notify::Delta;
use lantern_store::testing::{Cluster, block_on};
use lantern_store::{Db, db_test};
use lantern_types::Dur;
use serde_json::{Value, json};

use crate::app::{TestApp, Wishes, person, request};
use crate::events::Stream;
use crate::hand::Hand;

const KEYS: &str = "/v1/api-keys";
const REVOKE: &str = "UPDATE api_keys SET revoked_at = 1 WHERE tenant_id = $1";

/// A key of whoever this token is of: its id and its text.
async fn key(test: &TestApp, owner: &str, body: Value) -> (String, String) {
    let made = test.post(owner, KEYS, body).await.is(201).json;
    (made["key"]["id"].as_str().unwrap().to_owned(), made["rawKey"].as_str().unwrap().to_owned())
}

/// A run of whoever this token is of, and the path of its events.
async fn run(test: &TestApp, owner: &str) -> (String, String) {
    test.post(owner, "/v1/agents", json!({"name": "a"})).await.is(201);
    let run = test.post(owner, "/v1/runs", json!({"agentName": "a"})).await.is(201).json["id"].clone();
    (run.as_str().unwrap().to_owned(), format!("/v1/runs/{}/events", run.as_str().unwrap()))
}

/// A stream that has told all there is.
async fn open(test: &TestApp, path: &str, credential: &str) -> Stream {
    told(test.open(request("GET", path, Some(credential), None)).await).await
}

async fn ticket(test: &TestApp, credential: &str) -> String {
    let made = test.post(credential, "/v1/auth/sse-ticket", json!({})).await.is(200).json;
    made["ticket"].as_str().unwrap().to_owned()
}

/// The same by a ticket that this credential asks for.
async fn by_ticket(test: &TestApp, path: &str, credential: &str) -> Stream {
    let path = format!("{path}?token={}", ticket(test, credential).await);
    told(test.open(request("GET", &path, None, None)).await).await
}

async fn told(response: axum::response::Response) -> Stream {
    let mut stream = Stream::of(response);
    assert_eq!(stream.next().await.unwrap().kind, "run_started");
    stream
}

/// Asserts that a stream is over because its client may no longer.
async fn is_cut(stream: &mut Stream, run: &str) {
    let last = stream.next().await.unwrap();
    assert_eq!((last.id, last.kind.as_str()), (None, "error"));
    let words = "the key or sign-in that opened this stream has ended or was revoked";
    let reason = json!({"code": "unauthorized", "error": words});
    assert_eq!(
        last.data,
        json!({"kind": "error", "runId": run, "code": "unauthorized", "error": words, "data": reason,
            "payload": reason})
    );
    assert_eq!(stream.next().await, None);
}

/// Asserts that these streams of a run still tell what its model says.
async fn go_on(test: &TestApp, run: &str, streams: Vec<Stream>) {
    let (run, step, text) = (run.parse().unwrap(), "llm-1".to_owned(), "hello".to_owned());
    test.app.db.hub().delta(Delta { run, step, generation: 1, offset: 0, text });
    for mut stream in streams {
        assert_eq!(stream.next().await.unwrap().kind, "llm_delta");
    }
}

db_test!(a_revoked_key_ends_its_streams_and_no_others, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    // What ends now was told to.
    test.clock.sleep_endlessly();
    let (ours, our_path) = run(&test, &test.a.owner).await;
    let (theirs, their_path) = run(&test, &test.b.owner).await;
    let (id, raw) = key(&test, &test.a.owner, json!({"name": "gone", "scopes": ["write"]})).await;
    let (_, other) = key(&test, &test.a.owner, json!({"name": "stays", "scopes": ["read"]})).await;
    let (_, foreign) = key(&test, &test.b.owner, json!({"name": "stays", "scopes": ["read"]})).await;
    let mut by_key = open(&test, &our_path, &raw).await;
    let mut ticketed = by_ticket(&test, &our_path, &raw).await;
    let body = json!({"agentName": "a", "stream": true});
    let mut started = Stream::of(test.open(request("POST", "/v1/runs", Some(&raw), Some(body))).await);
    let third = started.next().await.unwrap().data["runId"].as_str().unwrap().to_owned();
    let ours_stay = vec![
        open(&test, &our_path, &other).await,
        by_ticket(&test, &our_path, &other).await,
        open(&test, &our_path, &test.a.owner).await,
    ];
    let theirs_stay = vec![open(&test, &their_path, &foreign).await];

    test.delete(&test.a.owner, &format!("{KEYS}/{id}")).await.is(204);
    is_cut(&mut by_key, &ours).await;
    is_cut(&mut ticketed, &ours).await;
    is_cut(&mut started, &third).await;
    go_on(&test, &ours, ours_stay).await;
    go_on(&test, &theirs, theirs_stay).await;
});

#[tokio::test(start_paused = true)]
async fn a_key_that_somebody_else_revoked_ends_its_streams_within_five_seconds() {
    let test = TestApp::new().await;
    let (ours, our_path) = run(&test, &test.a.owner).await;
    let (theirs, their_path) = run(&test, &test.b.owner).await;
    let mut stream = open(&test, &our_path, &test.key(&["read"]).await).await;
    let (_, foreign) = key(&test, &test.b.owner, json!({"name": "stays", "scopes": ["read"]})).await;
    let stays = vec![open(&test, &their_path, &foreign).await];
    let revokes =
        test.app.db.write(test.a.scope, |tx| Box::pin(async move { tx.exec(REVOKE, &[]).await })).await;
    assert_eq!(revokes.unwrap(), 1);
    // The look comes with the fifth second, and this before the next.
    tokio::time::timeout(Dur::from_millis(5_001).std(), is_cut(&mut stream, &ours)).await.unwrap();
    go_on(&test, &theirs, stays).await;
}

#[test]
fn a_key_that_another_process_revoked_ends_its_streams() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let ours = Db::open_postgres(&database.options()).await.unwrap();
        let theirs = Db::open_postgres(&database.options()).await.unwrap();
        let test = TestApp::over(ours, Wishes::default()).await;
        let (run, path) = run(&test, &test.a.owner).await;
        let mut stream = open(&test, &path, &test.key(&["read"]).await).await;
        let scope = test.a.scope;
        let revokes = async {
            theirs.write(scope, |tx| Box::pin(async move { tx.exec(REVOKE, &[]).await })).await.unwrap();
            tokio::time::pause();
            tokio::time::advance(Dur::from_secs(5).std()).await;
            tokio::time::resume();
        };
        tokio::join!(is_cut(&mut stream, &run), revokes);
        drop((test, stream, theirs));
        database.discard().await;
    });
}

db_test!(a_stream_ends_when_its_session_does, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let (run, path) = run(&test, &test.a.owner).await;
    let session =
        |test: &TestApp| test.tokens.issue(&person(test.a.id, Role::Member), test.app.clock.now()).unwrap();
    let first = session(&test);
    test.clock.pass(Dur::from_secs(60));
    let second = session(&test);
    let mut header = open(&test, &path, &first).await;
    let mut ticketed = by_ticket(&test, &path, &first).await;
    let mut later = by_ticket(&test, &path, &second).await;
    // The ticket's minute is no limit, and a second before the session's end is not its end.
    test.clock.pass(Dur::from_secs(3_538));
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    for stream in [&mut header, &mut ticketed, &mut later] {
        assert_eq!(stream.next().await.unwrap().kind, "step_started");
    }
    test.clock.pass(Dur::from_secs(2));
    // There is more to tell, and it is told to nobody but the other session.
    is_cut(&mut header, &run).await;
    is_cut(&mut ticketed, &run).await;
    assert_eq!(later.next().await.unwrap().kind, "step_admitted");
    test.clock.pass(Dur::from_secs(60));
    is_cut(&mut later, &run).await;
});

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_ends_with_the_time_of_its_key() {
    let test = TestApp::new().await;
    let (run, path) = run(&test, &test.a.owner).await;
    let (_, raw) = key(&test, &test.a.owner, json!({"name": "short", "expiresIn": 90})).await;
    let mut streams = [open(&test, &path, &raw).await, by_ticket(&test, &path, &raw).await];
    test.clock.pass(Dur::from_secs(89));
    for stream in &mut streams {
        let more = tokio::time::timeout(Dur::from_secs(600).std(), stream.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
    test.clock.pass(Dur::from_secs(1));
    for stream in &mut streams {
        is_cut(stream, &run).await;
    }
}

#[tokio::test]
async fn a_ticket_that_names_no_sign_in_opens_nothing() {
    // As builds made it that knew of none.
    const FORGET: &str = "UPDATE tickets SET sign_in_id = NULL WHERE tenant_id = $1";
    let test = TestApp::new().await;
    let (_, path) = run(&test, &test.a.owner).await;
    let made = ticket(&test, &test.a.owner).await;
    test.app.db.write(test.a.scope, |tx| Box::pin(async move { tx.exec(FORGET, &[]).await })).await.unwrap();
    test.send(request("GET", &format!("{path}?token={made}"), None, None)).await.refused(401, "ticket_spent");
}

db_test!(the_streams_of_who_signs_out_end, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    let (run, path) = run(&test, &test.a.owner).await;
    let mut mine = [open(&test, &path, &test.a.member).await, by_ticket(&test, &path, &test.a.member).await];
    let mut other = open(&test, &path, &test.a.owner).await;
    let waits = ticket(&test, &test.a.member).await;
    test.clock.sleep_endlessly();
    test.post(&test.a.member, "/auth/logout", json!({})).await.is(204);
    for stream in &mut mine {
        is_cut(stream, &run).await;
    }
    let late = request("GET", &format!("{path}?token={waits}"), None, None);
    test.send(late).await.refused(401, "ticket_spent");
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    assert_eq!(other.next().await.unwrap().kind, "step_started");
});
