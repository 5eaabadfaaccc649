//! Proves what a database file holds: whole pages, a schema that this build knows, and for every run a journal whose
//! chain ends where the run's row says.
//!
//! Reads only, needs no key, and holds one append in memory at a time.

use std::path::Path;

use lantern_types::{At, ChainHead, Digest, RunId, TenantId};
use rusqlite::types::FromSql;
use rusqlite::{Connection, Row, Statement};

use super::copy;
use super::sqlite::fault;
use crate::error::{Error, Result};
use crate::journal::Stored;
use crate::{blob, record};

/// What was found in a file that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The number of its last migration.
    pub(crate) schema: i64,
    /// How many runs there are.
    pub(crate) runs: i64,
    /// How many appends their journals have together.
    pub(crate) appends: i64,
}

const RUNS: &str = "SELECT tenant_id, id, version, chain FROM runs ORDER BY tenant_id, id";
const JOURNAL: &str = "SELECT first_seq, n, at, format, bytes, body, chain FROM journal
    WHERE tenant_id = ?1 AND run_id = ?2 ORDER BY first_seq";
const APPENDS: &str = "SELECT count(*) FROM journal";

/// Examines a database file that nobody writes to; `blob` is told of every blob that a journal names.
pub(crate) fn examine(file: &Path, blob: &mut dyn FnMut(TenantId, Digest) -> Result<()>) -> Result<Contents> {
    let (conn, schema) = copy::open(file)?;
    let said: String = one(&conn, "PRAGMA integrity_check(1)")?;
    if said != "ok" {
        return Err(damaged(format!("the database is damaged: {said}")));
    }
    let mut contents = Contents { schema, runs: 0, appends: 0 };
    let mut journal = conn.prepare(JOURNAL).map_err(fault)?;
    let mut runs = conn.prepare(RUNS).map_err(fault)?;
    let mut rows = runs.query([]).map_err(fault)?;
    while let Some(row) = rows.next().map_err(fault)? {
        contents.runs += 1;
        contents.appends += follow(&mut journal, &Head::read(row)?, blob)?;
    }
    let all: i64 = one(&conn, APPENDS)?;
    if all != contents.appends {
        return Err(damaged(format!("{} appends belong to no run", all - contents.appends)));
    }
    Ok(contents)
}

/// A run's row, as far as its journal must bear it out.
struct Head {
    tenant: TenantId,
    run: RunId,
    version: i64,
    chain: ChainHead,
}

impl Head {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            tenant: TenantId::from_bytes(&bytes(row, 0)?).ok_or_else(|| damaged("a run has no tenant"))?,
            run: RunId::from_bytes(&bytes(row, 1)?).ok_or_else(|| damaged("a run has no id"))?,
            version: get(row, 2)?,
            chain: chain(row, 3)?,
        })
    }
}

/// Follows a run's chain from its beginning to the head that its row has, and answers how many appends there are.
fn follow(
    journal: &mut Statement<'_>,
    head: &Head,
    blob: &mut dyn FnMut(TenantId, Digest) -> Result<()>,
) -> Result<i64> {
    let broken = |why: &str| damaged(format!("the journal of the run {} {why}", head.run));
    let (mut chain, mut next, mut appends) = (ChainHead::genesis(), 1, 0);
    let mut rows = journal.query([head.tenant.bytes(), head.run.bytes()]).map_err(fault)?;
    while let Some(row) = rows.next().map_err(fault)? {
        let stored = stored(row)?;
        if stored.first_seq != next {
            return Err(broken(&format!("has no event {next}")));
        }
        chain = record::verify(chain, &stored)
            .map_err(|_| broken(&format!("breaks its chain at event {next}")))?;
        if let Some(named) = stored.body.as_deref().and_then(blob::named) {
            blob(head.tenant, named)?;
        }
        next = next.saturating_add(stored.n);
        appends += 1;
    }
    if next.saturating_sub(1) == head.version && chain == head.chain {
        return Ok(appends);
    }
    Err(broken(&format!("ends at event {} and its row at {}", next.saturating_sub(1), head.version)))
}

fn stored(row: &Row<'_>) -> Result<Stored> {
    Ok(Stored {
        first_seq: get(row, 0)?,
        n: get(row, 1)?,
        at: At::from_micros(get(row, 2)?),
        format: get(row, 3)?,
        bytes: get(row, 4)?,
        body: get(row, 5)?,
        chain: chain(row, 6)?,
    })
}

fn chain(row: &Row<'_>, column: usize) -> Result<ChainHead> {
    let digest = Digest::from_bytes(&bytes(row, column)?);
    digest.map(ChainHead).ok_or_else(|| damaged("a chain has no head"))
}

fn bytes(row: &Row<'_>, column: usize) -> Result<Vec<u8>> {
    get(row, column)
}

/// A value of another type than we write is damage too.
fn get<T: FromSql>(row: &Row<'_>, column: usize) -> Result<T> {
    row.get(column).map_err(|error| Error::Corrupt(error.into()))
}

fn one<T: FromSql>(conn: &Connection, sql: &str) -> Result<T> {
    conn.query_row(sql, [], |row| row.get(0)).map_err(fault)
}

fn damaged(what: impl Into<String>) -> Error {
    Error::Corrupt(what.into().into())
}
