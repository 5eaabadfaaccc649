//! The ledger of proxied calls: slices taken at once by several processes, settled, given back, and charged after a crash.

use futures_util::future::join_all;
use lantern_policy::Scope;
use lantern_policy::escrow::Asks;
use lantern_store::escrow::{self, Ask, NewCalls, NewCap, Prepared, Spent, Taken};
use lantern_store::testing::seed;
use lantern_store::{Db, Error, db_test};
use lantern_types::call::{AccountId, OnLimit, Owner, Period};
use lantern_types::*;

use crate::support::*;

const fn usd(micros: i64) -> MicroUsd {
    MicroUsd::from_micros(micros)
}

const NOON: At = At::from_micros(43_200_000_000);

fn day() -> AccountId {
    AccountId::at(Owner::Tenant, Period::Day, NOON)
}

async fn cap(db: &Db, scope: Scope, micros: Option<i64>) {
    let set = db.write(scope, move |tx| {
        Box::pin(escrow::set_cap(tx, (Owner::Tenant, Period::Day), micros.map(usd), NOON))
    });
    set.await.unwrap();
}

fn warning_at(cap: i64, pct: u8) -> NewCap {
    NewCap { cap: usd(cap), notify_at_pct: Some(pct), on_limit: OnLimit::Hard }
}

fn ask(by: ProcessId, n: i64, more: bool, need: i64) -> Ask {
    let expires_at = NOON + Dur::from_secs(10);
    Ask { account: day(), process: by, n, more, several: more, worst: usd(need), need: usd(need), expires_at }
}

/// What is spent and held of the day.
async fn stands(db: &Db, scope: Scope) -> (i64, i64) {
    let accounts = escrow::accounts(db, scope, day().began_at).await.unwrap();
    let (_, spent, held) = accounts.iter().find(|(id, ..)| *id == day()).unwrap();
    (spent.micros(), held.micros())
}

fn calls(by: ProcessId, first_seq: i64, spent: Vec<Spent>) -> Prepared {
    let bytes = format!("{{\"seq\":{first_seq}}}\n").into_bytes();
    let chain = link(ChainHead::genesis(), &bytes, Digest::of(&[]));
    NewCalls { process: by, first_seq, n: 1, at: NOON, bytes, chain, doors: 1, spent, used: vec![] }.into()
}

fn spent(cost: i64, from: Option<(i64, i64)>) -> Vec<Spent> {
    vec![Spent { account: day(), cost: usd(cost), from: from.map(|(n, drawn)| (n, usd(drawn))) }]
}

/// How much was taken, if it was.
fn taken(taken: Taken) -> Option<MicroUsd> {
    match taken {
        Taken::Amount(amount, _) => Some(amount),
        _ => None,
    }
}

db_test!(a_slice_is_taken_drawn_on_and_given_back, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    let one = process(1);
    assert_eq!(escrow::take(&db, scope, ask(one, 1, false, 10)).await.unwrap(), Taken::Uncapped);
    cap(&db, scope, Some(1_000)).await;
    assert_eq!(taken(escrow::take(&db, scope, ask(one, 1, false, 80)).await.unwrap()), Some(usd(80)));
    assert_eq!(taken(escrow::take(&db, scope, ask(one, 1, true, 20)).await.unwrap()), Some(usd(160)));
    assert_eq!(stands(&db, scope).await, (0, 240));
    assert_eq!(escrow::take(&db, scope, ask(one, 9, true, 20)).await.unwrap(), Taken::Lost);
    assert_eq!(stands(&db, scope).await, (0, 240), "what could not be added is not held");
    let Taken::Short(account, Asks::Never) = escrow::take(&db, scope, ask(one, 1, true, 761)).await.unwrap()
    else {
        panic!("there is not so much")
    };
    assert_eq!(account.left(), usd(760));

    let written = calls(one, 1, spent(70, Some((1, 70))));
    assert!(escrow::write(&db, scope, &written).await.unwrap());
    assert!(escrow::write(&db, scope, &written).await.unwrap(), "written already");
    assert_eq!(stands(&db, scope).await, (70, 170), "once");
    let too_much = calls(one, 2, spent(171, Some((1, 171))));
    assert!(!escrow::write(&db, scope, &too_much).await.unwrap());
    assert!(escrow::write(&db, scope, &calls(one, 2, spent(5, None))).await.unwrap(), "nobody held it");
    assert_eq!(stands(&db, scope).await, (75, 170));

    escrow::release(&db, scope, one, &[1]).await.unwrap();
    escrow::release(&db, scope, one, &[1]).await.unwrap();
    assert_eq!(stands(&db, scope).await, (75, 0));
    let seqs: Vec<_> =
        escrow::recent(&db, scope, NOON, 10, 0).await.unwrap().into_iter().map(|w| w.first_seq).collect();
    assert_eq!(seqs.len(), 2);
    cap(&db, scope, None).await;
    assert!(escrow::caps(&db, scope).await.unwrap().is_empty());
});

