//! The commands that ask one question: what they send, what they show, and which exit code they end with.

use serde_json::{Value, json};

use super::cli_fake::{Answer, Fake, RUN, Then, User, refusal, unforeseen};

#[test]
fn a_decision_may_wait_for_its_question() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let fake = Fake::start(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => refusal(404, "step_not_found", "the run has no step \"s\""),
        1 => refusal(409, "step_not_waiting", "step s does not wait for a decision"),
        2 => Answer::Json(200, json!({ "status": "accepted" })),
        _ => refusal(404, "step_not_found", "the run has no step \"s\""),
    });
    let user = User::of(&fake);
    assert_eq!(user.run(&["runs", "approve", RUN, "s", "--wait", "60"]).ok(), "accepted\n");
    assert_eq!(fake.seen().len(), 3);
    assert_eq!(user.run(&["runs", "deny", RUN, "s"]).code, 4, "without it, nothing waits");
    assert_eq!(fake.seen().len(), 4);
}

#[test]
fn refusals_become_exit_codes() {
    let fake = Fake::start(|seen| match seen.line.rsplit('/').next().unwrap() {
        "unauthorized" => refusal(401, "unauthorized", "unauthorized"),
        "forbidden" => refusal(403, "scope_missing", "scope missing"),
        "missing" => refusal(404, "agent_not_found", "agent \"missing\" not found"),
        "broken" => refusal(500, "internal", "internal error"),
        _ => Answer::Json(502, Value::Null),
    });
    let user = User::of(&fake);
    for (agent, code, words) in [
        ("unauthorized", 3, "next: the server does not accept LANTERN_API_KEY"),
        ("forbidden", 3, "error: scope missing (scope_missing)"),
        ("missing", 4, "next: see what there is with `lantern agents list`"),
        ("broken", 1, "next: look at the server's log for the request r-1"),
        ("gateway", 1, "the server answered 502 Bad Gateway"),
    ] {
        let done = user.run(&["agents", "get", agent]);
        assert_eq!(done.code, code, "{agent}: {done:?}");
        assert!(done.err.contains(words) && done.out.is_empty(), "{agent}: {done:?}");
    }
    let done = user.run(&["agents", "get", "missing", "-o", "json"]);
    let report: Value = serde_json::from_str(&done.err).unwrap();
    assert_eq!((&report["code"], &report["exitCode"]), (&json!("agent_not_found"), &json!(4)));
    assert_eq!((done.code, done.out.as_str()), (4, ""));
}

#[test]
fn a_server_that_is_not_there_can_be_started() {
    let port = { Fake::start(|seen| unforeseen(&seen.line)).port };
    let user = User::new().with("LANTERN_API_URL", &format!("http://127.0.0.1:{port}"));
    for args in
        [&["whoami", "--api-key", "k"][..], &["login", "--email", "a", "--password", "b"], &["doctor"]]
    {
        let done = user.run(args);
        assert_eq!(done.code, 5, "{done:?}");
        let said = format!("{}{}", done.out, done.err);
        assert!(said.contains("cannot reach http://127.0.0.1") && said.contains("`lantern dev`"), "{said}");
    }
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_sent() {
    let fake = Fake::start(|seen| unforeseen(&seen.line));
    let user = User::of(&fake);
    let yaml = user.file("agent.yaml", "name: a");
    let list = user.file("list.json", "[]");
    for args in [
        &["agents", "create"][..],
        &["agents", "create", "--name", "a", "--label", "x"],
        &["agents", "create", "--file", &yaml],
        &["agents", "create", "--file", &list],
        &["agents", "create", "--file", "missing.json"],
        &["agents", "delete", "a"],
        &["agents", "list", "--limit", "0"],
        &["runs", "create", "--agent", "a", "--input", "{\"x\":"],
        &["runs", "create", "--agent", "a", "--input", "@missing"],
        &["runs", "create", "--agent", "a", "--max-cost-usd", "cheap"],
        &["runs", "create", "--agent", "a", "--idempotency-key", "ż"],
        &["runs", "get", "7"],
        &["runs", "delete", RUN],
        &["runs", "resolve", RUN, "s", "--happened", "perhaps"],
        &["logs", RUN, "--from-start"],
        &["whoami", "--api-url", "localhost:8080"],
        &["launch"],
    ] {
        let done = user.run(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        assert!(done.err.contains("\nnext: ") && done.out.is_empty(), "{args:?}: {done:?}");
        let done = user.run(&[args, &["-o", "json"][..]].concat());
        let error: Value = serde_json::from_str(&done.err).unwrap_or_else(|_| panic!("{args:?}: {done:?}"));
        assert_eq!((done.code, &error["exitCode"], done.out.as_str()), (2, &json!(2), ""), "{args:?}");
        for field in ["error", "code", "next"] {
            assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{args:?}: {error}");
        }
    }
}

/// The commit of this checkout, if it is one.
fn commit() -> Option<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).current_dir(&root).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    // An archive may lie in the checkout of something else.
    git(&["rev-parse", "--show-toplevel"]).filter(|top| std::path::Path::new(top) == root)?;
    git(&["rev-parse", "--short=12", "HEAD"])
}

