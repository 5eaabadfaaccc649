//! Caps that ask: one question of an account however many runs ask, what an answer lets through, and whom it wakes.

use lantern_policy::escrow::{Account, Asks};
use lantern_store::approvals::{self, ApprovalFilter, ApprovalRow};
use lantern_store::escrow::asks::{self, Said};
use lantern_store::escrow::{self, Ask, NewCap, Taken};
use lantern_store::journal::{self, Append};
use lantern_store::lease::{self, Claimed, Held};
use lantern_store::testing::{Seeded, seed};
use lantern_store::{Db, db_test};
use lantern_types::approval::{Change, OverCap, Status};
use lantern_types::call::{AccountId, OnLimit, Owner, Period};
use lantern_types::*;

use crate::support::*;

const fn usd(micros: i64) -> MicroUsd {
    MicroUsd::from_micros(micros)
}

fn day() -> AccountId {
    AccountId::at(Owner::Tenant, Period::Day, at(0))
}

fn midnight() -> At {
    day().began_at + Dur::from_secs(86_400)
}

async fn cap(db: &Db, seeded: Seeded, micros: i64, on_limit: OnLimit) {
    let new = NewCap { cap: usd(micros), notify_at_pct: None, on_limit };
    let set = db.write(seeded.scope, move |tx| {
        Box::pin(escrow::set_cap_with(tx, (Owner::Tenant, Period::Day), Some(new), at(1)))
    });
    set.await.unwrap();
}

async fn take(db: &Db, seeded: Seeded, n: i64, need: i64) -> Taken {
    take_of(db, seeded, day(), (n, need)).await
}

async fn take_of(db: &Db, seeded: Seeded, account: AccountId, (n, need): (i64, i64)) -> Taken {
    let (worst, need, expires_at) = (usd(need), usd(need), midnight());
    let ask = Ask { account, process: process(1), n, more: false, several: false, worst, need, expires_at };
    escrow::take(db, seeded.scope, ask).await.unwrap()
}

async fn asks_of(db: &Db, seeded: Seeded) -> Asks {
    match take(db, seeded, 99, 1 << 50).await {
        Taken::Short(_, asks) => asks,
        other => panic!("{other:?}"),
    }
}

fn over(asked: u32) -> OverCap {
    OverCap {
        owner: "tenant".to_owned(),
        period: Period::Day,
        began_at: day().began_at,
        ends_at: midnight(),
        asked,
        cap: usd(100),
        spent: usd(0),
        hold: usd(500),
    }
}

/// A run that asks, and is let go to wait.
async fn asks(db: &Db, seeded: Seeded, n: u128, asked: u32) -> Claimed {
    create(db, seeded.scope, new_run(seeded, run(n), at(10))).await.unwrap();
    let claimed = claim_all(db, process(n), at(20)).await;
    let mut held = claimed.into_iter().find(|claimed| claimed.run == run(n)).unwrap();
    let change = Change::OverCap { step: "llm-1".to_owned(), seq: 3, at: at(30), over: over(asked) };
    let new = Append { approvals: vec![change], ..two_events(&held) };
    held.version = journal::append(db, seeded.scope, new).await.unwrap().version;
    assert!(lease::release(db, seeded.scope, letting(&held), Some(midnight())).await.unwrap());
    held
}

fn letting(held: &Claimed) -> Held {
    Held { run: held.run, epoch: held.epoch, version: held.version, pokes: held.pokes }
}

async fn all(db: &Db, seeded: Seeded) -> Vec<ApprovalRow> {
    let filter = ApprovalFilter {
        statuses: Status::ALL.to_vec(),
        oldest_first: true,
        limit: 100,
        ..ApprovalFilter::default()
    };
    approvals::list(db, seeded.scope, filter).await.unwrap()
}

async fn say(db: &Db, seeded: Seeded, id: ApprovalId, (granted, more): (bool, Option<i64>), now: At) -> bool {
    let said = Said { granted, more: more.map(usd), by: "ada".to_owned() };
    let done = db.write(seeded.scope, move |tx| Box::pin(async move { asks::say(tx, id, &said, now).await }));
    done.await.unwrap()
}

