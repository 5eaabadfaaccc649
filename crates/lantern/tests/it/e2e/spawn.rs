//! How many runs a tenant may start in a minute, by the real program.

use lantern_net::RealClock;
use lantern_net::http::{HeaderName, Method};
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};

use super::api::Api;
use super::process::{Folder, Server, lantern};

/// The contract's: so many in a minute.
const PER_MIN: u64 = 120;

/// A client of a server, which has an agent that only waits.
async fn ready(server: &Server, (email, password): (&str, &str)) -> Api {
    let api = Api::login(server, email, password).await;
    let nap = json!([{"id": "nap", "kind": "sleep", "data": {"duration": "1h"}}]);
    api.agent("nap", json!({"program": "steps", "steps": nap})).await;
    api
}

/// `lantern serve` with more environment.
fn serve(folder: &Folder, env: &[(&str, &str)]) -> Server {
    let mut command = lantern();
    command.args(["serve", "-o", "json", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
    command.env("LANTERN_ADMIN_EMAIL", ADMIN.0).env("LANTERN_ADMIN_PASSWORD", ADMIN.1);
    command.envs(env.iter().copied());
    Server::start(command)
}

const ADMIN: (&str, &str) = ("ada@example.com", "correct horse battery");
const DEV: (&str, &str) = ("admin@lantern.dev", "lantern");

/// Starts at most so many runs; answers with how many were, and with the refusal that ended it: its body and when to
/// come again.
async fn spawn(api: &Api, most: u64) -> (u64, Option<(Value, u64)>) {
    let body = json!({"agentName": "nap", "input": {}});
    for started in 0..most {
        let response = api.send(Method::POST, "/v1/runs", Some(&body), None).await;
        let status = response.status().as_u16();
        if status != 201 {
            assert_eq!(status, 429);
            let again = response.header(&HeaderName::from_static("retry-after")).unwrap().parse().unwrap();
            let body = response.bytes(1 << 20).await.unwrap();
            return (started, Some((serde_json::from_slice(&body).unwrap(), again)));
        }
    }
    (most, None)
}

#[tokio::test]
async fn serve_lets_a_tenant_start_as_many_runs_in_a_minute_as_the_contract_says() {
    let folder = Folder::new();
    let server = serve(&folder, &[]);
    let api = ready(&server, ADMIN).await;
    let clock = RealClock::new();
    let begun = clock.now();
    let (started, refused) = spawn(&api, 10 * PER_MIN).await;
    let (body, again) = refused.expect("there is a limit");
    // Two come back with every second that this takes.
    let took = clock.now().since(begun).millis();
    let back = u64::try_from(took).unwrap() * PER_MIN / 60_000 + 1;
    assert!((PER_MIN..=PER_MIN + back).contains(&started), "{started} in {took} ms");
    assert_eq!(body["error"], "rate limited: too many runs, slow down");
    assert!((1..=60).contains(&again), "{again}");
    // What was there before can still be looked at.
    assert_eq!(api.get("/v1/runs?limit=1").await.0, 200);
}

#[tokio::test]
async fn a_limit_that_is_named_holds_and_none_is_none() {
    for (rate, most) in [("1", Some(1)), ("0", None)] {
        let folder = Folder::new();
        let server = serve(&folder, &[("LANTERN_SPAWN_RATE_PER_MIN", rate)]);
        let api = ready(&server, ADMIN).await;
        let (started, refused) = spawn(&api, most.map_or(2 * PER_MIN, |most| most + 1)).await;
        assert_eq!((started, refused.is_some()), (most.unwrap_or(2 * PER_MIN), most.is_some()), "{rate}");
        if let Some((_, again)) = refused {
            assert!((30..=60).contains(&again), "one a minute: {again}");
        }
    }
}

#[tokio::test]
async fn dev_has_no_limit_whatever_the_environment_says() {
    let folder = Folder::new();
    let server = Server::dev_with(folder.path(), &[("LANTERN_SPAWN_RATE_PER_MIN", "1")]);
    let api = ready(&server, DEV).await;
    let (started, refused) = spawn(&api, PER_MIN + 10).await;
    assert!(started == PER_MIN + 10 && refused.is_none(), "{started}: {refused:?}");
}
