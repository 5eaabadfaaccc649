//! What an operator changes while a server runs, its file and one tenant's limits; and what a server says that has no room.

use std::path::{Path, PathBuf};

use lantern_net::http::{HeaderName, Method, Response};
use serde_json::{Value, json};

use super::api::{Api, tick};
use super::process::{Folder, NEVER, Server, lantern};

const ADMIN: (&str, &str) = ("ada@example.com", "correct horse battery");

struct Served {
    folder: Folder,
    file: PathBuf,
    log: PathBuf,
    server: Server,
}

impl Served {
    /// `lantern serve` with this file and this environment.
    fn new(config: &str, env: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let (file, log) = (folder.path().join("lantern.toml"), folder.path().join("log"));
        std::fs::write(&file, config).unwrap();
        let mut command = lantern();
        command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--config"]).arg(&file);
        command.arg("--data-dir").arg(folder.path().join("data"));
        command.env("LANTERN_ADMIN_EMAIL", ADMIN.0).env("LANTERN_ADMIN_PASSWORD", ADMIN.1);
        command.envs(env.iter().copied());
        let server = Server::start_deaf(&mut command, std::fs::File::create(&log).unwrap().into());
        Self { folder, file, log, server }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The file becomes this, and the server is told.
    fn rewrite(&self, config: &str) {
        std::fs::write(&self.file, config).unwrap();
        self.server.signal("-HUP");
    }

    fn lines(&self) -> Vec<Value> {
        let words = std::fs::read_to_string(&self.log).unwrap();
        // The last line may be half there.
        words.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the log has a line with these words, and answers its fields.
    async fn said(&self, words: &str) -> Value {
        let look = async {
            loop {
                let found = self.lines().into_iter().rev().find(|line| line.to_string().contains(words));
                if let Some(line) = found {
                    return line["fields"].clone();
                }
                tick().await;
            }
        };
        tokio::time::timeout(NEVER, look).await.unwrap_or_else(|_| panic!("it never said {words:?}"))
    }
}

async fn admin(served: &Served) -> Api {
    Api::login(&served.server, ADMIN.0, ADMIN.1).await
}

async fn limit(api: &Api, name: &str) -> Value {
    let (status, told) = api.get("/v1/limits").await;
    assert_eq!(status, 200, "{told}");
    told["limits"][name].clone()
}

async fn until(api: &Api, name: &str, want: u64) {
    let look = async {
        while limit(api, name).await != json!(want) {
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, look).await.unwrap_or_else(|_| panic!("{name} never became {want}"));
}

#[tokio::test]
async fn sighup_reads_the_file_again_and_a_bad_one_changes_nothing() {
    let first = "[server]\nspawn_rate_per_min = 0\n[limits]\nturnsPerRunMax = 5\nsubscribersMax = 7\n";
    let served = Served::new(first, &[]);
    let api = admin(&served).await;
    assert_eq!(limit(&api, "turnsPerRunMax").await, 5);
    api.agent(
        "nap",
        json!({"program": "steps", "steps": [{"id": "a", "kind": "sleep", "data": {"duration": "1h"}}]}),
    )
    .await;
    for _ in 0..3 {
        api.run("nap", json!({})).await;
    }

    served.rewrite(
        "[server]\nspawn_rate_per_min = 1\nlog_level = \"debug\"\ncors_origins = []\n\
         [limits]\nturnsPerRunMax = 6\nsubscribersMax = 8\n",
    );
    until(&api, "turnsPerRunMax", 6).await;
    let told = served.said("what changed here is in force").await;
    for key in ["server.spawn_rate_per_min", "server.log_level", "limits.turnsPerRunMax"] {
        assert!(told["keys"].as_str().unwrap().split(',').any(|told| told == key), "{told}");
    }
    let later = served.said("takes effect at the next start").await;
    let mut waiting: Vec<&str> = later["keys"].as_str().unwrap().split(',').collect();
    waiting.sort_unstable();
    assert_eq!(waiting, ["limits.subscribersMax", "server.cors_origins"]);
    assert_eq!(limit(&api, "subscribersMax").await, 7, "it is as the process began");
    api.run("nap", json!({})).await;
    let (status, refused) = api.post("/v1/runs", &json!({"agentName": "nap"})).await;
    assert_eq!((status, &refused["code"]), (429, &json!("run_rate_limited")));
    // Refusals are told at this level, and were not before.
    served.said("a request was refused").await;

    for bad in [
        "[limits]\nturnsPerRunMax = \"many\"\n",
        "[limits]\nturnPerRunMax = 9\n",
        "[server]\nlog_level = \"=\"\n",
        "no",
    ] {
        let before = served.lines().len();
        served.rewrite(bad);
        let look = async {
            loop {
                let kept = |line: &&Value| line.to_string().contains("the old one stays in force");
                let lines = served.lines();
                if let Some(line) = lines.iter().skip(before).find(kept) {
                    return line.clone();
                }
                tick().await;
            }
        };
        let line = tokio::time::timeout(NEVER, look).await.unwrap_or_else(|_| panic!("{bad:?}: not told"));
        assert_eq!(line["level"], "ERROR", "{line}");
        assert_eq!(limit(&api, "turnsPerRunMax").await, 6, "{bad:?}");
    }
    assert!(served.server.stop().success());
}

#[tokio::test]
async fn the_environment_wins_over_a_file_that_is_read_again() {
    let served = Served::new("[limits]\nturnsPerRunMax = 5\n", &[("LANTERN_SPAWN_RATE_PER_MIN", "0")]);
    let api = admin(&served).await;
    api.agent(
        "nap",
        json!({"program": "steps", "steps": [{"id": "a", "kind": "sleep", "data": {"duration": "1h"}}]}),
    )
    .await;
    served.rewrite("[server]\nspawn_rate_per_min = 1\n[limits]\nturnsPerRunMax = 6\n");
    until(&api, "turnsPerRunMax", 6).await;
    for _ in 0..3 {
        api.run("nap", json!({})).await;
    }
}

fn operator(data: &Path, args: &[&str]) -> (bool, Value) {
    let mut command = lantern();
    let output =
        command.args(["limits", "-o", "json"]).args(args).arg("--data-dir").arg(data).output().unwrap();
    let told = if output.status.success() { &output.stdout } else { &output.stderr };
    (output.status.success(), serde_json::from_slice(told).unwrap())
}

#[tokio::test]
async fn two_tenants_of_one_server_have_different_limits() {
    let served = Served::new("", &[]);
    let ada = admin(&served).await;
    let mut eve = Api::nobody(&served.server);
    let new = json!({"email": "eve@example.com", "password": "correct horse battery", "name": "Eve"});
    let (status, made) = eve.post("/auth/signup", &new).await;
    assert_eq!(status, 201, "{made}");
    eve.token = made["token"].as_str().unwrap().to_owned();
    let sum = |id: &str| json!({"id": id, "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1+1"}}});
    for api in [&ada, &eve] {
        api.agent("two", json!({"program": "steps", "steps": [sum("a"), sum("b")]})).await;
        let run = api.run("two", json!({})).await;
        assert_eq!(api.ended(&run).await["status"], "succeeded");
    }
    let (_, me) = eve.get("/auth/me").await;
    let tenant = me["tenantId"].as_str().unwrap();

    let data = served.data();
    for (args, why) in [
        (&["--tenant", tenant, "--set", "stepPerRunMax=1"][..], "did you mean stepsPerRunMax?"),
        (&["--tenant", tenant, "--set", "subscribersMax=1"], "a limit of the server"),
        (&["--tenant", tenant, "--unset", "stepsPerRunMax"], "has no stepsPerRunMax of its own"),
        (&["--tenant", "nobody", "--set", "stepsPerRunMax=1"], "there is no tenant"),
    ] {
        let (done, told) = operator(&data, args);
        assert!(!done && told.to_string().contains(why), "{told}");
    }
    let (done, told) =
        operator(&data, &["--tenant", tenant, "--set", "stepsPerRunMax=1", "--set", "turnsPerRunMax=2"]);
    assert!(done && told["own"] == json!({"stepsPerRunMax": 1, "turnsPerRunMax": 2}), "{told}");
    until(&eve, "stepsPerRunMax", 1).await;
    assert_eq!(limit(&ada, "stepsPerRunMax").await, 2_000);

    let run = eve.run("two", json!({})).await;
    let ended = eve.ended(&run).await;
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("failed"), &json!("steps_limit")),
        "{ended}"
    );
    let run = ada.run("two", json!({})).await;
    assert_eq!(ada.ended(&run).await["status"], "succeeded");

    let mut doctor = lantern();
    doctor.args(["doctor", "-o", "json"]).env("LANTERN_API_URL", &served.server.api);
    let told = doctor.env("LANTERN_API_TOKEN", &eve.token).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("stepsPerRunMax 1 (usually 2000, for this tenant alone)"), "{told}");

    let (done, told) = operator(&data, &["--tenant", tenant, "--unset", "stepsPerRunMax"]);
    assert!(done && told["own"] == json!({"turnsPerRunMax": 2}), "{told}");
    until(&eve, "stepsPerRunMax", 2_000).await;
}