#[test]
fn whatever_goes_to_programs_is_json() {
    let fake = Fake::start(|_| refusal(409, "conflict", "somebody was first"));
    let user = User::of(&fake);
    let version: Value = serde_json::from_str(&user.run(&["--version", "-o", "json"]).ok()).unwrap();
    let (number, commit) = (env!("CARGO_PKG_VERSION"), commit());
    assert_eq!(version, json!({ "name": "lantern", "version": number, "commit": commit }));
    let of = commit.map(|commit| format!(" ({commit})")).unwrap_or_default();
    assert_eq!(user.run(&["--version"]).ok(), format!("lantern {number}{of}\n"));
    let help: Value = serde_json::from_str(&user.run(&["--help", "-o", "json"]).ok()).unwrap();
    assert!(help["help"].as_str().unwrap().contains("Usage: lantern"));
    for args in ANSWERING.iter().filter(|args| !args.contains(&"--help") && args.len() > 1) {
        if matches!(args[0], "completions" | "logout") {
            continue;
        }
        let done = user.run(&[args, &["-o", "json"][..]].concat());
        let error: Value = serde_json::from_str(&done.err).unwrap_or_else(|_| panic!("{args:?}: {done:?}"));
        assert_eq!((done.code, &error["code"], done.out.as_str()), (1, &json!("conflict"), ""), "{args:?}");
        assert!(error["next"].as_str().unwrap().contains("look at it again"), "{args:?}: {error}");
    }
    // What is beside the answer is JSON as well.
    let server = Fake::start(|_| {
        Answer::With(201, json!({ "name": "a" }), vec![("lantern-ignored", "colour".into())])
    });
    let done = User::of(&server).run(&["agents", "create", "--name", "a", "-o", "json"]);
    assert_eq!(done.err, "{\"warning\":\"the server does not know these fields: colour\"}\n");
}

