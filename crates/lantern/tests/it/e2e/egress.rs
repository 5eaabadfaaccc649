//! Boxes that may reach out, by the real binary: what a program gets to, what it does not, and who hears of it.
//!
//! Needs root and a runtime: compiled with the feature `boxes` alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::process::{Folder, Server, lantern};
use super::workloads::{left, odd_image};
use crate::cli_fake::{Answer, Done, Fake, Then, User};

const EXAMPLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/headless-agents/03-stateful-research");

const SCRAPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/headless-agents/02-web-scraper");

/// A server whose operator opened its own machine's loopback, and somebody who may run programs.
struct House {
    folder: Folder,
    server: Server,
    user: User,
    image: String,
}

fn house() -> House {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let image = odd_image(&data);
    let (server, user) = serve(&folder, "127.0.0.1:0");
    House { folder, server, user, image }
}

const LOGIN: (&str, &str) = ("ada@example.com", "correct horse battery");

fn start(folder: &Folder, address: &str) -> Server {
    let file = folder.path().join("lantern.toml");
    let config = "[server]\nworkloads = true\n[tools]\nprivate_addresses = [\"127.0.0.1\", \"::1\"]\n";
    std::fs::write(&file, config).unwrap();
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", address, "--config"]).arg(file);
    command.arg("--data-dir").arg(folder.path().join("data"));
    command.env("LANTERN_ADMIN_EMAIL", LOGIN.0).env("LANTERN_ADMIN_PASSWORD", LOGIN.1);
    Server::start(command)
}

fn serve(folder: &Folder, address: &str) -> (Server, User) {
    let server = start(folder, address);
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", LOGIN.0, "--password", LOGIN.1]).ok();
    (server, user)
}

impl House {
    fn run(&self, args: &[&str], more: &str) -> Done {
        let args = serde_json::to_string(args).unwrap();
        let head = format!("spec:\n  image_digest: {}\n  isolation: trusted\n  args: {args}\n", self.image);
        let spec = self.user.file("spec.yaml", head + more);
        self.user.run(&["run", &spec])
    }

    /// What the last workload's run was told of its box.
    fn told(&self) -> Vec<Value> {
        let listed: Value = serde_json::from_str(&self.user.run(&["vm", "list", "-o", "json"]).ok()).unwrap();
        let vm = listed[0]["vmId"].as_str().unwrap();
        let told: Value =
            serde_json::from_str(&self.user.run(&["vm", "get", vm, "-o", "json"]).ok()).unwrap();
        let events = told["events"].as_array().unwrap().iter();
        events.filter(|event| event["action"] == "egress").map(|event| event["attrs"].clone()).collect()
    }

    fn left(&self) -> BTreeSet<String> {
        left(&self.folder.path().join("data"))
    }
}