/// How many runs are due, for a process of this number.
async fn due(db: &Db, n: u128) -> usize {
    claim_all(db, process(n), at(60)).await.len()
}

db_test!(many_runs_ask_one_question_and_an_answer_wakes_them_all, async |db| {
    let (seeded, other) = (seed(&db, tenant(1)).await.unwrap(), seed(&db, tenant(2)).await.unwrap());
    cap(&db, seeded, 100, OnLimit::Ask).await;
    assert!(matches!(take(&db, seeded, 1, 500).await, Taken::Short(_, Asks::After(0 | 1))));
    let Asks::After(asked) = asks_of(&db, seeded).await else { panic!("it asks") };
    for n in 1..=5 {
        asks(&db, seeded, n, asked).await;
    }
    let rows = all(&db, seeded).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let (row, question) = (&rows[0], rows[0].over.clone().unwrap());
    assert_eq!((row.run, row.status, row.expires_at), (run(1), Status::Pending, midnight()));
    assert_eq!((question.account, question.cap, question.hold), (day(), usd(100), usd(500)));
    assert!(all(&db, other).await.is_empty());
    assert!(!say(&db, other, row.id, (true, None), at(50)).await, "it is not another tenant's to answer");
    assert_eq!(due(&db, 71).await, 0, "all of them wait");

    assert!(say(&db, seeded, row.id, (true, Some(450)), at(50)).await);
    assert!(!say(&db, seeded, row.id, (true, Some(450)), at(50)).await, "once");
    assert_eq!(due(&db, 72).await, 5);
    // 100 and 450, and not a micro-dollar more.
    assert_eq!(asks_of(&db, seeded).await, Asks::After(asked + 1));
    assert_eq!(take(&db, seeded, 1, 551).await, short(550, asked + 1));
    let all = Account { cap: usd(550), spent: usd(0), held: usd(550) };
    assert_eq!(take(&db, seeded, 1, 550).await, Taken::Amount(usd(550), all));
    let row = approvals::find(&db, seeded.scope, row.id).await.unwrap().unwrap();
    let said = row.over.unwrap();
    assert_eq!((row.status, said.more, said.by.as_deref()), (Status::Granted, Some(usd(450)), Some("ada")));
});

fn short(cap: i64, asked: u32) -> Taken {
    let account = Account { cap: usd(cap), spent: usd(0), held: usd(0) };
    Taken::Short(account, Asks::After(asked))
}

db_test!(a_no_holds_until_the_cap_is_set_anew, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    cap(&db, seeded, 100, OnLimit::Ask).await;
    let Asks::After(asked) = asks_of(&db, seeded).await else { panic!("it asks") };
    asks(&db, seeded, 1, asked).await;
    assert!(say(&db, seeded, over(asked).id(), (false, None), at(50)).await);
    assert_eq!((asks_of(&db, seeded).await, due(&db, 73).await), (Asks::Refused, 1));
    cap(&db, seeded, 120, OnLimit::Ask).await;
    let Asks::After(next) = asks_of(&db, seeded).await else { panic!("it asks again") };
    assert!(next > asked);
    // Open questions are withdrawn, and who waits for them is woken.
    asks(&db, seeded, 2, next).await;
    cap(&db, seeded, 130, OnLimit::Hard).await;
    assert_eq!((asks_of(&db, seeded).await, due(&db, 74).await), (Asks::Never, 1));
    let statuses: Vec<Status> = all(&db, seeded).await.iter().map(|row| row.status).collect();
    assert_eq!(statuses, [Status::Denied, Status::Withdrawn]);
    assert!(!say(&db, seeded, over(next).id(), (true, None), at(50)).await);
});

