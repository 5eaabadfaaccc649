//! What the two databases do differently: one type, how work is claimed and counted, what a claim brings along, how rows of the outbox
//! are taken and given back, what is locked at once, and how an append is said.
//!
//! Everything else is one text. A new difference needs a reason beside it.

use lantern_types::{RunId, TenantId};

use crate::db::{SystemTx, TenantTx};
use crate::error::Result;
use crate::journal::{self, Stored};
use crate::value::{Row, Value};

/// A migration's text with the byte-string type of one database.
pub(crate) fn migration(text: &str, postgres: bool) -> String {
    text.replace("BYTES", if postgres { "BYTEA" } else { "BLOB" })
}

/// SQLite has one writer: whoever claims is alone.
pub(crate) const CLAIM_SQLITE: &str = "UPDATE runs SET owner = $1, epoch = epoch + 1, wake_at = NULL
    WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM runs
        WHERE owner IS NULL AND wake_at <= $2 AND format <= $4 AND (parked_by IS NULL OR parked_by <> $5)
        ORDER BY wake_at LIMIT $3)
    RETURNING tenant_id, id, epoch, version, chain, pokes, parked_reason";

/// On PostgreSQL several processes claim at once; each takes what the others have not locked.
pub(crate) const CLAIM_POSTGRES: &str = "UPDATE runs SET owner = $1, epoch = epoch + 1, wake_at = NULL
    WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM runs
        WHERE owner IS NULL AND wake_at <= $2 AND format <= $4 AND (parked_by IS NULL OR parked_by <> $5)
        ORDER BY wake_at LIMIT $3 FOR UPDATE SKIP LOCKED)
    RETURNING tenant_id, id, epoch, version, chain, pokes, parked_reason";

/// The same for the runs of one tenant and priority.
pub(crate) const CLAIM_OF_SQLITE: &str = "UPDATE runs SET owner = $1, epoch = epoch + 1, wake_at = NULL
    WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM runs
        WHERE owner IS NULL AND tenant_id = $6 AND priority = $7 AND wake_at <= $2 AND format <= $4
        AND (parked_by IS NULL OR parked_by <> $5)
        ORDER BY wake_at LIMIT $3)
    RETURNING tenant_id, id, epoch, version, chain, pokes, parked_reason";

/// The same on PostgreSQL.
pub(crate) const CLAIM_OF_POSTGRES: &str = "UPDATE runs SET owner = $1, epoch = epoch + 1, wake_at = NULL
    WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM runs
        WHERE owner IS NULL AND tenant_id = $6 AND priority = $7 AND wake_at <= $2 AND format <= $4
        AND (parked_by IS NULL OR parked_by <> $5)
        ORDER BY wake_at LIMIT $3 FOR UPDATE SKIP LOCKED)
    RETURNING tenant_id, id, epoch, version, chain, pokes, parked_reason";

/// Whether this process is the one that claims by count, until its transaction has ended. Two that count at once would both
/// find room for the same run. Nobody waits.
pub(crate) const ALONE_POSTGRES: &str =
    "SELECT CAST(CASE WHEN pg_try_advisory_xact_lock(1282307183) THEN 1 ELSE 0 END AS BIGINT) AS alone";

/// Takes due rows of one tenant and kind. SQLite has one writer: whoever takes is alone.
pub(crate) const TAKE_SQLITE: &str = "UPDATE outbox SET attempts = attempts + 1,
    due_at = $3 + $4 * CASE WHEN attempts < 20 THEN attempts + 1 ELSE 20 END, taker = $6
    WHERE tenant_id = $1 AND id IN (SELECT id FROM outbox
        WHERE tenant_id = $1 AND kind = $2 AND due_at <= $3 ORDER BY due_at LIMIT $5)
    RETURNING tenant_id, id, run_id, key, payload, attempts - 1 AS attempts";

/// On PostgreSQL several processes take at once; each takes what the others have not locked. What they take is chosen
/// apart, because a part of a join may be chosen more than once.
pub(crate) const TAKE_POSTGRES: &str = "WITH due AS (SELECT id FROM outbox
        WHERE tenant_id = $1 AND kind = $2 AND due_at <= $3 ORDER BY due_at LIMIT $5 FOR UPDATE SKIP LOCKED)
    UPDATE outbox o SET attempts = o.attempts + 1,
    due_at = $3 + $4 * CASE WHEN o.attempts < 20 THEN o.attempts + 1 ELSE 20 END, taker = $6
    FROM due WHERE o.tenant_id = $1 AND o.id = due.id
    RETURNING o.tenant_id, o.id, o.run_id, o.key, o.payload, o.attempts - 1 AS attempts";

/// Makes what a process took, and will not deliver, due.
pub(crate) const GIVE_BACK_SQLITE: &str = "UPDATE outbox SET due_at = $2, taker = NULL
    WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM outbox WHERE taker = $1)";

