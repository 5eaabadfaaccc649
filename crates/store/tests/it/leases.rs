//! Leases: one driver for each run, whatever the processes do.

use std::collections::HashSet;

use futures_util::future::join;
use lantern_policy::Scope;
use lantern_store::inbox::{self, Put};
use lantern_store::journal::{self, Append, NewRun};
use lantern_store::lease::{self, Claimed, Held, Parked, Reader};
use lantern_store::testing::{Seeded, seed};
use lantern_store::{Db, Error, db_test};
use lantern_types::*;

use crate::support::*;

const TTL: Dur = Dur::from_secs(10);

async fn with_runs(db: &Db, count: u128) -> Seeded {
    let seeded = seed(db, tenant(1)).await.unwrap();
    for n in 0..count {
        create(db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
    }
    seeded
}

db_test!(two_processes_never_claim_the_same_run, async |db| {
    with_runs(&db, 60).await;
    for n in [1, 2] {
        lease::register(&db, process(n), at(20), TTL).await.unwrap();
    }
    let claims = async |n: u128| {
        let mut mine = Vec::new();
        loop {
            let claimed = lease::look(&db, process(n), READER, at(20), 7).await.unwrap().claimed;
            assert!(claimed.len() <= 7);
            if claimed.is_empty() {
                return mine;
            }
            mine.extend(claimed.iter().map(|claimed| claimed.run));
        }
    };
    let (one, two) = join(claims(1), claims(2)).await;
    let (ones, twos): (HashSet<_>, HashSet<_>) = (one.iter().collect(), two.iter().collect());
    assert_eq!((ones.len(), twos.len()), (one.len(), two.len()));
    assert!(ones.is_disjoint(&twos));
    assert_eq!(ones.len() + twos.len(), 60);
});

db_test!(only_what_is_due_is_claimed_and_longest_due_first, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    for (n, due) in [(1, 30), (2, 10), (3, 20), (4, 99)] {
        create(&db, seeded.scope, new_run(seeded, run(n), at(due))).await.unwrap();
    }
    lease::register(&db, process(1), at(20), TTL).await.unwrap();
    let claimed = async |limit| {
        let claimed = lease::look(&db, process(1), READER, at(40), limit).await.unwrap().claimed;
        claimed.iter().map(|claimed| claimed.run).collect::<HashSet<_>>()
    };
    assert_eq!(claimed(2).await, HashSet::from([run(2), run(3)]));
    assert_eq!(claimed(9).await, HashSet::from([run(1)]));
});

db_test!(a_process_that_misses_its_beats_loses_its_runs, async |db| {
    let seeded = with_runs(&db, 2).await;
    let old = claim_all(&db, process(1), at(20)).await;
    assert_eq!(old.len(), 2);
    assert!(lease::beat(&db, process(1), at(30), TTL).await.unwrap());
    let late = at(30) + TTL;
    lease::register(&db, process(2), late, TTL).await.unwrap();
    let new = lease::look(&db, process(2), READER, late, 256).await.unwrap().claimed;
    assert_eq!(new.len(), 2);
    assert_eq!(new[0].epoch, 2);
    assert!(!lease::beat(&db, process(1), late, TTL).await.unwrap(), "too late for a beat");
    let stale = journal::append(&db, seeded.scope, two_events(&old[0])).await;
    assert!(matches!(stale, Err(Error::Conflict)), "{stale:?}");
    journal::append(&db, seeded.scope, two_events(&new[0])).await.unwrap();
});

db_test!(a_process_that_was_set_aside_takes_no_run_with_it, async |db| {
    let seeded = with_runs(&db, 1).await;
    lease::register(&db, process(1), at(10), Dur::from_secs(10)).await.unwrap();
    // To another, whose clock is ahead, the lease of this one has run out.
    let later = at(10) + Dur::from_secs(60);
    assert_eq!(claim_all(&db, process(2), later).await.len(), 1);
    create(&db, seeded.scope, new_run(seeded, run(7), at(20))).await.unwrap();
    let taken = lease::look(&db, process(1), READER, at(20), 256).await;
    assert!(matches!(taken, Err(Error::Unavailable(_))), "{taken:?}");
    let left = lease::look(&db, process(2), READER, later, 256).await.unwrap().claimed;
    assert_eq!(left.iter().map(|held| held.run).collect::<Vec<_>>(), [run(7)]);
});

