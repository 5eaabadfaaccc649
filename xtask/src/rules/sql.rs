//! Rules about SQL text: who may change a run, and that a statement names its tenant.
//!
//! The facade refuses a statement without a tenant when it runs; this finds it before.

use crate::finding::Finding;
use crate::golden;
use crate::tree::Tree;

/// The journal, the leases and the inbox are what a run's row is a projection of; the claim has a spelling for each
/// database.
const RUN_WRITERS: &[&str] = &[
    "crates/store/src/journal.rs",
    "crates/store/src/lease.rs",
    "crates/store/src/inbox.rs",
    "crates/store/src/dialect.rs",
];

/// Files whose statements are not a tenant's: recovery, leases, migrations.
const SYSTEM: &str = "golden/system-sql.txt";

/// `UPDATE runs` stands only where the journal, the leases and the inbox are written.
pub(crate) fn run_updates(tree: &Tree) -> Vec<Finding> {
    statements(tree)
        .filter(|(path, _, sql)| sql.contains("update runs ") && !RUN_WRITERS.contains(path))
        .map(|(path, line, _)| {
            Finding::new("run-updates", path, line, "runs change only through journal, lease and inbox")
        })
        .collect()
}

/// Every statement names `tenant_id` and binds it as `$1`.
pub(crate) fn tenants(tree: &Tree) -> Vec<Finding> {
    let system: Vec<&str> = golden::entries(tree, SYSTEM).into_iter().map(|(_, path)| path).collect();
    let bound = |sql: &str| sql.contains("tenant_id") && sql.contains("$1");
    let mut findings: Vec<Finding> = statements(tree)
        .filter(|(path, _, sql)| !system.contains(path) && !bound(sql))
        .map(|(path, line, _)| {
            Finding::new("tenants", path, line, format!("name tenant_id = $1, or list the file in {SYSTEM}"))
        })
        .collect();
    let gone = golden::entries(tree, SYSTEM).into_iter().filter(|(_, path)| tree.file(path).is_none());
    findings.extend(
        gone.map(|(line, path)| Finding::new("tenants", SYSTEM, line, format!("no such file: {path}"))),
    );
    findings
}

/// String literals that are statements, in lower case with single spaces.
fn statements(tree: &Tree) -> impl Iterator<Item = (&str, usize, String)> {
    tree.rust("crates/").flat_map(|source| {
        source.product_strings().filter_map(move |(line, text)| {
            let continued = text.replace("\\\n", " ");
            let mut sql = continued.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
            sql.push(' ');
            is_statement(&sql).then_some((source.path.as_str(), line, sql))
        })
    })
}

fn is_statement(sql: &str) -> bool {
    let with = |start: &str, then: &str| sql.starts_with(start) && sql.contains(then);
    with("select ", " from ")
        || with("insert into ", "(")
        || with("update ", " set ")
        || with("delete from ", " ")
        || with("with ", " as (")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::found;

    const UPDATE: &str = "const SQL: &str = \"UPDATE\n   runs SET status = $2 WHERE tenant_id = $1\";\n";

    #[test]
    fn a_second_writer_of_runs_is_found() {
        assert_eq!(
            found(run_updates, &[("crates/control/src/runs.rs", UPDATE)]),
            ["crates/control/src/runs.rs:1"]
        );
        assert!(found(run_updates, &[("crates/store/src/journal.rs", UPDATE)]).is_empty());
        assert!(found(run_updates, &[("crates/store/tests/it/a.rs", UPDATE)]).is_empty());
        let prose = "f(\"update runs rarely\");";
        assert!(found(run_updates, &[("crates/lantern/src/a.rs", prose)]).is_empty());
    }

    #[test]
    fn a_statement_without_its_tenant_is_found() {
        for (sql, count) in [
            ("SELECT id FROM agents WHERE tenant_id = $1", 0),
            ("SELECT id FROM agents WHERE id = $1", 1),
            ("SELECT id FROM agents WHERE tenant_id = $2", 1),
            ("DELETE FROM inbox WHERE id = $2", 1),
            ("INSERT INTO runs(tenant_id, id) VALUES ($1, $2)", 0),
            ("with care", 0),
            ("select a model", 0),
        ] {
            let text = format!("const S: &str = \"{sql}\";\n");
            assert_eq!(found(tenants, &[("crates/store/src/agents.rs", &text)]).len(), count, "{sql}");
        }
        let system = ("golden/system-sql.txt", "crates/store/src/lease.rs # claims across tenants\n");
        let lease = ("crates/store/src/lease.rs", "const S: &str = \"SELECT id FROM processes\";\n");
        assert!(found(tenants, &[system, lease]).is_empty());
        assert_eq!(found(tenants, &[system]), ["golden/system-sql.txt:1"]);
    }
}
