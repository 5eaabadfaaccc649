//! Following a run: through broken connections, restarts and Ctrl-C, without losing or repeating an event.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::cli_fake::{Answer, Done, Fake, RUN, Seen, Then, User, refusal, unforeseen};

/// One frame as a server sends it.
fn frame(seq: u64, kind: &str, step: &str, data: &Value) -> String {
    let frame = json!({ "seq": seq, "kind": kind, "stepId": step, "attempt": 1, "payload": data, "data": data,
        "runId": RUN, "createdAt": "2026-09-21T14:13:20Z", "ts": "2026-09-21T14:13:20Z" });
    format!("id: {seq}\nevent: {kind}\ndata: {frame}\n\n")
}

/// The frames of a short run, numbered from 1; what a client that has seen `after` still gets.
fn story(after: u64) -> String {
    let frames = [
        frame(1, "run_started", "", &json!({ "program": "agent", "capUsd": 5.0 })),
        frame(2, "step_started", "llm-1", &json!({ "type": "llm", "name": "llm-1" })),
        frame(
            3,
            "step_completed",
            "llm-1",
            &json!({ "type": "llm", "name": "llm-1", "tokens_in": 10, "tokens_out": 2 }),
        ),
        frame(
            4,
            "step_started",
            "llm-1.tool-1",
            &json!({ "type": "tool", "name": "calc", "parent": "llm-1" }),
        ),
        frame(5, "step_completed", "llm-1.tool-1", &json!({ "type": "tool", "name": "calc", "output": 7 })),
        frame(6, "run_succeeded", "", &json!({ "output": { "result": "done" } })),
    ];
    frames.into_iter().skip(usize::try_from(after).unwrap()).collect()
}

fn delta(text: &str) -> String {
    let frame = json!({ "kind": "llm_delta", "stepId": "llm-1", "runId": RUN, "data": { "text": text } });
    format!("event: llm_delta\ndata: {frame}\n\n")
}

fn end(status: &str) -> String {
    let frame =
        json!({ "kind": "end", "seq": 6, "runId": RUN, "status": status, "data": { "status": status } });
    format!("event: end\ndata: {frame}\n\n")
}

/// What a stream ends with that cannot go on.
fn error(code: &str, words: &str) -> String {
    let reason = json!({ "code": code, "error": words });
    let frame = json!({ "kind": "error", "runId": RUN, "code": code, "error": words, "data": reason, "payload": reason });
    format!("event: error\ndata: {frame}\n\n")
}

fn upto(seq: u64) -> String {
    let whole = story(0);
    let (before, _) = whole.split_once(&format!("id: {}\n", seq + 1)).unwrap();
    before.to_owned()
}

fn run(status: &str) -> Answer {
    let error = (status == "failed")
        .then(|| json!({ "code": "max_turns", "message": "20 turns", "stepId": "llm-9" }));
    let output = (status == "succeeded").then(|| json!({ "result": "## Shipped\n- it" }));
    let times = ("2026-09-21T14:13:20Z", "2026-09-21T14:13:32.4Z");
    let run = json!({ "id": RUN, "status": status, "tokensIn": 10, "tokensOut": 2, "costUsd": 0.25,
        "startedAt": times.0, "finishedAt": times.1, "error": error, "output": output });
    Answer::Json(200, run)
}

/// A server that answers everything but the event stream, of which `events` says what the n-th connection gets.
fn server(status: &'static str, events: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Fake {
    let connections = AtomicUsize::new(0);
    Fake::start(move |seen| {
        answer(status, seen, |seen| events(connections.fetch_add(1, Ordering::Relaxed), seen))
    })
}

fn answer(status: &str, seen: &Seen, events: impl Fn(&Seen) -> Answer) -> Answer {
    match seen.line.as_str() {
        "POST /v1/runs" => Answer::Json(201, json!({ "id": RUN, "status": "queued" })),
        line if line.contains("/events") => events(seen),
        line if line == format!("GET /v1/runs/{RUN}") => run(status),
        other => unforeseen(other),
    }
}

fn after(seen: &Seen) -> u64 {
    seen.header("last-event-id").parse().unwrap_or_default()
}

/// The numbers of the events that were shown, in order.
fn shown(out: &str) -> Vec<u64> {
    let lines = out.lines().filter(|line| line.starts_with("2026-"));
    lines.map(|line| line.split_whitespace().nth(2).unwrap().parse().unwrap()).collect()
}

const CREATE: &[&str] = &["runs", "create", "--agent", "digest", "--input", "{}", "--follow"];

