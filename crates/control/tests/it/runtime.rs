//! Workloads over HTTP: what is refused and why, who may do what, what a list says, and quotas. No box is made here.

use std::sync::Arc;

use lantern_control::{Load, Runtime};
use lantern_engine::{Arrival, Input};
use lantern_policy::workload::{
    Backend, Capabilities, Exec, Execd, Image, Mode, Unfetched, Unrun, Usable, Wanted, Which,
};
use lantern_store::metered;
use lantern_store::workloads::{self, End, Lines};
use lantern_types::{Dur, RunId};
use serde_json::{Value, json};

use crate::app::{TestApp, Wishes, on_both};
use crate::hand::Hand;

const SCHEDULE: &str = "/v1/runtime/schedule";
const VMS: &str = "/v1/runtime/vms";
const QUOTA: &str = "/v1/runtime/quota";

/// A node on which plain containers are proved and nothing else, and which has any image whose digest begins with 1.
pub(crate) fn runtime() -> Runtime {
    let mut here = Capabilities::none("not installed");
    let proved = Usable::Proved { runtime: "crun 1".to_owned(), seen: "a filter".to_owned() };
    here.backends.insert(Backend::Oci, proved);
    Runtime {
        node: "node-1".to_owned(),
        mode: Mode { dev: true, allow_oci_standard: false },
        capabilities: Arc::new(move || {
            let here = here.clone();
            Box::pin(async move { here })
        }),
        has_image: Arc::new(|image| image.sha256.starts_with('1')),
        find: Arc::new(|wanted| Box::pin(async move { found(&wanted) })),
        exec: Arc::new(|_, _, exec| Box::pin(async move { ran(&exec) })),
        load: Arc::new(|| Load {
            free_cpu_millis: 1_500,
            free_memory_bytes: 1 << 30,
            running: 1,
            pending: 0,
        }),
    }
}

/// A box whose programs say what they were asked.
fn ran(exec: &Exec) -> Result<Execd, Unrun> {
    let code = match exec.argv[0].as_str() {
        "/busy" => return Err(Unrun::Busy),
        "/full" => return Err(Unrun::Full),
        "/gone" => return Err(Unrun::NoBox),
        "/none" => return Err(Unrun::Refused("a box by bubblewrap takes no other program".to_owned())),
        "/late" => None,
        _ => Some(3),
    };
    let stdout = format!("{} for {} s by {}", exec.argv.join(" "), exec.timeout.millis() / 1_000, exec.by);
    Ok(Execd { code, stdout, stderr: "warn".to_owned(), cut: false })
}

/// A registry in which a tag is how the answer begins.
fn found(wanted: &Wanted) -> Result<Image, Unfetched> {
    let words = || "a word of the registry".to_owned();
    match &wanted.which {
        Which::Tag(tag) if tag == "away" => Err(Unfetched::Away(words())),
        Which::Tag(tag) if tag == "liar" => Err(Unfetched::Refused(words())),
        Which::Tag(tag) if tag == "1" => {
            Ok(Image { repository: wanted.repository.clone(), sha256: format!("3{}", "0".repeat(63)) })
        }
        Which::Digest(sha256) if sha256.starts_with('4') => {
            Ok(Image { repository: wanted.repository.clone(), sha256: format!("5{}", "0".repeat(63)) })
        }
        _ => Err(Unfetched::NotFound(words())),
    }
}

fn image(first: char) -> String {
    format!("hello@sha256:{first}{}", "0".repeat(63))
}

fn spec() -> Value {
    json!({ "imageDigest": image('1'), "isolation": "trusted", "env": {"WORD": "hunter2"}, "labels": {"team": "a"} })
}

fn run_of(vm: &Value) -> RunId {
    vm["runId"].as_str().unwrap().parse().unwrap()
}

