//! Recognises a database of the Lantern before this one, whose tables have our names and mean other things.
//!
//! Asks before anything is written. Two of its three marks are enough: one alone could be anybody's.

use rusqlite::Connection;
use tokio_postgres::Client;

use super::{postgres, sqlite};
use crate::error::{Error, Result};

const SQLITE: &str = "SELECT (SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'run_locks')
    + (SELECT count(*) FROM pragma_table_info('runs') WHERE name = 'trigger_meta')
    + (SELECT count(*) FROM pragma_table_info('agents') WHERE name = 'workflow')";
// Not from information_schema, which shows a role only what it may touch.
const POSTGRES: &str = "SELECT (SELECT count(*) FROM pg_class WHERE oid = to_regclass('run_locks'))
    + (SELECT count(*) FROM pg_attribute WHERE NOT attisdropped
        AND (attrelid = to_regclass('runs') AND attname = 'trigger_meta'
            OR attrelid = to_regclass('agents') AND attname = 'workflow'))";

/// Whether the file is one of the earlier Lantern's.
pub(super) fn is_sqlite(conn: &Connection) -> Result<bool> {
    let marks = conn.query_row(SQLITE, [], |row| row.get::<_, i64>(0)).map_err(sqlite::fault)?;
    Ok(marks >= 2)
}

/// `Earlier` when the database is one of the earlier Lantern's.
pub(super) async fn refuse_postgres(client: &Client) -> Result<()> {
    let row = client.query_one(POSTGRES, &[]).await.map_err(postgres::fault)?;
    let marks = row.try_get::<_, i64>(0).map_err(postgres::fault)?;
    if marks >= 2 { Err(Error::Earlier) } else { Ok(()) }
}
