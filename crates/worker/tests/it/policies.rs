//! Policies of a tenant: what they forbid is not sent, and is in the journal with why.

use lantern_cedar::Otherwise;
use lantern_engine::{Event, Fact};
use lantern_store::policies::{self, Mode, Version};
use lantern_types::{At, Grounds, MicroUsd, Out};
use serde_json::{Value, json};

use crate::bench::{Act, Bench};

async fn saved(bench: &Bench, text: &str, otherwise: Otherwise, mode: Mode) {
    let text = text.to_owned();
    bench
        .db
        .write(bench.scope, move |tx| {
            Box::pin(async move {
                let newest = policies::newest_in(tx).await?;
                let by = "ada".to_owned();
                let version =
                    Version::after(newest.as_ref(), (text, otherwise), mode, by, At::from_micros(1));
                policies::add(tx, &version).await
            })
        })
        .await
        .unwrap();
    bench.standing().refresh(&bench.db).await.unwrap();
}

async fn forbidding(text: &str) -> Bench {
    let bench = Bench::new().await;
    bench.priced();
    saved(&bench, text, Otherwise::Allow, Mode::Enforce).await;
    bench
}

fn model(id: &str, model: &str) -> Value {
    json!({"id": id, "kind": "llm", "data": {"prompt": "hi", "model": model, "maxTokens": 100}})
}

