//! Manifests, templates and journals that nobody wrote with care: read or refused, and never a panic.

use lantern_engine::{Manifest, Terms, event};
use lantern_types::Limits;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::desk::Desk;

/// Words that mean something somewhere in a manifest, and some that do not.
const WORDS: &[&str] = &[
    "program",
    "agent",
    "steps",
    "id",
    "kind",
    "data",
    "tool",
    "tools",
    "name",
    "effect",
    "approval",
    "llm",
    "sleep",
    "signal",
    "child",
    "map",
    "race",
    "retry",
    "maxAttempts",
    "timeout",
    "timeoutMs",
    "maxTurns",
    "model",
    "prompt",
    "items",
    "do",
    "branches",
    "concurrency",
    "durationMs",
    "until",
    "{{input.x}}",
    "{{steps.a.body}}",
    "{{",
    "}}",
    "calc",
    "http.fetch",
    "5s",
    "irreversible",
    "outputSchema",
    "type",
    "object",
    "",
    "a",
    "\u{0}",
    "é🐢",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![proptest::sample::select(WORDS).prop_map(str::to_owned), "\\PC{0,8}"]
}

/// JSON that looks a little like a manifest.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| json!(n)),
        (-3_i64..70).prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        word().prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec((word(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A step that is right but for one field, which is left out or says anything.
fn step() -> impl Strategy<Value = Value> {
    let call = json!({ "tool": "calc", "arguments": { "expression": "{{input.x}} + 1" } });
    let inner = json!({ "id": "i", "kind": "tool", "data": call });
    let right = vec![
        ("llm", json!({ "prompt": "say {{input.x}}", "model": "auto", "maxTokens": 100 })),
        ("tool", call),
        ("sleep", json!({ "durationMs": 50 })),
        ("sleep", json!({ "until": "2026-01-01T00:00:00Z" })),
        ("signal", json!({ "signal": "go", "timeoutMs": 1000 })),
        ("approval", json!({ "reason": "is {{input.x}} right?", "approvers": ["ada@example.com"] })),
        ("child", json!({ "agent": "other", "input": { "x": "{{steps.a.value}}" } })),
        ("map", json!({ "items": "{{input.x}}", "concurrency": 2 })),
        ("race", json!({})),
        ("continue", json!({ "input": { "x": 1 } })),
    ];
    let step = (
        proptest::sample::select(right),
        any::<proptest::sample::Index>(),
        proptest::option::of(json_value()),
    );
    let wrong = step.prop_map(|((kind, mut data), at, value)| {
        let fields = data.as_object_mut().unwrap();
        let name = fields.keys().nth(at.index(fields.len() + 1)).cloned();
        match (name, value) {
            (Some(name), Some(value)) => drop(fields.insert(name, value)),
            (Some(name), None) => drop(fields.remove(&name)),
            (None, _) => {}
        }
        (kind, data)
    });
    ("[a-c]", wrong).prop_map(move |(id, (kind, data))| match kind {
        "map" => json!({ "id": id, "kind": kind, "data": data, "step": inner }),
        "race" => json!({ "id": id, "kind": kind, "data": data, "steps": [inner, inner] }),
        _ => json!({ "id": id, "kind": kind, "data": data }),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is read is stored in words that read as the same.
    #[test]
    fn any_manifest_is_read_or_refused(value in json_value()) {
        same_when_read_again(&value)?;
    }

    #[test]
    fn any_steps_are_read_or_refused(steps in proptest::collection::vec(step(), 0..4), input in json_value()) {
        let value = json!({ "program": "steps", "steps": steps });
        if let Some(manifest) = same_when_read_again(&value)? {
            let limits = Limits::default();
            drop(manifest.check_input(&input, Terms { tools: &[], limits: &limits }));
        }
    }

    /// A run of steps that were taken begins, whatever they say, and its journal folds to what it is.
    #[test]
    fn steps_that_were_taken_run(steps in proptest::collection::vec(step(), 0..4), x in json_value()) {
        let value = json!({ "program": "steps", "steps": steps });
        if Manifest::parse(&value).is_ok() {
            let desk = Desk::open(value, json!({ "x": x }));
            prop_assert!(desk.events.len() > 1);
        }
    }

    /// A journal in which something was changed is read as something or refused.
    #[test]
    fn a_damaged_journal_is_no_panic(at in any::<proptest::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
        let mut desk = Desk::open(json!({"tools": ["calc"]}), json!({"prompt": "hello"}));
        desk.asks("llm-1", &[("calc", json!({"expression": "1+1"}))]);
        let (mut lines, body) = event::encode(&desk.events).unwrap();
        let mut body = body.unwrap();
        for bytes in [&mut lines, &mut body] {
            let place = at.index(bytes.len());
            if cut { bytes.truncate(place) } else { bytes[place] = with }
        }
        if let Ok(events) = event::decode(&lines, Some(&body)) {
            prop_assert!(events.len() <= desk.events.len() + 1);
        }
    }
}

fn same_when_read_again(value: &Value) -> Result<Option<Manifest>, TestCaseError> {
    let Ok(manifest) = Manifest::parse(value) else { return Ok(None) };
    let again: Manifest = serde_json::from_str(&manifest.canonical()).unwrap();
    prop_assert_eq!(&again, &manifest);
    prop_assert_eq!(again.digest(), manifest.digest());
    Ok(Some(manifest))
}
