//! Runs and calls through the front doors against one cap of the tenant.

use futures_util::future::join_all;
use lantern_store::testing::{Cluster, Folder as Scratch};
use serde_json::{Value, json};

use super::caps::{Raw, released, seen, stands};
use super::clients::{cap, key};
use super::upstream::Upstream;
use crate::e2e::api::{Api, answer, said, tick};
use crate::e2e::cluster::{LOGIN, served_by};
use crate::e2e::process::{Folder, NEVER, Server, lantern};

/// Micro-dollars.
const CAP: i64 = 30_000;
/// What the provider charges for each that it answers: 9 and 12 tokens of the model.
const COST: i64 = 143;
const STEPS: usize = 60;

/// An agent that asks so often, one after another, each for at most sixty tokens.
async fn agent(api: &Api, name: &str, steps: usize, prompt: &str) {
    let ask = |n: usize| {
        let data = json!({"prompt": prompt, "model": "gpt-4o", "maxTokens": 60});
        json!({"id": format!("s{n}"), "kind": "llm", "data": data})
    };
    let steps: Vec<Value> = (0..steps).map(ask).collect();
    api.agent(name, json!({"program": "steps", "maxCostUsd": 1, "steps": steps})).await;
}

async fn within(api: &Api) -> (i64, i64) {
    let (spent, held) = stands(api).await;
    assert!(spent + held <= CAP, "{spent} and {held} of {CAP}");
    (spent, held)
}

#[tokio::test]
async fn a_run_is_denied_once_the_cap_of_its_tenant_is_reached() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    agent(&api, "work", 2, "hi").await;
    // For the very next step, without a wait.
    cap(&api, 0.0001).await;
    let run = api.run("work", json!({})).await;
    let ended = api.ended(&run).await;
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("failed"), &json!("budget_exceeded")),
        "{ended}"
    );
    assert!(
        ended["error"]["message"].as_str().unwrap().contains("the tenant's cap of $0.000100 for the day"),
        "{ended}"
    );
    assert!(upstream.asked().is_empty());
    cap(&api, 1.0).await;
    let run = api.run("work", json!({})).await;
    assert_eq!(api.ended(&run).await["status"], "succeeded");
    assert_eq!(released(&api).await, 2 * COST);

    // And so once its agent's is, while another agent goes on.
    agent(&api, "other", 1, "hi").await;
    let (status, caps) =
        api.post("/v1/settings/caps", &json!({"agentName": "work", "maxCostUsdPerMonth": 0.001})).await;
    let of_agent = caps.as_array().unwrap().iter().find(|cap| cap["scope"] == "agent").unwrap();
    assert_eq!(
        (status, &of_agent["agentName"], &of_agent["spentUsd"]),
        (200, &json!("work"), &json!(0.000_286))
    );
    let ended = api.ended(&api.run("work", json!({})).await).await;
    assert!(
        ended["error"]["message"].as_str().unwrap().contains("the agent's cap of $0.001000 for the month"),
        "{ended}"
    );
    assert_eq!(api.ended(&api.run("other", json!({})).await).await["status"], "succeeded");

    // Who may not, and what is no cap.
    for (cap, wants) in [
        (json!({"agentName": "nobody", "maxCostUsdPerDay": 1}), 404),
        (json!({"agentName": "work", "maxCostUsdPerDay": -1}), 400),
        (json!({"agentName": "work", "maxCostUsdPerDay": 1e300}), 400),
        (json!({"agentName": "work", "apiKeyId": "01a22b5e-5b10-7a54-ad93-ebd9ff400e98"}), 400),
    ] {
        let (status, refused) = api.post("/v1/settings/caps", &cap).await;
        assert_eq!(status, wants, "{cap}: {refused}");
    }
    let (_, made) = api.post("/v1/api-keys", &json!({"name": "reads", "scopes": ["read"]})).await;
    let mut reads = Api::nobody(&server);
    reads.token = made["rawKey"].as_str().unwrap().to_owned();
    assert_eq!(reads.post("/v1/settings/caps", &json!({"agentName": "work"})).await.0, 403);
    assert_eq!(reads.get("/v1/settings/caps").await.0, 200);
    assert!(server.stop().success());
}

