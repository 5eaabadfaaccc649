//! Three processes on one PostgreSQL: one is killed, and nothing is lost or done twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use lantern_store::testing::{Cluster, Folder};
use serde_json::json;

use super::api::Api;
use super::process::{Server, lantern};
use super::provider::{Answer, Provider};

pub(crate) const LOGIN: (&str, &str) = ("ada@example.com", "correct horse battery");

pub(super) fn serve(folder: &Folder, app: &str, system: &str, provider: &Provider) -> Server {
    Server::start(serving(folder.path(), app, system, provider))
}

/// Signs in as the one who was there first.
pub(crate) async fn login(server: &Server) -> Api {
    Api::login(server, LOGIN.0, LOGIN.1).await
}

pub(crate) fn serving(folder: &Path, app: &str, system: &str, provider: &Provider) -> Command {
    served_by(folder, app, system, &provider.env())
}

/// The same with this environment in place of a provider's.
pub(crate) fn served_by(folder: &Path, app: &str, system: &str, models: &[(&str, &str)]) -> Command {
    let mut command: Command = lantern();
    command.args(["serve", "--output", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder);
    command.env("LANTERN_DATABASE_APP_URL", app).env("LANTERN_DATABASE_SYSTEM_URL", system);
    command.env("LANTERN_CREDENTIAL_KEY", "07".repeat(32)).env("LANTERN_SPAWN_RATE_PER_MIN", "0");
    command.env("LANTERN_ADMIN_EMAIL", LOGIN.0).env("LANTERN_ADMIN_PASSWORD", LOGIN.1);
    command.envs(models.iter().copied()).env("LOG_LEVEL", "error");
    command
}

#[test]
fn a_watcher_hears_the_model_that_another_process_calls() {
    lantern_store::testing::block_on(async {
        let database = Cluster::shared().database().await;
        let options = database.options();
        let (app, system) = (options.app_url.expose(), options.system_url.expose());
        let provider = Provider::start(vec![Answer::Talk]).await;
        let (here, there) = (Folder::new("drives"), Folder::new("watches"));
        // Alone while the run starts, so that this one drives it.
        let drives = serve(&here, app, system, &provider);
        let api = Api::login(&drives, LOGIN.0, LOGIN.1).await;
        let steps = json!([{"id": "ask", "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o"}}]);
        api.agent("work", json!({"program": "steps", "steps": steps})).await;
        let run = api.run("work", json!({})).await;
        provider.called(1).await;
        let watches = serve(&there, app, system, &provider);
        let watcher = Api::login(&watches, LOGIN.0, LOGIN.1).await;
        let heard = watcher.listen(&run, |event| event.event == "llm_delta").await;
        assert!(heard.data.contains("word ") && heard.data.contains(&run), "{}", heard.data);
        provider.hush();
        assert_eq!(watcher.ended(&run).await["status"], "succeeded");
        assert_eq!(provider.calls().len(), 1, "one process called, the other listened");
        drop((drives, watches));
        database.discard().await;
    });
}

#[test]
fn a_ticket_of_one_process_opens_one_stream_of_another_and_is_in_no_log() {
    lantern_store::testing::block_on(async {
        let database = Cluster::shared().database().await;
        let options = database.options();
        let (app, system) = (options.app_url.expose(), options.system_url.expose());
        let provider = Provider::start(vec![Answer::Say("two")]).await;
        let folders = [Folder::new("asked"), Folder::new("opened")];
        let log = |folder: &Folder| folder.path().join("log");
        let [asked, opened] = folders.each_ref().map(|folder| {
            let mut command = serving(folder.path(), app, system, &provider);
            command.env("LOG_LEVEL", "trace");
            Server::start_deaf(&mut command, File::create(log(folder)).unwrap().into())
        });
        let api = Api::login(&asked, LOGIN.0, LOGIN.1).await;
        api.agent("work", json!({"model": "gpt-4o"})).await;
        let run = api.run("work", json!({})).await;
        let (_, made) = api.post("/v1/auth/sse-ticket", &json!({})).await;
        let ticket = made["ticket"].as_str().unwrap();
        let path = format!("/v1/runs/{run}/events?token={ticket}");
        assert_eq!(Api::nobody(&opened).get(&path).await.0, 200);
        for server in [&asked, &opened] {
            let (status, refusal) = Api::nobody(server).get(&path).await;
            assert_eq!((status, &refusal["code"]), (401, &json!("ticket_spent")));
        }
        let long = format!("/v1/runs/{run}/events?token={}", api.token);
        assert_eq!(Api::nobody(&opened).get(&long).await.1["code"], "not_a_ticket");
        assert!(asked.stop().success() && opened.stop().success());
        for log in folders.each_ref().map(log) {
            let words = std::fs::read_to_string(log).unwrap();
            assert!(words.contains("a request was refused"), "{words}");
            assert!(!words.contains(ticket) && !words.contains(&api.token), "{words}");
        }
        database.discard().await;
    });
}

#[test]
fn three_processes_lose_one_and_nothing_else() {
    lantern_store::testing::block_on(async {
        let database = Cluster::shared().empty_database().await;
        let owner = database.owner_url();
        let migrated = lantern()
            .arg("migrate")
            .env("LANTERN_DATABASE_OWNER_URL", owner.expose())
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(migrated.success());
        let options = database.options();
        let (app, system) = (options.app_url.expose(), options.system_url.expose());
        let provider =
            Provider::start(vec![Answer::Call("calc", json!({"expression": "1+1"})), Answer::Say("two")])
                .await;
        let folders: Vec<Folder> = (0..3).map(|n| Folder::new(&format!("replica-{n}"))).collect();
        let mut servers: Vec<Server> =
            folders.iter().map(|folder| serve(folder, app, system, &provider)).collect();
        let api = Api::login(&servers[0], LOGIN.0, LOGIN.1).await;
        let steps = json!([
            {"id": "a", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1+1"}}},
            {"id": "nap", "kind": "sleep", "data": {"durationMs": 1500}},
            {"id": "b", "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o"}},
        ]);
        api.agent("work", json!({"program": "steps", "steps": steps})).await;
        let mut runs = Vec::new();
        for n in 0..60 {
            runs.push(api.run("work", json!({"n": n})).await);
        }
        provider.called(1).await;
        servers.remove(1).kill();

        let other = Api::login(&servers[1], LOGIN.0, LOGIN.1).await;
        let mut calls: BTreeMap<String, usize> = BTreeMap::new();
        for run in &runs {
            let ended = other.ended(run).await;
            assert_eq!(ended["status"], "succeeded", "{ended}");
        }
        for key in provider.keys() {
            *calls.entry(key).or_default() += 1;
        }
        assert_eq!(calls.len(), runs.len(), "one key for each run's one model call");
        let repeated: usize = calls.values().filter(|n| **n > 1).count();
        let (_, events) = other.events(&runs[0], None).await;
        assert!(events.last().is_some_and(|event| event.event == "end"), "streams end across processes");
        // After the kill, or because a busy machine answered too late: both are told.
        let again = |kind: &str| matches!(kind, "step_reissued" | "step_retrying");
        let mut told = 0;
        for run in &runs {
            let (_, events) = other.events(run, None).await;
            told += usize::from(events.iter().any(|event| again(&event.event)));
        }
        assert!(repeated <= told, "what went out twice says so: {repeated} of them, {told} told");
    });
}
