//! What people are told of a run: which one an order reached, what it waits for and from whom, how it ended.

use serde_json::{Value, json};

use super::cli_fake::{Answer, Fake, RUN, Seen, Then, User, unforeseen};

/// The run that [`RUN`] went on as.
const NEXT: &str = "018f0000-0000-8000-8000-000000000002";

/// A server that knows one run, what happened in it, and one caller.
fn server(run: Value, events: Vec<(&'static str, &'static str, Value)>, email: &'static str) -> Fake {
    Fake::start(move |seen: &Seen| match seen.line.as_str() {
        "GET /auth/me" => Answer::Json(200, json!({ "email": email, "role": "member", "tenantId": "t" })),
        line if line.contains("/events") => {
            let frame = |(n, (kind, step, data)): (usize, &(&str, &str, Value))| {
                let frame = json!({ "seq": n + 1, "kind": kind, "stepId": step, "runId": RUN, "data": data,
                    "ts": "2026-09-21T14:13:20Z" });
                format!("id: {}\nevent: {kind}\ndata: {frame}\n\n", n + 1)
            };
            let end = json!({ "kind": "end", "data": { "status": run["status"] } });
            let end = match run["status"].as_str() {
                Some("succeeded" | "failed" | "cancelled") => format!("event: end\ndata: {end}\n\n"),
                _ => String::new(),
            };
            let told: String = events.iter().enumerate().map(frame).collect();
            Answer::Events(told + &end, Then::Close)
        }
        line if line == format!("GET /v1/runs/{RUN}") => Answer::Json(200, run.clone()),
        other => unforeseen(other),
    })
}

#[test]
fn an_order_names_the_run_that_it_reached() {
    let fake = Fake::start(|seen| {
        let order = seen.line.rsplit('/').next().unwrap();
        let status = match order {
            "cancel" => "cancelled",
            "pause" => "paused",
            _ => "running",
        };
        Answer::Json(200, json!({ "id": NEXT, "status": status }))
    });
    let user = User::of(&fake);
    for (order, status) in [("cancel", "cancelled"), ("pause", "paused"), ("resume", "running")] {
        let said = user.run(&["runs", order, RUN]).ok();
        assert_eq!(said, format!("the run {RUN} went on as {NEXT}\nrun {NEXT}: {status}\n"), "{order}");
        let said = user.run(&["runs", order, NEXT]).ok();
        assert_eq!(said, format!("run {NEXT}: {status}\n"), "{order}");
    }
    let paused = user.run(&["runs", "pause", RUN]);
    assert_eq!(paused.err, format!("let it go on: lantern runs resume {NEXT}\n"));
}

#[test]
fn a_paused_run_says_whose_pause_it_is_and_how_to_go_on() {
    let run = json!({ "id": RUN, "agentName": "a", "status": "paused" });
    let events = vec![("run_started", "", json!({})), ("paused", "", json!({ "by": "bob@example.com" }))];
    let fake = server(run, events, "ada@example.com");
    let user = User::of(&fake);
    let want = format!(
        "id           {RUN}\nagent        a\nstatus       paused\n\
         waits for    somebody who resumes it: bob@example.com paused it at 2026-09-21 14:13:20Z\n\
         answer with  lantern runs resume {RUN}\n"
    );
    assert_eq!(user.run(&["runs", "get", RUN]).ok(), want);
    let shown: Value = serde_json::from_str(&user.run(&["runs", "get", RUN, "-o", "json"]).ok()).unwrap();
    let want = json!([{ "kind": "resume", "by": "bob@example.com", "since": "2026-09-21T14:13:20Z",
        "command": format!("lantern runs resume {RUN}") }]);
    assert_eq!(shown["waitsFor"], want);
    let line = user.run(&["logs", RUN]).ok();
    assert!(line.contains(&format!("by: bob@example.com  lantern runs resume {RUN}\n")), "{line}");
    assert!(!fake.lines().iter().any(|line| line.contains("/auth/me")), "nobody has to be known for that");
}

