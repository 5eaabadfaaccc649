//! Requests in quantity against the real server: reading a run beside a bare handler, and starting runs beside what the
//! disk commits.

use anyhow::Result;
use lantern_bench::{Amount, Bar, Line, median, percentile};
use lantern_store::testing::Folder;
use lantern_types::Dur;
use serde_json::json;

use crate::disk::{self, Bare, Shape};
use crate::load::{self, Connection, Shot};
use crate::peer::Peer;
use crate::server::Server;
use crate::{Bench, durable};

/// Connections that read.
const READERS: u32 = 16;
/// Connections that start runs.
const STARTERS: usize = 64;
/// Rounds, alternating with what ours is compared with.
const ROUNDS: usize = 3;
/// How long each takes.
const ROUND: Dur = Dur::from_secs(3);

/// `GET /v1/runs/{id}` of a run that is over.
pub(crate) async fn read(bench: &Bench) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-read");
    let server = Server::start(&bench.lantern(), folder.path(), None).await?;
    let api = server.login().await?;
    let sum = json!({ "tool": "calc", "arguments": { "expression": "1 + 1" } });
    api.agent("sum", json!([{ "id": "sum", "kind": "tool", "data": sum }])).await?;
    let run = api.run("sum").await?;
    api.ended(&run).await?;
    let shot = Shot::get(&format!("/v1/runs/{run}"), &api.bearer);
    let bytes = Connection::open(&server.api).await?.shoot(&shot).await?;
    let peer = Peer::start(bytes).await?;
    let bare = Shot::get("/run", "nobody");
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        theirs.push(load::flood(&bench.clock, &peer.url, &bare, READERS as usize, ROUND).await?);
        ours.push(load::flood(&bench.clock, &server.api, &shot, READERS as usize, ROUND).await?);
    }
    let ours = median(&ours);
    let times = load::paced(&bench.clock, &server.api, &shot, READERS, (ours / 2.0, ROUND)).await?;
    server.stop().await?;
    let rate = |value| Amount::new(value, "requests/s");
    Ok(vec![
        Line::figure("GET /v1/runs/{id}, 16 connections", rate(ours))
            .against("a bare axum handler", rate(median(&theirs)), Some(Bar::AtLeast(0.4)))
            .note(format!("{bytes} bytes")),
        Line::figure(
            "the same at half that rate, 99 of 100 within",
            Amount::new(percentile(&times, 0.99), "ms"),
        )
        .against("allowed", Amount::new(10.0, "ms"), Some(Bar::AtMost(1.0)))
        .note(format!("median {:.2} ms", median(&times))),
    ])
}

/// `POST /v1/runs`, each durable before it is answered. The runs are then driven as always: each makes one step and ends.
pub(crate) async fn start(bench: &Bench) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-create");
    let database = folder.path().join("lantern.db");
    let server = Server::serve(&bench.lantern(), folder.path(), None, None).await?;
    let api = server.login().await?;
    let sum = json!({ "tool": "calc", "arguments": { "expression": "1 + 1" } });
    api.agent("sum", json!([{ "id": "sum", "kind": "tool", "data": sum }])).await?;
    let body = json!({ "agentName": "sum", "input": { "text": "hello" } }).to_string();
    let shot = Shot::post("/v1/runs", &api.bearer, &body);
    load::flood(&bench.clock, &server.api, &shot, STARTERS, ROUND).await?;
    let scratch = Folder::new("bench-create-bare");
    let mut bare = Bare::open(scratch.path())?;
    let (mut ours, mut bares, mut groups) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (appends, commits) = (durable::appends(&database)?, disk::commits(&database)?);
        ours.push(load::flood(&bench.clock, &server.api, &shot, STARTERS, ROUND).await?);
        let commits = disk::commits(&database)?.wrapping_sub(commits).max(1);
        let appends = durable::appends(&database)? - appends;
        groups.push(appends / f64::from(commits));
        let (_, bytes, body) = disk::journal_shape(&database)?;
        let shape = Shape { bytes, body, group: disk::whole(median(&groups)) };
        let rows = disk::whole(appends).max(1);
        let start = bench.clock.now();
        bare.insert(rows, shape)?;
        bares.push(appends * 1_000.0 / bench.millis_since(start));
    }
    server.stop().await?;
    let group = median(&groups);
    let rate = |value| Amount::new(value, "a second");
    let beside = format!("bare loop, {group:.0} rows a commit");
    Ok(vec![
        Line::figure("POST /v1/runs, 64 connections, runs", rate(median(&ours)))
            .against(beside, rate(median(&bares)), Some(Bar::AtLeast(0.5)))
            .note("each run is driven to its end meanwhile"),
    ])
}