db_test!(a_dead_process_is_charged_once_and_nothing_stays_held, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    let (one, two) = (process(1), process(2));
    cap(&db, scope, Some(1_000)).await;
    escrow::take(&db, scope, ask(one, 1, false, 80)).await.unwrap();
    escrow::take(&db, scope, ask(two, 1, false, 80)).await.unwrap();
    assert!(escrow::write(&db, scope, &calls(one, 1, spent(30, Some((1, 30))))).await.unwrap());
    let (soon, late) = (NOON + Dur::from_secs(5), NOON + Dur::from_secs(11));
    assert!(escrow::stale(&db, two, soon, false).await.unwrap().is_empty());
    assert_eq!(escrow::beat(&db, two, soon, NOON + Dur::from_secs(20)).await.unwrap(), 1);
    assert_eq!(escrow::stale(&db, two, late, false).await.unwrap(), [(scope, one)]);
    assert_eq!(escrow::stale(&db, two, soon, true).await.unwrap(), [(scope, one)], "nobody else can live");
    assert_eq!(escrow::beat(&db, one, late, NOON + Dur::from_secs(30)).await.unwrap(), 0, "it ran out");

    let left = escrow::left(&db, scope, one).await.unwrap();
    assert_eq!((left.next_seq, left.slices.len(), left.slices[0].held), (2, 1, usd(50)));
    let bytes = b"{\"seq\":2}\n".to_vec();
    let chain = link(left.chain, &bytes, Digest::of(&[]));
    let at = late;
    let record = NewCalls {
        process: one,
        first_seq: 2,
        n: 1,
        at,
        bytes,
        chain,
        doors: 1,
        spent: vec![],
        used: vec![],
    };
    escrow::charge(&db, scope, left.slices.clone(), record.clone()).await.unwrap();
    assert_eq!(stands(&db, scope).await, (80, 80));
    let again = escrow::charge(&db, scope, left.slices, NewCalls { first_seq: 3, ..record }).await;
    assert!(matches!(again, Err(Error::Conflict)), "{again:?}");
    let settled_late = escrow::write(&db, scope, &calls(one, 4, spent(20, Some((1, 20))))).await;
    assert!(!settled_late.unwrap(), "the slice is not there any more");
    assert_eq!(stands(&db, scope).await, (80, 80), "only the living hold");
});

db_test!(processes_that_take_at_once_never_take_more_than_there_is, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    cap(&db, scope, Some(10_000)).await;
    let processes = (0..3_i64).map(|p| {
        let db = &db;
        async move {
            let by = process(u128::from(p.unsigned_abs()) + 1);
            let mut taken = 0;
            for round in 0..60 {
                match escrow::take(db, scope, ask(by, 1, round > 0, 37)).await.unwrap() {
                    Taken::Amount(amount, stands) => {
                        assert!(stands.spent.plus(stands.held).unwrap() <= stands.cap, "{stands:?}");
                        taken += amount.micros();
                    }
                    Taken::Short(account, _) => assert!(account.left() < usd(37)),
                    other => panic!("{other:?}"),
                }
            }
            taken
        }
    });
    let taken: i64 = join_all(processes).await.into_iter().sum();
    let (spent, held) = stands(&db, scope).await;
    assert_eq!((spent, held), (0, taken));
    assert!(10_000 - taken < 37 && taken <= 10_000, "{taken}");
});

