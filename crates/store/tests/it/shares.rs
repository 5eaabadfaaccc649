//! Who goes first when more is due than there is room for: tenants in turn, priorities within a tenant, and bounds.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join;
use lantern_store::journal::{self, Append, NewRun};
use lantern_store::lease::{self, Claimed, Held, Work};
use lantern_store::share::{Bounds, Room};
use lantern_store::testing::{Cluster, Seeded, block_on, claim_plans, fill_runs, on_sqlite, seed};
use lantern_store::{Db, db_test};
use lantern_types::*;

use crate::support::*;

const TTL: Dur = Dur::from_secs(10);

/// The runs of tenant `n` have numbers of their own.
fn of(n: u128, number: u128) -> RunId {
    run(n * 1_000_000 + number)
}

fn whose(run: RunId) -> u128 {
    (run.uuid().as_u128() - 0x1000) / 1_000_000
}

/// A tenant with so many due runs, each a moment after the one before.
async fn due(db: &Db, n: u128, count: u128) -> Seeded {
    let seeded = seed(db, tenant(n)).await.unwrap();
    for number in 0..count {
        let when = at(10 + i64::try_from(number).unwrap());
        create(db, seeded.scope, new_run(seeded, of(n, number), when)).await.unwrap();
    }
    seeded
}

async fn look(db: &Db, room: Room) -> Work {
    lease::look(db, process(1), READER, at(50_000), room).await.unwrap()
}

fn count(claimed: &[Claimed], n: u128) -> usize {
    claimed.iter().filter(|claimed| whose(claimed.run) == n).count()
}

async fn finish(db: &Db, claimed: &Claimed) {
    let mut append = Append { body: None, ..two_events(claimed) };
    (append.projection.status, append.projection.finished_at) = ("succeeded", Some(at(6_000)));
    journal::append(db, claimed.scope, append).await.unwrap();
}

db_test!(a_tenant_with_much_to_do_starves_nobody, async |db| {
    // Its runs are due before those of the others, and it is first in every order.
    due(&db, 9, 400).await;
    for n in [1, 5] {
        due(&db, n, 3).await;
    }
    lease::register(&db, process(1), at(20), TTL).await.unwrap();
    let work = look(&db, 100.into()).await;
    assert_eq!(
        [1, 5, 9].map(|n| count(&work.claimed, n)),
        [3, 3, 34],
        "a third each, as far as they have as much"
    );
    assert!(work.left);
    let rest = look(&db, Room { limit: 100, after: work.after, ..Room::default() }).await;
    assert_eq!((rest.claimed.len(), rest.left), (100, true), "what nobody else needs");
    let mut all = work.claimed.len() + rest.claimed.len();
    let mut after = rest.after;
    loop {
        let work = look(&db, Room { limit: 100, after, ..Room::default() }).await;
        (all, after) = (all + work.claimed.len(), work.after);
        if !work.left {
            break;
        }
    }
    assert_eq!(all, 406, "and all of it in the end");
});

db_test!(tenants_take_turns_where_there_is_room_for_one, async |db| {
    for (n, many) in [(3, 6), (2, 2), (1, 3)] {
        due(&db, n, many).await;
    }
    lease::register(&db, process(1), at(20), TTL).await.unwrap();
    let (mut after, mut order) = (None, Vec::new());
    for _ in 0..11 {
        let work = look(&db, Room { limit: 1, after, ..Room::default() }).await;
        after = work.after;
        order.extend(work.claimed.iter().map(|claimed| whose(claimed.run)));
    }
    assert_eq!(order, [3, 2, 1, 3, 2, 1, 3, 1, 3, 3, 3]);
    assert!(!look(&db, 1.into()).await.left, "nothing is due any more");
});