#[test]
fn a_pipe_gets_plain_lines_and_the_answer() {
    let fake = server("succeeded", |_, _| {
        Answer::Events(
            upto(2) + &delta("do") + ": heartbeat\n\n" + &story(2) + &end("succeeded"),
            Then::Close,
        )
    });
    let done = User::of(&fake).run(CREATE);
    let want = "\
2026-09-21 14:13:20Z     1  run_started         -                 agent  may cost $5.00
2026-09-21 14:13:20Z     2  step_started        llm-1             llm  llm-1
2026-09-21 14:13:20Z     3  step_completed      llm-1             llm-1  10 in, 2 out
2026-09-21 14:13:20Z     4  step_started        llm-1.tool-1      tool  calc
2026-09-21 14:13:20Z     5  step_completed      llm-1.tool-1      calc  7
2026-09-21 14:13:20Z     6  run_succeeded       -                 {\"result\":\"done\"}
✔ succeeded in 12.4s · 10 in, 2 out · $0.25

## Shipped
- it
";
    assert_eq!((done.code, done.out.as_str()), (0, want), "{done:?}");
    assert_eq!(done.err, format!("run {RUN}\n"));
}

#[test]
fn a_run_that_waits_for_a_person_says_for_what() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        line if line.contains("/events") => {
            let reason = json!({ "type": "approval", "name": "ship", "arguments": { "reason": "Ship it?" } });
            let asked = frame(2, "approval_requested", "ship", &json!({}));
            Answer::Events(frame(1, "step_started", "ship", &reason) + &asked, Then::Close)
        }
        _ => Answer::Json(200, json!({ "id": RUN, "status": "paused" })),
    });
    let (user, command) = (User::of(&fake), format!("lantern runs approve {RUN} ship"));
    for (args, want) in [
        (&["runs", "get", RUN][..], "waits for    approval of ship: Ship it?\n"),
        (&["runs", "resume", RUN], ": paused\nwaits for approval of ship: Ship it?\n"),
        (&["logs", RUN], "approval  ship  Ship it?\n"),
    ] {
        let out = user.run(args).ok();
        assert!(out.contains(want) && out.contains(&command), "{args:?}: {out}");
    }
    // A program is told the server's answer and nothing else.
    let out = user.run(&["runs", "resume", RUN, "-o", "json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), json!({ "id": RUN, "status": "paused" }));
}

#[test]
fn programs_get_one_frame_a_line() {
    let fake = server("succeeded", |_, _| {
        Answer::Events(upto(2) + &delta("do") + &story(2) + &end("succeeded"), Then::Close)
    });
    let out = User::of(&fake).run(&[CREATE, &["-o", "json"]].concat()).ok();
    let kinds: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.len(), 8);
    assert_eq!((kinds[2].as_str(), kinds[7].as_str()), ("llm_delta", "end"));
}

#[test]
fn the_exit_code_is_how_the_run_ended() {
    for (status, code, words) in [
        ("succeeded", 0, "✔ succeeded in 12.4s"),
        ("failed", 1, "✘ failed in 12.4s · 10 in, 2 out · $0.25\nmax_turns: 20 turns (step llm-9)"),
        ("cancelled", 6, "■ cancelled in 12.4s"),
    ] {
        let fake = server(status, move |_, _| Answer::Events(story(0) + &end(status), Then::Close));
        let done = User::of(&fake).run(&["logs", RUN, "-f"]);
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.out.contains(words), "{done:?}");
    }
}

#[test]
fn what_breaks_is_resumed_after_the_last_event() {
    let fake = server("succeeded", |connection, seen| match (connection, after(seen)) {
        (0, 0) => Answer::Events(upto(2), Then::Break),
        (1, 2) => refusal(503, "unavailable", "starting"),
        // A frame that is cut in the middle was not seen; one that was is not shown again.
        (2, 2) => Answer::Events(upto(3) + "id: 4\nevent: step_star", Then::Close),
        (3, 3) => Answer::Events(story(3) + &end("succeeded"), Then::Close),
        other => unforeseen(other),
    });
    let done = User::of(&fake).run(CREATE);
    assert_eq!((done.code, shown(&done.out)), (0, vec![1, 2, 3, 4, 5, 6]), "{done:?}");
    let said = "connection lost, resuming\nresumed\nconnection lost, resuming\nresumed\n";
    assert_eq!(done.err, format!("run {RUN}\n{said}"));
}

