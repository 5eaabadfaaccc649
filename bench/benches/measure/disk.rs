//! What the disk and SQLite can do with nothing above them: the limits that our own figures stand beside.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, params};

/// Bytes of one bare append.
const APPEND: usize = 512;

/// The rows and groups that were reached, to be repeated bare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes of the envelopes in a row.
    pub(crate) bytes: usize,
    /// Bytes of the sealed body in a row.
    pub(crate) body: usize,
    /// Rows in a commit.
    pub(crate) group: usize,
}

/// Appends to one file and syncs after each append.
pub(crate) fn sync_appends(folder: &Path, count: u32) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(folder.join("appends"))?;
    for _ in 0..count {
        file.write_all(&[7; APPEND])?;
        file.sync_data()?;
    }
    Ok(())
}

/// A bare group-commit loop: a database of its own with the product's settings, one row a step, one commit a group.
pub(crate) struct Bare {
    conn: Connection,
    next: i64,
}

impl Bare {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let conn = Connection::open(folder.join("bare.db"))?;
        conn.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA cache_size = -16384;
             PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 16777216;
             CREATE TABLE steps (run BLOB NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, bytes BLOB NOT NULL,
                 body BLOB NOT NULL, chain BLOB NOT NULL);",
        )?;
        Ok(Self { conn, next: 0 })
    }

    /// Inserts `rows` rows.
    pub(crate) fn insert(&mut self, rows: usize, shape: Shape) -> Result<()> {
        let (bytes, body) = (vec![b'x'; shape.bytes], vec![b'y'; shape.body]);
        let mut left = rows;
        while left > 0 {
            let group = left.min(shape.group.max(1));
            self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let mut insert = self.conn.prepare_cached("INSERT INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for _ in 0..group {
                self.next += 1;
                insert.execute(params![[1_u8; 16], self.next, self.next, bytes, body, [2_u8; 32]])?;
            }
            drop(insert);
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            left -= group;
        }
        Ok(())
    }
}

/// What a closed data folder says about its journal: appends, and the mean bytes of envelopes and bodies.
pub(crate) fn journal_shape(database: &Path) -> Result<(u32, usize, usize)> {
    let sql = "SELECT count(*), coalesce(avg(length(bytes)), 0), coalesce(avg(length(body)), 0) FROM journal";
    let conn = Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, f64>(1)?, row.get::<_, f64>(2)?));
    let (appends, bytes, body) = conn.query_row(sql, [], read)?;
    Ok((appends, whole(bytes), whole(body)))
}

/// Commits to a database in WAL mode so far: the counter of changes in the header of its shared-memory file.
/// <https://www.sqlite.org/walformat.html#the_wal_index_header>
pub(crate) fn commits(database: &Path) -> Result<u32> {
    let header = std::fs::read(database.with_extension("db-shm"))?;
    let counter = header.get(8..12).and_then(|bytes| bytes.try_into().ok());
    Ok(u32::from_ne_bytes(counter.unwrap_or_default()))
}

/// A positive mean as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of lengths or of a group's rows"
)]
pub(crate) fn whole(mean: f64) -> usize {
    mean.round().max(0.0) as usize
}
