//! Brings a database to this build's schema, or says why it must not be touched.
//!
//! Invariant: a migration is applied once, whole, in order, under a lock, and its text never changes afterwards (its
//! checksum is kept). A schema that is newer by more than one release is refused. Roles are not migrations: an operator makes them once, by
//! [`create_roles`].

use lantern_types::{At, Digest, Secret};
use rusqlite::Connection;
use tokio_postgres::Client;

use super::{earlier, postgres, sqlite};
use crate::dialect;
use crate::error::{Error, Result};
use crate::value::Row;

/// Marks our files among all SQLite databases: "Lntn".
const APPLICATION_ID: i64 = 0x4c6e_746e;

struct Migration {
    number: i64,
    name: &'static str,
    both: &'static str,
    postgres: &'static str,
    /// What only SQLite can do; usually nothing.
    sqlite: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "foundation",
        both: include_str!("../../../../migrations/0001_foundation.sql"),
        postgres: include_str!("../../../../migrations/postgres/0001_foundation.sql"),
        sqlite: "",
    },
    Migration {
        number: 2,
        name: "idempotency",
        both: include_str!("../../../../migrations/0002_idempotency.sql"),
        postgres: include_str!("../../../../migrations/postgres/0002_idempotency.sql"),
        sqlite: "",
    },
    Migration {
        number: 3,
        name: "open_runs",
        both: include_str!("../../../../migrations/0003_open_runs.sql"),
        postgres: include_str!("../../../../migrations/postgres/0003_open_runs.sql"),
        sqlite: "",
    },
    Migration {
        number: 4,
        name: "open_runs_by_id",
        both: include_str!("../../../../migrations/0004_open_runs_by_id.sql"),
        postgres: include_str!("../../../../migrations/postgres/0004_open_runs_by_id.sql"),
        sqlite: "",
    },
    Migration {
        number: 5,
        name: "tickets",
        both: include_str!("../../../../migrations/0005_tickets.sql"),
        postgres: include_str!("../../../../migrations/postgres/0005_tickets.sql"),
        sqlite: "",
    },
    Migration {
        number: 6,
        name: "no_system_prompt",
        both: include_str!("../../../../migrations/0006_no_system_prompt.sql"),
        postgres: include_str!("../../../../migrations/postgres/0006_no_system_prompt.sql"),
        sqlite: "",
    },
    Migration {
        number: 7,
        name: "loose_blobs",
        both: include_str!("../../../../migrations/0007_loose_blobs.sql"),
        postgres: include_str!("../../../../migrations/postgres/0007_loose_blobs.sql"),
        sqlite: "",
    },
    Migration {
        number: 8,
        name: "ticket_sessions",
        both: include_str!("../../../../migrations/0008_ticket_sessions.sql"),
        postgres: include_str!("../../../../migrations/postgres/0008_ticket_sessions.sql"),
        sqlite: "",
    },
    Migration {
        number: 9,
        name: "outbox_turns",
        both: include_str!("../../../../migrations/0009_outbox_turns.sql"),
        postgres: include_str!("../../../../migrations/postgres/0009_outbox_turns.sql"),
        sqlite: "",
    },
    Migration {
        number: 10,
        name: "sign_ins",
        both: include_str!("../../../../migrations/0010_sign_ins.sql"),
        postgres: include_str!("../../../../migrations/postgres/0010_sign_ins.sql"),
        sqlite: "",
    },
    Migration {
        number: 11,
        name: "run_labels",
        both: include_str!("../../../../migrations/0011_run_labels.sql"),
        postgres: include_str!("../../../../migrations/postgres/0011_run_labels.sql"),
        sqlite: include_str!("../../../../migrations/sqlite/0011_run_labels.sql"),
    },
    Migration {
        number: 12,
        name: "approvals",
        both: include_str!("../../../../migrations/0012_approvals.sql"),
        postgres: include_str!("../../../../migrations/postgres/0012_approvals.sql"),
        sqlite: include_str!("../../../../migrations/sqlite/0012_approvals.sql"),
    },
    Migration {
        number: 13,
        name: "agent_lists",
        both: include_str!("../../../../migrations/0013_agent_lists.sql"),
        postgres: include_str!("../../../../migrations/postgres/0013_agent_lists.sql"),
        sqlite: "",
    },
    Migration {
        number: 14,
        name: "outbox_taker",
        both: include_str!("../../../../migrations/0014_outbox_taker.sql"),
        postgres: include_str!("../../../../migrations/postgres/0014_outbox_taker.sql"),
        sqlite: "",
    },
    Migration {
        number: 15,
        name: "sessions",
        both: include_str!("../../../../migrations/0015_sessions.sql"),
        postgres: include_str!("../../../../migrations/postgres/0015_sessions.sql"),
        sqlite: "",
    },
    Migration {
        number: 16,
        name: "stops",
        both: include_str!("../../../../migrations/0016_stops.sql"),
        postgres: include_str!("../../../../migrations/postgres/0016_stops.sql"),
        sqlite: "",
    },
    Migration {
        number: 17,
        name: "formats",
        both: include_str!("../../../../migrations/0017_formats.sql"),
        postgres: include_str!("../../../../migrations/postgres/0017_formats.sql"),
        sqlite: "",
    },
    Migration {
        number: 18,
        name: "retention",
        both: include_str!("../../../../migrations/0018_retention.sql"),
        postgres: include_str!("../../../../migrations/postgres/0018_retention.sql"),
        sqlite: "",
    },
    Migration {
        number: 19,
        name: "shares",
        both: include_str!("../../../../migrations/0019_shares.sql"),
        postgres: include_str!("../../../../migrations/postgres/0019_shares.sql"),
        sqlite: "",
    },
    Migration {
        number: 20,
        name: "escrow",
        both: include_str!("../../../../migrations/0020_escrow.sql"),
        postgres: include_str!("../../../../migrations/postgres/0020_escrow.sql"),
        sqlite: "",
    },
    Migration {
        number: 21,
        name: "kept_signals",
        both: include_str!("../../../../migrations/0021_kept_signals.sql"),
        postgres: include_str!("../../../../migrations/postgres/0021_kept_signals.sql"),
        sqlite: "",
    },
    Migration {
        number: 22,
        name: "receipts",
        both: include_str!("../../../../migrations/0022_receipts.sql"),
        postgres: include_str!("../../../../migrations/postgres/0022_receipts.sql"),
        sqlite: "",
    },
    Migration {
        number: 23,
        name: "tenant_limits",
        both: include_str!("../../../../migrations/0023_tenant_limits.sql"),
        postgres: include_str!("../../../../migrations/postgres/0023_tenant_limits.sql"),
        sqlite: "",
    },
    Migration {
        number: 24,
        name: "workloads",
        both: include_str!("../../../../migrations/0024_workloads.sql"),
        postgres: include_str!("../../../../migrations/postgres/0024_workloads.sql"),
        sqlite: "",
    },
    Migration {
        number: 25,
        name: "audit",
        both: include_str!("../../../../migrations/0025_audit.sql"),
        postgres: include_str!("../../../../migrations/postgres/0025_audit.sql"),
        sqlite: "",
    },
    Migration {
        number: 26,
        name: "usage",
        both: include_str!("../../../../migrations/0026_usage.sql"),
        postgres: include_str!("../../../../migrations/postgres/0026_usage.sql"),
        sqlite: "",
    },
    Migration {
        number: 27,
        name: "members",
        both: include_str!("../../../../migrations/0027_members.sql"),
        postgres: include_str!("../../../../migrations/postgres/0027_members.sql"),
        sqlite: "",
    },
    Migration {
        number: 28,
        name: "second_factors",
        both: include_str!("../../../../migrations/0028_second_factors.sql"),
        postgres: include_str!("../../../../migrations/postgres/0028_second_factors.sql"),
        sqlite: "",
    },
    Migration {
        number: 29,
        name: "control",
        both: include_str!("../../../../migrations/0029_control.sql"),
        postgres: include_str!("../../../../migrations/postgres/0029_control.sql"),
        sqlite: "",
    },
    Migration {
        number: 30,
        name: "metered_workloads",
        both: include_str!("../../../../migrations/0030_metered_workloads.sql"),
        postgres: include_str!("../../../../migrations/postgres/0030_metered_workloads.sql"),
        sqlite: "",
    },
    Migration {
        number: 31,
        name: "model_routing",
        both: include_str!("../../../../migrations/0031_model_routing.sql"),
        postgres: include_str!("../../../../migrations/postgres/0031_model_routing.sql"),
        sqlite: "",
    },
    Migration {
        number: 32,
        name: "secrets",
        both: include_str!("../../../../migrations/0032_secrets.sql"),
        postgres: include_str!("../../../../migrations/postgres/0032_secrets.sql"),
        sqlite: "",
    },
    Migration {
        number: 33,
        name: "asking_caps",
        both: include_str!("../../../../migrations/0033_asking_caps.sql"),
        postgres: include_str!("../../../../migrations/postgres/0033_asking_caps.sql"),
        sqlite: "",
    },
    Migration {
        number: 34,
        name: "pending_usage",
        both: include_str!("../../../../migrations/0034_pending_usage.sql"),
        postgres: include_str!("../../../../migrations/postgres/0034_pending_usage.sql"),
        sqlite: "",
    },
    Migration {
        number: 35,
        name: "agent_limits",
        both: include_str!("../../../../migrations/0035_agent_limits.sql"),
        postgres: include_str!("../../../../migrations/postgres/0035_agent_limits.sql"),
        sqlite: "",
    },
    Migration {
        number: 36,
        name: "workload_numbers",
        both: include_str!("../../../../migrations/0036_workload_numbers.sql"),
        postgres: include_str!("../../../../migrations/postgres/0036_workload_numbers.sql"),
        sqlite: include_str!("../../../../migrations/sqlite/0036_workload_numbers.sql"),
    },
    Migration {
        number: 37,
        name: "traces",
        both: include_str!("../../../../migrations/0037_traces.sql"),
        postgres: include_str!("../../../../migrations/postgres/0037_traces.sql"),
        sqlite: "",
    },
    Migration {
        number: 38,
        name: "policies",
        both: include_str!("../../../../migrations/0038_policies.sql"),
        postgres: include_str!("../../../../migrations/postgres/0038_policies.sql"),
        sqlite: "",
    },
    Migration {
        number: 39,
        name: "identities",
        both: include_str!("../../../../migrations/0039_identities.sql"),
        postgres: include_str!("../../../../migrations/postgres/0039_identities.sql"),
        sqlite: "",
    },
];

