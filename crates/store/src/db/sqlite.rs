//! SQLite below the facade: opening a data folder, running a statement, and the two ways to run a transaction.
//!
//! Invariant: one connection writes (the writer's, or the one inline); readers are opened read-only and see snapshots.
//! WAL with `synchronous=FULL`: what has been answered survives a power cut, but for what says that it need not. The
//! folder's lock file is held from before the database is touched until after the last commit.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lantern_types::TenantId;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tx::{Batch, Conn, Expect, Tx, Work};
use super::writer::{Flush, Writer, poll_once};
use super::{Mode, SqliteOptions, copy, migrate, wal};
use crate::error::{Error, Result};
use crate::notify::{Hint, Hub};
use crate::value::{Row, Value};

/// How large the write-ahead log is kept; with the pages after which it is folded in, it rarely grows beyond this.
const LOG_BYTES: u64 = 16 << 20;
/// The database's name inside the data folder.
pub(super) const DATABASE: &str = "lantern.db";
/// More than every statement of the product; a statement is then prepared once for each connection.
const STATEMENTS_CACHED: usize = 256;

/// A data folder: a writer thread and a few readers.
pub(super) struct Files {
    readers: Arc<Mutex<Vec<Tx>>>,
    permits: Arc<Semaphore>,
    // Last, because fields close in this order and only a connection that writes can fold the WAL in at the end.
    writer: Writer,
}

impl Files {
    pub(super) fn open(dir: &Path, options: &SqliteOptions, hub: Hub) -> Result<Self> {
        // For its owner alone: what is not sealed (names, addresses, hashes) is nobody else's business.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| Error::file(format!("create {}", dir.display()), e))?;
        let lock = lock(&dir.join("lock"))?;
        let path = dir.join(DATABASE);
        // SQLite gives its log the same mode as the database.
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        made.map_err(|e| Error::file(format!("open {}", path.display()), e))?;
        wal::check(&path.with_extension("db-wal"))?;
        let mut writer = Connection::open(&path).map_err(fault)?;
        fold_at_close(&writer, false)?;
        prepare_writer(&mut writer, &path, options)?;
        reserve_log(&path.with_extension("db-wal"))?;
        let readers = (0..options.readers.max(1)).map(|_| open_reader(&path)).collect::<Result<Vec<_>>>()?;
        fold_at_close(&writer, true)?;
        Ok(Self {
            permits: Arc::new(Semaphore::new(readers.len())),
            readers: Arc::new(Mutex::new(readers)),
            writer: Writer::start(writer, hub, lock)?,
        })
    }

    /// Opens the database of a folder that a server may have in use, for a short change: without its lock, and as it is.
    pub(super) fn open_beside(dir: &Path, hub: Hub) -> Result<Self> {
        let path = dir.join(DATABASE);
        let writer = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fault)?;
        fold_at_close(&writer, false)?;
        configure(&writer)?;
        migrate::check_sqlite(&writer)?;
        let (found, known) = (migrate::schema_of(&writer)?, migrate::known());
        if found != known {
            return Err(Error::TooOld { found, known });
        }
        writer.execute_batch("PRAGMA synchronous = FULL").map_err(fault)?;
        let readers = vec![open_reader(&path)?];
        Ok(Self {
            permits: Arc::new(Semaphore::new(readers.len())),
            readers: Arc::new(Mutex::new(readers)),
            writer: Writer::start(writer, hub, ())?,
        })
    }

    pub(super) async fn write<T: Send + 'static>(&self, work: Work<T>) -> Result<T> {
        self.writer.write(work, Flush::Now).await
    }

    pub(super) async fn write_lazy<T: Send + 'static>(&self, work: Work<T>) -> Result<T> {
        self.writer.write(work, Flush::Later).await
    }

    pub(super) async fn submit(&self, tenant: TenantId, batch: Arc<Batch>) -> Result<Vec<u64>> {
        self.writer.submit(tenant, batch).await
    }

    /// A read on the caller's thread, unless every reader is at work on other threads.
    pub(super) async fn glance<T: Send + 'static>(&self, work: Work<T>) -> Result<(T, Vec<Hint>)> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => with_reader(&self.readers, permit, work),
            Err(_) => self.read(work).await,
        }
    }

    pub(super) async fn read<T: Send + 'static>(&self, work: Work<T>) -> Result<(T, Vec<Hint>)> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(Error::internal)?;
        let idle = Arc::clone(&self.readers);
        // The permit goes along, for the future may be dropped while its reader is still at work.
        blocking(move || with_reader(&idle, permit, work)).await
    }
}

