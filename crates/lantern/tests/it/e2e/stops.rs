//! Emergency stops by the real binary: from the answer on nothing new is sent to a model, through a kill, until it is lifted.

use std::collections::BTreeSet;
use std::path::Path;

use lantern_net::RealClock;
use lantern_store::testing::{Cluster, block_on};
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};

use super::api::{Api, answer, said};
use super::process::{Folder, Server, lantern};
use super::provider::{Answer, Provider};

const RUNS: usize = 20;

async fn start(api: &Api) -> Vec<String> {
    let ask = |id: &str| json!({"id": id, "kind": "llm", "data": {"prompt": id, "model": "gpt-4o"}});
    api.agent("three", json!({"program": "steps", "steps": [ask("a"), ask("b"), ask("c")]})).await;
    let mut runs = Vec::new();
    for n in 0..RUNS {
        runs.push(api.run("three", json!({"n": n})).await);
    }
    runs
}

/// Waits until every run is halted or over, and answers when steps of them were admitted.
async fn at_rest(api: &Api, runs: &[String]) -> Vec<String> {
    let mut admitted = Vec::new();
    for run in runs {
        api.until(run, |run| run["status"] != "queued" && run["status"] != "running").await;
        let path = format!("/v1/runs/{run}/events?live=false");
        admitted.extend(api.frames(&path).await.iter().filter(|frame| frame.event == "step_admitted").map(
            |frame| {
                let data: Value = serde_json::from_str(&frame.data).unwrap();
                data["createdAt"].as_str().unwrap().to_owned()
            },
        ));
    }
    admitted
}

/// Nothing was admitted after `answered`, and nothing was sent that was not admitted.
async fn holds(api: &Api, provider: &Provider, runs: &[String], answered: &str) {
    let admitted = at_rest(api, runs).await;
    let late: Vec<&String> = admitted.iter().filter(|at| at.as_str() > answered).collect();
    assert!(late.is_empty(), "{late:?} are later than {answered}");
    assert_eq!(distinct(provider), admitted.len(), "one key for each admission");
    assert_eq!(admitted.len(), RUNS, "what was under way, and nothing after it");
}

fn distinct(provider: &Provider) -> usize {
    provider.keys().into_iter().collect::<BTreeSet<_>>().len()
}

async fn all_end(api: &Api, provider: &Provider, runs: &[String]) {
    for run in runs {
        assert_eq!(api.ended(run).await["status"], "succeeded");
    }
    assert_eq!(distinct(provider), 3 * RUNS);
}

#[tokio::test]
async fn a_stop_holds_through_a_kill_and_the_command_line_lifts_it() {
    let folder = Folder::new();
    let provider = Provider::start(vec![Answer::Talk]).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    assert!(server.ready.get("stops").is_none(), "{}", server.ready);
    let api = Api::of(&server).await;
    let runs = start(&api).await;
    // The first call of each run is under way, and ends when it is told to.
    provider.called(RUNS).await;
    let stop = answer(&said(&server, &api, &["stop", "--agent", "three", "--reason", "it is too dear"]));
    let answered = RealClock::new().now().to_string();
    assert_eq!((&stop["scope"], &stop["status"]), (&json!("agent"), &json!("holding")), "{stop}");
    let id = stop["id"].as_str().unwrap();
    provider.hush();
    holds(&api, &provider, &runs, &answered).await;
    server.kill();

    let server = Server::dev_with(folder.path(), &provider.env());
    assert_eq!(server.ready["stops"], 1, "{}", server.ready);
    let api = Api::of(&server).await;
    let late = api.run("three", json!({"n": "late"})).await;
    api.until(&late, |run| run["status"] == "paused").await;
    holds(&api, &provider, &runs, &answered).await;
    // Who looks at a halted run is told by what, and what to do.
    let shown = answer(&said(&server, &api, &["runs", "get", &late]));
    assert_eq!(
        (&shown["waitsFor"][0]["kind"], &shown["waitsFor"][0]["stop"]),
        (&json!("stop"), &json!(id)),
        "{shown}"
    );
    let listed = answer(&said(&server, &api, &["stops", "list", "--holding"]));
    assert_eq!((&listed[0]["id"], &listed[0]["reason"]), (&json!(id), &json!("it is too dear")), "{listed}");
    answer(&said(&server, &api, &["stops", "lift", id]));
    assert_eq!(api.ended(&late).await["status"], "succeeded");
    for run in &runs {
        assert_eq!(api.ended(run).await["status"], "succeeded");
    }
    assert_eq!(distinct(&provider), 3 * (RUNS + 1), "each call has one key, whenever it was made");
    assert_eq!(answer(&said(&server, &api, &["stops", "list", "--holding"])), json!([]));
}

