//! Half an hour of everything at once, and whether memory and file descriptors stay what they were after the first minutes.

use anyhow::{Context as _, Result};
use futures_util::future::{Either, select};
use lantern_bench::{Amount, Bar, Line, median};
use lantern_net::TaskSet;
use lantern_store::testing::Folder;
use lantern_types::{At, Dur};
use serde_json::json;
use tokio::runtime::Handle;

use crate::provider::Provider;
use crate::server::{Api, Server};
use crate::{Bench, machine};

/// How long, in minutes, when nobody says otherwise.
const MINUTES: i64 = 30;
/// Who does something at once.
const USERS: usize = 8;
/// How often the server is looked at.
const LOOK: Dur = Dur::from_secs(5);
/// A user's pause between two rounds.
const WAIT: Dur = Dur::from_millis(20);

/// Runs of several kinds are started, followed, listed, cancelled and read by eight users.
pub(crate) async fn measure(bench: &Bench, minutes: Option<i64>) -> Result<Vec<Line>> {
    let minutes = minutes.unwrap_or(MINUTES);
    let tasks = TaskSet::new(Handle::current());
    let provider = Provider::start(&tasks, bench.clock.clone()).await?;
    provider.let_go();
    let folder = Folder::new("bench-soak");
    let server = Server::serve(&bench.lantern(), folder.path(), None, Some(&provider.url)).await?;
    let api = server.login().await?;
    agents(&api).await?;
    let end = bench.clock.now() + Dur::from_secs(u64::try_from(60 * minutes)?);
    let users = futures_util::future::try_join_all((0..USERS).map(|_| user(bench, &api, end)));
    let looks = look(bench, server.pid()?, end);
    let (done, looks) = match select(Box::pin(users), Box::pin(looks)).await {
        Either::Left((done, looks)) => (done?, looks.await?),
        Either::Right((looks, users)) => (users.await?, looks?),
    };
    server.stop().await?;
    tasks.kill();
    let how = (minutes, done.into_iter().sum());
    let (memory, files): (Vec<f64>, Vec<f64>) = looks.into_iter().unzip();
    Ok(vec![flat("resident memory", "MiB", &memory, how), flat("file descriptors", "open", &files, how)])
}

/// The last sixth beside the second: the first is for warming up.
fn flat(what: &str, unit: &'static str, looks: &[f64], (minutes, rounds): (i64, u32)) -> Line {
    let sixth = (looks.len() / 6).max(1);
    let early = looks.get(sixth..2 * sixth).unwrap_or(looks);
    let late = looks.get(looks.len().saturating_sub(sixth)..).unwrap_or(looks);
    Line::figure(
        format!("{what} at the end of {minutes} minutes of mixed load"),
        Amount::new(median(late), unit),
    )
    .against("after warming up", Amount::new(median(early), unit), Some(Bar::AtMost(1.1)))
    .note(format!("{rounds} rounds of {USERS} users; medians of the last and the second sixth"))
}

async fn agents(api: &Api) -> Result<()> {
    let sum = json!({ "tool": "calc", "arguments": { "expression": "1 + 1" } });
    let ask = json!({ "prompt": "say ok" });
    let nap = json!({ "durationMs": 100 });
    let steps = json!([
        { "id": "sum", "kind": "tool", "data": sum },
        { "id": "ask", "kind": "llm", "data": ask },
        { "id": "nap", "kind": "sleep", "data": nap },
    ]);
    api.agent("works", steps).await?;
    api.agent("waits", json!([{ "id": "hold", "kind": "signal", "data": { "signal": "go" } }])).await?;
    Ok(())
}

/// One user's rounds until then; answers how many.
async fn user(bench: &Bench, api: &Api, end: At) -> Result<u32> {
    let mut rounds = 0;
    while bench.clock.now() < end {
        let works = api.run("works").await?;
        let waits = api.run("waits").await?;
        api.follow(&works, |_, _| ()).await?;
        api.ended(&works).await?;
        api.get("/v1/runs?limit=20").await?;
        api.get("/v1/runs?agent=works&status=succeeded&limit=5").await?;
        api.post_empty(&format!("/v1/runs/{waits}/cancel")).await?;
        api.get("/v1/agents").await?;
        // Refused: it has no name.
        drop(api.post("/v1/agents", &json!({ "colour": "blue" })).await);
        bench.clock.sleep(WAIT).await;
        rounds += 1;
    }
    Ok(rounds)
}

/// Looks at a process until then: resident memory in MiB, and open files.
async fn look(bench: &Bench, pid: u32, end: At) -> Result<Vec<(f64, f64)>> {
    let mut looks = Vec::new();
    while bench.clock.now() < end {
        bench.clock.sleep(LOOK).await;
        let mib = machine::resident_mib(pid).context("the server is gone")?;
        let files = machine::open_files(pid).context("the server is gone")?;
        looks.push((mib, files));
    }
    Ok(looks)
}
