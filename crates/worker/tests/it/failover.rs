//! Who is asked next when a model does not answer: at once, under a hold of its own, and never past the cap.

use lantern_engine::{Event, Fact};
use lantern_types::{Acted, Dur, Failure, MicroUsd};
use serde_json::{Value, json};

use crate::bench::{Act, Bench};

/// Two models of one provider would do for it: the dear one is asked first.
fn ask(id: &str) -> Value {
    json!({"id": id, "kind": "llm", "data": {"prompt": "hi", "model": "auto", "maxTokens": 1_000}})
}

async fn bench(cap: f64, retry: Value) -> Bench {
    let bench = Bench::new().await;
    bench.priced();
    let manifest = json!({"program": "steps", "maxCostUsd": cap, "steps": [ask("a")], "retry": retry});
    bench.agent("a", manifest).await;
    bench.start_worker();
    bench
}

/// Model, hold in micro-dollars, and why, of each admission.
fn admitted(events: &[Event]) -> Vec<(String, i64, String)> {
    let of = |event: &Event| match &event.fact {
        Fact::StepAdmitted { grant, .. } => {
            let route = grant.route.clone()?;
            Some((route.model, grant.hold.micros(), route.why.unwrap_or_default()))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn lost() -> Failure {
    Failure::unknown("provider_interrupted", "broke off")
}

#[tokio::test(start_paused = true)]
async fn another_model_is_asked_at_once_under_a_hold_of_its_own() {
    for (failure, unconfirmed) in [
        (
            Failure {
                retry_after: Some(Dur::from_secs(600)),
                ..Failure::transient("provider_rate_limited", "slow")
            },
            false,
        ),
        (Failure::refused("provider_auth", "no"), false),
        (lost(), true),
    ] {
        let bench = bench(1.0, Value::Null).await;
        let code = failure.code;
        bench.script.on("a", vec![Act::Fail(failure), Act::Say("ok")]);
        let run = bench.start_run("a", json!({})).await;
        bench.until(run, "succeeded").await;
        let (folded, events) = bench.folded(run).await;
        let [first, second] = &*admitted(&events) else { panic!("{code}: {events:?}") };
        assert_eq!((&*first.0, &*second.0), ("gpt-4o", "gpt-4o-mini"), "{code}");
        assert_eq!(second.2, format!("auto, balanced: 2 of 2; after openai/gpt-4o: {code}"));
        let held = if unconfirmed { MicroUsd::from_micros(first.1) } else { MicroUsd::ZERO };
        assert_eq!(folded.unconfirmed, held, "{code}: what may have been billed stays held");
        assert!(folded.spent < MicroUsd::from_micros(second.1), "{code}: one reply was billed");
        let keys = bench.script.calls();
        let generation = if unconfirmed { 1 } else { 2 };
        assert_eq!(
            keys,
            ["a#1".to_owned(), format!("a@gpt-4o-mini#{generation}")],
            "another request, another key"
        );
        let between = events.iter().find_map(|event| match &event.fact {
            Fact::StepRetrying { due, .. } => Some(*due == event.at),
            _ => None,
        });
        assert_eq!(between, Some(true), "{code}: nobody has to wait");
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_else_would_answer_is_asked_of_nobody_else() {
    let bench = bench(1.0, Value::Null).await;
    bench.script.on("a", vec![Act::Fail(Failure::refused("provider_refused", "400 no such field"))]);
    let run = bench.start_run("a", json!({})).await;
    let head = bench.until(run, "failed").await;
    assert_eq!(head.error_code.as_deref(), Some("provider_refused"));
    assert_eq!(bench.script.calls(), ["a#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_one_attempt_is_kept() {
    let bench = bench(1.0, json!({"maxAttempts": 1})).await;
    bench.script.on("a", vec![Act::Fail(Failure::transient("provider_rate_limited", "slow"))]);
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "failed").await;
    assert_eq!(bench.script.calls(), ["a#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_failover_never_passes_the_cap() {
    // Enough for the dear one and not for both, once the first may have been billed.
    let dear = {
        let bench = bench(1.0, Value::Null).await;
        bench.script.on("a", vec![Act::Say("ok")]);
        let run = bench.start_run("a", json!({})).await;
        bench.until(run, "succeeded").await;
        admitted(&bench.folded(run).await.1)[0].1
    };
    let cap = f64::from(i32::try_from(dear + 100).unwrap()) / 1e6;
    let bench = bench(cap, Value::Null).await;
    bench.script.on("a", vec![Act::Fail(lost()), Act::Say("never")]);
    let run = bench.start_run("a", json!({})).await;
    let head = bench.until(run, "failed").await;
    assert_eq!(head.error_code.as_deref(), Some("run_budget_exceeded"));
    assert_eq!(bench.script.calls(), ["a#1"], "the second was never sent");
    let (folded, _) = bench.folded(run).await;
    assert_eq!((folded.spent, folded.unconfirmed.micros()), (MicroUsd::ZERO, dear));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_too_dear_lets_a_cheaper_one_go() {
    let bench = bench(0.002, Value::Null).await;
    bench.script.on("a", vec![Act::Say("ok")]);
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    let (_, events) = bench.folded(run).await;
    assert_eq!(admitted(&events)[0].0, "gpt-4o-mini");
}

#[tokio::test(start_paused = true)]
async fn whoever_asked_for_time_gets_it_when_all_others_are_too_dear() {
    let bench = bench(0.002, Value::Null).await;
    let slow = Failure {
        retry_after: Some(Dur::from_secs(600)),
        ..Failure::transient("provider_rate_limited", "slow")
    };
    bench.script.on("a", vec![Act::Fail(slow), Act::Say("ok")]);
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    let (_, events) = bench.folded(run).await;
    let waited = events.iter().find_map(|event| match &event.fact {
        Fact::StepRetrying { due, .. } => Some(due.since(event.at)),
        _ => None,
    });
    assert!(waited.unwrap() >= Dur::from_secs(600), "{waited:?}");
    assert_eq!(bench.script.calls(), ["a#1", "a#2"], "the same model again");
}

#[tokio::test(start_paused = true)]
async fn whoever_failed_first_is_asked_again_under_the_first_key() {
    let bench = bench(1.0, json!({"maxAttempts": 3})).await;
    bench.script.on("a", vec![Act::Fail(lost()), Act::Fail(lost()), Act::Say("ok")]);
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["a#1", "a@gpt-4o-mini#1", "a#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_forgets_nobody_who_failed() {
    let bench = bench(1.0, Value::Null).await;
    bench.script.on("a", vec![Act::Fail(lost()), Act::Hang, Act::Say("ok")]);
    let run = bench.start_run("a", json!({})).await;
    bench.until_calls(2).await;
    bench.kill().await;
    bench.start_worker();
    bench.until(run, "succeeded").await;
    let (folded, events) = bench.folded(run).await;
    let models: Vec<String> = admitted(&events).into_iter().map(|(model, ..)| model).collect();
    assert_eq!(
        models,
        ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"],
        "who answered nobody before the crash failed nobody"
    );
    let acted =
        events.iter().filter(|event| matches!(&event.fact, Fact::StepRetrying { acted: Acted::Unknown, .. }));
    assert_eq!(acted.count(), 2);
    assert!(folded.spent.plus(folded.unconfirmed).unwrap() <= folded.cap);
}
