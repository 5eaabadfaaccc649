//! A tenant with many runs, and how the database would look for those of a list.

use lantern_types::ChainHead;

use super::{Seeded, schema};
use crate::approvals::{self, ApprovalFilter};
use crate::db::Db;
use crate::error::Result;
use crate::runs::RunFilter;
use crate::runs::list::{Query, queries};

/// Of every hundred runs one failed; of every five hundred one has the parent and one the conversation whose id is the
/// agent's. The last twenty are queued.
const RUNS: &str = "INSERT INTO runs (tenant_id, id, agent_id, agent_name, agent_version_id, status, trigger_kind, version,
    chain, epoch, pokes, spent, held, tokens_in, tokens_out, created_at, finished_at, outcome, parent_run_id, session_id,
    depth, labels)
    WITH RECURSIVE n(i) AS (SELECT CAST($5 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $6)
    SELECT $1, ID, $2, 'agent-' || (i % 50), $3,
        CASE WHEN i > CAST($4 AS BIGINT) - 20 THEN 'queued' WHEN i % 100 = 3 THEN 'failed' ELSE 'succeeded' END, 'api', 1, $7, 0, 0, 0, 0,
        0, 0, i * 10, CASE WHEN i > CAST($4 AS BIGINT) - 20 THEN NULL ELSE i * 10 END,
        CASE WHEN i > CAST($4 AS BIGINT) - 20 THEN NULL WHEN i % 100 = 3 THEN 'failed' ELSE 'succeeded' END, CASE WHEN i % 500 = 7 THEN CAST($2 AS BYTES) END,
        CASE WHEN i % 500 = 8 THEN CAST($2 AS BYTES) END, 0, '{}'
    FROM n";
/// Every other one has the label `env:prod`, and of every thousand one has `customer:ada`.
const LABELS: &str = "INSERT INTO run_labels (tenant_id, value, key, created_at, run_id)
    WITH RECURSIVE n(i) AS (SELECT CAST($5 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $6)
    SELECT $1, CASE WHEN i % 1000 = 0 THEN CAST($3 AS BYTES) ELSE CAST($2 AS BYTES) END,
        CASE WHEN i % 1000 = 0 THEN 'customer' ELSE 'env' END, i * 10, ID
    FROM n WHERE i % 2 = 0 AND i <= CAST($4 AS BIGINT)";
/// Of every five hundred runs one is the last of a session of its own.
const SESSIONS: &str =
    "INSERT INTO sessions (tenant_id, id, agent_id, agent_name, created_by, exchanges, last_run_id,
    created_at, updated_at)
    WITH RECURSIVE n(i) AS (SELECT CAST($3 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $4)
    SELECT $1, ID, $2, 'agent-' || (i % 50), $2, 1, ID
    , i * 10, i * 10
    FROM n WHERE i % 500 = 9";

/// So many runs are made by one statement.
const SOME: u32 = 50_000;

/// Makes so many runs of a tenant, each ten microseconds after the one before.
pub async fn fill_runs(db: &Db, seeded: Seeded, count: u32) -> Result<()> {
    let postgres = schema::is_postgres(db).await;
    let (id, bytes) = if postgres {
        ("decode(lpad(to_hex(i), 32, '0'), 'hex')", "BYTEA")
    } else {
        ("unhex(printf('%032x', i))", "BLOB")
    };
    let [runs, labels, sessions] = [RUNS, LABELS, SESSIONS].map(|sql| -> &'static str {
        sql.replace("ID,", &format!("{id},"))
            .replace(", ID\n", &format!(", {id}\n"))
            .replace("BYTES", bytes)
            .leak()
    });
    // Some at a time: a statement may only take so long.
    for first in (1..=count).step_by(SOME as usize) {
        let last = count.min(first + SOME - 1);
        let chain = ChainHead::genesis();
        let hung = [
            seeded.agent.into(),
            seeded.version.into(),
            count.into(),
            first.into(),
            last.into(),
            chain.into(),
        ];
        let words =
            [b"prod".as_slice().into(), b"ada".as_slice().into(), count.into(), first.into(), last.into()];
        let spoken = [seeded.agent.into(), first.into(), last.into()];
        let filled = db.write(seeded.scope, move |tx| {
            Box::pin(async move {
                tx.exec(runs, &hung).await?;
                tx.exec(sessions, &spoken).await?;
                tx.exec(labels, &words).await.map(drop)
            })
        });
        filled.await?;
    }
    Ok(())
}

/// How the database would answer each query of a list: the lines of its plan.
pub async fn list_plans(db: &Db, seeded: Seeded, filter: &RunFilter) -> Result<Vec<String>> {
    let (explain, column) = if schema::is_postgres(db).await {
        ("EXPLAIN ", "QUERY PLAN")
    } else {
        ("EXPLAIN QUERY PLAN ", "detail")
    };
    let mut plans = Vec::new();
    for Query { base, conditions, order } in queries(filter) {
        let (sql, limit): (&'static str, _) = (format!("{explain}{base}").leak(), filter.limit);
        let rows = db.read(seeded.scope, move |tx| {
            Box::pin(async move { tx.all_where(sql, conditions, order, limit).await })
        });
        let lines = rows.await?.iter().map(|row| row.text(column)).collect::<Result<Vec<_>>>()?;
        plans.push(lines.join("\n"));
    }
    Ok(plans)
}

/// How SQLite would answer a list of questions: the lines of its plan.
pub async fn approval_plans(db: &Db, seeded: Seeded, filter: &ApprovalFilter) -> Result<String> {
    let sql: &'static str = format!("EXPLAIN QUERY PLAN {}", approvals::LIST).leak();
    let (queries, order, limit) =
        (approvals::queries(filter), approvals::order(filter.oldest_first), filter.limit);
    let rows = db.read(seeded.scope, move |tx| {
        Box::pin(async move {
            let mut rows = Vec::new();
            for conditions in queries {
                rows.extend(tx.all_where(sql, conditions, order, limit).await?);
            }
            Ok(rows)
        })
    });
    let lines = rows.await?.iter().map(|row| row.text("detail")).collect::<Result<Vec<_>>>()?;
    Ok(lines.join("\n"))
}
