//! The same answers as the reference implementation of Cedar gives.
//!
//! `reference.jsonl` has policies that were made by chance over the words of the schema, and what cedar-policy 4.14.1 said of them: its strict
//! validator took each, and its authorizer was asked a handful of requests, with the permit that `allow` stands for written out as a
//! policy. That library is no dependency, so the answers are kept. Where it leaves out a forbidding policy that it cannot work out,
//! ours forbids: those cases say so in `errors`.

use lantern_cedar::{Asked, Effect, Otherwise, Policies, Who};
use lantern_types::{At, EffectClass};
use serde_json::Value;

const GOLDEN: &str = include_str!("../golden/reference.jsonl");

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn effect(case: &Value) -> Effect<'_> {
    let (facts, name) = (&case["facts"], text(case, "on"));
    match text(case, "action") {
        "call_model" => Effect::CallModel {
            name,
            hold: facts["hold"].as_i64().unwrap(),
            request_bytes: facts["requestBytes"].as_u64().unwrap(),
            max_tokens: facts["maxTokens"].as_u64().unwrap(),
        },
        "spend" => Effect::Spend { name, amount: facts["amount"].as_i64().unwrap() },
        "call_tool" => Effect::CallTool {
            name,
            class: if text(facts, "class") == "pure" { EffectClass::Pure } else { EffectClass::Irreversible },
            calls: u32::try_from(facts["calls"].as_u64().unwrap()).unwrap(),
        },
        "reach_out" => Effect::ReachOut { host: name },
        _ => Effect::CallAgent { name },
    }
}

/// What one set was asked, and what came of it.
fn compare(policies: &Policies, requests: &[Value], set: &Value) -> usize {
    let answers = set["answers"].as_array().unwrap();
    for (case, want) in requests.iter().zip(answers) {
        let id = text(case, "who");
        let who = match text(case, "kind") {
            "Agent" => Who::Agent(id),
            "Key" => Who::Key(id),
            _ => Who::Person(id),
        };
        let at = At::from_micros(case["at"].as_i64().unwrap() * 1_000_000);
        let spent = case["spent"].as_i64().unwrap();
        let answer = policies.answer(&Asked { who, effect: effect(case), spent, at });
        let denied = want["denied"].as_bool().unwrap();
        if want["errors"].is_array() {
            assert!(answer.forbidden || !denied, "{set}\n{case}");
            continue;
        }
        let mut by = answer.by;
        by.sort();
        let wanted: Vec<&str> =
            want["by"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(
            (answer.forbidden, by),
            (denied, wanted.into_iter().map(str::to_owned).collect()),
            "{set}\n{case}"
        );
    }
    answers.len()
}

#[test]
fn the_reference_says_the_same() {
    let mut lines = GOLDEN.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let requests = lines.next().unwrap()["requests"].take();
    let requests = requests.as_array().unwrap();
    let (mut asked, mut sets, mut refused) = (0, 0, Vec::new());
    for set in lines {
        let otherwise = Otherwise::parse(text(&set, "default")).unwrap();
        match Policies::read(text(&set, "text"), otherwise) {
            Ok(policies) => {
                sets += 1;
                asked += compare(&policies, requests, &set);
            }
            Err(faults) => refused.push((faults, set["text"].clone())),
        }
    }
    assert!(asked > 2_000, "{asked} answers of {sets} sets");
    assert!(
        refused.is_empty(),
        "{} that the reference takes are refused: {:#?}",
        refused.len(),
        refused.first()
    );
}
