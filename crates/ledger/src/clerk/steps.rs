//! Steps of runs beside one another: what is held, what is counted, what a process that died costs.

use lantern_types::call::{Bill, Counted, Happened, OnLimit};
use lantern_types::{AgentId, ApiKeyId, Denial, PriceSource, Route, RunId, Zone};

use lantern_store::usage::pending;

use super::*;
use crate::adder::Adder;
use crate::{Hold, Ledger, Withheld};

const AGENT: AgentId = AgentId::from_uuid(Uuid::from_u128(7));
const OTHER: AgentId = AgentId::from_uuid(Uuid::from_u128(8));

fn route(micros: i64) -> Route {
    Route {
        provider: "p".to_owned(),
        model: "m".to_owned(),
        price: Price { input: usd(micros), output: usd(micros) },
        price_source: PriceSource::Catalogue,
        key: 0,
        why: None,
    }
}

/// What adds up for a process, when it is told.
fn adder(ledger: &Ledger) -> Adder {
    Adder::new(ledger.db.clone(), ledger.clock.clone(), ledger.purse.clone(), false)
}

/// A process of this database, whose clerk acts when it is told.
fn ledger(db: &Db, clock: &Arc<SetClock>, seed: u64) -> (Ledger, Clerk) {
    let ledger = Ledger::new(db.clone(), clock.clone(), Arc::new(SeededIds::new(seed)), false);
    let clerk = Clerk::new(db.clone(), clock.clone(), ledger.purse.clone(), false);
    (ledger, clerk)
}

async fn cap(db: &Db, scope: Scope, owner: Owner, micros: Option<i64>) {
    let set =
        db.write(scope, move |tx| Box::pin(escrow::set_cap(tx, (owner, Period::Day), micros.map(usd), NOON)));
    set.await.unwrap();
    db.hub().caps_changed();
}

/// What one account of the day has spent and held.
async fn of(db: &Db, scope: Scope, owner: Owner) -> (i64, i64) {
    let accounts = escrow::accounts(db, scope, At::from_micros(0)).await.unwrap();
    let account = AccountId::at(owner, Period::Day, NOON);
    let found = accounts.into_iter().find(|(id, ..)| *id == account);
    found.map_or((0, 0), |(_, spent, held)| (spent.micros(), held.micros()))
}

async fn hold(ledger: &Ledger, scope: Scope, agent: AgentId, micros: i64) -> Result<Hold, Withheld> {
    let mut hold = ledger.hold(scope, agent, &route(1), usd(micros)).await?;
    hold.sends();
    Ok(hold)
}

fn denied(withheld: Result<Hold, Withheld>) -> Denial {
    match withheld.map(drop) {
        Err(Withheld::Denied(denial, _)) => denial,
        other => panic!("{other:?}"),
    }
}

/// What the append of a run tells: an attempt that no slice was taken for, and what is counted with it.
async fn uses(db: &Db, scope: Scope, n: i64, agent: AgentId, (cost, counts): (Option<i64>, Vec<Happened>)) {
    let counts = counts.into_iter().map(|what| Counted { agent, what, times: 1 }).collect();
    let item = cost.map(|cost| attempt(agent, cost));
    let run = RunId::from_uuid(Uuid::from_u128(7));
    let used = RunUsage { items: item.into_iter().collect(), counts };
    pending::note(db, scope, (run, n, NOON), &used).await.unwrap();
}

fn attempt(agent: AgentId, cost: i64) -> StepSpent {
    let (provider, model) = ("p".to_owned(), "m".to_owned());
    let (cost, unconfirmed) = (usd(cost), MicroUsd::ZERO);
    let (calls, tokens_in, tokens_out, late) = (1, 3, 4, false);
    StepSpent { agent, provider, model, calls, cost, unconfirmed, tokens_in, tokens_out, late }
}

fn bill(cost: i64) -> Bill {
    Bill { cost: usd(cost), tokens_in: 3, tokens_out: 4, ..Bill::default() }
}

