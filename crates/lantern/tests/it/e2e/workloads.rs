//! Other people's programs in real boxes, by the real binary: the example, exit codes, stopping, dying, and who may see what.
//!
//! Needs root and a runtime: compiled with the feature `boxes` alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};
use crate::cli_fake::User;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/headless-agents/01-hello");

/// The folder with the odd program, built once.
fn odd() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("odd-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/odd.rs");
        let made = Command::new("rustc")
            .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o"])
            .arg(dir.join("odd"))
            .arg(source)
            .status();
        assert!(made.unwrap().success(), "the program was built");
        dir
    })
}

/// The image of the odd program, built into a data folder.
pub(super) fn odd_image(data: &Path) -> String {
    let mut build = lantern();
    build.args(["build", "--name", "odd", "--entrypoint", "/odd", "--data-dir"]).arg(data).arg(odd());
    let built = build.output().unwrap();
    assert!(built.status.success(), "{built:?}");
    String::from_utf8(built.stdout).unwrap().trim().to_owned()
}

/// A server with the image of the odd program.
pub(super) struct House {
    pub(super) folder: Folder,
    pub(super) server: Server,
    pub(super) user: User,
    pub(super) image: String,
}

pub(super) fn house() -> House {
    let folder = Folder::new();
    let image = odd_image(folder.path());
    let server = Server::dev(folder.path());
    let user = signed_in(&server);
    House { folder, server, user, image }
}

/// Somebody who is signed in to a `dev` server.
pub(super) fn signed_in(server: &Server) -> User {
    let user = User::new().with("LANTERN_API_URL", &server.api);
    user.run(&["login", "--email", "admin@lantern.dev", "--password", "lantern"]).ok();
    user
}

impl House {
    /// A spec of the odd program with these arguments and more lines.
    fn spec(&self, args: &[&str], more: &str) -> String {
        let args = serde_json::to_string(args).unwrap();
        let text =
            format!("spec:\n  image_digest: {}\n  isolation: trusted\n  args: {args}\n{more}", self.image);
        self.user.file("spec.yaml", text)
    }

    fn detached(&self, args: &[&str], more: &str) -> (String, String) {
        let spec = self.spec(args, more);
        let taken = self.user.run(&["run", &spec, "--detach", "-o", "json"]).ok();
        let taken: Value = serde_json::from_str(&taken).unwrap();
        (taken["vmId"].as_str().unwrap().to_owned(), taken["runId"].as_str().unwrap().to_owned())
    }

    /// What there is left of boxes.
    fn left(&self) -> BTreeSet<String> {
        left(self.folder.path())
    }
}

pub(super) fn left(folder: &Path) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    for entry in std::fs::read_dir(folder.join("boxes")).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("vm-") {
            left.insert(name.clone());
        }
        for tree in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            if name.starts_with("vm-") && tree.path().join("lantern").join(&name).exists() {
                left.insert(format!("group {name}"));
            }
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mine = folder.to_str().unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(mine)).map(str::to_owned));
    left
}