#[test]
fn a_box_reaches_what_its_spec_lists_and_every_decision_is_told() {
    let upstream = Fake::start(|_| Answer::Json(200, json!({"hello": "box"})));
    let (house, port) = (house(), upstream.port);
    let api = house.server.api.rsplit(':').next().unwrap();
    let rules = format!(
        "  network: allowlist\n  egress_rules:\n  - {{host: localhost, http_methods: [GET], ports: [{port}]}}\n  - {{pattern: 127.0.0.1/32, ports: [{port}]}}\n"
    );
    let ask = |line: String| format!("{line} HTTP/1.1\\r\\n\\r\\n");
    let asked = [
        (ask(format!("GET http://localhost:{port}/a")), "HTTP/1.1 200 OK "),
        (ask(format!("DELETE http://127.0.0.1:{port}/b")), "HTTP/1.1 200 OK "),
        (ask(format!("POST http://localhost:{port}/c")), "HTTP/1.1 403 Forbidden x-lantern-reason: method"),
        (ask(format!("CONNECT localhost:{port}")), "HTTP/1.1 403 Forbidden x-lantern-reason: method_hidden"),
        (ask(format!("GET http://localhost:{api}/healthz")), "HTTP/1.1 403 Forbidden x-lantern-reason: port"),
        (
            ask("GET http://169.254.169.254/latest/meta-data".to_owned()),
            "HTTP/1.1 403 Forbidden x-lantern-reason: address_not_listed",
        ),
        (ask("GET http://2130706433/".to_owned()), "HTTP/1.1 403 Forbidden x-lantern-reason: address_odd"),
        (ask("GET http://evil.example/".to_owned()), "HTTP/1.1 403 Forbidden x-lantern-reason: no_rule"),
        (
            format!("CONNECT 127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\nGET /d HTTP/1.1\\r\\n\\r\\n"),
            "HTTP/1.1 200 OK ",
        ),
        ("nonsense\\r\\n\\r\\n".to_owned(), "HTTP/1.1 400 Bad Request x-lantern-reason: request_invalid"),
    ];
    let mut args = vec!["ask"];
    args.extend(asked.iter().map(|(text, _)| text.as_str()));
    let done = house.run(&args, &rules);
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines, asked.iter().map(|(_, want)| *want).collect::<Vec<_>>(), "{done:?}");
    assert_eq!(upstream.lines(), ["GET /a", "DELETE /b"], "and nothing that was smuggled in");
    assert_eq!(upstream.seen()[0].header("host"), format!("localhost:{port}"));
    for line in [
        format!("egress allowed: GET localhost:{port} at 127.0.0.1"),
        format!("egress refused: CONNECT 127.0.0.1:{port}: a tunnel carries TLS and nothing else (not_tls)"),
        "egress refused: GET evil.example:80: no rule of egress_rules lists this name (no_rule)".to_owned(),
        "bytes sent".to_owned(),
    ] {
        assert!(done.err.contains(&line), "{line}: {}", done.err);
    }
    // The journal has the same, in order, and so has the receipt that is made of it.
    let told = house.told();
    let verdicts: Vec<&str> = told.iter().map(|told| told["verdict"].as_str().unwrap()).collect();
    assert_eq!(told.len(), asked.len(), "{told:#?}");
    assert_eq!(verdicts[..3], ["allow", "allow", "deny"]);
    assert_eq!((&told[7]["host"], &told[7]["reason"]), (&json!("evil.example"), &json!("no_rule")));
    assert_eq!(house.left(), BTreeSet::new());
}

#[test]
fn there_is_no_other_way_out_of_a_box() {
    let upstream = Fake::start(|_| Answer::Json(200, json!({})));
    let house = house();
    let here = format!("127.0.0.1:{}", upstream.port);
    let api = house.server.api.strip_prefix("http://").unwrap();
    let away = [&here, api, "1.1.1.1:80", "169.254.169.254:80", "10.0.0.1:80", "8.8.8.8:53", "[::1]:80"];
    let mut args = vec!["escape"];
    args.extend(away);
    let rules = "  network: allowlist\n  egress_rules: [{pattern: 0.0.0.0/0}]\n";
    let done = house.run(&args, rules);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.starts_with("lo true\neth0 false\n"), "{done:?}");
    let tries = done.out.lines().skip(2);
    assert_eq!(tries.clone().count(), 2 * away.len() + 1);
    assert!(tries.clone().all(|line| line.ends_with(" false")), "{done:?}");
    assert!(upstream.lines().is_empty());
    // Nor is anything told of a box that asked for nothing, and one without a network has no door at all.
    assert!(house.told().is_empty());
    let without = house.run(&["ask", "x"], "");
    assert_ne!(without.code, 0, "{without:?}");
    for network in ["open", "tenant_vpc"] {
        let refused = house.run(&["exit", "0"], &format!("  network: {network}\n"));
        assert!(refused.code != 0 && refused.err.contains("egress_rules"), "{network}: {refused:?}");
    }
    assert_eq!(house.left(), BTreeSet::new());
}

