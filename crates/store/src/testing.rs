//! What tests of the store, and of everything above it, need: a database of each kind for a test, seeded ids, a clock
//! that is told the time, and the rows that runs hang on.
//!
//! Invariant: a test that asks for PostgreSQL gets one or fails with what to install; it never passes by skipping.
//! Only compiled with the feature `testing`.

#![expect(clippy::panic, clippy::expect_used, reason = "a test's scaffolding fails by panicking")]

mod bucket;
mod cluster;
mod lists;
mod proxy;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::{Either, join_all, select};
use lantern_policy::Scope;
use lantern_types::edge::{BoxFuture, Clock, IdGen, Tasks};
use lantern_types::*;
use uuid::Uuid;

use crate::db::{Db, SqliteOptions};
use crate::error::Result;
use crate::value::Value;
use crate::versions::Version;
use crate::{
    allowances, approvals, audit, dialect, escrow, feedback, identities, inbox, journal, labels, lease,
    limits, loose, metered, outbox, past, policies, receipts, retention, routing, runs, seal, secrets,
    sessions, share, sign_ins, sso, stops, system, tickets, traces, usage, versions, workloads,
};

pub use bucket::BucketServer;
pub use cluster::{Cluster, TestDatabase};
pub use lists::{approval_plans, fill_runs, list_plans};
pub use proxy::Proxy;
pub use schema::schema;

/// Makes `NAME::sqlite` and `NAME::postgres` of one test: `db_test!(name, async |db| { … })`.
#[macro_export]
macro_rules! db_test {
    ($(#[$doc:meta])* $name:ident, $test:expr) => {
        $(#[$doc])*
        mod $name {
            #[expect(unused_imports, reason = "a test may need nothing from its file")]
            use super::*;

            #[test]
            fn sqlite() {
                $crate::testing::on_sqlite($test);
            }

            #[test]
            fn postgres() {
                $crate::testing::on_postgres($test);
            }
        }
    };
}

/// Runs a test on a new data folder.
pub fn on_sqlite(test: impl AsyncFnOnce(Db)) {
    let folder = Folder::new("sqlite");
    block_on(async {
        let options = SqliteOptions::at(At::from_micros(1));
        test(Db::open_sqlite(folder.path(), options).await.expect("open a data folder")).await;
    });
}

/// Runs a test on a new database of this test binary's own cluster, connected as the roles that serve.
pub fn on_postgres(test: impl AsyncFnOnce(Db)) {
    block_on(async {
        let database = Cluster::shared().database().await;
        test(Db::open_postgres(&database.options()).await.expect("open a database")).await;
        database.discard().await;
    });
}

/// Makes the database file of a data folder with the schema of an earlier build (0: none of ours at all), and runs `sql`
/// in it.
pub fn sqlite_file(dir: &Path, last: i64, sql: &str) {
    crate::db::sqlite_file_to(dir, last, sql).expect("make a database file");
}

/// Runs a future on a runtime of its own, to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("build a runtime").block_on(future)
}

/// A folder that is removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

static FOLDERS: AtomicU64 = AtomicU64::new(0);

impl Folder {
    /// A new, empty folder in the system's place for them.
    pub fn new(name: &str) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("lantern-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Left by a killed process that had our id.
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("make a folder");
        Self(path)
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Ids and randomness from a counter: the same in every run of a test, different for every seed.
#[derive(Debug)]
pub struct SeededIds(AtomicU64);

impl SeededIds {
    /// Starts at a seed.
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed << 32))
    }
    fn draw(&self) -> [u8; 32] {
        *Digest::of(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes()).bytes()
    }
}

impl IdGen for SeededIds {
    fn uuid(&self) -> Uuid {
        let mut random = [0; 16];
        random.iter_mut().zip(self.draw()).for_each(|(to, from)| *to = from);
        uuid7(At::from_micros(1), u128::from_be_bytes(random))
    }
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            chunk.iter_mut().zip(self.draw()).for_each(|(to, from)| *to = from);
        }
    }
}

/// A clock that shows what it was set to. Its sleeps are real, for there is nothing to wake them otherwise.
#[derive(Debug)]
pub struct SetClock(AtomicI64);

impl SetClock {
    /// Shows this time.
    pub const fn at(at: At) -> Self {
        Self(AtomicI64::new(at.micros()))
    }
    /// Shows another time from now on.
    pub fn set(&self, at: At) {
        self.0.store(at.micros(), Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> At {
        At::from_micros(self.0.load(Ordering::Relaxed))
    }
    fn sleep(&self, dur: Dur) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(dur.std()))
    }
}