db_test!(runs_that_are_not_due_yet_have_no_turn, async |db| {
    let sleeping = seed(&db, tenant(9)).await.unwrap();
    for number in 0..300 {
        create(&db, sleeping.scope, new_run(sleeping, of(9, number), at(90_000))).await.unwrap();
    }
    due(&db, 2, 3).await;
    due(&db, 1, 3).await;
    lease::register(&db, process(1), at(20), TTL).await.unwrap();
    let work = look(&db, 4.into()).await;
    assert_eq!([1, 2, 9].map(|n| count(&work.claimed, n)), [2, 2, 0]);
});

db_test!(the_highest_priority_of_a_tenant_goes_first, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for (number, priority) in [(0, 0), (1, -5), (2, 5), (3, 0), (4, 5), (5, 1)] {
        let when = at(10 + i64::try_from(number).unwrap());
        let new =
            NewRun { priority: Priority::of(priority).unwrap(), ..new_run(seeded, of(1, number), when) };
        create(&db, seeded.scope, new).await.unwrap();
    }
    due(&db, 2, 1).await;
    let head = journal::head(&db, seeded.scope, of(1, 1)).await.unwrap().unwrap();
    assert_eq!(head.priority.get(), -5);
    lease::register(&db, process(1), at(20), TTL).await.unwrap();
    let (mut after, mut order) = (Some(tenant(2)), Vec::new());
    for _ in 0..7 {
        let work = look(&db, Room { limit: 1, after, ..Room::default() }).await;
        after = work.after;
        order.extend(work.claimed.iter().map(|claimed| claimed.run));
    }
    let want = [of(1, 2), of(2, 0), of(1, 4), of(1, 5), of(1, 0), of(1, 3), of(1, 1)];
    assert_eq!(order, want, "no priority comes before another tenant's turn");
});

fn bounded(each: Option<u32>, own: &[(u128, Option<u32>)]) -> Room {
    let own: HashMap<_, _> = own.iter().map(|(n, most)| (tenant(*n), *most)).collect();
    Room { limit: 100, after: None, bounds: Bounds { each, own: Arc::new(own) } }
}

db_test!(no_more_runs_of_a_tenant_are_at_work_than_may_be, async |db| {
    for n in [1, 2, 3] {
        due(&db, n, 6).await;
    }
    lease::register(&db, process(1), at(20), TTL).await.unwrap();
    let room = || bounded(Some(4), &[(2, Some(1)), (3, None)]);
    let mut work = look(&db, room()).await;
    assert_eq!([1, 2, 3].map(|n| count(&work.claimed, n)), [4, 1, 6]);
    assert!(work.left);
    let none = look(&db, room()).await;
    assert_eq!((none.claimed.len(), none.left), (0, true));

    let position = work.claimed.iter().position(|claimed| whose(claimed.run) == 2).unwrap();
    finish(&db, &work.claimed.swap_remove(position)).await;
    let next = look(&db, room()).await;
    assert_eq!((next.claimed.len(), count(&next.claimed, 2)), (1, 1), "one is over, so another may begin");
    let waits = work.claimed.iter().find(|claimed| whose(claimed.run) == 1).unwrap();
    let held = Held { run: waits.run, epoch: waits.epoch, version: waits.version, pokes: waits.pokes };
    assert!(lease::release(&db, waits.scope, held, Some(at(90_000))).await.unwrap());
    let next = look(&db, room()).await;
    assert_eq!((next.claimed.len(), count(&next.claimed, 1)), (1, 1), "one waits, and is not at work");
    let crowded = look(&db, Room { limit: 2, ..room() }).await;
    assert!(crowded.claimed.is_empty() && crowded.left, "nor when more is due than there is room for");
});

db_test!(a_bound_holds_whoever_claims_at_once, async |db| {
    due(&db, 1, 60).await;
    for n in [1, 2] {
        lease::register(&db, process(n), at(20), TTL).await.unwrap();
    }
    let mut over = 0;
    for _ in 0..30 {
        let claims = |n: u128| lease::look(&db, process(n), READER, at(5_000), bounded(Some(3), &[]));
        let (one, two) = join(claims(1), claims(2)).await;
        let claimed = [one.unwrap().claimed, two.unwrap().claimed].concat();
        assert!(claimed.len() <= 3, "{} at work", claimed.len());
        for claimed in &claimed {
            finish(&db, claimed).await;
        }
        over += claimed.len();
    }
    assert_eq!(over, 60, "none was forgotten: one of two that claim at once claims");
});

