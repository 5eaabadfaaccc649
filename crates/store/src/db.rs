//! The facade over both databases: a few doors and no `begin`.
//!
//! [`Db::read`] is a snapshot (and [`Db::glance`] one of a few rows), [`Db::write`] a transaction, [`Db::submit`] a closed
//! list of statements. Whatever a door answers has been committed durably. An interactive transaction would own SQLite's only writer across
//! awaits, and so forbid both group commit and pipelining; that is why there is none.
//!
//! Invariant: only the files under `db/` name a database driver, and a tenant's door binds `$1` to its tenant.
//! Holds no SQL of its own, no clock and no ids.

mod copy;
mod earlier;
mod examine;
mod lanes;
mod listen;
mod migrate;
mod postgres;
mod relay;
mod sqlite;
mod tls;
mod tx;
mod url;
mod wal;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lantern_net::Shutdown;
use lantern_policy::Scope;
use lantern_types::edge::{BoxFuture, Clock, Tasks};
use lantern_types::{At, Secret, TenantId};

use crate::error::{Error, Result};
use crate::notify::Hub;
use crate::relay::Relay;
use tx::{Tx, Work};

pub(crate) use copy::of_folder as copy_of_folder;
pub(crate) use examine::{Contents, examine};
#[cfg(feature = "testing")]
pub(crate) use migrate::postgres_to as migrate_postgres_to;
pub use migrate::{create_roles, migrate_postgres};
#[cfg(feature = "testing")]
pub(crate) use postgres::run_as_owner;
#[cfg(feature = "testing")]
pub(crate) use sqlite::file_to as sqlite_file_to;
pub use tx::{Batch, Expect, SystemTx, TenantTx, Where};

/// How a data folder is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Read connections; each costs up to 2 MiB of cache.
    pub readers: usize,
    /// The most pages of 4 KiB that the database file may take; `None` leaves it to the disk.
    pub pages_max: Option<u32>,
    /// How many copies of the database from before a migration are kept beside it; 0 makes none.
    pub copies: usize,
    /// Written beside each migration that is applied.
    pub now: At,
}

impl SqliteOptions {
    /// Four readers, no limit but the disk, and no copies.
    pub const fn at(now: At) -> Self {
        Self { readers: 4, pages_max: None, copies: 0, now }
    }
}

/// How a PostgreSQL cluster is reached. Two roles, because only one of them may look across tenants.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Connects as `lantern_app`: row-level security shows it one tenant at a time.
    pub app_url: Secret<String>,
    /// Connects as `lantern_system`: leases and sign-in, on exactly the tables these need.
    pub system_url: Secret<String>,
    /// Connections of the app role; the system role has a quarter of it, at least two.
    pub connections: usize,
}

/// An open database. Cheap to clone; closes when the last clone is dropped.
#[derive(Clone)]
pub struct Db {
    engine: Arc<Engine>,
    hub: Hub,
    /// Set when anything met damage in it, which does not heal.
    damaged: Arc<AtomicBool>,
    /// Whether the last write that was tried was refused because nothing may be written.
    read_only: Arc<AtomicBool>,
}

enum Engine {
    Inline(sqlite::Inline, Option<Pace>),
    Files(sqlite::Files),
    Postgres(postgres::Pools),
}

/// Whose rows a transaction sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    App(TenantId),
    System,
    /// The app role without saying whose transaction it is.
    #[cfg(feature = "testing")]
    Nobody,
}

/// A moment in a write at which a paced database waits, or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is written yet; an error now means that nothing will be.
    Before,
    /// It is durable; an error now means that the caller is not told so.
    After,
}

/// Awaited at each [`Moment`] of each write.
pub type Pace = Arc<dyn Fn(Moment) -> BoxFuture<'static, Result<()>> + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Read,
    /// A read that is over at once.
    Glance,
    Write,
}

impl Db {
    fn of(engine: Engine, hub: Hub) -> Self {
        Self { engine: Arc::new(engine), hub, damaged: Arc::default(), read_only: Arc::default() }
    }

    /// Opens (and on first use makes) the database of a data folder, and brings its schema up to date.
    /// Fails with `Locked` while another process has the folder, and with `Corrupt`, `Foreign` or `TooNew` when the
    /// file is not a database that this build may write to.
    pub async fn open_sqlite(data_dir: &Path, options: SqliteOptions) -> Result<Self> {
        let hub = Hub::new();
        let (dir, writer_hub) = (data_dir.to_owned(), hub.clone());
        let files = sqlite::blocking(move || sqlite::Files::open(&dir, &options, writer_hub)).await?;
        Ok(Self::of(Engine::Files(files), hub))
    }

    /// Opens the database of a data folder that a server may have in use, for a command that changes a row or two beside
    /// it. Fails with `TooOld` or `TooNew` when its schema is not this build's: it migrates nothing.
    pub async fn open_sqlite_beside(data_dir: &Path) -> Result<Self> {
        let hub = Hub::new();
        let (dir, writer_hub) = (data_dir.to_owned(), hub.clone());
        let files = sqlite::blocking(move || sqlite::Files::open_beside(&dir, writer_hub)).await?;
        Ok(Self::of(Engine::Files(files), hub))
    }

