//! Workloads: taken once, told in order, ended once, lost with their node, and as many as the tenant may have.

use std::sync::Arc;

use lantern_policy::Scope;
use lantern_store::metered::{self, Bounds, Came, NewCall, Stands};
use lantern_store::testing::{SeededIds, SetClock, seed};
use lantern_store::workloads::{self, End, Lines, NewWorkload};
use lantern_store::{Db, Keys, Sealer, db_test};
use lantern_types::*;

use crate::support::*;

fn sealer(db: &Db) -> Sealer {
    let keys = Keys::from_ids(&SeededIds::new(1));
    Sealer::new(db.clone(), &keys, Arc::new(SeededIds::new(2)), Arc::new(SetClock::at(at(1)))).unwrap()
}

fn new_workload(n: u128, now: At) -> NewWorkload {
    NewWorkload {
        run: run(n),
        isolation: "trusted",
        backend: "oci",
        cap: MicroUsd::from_micros(1_000),
        degraded: false,
        at: now,
    }
}

async fn make(db: &Db, scope: Scope, new: NewWorkload) {
    db.write(scope, move |tx| Box::pin(workloads::create(tx, new, Dur::from_secs(30)))).await.unwrap();
}

const ENDED: End = End { state: "terminated", reason: "exited", exit_code: Some(0), dropped: 0, at: at(60) };

db_test!(a_workload_is_taken_once_and_ended_once, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    create(&db, one.scope, new_run(one, run(1), at(10))).await.unwrap();
    make(&db, one.scope, new_workload(1, at(10))).await;
    let node = || "node-1".to_owned();
    assert!(!workloads::take(&db, two.scope, run(1), node(), true).await.unwrap(), "another tenant's");
    assert_eq!(workloads::find(&db, two.scope, run(1)).await.unwrap(), None);
    assert!(workloads::take(&db, one.scope, run(1), node(), false).await.unwrap());
    assert!(!workloads::take(&db, one.scope, run(1), "node-2".to_owned(), true).await.unwrap());
    assert!(!workloads::end(&db, one.scope, run(1), "node-2".to_owned(), ENDED).await.unwrap());
    assert!(workloads::started(&db, one.scope, run(1), node(), at(50)).await.unwrap());
    assert!(workloads::drain(&db, one.scope, run(1), Dur::from_secs(3), at(55)).await.unwrap());
    let row = workloads::find(&db, one.scope, run(1)).await.unwrap().unwrap();
    assert_eq!((row.shown_state(), row.grace, row.over()), ("draining", Dur::from_secs(3), false));
    assert!(workloads::end(&db, one.scope, run(1), node(), ENDED).await.unwrap());
    assert!(!workloads::end(&db, one.scope, run(1), node(), ENDED).await.unwrap());
    assert!(!workloads::drain(&db, one.scope, run(1), Dur::ZERO, at(70)).await.unwrap());
    assert!(
        !workloads::take(&db, one.scope, run(1), node(), true).await.unwrap(),
        "what ended by itself stays so"
    );
    let row = workloads::find(&db, one.scope, run(1)).await.unwrap().unwrap();
    assert_eq!((row.shown_state(), row.exit_code, row.over()), ("terminated", Some(0), true));
});

db_test!(a_node_that_starts_loses_what_it_had_and_no_other, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    for (n, seeded, node) in [(1, one, "node-1"), (2, two, "node-1"), (3, two, "node-2")] {
        create(&db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
        make(&db, seeded.scope, new_workload(n, at(10))).await;
        assert!(workloads::take(&db, seeded.scope, run(n), node.to_owned(), false).await.unwrap());
    }
    assert_eq!(workloads::lose(&db, "node-1".to_owned(), at(70)).await.unwrap(), 2);
    assert_eq!(workloads::lose(&db, "node-1".to_owned(), at(71)).await.unwrap(), 0);
    let reason = async |scope, n| workloads::find(&db, scope, run(n)).await.unwrap().unwrap().reason;
    assert_eq!(reason(one.scope, 1).await.as_deref(), Some(workloads::LOST));
    assert_eq!(reason(two.scope, 3).await, None);
    // What was lost may run again, if whoever takes it says so.
    assert!(!workloads::take(&db, one.scope, run(1), "node-1".to_owned(), false).await.unwrap());
    assert!(workloads::take(&db, one.scope, run(1), "node-1".to_owned(), true).await.unwrap());
});

db_test!(lines_are_kept_in_order_and_sealed, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    create(&db, one.scope, new_run(one, run(1), at(10))).await.unwrap();
    make(&db, one.scope, new_workload(1, at(10))).await;
    let sealer = sealer(&db);
    let keep = async |first, n, text: &str| {
        let lines = Lines { first, n, plain: text.as_bytes().to_vec() };
        workloads::keep(&db, &sealer, one.scope, run(1), lines).await.unwrap()
    };
    assert!(keep(1, 2, "secret words").await);
    assert!(!keep(1, 2, "again").await, "they are there");
    assert!(!keep(4, 1, "a gap").await);
    assert!(keep(3, 1, "more").await);
    let read = async |scope, from| {
        let all = workloads::lines(&db, &sealer, scope, run(1), (from, 16)).await.unwrap();
        all.into_iter()
            .map(|lines| (lines.first, String::from_utf8(lines.plain).unwrap()))
            .collect::<Vec<_>>()
    };
    let (first, second) = ((1, "secret words".to_owned()), (3, "more".to_owned()));
    assert_eq!(read(one.scope, 1).await, [first.clone(), second.clone()]);
    assert_eq!(read(one.scope, 2).await, [first, second.clone()]);
    assert_eq!(read(one.scope, 3).await, [second]);
    assert_eq!(read(one.scope, 4).await, []);
    assert_eq!(read(two.scope, 1).await, []);
    assert_eq!(workloads::find(&db, one.scope, run(1)).await.unwrap().unwrap().lines, 3);
});