#[test]
fn only_who_may_approve_is_told_how() {
    let run = json!({ "id": RUN, "agentName": "a", "status": "paused" });
    let asked = |approvers: Value| {
        let arguments = json!({ "reason": "Ship?", "approvers": approvers });
        let started = json!({ "type": "approval", "name": "ship", "arguments": arguments });
        vec![("step_started", "ship", started), ("approval_requested", "ship", json!({}))]
    };
    let command = format!("lantern runs approve {RUN} ship");
    let two = json!(["Ada@example.com", "bob@example.com"]);
    for (approvers, email, mine) in [
        (two.clone(), "ada@example.com", true),
        (two.clone(), "eve@example.com", false),
        (two, "", false),
        (json!([]), "eve@example.com", true),
        // A key does not know its own name: it may be this one.
        (json!(["api-key:7"]), "", true),
        (json!(["api-key:7"]), "eve@example.com", false),
    ] {
        let fake = server(run.clone(), asked(approvers.clone()), email);
        let user = User::of(&fake);
        let names: Vec<&str> =
            approvers.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let names = names.join(", ");
        let shown = user.run(&["runs", "get", RUN]).ok();
        let want = if mine { format!("answer with  {command}\n") } else { format!("answered by  {names}\n") };
        assert!(shown.ends_with(&format!("approval of ship: Ship?\n{want}")), "{email}: {shown}");
        let lines = user.run(&["logs", RUN]).ok();
        assert_eq!(lines.contains(&command), mine, "{email}: {lines}");
        assert_eq!(lines.contains(&format!("{names} may answer")), !mine, "{email}: {lines}");
        let shown = user.run(&["runs", "get", RUN, "-o", "json"]).ok();
        let question = serde_json::from_str::<Value>(&shown).unwrap()["waitsFor"][0].clone();
        assert_eq!(question.get("command").is_some(), mine, "{email}: {question}");
        assert_eq!(question.get("approvers").is_some(), !mine, "{email}: {question}");
    }
}

#[test]
fn a_reply_that_was_cut_is_said_to_be() {
    let run = json!({ "id": RUN, "status": "succeeded", "tokensIn": 1, "tokensOut": 2, "costUsd": 0,
        "startedAt": "2026-09-21T14:13:20Z", "finishedAt": "2026-09-21T14:13:22Z",
        "output": { "result": "Once upon", "truncated": true } });
    let reply = json!({ "name": "llm-1", "type": "llm", "result": "Once upon", "finish": "length" });
    let fake = server(run, vec![("step_completed", "llm-1", reply)], "ada@example.com");
    let user = User::of(&fake);
    let end = "✔ succeeded in 2.0s · 1 in, 2 out · $0.00\nthe reply was cut at the token limit: raise maxTokens \
               of the agent, or ask for less\n\nOnce upon\n";
    for args in [&["runs", "get", RUN][..], &["logs", RUN, "-f"]] {
        let said = user.run(args).ok();
        assert!(said.ends_with(end), "{said}");
    }
    let line = user.run(&["logs", RUN]).ok();
    assert!(line.contains("cut at the token limit  Once upon"), "{line}");
}

#[test]
fn a_run_that_failed_says_what_to_look_at() {
    for (code, next) in [
        ("max_turns", format!("see what it did with `lantern logs {RUN}`; raise maxTurns of the agent")),
        ("http_status", format!("see what it did with `lantern logs {RUN}`, and docs/errors/http_status.md")),
    ] {
        let error = json!({ "code": code, "message": "no", "stepId": "llm-9" });
        let run =
            json!({ "id": RUN, "status": "failed", "error": error, "finishedAt": "2026-09-21T14:13:22Z" });
        let fake = server(run, vec![("run_failed", "", json!({ "code": code }))], "ada@example.com");
        let user = User::of(&fake);
        for args in [&["runs", "get", RUN][..], &["logs", RUN, "-f"]] {
            let said = user.run(args).out;
            let last = said.lines().last().unwrap();
            assert!(last.starts_with(&format!("next: {next}")), "{said}");
        }
    }
}

#[test]
fn an_empty_list_says_why_it_is_empty() {
    let fake = Fake::start(|_| Answer::Json(200, json!([])));
    let user = User::of(&fake);
    for (args, words) in [
        (&["runs", "list"][..], "no runs: start one with `lantern runs create`"),
        (&["runs", "list", "--agent", "a"], "no runs match: see all with `lantern runs list`"),
        (&["runs", "list", "--label", "env=prod"], "no runs match"),
    ] {
        let done = user.run(args);
        assert_eq!((done.code, done.out.as_str()), (0, ""), "{done:?}");
        assert!(done.err.contains(words), "{args:?}: {done:?}");
    }
}