/// The schema of the release before this one. Migrations after it only add, so that builds of that release go on beside
/// ours; what they no longer need is removed one release later. A release sets this to the schema of the one before it.
const BEFORE: i64 = 12;
/// The first migration that says which builds go on with what it made.
const SAYS: i64 = 17;

const HISTORY: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum BYTES NOT NULL,
    applied_at BIGINT NOT NULL
)";
// Whatever columns there are: an older table has no `goes_on`.
const APPLIED: &str = "SELECT * FROM migrations ORDER BY number";
const RECORD: &str = "INSERT INTO migrations (number, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";
const SAY: &str = "UPDATE migrations SET goes_on = $2 WHERE number = $1";

impl Migration {
    fn checksum(&self) -> Digest {
        let parts = [self.both.as_bytes(), self.postgres.as_bytes(), self.sqlite.as_bytes()];
        // The checksums of before there was a third part.
        Digest::of_parts(if self.sqlite.is_empty() { &parts[..2] } else { &parts })
    }
}

/// The schema of this build.
pub(super) fn known() -> i64 {
    MIGRATIONS.last().map_or(0, |m| m.number)
}

/// A migration that a database has.
#[derive(Clone, Debug)]
struct Applied {
    number: i64,
    checksum: Vec<u8>,
    /// The schema of the oldest build that goes on with it. Nobody said: its own.
    goes_on: Option<i64>,
}

