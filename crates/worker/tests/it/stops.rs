//! Emergency stops: from the answer of a stop on nothing that costs or acts is sent, until it is lifted.

use lantern_engine::{Arrival, Fact};
use lantern_store::stops::{self, NewStop, server};
use lantern_types::{Failure, StopId, StopScope};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bench::{Act, Bench};

fn stop(n: u128) -> StopId {
    StopId::from_uuid(Uuid::from_u128(n))
}

impl Bench {
    /// Sets a stop of an agent, or of the tenant.
    async fn halt(&self, n: u128, agent: Option<&str>) {
        let agent_name = agent.map(ToOwned::to_owned);
        let (reason, by, at) = ("too dear".to_owned(), "ada".to_owned(), self.now());
        let new = NewStop { id: stop(n), agent_name, reason, by, at };
        assert!(stops::set(&self.db, self.scope, new).await.unwrap());
    }

    async fn lift(&self, n: u128) {
        assert!(stops::lift(&self.db, self.scope, stop(n), "ada".to_owned(), self.now()).await.unwrap());
    }

    async fn halt_server(&self, n: u128) {
        let (reason, by, at) = ("too dear".to_owned(), "ops".to_owned(), self.now());
        let new = NewStop { id: stop(n), agent_name: None, reason, by, at };
        server::set(&self.db, new).await.unwrap();
    }
}

fn two_turns(bench: &Bench) {
    bench.script.on("llm-1", vec![Act::Slow(5_000, Box::new(Act::Ask("calc", json!({}))))]);
    bench.script.on("llm-1.tool-1", vec![Act::Return(json!(1))]);
    bench.script.on("llm-2", vec![Act::Say("done")]);
}

fn agent() -> Value {
    json!({"tools": ["calc"]})
}

#[tokio::test(start_paused = true)]
async fn what_is_outside_ends_and_nothing_new_is_sent_until_the_stop_is_lifted() {
    for scope in StopScope::ALL {
        let bench = Bench::new().await;
        bench.agent("a", agent()).await;
        two_turns(&bench);
        bench.start_worker();
        let run = bench.start_run("a", json!("hi")).await;
        bench.until_calls(1).await;
        match scope {
            StopScope::Agent => bench.halt(1, Some("a")).await,
            StopScope::Tenant => bench.halt(1, None).await,
            StopScope::Server => bench.halt_server(1).await,
        }
        bench.until(run, "paused").await;
        bench.pass(600).await;
        // The reply that was on its way is kept and paid for; the pure tool that it asked for is run.
        assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1.tool-1#1"]);
        assert!(bench.head(run).await.owner.is_none(), "nobody holds it");
        let (_, events) = bench.folded(run).await;
        let halted = events.iter().find_map(|event| match &event.fact {
            Fact::Halted { stop, scope } => Some((*stop, *scope)),
            _ => None,
        });
        assert_eq!(halted, Some((stop(1), scope)), "the journal names it");
        match scope {
            StopScope::Server => {
                assert!(server::lift(&bench.db, stop(1), "ops".into(), bench.now()).await.unwrap());
            }
            _ => bench.lift(1).await,
        }
        bench.until(run, "succeeded").await;
        assert_eq!(bench.script.calls(), ["llm-1#1", "llm-1.tool-1#1", "llm-2#1"], "and nothing twice");
        bench.folded(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_run_waits_and_one_of_another_agent_does_not() {
    let bench = Bench::new().await;
    bench.agent("a", json!({})).await;
    bench.agent("b", json!({})).await;
    bench.script.on("llm-1", vec![Act::Say("one"), Act::Say("two")]);
    bench.start_worker();
    bench.halt(1, Some("a")).await;
    let waits = bench.start_run("a", json!("hi")).await;
    bench.until(waits, "paused").await;
    let goes = bench.start_run("b", json!("hi")).await;
    bench.until(goes, "succeeded").await;
    // Two stops: the last one lifted lets it go.
    bench.halt(2, None).await;
    bench.lift(1).await;
    bench.pass(60).await;
    assert_eq!(bench.head(waits).await.status, "paused");
    assert_eq!(bench.script.calls().len(), 1);
    bench.lift(2).await;
    bench.until(waits, "succeeded").await;
    let (_, events) = bench.folded(waits).await;
    let halts = events.iter().filter(|event| matches!(event.fact, Fact::Halted { .. }));
    assert_eq!(halts.count(), 2, "it says by which");
}

#[tokio::test(start_paused = true)]
async fn a_stop_outlives_a_crash_and_what_the_crash_cut_short_waits() {
    let bench = Bench::new().await;
    bench.agent("a", json!({})).await;
    bench.script.on("llm-1", vec![Act::Hang, Act::Say("after all")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    bench.halt(1, None).await;
    bench.kill().await;
    bench.start_worker();
    bench.until(run, "paused").await;
    bench.kill().await;
    bench.start_worker();
    bench.pass(3_600).await;
    assert_eq!(bench.script.calls().len(), 1);
    bench.lift(1).await;
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1"; 2], "under the same key");
    bench.folded(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_was_due_waits_and_a_halted_run_can_be_cancelled() {
    let bench = Bench::new().await;
    bench.agent("a", json!({})).await;
    bench
        .script
        .on("llm-1", vec![Act::Fail(Failure::transient("provider_rate_limited", "busy")), Act::Say("never")]);
    bench.start_worker();
    let run = bench.start_run("a", json!("hi")).await;
    bench.until_calls(1).await;
    bench.halt(1, Some("a")).await;
    bench.until(run, "paused").await;
    bench.pass(3_600).await;
    assert_eq!(bench.script.calls().len(), 1);
    bench.send(run, "c", Arrival::Cancel { by: "ada".into(), reason: None }).await;
    bench.until(run, "cancelled").await;
    bench.lift(1).await;
    bench.pass(60).await;
    assert_eq!((bench.head(run).await.status.as_str(), bench.script.calls().len()), ("cancelled", 1));
}

#[tokio::test(start_paused = true)]
async fn of_two_branches_the_one_outside_is_not_lost_when_the_other_is_halted() {
    let bench = Bench::new().await;
    let step = json!({"kind": "tool", "data": {"tool": "pay"}});
    let steps =
        json!([{"id": "m", "kind": "map", "data": {"items": [1, 2, 3], "concurrency": 2}, "step": step}]);
    bench.agent("s", json!({"program": "steps", "steps": steps})).await;
    bench.script.on("m[0]", vec![Act::Slow(60_000, Box::new(Act::Return(json!(1))))]);
    bench.script.on("m[1]", vec![Act::Slow(1_000, Box::new(Act::Return(json!(2))))]);
    bench.script.on("m[2]", vec![Act::Return(json!(3))]);
    bench.start_worker();
    let run = bench.start_run("s", json!({})).await;
    bench.until_calls(2).await;
    bench.halt(1, None).await;
    bench.until(run, "paused").await;
    bench.pass(10).await;
    assert_eq!(bench.script.calls().len(), 2, "the third is not sent");
    // While the first is still outside.
    bench.lift(1).await;
    bench.until_calls(3).await;
    assert!(bench.head(run).await.owner.is_some());
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls().len(), 3, "an irreversible call is made once");
    bench.folded(run).await;
}