const DUE: &str =
    "UPDATE runs SET wake_at = created_at, finished_at = NULL, outcome = NULL, status = 'queued'
    WHERE tenant_id = $1 AND created_at <= $2";

/// Two tenants with many runs, of which many are due and many at work; of the second, few.
async fn filled(db: &Db, count: u32) -> TenantId {
    for (n, due) in [(1, i64::from(count) * 5), (2, 600)] {
        let seeded = seed(db, tenant(n)).await.unwrap();
        fill_runs(db, seeded, count).await.unwrap();
        let due: lantern_store::Value = at(due).into();
        let made = db.write(seeded.scope, move |tx| Box::pin(async move { tx.exec(DUE, &[due]).await }));
        assert!(made.await.unwrap() > 0);
    }
    lease::register(db, process(1), at(20), TTL).await.unwrap();
    assert_eq!(look(db, 1_000.into()).await.claimed.len(), 1_000);
    tenant(2)
}

async fn goes_along_an_index(db: &Db, tenant: TenantId) {
    let plans = claim_plans(db, tenant).await.unwrap();
    // Where most runs at work are one tenant's, an index of all that are at work is as good.
    let at_work = ["runs_at_work", "runs_by_owner"].as_slice();
    let along: [&[&str]; 5] = [&["runs_due"], &["runs_in_turn"], at_work, &["runs_due"], &["runs_in_turn"]];
    for (plan, indexes) in plans.iter().zip(along) {
        assert!(indexes.iter().any(|index| plan.contains(index)), "not along {indexes:?}:\n{plan}");
        for wrong in [
            "Seq Scan on runs",
            "SCAN runs USING INDEX sqlite_auto",
            "Sort Key: runs.wake_at",
            "Sort Key: r.",
        ] {
            assert!(!plan.contains(wrong), "{wrong}:\n{plan}");
        }
    }
}

#[test]
fn turns_and_claims_go_along_an_index_sqlite() {
    on_sqlite(async |db| {
        let tenant = filled(&db, 2_000).await;
        goes_along_an_index(&db, tenant).await;
    });
}

#[test]
fn turns_and_claims_go_along_an_index_postgres() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let db = Db::open_postgres(&database.options()).await.unwrap();
        let tenant = filled(&db, 20_000).await;
        database.analyze().await;
        goes_along_an_index(&db, tenant).await;
        drop(db);
        database.discard().await;
    });
}

/// What the planner believes may be of yesterday, of an emptier table or a fuller one: finding out what is due, and claiming it, keep to
/// their index, and nothing that is due is sorted.
#[test]
fn the_claim_goes_along_its_index_whatever_the_statistics_say() {
    block_on(async {
        let database = Cluster::shared().database().await;
        let db = Db::open_postgres(&database.options()).await.unwrap();
        let tenant = filled(&db, 20_000).await;
        database.analyze().await;
        database.run("ALTER TABLE runs SET (autovacuum_enabled = false)").await;
        for tuples in [1.0, 1e9] {
            let of = "oid = 'runs'::regclass OR oid IN
                (SELECT indexrelid FROM pg_index WHERE indrelid = 'runs'::regclass)";
            database.run(&format!("UPDATE pg_class SET reltuples = {tuples} WHERE {of}")).await;
            let plans = claim_plans(&db, tenant).await.unwrap();
            for plan in [&plans[0], &plans[3]] {
                let kept = plan.contains("runs_due") && !plan.contains("runs_in_turn");
                assert!(kept && !plan.contains("Sort Key: runs.wake_at"), "{tuples} rows:\n{plan}");
                assert!(!plan.contains("Seq Scan on runs"), "{tuples} rows:\n{plan}");
            }
        }
        drop(db);
        database.discard().await;
    });
}
