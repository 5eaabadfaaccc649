//! Three processes on one PostgreSQL: one is killed, and nothing is lost or done twice.

use std::collections::{BTreeMap, BTreeSet};
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
        let (answers, hangs) = (vec![Answer::Say("two")], vec![Answer::Hang]);
        let providers = [
            Provider::start(answers.clone()).await,
            Provider::start(hangs).await,
            Provider::start(answers).await,
        ];
        let folders: Vec<Folder> = (0..3).map(|n| Folder::new(&format!("replica-{n}"))).collect();
        let mut servers: Vec<Server> = folders
            .iter()
            .zip(&providers)
            .map(|(folder, provider)| serve(folder, app, system, provider))
            .collect();
        // Whoever is asked for runs takes most of them up, and the calls of this one are never answered.
        let api = Api::login(&servers[1], LOGIN.0, LOGIN.1).await;
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
        providers[1].called(3).await;
        servers.remove(1).kill();
        let cut_short: BTreeSet<String> = providers[1].keys().into_iter().collect();
        assert!(cut_short.len() >= 3, "the one that was killed was waiting for answers");

        let other = Api::login(&servers[1], LOGIN.0, LOGIN.1).await;
        for run in &runs {
            let ended = other.ended(run).await;
            assert_eq!(ended["status"], "succeeded", "{ended}");
        }
        let mut answered: BTreeMap<String, usize> = BTreeMap::new();
        for key in [&providers[0], &providers[2]].into_iter().flat_map(Provider::keys) {
            *answered.entry(key).or_default() += 1;
        }
        assert_eq!(answered.len(), runs.len(), "one key for each run's one model call");
        assert!(
            answered.values().all(|times| *times == 1),
            "no call that was answered goes out again: {answered:?}"
        );
        assert!(
            cut_short.iter().all(|key| answered.contains_key(key)),
            "what was under way is sent again, by its key"
        );
        let (_, events) = other.events(&runs[0], None).await;
        assert!(events.last().is_some_and(|event| event.event == "end"), "streams end across processes");
        let mut told = 0;
        for run in &runs {
            let (_, events) = other.events(run, None).await;
            let again = |kind: &str| matches!(kind, "step_reissued" | "step_retrying");
            told += usize::from(events.iter().any(|event| again(&event.event)));
        }
        assert!(
            told >= cut_short.len(),
            "what went out twice says so: {} of them, {told} told",
            cut_short.len()
        );
    });
}
