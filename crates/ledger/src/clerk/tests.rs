//! A process that is taken for dead, and lives.

use lantern_policy::escrow::Worst;
use lantern_store::db_test;
use lantern_store::testing::{SeededIds, SetClock, seed};
use lantern_types::call::{AccountId, CallEnd, CallRecord, Owner, Period};
use lantern_types::{DEV_TENANT, Price};
use uuid::Uuid;

use super::*;
use crate::purse::Payers;

const NOON: At = At::from_micros(43_200_000_000);

const fn usd(micros: i64) -> MicroUsd {
    MicroUsd::from_micros(micros)
}

fn record(hold: MicroUsd, cost: MicroUsd) -> CallRecord {
    CallRecord {
        seq: 0,
        id: Uuid::nil(),
        at: NOON,
        took_ms: 0,
        door: "chat".to_owned(),
        provider: "p".to_owned(),
        model: "m".to_owned(),
        key: None,
        agent: None,
        stream: false,
        status: None,
        attempt: 1,
        why: None,
        end: CallEnd::Complete,
        price: Price::default(),
        hold,
        cost,
        lowered_to: None,
        reported: None,
        counted: 0,
        held_from: Vec::new(),
        late: false,
    }
}

fn call(hold: MicroUsd, cost: MicroUsd) -> Entry {
    Entry::Call(Box::new(record(hold, cost)))
}

/// A process of this database: its purse and its clerk, which acts when it is told.
fn process(db: &Db, clock: &Arc<SetClock>, seed: u64) -> (Arc<Purse>, Clerk) {
    let purse = Arc::new(Purse::new(db.clone(), clock.clone(), Arc::new(SeededIds::new(seed))));
    let clerk = Clerk::new(db.clone(), clock.clone(), purse.clone(), false);
    (purse, clerk)
}

async fn stands(db: &Db, scope: Scope) -> (i64, i64) {
    let accounts = escrow::accounts(db, scope, At::from_micros(0)).await.unwrap();
    accounts.first().map_or((0, 0), |(_, spent, held)| (spent.micros(), held.micros()))
}

async fn events(db: &Db, scope: Scope) -> Vec<CallEvent> {
    let written = escrow::records(db, scope, At::from_micros(i64::MAX), 10).await.unwrap();
    let lines = written.iter().rev().flat_map(|written| written.bytes.split(|byte| *byte == b'\n'));
    lines.filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect()
}

db_test!(what_a_process_settles_that_was_taken_for_dead_is_written_and_not_charged_again, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let (owner, period) = (Owner::Tenant, Period::Day);
    let set =
        db.write(scope, move |tx| Box::pin(escrow::set_cap(tx, (owner, period), Some(usd(10_000)), NOON)));
    set.await.unwrap();
    let account = AccountId::at(owner, period, NOON);
    let payers = || Payers { accounts: vec![account], capped: vec![account] };
    let price = Price { input: usd(1_000_000), output: usd(1_000_000) };
    let worst = Worst { price, input: 50, output: 50 };
    let clock = Arc::new(SetClock::at(NOON));
    let (paused, mut paused_clerk) = process(&db, &clock, 1);
    let (_, other_clerk) = process(&db, &clock, 2);

    let first = paused.admit(scope, &payers(), &mut worst.clone(), 1).await.unwrap();
    paused.settle(first, call(usd(100), usd(30)));
    paused_clerk.write().await;
    assert_eq!(stands(&db, scope).await, (30, 70), "what one call needs, and no more");
    let second = paused.admit(scope, &payers(), &mut worst.clone(), 1).await.unwrap();

    // It stops for a while, and somebody else charges what it had.
    clock.set(NOON + TTL + Dur::from_secs(1));
    other_clerk.bury(false).await;
    assert_eq!(stands(&db, scope).await, (130, 0));
    let was = paused.process();
    paused.settle(second, call(usd(100), usd(40)));
    paused_clerk.write().await;
    assert_eq!(stands(&db, scope).await, (130, 0), "the crash charge covers it");
    assert_ne!(paused.process(), was, "it goes on as another process");

    // And as that one it grants again.
    let third = paused.admit(scope, &payers(), &mut worst.clone(), 1).await.unwrap();
    paused.settle(third, call(usd(100), usd(50)));
    paused_clerk.write().await;
    paused_clerk.give_back(true).await;
    assert_eq!(stands(&db, scope).await, (180, 0));
    let told: Vec<(i64, bool)> = events(&db, scope)
        .await
        .into_iter()
        .map(|event| match event {
            CallEvent::Call(record) => (record.cost.micros(), record.late),
            CallEvent::CrashCharge(charge) => (charge.charges[0].amount.micros(), false),
            CallEvent::Runs(_) => (0, false),
        })
        .collect();
    let mut sorted = told.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [(30, false), (40, true), (50, false), (100, false)], "{told:?}");
});

db_test!(many_calls_at_once_get_what_there_is_and_no_more, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let account = AccountId::at(Owner::Tenant, Period::Month, NOON);
    let set = db.write(scope, move |tx| {
        Box::pin(escrow::set_cap(tx, (Owner::Tenant, Period::Month), Some(usd(5_000)), NOON))
    });
    set.await.unwrap();
    let price = Price { input: usd(1_000_000), output: usd(1_000_000) };
    let clock = Arc::new(SetClock::at(NOON));
    let (purse, mut clerk) = process(&db, &clock, 1);
    // Each wants a hundred; the last one is lowered, and the others are refused.
    let calls = (0..64).map(|_| async {
        let mut worst = Worst { price, input: 70, output: 30 };
        let payers = Payers { accounts: vec![account], capped: vec![account] };
        purse.admit(scope, &payers, &mut worst, 1).await.map(|held| (held, worst.output))
    });
    let admitted: Vec<_> = join_all(calls).await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(admitted.len(), 50);
    let (_, held) = stands(&db, scope).await;
    assert_eq!(held, 5_000);
    for (held, _) in admitted {
        let hold = held.granted.hold();
        purse.settle(held, call(hold, hold));
    }
    clerk.write().await;
    clerk.give_back(true).await;
    assert_eq!(stands(&db, scope).await, (5_000, 0));
});

#[path = "steps.rs"]
mod steps;