#[tokio::test]
async fn a_soft_budget_asks_once_and_goes_on_after_a_crash_when_somebody_grants_more() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    agent(&api, "work", 2, "hi").await;
    let set = said(&server, &api, &["budgets", "set", "work", "--day", "0.0001", "--on-limit", "ask"]);
    assert!(set.status.success(), "{set:?}");
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(api.run("work", json!({})).await);
    }
    for run in &runs {
        api.until(run, |run| run["status"] == "paused").await;
    }
    let (_, asked) = api.get("/v1/approvals").await;
    assert_eq!(asked.as_array().unwrap().len(), 1, "{asked}");
    let (id, budget) = (asked[0]["id"].as_str().unwrap().to_owned(), asked[0]["budget"].clone());
    assert_eq!((&budget["scope"], &budget["maxCostUsd"]), (&json!("agent"), &json!(0.0001)), "{asked}");
    assert!(upstream.asked().is_empty());
    let shown = answer(&said(&server, &api, &["runs", "get", &runs[1]]));
    let waits = &shown["waitsFor"][0];
    assert_eq!((&waits["kind"], &waits["approvalId"]), (&json!("budget_question"), &json!(id)), "{shown}");
    let (status, lead) =
        api.post(&format!("/v1/runs/{}/approvals/s0", runs[1]), &json!({"approved": true})).await;
    assert!(status == 409 && lead.to_string().contains(&format!("lantern approvals grant {id}")), "{lead}");
    // Calls are not an agent's; they have nobody to ask, and one that a cap that asks refuses says why.
    let capped = json!({"maxCostUsdPerDay": 0.00001, "onLimit": "ask"});
    assert_eq!(api.post("/v1/settings/caps", &capped).await.0, 200);
    let raw = Raw::new(&server, &key(&api).await);
    seen(&api).await;
    let refused = raw.chat("hi", json!({"max_tokens": 60})).await.unwrap();
    assert_eq!(refused.status().as_u16(), 429);
    let words = String::from_utf8(refused.bytes(1 << 20).await.unwrap().to_vec()).unwrap();
    assert!(
        words.contains("insufficient_quota") && words.contains("a call does not wait for them"),
        "{words}"
    );
    assert_eq!(api.post("/v1/settings/caps", &json!({"maxCostUsdPerDay": null})).await.0, 200);
    server.kill();

    let again = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&again).await;
    for run in &runs {
        assert_eq!(api.get(&format!("/v1/runs/{run}")).await.1["status"], "paused");
    }
    let grant = format!("/v1/approvals/{id}/grant");
    assert_eq!(api.post(&grant, &json!({"moreUsd": -1})).await.0, 400);
    assert_eq!(api.post(&grant, &json!({"moreUsd": 1, "note": "because"})).await.0, 400);
    // Who may decide approvals of runs may not pass a budget for that.
    let (_, made) = api.post("/v1/api-keys", &json!({"name": "writes", "scopes": ["write"]})).await;
    let mut writes = Api::nobody(&again);
    writes.token = made["rawKey"].as_str().unwrap().to_owned();
    assert_eq!(writes.post(&grant, &json!({})).await.0, 403);
    let granted = said(&again, &api, &["approvals", "grant", &id, "--more", "0.5"]);
    assert!(granted.status.success(), "{granted:?}");
    for run in &runs {
        assert_eq!(api.ended(run).await["status"], "succeeded");
    }
    assert_eq!(api.post(&grant, &json!({})).await.0, 409);
    let explained = said(&again, &api, &["runs", "explain", &runs[0]]);
    let decided = answer(&explained);
    let words: Vec<&str> =
        decided.as_array().unwrap().iter().filter_map(|one| one["budget"].as_str()).collect();
    assert_eq!(words, ["asked", "granted"], "{decided}");
    assert!(decided.to_string().contains("lets $0.50 more through"), "{decided}");
    let (_, budget) = api.get("/v1/agents/work/budget").await;
    assert_eq!((&budget["hardFail"], &budget["onLimit"]), (&json!(false), &json!("ask")), "{budget}");
    assert_eq!(budget["warnings"].as_array().unwrap().len(), 1, "{budget}");
    assert!(again.stop().success());
}

#[tokio::test]
async fn what_runs_cost_is_in_every_sum_also_when_the_server_is_killed_right_after() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    agent(&api, "work", 3, "hi").await;
    let first = api.run("work", json!({})).await;
    let ended = api.ended(&first).await;
    server.kill();

    let again = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&again).await;
    let second = api.run("work", json!({})).await;
    api.ended(&second).await;
    // With nothing between: the sums, and a cap that knows them.
    let costs = answer(&said(&again, &api, &["costs", "--by", "model"]));
    let cost = ended["costUsd"].as_f64().unwrap();
    assert!(cost > 0.0, "{ended}");
    assert_eq!((&costs["sum"]["costUsd"], &costs["untoldUsd"]), (&json!(2.0 * cost), &json!(0.0)), "{costs}");
    assert_eq!((&costs["sum"]["calls"], &costs["sum"]["runs"]), (&json!(6), &json!(2)), "{costs}");
    cap(&api, 2.0 * cost).await;
    seen(&api).await;
    let third = api.run("work", json!({})).await;
    let refused = api.ended(&third).await;
    assert_eq!(refused["error"]["code"], "budget_exceeded", "{refused}");
    assert!(again.stop().success());
}