on_both! {
    a_workload_is_scheduled_and_shown_to_its_tenant_alone: scheduled;
    what_cannot_be_honoured_is_refused_by_name: refused;
    as_many_as_the_quota_says: quota;
    lines_are_sent_once_and_then_the_end: logs;
    a_runtime_scope_is_enough_and_no_more: scopes;
    what_was_said_is_removed_with_the_run: removed;
    what_happened_is_read_in_pages_that_neither_repeat_nor_leave_out: audited;
    workloads_are_counted_for_their_tenant_alone: measured;
    a_program_is_run_in_the_box_of_a_workload_by_who_administers_it: execs;
    an_image_of_a_registry_is_named_by_its_digest_when_it_is_scheduled: from_registries;
}

async fn scheduled(test: &TestApp) {
    let asked = json!({ "apiVersion": "lantern.dev/v1", "kind": "AgentSpec", "metadata": {"name": "hello"}, "spec":
        { "image_digest": image('1'), "isolation": "trusted", "env": {"WORD": "hunter2"} }, "stdin_input": "{\"a\":1}" });
    let made = test.post(&test.a.owner, SCHEDULE, asked).await.is(201);
    let vm = made.json["vmId"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("{VMS}/{vm}"));
    let want = (json!("node-1"), json!("pending"), json!("oci"), json!(false));
    assert_eq!(
        (&made.json["node"], &made.json["state"], &made.json["backend"], &made.json["degraded"]),
        (&want.0, &want.1, &want.2, &want.3)
    );
    let listed = test.get(&test.a.member, VMS).await.is(200).json;
    let shown = &listed[0];
    assert_eq!(
        (&shown["vmId"], &shown["isolationClass"], &shown["state"]),
        (&json!(vm), &json!("trusted"), &json!("pending"))
    );
    assert_eq!(shown["spec"]["spec"]["env"], json!({"WORD": "hunter2"}));
    assert_eq!(shown["spec"]["metadata"]["name"], "hello");
    for path in [format!("{VMS}/{vm}"), format!("{VMS}/{}", made.json["runId"].as_str().unwrap())] {
        let told = test.get(&test.a.owner, &path).await.is(200).json;
        assert_eq!((&told["vm"], &told["events"][0]["action"]), (shown, &json!("schedule")));
        test.get(&test.b.owner, &path).await.refused(404, "workload_not_found");
        test.delete(&test.b.owner, &path).await.refused(404, "workload_not_found");
    }
    test.get(&test.b.owner, &format!("{VMS}/{vm}/logs")).await.refused(404, "workload_not_found");
    test.get(&test.a.owner, &format!("{VMS}/nonsense")).await.refused(404, "workload_not_found");
    assert_eq!(test.get(&test.b.owner, VMS).await.is(200).json, json!([]));
    for (state, count) in [("pending", 1), ("running", 0), ("terminated", 0), ("failed", 0), ("draining", 0)]
    {
        let listed = test.get(&test.a.owner, &format!("{VMS}?state={state}")).await.is(200).json;
        assert_eq!(listed.as_array().unwrap().len(), count, "{state}");
    }
    test.get(&test.a.owner, &format!("{VMS}?state=alive")).await.refused(400, "invalid_query");
    // The input is the run's, and its agent is nobody's.
    let run = test
        .get(&test.a.owner, &format!("/v1/runs/{}", made.json["runId"].as_str().unwrap()))
        .await
        .is(200)
        .json;
    assert_eq!((&run["input"]["input"], &run["triggerKind"]), (&json!({"a": 1}), &json!("workload")));
    assert_eq!(test.get(&test.a.owner, "/v1/agents").await.is(200).json, json!([]));
    test.post(&test.a.owner, "/v1/runs", json!({"agentName": "(workloads)"}))
        .await
        .refused(404, "agent_not_found");
    // Before a node took it, it is over at once.
    let stopped =
        test.delete(&test.a.owner, &format!("{VMS}/{vm}?reason=enough&grace=5s")).await.is(200).json;
    assert_eq!(stopped, json!({"vmId": vm, "status": "terminated"}));
    let gone = test.get(&test.a.owner, &format!("{VMS}?state=terminated")).await.is(200).json;
    assert_eq!((&gone[0]["reason"], gone[0]["terminatedAt"].is_string()), (&json!("stopped"), true));
    let row = run_of(&made.json);
    assert!(
        !workloads::take(&test.app.db, test.a.scope, row, "node-1".to_owned(), true).await.unwrap(),
        "and stays so"
    );
    for wrong in ["grace=soon", "grace=6m", "grace=-1"] {
        test.delete(&test.a.owner, &format!("{VMS}/{vm}?{wrong}")).await.refused(400, "invalid_query");
    }
}

