//! The API's description as it is committed, made of every route that the program mounts. `UPDATE=1` rewrites it.

use std::collections::BTreeSet;
use std::path::Path;

use lantern_control::{openapi, routes};
use serde_json::Value;

/// What clients are generated from.
#[test]
fn the_description_is_as_committed_and_whole() {
    let doors = lantern_gateway::entries();
    let document = &openapi(&doors);
    let got = serde_json::to_string_pretty(document).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.json");
    #[expect(clippy::disallowed_methods, reason = "a test's own switch, not configuration")]
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(&path, &got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert_eq!(got, want, "openapi.json differs; UPDATE=1 rewrites it, and the difference wants a review");
    let paths = document["paths"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let said = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{said}: its id stands twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{said}: no summary");
            let good = |status: &String| status.starts_with('2') || status == "302";
            let built = !operation["summary"].as_str().unwrap().starts_with("Not built yet");
            let answers = operation["responses"].as_object().unwrap();
            assert_eq!(answers.keys().any(good), built, "{said}: no good answer");
            assert!(
                built || answers.contains_key("501"),
                "{said}: it says that it is not built, and not how"
            );
        }
    }
    assert_eq!(
        paths.values().map(|item| item.as_object().unwrap().len()).sum::<usize>(),
        routes().len() + doors.len()
    );
    refer(document, document);
}

/// Every reference leads somewhere.
fn refer(document: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            map.values().for_each(|value| refer(document, value));
        }
        Value::Array(list) => list.iter().for_each(|value| refer(document, value)),
        _ => {}
    }
}