/// Background work that runs beside a test's own and ends with it.
#[derive(Default)]
pub struct HeldTasks(Mutex<Vec<BoxFuture<'static, ()>>>);

impl Tasks for HeldTasks {
    fn spawn(&self, _name: &'static str, work: BoxFuture<'static, ()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(work);
    }
}

impl HeldTasks {
    /// Runs `body` to its end, and what was spawned so far beside it.
    pub async fn beside<T>(self, body: impl Future<Output = T>) -> T {
        let held = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        match select(Box::pin(body), join_all(held)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, body)) => body.await,
        }
    }
}

/// A tenant with an agent: what every run hangs on.
#[derive(Clone, Copy, Debug)]
pub struct Seeded {
    /// The tenant's scope.
    pub scope: Scope,
    /// Its agent, named `digest`.
    pub agent: AgentId,
    /// The agent's only version.
    pub version: VersionId,
}

impl Seeded {
    /// The agent's only version, as [`versions::current`] finds it.
    pub fn current(&self) -> Version {
        Version {
            agent: self.agent,
            agent_name: "digest".to_owned(),
            id: self.version,
            digest: Digest::of(b"manifest"),
            manifest: "{}".to_owned(),
            archived: false,
            run_cost_max: None,
            runs_of_day_max: None,
        }
    }
}

const TENANT: &str =
    "INSERT INTO tenants (tenant_id, slug, name, tier, created_at) VALUES ($1, $2, $2, 'dev', 1)";
const AGENT: &str = "INSERT INTO agents (tenant_id, id, name, labels, created_at, updated_at, version)
    VALUES ($1, $2, 'digest', '{}', 1, 1, 1)";
const VERSION: &str =
    "INSERT INTO agent_versions (tenant_id, id, agent_id, number, digest, manifest, created_at)
    VALUES ($1, $2, $3, 1, $4, '{}', 1)";

/// Makes a tenant with an agent.
pub async fn seed(db: &Db, tenant: TenantId) -> Result<Seeded> {
    let scope = Scope::of_lease(tenant);
    // Their own ids for every tenant, derived so that a test can tell them apart when printed.
    let derived = |n: u128| Uuid::from_u128(tenant.uuid().as_u128().wrapping_mul(1_000).wrapping_add(n));
    let (agent, version) = (AgentId::from_uuid(derived(1)), VersionId::from_uuid(derived(2)));
    db.write(scope, move |tx| {
        Box::pin(async move {
            tx.exec(TENANT, &[tenant.to_string().into()]).await?;
            tx.exec(AGENT, &[agent.into()]).await?;
            let digest = Digest::of(b"manifest");
            tx.exec(VERSION, &[version.into(), agent.into(), digest.into()]).await.map(drop)
        })
    })
    .await?;
    Ok(Seeded { scope, agent, version })
}

/// Prepares statements against a database as the role that serves tenants; panics with the one that does not fit.
pub async fn prepare_statements(db: &Db, statements: impl IntoIterator<Item = &'static str>) {
    for sql in statements {
        prepare(db, false, sql).await;
    }
}

/// Prepares every statement of this crate, each as the role that runs it; panics with the one that does not fit.
pub async fn prepare_every_statement(db: &Db) {
    let secrets = secrets::statements();
    let tenant = [
        journal::STATEMENTS,
        runs::STATEMENTS,
        runs::list::STATEMENTS,
        labels::STATEMENTS,
        allowances::STATEMENTS,
        approvals::STATEMENTS,
        audit::STATEMENTS,
        escrow::STATEMENTS,
        escrow::CAPS_STATEMENTS,
        escrow::ASKS_STATEMENTS,
        usage::STATEMENTS,
        usage::pending::STATEMENTS,
        feedback::STATEMENTS,
        identities::STATEMENTS,
        inbox::STATEMENTS,
        outbox::STATEMENTS,
        past::STATEMENTS,
        lease::STATEMENTS,
        loose::STATEMENTS,
        receipts::STATEMENTS,
        receipts::log::STATEMENTS,
        retention::STATEMENTS,
        policies::STATEMENTS,
        routing::STATEMENTS,
        seal::STATEMENTS,
        &secrets,
        sessions::STATEMENTS,
        sign_ins::STATEMENTS,
        stops::STATEMENTS,
        tickets::STATEMENTS,
        traces::STATEMENTS,
        versions::STATEMENTS,
        workloads::STATEMENTS,
        metered::STATEMENTS,
    ];
    prepare_statements(db, tenant.concat()).await;
    let own = if schema::is_postgres(db).await {
        let appends = [
            dialect::APPEND_POSTGRES,
            dialect::APPEND_USING_POSTGRES,
            dialect::APPEND_LAST_POSTGRES,
            dialect::APPEND_LAST_USING_POSTGRES,
            dialect::APPEND_HEEDING_USING_POSTGRES,
        ];
        prepare_statements(db, appends.into_iter().chain([dialect::LOCK_POSTGRES])).await;
        let heeding =
            [dialect::APPEND_HEEDING_POSTGRES, dialect::GUARD_HEEDING.postgres, dialect::HALT.postgres];
        prepare_statements(db, heeding).await;
        vec![
            dialect::CLAIM_POSTGRES,
            dialect::CLAIM_OF_POSTGRES,
            dialect::ALONE_POSTGRES,
            dialect::TAKE_POSTGRES,
            dialect::GIVE_BACK_POSTGRES,
        ]
    } else {
        prepare_statements(db, [dialect::GUARD_HEEDING.sqlite, dialect::HALT.sqlite]).await;
        vec![dialect::CLAIM_SQLITE, dialect::CLAIM_OF_SQLITE, dialect::TAKE_SQLITE, dialect::GIVE_BACK_SQLITE]
    };
    let system = [
        escrow::SYSTEM_STATEMENTS,
        usage::pending::SYSTEM_STATEMENTS,
        lease::SYSTEM_STATEMENTS,
        limits::SYSTEM_STATEMENTS,
        policies::SYSTEM_STATEMENTS,
        loose::SYSTEM_STATEMENTS,
        receipts::SYSTEM_STATEMENTS,
        receipts::keys::SYSTEM_STATEMENTS,
        retention::SYSTEM_STATEMENTS,
        share::SYSTEM_STATEMENTS,
        sso::SYSTEM_STATEMENTS,
        outbox::SYSTEM_STATEMENTS,
        stops::server::SYSTEM_STATEMENTS,
        workloads::SYSTEM_STATEMENTS,
        traces::SYSTEM_STATEMENTS,
        &own,
    ];
    for sql in system.concat().into_iter().chain(system::statements()) {
        prepare(db, true, sql).await;
    }
}

