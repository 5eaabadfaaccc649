//! Caps of the tenant and of an agent, from which runs draw beside their own.

use lantern_engine::{Event, Fact};
use lantern_store::escrow;
use lantern_types::call::{AccountId, Owner, Period};
use lantern_types::{AgentId, At, Failure, MicroUsd, Out, Payer, RunId};
use serde_json::{Value, json};

use crate::bench::{Act, Bench};

/// What a call of `ask` costs that is answered: 10 and 5 tokens of the model.
const COST: i64 = 75;

/// A call that could cost a little more than 10,000 micro-dollars.
fn ask(id: &str) -> Value {
    json!({"id": id, "kind": "llm", "data": {"prompt": "hi", "model": "gpt-4o", "maxTokens": 1_000}})
}

async fn agent(bench: &Bench, name: &'static str, steps: &[&str]) {
    bench.priced();
    let steps: Vec<Value> = steps.iter().map(|id| ask(id)).collect();
    bench.agent(name, json!({"program": "steps", "maxCostUsd": 1, "steps": steps})).await;
}

async fn cap(bench: &Bench, owner: Owner, micros: i64) {
    let (cap, now) = (Some(MicroUsd::from_micros(micros)), bench.now());
    let set =
        bench.db.write(bench.scope, move |tx| Box::pin(escrow::set_cap(tx, (owner, Period::Day), cap, now)));
    set.await.unwrap();
    bench.db.hub().caps_changed();
}

async fn stands(bench: &Bench, owner: Owner) -> (i64, i64) {
    let accounts = escrow::accounts(&bench.db, bench.scope, At::from_micros(0)).await.unwrap();
    let account = AccountId::at(owner, Period::Day, bench.now());
    let found = accounts.into_iter().find(|(id, ..)| *id == account);
    found.map_or((0, 0), |(_, spent, held)| (spent.micros(), held.micros()))
}

fn whose(events: &[Event]) -> AgentId {
    let agent = events.iter().find_map(|event| match event.fact {
        Fact::RunStarted { agent, .. } => Some(agent),
        _ => None,
    });
    agent.unwrap()
}

fn holds(events: &[Event]) -> Vec<i64> {
    let hold = |event: &Event| match &event.fact {
        Fact::StepAdmitted { grant, .. } => Some(grant.hold.micros()),
        _ => None,
    };
    events.iter().filter_map(hold).collect()
}

async fn denied(bench: &Bench, run: RunId) -> String {
    assert_eq!(bench.until(run, "failed").await.error_code.as_deref(), Some("budget_exceeded"));
    let (_, events) = bench.folded(run).await;
    let reason = events.iter().find_map(|event| match &event.fact {
        Fact::StepDenied { code, reason, .. } if code == "budget_exceeded" => Some(reason.clone()),
        _ => None,
    });
    reason.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_run_spends_is_spent_of_its_tenant_and_its_agent() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one", "two"]).await;
    cap(&bench, Owner::Tenant, 100_000).await;
    for step in ["one", "two"] {
        bench.script.on(step, vec![Act::Slow(2_000, Box::new(Act::Say("yes")))]);
    }
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until_calls(1).await;
    let (_, events) = bench.folded(run).await;
    assert_eq!(stands(&bench, Owner::Tenant).await, (0, holds(&events)[0]), "held before it is sent");
    let row = bench.until(run, "succeeded").await;
    bench.pass(2).await;
    assert_eq!(row.spent.micros(), 2 * COST);
    assert_eq!(stands(&bench, Owner::Tenant).await, (2 * COST, 0));
    assert_eq!(stands(&bench, Owner::Agent(whose(&events))).await, (2 * COST, 0));
}