#[test]
fn a_server_that_is_killed_and_started_again_is_waited_for() {
    let fake = server("succeeded", |_, _| Answer::Events(upto(3), Then::Hang));
    let port = fake.port;
    let user = User::of(&fake);
    let mut following = user.begin(CREATE);
    let first: String = (0..3).map(|_| following.line()).collect();
    drop(fake);
    let _fake = Fake::start_at(port, |seen| {
        answer("succeeded", seen, |seen| Answer::Events(story(after(seen)) + &end("succeeded"), Then::Close))
    });
    let done = following.end();
    assert_eq!((done.code, shown(&first), shown(&done.out)), (0, vec![1, 2, 3], vec![4, 5, 6]), "{done:?}");
    assert!(done.err.contains("connection lost, resuming\nresumed\n"), "{done:?}");
}

#[test]
fn an_interrupted_command_is_continued_by_the_next() {
    let fake = server("succeeded", |connection, seen| match (connection, after(seen)) {
        (0, 0) => Answer::Events(upto(3) + &delta("more"), Then::Hang),
        (_, 0) => Answer::Events(story(0) + &end("succeeded"), Then::Close),
        other => unforeseen(other),
    });
    let user = User::of(&fake);
    let mut following = user.begin(CREATE);
    let first: String = (0..3).map(|_| following.line()).collect();
    // The place is kept once a piece of the stream was shown whole.
    let kept = user.home.join(".lantern/following").join(RUN);
    while !std::fs::read_to_string(&kept).is_ok_and(|text| text == "3\n") {
        std::thread::yield_now();
    }
    following.interrupt();
    let done = following.end();
    assert_eq!((done.code, shown(&first)), (130, vec![1, 2, 3]));
    let hint =
        format!("error: interrupted; the run goes on\nnext: follow it again with `lantern logs {RUN} -f`\n");
    assert!(done.err.ends_with(&hint), "{done:?}");

    let done = user.run(&["logs", RUN, "-f"]);
    assert_eq!((done.code, shown(&done.out)), (0, vec![4, 5, 6]));
    let note = "events 1 to 3 were shown before; --from-start shows them again\n";
    assert!(done.err.starts_with(note), "{done:?}");
    assert!(!kept.exists(), "a run that is over is shown from the start again");
    assert_eq!(shown(&user.run(&["logs", RUN, "-f"]).ok()), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn everything_can_be_asked_for_again() {
    let fake =
        server("succeeded", |_, seen| Answer::Events(story(after(seen)) + &end("succeeded"), Then::Close));
    let user = User::of(&fake);
    let folder = user.home.join(".lantern/following");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(RUN), "4\n").unwrap();
    assert_eq!(shown(&user.run(&["logs", RUN, "-f", "--from-start"]).ok()), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn history_ends_where_the_run_stands() {
    let fake = server("running", |_, seen| {
        assert!(seen.line.ends_with("/events?live=false"), "{}", seen.line);
        Answer::Events(upto(3), Then::Close)
    });
    let user = User::of(&fake);
    assert_eq!(shown(&user.run(&["logs", RUN]).ok()), [1, 2, 3]);
    assert!(!user.home.join(".lantern").exists(), "only following keeps a place");
    assert_eq!(user.run(&["logs", RUN, "-o", "json"]).ok().lines().count(), 3);
}

#[test]
fn what_cannot_be_followed_is_said_at_once() {
    let fake = server("running", |_, _| refusal(404, "run_not_found", "run not found"));
    let user = User::of(&fake);
    let done: Done = user.run(&["logs", RUN, "-f"]);
    assert_eq!(done.code, 4);
    assert!(done.err.contains("`lantern runs list`"), "{done:?}");
    drop(fake);
    let done = user.run(&["logs", RUN, "-f"]);
    assert_eq!(done.code, 5);
    assert!(done.err.contains("`lantern dev`"), "{done:?}");
}

#[test]
fn a_login_that_ends_in_the_middle_is_said() {
    let fake = server("running", |connection, _| match connection {
        0 => Answer::Events(upto(2), Then::Break),
        _ => refusal(401, "unauthorized", "unauthorized"),
    });
    let done = User::of(&fake).run(CREATE);
    assert_eq!((done.code, shown(&done.out)), (3, vec![1, 2]));
}

#[test]
fn a_run_that_cannot_be_read_is_said_to_be_so() {
    let words = "the run's journal cannot be read";
    for over in [false, true] {
        let ends = if over { end("failed") } else { String::new() };
        let fake = server("failed", move |connection, _| match connection {
            // Where a stream is resumed, no frame has named an id yet.
            0..3 => Answer::Events(upto(2) + &error("run_unreadable", words) + &ends, Then::Close),
            _ => Answer::Events(error("run_unreadable", words) + &ends, Then::Close),
        });
        let user = User::of(&fake);
        for (args, events) in [
            (&["logs", RUN][..], 2),
            (&["logs", RUN, "-f", "--from-start"], 2),
            (CREATE, 2),
            (&["logs", RUN, "-f"], 0),
        ] {
            let done = user.run(args);
            assert_eq!((done.code, shown(&done.out).len()), (1, events), "{args:?}: {done:?}");
            assert!(done.err.contains(&format!("error: {words} (run_unreadable)\n")), "{done:?}");
            assert!(done.err.contains("next: ") && done.err.contains("`lantern runs cancel`"), "{done:?}");
            assert!(!done.err.contains("connection lost") && !done.out.contains('✘'), "{done:?}");
        }
        let done = user.run(&["logs", RUN, "-f", "--from-start", "-o", "json"]);
        let kinds: Vec<Value> = done
            .out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].take())
            .collect();
        assert_eq!((&kinds[0], kinds.len()), (&json!("error"), if over { 2 } else { 1 }), "{done:?}");
        let said: Value = serde_json::from_str(done.err.lines().last().unwrap()).unwrap();
        assert_eq!((&said["code"], &said["exitCode"]), (&json!("run_unreadable"), &json!(1)), "{said}");
        let streams = fake.lines().into_iter().filter(|line| line.contains("/events"));
        assert_eq!(streams.count(), 5, "one connection each");
    }
}

#[test]
fn a_credential_that_ends_under_a_stream_is_said() {
    let fake = server("running", |_, _| {
        Answer::Events(upto(2) + &error("unauthorized", "the credential is over"), Then::Close)
    });
    let done = User::of(&fake).run(CREATE);
    assert_eq!((done.code, shown(&done.out)), (3, vec![1, 2]), "{done:?}");
    assert!(done.err.contains("error: the credential is over (unauthorized)\nnext: "), "{done:?}");
    assert!(done.err.contains("LANTERN_API_KEY"), "{done:?}");
}

#[test]
fn a_kind_of_frame_that_is_not_known_is_passed_over() {
    let odd = |data: &str| format!("event: weather\ndata: {data}\n\n");
    let fake = server("succeeded", move |_, _| {
        let frames = [
            odd("{\"kind\":\"weather\",\"data\":[1]}"),
            upto(3),
            odd("{\"kind\":\"weather\",\"seq\":900,\"data\":{}}"),
            odd("not JSON"),
            odd("7"),
            story(3),
            end("succeeded"),
        ];
        Answer::Events(frames.concat(), Then::Close)
    });
    let done = User::of(&fake).run(CREATE);
    assert_eq!((done.code, shown(&done.out)), (0, vec![1, 2, 3, 4, 5, 6]), "{done:?}");
    assert!(!done.out.contains("weather"), "{done:?}");
}

#[test]
fn an_answer_that_cannot_be_read_any_more_is_not_passed_over() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        line if line.contains("/events") => Answer::Events(story(0) + &end("succeeded"), Then::Close),
        _ => refusal(503, "unavailable", "stopping"),
    });
    let done = User::of(&fake).run(&["logs", RUN, "-f"]);
    assert_eq!((done.code, shown(&done.out).len()), (1, 6));
    assert!(done.err.contains(&format!("see how it ended with `lantern runs get {RUN}`")), "{done:?}");
}

