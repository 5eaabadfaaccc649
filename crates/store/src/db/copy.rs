//! Copies of an embedded database, each whole and as of one moment, while others write to it.
//!
//! Invariant: the source is only read, in one snapshot. A copy is one file without a log beside it.

use std::fs;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{migrate, sqlite};
use crate::error::{Error, Result};
use crate::partial::Partial;

/// Opens a database file that is only looked at. Fails unless it is ours and no newer than this build.
pub(super) fn open(file: &Path) -> Result<(Connection, i64)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file, flags).map_err(sqlite::fault)?;
    sqlite::configure(&conn)?;
    migrate::check_sqlite(&conn)?;
    let schema = migrate::schema_of(&conn)?;
    Ok((conn, schema))
}

/// Copies the database of a data folder to a file, which must not be there yet. The folder may be in use.
pub(crate) fn of_folder(data_dir: &Path, to: &Path) -> Result<()> {
    let file = data_dir.join(sqlite::DATABASE);
    if !file.is_file() {
        return Err(Error::Backup(format!("there is no database in {}", data_dir.display())));
    }
    let (conn, schema) = open(&file)?;
    if schema == 0 {
        return Err(Error::Backup(format!("the database in {} was never begun", data_dir.display())));
    }
    copy(&conn, to)
}

/// Keeps a copy of a database that is about to be migrated, beside it and named by its schema, and of such copies the
/// newest `keep`.
pub(super) fn before_migration(conn: &Connection, file: &Path, keep: usize) -> Result<()> {
    let schema = migrate::schema_of(conn)?;
    if keep == 0 || schema == 0 || schema == migrate::known() {
        return Ok(());
    }
    let kept = file.with_file_name(name(schema));
    copy(conn, &kept)?;
    tracing::warn!(
        copy = %kept.display(), from = schema, to = migrate::known(),
        "the database is migrated; this copy is from before"
    );
    forget_old(file, keep)
}

fn name(schema: i64) -> String {
    format!("lantern-schema-{schema}.db")
}

/// The schema of a kept copy, by its name.
fn named(name: &str) -> Option<i64> {
    name.strip_prefix("lantern-schema-")?.strip_suffix(".db")?.parse().ok()
}

fn forget_old(file: &Path, keep: usize) -> Result<()> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let doing = |e| Error::file(format!("look into {}", folder.display()), e);
    let names = fs::read_dir(folder).map_err(doing)?.flatten().map(|entry| entry.file_name());
    let mut schemas: Vec<i64> = names.filter_map(|name| named(name.to_str()?)).collect();
    schemas.sort_unstable_by(|a, b| b.cmp(a));
    for schema in schemas.into_iter().skip(keep) {
        let old = folder.join(name(schema));
        fs::remove_file(&old).map_err(|e| Error::file(format!("remove {}", old.display()), e))?;
    }
    Ok(())
}

fn copy(from: &Connection, to: &Path) -> Result<()> {
    let (partial, _file) = Partial::beside(to)?;
    let mut target = Connection::open(partial.path()).map_err(sqlite::fault)?;
    // All pages in one step: in several, a source that others write to would be begun anew each time.
    let done = Backup::new(from, &mut target).and_then(|backup| backup.step(-1)).map_err(sqlite::fault)?;
    if done != StepResult::Done {
        return Err(Error::unavailable("the database is busy"));
    }
    // As it was copied it wants a log beside it.
    target.execute_batch("PRAGMA journal_mode = DELETE").map_err(sqlite::fault)?;
    target.close().map_err(|(_, error)| sqlite::fault(error))?;
    partial.keep()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_known_by_its_name() {
        assert_eq!(named(&name(11)), Some(11));
        for other in
            ["lantern.db", "lantern-schema-.db", "lantern-schema-11.db.7.part", "lantern-schema-x.db"]
        {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