db_test!(a_question_that_came_too_late_is_none, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    cap(&db, seeded, 100, OnLimit::Ask).await;
    let Asks::After(asked) = asks_of(&db, seeded).await else { panic!("it asks") };
    // Between a run's look at the account and its append, the cap is set anew.
    cap(&db, seeded, 120, OnLimit::Ask).await;
    asks(&db, seeded, 1, asked).await;
    assert!(all(&db, seeded).await.is_empty(), "nobody is asked about a cap that is no more");
    let answer = db.read(seeded.scope, move |tx| Box::pin(asks::answer(tx, over(asked).id())));
    assert_eq!(answer.await.unwrap().unwrap().status, "withdrawn");
    // It asks the one that counts, and only by that is anything said.
    asks(&db, seeded, 2, asked + 1).await;
    assert!(!say(&db, seeded, over(asked).id(), (true, None), at(50)).await);
    assert!(say(&db, seeded, over(asked + 1).id(), (true, Some(5)), at(50)).await);
    assert_eq!(take(&db, seeded, 1, 126).await, short(125, asked + 2));
});

db_test!(what_was_granted_raises_no_hard_cap, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    cap(&db, seeded, 100, OnLimit::Ask).await;
    let Asks::After(asked) = asks_of(&db, seeded).await else { panic!("it asks") };
    asks(&db, seeded, 1, asked).await;
    assert!(say(&db, seeded, over(asked).id(), (true, None), at(50)).await);
    let all = take(&db, seeded, 1, 1_000_000).await;
    assert!(matches!(all, Taken::Amount(amount, _) if amount == usd(1_000_000)), "all that comes: {all:?}");
    cap(&db, seeded, 100, OnLimit::Hard).await;
    assert!(
        matches!(take(&db, seeded, 2, 1).await, Taken::Short(account, Asks::Never) if account.left() == usd(0))
    );
});

db_test!(a_question_outlives_its_run_and_not_its_period, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    cap(&db, seeded, 100, OnLimit::Ask).await;
    let Asks::After(asked) = asks_of(&db, seeded).await else { panic!("it asks") };
    asks(&db, seeded, 1, asked).await;
    asks(&db, seeded, 2, asked).await;
    let id = over(asked).id();
    // The next period's question says that this one lapsed.
    let tomorrow = AccountId { began_at: midnight(), ..day() };
    let short = take_of(&db, seeded, tomorrow, (1, 500)).await;
    assert!(matches!(short, Taken::Short(_, Asks::After(0))), "{short:?}");
    let next = OverCap { began_at: midnight(), ends_at: midnight() + Dur::from_secs(86_400), ..over(0) };
    create(&db, seeded.scope, new_run(seeded, run(3), at(10))).await.unwrap();
    let held = claim_all(&db, process(3), at(40)).await.into_iter().find(|held| held.run == run(3)).unwrap();
    let change = Change::OverCap { step: "llm-1".to_owned(), seq: 3, at: midnight(), over: next.clone() };
    journal::append(&db, seeded.scope, Append { approvals: vec![change], ..two_events(&held) })
        .await
        .unwrap();
    let found: Vec<(ApprovalId, Status)> =
        all(&db, seeded).await.iter().map(|row| (row.id, row.status)).collect();
    assert_eq!(found.len(), 2);
    assert!(
        found.contains(&(id, Status::Expired)) && found.contains(&(next.id(), Status::Pending)),
        "{found:?}"
    );
    assert!(!say(&db, seeded, id, (true, None), midnight()).await, "its period is over");
});

db_test!(who_answers_too_late_is_told_so_and_so_is_the_next, async |db| {
    let seeded = seed(&db, tenant(1)).await.unwrap();
    cap(&db, seeded, 100, OnLimit::Ask).await;
    let Asks::After(asked) = asks_of(&db, seeded).await else { panic!("it asks") };
    asks(&db, seeded, 1, asked).await;
    assert!(!say(&db, seeded, over(asked).id(), (true, None), midnight()).await);
    assert_eq!(all(&db, seeded).await[0].status, Status::Expired);
});