/// The run that the first one goes on as.
const NEXT: &str = "018f0000-0000-7000-8000-000000000002";

#[test]
fn a_run_that_goes_on_is_followed_and_the_last_one_counts() {
    for (last, code) in [("succeeded", 0), ("failed", 1), ("cancelled", 6)] {
        let fake = Fake::start(move |seen| match seen.line.as_str() {
            "POST /v1/runs" => Answer::Json(201, json!({ "id": RUN, "status": "queued" })),
            line if line.contains("/events") && line.contains(RUN) => {
                Answer::Events(story(0) + &end("succeeded"), Then::Close)
            }
            line if line.contains("/events") => Answer::Events(upto(2) + &end(last), Then::Close),
            line if line.ends_with(RUN) => Answer::Json(
                200,
                json!({ "id": RUN, "status": "succeeded", "output": { "continuedAs": NEXT } }),
            ),
            line if line.ends_with(NEXT) => run(last),
            other => unforeseen(other),
        });
        let user = User::of(&fake);
        let done = user.run(CREATE);
        assert_eq!((done.code, shown(&done.out)), (code, vec![1, 2, 3, 4, 5, 6, 1, 2]), "{done:?}");
        assert!(done.err.contains(&format!("goes on as the run {NEXT}")), "{done:?}");
        assert!(!done.out.contains("✔") || last == "succeeded", "{done:?}");
        let done = user.run(&["logs", RUN, "-f", "-o", "json"]);
        assert_eq!((done.code, done.out.lines().count()), (code, 10), "{done:?}");
    }
}