/// The example, in the language that its image is built with.
fn goes_on_where_it_was(language: &str) {
    let done = Arc::new(AtomicBool::new(false));
    let answers = done.clone();
    let upstream = Fake::start(move |seen| match seen.line.as_str() {
        "GET /3" if !answers.load(Ordering::SeqCst) => Answer::Events(String::new(), Then::Hang),
        _ => Answer::Json(200, json!({"words": "lantern box lantern"})),
    });
    let folder = Folder::new();
    let data = folder.path().join("data");
    let rules = format!("- {{ pattern: localhost, http_methods: [GET], ports: [{}] }}", upstream.port);
    let spec = built(EXAMPLE, (&folder, &data), &rules, &[language]);
    let (server, user) = serve(&folder, "127.0.0.1:0");
    let address = server.api.strip_prefix("http://").unwrap().to_owned();
    // With a dot, because programs ask for `localhost` themselves.
    let page = |n: u32| format!("http://localhost.:{}/{n}", upstream.port);
    let input = json!({"pages": [page(1), page(2), page(3)], "top": 2}).to_string();
    let mut following = user.begin(&["run", spec.to_str().unwrap(), "--input", &input, "-o", "json"]);
    let (mut allowed, mut so_far) = (0, String::new());
    while allowed < 3 {
        let line = following.line();
        so_far.push_str(&line);
        assert!(!line.is_empty() && !line.contains("exitCode"), "it did not get to its third page: {so_far}");
        allowed += u32::from(line.contains("egress allowed"));
    }
    server.kill();
    done.store(true, Ordering::SeqCst);
    let server = start(&folder, &address);
    let ended = following.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    let said =
        |line: &str| serde_json::from_str::<Value>(line).ok().filter(|said| said["stream"] == "stdout");
    let said: Vec<Value> = ended.out.lines().filter_map(said).collect();
    assert_eq!(said.len(), 1, "{ended:?}");
    assert_eq!(said[0]["text"], "lantern=6 words=3");
    assert_eq!(upstream.lines(), ["GET /1", "GET /2", "GET /3", "GET /3"], "what was read is not read again");
    let listed: Value = serde_json::from_str(&user.run(&["vm", "list", "-o", "json"]).ok()).unwrap();
    let run = listed[0]["runId"].as_str().unwrap();
    let told: Value = serde_json::from_str(&user.run(&["vm", "get", run, "-o", "json"]).ok()).unwrap();
    let events = told["events"].as_array().unwrap().iter();
    let steps: Vec<&Value> =
        events.filter(|event| event["action"] == "step").map(|event| &event["attrs"]["key"]).collect();
    assert_eq!(steps, ["fetch#1", "count#1", "fetch#2", "count#2", "fetch#3", "count#3"]);
    user.run(&["receipts", "get", run]).ok();
    assert!(server.stop().success());
    assert_eq!(left(&data), BTreeSet::new());
}

/// The spec of an example with these rules in place of its own, and its image in a data folder.
fn built(example: &str, (folder, data): (&Folder, &Path), rules: &str, more: &[&str]) -> PathBuf {
    let spec = folder.path().join("agent.yaml");
    let own = std::fs::read_to_string(format!("{example}/agent.yaml")).unwrap();
    let (first, last) = (own.find("- {").unwrap(), own.find("  limits:").unwrap());
    std::fs::write(&spec, format!("{}{rules}\n{}", &own[..first], &own[last..])).unwrap();
    let built = Command::new(format!("{example}/build.sh"))
        .args([env!("CARGO_BIN_EXE_lantern"), data.to_str().unwrap()])
        .args(more)
        .env("SPEC", &spec)
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    spec
}

#[test]
fn the_scraper_reads_what_its_spec_lists_and_nothing_else() {
    let page = |title: &str, links: &[&str]| {
        let links: Vec<String> = links.iter().map(|link| format!("<a href=\"{link}\">on</a>")).collect();
        let links = links.concat();
        Answer::Events(format!("<html><title>{title}</title><body>{links}</body></html>"), Then::Close)
    };
    let other = Fake::start(|_| Answer::Json(200, json!({"secret": 1})));
    let elsewhere = format!("http://localhost.:{}/away", other.port);
    let aside = elsewhere.clone();
    let upstream = Fake::start(move |seen| match seen.line.as_str() {
        "GET /" => page("Start", &["/next#part", "/moved", "/gone", "http://evil.example/", &elsewhere, "/"]),
        "GET /next" => page("Next", &[]),
        "GET /moved" => Answer::With(302, json!({}), vec![("location", elsewhere.clone())]),
        _ => Answer::Json(404, json!({})),
    });
    let folder = Folder::new();
    let data = folder.path().join("data");
    let rules = format!(
        "- {{ pattern: localhost, http_methods: [GET], ports: [{}], rate_bps: 262144 }}",
        upstream.port
    );
    let spec = built(SCRAPER, (&folder, &data), &rules, &[]);
    let (server, user) = serve(&folder, "127.0.0.1:0");
    // With a dot, because programs ask for `localhost` themselves.
    let start = format!("http://localhost.:{}", upstream.port);
    let input = json!({"pages": [format!("{start}/")]}).to_string();
    let done = user.run(&["run", spec.to_str().unwrap(), "--input", &input]);
    assert_eq!(done.code, 0, "{done:?}");
    let said: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let want = [
        json!({"url": format!("{start}/"), "title": "Start", "links": 6}),
        json!({"url": format!("{start}/next"), "title": "Next", "links": 0}),
        json!({"url": format!("{start}/moved"), "not_read": "port"}),
        json!({"url": format!("{start}/gone"), "not_read": "status 404"}),
        json!({"url": "http://evil.example/", "not_read": "no_rule"}),
        json!({"url": aside, "not_read": "port"}),
    ];
    assert_eq!(said, want, "{done:?}");
    assert_eq!(upstream.lines(), ["GET /", "GET /next", "GET /moved", "GET /gone"]);
    assert!(other.lines().is_empty(), "a redirect leads out as little as a link does");
    let listed: Value = serde_json::from_str(&user.run(&["vm", "audit", "-o", "json"]).ok()).unwrap();
    let denied = listed.as_array().unwrap().iter().filter(|event| event["attrs"]["verdict"] == "deny");
    let mut denied: Vec<&str> = denied.map(|event| event["attrs"]["host"].as_str().unwrap()).collect();
    denied.sort_unstable();
    assert_eq!(denied, ["evil.example", "localhost"]);
    assert!(server.stop().success());
    assert_eq!(left(&data), BTreeSet::new());
}

