//! Caps of the tenant and of an agent, from which runs draw beside their own.

use lantern_engine::{Event, Fact};
use lantern_store::allowances;
use lantern_store::approvals::{self, ApprovalFilter, ApprovalRow};
use lantern_store::escrow::{self, NewCap, asks};
use lantern_types::approval::Status;
use lantern_types::call::{AccountId, OnLimit, Owner, Period};
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
async fn what_a_run_used_without_a_cap_is_known_at_once_whoever_dies_and_to_a_cap_that_comes_later() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one", "two", "three"]).await;
    bench.script.on("one", vec![Act::Say("yes")]);
    // What is asked when the process dies is asked again by the next.
    bench.script.on("two", vec![Act::Hang, Act::Say("yes")]);
    bench.script.on("three", vec![Act::Fail(Failure::refused("provider_refused", "no"))]);
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until_calls(2).await;
    let (_, events) = bench.folded(run).await;
    let agent = Owner::Agent(whose(&events));
    bench.kill().await;
    assert_eq!((stands(&bench, Owner::Tenant).await, stands(&bench, agent).await), ((COST, 0), (COST, 0)));
    bench.start_worker();
    let row = bench.until(run, "failed").await;
    bench.kill().await;
    let (folded, _) = bench.folded(run).await;
    // What the call that was cut short may have been billed stays held by the run, and counts.
    assert_eq!((row.spent.micros(), row.held), (2 * COST, folded.unconfirmed));
    let known = row.spent.plus(row.held).unwrap();
    let all = (known.micros(), known.micros());
    assert_eq!((stands(&bench, Owner::Tenant).await.0, stands(&bench, agent).await.0), all);
    // Nobody has lived for as long as a second since, and the next step knows.
    cap(&bench, Owner::Tenant, known.micros() + 9_000).await;
    bench.start_worker();
    let next = bench.start_run("a", json!({})).await;
    assert!(denied(&bench, next).await.contains(&format!("{known} are spent")));
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_called_no_more_often_in_a_day_than_the_budget_of_its_agent_says() {
    let bench = Bench::new().await;
    let call = |id: &str| json!({"id": id, "kind": "tool", "data": {"tool": "calc", "arguments": {}}});
    let three = json!({"program": "steps", "steps": [call("one"), call("two"), call("three")]});
    bench.agent("a", three).await;
    bench.script.on("one", vec![Act::Return(json!(1)), Act::Return(json!(1))]);
    bench.script.on("two", vec![Act::Hang, Act::Return(json!(2))]);
    bench.script.on("three", vec![Act::Return(json!(3))]);
    // Found by the first run, which nothing bounds; its end is how the agent is known here.
    let run = bench.start_run("a", json!({})).await;
    let (_, events) = bench.folded(run).await;
    let agent = whose(&events);
    let tools = std::collections::BTreeMap::from([("calc".to_owned(), 3)]);
    let bounds = allowances::Allowances { runs: None, tools };
    let now = bench.now();
    let set = bench.db.write(bench.scope, move |tx| {
        Box::pin(async move { allowances::set(tx, (agent, "a"), &bounds, now).await })
    });
    set.await.unwrap();
    bench.db.hub().caps_changed();
    bench.start_worker();
    // What was counted before the process died is not counted again when it is called again.
    bench.until_calls(2).await;
    bench.kill().await;
    bench.start_worker();
    bench.until(run, "succeeded").await;
    let counted = allowances::counted(&bench.db, bench.scope, bench.now()).await.unwrap();
    assert_eq!(counted, [(agent, Some("calc".to_owned()), 3)]);
    let next = bench.start_run("a", json!({})).await;
    assert_eq!(bench.until(next, "failed").await.error_code.as_deref(), Some("budget_exceeded"));
    let (_, events) = bench.folded(next).await;
    let denied = events.iter().find_map(|event| match &event.fact {
        Fact::StepDenied { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(denied.unwrap().contains("calc 3 times a day"));
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

async fn asking(bench: &Bench, owner: Owner, micros: i64) {
    let new = NewCap { cap: MicroUsd::from_micros(micros), notify_at_pct: None, on_limit: OnLimit::Ask };
    let now = bench.now();
    let set = bench.db.write(bench.scope, move |tx| {
        Box::pin(escrow::set_cap_with(tx, (owner, Period::Day), Some(new), now))
    });
    set.await.unwrap();
    bench.db.hub().caps_changed();
    bench.db.hub().wake();
}

async fn questions(bench: &Bench) -> Vec<ApprovalRow> {
    let filter = ApprovalFilter { statuses: Status::ALL.to_vec(), limit: 100, ..ApprovalFilter::default() };
    approvals::list(&bench.db, bench.scope, filter).await.unwrap()
}

async fn say(bench: &Bench, granted: bool, more: Option<i64>) {
    let open = questions(bench).await.into_iter().find(|row| row.status == Status::Pending).unwrap();
    let said = asks::Said { granted, more: more.map(MicroUsd::from_micros), by: "ada".to_owned() };
    let now = bench.now();
    let done = bench
        .db
        .write(bench.scope, move |tx| Box::pin(async move { asks::say(tx, open.id, &said, now).await }));
    assert!(done.await.unwrap());
    bench.db.hub().wake();
}

/// What a run was asked and told about caps, and that it was admitted after.
fn story(events: &[Event]) -> Vec<String> {
    let tell = |event: &Event| match &event.fact {
        Fact::CapAsked { over, .. } => Some(format!("asked {}", over.asked)),
        Fact::CapAnswered { answer, .. } => Some(format!("{} by {:?}", answer.status, answer.by)),
        Fact::StepAdmitted { .. } => Some("admitted".to_owned()),
        Fact::StepDenied { code, .. } => Some(code.clone()),
        _ => None,
    };
    events.iter().filter_map(tell).collect()
}

#[tokio::test(start_paused = true)]
async fn runs_that_reach_a_cap_that_asks_wait_for_one_answer_whoever_dies() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one"]).await;
    bench.script.on("one", (0..5).map(|_| Act::Say("yes")).collect());
    asking(&bench, Owner::Tenant, 5_000).await;
    bench.start_worker();
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(bench.start_run("a", json!({})).await);
    }
    for run in &runs {
        bench.until(*run, "paused").await;
    }
    bench.pass(5).await;
    assert_eq!(questions(&bench).await.len(), 1, "however many ask");
    for run in &runs {
        let head = bench.head(*run).await;
        assert!(head.owner.is_none() && head.wake_at.is_some(), "it is let go, until the day ends: {head:?}");
    }
    let seq = bench.head(runs[0]).await.version;
    bench.kill().await;
    bench.start_worker();
    bench.pass(120).await;
    assert_eq!(bench.head(runs[0]).await.version, seq, "it asks once, and says so once");
    assert!(bench.script.calls().is_empty());
    say(&bench, true, Some(60_000)).await;
    for run in &runs {
        bench.until(*run, "succeeded").await;
        let (_, events) = bench.folded(*run).await;
        assert_eq!(story(&events), ["asked 0", "granted by \"ada\"", "admitted"]);
    }
    bench.pass(2).await;
    assert_eq!(stands(&bench, Owner::Tenant).await, (5 * COST, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_let_through_is_asked_for_again_once_it_is_spent_and_a_no_denies() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one", "two"]).await;
    bench.script.on("one", vec![Act::Say("yes")]);
    bench.script.on("two", vec![Act::Say("yes")]);
    asking(&bench, Owner::Tenant, 5_000).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "paused").await;
    // Enough for one step and what it then costs, and not for another.
    let hold = questions(&bench).await[0].over.clone().unwrap().hold.micros();
    say(&bench, true, Some(hold - 5_000)).await;
    bench.until_calls(1).await;
    bench.until(run, "paused").await;
    say(&bench, false, None).await;
    let reason = denied(&bench, run).await;
    assert!(reason.contains("somebody was asked, and said no"), "{reason}");
    let (_, events) = bench.folded(run).await;
    let want =
        ["asked 0", "granted by \"ada\"", "admitted", "asked 1", "denied by \"ada\"", "budget_exceeded"];
    assert_eq!(story(&events), want);
    // The next run is denied at once: nobody is asked twice what was answered.
    let next = bench.start_run("a", json!({})).await;
    denied(&bench, next).await;
    assert_eq!(questions(&bench).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hard_cap_refuses_whatever_was_granted_of_another() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one"]).await;
    asking(&bench, Owner::Tenant, 5_000).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "paused").await;
    let (_, events) = bench.folded(run).await;
    cap(&bench, Owner::Agent(whose(&events)), 1_000).await;
    say(&bench, true, None).await;
    let reason = denied(&bench, run).await;
    assert!(reason.contains("the agent's cap"), "{reason}");
    // And nobody is asked for what is refused anyway.
    let next = bench.start_run("a", json!({})).await;
    denied(&bench, next).await;
    assert_eq!(questions(&bench).await.len(), 1);
    assert!(bench.script.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_people_goes_on_when_the_cap_is_raised_or_the_day_is_over() {
    let bench = Bench::new().await;
    agent(&bench, "a", &["one"]).await;
    bench.script.on("one", (0..2).map(|_| Act::Say("yes")).collect());
    asking(&bench, Owner::Tenant, 5_000).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "paused").await;
    asking(&bench, Owner::Tenant, 50_000).await;
    bench.until(run, "succeeded").await;
    let (_, events) = bench.folded(run).await;
    assert_eq!(story(&events), ["asked 0", "withdrawn by \"\"", "admitted"]);
    asking(&bench, Owner::Tenant, 5_000).await;
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "paused").await;
    let ends_at = questions(&bench).await[0].expires_at;
    let left = ends_at.since(bench.now());
    bench.pass_millis(left.millis().unsigned_abs() + 5_000).await;
    // What a new day leaves is no more than the day before.
    assert_eq!(bench.head(run).await.status, "paused");
    let (_, events) = bench.folded(run).await;
    assert_eq!(story(&events).last().map(String::as_str), Some("asked 0"));
    assert!(story(&events).contains(&"expired by \"\"".to_owned()), "{:?}", story(&events));
    say(&bench, true, None).await;
    bench.until(run, "succeeded").await;
}