/// How the database would find out what is due, go from tenant to tenant, count the runs of one that are at work, and claim.
pub async fn claim_plans(db: &Db, tenant: TenantId) -> Result<Vec<String>> {
    let postgres = schema::is_postgres(db).await;
    let (explain, column) =
        if postgres { ("EXPLAIN ", "QUERY PLAN") } else { ("EXPLAIN QUERY PLAN ", "detail") };
    let (claim, claim_of) = if postgres {
        (dialect::CLAIM_POSTGRES, dialect::CLAIM_OF_POSTGRES)
    } else {
        (dialect::CLAIM_SQLITE, dialect::CLAIM_OF_SQLITE)
    };
    let (now, some) = (Value::Int(5_000_000), Value::Int(257));
    let process: Value = tenant.into();
    let all = vec![process, now.clone(), some.clone(), Value::Int(1), "this".into()];
    let of = [all.clone(), vec![tenant.into(), Value::Int(0)]].concat();
    let mut plans = Vec::new();
    for (sql, params) in [
        (share::NEXT, vec![now.clone(), some.clone()]),
        (share::WALK, vec![tenant.into(), now, some.clone(), Value::Int(32)]),
        (share::AT_WORK, vec![tenant.into(), some]),
        (claim, all),
        (claim_of, of),
    ] {
        let sql: &'static str = format!("{explain}{sql}").leak();
        let rows = db.system_read(move |tx| Box::pin(async move { tx.all(sql, &params).await })).await?;
        let lines = rows.iter().map(|row| row.text(column)).collect::<Result<Vec<_>>>()?;
        plans.push(lines.join("\n"));
    }
    Ok(plans)
}

/// How the database would look for rows of the outbox, and take some of a tenant's.
pub async fn outbox_plans(db: &Db, tenant: TenantId) -> Result<String> {
    let postgres = schema::is_postgres(db).await;
    let (explain, column) =
        if postgres { ("EXPLAIN ", "QUERY PLAN") } else { ("EXPLAIN QUERY PLAN ", "detail") };
    let take = if postgres { dialect::TAKE_POSTGRES } else { dialect::TAKE_SQLITE };
    let now = Value::Int(5_000);
    let waiting = vec![Value::Bytes(Vec::new()), now.clone(), Value::Int(8)];
    let taking = vec![tenant.into(), "start".into(), now, Value::Int(10), Value::Int(8), Value::Null];
    let mut lines = Vec::new();
    for (sql, params) in [(outbox::WAITING, waiting), (take, taking)] {
        let sql: &'static str = format!("{explain}{sql}").leak();
        let rows = db.system_read(move |tx| Box::pin(async move { tx.all(sql, &params).await })).await?;
        for row in rows {
            lines.push(row.text(column)?);
        }
    }
    Ok(lines.join("\n"))
}

async fn prepare(db: &Db, system: bool, sql: &'static str) {
    if let Err(e) = db.prepare_only(system, sql).await {
        panic!("{e:?}\n{sql}");
    }
}
