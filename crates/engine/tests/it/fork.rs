//! Forks: what another run did is not done again, and how two runs differ.

use lantern_engine::{Arrival, Differs, Effect, Input, Status, StepId, compare, reusable, wire};
use lantern_types::{Failure, Limits, MicroUsd};
use serde_json::{Value, json};

use crate::desk::Desk;

fn steps(list: Value) -> Value {
    json!({"program": "steps", "steps": list})
}

/// Two turns and a tool call, then an answer.
fn conversation() -> Desk {
    let mut desk = Desk::open(json!({"tools": ["calc", "pay"]}), json!({"prompt": "hello"}));
    desk.asks("llm-1", &[("calc", json!({"expression": "1+1"})), ("pay", json!({"usd": 10}))]);
    desk.returns("llm-1.tool-1", json!({"value": "2"}));
    desk.returns("llm-1.tool-2", json!("paid"));
    desk.asks("llm-2", &[("calc", json!({"expression": "2+2"}))]);
    desk.returns("llm-2.tool-1", json!({"value": "4"}));
    desk.reply("llm-3", "four");
    desk
}

/// Asserts that a fork did nothing outside and spent nothing.
fn did_nothing(fork: &Desk) {
    assert_eq!(fork.performed(), Vec::<String>::new());
    let outside = |effect: &&Effect| matches!(effect, Effect::StartRun { .. } | Effect::Perform(_));
    assert_eq!(fork.effects.iter().filter(outside).count(), 0);
    let run = fork.run();
    let money = (run.spent, run.held, run.unconfirmed);
    assert_eq!(money, (MicroUsd::ZERO, MicroUsd::ZERO, MicroUsd::ZERO));
    assert_eq!((run.tokens_in, run.tokens_out), (0, 0));
}

fn first_difference(a: &Desk, b: &Desk) -> Option<(String, Differs)> {
    let all = compare(a.run(), b.run());
    let first = all.into_iter().find(|(.., differs)| *differs != Differs::Same);
    first.map(|(step, _, differs)| (step.to_string(), differs))
}

#[test]
fn a_run_that_is_replayed_does_nothing_and_ends_as_it_did() {
    let run = conversation();
    let fork = run.replay();
    assert_eq!((fork.status(), fork.output()), (Status::Succeeded, run.output()));
    did_nothing(&fork);
    assert_eq!(first_difference(&run, &fork), None);
    let frames: Vec<Value> = fork.events.iter().map(|event| wire::frame(fork.run().id, event)).collect();
    assert_eq!(
        frames[0]["payload"]["forkedFrom"],
        json!({"runId": run.run().id, "stepId": null, "replay": true})
    );
    let reused = frames.iter().filter(|frame| frame["payload"]["reused"] == true).count();
    assert_eq!(reused, 6);
    assert_eq!(run.replay().replay().output(), run.output(), "and so for a replay");
}

#[test]
fn a_fork_does_anew_what_comes_from_its_step_on_and_nothing_before() {
    let run = conversation();
    let mut fork = run.fork(Some("llm-2"), None, None);
    assert_eq!(fork.performed(), ["llm-2"]);
    assert_eq!(fork.run().spent, MicroUsd::ZERO);
    // The same request by chance is a new one: the conversation is another.
    fork.asks("llm-2", &[("calc", json!({"expression": "2+2"}))]);
    assert_eq!(fork.performed(), ["llm-2", "llm-2.tool-1"]);
    fork.returns("llm-2.tool-1", json!({"value": "5"}));
    fork.reply("llm-3", "five");
    assert_eq!((fork.status(), &fork.output()["result"]), (Status::Succeeded, &json!("five")));
    assert_eq!(first_difference(&run, &fork), Some(("llm-2.tool-1".to_owned(), Differs::Output)));
    // A call inside a turn: those before it stay, those after it are made.
    let fork = run.fork(Some("llm-1.tool-2"), None, None);
    assert_eq!(fork.performed(), ["llm-1.tool-2"]);
}