db_test!(a_beating_process_keeps_its_runs, async |db| {
    with_runs(&db, 1).await;
    assert_eq!(claim_all(&db, process(1), at(20)).await.len(), 1);
    assert!(lease::beat(&db, process(1), at(9_000_000), TTL).await.unwrap());
    assert!(claim_all(&db, process(2), at(12_000_000)).await.is_empty());
});

db_test!(a_restart_takes_over_at_once, async |db| {
    with_runs(&db, 3).await;
    assert_eq!(claim_all(&db, process(1), at(20)).await.len(), 3);
    lease::expire_others(&db, process(2), at(21)).await.unwrap();
    assert_eq!(claim_all(&db, process(2), at(21)).await.len(), 3);
    lease::surrender(&db, process(2), at(22)).await.unwrap();
    assert!(!lease::beat(&db, process(2), at(22), TTL).await.unwrap());
    let again = claim_all(&db, process(3), at(22)).await;
    assert_eq!(again.iter().map(|claimed| claimed.epoch).collect::<Vec<_>>(), [3, 3, 3]);
});

db_test!(a_poke_between_looking_and_letting_go_keeps_the_run, async |db| {
    let seeded = with_runs(&db, 1).await;
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    let (pokes, waiting) = inbox::list(&db, seeded.scope, run(0)).await.unwrap();
    assert!(waiting.is_empty());
    assert_eq!(put(&db, seeded.scope, run(0), input(1), "cancel", at(25)).await, Put::Stored);

    let held = Held { run: run(0), epoch: claimed.epoch, version: claimed.version, pokes };
    assert!(!lease::release(&db, seeded.scope, held, None).await.unwrap());
    assert_eq!(lease::look(&db, process(1), READER, at(40), 0).await.unwrap().poked, [run(0)]);
    assert!(lease::look(&db, process(2), READER, at(40), 0).await.unwrap().poked.is_empty());

    let (pokes, waiting) = inbox::list(&db, seeded.scope, run(0)).await.unwrap();
    let drained = waiting.iter().map(|waiting| waiting.id).collect();
    let append = Append { drained, ..two_events(&claimed) };
    let version = journal::append(&db, seeded.scope, append).await.unwrap().version;
    assert!(
        !lease::release(&db, seeded.scope, Held { pokes, ..held }, None).await.unwrap(),
        "an append came"
    );
    let held = Held { version, pokes, ..held };
    assert!(lease::release(&db, seeded.scope, held, Some(at(500))).await.unwrap());
    let head = journal::head(&db, seeded.scope, run(0)).await.unwrap().unwrap();
    assert_eq!((head.owner, head.wake_at), (None, Some(at(500))));
    assert!(lease::look(&db, process(1), READER, at(499), 9).await.unwrap().claimed.is_empty());
    assert_eq!(lease::look(&db, process(1), READER, at(500), 9).await.unwrap().claimed.len(), 1);
});

db_test!(a_poke_wakes_a_run_that_nobody_drives, async |db| {
    let seeded = with_runs(&db, 1).await;
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    let held = Held { run: run(0), epoch: claimed.epoch, version: claimed.version, pokes: 0 };
    assert!(lease::release(&db, seeded.scope, held, None).await.unwrap());
    assert!(!lease::release(&db, seeded.scope, held, None).await.unwrap(), "it is not held any more");
    assert!(
        lease::look(&db, process(1), READER, at(1_000), 9).await.unwrap().claimed.is_empty(),
        "nothing is due"
    );
    put(&db, seeded.scope, run(0), input(1), "signal", at(40)).await;
    let woken = lease::look(&db, process(1), READER, at(40), 9).await.unwrap().claimed;
    assert_eq!((woken.len(), woken[0].pokes, woken[0].epoch), (1, 1, 2));
});