    /// A database in memory whose transactions run on the caller's own thread, for simulation and tests.
    pub fn inline_sqlite() -> Result<Self> {
        Ok(Self::of(Engine::Inline(sqlite::Inline::open()?, None), Hub::new()))
    }

    /// The same, where every write takes its time and may fail as `pace` says: a disk for simulations.
    pub fn paced_sqlite(pace: Pace) -> Result<Self> {
        Ok(Self::of(Engine::Inline(sqlite::Inline::open()?, Some(pace)), Hub::new()))
    }

    /// Connects to a cluster that [`migrate_postgres`] has prepared. Fails with `TooOld` or `TooNew` when its schema
    /// is not this build's, with `Role` when a connection string is for another role, with `Misuse` when the app
    /// role bypasses row-level security, and with `Unavailable` when nobody answers.
    pub async fn open_postgres(options: &PostgresOptions) -> Result<Self> {
        let pools = postgres::Pools::open(options).await?;
        Ok(Self::of(Engine::Postgres(pools), Hub::new()))
    }

    /// Carries hints to and from the other processes of a PostgreSQL cluster until shutdown; on SQLite there is no
    /// other process and this does nothing. Losing hints costs a polling interval and nothing else.
    pub fn follow(&self, tasks: &dyn Tasks, clock: Arc<dyn Clock>, stopping: &Shutdown) {
        if let Engine::Postgres(pools) = &*self.engine {
            listen::start(pools, &self.hub, tasks, clock, stopping);
        }
    }

    /// Carries what models say to and from the processes that watch a run, beside [`follow`](Self::follow) and until
    /// shutdown; on SQLite it does nothing. Best effort, and never in a commit's way.
    pub fn relay(&self, relay: Relay, tasks: &dyn Tasks, clock: Arc<dyn Clock>, stopping: &Shutdown) {
        if let Engine::Postgres(pools) = &*self.engine {
            relay::start(pools, &self.hub, relay, tasks, clock, stopping);
        }
    }

    /// Where commits are announced inside this process.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Whether any transaction, of a request or of work in the background, has met damage: pages that cannot be read.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether the last write that was tried, of a request or of work in the background, met a database that takes none.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// Remembers what an answer says of the database, on its way to whoever asked.
    fn noted<T>(&self, mode: Mode, answer: Result<T>) -> Result<T> {
        match &answer {
            Err(Error::ReadOnly) if mode != Mode::Write => {
                return Err(Error::Misuse("a read tried to write".to_owned()));
            }
            Err(Error::Corrupt(_)) => self.damaged.store(true, Ordering::Relaxed),
            Err(Error::ReadOnly) => self.read_only.store(true, Ordering::Relaxed),
            Ok(_) if mode == Mode::Write => self.read_only.store(false, Ordering::Relaxed),
            _ => {}
        }
        answer
    }

