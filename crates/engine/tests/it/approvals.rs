//! Questions to people, as events ask, decide and drop them.

use lantern_engine::{Arrival, StepId, approval};
use lantern_types::approval::{Change, Status};
use serde_json::{Value, json};

use crate::desk::Desk;

fn steps(list: Value) -> Value {
    json!({"program": "steps", "steps": list})
}

/// What became of each question, in order.
fn told(desk: &Desk) -> Vec<(String, Status)> {
    let mut asked = Vec::new();
    let mut told: Vec<(String, Status)> = Vec::new();
    for change in approval::changes(desk.run(), &desk.events) {
        match change {
            Change::Asked(question) => {
                asked.push(question.id);
                told.push((question.step, Status::Pending));
            }
            Change::Closed(closed) => {
                // What a list does with a question that is closed already, or was never asked.
                let Some(n) = asked.iter().position(|id| *id == closed.id) else { continue };
                if told[n].1 == Status::Pending {
                    told[n].1 = closed.status;
                }
            }
            Change::OverCap { .. } => {}
        }
    }
    told
}

fn open(desk: &Desk) -> Vec<String> {
    approval::open(desk.run(), &desk.events).into_iter().map(|asked| asked.step).collect()
}

fn decides(step: &str, granted: bool) -> Arrival {
    Arrival::Approval { step: StepId::new(step), granted, by: "ada".into(), note: None, answer: None }
}

#[test]
fn a_question_is_open_until_somebody_decides_or_it_lapses() {
    let list = json!([{"id": "ok", "kind": "approval", "data": {"reason": "ship?"}, "timeout": "60s"},
        {"id": "nap", "kind": "sleep", "data": {"duration": "1h"}}]);
    let begin = || Desk::open(steps(list.clone()), json!({}));
    let is = |desk: &Desk, status| assert_eq!(told(desk), [("ok".to_owned(), status)]);
    let mut desk = begin();
    is(&desk, Status::Pending);
    let asked = approval::open(desk.run(), &desk.events);
    let event = desk.events.iter().find(|event| event.seq == u64::try_from(asked[0].seq).unwrap()).unwrap();
    assert_eq!((asked[0].at, asked[0].due.since(asked[0].at).millis()), (event.at, 60_000));
    assert_eq!(asked[0].id, approval::id(desk.run().id, &StepId::new("ok")));
    desk.arrives(decides("ok", true));
    is(&desk, Status::Granted);
    assert_eq!(open(&desk), [""; 0]);
    let mut desk = begin();
    desk.arrives(decides("ok", false));
    is(&desk, Status::Denied);
    let mut desk = begin();
    desk.later(60);
    is(&desk, Status::Expired);
    let mut desk = begin();
    desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None });
    is(&desk, Status::Withdrawn);
    assert_eq!(open(&desk), [""; 0]);
}

#[test]
fn what_was_granted_stays_granted_when_its_step_is_dropped() {
    let manifest = json!({"program": "steps", "tools": [{"name": "pay", "approval": true}, "calc"], "steps": [
        {"id": "r", "kind": "race", "steps": [
            {"id": "pay", "kind": "tool", "data": {"tool": "pay"}},
            {"id": "ok", "kind": "approval", "data": {}},
            {"id": "go", "kind": "signal", "data": {"name": "go"}}]},
        {"id": "add", "kind": "tool", "data": {"tool": "calc"}}]});
    let mut desk = Desk::open(manifest, json!({}));
    let steps = open(&desk);
    assert_eq!(steps.len(), 2, "{steps:?}");
    let (pay, ok) = (steps[0].clone(), steps[1].clone());
    desk.arrives(decides(&pay, true));
    assert_eq!(open(&desk), std::slice::from_ref(&ok));
    desk.arrives(Arrival::Signal { name: "go".into(), value: json!(1), key: None });
    assert_eq!(told(&desk), [(pay, Status::Granted), (ok, Status::Withdrawn)]);
    // A step that is dropped and never asked says nothing.
    let before = approval::changes(desk.run(), &desk.events).len();
    desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None });
    assert_eq!(approval::changes(desk.run(), &desk.events).len(), before);
}
