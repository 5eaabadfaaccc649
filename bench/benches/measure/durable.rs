//! Durable steps on SQLite: many runs in flight beside a bare loop and Restate, and one run alone beside bare syncs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use lantern_bench::{Amount, Bar, Line, median};
use lantern_store::testing::Folder;
use lantern_store::{Db, SqliteOptions};

use crate::disk::{self, Bare, Shape};
use crate::place::{Place, STEPS};
use crate::{Bench, machine, restate};

/// Runs in flight at once.
pub(crate) const WIDTH: usize = 256;
/// Runs that each of them is followed by, in one round.
const DEPTH: usize = 8;
/// Rounds, alternating with rounds of the bare loop so that both meet the same disk.
const ROUNDS: usize = 5;
/// Runs alone, alternating with bare syncs.
const ALONE: usize = 60;

/// 256 runs of ten steps in flight.
pub(crate) async fn in_flight(bench: &Bench) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-durable");
    let database = folder.path().join("lantern.db");
    let place = open(bench, folder.path()).await?;
    // Fills the caches and brings the log to its size.
    place.in_flight(WIDTH, 1).await?;
    let steps = f64::from(STEPS) * count(WIDTH * DEPTH);
    let mut bare = Bare::open(folder.path())?;
    let (mut ours, mut bares, mut groups, mut costs) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (appends, commits, cpu) =
            (appends(&database)?, disk::commits(&database)?, machine::processor_micros());
        let (millis, ()) = bench.millis(place.in_flight(WIDTH, DEPTH)).await?;
        ours.push(steps * 1_000.0 / millis);
        costs.push((machine::processor_micros() - cpu) / steps);
        let commits = disk::commits(&database)?.wrapping_sub(commits).max(1);
        groups.push((self::appends(&database)? - appends) / f64::from(commits));
        let (_, bytes, body) = disk::journal_shape(&database)?;
        let shape = Shape { bytes, body, group: disk::whole(median(&groups)) };
        let start = bench.clock.now();
        bare.insert(WIDTH * DEPTH * STEPS as usize, shape)?;
        bares.push(steps * 1_000.0 / bench.millis_since(start));
    }
    place.check(WIDTH * (1 + ROUNDS * DEPTH)).await?;
    let (_, bytes, body) = disk::journal_shape(&database)?;
    place.close().await;
    let (ours, group) = (median(&ours), median(&groups));
    let rate = |value| Amount::new(value, "steps/s");
    let how = format!("{group:.0} appends a commit, {:.0} µs of processor a step", median(&costs));
    let bare_how = format!("bare loop, rows of {} bytes, {group:.0} a commit", bytes + body + 72);
    let what = "durable steps, SQLite, 256 runs in flight";
    let mut lines = vec![
        Line::figure(what, rate(ours))
            .against(bare_how, rate(median(&bares)), Some(Bar::AtLeast(0.5)))
            .note(how),
    ];
    lines.extend(match restate::measure(bench).await? {
        Ok(peer) => vec![
            Line::figure(what, rate(ours)).against("Restate", rate(peer.in_flight), Some(Bar::AtLeast(10.0))),
            Line::figure("Restate, one workflow of 10 steps, alone", Amount::new(peer.alone, "ms")),
        ],
        Err(why) => vec![Line::skipped("durable steps beside Restate", why)],
    });
    Ok(lines)
}

/// The same with nothing beside it, for longer or for as many runs of each place as are asked for: what a profiler should see.
pub(crate) async fn steps(bench: &Bench, depth: Option<usize>) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-steps");
    let place = open(bench, folder.path()).await?;
    place.in_flight(WIDTH, 1).await?;
    let depth = depth.unwrap_or(ROUNDS * DEPTH);
    let cpu = machine::processor_micros();
    let (millis, ()) = bench.millis(place.in_flight(WIDTH, depth)).await?;
    let steps = f64::from(STEPS) * count(WIDTH * depth);
    let cost = (machine::processor_micros() - cpu) / steps;
    place.close().await;
    let line = Line::figure(
        "durable steps, SQLite, for a profiler",
        Amount::new(steps * 1_000.0 / millis, "steps/s"),
    );
    Ok(vec![line.note(format!("{cost:.1} µs of processor a step"))])
}

/// One run of ten steps with nothing else going on.
pub(crate) async fn alone(bench: &Bench) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-alone");
    let place = open(bench, folder.path()).await?;
    place.in_flight(8, 8).await?;
    let (mut ours, mut syncs) = (vec![], vec![]);
    for _ in 0..ALONE {
        let start = bench.clock.now();
        disk::sync_appends(folder.path(), STEPS)?;
        syncs.push(bench.millis_since(start));
        ours.push(bench.millis(place.in_flight(1, 1)).await?.0);
    }
    let database = folder.path().join("lantern.db");
    let commits = disk::commits(&database)?;
    place.one_run().await?;
    let commits = disk::commits(&database)?.wrapping_sub(commits);
    place.close().await;
    let millis = |values: &[f64]| Amount::new(median(values), "ms");
    let line = Line::figure("one run of 10 steps, alone", millis(&ours));
    let line = line.against("ten bare fdatasyncs of 512 B", millis(&syncs), Some(Bar::AtMost(1.5)));
    Ok(vec![line.note(format!("{commits} commits from start to end, median of {ALONE}"))])
}

async fn open(bench: &Bench, folder: &Path) -> Result<Arc<Place>> {
    let db = Db::open_sqlite(folder, SqliteOptions::at(bench.clock.now())).await?;
    Place::open(db, bench.clock.clone(), true).await
}

/// Appends of a journal so far.
pub(crate) fn appends(database: &Path) -> Result<f64> {
    disk::journal_shape(database).map(|(appends, ..)| f64::from(appends))
}

/// A small count as a number to reckon with.
pub(crate) fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