#[test]
fn nothing_is_reused_after_the_first_request_that_is_another() {
    let list = json!([
        {"id": "first", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1"}}},
        {"id": "second", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "{{input.n}}"}}},
        {"id": "third", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "3"}}},
    ]);
    let mut run = Desk::open(steps(list), json!({"n": 2}));
    for step in ["first", "second", "third"] {
        run.returns(step, json!(step));
    }
    let mut fork = run.fork(None, None, Some(json!({"n": 4})));
    assert_eq!(fork.performed(), ["second"]);
    fork.returns("second", json!("other"));
    assert_eq!(fork.performed(), ["second", "third"], "what it was asked before may mean something else now");
    assert_eq!(first_difference(&run, &fork), Some(("second".to_owned(), Differs::Request)));
    let all = compare(run.run(), fork.run());
    let ends: Vec<Differs> = all.into_iter().map(|(.., differs)| differs).collect();
    assert_eq!(ends, [Differs::Same, Differs::Request, Differs::End]);
}

#[test]
fn every_kind_of_step_is_replayed_without_waiting() {
    let list = json!([
        {"id": "nap", "kind": "sleep", "data": {"seconds": 60}},
        {"id": "go", "kind": "signal", "data": {"name": "go"}},
        {"id": "ok", "kind": "approval", "data": {"reason": "sure?"}},
        {"id": "sub", "kind": "child", "data": {"agent": "other", "input": {}}},
        {"id": "each", "kind": "map", "data": {"items": [1, 2, 3, 4], "concurrency": 2,
            "step": {"kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "{{item}}"}}}}},
        {"id": "any", "kind": "race", "data": {"steps": [
            {"id": "slow", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "slow"}}},
            {"id": "fast", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "fast"}}}]}},
    ]);
    let mut run = Desk::open(steps(list), json!({}));
    run.later(60);
    run.arrives(Arrival::Signal { name: "go".into(), value: json!("now"), key: None });
    let step = StepId::new("ok");
    run.arrives(Arrival::Approval { step, granted: true, by: "ada".into(), note: None, answer: None });
    run.arrives(Arrival::ChildFinished {
        step: StepId::new("sub"),
        generation: Some(1),
        outcome: lantern_engine::Outcome::Succeeded,
        spent: MicroUsd::from_micros(7),
        output: json!("from below"),
    });
    for (step, value) in [("each[1]", 20), ("each[0]", 10), ("each[2]", 30), ("each[3]", 40)] {
        run.returns(step, json!(value));
    }
    let racer = run.run().steps().iter().rev().find(|step| step.id.as_str().contains("fast")).unwrap();
    let racer = racer.id.to_string();
    run.returns(&racer, json!("won"));
    assert_eq!(run.status(), Status::Succeeded, "{:?}", run.run().error);

    let fork = run.replay();
    assert_eq!((fork.status(), fork.output()), (Status::Succeeded, run.output()));
    did_nothing(&fork);
    assert_eq!(first_difference(&run, &fork), None);
    // From inside a map: what is around the step is asked for again, what is beside it is not done again.
    let mut fork = run.fork(Some("each[2]"), None, None);
    let step = StepId::new("ok");
    fork.arrives(Arrival::Approval { step, granted: true, by: "ada".into(), note: None, answer: None });
    assert_eq!(fork.performed(), ["each[2]", "each[3]"]);
    fork.returns("each[2]", json!(31));
    fork.returns("each[3]", json!(40));
    assert_eq!(fork.run().step_named("each").unwrap().output().unwrap().as_ref(), &json!([10, 20, 31, 40]));
}

