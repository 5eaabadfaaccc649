//! A PostgreSQL that goes away in the middle of transactions and comes back, takes no writes, or is full.

use std::fs::File;

use lantern_net::http::Method;
use lantern_store::testing::{Cluster, Folder, Proxy, TestDatabase, block_on};
use serde_json::{Value, json};

use super::api::{Api, seqs, tick};
use super::cluster::{LOGIN, serving};
use super::process::{NEVER, Server};
use super::provider::{Answer, Provider};

/// The status, the code and `Retry-After` of an answer.
async fn told(api: &Api, method: Method, path: &str, body: Option<&Value>) -> (u16, String, Option<String>) {
    let response = api.send(method, path, body, None).await;
    let status = response.status().as_u16();
    let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
    let bytes = response.bytes(16 << 20).await.unwrap();
    let said: Value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8(bytes.to_vec()).unwrap()));
    let code = said["code"].as_str().or_else(|| said.as_str()).unwrap_or_default().to_owned();
    (status, code, wait)
}

/// Waits until an address is answered so.
async fn answers(api: &Api, path: &str, want: (u16, &str)) {
    let look = async {
        loop {
            let (status, code, _) = told(api, Method::GET, path, None).await;
            if (status, code.as_str()) == want {
                return;
            }
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, look).await.unwrap_or_else(|_| panic!("{path} was never answered {want:?}"));
}

#[test]
fn a_database_that_comes_and_goes_loses_nothing_and_does_nothing_twice() {
    block_on(async {
        let cluster: &'static Cluster = Box::leak(Box::new(Cluster::on_loopback(None)));
        let database = cluster.database().await;
        let (proxy, options) = Proxy::before(&database);
        let provider = Provider::start(vec![Answer::Say("two")]).await;
        let folder = Folder::new("cut");
        let (app, system) = (options.app_url.expose(), options.system_url.expose());
        let server = Server::start(serving(folder.path(), app, system, &provider));
        let api = Api::login(&server, LOGIN.0, LOGIN.1).await;
        let calc = |id| json!({"id": id, "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1+1"}}});
        let nap = |id| json!({"id": id, "kind": "sleep", "data": {"durationMs": 400}});
        let ask = json!({"id": "ask", "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o"}});
        let steps = json!([calc("a"), nap("n1"), calc("b"), nap("n2"), ask, nap("n3"), calc("c")]);
        api.agent("work", json!({"program": "steps", "steps": steps})).await;
        let mut runs = Vec::new();
        for n in 0..20 {
            runs.push(api.run("work", json!({"n": n})).await);
        }
        proxy.cut_every(5);
        while proxy.cuts() < 12 {
            tick().await;
        }
        proxy.cut_every(0);
        proxy.away(true);
        for (method, path, body) in [
            (Method::GET, "/v1/runs", None),
            (Method::POST, "/v1/runs", Some(json!({"agentName": "work", "input": {}}))),
        ] {
            let (status, code, wait) = told(&api, method, path, body.as_ref()).await;
            assert_eq!((status, code.as_str(), wait.as_deref()), (503, "unavailable", Some("1")));
        }
        answers(&api, "/readyz", (503, "database not ready")).await;
        assert_eq!(api.get("/healthz").await.0, 200);
        proxy.away(false);
        answers(&api, "/readyz", (200, "ok")).await;

        let mut again = 0;
        for run in &runs {
            let ended = api.ended(run).await;
            assert_eq!(ended["status"], "succeeded", "{ended}");
            let (_, events) = api.events(run, None).await;
            let shown = seqs(&events);
            assert_eq!(shown, (1..=u64::try_from(shown.len()).unwrap()).collect::<Vec<_>>(), "{run}");
            let settled = events.iter().filter(|event| event.event == "step_completed").count();
            assert_eq!(settled, 4, "each call was settled once");
            again += events.iter().filter(|event| event.event == "step_reissued").count();
        }
        let (_, listed) = api.get("/v1/runs?limit=100").await;
        assert_eq!(listed.as_array().unwrap().len(), runs.len(), "what was refused was not started");
        let mut keys = provider.keys();
        let calls = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), runs.len(), "one key for each run's one model call");
        // Only a machine so busy that the lease ran out makes calls again, and says so.
        assert!(calls - keys.len() <= again, "{calls} calls, {again} of them told as made again");
        assert!(server.stop().success());
        database.discard().await;
    });
}