/// On PostgreSQL a row that somebody has locked is being delivered, or is taken anew: it is not waited for, because whoever
/// gives back holds runs that a delivery may want.
pub(crate) const GIVE_BACK_POSTGRES: &str = "WITH left_behind AS (SELECT tenant_id, id FROM outbox
        WHERE taker = $1 FOR UPDATE SKIP LOCKED)
    UPDATE outbox o SET due_at = $2, taker = NULL FROM left_behind l
    WHERE o.tenant_id = l.tenant_id AND o.id = l.id";

/// Locks a run, if that can be done at once. SQLite has one writer, who is alone.
pub(crate) const LOCK_POSTGRES: &str =
    "SELECT 1 AS locked FROM runs WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE SKIP LOCKED";

/// The journal of a run that is claimed for the first time: usually the one append that started it.
pub(crate) const JOURNAL_OF_NEW: &str = "SELECT first_seq, n, at, format, bytes, body, chain FROM journal
    WHERE tenant_id = $1 AND run_id = $2 ORDER BY first_seq LIMIT 2";

/// The guard of an append, the parameters $2 to $13, and on what else it depends.
macro_rules! held {
    ($($and:literal)?) => {
        concat!(
            "WITH held AS (UPDATE runs SET version = $5, chain = $6, status = $7, spent = $8, held = $9, tokens_in = $10,
            tokens_out = $11, started_at = $12, error_code = $13
            WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND finished_at IS NULL",
            $($and,)?
            " RETURNING id)"
        )
    };
}

/// The same, where no emergency stop holds for the run.
macro_rules! held_heeding {
    () => {
        held!(
            " AND NOT EXISTS (SELECT 1 FROM server_stops WHERE lifted_at IS NULL)
            AND NOT EXISTS (SELECT 1 FROM stops s WHERE s.tenant_id = $1 AND s.lifted_at IS NULL
                AND (s.agent_name IS NULL OR s.agent_name = runs.agent_name) FOR KEY SHARE)"
        )
    };
}

/// That of the last append, $2 to $14, and the inbox that nobody reads any more, $23.
macro_rules! held_last {
    () => {
        "WITH held AS (UPDATE runs SET version = $5, chain = $6, status = $7, spent = $8, held = $9, tokens_in = $10,
        tokens_out = $11, started_at = $12, finished_at = $13, error_code = $14, outcome = $7, owner = NULL, wake_at = NULL
        WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND finished_at IS NULL RETURNING id),
        emptied AS (DELETE FROM inbox WHERE tenant_id = $1 AND run_id IN (SELECT id FROM held) AND run_id = $23)"
    };
}

/// What an append uses: the parameters after all others.
macro_rules! used {
    ($params:literal) => {
        concat!(
            ", used AS (INSERT INTO usage_pending (tenant_id, run_id, seq, at, used) SELECT $1, ",
            $params,
            " FROM held)"
        )
    };
}

/// The row of an append, whose parameters come after those of the guard.
macro_rules! row {
    ($params:literal) => {
        concat!(
            " INSERT INTO journal (tenant_id, run_id, first_seq, n, at, format, bytes, body, chain) SELECT $1, ",
            $params,
            " FROM held"
        )
    };
}

/// An append that only adds: its guard and its row. One statement, because on PostgreSQL each costs a message and an
/// answer; on SQLite two plain ones are quicker, and a statement changes one table alone.
pub(crate) const APPEND_POSTGRES: &str = concat!(held!(), row!("$14, $15, $16, $17, $18, $19, $20, $21"));

/// The same of one that used something.
pub(crate) const APPEND_USING_POSTGRES: &str =
    concat!(held!(), used!("$22, $23, $24, $25"), row!("$14, $15, $16, $17, $18, $19, $20, $21"));

/// The last one: the run is nobody's any more, and nobody reads what lies in its inbox.
pub(crate) const APPEND_LAST_POSTGRES: &str =
    concat!(held_last!(), row!("$15, $16, $17, $18, $19, $20, $21, $22"));

/// The same of one that used something.
pub(crate) const APPEND_LAST_USING_POSTGRES: &str =
    concat!(held_last!(), used!("$24, $25, $26, $27"), row!("$15, $16, $17, $18, $19, $20, $21, $22"));

/// One statement, as each database is told it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Either {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// The guard of an append that admits what an emergency stop halts. On PostgreSQL a statement sees what was committed
/// before it began; so it locks its way into the table of stops, whether there are any or not, until its transaction has
/// ended, and who sets one waits for it ([`FENCE`]). Readers and dumps of that table wait for nobody.
pub(crate) const GUARD_HEEDING: Either = Either {
    sqlite: "UPDATE runs SET version = $5, chain = $6, status = $7, spent = $8, held = $9, tokens_in = $10,
        tokens_out = $11, started_at = $12, error_code = $13
        WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND finished_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM server_stops WHERE lifted_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM stops s WHERE s.tenant_id = $1 AND s.lifted_at IS NULL
            AND (s.agent_name IS NULL OR s.agent_name = runs.agent_name))",
    postgres: "UPDATE runs SET version = $5, chain = $6, status = $7, spent = $8, held = $9, tokens_in = $10,
        tokens_out = $11, started_at = $12, error_code = $13
        WHERE tenant_id = $1 AND id = $2 AND epoch = $3 AND version = $4 AND finished_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM server_stops WHERE lifted_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM stops s WHERE s.tenant_id = $1 AND s.lifted_at IS NULL
            AND (s.agent_name IS NULL OR s.agent_name = runs.agent_name) FOR KEY SHARE)",
};