db_test!(an_attempt_is_held_for_from_every_cap_and_settled_once, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (ledger, mut clerk) = ledger(&db, &clock, 1);
    cap(&db, scope, Owner::Tenant, Some(1_000)).await;
    cap(&db, scope, Owner::Agent(AGENT), Some(250)).await;

    let first = hold(&ledger, scope, AGENT, 100).await.unwrap();
    assert_eq!(of(&db, scope, Owner::Tenant).await, (0, 100), "durable before anything is sent");
    assert_eq!(of(&db, scope, Owner::Agent(AGENT)).await, (0, 100));
    // Whoever never was sent costs nothing; whoever was and is not heard of costs all of it.
    drop(ledger.hold(scope, AGENT, &route(1), usd(100)).await.unwrap_or_else(|_| panic!("it fits")));
    drop(hold(&ledger, scope, AGENT, 100).await.unwrap());
    first.settle(bill(30));
    clerk.write().await;
    clerk.give_back(true).await;
    assert_eq!(of(&db, scope, Owner::Tenant).await, (130, 0));
    assert_eq!(of(&db, scope, Owner::Agent(AGENT)).await, (130, 0));

    // The agent's cap does not leave a hundred and twenty-one; the tenant's leaves that to another.
    let denial = denied(hold(&ledger, scope, AGENT, 121).await);
    assert_eq!(denial.code, "budget_exceeded");
    assert!(denial.reason.contains("the agent's cap of $0.000250 for the day"), "{}", denial.reason);
    hold(&ledger, scope, OTHER, 121).await.unwrap().settle(bill(121));
    clerk.write().await;
    let denial = denied(hold(&ledger, scope, OTHER, 750).await);
    assert!(denial.reason.contains("the tenant's cap"), "{}", denial.reason);
    clerk.write().await;
    clerk.give_back(true).await;
    assert_eq!(of(&db, scope, Owner::Tenant).await, (251, 0));
    assert_eq!(of(&db, scope, Owner::Agent(OTHER)).await, (121, 0), "counted without a cap of its own");
});

db_test!(what_others_hold_is_waited_for, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (here, mut clerk) = ledger(&db, &clock, 1);
    let (there, _) = ledger(&db, &clock, 2);
    cap(&db, scope, Owner::Tenant, Some(150)).await;
    let first = hold(&here, scope, AGENT, 100).await.unwrap();
    for ledger in [&here, &there] {
        assert!(matches!(hold(ledger, scope, OTHER, 100).await, Err(Withheld::Waits)));
    }
    first.settle(bill(60));
    clerk.write().await;
    clerk.give_back(true).await;
    assert_eq!(
        denied(hold(&there, scope, OTHER, 100).await).code,
        "budget_exceeded",
        "too much is spent now"
    );
    assert!(hold(&there, scope, OTHER, 90).await.is_ok());
});

db_test!(what_no_cap_bounds_is_added_up_in_one_commit, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (ledger, mut clerk) = ledger(&db, &clock, 1);
    let adder = adder(&ledger);
    for n in 0..100 {
        let agent = if n < 60 { AGENT } else { OTHER };
        hold(&ledger, scope, agent, 100).await.unwrap().settle(bill(n));
        uses(&db, scope, n, agent, (Some(n), Vec::new())).await;
        ledger.used(scope);
    }
    clerk.write().await;
    assert!(events(&db, scope).await.is_empty(), "a step writes nothing of its own");
    adder.own().await;
    assert_eq!(of(&db, scope, Owner::Tenant).await, (4_950, 0));
    assert_eq!(of(&db, scope, Owner::Agent(AGENT)).await, (1_770, 0));
    let [CallEvent::Runs(runs)] = &events(&db, scope).await[..] else { panic!("one record") };
    let mut told: Vec<_> =
        runs.items.iter().map(|item| (item.agent, item.calls, item.cost.micros())).collect();
    told.sort();
    assert_eq!(told, [(AGENT, 60, 1_770), (OTHER, 40, 3_180)]);
    let of_agent = runs.items.iter().find(|item| item.agent == AGENT).unwrap();
    assert_eq!((of_agent.tokens_in, of_agent.tokens_out), (180, 240));
    adder.own().await;
    adder.all().await;
    assert_eq!(events(&db, scope).await.len(), 1, "nothing is written twice");

    // A cap that comes later knows what was spent, and holds for the next step.
    cap(&db, scope, Owner::Agent(AGENT), Some(1_800)).await;
    assert_eq!(denied(hold(&ledger, scope, AGENT, 31).await).code, "budget_exceeded");
    assert!(hold(&ledger, scope, AGENT, 30).await.is_ok());
    cap(&db, scope, Owner::Agent(AGENT), None).await;
    assert!(hold(&ledger, scope, AGENT, 1_000).await.is_ok(), "lifted");
});