#[tokio::test]
async fn a_killed_server_is_charged_for_the_steps_of_its_runs_and_they_go_on() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    agent(&api, "one", STEPS, "hi").await;
    agent(&api, "two", STEPS, "hi").await;
    cap(&api, 0.03).await;
    seen(&api).await;
    let raw = Raw::new(&server, &key(&api).await);
    let mut talking = raw.chat("talk", json!({"stream": true, "max_tokens": 60})).await.unwrap();
    talking.chunk().await.unwrap().unwrap();
    let runs = [api.run("one", json!({})).await, api.run("two", json!({})).await];
    while upstream.asked().len() < 20 {
        within(&api).await;
        tick().await;
    }
    server.kill();
    drop(talking);

    let again = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&again).await;
    let raw = Raw::new(&again, &key(&api).await);
    let calls = async {
        join_all((0..40).map(|_| async { raw.chat("hi", json!({"max_tokens": 60})).await.unwrap().status() }))
            .await
    };
    let ends = async { (api.ended(&runs[0]).await, api.ended(&runs[1]).await) };
    let ((first, second), answers) = futures_util::future::join(ends, calls).await;
    let spent = tokio::time::timeout(NEVER, released(&api)).await.expect("something stays held");
    within(&api).await;
    let asked = i64::try_from(upstream.asked().len()).unwrap();
    assert!(COST * (asked - 1) <= spent && spent <= CAP, "{asked} were asked, {spent} are spent");
    let refused = answers.iter().filter(|status| status.as_u16() == 429).count();
    println!(
        "{} {}; {refused} of 40 calls refused; {asked} asked, {spent} of {CAP} spent",
        first["status"], second["status"]
    );
    for run in [first, second] {
        let denied = run["error"]["code"] == "budget_exceeded";
        assert!(run["status"] == "succeeded" || denied, "{run}");
    }
    assert!(again.stop().success());
}

#[test]
fn runs_and_calls_of_two_processes_never_pass_the_cap_and_one_dies() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Cluster::shared().database().await;
        let options = database.options();
        let (app, system) = (options.app_url.expose(), options.system_url.expose());
        let upstream = Upstream::start().await;
        let folders: Vec<Scratch> = (0..2).map(|n| Scratch::new(&format!("runs-{n}"))).collect();
        let start = |n: usize| Server::start(served_by(folders[n].path(), app, system, &upstream.env()));
        let (dies, lives) = (start(0), start(1));
        let api = Api::login(&lives, LOGIN.0, LOGIN.1).await;
        cap(&api, 0.03).await;
        seen(&api).await;
        for name in ["one", "two", "three", "four"] {
            agent(&api, name, STEPS, "hi").await;
        }
        let secret = key(&api).await;
        let raw = Raw::new(&lives, &secret);
        let mut runs = Vec::new();
        for name in ["one", "two", "three", "four"] {
            runs.push(api.run(name, json!({})).await);
        }
        let calls = async {
            for _ in 0..30 {
                drop(raw.chat("hi", json!({"max_tokens": 60})).await.unwrap().bytes(1 << 20).await);
            }
        };
        let kill = async {
            while upstream.asked().len() < 40 {
                within(&api).await;
                tick().await;
            }
            dies.kill();
            join_all(runs.iter().map(|run| api.ended(run))).await
        };
        let (ended, ()) = futures_util::future::join(kill, calls).await;
        let spent = tokio::time::timeout(NEVER, released(&api)).await.expect("something stays held");
        let charged = COST * i64::try_from(upstream.asked().len()).unwrap();
        assert!(charged <= CAP, "the provider was asked for {charged}");
        assert!(charged <= spent && spent <= CAP, "{spent} are spent, {charged} were charged");
        let denied = ended.iter().filter(|run| run["error"]["code"] == "budget_exceeded").count();
        assert!(denied >= 1, "two hundred and forty steps do not fit");
        println!("{denied} of 4 runs denied; {charged} charged, {spent} of {CAP} spent");
        assert!(lives.stop().success());
        database.discard().await;
    });
}

