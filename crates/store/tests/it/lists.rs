//! Lists of runs: what each filter lets through, how pages join, and along which index the rows are found.

use lantern_store::journal::{self, Append, Created, NewRun, RunFilter};
use lantern_store::labels::{self, Hit, Label};
use lantern_store::testing::{Cluster, Seeded, block_on, fill_runs, list_plans, on_sqlite, seed};
use lantern_store::{Db, db_test, migrate_postgres};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

const LABELS: &str = "SELECT key, value FROM run_labels WHERE tenant_id = $1 ORDER BY key, value";

fn all() -> RunFilter {
    RunFilter { limit: 100, ..RunFilter::default() }
}

fn label(key: &str, value: &str) -> Label {
    Label { key: key.to_owned(), value: value.to_owned() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn ids(db: &Db, seeded: Seeded, filter: RunFilter) -> Vec<RunId> {
    journal::list(db, seeded.scope, filter).await.unwrap().iter().map(|row| row.id).collect()
}

/// Two runs a moment, from 10 on: of the agents `digest`, `digest`, `other` and so on.
async fn six(db: &Db, seeded: Seeded) {
    for n in 0..6 {
        let mut new = new_run(seeded, run(n), at(10 + i64::try_from(n / 2).unwrap()));
        new.session_id = (n == 3).then_some(session());
        new.parent = (n >= 4).then(|| (run(3), "1".to_owned()));
        let agent_name = if n % 3 == 2 { "other" } else { "digest" };
        let labels = match n {
            0 => r#"{"env":"prod","team":"a:b"}"#,
            1 | 4 => r#"{"env":"prod"}"#,
            2 => r#"{"env":"production","note":""}"#,
            _ => "{}",
        };
        let new = NewRun { agent_name: agent_name.to_owned(), labels: labels.to_owned(), ..new };
        create(db, seeded.scope, new).await.unwrap();
    }
}

fn session() -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(77))
}

/// Ends the runs 0 and 1 as failed and 2 as succeeded; 3 runs.
async fn end_some(db: &Db, seeded: Seeded) {
    for claimed in claim_all(db, process(1), at(20)).await {
        let status = match claimed.run {
            _ if claimed.scope != seeded.scope => continue,
            id if id == run(0) || id == run(1) => "failed",
            id if id == run(2) => "succeeded",
            id if id == run(3) => "running",
            _ => continue,
        };
        let mut append = two_events(&claimed);
        append.projection.status = status;
        append.projection.finished_at = (status != "running").then_some(at(30));
        journal::append(db, seeded.scope, append).await.unwrap();
    }
}

