//! The same answers as the reference implementation of Cedar gives.
//!
//! `reference.jsonl` has policies that were made by chance over the words of the schema, and what cedar-policy 4.14.1 said of them: its
//! strict validator, and its authorizer for a handful of requests, with the implicit permit that `allow` stands for written out as a
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

#[test]
fn the_reference_says_the_same() {
    let (mut asked, mut sets, mut stricter) = (0, 0, 0);
    for line in GOLDEN.lines() {
        let set: Value = serde_json::from_str(line).unwrap();
        let source = text(&set, "text");
        let otherwise = Otherwise::parse(text(&set, "default")).unwrap();
        let read = Policies::read(source, otherwise);
        if set["valid"] == false {
            // It refuses some that ours can make sense of, and the other way about: what matters is what is answered.
            continue;
        }
        let Ok(policies) = read else {
            stricter += 1;
            continue;
        };
        sets += 1;
        for case in set["cases"].as_array().unwrap() {
            let id = text(case, "who");
            let who = match text(case, "kind") {
                "Agent" => Who::Agent(id),
                "Key" => Who::Key(id),
                _ => Who::Person(id),
            };
            let at = At::from_micros(case["at"].as_i64().unwrap() * 1_000_000);
            let spent = case["spent"].as_i64().unwrap();
            let answer = policies.answer(&Asked { who, effect: effect(case), spent, at });
            if case["errors"].as_array().is_some_and(|errors| !errors.is_empty()) {
                assert!(answer.forbidden || case["denied"] == false, "{source}\n{case}");
                continue;
            }
            let mut by = answer.by.clone();
            by.sort();
            let want: Vec<&str> =
                case["by"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
            assert_eq!(
                (Some(answer.forbidden), by),
                (case["denied"].as_bool(), want.into_iter().map(str::to_owned).collect()),
                "{source}\n{case}"
            );
            asked += 1;
        }
    }
    assert!(asked > 1_000 && sets > 200, "{asked} cases of {sets} sets");
    assert!(stricter * 20 < sets, "{stricter} that the reference takes are refused, of {sets}");
}