db_test!(the_crash_charge_covers_the_step_that_is_taken_over, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (dies, mut late_clerk) = ledger(&db, &clock, 1);
    let (lives, mut clerk) = ledger(&db, &clock, 2);
    cap(&db, scope, Owner::Tenant, Some(300)).await;
    let lost = hold(&dies, scope, AGENT, 100).await.unwrap();
    clock.set(NOON + TTL + Dur::from_secs(1));
    clerk.bury(false).await;
    assert_eq!(of(&db, scope, Owner::Tenant).await, (100, 0));
    let again = hold(&lives, scope, AGENT, 100).await.unwrap();
    again.settle(bill(40));
    clerk.write().await;
    // It was not dead: what it settles now is written, and paid for already.
    lost.settle(bill(70));
    late_clerk.write().await;
    for clerk in [&mut clerk, &mut late_clerk] {
        clerk.give_back(true).await;
    }
    assert_eq!(of(&db, scope, Owner::Tenant).await, (140, 0));
    // The agent has no cap, so nothing was charged to it for the dead: what is known counts.
    assert_eq!(of(&db, scope, Owner::Agent(AGENT)).await, (110, 0));
});

db_test!(no_cap_is_passed_by_calls_and_steps_of_two_processes, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (here, mut first) = ledger(&db, &clock, 1);
    let (there, mut second) = ledger(&db, &clock, 2);
    cap(&db, scope, Owner::Tenant, Some(5_000)).await;
    let account = AccountId::at(Owner::Tenant, Period::Day, NOON);
    let price = Price { input: usd(1_000_000), output: usd(1_000_000) };
    let steps = (0..64).map(|n| {
        let ledger = if n % 2 == 0 { &here } else { &there };
        async move { hold(ledger, scope, AGENT, 100).await.ok() }
    });
    let calls = (0..64).map(|n| {
        let ledger = if n % 2 == 0 { &here } else { &there };
        async move {
            let payers = Payers { accounts: vec![account], capped: vec![account] };
            let mut worst = Worst { price, input: 70, output: 30 };
            ledger.admit(scope, &payers, &mut worst, 30).await.ok().map(|held| (n, held))
        }
    });
    let (steps, calls) = futures_util::future::join(join_all(steps), join_all(calls)).await;
    let (steps, calls): (Vec<Hold>, Vec<_>) =
        (steps.into_iter().flatten().collect(), calls.into_iter().flatten().collect());
    let granted = i64::try_from(steps.len() + calls.len()).unwrap() * 100;
    let (spent, held) = of(&db, scope, Owner::Tenant).await;
    assert!(granted > 0 && granted <= held && spent + held <= 5_000, "{granted} of {held}");
    for step in steps {
        step.settle(bill(100));
    }
    for (n, held) in calls {
        let ledger = if n % 2 == 0 { &here } else { &there };
        ledger.settle(held, record(usd(100), usd(100)));
    }
    for clerk in [&mut first, &mut second] {
        clerk.write().await;
        clerk.give_back(true).await;
    }
    assert_eq!(of(&db, scope, Owner::Tenant).await, (granted, 0));
});

/// What usage says of the day, and what no line tells of.
async fn used(db: &Db, scope: Scope, by: usage::By) -> (usage::Used, Vec<usage::Group>) {
    let days =
        usage::Days { from: Period::Day.began(NOON), to: Period::Day.began(NOON) + Dur::from_secs(86_400) };
    let part = usage::Part { skipped: 0, limit: 100 };
    (usage::of(db, scope, days).await.unwrap(), usage::groups(db, scope, days, by, part).await.unwrap())
}