#[test]
fn a_run_that_is_still_to_begin_is_waited_for() {
    let asked = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.line.as_str() {
        "POST /v1/runs" => Answer::Json(201, json!({ "id": RUN, "status": "queued" })),
        line if line.contains("/events") && line.contains(RUN) => {
            Answer::Events(story(0) + &end("succeeded"), Then::Close)
        }
        line if line.contains("/events") && asked.fetch_add(1, Ordering::SeqCst) < 2 => {
            Answer::Json(404, json!({ "error": "run not found", "code": "run_not_found" }))
        }
        line if line.contains("/events") => Answer::Events(upto(2) + &end("succeeded"), Then::Close),
        line if line.ends_with(RUN) => {
            Answer::Json(200, json!({ "id": RUN, "status": "succeeded", "continuedAs": NEXT }))
        }
        line if line.ends_with(NEXT) => run("succeeded"),
        other => unforeseen(other),
    });
    let done = User::of(&fake).run(CREATE);
    assert_eq!((done.code, shown(&done.out)), (0, vec![1, 2, 3, 4, 5, 6, 1, 2]), "{done:?}");
}

#[test]
fn a_login_that_ends_under_a_stream_is_renewed() {
    let renewals = AtomicUsize::new(0);
    let over = json!({ "code": "unauthorized", "error": "unauthorized" });
    let fake = Fake::start(move |seen| match seen.line.as_str() {
        "POST /auth/login" => Answer::Json(
            200,
            json!({ "token": "token-0", "refreshToken": "refresh-0", "user": { "email": "a@b" } }),
        ),
        "POST /auth/refresh" => {
            let n = renewals.fetch_add(1, Ordering::Relaxed) + 1;
            assert_eq!(seen.body, json!({ "refreshToken": format!("refresh-{}", n - 1) }));
            assert_eq!(seen.header("authorization"), "");
            Answer::Json(
                200,
                json!({ "token": format!("token-{n}"), "refreshToken": format!("refresh-{n}") }),
            )
        }
        _ if seen.header("authorization") != format!("Bearer token-{}", renewals.load(Ordering::Relaxed)) => {
            Answer::Json(401, over.clone())
        }
        _ => answer("succeeded", seen, |seen| match after(seen) {
            // The access token is over while the stream is open, again and again.
            n @ 0..5 => {
                let next = upto(n + 1).split_off(upto(n).len());
                Answer::Events(next + &error("unauthorized", "over"), Then::Close)
            }
            n => Answer::Events(story(n) + &end("succeeded"), Then::Close),
        }),
    });
    let user = User::new().with("LANTERN_API_URL", &fake.url());
    user.run(&["login", "--email", "a@b", "--password", "pw"]).ok();
    let done = user.run(&["logs", RUN, "-f"]);
    assert_eq!((done.code, shown(&done.out)), (0, vec![1, 2, 3, 4, 5, 6]), "{done:?}");
    assert!(!done.err.contains("over") && !done.out.contains("unauthorized"), "{done:?}");
}

#[test]
fn a_stream_that_is_cut_however_often_a_login_is_renewed_is_given_up() {
    let renewals = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.line.as_str() {
        "POST /auth/login" | "POST /auth/refresh" => {
            let n = renewals.fetch_add(1, Ordering::Relaxed);
            let token = format!("token-{n}");
            Answer::Json(200, json!({ "token": token, "refreshToken": token, "user": { "email": "a@b" } }))
        }
        _ => Answer::Events(error("unauthorized", "over"), Then::Close),
    });
    let user = User::new().with("LANTERN_API_URL", &fake.url());
    user.run(&["login", "--email", "a@b", "--password", "pw"]).ok();
    let done = user.run(&["logs", RUN, "-f"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(fake.lines().iter().filter(|line| line.contains("refresh")).count(), 2);
}