#[test]
fn after_kill_9_a_program_in_python_hears_what_it_did_before() {
    goes_on_where_it_was("python");
}

#[test]
fn after_kill_9_a_program_in_javascript_hears_what_it_did_before() {
    goes_on_where_it_was("node");
}

#[test]
fn a_program_records_as_many_steps_as_its_spec_says() {
    let house = house();
    let ask = |path: &str, body: Value| {
        let body = body.to_string();
        format!("POST {path} HTTP/1.1\\r\\nContent-Length: {}\\r\\n\\r\\n{body}", body.len())
    };
    let (recall, record) = ("/v1/steps/recall", "/v1/steps/record");
    let asked = [
        (ask(recall, json!({"key": "a"})), "200 OK"),
        (ask(record, json!({"key": "a", "value": {"n": 1}})), "200 OK"),
        (ask(record, json!({"key": "a", "value": {"n": 2}})), "200 OK"),
        (ask(record, json!({"key": "b", "value": 1})), "409 Conflict"),
        (ask(&format!("http://lantern.local{recall}"), json!({"key": "a"})), "200 OK"),
        (ask(record, json!({"key": "", "value": 1})), "400 Bad Request"),
        (ask(record, json!([])), "400 Bad Request"),
        (ask("/v1/log", json!({"message": "read this"})), "200 OK"),
        (ask("/v1/log", json!({"text": "no message"})), "400 Bad Request"),
        (ask("/v1/elsewhere", json!({})), "404 Not Found"),
        (
            "POST /v1/log HTTP/1.1\\r\\nContent-Length: 9999999\\r\\n\\r\\n".to_owned(),
            "413 Content Too Large",
        ),
    ];
    let mut args = vec!["ask"];
    args.extend(asked.iter().map(|(text, _)| text.as_str()));
    let done = house.run(&args, "  network: allowlist\n  limits: {max_steps: 1}\n");
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<&str> = done.out.lines().map(str::trim_end).collect();
    let want: Vec<String> = asked.iter().map(|(_, status)| format!("HTTP/1.1 {status}")).collect();
    assert_eq!(lines, want, "{done:?}");
    assert!(done.err.contains("read this"), "{done:?}");
}

#[test]
fn nobody_can_tell_a_run_that_its_box_did_what_it_did_not() {
    let house = house();
    let rules = "  network: allowlist\n";
    let args = serde_json::to_string(&["wait"]).unwrap();
    let head = format!("spec:\n  image_digest: {}\n  isolation: trusted\n  args: {args}\n", house.image);
    let spec = house.user.file("spec.yaml", head + rules);
    let mut following = house.user.begin(&["run", &spec]);
    assert_eq!(following.line(), "up\n");
    let listed: Value = serde_json::from_str(&house.user.run(&["vm", "list", "-o", "json"]).ok()).unwrap();
    let run = listed[0]["runId"].as_str().unwrap();
    let forged = house.user.run(&["runs", "signal", run, "lantern:egress"]);
    assert!(forged.code != 0 && forged.err.contains("server's own"), "{forged:?}");
    house.user.run(&["vm", "stop", run, "--grace", "0"]).ok();
    drop(following.end());
    assert!(house.told().is_empty());
}