fn denial(events: &[Event]) -> (String, String, Grounds) {
    let found = events.iter().find_map(|event| match &event.fact {
        Fact::StepDenied { code, reason, grounds, .. } => {
            Some((code.clone(), reason.clone(), grounds.clone()))
        }
        _ => None,
    });
    let (code, reason, grounds) = found.unwrap_or_else(|| panic!("no denial: {events:?}"));
    (code, reason, *grounds.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_forbidden_is_not_called() {
    let bench = forbidding(
        r#"@id("none") forbid(principal == Agent::"a", action == Action::"call_model", resource);"#,
    )
    .await;
    for agent in ["a", "b"] {
        bench
            .agent(agent, json!({"program": "steps", "maxCostUsd": 1.0, "steps": [model("m", "auto")]}))
            .await;
    }
    bench.start_worker();
    bench.script.on("m", vec![Act::Say("of b")]);
    let run = bench.start_run("a", json!({})).await;
    let head = bench.until(run, "failed").await;
    assert_eq!(head.error_code.as_deref(), Some("policy_denied"));
    assert!(bench.script.calls().is_empty(), "nobody was asked");
    assert_eq!(head.spent, MicroUsd::ZERO);
    let (_, events) = bench.folded(run).await;
    let (code, reason, grounds) = denial(&events);
    assert_eq!(code, "policy_denied");
    assert!(reason.contains("the policy none forbids it"), "{reason}");
    let ruled = grounds.facts.ruled.unwrap();
    assert_eq!((ruled.agent.as_str(), ruled.observes, ruled.unread), ("a", false, false));
    // Each model that would have done was left out, by name.
    let choice = grounds.facts.choice.unwrap();
    assert!(choice.ways.len() > 1 && choice.ways.iter().all(|way| way.out == Some(Out::Forbidden)));
    assert_eq!(ruled.forbids.len(), choice.ways.len());
    assert_eq!(ruled.forbids[0].by, ["none"]);

    let other = bench.start_run("b", json!({})).await;
    bench.until(other, "succeeded").await;
    assert_eq!(bench.script.calls(), ["m#1"], "another agent may");
    let (_, events) = bench.folded(other).await;
    let told = events.iter().find_map(|event| match &event.fact {
        Fact::StepAdmitted { grant, .. } => grant.facts.ruled.clone(),
        _ => None,
    });
    assert!(told.unwrap().forbids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_model_lets_the_next_one_go_before() {
    let bench = forbidding(
        r#"forbid(principal, action == Action::"call_model", resource == Model::"openai/gpt-4o");"#,
    )
    .await;
    bench.agent("a", json!({"program": "steps", "maxCostUsd": 1.0, "steps": [model("m", "auto")]})).await;
    bench.start_worker();
    bench.script.on("m", vec![Act::Say("ok")]);
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    let (_, events) = bench.folded(run).await;
    let grant = events.iter().find_map(|event| match &event.fact {
        Fact::StepAdmitted { grant, .. } => Some(grant.clone()),
        _ => None,
    });
    let grant = grant.unwrap();
    assert_eq!(grant.route.unwrap().model, "gpt-4o-mini");
    let ways = grant.facts.choice.unwrap().ways;
    assert_eq!(ways.iter().map(|way| way.out).collect::<Vec<_>>(), [Some(Out::Forbidden), None]);
    assert_eq!(grant.facts.ruled.unwrap().forbids[0].on, "openai/gpt-4o");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_forbidden_is_not_called_and_the_model_is_told() {
    let bench = forbidding(
        r#"@id("no pay") forbid(principal, action == Action::"call_tool", resource == Tool::"pay");"#,
    )
    .await;
    bench.agent("a", json!({"model": "auto", "tools": ["pay"], "maxCostUsd": 1.0})).await;
    bench.start_worker();
    bench.script.on("llm-1", vec![Act::Ask("pay", json!({}))]);
    bench.script.on("llm-2", vec![Act::Say("then not")]);
    let run = bench.start_run("a", json!({"text": "pay"})).await;
    bench.until(run, "succeeded").await;
    assert_eq!(bench.script.calls(), ["llm-1#1", "llm-2#1"]);
    let (_, events) = bench.folded(run).await;
    let (code, _, grounds) = denial(&events);
    assert_eq!(code, "policy_denied");
    let ruled = grounds.facts.ruled.unwrap();
    assert_eq!((ruled.forbids[0].action.as_str(), ruled.forbids[0].on.as_str()), ("call_tool", "pay"));
}

#[tokio::test(start_paused = true)]
async fn what_is_observed_happens_and_is_told() {
    let bench = Bench::new().await;
    saved(&bench, "forbid(principal, action, resource);", Otherwise::Allow, Mode::Observe).await;
    bench.agent("a", json!({"program": "steps", "maxCostUsd": 1.0, "steps": [model("m", "auto")]})).await;
    bench.start_worker();
    bench.script.on("m", vec![Act::Say("ok")]);
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
    let (_, events) = bench.folded(run).await;
    let ruled = events.iter().find_map(|event| match &event.fact {
        Fact::StepAdmitted { grant, .. } => grant.facts.ruled.clone(),
        _ => None,
    });
    let ruled = ruled.unwrap();
    assert!(ruled.observes);
    let actions: Vec<&str> = ruled.forbids.iter().map(|one| one.action.as_str()).collect();
    assert_eq!(actions, ["call_model", "spend"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_forbids_everything_until_it_is_ended() {
    let bench = Bench::new().await;
    // As a newer build may have saved it.
    saved(
        &bench,
        "forbid(principal, action, resource) when { ip(\"1.2.3.4\").isIpv4() };",
        Otherwise::Allow,
        Mode::Enforce,
    )
    .await;
    bench.agent("a", json!({"program": "steps", "maxCostUsd": 1.0, "steps": [model("m", "auto")]})).await;
    bench.start_worker();
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "failed").await;
    let (_, events) = bench.folded(run).await;
    let (code, reason, grounds) = denial(&events);
    assert_eq!(code, "policy_denied");
    assert!(reason.contains("cannot be read"), "{reason}");
    assert!(grounds.facts.ruled.unwrap().unread);
    assert!(bench.script.calls().is_empty());

    saved(&bench, "", Otherwise::Allow, Mode::Off).await;
    bench.script.on("m", vec![Act::Say("ok")]);
    let run = bench.start_run("a", json!({})).await;
    bench.until(run, "succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn with_deny_an_agent_does_what_is_permitted() {
    let bench = Bench::new().await;
    let text =
        r#"permit(principal == Agent::"a", action in [Action::"call_model", Action::"spend"], resource);"#;
    saved(&bench, text, Otherwise::Deny, Mode::Enforce).await;
    let steps =
        json!([model("m", "auto"), {"id": "t", "kind": "tool", "data": {"tool": "calc", "arguments": {}}}]);
    bench.agent("a", json!({"program": "steps", "maxCostUsd": 1.0, "steps": steps})).await;
    bench.start_worker();
    bench.script.on("m", vec![Act::Say("ok")]);
    let run = bench.start_run("a", json!({})).await;
    let head = bench.until(run, "failed").await;
    assert_eq!(head.error_code.as_deref(), Some("policy_denied"));
    assert_eq!(bench.script.calls(), ["m#1"]);
    let (_, events) = bench.folded(run).await;
    assert!(denial(&events).1.contains("no policy permits it"));
}
