//! Model calls of programs in boxes, by the real binary: who answers, what bounds them, what they cost after a crash, and whose token is whose.
//!
//! Needs root and a runtime: compiled with the feature `boxes` alone.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::process::{Folder, Server};
use super::workloads::{left, odd_image};
use crate::cli_fake::{Answer, Done, Fake, Then, User};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/headless-agents/04-ml-inference");
const KEY: &str = "sk-test-0123456789";
const NETWORK: &str = "  network: allowlist\n";

/// What the provider says to everybody: 100 tokens in, 10 out, which gpt-4o costs 350 millionths of a dollar.
fn said(text: &str) -> Value {
    json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    })
}

fn streamed(text: &str) -> String {
    let piece = |choices: Value, usage: Value| json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": choices, "usage": usage});
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
    let pieces = [
        piece(
            json!([{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": null}]),
            Value::Null,
        ),
        piece(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), Value::Null),
        piece(json!([]), usage),
    ];
    let told: Vec<String> = pieces.iter().map(|piece| format!("data: {piece}\n\n")).collect();
    told.concat() + "data: [DONE]\n\n"
}

fn provider() -> Fake {
    Fake::start(|seen| match (seen.line.as_str(), seen.body["stream"] == true) {
        ("POST /v1/chat/completions", false) => Answer::Json(200, said("glad")),
        ("POST /v1/chat/completions", true) => Answer::Events(streamed("all are glad"), Then::Close),
        _ => Answer::Json(200, json!({"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]})),
    })
}

/// The calls that a provider was asked.
fn calls(provider: &Fake) -> usize {
    provider.lines().iter().filter(|line| line.starts_with("POST")).count()
}

fn serve(folder: &Folder, address: &str, provider: &Fake) -> (Server, User) {
    let url = format!("{}/v1", provider.url());
    let env = [("OPENAI_BASE_URL", url.as_str()), ("OPENAI_API_KEY", KEY)];
    let server = Server::dev_at(address, folder.path(), &env);
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    (server, user)
}

/// A server with the image of the odd program, and a provider that counts calls.
struct House {
    folder: Folder,
    server: Server,
    user: User,
    image: String,
    provider: Fake,
}

fn house() -> House {
    let (folder, provider) = (Folder::new(), provider());
    let image = odd_image(folder.path());
    let (server, user) = serve(&folder, "127.0.0.1:0", &provider);
    House { folder, server, user, image, provider }
}

/// What the odd program is to ask.
fn asked(stream: bool, most: u32) -> String {
    json!({"model": "gpt-4o", "max_tokens": most, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
        .to_string()
}

const CHAT: &str = "/v1/chat/completions";

impl House {
    fn spec(&self, args: &[&str], more: &str) -> String {
        let args = serde_json::to_string(args).unwrap();
        let head = format!("spec:\n  image_digest: {}\n  isolation: trusted\n  args: {args}\n", self.image);
        self.user.file("spec.yaml", head + more)
    }

    fn run(&self, args: &[&str], more: &str) -> Done {
        let spec = self.spec(args, more);
        self.user.run(&["run", &spec])
    }

    fn told(&self) -> Value {
        last(&self.user)
    }
}

/// The last workload, and what happened to it.
fn last(user: &User) -> Value {
    let listed: Value = serde_json::from_str(&user.run(&["vm", "list", "-o", "json"]).ok()).unwrap();
    let vm = listed[0]["vmId"].as_str().unwrap();
    serde_json::from_str(&user.run(&["vm", "get", vm, "-o", "json"]).ok()).unwrap()
}

fn events<'a>(told: &'a Value, action: &str) -> Vec<&'a Value> {
    let events = told["events"].as_array().unwrap().iter();
    events.filter(|event| event["action"] == action).map(|event| &event["attrs"]).collect()
}

/// Has a run's receipt checked by the program, and by the script that knows nothing of it.
pub(super) fn verified(user: &User, run: &str) {
    let file = user.file("receipt.json", "");
    std::fs::remove_file(&file).unwrap();
    user.run(&["receipts", "export", run, "--file", &file]).ok();
    let keys = user.file("keys.json", "");
    std::fs::remove_file(&keys).unwrap();
    user.run(&["receipts", "keys", "--file", &keys]).ok();
    let verified = user.run(&["verify", &file, "--key", &keys]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verify/verify.py");
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    let checked = Command::new(python).arg(script).args(["--key", &keys, &file]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_program_calls_models_by_its_own_door_and_what_that_costs_is_its_runs() {
    let house = house();
    let (whole, stream) = (asked(false, 50), asked(true, 50));
    let args = ["call", CHAT, "-", &whole, CHAT, "-", &stream, "/v1/nothing", "-", "{}"];
    let done = house.run(&args, NETWORK);
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines[0].starts_with("HTTP/1.1 200 OK ") && lines[0].contains("glad"), "{done:?}");
    assert!(lines[1].contains("all are glad") && lines[1].contains("[DONE]"), "{done:?}");
    assert!(lines[2].starts_with("HTTP/1.1 404 "), "{done:?}");
    assert!(done.err.contains("model call: openai/gpt-4o: 100 tokens in, 10 out, $0.000350"), "{}", done.err);
    // The provider hears the server's key, and never the box's.
    let seen = house.provider.seen();
    let posted: Vec<_> = seen.iter().filter(|seen| seen.line.starts_with("POST")).collect();
    assert_eq!(posted.len(), 2);
    assert!(posted.iter().all(|seen| seen.header("authorization") == format!("Bearer {KEY}")));
    let told = house.told();
    let vm = &told["vm"];
    assert_eq!((&vm["costUsd"], &vm["modelCalls"]), (&json!(0.0007), &json!(2)), "{told:#}");
    assert_eq!((&vm["tokensIn"], &vm["tokensOut"]), (&json!(200), &json!(20)), "{told:#}");
    let models = events(&told, "model");
    assert_eq!(models.len(), 2, "{told:#}");
    assert_eq!((&models[0]["model"], &models[0]["costUsd"]), (&json!("gpt-4o"), &json!(0.00035)));
    let run = vm["runId"].as_str().unwrap();
    let shown: Value =
        serde_json::from_str(&house.user.run(&["runs", "get", run, "-o", "json"]).ok()).unwrap();
    assert_eq!(shown["costUsd"], json!(0.0007), "{shown:#}");
    let costs = house.user.run(&["costs", "-o", "json"]).ok();
    assert!(costs.contains("0.0007"), "{costs}");
    // The receipt has the same total, and whoever checks it adds it up again.
    let receipt: Value =
        serde_json::from_str(&house.user.run(&["receipts", "get", run, "-o", "json"]).ok()).unwrap();
    assert_eq!(receipt["payload"]["costMicroUsd"], 700, "{receipt:#}");
    assert_eq!(receipt["payload"]["models"], json!(["openai/gpt-4o"]), "{receipt:#}");
    verified(&house.user, run);
    assert_eq!(left(house.folder.path()), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_the_agent_that_workloads_run_under_halts_calls_and_steps_of_their_boxes() {
    let house = tokio::task::spawn_blocking(house).await.unwrap();
    let api = super::api::Api::of(&house.server).await;
    let chat = asked(false, 50);
    let llm = json!({"key": "thought", "request": {"model": "gpt-4o", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}}).to_string();
    let new = json!({"key": "new"}).to_string();
    let args = ["until", CHAT, "-", &chat, "/v1/steps/recall", "", &new];
    let spec = house.spec(&args, NETWORK);
    let mut following = house.user.begin(&["run", &spec]);
    assert_eq!(following.line(), "up\n");
    let stop = json!({"scope": "agent", "agentName": "(workloads)", "reason": "enough for today"});
    let (status, stop) = api.post("/v1/stops", &stop).await;
    assert_eq!(status, 201, "{stop}");
    let halted = following.line();
    let made = calls(&house.provider);
    assert!(halted.contains("emergency") && halted.contains("enough for today"), "{halted}");
    let step = following.line();
    assert!(step.starts_with("HTTP/1.1 409 ") && step.contains("emergency_stop"), "{step}");
    let done = following.end();
    assert_eq!((done.code, calls(&house.provider)), (0, made), "{done:?}");
    let told = house.told();
    assert_eq!(told["vm"]["modelCalls"], made, "{told:#}");
    // Lifted, everything is as before.
    let id = stop["id"].as_str().unwrap();
    assert!(api.delete(&format!("/v1/stops/{id}")).await < 300);
    let done = house
        .run(&["call", CHAT, "-", &chat, "/v1/steps/recall", "", &new, "/v1/steps/llm", "", &llm], NETWORK);
    let statuses: Vec<&str> = done.out.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(statuses, ["200", "200", "200"], "{done:?}");
}

/// A race has no one outcome, so the same is done often; what holds is that there are never more steps than the spec allows.
#[test]
fn of_calls_and_steps_at_once_no_more_are_taken_than_a_spec_allows() {
    let house = house();
    let chat = asked(false, 5);
    for round in 0..8 {
        let steps: Vec<String> =
            (0..4).map(|n| json!({"key": format!("{round}-{n}"), "value": n}).to_string()).collect();
        let mut args = vec!["at_once"];
        for step in &steps {
            args.extend([CHAT, "-", &chat, "/v1/steps/record", "", step]);
        }
        let done = house.run(&args, &format!("{NETWORK}  limits: {{max_steps: 3}}\n"));
        let taken = done.out.lines().filter(|line| line.starts_with("HTTP/1.1 200 ")).count();
        assert_eq!(taken, 3, "{round}: {done:?}");
    }
}

#[test]
fn what_a_spec_allows_bounds_its_calls_and_a_refusal_is_told() {
    let house = house();
    let (small, large) = (asked(false, 5), asked(false, 4_000));
    // 256 tokens and the request's bytes are held for the prompt, which is more than this pays for.
    let done =
        house.run(&["call", CHAT, "-", &small], &format!("{NETWORK}  limits: {{max_cost_usd: 0.0001}}\n"));
    assert!(done.out.starts_with("HTTP/1.1 429 ") && done.out.contains("insufficient_quota"), "{done:?}");
    assert!(
        done.err.contains("model call refused") && done.err.contains("limits.max_cost_usd"),
        "{}",
        done.err
    );
    assert_eq!(calls(&house.provider), 0, "nothing was sent");
    let told = house.told();
    assert_eq!(events(&told, "model_refused").len(), 1, "{told:#}");
    assert_eq!((&told["vm"]["costUsd"], &told["vm"]["modelCalls"]), (&json!(0.0), &json!(0)));
    // One that would fit with a shorter answer is lowered to what is left.
    let done =
        house.run(&["call", CHAT, "-", &large], &format!("{NETWORK}  limits: {{max_cost_usd: 0.005}}\n"));
    assert!(done.out.starts_with("HTTP/1.1 200 "), "{done:?}");
    let seen = house.provider.seen();
    let sent = seen.iter().rfind(|seen| seen.line.starts_with("POST")).unwrap();
    let most = sent.body["max_tokens"].as_u64().unwrap();
    assert!((100..500).contains(&most), "{most}");
    for (limits, calls_made, says) in [
        ("max_tokens: 200", 0, "limits.max_tokens"),
        ("max_tokens: 450", 1, "limits.max_tokens"),
        ("max_steps: 1", 1, "limits.max_steps"),
    ] {
        let before = calls(&house.provider);
        let args = ["call", CHAT, "-", &small, CHAT, "-", &small, CHAT, "-", &small];
        let done = house.run(&args, &format!("{NETWORK}  limits: {{{limits}}}\n"));
        assert_eq!(calls(&house.provider) - before, calls_made, "{limits}: {done:?}");
        assert!(done.err.contains(says), "{limits}: {done:?}");
    }
}

#[test]
fn the_bodies_of_one_box_take_no_more_of_the_server_than_they_may() {
    let house = house();
    // Of four bodies of seven MiB two are taken; a small one has room beside them, and what was given up has it again.
    let done = house.run(&["hold", "4", "7340032", "2", CHAT, &asked(false, 20)], NETWORK);
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<&str> = done.out.lines().collect();
    let full = "HTTP/1.1 503 Service Unavailable retry-after: 1";
    assert_eq!((lines[0], lines[1]), (full, full), "{done:?}");
    assert!(lines[2].starts_with("HTTP/1.1 200 OK "), "{done:?}");
    assert_eq!(lines[3], "HTTP/1.1 400 ", "{done:?}");
    // The same for what takes steps.
    let record = json!({"key": "a", "value": 1}).to_string();
    let done = house.run(&["hold", "9", "2097152", "1", "/v1/steps/record", &record], NETWORK);
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[0], full, "{done:?}");
    assert!(lines[1].starts_with("HTTP/1.1 503 "), "not a byte is left beside eight of two MiB: {done:?}");
    assert_eq!(lines[2], "HTTP/1.1 400 ", "{done:?}");
}

#[test]
fn a_cap_of_the_tenant_bounds_programs_as_it_bounds_everybody() {
    let house = house();
    house.user.run(&["caps", "--day", "0.0001"]).ok();
    let done = house.run(&["call", CHAT, "-", &asked(false, 5)], NETWORK);
    assert!(done.out.contains("insufficient_quota"), "{done:?}");
    assert_eq!(calls(&house.provider), 0);
    assert_eq!(house.told()["vm"]["modelCalls"], json!(0), "what was held for it is let go of");
}

/// What the API answers somebody who shows this.
fn from_outside(server: &Server, token: &str) -> String {
    let mut stream = TcpStream::connect(server.api.strip_prefix("http://").unwrap()).unwrap();
    let asked = asked(false, 5);
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        asked.len()
    );
    stream.write_all((head + &asked).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_token_is_good_in_its_own_box_alone() {
    let house = house();
    let done = house.run(&["env"], NETWORK);
    let of = |name: &str| {
        let line = done.out.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name}: {done:?}")).to_owned()
    };
    assert_eq!(of("OPENAI_BASE_URL"), "http://127.0.0.1:3128/v1");
    assert_eq!(of("ANTHROPIC_BASE_URL"), "http://127.0.0.1:3128");
    let stolen = of("LANTERN_AGENT_INSTANCE_TOKEN");
    assert_eq!((&of("OPENAI_API_KEY"), &of("ANTHROPIC_API_KEY")), (&stolen, &stolen));
    assert!(stolen.len() > 64);
    let body = asked(false, 5);
    let done = house.run(
        &["call", CHAT, &stolen, &body, CHAT, "sk-other", &body, CHAT, "", &body, "/v1/messages", "", &body],
        NETWORK,
    );
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 4, "{done:?}");
    assert!(lines.iter().all(|line| line.starts_with("HTTP/1.1 401 ")), "{done:?}");
    assert!(lines[0].contains("another workload") && lines[0].contains("invalid_api_key"), "{done:?}");
    assert!(lines[3].contains("authentication_error"), "{done:?}");
    assert!(done.err.contains("model call refused") && done.err.contains("another workload"), "{}", done.err);
    assert_eq!(events(&house.told(), "model_refused").len(), 4);
    // From outside it opens nothing.
    let refused = from_outside(&house.server, &stolen);
    assert!(
        refused.starts_with("HTTP/1.1 401 ") && refused.contains("inside of that box alone"),
        "{refused}"
    );
    assert_eq!(calls(&house.provider), 0);
    // Whoever brings a provider of their own keeps it, and no token of ours is shown to that one.
    let done =
        house.run(&["env"], &format!("{NETWORK}  env: {{OPENAI_BASE_URL: 'http://elsewhere.example/v1'}}\n"));
    assert!(done.out.contains("OPENAI_BASE_URL=http://elsewhere.example/v1"), "{done:?}");
    assert!(!done.out.contains("OPENAI_API_KEY="), "{done:?}");
    for name in ["LANTERN_AGENT_INSTANCE_TOKEN", "LD_PRELOAD", "https_proxy"] {
        let refused = house.run(&["env"], &format!("{NETWORK}  env: {{{name}: x}}\n"));
        assert!(refused.code != 0 && refused.err.contains("set by the box alone"), "{name}: {refused:?}");
    }
}

#[test]
fn after_kill_9_what_was_spent_counts_and_what_was_answered_is_not_paid_again() {
    let asked = Arc::new(AtomicU32::new(0));
    let counts = asked.clone();
    // The second text is not answered while the first server lives.
    let provider = Fake::start(move |seen| match (seen.line.as_str(), seen.body["stream"] == true) {
        ("POST /v1/chat/completions", true) => Answer::Events(streamed("one of each"), Then::Close),
        ("POST /v1/chat/completions", false) => match counts.fetch_add(1, Ordering::SeqCst) {
            1 => Answer::Events(String::new(), Then::Hang),
            n => Answer::Json(200, said(if n == 0 { "glad" } else { "sad" })),
        },
        _ => Answer::Json(200, json!({"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]})),
    });
    let folder = Folder::new();
    let spec = folder.path().join("agent.yaml");
    std::fs::copy(format!("{EXAMPLE}/agent.yaml"), &spec).unwrap();
    let built = Command::new(format!("{EXAMPLE}/build.sh"))
        .args([env!("CARGO_BIN_EXE_lantern"), folder.path().to_str().unwrap()])
        .env("SPEC", &spec)
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let (server, user) = serve(&folder, "127.0.0.1:0", &provider);
    let address = server.api.strip_prefix("http://").unwrap().to_owned();
    let input = json!({"texts": ["At last!", "It rains."], "model": "gpt-4o"}).to_string();
    let mut following = user.begin(&["run", spec.to_str().unwrap(), "--input", &input, "-o", "json"]);
    let mut so_far = String::new();
    while asked.load(Ordering::SeqCst) < 2 {
        let line = following.line();
        so_far.push_str(&line);
        assert!(!line.is_empty() && !line.contains("exitCode"), "it did not ask twice: {so_far}");
        if line.contains("glad: At last!") {
            while asked.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        }
    }
    server.kill();
    let (server, _) = serve(&folder, &address, &provider);
    let ended = following.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("one of each"), "{ended:?}");
    // Asked: the first text, the second twice, and the sum; and never the first again.
    assert_eq!(calls(&provider), 4);
    let told = last(&user);
    let models = events(&told, "model");
    let lost: Vec<&&Value> = models.iter().filter(|model| model["lost"] == true).collect();
    assert_eq!((models.len(), lost.len()), (4, 1), "{told:#}");
    let held = lost[0]["costUsd"].as_f64().unwrap();
    assert!(held > 0.0, "{told:#}");
    let cost = told["vm"]["costUsd"].as_f64().unwrap();
    assert!(
        (cost - (held + 3.0 * 0.00035)).abs() < 1e-9,
        "what was under way counts at what was held: {told:#}"
    );
    let run = told["vm"]["runId"].as_str().unwrap();
    verified(&user, run);
    assert!(server.stop().success());
    assert_eq!(left(folder.path()), BTreeSet::new());
}