async fn refused(test: &TestApp) {
    let schedule = async |body: Value| test.post(&test.a.owner, SCHEDULE, body).await;
    let with = |name: &str, value: Value| {
        let mut spec = spec();
        spec[name] = value;
        spec
    };
    for (body, path) in [
        (json!({}), "image_digest"),
        (with("imageDigest", json!("hello:latest")), "image_digest"),
        (with("isolation", json!("strong")), "isolation"),
        (with("cheese", json!(1)), "cheese"),
        (with("env", json!({"LANTERN_API_KEY": "x"})), "env.LANTERN_API_KEY"),
        (with("env", json!({"LD_PRELOAD": "x"})), "env.LD_PRELOAD"),
        (with("env", json!({"https_proxy": "x"})), "env.https_proxy"),
        (with("env", json!({"A": "lantern.secret://tenant/x"})), "env.A"),
        (with("secrets", json!([{"env_name": "A", "secret_uri": "x"}])), "secrets[0].secret_uri"),
        (with("limits", json!({"memory": "lots"})), "limits.memory"),
        (with("image_digest", json!(image('1'))), "image_digest"),
    ] {
        let answer = schedule(body.clone()).await.refused(400, "invalid_spec");
        assert!(answer.paths().contains(&path), "{body}: {}", answer.text);
    }
    for (body, path) in [
        (with("isolation", json!("untrusted")), "isolation"),
        (with("isolation", json!("hostile")), "isolation"),
        (with("isolation", Value::Null), "isolation"),
        (with("network", json!("open")), "network"),
        (with("restoreSnapshotId", json!("x")), "restore_snapshot_id"),
        (with("runId", json!("x")), "run_id"),
        (with("limits", json!({"gpu": "1"})), "limits.gpu"),
        (with("limits", json!({"timeout": "20h"})), "limits.timeout"),
    ] {
        let answer = schedule(body.clone()).await.refused(400, "workload_refused");
        assert_eq!(answer.paths(), [path], "{body}: {}", answer.text);
    }
    schedule(with("imageDigest", json!(image('2')))).await.refused(404, "image_not_found");
    let mut twice = spec();
    twice["stdinInput"] = json!(1);
    twice["stdin_input"] = json!(2);
    schedule(twice).await.refused(400, "invalid_body");
    assert_eq!(test.get(&test.a.owner, VMS).await.is(200).json, json!([]), "nothing was started");
    let cluster = test.get(&test.a.owner, "/v1/runtime/cluster").await.is(200).json;
    let tiers = &cluster["nodes"][0]["tiers"];
    assert_eq!((&tiers[0]["isolation"], &tiers[0]["usable"]), (&json!("trusted"), &json!(true)));
    assert_eq!(tiers[1]["reason"], "no box for standard here: gvisor: not installed");
    test.get(&test.a.member, "/v1/runtime/cluster").await.refused(403, "role_missing");
}

