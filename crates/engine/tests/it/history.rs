//! Journals that earlier builds wrote must fold to the state that was recorded with them, for ever; and what this build
//! writes is compared word for word, so that a change to it is meant.
//!
//! Invariant: a file in `histories` is never written again. Before `golden/format-1.json` changes in more than digests of
//! what was in force, what it said goes there under another name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lantern_engine::{Arrival, Manifest, Run, event, wire};
use lantern_types::{Digest, RunId};
use serde_json::{Value, json};

use crate::desk::{Desk, uuid};

/// Each recorded history and the SHA-256 of its bytes.
const HISTORIES: &[(&str, &str)] =
    &[("format-1.json", "1adfee67a460c9489fe7a329e17eb13b1ccdc84860b2f5d23a96d3bb7944e10a")];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The story that is recorded: a model turn, an approved tool, a retry, a signal that nobody waits for.
fn story() -> (Value, Desk) {
    let manifest = json!({"tools": ["calc", {"name": "mail", "approval": true}], "systemPrompt": "be brief"});
    let mut desk = Desk::open(manifest.clone(), json!({"prompt": "hello"}));
    desk.fails("llm-1", lantern_types::Failure::transient("provider_rate_limited", "slow down"));
    desk.later(60);
    desk.asks("llm-1", &[("calc", json!({"expression": "1+1"})), ("mail", json!({"to": "ada"}))]);
    let step = lantern_engine::StepId::new("llm-1.tool-2");
    desk.arrives(Arrival::Approval { step, granted: true, by: "ada".into(), note: None, answer: None });
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

/// What a record says happened, folded.
fn folded(record: &Value) -> Run {
    let lines: Vec<&str> =
        record["envelopes"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let body = serde_json::to_vec(&record["body"]).unwrap();
    let events = event::decode(lines.join("\n").as_bytes(), Some(&body)).unwrap();
    let manifest = Arc::new(Manifest::parse(&record["manifest"]).unwrap());
    Run::fold(RunId::from_uuid(uuid(9)), manifest, &events)
}

/// `UPDATE=1` records the story of this build as format 1, when the change to it is meant.
#[test]
fn what_is_written_today_is_what_format_1_says_and_folds_back() {
    let (manifest, desk) = story();
    let told = record(&manifest, &desk);
    let golden = folder("golden").join("format-1.json");
    if std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1") {
        std::fs::write(&golden, serde_json::to_string_pretty(&told).unwrap() + "\n").unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&golden).unwrap()).unwrap();
    assert_eq!(kept, told, "today's build writes what format 1 writes");
    assert_eq!(event::format(&desk.events), 1);
    assert_eq!(summary(&folded(&kept)), kept["state"]);
}

#[test]
fn every_recorded_history_folds_to_its_recorded_state() {
    let names = std::fs::read_dir(folder("histories")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, HISTORIES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, digest) in HISTORIES {
        let bytes = std::fs::read(folder("histories").join(name)).unwrap();
        assert_eq!(Digest::of(&bytes).to_string(), *digest, "{name} is never written again");
        let history: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(summary(&folded(&history)), history["state"], "{name}");
    }
}