/// The migrations that are still to be applied, given those that were. A newer build may have applied more, as long as
/// each of them says that this build goes on: builds one release apart do, others are `TooNew`.
fn pending(applied: &[Applied]) -> Result<Vec<&'static Migration>> {
    let found = applied.last().map_or(0, |last| last.number);
    let newer = applied.iter().filter(|migration| migration.number > known());
    let needs = newer.map(|migration| migration.goes_on.unwrap_or(migration.number)).max();
    if needs.is_some_and(|needs| needs > known()) {
        return Err(Error::TooNew { found, known: known() });
    }
    for migration in MIGRATIONS {
        let stored = applied.iter().find(|stored| stored.number == migration.number);
        if stored.is_some_and(|stored| stored.checksum != migration.checksum().bytes()) {
            return Err(Error::Misuse(format!("migration {} was edited after it ran", migration.number)));
        }
    }
    Ok(MIGRATIONS.iter().filter(|m| m.number > found).collect())
}

/// The number of the last migration that a SQLite file has; 0 for a new one. `TooNew` when this build does not know it.
pub(super) fn schema_of(conn: &Connection) -> Result<i64> {
    let exists = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'";
    if conn.query_row(exists, [], |row| row.get::<_, i64>(0)).map_err(sqlite::fault)? == 0 {
        return Ok(0);
    }
    let applied = applied_to(conn)?;
    pending(&applied)?;
    Ok(applied.last().map_or(0, |last| last.number))
}