#[tokio::test(start_paused = true)]
async fn an_admission_says_which_caps_let_it_pass_and_a_denial_which_did_not() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one"]).await;
    bench.script.on("one", vec![Act::Say("yes")]);
    cap(&bench, Owner::Tenant, 100_000).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    bench.pass(2).await;
    let (_, events) = bench.folded(run).await;
    let grant = events.iter().find_map(|event| match &event.fact {
        Fact::StepAdmitted { grant, .. } => Some(grant.clone()),
        _ => None,
    });
    let grant = grant.unwrap();
    let [account] = &*grant.facts.accounts else { panic!("{:?}", grant.facts) };
    assert_eq!((account.of, account.period, account.cap.micros()), (Payer::Tenant, Period::Day, 100_000));
    assert_eq!(
        (account.spent.micros(), account.slice),
        (0, Some(grant.hold)),
        "one call takes what it needs"
    );
    assert_eq!(account.held, grant.hold);
    let choice = grant.facts.choice.unwrap();
    assert_eq!((&*choice.asked, choice.ways.len(), choice.more), ("gpt-4o", 1, 0));

    cap(&bench, Owner::Tenant, 1_000).await;
    let run = bench.start_run("a", json!({})).await;
    denied(&bench, run).await;
    let (_, events) = bench.folded(run).await;
    let grounds = events.iter().find_map(|event| match &event.fact {
        Fact::StepDenied { grounds, .. } => grounds.clone(),
        _ => None,
    });
    let grounds = grounds.unwrap();
    let account = grounds.account.unwrap();
    assert_eq!((account.cap.micros(), account.spent.micros(), account.slice), (1_000, COST, None));
    assert_eq!(grounds.route.unwrap().model, "gpt-4o");
    assert_eq!(grounds.facts.choice.unwrap().ways[0].out, Some(Out::OverCap));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_denied_by_what_is_spent_of_a_cap_before_it_spends() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one", "two"]).await;
    agent(&bench, "b", &["other"]).await;
    for step in ["one", "other"] {
        bench.script.on(step, vec![Act::Say("yes")]);
    }
    bench.script.on("two", vec![Act::Say("yes")]);
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    bench.pass(2).await;
    let (_, events) = bench.folded(run).await;
    let agent = whose(&events);
    let (spent, held) = stands(&bench, Owner::Agent(agent)).await;
    assert_eq!(held, 0);
    cap(&bench, Owner::Agent(agent), spent + 1_000).await;
    let calls = bench.script.calls().len();
    let run = bench.start_run("a", json!({})).await;
    let reason = denied(&bench, run).await;
    assert!(reason.contains("the agent's cap of $0.001150 for the day, $0.000150 are spent"), "{reason}");
    assert_eq!(bench.script.calls().len(), calls, "nothing was called");
    // Another agent has no such cap.
    let other = bench.start_run("b", json!({})).await;
    bench.until(other, "succeeded").await;
    // Nothing at all is left of this one.
    cap(&bench, Owner::Tenant, 0).await;
    let run = bench.start_run("b", json!({})).await;
    let reason = denied(&bench, run).await;
    assert!(reason.contains("the tenant's cap"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_what_another_holds_of_a_cap() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one"]).await;
    agent(&bench, "b", &["two"]).await;
    bench.script.on("one", vec![Act::Slow(5_000, Box::new(Act::Say("yes")))]);
    bench.script.on("two", vec![Act::Say("yes")]);
    cap(&bench, Owner::Tenant, 15_000).await;
    bench.start_worker();
    let first = bench.start_run("a", json!({})).await;
    bench.until_calls(1).await;
    let second = bench.start_run("b", json!({})).await;
    bench.pass(3).await;
    assert_eq!(bench.script.calls(), ["one#1"]);
    let seq = bench.head(second).await.version;
    bench.pass(1).await;
    assert_eq!(bench.head(second).await.version, seq, "nothing is written for a wait");
    for run in [first, second] {
        bench.until(run, "succeeded").await;
    }
    bench.pass(2).await;
    assert_eq!(stands(&bench, Owner::Tenant).await, (2 * COST, 0));
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_charged_once_and_the_run_goes_on() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one"]).await;
    bench.script.on("one", vec![Act::Hang, Act::Say("yes")]);
    cap(&bench, Owner::Tenant, 30_000).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.crash_after(1).await;
    bench.until(run, "succeeded").await;
    bench.pass(2).await;
    let (_, events) = bench.folded(run).await;
    let holds = holds(&events);
    assert_eq!(holds.len(), 2);
    assert_eq!(stands(&bench, Owner::Tenant).await, (holds[0] + COST, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_broke_off_counts_in_full_and_a_refused_one_not_at_all() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one"]).await;
    let lost = Failure::unknown("provider_interrupted", "broke off");
    let limited = Failure::transient("provider_rate_limited", "later");
    bench.script.on("one", vec![Act::Fail(lost), Act::Fail(limited), Act::Say("yes")]);
    cap(&bench, Owner::Tenant, 100_000).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    let row = bench.until(run, "succeeded").await;
    bench.pass(2).await;
    let (_, events) = bench.folded(run).await;
    assert_eq!(holds(&events).len(), 3, "each attempt is held for");
    assert_eq!(row.spent.micros(), COST);
    assert_eq!(stands(&bench, Owner::Tenant).await, (row.spent.micros() + row.held.micros(), 0));
    assert_eq!(row.held.micros(), holds(&events)[0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_on_the_way_leaves_nothing_held() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one"]).await;
    bench.script.on("one", vec![Act::Hang]);
    cap(&bench, Owner::Tenant, 100_000).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until_calls(1).await;
    let stop = lantern_engine::Arrival::Cancel { by: "ada".to_owned(), reason: None };
    bench.send(run, "k", stop).await;
    let row = bench.until(run, "cancelled").await;
    bench.pass(2).await;
    assert_eq!(stands(&bench, Owner::Tenant).await, (row.held.micros(), 0), "it may have been billed");
}

#[tokio::test(start_paused = true)]
async fn without_a_cap_nothing_is_held_and_little_is_written() {
    let bench = Bench::new().await;
    let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let steps: Vec<&str> = names.iter().map(String::as_str).collect();
    agent(&bench, "a", &steps).await;
    for step in &names {
        bench.script.on(step, vec![Act::Say("yes")]);
    }
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    bench.pass(3).await;
    assert_eq!(stands(&bench, Owner::Tenant).await, (40 * COST, 0));
    let written = escrow::records(&bench.db, bench.scope, At::from_micros(i64::MAX), 100).await.unwrap();
    assert!(written.len() <= 2, "{} commits for forty steps", written.len());
}