db_test!(lists_are_newest_first_and_filtered, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let other = seed(&db, tenant(2)).await.unwrap();
    six(&db, seeded).await;
    six(&db, other).await;
    end_some(&db, seeded).await;
    let quoted = Some("x' OR '1'='1".to_owned());
    let agent = Some("other".to_owned());
    let env = || vec![label("env", "prod")];
    for (filter, want) in [
        (all(), &[5, 4, 3, 2, 1, 0][..]),
        (RunFilter { limit: 2, ..all() }, &[5, 4]),
        (RunFilter { agent_name: agent.clone(), ..all() }, &[5, 2]),
        (RunFilter { agent_name: quoted, ..all() }, &[]),
        (RunFilter { session_id: Some(session()), ..all() }, &[3]),
        (RunFilter { parent_run_id: Some(run(3)), ..all() }, &[5, 4]),
        (RunFilter { statuses: words(&["failed"]), ..all() }, &[1, 0]),
        (RunFilter { statuses: words(&["queued"]), ..all() }, &[5, 4]),
        (RunFilter { statuses: words(&["running", "queued"]), limit: 2, ..all() }, &[5, 4]),
        (RunFilter { statuses: words(&["succeeded", "running", "failed"]), ..all() }, &[3, 2, 1, 0]),
        (RunFilter { statuses: words(&["succeeded", "running", "failed"]), limit: 3, ..all() }, &[3, 2, 1]),
        (RunFilter { statuses: words(&["paused"]), ..all() }, &[]),
        (
            RunFilter { statuses: words(&["succeeded", "queued"]), agent_name: agent.clone(), ..all() },
            &[5, 2],
        ),
        (RunFilter { statuses: words(&["failed"]), agent_name: agent.clone(), ..all() }, &[]),
        (RunFilter { statuses: words(&["queued"]), parent_run_id: Some(run(3)), ..all() }, &[5, 4]),
        (RunFilter { from: Some(at(11)), ..all() }, &[5, 4, 3, 2]),
        (RunFilter { until: Some(at(11)), ..all() }, &[1, 0]),
        (RunFilter { from: Some(at(11)), until: Some(at(12)), ..all() }, &[3, 2]),
        (RunFilter { from: Some(at(12)), until: Some(at(11)), ..all() }, &[]),
        (RunFilter { from: Some(at(12)), statuses: words(&["queued"]), ..all() }, &[5, 4]),
        (RunFilter { labels: env(), ..all() }, &[4, 1, 0]),
        (RunFilter { labels: env(), from: Some(at(11)), ..all() }, &[4]),
        (RunFilter { labels: env(), statuses: words(&["failed", "queued"]), ..all() }, &[4, 1, 0]),
        (RunFilter { labels: env(), parent_run_id: Some(run(3)), ..all() }, &[4]),
        (RunFilter { labels: vec![label("team", "a:b"), label("env", "prod")], ..all() }, &[0]),
        (RunFilter { labels: vec![label("env", "prod"), label("env", "production")], ..all() }, &[]),
        (RunFilter { labels: vec![label("note", "")], ..all() }, &[2]),
        (RunFilter { labels: vec![label("env", "prod"), label("env", "prod")], ..all() }, &[4, 1, 0]),
        (
            RunFilter {
                hits: Some(vec![Hit::Agent("other".to_owned()), Hit::Label(label("env", "prod"))]),
                ..all()
            },
            &[5, 4, 2, 1, 0],
        ),
        (
            RunFilter {
                hits: Some(vec![Hit::Agent("other".to_owned()), Hit::Label(label("env", "production"))]),
                ..all()
            },
            &[5, 2],
        ),
        (
            RunFilter {
                hits: Some(vec![Hit::Label(label("env", "prod"))]),
                parent_run_id: Some(run(3)),
                ..all()
            },
            &[4],
        ),
        (RunFilter { hits: Some(vec![Hit::Ids(run(1), run(4))]), agent_name: agent, ..all() }, &[2]),
        (RunFilter { hits: Some(vec![Hit::Ids(run(1), run(4))]), labels: env(), ..all() }, &[4, 1]),
        (RunFilter { hits: Some(vec![]), ..all() }, &[]),
    ] {
        let want: Vec<RunId> = want.iter().copied().map(run).collect();
        assert_eq!(ids(&db, seeded, filter.clone()).await, want, "{filter:?}");
    }
});

db_test!(pages_join_whatever_comes_in_between, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    six(&db, seeded).await;
    let filters = [
        all(),
        RunFilter { until: Some(at(12)), ..all() },
        RunFilter { statuses: words(&["queued", "failed"]), ..all() },
        RunFilter { labels: vec![label("env", "prod")], ..all() },
        RunFilter {
            hits: Some(vec![Hit::Agent("other".to_owned()), Hit::Label(label("env", "prod"))]),
            ..all()
        },
        RunFilter { hits: Some(vec![Hit::Ids(run(0), run(9))]), ..all() },
    ];
    for (n, filter) in (10..).zip(filters) {
        let whole = ids(&db, seeded, filter.clone()).await;
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = RunFilter { before, limit: 1, ..filter.clone() };
            let rows = journal::list(&db, seeded.scope, page).await.unwrap();
            let Some(last) = rows.last() else { break };
            before = Some((last.created_at, last.id));
            seen.push(last.id);
            // Newer than all of them, and found by most of the filters.
            let labels = r#"{"env":"prod"}"#.to_owned();
            let newer = new_run(seeded, run(n * 100 + u128::try_from(seen.len()).unwrap()), at(100));
            create(&db, seeded.scope, NewRun { labels, ..newer }).await.unwrap();
        }
        assert_eq!(seen, whole, "{filter:?}");
    }
});