async fn quota(test: &TestApp) {
    let shown = test.get(&test.a.member, QUOTA).await.is(200).json;
    let defaults = json!({"maxConcurrentVms": 20, "maxComputeHoursPerDay": 10.0, "maxEgressGbPerDay": 5,
        "maxCostUsdPerDay": 5.0, "hardFail": true});
    assert_eq!(shown, defaults);
    let put = async |who: &str, body: Value| {
        test.send(crate::app::request("PUT", QUOTA, Some(who), Some(body))).await
    };
    put(&test.a.member, json!({"maxConcurrentVms": 9})).await.refused(403, "role_missing");
    put(&test.a.owner, json!({"maxConcurrentVms": 2})).await.is(200);
    for _ in 0..2 {
        test.post(&test.a.owner, SCHEDULE, spec()).await.is(201);
    }
    let over = test.post(&test.a.owner, SCHEDULE, spec()).await.refused(402, "quota_exceeded");
    assert!(over.json["reason"].as_str().unwrap().contains("maxConcurrentVms is 2"), "{}", over.text);
    assert_eq!(over.json["error"], "quota exceeded");
    // Another tenant has its own.
    test.post(&test.b.owner, SCHEDULE, spec()).await.is(201);
    put(&test.a.owner, json!({"hardFail": false})).await.is(200);
    test.post(&test.a.owner, SCHEDULE, spec()).await.is(201);
    put(&test.a.owner, json!({"maxConcurrentVms": 0, "hardFail": true})).await.is(200);
    let shown = test.get(&test.a.owner, QUOTA).await.is(200).json;
    assert_eq!((&shown["maxConcurrentVms"], &shown["hardFail"]), (&json!(20), &json!(true)));
    // Time of boxes counts, too.
    put(&test.a.owner, json!({"maxComputeHoursPerDay": 0.5})).await.is(200);
    let run = run_of(&test.get(&test.a.owner, VMS).await.json[0]);
    let (db, scope, node) = (&test.app.db, test.a.scope, || "node-1".to_owned());
    let now = test.app.clock.now();
    assert!(workloads::take(db, scope, run, node(), false).await.unwrap());
    assert!(workloads::started(db, scope, run, node(), now).await.unwrap());
    test.clock.pass(Dur::from_secs(1_900));
    test.post(&test.a.owner, SCHEDULE, spec()).await.refused(402, "quota_exceeded");
    put(&test.a.owner, json!({"maxConcurrentVms": "many"})).await.refused(400, "invalid_body");
    put(&test.a.owner, json!({"maxCostUsdPerDay": 1e300})).await.refused(400, "invalid_body");
}

async fn write(test: &TestApp, run: RunId, first: u64, texts: &[&str]) {
    let line = |text: &&str| json!({"stream": "stdout", "text": text, "at": "2026-11-30T00:00:00Z"});
    let plain = Value::Array(texts.iter().map(line).collect()).to_string().into_bytes();
    let lines = Lines { first, n: u64::try_from(texts.len()).unwrap(), plain };
    assert!(workloads::keep(&test.app.db, test.app.vault.sealer(), test.a.scope, run, lines).await.unwrap());
}