db_test!(usage_adds_up_to_the_ledger_whoever_dies, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (dies, mut late_clerk) = ledger(&db, &clock, 1);
    let (lives, mut clerk) = ledger(&db, &clock, 2);
    let adder = adder(&lives);
    let key = ApiKeyId::from_uuid(Uuid::from_u128(9));
    let mut outcomes = ["succeeded", "succeeded", "failed", "cancelled"].into_iter();
    // Without a cap, with one, and with one of an agent alone.
    for n in 0..30 {
        if n == 10 {
            cap(&db, scope, Owner::Tenant, Some(100_000)).await;
        }
        if n == 20 {
            cap(&db, scope, Owner::Tenant, None).await;
            cap(&db, scope, Owner::Agent(OTHER), Some(50_000)).await;
        }
        let agent = if n % 3 == 0 { AGENT } else { OTHER };
        let capped = (10..20).contains(&n) || (n >= 20 && agent == OTHER);
        let mut counts = vec![Happened::Tool("calc".to_owned())];
        if agent == AGENT {
            counts.extend(outcomes.next().map(|outcome| Happened::Run(outcome.to_owned())));
        }
        hold(&lives, scope, agent, 100).await.unwrap().settle(bill(n + 1));
        // Of the capped ones nobody knows what came of the second, so all that was held counts.
        drop(hold(&lives, scope, agent, 7).await.unwrap());
        uses(&db, scope, 2 * n, agent, ((!capped).then_some(n + 1), counts)).await;
        uses(&db, scope, 2 * n + 1, agent, ((!capped).then_some(7), Vec::new())).await;
        clerk.write().await;
        if n % 4 == 0 {
            adder.all().await;
        }
    }
    let (accounts, _) = escrow::accounts_of(&[Owner::Tenant, Owner::Key(key)], &[], NOON);
    let payers = Payers { accounts, capped: Vec::new() };
    let price = Price { input: usd(1_000_000), output: usd(1_000_000) };
    let held = lives.admit(scope, &payers, &mut Worst { price, input: 70, output: 30 }, 30).await.unwrap();
    lives.settle(held, CallRecord { key: Some(key), ..record(usd(100), usd(55)) });
    clerk.write().await;
    let (told, agents) = used(&db, scope, usage::By::Owner).await;
    let (spent, _) = of(&db, scope, Owner::Tenant).await;
    assert_eq!(spent, (1..=30).sum::<i64>() + 30 * 7 + 55);
    assert_eq!((told.sum.cost, told.untold), (usd(spent), MicroUsd::ZERO));
    let sums = |groups: &[usage::Group]| groups.iter().map(|group| group.sum.cost.micros()).sum::<i64>();
    assert_eq!(sums(&agents), spent);
    for (owner, group) in agents.iter().filter_map(|group| Some((group.owner?, group))) {
        assert_eq!(of(&db, scope, owner).await.0, group.sum.cost.micros(), "{owner}");
    }
    let ours = agents.iter().find(|group| group.owner == Some(Owner::Agent(AGENT))).unwrap().sum;
    assert_eq!((ours.runs, ours.succeeded, ours.failed, ours.tool_calls, ours.calls), (4, 2, 1, 10, 20));
    assert_eq!(sums(&used(&db, scope, usage::By::Model).await.1), spent);
    let tools = used(&db, scope, usage::By::Tool).await.1;
    assert_eq!((tools[0].name.as_deref(), tools[0].sum.tool_calls), (Some("calc"), 30));
    // Counted once, though it was asked to write again.
    clerk.write().await;
    assert_eq!(used(&db, scope, usage::By::Owner).await.1, agents);

    clerk.give_back(true).await;

    // A process dies; what it is charged is in the ledger, and nobody knows for what.
    cap(&db, scope, Owner::Tenant, Some(100_000)).await;
    let lost = hold(&dies, scope, AGENT, 1_000).await.unwrap();
    clock.set(NOON + TTL + Dur::from_secs(1));
    clerk.bury(false).await;
    lost.settle(bill(70));
    late_clerk.write().await;
    for clerk in [&mut clerk, &mut late_clerk] {
        clerk.give_back(true).await;
    }
    let (told, agents) = used(&db, scope, usage::By::Owner).await;
    assert_eq!(of(&db, scope, Owner::Tenant).await, (spent + 1_000, 0));
    assert_eq!((told.sum.cost, told.untold), (usd(spent + 1_000), usd(1_000)));
    assert_eq!(
        sums(&agents) + told.untold.micros(),
        spent + 1_000,
        "the groups, and what they do not tell of"
    );
    let (_, days) = used(&db, scope, usage::By::Day).await;
    assert_eq!((days.len(), days[0].sum.cost), (1, usd(spent + 1_000)));
    // What was settled late was used, and cost nothing more.
    assert_eq!(agents.iter().map(|group| group.sum.calls).sum::<u64>(), 62);
});

