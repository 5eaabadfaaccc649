//! Durable steps on PostgreSQL beside what `pgbench` commits on the same cluster, which syncs as in production.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use lantern_bench::{Amount, Bar, Line, median};
use lantern_store::testing::{Cluster, Folder};
use lantern_store::{Db, PostgresOptions};
use lantern_types::Dur;
use tokio::process::Command;

use crate::durable::count;
use crate::place::{Place, STEPS};
use crate::{Bench, machine};

/// Runs in flight, and clients of `pgbench`.
const WIDTH: usize = 64;
/// Runs that each of them is followed by, in one round: enough for a second or two, as `pgbench` too has warm plans.
const DEPTH: usize = 40;
/// Rounds, alternating with `pgbench`.
const ROUNDS: usize = 3;
/// Seconds of `pgbench` in a round.
const SECS: &str = "5";
/// Connections of the app role, as a server has them when nobody says otherwise.
pub(crate) const CONNECTIONS: usize = 16;
/// What to do when there is none.
pub(crate) const MISSING: &str = "PostgreSQL or its pgbench is missing: install postgresql";

/// Whether PostgreSQL can be started here.
pub(crate) async fn installed() -> bool {
    Command::new("pgbench").arg("--version").output().await.is_ok()
}

/// 64 runs of ten steps in flight.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let what = "durable steps, PostgreSQL, 64 runs in flight";
    if !installed().await {
        return Ok(vec![Line::skipped(what, MISSING)]);
    }
    // Lives until the process ends, and is removed then.
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(true)));
    let database = cluster.database().await;
    let db = Db::open_postgres(&PostgresOptions { connections: CONNECTIONS, ..database.options() }).await?;
    let place = Place::open(db, bench.clock.clone(), false).await?;
    place.in_flight(WIDTH, 1).await?;
    let row = row_bytes(database.owner_url().expose()).await?;
    let folder = Folder::new("bench-pgbench");
    let script = folder.path().join("insert.sql");
    // One statement and its commit; the row has the bytes of one of our appends.
    std::fs::write(
        &script,
        format!("\\set seq random(1, 1000000000)\nINSERT INTO bare VALUES (:seq, '{}');\n", "x".repeat(row)),
    )?;
    psql(database.owner_url().expose(), "CREATE TABLE bare (seq BIGINT NOT NULL, bytes BYTEA NOT NULL)")
        .await?;
    let (mut ours, mut theirs, mut costs) = (vec![], vec![], vec![]);
    let steps = f64::from(STEPS) * count(WIDTH * DEPTH);
    for _ in 0..ROUNDS {
        theirs.push(pgbench(database.owner_url().expose(), &script).await?);
        let cpu = machine::processor_micros();
        let (millis, ()) = bench.millis(place.in_flight(WIDTH, DEPTH)).await?;
        costs.push((machine::processor_micros() - cpu) / steps);
        ours.push(steps * 1_000.0 / millis);
    }
    place.check(WIDTH * (1 + ROUNDS * DEPTH)).await?;
    place.close().await;
    database.discard().await;
    let line = Line::figure(what, Amount::new(median(&ours), "steps/s"));
    let line = line.note(format!("{:.0} µs of the worker's processor a step", median(&costs)));
    let limit = Amount::new(median(&theirs), "commits/s");
    Ok(vec![line.against(format!("pgbench, rows of {row} bytes"), limit, Some(Bar::AtLeast(0.5)))])
}

/// Mean bytes of a journal row's contents.
async fn row_bytes(url: &str) -> Result<usize> {
    let sql =
        "SELECT round(avg(length(bytes) + coalesce(length(body), 0) + length(chain)))::bigint FROM journal";
    psql(url, sql).await?.trim().parse().context("the journal's mean row")
}

pub(crate) async fn psql(url: &str, sql: &str) -> Result<String> {
    let output = Command::new("psql").args(["-XqAt", "-d", url, "-c", sql]).output().await.context("psql")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Commits in a second.
async fn pgbench(url: &str, script: &Path) -> Result<f64> {
    let clients = WIDTH.to_string();
    let mut command = Command::new("pgbench");
    command.args(["-n", "-M", "prepared", "-j", "2", "-c", &clients, "-T", SECS, "-f"]).arg(script).arg(url);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(Dur::from_secs(60).std(), command.output()).await.context("pgbench hangs")??;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr).trim());
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.context("pgbench does not say how many transactions it made")
}
