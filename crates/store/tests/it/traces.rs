//! Which runs have spans to be exported: rows that come with their runs, are in one hand at a time, and go when all is taken.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use lantern_policy::Scope;
use lantern_store::testing::{Seeded, seed};
use lantern_store::traces::{self, Done, Due};
use lantern_store::{Db, db_test, journal};
use lantern_types::*;

use crate::support::{at, claim_all, create, new_run, process, run, tenant, two_events};

/// How long the tests have a run in hand.
const UNTIL: i64 = 1_000;

async fn traced(db: &Db, seeded: Seeded, n: u128) {
    let new = journal::NewRun { traced: true, ..new_run(seeded, run(n), at(10)) };
    create(db, seeded.scope, new).await.unwrap();
}

async fn take(db: &Db, now: i64) -> Vec<Due> {
    traces::take(db, at(now), at(now + UNTIL), 100).await.unwrap()
}

fn runs(due: &[Due]) -> BTreeSet<RunId> {
    due.iter().map(|due| due.run).collect()
}

async fn done(db: &Db, due: Due, seq: Option<i64>, now: i64) {
    traces::done(db, due.scope, &[Done { due, seq }], at(now)).await.unwrap();
}

db_test!(a_run_is_taken_when_it_has_news_and_by_one_at_a_time, async |db| {
    let seeded = seed(&db, DEV_TENANT).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(9), at(10))).await.unwrap();
    assert!(take(&db, 20).await.is_empty(), "nobody wants its spans");
    traced(&db, seeded, 1).await;
    let claimed = claim_all(&db, process(1), at(20)).await;
    let claimed = claimed.into_iter().find(|claimed| claimed.run == run(1)).unwrap();
    let [due] = take(&db, 20).await[..] else { panic!("one") };
    assert_eq!((due.run, due.seq, due.scope), (run(1), 0, seeded.scope));
    assert!(take(&db, 20).await.is_empty(), "it is in hand");
    assert_eq!(take(&db, 20 + UNTIL).await, [due], "whoever had it has died");
    done(&db, due, Some(1), 30).await;
    assert!(take(&db, 40).await.is_empty(), "it has no news");

    journal::append(&db, seeded.scope, two_events(&claimed)).await.unwrap();
    let [due] = take(&db, 50).await[..] else { panic!("one") };
    assert_eq!(due.seq, 1);
    let page = traces::read(&db, due.scope, due.run, due.seq, 10).await.unwrap().unwrap();
    assert_eq!((page.head.version, page.head.finished_at, page.appends.len()), (3, None, 1));
    assert_eq!(page.appends[0].0, 3);
    let whole = traces::read(&db, due.scope, due.run, 0, 10).await.unwrap().unwrap();
    assert_eq!(whole.appends.iter().map(|(last, _)| *last).collect::<Vec<_>>(), [1, 3]);
    // Given back as it was: it is due at once.
    done(&db, due, Some(1), 60).await;
    let [again] = take(&db, 70).await[..] else { panic!("one") };
    done(&db, again, Some(3), 80).await;
    // Late news of somebody who had it before change nothing.
    done(&db, due, None, 90).await;
    done(&db, due, Some(2), 90).await;
    assert!(take(&db, 100).await.is_empty());

    let append = two_events(&claimed);
    let over =
        journal::Projection { status: "succeeded", finished_at: Some(at(110)), ..append.projection.clone() };
    let last = journal::Append { expected_version: 3, projection: over, ..append };
    journal::append(&db, seeded.scope, last).await.unwrap();
    let [due] = take(&db, 120).await[..] else { panic!("one") };
    assert_eq!((due.run, due.seq), (run(1), 3));
    done(&db, due, None, 130).await;
    assert!(take(&db, 10_000).await.is_empty(), "all of it is exported");
});

db_test!(many_who_take_at_once_share_what_there_is, async |db| {
    let one = seed(&db, DEV_TENANT).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    for n in 0..20 {
        traced(&db, one, n).await;
        traced(&db, two, 100 + n).await;
    }
    let taken = join_all((0..6).map(|_| traces::take(&db, at(20), at(20 + UNTIL), 10))).await;
    // Of several at once some may see what others took a moment later, and leave it.
    let mut all: Vec<Due> = taken.into_iter().filter_map(Result::ok).flatten().collect();
    loop {
        let more = traces::take(&db, at(20), at(20 + UNTIL), 10).await.unwrap();
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    assert_eq!((all.len(), runs(&all).len()), (40, 40), "each was taken once");
    let of_two = all.iter().filter(|due| due.scope == two.scope);
    assert_eq!(of_two.count(), 20);
});

db_test!(a_run_that_is_deleted_leaves_nothing_to_export, async |db| {
    let seeded = seed(&db, DEV_TENANT).await.unwrap();
    traced(&db, seeded, 1).await;
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    let append = two_events(&claimed);
    let over =
        journal::Projection { status: "succeeded", finished_at: Some(at(40)), ..append.projection.clone() };
    journal::append(&db, seeded.scope, journal::Append { projection: over, ..append }).await.unwrap();
    let [due] = take(&db, 50).await[..] else { panic!("one") };
    let deleted = db.write(seeded.scope, move |tx| Box::pin(journal::delete(tx, run(1), at(60))));
    assert!(deleted.await.unwrap().is_some());
    assert_eq!(traces::read(&db, due.scope, due.run, 0, 10).await.unwrap(), None);
    done(&db, due, None, 70).await;
    assert!(take(&db, 10_000).await.is_empty());
    let foreign = Scope::of_lease(tenant(2));
    traces::done(&db, foreign, &[Done { due, seq: None }], at(80)).await.unwrap();
});
