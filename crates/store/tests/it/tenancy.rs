//! Tenants: nobody sees another's rows, by the facade on both databases and by row-level security on PostgreSQL even
//! when a statement tries.

use lantern_policy::Scope;
use lantern_store::testing::{Cluster, block_on, prepare_every_statement, schema, seed};
use lantern_store::{Db, Error, PostgresOptions, Value, db_test, inbox, journal, migrate_postgres};
use lantern_types::*;

use crate::support::*;

db_test!(every_statement_fits_both_databases, async |db| {
    prepare_every_statement(&db).await;
    let wrong = db.write(Scope::of_lease(tenant(1)), |tx| {
        Box::pin(async move { tx.exec("SELECT nothing FROM runs WHERE tenant_id = $1", &[]).await })
    });
    assert!(wrong.await.is_err(), "a statement that does not fit is found out");
});

db_test!(both_catalogs_tell_the_same_schema, async |db| {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/schema.txt");
    let told = schema(&db).await.unwrap();
    if std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1") {
        std::fs::write(golden, &told).unwrap();
    }
    let kept = std::fs::read_to_string(golden).unwrap();
    let differs: Vec<_> = kept.lines().filter(|line| !told.contains(line)).collect();
    let new: Vec<_> = told.lines().filter(|line| !kept.contains(line)).collect();
    assert!(kept == told, "UPDATE=1 writes golden/schema.txt anew; gone: {differs:?}; new: {new:?}");
});

db_test!(another_tenants_ids_are_not_there, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    create(&db, one.scope, new_run(one, run(1), at(10))).await.unwrap();
    assert!(journal::head(&db, two.scope, run(1)).await.unwrap().is_none());
    assert!(journal::read(&db, two.scope, run(1), 1, 10).await.unwrap().is_empty());
    let all = journal::RunFilter { limit: 10, ..Default::default() };
    assert!(journal::list(&db, two.scope, all).await.unwrap().is_empty());
    assert_eq!(put(&db, two.scope, run(1), input(1), "cancel", at(20)).await, inbox::Put::Closed);
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    let foreign = journal::append(&db, two.scope, two_events(&claimed)).await;
    assert!(matches!(foreign, Err(Error::Conflict)), "{foreign:?}");
    // Ids are chosen by callers: the same one in two tenants is two runs.
    create(&db, two.scope, new_run(two, run(1), at(10))).await.unwrap();
});

db_test!(a_statement_must_name_its_tenant, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    for sql in
        ["SELECT id FROM runs", "SELECT id FROM runs WHERE id = $1", "DELETE FROM runs WHERE tenant_id = $2"]
    {
        let refused = db.write(one.scope, move |tx| Box::pin(async move { tx.all(sql, &[]).await })).await;
        assert!(matches!(refused, Err(Error::Misuse(_))), "{sql}");
    }
});

const TABLES: [&str; 54] = [
    "traces",
    "identities",
    "secret_keys",
    "secrets",
    "secret_versions",
    "day_calls",
    "day_counts",
    "feedback",
    "second_factors",
    "recovery_codes",
    "invitations",
    "password_resets",
    "audit_entries",
    "audit_heads",
    "tenant_limits",
    "tenants",
    "users",
    "subject_keys",
    "api_keys",
    "agents",
    "agent_versions",
    "runs",
    "journal",
    "inbox",
    "outbox",
    "llm_providers",
    "idempotency_keys",
    "tickets",
    "loose_blobs",
    "sign_ins",
    "run_labels",
    "approvals",
    "sessions",
    "session_runs",
    "stops",
    "receipts",
    "log_heads",
    "log_tiles",
    "log_checkpoints",
    "tenant_settings",
    "model_routing",
    "policies",
    "caps",
    "accounts",
    "slices",
    "calls",
    "cap_waits",
    "usage_days",
    "usage_pending",
    "warnings",
    "workloads",
    "workload_logs",
    "workload_calls",
    "runtime_quotas",
];

fn on_cluster(test: impl AsyncFnOnce(Db)) {
    lantern_store::testing::on_postgres(test);
}

async fn exec(db: &Db, scope: Scope, sql: &'static str, params: Vec<Value>) -> Result<u64, Error> {
    db.write(scope, move |tx| Box::pin(async move { tx.exec(sql, &params).await })).await
}