db_test!(another_tenants_money_is_not_there, async |db| {
    let one = seed(&db, tenant(1)).await.unwrap().scope;
    let two = seed(&db, tenant(2)).await.unwrap().scope;
    cap(&db, one, Some(1_000)).await;
    escrow::take(&db, one, ask(process(1), 1, false, 10)).await.unwrap();
    assert!(escrow::write(&db, one, &calls(process(1), 1, spent(1, Some((1, 1))))).await.unwrap());
    assert!(escrow::caps(&db, two).await.unwrap().is_empty());
    assert!(escrow::accounts(&db, two, At::from_micros(0)).await.unwrap().is_empty());
    assert!(escrow::recent(&db, two, NOON, 10, 0).await.unwrap().is_empty());
    escrow::release(&db, two, process(1), &[1]).await.unwrap();
    assert_eq!(stands(&db, one).await, (1, 9));
    assert!(!escrow::write(&db, two, &calls(process(1), 1, spent(1, Some((1, 1))))).await.unwrap());
});

/// Sets a cap that warns, and what an account has spent.
async fn warns(db: &Db, scope: Scope, cap: i64, pct: u8) {
    let set = db.write(scope, move |tx| {
        Box::pin(escrow::set_cap_with(tx, (Owner::Tenant, Period::Day), Some(warning_at(cap, pct)), NOON))
    });
    set.await.unwrap();
}

async fn warned(db: &Db, scope: Scope) -> Vec<(i64, i64)> {
    let warnings = escrow::warnings(db, scope, day().began_at).await.unwrap();
    warnings.iter().map(|warning| (warning.cap.micros(), warning.spent.micros())).collect()
}

db_test!(a_warning_is_given_once_and_again_when_the_cap_is_another, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    let one = process(1);
    warns(&db, scope, 1_000, 80).await;
    assert_eq!(taken(escrow::take(&db, scope, ask(one, 1, false, 900)).await.unwrap()), Some(usd(900)));
    for (seq, cost, want) in [(1, 799, &[][..]), (2, 1, &[(1_000, 800)]), (3, 50, &[(1_000, 800)])] {
        assert!(escrow::write(&db, scope, &calls(one, seq, spent(cost, Some((1, cost))))).await.unwrap());
        assert_eq!(warned(&db, scope).await, want, "after {cost}");
    }
    // An amount that is set anew warns anew: not before its own part is spent, and at once when it is already.
    warns(&db, scope, 2_000, 80).await;
    assert_eq!(warned(&db, scope).await, []);
    warns(&db, scope, 1_000, 50).await;
    assert_eq!(warned(&db, scope).await, [(1_000, 850)]);
    cap(&db, scope, Some(900)).await;
    let kept = escrow::caps(&db, scope).await.unwrap();
    assert_eq!((kept[0].cap, kept[0].notify_at_pct), (usd(900), Some(50)), "only the amount was said");
    // What a dead process had not settled counts too.
    warns(&db, scope, 1_000, 90).await;
    assert_eq!(warned(&db, scope).await, []);
    let left = escrow::left(&db, scope, one).await.unwrap();
    let bytes = b"{\"seq\":4}\n".to_vec();
    let chain = link(left.chain, &bytes, Digest::of(&[]));
    let at = NOON;
    let record = NewCalls {
        process: one,
        first_seq: 4,
        n: 1,
        at,
        bytes,
        chain,
        doors: 1,
        spent: vec![],
        used: vec![],
    };
    escrow::charge(&db, scope, left.slices, record).await.unwrap();
    assert_eq!(warned(&db, scope).await, [(1_000, 900)]);
    cap(&db, scope, None).await;
    assert_eq!(warned(&db, scope).await, []);
});

db_test!(records_of_runs_are_no_calls, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    for seq in 1..=40 {
        let bytes = format!("{{\"seq\":{seq}}}\n").into_bytes();
        let chain = link(ChainHead::genesis(), &bytes, Digest::of(&[]));
        let (doors, at) = (i64::from(seq % 10 == 0), NOON + Dur::from_secs(u64::try_from(seq).unwrap()));
        let (process, spent, used) = (process(1), vec![], vec![]);
        let new = NewCalls { process, first_seq: seq, n: 1, at, bytes, chain, doors, spent, used };
        assert!(escrow::write(&db, scope, &new.into()).await.unwrap());
    }
    let recent = async |limit, skipped| {
        let found = escrow::recent(&db, scope, NOON + Dur::from_secs(60), limit, skipped).await.unwrap();
        found.iter().map(|written| written.first_seq).collect::<Vec<_>>()
    };
    assert_eq!(recent(3, 0).await, [40, 30, 20]);
    assert_eq!(recent(3, 3).await, [10]);
});

