//! Questions to people: rows that ride along with appends, what lists show of them, and what happens to them with their run.

use lantern_store::approvals::{self, ApprovalFilter, ApprovalRow};
use lantern_store::journal::{self, Append, GiveUp};
use lantern_store::lease::Claimed;
use lantern_store::testing::{Cluster, Seeded, approval_plans, block_on, on_sqlite, seed};
use lantern_store::{Db, db_test, migrate_postgres};
use lantern_types::approval::{Asked, Change, Closed, Status};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

fn id(n: u128) -> ApprovalId {
    ApprovalId::from_uuid(Uuid::from_u128(0x7000 + n))
}

fn asked(n: u128, micros: i64) -> Asked {
    Asked { id: id(n), step: format!("step-{n}"), seq: 3, at: at(micros), due: at(micros + 100) }
}

fn closed(n: u128, status: Status) -> Change {
    Change::Closed(Closed { id: id(n), status, seq: 5, at: at(50) })
}

/// Two more events, which do this to questions.
async fn append(db: &Db, seeded: Seeded, held: &mut Claimed, changes: Vec<Change>) {
    let new = Append { approvals: changes, ..two_events(held) };
    held.chain = new.chain;
    held.version = journal::append(db, seeded.scope, new).await.unwrap().version;
}

/// A run, held.
async fn held(db: &Db, seeded: Seeded, n: u128) -> Claimed {
    create(db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
    let claimed = claim_all(db, process(n), at(20)).await;
    claimed.into_iter().find(|claimed| claimed.run == run(n)).unwrap()
}

fn all() -> ApprovalFilter {
    ApprovalFilter { statuses: Status::ALL.to_vec(), limit: 100, ..ApprovalFilter::default() }
}

async fn list(db: &Db, seeded: Seeded, filter: ApprovalFilter) -> Vec<ApprovalRow> {
    approvals::list(db, seeded.scope, filter).await.unwrap()
}

async fn ids(db: &Db, seeded: Seeded, filter: ApprovalFilter) -> Vec<ApprovalId> {
    list(db, seeded, filter).await.iter().map(|row| row.id).collect()
}

db_test!(a_question_is_written_and_closed_by_appends, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let other = seed(&db, tenant(2)).await.unwrap();
    let mut run = held(&db, seeded, 1).await;
    append(&db, seeded, &mut run, vec![]).await;
    assert!(list(&db, seeded, all()).await.is_empty());
    append(&db, seeded, &mut run, vec![Change::Asked(asked(1, 30)), Change::Asked(asked(2, 30))]).await;
    let row = approvals::find(&db, seeded.scope, id(1)).await.unwrap().unwrap();
    let want = ApprovalRow {
        id: id(1),
        run: run.run,
        step: "step-1".to_owned(),
        agent_name: "digest".to_owned(),
        status: Status::Pending,
        asked_seq: 3,
        closed_seq: None,
        asked_at: at(30),
        expires_at: at(130),
        closed_at: None,
        over: None,
    };
    assert_eq!(row, want);
    assert!(approvals::find(&db, other.scope, id(1)).await.unwrap().is_none());
    assert!(list(&db, other, all()).await.is_empty());
    let changes = vec![closed(1, Status::Granted), closed(9, Status::Denied)];
    append(&db, seeded, &mut run, changes).await;
    let row = approvals::find(&db, seeded.scope, id(1)).await.unwrap().unwrap();
    assert_eq!((row.status, row.closed_seq, row.closed_at), (Status::Granted, Some(5), Some(at(50))));
    // What was decided stays so, and is not asked again.
    let again = vec![closed(1, Status::Withdrawn), Change::Asked(asked(1, 60))];
    append(&db, seeded, &mut run, again).await;
    assert_eq!(approvals::find(&db, seeded.scope, id(1)).await.unwrap().unwrap(), row);
    assert_eq!(ids(&db, seeded, all()).await, [id(2), id(1)]);
});

db_test!(an_append_that_fails_asks_nothing, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let run = held(&db, seeded, 1).await;
    let stale =
        Append { approvals: vec![Change::Asked(asked(1, 30))], epoch: run.epoch - 1, ..two_events(&run) };
    journal::append(&db, seeded.scope, stale).await.unwrap_err();
    assert!(list(&db, seeded, all()).await.is_empty());
});