#[test]
fn what_a_file_does_not_say_of_an_agent_stays() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        "PATCH /v1/agents/a" if seen.body["model"] == "none" => refusal(400, "invalid_manifest", "no"),
        "PATCH /v1/agents/a" => {
            let patched = json!({ "name": "a", "updated": true, "version": 4 });
            Answer::With(200, patched, vec![("lantern-ignored", "colour".to_owned())])
        }
        "GET /v1/agents/a" => Answer::Json(200, json!({ "name": "a", "version": 4, "description": "kept" })),
        "PATCH /v1/agents/new" => refusal(404, "agent_not_found", "agent \"new\" not found"),
        "PATCH /v1/agents/old" => refusal(409, "agent_archived", "agent \"old\" is archived"),
        "POST /v1/agents" => Answer::Json(201, json!({ "name": seen.body["name"], "version": 1 })),
        other => unforeseen(other),
    });
    let user = User::of(&fake);
    let file = user.file("a.json", r#"{"name": "a", "model": "auto", "labels": null, "colour": 1}"#);
    let done = user.run(&["agents", "create", "--file", &file, "-o", "json"]);
    assert_eq!(done.err, "{\"warning\":\"the server does not know these fields: colour\"}\n");
    assert_eq!(serde_json::from_str::<Value>(&done.ok()).unwrap()["description"], "kept");
    assert_eq!(fake.seen()[0].body, json!({ "model": "auto", "labels": null, "colour": 1 }));
    for (name, want) in [("a", "version 4"), ("new", "version 1"), ("old", "version 1")] {
        let said = user.run(&["agents", "create", "--name", name, "--max-turns", "3"]).ok();
        assert_eq!(said, format!("saved the agent {name}, {want}\n"));
    }
    assert_eq!(fake.seen().last().unwrap().body, json!({ "name": "old", "maxTurns": 3 }));
    let posts = fake.lines().into_iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(posts, 2, "an agent that is there is not written over");
    assert_eq!(user.run(&["agents", "create", "--name", "a", "--model", "none"]).code, 2);
}