fn applied_to(conn: &Connection) -> Result<Vec<Applied>> {
    let rows = sqlite::query(conn, APPLIED, None, &[])?;
    let read = |row: &Row| {
        let goes_on = row.int("goes_on").ok();
        Ok(Applied { number: row.int("number")?, checksum: row.bytes("checksum")?, goes_on })
    };
    rows.iter().map(read).collect()
}

/// Whether a SQLite file is ours, or new. Asks before anything is written.
pub(super) fn check_sqlite(conn: &Connection) -> Result<()> {
    let int = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(sqlite::fault);
    let mark = int("PRAGMA application_id")?;
    let tables = int("SELECT count(*) FROM sqlite_schema")?;
    if mark == APPLICATION_ID || (mark == 0 && tables == 0) {
        return Ok(());
    }
    Err(if earlier::is_sqlite(conn)? { Error::Earlier } else { Error::Foreign })
}

/// Applies what is pending, all of it in one transaction.
pub(super) fn sqlite(conn: &mut Connection, now: At) -> Result<()> {
    sqlite_to(conn, known(), now)
}

/// Brings a database to the schema of an earlier build, for tests of what follows.
pub(super) fn sqlite_to(conn: &mut Connection, last: i64, now: At) -> Result<()> {
    let fault = sqlite::fault;
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fault)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(fault)?;
    tx.execute_batch(&dialect::migration(HISTORY, false)).map_err(fault)?;
    let applied = applied_to(&tx)?;
    for migration in pending(&applied)?.into_iter().take_while(|migration| migration.number <= last) {
        tx.execute_batch(&dialect::migration(migration.both, false)).map_err(fault)?;
        tx.execute_batch(migration.sqlite).map_err(fault)?;
        let row = [migration.number.into(), migration.name.into(), migration.checksum().into(), now.into()];
        sqlite::execute(&tx, RECORD, None, &row)?;
        if migration.number >= SAYS {
            sqlite::execute(&tx, SAY, None, &[migration.number.into(), BEFORE.into()])?;
        }
    }
    tx.commit().map_err(fault)
}

/// Brings a PostgreSQL database to this build's schema. Connects as its owner; the roles must be there already.
/// Several processes may call it at once: one applies, the others find it done. `Role` when it is not the owner's.
pub async fn migrate_postgres(owner_url: &Secret<String>, now: At) -> Result<()> {
    postgres_to(owner_url, known(), now).await
}

/// Brings a PostgreSQL database to the schema of an earlier build, for tests of what follows.
pub(crate) async fn postgres_to(owner_url: &Secret<String>, last: i64, now: At) -> Result<()> {
    postgres::alone(owner_url, async |client| {
        postgres::owns(client).await?;
        apply(client, last, now).await
    })
    .await
}

