//! Every list and search, with a thousand stored runs and with a million, on both databases.
//!
//! The runs are written by one statement in portions, not by a server; a server then answers for them over HTTP.

use anyhow::{Context as _, Result};
use lantern_bench::{Amount, Bar, Line, median};
use lantern_net::RealClock;
use lantern_policy::Scope;
use lantern_store::testing::{Cluster, Folder, Seeded, TestDatabase, fill_runs};
use lantern_store::{Db, PostgresOptions, SqliteOptions};
use lantern_types::edge::Clock as _;
use lantern_types::{AgentId, TenantId, VersionId};
use rusqlite::Connection as Sqlite;
use serde_json::{Value, json};

use crate::load::{Connection, Shot};
use crate::server::Server;
use crate::{Bench, postgres};

/// Stored runs, few and many.
const FEW: u32 = 1_000;
const MANY: u32 = 1_000_000;
/// Times that each list is asked for, in turn with few and with many.
const TIMES: usize = 200;
/// Lists by what they are asked for, each with a limit that both fill. `AGENT` stands for the id that some runs have as their
/// parent and their session. The last ones ask for what is rare or nowhere in what is common.
const LISTS: &[&str] = &[
    "/v1/runs",
    "/v1/runs?agent=agent-7&limit=20",
    "/v1/runs?status=failed&limit=10",
    "/v1/runs?status=failed,succeeded",
    "/v1/runs?agent=agent-3&status=failed&limit=10",
    "/v1/runs?sessionId=AGENT&limit=2",
    "/v1/runs?parent=AGENT&limit=2",
    "/v1/runs?label=env:prod",
    "/v1/runs?label=customer:ada&limit=1",
    "/v1/runs?created[lt]=1970-01-01T00:00:00.005Z",
    "/v1/runs?created[gte]=1970-01-01T00:00:00.005Z&created[lt]=1970-01-01T00:00:00.006Z",
    "/v1/runs?q=agent-1&limit=20",
    "/v1/runs?q=ada&limit=1",
    "/v1/agents",
    "/v1/agents/agent/runs",
    "/v1/approvals",
    "/v1/sessions?limit=2",
    "/v1/stops",
    "/v1/runs?agent=agent-7&status=failed",
    "/v1/runs?label=customer:ada&label=env:prod",
    "/v1/runs?label=env:prod&label=customer:ada",
    "/v1/runs?label=env:prod&status=failed",
    "/v1/runs?label=env:prod&agent=agent-7",
    "/v1/runs?q=agent-1&label=env:prod&status=failed",
];
/// The runs that are written as queued have no journal: nobody is to drive them.
const OVER: &str = "UPDATE runs SET status = 'succeeded', outcome = 'succeeded', finished_at = created_at WHERE status = 'queued'";

/// A server with stored runs, and the id of its agent.
struct Filled {
    server: Server,
    bearer: String,
    agent: String,
    // Removed with it.
    _folder: Folder,
}

/// The longest ratio of all lists, on each database.
pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let few = sqlite(bench, FEW).await?;
    let many = sqlite(bench, MANY).await?;
    let mut lines = vec![compare(bench, "SQLite", few, many).await?];
    if !postgres::installed().await {
        lines.push(Line::skipped("lists at 1,000,000 stored runs, PostgreSQL", postgres::MISSING));
        return Ok(lines);
    }
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(false)));
    let databases = [cluster.database().await, cluster.database().await];
    let [first, second] = &databases;
    let few = on_postgres(bench, first, FEW).await?;
    let many = on_postgres(bench, second, MANY).await?;
    lines.push(compare(bench, "PostgreSQL", few, many).await?);
    for database in databases {
        database.discard().await;
    }
    Ok(lines)
}