#[test]
fn the_example_greets_whoever_the_input_names() {
    let folder = Folder::new();
    let spec = folder.path().join("agent.yaml");
    std::fs::copy(format!("{EXAMPLE}/agent.yaml"), &spec).unwrap();
    let data = folder.path().join("data");
    let built = Command::new(format!("{EXAMPLE}/build.sh"))
        .args([env!("CARGO_BIN_EXE_lantern"), data.to_str().unwrap()])
        .env("SPEC", &spec)
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let server = Server::dev(&data);
    let user = signed_in(&server);
    let spec = spec.to_str().unwrap();
    let done = user.run(&["run", spec, "--input", r#"{"name":"world"}"#]);
    assert_eq!((done.code, done.out.as_str()), (0, "Hello, world!\n"), "{done:?}");
    assert!(done.err.contains("run ") && done.err.contains("workload vm-"), "{done:?}");
    let done = user.run(&["run", "-f", spec, "--input", "{}"]);
    assert_eq!((done.code, done.out.as_str()), (2, ""), "its own exit code: {done:?}");
    assert!(done.err.contains("the program ended with exit code 2"), "{done:?}");
    assert_eq!(left(&data), BTreeSet::new());
    // What happened ends with a receipt.
    let listed = user.run(&["vm", "list", "-o", "json"]).ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let states: Vec<&Value> = listed.as_array().unwrap().iter().map(|vm| &vm["state"]).collect();
    assert_eq!(states, ["failed", "terminated"]);
    let first = listed[1]["runId"].as_str().unwrap();
    let receipt = user.run(&["receipts", "get", first]).ok();
    assert!(receipt.contains(first), "{receipt}");
    let told: Value = serde_json::from_str(&user.run(&["vm", "get", first, "-o", "json"]).ok()).unwrap();
    let actions: Vec<&Value> =
        told["events"].as_array().unwrap().iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["schedule", "place", "spawn", "report", "terminate"]);
}

#[test]
fn output_exit_codes_and_the_environment_are_the_programs() {
    let house = house();
    let run = |args: &[&str], more: &str, input: &str| {
        let spec = house.spec(args, more);
        house.user.run(&["run", &spec, "--input", input])
    };
    assert_eq!(run(&["exit", "0"], "", "1").code, 0);
    assert_eq!(run(&["exit", "42"], "", "1").code, 42);
    let echoed = run(&["echo"], "", r#"{"a":"ü {{input.spec}}"}"#);
    assert_eq!((echoed.code, echoed.out.as_str()), (0, "{\"a\":\"ü {{input.spec}}\"}\n"), "as it was sent");
    assert!(!echoed.err.contains('\u{1b}'), "nothing drives the terminal: {echoed:?}");
    let env = run(&["env"], "  env: {GREETING: hi}\n", "1").ok();
    let names: BTreeSet<&str> =
        env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in ["GREETING", "LANTERN_INPUT", "LANTERN_VM_ID", "LANTERN_RUN_ID", "LANTERN_TENANT_ID"] {
        assert!(names.contains(name), "{name} {env}");
    }
    assert!(!env.contains("TOKEN") && !env.contains("OLLAMA_HOST"), "nothing of the server's: {env}");
    let seen = run(&["look"], "", "1").ok();
    assert!(seen.lines().all(|line| line.ends_with("false") || line.starts_with("/proc/1")), "{seen}");
    let nowhere = run(&[], "  command: [/nowhere]\n", "1");
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.err.contains("its box could not be made"), "{nowhere:?}");
    let late = run(&["wait"], "  limits: {timeout: 1s}\n", "1");
    assert!(late.code != 0 && late.err.contains("longer than limits.timeout"), "{late:?}");
    assert_eq!(house.left(), BTreeSet::new());
}

#[test]
fn the_run_of_a_workload_is_exported_and_its_events_are_listed_and_counted() {
    let house = house();
    let (vm, run) = house.detached(&["echo"], "");
    let logs = house.user.run(&["vm", "logs", &vm]);
    assert_eq!(logs.code, 0, "{logs:?}");
    // Its row is over before its run is.
    house.user.run(&["logs", &run, "-f"]).ok();
    let to = house.folder.path().join("out");
    let done: Value = serde_json::from_str(
        &house.user.run(&["export", &run, "--to", to.to_str().unwrap(), "-o", "json"]).ok(),
    )
    .unwrap();
    assert_eq!((&done["runs"], &done["open"]), (&json!(1), &json!(0)));
    let read = |name: &str| std::fs::read_to_string(to.join(&run).join(name)).unwrap();
    let manifest: Value = serde_json::from_str(&read("manifest.json")).unwrap();
    assert_eq!(manifest["steps"][0]["data"]["tool"], "box.run");
    let journal = read("journal.jsonl");
    assert_eq!(journal.lines().count(), usize::try_from(done["events"].as_u64().unwrap()).unwrap());
    // The same events, in the words of the audit.
    let listed: Value =
        serde_json::from_str(&house.user.run(&["vm", "audit", "--limit", "2", "-o", "json"]).ok()).unwrap();
    assert_eq!((&listed[0]["action"], &listed[1]["action"]), (&json!("terminate"), &json!("report")));
    let all = house.user.run(&["vm", "audit"]).ok();
    assert_eq!(all.lines().filter(|line| line.contains(&vm)).count(), journal.lines().count(), "{all}");
    let before = listed[1]["id"].to_string();
    let rest = house.user.run(&["vm", "audit", "--before", &before, "-o", "json"]).ok();
    let rest: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(rest.as_array().unwrap().len(), journal.lines().count() - 2);
    let measured: Value =
        serde_json::from_str(&house.user.run(&["vm", "metrics", "-o", "json"]).ok()).unwrap();
    assert_eq!((&measured["totals"]["vms"], &measured["vms"][0]["vmId"]), (&json!(1), &json!(vm)));
    assert!(measured["vms"][0]["computeSeconds"].as_f64().unwrap() > 0.0, "{measured}");
    let shown = house.user.run(&["vm", "metrics"]).ok();
    assert!(shown.contains("1, of which 0 are not over") && shown.contains(&vm), "{shown}");
}

#[test]
fn a_flood_of_lines_is_bounded_and_the_end_is_told() {
    let house = house();
    let (vm, _) = house.detached(&["flood"], "");
    let logs = house.user.run(&["vm", "logs", &vm]);
    assert_eq!(logs.code, 0, "{}", logs.err);
    let kept = logs.out.lines().count();
    assert!((10_000..20_000).contains(&kept), "{kept}");
    assert!(logs.err.contains("lines more were written and are not kept"), "{}", logs.err);
    let told: Value = serde_json::from_str(&house.user.run(&["vm", "get", &vm, "-o", "json"]).ok()).unwrap();
    let (kept, dropped) = (&told["vm"]["logLines"], &told["vm"]["logLinesDropped"]);
    assert_eq!(kept.as_i64().unwrap() - 1 + dropped.as_i64().unwrap(), 40_000, "{told}");
}

#[test]
fn a_workload_is_stopped_and_nothing_is_left() {
    let house = house();
    let spec = house.spec(&["wait"], "");
    let mut following = house.user.begin(&["run", &spec]);
    assert_eq!(following.line(), "up\n");
    let listed = house.user.run(&["vm", "list", "--state", "running", "-o", "json"]).ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let vm = listed[0]["vmId"].as_str().unwrap().to_owned();
    let held = house.user.run(&["runs", "delete", listed[0]["runId"].as_str().unwrap(), "--yes"]);
    assert_ne!(held.code, 0, "a run whose box is there is not deleted");
    house.user.run(&["vm", "stop", &vm, "--grace", "0", "--reason", "enough"]).ok();
    let done = following.end();
    assert!(done.err.contains("the program was stopped"), "{done:?}");
    assert_eq!(done.code, 137, "the signal that ended it: {done:?}");
    assert_eq!(house.left(), BTreeSet::new());
    let told: Value = serde_json::from_str(&house.user.run(&["vm", "get", &vm, "-o", "json"]).ok()).unwrap();
    assert_eq!((&told["vm"]["state"], &told["vm"]["reason"]), (&json!("terminated"), &json!("stopped")));
    // Stopped before is stopped.
    house.user.run(&["vm", "stop", &vm]).ok();
}

#[test]
fn after_kill_9_nothing_is_left_and_only_what_may_runs_again() {
    let House { folder, server, user, image } = house();
    let address = server.api.strip_prefix("http://").unwrap().to_owned();
    let house = House { folder, server, user, image };
    let begin = |more: &str| {
        let spec = house.spec(&["wait"], more);
        let mut following = house.user.begin(&["run", &spec, "-o", "json"]);
        let taken: Value = serde_json::from_str(&following.line()).unwrap();
        assert!(following.line().contains("\"up\""));
        (taken["vmId"].as_str().unwrap().to_owned(), following)
    };
    let (once, following) = begin("");
    let (again, mut other) = begin("  idempotent: true\n");
    assert_eq!(house.left().len(), 2 + house.left().iter().filter(|name| name.starts_with("group")).count());
    let House { folder, server, user, .. } = house;
    server.kill();
    let server = Server::dev_at(&address, folder.path(), &[]);
    let done = following.end();
    assert!(done.code == 1 && done.err.contains("the server ended while the program ran"), "{done:?}");
    let told: Value = serde_json::from_str(&user.run(&["vm", "get", &once, "-o", "json"]).ok()).unwrap();
    assert_eq!((&told["vm"]["state"], &told["vm"]["reason"]), (&json!("failed"), &json!("lost")));
    // The other one is run again, in a box of the same name.
    assert!(other.line().contains("\"up\""), "its second life");
    user.run(&["vm", "stop", &again, "--grace", "0"]).ok();
    drop(other.end());
    assert!(server.stop().success());
    assert_eq!(left(folder.path()), BTreeSet::new());
}

#[test]
fn another_program_runs_in_a_box_and_answers_for_itself() {
    let house = house();
    for class in ["trusted", "standard"] {
        let text = format!("spec:\n  image_digest: {}\n  isolation: {class}\n  args: [wait]\n", house.image);
        let spec = house.user.file("spec.yaml", text);
        let mut following = house.user.begin(&["run", &spec]);
        assert_eq!(following.line(), "up\n");
        let listed = house.user.run(&["vm", "list", "--state", "running", "-o", "json"]).ok();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let vm = listed[0]["vmId"].as_str().unwrap().to_owned();
        let exec = |args: &[&str]| house.user.run(&[&["vm", "exec", &vm, "--", "/odd"], args].concat());
        assert_eq!(exec(&["exit", "5"]).code, 5, "{class}");
        let env = exec(&["env"]).ok();
        assert!(env.contains(&format!("LANTERN_VM_ID={vm}\n")), "{class} {env}");
        let looked = exec(&["look"]).ok();
        assert!(
            looked.lines().all(|line| line.ends_with("false") || line.starts_with("/proc/1")),
            "{class} {looked}"
        );
        let late = house.user.run(&["vm", "exec", &vm, "--timeout", "1", "--", "/odd", "wait"]);
        assert!(late.code == 1 && late.err.contains("longer than --timeout"), "{class} {late:?}");
        assert!(late.out.starts_with("up"), "what it wrote before: {late:?}");
        let flood = exec(&["flood"]);
        assert_eq!((flood.code, flood.out.len() > 1_000_000), (0, true), "{class}");
        assert!(flood.err.contains("more than a MiB"), "{class} {}", flood.err);
        // Who ran what is in the run's journal, and nothing of what it answered.
        let told: Value =
            serde_json::from_str(&house.user.run(&["vm", "get", &vm, "-o", "json"]).ok()).unwrap();
        let execs = told["events"].as_array().unwrap().iter().filter(|event| event["action"] == "exec");
        let execs: Vec<&Value> = execs.map(|event| &event["attrs"]).collect();
        assert_eq!(execs.len(), 5, "{told}");
        assert_eq!(execs[0]["command"], json!(["/odd", "exit", "5"]));
        assert_eq!(execs[0]["by"], "admin@lantern.dev");
        house.user.run(&["vm", "stop", &vm, "--grace", "0"]).ok();
        drop(following.end());
        let gone = exec(&["exit", "0"]);
        assert!(gone.code != 0 && gone.err.contains("has no box now"), "{gone:?}");
    }
    let text = format!("spec:\n  image_digest: {}\n  isolation: untrusted\n  args: [wait]\n", house.image);
    let mut following = house.user.begin(&["run", &house.user.file("spec.yaml", text)]);
    assert_eq!(following.line(), "up\n");
    let listed: Value = serde_json::from_str(&house.user.run(&["vm", "list", "-o", "json"]).ok()).unwrap();
    let vm = listed[0]["vmId"].as_str().unwrap();
    let refused = house.user.run(&["vm", "exec", vm, "--", "/odd", "exit", "0"]);
    assert!(
        refused.code != 0 && refused.err.contains("untrusted code takes no other program"),
        "{refused:?}"
    );
    house.user.run(&["vm", "stop", vm, "--grace", "0"]).ok();
    drop(following.end());
    assert_eq!(house.left(), BTreeSet::new());
}

#[test]
fn a_server_that_stops_takes_its_boxes_down() {
    let House { folder, server, user, image } = house();
    let house = House { folder, server, user, image };
    let spec = house.spec(&["wait"], "");
    let mut following = house.user.begin(&["run", &spec]);
    assert_eq!(following.line(), "up\n");
    let House { folder, server, .. } = house;
    server.stop();
    assert_eq!(left(folder.path()), BTreeSet::new());
    drop(following);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_sees_and_stops_nothing() {
    let house = tokio::task::spawn_blocking(house).await.unwrap();
    let (vm, run) = house.detached(&["wait"], "");
    let nobody = Api::nobody(&house.server);
    let account = json!({"email": "eve@example.com", "password": "a long password", "name": "Eve"});
    let (status, made) = nobody.post("/auth/signup", &account).await;
    assert!(status < 300, "{made}");
    let eve = Api::login(&house.server, "eve@example.com", "a long password").await;
    assert_eq!(eve.get("/v1/runtime/vms").await, (200, json!([])));
    for path in [
        format!("/v1/runtime/vms/{vm}"),
        format!("/v1/runtime/vms/{run}"),
        format!("/v1/runtime/vms/{vm}/logs"),
    ] {
        let (status, body) = eve.get(&path).await;
        assert_eq!((status, &body["code"]), (404, &json!("workload_not_found")), "{path}");
    }
    assert_eq!(eve.delete(&format!("/v1/runtime/vms/{vm}")).await, 404);
    // Nor does a run of an agent get a box by naming the tool.
    let agent = json!({"name": "sly", "program": "steps", "steps": [{"id": "s", "kind": "tool", "data": {"tool": "box.run"}}]});
    let (status, refused) = eve.post("/v1/agents", &agent).await;
    assert_eq!(status, 400, "{refused}");
    let hidden = json!({"name": "sly", "program": "steps", "steps": []});
    eve.post("/v1/agents", &hidden).await;
    let steps = json!([{"id": "s", "kind": "tool", "data": {"tool": "box.run", "arguments": {"spec": {}}}}]);
    let (status, refused) =
        eve.post("/v1/runs", &json!({"agentName": "sly", "input": {"steps": steps}})).await;
    assert_eq!(status, 400, "{refused}");
    let (status, refused) = eve.post("/v1/runs", &json!({"agentName": "(workloads)", "input": {}})).await;
    assert_eq!((status, &refused["code"]), (404, &json!("agent_not_found")), "{refused}");
    tokio::task::block_in_place(|| {
        house.user.run(&["vm", "stop", &vm, "--grace", "0"]).ok();
        // One that is killed leaves its boxes to the next, and here is none.
        assert!(house.server.stop().success());
    });
}