db_test!(what_no_index_answers_is_looked_at_in_portions, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    six(&db, seeded).await;
    end_some(&db, seeded).await;
    let (agent, prod) = (Some("digest".to_owned()), vec![label("env", "prod")]);
    let labelled = || RunFilter { labels: prod.clone(), ..all() };
    let found = Some(vec![Hit::Agent("digest".to_owned()), Hit::Label(label("env", "prod"))]);
    for (filter, want) in [
        (all(), &[&[5, 4, 3, 2, 1, 0][..]][..]),
        (RunFilter { statuses: words(&["failed"]), ..all() }, &[&[1, 0]]),
        (labelled(), &[&[4, 1, 0]]),
        // Two at a time of the three with the label.
        (RunFilter { statuses: words(&["failed"]), ..labelled() }, &[&[1], &[0]]),
        (RunFilter { statuses: words(&["succeeded"]), ..labelled() }, &[&[], &[]]),
        (RunFilter { agent_name: agent.clone(), ..labelled() }, &[&[4, 1], &[0]]),
        (RunFilter { agent_name: agent.clone(), limit: 1, ..labelled() }, &[&[4], &[1], &[0], &[]]),
        (RunFilter { agent_name: agent.clone(), from: Some(at(11)), ..labelled() }, &[&[4]]),
        // One for each of two queries: nothing is told before both have looked so far down.
        (
            RunFilter { hits: found, statuses: words(&["failed", "queued", "running"]), ..all() },
            &[&[4], &[3], &[1], &[0], &[]],
        ),
        (
            RunFilter { agent_name: agent, statuses: words(&["succeeded", "failed"]), ..all() },
            &[&[], &[], &[1], &[0], &[]],
        ),
    ] {
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let page = RunFilter { before, ..filter.clone() };
            let limit = usize::try_from(page.limit).unwrap();
            let found = journal::look(&db, seeded.scope, page, 2).await.unwrap();
            let ids: Vec<RunId> = found.runs.iter().map(|row| row.id).collect();
            let last = found.runs.last().map(|row| (row.created_at, row.id));
            before = if ids.len() == limit { last } else { found.down_to };
            pages.push(ids);
            if before.is_none() {
                break;
            }
        }
        let want: Vec<Vec<RunId>> = want.iter().map(|page| page.iter().copied().map(run).collect()).collect();
        assert_eq!(pages, want, "{filter:?}");
    }
});

