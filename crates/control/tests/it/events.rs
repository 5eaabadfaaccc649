//! Event streams: history, live, the end, and where they resume.

use axum::body::Body;
use axum::response::Response;
use http_body_util::BodyExt as _;
use lantern_engine::Input;
use lantern_store::db_test;
use lantern_store::notify::Delta;
use lantern_types::{Failure, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::app::{TestApp, Wishes, request};
use crate::hand::Hand;

/// A stream being read.
pub(crate) struct Stream {
    body: Body,
    text: String,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<u64>,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

impl Stream {
    pub(crate) async fn open(test: &TestApp, path: &str, last: Option<&str>) -> Self {
        let mut request = request("GET", path, Some(&test.a.owner), None);
        if let Some(last) = last {
            request.headers_mut().insert("last-event-id", last.parse().unwrap());
        }
        Self::of(test.open(request).await)
    }

    /// The stream of an answer that is one.
    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` at the end of the stream. Comments are skipped.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse(block);
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The kinds of the rest, up to the end.
    pub(crate) async fn kinds(&mut self) -> Vec<String> {
        let mut kinds = Vec::new();
        while let Some(event) = self.next().await {
            kinds.push(event.kind);
        }
        kinds
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap();
    Some(Event { id: field("id").map(|id| id.parse().unwrap()), kind: field("event")?.to_owned(), data })
}

async fn started(test: &TestApp) -> (String, String) {
    test.agent(json!({"name": "a", "retry": {"maxAttempts": 1}})).await;
    let run = test.run(json!({"agentName": "a", "input": {"q": 1}})).await;
    let path = format!("/v1/runs/{run}/events");
    (run, path)
}

#[tokio::test(start_paused = true)]
async fn history_then_live_then_the_end() {
    let test = TestApp::new().await;
    let (run, path) = started(&test).await;
    let mut stream = Stream::open(&test, &path, None).await;
    let first = stream.next().await.unwrap();
    assert_eq!((first.id, first.kind.as_str()), (Some(1), "run_started"));
    assert_eq!(first.data["payload"]["input"], json!({"q": 1}));
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    assert_eq!(stream.next().await.unwrap().kind, "step_started");
    assert_eq!(stream.next().await.unwrap().kind, "step_admitted");

    let delta = |offset, text: &str| {
        let (run, text) = (run.parse().unwrap(), text.to_owned());
        Delta { run, step: "llm-1".to_owned(), generation: 1, offset, text }
    };
    // The stream asks for more before the model says something, as a client's would.
    let (piece, ()) = tokio::join!(stream.next(), async {
        tokio::task::yield_now().await;
        test.app.db.hub().delta(delta(0, "hel"));
    });
    let piece = piece.unwrap();
    assert_eq!((piece.id, piece.kind.as_str()), (None, "llm_delta"));
    let data = json!({"text": "hel", "generation": 1, "offset": 0});
    assert_eq!(
        piece.data,
        json!({"kind": "llm_delta", "stepId": "llm-1", "runId": run, "data": data, "payload": data})
    );

    hand.replies("llm-1", "hello").await;
    test.app.db.hub().delta(delta(3, "lo"));
    assert_eq!(stream.next().await.unwrap().kind, "step_completed");
    assert_eq!(stream.next().await.unwrap().kind, "run_succeeded");
    let end = stream.next().await.unwrap();
    let status = json!({"status": "succeeded"});
    assert_eq!(
        end,
        Event {
            id: Some(6),
            kind: "end".to_owned(),
            data: json!({"kind": "end", "seq": 6, "runId": run, "status": "succeeded", "data": status, "payload": status}),
        }
    );
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_stream_resumes_where_its_client_was() {
    let test = TestApp::new().await;
    let (run, path) = started(&test).await;
    let mut hand = Hand::take(&test, &run).await;
    hand.give(Input::Wake).await;
    hand.replies("llm-1", "hello").await;
    let all = ["run_started", "step_started", "step_admitted", "step_completed", "run_succeeded", "end"];
    for (query, last, from) in [
        ("", None, 0),
        ("?from_seq=1", None, 0),
        ("?from_seq=3", None, 2),
        ("?fromSeq=3&live=false", None, 2),
        ("", Some("3"), 3),
        ("?from_seq=1", Some("4"), 4),
        ("", Some("5"), 5),
        ("?from_seq=6", None, 5),
    ] {
        let mut stream = Stream::open(&test, &format!("{path}{query}"), last).await;
        assert_eq!(stream.kinds().await, &all[from..], "{query} {last:?}");
    }
    // Whoever has seen the end is told that nothing follows: a browser stops coming back.
    for (query, last) in
        [("", Some("6")), ("?from_seq=1", Some("6")), ("?from_seq=7", None), ("", Some("999"))]
    {
        let mut late = request("GET", &format!("{path}{query}"), Some(&test.a.owner), None);
        if let Some(last) = last {
            late.headers_mut().insert("last-event-id", last.parse().unwrap());
        }
        assert_eq!(test.send(late).await.is(204).text, "", "{query} {last:?}");
    }
    for (query, last) in
        [("?from_seq=x", "1"), ("?live=perhaps", "1"), ("", "x"), ("", "-1"), ("?from_seq=1e9", "1")]
    {
        let mut bad = request("GET", &format!("{path}{query}"), Some(&test.a.owner), None);
        bad.headers_mut().insert("last-event-id", last.parse().unwrap());
        test.send(bad).await.is(400);
    }
    test.get(&test.b.owner, &path).await.refused(404, "run_not_found");
}

#[tokio::test]
async fn a_run_that_goes_on_is_waited_for_whatever_its_client_has_seen() {
    let test = TestApp::new().await;
    let (_, path) = started(&test).await;
    Stream::open(&test, &path, Some("999")).await;
}

db_test!(a_stream_is_woken_and_need_not_look_by_itself, async |db| {
    let test = TestApp::over(db, Wishes::default()).await;
    test.clock.sleep_endlessly();
    let (run, path) = started(&test).await;
    let mut stream = Stream::open(&test, &path, Some("1")).await;
    let mut hand = Hand::take(&test, &run).await;
    let drives = async {
        // The stream waits before anything happens.
        tokio::task::yield_now().await;
        hand.give(Input::Wake).await;
        hand.replies("llm-1", "done").await;
    };
    let (kinds, ()) = tokio::join!(stream.kinds(), drives);
    assert_eq!(kinds, ["step_started", "step_admitted", "step_completed", "run_succeeded", "end"]);
});

#[tokio::test]
async fn history_alone_ends_without_waiting() {
    let test = TestApp::new().await;
    let (_, path) = started(&test).await;
    let mut stream = Stream::open(&test, &format!("{path}?live=false"), None).await;
    assert_eq!(stream.kinds().await, ["run_started"]);
}

#[tokio::test(start_paused = true)]
async fn every_way_to_end_ends_the_stream() {
    for status in ["cancelled", "failed"] {
        let test = TestApp::new().await;
        let (run, path) = started(&test).await;
        let mut hand = Hand::take(&test, &run).await;
        hand.give(Input::Wake).await;
        let mut stream = Stream::open(&test, &path, Some("3")).await;
        let ends = async {
            match status {
                "failed" => hand.fails("llm-1", Failure::refused("provider_auth", "no")).await,
                _ => {
                    test.post(&test.a.owner, &format!("/v1/runs/{run}/cancel"), json!({})).await.is(200);
                    hand.drain().await;
                }
            }
        };
        let (kinds, ()) = tokio::join!(stream.kinds(), ends);
        assert_eq!(kinds.last().map(String::as_str), Some("end"), "{status} {kinds:?}");
        assert!(kinds.contains(&format!("run_{status}")), "{kinds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_beats_and_ends_when_the_server_stops() {
    let test = TestApp::new().await;
    let (_, path) = started(&test).await;
    let mut stream = Stream::open(&test, &path, Some("1")).await;
    let beat = stream.body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&*beat, b": heartbeat\n\n");
    test.stop.request();
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_run_can_be_started_as_a_stream() {
    let test = TestApp::new().await;
    test.agent(json!({"name": "a"})).await;
    let body = json!({"agentName": "a", "stream": true});
    let response = test.open(request("POST", "/v1/runs", Some(&test.a.owner), Some(body))).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let mut stream = Stream { body: response.into_body(), text: String::new() };
    assert_eq!(stream.next().await.unwrap().kind, "run_started");
}

#[tokio::test]
async fn a_server_has_so_many_streams_and_no_more() {
    let limits = Limits { subscribers_max: 1, ..Limits::default() };
    let test = TestApp::with(Wishes { limits, ..Wishes::default() }).await;
    let (_, path) = started(&test).await;
    let stream = Stream::open(&test, &path, None).await;
    test.get(&test.a.owner, &path).await.refused(503, "too_many_streams");
    assert_eq!(test.app.db.hub().watched(), 1);
    drop(stream);
    assert_eq!(test.app.db.hub().watched(), 0);
    Stream::open(&test, &path, None).await;
}

#[tokio::test]
async fn a_stream_over_a_socket_ends_with_the_server() {
    let test = TestApp::new().await;
    let (_, path) = started(&test).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reads = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", test.a.owner);
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.contains("event: run_started") {
            let mut some = [0; 1_024];
            let n = socket.read(&mut some).await.unwrap();
            assert!(n > 0, "{text}");
            text.push_str(std::str::from_utf8(&some[..n]).unwrap());
        }
        test.stop.request();
        socket.read_to_string(&mut text).await.unwrap();
        text
    };
    let (text, ()) =
        tokio::join!(reads, lantern_edge::serve(listener, test.router.clone(), test.stop.clone()));
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("\r\n0\r\n\r\n"), "{text}");
}
