//! Journals recorded by this and earlier builds must fold to the state that was recorded with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lantern_engine::{Arrival, Manifest, Run, event, wire};
use lantern_types::RunId;
use serde_json::{Value, json};

use crate::desk::{Desk, uuid};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// The story that is recorded: a model turn, an approved tool, a retry, a signal that nobody waits for.
fn story() -> (Value, Desk) {
    let manifest = json!({"tools": ["calc", {"name": "mail", "approval": true}], "systemPrompt": "be brief"});
    let mut desk = Desk::open(manifest.clone(), json!({"prompt": "hello"}));
    desk.fails("llm-1", lantern_types::Failure::transient("provider_rate_limited", "slow down"));
    desk.later(60);
    desk.asks("llm-1", &[("calc", json!({"expression": "1+1"})), ("mail", json!({"to": "ada"}))]);
    let step = lantern_engine::StepId::new("llm-1.tool-2");
    desk.arrives(Arrival::Approval { step, granted: true, by: "ada".into(), note: None });
    desk.arrives(Arrival::Signal { name: "extra".into(), value: json!(true), key: None });
    desk.returns("llm-1.tool-1", json!({"value": "2"}));
    desk.returns("llm-1.tool-2", json!("sent"));
    desk.reply("llm-2", "done");
    (manifest, desk)
}

fn record(manifest: &Value, desk: &Desk) -> Value {
    let (lines, body) = event::encode(&desk.events).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    json!({
        "manifest": manifest,
        "envelopes": text(lines).lines().collect::<Vec<_>>(),
        "body": body.map(|body| serde_json::from_slice::<Value>(&body).unwrap()),
        "frames": desk.events.iter().map(|e| wire::frame(desk.run().id, e)).collect::<Vec<_>>(),
        "state": summary(desk.run()),
    })
}

fn summary(run: &Run) -> Value {
    json!({
        "status": run.status().as_str(), "seq": run.seq, "spent": run.spent, "held": run.held,
        "tokensIn": run.tokens_in, "tokensOut": run.tokens_out, "output": run.output,
        "steps": run.steps().iter().map(|s| format!("{} g{} a{}", s.id, s.generation, s.attempt)).collect::<Vec<_>>(),
    })
}

/// `UPDATE=1` records the story of this build as format 1, when the change to it is meant.
#[test]
fn every_recorded_history_folds_to_its_recorded_state() {
    let (manifest, desk) = story();
    let current = folder().join("format-1.json");
    if std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1") {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&current, serde_json::to_string_pretty(&record(&manifest, &desk)).unwrap() + "\n")
            .unwrap();
    }
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(&current).unwrap()).unwrap();
    assert_eq!(recorded, record(&manifest, &desk), "today's build writes what format 1 writes");
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let history: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let lines: Vec<&str> =
            history["envelopes"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
        let body = serde_json::to_vec(&history["body"]).unwrap();
        let events = event::decode(lines.join("\n").as_bytes(), Some(&body)).unwrap();
        let manifest = Arc::new(Manifest::parse(&history["manifest"]).unwrap());
        let run = Run::fold(RunId::from_uuid(uuid(9)), manifest, &events);
        assert_eq!(summary(&run), history["state"], "{}", path.display());
    }
}