db_test!(labels_come_and_go_with_their_run, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let labels = async || -> Vec<String> {
        let rows =
            db.read(seeded.scope, |tx| Box::pin(async move { tx.all(LABELS, &[]).await })).await.unwrap();
        let line = |row: &lantern_store::Row| {
            let value = String::from_utf8(row.bytes("value").unwrap()).unwrap();
            format!("{}={value}", row.text("key").unwrap())
        };
        rows.iter().map(line).collect()
    };
    let labelled = |n, labels: &str| NewRun {
        labels: labels.to_owned(),
        idempotency_key: Some("once".to_owned()),
        ..new_run(seeded, run(n), at(10))
    };
    create(&db, seeded.scope, labelled(1, r#"{"env":"prod","team":"ä"}"#)).await.unwrap();
    // One that is not made leaves nothing.
    let second = create(&db, seeded.scope, labelled(2, r#"{"env":"test"}"#)).await.unwrap();
    assert_eq!(second, Created::Existing(run(1)));
    let same = NewRun { idempotency_key: None, ..labelled(1, r#"{"env":"test"}"#) };
    create(&db, seeded.scope, same).await.unwrap_err();
    assert_eq!(labels().await, ["env=prod", "team=ä"]);
    create(&db, seeded.scope, NewRun { idempotency_key: None, ..labelled(3, r#"{"env":"prod"}"#) })
        .await
        .unwrap();
    for claimed in claim_all(&db, process(1), at(20)).await {
        let mut last = Append { ..two_events(&claimed) };
        last.projection.finished_at = Some(at(30));
        journal::append(&db, seeded.scope, last).await.unwrap();
    }
    let delete = async |n| {
        db.write(seeded.scope, move |tx| Box::pin(journal::delete(tx, run(n), at(40)))).await.unwrap()
    };
    delete(1).await.unwrap();
    assert_eq!(labels().await, ["env=prod"]);
    delete(3).await.unwrap();
    assert_eq!(labels().await, [""; 0]);
});

db_test!(a_search_finds_what_begins_so, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let other = seed(&db, tenant(2)).await.unwrap();
    six(&db, seeded).await;
    let stranger = NewRun { labels: r#"{"env":"probe"}"#.to_owned(), ..new_run(other, run(9), at(10)) };
    create(&db, other.scope, stranger).await.unwrap();
    let search =
        async |text: &str, most| labels::search(&db, seeded.scope, text.to_owned(), most).await.unwrap();
    let of = |key, value| Hit::Label(label(key, value));
    for (text, want) in [
        ("prod", vec![of("env", "prod"), of("env", "production")]),
        ("produ", vec![of("env", "production")]),
        ("dig", vec![Hit::Agent("digest".to_owned())]),
        ("digest", vec![Hit::Agent("digest".to_owned())]),
        ("digests", vec![]),
        ("Prod", vec![]),
        ("a:", vec![of("team", "a:b")]),
        ("%", vec![]),
        ("_rod", vec![]),
        (
            "00000000",
            vec![Hit::Ids(RunId::from_uuid(Uuid::nil()), RunId::from_uuid(Uuid::from_u128(u128::MAX >> 32)))],
        ),
    ] {
        assert_eq!(search(text, 9).await, Some(want), "{text}");
    }
    assert_eq!(search("prod", 2).await.map(|hits| hits.len()), Some(2));
    assert_eq!(search("prod", 1).await, None);
    assert_eq!(search("d", 0).await, None);
});

/// Every filter, with the index that it goes along in either database.
fn along(seeded: Seeded) -> Vec<(RunFilter, &'static [&'static str])> {
    let some = |filter: RunFilter| RunFilter { limit: 51, ..filter };
    let (id, lead) = (*seeded.agent.bytes(), ["runs_pkey", "sqlite_autoindex_runs_1"].as_slice());
    vec![
        (some(all()), &["runs_by_time"]),
        (RunFilter { from: Some(at(50_000)), until: Some(at(60_000)), ..some(all()) }, &["runs_by_time"]),
        (RunFilter { agent_name: Some("agent-7".to_owned()), ..some(all()) }, &["runs_by_agent"]),
        (RunFilter { session_id: SessionId::from_bytes(&id), ..some(all()) }, &["runs_by_session"]),
        (RunFilter { parent_run_id: RunId::from_bytes(&id), ..some(all()) }, &["runs_by_parent"]),
        (
            RunFilter {
                parent_run_id: RunId::from_bytes(&id),
                agent_name: Some("agent-7".to_owned()),
                ..some(all())
            },
            &["runs_by_parent"],
        ),
        (RunFilter { statuses: words(&["failed"]), ..some(all()) }, &["runs_by_outcome"]),
        (
            RunFilter { statuses: words(&["failed"]), agent_name: Some("agent-3".to_owned()), ..some(all()) },
            &["runs_unsuccessful"],
        ),
        (
            RunFilter {
                statuses: words(&["succeeded"]),
                agent_name: Some("agent-7".to_owned()),
                ..some(all())
            },
            &["runs_by_agent"],
        ),
        (RunFilter { statuses: words(&["queued", "paused"]), ..some(all()) }, &["runs_open"]),
        (RunFilter { labels: vec![label("customer", "ada")], ..some(all()) }, &["run_labels_by_value"]),
        (
            RunFilter { labels: vec![label("customer", "ada"), label("env", "prod")], ..some(all()) },
            &["run_labels_by_value"],
        ),
        (RunFilter { hits: Some(vec![Hit::Agent("agent-7".to_owned())]), ..some(all()) }, &["runs_by_agent"]),
        (
            RunFilter { hits: Some(vec![Hit::Label(label("customer", "ada"))]), ..some(all()) },
            &["run_labels_by_value"],
        ),
        (RunFilter { hits: Some(vec![Hit::Ids(run(0), run(9))]), ..some(all()) }, lead),
    ]
}

async fn goes_along_its_index(db: &Db, seeded: Seeded) {
    for (filter, indexes) in along(seeded) {
        for before in [None, Some((at(100_000), run(1)))] {
            let page = RunFilter { before, ..filter.clone() };
            let plans = list_plans(db, seeded, &page).await.unwrap();
            let looks = page.labels.len() > 1 || page.statuses == ["succeeded"];
            assert_eq!(plans.len(), 1 + usize::from(looks), "{page:?}");
            for plan in plans {
                assert!(
                    indexes.iter().any(|index| plan.contains(index)),
                    "not along {indexes:?}: {page:?}\n{plan}"
                );
                for wrong in ["Seq Scan", "SCAN "] {
                    assert!(!plan.contains(wrong), "{wrong}: {page:?}\n{plan}");
                }
            }
        }
    }
}

/// Rows that are looked at one by one belong to what was asked for: every equality of an ordered list is a part of its
/// index, and nothing is sorted.
async fn sorts_only_what_is_bounded(db: &Db, seeded: Seeded) {
    for (filter, _) in along(seeded) {
        let bounded = filter.statuses.iter().any(|status| status == "queued")
            || matches!(filter.hits.as_deref(), Some([Hit::Ids(..)]))
            || filter.parent_run_id.is_some()
            || filter.session_id.is_some();
        for plan in list_plans(db, seeded, &filter).await.unwrap() {
            assert!(
                bounded || !(plan.contains("Sort") || plan.contains("TEMP B-TREE")),
                "{filter:?}\n{plan}"
            );
        }
    }
}

/// On PostgreSQL an update that changes no column of an index writes no entry into any. Most appends are such an update.
#[test]
fn what_a_turn_changes_stands_in_no_index() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let told = "DO $$ BEGIN ASSERT (SELECT count(*) > 9 AND
            bool_and(pg_get_indexdef(indexrelid) !~ '\\m(status|version|chain|spent|held|tokens_in|tokens_out|started_at)\\M')
            FROM pg_index WHERE indrelid = 'runs'::regclass); END $$";
        database.run(told).await;
        database.discard().await;
    });
}

const RUNS: u32 = 20_000;

#[test]
fn each_filter_goes_along_an_index_sqlite() {
    on_sqlite(async |db| {
        // Nothing counts the rows of SQLite for its planner, so few tell as much as many.
        let seeded = seed(&db, tenant(1)).await.unwrap();
        fill_runs(&db, seeded, 2_000).await.unwrap();
        goes_along_its_index(&db, seeded).await;
        sorts_only_what_is_bounded(&db, seeded).await;
    });
}

#[test]
fn each_filter_goes_along_an_index_postgres() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let db = Db::open_postgres(&database.options()).await.unwrap();
        let seeded = seed(&db, tenant(1)).await.unwrap();
        for filled in [seeded, seed(&db, tenant(2)).await.unwrap()] {
            fill_runs(&db, filled, RUNS).await.unwrap();
        }
        database.analyze().await;
        goes_along_its_index(&db, seeded).await;
        sorts_only_what_is_bounded(&db, seeded).await;
        drop(db);
        database.discard().await;
    });
}