/// Status, code and when to come again.
async fn refusal(response: Response) -> (u16, Value, Option<u64>) {
    let status = response.status().as_u16();
    let again = response.header(&HeaderName::from_static("retry-after")).map(|text| text.parse().unwrap());
    let body = response.bytes(1 << 20).await.unwrap();
    (status, serde_json::from_slice::<Value>(&body).unwrap()["code"].clone(), again)
}

#[tokio::test]
async fn a_server_without_room_for_a_stream_says_when_to_come_again() {
    let served = Served::new("[limits]\nsubscribersMax = 1\n", &[]);
    let api = admin(&served).await;
    api.agent(
        "nap",
        json!({"program": "steps", "steps": [{"id": "a", "kind": "sleep", "data": {"duration": "1h"}}]}),
    )
    .await;
    let run = api.run("nap", json!({})).await;
    let path = format!("/v1/runs/{run}/events");
    let first = api.send(Method::GET, &path, None, None).await;
    assert_eq!(first.status(), 200);
    let second = refusal(api.send(Method::GET, &path, None, None).await).await;
    assert_eq!(second, (503, json!("too_many_streams"), Some(5)));
    // Only streams are full.
    assert_eq!(api.get(&format!("/v1/runs/{run}")).await.0, 200);
    drop(first);
    let look = async {
        while api.send(Method::GET, &path, None, None).await.status() != 200 {
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, look).await.expect("the place is free again");
}

/// Two passwords are hashed at once and 64 may be on their way; whoever comes beyond that is sent away at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_of_sign_ins_says_when_to_come_again() {
    let served = Served::new("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n", &[]);
    let api = &Api::nobody(&served.server);
    // Each from a peer of its own, for one may not send so many.
    let answers = (0..300).map(|n| async move {
        let body = json!({"email": format!("p{n}@example.com"), "password": "correct horse battery"});
        let peer = format!("10.0.{}.{}", n / 100, n % 100 + 1);
        refusal(api.send_for(&peer, "/auth/login", &body).await).await
    });
    let answers = futures_util::future::join_all(answers).await;
    let full: Vec<_> = answers.iter().filter(|(status, ..)| *status == 503).collect();
    assert!(!full.is_empty(), "300 found room for 64: {answers:?}");
    for (_, code, again) in full {
        assert_eq!((code, again), (&json!("unavailable"), &Some(1)));
    }
    let fine = |status: u16| [401, 503].contains(&status);
    assert!(answers.iter().all(|(status, ..)| fine(*status)), "{answers:?}");
    // It passes. Whoever sends so many is sent away for a minute, which is another thing.
    let look = async {
        let body = json!({"email": "admin@lantern.dev", "password": "wrong"});
        while refusal(api.send(Method::POST, "/auth/login", Some(&body), None).await).await.0 == 503 {
            tick().await;
        }
    };
    tokio::time::timeout(NEVER, look).await.expect("there is room again");
}
