//! Event streams: what an idle one costs beside a bare one, and how soon an event is there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use lantern_bench::{Amount, Bar, Line, median, percentile};
use lantern_net::sse::Event;
use lantern_store::PostgresOptions;
use lantern_store::testing::{Cluster, Folder};
use lantern_types::{At, Dur};
use serde_json::{Value, json};

use crate::load::{Connection, Shot, millis};
use crate::peer::Peer;
use crate::server::{Api, Server};
use crate::{Bench, machine, postgres};

/// Idle streams at once.
const STREAMS: usize = 5_000;
/// Streams opened and closed before memory is looked at.
const WARM: usize = 500;
/// Runs that they watch.
const WATCHED: usize = 50;
/// Runs that are watched while they work.
const RUNS: usize = 20;
/// Steps of each.
const STEPS: u32 = 40;

/// Memory of idle streams.
pub(crate) async fn idle(bench: &Bench) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-watchers");
    let server = Server::start(&bench.lantern(), folder.path(), None).await?;
    let api = server.login().await?;
    api.agent("waits", json!([{ "id": "hold", "kind": "signal", "data": { "signal": "go" } }])).await?;
    let runs = try_join_all((0..WATCHED).map(|_| api.run("waits"))).await?;
    let shots: Vec<Shot> =
        runs.iter().map(|run| Shot::get(&format!("/v1/runs/{run}/events"), &api.bearer)).collect();
    let ours = each_kib(bench, (&server.api, server.pid()?), &shots).await?;
    server.stop().await?;
    let peer = Peer::start(1).await?;
    let theirs = each_kib(bench, (&peer.url, peer.pid()?), &[Shot::get("/events", "nobody")]).await?;
    let what = format!("memory of an idle event stream, {STREAMS} at once, beyond a bare axum handler's");
    Ok(vec![
        Line::figure(what, Amount::new(ours - theirs, "KiB"))
            .against("allowed", Amount::new(1.5, "KiB"), Some(Bar::AtMost(1.0)))
            .note(format!("ours {ours:.1} KiB, bare {theirs:.1} KiB")),
    ])
}

/// What one of many open streams costs a process, in KiB of resident memory.
async fn each_kib(bench: &Bench, (base, pid): (&str, u32), shots: &[Shot]) -> Result<f64> {
    drop(open(base, shots, WARM).await?);
    settle(bench).await;
    let before = machine::resident_mib(pid).context("the server is gone")?;
    let streams = open(base, shots, STREAMS).await?;
    settle(bench).await;
    let after = machine::resident_mib(pid).context("the server is gone")?;
    ensure!(streams.len() == STREAMS, "not every stream was opened");
    Ok((after - before) * 1_024.0 / f64::from(u32::try_from(STREAMS)?))
}

async fn open(base: &str, shots: &[Shot], count: usize) -> Result<Vec<Connection>> {
    let mut streams = Vec::with_capacity(count);
    for shot in shots.iter().cycle().take(count) {
        let mut connection = Connection::open(base).await?;
        connection.listen(shot).await?;
        streams.push(connection);
    }
    Ok(streams)
}

async fn settle(bench: &Bench) {
    bench.clock.sleep(Dur::from_secs(2)).await;
}

/// From when an event was made (before its commit) to when a subscriber has it.
pub(crate) async fn latency(bench: &Bench) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-latency");
    let server = Server::start(&bench.lantern(), folder.path(), None).await?;
    let api = server.login().await?;
    let times = watch(bench, &api, &[&api]).await?;
    server.stop().await?;
    let mut lines = vec![line("in one process, SQLite", &times, 20.0)];
    if !postgres::installed().await {
        lines.push(Line::skipped("event to subscriber across processes", postgres::MISSING));
        return Ok(lines);
    }
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(true)));
    let database = cluster.database().await;
    let folders = [Folder::new("bench-latency-a"), Folder::new("bench-latency-b")];
    let options = PostgresOptions { connections: postgres::CONNECTIONS, ..database.options() };
    let (mut servers, program) = (Vec::new(), bench.lantern());
    for folder in &folders {
        servers.push(Server::serve(&program, folder.path(), Some(&options), None).await?);
    }
    let mut apis = Vec::new();
    for server in &servers {
        apis.push(server.login().await?);
    }
    let first = apis.first().context("no server")?;
    // The later of two subscribers, one at each process: one of them is not where the run is driven.
    let times = watch(bench, first, &apis.iter().collect::<Vec<_>>()).await?;
    for server in servers {
        server.stop().await?;
    }
    database.discard().await;
    lines.push(line("across two processes on PostgreSQL", &times, 150.0));
    Ok(lines)
}

fn line(place: &str, times: &[f64], allowed: f64) -> Line {
    let what = format!("event to subscriber {place}, 99 of 100 within");
    Line::figure(what, Amount::new(percentile(times, 0.99), "ms"))
        .against("allowed", Amount::new(allowed, "ms"), Some(Bar::AtMost(1.0)))
        .note(format!(
            "{} events of {RUNS} runs, commit included; median {:.2} ms",
            times.len(),
            median(times)
        ))
}

/// Runs at work, followed at each of `watchers`: how many milliseconds each event took to the last of them.
async fn watch(bench: &Bench, api: &Api, watchers: &[&Api]) -> Result<Vec<f64>> {
    let nap = |n| json!({ "id": format!("n{n}"), "kind": "sleep", "data": { "durationMs": 50 } });
    api.agent("naps", (1..=STEPS).map(nap).collect()).await?;
    let runs = try_join_all((0..RUNS).map(|_| api.run("naps"))).await?;
    let seen: Mutex<HashMap<(String, String), (u32, f64)>> = Mutex::default();
    // What was made before its stream was open is late for another reason.
    let opened = bench.clock.now() + Dur::from_millis(500);
    let follow = |run: String| {
        let seen = &seen;
        try_join_all(watchers.iter().map(move |watcher| {
            let of = run.clone();
            let note = move |event: &Event, now: At| {
                let Some((id, made)) = made(event).filter(|(_, made)| *made > opened) else { return };
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let (count, longest) = seen.entry((of.clone(), id)).or_default();
                *count += 1;
                *longest = longest.max(millis(made, now));
            };
            let run = run.clone();
            async move { watcher.follow(&run, note).await }
        }))
    };
    try_join_all(runs.into_iter().map(follow)).await?;
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    let everywhere = seen.into_values().filter(|(count, _)| usize::try_from(*count) == Ok(watchers.len()));
    Ok(everywhere.map(|(_, longest)| longest).collect())
}

/// A stored event's id and when it was made.
fn made(event: &Event) -> Option<(String, At)> {
    let data: Value = serde_json::from_str(&event.data).ok()?;
    Some((event.id.clone()?, data.get("createdAt")?.as_str()?.parse().ok()?))
}