async fn apply(client: &Client, last: i64, now: At) -> Result<()> {
    let fault = postgres::fault;
    earlier::refuse_postgres(client).await?;
    let missing = "SELECT 2 - count(*) FROM pg_roles WHERE rolname IN ('lantern_app', 'lantern_system')";
    if client.query_one(missing, &[]).await.map_err(fault)?.try_get::<_, i64>(0).map_err(fault)? > 0 {
        let advice =
            "the roles lantern_app and lantern_system do not exist: run `lantern migrate --create-roles`";
        return Err(Error::Misuse(advice.to_owned()));
    }
    // Released with the transaction, whatever happens.
    client.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1282307182)").await.map_err(fault)?;
    client.batch_execute(&dialect::migration(HISTORY, true)).await.map_err(fault)?;
    let pending = pending(&applied(client).await?)?;
    for migration in pending.into_iter().take_while(|migration| migration.number <= last) {
        client.batch_execute(&dialect::migration(migration.both, true)).await.map_err(fault)?;
        client.batch_execute(migration.postgres).await.map_err(fault)?;
        let checksum = migration.checksum().bytes().to_vec();
        client
            .execute(RECORD, &[&migration.number, &migration.name, &checksum, &now.micros()])
            .await
            .map_err(fault)?;
        if migration.number >= SAYS {
            client.execute(SAY, &[&migration.number, &BEFORE]).await.map_err(fault)?;
        }
    }
    client.batch_execute("COMMIT").await.map_err(fault)
}

async fn applied(client: &Client) -> Result<Vec<Applied>> {
    let fault = postgres::fault;
    let rows = client.query(APPLIED, &[]).await.map_err(fault)?;
    let read = |row: &tokio_postgres::Row| {
        let (number, checksum) =
            (row.try_get("number").map_err(fault)?, row.try_get("checksum").map_err(fault)?);
        Ok(Applied { number, checksum, goes_on: row.try_get("goes_on").ok().flatten() })
    };
    rows.iter().map(read).collect()
}

/// Whether this build may serve on a PostgreSQL database: its schema is ours, or a newer one that lets us go on.
pub(super) async fn check_postgres(client: &Client) -> Result<()> {
    earlier::refuse_postgres(client).await?;
    let exists = "SELECT count(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('migrations')";
    let row = client.query_one(exists, &[]).await.map_err(postgres::fault)?;
    let applied = match row.try_get::<_, i64>(0).map_err(postgres::fault)? {
        0 => Vec::new(),
        _ => applied(client).await?,
    };
    match pending(&applied)?.first() {
        None => Ok(()),
        Some(first) => Err(Error::TooOld { found: first.number - 1, known: known() }),
    }
}

/// Makes the two roles that serve, or gives them these passwords. Connects as a role that may create roles; not a
/// migration, because roles belong to the cluster and not to one database.
pub async fn create_roles(
    owner_url: &Secret<String>,
    app_password: &Secret<String>,
    system_password: &Secret<String>,
) -> Result<()> {
    postgres::alone(owner_url, async |client| {
        // It has a role of the same name, whose password would change.
        earlier::refuse_postgres(client).await?;
        postgres::owns(client).await?;
        role(client, postgres::APP, app_password).await?;
        role(client, postgres::SYSTEM, system_password).await
    })
    .await
}