/// Runs a read with one of the readers that are idle; its permit says that there is one.
fn with_reader<T>(
    idle: &Mutex<Vec<Tx>>,
    permit: OwnedSemaphorePermit,
    work: Work<T>,
) -> Result<(T, Vec<Hint>)> {
    let reader = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut tx = reader.ok_or_else(|| Error::internal("a reader is missing"))?;
    let answer = snapshot(&mut tx, work);
    idle.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
    drop(permit);
    answer
}

/// Makes the database file of a folder with the schema of an earlier build, and runs SQL of a test's own making in it.
#[cfg(feature = "testing")]
pub(crate) fn file_to(dir: &Path, last: i64, sql: &str) -> Result<()> {
    let mut conn = Connection::open(dir.join(DATABASE)).map_err(fault)?;
    configure(&conn)?;
    if last > 0 {
        migrate::sqlite_to(&mut conn, last, lantern_types::At::from_micros(0))?;
    }
    conn.execute_batch(sql).map_err(fault)
}

/// A database in memory, used on the caller's thread.
pub(super) struct Inline {
    // Held for one transaction, which cannot wait; so never across an await.
    tx: Mutex<Tx>,
}

impl Inline {
    pub(super) fn open() -> Result<Self> {
        let mut conn = Connection::open_in_memory().map_err(fault)?;
        configure(&conn)?;
        migrate::sqlite(&mut conn, lantern_types::At::from_micros(0))?;
        Ok(Self { tx: Mutex::new(Tx::new(Conn::Sqlite(conn))) })
    }

    pub(super) fn run<T>(&self, mode: Mode, work: Work<T>) -> Result<(T, Vec<Hint>)> {
        let mut tx = self.tx.lock().unwrap_or_else(PoisonError::into_inner);
        match mode {
            Mode::Read | Mode::Glance => snapshot(&mut tx, work),
            Mode::Write => {
                say(&tx, "BEGIN IMMEDIATE")?;
                let answer = poll_once(&mut tx, work);
                say(&tx, if answer.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
                answer
            }
        }
    }

    pub(super) fn submit(&self, tenant: TenantId, batch: &Batch) -> Result<Vec<u64>> {
        let tx = self.tx.lock().unwrap_or_else(PoisonError::into_inner);
        say(&tx, "BEGIN IMMEDIATE")?;
        let answer = run_batch(&tx, &tenant.into(), batch);
        say(&tx, if answer.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        answer.map_err(|refused| refused.error)
    }
}

/// Why a batch failed, and whether it had changed anything by then.
pub(super) struct Refused {
    pub(super) error: Error,
    pub(super) wrote: bool,
}

/// Runs a batch inside a transaction that is open. When it is refused, its caller undoes what it wrote.
pub(super) fn run_batch(tx: &Tx, tenant: &Value, batch: &Batch) -> Result<Vec<u64>, Refused> {
    let Conn::Sqlite(conn) = &tx.conn else {
        return Err(Refused { error: Error::internal("a foreign connection"), wrote: false });
    };
    let mut counts = Vec::with_capacity(batch.steps.len());
    for step in &batch.steps {
        let wrote = counts.iter().any(|count| *count > 0);
        // A statement that fails undoes itself.
        let count =
            execute(conn, step.sql, Some(tenant), &step.params).map_err(|error| Refused { error, wrote })?;
        if matches!(step.expect, Expect::Rows(n) if n != count) {
            return Err(Refused { error: Error::Conflict, wrote: wrote || count > 0 });
        }
        counts.push(count);
    }
    Ok(counts)
}

/// Runs a closure on Tokio's blocking threads.
pub(super) async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(Error::internal)?
}

fn snapshot<T>(tx: &mut Tx, work: Work<T>) -> Result<(T, Vec<Hint>)> {
    control(tx, "BEGIN")?;
    let answer = poll_once(tx, work);
    control(tx, "ROLLBACK")?;
    answer
}

/// Begins or ends a transaction; the statement is prepared once for each connection.
pub(super) fn control(tx: &Tx, sql: &'static str) -> Result<()> {
    match &tx.conn {
        Conn::Sqlite(conn) => execute(conn, sql, None, &[]).map(drop),
        Conn::Postgres(_) => Err(Error::internal("a foreign connection")),
    }
}

/// Runs a text that answers nothing, as it stands.
pub(super) fn say(tx: &Tx, sql: &str) -> Result<()> {
    match &tx.conn {
        Conn::Sqlite(conn) => conn.execute_batch(sql).map_err(fault),
        Conn::Postgres(_) => Err(Error::internal("a foreign connection")),
    }
}

fn prepare_writer(conn: &mut Connection, path: &Path, options: &SqliteOptions) -> Result<()> {
    configure(conn)?;
    migrate::check_sqlite(conn)?;
    copy::before_migration(conn, path, options.copies)?;
    conn.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 16777216;",
    )
    .map_err(fault)?;
    migrate::sqlite(conn, options.now)?;
    if let Some(pages) = options.pages_max {
        conn.pragma_update(None, "max_page_count", pages).map_err(fault)?;
    }
    Ok(())
}

