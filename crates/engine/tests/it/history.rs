//! Journals that earlier builds wrote must fold to the state that was recorded with them, for ever; and what this build
//! writes is compared word for word, so that a change to it is meant.
//!
//! Invariant: a file in `histories` is never written again. Before a golden of format 1 changes in more than digests of what was
//! in force, what it said goes there under another name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lantern_engine::{Arrival, Fact, Input, Manifest, Outcome, Run, event, wire};
use lantern_types::approval::{CapAnswer, OverCap};
use lantern_types::call::Period;
use lantern_types::{At, Digest, Limits, MicroUsd, RunId};
use serde_json::{Value, json};

use crate::desk::{Desk, grant, uuid};

/// Each recorded history and the SHA-256 of its bytes.
const HISTORIES: &[(&str, &str)] = &[
    ("format-1-asked.json", "6444b4f3ec1437f602b9bf5f122aea27d5fdbac676cd32895845b08260ae37d3"),
    ("format-1-cancelled.json", "7d69edf2c62cc321542eeb01b5e83ce6bd3553923a494ae1faaca2d24b233f79"),
    ("format-1-children.json", "609188d269a4553353aeeed69bed498e1dcaad6f0cdb1784293d26757f9f4972"),
    ("format-1-circles.json", "fcd003c377ed960bf874b14c8d5b7680ade045abfdcd41c850d6c6fab0706514"),
    ("format-1-continued.json", "1a8f1a08bcc5b2c3151eea2e5d371715bf6b8afd475d43c123d4e29fde2a65cd"),
    ("format-1-doubts.json", "c64f072e368308f34158b1f65edb9a5a369cad2c9d7fbc99699aa2991cf60c4b"),
    ("format-1-forked.json", "7e2c9f1869e1e721f91a1a793d933b89cc264db561797b16f9561ddca9238dfa"),
    ("format-1.json", "1adfee67a460c9489fe7a329e17eb13b1ccdc84860b2f5d23a96d3bb7944e10a"),
];

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

pub(crate) type Story = fn() -> (Value, Desk);

/// The stories that are recorded, each under the name of its file. Together they have every kind of event.
pub(crate) const STORIES: [(&str, Story); 8] = [
    ("format-1.json", story),
    ("format-1-doubts.json", doubts),
    ("format-1-children.json", children),
    ("format-1-circles.json", circles),
    ("format-1-cancelled.json", cancelled),
    ("format-1-continued.json", continued),
    ("format-1-forked.json", forked),
    ("format-1-asked.json", asked),
];

/// What stops and starts a run, and what nobody knows the outcome of.
fn doubts() -> (Value, Desk) {
    let manifest = json!({"tools": ["calc", "pay", {"name": "mail", "approval": true}]});
    let mut desk = Desk::open(manifest.clone(), json!("pay"));
    let ada = || "ada".to_owned();
    let step = |name: &str| lantern_engine::StepId::new(name);
    desk.arrives(Arrival::Pause { by: ada() });
    desk.arrives(Arrival::Resume { by: ada() });
    let stop = lantern_types::StopId::from_uuid(uuid(3));
    desk.give(Input::Halt { stop, scope: lantern_types::StopScope::Tenant, reason: "too dear".into() });
    desk.give(Input::StopLifted { stop });
    desk.give(Input::Recovered);
    desk.later(1);
    let calls =
        [("pay", json!({"to": "bob"})), ("mail", json!({})), ("mail", json!({"n": 2})), ("calc", json!({}))];
    desk.asks("llm-1", &calls);
    let decided = |name: &str, granted| Arrival::Approval {
        step: step(name),
        granted,
        by: ada(),
        note: Some(json!("as agreed")),
        answer: None,
    };
    desk.arrives(decided("llm-1.tool-2", false));
    desk.arrives(decided("llm-1.tool-3", true));
    desk.give(Input::Recovered);
    let paid = Arrival::Resolution {
        step: step("llm-1.tool-1"),
        happened: true,
        output: json!("paid"),
        by: ada(),
        generation: Some(1),
    };
    desk.arrives(paid);
    desk.fails("llm-1.tool-3", lantern_types::Failure::refused("address_unknown", "nobody lives there"));
    desk.returns("llm-1.tool-4", json!({"value": "2"}));
    desk.reply("llm-2", "paid, and not written to");
    (manifest, desk)
}

/// Runs that a run starts, one of them dropped; a program's own model call; a step that is refused.
fn children() -> (Value, Desk) {
    let child = |id: &str| json!({"id": id, "kind": "child", "data": {"agent": "helper", "input": {}}});
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"duration": "5s"}});
    let manifest = json!({"program": "steps", "steps": [
        {"id": "box", "kind": "tool", "data": {"tool": "calc"}},
        {"id": "each", "kind": "map", "data": {"items": [1, 2]}, "step": {"kind": "tool", "data": {"tool": "calc"}}},
        child("sub"),
        {"id": "race", "kind": "race", "steps": [child("late"), nap]},
        {"id": "dear", "kind": "llm", "prompt": "x"}]});
    let mut desk = Desk::closed(manifest.clone(), json!({}), Limits::default());
    desk.give_once(Input::Wake);
    // It costs nothing, so after a crash it is sent again as it is.
    let step = lantern_engine::StepId::new("box");
    desk.give_once(Input::Admit { step, grant: Box::new(grant(0)) });
    desk.give(Input::Recovered);
    desk.arrives(Arrival::Metered {
        call: Digest::of(b"a call"),
        provider: "openai".into(),
        model: "gpt-4o".into(),
        hold: MicroUsd::from_micros(500),
        cost: MicroUsd::from_micros(100),
        tokens_in: 7,
        tokens_out: 3,
        lost: false,
    });
    for step in ["box", "each[0]", "each[1]"] {
        desk.returns(step, json!({"value": step}));
    }
    let told = |step: &str, outcome, spent: i64| Arrival::ChildFinished {
        step: lantern_engine::StepId::new(step),
        generation: Some(1),
        outcome,
        spent: MicroUsd::from_micros(spent),
        output: json!("done"),
    };
    desk.arrives(told("sub", Outcome::Succeeded, 40));
    desk.now = desk.now + lantern_types::Dur::from_secs(5);
    desk.give_once(Input::Wake);
    desk.denies("dear", "run_budget_exceeded");
    desk.arrives(told("race.late", Outcome::Cancelled, 30));
    (manifest, desk)
}