/// A new role has no powers. Taking them from one that has some needs a superuser, as even to say so of one that has
/// none does; so that is not said.
async fn role(client: &Client, name: &str, password: &Secret<String>) -> Result<()> {
    let fault = postgres::fault;
    // The server quotes, since DDL takes no parameters.
    let build = "SELECT format('%s ROLE %I LOGIN %s PASSWORD %L',
        CASE WHEN found.rolname IS NULL THEN 'CREATE' ELSE 'ALTER' END, wanted.rolname,
        CASE WHEN rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls
            THEN 'NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS' ELSE '' END, CAST($2 AS TEXT))
        FROM (SELECT CAST($1 AS TEXT) AS rolname) wanted LEFT JOIN pg_roles found USING (rolname)";
    let row = client.query_one(build, &[&name, password.expose()]).await.map_err(fault)?;
    client.batch_execute(row.try_get(0).map_err(fault)?).await.map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending() {
        let applied =
            |number, checksum: &[u8], goes_on| Applied { number, checksum: checksum.to_vec(), goes_on };
        let now: Vec<_> =
            MIGRATIONS.iter().map(|m| applied(m.number, m.checksum().bytes(), Some(BEFORE))).collect();
        assert_eq!(pending(&[]).unwrap().len(), MIGRATIONS.len());
        assert!(pending(&now).unwrap().is_empty());
        // What came after ours, each with what it lets go on.
        for (newer, goes_on) in [
            (vec![Some(known())], true),
            (vec![Some(BEFORE), Some(known())], true),
            (vec![Some(known()), Some(known() + 1)], false),
            (vec![Some(known()), None], false),
            (vec![None], false),
        ] {
            let later =
                newer.iter().zip(known() + 1..).map(|(goes_on, number)| applied(number, &[], *goes_on));
            let all: Vec<_> = now.iter().cloned().chain(later).collect();
            match pending(&all) {
                Ok(pending) => assert!(goes_on && pending.is_empty(), "{newer:?}"),
                Err(error) => assert!(!goes_on && matches!(error, Error::TooNew { .. }), "{newer:?}"),
            }
        }
        assert!(matches!(pending(&[applied(1, &[0], None)]), Err(Error::Misuse(_))));
    }

    /// A checksum that changes would turn every database away that there is.
    #[test]
    fn a_third_part_changes_no_checksum_of_two() {
        let first = &MIGRATIONS[0];
        let before = Digest::of_parts(&[first.both.as_bytes(), first.postgres.as_bytes()]);
        assert_eq!(first.checksum(), before);
        let two = Migration { sqlite: "", ..MIGRATIONS[10] };
        assert_ne!(MIGRATIONS[10].checksum(), two.checksum());
    }

    #[test]
    fn runs_that_are_there_get_their_labels() {
        let mut conn = Connection::open_in_memory().unwrap();
        sqlite_to(&mut conn, 10, At::from_micros(1)).unwrap();
        let run = |id: &str, over: &str, labels: &str| {
            format!(
                "INSERT INTO runs (tenant_id, id, agent_id, agent_name, agent_version_id, status, trigger_kind, version,
                    chain, epoch, pokes, spent, held, tokens_in, tokens_out, created_at, finished_at, depth, labels)
                VALUES (x'01', {id}, x'02', 'a', x'03', 'queued', 'api', 1, x'00', 0, 0, 0, 0, 0, 0, 7, {over}, 0, '{labels}');"
            )
        };
        let runs = [run("x'0a'", "NULL", "{\"team\":\"a\\u0308\",\"env\":\"\"}"), run("x'0b'", "8", "{}")];
        conn.execute_batch(&format!("PRAGMA foreign_keys = OFF; {}", runs.concat())).unwrap();
        sqlite(&mut conn, At::from_micros(2)).unwrap();
        let mut found = conn
            .prepare("SELECT hex(run_id) || ' ' || key || '=' || hex(value) || ' ' || created_at FROM run_labels ORDER BY key")
            .unwrap();
        let lines: Vec<String> = found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(lines, ["0A env= 7", "0A team=61CC88 7"]);
        let over = "SELECT hex(id) || ' ' || outcome FROM runs WHERE outcome IS NOT NULL";
        assert_eq!(conn.query_row(over, [], |row| row.get::<_, String>(0)).unwrap(), "0B queued");
    }

    /// A run that nobody holds and that waits for a time is due once, so that its open questions get their rows.
    #[test]
    fn runs_that_wait_are_looked_at_once() {
        let mut conn = Connection::open_in_memory().unwrap();
        sqlite_to(&mut conn, 11, At::from_micros(1)).unwrap();
        let run = |id: &str, status: &str, owner: &str, wake: &str| {
            format!(
                "INSERT INTO runs (tenant_id, id, agent_id, agent_name, agent_version_id, status, trigger_kind, version,
                    chain, epoch, pokes, spent, held, tokens_in, tokens_out, created_at, depth, labels, owner, wake_at)
                VALUES (x'01', {id}, x'02', 'a', x'03', '{status}', 'api', 1, x'00', 0, 0, 0, 0, 0, 0, 7, 0, '{{}}',
                    {owner}, {wake});"
            )
        };
        let runs = [
            run("x'0a'", "paused", "NULL", "9"),
            // Held: it is taken up anew whoever held it. Parked: what was under way may be paid for again.
            run("x'0b'", "paused", "x'04'", "NULL"),
            run("x'0c'", "running", "NULL", "NULL"),
        ];
        conn.execute_batch(&format!("PRAGMA foreign_keys = OFF; {}", runs.concat())).unwrap();
        sqlite(&mut conn, At::from_micros(2)).unwrap();
        let mut found =
            conn.prepare("SELECT hex(id) || ' ' || wake_at FROM runs WHERE wake_at IS NOT NULL").unwrap();
        let lines: Vec<String> = found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(lines, ["0A 0"]);
    }
}