/// What is done to a database, what is said of it, and how it is mended.
struct Trouble {
    code: &'static str,
    wait: &'static str,
    ready: (u16, &'static str),
}

const FILL: &str = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION full_disk()";

async fn spoil(database: &TestDatabase, code: &str) {
    if code == "storage_full" {
        database.run(FILL).await;
    } else {
        database.read_only(true).await;
        database.cut_connections().await;
    }
}

async fn mend(database: &TestDatabase, code: &str) {
    if code == "storage_full" {
        database.run("DROP TRIGGER full_disk ON runs").await;
    } else {
        database.read_only(false).await;
    }
}

#[test]
fn a_database_that_takes_no_writes_is_read_and_runs_wait_for_it_with_what_they_have() {
    block_on(async {
        for trouble in [
            Trouble { code: "storage_read_only", wait: "5", ready: (503, "database read-only") },
            Trouble { code: "storage_full", wait: "60", ready: (200, "ok") },
        ] {
            let database = Cluster::shared().database().await;
            let options = database.options();
            let provider = Provider::start(vec![Answer::Talk]).await;
            let (folder, log) = (Folder::new("no-writes"), Folder::new("no-writes-log"));
            let log = log.path().join("log");
            let (app, system) = (options.app_url.expose(), options.system_url.expose());
            let mut command = serving(folder.path(), app, system, &provider);
            command.env("LOG_LEVEL", "warn");
            let server = Server::start_deaf(&mut command, File::create(&log).unwrap().into());
            let api = Api::login(&server, LOGIN.0, LOGIN.1).await;
            let steps = json!([{"id": "ask", "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o"}}]);
            api.agent("work", json!({"program": "steps", "steps": steps})).await;
            let run = api.run("work", json!({})).await;
            provider.called(1).await;

            spoil(&database, trouble.code).await;
            let begin = json!({"agentName": "work", "input": {}});
            let mut refused = told(&api, Method::POST, "/v1/runs", Some(&begin)).await;
            // Connections that were cut fail once each.
            while refused.1 == "unavailable" {
                refused = told(&api, Method::POST, "/v1/runs", Some(&begin)).await;
            }
            let want = (503, trouble.code.to_owned(), Some(trouble.wait.to_owned()));
            assert_eq!(refused, want);
            answers(&api, "/readyz", trouble.ready).await;
            answers(&api, &format!("/v1/runs/{run}"), (200, "")).await;
            provider.hush();
            for _ in 0..10 {
                tick().await;
            }
            assert_eq!(api.get(&format!("/v1/runs/{run}")).await.1["status"], "running");

            mend(&database, trouble.code).await;
            answers(&api, "/readyz", (200, "ok")).await;
            assert_eq!(api.ended(&run).await["status"], "succeeded");
            // A connection from before may say once more that it takes no writes.
            if told(&api, Method::POST, "/v1/runs", Some(&begin)).await.0 != 201 {
                assert_eq!(told(&api, Method::POST, "/v1/runs", Some(&begin)).await.0, 201);
            }
            let keys = provider.keys();
            let of_the_first = keys.iter().filter(|key| **key == keys[0]).count();
            assert_eq!(of_the_first, 1, "what the model said was kept until it could be written: {keys:?}");
            assert!(server.stop().success());
            let words = std::fs::read_to_string(log).unwrap();
            assert!(!words.contains("panicked") && words.contains("asks again"), "{words}");
            database.discard().await;
        }
    });
}