db_test!(what_a_tenant_has_is_counted, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    for n in [1, 2, 3] {
        create(&db, one.scope, new_run(one, run(n), at(10))).await.unwrap();
        make(&db, one.scope, new_workload(n, at(10))).await;
    }
    let used = async |scope, day, now| {
        let locked =
            db.write(scope, move |tx| Box::pin(async move { workloads::locked(tx, day, now).await }));
        let (quota, used) = locked.await.unwrap();
        (quota.hard, used.open, used.compute.micros())
    };
    assert_eq!(used(one.scope, at(0), at(100)).await, (true, 3, 0));
    assert_eq!(used(two.scope, at(0), at(100)).await, (true, 0, 0));
    for n in [1, 2] {
        assert!(workloads::take(&db, one.scope, run(n), "n".to_owned(), false).await.unwrap());
        assert!(workloads::started(&db, one.scope, run(n), "n".to_owned(), at(20)).await.unwrap());
    }
    assert!(workloads::end(&db, one.scope, run(1), "n".to_owned(), ENDED).await.unwrap());
    assert_eq!(used(one.scope, at(0), at(100)).await, (true, 2, 40 + 80));
    assert_eq!(used(one.scope, at(50), at(100)).await, (true, 2, 10 + 50), "since then");
    assert_eq!(used(one.scope, at(70), at(100)).await, (true, 2, 30), "and not what ended before");
});

fn call(n: u128, hold: i64, tokens: u64) -> NewCall {
    NewCall {
        id: CallId::from_bytes(&n.to_be_bytes()).unwrap(),
        provider: "openai".to_owned(),
        model: "gpt-4o".to_owned(),
        hold: MicroUsd::from_micros(hold),
        tokens,
        at: at(55),
    }
}

db_test!(calls_are_held_for_within_bounds_and_settled_once, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap();
    let two = seed(&db, tenant(2)).await.unwrap();
    create(&db, one.scope, new_run(one, run(1), at(10))).await.unwrap();
    make(&db, one.scope, new_workload(1, at(10))).await;
    let bounds = Bounds { calls: 3, tokens: 100 };
    let hold = async |scope, node: &str, new: NewCall| {
        metered::hold(&db, scope, (run(1), node.to_owned()), new, bounds).await.unwrap()
    };
    assert!(!hold(one.scope, "node-1", call(1, 1, 1)).await, "nobody took it yet");
    assert!(workloads::take(&db, one.scope, run(1), "node-1".to_owned(), false).await.unwrap());
    assert!(!hold(two.scope, "node-1", call(1, 1, 1)).await, "another tenant's");
    assert!(!hold(one.scope, "node-2", call(1, 1, 1)).await, "another node's");
    assert!(!hold(one.scope, "node-1", call(1, 1_001, 1)).await, "more money than there is");
    assert!(!hold(one.scope, "node-1", call(1, 1, 101)).await, "more tokens than there are");
    assert!(hold(one.scope, "node-1", call(1, 600, 50)).await);
    assert!(!hold(one.scope, "node-1", call(2, 401, 1)).await, "what is held counts");
    assert!(hold(one.scope, "node-1", call(2, 400, 50)).await);
    let came = Came { cost: MicroUsd::from_micros(100), tokens_in: 20, tokens_out: 10, made: true };
    let id = |n| call(n, 0, 0).id;
    for _ in 0..2 {
        metered::settle(&db, one.scope, (run(1), id(1)), came).await.unwrap();
    }
    // One that was refused counts as none.
    metered::settle(&db, one.scope, (run(1), id(2)), Came::default()).await.unwrap();
    let stands = Stands {
        cap: Some(MicroUsd::from_micros(1_000)),
        spent: MicroUsd::from_micros(100),
        calls: 1,
        tokens_in: 20,
        tokens_out: 10,
        ..Stands::default()
    };
    assert_eq!(metered::stands(&db, one.scope, run(1)).await.unwrap(), Some(stands));
    assert_eq!(metered::stands(&db, two.scope, run(1)).await.unwrap(), None);
    assert!(hold(one.scope, "node-1", call(3, 900, 70)).await);
    let left = metered::left(&db, one.scope, run(1)).await.unwrap();
    assert_eq!(left.iter().map(|left| (left.id, left.hold.micros())).collect::<Vec<_>>(), [(id(3), 900)]);
    let row = workloads::find(&db, one.scope, run(1)).await.unwrap().unwrap();
    assert_eq!((row.metered.held.micros(), row.metered.tokens_held, row.metered.calls), (900, 70, 2));
    assert!(workloads::end(&db, one.scope, run(1), "node-1".to_owned(), ENDED).await.unwrap());
    assert!(!hold(one.scope, "node-1", call(4, 0, 0)).await, "it is over");
});