/// What `lantern` answers to whoever has this token.
fn told(server: &Server, api: &Api, arguments: &[&str]) -> String {
    let mut command = lantern();
    command.args(arguments).env("LANTERN_API_URL", &server.api).env("LANTERN_API_TOKEN", &api.token);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn costs_are_those_of_the_ledger_and_a_budget_warns_once_and_stops() {
    let (folder, upstream) = (Folder::new(), Upstream::start().await);
    let server = Server::dev_with(folder.path(), &upstream.env());
    let api = Api::of(&server).await;
    agent(&api, "work", 2, "hi").await;
    let set =
        ["budgets", "set", "work", "--day", "0.01", "--run", "1", "--notify-at", "2", "--output", "json"];
    let budget: Value = serde_json::from_str(&told(&server, &api, &set)).unwrap();
    assert_eq!((&budget["maxCostUsdPerDay"], &budget["warnings"]), (&json!(0.01), &json!([])));
    assert_eq!(api.ended(&api.run("work", json!({})).await).await["status"], "succeeded");
    let raw = Raw::new(&server, &key(&api).await);
    drop(raw.chat("hi", json!({"max_tokens": 60})).await.unwrap().bytes(1 << 20).await);
    // What a cap says is what the budget says.
    let month = json!({"agentName": "work", "maxCostUsdPerMonth": 0.001});
    assert_eq!(api.post("/v1/settings/caps", &month).await.0, 200);
    let ended = api.ended(&api.run("work", json!({})).await).await;
    assert_eq!(ended["error"]["code"], "budget_exceeded", "{ended}");

    // The call through the door is written within milliseconds, and what runs used with them.
    let counted = async {
        loop {
            let (status, usage) = api.get("/v1/usage?by=agent").await;
            assert_eq!(status, 200, "{usage}");
            let today = &usage["periods"]["today"];
            if today["costUsd"] == json!(0.000_429) && today["runs"] == 2 && usage["sum"]["failed"] == 1 {
                return usage;
            }
            tick().await;
        }
    };
    let usage = tokio::time::timeout(NEVER, counted).await.expect("not all of it is counted");
    assert_eq!(stands(&api).await, (3 * COST, 0));
    let today = &usage["periods"]["today"];
    assert_eq!((&today["runs"], &today["succeeded"], &today["running"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!(
        (&today["calls"], &today["tokensIn"], &today["tokensOut"]),
        (&json!(3), &json!(27), &json!(36))
    );
    let of = |name: &str| {
        usage["groups"].as_array().unwrap().iter().find(|group| group["agentName"] == name).cloned()
    };
    assert_eq!(of("work").unwrap()["costUsd"], 0.000_286);
    assert_eq!((&usage["untoldUsd"], usage["groups"].as_array().unwrap().len()), (&json!(0.0), 2));
    let (_, budget) = api.get("/v1/agents/work/budget").await;
    assert_eq!(
        (&budget["spentTodayUsd"], budget["warnings"].as_array().unwrap().len()),
        (&json!(0.000_286), 1)
    );
    assert_eq!(
        (&budget["warnings"][0]["spentUsd"], &budget["maxCostUsdPerMonth"]),
        (&json!(0.000_286), &json!(0.001))
    );

    let chart = told(&server, &api, &["costs", "--by", "agent"]);
    println!("{chart}");
    assert!(chart.starts_with("today $0.000429, 7 days $0.000429"), "{chart}");
    assert!(chart.contains("work") && chart.contains('█') && chart.contains("$0.000286"), "{chart}");
    let models = told(&server, &api, &["costs", "--by", "model", "--output", "json"]);
    let models: Value = serde_json::from_str(&models).unwrap();
    assert_eq!(models["groups"][0]["costUsd"], 0.000_429, "{models}");
    let listed = told(&server, &api, &["budgets", "list"]);
    println!("{listed}");
    assert!(listed.contains("work") && listed.contains("day at $0.000286"), "{listed}");
    told(&server, &api, &["budgets", "delete", "work"]);
    assert_eq!(api.ended(&api.run("work", json!({})).await).await["status"], "succeeded");

    // Of runs nothing is listed among the calls, and nothing stands in the way of those that there are.
    let (_, calls) = api.get("/v1/calls?limit=1").await;
    assert_eq!((calls.as_array().unwrap().len(), &calls[0]["kind"]), (1, &json!("call")), "{calls}");
    assert!(server.stop().success());
}
