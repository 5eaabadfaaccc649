//! Keys, lists and events, and what becomes of the screen by them.

use super::*;
use crate::cli::follow::frame::testing::frame;
use serde_json::json;

pub(in crate::cli::watch) fn id(n: u8) -> RunId {
    format!("018f0000-0000-7000-8000-0000000000{n:02}").parse().unwrap()
}

pub(in crate::cli::watch) fn run(n: u8, agent: &str, status: &str) -> Value {
    let over = matches!(status, "succeeded" | "failed" | "cancelled");
    json!({ "id": id(n).to_string(), "agentName": agent, "status": status, "costUsd": 0.0012, "tokensIn": 4210,
        "tokensOut": 512, "createdAt": "2026-09-21T14:13:20Z", "startedAt": "2026-09-21T14:13:20Z",
        "finishedAt": over.then_some("2026-09-21T14:13:32.4Z") })
}

/// A run that waits for a person, event by event.
pub(in crate::cli::watch) fn waiting() -> Vec<Frame> {
    vec![
        frame(1, 0, "run_started", "", json!({})),
        frame(2, 0, "step_started", "sum", json!({ "type": "tool", "name": "calc" })),
        frame(3, 1, "step_completed", "sum", json!({ "name": "calc", "output": { "value": 153 } })),
        frame(
            4,
            1,
            "step_started",
            "ship",
            json!({ "type": "approval", "name": "ship", "arguments": { "reason": "153 lines changed. Ship it?" } }),
        ),
        frame(5, 1, "approval_requested", "ship", json!({})),
    ]
}

fn keys(state: &mut State, keys: &[Key]) -> Vec<Effect> {
    keys.iter().flat_map(|key| state.apply(Input::Key(*key))).collect()
}

pub(in crate::cli::watch) fn listed(runs: Vec<Value>) -> State {
    let mut state = State::new("http://127.0.0.1:8080");
    state.apply(Input::Runs(runs, false));
    state
}

#[test]
fn the_first_run_is_looked_at_and_another_when_it_is_chosen() {
    let mut state = State::new("s");
    assert_eq!(state.apply(Input::Runs(vec![], false)), vec![]);
    let runs = || vec![run(1, "a", "running"), run(2, "b", "succeeded")];
    assert_eq!(state.apply(Input::Runs(runs(), false)), vec![Effect::Follow(id(1))]);
    assert_eq!(state.apply(Input::Runs(runs(), false)), vec![], "it is followed already");
    assert_eq!(keys(&mut state, &[Key::Up]), vec![], "there is nothing above");
    assert_eq!(keys(&mut state, &[Key::Down]), vec![Effect::Follow(id(2))]);
    assert_eq!(keys(&mut state, &[Key::Down]), vec![], "there is nothing below");
    // A newer run moves the list, and not what is looked at.
    let newer = [vec![run(3, "c", "queued")], runs()].concat();
    assert_eq!(state.apply(Input::Runs(newer, false)), vec![]);
    assert_eq!(state.at(), Some(2));
    // Pushed out of the list, it stays while it is looked at.
    state.apply(Input::Runs(vec![run(4, "d", "queued")], true));
    assert_eq!((state.rows.len(), state.at()), (2, Some(1)));
    assert_eq!(keys(&mut state, &[Key::Char('k')]), vec![Effect::Follow(id(4))]);
}

#[test]
fn events_of_another_run_are_not_taken_for_those_of_this_one() {
    let mut state = listed(vec![run(1, "a", "running"), run(2, "b", "running")]);
    for event in waiting() {
        state.apply(Input::Frame(id(2), event));
    }
    assert_eq!(state.detail.as_ref().unwrap().approval(), None);
    for event in waiting() {
        state.apply(Input::Frame(id(1), event));
    }
    let waits = state.detail.as_ref().unwrap().approval();
    assert_eq!(waits, Some(("ship".to_owned(), "153 lines changed. Ship it?".to_owned())));
}

#[test]
fn an_order_goes_out_only_after_a_yes() {
    let cancel = || Order { run: id(1), act: Act::Cancel };
    let mut state = listed(vec![run(1, "a", "running")]);
    for no in [Key::Char('n'), Key::Escape, Key::Char('q'), Key::Up, Key::Char('c')] {
        assert_eq!(keys(&mut state, &[Key::Char('c'), no]), vec![], "{no:?}");
        assert!(state.asked.is_none());
    }
    assert_eq!(keys(&mut state, &[Key::Char('c'), Key::Char('y')]), vec![Effect::Send(cancel())]);
    assert_eq!(keys(&mut state, &[Key::Char('y')]), vec![], "one yes is one order");
    state.apply(Input::Ordered(cancel(), Err("it is over".to_owned())));
    assert_eq!(state.said, Some((Style::Bad, "it is over".to_owned())));
    // The question names a run, whatever the list becomes meanwhile.
    keys(&mut state, &[Key::Char('c')]);
    state.apply(Input::Runs(vec![run(5, "z", "running"), run(1, "a", "running")], false));
    assert_eq!(keys(&mut state, &[Key::Char('y')]), vec![Effect::Send(cancel())]);
}

#[test]
fn what_waits_for_an_approval_is_approved_or_denied() {
    let mut state = listed(vec![run(1, "a", "paused")]);
    assert_eq!(keys(&mut state, &[Key::Char('a'), Key::Char('y')]), vec![]);
    for event in waiting() {
        state.apply(Input::Frame(id(1), event));
    }
    let (step, about) = ("ship".to_owned(), "153 lines changed. Ship it?".to_owned());
    let approve = Order { run: id(1), act: Act::Approve { step: step.clone(), about: about.clone() } };
    let deny = Order { run: id(1), act: Act::Deny { step, about } };
    assert_eq!(keys(&mut state, &[Key::Char('a')]), vec![]);
    assert_eq!(state.asked.as_ref().unwrap().question(), "Approve ship (153 lines changed. Ship it?)?");
    assert_eq!(keys(&mut state, &[Key::Char('y')]), vec![Effect::Send(approve)]);
    assert_eq!(keys(&mut state, &[Key::Char('d'), Key::Char('Y')]), vec![Effect::Send(deny)]);
    // Others may decide this one.
    let mut state = listed(vec![run(1, "a", "paused")]);
    for mut event in waiting() {
        event.others = vec!["ada@example.com".to_owned()];
        state.apply(Input::Frame(id(1), event));
    }
    assert_eq!(keys(&mut state, &[Key::Char('a'), Key::Char('y')]), vec![]);
}

#[test]
fn a_run_that_is_over_is_not_cancelled() {
    for status in ["succeeded", "failed", "cancelled"] {
        let mut state = listed(vec![run(1, "a", status)]);
        assert_eq!(keys(&mut state, &[Key::Char('c'), Key::Char('y')]), vec![], "{status}");
    }
}

#[test]
fn leaving_is_one_key() {
    let mut state = listed(vec![run(1, "a", "running")]);
    assert_eq!(keys(&mut state, &[Key::Char('q')]), vec![Effect::Leave(Exit::Ok)]);
    assert_eq!(keys(&mut state, &[Key::Escape]), vec![Effect::Leave(Exit::Ok)]);
    // Also out of a question, which is then not answered.
    let left = keys(&mut state, &[Key::Char('c'), Key::Interrupt]);
    assert_eq!(left, vec![Effect::Leave(Exit::Interrupted)]);
}