/// Writes the log's file out to its full size, so that a commit overwrites blocks which the file has already: a sync
/// then waits for the data alone, and not also for the file system's own journal. What follows the log's last frame is
/// ignored by SQLite, whatever it is (<https://www.sqlite.org/walformat.html>). It spares time and nothing else: on a
/// disk that has no room the database opens all the same, and the room is given back.
fn reserve_log(path: &Path) -> Result<()> {
    let doing = || format!("reserve the log {}", path.display());
    let mut file = OpenOptions::new().write(true).open(path).map_err(|e| Error::file(doing(), e))?;
    let before = file.seek(SeekFrom::End(0)).map_err(|e| Error::file(doing(), e))?;
    let zeros = vec![0; usize::try_from(LOG_BYTES.saturating_sub(before)).unwrap_or_default()];
    if let Err(error) = file.write_all(&zeros).and_then(|()| file.sync_all()) {
        tracing::warn!(%error, "there is no room to reserve the log; commits will be slower");
        file.set_len(before).map_err(|e| Error::file(doing(), e))?;
    }
    Ok(())
}

/// Whether the last connection folds the log into the database and removes it. Not while nobody knows whether that database is in
/// order: what is only in the log would be gone with it, whatever is put in its place.
fn fold_at_close(conn: &Connection, fold: bool) -> Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !fold).map(drop).map_err(fault)
}

pub(super) fn configure(conn: &Connection) -> Result<()> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // A plan does not depend on the values bound to it. Without this SQLite prepares a statement with `LIMIT $4` anew
    // whenever another value is bound, which is an eighth of what a run costs.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(fault)?;
    conn.execute_batch(
        "PRAGMA busy_timeout = 5000;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;",
    )
    .map_err(fault)
}

fn open_reader(path: &Path) -> Result<Tx> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(fault)?;
    configure(&conn)?;
    conn.execute_batch("PRAGMA cache_size = -2048").map_err(fault)?;
    Ok(Tx::new(Conn::Sqlite(conn)))
}

/// Takes the folder's lock and writes our process id into it, for whoever is refused.
fn lock(path: &Path) -> Result<File> {
    let doing = || format!("lock {}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::file(doing(), e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(Error::Locked { holder });
        }
        Err(TryLockError::Error(e)) => return Err(Error::file(doing(), e)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|e| Error::file(doing(), e))?;
    Ok(file)
}