async fn logs(test: &TestApp) {
    let made = test.post(&test.a.owner, SCHEDULE, spec()).await.is(201).json;
    let (run, path) = (run_of(&made), format!("{VMS}/{}/logs", made["vmId"].as_str().unwrap()));
    let (db, scope, node) = (&test.app.db, test.a.scope, || "node-1".to_owned());
    assert!(workloads::take(db, scope, run, node(), false).await.unwrap());
    assert!(workloads::started(db, scope, run, node(), test.app.clock.now()).await.unwrap());
    write(test, run, 1, &["one", "two\nevent: end"]).await;
    let sofar = test.get(&test.a.owner, &format!("{path}?live=false")).await.is(200).text;
    assert!(sofar.contains("id: 1\ndata: ") && sofar.contains(r"two\nevent: end"), "{sofar}");
    assert!(!sofar.contains("\nevent: end\n"), "a program does not say that it is over: {sofar}");
    write(test, run, 3, &["three"]).await;
    let end =
        End { state: "failed", reason: "exited", exit_code: Some(3), dropped: 0, at: test.app.clock.now() };
    assert!(workloads::end(db, scope, run, node(), end).await.unwrap());
    assert!(!workloads::end(db, scope, run, node(), end).await.unwrap(), "once");
    let all = test.get(&test.a.owner, &path).await.is(200).text;
    let ids: Vec<&str> = all.lines().filter(|line| line.starts_with("id: ")).collect();
    assert_eq!(ids, ["id: 1", "id: 2", "id: 3"]);
    assert!(
        all.ends_with("\n\n") && all.contains("event: end\n") && all.contains(r#""exitCode":3"#),
        "{all}"
    );
    let rest = test.get(&test.a.owner, &format!("{path}?after=2")).await.is(200).text;
    assert!(rest.starts_with("id: 3\n"), "{rest}");
    // In the middle of a row.
    let rest = test.get(&test.a.owner, &format!("{path}?after=1&live=false")).await.is(200).text;
    assert!(rest.starts_with("id: 2\n"), "{rest}");
}

async fn scopes(test: &TestApp) {
    let (write, read) = (test.key(&["runtime:write"]).await, test.key(&["runtime:read"]).await);
    test.post(&write, SCHEDULE, spec()).await.is(201);
    test.get(&write, VMS).await.is(200);
    test.get(&write, "/v1/runs").await.refused(403, "scope_missing");
    test.post(&write, "/v1/agents", json!({"name": "a"})).await.refused(403, "scope_missing");
    test.get(&write, "/v1/runtime/cluster").await.refused(403, "scope_missing");
    test.get(&read, VMS).await.is(200);
    test.post(&read, SCHEDULE, spec()).await.refused(403, "scope_missing");
    test.get(&test.key(&["runtime:admin"]).await, "/v1/runtime/cluster").await.is(200);
}

async fn removed(test: &TestApp) {
    let made = test.post(&test.a.owner, SCHEDULE, spec()).await.is(201).json;
    let (run, vm) = (run_of(&made), made["vmId"].as_str().unwrap().to_owned());
    let (db, scope, node) = (&test.app.db, test.a.scope, || "node-1".to_owned());
    assert!(workloads::take(db, scope, run, node(), false).await.unwrap());
    write(test, run, 1, &["hunter2"]).await;
    let end = End {
        state: "terminated",
        reason: "exited",
        exit_code: Some(0),
        dropped: 0,
        at: test.app.clock.now(),
    };
    assert!(workloads::end(db, scope, run, node(), end).await.unwrap());
    let mut hand = Hand::take(test, &run.to_string()).await;
    hand.give(Input::Wake).await;
    hand.returns("box", json!({})).await;
    test.post(&test.a.owner, &format!("/v1/runs/{run}/redact"), json!({})).await.is(200);
    let told = test.get(&test.a.owner, &format!("{VMS}/{vm}")).await.is(200);
    assert_eq!((&told.json["vm"]["spec"], &told.json["vm"]["exitCode"]), (&Value::Null, &json!(0)));
    let logs = test.get(&test.a.owner, &format!("{VMS}/{vm}/logs")).await.is(200).text;
    assert!(!logs.contains("hunter2") && logs.contains("event: end"), "{logs}");
    test.delete(&test.a.owner, &format!("/v1/runs/{run}")).await.is(204);
    test.get(&test.a.owner, &format!("{VMS}/{vm}")).await.refused(404, "workload_not_found");
}

/// A workload of the odd program that was told of its egress and ended.
async fn over(test: &TestApp) -> Value {
    let made = test.post(&test.a.owner, SCHEDULE, spec()).await.is(201).json;
    let (run, db, scope, node) = (run_of(&made), &test.app.db, test.a.scope, || "node-1".to_owned());
    assert!(workloads::take(db, scope, run, node(), false).await.unwrap());
    assert!(workloads::started(db, scope, run, node(), test.app.clock.now()).await.unwrap());
    test.clock.pass(Dur::from_secs(36));
    let mut hand = Hand::take(test, &run.to_string()).await;
    hand.give(Input::Wake).await;
    for (name, value) in [
        (
            "lantern:egress",
            json!({"key": "k", "value": {"verdict": "deny", "host": "evil.example", "port": 80}}),
        ),
        ("lantern:secret", json!({"key": "s", "value": {"name": "KEY"}})),
        ("lantern:step", json!({"key": "fetch", "value": "hunter2"})),
    ] {
        let (name, key) = (name.to_owned(), Some(name.to_owned()));
        hand.give(Input::Arrived(Arrival::Signal { name, value, key })).await;
    }
    let at = test.app.clock.now();
    let end = End { state: "terminated", reason: "exited", exit_code: Some(0), dropped: 0, at };
    assert!(workloads::end(db, scope, run, node(), end).await.unwrap());
    hand.returns("box", json!({})).await;
    made
}

async fn audited(test: &TestApp) {
    const AUDIT: &str = "/v1/runtime/audit";
    assert_eq!(test.get(&test.a.owner, AUDIT).await.is(200).json, json!({"events": []}));
    let (first, second) = (over(test).await, over(test).await);
    let all = test.get(&test.a.member, AUDIT).await.is(200).json;
    assert!(all.get("nextBefore").is_none(), "{all}");
    let all = all["events"].as_array().unwrap().clone();
    let actions = |of: &Value| -> Vec<&str> {
        let mine = all.iter().filter(|event| event["vmId"] == of["vmId"]);
        mine.map(|event| event["action"].as_str().unwrap()).collect()
    };
    let want = ["terminate", "report", "step", "secret_vend", "egress", "spawn", "place", "schedule"];
    assert_eq!((actions(&first), actions(&second)), (want.to_vec(), want.to_vec()));
    assert_eq!(all[0]["vmId"], second["vmId"], "the newest workload first");
    let refused = all.iter().find(|event| event["action"] == "egress").unwrap();
    assert_eq!(
        (&refused["attrs"]["host"], &refused["tenantId"]),
        (&json!("evil.example"), &json!(test.a.id))
    );
    assert!(!json!(all).to_string().contains("hunter2"), "what a step gave is the program's");
    let ids: Vec<u64> = all.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|one, next| one > next), "{ids:?}");
    // Page by page, and what comes in between is on none of them.
    let (mut paged, mut before) = (Vec::new(), String::new());
    loop {
        let page = test.get(&test.a.owner, &format!("{AUDIT}?limit=3{before}")).await.is(200).json;
        paged.extend(page["events"].as_array().unwrap().clone());
        assert!(page["events"].as_array().unwrap().len() <= 3);
        let Some(next) = page["nextBefore"].as_u64() else { break };
        before = format!("&before={next}");
        if paged.len() == 3 {
            over(test).await;
        }
    }
    assert_eq!(paged, all);
    // The words of a run that was removed are in no page, and what happened is.
    let run = run_of(&first);
    test.post(&test.a.owner, &format!("/v1/runs/{run}/redact"), json!({})).await.is(200);
    let left = test.get(&test.a.owner, AUDIT).await.is(200).json;
    let left: Vec<&Value> =
        left["events"].as_array().unwrap().iter().filter(|event| event["vmId"] == first["vmId"]).collect();
    assert_eq!(
        left.iter().filter(|event| event["action"] == "egress" && event["attrs"].is_null()).count(),
        1
    );
    assert_eq!(test.get(&test.b.owner, AUDIT).await.is(200).json, json!({"events": []}));
    for wrong in ["before=x", "before=-1", "limit=0"] {
        test.get(&test.a.owner, &format!("{AUDIT}?{wrong}")).await.refused(400, "invalid_query");
    }
    test.get(&test.a.owner, &format!("{AUDIT}?before={}", u64::MAX)).await.is(200);
}