db_test!(a_cap_of_a_zone_is_free_again_at_its_own_midnight, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (ledger, mut clerk) = ledger(&db, &clock, 1);
    cap(&db, scope, Owner::Agent(AGENT), Some(100)).await;
    let tokyo = Zone::parse("Asia/Tokyo").unwrap();
    let zoned = db.write(scope, move |tx| Box::pin(escrow::set_zone(tx, Owner::Agent(AGENT), tokyo, NOON)));
    zoned.await.unwrap();
    db.hub().caps_changed();
    hold(&ledger, scope, AGENT, 90).await.unwrap().settle(bill(90));
    clerk.write().await;
    let account = |now: At| AccountId::within(tokyo, Owner::Agent(AGENT), Period::Day, now);
    let spent = async |now: At| {
        let accounts = escrow::accounts(&db, scope, At::from_micros(i64::MIN)).await.unwrap();
        accounts.iter().find(|(id, ..)| *id == account(now)).map(|(_, spent, _)| spent.micros())
    };
    assert_eq!((spent(NOON).await, of(&db, scope, Owner::Agent(AGENT)).await.0), (Some(90), 90), "in both");
    denied(hold(&ledger, scope, AGENT, 20).await);
    // Three in the afternoon is midnight there, and not a microsecond sooner.
    let midnight = NOON + Dur::from_secs(3 * 3_600);
    clock.set(midnight - Dur::from_micros(1));
    denied(hold(&ledger, scope, AGENT, 20).await);
    clock.set(midnight);
    hold(&ledger, scope, AGENT, 20).await.unwrap().settle(bill(20));
    clerk.write().await;
    assert_eq!((spent(midnight).await, of(&db, scope, Owner::Agent(AGENT)).await.0), (Some(20), 110));
});

db_test!(what_counts_in_a_zone_is_told_once, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (ledger, mut clerk) = ledger(&db, &clock, 1);
    cap(&db, scope, Owner::Tenant, Some(1_000)).await;
    let berlin = Zone::parse("Europe/Berlin").unwrap();
    let zoned = db.write(scope, move |tx| Box::pin(escrow::set_zone(tx, Owner::Tenant, berlin, NOON)));
    zoned.await.unwrap();
    db.hub().caps_changed();
    hold(&ledger, scope, AGENT, 90).await.unwrap().settle(bill(90));
    clerk.write().await;
    let of_zone = AccountId::within(berlin, Owner::Tenant, Period::Day, NOON);
    let accounts = escrow::accounts(&db, scope, At::from_micros(i64::MIN)).await.unwrap();
    assert!(accounts.iter().any(|(id, spent, _)| *id == of_zone && spent.micros() == 90), "{accounts:?}");
    let days = usage::Days { from: NOON - Dur::from_secs(7 * 86_400), to: NOON + Dur::from_secs(86_400) };
    let told = usage::of(&db, scope, days).await.unwrap();
    assert_eq!((told.sum.cost, told.untold), (usd(90), MicroUsd::ZERO));
    let part = usage::Part { skipped: 0, limit: 100 };
    let by_day = usage::groups(&db, scope, days, usage::By::Day, part).await.unwrap();
    assert_eq!((by_day.len(), by_day[0].sum.cost), (1, usd(90)));
});