async fn sqlite(bench: &Bench, count: u32) -> Result<Filled> {
    let folder = Folder::new("bench-lists");
    let seeded = seed(Server::serve(&bench.lantern(), folder.path(), None, None).await?).await?;
    let db = Db::open_sqlite(folder.path(), SqliteOptions::at(RealClock::new().now())).await?;
    fill_runs(&db, seeded, count).await?;
    drop(db);
    Sqlite::open(folder.path().join("lantern.db"))?.execute_batch(OVER)?;
    fill(Server::serve(&bench.lantern(), folder.path(), None, None).await?, folder, seeded).await
}

async fn on_postgres(bench: &Bench, database: &TestDatabase, count: u32) -> Result<Filled> {
    let folder = Folder::new("bench-lists");
    let options = PostgresOptions { connections: postgres::CONNECTIONS, ..database.options() };
    let program = bench.lantern();
    let serve = || Server::serve(&program, folder.path(), Some(&options), None);
    let seeded = seed(serve().await?).await?;
    let db = Db::open_postgres(&options).await?;
    fill_runs(&db, seeded, count).await?;
    drop(db);
    for sql in [OVER, "VACUUM ANALYZE"] {
        postgres::psql(database.owner_url().expose(), sql).await?;
    }
    let server = serve().await?;
    fill(server, folder, seeded).await
}

/// Makes an agent that the stored runs can belong to, and stops the server.
async fn seed(server: Server) -> Result<Seeded> {
    let api = server.login().await?;
    let sum = json!({ "tool": "calc", "arguments": { "expression": "1 + 1" } });
    let agent = api.agent("agent", json!([{ "id": "sum", "kind": "tool", "data": sum }])).await?;
    let text = |name: &str| agent.get(name).and_then(Value::as_str).context("an agent without its ids");
    let tenant: TenantId = text("tenantId")?.parse()?;
    let (id, version): (AgentId, VersionId) = (text("id")?.parse()?, text("currentVersionId")?.parse()?);
    server.stop().await?;
    Ok(Seeded { scope: Scope::of_lease(tenant), agent: id, version })
}

async fn fill(server: Server, folder: Folder, seeded: Seeded) -> Result<Filled> {
    let bearer = server.login().await?.bearer;
    Ok(Filled { server, bearer, agent: seeded.agent.to_string(), _folder: folder })
}

async fn compare(bench: &Bench, name: &str, few: Filled, many: Filled) -> Result<Line> {
    let mut worst = (0.0, 0.0, 0.0, "");
    for list in LISTS {
        let (mut less, mut more) = (vec![], vec![]);
        let mut both = [Asker::of(&few, list).await?, Asker::of(&many, list).await?];
        for _ in 0..TIMES {
            for (asker, times) in both.iter_mut().zip([&mut less, &mut more]) {
                times.push(bench.millis(asker.ask()).await?.0);
            }
        }
        let (less, more) = (median(&less), median(&more));
        crate::say(&format!("  {name} {list}: {less:.2} ms of {FEW} runs, {more:.2} ms of {MANY}"));
        if more / less > worst.0 {
            worst = (more / less, more, less, list);
        }
    }
    few.server.stop().await?;
    many.server.stop().await?;
    let (_, more, less, list) = worst;
    let what = format!("the list that suffers most at 1,000,000 stored runs, {name}");
    Ok(Line::figure(what, Amount::new(more, "ms"))
        .against("at 1,000", Amount::new(less, "ms"), Some(Bar::AtMost(1.5)))
        .note(format!("`{list}`, of {} lists and searches; medians of {TIMES}", LISTS.len())))
}

/// One who asks for a list again and again.
struct Asker {
    connection: Connection,
    shot: Shot,
}

impl Asker {
    async fn of(filled: &Filled, list: &str) -> Result<Self> {
        let path = list.replace("AGENT", &filled.agent);
        let connection = Connection::open(&filled.server.api).await?;
        Ok(Self { connection, shot: Shot::get(&path, &filled.bearer) })
    }

    async fn ask(&mut self) -> Result<usize> {
        self.connection.shoot(&self.shot).await
    }
}