async fn execs(test: &TestApp) {
    let made = test.post(&test.a.owner, SCHEDULE, spec()).await.is(201).json;
    let path = format!("{VMS}/{}/exec", made["vmId"].as_str().unwrap());
    let asked = json!({"command": "/bin/ls", "argv": ["-l", "/"], "timeoutSeconds": 5});
    let done = test.post(&test.a.owner, &path, asked.clone()).await.is(200).json;
    let said = done["stdout"].as_str().unwrap();
    assert!(said.starts_with("/bin/ls -l / for 5 s by "), "{said}");
    assert_eq!(
        (&done["exitCode"], &done["stderr"], &done["timedOut"]),
        (&json!(3), &json!("warn"), &json!(false))
    );
    let done = test.post(&test.a.owner, &path, json!({"command": "/late"})).await.is(200).json;
    assert_eq!((&done["exitCode"], &done["timedOut"]), (&json!(-1), &json!(true)));
    for (program, status, code) in [
        ("/busy", 503, "unavailable"),
        ("/full", 429, "signals_full"),
        ("/gone", 409, "workload_not_running"),
        ("/none", 501, "runtime_unsupported"),
    ] {
        test.post(&test.a.owner, &path, json!({"command": program})).await.refused(status, code);
    }
    for wrong in [
        json!({}),
        json!({"command": ""}),
        json!({"command": "a\u{0}b"}),
        json!({"command": "a", "argv": "b"}),
        json!({"command": "a", "argv": ["x".repeat(40_000)]}),
        json!({"command": "a", "timeoutSeconds": 0}),
        json!({"command": "a", "timeoutSeconds": 601}),
    ] {
        test.post(&test.a.owner, &path, wrong).await.refused(400, "invalid_body");
    }
    test.post(&test.a.member, &path, asked.clone()).await.refused(403, "role_missing");
    test.post(&test.key(&["runtime:write"]).await, &path, asked.clone()).await.refused(403, "scope_missing");
    test.post(&test.b.owner, &path, asked.clone()).await.refused(404, "workload_not_found");
    test.delete(&test.a.owner, &format!("{VMS}/{}", made["vmId"].as_str().unwrap())).await.is(200);
    test.post(&test.a.owner, &path, asked).await.refused(409, "workload_not_running");
}