/// The same with the append's row, as one statement.
pub(crate) const APPEND_HEEDING_POSTGRES: &str =
    concat!(held_heeding!(), row!("$14, $15, $16, $17, $18, $19, $20, $21"));

/// The same of one that used something.
pub(crate) const APPEND_HEEDING_USING_POSTGRES: &str =
    concat!(held_heeding!(), used!("$22, $23, $24, $25"), row!("$14, $15, $16, $17, $18, $19, $20, $21"));

/// Notes which stop halts a run, while that one holds. On PostgreSQL it locks its way in too, so that who lifts the stop
/// finds the run.
pub(crate) const HALT: Either = Either {
    sqlite: "UPDATE runs SET stop_id = $3 WHERE tenant_id = $1 AND id = $2
        AND (EXISTS (SELECT 1 FROM server_stops WHERE id = $3 AND lifted_at IS NULL)
        OR EXISTS (SELECT 1 FROM stops s WHERE s.tenant_id = $1 AND s.id = $3 AND s.lifted_at IS NULL))",
    postgres: "UPDATE runs SET stop_id = $3 WHERE tenant_id = $1 AND id = $2
        AND (EXISTS (SELECT 1 FROM server_stops WHERE id = $3 AND lifted_at IS NULL)
        OR EXISTS (SELECT 1 FROM stops s WHERE s.tenant_id = $1 AND s.id = $3 AND s.lifted_at IS NULL FOR KEY SHARE))",
};

/// Waits for the appends that looked for stops, and keeps others from looking until the transaction has ended.
pub(crate) const FENCE: &str = "LOCK TABLE stops IN EXCLUSIVE MODE";

/// Brings the journal of a new run along with its claim, when that is one append: it was written a moment ago and lies
/// in the writer's cache. PostgreSQL's system role sees no journal; there the driver reads it as its tenant.
pub(crate) async fn journal_of_new(tx: &mut SystemTx<'_>, run: &Row) -> Result<Option<Stored>> {
    if tx.is_postgres() || run.int("epoch")? > 1 {
        return Ok(None);
    }
    let (tenant, id): (TenantId, RunId) = (run.id("tenant_id")?, run.id("id")?);
    let mut rows = tx.all(JOURNAL_OF_NEW, &[tenant.into(), id.into()]).await?;
    let first = rows.pop().filter(|_| rows.is_empty());
    first.map(journal::stored).transpose()
}

/// Claims due runs: `params` are the process, the time, the most to take, and the format and name of the build.
pub(crate) async fn claim(tx: &mut SystemTx<'_>, params: &[Value]) -> Result<Vec<Row>> {
    let sql = if tx.is_postgres() { CLAIM_POSTGRES } else { CLAIM_SQLITE };
    tx.all(sql, params).await
}

/// Claims due runs of one tenant and priority, which follow the other parameters.
pub(crate) async fn claim_of(tx: &mut SystemTx<'_>, params: &[Value]) -> Result<Vec<Row>> {
    let sql = if tx.is_postgres() { CLAIM_OF_POSTGRES } else { CLAIM_OF_SQLITE };
    tx.all(sql, params).await
}

/// Whether nobody else claims by count now. SQLite has one writer.
pub(crate) async fn alone(tx: &mut SystemTx<'_>) -> Result<bool> {
    if !tx.is_postgres() {
        return Ok(true);
    }
    Ok(tx.one(ALONE_POSTGRES, &[]).await?.map_or(Ok(0), |row| row.int("alone"))? == 1)
}

/// Takes due rows of the outbox: `params` are the tenant, the kind, the time, after how long each is due again for each
/// time that it was taken, the most to take, and who takes them.
pub(crate) async fn take(tx: &mut SystemTx<'_>, params: &[Value]) -> Result<Vec<Row>> {
    let sql = if tx.is_postgres() { TAKE_POSTGRES } else { TAKE_SQLITE };
    tx.all(sql, params).await
}

/// Makes the rows of the outbox due that a process took: `params` are the process and the time.
pub(crate) async fn give_back(tx: &mut SystemTx<'_>, params: &[Value]) -> Result<u64> {
    let sql = if tx.is_postgres() { GIVE_BACK_POSTGRES } else { GIVE_BACK_SQLITE };
    tx.exec(sql, params).await
}

/// Locks a run for the rest of the transaction. `false` when it is not there, or somebody else is writing to it: nobody is
/// waited for, so that whoever locks several runs is in no circle of those who wait for each other.
pub(crate) async fn lock_at_once(tx: &mut TenantTx<'_>, run: RunId) -> Result<bool> {
    Ok(!tx.is_postgres() || tx.one(LOCK_POSTGRES, &[run.into()]).await?.is_some())
}