db_test!(what_a_dead_process_is_charged_counts_wherever_its_calls_would_have, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (dies, mut late_clerk) = ledger(&db, &clock, 1);
    let (_, clerk) = ledger(&db, &clock, 2);
    // A cap in days of its own, of an agent alone.
    cap(&db, scope, Owner::Agent(AGENT), Some(1_000)).await;
    let tokyo = Zone::parse("Asia/Tokyo").unwrap();
    let zoned = db.write(scope, move |tx| Box::pin(escrow::set_zone(tx, Owner::Agent(AGENT), tokyo, NOON)));
    zoned.await.unwrap();
    db.hub().caps_changed();
    let lost = hold(&dies, scope, AGENT, 400).await.unwrap();
    clock.set(NOON + TTL + Dur::from_secs(1));
    clerk.bury(false).await;
    let all = async || {
        let accounts = escrow::accounts(&db, scope, At::from_micros(i64::MIN)).await.unwrap();
        accounts.into_iter().map(|(id, spent, held)| (id, spent.micros(), held.micros())).collect::<Vec<_>>()
    };
    let charged = all().await;
    // The zone's day, and the day and the month of UTC of the agent and of the tenant.
    assert_eq!(charged.len(), 5, "{charged:?}");
    let slice = charged.iter().map(|(_, spent, _)| *spent).max().unwrap();
    assert!(charged.iter().all(|(_, spent, held)| (*spent, *held) == (slice, 0)), "{charged:?}");
    assert!(slice >= 400);
    // Whoever was taken for dead and lives settles for nothing more.
    lost.settle(bill(70));
    late_clerk.write().await;
    late_clerk.give_back(true).await;
    assert_eq!(all().await, charged);
    // Moving the cap back to days of UTC makes nothing free.
    let zoned = db.write(scope, |tx| Box::pin(escrow::set_zone(tx, Owner::Agent(AGENT), Zone::UTC, NOON)));
    zoned.await.unwrap();
    db.hub().caps_changed();
    let (again, _clerk) = ledger(&db, &clock, 3);
    denied(hold(&again, scope, AGENT, 1_001 - slice).await);
    let days =
        usage::Days { from: Period::Day.began(NOON), to: Period::Day.began(NOON) + Dur::from_secs(86_400) };
    let told = usage::of(&db, scope, days).await.unwrap();
    assert_eq!(
        (told.sum.cost, told.untold),
        (usd(slice), usd(slice)),
        "in the tenant's sum, and of no model"
    );
});

db_test!(a_cap_that_asks_says_what_is_asked_and_a_call_is_told_why_it_is_refused, async |db| {
    let scope = seed(&db, DEV_TENANT).await.unwrap().scope;
    let clock = Arc::new(SetClock::at(NOON));
    let (ledger, mut clerk) = ledger(&db, &clock, 1);
    let new = escrow::NewCap { cap: usd(100), notify_at_pct: None, on_limit: OnLimit::Ask };
    let set = db.write(scope, move |tx| {
        Box::pin(escrow::set_cap_with(tx, (Owner::Tenant, Period::Day), Some(new), NOON))
    });
    set.await.unwrap();
    let first = hold(&ledger, scope, AGENT, 90).await.unwrap();
    // What another step holds comes back: that is waited for, and nobody is asked.
    assert!(matches!(hold(&ledger, scope, AGENT, 20).await.map(drop), Err(Withheld::Waits)));
    first.settle(bill(90));
    clerk.write().await;
    let Err(Withheld::Asks(over, _)) = hold(&ledger, scope, AGENT, 20).await.map(drop) else {
        panic!("it asks")
    };
    let ends_at = Period::Day.began(NOON) + Dur::from_secs(86_400);
    assert_eq!((over.cap, over.spent, over.hold, over.ends_at), (usd(100), usd(90), usd(20), ends_at));
    assert_eq!(over.account().unwrap(), AccountId::at(Owner::Tenant, Period::Day, NOON));
    let (accounts, capped) =
        escrow::accounts_of(&[Owner::Tenant], &escrow::caps(&db, scope).await.unwrap(), NOON);
    let price = Price { input: usd(1_000_000), output: usd(1_000_000) };
    let mut worst = Worst { price, input: 10, output: 10 };
    let refused = ledger.admit(scope, &Payers { accounts, capped }, &mut worst, 10).await.unwrap_err();
    assert!(refused.to_string().ends_with("a call does not wait for them"), "{refused}");
});