#[test]
fn runs_that_are_there_get_their_labels() {
    block_on(async {
        let database = Cluster::shared().empty_database().await;
        database.migrate_to(10).await;
        let run = "INSERT INTO tenants VALUES ('\\x01', 't', 't', 'dev', 1);
            INSERT INTO agents (tenant_id, id, name, labels, created_at, updated_at, version)
                VALUES ('\\x01', '\\x02', 'a', '{}', 1, 1, 1);
            INSERT INTO agent_versions (tenant_id, id, agent_id, number, digest, manifest, created_at)
                VALUES ('\\x01', '\\x03', '\\x02', 1, '\\x00', '{}', 1);
            INSERT INTO runs (tenant_id, id, agent_id, agent_name, agent_version_id, status, trigger_kind, version,
                chain, epoch, pokes, spent, held, tokens_in, tokens_out, created_at, finished_at, depth, labels)
                SELECT '\\x01', id, '\\x02', 'a', '\\x03', 'queued', 'api', 1, '\\x00', 0, 0, 0, 0, 0, 0, 7, over, 0, labels
                FROM (VALUES (CAST('\\x0a' AS BYTEA), '{\"env\":\"\",\"team\":\"a\\u0308\"}', NULL), ('\\x0b', '{}', 8))
                AS made (id, labels, over);";
        database.run(run).await;
        // By the owner of the tables, who sees no tenant's rows either.
        migrate_postgres(&database.migrator_url(), at(2)).await.unwrap();
        let told = "DO $$ BEGIN ASSERT (SELECT string_agg(encode(run_id, 'hex') || ' ' || key || '=' ||
            encode(value, 'hex') || ' ' || created_at, ',' ORDER BY key) FROM run_labels) = '0a env= 7,0a team=61cc88 7';
            ASSERT (SELECT string_agg(encode(id, 'hex') || ' ' || outcome, ',') FROM runs) = '0b queued';
            ASSERT (SELECT relforcerowsecurity FROM pg_class WHERE relname = 'runs'); END $$";
        database.run(told).await;
        database.discard().await;
    });
}