/// What one account has spent and holds.
async fn of(db: &Db, scope: Scope, account: AccountId) -> Option<(i64, i64)> {
    let accounts = escrow::accounts(db, scope, At::from_micros(i64::MIN)).await.unwrap();
    let found = accounts.into_iter().find(|(id, ..)| *id == account);
    found.map(|(_, spent, held)| (spent.micros(), held.micros()))
}

db_test!(a_cap_that_is_moved_to_another_zone_begins_with_what_was_spent, async |db| {
    let scope = seed(&db, tenant(1)).await.unwrap().scope;
    let tokyo = Zone::parse("Asia/Tokyo").unwrap();
    let zoned =
        |zone: Zone| db.write(scope, move |tx| Box::pin(escrow::set_zone(tx, Owner::Tenant, zone, NOON)));
    zoned(tokyo).await.unwrap();
    assert_eq!(escrow::revision(&db, scope).await.unwrap(), 0, "nobody has a cap yet");
    cap(&db, scope, Some(1_000)).await;
    assert!(escrow::write(&db, scope, &calls(process(1), 1, spent(70, None))).await.unwrap());
    // The day of Tokyo that noon is in began at three in the afternoon of the day before.
    let before = AccountId::at(Owner::Tenant, Period::Day, NOON - Dur::from_secs(86_400));
    let late = vec![Spent { account: before, cost: usd(30), from: None }];
    assert!(escrow::write(&db, scope, &calls(process(2), 1, late)).await.unwrap());
    zoned(tokyo).await.unwrap();
    let account = AccountId::within(tokyo, Owner::Tenant, Period::Day, NOON);
    assert_eq!(account.began_at, NOON - Dur::from_secs(21 * 3_600));
    let caps = escrow::caps(&db, scope).await.unwrap();
    assert_eq!((caps[0].zone, caps[0].account(NOON)), (tokyo, account));
    assert_eq!(of(&db, scope, account).await, Some((100, 0)), "both days of UTC that it has part in");
    let (accounts, capped) = escrow::accounts_of(&[Owner::Tenant], &caps, NOON);
    assert_eq!(
        (capped.as_slice(), accounts.len()),
        (&[account][..], 3),
        "the two of UTC are counted all the same"
    );

    // More is taken of it, and to say the same zone again, or another amount, changes nothing of that.
    let more = Ask { account, ..ask(process(1), 1, false, 900) };
    assert_eq!(taken(escrow::take(&db, scope, more).await.unwrap()), Some(usd(900)));
    assert!(matches!(
        escrow::take(&db, scope, Ask { n: 2, need: usd(1), ..more }).await.unwrap(),
        Taken::Short(..)
    ));
    let revision = escrow::revision(&db, scope).await.unwrap();
    zoned(tokyo).await.unwrap();
    assert_eq!(escrow::revision(&db, scope).await.unwrap(), revision);
    cap(&db, scope, Some(2_000)).await;
    assert_eq!(
        (of(&db, scope, account).await, escrow::revision(&db, scope).await.unwrap()),
        (Some((100, 900)), revision + 1)
    );
    // There and back again makes nothing free.
    for zone in [Zone::UTC, tokyo] {
        zoned(zone).await.unwrap();
    }
    assert_eq!(of(&db, scope, account).await, Some((100, 900)));
    // And a cap that is taken away and set anew begins with what is known.
    cap(&db, scope, None).await;
    assert!(escrow::write(&db, scope, &calls(process(3), 1, spent(2_000, None))).await.unwrap());
    cap(&db, scope, Some(2_000)).await;
    assert_eq!(
        escrow::caps(&db, scope).await.unwrap()[0].zone,
        Zone::UTC,
        "no cap is left to say of which zone"
    );
    zoned(tokyo).await.unwrap();
    assert_eq!(of(&db, scope, account).await, Some((1_200, 900)), "no less than was spent by days of UTC");
});