db_test!(a_row_that_is_missing_is_made_by_whoever_holds_the_run, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let mut run = held(&db, seeded, 1).await;
    append(&db, seeded, &mut run, vec![Change::Asked(asked(1, 30))]).await;
    append(&db, seeded, &mut run, vec![closed(1, Status::Granted)]).await;
    let open = vec![asked(1, 30), asked(2, 40)];
    approvals::ensure(&db, seeded.scope, (run.run, run.epoch - 1), open.clone()).await.unwrap();
    assert_eq!(ids(&db, seeded, all()).await, [id(1)], "the run is somebody else's");
    for _ in 0..2 {
        approvals::ensure(&db, seeded.scope, (run.run, run.epoch), open.clone()).await.unwrap();
        let found: Vec<_> = list(&db, seeded, all()).await.iter().map(|row| (row.id, row.status)).collect();
        assert_eq!(found, [(id(2), Status::Pending), (id(1), Status::Granted)]);
    }
});

db_test!(lists_are_narrowed_and_ordered, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let mut one = held(&db, seeded, 1).await;
    let changes = (1..=4).map(|n| Change::Asked(asked(n, 30 + i64::try_from(n / 2).unwrap()))).collect();
    append(&db, seeded, &mut one, changes).await;
    let mut two = held(&db, seeded, 2).await;
    append(&db, seeded, &mut two, vec![Change::Asked(asked(5, 31))]).await;
    append(&db, seeded, &mut one, vec![closed(2, Status::Denied), closed(4, Status::Expired)]).await;
    let some = |statuses: &[Status]| ApprovalFilter { statuses: statuses.to_vec(), ..all() };
    let pending = || ApprovalFilter { oldest_first: true, ..some(&[Status::Pending]) };
    let agent = |name: &str| Some(name.to_owned());
    for (filter, want) in [
        (all(), vec![4, 5, 3, 2, 1]),
        (pending(), vec![1, 3, 5]),
        (ApprovalFilter { run: Some(run(1)), ..pending() }, vec![1, 3]),
        (ApprovalFilter { run: Some(run(1)), agent_name: agent("digest"), ..pending() }, vec![1, 3]),
        (ApprovalFilter { run: Some(run(1)), agent_name: agent("other"), ..pending() }, vec![]),
        (ApprovalFilter { run: Some(run(3)), ..all() }, vec![]),
        (ApprovalFilter { agent_name: agent("digest"), ..pending() }, vec![1, 3, 5]),
        (ApprovalFilter { agent_name: agent("other"), ..all() }, vec![]),
        (some(&[Status::Denied, Status::Expired]), vec![4, 2]),
        (some(&[Status::Granted]), vec![]),
        (some(&[]), vec![]),
        (ApprovalFilter { limit: 2, ..all() }, vec![4, 5]),
        (ApprovalFilter { after: Some((at(31), id(3))), ..pending() }, vec![5]),
        (ApprovalFilter { after: Some((at(31), id(3))), ..all() }, vec![2, 1]),
    ] {
        let want: Vec<ApprovalId> = want.into_iter().map(id).collect();
        assert_eq!(ids(&db, seeded, filter.clone()).await, want, "{filter:?}");
    }
});

#[test]
fn each_list_goes_along_an_index() {
    on_sqlite(async |db| {
        let seeded = seed(&db, tenant(1)).await.unwrap();
        let some = |filter| ApprovalFilter { statuses: vec![Status::Pending], limit: 51, ..filter };
        let agent = || Some("digest".to_owned());
        for (filter, index) in [
            (some(all()), "approvals_by_status"),
            (ApprovalFilter { oldest_first: true, ..some(all()) }, "approvals_by_status"),
            (ApprovalFilter { agent_name: agent(), ..some(all()) }, "approvals_by_agent"),
            (ApprovalFilter { run: Some(run(1)), agent_name: agent(), ..some(all()) }, "approvals_by_run"),
        ] {
            for after in [None, Some((at(31), id(3)))] {
                let page = ApprovalFilter { after, ..filter.clone() };
                let plan = approval_plans(&db, seeded, &page).await.unwrap();
                assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{page:?}\n{plan}");
            }
        }
    });
}

