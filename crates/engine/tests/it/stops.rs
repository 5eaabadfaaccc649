//! Emergency stops, as a run is told of them.

use lantern_engine::{Arrival, Input, Status, StepId};
use lantern_types::{Failure, StopId, StopScope};
use serde_json::json;

use crate::desk::{Desk, uuid};

fn halt(n: u128) -> Input {
    let (stop, scope) = (StopId::from_uuid(uuid(n)), StopScope::Tenant);
    Input::Halt { stop, scope, reason: "too dear".into() }
}

fn lifted(n: u128) -> Input {
    Input::StopLifted { stop: StopId::from_uuid(uuid(n)) }
}

fn calling() -> Desk {
    let steps = json!([
        {"id": "a", "kind": "tool", "data": {"tool": "mail"}},
        {"id": "b", "kind": "tool", "data": {"tool": "mail"}}]);
    Desk::open(json!({"program": "steps", "steps": steps}), json!({}))
}

#[test]
fn a_halted_run_starts_nothing_and_goes_on_when_the_stop_is_lifted() {
    let mut desk = calling();
    assert_eq!(desk.give(halt(1)), ["paused"]);
    assert_eq!(desk.give(halt(1)), [""; 0], "it is told once");
    assert_eq!(desk.returns("a", json!(1)), ["step_completed"], "what is under way ends as it ends");
    assert_eq!((desk.status(), desk.performed().len()), (Status::Paused, 1));
    assert_eq!(desk.give(halt(2)), ["paused"], "another stop holds it now");
    assert_eq!(desk.give(lifted(1)), [""; 0], "which the end of the first does not lift");
    assert_eq!(desk.give(lifted(2))[0], "resumed");
    assert_eq!(desk.performed(), ["a", "b"]);
    assert_eq!(desk.give(lifted(2)), [""; 0]);
    desk.returns("b", json!(2));
    assert_eq!(desk.status(), Status::Succeeded);
}

#[test]
fn a_stop_and_a_pause_hold_a_run_apart_from_each_other() {
    for pause_first in [true, false] {
        let mut desk = calling();
        let pause = Input::Arrived(Arrival::Pause { by: "ada".into() });
        let inputs = if pause_first { [pause, halt(1)] } else { [halt(1), pause] };
        for input in inputs {
            assert_eq!(desk.give(input), ["paused"]);
        }
        desk.returns("a", json!(1));
        if pause_first {
            desk.give(lifted(1));
            assert_eq!((desk.status(), desk.performed().len()), (Status::Paused, 1));
            desk.arrives(Arrival::Resume { by: "ada".into() });
        } else {
            desk.arrives(Arrival::Resume { by: "ada".into() });
            assert_eq!((desk.status(), desk.performed().len()), (Status::Paused, 1), "nobody resumes a stop");
            desk.give(lifted(1));
        }
        assert_eq!(desk.performed(), ["a", "b"]);
    }
}

#[test]
fn nothing_is_sent_again_while_a_stop_holds() {
    // After a crash, and after a wait.
    let mut desk = calling();
    desk.give(halt(1));
    desk.give(Input::Recovered);
    desk.later(3_600);
    assert_eq!((desk.performed().len(), desk.run().next_due()), (1, desk.run().deadline));
    desk.give(lifted(1));
    assert_eq!(desk.performed(), ["a", "a"]);

    let mut desk = Desk::open(json!({"retry": {"maxAttempts": 3}}), json!("hi"));
    desk.fails("llm-1", Failure::transient("provider_rate_limited", "busy"));
    desk.give(halt(1));
    desk.later(3_600);
    assert_eq!(desk.performed().len(), 1);
    desk.give(lifted(1));
    assert_eq!(desk.performed().len(), 2);
}

#[test]
fn a_halted_run_is_cancelled_and_meets_its_deadline_like_any_other() {
    let mut desk = calling();
    desk.give(halt(1));
    desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None });
    assert_eq!((desk.status(), desk.run().halted), (Status::Cancelled, None));

    let steps = json!([{"id": "a", "kind": "tool", "data": {"tool": "mail"}}]);
    let mut desk = Desk::open(json!({"program": "steps", "timeout": "60s", "steps": steps}), json!({}));
    desk.give(halt(1));
    desk.later(60);
    assert_eq!((desk.status(), desk.error_code()), (Status::Failed, "run_timeout"));
}

#[test]
fn what_costs_or_acts_is_what_a_stop_halts() {
    let steps = json!([
        {"id": "sum", "kind": "tool", "data": {"tool": "calc"}},
        {"id": "nap", "kind": "sleep", "data": {"duration": "1h"}}]);
    let mut desk = Desk::open(json!({"program": "steps", "steps": steps}), json!({}));
    desk.returns("sum", json!(1));
    let spends = |desk: &Desk, step: &str| desk.run().spends(&StepId::new(step));
    assert!(!spends(&desk, "sum") && !spends(&desk, "nap"), "pure");
    assert!(spends(&calling(), "a"), "acts");
    assert!(spends(&Desk::open(json!({}), json!("hi")), "llm-1"), "costs");
    assert!(!spends(&desk, "nobody"));
}
