//! `Prefer: wait`: an answer that waits for the end of a run, what wakes it, and what it costs.

use axum::body::Body;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use http::Request;
use lantern_control::App;
use lantern_engine::Input;
use lantern_store::Db;
use lantern_store::testing::{Cluster, block_on};
use lantern_types::{Dur, Limits};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::app::{Answer, TestApp, Wishes, on_both, request};
use crate::hand::Hand;

on_both! {
    an_answer_waits_for_the_end_and_is_woken: woken;
    many_wait_and_hold_no_connection: many;
}

const RUNS: &str = "/v1/runs";

fn prefers(test: &TestApp, method: &str, path: &str, body: Option<Value>, prefer: &str) -> Request<Body> {
    let mut request = request(method, path, Some(&test.a.owner), body);
    request.headers_mut().insert("prefer", prefer.parse().unwrap());
    request
}

fn starts(test: &TestApp, prefer: &str) -> Request<Body> {
    prefers(test, "POST", RUNS, Some(json!({"agentName": "a"})), prefer)
}

/// The time of the runtime, which tests pause.
#[expect(clippy::disallowed_methods, reason = "the time that sleeps are measured in here")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

async fn begun(test: &TestApp) -> (String, Hand) {
    test.agent(json!({"name": "a"})).await;
    let run = test.run(json!({"agentName": "a"})).await;
    let mut hand = Hand::take(test, &run).await;
    hand.give(Input::Wake).await;
    (run, hand)
}

