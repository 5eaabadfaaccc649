//! The outbox: whose rows are taken, in which order, and when again.

use std::collections::HashSet;

use futures_util::future::join;
use lantern_store::outbox::{self, Due, Kind, NewOutbox, Turns};
use lantern_store::testing::{outbox_plans, seed};
use lantern_store::{Db, db_test};
use lantern_store::{journal, lease};
use lantern_types::*;
use uuid::Uuid;

use crate::support::*;

const AGAIN_AFTER: Dur = Dur::from_micros(10);

/// A tenant whose only run owes rows of these kinds, each due a moment after the one before.
async fn owing(db: &Db, n: u128, kinds: &[Kind]) -> TenantId {
    let seeded = seed(db, tenant(n)).await.unwrap();
    create(db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
    let claimed = claim_all(db, process(n), at(20)).await.remove(0);
    let owed = (0..).zip(kinds).map(|(row, kind)| NewOutbox {
        id: Uuid::from_u128(n << 64 | row),
        key: format!("{}-{row}", kind.as_str()),
        kind: *kind,
        payload: b"sealed".to_vec(),
        due_at: at(30 + i64::try_from(row).unwrap()),
    });
    let append = journal::Append { outbox: owed.collect(), ..two_events(&claimed) };
    journal::append(db, seeded.scope, append).await.unwrap();
    tenant(n)
}

async fn take(db: &Db, turns: &mut Turns, now: i64, limit: u32) -> Vec<Due> {
    outbox::take(db, turns, at(now), AGAIN_AFTER, limit).await.unwrap()
}

fn of(rows: &[Due], tenant: TenantId) -> usize {
    rows.iter().filter(|row| row.scope.tenant() == tenant).count()
}

fn keys(rows: &[Due]) -> Vec<&str> {
    let mut keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    keys.sort_unstable();
    keys
}

db_test!(a_tenant_with_few_rows_does_not_wait_for_one_with_many, async |db| {
    let many = owing(&db, 1, &[Kind::Start; 1_000]).await;
    let few = owing(&db, 2, &[Kind::Start; 3]).await;
    let (mut turns, mut taken) = (Turns::default(), 0);
    let first = take(&db, &mut turns, 5_000, 16).await;
    assert_eq!((of(&first, many), of(&first, few)), (13, 3), "what one has no use for goes to the other");
    loop {
        let rows = take(&db, &mut turns, 5_000, 256).await;
        assert!(rows.len() <= 256);
        if rows.is_empty() {
            break;
        }
        taken += rows.len();
    }
    assert_eq!(taken, 1_000 - 13);
});

db_test!(more_tenants_than_are_taken_at_once_have_their_turns, async |db| {
    for n in 1..=5 {
        owing(&db, n, &[Kind::Tell; 4]).await;
    }
    let (mut turns, mut served) = (Turns::default(), Vec::new());
    for _ in 0..5 {
        let rows = take(&db, &mut turns, 500, 2).await;
        served.extend(rows.iter().map(|row| row.scope.tenant()));
    }
    assert_eq!(served, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5].map(tenant));
});

db_test!(the_more_urgent_goes_first_and_then_the_longest_due, async |db| {
    use Kind::{Continue, Start, Stop, Tell};
    owing(&db, 1, &[Start, Start, Continue, Tell, Start, Stop, Tell, Stop]).await;
    let mut turns = Turns::default();
    assert!(take(&db, &mut turns, 29, 9).await.is_empty(), "nothing is due");
    assert_eq!(keys(&take(&db, &mut turns, 35, 1).await), ["stop-5"], "the other one is not due yet");
    for expected in [["stop-7", "tell-3"], ["continue-2", "tell-6"], ["start-0", "start-1"]] {
        assert_eq!(keys(&take(&db, &mut turns, 40, 2).await), expected);
    }
});