/// A model that asks for the same again and again.
fn circles() -> (Value, Desk) {
    let manifest = json!({"tools": ["calc"], "maxTurns": 40});
    let mut desk = Desk::open(manifest.clone(), json!("loop"));
    for turn in 1..=3 {
        desk.asks(&format!("llm-{turn}"), &[("calc", json!({"expression": "1+1"}))]);
        desk.returns(&format!("llm-{turn}.tool-1"), json!("same"));
    }
    (manifest, desk)
}

fn cancelled() -> (Value, Desk) {
    let manifest = json!({});
    let mut desk = Desk::open(manifest.clone(), json!("hi"));
    desk.arrives(Arrival::Cancel { by: "ada".into(), reason: Some("enough".into()) });
    (manifest, desk)
}

fn again() -> Value {
    json!({"program": "steps", "steps": [
        {"id": "sum", "kind": "tool", "data": {"tool": "calc"}},
        {"id": "again", "kind": "continue", "data": {"input": {"n": "{{input.n}}"}}}]})
}

fn continued() -> (Value, Desk) {
    let mut desk = Desk::open(again(), json!({"n": 2}));
    desk.returns("sum", json!(1));
    (again(), desk)
}

/// A cap that asks, and somebody who lets more through.
fn asked() -> (Value, Desk) {
    let manifest = json!({});
    let mut desk = Desk::closed(manifest.clone(), json!("hi"), Limits::default());
    desk.give_once(Input::Wake);
    let step = || lantern_engine::StepId::new("llm-1");
    let over = OverCap {
        owner: "tenant".into(),
        period: Period::Day,
        began_at: At::from_micros(0),
        ends_at: At::from_micros(86_400_000_000),
        asked: 2,
        cap: MicroUsd::from_micros(100),
        spent: MicroUsd::from_micros(90),
        hold: MicroUsd::from_micros(50),
    };
    desk.give_once(Input::AskCap { step: step(), over });
    let more = Some(MicroUsd::from_micros(40));
    let answer = CapAnswer { status: "granted".into(), by: "ada".into(), more };
    desk.give_once(Input::CapAnswered { step: step(), answer });
    desk.give_once(Input::Admit { step: step(), grant: Box::new(grant(50)) });
    desk.reply("llm-1", "hello");
    (manifest, desk)
}

/// A replay of a run: what it gave is taken from it.
fn forked() -> (Value, Desk) {
    let manifest =
        json!({"program": "steps", "steps": [{"id": "sum", "kind": "tool", "data": {"tool": "calc"}}]});
    let mut desk = Desk::open(manifest.clone(), json!({}));
    desk.returns("sum", json!({"value": "2"}));
    (manifest, desk.replay())
}

/// `UPDATE=1` records the stories of this build as format 1, when the change to them is meant.
#[test]
fn what_is_written_today_is_what_format_1_says_and_folds_back() {
    for (name, story) in STORIES {
        let (manifest, desk) = story();
        assert!(desk.run().finished_at.is_some(), "{name} has an end");
        let told = record(&manifest, &desk);
        let golden = folder("golden").join(name);
        if std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1") {
            std::fs::write(&golden, serde_json::to_string_pretty(&told).unwrap() + "\n").unwrap();
        }
        let kept: Value = serde_json::from_str(&std::fs::read_to_string(&golden).unwrap()).unwrap();
        assert_eq!(kept, told, "today's build writes what {name} says");
        assert_eq!(event::format(&desk.events), 1);
        assert_eq!(summary(&folded(&kept)), kept["state"], "{name}");
    }
}

macro_rules! kinds {
    ($($kind:ident)+) => {
        /// Every kind of event that this build can write.
        const KINDS: &[&str] = &[$(stringify!($kind)),+];

        /// The kind of a fact. One that is not listed does not compile.
        fn kind(fact: &Fact) -> &'static str {
            match fact {
                $(Fact::$kind { .. } => stringify!($kind),)+
            }
        }
    };
}

kinds! {
    ApprovalAsked ApprovalDenied ApprovalGranted CallMetered CancelRequested CapAnswered CapAsked
    ContinuedAsNew Finished Halted Paused ProgressBlocked Resumed RunEnding RunStarted SignalReceived
    StepAbandoned StepAdmitted StepCharged StepDenied StepFailed StepInDoubt StepReadmitted StepReissued
    StepRequested StepResolved StepRetrying StepReused StepSettled StopLifted
}

#[test]
fn the_stories_have_every_kind_of_event() {
    let told: BTreeSet<&str> =
        STORIES.iter().flat_map(|(_, story)| story().1.events).map(|event| kind(&event.fact)).collect();
    let missing: Vec<_> = KINDS.iter().filter(|kind| !told.contains(**kind)).collect();
    assert!(missing.is_empty(), "no story has {missing:?}");
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