/// Lets everybody get so far as to wait.
async fn waiting(test: &TestApp, many: usize) {
    while test.app.db.hub().watched() < many {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
}

fn status(answer: &Answer) -> &str {
    answer.json["status"].as_str().unwrap()
}

async fn woken(test: &TestApp) {
    test.clock.sleep_endlessly();
    test.agent(json!({"name": "a"})).await;
    let drives = async {
        waiting(test, 1).await;
        let run = test.get(&test.a.owner, RUNS).await.json[0]["id"].as_str().unwrap().to_owned();
        let mut hand = Hand::take(test, &run).await;
        hand.give(Input::Wake).await;
        hand.replies("llm-1", "done").await;
    };
    let (answer, ()) = tokio::join!(test.send(starts(test, "wait=9")), drives);
    let answer = answer.is(200);
    assert_eq!((status(&answer), &answer.json["output"]["result"]), ("succeeded", &json!("done")));
    assert_eq!(answer.header("preference-applied"), "wait=9");
    let path = format!("{RUNS}/{}", answer.json["id"].as_str().unwrap());
    assert_eq!(answer.header("location"), path);
    // What is over is waited for no longer.
    let read = test.send(prefers(test, "GET", &path, None, "wait=5")).await.is(200);
    assert_eq!(
        (read.json, read.headers["preference-applied"].as_bytes()),
        (answer.json, b"wait=5".as_slice())
    );
    assert_eq!(test.app.db.hub().watched(), 0);
    let missing = format!("{RUNS}/018f0000-0000-7000-8000-000000000001");
    test.send(prefers(test, "GET", &missing, None, "wait=5")).await.refused(404, "run_not_found");
    let mut stranger = prefers(test, "GET", &path, None, "wait=5");
    stranger.headers_mut().insert("authorization", format!("Bearer {}", test.b.owner).parse().unwrap());
    test.send(stranger).await.refused(404, "run_not_found");
}

async fn many(test: &TestApp) {
    test.clock.sleep_endlessly();
    let (run, mut hand) = begun(test).await;
    let path = format!("{RUNS}/{run}");
    // Far more than there are connections.
    let wait = join_all((0..200).map(|_| test.send(prefers(test, "GET", &path, None, "wait=50"))));
    let ends = async {
        waiting(test, 1).await;
        for _ in 0..50 {
            assert_eq!(status(&test.get(&test.a.owner, &path).await), "running");
        }
        hand.replies("llm-1", "done").await;
    };
    let (answers, ()) = tokio::join!(wait, ends);
    assert_eq!(answers.iter().filter(|answer| status(answer) == "succeeded").count(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_so_long_and_no_longer() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    for (prefer, most) in [("wait=3", 3), ("wait=600", 55), ("wait=0", 0)] {
        let began = now();
        let answer = test.send(starts(&test, prefer)).await.is(201);
        assert_eq!((status(&answer), began.elapsed().as_secs()), ("queued", most), "{prefer}");
        assert_eq!(answer.header("preference-applied"), format!("wait={most}"));
        assert!(answer.header("location").ends_with(answer.json["id"].as_str().unwrap()));
        let path = answer.header("location").to_owned();
        let read = test.send(prefers(&test, "GET", &path, None, prefer)).await.is(200);
        assert_eq!((status(&read), began.elapsed().as_secs()), ("queued", most * 2), "{prefer}");
    }
    // What cannot be read is not there.
    for prefer in ["wait=soon", "wait=-1", "wait", "respond-async"] {
        let began = now();
        let answer = test.send(starts(&test, prefer)).await.is(201);
        assert_eq!((answer.header("preference-applied"), began.elapsed().as_secs()), ("", 0), "{prefer}");
    }
    for path in ["/v1/agents/a/runs", "/v1/agents/a/trigger"] {
        let answer = test.send(prefers(&test, "POST", path, Some(json!({})), "wait=2")).await.is(201);
        assert_eq!(answer.header("preference-applied"), "wait=2");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_while_it_was_held_is_held_again() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let keyed = |prefer: &str| {
        let mut request = starts(&test, prefer);
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        request
    };
    // The client leaves.
    assert!(tokio::time::timeout(Dur::from_secs(2).std(), test.send(keyed("wait=30"))).await.is_err());
    assert_eq!(test.app.db.hub().watched(), 0);
    let drives = async {
        waiting(&test, 1).await;
        let run = test.get(&test.a.owner, RUNS).await.json[0]["id"].as_str().unwrap().to_owned();
        let mut hand = Hand::take(&test, &run).await;
        hand.give(Input::Wake).await;
        hand.replies("llm-1", "done").await;
        run
    };
    let (answer, run) = tokio::join!(test.send(keyed("wait=30")), drives);
    let answer = answer.is(200);
    assert_eq!((&answer.json["id"], status(&answer)), (&json!(run), "succeeded"));
    assert_eq!(answer.header("idempotent-replayed"), "true");
    // Without the preference it is answered as it was.
    assert_eq!(status(&test.send(keyed("return=minimal")).await.is(201)), "succeeded");
    assert_eq!(test.get(&test.a.owner, RUNS).await.json.as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_has_one_of_the_places_of_streams_and_leaves_it() {
    let limits = Limits { subscribers_max: 1, ..Limits::default() };
    let test = TestApp::with(Wishes { limits, ..Wishes::default() }).await;
    let (run, _hand) = begun(&test).await;
    let path = format!("{RUNS}/{run}");
    let mut waits = Box::pin(test.send(prefers(&test, "GET", &path, None, "wait=50")));
    assert!(waits.as_mut().now_or_never().is_none());
    test.get(&test.a.owner, &format!("{path}/events")).await.refused(503, "too_many_streams");
    // Who finds no place is answered at once: the run is started all the same.
    for second in [prefers(&test, "GET", &path, None, "wait=50"), starts(&test, "wait=50")] {
        let began = now();
        let answer = test.send(second).await;
        assert!(
            answer.status.is_success() && answer.header("preference-applied").is_empty(),
            "{}",
            answer.text
        );
        assert_eq!(began.elapsed().as_secs(), 0);
    }
    drop(waits);
    let answer = test.send(prefers(&test, "GET", &path, None, "wait=1")).await;
    assert_eq!(answer.header("preference-applied"), "wait=1");
}

#[tokio::test]
async fn a_server_that_stops_holds_nobody() {
    let test = TestApp::new().await;
    test.clock.sleep_endlessly();
    let (run, _hand) = begun(&test).await;
    let path = format!("{RUNS}/{run}");
    let stops = async {
        waiting(&test, 1).await;
        test.stop.request();
    };
    let (answer, ()) = tokio::join!(test.send(prefers(&test, "GET", &path, None, "wait=50")), stops);
    assert_eq!(status(&answer.is(200)), "running");
}

#[tokio::test]
async fn a_client_that_closes_its_connection_is_waited_for_no_longer() {
    let test = TestApp::new().await;
    test.clock.sleep_endlessly();
    let (run, _hand) = begun(&test).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let leaves = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET {RUNS}/{run} HTTP/1.1\r\nhost: x\r\nprefer: wait=50\r\nauthorization: Bearer {}\r\n\r\n",
            test.a.owner
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        waiting(&test, 1).await;
        drop(socket);
        while test.app.db.hub().watched() > 0 {
            tokio::task::yield_now().await;
        }
        test.stop.request();
    };
    let serves = lantern_edge::serve(listener, test.router.clone(), test.stop.clone());
    tokio::time::timeout(Dur::from_secs(20).std(), async { tokio::join!(leaves, serves) }).await.unwrap();
}

#[test]
fn a_run_that_another_process_drives_is_waited_for() {
    block_on(async {
        let database = Cluster::shared().database().await;
        // Nobody carries hints between these two, so what is seen is found by reading, once the time for it has come.
        let ours = Db::open_postgres(&database.options()).await.unwrap();
        let theirs = Db::open_postgres(&database.options()).await.unwrap();
        let test = TestApp::over(ours, Wishes::default()).await;
        test.agent(json!({"name": "a"})).await;
        let run = test.run(json!({"agentName": "a"})).await;
        let mut elsewhere: App = test.app.clone();
        elsewhere.db = theirs;
        let mut hand = Hand::of(elsewhere, test.a.scope, &run).await;
        let path = format!("{RUNS}/{run}");
        let drives = async {
            waiting(&test, 1).await;
            hand.give(Input::Wake).await;
            hand.replies("llm-1", "done").await;
            tokio::time::pause();
            tokio::time::advance(Dur::from_secs(5).std()).await;
            tokio::time::resume();
        };
        let (answer, ()) = tokio::join!(test.send(prefers(&test, "GET", &path, None, "wait=50")), drives);
        assert_eq!(status(&answer.is(200)), "succeeded");
        drop((test, hand));
        database.discard().await;
    });
}