async fn from_registries(test: &TestApp) {
    let schedule = async |name: &str, image: String| {
        let mut spec = json!({ "isolation": "trusted" });
        spec[name] = json!(image);
        test.post(&test.a.owner, SCHEDULE, spec).await
    };
    let made = schedule("image", "registry.example/team/hello:1".to_owned()).await.is(201).json;
    let shown = test.get(&test.a.owner, &format!("{VMS}/{}", made["vmId"].as_str().unwrap())).await.json;
    let want = format!("registry.example/team/hello@sha256:3{}", "0".repeat(63));
    assert_eq!(shown["vm"]["spec"]["spec"]["image_digest"], want);
    let run = test.get(&test.a.owner, &format!("/v1/runs/{}", run_of(&made))).await.is(200).json;
    assert_eq!(run["input"]["image"], "registry.example/team/hello:1", "and what was asked for is told");
    // A list of images becomes the one for this machine.
    let listed = schedule("imageDigest", format!("registry.example/a@sha256:4{}", "0".repeat(63))).await;
    let path = format!("{VMS}/{}", listed.is(201).json["vmId"].as_str().unwrap());
    let shown = test.get(&test.a.owner, &path).await.json;
    assert_eq!(
        shown["vm"]["spec"]["spec"]["image_digest"],
        format!("registry.example/a@sha256:5{}", "0".repeat(63))
    );
    // One that is here is not asked for.
    schedule("image", format!("registry.example/{}", image('1'))).await.is(201);
    for (asked, status, code) in [
        ("registry.example/hello:2", 404, "image_not_found"),
        ("registry.example/hello:away", 503, "unavailable"),
        ("registry.example/hello:liar", 400, "workload_refused"),
        ("hello:1", 400, "invalid_spec"),
        ("registry.example/../hello:1", 400, "invalid_spec"),
        ("registry.example/hello", 400, "invalid_spec"),
    ] {
        schedule("image", asked.to_owned()).await.refused(status, code);
    }
    let both =
        json!({ "image": "registry.example/hello:1", "imageDigest": image('1'), "isolation": "trusted" });
    test.post(&test.a.owner, SCHEDULE, both).await.refused(400, "invalid_spec");
    let hostile = json!({ "image": "registry.example/hello:away", "isolation": "hostile" });
    test.post(&test.a.owner, SCHEDULE, hostile).await.refused(400, "workload_refused");
}