/// Every row of a statement. `tenant`, when there is one, is `$1` and `params` start at `$2`.
pub(super) fn query(
    conn: &Connection,
    sql: &str,
    tenant: Option<&Value>,
    params: &[Value],
) -> Result<Vec<Row>> {
    let mut statement = conn.prepare_cached(sql).map_err(fault)?;
    let names: Arc<[String]> = statement.column_names().map(str::to_owned).collect();
    bind(&mut statement, tenant, params)?;
    let mut rows = statement.raw_query();
    let mut out = Vec::new();
    while let Some(row) = rows.next().map_err(fault)? {
        let read = |column| row.get_ref(column).map_err(fault).and_then(value);
        let values = (0..names.len()).map(read).collect::<Result<Vec<_>>>()?;
        out.push(Row::new(Arc::clone(&names), values));
    }
    Ok(out)
}

/// How many rows a statement changed.
pub(super) fn execute(conn: &Connection, sql: &str, tenant: Option<&Value>, params: &[Value]) -> Result<u64> {
    let mut statement = conn.prepare_cached(sql).map_err(fault)?;
    bind(&mut statement, tenant, params)?;
    statement.raw_execute().map(|count| count as u64).map_err(fault)
}

#[cfg(feature = "testing")]
pub(super) fn prepare(conn: &Connection, sql: &str) -> Result<()> {
    conn.prepare(sql).map(drop).map_err(fault)
}

/// SQLite numbers `$3` by first appearance, not by its digits; so each is bound by its name.
fn bind(statement: &mut CachedStatement<'_>, tenant: Option<&Value>, params: &[Value]) -> Result<()> {
    for position in 1..=statement.parameter_count() {
        let name = statement.parameter_name(position).unwrap_or_default();
        let number = name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        let value = match (number, tenant) {
            (Some(1), Some(tenant)) => Some(tenant),
            (Some(number), Some(_)) => number.checked_sub(2).and_then(|index| params.get(index)),
            (Some(number), None) => number.checked_sub(1).and_then(|index| params.get(index)),
            (None, _) => None,
        };
        let value =
            value.ok_or_else(|| Error::Misuse(format!("nothing was given for parameter {name:?}")))?;
        if matches!(value, Value::Text(text) if text.contains('\0')) {
            // PostgreSQL refuses it; what one database takes, the other must.
            return Err(Error::Misuse("a text holds a zero character".to_owned()));
        }
        statement.raw_bind_parameter(position, value).map_err(fault)?;
    }
    Ok(())
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(int) => ValueRef::Integer(*int),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Id(id) => ValueRef::Blob(id),
            Self::Digest(digest) => ValueRef::Blob(digest),
        }))
    }
}

fn value(stored: ValueRef<'_>) -> Result<Value> {
    Ok(match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Text(text) => {
            Value::Text(str::from_utf8(text).map_err(|e| Error::Corrupt(e.into()))?.to_owned())
        }
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(Error::Misuse("the schema has no floating numbers".to_owned())),
    })
}

/// What a driver's error means to a caller.
pub(super) fn fault(error: rusqlite::Error) -> Error {
    use rusqlite::ffi;
    let rusqlite::Error::SqliteFailure(failure, _) = &error else {
        return Error::Internal(error.into());
    };
    match (failure.code, failure.extended_code) {
        (ErrorCode::ConstraintViolation, ffi::SQLITE_CONSTRAINT_CHECK | ffi::SQLITE_CONSTRAINT_NOTNULL) => {
            Error::Misuse(error.to_string())
        }
        (ErrorCode::ConstraintViolation, _) => Error::Conflict,
        // What the log is found by is mapped, and cannot grow on a full disk.
        (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => Error::Full,
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => Error::Corrupt(error.into()),
        (
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied,
            _,
        ) => Error::Unavailable(error.into()),
        _ => Error::Internal(error.into()),
    }
}