#[test]
fn a_run_that_failed_fails_again_for_nothing_or_goes_on_from_where_it_did() {
    let list = json!([
        {"id": "fine", "kind": "tool", "data": {"tool": "pay", "arguments": {"usd": 1}}},
        {"id": "bad", "kind": "tool", "retry": {"maxAttempts": 1}, "data": {"tool": "calc", "arguments": {}}},
    ]);
    let mut run = Desk::open(steps(list), json!({}));
    run.returns("fine", json!("paid"));
    run.fails("bad", Failure::refused("calc_failed", "no expression"));
    assert_eq!((run.status(), run.error_code()), (Status::Failed, "calc_failed"));
    let replay = run.replay();
    assert_eq!((replay.status(), &replay.run().error), (Status::Failed, &run.run().error));
    did_nothing(&replay);
    let mut fork = run.fork(Some("bad"), None, None);
    assert_eq!(fork.performed(), ["bad"], "nothing is paid twice");
    fork.returns("bad", json!(1));
    assert_eq!(fork.status(), Status::Succeeded);
    assert_eq!(first_difference(&run, &fork), Some(("bad".to_owned(), Differs::End)));
}

#[test]
fn replies_are_compared_by_what_they_say_and_ask_for() {
    let run = conversation();
    let mut alike = run.fork(Some("llm-1"), None, None);
    alike.asks("llm-1", &[("calc", json!({"expression": "1+1"})), ("pay", json!({"usd": 10}))]);
    // Other tokens, another model, the same words: the run goes on alike.
    assert_eq!(first_difference(&run, &alike), Some(("llm-1.tool-1".to_owned(), Differs::End)));
    let mut other = run.fork(Some("llm-1"), None, None);
    other.asks("llm-1", &[("calc", json!({"expression": "3*3"}))]);
    assert_eq!(first_difference(&run, &other), Some(("llm-1".to_owned(), Differs::Output)));
}

#[test]
fn what_is_not_there_cannot_be_forked_from() {
    let run = conversation();
    let none = StepId::new("llm-9");
    assert_eq!(reusable(run.run(), Some(&none)).unwrap_err().to_string(), "the run has no step llm-9");
    let all = reusable(run.run(), Some(&StepId::new("llm-1"))).unwrap();
    assert!(all.is_empty(), "nothing comes before the first step");
}

#[test]
fn a_run_that_is_under_way_can_be_forked() {
    let mut run = Desk::open(json!({"tools": ["calc"]}), json!({"prompt": "hello"}));
    run.asks("llm-1", &[("calc", json!({"expression": "1+1"})), ("calc", json!({"expression": "2+2"}))]);
    run.returns("llm-1.tool-2", json!(4));
    let fork = run.fork(None, None, None);
    assert_eq!(fork.performed(), ["llm-1.tool-1"], "what had not ended is done, and nothing else");
    let replay = run.replay();
    assert_eq!((replay.status(), replay.error_code()), (Status::Failed, "replay_ended"));
    did_nothing(&replay);
}

#[test]
fn what_was_not_admitted_is_not_admitted_in_a_replay_and_asked_for_again_in_a_fork() {
    let mut run = Desk::closed(json!({"tools": ["calc"]}), json!({"prompt": "hello"}), Limits::default());
    run.give_once(Input::Wake);
    run.denies("llm-1", "run_budget_exceeded");
    let replay = run.replay();
    assert_eq!((replay.status(), replay.error_code()), (Status::Failed, "run_budget_exceeded"));
    did_nothing(&replay);
    assert_eq!(run.fork(None, None, None).performed(), ["llm-1"]);
}

