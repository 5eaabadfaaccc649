//! How quickly the release binary is ready, and how much memory it holds when nobody asks anything of it.

use anyhow::{Context as _, Result};
use lantern_bench::{Amount, Bar, Line, median};
use lantern_store::testing::Folder;
use lantern_types::Dur;

use crate::server::Server;
use crate::{Bench, machine};

/// Starts of each kind.
const STARTS: usize = 7;
/// How long a server is left alone before its memory is looked at.
const IDLE: Dur = Dur::from_secs(5);

/// From the start of the process to its ready line, on a new and on an existing database.
pub(crate) async fn to_ready(bench: &Bench) -> Result<Vec<Line>> {
    let program = bench.lantern();
    let (mut new, mut existing) = (vec![], vec![]);
    for _ in 0..STARTS {
        let folder = Folder::new("bench-start");
        for figures in [&mut new, &mut existing] {
            let (millis, server) = bench.millis(Server::start(&program, folder.path(), None)).await?;
            figures.push(millis);
            server.stop().await?;
        }
    }
    let line = |what: &str, figures: &[f64], allowed| {
        Line::figure(what, Amount::new(median(figures), "ms"))
            .against("allowed", Amount::new(allowed, "ms"), Some(Bar::AtMost(1.0)))
            .note(format!("median of {STARTS}"))
    };
    Ok(vec![
        line("start to ready, existing database", &existing, 150.0),
        line("start to ready, new database", &new, 600.0),
    ])
}

/// Resident memory after start.
pub(crate) async fn idle(bench: &Bench) -> Result<Vec<Line>> {
    let folder = Folder::new("bench-idle");
    let server = Server::start(&bench.lantern(), folder.path(), None).await?;
    bench.clock.sleep(IDLE).await;
    let resident = machine::resident_mib(server.pid()?).context("the server is gone")?;
    server.stop().await?;
    let allowed = Amount::new(50.0, "MiB");
    let line = Line::figure("idle memory, resident", Amount::new(resident, "MiB"));
    Ok(vec![line.against("allowed", allowed, Some(Bar::AtMost(1.0))).note("5 s after start, new database")])
}