#[test]
fn row_level_security_holds_when_a_statement_names_another_tenant() {
    on_cluster(async |db| {
        let one = seed(&db, tenant(1)).await.unwrap();
        let two = seed(&db, tenant(2)).await.unwrap();
        create(&db, two.scope, new_run(two, run(2), at(10))).await.unwrap();
        let victim = || vec![Value::from(tenant(2))];

        let sql = "SELECT id FROM agents WHERE tenant_id <> $1 OR tenant_id = $2";
        let seen =
            db.read(one.scope, move |tx| Box::pin(async move { tx.all(sql, &[tenant(2).into()]).await }));
        assert!(seen.await.unwrap().is_empty());
        for sql in [
            "UPDATE agents SET name = 'mine' WHERE tenant_id <> $1 OR tenant_id = $2",
            "UPDATE runs SET status = 'mine' WHERE tenant_id <> $1 OR tenant_id = $2",
            "DELETE FROM journal WHERE tenant_id <> $1 OR tenant_id = $2",
        ] {
            assert_eq!(exec(&db, one.scope, sql, victim()).await.unwrap(), 0, "{sql}");
        }
        let insert = "INSERT INTO subject_keys (tenant_id, subject, wrapped, created_at)
            SELECT $2, 'planted', $1, 1";
        assert!(matches!(exec(&db, one.scope, insert, victim()).await, Err(Error::Misuse(_))));
        let own =
            "INSERT INTO subject_keys (tenant_id, subject, wrapped, created_at) VALUES ($1, 'own', $2, 1)";
        assert_eq!(exec(&db, one.scope, own, victim()).await.unwrap(), 1);
        let away = "UPDATE subject_keys SET tenant_id = $2 WHERE tenant_id = $1";
        assert!(matches!(exec(&db, one.scope, away, victim()).await, Err(Error::Misuse(_))));
        let edited = "UPDATE journal SET n = 9 WHERE tenant_id = $1";
        assert!(matches!(exec(&db, two.scope, edited, vec![]).await, Err(Error::Misuse(_))), "append-only");
        let process = "SELECT id FROM processes WHERE CAST($1 AS BYTEA) IS NULL -- tenant_id";
        let system = db.read(one.scope, move |tx| Box::pin(async move { tx.all(process, &[]).await })).await;
        assert!(matches!(system, Err(Error::Misuse(_))), "the system's tables are closed to the app role");
    });
}

#[test]
fn without_a_tenant_nothing_is_seen() {
    on_cluster(async |db| {
        let one = seed(&db, tenant(1)).await.unwrap();
        create(&db, one.scope, new_run(one, run(1), at(10))).await.unwrap();
        for sql in [
            "SELECT tenant_id FROM tenants",
            "SELECT tenant_id FROM agents",
            "SELECT tenant_id FROM runs",
            "SELECT tenant_id FROM journal",
        ] {
            assert!(db.rows_of_nobody(sql).await.unwrap().is_empty(), "{sql}");
        }
    });
}

#[test]
fn every_table_with_a_tenant_has_forced_row_level_security() {
    on_cluster(async |db| {
        let sql = "SELECT CAST(c.relname AS TEXT) AS name FROM pg_class c
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
            JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
            WHERE c.relkind = 'r' AND c.relrowsecurity AND c.relforcerowsecurity";
        let rows = db.rows_of_nobody(sql).await.unwrap();
        let mut walled: Vec<_> = rows.iter().map(|row| row.text("name").unwrap()).collect();
        walled.sort();
        let mut tables = TABLES.map(str::to_owned);
        tables.sort();
        assert_eq!(walled, tables);
        let golden = schema(&db).await.unwrap();
        let with_tenant = golden.lines().filter(|line| line.contains(".tenant_id ")).count();
        assert_eq!(with_tenant, TABLES.len(), "a table with tenant_id that this test does not know");
    });
}

#[test]
fn a_cluster_is_migrated_once_and_refused_when_it_is_not() {
    block_on(async {
        let database = Cluster::shared().empty_database().await;
        let early = Db::open_postgres(&database.options()).await;
        assert!(matches!(early, Err(Error::TooOld { found: 0, .. })), "{:?}", early.err());
        // Three processes start at once, and one comes later.
        let migrate = async || migrate_postgres(&database.owner_url(), At::from_micros(1)).await;
        let at_once = futures_util::future::join3(migrate(), migrate(), migrate()).await;
        assert!(matches!(at_once, (Ok(()), Ok(()), Ok(()))), "{at_once:?}");
        migrate().await.unwrap();
        let db = Db::open_postgres(&database.options()).await.unwrap();
        seed(&db, tenant(1)).await.unwrap();
        drop(db);
        database.discard().await;
    });
}

#[test]
fn each_connection_is_of_the_role_that_it_is_for() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let PostgresOptions { app_url, system_url, connections } = database.options();
        let owner = database.owner_url();
        for (app, system, refused) in [
            (&app_url, &system_url, None),
            (&system_url, &app_url, Some(("lantern_app", "lantern_system"))),
            // A superuser has the rights of every role, and sees every tenant.
            (&owner, &system_url, Some(("lantern_app", "postgres"))),
            (&app_url, &owner, Some(("lantern_system", "postgres"))),
            (&app_url, &app_url, Some(("lantern_system", "lantern_app"))),
        ] {
            let (app_url, system_url) = (app.clone(), system.clone());
            let opened = Db::open_postgres(&PostgresOptions { app_url, system_url, connections }).await.err();
            match (&opened, refused) {
                (None, None) => {}
                (Some(Error::Role { wanted, found }), Some(want)) => {
                    assert_eq!((*wanted, found.as_str()), want);
                }
                _ => panic!("{opened:?}, not {refused:?}"),
            }
        }
        // Another role with the rights of the one that serves will do, if row-level security holds it.
        for (attributes, walled) in [("NOBYPASSRLS", true), ("BYPASSRLS", false)] {
            let app_url = database.like_app(attributes).await;
            let opened = Db::open_postgres(&PostgresOptions { app_url, ..database.options() }).await;
            assert_eq!(opened.is_ok(), walled, "{attributes}");
            assert!(walled || matches!(opened.err(), Some(Error::Misuse(_))), "{attributes}");
        }
        for url in [app_url, system_url] {
            let migrated = migrate_postgres(&url, At::from_micros(1)).await;
            assert!(matches!(migrated, Err(Error::Role { wanted: "the owner", .. })), "{migrated:?}");
        }
        database.discard().await;
    });
}
