//! What runs used, until it is added up.

use futures_util::future::join_all;
use lantern_policy::Scope;
use lantern_store::testing::seed;
use lantern_store::usage::{self, Days, pending};
use lantern_store::{Db, Error, db_test, escrow, journal};
use lantern_types::call::{AccountId, Counted, Happened, OnLimit, Owner, Period, RunUsage, StepSpent};
use lantern_types::*;
use uuid::Uuid;

use crate::support::{at, claim_all, create, new_run, process, run, tenant, two_events};

const NOON: At = At::from_micros(43_200_000_000);
const AGENT: AgentId = AgentId::from_uuid(Uuid::from_u128(7));

const fn usd(micros: i64) -> MicroUsd {
    MicroUsd::from_micros(micros)
}

fn used(cost: i64, tools: u64) -> RunUsage {
    let item = StepSpent {
        agent: AGENT,
        provider: "p".to_owned(),
        model: "m".to_owned(),
        calls: 1,
        cost: usd(cost),
        unconfirmed: MicroUsd::ZERO,
        tokens_in: 3,
        tokens_out: 4,
        late: false,
    };
    let tool = Counted { agent: AGENT, what: Happened::Tool("calc".to_owned()), times: tools };
    RunUsage { items: vec![item], counts: vec![tool] }
}

/// What each account that began at this time or later has spent.
async fn spent(db: &Db, scope: Scope) -> Vec<(AccountId, i64)> {
    let accounts = escrow::accounts(db, scope, At::from_micros(i64::MIN)).await.unwrap();
    accounts.into_iter().map(|(account, spent, _)| (account, spent.micros())).collect()
}

db_test!(what_an_append_used_is_written_with_it_or_not_at_all, async |db| {
    let seeded = seed(&db, DEV_TENANT).await.unwrap();
    create(&db, seeded.scope, new_run(seeded, run(1), at(10))).await.unwrap();
    let claimed = claim_all(&db, process(1), at(20)).await.remove(0);
    let append = journal::Append { used: used(5, 1), ..two_events(&claimed) };
    let stale = journal::Append { epoch: claimed.epoch - 1, ..append.clone() };
    assert!(matches!(journal::append(&db, seeded.scope, stale).await, Err(Error::Conflict)));
    assert_eq!(spent(&db, seeded.scope).await, []);
    journal::append(&db, seeded.scope, append.clone()).await.unwrap();
    assert_eq!(pending::waiting(&db).await.unwrap().len(), 1);
    let accounts = spent(&db, seeded.scope).await;
    assert_eq!(accounts.len(), 4, "the day and the month of the agent and of the tenant: {accounts:?}");
    assert!(accounts.iter().all(|(_, spent)| *spent == 5), "{accounts:?}");
    assert!(pending::waiting(&db).await.unwrap().is_empty());
    // And so with the one that ends it, and with one that heeds stops.
    let version = append.expected_version + append.n;
    let heeding = journal::Append { expected_version: version, heeds_stops: true, ..append };
    journal::append(&db, seeded.scope, heeding.clone()).await.unwrap();
    let over =
        journal::Projection { status: "succeeded", finished_at: Some(at(40)), ..heeding.projection.clone() };
    let last =
        journal::Append { expected_version: version + 2, projection: over, heeds_stops: false, ..heeding };
    journal::append(&db, seeded.scope, last).await.unwrap();
    assert!(spent(&db, seeded.scope).await.iter().all(|(_, spent)| *spent == 15));
});

db_test!(many_who_add_up_at_once_count_everything_once, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let other = seed(&db, tenant(2)).await.unwrap().scope;
    for n in 0..60 {
        pending::note(&db, scope, (run(n), 3, NOON), &used(10, 2)).await.unwrap();
    }
    pending::note(&db, other, (run(0), 3, NOON), &used(1, 0)).await.unwrap();
    let adding = join_all((0..8).map(|_| pending::add_up(&db, scope)));
    let late = async {
        for n in 60..100 {
            pending::note(&db, scope, (run(n), 3, NOON), &used(10, 2)).await.unwrap();
        }
    };
    let (added, ()) = futures_util::future::join(adding, late).await;
    added.into_iter().collect::<Result<Vec<()>, Error>>().unwrap();
    let day = Period::Day.began(NOON);
    let days = Days { from: day, to: day + Dur::from_secs(86_400) };
    let told = usage::of(&db, scope, days).await.unwrap();
    assert_eq!((told.sum.cost, told.untold), (usd(1_000), MicroUsd::ZERO));
    assert_eq!((told.sum.calls, told.sum.tool_calls), (100, 200));
    assert_eq!((told.sum.tokens_in, told.sum.tokens_out), (300, 400));
    assert_eq!(usage::of(&db, other, days).await.unwrap().sum.cost, usd(1));
});

db_test!(what_was_used_before_a_cap_moved_to_a_zone_counts_there_once, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let new = escrow::NewCap { cap: usd(1_000), notify_at_pct: Some(50), on_limit: OnLimit::Stop };
    let set = db.write(scope, move |tx| {
        Box::pin(escrow::set_cap_with(tx, (Owner::Tenant, Period::Day), Some(new), NOON))
    });
    set.await.unwrap();
    // Added up before the move, and after it.
    pending::note(&db, scope, (run(1), 3, NOON), &used(200, 0)).await.unwrap();
    pending::add_up(&db, scope).await.unwrap();
    pending::note(&db, scope, (run(2), 3, NOON), &used(400, 0)).await.unwrap();
    let tokyo = Zone::parse("Asia/Tokyo").unwrap();
    db.write(scope, move |tx| Box::pin(escrow::set_zone(tx, Owner::Tenant, tokyo, NOON))).await.unwrap();
    let of_zone = AccountId::within(tokyo, Owner::Tenant, Period::Day, NOON);
    let found = spent(&db, scope).await.into_iter().find(|(account, _)| *account == of_zone);
    assert_eq!(found.map(|(_, spent)| spent), Some(600));
    let warned = escrow::warnings(&db, scope, At::from_micros(i64::MIN)).await.unwrap();
    assert_eq!(warned.iter().filter(|warning| warning.account == of_zone).count(), 1, "{warned:?}");
});