#[test]
fn runs_that_wait_are_looked_at_once_after_the_migration() {
    block_on(async {
        let database = Cluster::shared().empty_database().await;
        database.migrate_to(11).await;
        let run = "INSERT INTO tenants VALUES ('\\x01', 't', 't', 'dev', 1);
            INSERT INTO agents (tenant_id, id, name, labels, created_at, updated_at, version)
                VALUES ('\\x01', '\\x02', 'a', '{}', 1, 1, 1);
            INSERT INTO agent_versions (tenant_id, id, agent_id, number, digest, manifest, created_at)
                VALUES ('\\x01', '\\x03', '\\x02', 1, '\\x00', '{}', 1);
            INSERT INTO runs (tenant_id, id, agent_id, agent_name, agent_version_id, status, trigger_kind, version,
                chain, epoch, pokes, spent, held, tokens_in, tokens_out, created_at, depth, labels, wake_at)
                SELECT '\\x01', id, '\\x02', 'a', '\\x03', 'paused', 'api', 1, '\\x00', 0, 0, 0, 0, 0, 0, 7, 0, '{}', wake
                FROM (VALUES (CAST('\\x0a' AS BYTEA), 9), ('\\x0b', NULL)) AS made (id, wake);";
        database.run(run).await;
        migrate_postgres(&database.migrator_url(), at(2)).await.unwrap();
        let told = "DO $$ BEGIN ASSERT (SELECT string_agg(encode(id, 'hex') || ' ' || wake_at, ',') FROM runs) = '0a 0';
            ASSERT (SELECT relforcerowsecurity FROM pg_class WHERE relname = 'runs'); END $$";
        database.run(told).await;
        database.discard().await;
    });
}

db_test!(what_was_asked_is_found_by_its_place, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let mut run = held(&db, seeded, 1).await;
    append(&db, seeded, &mut run, vec![Change::Asked(asked(1, 30)), Change::Asked(asked(2, 30))]).await;
    append(&db, seeded, &mut run, vec![closed(1, Status::Granted)]).await;
    let told = approvals::told(&db, seeded.scope, &list(&db, seeded, all()).await).await.unwrap();
    let places: Vec<_> = told
        .iter()
        .map(|(asked, closed)| {
            (asked.as_ref().map(|stored| stored.first_seq), closed.as_ref().map(|stored| stored.first_seq))
        })
        .collect();
    assert_eq!(places, [(Some(2), None), (Some(2), Some(4))]);
});

db_test!(questions_go_with_their_run, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let mut one = held(&db, seeded, 1).await;
    let mut two = held(&db, seeded, 2).await;
    append(&db, seeded, &mut one, vec![Change::Asked(asked(1, 30))]).await;
    append(&db, seeded, &mut two, vec![Change::Asked(asked(2, 30))]).await;
    // One is given up, without an append.
    put(&db, seeded.scope, run(1), input(1), "cancel", at(31)).await;
    const LET_GO: &str = "UPDATE runs SET owner = NULL, wake_at = NULL WHERE tenant_id = $1 AND id = $2";
    db.write(seeded.scope, |tx| Box::pin(async move { tx.exec(LET_GO, &[run(1).into()]).await }))
        .await
        .unwrap();
    let end = GiveUp {
        run: run(1),
        epoch: one.epoch,
        version: one.version,
        at: at(40),
        error_code: "run_unreadable",
        asked: "cancel",
    };
    assert!(journal::give_up(&db, seeded.scope, end, Vec::new()).await.unwrap());
    let row = approvals::find(&db, seeded.scope, id(1)).await.unwrap().unwrap();
    assert_eq!((row.status, row.closed_seq, row.closed_at), (Status::Withdrawn, None, Some(at(40))));
    // The other ends by an append that drops its question, which goes in the same transaction.
    let mut last = Append { approvals: vec![closed(2, Status::Withdrawn)], ..two_events(&two) };
    last.projection.finished_at = Some(at(30));
    journal::append(&db, seeded.scope, last).await.unwrap();
    assert_eq!(ids(&db, seeded, all()).await, [id(2), id(1)]);
    for (n, left) in [(1, vec![id(2)]), (2, vec![])] {
        db.write(seeded.scope, move |tx| Box::pin(journal::delete(tx, run(n), at(60))))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(ids(&db, seeded, all()).await, left);
    }
});