db_test!(an_inbox_takes_a_key_once_and_has_an_end, async |db| {
    let seeded = with_runs(&db, 1).await;
    let scope = seeded.scope;
    assert_eq!(put(&db, scope, run(0), input(1), "a", at(1)).await, Put::Stored);
    assert_eq!(put(&db, scope, run(0), input(2), "a", at(2)).await, Put::Duplicate);
    assert_eq!(put(&db, scope, run(0), input(3), "b", at(3)).await, Put::Stored);
    assert_eq!(put(&db, scope, run(0), input(4), "c", at(4)).await, Put::Stored);
    assert_eq!(put(&db, scope, run(0), input(5), "d", at(5)).await, Put::Full);
    assert_eq!(put(&db, scope, run(9), input(6), "e", at(6)).await, Put::Closed);
    let waiting = inbox::list(&db, scope, run(0)).await.unwrap().1;
    assert_eq!(waiting.iter().map(|w| w.key.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
});

db_test!(commits_are_announced, async |db| {
    let (mut workers, mut watch) =
        (db.hub().workers(), db.hub().subscribe(Scope::of_lease(tenant(1)), run(0)));
    let seeded = with_runs(&db, 1).await;
    workers.next().await;
    watch.changed().await;
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    journal::append(&db, seeded.scope, two_events(&claimed)).await.unwrap();
    watch.changed().await;
    put(&db, seeded.scope, run(0), input(1), "a", at(25)).await;
    workers.next().await;
});

db_test!(a_build_takes_what_it_can_read_and_nothing_that_it_parked, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    let newer = NewRun { format: 2, ..new_run(seeded, run(0), at(10)) };
    create(&db, seeded.scope, newer).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let next = Reader { build: "the next one", format: 2 };
    let (old, new) = (process(1), process(2));
    for process in [old, new] {
        lease::register(&db, process, at(20), Dur::from_secs(100)).await.unwrap();
    }
    let take =
        async |process, reader, now| lease::look(&db, process, reader, at(now), 9).await.unwrap().claimed;
    let ids = |claimed: &[Claimed]| claimed.iter().map(|claimed| claimed.run).collect::<Vec<_>>();

    let claimed = take(old, READER, 20).await;
    assert_eq!(ids(&claimed), [run(1)], "of two that are due");
    let held = |claimed: &Claimed| Held {
        run: claimed.run,
        epoch: claimed.epoch,
        version: claimed.version,
        pokes: claimed.pokes,
    };
    let why = || Parked { by: Some(READER.build), reason: "a kind of tomorrow".to_owned() };
    assert!(lease::park(&db, seeded.scope, held(&claimed[0]), Some(at(30)), why()).await.unwrap());
    assert!(
        !lease::park(&db, seeded.scope, held(&claimed[0]), Some(at(30)), why()).await.unwrap(),
        "it has let go"
    );
    let head = journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap();
    assert_eq!((head.version, head.parked_reason.as_deref()), (1, Some("a kind of tomorrow")));
    assert!(take(old, READER, 40).await.is_empty(), "it is due, and was parked by this build");
    assert_eq!(put(&db, seeded.scope, run(1), input(1), "k", at(41)).await, Put::Stored);
    let claimed = take(old, READER, 42).await;
    assert_eq!((ids(&claimed), claimed[0].parked), (vec![run(1)], true), "something came for it");
    assert!(lease::park(&db, seeded.scope, held(&claimed[0]), Some(at(50)), why()).await.unwrap());

    let mut claimed = take(new, next, 60).await;
    claimed.sort_by_key(|claimed| claimed.run);
    assert_eq!(ids(&claimed), [run(0), run(1)]);
    lease::unpark(&db, seeded.scope, run(1), claimed[1].epoch).await.unwrap();
    let head = journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap();
    assert_eq!((head.parked_reason, head.format), (None, 1));
    journal::append(&db, seeded.scope, Append { format: 2, ..two_events(&claimed[1]) }).await.unwrap();
    let head = journal::head(&db, seeded.scope, run(1)).await.unwrap().unwrap();
    assert_eq!((head.version, head.format), (3, 2), "only the newer one goes on with it from here");
    let stored = journal::read(&db, seeded.scope, run(1), 1, 9).await.unwrap();
    assert_eq!(stored.iter().map(|stored| stored.format).collect::<Vec<_>>(), [1, 2]);
});
