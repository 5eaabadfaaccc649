//! A thousand runs in flight, or ten thousand, the process killed, and what becomes of them.
//!
//! Some of the runs wait for a model that does not answer, the others sleep; each has a completed model call behind it. The
//! server is killed, stays down until every sleep is over, and is started again. Then all of them want something at
//! once: the time is taken until the last model call has arrived again and the last sleeper has made its next one.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use lantern_bench::{Amount, Bar, Line};
use lantern_net::TaskSet;
use lantern_store::PostgresOptions;
use lantern_store::testing::{Cluster, Folder};
use lantern_types::{At, Dur};
use lantern_worker::Options;
use serde_json::json;
use tokio::runtime::Handle;

use crate::provider::{Calls, HOLD, Provider};
use crate::server::{Api, Server};
use crate::{Bench, postgres};

/// What is tried.
struct Plan {
    /// Runs that wait for the model. A process drives some four thousand at once when nobody says otherwise.
    waits: usize,
    /// Runs that sleep.
    sleeps: usize,
    /// How long the sleepers sleep: longer than it takes to start all runs.
    sleep: Dur,
    /// The longest that it may take until all are taken up again.
    allowed: Dur,
}

const THOUSAND: Plan =
    Plan { waits: 500, sleeps: 500, sleep: Dur::from_secs(20), allowed: Dur::from_secs(10) };
const TEN_THOUSAND: Plan =
    Plan { waits: 4_000, sleeps: 6_000, sleep: Dur::from_secs(90), allowed: Dur::from_secs(30) };

/// Requests of ours under way at once.
const CLIENTS: usize = 16;
/// The longest that a stage may take before the measurement is given up.
const STAGE_MAX: Dur = Dur::from_secs(240);

/// Kills and restarts a server with 1,000 runs.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    on(bench, &THOUSAND, None).await
}

/// The same with 10,000 runs, on both databases. On PostgreSQL a dead process's leases hold until they run out.
pub(crate) async fn many(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = on(bench, &TEN_THOUSAND, None).await?;
    if !postgres::installed().await {
        lines.push(Line::skipped("10,000 runs after kill -9, PostgreSQL", postgres::MISSING));
        return Ok(lines);
    }
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(true)));
    let database = cluster.database().await;
    let options = PostgresOptions { connections: postgres::CONNECTIONS, ..database.options() };
    let plan = Plan { allowed: TEN_THOUSAND.allowed + Options::default().ttl, ..TEN_THOUSAND };
    lines.extend(on(bench, &plan, Some(&options)).await?);
    database.discard().await;
    Ok(lines)
}

async fn on(bench: &Bench, plan: &Plan, database: Option<&PostgresOptions>) -> Result<Vec<Line>> {
    let tasks = TaskSet::new(Handle::current());
    let provider = Provider::start(&tasks, bench.clock.clone()).await?;
    let lines = kill_and_restart(bench, &provider, plan, database).await;
    tasks.kill();
    lines
}

async fn kill_and_restart(
    bench: &Bench,
    provider: &Provider,
    plan: &Plan,
    database: Option<&PostgresOptions>,
) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-recovery");
    let program = bench.lantern();
    let serve = || Server::serve(&program, folder.path(), database, Some(&provider.url));
    let server = serve().await?;
    let api = server.login().await?;
    agents(&api, plan.sleep).await?;
    let started = bench.clock.now();
    let runs = start_runs(&api, plan).await?;
    // Every first call answered, and every second call of those that wait held.
    let all = runs.len();
    until(&api, || provider.count() == all + plan.waits).await.context("not every run came to its wait")?;
    quiet(&api).await;
    ensure!(bench.clock.now() < started + plan.sleep, "starting {all} runs took too long");
    server.kill().await?;
    let before = provider.calls();
    provider.let_go();
    // Down until every sleep is over.
    let over = bench.clock.now() + plan.sleep;
    while bench.clock.now() < over {
        api.pause().await;
    }
    let restart = bench.clock.now();
    let server = serve().await?;
    let ready = bench.millis_since(restart);
    let resumed = || resumed(&before, &provider.calls(), restart).filter(|(count, _)| *count == all);
    let mut last = None;
    until(&api, || {
        // Looking at every key is dear: only when enough calls have come.
        last = (provider.count() >= 2 * all).then(&resumed).flatten().map(|(_, last)| last);
        last.is_some()
    })
    .await
    .context("not every run was taken up again")?;
    let last = last.context("no call came")?;
    let api = server.login().await?;
    ends(&api, &runs).await?;
    let repeated = repeated(&before, &provider.calls());
    server.stop().await?;
    let what = format!(
        "{} runs after kill -9{}: last effect re-issued",
        thousands(all),
        if database.is_some() { ", PostgreSQL" } else { "" }
    );
    let line = Line::figure(what, Amount::new(seconds(last.since(restart)), "s"));
    let note = format!("from the start of the process; ready after {ready:.0} ms; all runs succeeded");
    Ok(vec![
        line.against("allowed", Amount::new(seconds(plan.allowed), "s"), Some(Bar::AtMost(1.0))).note(note),
        Line::figure("completed model calls repeated", Amount::new(f64::from(repeated), "calls"))
            .against("allowed", Amount::new(0.0, "calls"), Some(Bar::AtMost(0.0)))
            .note(format!("of {} answered before the kill", answered(&before).count())),
    ])
}

fn seconds(dur: Dur) -> f64 {
    f64::from(u32::try_from(dur.micros()).unwrap_or(u32::MAX)) / 1e6
}

fn thousands(count: usize) -> String {
    format!("{},{:03}", count / 1_000, count % 1_000)
}

/// The two agents: one waits for the model, one sleeps.
async fn agents(api: &Api, sleep: Dur) -> Result<()> {
    let call = |id: &str, prompt: &str| json!({ "id": id, "kind": "llm", "data": { "prompt": prompt } });
    let nap = json!({ "id": "nap", "kind": "sleep", "data": { "durationMs": sleep.micros() / 1_000 } });
    api.agent("waits", json!([call("first", "say ok"), call("second", HOLD)])).await?;
    api.agent("sleeps", json!([call("first", "say ok"), nap, call("second", "say ok again")])).await?;
    Ok(())
}

async fn start_runs(api: &Api, plan: &Plan) -> Result<Vec<String>> {
    let names = (0..plan.sleeps + plan.waits).map(|n| if n < plan.sleeps { "sleeps" } else { "waits" });
    stream::iter(names.map(|name| api.run(name))).buffer_unordered(CLIENTS).try_collect().await
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
    let all = stream::iter(runs.iter().map(|id| api.ended(id)));
    let all = all.buffer_unordered(CLIENTS).try_collect::<()>();
    tokio::time::timeout(STAGE_MAX.std(), all).await.context("not every run ended")?
}
