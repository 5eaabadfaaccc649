//! What `lantern doctor` looks at, says, and leaves as it was.

use serde_json::{Value, json};

use super::cli_fake::{Answer, Fake, RUN, User, refusal, unforeseen};

#[test]
fn the_doctor_leaves_nothing_behind() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        "GET /healthz" => Answer::Json(200, json!({ "status": "ok", "llmMode": "offline" })),
        "GET /auth/me" => Answer::Json(200, json!({ "email": "", "role": "service", "tenantId": "t" })),
        "GET /v1/settings/llm-providers" => Answer::Json(200, json!([])),
        "GET /v1/limits" => Answer::Json(
            200,
            json!({ "limits": { "a": 2 }, "defaults": { "a": 1 },
            "traces": { "exported": true, "to": "http://c:4318" } }),
        ),
        "GET /v1/stops?status=holding&limit=50" => {
            // One of an agent is told, and keeps nobody from anything.
            let stop = json!({ "id": "s", "scope": "agent", "agentName": "vat", "reason": "it loops" });
            Answer::Json(200, json!([stop]))
        }
        "GET /v1/runtime/cluster" => refusal(501, "runtime_unsupported", "this server runs no workloads"),
        "POST /v1/agents" => Answer::Json(201, json!({ "name": seen.body["name"] })),
        "POST /v1/runs" => Answer::Json(201, json!({ "id": RUN, "status": "queued" })),
        line if line.starts_with("GET /v1/runs/") => {
            let times = ("2026-09-21T14:13:20Z", "2026-09-21T14:13:20.5Z");
            let input = json!({ "text": "x".repeat(70_000) });
            let run =
                json!({ "status": "succeeded", "startedAt": times.0, "finishedAt": times.1, "input": input });
            Answer::Json(200, run)
        }
        line if line.ends_with("/cancel") => refusal(409, "run_finished", "the run is over"),
        line if line.starts_with("DELETE ") => Answer::Json(204, Value::Null),
        other => unforeseen(other),
    });
    let user = User::of(&fake);
    let out = user.run(&["doctor"]).ok();
    let marks: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(
        marks,
        ["server", "login", "limits", "traces", "boxes", "stops", "bodies", "model", "run"],
        "{out}"
    );
    assert!(out.contains("all spending of the agent vat is halted by s: it loops"), "{out}");
    assert!(out.contains("the built-in offline model") && out.contains("succeeded in 0.5s"), "{out}");
    let agent = fake.seen().iter().find(|seen| seen.line == "POST /v1/agents").unwrap().body["name"].clone();
    let lines = fake.lines();
    assert!(lines.contains(&format!("DELETE /v1/runs/{RUN}")), "{lines:?}");
    assert!(lines.contains(&format!("DELETE /v1/agents/{}", agent.as_str().unwrap())), "{lines:?}");
    let report: Value = serde_json::from_str(&user.run(&["doctor", "-o", "json"]).ok()).unwrap();
    assert_eq!((&report["ok"], report["checks"].as_array().unwrap().len()), (&json!(true), 9));
}

#[test]
fn the_doctor_names_what_is_missing() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        "GET /healthz" => Answer::Json(200, json!({ "status": "ok", "llmMode": "api" })),
        "GET /auth/me" => Answer::Json(200, json!({ "email": "ada@example.com", "role": "admin" })),
        "POST /v1/runs" => refusal(503, "unavailable", "the bucket cannot answer now"),
        _ => Answer::Json(200, json!([])),
    });
    let done = User::of(&fake).run(&["doctor"]);
    assert_eq!(done.code, 1);
    assert!(done.out.contains("✘ bodies  the bucket cannot answer now"), "{done:?}");
    assert!(done.out.contains("next: does the server's bucket answer"), "{done:?}");
    assert!(done.out.contains("✘ model   no model provider is configured"), "{done:?}");
    let done = User::new().run(&["doctor", "--api-url", &fake.url()]);
    assert_eq!(done.code, 3);
    assert!(
        done.out.contains("✘ login   not logged in\n          next: run `lantern login --api-url"),
        "{done:?}"
    );
}

#[test]
fn the_doctor_says_what_is_wrong_with_a_provider() {
    for (tests, code, words) in [
        (
            &["provider_unreachable"][..],
            1,
            "✘ model   p0 at http://h/v1 cannot be used: provider_unreachable",
        ),
        (&["provider_unreachable"], 1, "next: see that the provider runs and that its address is right"),
        (&["provider_auth"], 1, "next: give it a key that it accepts"),
        (&["tls"], 1, "✘ model   p0 at http://h/v1 cannot be used: its certificate is not accepted"),
        (&["tls"], 1, "next: use an address whose certificate leads to a public root"),
        (&["egress_denied"], 1, "private_addresses = true"),
        (&["provider_timeout", ""], 0, "✔ model   p0 at http://h/v1 cannot be used: provider_timeout; p1\n"),
        (&["provider_refused"], 0, "✔ model   p0 (which lists no models)"),
        (&["forbidden"], 0, "✔ model   p0 (not tested: that takes an admin)"),
    ] {
        let fake = Fake::start(move |seen| match seen.line.as_str() {
            "GET /v1/settings/llm-providers" => {
                let provider = |n| {
                    json!({ "provider": format!("p{n}"), "status": "active", "baseUrl": "http://h/v1",
                        "unpricedAreFree": true })
                };
                Answer::Json(200, (0..tests.len()).map(provider).collect())
            }
            line if line.ends_with("/test") => {
                let n = usize::from(line.contains("p1"));
                match tests[n] {
                    "forbidden" => refusal(403, "role_missing", "no"),
                    "tls" => {
                        let words = "p0 cannot be used: its certificate is not accepted";
                        let code = "provider_unreachable";
                        let tested =
                            json!({ "success": false, "code": code, "reason": "tls", "error": words });
                        Answer::Json(200, tested)
                    }
                    code => Answer::Json(200, json!({ "success": code.is_empty(), "code": code })),
                }
            }
            line if line.starts_with("DELETE ") => Answer::Json(204, Value::Null),
            line if line.starts_with("GET /v1/stops") => Answer::Json(200, json!([])),
            _ => Answer::Json(
                200,
                json!({ "id": RUN, "status": "succeeded", "llmMode": "api", "input": { "text": "x".repeat(70_000) } }),
            ),
        });
        let done = User::of(&fake).run(&["doctor"]);
        assert_eq!(done.err.contains("warning: models of p"), code == 0, "{tests:?}: {done:?}");
        assert_eq!(done.code, code, "{tests:?}: {done:?}");
        assert!(done.out.contains(words), "{tests:?}: {done:?}");
    }
}
