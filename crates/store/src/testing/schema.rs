//! A database's schema as its own catalog tells it, in one normal form for both databases: tables, columns, keys,
//! indexes and references, a line each, sorted.

use crate::db::Db;
use crate::error::Result;
use crate::value::Row;

const SQLITE_COLUMNS: &str = r#"SELECT m.name || '.' || c.name || ' ' || c.type ||
    CASE WHEN c."notnull" = 1 THEN ' NOT NULL' ELSE '' END AS line
    FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"#;
const SQLITE_INDEXES: &str = r#"SELECT m.name || CASE WHEN i."unique" = 1 THEN ' UNIQUE (' ELSE ' INDEX (' END ||
    (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno)) || ')' ||
    CASE WHEN i.partial = 1 THEN ' PARTIAL' ELSE '' END AS line
    FROM sqlite_schema m JOIN pragma_index_list(m.name) i WHERE m.type = 'table'"#;
const SQLITE_REFERENCES: &str = r#"SELECT tbl || ' (' || group_concat(f, ', ') || ') REFERENCES ' || target ||
    ' (' || group_concat(t, ', ') || ')' AS line FROM
    (SELECT m.name AS tbl, r.id AS id, r."table" AS target, r."from" AS f, r."to" AS t
        FROM sqlite_schema m JOIN pragma_foreign_key_list(m.name) r WHERE m.type = 'table'
        ORDER BY m.name, r.id, r.seq)
    GROUP BY tbl, id, target"#;

// Not from information_schema, which shows a role only what it may touch.
const POSTGRES_COLUMNS: &str =
    "SELECT t.relname || '.' || a.attname || ' ' || upper(format_type(a.atttypid, NULL)) ||
    CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END AS line
    FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE t.relkind = 'r'";
const POSTGRES_INDEXES: &str =
    "SELECT t.relname || CASE WHEN i.indisunique THEN ' UNIQUE (' ELSE ' INDEX (' END ||
    string_agg(CAST(a.attname AS TEXT), ', ' ORDER BY k.position) || ')' ||
    CASE WHEN i.indpred IS NOT NULL THEN ' PARTIAL' ELSE '' END AS line
    FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
    CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (number, position)
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number
    GROUP BY i.indexrelid, t.relname, i.indisunique, i.indpred";
const POSTGRES_REFERENCES: &str = "SELECT t.relname || ' (' ||
    string_agg(CAST(a.attname AS TEXT), ', ' ORDER BY k.position) || ') REFERENCES ' || f.relname || ' (' ||
    string_agg(CAST(b.attname AS TEXT), ', ' ORDER BY k.position) || ')' AS line
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class f ON f.oid = c.confrelid
    CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k (here, there, position)
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.here
    JOIN pg_attribute b ON b.attrelid = f.oid AND b.attnum = k.there
    WHERE c.contype = 'f' GROUP BY c.oid, t.relname, f.relname";

/// The schema of a database, a line for each column, index and reference.
pub async fn schema(db: &Db) -> Result<String> {
    let rows = db
        .system_read(|tx| {
            Box::pin(async move {
                let queries = if tx.is_postgres() {
                    [POSTGRES_COLUMNS, POSTGRES_INDEXES, POSTGRES_REFERENCES]
                } else {
                    [SQLITE_COLUMNS, SQLITE_INDEXES, SQLITE_REFERENCES]
                };
                let mut rows: Vec<Row> = Vec::new();
                for sql in queries {
                    rows.extend(tx.all(sql, &[]).await?);
                }
                Ok(rows)
            })
        })
        .await?;
    let mut lines = rows.iter().map(|row| row.text("line")).collect::<Result<Vec<_>>>()?;
    for line in &mut lines {
        *line = line.replace(" BLOB", " BYTES").replace(" BYTEA", " BYTES");
    }
    lines.sort();
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// Which of the two it is.
pub(super) async fn is_postgres(db: &Db) -> bool {
    db.system_read(|tx| Box::pin(async move { Ok(tx.is_postgres()) })).await.unwrap_or(false)
}