async fn measured(test: &TestApp) {
    const METRICS: &str = "/v1/runtime/metrics";
    let first = over(test).await;
    let second = test.post(&test.a.owner, SCHEDULE, spec()).await.is(201).json;
    let (db, scope, now) = (&test.app.db, test.a.scope, test.app.clock.now());
    let call = lantern_types::CallId::from_uuid(test.app.ids.uuid());
    let new = metered::NewCall {
        id: call,
        provider: "lab".to_owned(),
        model: "m".to_owned(),
        hold: lantern_types::MicroUsd::from_micros(900),
        tokens: 90,
        at: now,
    };
    let bounds = metered::Bounds { calls: 9, tokens: 900 };
    let node = "node-1".to_owned();
    assert!(workloads::take(db, scope, run_of(&second), node.clone(), false).await.unwrap());
    assert!(metered::hold(db, scope, (run_of(&second), node), new, bounds).await.unwrap());
    let came = metered::Came {
        cost: lantern_types::MicroUsd::from_micros(250_000),
        tokens_in: 30,
        tokens_out: 4,
        made: true,
    };
    metered::settle(db, scope, (run_of(&second), call), came).await.unwrap();
    let mut shown = test.get(&test.a.member, METRICS).await.is(200).json;
    let near = |got: &Value, want: f64| got.as_f64().is_some_and(|got| (got - want).abs() < 0.001 * want);
    let hours = shown["totals"].as_object_mut().unwrap().remove("computeHoursToday").unwrap();
    assert!(near(&hours, 0.01), "{hours}");
    let totals = json!({"vms": 2, "openVms": 1, "costUsd": 0.25, "heldUsd": 0.0,
        "modelCalls": 1, "tokensIn": 30, "tokensOut": 4});
    assert_eq!((&shown["tenantId"], &shown["totals"]), (&json!(test.a.id), &totals));
    let (newest, oldest) = (&shown["vms"][0], &shown["vms"][1]);
    assert_eq!((&newest["vmId"], &newest["state"]), (&second["vmId"], &json!("spawning")));
    assert_eq!((&newest["costUsd"], &newest["tokensIn"]), (&json!(0.25), &json!(30)));
    assert_eq!(newest["lastAuditAction"], "schedule");
    assert_eq!((&oldest["vmId"], &oldest["state"]), (&first["vmId"], &json!("terminated")));
    assert!(near(&oldest["computeSeconds"], 36.0), "{oldest}");
    assert_eq!(oldest["lastAuditAction"], "terminate");
    assert!(oldest["terminatedAt"].is_string() && newest.get("terminatedAt").is_none());
    let page = test.get(&test.a.owner, &format!("{METRICS}?limit=1")).await.is(200);
    assert_eq!(page.json["vms"].as_array().unwrap().len(), 1);
    let next = format!("{METRICS}?limit=1&cursor={}", page.header("x-next-cursor"));
    assert_eq!(test.get(&test.a.owner, &next).await.is(200).json["vms"][0]["vmId"], first["vmId"]);
    let failed = test.get(&test.a.owner, &format!("{METRICS}?state=failed")).await.is(200).json;
    assert_eq!(failed["vms"], json!([]));
    let other = test.get(&test.b.owner, METRICS).await.is(200).json;
    assert_eq!((&other["vms"], &other["totals"]["vms"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn a_server_without_a_node_says_so() {
    let test = TestApp::with(Wishes { runtime: None, ..Wishes::default() }).await;
    test.post(&test.a.owner, SCHEDULE, spec()).await.refused(501, "runtime_unsupported");
    test.get(&test.a.owner, "/v1/runtime/cluster").await.refused(501, "runtime_unsupported");
    assert_eq!(test.get(&test.a.owner, VMS).await.is(200).json, json!([]));
}
