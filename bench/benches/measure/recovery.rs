//! A thousand runs in flight, the process killed, and what becomes of them.
//!
//! Half of the runs wait for a model that does not answer, half sleep; each has a completed model call behind it. The
//! server is killed, stays down until every sleep is over, and is started again. Then all of them want something at
//! once: the time is taken until the last model call has arrived again and the last sleeper has made its next one.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use lantern_bench::{Amount, Bar, Line};
use lantern_net::TaskSet;
use lantern_store::testing::Folder;
use lantern_types::{At, Dur};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::Bench;
use crate::provider::{Calls, HOLD, Provider};
use crate::server::{Api, Server};

/// Runs that wait for the model, and as many that sleep.
const HALF: usize = 500;
/// Requests of ours under way at once.
const CLIENTS: usize = 16;
/// How long the sleepers sleep: longer than it takes to start all runs.
const SLEEP_SECS: u64 = 20;
/// The longest that a stage may take before the measurement is given up.
const STAGE_MAX: Dur = Dur::from_secs(120);

/// Kills and restarts a server with 1,000 runs.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let tasks = TaskSet::new(Handle::current());
    let provider = Provider::start(&tasks, bench.clock.clone()).await?;
    let lines = kill_and_restart(bench, &provider).await;
    tasks.kill();
    lines
}

async fn kill_and_restart(bench: &Bench, provider: &Provider) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-recovery");
    let server = Server::start(&bench.lantern(), folder.path(), Some(&provider.url)).await?;
    let api = server.login().await?;
    agents(&api).await?;
    let started = bench.clock.now();
    let runs = start_runs(&api).await?;
    // Every first call answered, and every second call of the waiting half held.
    until(&api, || provider.calls().len() == 3 * HALF).await.context("not every run came to its wait")?;
    quiet(&api).await;
    ensure!(bench.clock.now() < started + Dur::from_secs(SLEEP_SECS), "starting 1,000 runs took too long");
    server.kill().await?;
    let before = provider.calls();
    provider.let_go();
    // Down until every sleep is over.
    let over = bench.clock.now() + Dur::from_secs(SLEEP_SECS);
    while bench.clock.now() < over {
        api.pause().await;
    }
    let restart = bench.clock.now();
    let server = Server::start(&bench.lantern(), folder.path(), Some(&provider.url)).await?;
    let ready = bench.millis_since(restart);
    let resumed = || resumed(&before, &provider.calls(), restart).filter(|(count, _)| *count == 2 * HALF);
    until(&api, || resumed().is_some()).await.context("not every run was taken up again")?;
    let last = resumed().map(|(_, last)| last).context("no call came")?;
    let api = server.login().await?;
    ends(&api, &runs).await?;
    let repeated = repeated(&before, &provider.calls());
    server.stop().await?;
    let taken = u32::try_from(last.since(restart).micros()).unwrap_or(u32::MAX);
    let line = Line::figure(
        "1,000 runs after kill -9: last effect re-issued",
        Amount::new(f64::from(taken) / 1e6, "s"),
    );
    let note = format!("from the start of the process; ready after {ready:.0} ms; all runs succeeded");
    Ok(vec![
        line.against("allowed", Amount::new(10.0, "s"), Some(Bar::AtMost(1.0))).note(note),
        Line::figure("completed model calls repeated", Amount::new(f64::from(repeated), "calls"))
            .against("allowed", Amount::new(0.0, "calls"), Some(Bar::AtMost(0.0)))
            .note(format!("of {} answered before the kill", answered(&before).count())),
    ])
}

/// The two agents: one waits for the model, one sleeps.
async fn agents(api: &Api) -> Result<()> {
    let call = |id: &str, prompt: &str| json!({ "id": id, "kind": "llm", "data": { "prompt": prompt } });
    let nap = json!({ "id": "nap", "kind": "sleep", "data": { "durationSec": SLEEP_SECS } });
    for (name, steps) in [
        ("waits", json!([call("first", "say ok"), call("second", HOLD)])),
        ("sleeps", json!([call("first", "say ok"), nap, call("second", "say ok again")])),
    ] {
        let agent = json!({ "name": name, "program": "steps", "model": "bench", "steps": steps });
        api.post("/v1/agents", &agent).await?;
    }
    Ok(())
}

async fn start_runs(api: &Api) -> Result<Vec<String>> {
    let names = (0..2 * HALF).map(|n| if n < HALF { "sleeps" } else { "waits" });
    let start = |name| async move {
        let run = api.post("/v1/runs", &json!({ "agentName": name, "input": {} })).await?;
        run.get("id").and_then(Value::as_str).map(str::to_owned).context("a run without an id")
    };
    stream::iter(names.map(start)).buffer_unordered(CLIENTS).try_collect().await
}

/// Waits until something is so.
async fn until(api: &Api, mut so: impl FnMut() -> bool) -> Result<()> {
    let wait = async {
        while !so() {
            api.pause().await;
        }
    };
    Ok(tokio::time::timeout(STAGE_MAX.std(), wait).await?)
}

/// Gives the last answers the time to become durable: until then they are not completed, and repeating them is right.
async fn quiet(api: &Api) {
    for _ in 0..50 {
        api.pause().await;
    }
}

/// Keys whose call was answered before the kill.
fn answered(before: &HashMap<String, Calls>) -> impl Iterator<Item = (&String, &Calls)> {
    before.iter().filter(|(_, calls)| calls.answered > 0)
}

/// How many runs have made the call that they were to make after the restart, and when the last of these came.
fn resumed(
    before: &HashMap<String, Calls>,
    now: &HashMap<String, Calls>,
    restart: At,
) -> Option<(usize, At)> {
    let done: HashSet<&String> = answered(before).map(|(key, _)| key).collect();
    let times = now.iter().filter(|(key, _)| !done.contains(key)).filter_map(|(_, calls)| calls.last);
    let times: Vec<At> = times.filter(|at| *at >= restart).collect();
    Some((times.len(), times.into_iter().max()?))
}

fn repeated(before: &HashMap<String, Calls>, now: &HashMap<String, Calls>) -> u32 {
    let again = answered(before).map(|(key, calls)| now.get(key).map_or(0, |now| now.came - calls.came));
    again.sum()
}

/// Waits until every run has succeeded.
async fn ends(api: &Api, runs: &[String]) -> Result<()> {
    let end = |id: &String| {
        let path = format!("/v1/runs/{id}");
        async move {
            loop {
                let run = api.get(&path).await?;
                match run.get("status").and_then(Value::as_str) {
                    Some("succeeded") => return Ok(()),
                    Some("failed" | "cancelled") | None => anyhow::bail!("a run ended otherwise: {run}"),
                    Some(_) => api.pause().await,
                }
            }
        }
    };
    let all = stream::iter(runs.iter().map(end)).buffer_unordered(CLIENTS).try_collect::<()>();
    tokio::time::timeout(STAGE_MAX.std(), all).await.context("not every run ended")?
}