#[test]
fn an_agent_comes_from_a_file_and_flags() {
    let fake = Fake::start(|seen| {
        if seen.line.starts_with("PATCH ") {
            return refusal(404, "agent_not_found", "no");
        }
        let ignored = vec![("lantern-ignored", "memory, colour".to_owned())];
        let agent = json!({ "name": seen.body["name"], "version": 3, "digest": "sha256:1" });
        Answer::With(201, agent, ignored)
    });
    let user = User::of(&fake);
    let file =
        user.file("agent.json", r#"{"name": "a", "model": "auto", "systemPrompt": "x", "memory": {}}"#);
    let prompt = user.file("prompt.txt", "Be brief.\n");
    let system = format!("@{prompt}");
    let args = ["agents", "create", "--file", &file, "--name", "b", "--system", &system, "--tool", "calc"];
    let more = ["--tool", "http.fetch", "--label", "team=x", "--max-turns", "4", "--description", "d"];
    let done = user.run(&[&args[..], &more[..]].concat());
    assert!(done.err.contains("warning: the server does not know these fields: memory, colour"), "{done:?}");
    assert_eq!(done.ok(), "saved the agent b, version 3\n");
    let want = json!({ "name": "b", "model": "auto", "systemPrompt": "Be brief.\n", "memory": {}, "description": "d",
        "tools": ["calc", "http.fetch"], "labels": { "team": "x" }, "maxTurns": 4 });
    let seen = fake.seen().pop().unwrap();
    assert_eq!((seen.line.as_str(), &seen.body), ("POST /v1/agents", &want));
    assert_eq!(seen.header("content-type"), "application/json");
}

#[test]
fn wrong_fields_are_listed() {
    let fake = Fake::start(|_| {
        let fields = json!([{ "path": "tools[0]", "message": "no such tool" }]);
        Answer::Json(
            400,
            json!({ "error": "invalid manifest", "code": "invalid_manifest", "fields": fields }),
        )
    });
    let done = User::of(&fake).run(&["agents", "create", "--name", "a", "--tool", "nope"]);
    assert_eq!(done.code, 2);
    let want = "error: invalid manifest (invalid_manifest)\n  - tools[0]: no such tool\nnext: correct the file or \
                the flags; `lantern agents create --help` lists these\n";
    assert_eq!(done.err, want);
}

#[test]
fn lists_are_read_page_by_page() {
    let fake = Fake::start(|seen| {
        let run =
            |n: u32| json!({ "id": n.to_string(), "agentName": "a", "status": "queued", "costUsd": 0.5 });
        let link = |cursor| {
            vec![("link", format!("<http://elsewhere.example/v1/runs?cursor={cursor}>; rel=\"next\""))]
        };
        match seen.line.split("limit=").nth(1).unwrap() {
            "100" => Answer::With(200, Value::Array((0..100).map(run).collect()), link("p%2F2")),
            "50&cursor=p%2F2" => Answer::With(200, Value::Array((100..150).map(run).collect()), link("p3")),
            "2" => Answer::Json(200, json!([run(1)])),
            "2&cursor=p3" => Answer::Json(200, json!([run(2)])),
            other => unforeseen(other),
        }
    });
    let user = User::of(&fake);
    let done =
        user.run(&["runs", "list", "--limit", "150", "--agent", "a b", "--status", "queued", "-o", "json"]);
    assert!(done.err.contains("there are more than 150: raise --limit"), "{}", done.err);
    assert!(done.err.contains("go on with --cursor p3"), "{}", done.err);
    let runs: Vec<Value> = serde_json::from_str(&done.ok()).unwrap();
    assert_eq!((runs.len(), runs[149]["id"].as_str()), (150, Some("149")));
    assert_eq!(fake.lines()[0], "GET /v1/runs?agent=a%20b&status=queued&limit=100");
    let done = user.run(&["runs", "list", "--limit", "2"]);
    let want = "ID  AGENT  STATUS  TOOK  TOKENS  COST   CREATED\n1   a      queued        0       $0.50\n";
    assert_eq!((done.out.as_str(), done.err.as_str()), (want, ""));
    let rest = user.run(&["runs", "list", "--limit", "2", "--cursor", "p3", "-o", "json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&rest).unwrap()[0]["id"], "2");
    let some = [
        "--status",
        "failed,queued",
        "--parent",
        RUN,
        "--label",
        "env=prod",
        "--query",
        "re",
        "--limit",
        "2",
    ];
    user.run(&[&["runs", "list"], &some[..]].concat()).ok();
    let last = fake.lines().pop().unwrap();
    user.run(&["runs", "list", "--session", RUN, "--limit", "2"]).ok();
    assert_eq!(fake.lines().pop().unwrap(), format!("GET /v1/runs?sessionId={RUN}&limit=2"));
    user.run(&["agents", "list", "--page-size", "2"]).ok();
    assert_eq!(fake.lines().pop().unwrap(), "GET /v1/agents?limit=2");
    assert_eq!(
        last,
        format!("GET /v1/runs?status=failed%2Cqueued&parent={RUN}&q=re&label=env%3Aprod&limit=2")
    );
    let done = user.run(&["runs", "list", "--since", "yesterday"]);
    assert!(done.code == 2 && done.err.contains("90m or 7d"), "{done:?}");
}

#[test]
fn an_input_is_json_or_text() {
    let fake = Fake::start(|_| Answer::Json(201, json!({ "id": RUN, "status": "queued" })));
    let user = User::of(&fake);
    let object = format!("@{}", user.file("in.json", "{\"n\": 1}"));
    let text = format!("@{}", user.file("history.txt", b"commit 1\nna\xefve\n"));
    let create = |input: &str| user.run(&["runs", "create", "--agent", "a", "--input", input]);
    assert_eq!(create(&object).ok(), format!("started the run {RUN}\n"));
    let done = create(&text);
    assert!(done.err.contains("history.txt is not all UTF-8: 1 place was replaced by U+FFFD"), "{done:?}");
    create("{\"a\": [1]}").ok();
    create("just words").ok();
    let args = ["runs", "create", "--agent", "a", "--idempotency-key", "k-1", "--max-cost-usd", "0.25"];
    user.run(&args).ok();
    let seen = fake.seen();
    let inputs: Vec<&Value> = seen.iter().map(|seen| &seen.body["input"]).collect();
    let wrapped = json!({ "text": "commit 1\nna\u{fffd}ve\n" });
    let (inline, words) = (json!({ "a": [1] }), json!({ "text": "just words" }));
    assert_eq!(inputs, [&json!({ "n": 1 }), &wrapped, &inline, &words, &Value::Null]);
    assert_eq!(seen[4].body, json!({ "agentName": "a", "maxCostUsd": 0.25 }));
    assert_eq!(seen[4].header("idempotency-key"), "k-1");
    assert_ne!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
}

#[test]
fn an_input_that_is_too_big_is_measured() {
    let fake = Fake::start(|_| refusal(413, "input_too_large", "the input is too large"));
    let user = User::of(&fake);
    let input = format!("@{}", user.file("big.txt", "a".repeat(5 << 20)));
    let done = user.run(&["runs", "create", "--agent", "a", "--input", &input]);
    assert_eq!(done.code, 2);
    assert!(
        done.err.contains("(input_too_large)") && done.err.contains("the request has 5.1 MiB"),
        "{done:?}"
    );
    assert!(done.err.contains("4.0 MiB are input"), "{done:?}");
}

#[test]
fn each_verb_asks_for_its_route() {
    let fake = Fake::start(|seen| match seen.line.split(' ').next().unwrap() {
        "DELETE" => Answer::Json(204, Value::Null),
        _ => Answer::Json(200, json!({ "id": RUN, "name": "a", "status": "accepted" })),
    });
    let user = User::of(&fake);
    let run = format!("/v1/runs/{RUN}");
    for (args, line, body) in [
        (&["agents", "get", "a/b"][..], "GET /v1/agents/a%2Fb".to_owned(), Value::Null),
        (&["agents", "get", "a", "--at", "2"], "GET /v1/agents/a/versions/2".to_owned(), Value::Null),
        (&["agents", "archive", "a", "--force"], "DELETE /v1/agents/a".to_owned(), Value::Null),
        (&["agents", "delete", "a", "--force"], "DELETE /v1/agents/a".to_owned(), Value::Null),
        (&["agents", "restore", "a"], "POST /v1/agents/a/restore".to_owned(), json!({})),
        (&["agents", "diff", "a", "1", "2"], "GET /v1/agents/a/versions/1/diff/2".to_owned(), Value::Null),
        (&["agents", "promote", "a", "1"], "POST /v1/agents/a/versions/1/promote".to_owned(), json!({})),
        (&["runs", "get", RUN], format!("GET {run}"), Value::Null),
        (&["runs", "cancel", RUN, "--reason", "no"], format!("POST {run}/cancel"), json!({ "reason": "no" })),
        (&["runs", "pause", RUN], format!("POST {run}/pause"), json!({})),
        (&["runs", "resume", RUN], format!("POST {run}/resume"), json!({})),
        (
            &["runs", "signal", RUN, "go on", "--value", "{\"a\":1}"],
            format!("POST {run}/signals/go%20on"),
            json!({ "value": { "a": 1 } }),
        ),
        (
            &["runs", "approve", RUN, "llm-1.tool-1"],
            format!("POST {run}/approvals/llm-1.tool-1"),
            json!({ "approved": true, "note": null }),
        ),
        (
            &["runs", "deny", RUN, "s", "--note", "too dear"],
            format!("POST {run}/approvals/s"),
            json!({ "approved": false, "note": "too dear" }),
        ),
        (
            &["runs", "resolve", RUN, "s", "--happened", "yes", "--result", "7"],
            format!("POST {run}/steps/s/resolve"),
            json!({ "happened": true, "output": 7 }),
        ),
        (
            &["runs", "resolve", RUN, "s", "--happened", "no"],
            format!("POST {run}/steps/s/resolve"),
            json!({ "happened": false }),
        ),
        (&["runs", "delete", RUN, "--force"], format!("DELETE {run}"), Value::Null),
        (&["approvals", "get", RUN], format!("GET /v1/approvals/{RUN}"), Value::Null),
        (&["approvals", "grant", RUN], format!("POST /v1/approvals/{RUN}/grant"), json!({ "note": null })),
        (
            &["approvals", "deny", RUN, "--note", "too dear"],
            format!("POST /v1/approvals/{RUN}/deny"),
            json!({ "note": "too dear" }),
        ),
        (
            &["approvals", "answer", RUN, "{\"tag\":\"v1\"}"],
            format!("POST /v1/approvals/{RUN}/answer"),
            json!({ "approved": true, "answer": { "tag": "v1" }, "note": null }),
        ),
        (&["stops", "get", RUN], format!("GET /v1/stops/{RUN}"), Value::Null),
        (&["runs", "replay", RUN], format!("POST {run}/replay"), json!({})),
        (&["runs", "replay", RUN, "--from", "s"], format!("POST {run}/replay"), json!({ "fromStep": "s" })),
    ] {
        user.run(args).ok();
        let seen = fake.seen().pop().unwrap();
        assert_eq!((seen.line, seen.body), (line, body), "{args:?}");
    }
}

#[test]
fn whatever_a_run_waits_for_is_shown() {
    let child = "018f0000-0000-8000-8000-000000000002";
    let fake = Fake::start(move |seen| {
        if !seen.line.contains("/events") {
            let shown = json!({ "id": RUN, "agentName": "a", "status": "running" });
            return Answer::Json(200, shown);
        }
        let events = [
            ("signal_waiting", "first.paid", json!({ "name": "paid", "due": "2026-09-21T15:00:00Z" })),
            ("sleep_started", "first.late", json!({ "name": "late", "due": "2026-09-21T14:13:20.5Z" })),
            ("sleep_started", "nap", json!({ "name": "nap", "due": "2026-09-21T14:00:00Z" })),
            ("sleep_completed", "nap", json!({})),
            ("step_started", "ok", json!({ "type": "approval", "arguments": { "reason": "Ship?" } })),
            ("approval_requested", "ok", json!({ "expiresAt": "2026-09-22T00:00:00Z" })),
            ("child_started", "price", json!({ "type": "child", "name": "vat", "childRunId": child })),
            ("step_admitted", "price", json!({ "generation": 1, "holdUsd": 0.5 })),
            ("step_retrying", "ask", json!({ "code": "provider_timeout", "due": "2026-09-21T14:13:21Z" })),
        ];
        let frame = |(n, (kind, step, data)): (usize, &(&str, &str, Value))| {
            let frame = json!({ "seq": n + 1, "kind": kind, "stepId": step, "runId": RUN, "data": data });
            format!("id: {}\nevent: {kind}\ndata: {frame}\n\n", n + 1)
        };
        Answer::Events(events.iter().enumerate().map(frame).collect(), Then::Close)
    });
    let user = User::of(&fake);
    let (signal, approve) =
        (format!("lantern runs signal {RUN} paid"), format!("lantern runs approve {RUN} ok"));
    let want = format!(
        "id           {RUN}\nagent        a\nstatus       running\n\
         waits for    the signal paid\nanswer with  {signal}\n\
         waits for    approval of ok: Ship?\nanswer with  {approve}\n\
         waits for    ask: another attempt at 2026-09-21 14:13:21Z, after provider_timeout\n\
         waits for    first.late until 2026-09-21 14:13:20Z\n\
         waits for    price: the run {child} of vat\n"
    );
    assert_eq!(user.run(&["runs", "get", RUN]).ok(), want);
    let shown: Value = serde_json::from_str(&user.run(&["runs", "get", RUN, "-o", "json"]).ok()).unwrap();
    let want = json!([
        { "step": "first.paid", "kind": "signal", "name": "paid", "until": "2026-09-21T15:00:00Z", "command": signal },
        { "step": "ok", "kind": "approval", "about": "Ship?", "until": "2026-09-22T00:00:00Z", "command": approve },
        { "step": "ask", "kind": "retry", "code": "provider_timeout", "until": "2026-09-21T14:13:21Z" },
        { "step": "first.late", "kind": "timer", "until": "2026-09-21T14:13:20.5Z" },
        { "step": "price", "kind": "child", "run": child, "agent": "vat" },
    ]);
    assert_eq!((&shown["waitsFor"], &shown["status"]), (&want, &json!("running")));
}

/// One command line for each verb that answers something.
const ANSWERING: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["agents", "create", "--help"],
    &["completions", "bash"],
    // With a key: of a saved login it would say that it is kept.
    &["logout"],
    &["login", "--email", "a", "--password", "b"],
    &["whoami"],
    &["agents", "create", "--name", "a"],
    &["agents", "get", "a"],
    &["agents", "list"],
    &["agents", "versions", "a"],
    &["agents", "get", "a", "--at", "1"],
    &["agents", "archive", "a", "--force"],
    &["agents", "restore", "a"],
    &["agents", "diff", "a", "1", "2"],
    &["agents", "promote", "a", "1"],
    &["runs", "create", "--agent", "a"],
    &["runs", "create", "--agent", "a", "--follow"],
    &["runs", "create", "--agent", "a", "--wait", "0"],
    &["runs", "get", RUN],
    &["runs", "list"],
    &["runs", "cancel", RUN],
    &["runs", "pause", RUN],
    &["runs", "resume", RUN],
    &["runs", "signal", RUN, "s"],
    &["runs", "approve", RUN, "s"],
    &["runs", "deny", RUN, "s"],
    &["runs", "resolve", RUN, "s", "--happened", "no"],
    &["runs", "delete", RUN, "--force"],
    &["approvals", "list"],
    &["approvals", "get", RUN],
    &["approvals", "grant", RUN],
    &["approvals", "deny", RUN],
    &["logs", RUN],
    &["logs", RUN, "-f"],
    &["keys", "list"],
    &["keys", "create", "--name", "a"],
    &["keys", "revoke", RUN, "--force"],
    &["providers", "list"],
    &["providers", "set", "p", "--base-url", "http://h/v1"],
    &["providers", "test", "p"],
    &["providers", "delete", "p", "--force"],
    &["doctor"],
];

#[test]
fn an_answer_that_cannot_be_written_is_an_exit_code_and_no_panic() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        line if line.contains("/events") => {
            let end = json!({ "kind": "end", "data": { "status": "succeeded" } });
            let text = format!("id: 1\nevent: paused\ndata: {{}}\n\nevent: end\ndata: {end}\n\n");
            Answer::Events(text, Then::Close)
        }
        line if line.starts_with("GET") && (line.contains('?') || line.ends_with("llm-providers")) => {
            Answer::Json(200, json!([{ "id": RUN, "name": "a", "provider": "p" }]))
        }
        _ => Answer::Json(
            200,
            json!({ "id": RUN, "name": "a", "token": "t", "status": "succeeded", "email": "a", "success": true,
                "rawKey": "k" }),
        ),
    });
    let user = User::of(&fake);
    for args in ANSWERING {
        for format in ["text", "json"] {
            let args = [args, &["-o", format][..]].concat();
            let full = user.run_into_the_full(&args);
            assert!(full.code == 1 && full.err.contains("cannot write the output"), "{args:?}: {full:?}");
            let gone = user.run_into_the_closed(&args);
            assert!(gone.code == 0 && !gone.err.contains("cannot write"), "{args:?}: {gone:?}");
            assert!(!full.err.contains("panicked") && !gone.err.contains("panicked"), "{args:?}");
        }
    }
}

#[test]
fn another_kind_of_server_is_told_apart() {
    let fake = Fake::start(|_| Answer::Json(200, json!("hello")));
    let user = User::of(&fake);
    let done = user.run(&["runs", "list"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("does not answer like a Lantern server"), "{done:?}");
}