    /// Runs `f` against a snapshot of one tenant's rows.
    pub async fn read<T: Send + 'static>(
        &self,
        scope: Scope,
        f: impl for<'a> FnOnce(&'a mut TenantTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.run(Role::App(scope.tenant()), Mode::Read, tenant_work(scope, f)).await
    }

    /// The same for a few rows that are found by their keys. On SQLite it runs on the caller's own thread and keeps that for
    /// some microseconds; handing it to another thread and back costs several times as much. Whatever may read many rows, or
    /// long ones, is a [`read`](Self::read).
    pub async fn glance<T: Send + 'static>(
        &self,
        scope: Scope,
        f: impl for<'a> FnOnce(&'a mut TenantTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.run(Role::App(scope.tenant()), Mode::Glance, tenant_work(scope, f)).await
    }

    /// Runs `f` in a transaction on one tenant's rows and answers once it is durable. An error from `f`, or from any
    /// statement in it, undoes all of it. `f` awaits nothing but its own statements: no clock, no ids, no network.
    pub async fn write<T: Send + 'static>(
        &self,
        scope: Scope,
        f: impl for<'a> FnOnce(&'a mut TenantTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.run(Role::App(scope.tenant()), Mode::Write, tenant_work(scope, f)).await
    }

    /// Commits a closed list of statements as one transaction: one round trip on PostgreSQL, one place in the
    /// writer's group on SQLite. Answers the row counts. A count other than expected undoes the batch: `Conflict`.
    ///
    /// A batch is shared and not taken, so that a caller that must try again has it still.
    pub async fn submit(&self, scope: Scope, batch: impl Into<Arc<Batch>>) -> Result<Vec<u64>> {
        let batch = batch.into();
        batch.check()?;
        self.noted(Mode::Write, self.commit(scope.tenant(), batch).await)
    }

    async fn commit(&self, tenant: TenantId, batch: Arc<Batch>) -> Result<Vec<u64>> {
        let counts = match &*self.engine {
            Engine::Inline(inline, pace) => {
                paced(pace.as_ref(), Moment::Before).await?;
                let counts = inline.submit(tenant, &batch)?;
                self.hub.tell(&batch.hints);
                paced(pace.as_ref(), Moment::After).await?;
                return Ok(counts);
            }
            // The writer announces by itself, as with `write`.
            Engine::Files(files) => return files.submit(tenant, batch).await,
            Engine::Postgres(pools) => pools.submit(tenant, Arc::clone(&batch)).await?,
        };
        self.hub.tell(&batch.hints);
        Ok(counts)
    }

    /// Runs `f` against a snapshot of every tenant's rows. For this crate alone.
    pub(crate) async fn system_read<T: Send + 'static>(
        &self,
        f: impl for<'a> FnOnce(&'a mut SystemTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.run(Role::System, Mode::Read, system_work(f)).await
    }

    /// The same as [`glance`](Self::glance) is to [`read`](Self::read).
    pub(crate) async fn system_glance<T: Send + 'static>(
        &self,
        f: impl for<'a> FnOnce(&'a mut SystemTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.run(Role::System, Mode::Glance, system_work(f)).await
    }

    /// Runs `f` in a transaction across tenants. For this crate alone.
    pub(crate) async fn system_write<T: Send + 'static>(
        &self,
        f: impl for<'a> FnOnce(&'a mut SystemTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.run(Role::System, Mode::Write, system_work(f)).await
    }

    /// The same for what a power cut may take back. On SQLite it does not wait for the disk unless something else is
    /// committed with it: the next commit brings it there. On PostgreSQL it is durable.
    pub(crate) async fn system_write_lazy<T: Send + 'static>(
        &self,
        f: impl for<'a> FnOnce(&'a mut SystemTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        match &*self.engine {
            Engine::Files(files) => self.noted(Mode::Write, files.write_lazy(system_work(f)).await),
            _ => self.system_write(f).await,
        }
    }

    async fn run<T: Send + 'static>(&self, role: Role, mode: Mode, work: Work<T>) -> Result<T> {
        self.noted(mode, self.transact(role, mode, work).await)
    }

    async fn transact<T: Send + 'static>(&self, role: Role, mode: Mode, work: Work<T>) -> Result<T> {
        let (value, hints) = match &*self.engine {
            Engine::Inline(inline, pace) => {
                let pace = pace.as_ref().filter(|_| mode == Mode::Write);
                paced(pace, Moment::Before).await?;
                let (value, hints) = inline.run(mode, work)?;
                self.hub.tell(&hints);
                paced(pace, Moment::After).await?;
                return Ok(value);
            }
            Engine::Files(files) => match mode {
                Mode::Read => files.read(work).await?,
                Mode::Glance => files.glance(work).await?,
                // The writer announces by itself: the commit counts even if nobody waits for the answer any more.
                Mode::Write => return files.write(work).await,
            },
            Engine::Postgres(pools) => pools.run(role, mode, work).await?,
        };
        self.hub.tell(&hints);
        Ok(value)
    }

    /// Every row that a statement shows to the app role when nobody said whose transaction it is. For tests.
    #[cfg(feature = "testing")]
    pub async fn rows_of_nobody(&self, sql: &'static str) -> Result<Vec<crate::value::Row>> {
        let work: Work<_> = Box::new(move |tx| Box::pin(async move { tx.all(sql, None, &[]).await }));
        self.run(Role::Nobody, Mode::Read, work).await
    }

    /// Prepares a statement without running it. For the test that prepares every statement of this crate.
    #[cfg(feature = "testing")]
    pub(crate) async fn prepare_only(&self, system: bool, sql: &'static str) -> Result<()> {
        let role = if system { Role::System } else { Role::App(lantern_types::DEV_TENANT) };
        let work: Work<()> = Box::new(move |tx| Box::pin(async move { tx.prepare(sql).await }));
        self.run(role, Mode::Read, work).await
    }
}

async fn paced(pace: Option<&Pace>, moment: Moment) -> Result<()> {
    match pace {
        Some(pace) => pace(moment).await,
        None => Ok(()),
    }
}

fn tenant_work<T: Send + 'static>(
    scope: Scope,
    f: impl for<'a> FnOnce(&'a mut TenantTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
) -> Work<T> {
    Box::new(move |tx: &mut Tx| {
        Box::pin(async move {
            let mut tx = TenantTx::new(tx, scope);
            f(&mut tx).await
        })
    })
}

fn system_work<T: Send + 'static>(
    f: impl for<'a> FnOnce(&'a mut SystemTx<'_>) -> BoxFuture<'a, Result<T>> + Send + 'static,
) -> Work<T> {
    Box::new(move |tx: &mut Tx| {
        Box::pin(async move {
            let mut tx = SystemTx::new(tx);
            f(&mut tx).await
        })
    })
}
