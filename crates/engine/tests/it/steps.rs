//! The `steps` program: every kind of step, references, concurrency, continuation.

use lantern_engine::{
    Arrival, Done, Effect, Fact, Input, Outcome, Status, StepId, StepState, Work, child_run, wire,
};
use lantern_types::{Dur, Failure, Limits, MicroUsd};
use serde_json::{Value, json};

use crate::desk::{Desk, said};

fn steps(list: Value) -> Value {
    json!({"program": "steps", "steps": list})
}

fn arguments(desk: &Desk, step: &str) -> Value {
    match &desk.run().step_named(step).unwrap().work {
        Some(Work::Tool { arguments, .. }) => Value::clone(arguments),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_after_another_with_references() {
    let list = json!([
        {"id": "think", "kind": "llm", "data": {"prompt": "about {{input.topic}}"}},
        {"id": "add", "kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "{{steps.think.tokens_in}}+{{input.n}}", "raw": "{{input.n}}"}}},
    ]);
    let mut desk = Desk::open(steps(list), json!({"topic": "tea", "n": 3}));
    match &desk.run().step_named("think").unwrap().work {
        Some(Work::Llm { messages, .. }) => assert_eq!(messages[0].content, "about tea"),
        other => panic!("{other:?}"),
    }
    desk.reply("think", "warm");
    assert_eq!(arguments(&desk, "add"), json!({"expression": "10+3", "raw": 3}));
    desk.returns("add", json!({"value": 13}));
    let output = desk.output();
    assert_eq!((&output["result"], &output["stepsRan"]), (&json!(r#"{"value":13}"#), &json!(2)));
    assert_eq!(output["steps"]["think"]["text"], "warm");
}

#[test]
fn a_reply_that_breaks_its_schema_is_asked_for_again_and_never_settles() {
    let ask = |retry: Value| {
        json!([{"id": "find", "kind": "llm", "retry": retry, "data": {"prompt": "who?", "outputSchema": {"type": "object"}}},
            {"id": "use", "kind": "tool", "data": {"tool": "calc", "arguments": {"found": "{{steps.find.text}}"}}}])
    };
    let breaks = |desk: &mut Desk| {
        let violations = vec!["the reply is not JSON".to_owned()];
        desk.done("find", Done::Reply { reply: said("nobody", &[]), violations })
    };
    let mut desk = Desk::open(steps(ask(json!({"maxAttempts": 2}))), json!({}));
    assert_eq!(breaks(&mut desk), ["step_retrying"]);
    desk.later(60);
    desk.reply("find", "{}");
    assert_eq!(arguments(&desk, "use"), json!({"found": "{}"}));

    let mut desk = Desk::open(steps(ask(json!({"maxAttempts": 2}))), json!({}));
    breaks(&mut desk);
    desk.later(60);
    assert_eq!(breaks(&mut desk), ["step_failed", "run_failed"]);
    let (code, message, _) = desk.run().error.clone().unwrap();
    assert_eq!(code, "output_schema_violated");
    assert!(message.contains("the reply is not JSON"), "{message}");
    assert_eq!(desk.last_grant_generation("find"), 2, "under its old key it could only say the same again");
    let run = desk.run();
    assert_eq!((run.held.micros(), run.spent.micros()), (0, 30), "both are paid by their usage");
    assert_eq!((run.tokens_in, run.tokens_out), (20, 10));

    let never = json!({"maxAttempts": 5, "nonRetryable": ["output_schema_violated"]});
    let mut desk = Desk::open(steps(ask(never)), json!({}));
    assert_eq!(breaks(&mut desk), ["step_failed", "run_failed"]);
}

#[test]
fn what_may_have_happened_under_an_older_key_says_nothing_of_a_newer_one() {
    let list = json!([{"id": "find", "kind": "llm", "retry": {"maxAttempts": 5},
        "data": {"prompt": "who?", "outputSchema": {"type": "object"}}}]);
    let mut desk = Desk::open(steps(list), json!({}));
    desk.fails("find", Failure::unknown("provider_timeout", "no answer"));
    desk.later(60);
    let violations = vec!["the reply is not JSON".to_owned()];
    desk.done("find", Done::Reply { reply: said("nobody", &[]), violations });
    desk.later(60);
    assert_eq!(desk.last_grant_generation("find"), 2, "it answered, so it is asked anew");
    desk.fails("find", Failure::transient("provider_rate_limited", "slow"));
    desk.later(60);
    assert_eq!(desk.last_grant_generation("find"), 3, "it refused what was sent under the second key");
}

#[test]
fn steps_may_come_with_the_input_in_the_contracts_shape() {
    let input = json!({"steps": [{"step_id": "nap", "kind": "sleep", "data": {"duration_sec": 5}},
        {"step_id": "go", "kind": "wait_signal", "data": {"signal_name": "go", "timeout_sec": 60}}]});
    let mut desk = Desk::open(json!({}), input);
    assert_eq!(desk.later(4), [""; 0]);
    assert_eq!(desk.later(2), ["sleep_completed", "signal_waiting"]);
    let go = Arrival::Signal { name: "go".into(), value: json!({"by": "ada"}), key: None };
    assert_eq!(desk.arrives(go), ["signal_received", "step_completed", "run_succeeded"]);
    assert_eq!(desk.output()["steps"]["go"], json!({"by": "ada"}));
}

#[test]
fn an_early_signal_is_kept_and_a_late_one_times_out() {
    let list = json!([{"id": "nap", "kind": "sleep", "data": {"duration": "10s"}}, {"id": "a", "kind": "signal", "data": {"name": "go"}},
        {"id": "b", "kind": "signal", "data": {"name": "go", "timeout": "5s"}}]);
    let mut desk = Desk::open(steps(list), json!({}));
    desk.arrives(Arrival::Signal { name: "go".into(), value: json!(1), key: None });
    assert_eq!(desk.later(10), ["sleep_completed", "signal_waiting", "step_completed", "signal_waiting"]);
    assert_eq!(desk.later(5), ["step_failed", "run_failed"]);
    assert_eq!(desk.error_code(), "signal_timeout");
}

#[test]
fn a_signal_of_a_known_key_is_a_repeat_for_ever() {
    let wait = |id: &str| json!({"id": id, "kind": "signal", "data": {"name": "go"}});
    let mut desk = Desk::open(steps(json!([wait("a"), wait("b"), wait("c")])), json!({}));
    let signal = |name: &str, n: u64, key: Option<&str>| Arrival::Signal {
        name: name.into(),
        value: json!(n),
        key: key.map(str::to_owned),
    };
    for (name, n, key, received) in [
        ("go", 1, Some("k"), true),
        ("go", 2, Some("k"), false),
        ("other", 3, Some("k"), true),
        ("go", 4, None, true),
        ("go", 5, Some("k"), false),
        ("go", 6, Some("l"), true),
    ] {
        let kinds = desk.arrives(signal(name, n, key));
        assert_eq!(kinds.contains(&"signal_received"), received, "{name} {n} {key:?}");
    }
    assert_eq!(desk.output()["steps"], json!({"a": 1, "b": 4, "c": 6}));
    let (lines, _) = lantern_engine::event::encode(&desk.events).unwrap();
    assert!(
        !String::from_utf8(lines).unwrap().contains(r#""key":"k""#),
        "the envelope names no key, only its digest"
    );
}

#[test]
fn approvals_pause_the_run_and_name_who_may_decide() {
    let list = json!([{"id": "ok", "kind": "approval", "data": {"reason": "ship?", "approvers": ["ada@x.y"], "timeout_sec": 60}}]);
    let mut desk = Desk::open(steps(list.clone()), json!({}));
    assert_eq!(desk.status(), Status::Paused);
    let decide = |by: &str, granted| Arrival::Approval {
        step: StepId::new("ok"),
        granted,
        by: by.into(),
        note: Some(json!("fine")),
        answer: None,
    };
    assert_eq!(desk.arrives(decide("bob@x.y", true)), [""; 0]);
    assert_eq!(
        desk.arrives(decide("ada@x.y", true)),
        ["approval_granted", "step_completed", "run_succeeded"]
    );
    assert_eq!(desk.output()["steps"]["ok"], json!({"approved": true, "by": "ada@x.y", "answer": "fine"}));
    let mut desk = Desk::open(steps(list.clone()), json!({}));
    desk.arrives(decide("ada@x.y", false));
    assert_eq!(desk.error_code(), "approval_denied");
    let mut desk = Desk::open(steps(list), json!({}));
    assert_eq!(desk.later(60), ["approval_denied", "step_failed", "run_failed"]);
    assert_eq!(desk.error_code(), "approval_expired");
}

#[test]
fn a_map_keeps_order_and_bounds_what_is_open() {
    let list = json!([{"id": "each", "kind": "map", "data": {"items": "{{input.list}}", "concurrency": 2},
        "step": {"kind": "tool", "data": {"tool": "calc", "arguments": {"expression": "{{item}}*{{index}}"}}}}]);
    let mut desk = Desk::open(steps(list), json!({"list": [5, 6, 7]}));
    assert_eq!(desk.performed(), ["each[0]", "each[1]"]);
    assert_eq!(arguments(&desk, "each[1]"), json!({"expression": "6*1"}));
    desk.returns("each[1]", json!("b"));
    assert_eq!(desk.performed().len(), 3);
    desk.returns("each[2]", json!("c"));
    desk.returns("each[0]", json!("a"));
    assert_eq!(desk.output()["steps"]["each"], json!(["a", "b", "c"]));
    let list = json!([{"id": "each", "kind": "map", "data": {"items": []}, "step": {"kind": "sleep", "data": {"duration": "1s"}}}]);
    assert_eq!(Desk::open(steps(list), json!({})).output()["steps"]["each"], json!([]));
}

#[test]
fn one_failure_ends_a_map_and_stops_its_siblings() {
    let list = json!([{"id": "each", "kind": "map", "data": {"items": [1, 2, 3], "concurrency": 3},
        "step": {"kind": "tool", "data": {"tool": "calc"}, "retries": 0}}]);
    let mut desk = Desk::open(steps(list), json!({}));
    desk.returns("each[0]", json!(1));
    let kinds = desk.fails("each[1]", Failure::refused("tool_failed", "no"));
    assert_eq!(kinds, ["step_failed", "step_abandoned", "step_failed", "run_failed"]);
    assert_eq!(desk.error_code(), "tool_failed");
}

#[test]
fn the_first_of_a_race_wins_and_the_others_are_dropped() {
    let list = json!([{"id": "fast", "kind": "race", "steps": [
        {"id": "work", "kind": "tool", "data": {"tool": "calc"}},
        {"id": "cap", "kind": "sleep", "data": {"duration": "5s"}}]}]);
    let mut desk = Desk::open(steps(list.clone()), json!({}));
    desk.returns("fast.work", json!(42));
    assert_eq!(desk.output()["steps"]["fast"], json!(42));
    assert_eq!(desk.run().step_named("fast.cap").unwrap().state, StepState::Abandoned);
    let mut desk = Desk::open(steps(list), json!({}));
    assert_eq!(desk.later(6), ["sleep_completed", "step_abandoned", "step_completed", "run_succeeded"]);
}

#[test]
fn races_nest_in_maps_and_see_their_item() {
    let list = json!([{"id": "each", "kind": "map", "data": {"items": ["x", "y"]}, "step": {"kind": "race", "steps": [
        {"id": "w", "kind": "tool", "data": {"tool": "calc", "arguments": {"it": "{{item}}", "n": "{{index}}"}}},
        {"id": "t", "kind": "sleep", "data": {"duration": "5s"}}]}}]);
    let mut desk = Desk::open(steps(list), json!({}));
    assert_eq!(arguments(&desk, "each[1].w"), json!({"it": "y", "n": 1}));
    desk.returns("each[0].w", json!("X"));
    desk.returns("each[1].w", json!("Y"));
    assert_eq!(desk.output()["steps"]["each"], json!(["X", "Y"]));
}

#[test]
fn a_child_run_reports_back_once_and_its_cost_is_booked() {
    let list =
        json!([{"id": "sub", "kind": "child", "data": {"agent": "helper", "input": {"q": "{{input.q}}"}}}]);
    let mut desk = Desk::open(steps(list.clone()), json!({"q": 1}));
    let started = desk.effects.iter().find_map(|effect| match effect {
        Effect::StartRun { run, step: Some(_), agent: Some(agent), input, cap, .. } => {
            Some((*run, agent.clone(), input.clone(), *cap))
        }
        _ => None,
    });
    let (child, agent, input, cap) = started.unwrap();
    assert_eq!((agent.as_str(), &input, cap.micros()), ("helper", &json!({"q": 1}), 100));
    let finished = Arrival::ChildFinished {
        step: StepId::new("sub"),
        generation: Some(1),
        outcome: Outcome::Succeeded,
        spent: MicroUsd::from_micros(40),
        output: json!({"result": "ok"}),
    };
    assert_eq!(desk.arrives(finished.clone()), ["child_completed", "run_succeeded"]);
    assert_eq!(desk.arrives(finished), [""; 0]);
    assert_eq!((desk.run().spent.micros(), desk.run().held.micros()), (40, 0));
    let mut desk = Desk::open(steps(list), json!({"q": 1}));
    desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None });
    assert!(desk.effects.contains(&Effect::CancelRun(child)), "cancelling a run cancels its children");
}

#[test]
fn a_child_that_fails_is_started_again_as_often_as_its_step_says() {
    let ended = |of: Option<u32>, outcome, code: &str| Arrival::ChildFinished {
        step: StepId::new("sub"),
        generation: of,
        outcome,
        spent: MicroUsd::from_micros(40),
        output: json!({ "code": code, "message": "no luck" }),
    };
    let failed = |of, code| ended(of, Outcome::Failed, code);
    let open = |more: Value| {
        let mut sub = json!({"id": "sub", "kind": "child", "data": {"agent": "helper"}});
        sub.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Desk::open(steps(json!([sub])), json!({}))
    };
    let started = |desk: &Desk| {
        let runs = desk.effects.iter().filter_map(|effect| match effect {
            Effect::StartRun { run, parent, .. } => Some((*run, parent.generation)),
            _ => None,
        });
        runs.collect::<Vec<_>>()
    };
    let books = |desk: &Desk| (desk.run().spent.micros(), desk.run().held.micros());
    let mut desk = open(json!({"retries": 1}));
    assert_eq!(desk.arrives(failed(Some(1), "tool_failed")), ["step_retrying"]);
    assert_eq!(books(&desk), (40, 0), "it is charged, and nothing is held until it is made again");
    assert_eq!(desk.arrives(failed(Some(1), "tool_failed")), [""; 0], "the same word again");
    assert_eq!(desk.later(2), ["step_readmitted", "step_admitted"]);
    let (id, sub) = (desk.run().id, StepId::new("sub"));
    let both = [(child_run(id, &sub, 1), Some(1)), (child_run(id, &sub, 2), Some(2))];
    let readmitted = desk.events.iter().find(|event| matches!(event.fact, Fact::StepReadmitted { .. }));
    let said = wire::frame(id, readmitted.unwrap());
    assert_eq!(said["data"]["childRunId"], child_run(id, &sub, 2).to_string());
    assert_eq!(
        (started(&desk), books(&desk)),
        (both.to_vec(), (40, 100)),
        "another run, with a hold of its own"
    );
    assert_eq!(
        desk.arrives(failed(Some(1), "tool_failed")),
        [""; 0],
        "the first try has nothing more to say"
    );
    assert_eq!(desk.arrives(failed(Some(2), "tool_failed")), ["step_failed", "run_failed"]);
    assert_eq!(books(&desk), (80, 0));

    // Whoever gives up a run that cannot be read does not know which try it was.
    let mut desk = open(json!({"retries": 1}));
    assert_eq!(desk.arrives(failed(None, "run_unreadable")), ["step_retrying"]);
    desk.later(2);
    desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None });
    assert!(desk.effects.contains(&Effect::CancelRun(child_run(id, &sub, 2))), "the last try is stopped");

    let mut desk = open(json!({"retries": 1}));
    desk.arrives(failed(Some(1), "tool_failed"));
    let ends = ["cancel_requested", "step_abandoned", "run_cancelled"];
    assert_eq!(desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None }), ends);
    assert!(
        !desk.effects.iter().any(|effect| matches!(effect, Effect::CancelRun(_))),
        "there is none to stop"
    );

    for (more, end) in [
        (json!({}), failed(Some(1), "tool_failed")),
        (json!({"retries": 1}), ended(Some(1), Outcome::Cancelled, "cancelled")),
        (json!({"retry": {"nonRetryable": ["tool_failed"]}}), failed(Some(1), "tool_failed")),
    ] {
        let mut desk = open(more.clone());
        assert_eq!(desk.arrives(end), ["step_failed", "run_failed"], "{more}");
    }
}

#[test]
fn a_dropped_child_is_charged_what_it_tells_and_its_hold_if_it_does_not() {
    let told = |spent: i64| Arrival::ChildFinished {
        step: StepId::new("r.sub"),
        generation: Some(1),
        outcome: Outcome::Cancelled,
        spent: MicroUsd::from_micros(spent),
        output: json!(null),
    };
    let time_left =
        |desk: &Desk| u64::try_from(desk.run().next_due().unwrap().since(desk.now).millis() / 1_000).unwrap();
    let child = json!({"id": "sub", "kind": "child", "data": {"agent": "helper"}});
    let late = json!({"id": "sub", "kind": "child", "data": {"agent": "helper"}, "timeout": "1s"});
    let nap = json!({"id": "nap", "kind": "sleep", "data": {"duration": "5s"}});
    let wait = json!({"id": "go", "kind": "signal", "data": {"name": "go"}});
    for child in [child, late] {
        let lost = || {
            let race = json!({"id": "r", "kind": "race", "steps": [child, nap]});
            let mut desk = Desk::open(steps(json!([race, wait])), json!({}));
            desk.later(1);
            desk.later(4);
            assert!(desk.run().step_named("go").is_some(), "the race is over");
            assert!(desk.effects.iter().any(|effect| matches!(effect, Effect::CancelRun(_))));
            assert_eq!((desk.run().spent.micros(), desk.run().held.micros()), (0, 100), "it may spend still");
            desk
        };
        let go = || Arrival::Signal { name: "go".into(), value: json!(1), key: None };
        let mut desk = lost();
        assert_eq!(desk.arrives(told(30)), ["step_charged"]);
        assert_eq!(desk.arrives(told(30)), [""; 0]);
        assert_eq!((desk.run().spent.micros(), desk.run().held.micros()), (30, 0));
        assert_eq!(desk.arrives(go()), ["signal_received", "step_completed", "run_succeeded"]);
        let ends = ["signal_received", "step_completed", "run_ending"];
        let mut desk = lost();
        assert_eq!(desk.arrives(go()), ends);
        assert_eq!((desk.status(), desk.run().held.micros()), (Status::Running, 100), "it waits to hear");
        assert_eq!(desk.arrives(told(30)), ["step_charged", "run_succeeded"]);
        assert_eq!((desk.status(), desk.run().spent.micros()), (Status::Succeeded, 30));
        let mut desk = lost();
        desk.arrives(go());
        assert_eq!(desk.later(time_left(&desk) - 1), [""; 0]);
        assert_eq!(desk.later(1), ["step_charged", "run_succeeded"], "it has waited long enough");
        assert_eq!((desk.run().spent.micros(), desk.run().unconfirmed.micros()), (0, 100));
        assert_eq!(desk.arrives(told(30)), [""; 0]);
        let mut desk = lost();
        assert_eq!(desk.later(time_left(&desk) - 1), [""; 0]);
        assert_eq!(desk.later(1), ["step_charged"], "nor does a run that goes on wait for ever");
        assert_eq!((desk.arrives(told(30)), desk.run().held.micros()), (vec![], 100));
    }
}

#[test]
fn a_run_that_ends_does_nothing_but_hear_what_its_children_spent() {
    let child = |id: &str| json!({"id": id, "kind": "child", "data": {"agent": "helper"}});
    let race = json!({"id": "r", "kind": "race", "steps": [child("a"), child("b")]});
    let mut desk = Desk::open(steps(json!([race])), json!({}));
    let told = |step: &str, outcome, spent: i64| Arrival::ChildFinished {
        step: StepId::new(step),
        generation: Some(1),
        outcome,
        spent: MicroUsd::from_micros(spent),
        output: json!("won"),
    };
    let kinds = desk.arrives(told("r.a", Outcome::Succeeded, 10));
    assert_eq!(kinds, ["child_completed", "step_abandoned", "step_completed", "run_ending"]);
    for arrival in [
        Arrival::Cancel { by: "ada".into(), reason: None },
        Arrival::Pause { by: "ada".into() },
        Arrival::Resume { by: "ada".into() },
        Arrival::Signal { name: "go".into(), value: json!(1), key: None },
        told("r.a", Outcome::Succeeded, 90),
    ] {
        assert_eq!(desk.arrives(arrival.clone()), [""; 0], "{arrival:?}");
    }
    assert_eq!(desk.give(Input::Recovered), [""; 0], "a crash changes nothing");
    assert_eq!(desk.arrives(told("r.b", Outcome::Cancelled, 7)), ["step_charged", "run_succeeded"]);
    assert_eq!((desk.output()["result"].clone(), desk.run().spent.micros()), (json!("won"), 17));

    let mut desk = Desk::open(steps(json!([child("a")])), json!({}));
    let kinds = desk.arrives(Arrival::Cancel { by: "ada".into(), reason: Some("enough".into()) });
    assert_eq!(kinds, ["cancel_requested", "step_abandoned", "run_ending"]);
    assert_eq!(desk.arrives(told("a", Outcome::Cancelled, 7)), ["step_charged", "run_cancelled"]);
    assert_eq!((desk.status(), desk.run().spent.micros()), (Status::Cancelled, 7));
}

#[test]
fn a_run_may_go_on_as_a_new_one() {
    let list = json!([{"id": "sum", "kind": "tool", "data": {"tool": "calc"}},
        {"id": "again", "kind": "continue", "data": {"input": {"n": "{{input.n}}"}}}]);
    let mut desk = Desk::open(steps(list), json!({"n": 2}));
    desk.returns("sum", json!(1));
    assert_eq!(desk.status(), Status::Succeeded);
    let next = desk.effects.iter().find_map(|effect| match effect {
        Effect::StartRun { run, step: None, agent: None, input, continues, .. } => {
            Some((run.to_string(), input.clone(), *continues))
        }
        _ => None,
    });
    let (run, input, continues) = next.unwrap();
    assert_eq!((desk.output()["continuedAs"].as_str(), input), (Some(run.as_str()), json!({"n": 2})));
    assert_eq!(continues.map(|before| (before.run, before.count)), Some((desk.run().id, 1)));
}

#[test]
fn a_new_run_that_its_version_would_not_take_fails_the_one_that_asks() {
    let first = json!({"id": "sum", "kind": "tool", "data": {"tool": "calc"}});
    for (input, code) in [
        (json!({"n": 1}), ""),
        (json!({"m": 1}), "input_schema_violated"),
        (json!({"n": "x".repeat(300)}), "input_too_large"),
    ] {
        let list = json!([first, {"id": "again", "kind": "continue", "data": {"input": input}}]);
        let manifest = json!({"program": "steps", "steps": list, "inputSchema": {"required": ["n"]}});
        let limits = Limits { input_bytes_max: 200, ..Limits::default() };
        let mut desk = Desk::closed(manifest, json!({"n": 0}), limits);
        desk.give(Input::Wake);
        desk.returns("sum", json!(1));
        assert_eq!(desk.error_code(), code);
        let starts = desk.effects.iter().filter(|effect| matches!(effect, Effect::StartRun { .. })).count();
        assert_eq!(starts, usize::from(code.is_empty()));
    }
}

#[test]
fn the_steps_of_a_new_run_are_looked_at_before_it_is_asked_for() {
    let first = json!({"id": "sum", "kind": "tool", "data": {"tool": "calc"}});
    for (step, words) in [
        (json!({"kind": "jump"}), "input.steps[0].kind"),
        (
            json!({"kind": "tool", "tool": "clac"}),
            "input.steps[0].tool: there is no tool clac; did you mean \"calc\"?",
        ),
        (json!({"kind": "sleep"}), "input.steps[0]: a sleep needs a `duration`"),
        (json!({"kind": "sleep", "duration": "400d"}), "input.steps[0].duration: waits for"),
    ] {
        let again = json!({"id": "again", "kind": "continue", "data": {"input": {"steps": [step]}}});
        let mut desk = Desk::open(json!({}), json!({"steps": [first, again]}));
        desk.returns("sum", json!(1));
        let (code, message, step) = desk.run().error.clone().unwrap();
        assert_eq!((code.as_str(), step.unwrap().as_str()), ("steps_invalid", "again"));
        assert!(message.contains(words), "{message}");
        assert!(desk.effects.iter().all(|effect| !matches!(effect, Effect::StartRun { .. })));
    }
}

#[test]
fn a_wait_for_somebody_ends_when_its_author_says() {
    let begins = Desk::open(steps(json!([{"kind": "approval", "data": {}}])), json!({})).now;
    let moment = (begins + Dur::from_secs(60)).to_string();
    for more in [
        json!({"data": {}, "timeout": 60}),
        json!({"data": {}, "timeoutMs": 60_000}),
        json!({"data": {"timeout_sec": 60}}),
        json!({"data": {"timeout": "1m"}}),
        json!({"data": {"timeoutMs": 60_000}}),
        json!({"data": {"timeout_ms": 60_000}}),
        json!({"data": {"expiresAt": moment}}),
        json!({"data": {"expires_at": moment}}),
        json!({"data": {"timeout": "1m"}, "timeout": "1h"}),
    ] {
        let mut step = more.clone();
        (step["id"], step["kind"]) = ("ok".into(), "approval".into());
        let mut desk = Desk::open(steps(json!([step])), json!({}));
        assert_eq!(desk.later(59), [""; 0], "{more}");
        assert_eq!(desk.later(1), ["approval_denied", "step_failed", "run_failed"], "{more}");
        assert_eq!(desk.error_code(), "approval_expired");
    }
    let signal = json!([{"id": "go", "kind": "signal", "data": {"name": "go", "timeoutMs": 60_000}}]);
    let mut desk = Desk::open(steps(signal), json!({}));
    assert_eq!(desk.later(60), ["step_failed", "run_failed"]);
}

#[test]
fn a_wait_beyond_the_limit_is_refused_and_not_cut_short() {
    let limits = Limits { wait_max: Dur::from_secs(100), ..Limits::default() };
    let tool = json!([{"kind": "tool", "data": {"tool": "calc"}}]);
    for (step, fine) in [
        (json!({"kind": "sleep", "data": {"duration": "100s"}}), true),
        (json!({"kind": "sleep", "data": {"duration": "101s"}}), false),
        (json!({"kind": "sleep", "data": {"until": "2100-01-01T00:00:00Z"}}), false),
        (json!({"kind": "signal", "data": {"name": "go", "timeout": 101}}), false),
        (json!({"kind": "signal", "data": {"name": "go"}}), true),
        (json!({"kind": "approval", "data": {"timeout": 101}}), false),
        (json!({"kind": "approval", "data": {}}), true),
        (json!({"kind": "approval", "data": {}, "timeout": "101s"}), false),
        (json!({"kind": "race", "steps": tool, "timeout": "101s"}), false),
    ] {
        let list = json!([step]);
        let mut desk = Desk::closed(steps(list), json!({}), limits.clone());
        desk.give(Input::Wake);
        assert_eq!(desk.error_code(), if fine { "" } else { "step_data_invalid" }, "{step}");
        if !fine {
            assert!(desk.run().error.as_ref().unwrap().1.contains("waitMax"), "{step}");
        }
    }
    let mut desk =
        Desk::closed(steps(json!([{"id": "ok", "kind": "approval", "data": {}}])), json!({}), limits);
    desk.give(Input::Wake);
    assert_eq!(desk.later(101).last(), Some(&"run_failed"), "a default is within the limit");
}

#[test]
fn more_branches_than_may_run_at_once_begin_as_others_fail() {
    let limits = Limits { concurrency_max: 2, ..Limits::default() };
    let branch = |id: &str| json!({"id": id, "kind": "tool", "data": {"tool": "calc"}, "retries": 0});
    let list =
        json!([{"id": "r", "kind": "race", "steps": [branch("a"), branch("b"), branch("c"), branch("d")]}]);
    let begin = || {
        let mut desk = Desk::closed(steps(list.clone()), json!({}), limits.clone());
        desk.give(Input::Wake);
        desk
    };
    let mut desk = begin();
    assert_eq!(desk.performed(), ["r.a", "r.b"]);
    desk.fails("r.b", Failure::refused("tool_failed", "no"));
    assert_eq!(desk.performed(), ["r.a", "r.b", "r.c"]);
    desk.returns("r.c", json!("won"));
    assert_eq!((desk.performed().len(), desk.output()["steps"]["r"].clone()), (3, json!("won")));
    let mut desk = begin();
    for id in ["r.a", "r.b", "r.c"] {
        desk.fails(id, Failure::refused("tool_failed", "no"));
        assert_eq!(desk.status(), Status::Running, "one is left");
    }
    desk.fails("r.d", Failure::refused("tool_failed", "no"));
    assert_eq!(desk.error_code(), "tool_failed");
}

#[test]
fn a_list_of_steps_does_not_go_on_by_itself() {
    let limits = Limits { events_per_run_max: 5, ..Limits::default() };
    let nap = |id: &str| json!({"id": id, "kind": "sleep", "data": {"duration": "1s"}});
    let mut desk = Desk::closed(steps(json!([nap("a"), nap("b"), nap("c")])), json!({}), limits);
    desk.give(Input::Wake);
    desk.later(1);
    desk.later(1);
    assert_eq!(desk.error_code(), "events_limit");
}

#[test]
fn a_run_that_does_nothing_may_not_go_on_for_ever() {
    let list = json!([{"id": "again", "kind": "continue", "data": {}}]);
    let desk = Desk::open(steps(list), json!({}));
    assert_eq!((desk.status(), desk.error_code()), (Status::Failed, "continue_empty"));
}

#[test]
fn json_that_could_not_be_read_again_is_refused_wherever_it_enters() {
    let deep = |levels: usize| (0..levels).fold(json!(1), |value, _| json!([value]));
    let list = json!([{"id": "sum", "kind": "tool", "data": {"tool": "calc", "arguments": {"a": {"b": "{{input.v}}"}}}}]);
    let mut desk = Desk::open(steps(list.clone()), json!({"v": deep(60)}));
    assert_eq!(desk.returns("sum", deep(65)), ["step_failed", "run_failed"]);
    assert_eq!(desk.error_code(), "output_too_deep");
    let desk = Desk::open(steps(list), json!({"v": deep(63)}));
    assert_eq!(desk.error_code(), "step_data_invalid", "two harmless values can make a deep one");
}

#[test]
fn bad_data_names_the_step() {
    // What is written wrong is not saved; what is filled in wrong is known only now.
    for data in [
        json!({"id": "x", "kind": "tool", "data": {"tool": "{{input.bad}}"}}),
        json!({"id": "x", "kind": "llm", "data": {"messages": "{{input.none}}"}}),
        json!({"id": "x", "kind": "sleep", "data": {"duration": "{{input.bad}}"}}),
        json!({"id": "x", "kind": "sleep", "data": {"until": "{{input.bad}}"}}),
        json!({"id": "x", "kind": "approval", "data": {"expiresAt": "{{input.bad}}"}}),
        json!({"id": "x", "kind": "llm", "data": {"prompt": "x", "temperature": "x{{input.t}}"}}),
        json!({"id": "x", "kind": "map", "data": {"items": "{{input.bad}}"}, "step": {"kind": "sleep", "duration": 1}}),
        json!({"id": "x", "kind": "signal", "data": {"name": "{{input.none}}"}}),
        json!({"id": "x", "kind": "child", "data": {"agent": "{{input.none}}"}}),
    ] {
        let desk = Desk::open(json!({}), json!({"steps": [data], "bad": "Not A Tool"}));
        assert_eq!(desk.error_code(), "step_data_invalid", "{data}");
        assert!(desk.run().error.as_ref().unwrap().1.contains("x: "), "{data}");
    }
}

#[test]
fn no_steps_succeed_at_once() {
    let desk = Desk::open(steps(json!([])), json!({}));
    assert_eq!((desk.status(), desk.output()["stepsRan"].clone()), (Status::Succeeded, json!(0)));
}

#[test]
fn references_may_not_name_more_text_than_there_is_memory() {
    let prompt = "{{input.x}}".repeat(10_000);
    let list = json!([{"id": "big", "kind": "llm", "data": {"prompt": prompt}}]);
    let desk = Desk::open(steps(list), json!({"x": "y".repeat(1_000_000)}));
    assert_eq!(desk.error_code(), "step_data_invalid");
}

#[test]
fn a_timeout_ends_a_child_a_map_and_a_race() {
    let tool = json!({"kind": "tool", "data": {"tool": "calc"}});
    for step in [
        json!({"id": "s", "kind": "child", "data": {"agent": "helper"}, "timeout": "5s"}),
        json!({"id": "s", "kind": "map", "data": {"items": [1, 2]}, "step": tool, "timeout": "5s"}),
        json!({"id": "s", "kind": "race", "steps": [tool], "timeout": "5s"}),
    ] {
        let child = step["kind"] == "child";
        let mut desk = Desk::open(steps(json!([step])), json!({}));
        assert_eq!(desk.later(4), [""; 0]);
        desk.later(2);
        desk.arrives(Arrival::ChildFinished {
            step: StepId::new("s"),
            generation: Some(1),
            outcome: Outcome::Cancelled,
            spent: MicroUsd::ZERO,
            output: json!(null),
        });
        assert_eq!((desk.status(), desk.error_code()), (Status::Failed, "timeout"));
        let stops = desk.effects.iter().filter(|effect| matches!(effect, Effect::CancelRun(_))).count();
        assert_eq!(stops, usize::from(child), "a child that is late is told to stop");
        assert_eq!(desk.run().held, desk.run().unconfirmed, "nothing more is held than what may be billed");
    }
}

#[test]
fn approvers_that_come_to_nobody_are_not_everybody() {
    let ask = |approvers: Value| {
        let list = json!([{"id": "ok", "kind": "approval", "data": {"reason": "?", "approvers": approvers}}]);
        Desk::open(steps(list), json!({"team": [], "empty": ""}))
    };
    for nobody in ["{{input.boss}}", "{{input.team}}", "{{input.empty}}"] {
        let desk = ask(json!(nobody));
        assert_eq!((desk.status(), desk.error_code()), (Status::Failed, "step_data_invalid"), "{nobody}");
    }
    assert_eq!(ask(json!(["{{input.boss}}"])).error_code(), "step_data_invalid");
    for anybody in [json!([]), Value::Null] {
        assert_eq!(ask(anybody).status(), Status::Paused);
    }
}

#[test]
fn what_many_steps_give_together_is_bounded() {
    let list = json!([{"id": "each", "kind": "map", "data": {"items": [1, 2, 3], "concurrency": 3,
        "step": {"kind": "tool", "data": {"tool": "calc", "arguments": {}}}}}]);
    let limits = Limits { output_bytes_max: 100, ..Limits::default() };
    let run = |bytes: usize| {
        let mut desk = Desk::closed(steps(list.clone()), json!({}), limits.clone());
        desk.give(Input::Wake);
        for step in ["each[0]", "each[1]", "each[2]"] {
            desk.returns(step, json!("x".repeat(bytes)));
        }
        desk
    };
    assert_eq!(run(98).status(), Status::Succeeded);
    let wide = json!([{"id": "each", "kind": "map", "data": {"items": (0..20).collect::<Vec<_>>(), "concurrency": 20,
        "step": {"kind": "tool", "data": {"tool": "calc", "arguments": {}}}}}]);
    let mut desk = Desk::closed(steps(wide), json!({}), limits.clone());
    desk.give(Input::Wake);
    for n in 0..20 {
        desk.returns(&format!("each[{n}]"), json!("x".repeat(90)));
    }
    assert_eq!((desk.status(), desk.error_code()), (Status::Failed, "output_too_large"));
}

#[test]
fn a_list_of_no_steps_succeeds_at_once() {
    let mut desk = Desk::open(json!({"model": "gpt-4o"}), json!({"steps": []}));
    assert_eq!((desk.status(), desk.performed().len()), (Status::Succeeded, 0), "no model was asked");
    assert_eq!(desk.output(), json!({"result": "", "stepsRan": 0, "steps": {}}));
    desk = Desk::open(json!({"program": "agent"}), json!({"steps": []}));
    assert_eq!(desk.performed(), ["llm-1"], "an agent that says it is one takes it for its input");
}

#[test]
fn a_model_call_of_no_tokens_is_not_made() {
    let ask = json!([{"id": "ask", "kind": "llm", "data": {"prompt": "hi", "maxTokens": "{{input.n}}"}}]);
    let desk = Desk::open(json!({"program": "steps", "steps": ask}), json!({"n": 0}));
    assert_eq!((desk.error_code(), desk.performed().len()), ("step_data_invalid", 0));
}

#[test]
fn signals_that_nothing_waits_for_are_kept_up_to_a_limit() {
    let limits = Limits {
        signal_bytes_max: 20,
        signals_per_run_max: 3,
        signal_bytes_per_run_max: 24,
        ..Limits::default()
    };
    let list =
        json!([{"id": "w", "kind": "signal", "name": "go"}, {"id": "v", "kind": "signal", "name": "late"}]);
    let mut desk = Desk::closed(steps(list), json!({}), limits);
    desk.give(Input::Wake);
    let mut send = |name: &str, text: &str| {
        let value = json!(text);
        let kinds = desk.arrives(Arrival::Signal { name: name.to_owned(), value, key: None });
        (kinds.len(), desk.run().signals.len(), desk.run().signal_bytes)
    };
    assert_eq!(send("late", "1234567890123456789"), (0, 0, 0), "21 bytes with its quotes");
    assert_eq!(send("late", "123456789012345678"), (1, 1, 20));
    assert_eq!(send("late", "123"), (0, 1, 20), "25 bytes together");
    assert_eq!(send("late", ""), (1, 2, 22));
    assert_eq!(send("late", ""), (1, 3, 24));
    assert_eq!(send("late", ""), (0, 3, 24), "a fourth");
    let (kinds, ..) = send("go", "something waits for it");
    assert_eq!(kinds, 0, "and is as long as none may be");
    assert_eq!(send("go", "now").1, 2, "it takes no room, and the next step takes the first of the others");
    assert_eq!((desk.status(), desk.run().signal_bytes), (Status::Succeeded, 4));
}

#[test]
fn what_a_programs_own_model_calls_cost_is_the_runs_and_is_taken_in_once() {
    let manifest = json!({"program": "steps", "tools": ["calc"], "maxCostUsd": 0.001, "steps": [
        {"id": "box", "kind": "tool", "data": {"tool": "calc"}}]});
    let mut desk = Desk::open(manifest, json!({}));
    let metered = |call: &str, hold: i64, cost: i64| Arrival::Metered {
        call: lantern_types::Digest::of(call.as_bytes()),
        provider: "openai".into(),
        model: "gpt-4o".into(),
        hold: MicroUsd::from_micros(hold),
        cost: MicroUsd::from_micros(cost),
        tokens_in: 7,
        tokens_out: 3,
        lost: false,
    };
    assert_eq!(desk.arrives(metered("a", 500, 100)), ["model_called"]);
    assert_eq!(desk.arrives(metered("a", 500, 100)), [""; 0], "told twice, it is taken in once");
    assert_eq!((desk.run().spent, desk.run().tokens_in), (MicroUsd::from_micros(100), 7));
    // No run spends more than it may, whatever it is told.
    let (cap, held) = (desk.run().cap, desk.run().held);
    desk.arrives(metered("b", cap.micros(), cap.micros()));
    assert_eq!(desk.run().spent.plus(held), Ok(cap));
    desk.returns("box", json!({"value": "2"}));
    assert_eq!(desk.status(), Status::Succeeded);
    assert_eq!(desk.arrives(metered("c", 1, 1)), [""; 0], "a run that is over takes nothing in");
}