#[tokio::test]
async fn the_operator_halts_a_server_that_runs_on_the_embedded_database() {
    let folder = Folder::new();
    let provider = Provider::start(vec![Answer::Talk]).await;
    let server = Server::dev_with(folder.path(), &provider.env());
    let api = Api::of(&server).await;
    let operates = |args: &[&str], folder: &Path| {
        let mut command = lantern();
        command.args(["stop", "-o", "json"]).args(args).arg("--data-dir").arg(folder).output().unwrap()
    };
    let empty = Folder::new();
    let nowhere = operates(&["--server", "--reason", "x"], empty.path());
    let words = String::from_utf8(nowhere.stderr).unwrap();
    assert!(!nowhere.status.success() && words.contains("--data-dir"), "{words}");
    let stop = answer(&operates(&["--server", "--reason", "the bill", "--by", "ada"], folder.path()));
    let runs = start(&api).await;
    at_rest(&api, &runs).await;
    assert_eq!(provider.calls().len(), 0, "not one");
    let doctor = said(&server, &api, &["doctor"]);
    let words = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.status.code() == Some(1) && words.contains("the bill"), "{words}");
    let id = stop["id"].as_str().unwrap();
    provider.hush();
    let lifted = answer(&operates(&["--lift", id], folder.path()));
    assert_eq!(lifted["lifted"], true);
    all_end(&api, &provider, &runs).await;
    assert!(!operates(&["--lift", id], folder.path()).status.success(), "once");
    let listed = answer(&said(&server, &api, &["stops", "list"]));
    let row = &listed[0];
    assert_eq!(
        (&row["scope"], &row["setBy"], &row["liftedBy"]),
        (&json!("server"), &json!("ada"), &json!("operator"))
    );
}

#[test]
fn a_stop_that_one_process_is_told_of_holds_in_all_of_them() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let options = database.options();
        let urls = [options.app_url.expose().clone(), options.system_url.expose().clone()];
        let provider = Provider::start(vec![Answer::Talk]).await;
        let folders = [Folder::new(), Folder::new()];
        let [here, there] = folders.each_ref().map(|folder| {
            Server::start(super::cluster::serving(folder.path(), &urls[0], &urls[1], &provider))
        });
        let one = super::cluster::login(&here).await;
        let other = super::cluster::login(&there).await;
        let runs = start(&other).await;
        provider.called(RUNS).await;
        let (status, stop) = one.post("/v1/stops", &json!({"scope": "tenant", "reason": "too dear"})).await;
        let answered = RealClock::new().now().to_string();
        assert_eq!(status, 201, "{stop}");
        provider.hush();
        holds(&other, &provider, &runs, &answered).await;
        // The operator's, by the server's configuration, over the tenant's.
        let operates = |args: &[&str]| {
            let mut command = lantern();
            command.args(["stop", "-o", "json"]).args(args);
            command.env("LANTERN_DATABASE_APP_URL", &urls[0]).env("LANTERN_DATABASE_SYSTEM_URL", &urls[1]);
            answer(&command.output().unwrap())
        };
        let wide = operates(&["--server", "--reason", "the bill"]);
        let id = stop["id"].as_str().unwrap();
        assert_eq!(other.delete(&format!("/v1/stops/{id}")).await, 204);
        holds(&other, &provider, &runs, &answered).await;
        operates(&["--lift", wide["id"].as_str().unwrap()]);
        all_end(&other, &provider, &runs).await;
        drop((here, there));
        database.discard().await;
    });
}