db_test!(two_processes_never_take_the_same_row, async |db| {
    let tenants = [owing(&db, 1, &[Kind::Start; 60]).await, owing(&db, 2, &[Kind::Start; 60]).await];
    let takes = async || {
        let (mut turns, mut mine) = (Turns::default(), Vec::new());
        // One that finds everything locked by the other may be told of nothing before all is taken.
        for _ in 0..40 {
            mine.extend(take(&db, &mut turns, 500, 7).await);
        }
        mine
    };
    let (one, two) = join(takes(), takes()).await;
    let all = [one, two].concat();
    assert_eq!(tenants.map(|tenant| of(&all, tenant)), [60, 60]);
    assert_eq!(all.iter().map(|row| row.id).collect::<HashSet<_>>().len(), 120);
});

db_test!(a_row_that_is_not_done_is_due_again_later_each_time, async |db| {
    owing(&db, 1, &[Kind::Tell]).await;
    let (mut turns, mut now) = (Turns::default(), 30);
    for attempts in 0..25 {
        let rows = take(&db, &mut turns, now, 9).await;
        assert_eq!(rows[0].attempts, attempts);
        let delay = 10 * (attempts + 1).min(20);
        assert!(take(&db, &mut turns, now + delay - 1, 9).await.is_empty(), "{attempts}: too early");
        now += delay;
    }
});

db_test!(a_row_is_found_by_its_key_and_gone_once_it_is_done, async |db| {
    owing(&db, 1, &[Kind::Tell, Kind::Start]).await;
    let scope = lantern_policy::Scope::of_lease(tenant(1));
    assert!(outbox::owes_start(&db, scope, run(1), run(2)).await.unwrap(), "as an earlier build named it");
    let taken = take(&db, &mut Turns::default(), 40, 9).await;
    let found = outbox::find(&db, scope, run(1), "start-1".to_owned()).await.unwrap().unwrap();
    assert_eq!((found.id, found.payload.as_slice(), found.attempts), (taken[1].id, &b"sealed"[..], 1));
    outbox::done(&db, scope, found.id).await.unwrap();
    assert_eq!(outbox::find(&db, scope, run(1), "start-1".to_owned()).await.unwrap(), None);
    assert!(!outbox::owes_start(&db, scope, run(1), run(2)).await.unwrap(), "what is told starts nothing");
});

db_test!(rows_are_looked_for_along_an_index, async |db| {
    owing(&db, 1, &[Kind::Start; 1_000]).await;
    let plans = outbox_plans(&db, tenant(1)).await.unwrap();
    assert!(plans.matches("outbox_due").count() >= 5, "{plans}");
    for wrong in ["Seq Scan on outbox", "SCAN outbox", "SCAN o", "Sort", "B-TREE", "Filter: (kind"] {
        assert!(!plans.contains(wrong), "{wrong}: {plans}");
    }
});

db_test!(what_a_process_took_is_due_at_once_when_its_lease_is_gone, async |db| {
    owing(&db, 1, &[Kind::Start; 2]).await;
    let of = |n| Turns::of(process(n));
    lease::register(&db, process(7), at(40), Dur::from_micros(100)).await.unwrap();
    lease::register(&db, process(8), at(40), Dur::from_secs(10)).await.unwrap();
    let took = take(&db, &mut of(7), 40, 1).await;
    assert_eq!((took.len(), take(&db, &mut of(8), 40, 1).await.len()), (1, 1));
    let again = async |now| outbox::take(&db, &mut of(9), at(now), Dur::from_secs(9), 9).await.unwrap();
    assert!(again(45).await.is_empty(), "both are under way");

    lease::look(&db, process(8), READER, at(141), 9).await.unwrap();
    let left_behind = outbox::take(&db, &mut of(8), at(141), Dur::from_secs(9), 9).await.unwrap();
    assert_eq!(left_behind.len(), 2, "by then the other one was due by itself");
    assert!(again(142).await.is_empty());
    lease::surrender(&db, process(8), at(143)).await.unwrap();
    let due = again(143).await;
    assert_eq!((keys(&due), due[0].attempts), (vec!["start-0", "start-1"], 2));
    lease::register(&db, process(10), at(144), Dur::from_secs(10)).await.unwrap();
    lease::register(&db, process(9), at(144), Dur::from_secs(10)).await.unwrap();
    lease::expire_others(&db, process(10), at(145)).await.unwrap();
    assert_eq!(again(145).await.len(), 2, "whoever is alone knows that the others are gone");
});
