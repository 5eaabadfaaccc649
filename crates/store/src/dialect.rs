//! What the two databases spell differently: one type, and how work is claimed.
//!
//! Everything else is one text. A new difference needs a reason beside it.

use crate::db::SystemTx;
use crate::error::Result;
use crate::value::{Row, Value};

/// A migration's text with the byte-string type of one database.
pub(crate) fn migration(text: &str, postgres: bool) -> String {
    text.replace("BYTES", if postgres { "BYTEA" } else { "BLOB" })
}

/// SQLite has one writer: whoever claims is alone.
pub(crate) const CLAIM_SQLITE: &str = "UPDATE runs SET owner = $1, epoch = epoch + 1, wake_at = NULL
    WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM runs
        WHERE owner IS NULL AND wake_at <= $2 ORDER BY wake_at LIMIT $3)
    RETURNING tenant_id, id, epoch, version, chain, pokes";

/// On PostgreSQL several processes claim at once; each takes what the others have not locked.
pub(crate) const CLAIM_POSTGRES: &str = "UPDATE runs SET owner = $1, epoch = epoch + 1, wake_at = NULL
    WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM runs
        WHERE owner IS NULL AND wake_at <= $2 ORDER BY wake_at LIMIT $3 FOR UPDATE SKIP LOCKED)
    RETURNING tenant_id, id, epoch, version, chain, pokes";

/// Claims due runs: `params` are the process, the time and the most to take.
pub(crate) async fn claim(tx: &mut SystemTx<'_>, params: &[Value]) -> Result<Vec<Row>> {
    let sql = if tx.is_postgres() { CLAIM_POSTGRES } else { CLAIM_SQLITE };
    tx.all(sql, params).await
}