#[test]
fn a_replay_starts_no_run_that_the_run_went_on_as() {
    let list = json!([
        {"id": "one", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1"}}},
        {"kind": "continue", "data": {"input": {}}},
    ]);
    let mut run = Desk::open(steps(list), json!({}));
    run.returns("one", json!(1));
    assert!(run.run().continued);
    let replay = run.replay();
    assert_eq!((replay.status(), replay.error_code()), (Status::Failed, "replay_ended"));
    did_nothing(&replay);
    assert!(!replay.run().continued);
}

#[test]
fn what_a_person_decided_is_asked_again_in_a_fork() {
    let list = json!([
        {"id": "ok", "kind": "approval", "data": {"reason": "pay?", "approvers": ["ada"]}},
        {"id": "pay", "kind": "tool", "data": {"tool": "pay", "arguments": {"usd": "{{input.usd}}"}}},
    ]);
    let mut run = Desk::open(steps(list), json!({"usd": 1}));
    let step = StepId::new("ok");
    run.arrives(Arrival::Approval { step, granted: true, by: "ada".into(), note: None, answer: None });
    run.returns("pay", json!("paid"));
    for input in [None, Some(json!({"usd": 1_000_000}))] {
        let fork = run.fork(Some("pay"), None, input);
        assert_eq!(
            (fork.status(), fork.performed()),
            (Status::Paused, vec![]),
            "nobody has said yes to this"
        );
    }
    assert_eq!(run.replay().status(), Status::Succeeded);
    let fork = run.fork_as_decided("pay");
    assert_eq!((fork.status(), fork.performed()), (Status::Running, vec!["pay".to_owned()]), "it was said");
    assert_eq!(fork.run().step_named("ok").unwrap().output(), run.run().step_named("ok").unwrap().output());
    assert_eq!(run.fork_as_decided("ok").status(), Status::Paused, "it is done anew");
}

#[test]
fn what_a_person_answers_is_what_the_step_gives() {
    let list = json!([{"id": "ok", "kind": "approval", "data": {"reason": "which?"}}]);
    let nested = (0..200).fold(json!(1), |inner, _| json!([inner]));
    for (note, answer, want) in [
        (None, Some(json!({"tag": "v1"})), json!({"tag": "v1"})),
        (Some(json!("fine")), Some(json!(false)), json!(false)),
        (Some(json!("fine")), None, json!("fine")),
        (None, None, json!(null)),
    ] {
        let mut run = Desk::open(steps(list.clone()), json!({}));
        let step = StepId::new("ok");
        run.arrives(Arrival::Approval { step, granted: true, by: "ada".into(), note, answer });
        let want = json!({"approved": true, "by": "ada", "answer": want});
        assert_eq!(run.run().step_named("ok").unwrap().output().unwrap().as_ref(), &want);
    }
    let mut run = Desk::open(steps(list), json!({}));
    let step = StepId::new("ok");
    run.arrives(Arrival::Approval {
        step,
        granted: true,
        by: "ada".into(),
        note: None,
        answer: Some(nested),
    });
    assert_eq!(run.run().error.as_ref().unwrap().0, "output_too_deep");
}

#[test]
fn another_version_goes_on_from_what_this_one_did() {
    let run = conversation();
    let manifest = json!({"tools": ["calc", "pay"], "systemPrompt": "be brief", "maxTurns": 2});
    let mut fork = run.fork(Some("llm-2"), Some(manifest), None);
    assert_eq!(fork.performed(), ["llm-2"]);
    fork.reply("llm-2", "2");
    assert_eq!(fork.output()["result"], "2");
}

#[test]
fn a_nested_race_that_was_won_is_replayed() {
    let list = json!([
        {"id": "any", "kind": "race", "data": {"steps": [
            {"id": "b0", "kind": "child", "data": {"agent": "other", "input": {}}},
            {"id": "b1", "kind": "race", "data": {"steps": [
                {"id": "b0", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "1"}}},
                {"id": "b1", "kind": "child", "data": {"agent": "other", "input": {}}}]}}]}},
        {"id": "nap", "kind": "sleep", "data": {"seconds": 60}},
    ]);
    let mut run = Desk::open(steps(list), json!({}));
    run.returns("any.b1.b0", json!(1));
    run.later(600);
    run.later(600);
    assert_eq!(run.status(), Status::Succeeded, "{:?}", run.run().error);
    let replay = run.replay();
    assert_eq!(replay.run().error, None);
    did_nothing(&replay);
    assert_eq!(first_difference(&run, &replay), None);
}
