//! The agent program: turns, tools, retries, doubt, loops, schemas, money.

use lantern_engine::{Arrival, Done, Effect, Fact, Input, Status, StepId, StepState, llm_ask, questions};
use lantern_types::llm::Role;
use lantern_types::{Acted, Dur, Failure, Finding, Limits};
use serde_json::json;

use crate::desk::{Desk, said};

fn agent() -> serde_json::Value {
    json!({"systemPrompt": "be brief", "tools": ["calc", "pay", {"name": "mail", "approval": true}]})
}

#[test]
fn a_turn_its_tools_and_an_answer() {
    let mut desk = Desk::open(agent(), json!({"prompt": "2+2?"}));
    assert_eq!(desk.performed(), ["llm-1"]);
    let kinds =
        desk.asks("llm-1", &[("calc", json!({"expression": "2+2"})), ("calc", json!({"expression": "1+1"}))]);
    assert_eq!(kinds, ["step_completed", "step_started", "step_started", "step_admitted", "step_admitted"]);
    desk.returns("llm-1.tool-2", json!(2));
    assert_eq!(desk.status(), Status::Running);
    let kinds = desk.returns("llm-1.tool-1", json!({"value": 4}));
    assert_eq!(
        kinds,
        ["step_completed", "step_started", "step_admitted"],
        "one append settles, requests and admits"
    );
    let ask = llm_ask(desk.run(), desk.run().step_named("llm-2").unwrap()).unwrap();
    let roles: Vec<Role> = ask.messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Tool]);
    assert_eq!(ask.messages[3].content, r#"{"value":4}"#, "results come in the order of the calls");
    assert_eq!(desk.reply("llm-2", "four"), ["step_completed", "run_succeeded"]);
    assert_eq!(desk.output(), json!({"result": "four"}));
    let run = desk.run();
    assert_eq!((run.spent.micros(), run.held.micros(), run.tokens_in, run.tokens_out), (30, 0, 20, 10));
}

#[test]
fn second_copies_and_strangers_decide_nothing() {
    let mut desk = Desk::open(agent(), json!("hi"));
    assert_eq!(desk.returns("no-such-step", json!(1)), [""; 0]);
    desk.reply("llm-1", "hello");
    for input in [Input::Wake, Input::Recovered] {
        assert_eq!(desk.give(input), [""; 0]);
    }
    assert_eq!(desk.reply("llm-1", "hello again"), [""; 0]);
    assert_eq!(desk.arrives(Arrival::Cancel { by: "x".into(), reason: None }), [""; 0], "a run ends once");
    assert_eq!(desk.status(), Status::Succeeded);
}

#[test]
fn a_refusal_retries_under_a_new_key_and_a_timeout_under_the_same() {
    let mut desk = Desk::open(agent(), json!("hi"));
    desk.fails(
        "llm-1",
        Failure {
            retry_after: Some(Dur::from_secs(30)),
            ..Failure::transient("provider_rate_limited", "slow")
        },
    );
    assert_eq!(desk.run().held.micros(), 0, "a refused call releases its hold");
    assert_eq!(desk.later(10), [""; 0]);
    assert_eq!(desk.later(25), ["step_readmitted", "step_admitted"]);
    assert_eq!(desk.last_grant_generation("llm-1"), 2);
    desk.fails("llm-1", Failure::unknown("provider_timeout", "no answer"));
    assert_eq!((desk.run().spent.micros(), desk.run().held.micros()), (0, 100), "it may have been billed");
    assert_eq!(desk.later(60), ["step_readmitted", "step_admitted"]);
    assert_eq!(desk.run().step_named("llm-1").unwrap().generation, 2);
    assert_eq!(
        desk.fails("llm-1", Failure::unknown("provider_timeout", "no answer")),
        ["step_failed", "run_failed"]
    );
    assert_eq!(desk.error_code(), "provider_timeout");
    assert_eq!(
        (desk.run().spent.micros(), desk.run().held.micros()),
        (0, 200),
        "both may have been billed, and nobody knows"
    );
}

#[test]
fn a_refusal_does_not_vouch_for_an_earlier_send_under_its_key() {
    let again = ["step_readmitted", "step_admitted"];
    let mut desk = Desk::open(agent(), json!("hi"));
    desk.fails("llm-1", Failure::unknown("provider_timeout", "no answer"));
    assert_eq!(desk.later(60), again);
    assert_eq!(desk.fails("llm-1", Failure::transient("provider_rate_limited", "slow")), ["step_retrying"]);
    assert_eq!(
        (desk.run().spent.micros(), desk.run().held.micros()),
        (0, 100),
        "the first send, and no other"
    );
    assert_eq!(desk.later(60), again);
    assert_eq!(desk.run().step_named("llm-1").unwrap().generation, 1, "a new key could do it twice");
    let kinds = desk.fails("llm-1", Failure::refused("provider_rejected", "no"));
    assert_eq!((kinds, desk.run().spent.micros()), (vec!["step_failed", "run_failed"], 0));
    assert_eq!((desk.run().held.micros(), desk.run().unconfirmed.micros()), (100, 100));
    let acted = desk.events.iter().find_map(|event| match event.fact {
        Fact::StepFailed { acted, .. } => Some(acted),
        _ => None,
    });
    assert_eq!(acted, Some(Acted::Unknown));

    let mut desk = Desk::open(agent(), json!("hi"));
    desk.give(Input::Recovered);
    desk.fails("llm-1", Failure::refused("provider_rejected", "no"));
    assert_eq!(desk.run().unconfirmed.micros(), 100, "nor for a send before a crash");
}

/// A vendor may bill every send, whatever its key says: each has a hold of its own, and the last may not pass the cap.
#[test]
fn every_send_that_may_be_billed_is_paid_from_the_cap() {
    let mut desk = Desk::open(json!({"retry": {"maxAttempts": 9}}), json!("hi"));
    desk.fails("llm-1", Failure::unknown("provider_timeout", "no answer"));
    desk.later(60);
    desk.give(Input::Recovered);
    assert_eq!((desk.run().spent.micros(), desk.run().held.micros()), (0, 300));
    desk.reply("llm-1", "hello");
    assert_eq!((desk.status(), desk.run().spent.micros()), (Status::Succeeded, 15), "by its usage");
    assert_eq!((desk.run().held.micros(), desk.run().unconfirmed.micros()), (200, 200));

    let mut desk = Desk::open(json!({"retry": {"maxAttempts": 9}}), json!("hi"));
    desk.give_once(Input::Recovered);
    desk.denies("llm-1", "run_budget_exceeded");
    assert_eq!((desk.status(), desk.error_code()), (Status::Failed, "run_budget_exceeded"));
    assert_eq!((desk.run().held.micros(), desk.performed().len()), (100, 1), "nothing more was sent");
}

#[test]
fn a_paused_run_is_not_woken_for_a_retry_that_it_may_not_make() {
    let mut desk = Desk::open(agent(), json!("hi"));
    desk.fails("llm-1", Failure::transient("provider_rate_limited", "slow"));
    assert!(desk.run().next_due().is_some());
    desk.arrives(Arrival::Pause { by: "ada".into() });
    assert_eq!((desk.later(60), desk.run().next_due()), (vec![], None), "a timer here would fire for ever");
    assert_eq!(
        desk.arrives(Arrival::Resume { by: "ada".into() }),
        ["resumed", "step_readmitted", "step_admitted"]
    );
}

#[test]
fn what_cannot_be_repeated_is_doubted_and_resolved_by_someone() {
    let mut desk = Desk::open(agent(), json!("pay"));
    desk.asks("llm-1", &[("pay", json!({"to": "bob"}))]);
    assert_eq!(desk.give(Input::Recovered), ["step_in_doubt"]);
    assert_eq!(desk.status(), Status::Paused);
    assert_eq!(desk.returns("llm-1.tool-1", json!("late")), [""; 0]);
    let step = StepId::new("llm-1.tool-1");
    let found = Arrival::Resolution {
        step,
        happened: true,
        output: json!("paid"),
        by: "ada".into(),
        generation: None,
    };
    assert_eq!(desk.arrives(found), ["step_resolved", "step_completed", "step_started", "step_admitted"]);
    assert_eq!(desk.performed().iter().filter(|s| s.contains("tool")).count(), 1, "it was sent once");
}

#[test]
fn what_somebody_finds_not_to_have_happened_is_tried_again_if_attempts_are_left() {
    let begin = |attempts: u32| {
        let mut desk =
            Desk::open(json!({"tools": ["pay"], "retry": {"maxAttempts": attempts}}), json!("pay"));
        desk.asks("llm-1", &[("pay", json!({}))]);
        desk.fails("llm-1.tool-1", Failure::unknown("tool_broke", "?"));
        desk
    };
    let not = |generation: Option<u32>| {
        let step = StepId::new("llm-1.tool-1");
        Arrival::Resolution { step, happened: false, output: json!(null), by: "ada".into(), generation }
    };
    let mut desk = begin(2);
    assert_eq!(desk.arrives(not(Some(1))), ["step_resolved", "step_retrying"]);
    assert_eq!(desk.later(60), ["step_readmitted", "step_admitted"]);
    assert_eq!(desk.last_grant_generation("llm-1.tool-1"), 2, "under a new key");
    desk.fails("llm-1.tool-1", Failure::unknown("tool_broke", "?"));
    assert_eq!(desk.arrives(not(Some(1))), [""; 0], "that is not what was found out about");
    let given_up = ["step_resolved", "step_failed", "step_started", "step_admitted"];
    assert_eq!(desk.arrives(not(Some(2))), given_up, "no attempt is left");
    assert_eq!(begin(2).arrives(not(None)), given_up, "nobody knows which attempt is meant");
}

#[test]
fn what_can_be_asked_about_is_asked_and_done_at_most_once() {
    let happened = || Some(Finding::Happened(json!("booked")));
    let begin = |attempts: u32| {
        let retry = json!({"maxAttempts": attempts, "nonRetryable": ["no_more"]});
        let mut desk = Desk::open(json!({"tools": ["book"], "retry": retry}), json!("go"));
        desk.asks("llm-1", &[("book", json!({}))]);
        desk
    };
    let found = |desk: &mut Desk, generation: u32, finding| {
        desk.give(Input::Found { step: StepId::new("llm-1.tool-1"), generation, finding })
    };
    let again = ["step_resolved", "step_retrying", "step_readmitted", "step_admitted"];
    let given_up = ["step_resolved", "step_failed", "step_started", "step_admitted"];

    let mut desk = begin(1);
    assert_eq!(desk.give(Input::Recovered), ["step_in_doubt"]);
    assert_eq!(desk.effects.last(), Some(&Effect::Reconcile(StepId::new("llm-1.tool-1"))));
    assert_eq!(questions(desk.run()).len(), 1, "and asked again after another crash");
    for (generation, finding) in [(1, None), (2, happened()), (0, Some(Finding::DidNotHappen))] {
        assert_eq!(found(&mut desk, generation, finding), [""; 0]);
    }
    assert_eq!(found(&mut desk, 1, Some(Finding::DidNotHappen)), again, "a crash uses up no retry");
    assert_eq!((desk.last_grant_generation("llm-1.tool-1"), questions(desk.run()).len()), (2, 0));
    assert_eq!(desk.fails("llm-1.tool-1", Failure::unknown("tool_broke", "?")), ["step_in_doubt"]);
    assert_eq!(found(&mut desk, 1, happened()), [""; 0], "that is not what was asked about");
    assert_eq!(found(&mut desk, 2, Some(Finding::DidNotHappen)), given_up, "one attempt was allowed");
    assert!(matches!(&desk.run().step_named("llm-1.tool-1").unwrap().state,
        StepState::Failed { code, .. } if code == "did_not_happen"));

    let mut desk = begin(2);
    desk.fails("llm-1.tool-1", Failure::unknown("tool_broke", "?"));
    assert_eq!(found(&mut desk, 1, Some(Finding::DidNotHappen)), ["step_resolved", "step_retrying"]);
    assert_eq!(desk.later(60), ["step_readmitted", "step_admitted"], "after the wait of any failure");
    desk.fails("llm-1.tool-1", Failure::unknown("tool_broke", "?"));
    let kinds = found(&mut desk, 2, happened());
    assert_eq!(kinds, ["step_resolved", "step_completed", "step_started", "step_admitted"]);
    assert_eq!(found(&mut desk, 2, happened()), [""; 0]);

    let mut desk = begin(9);
    desk.fails("llm-1.tool-1", Failure::unknown("no_more", "?"));
    assert_eq!(found(&mut desk, 1, Some(Finding::DidNotHappen)), given_up);

    let mut desk = begin(1);
    desk.arrives(Arrival::Pause { by: "ada".into() });
    desk.give(Input::Recovered);
    assert_eq!(found(&mut desk, 1, Some(Finding::DidNotHappen)), ["step_resolved", "step_retrying"]);
    assert_eq!((desk.later(600), desk.run().next_due()), (vec![], None), "paused: nothing is sent");
    let kinds = desk.arrives(Arrival::Resume { by: "ada".into() });
    assert_eq!(kinds, ["resumed", "step_readmitted", "step_admitted"]);

    let mut desk = Desk::open(json!({"tools": ["pay"]}), json!("go"));
    desk.asks("llm-1", &[("pay", json!({}))]);
    desk.give(Input::Recovered);
    assert_eq!((found(&mut desk, 1, happened()), questions(desk.run())), (vec![], vec![]), "nobody is asked");
}

/// What a crash does to a call that costs money: what was sent is charged, and another hold asked for.
const RESENT: [&str; 3] = ["step_retrying", "step_readmitted", "step_admitted"];

#[test]
fn after_a_crash_a_model_call_is_sent_again_under_its_key() {
    let mut desk = Desk::open(agent(), json!("hi"));
    assert_eq!(desk.give(Input::Recovered), RESENT);
    assert_eq!(desk.performed(), ["llm-1", "llm-1"]);
    assert_eq!((desk.last_grant_generation("llm-1"), desk.run().held.micros()), (1, 200));
    desk.reply("llm-1", "hello");
    assert_eq!(desk.run().step_named("llm-1").unwrap().attempt, 2);
}

#[test]
fn a_crash_uses_up_no_retry_and_sends_are_bounded_all_the_same() {
    let busy = || Failure::transient("provider_rate_limited", "slow");
    let mut desk = Desk::open(json!({"retry": {"maxAttempts": 2}}), json!("hi"));
    for _ in 0..3 {
        assert_eq!(desk.give(Input::Recovered), RESENT);
    }
    assert_eq!(desk.fails("llm-1", busy()), ["step_retrying"], "the first failure that is its own");
    desk.later(60);
    assert_eq!(desk.fails("llm-1", busy()), ["step_failed", "run_failed"], "and the second is the last");
    assert_eq!(desk.run().step_named("llm-1").unwrap().attempt, 5);

    let limits = Limits { attempts_per_step_max: 3, ..Limits::default() };
    let mut desk = Desk::closed(json!({"retry": {"maxAttempts": 9}}), json!("hi"), limits.clone());
    desk.give(Input::Wake);
    for _ in 0..2 {
        assert_eq!(desk.give(Input::Recovered), RESENT);
    }
    assert_eq!(desk.give(Input::Recovered), ["step_failed", "run_failed"]);
    assert_eq!((desk.error_code(), desk.performed().len()), ("attempts_exhausted", 3));
    let mut desk = Desk::closed(json!({"retry": {"maxAttempts": 9}}), json!("hi"), limits);
    desk.give(Input::Wake);
    desk.give(Input::Recovered);
    desk.give(Input::Recovered);
    assert_eq!(desk.fails("llm-1", busy()), ["step_failed", "run_failed"]);
    assert_eq!(desk.error_code(), "provider_rate_limited");
}

#[test]
fn a_paused_run_sends_nothing_again_before_it_goes_on() {
    let mut desk = Desk::open(agent(), json!("hi"));
    desk.arrives(Arrival::Pause { by: "ada".into() });
    assert_eq!(desk.give(Input::Recovered), ["step_retrying"]);
    assert_eq!((desk.later(600), desk.give(Input::Recovered), desk.run().next_due()), (vec![], vec![], None));
    assert_eq!((desk.performed(), desk.run().held.micros()), (vec!["llm-1".to_owned()], 100));
    let kinds = desk.arrives(Arrival::Resume { by: "ada".into() });
    assert_eq!(kinds, ["resumed", "step_readmitted", "step_admitted"]);
    let step = desk.run().step_named("llm-1").unwrap();
    assert_eq!((step.generation, step.attempt, step.failures), (1, 2, 0));
    desk.reply("llm-1", "hello");
    assert_eq!(desk.status(), Status::Succeeded);

    let mut desk = Desk::open(agent(), json!("hi"));
    desk.arrives(Arrival::Pause { by: "ada".into() });
    desk.give(Input::Recovered);
    desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None });
    assert_eq!(desk.run().unconfirmed.micros(), 100, "the send before the crash may have been billed");
}

#[test]
fn a_tool_that_needs_approval_waits_for_a_person() {
    let mut desk = Desk::open(agent(), json!("mail"));
    assert_eq!(
        desk.asks("llm-1", &[("mail", json!({}))]),
        ["step_completed", "step_started", "approval_requested"]
    );
    assert_eq!(desk.status(), Status::Paused);
    let decide = |granted| Arrival::Approval {
        step: StepId::new("llm-1.tool-1"),
        granted,
        by: "ada".into(),
        note: None,
        answer: None,
    };
    assert_eq!(desk.arrives(decide(true)), ["approval_granted", "step_admitted"]);
    assert_eq!(desk.arrives(decide(false)), [""; 0], "decided once");
    desk.returns("llm-1.tool-1", json!("sent"));
    desk.asks("llm-2", &[("mail", json!({"n": 2}))]);
    let again = Arrival::Approval {
        step: StepId::new("llm-2.tool-1"),
        granted: false,
        by: "ada".into(),
        note: None,
        answer: None,
    };
    assert_eq!(desk.arrives(again), ["approval_denied", "step_failed", "step_started", "step_admitted"]);
    let ask = llm_ask(desk.run(), desk.run().step_named("llm-3").unwrap()).unwrap();
    assert!(ask.messages.last().unwrap().content.contains("denied by ada"), "the model is told");
}

#[test]
fn going_in_circles_is_stopped_before_the_next_spend() {
    for calls in [vec!["1+1"], vec!["1+1", "2+2"]] {
        let mut desk = Desk::open(json!({"tools": ["calc"], "maxTurns": 40}), json!("loop"));
        for turn in 1..20 {
            let step = format!("llm-{turn}");
            if desk.run().step_named(&step).is_none() {
                break;
            }
            let expression = calls[(turn - 1) % calls.len()];
            desk.asks(&step, &[("calc", json!({"expression": expression}))]);
            desk.returns(&format!("llm-{turn}.tool-1"), json!("same"));
        }
        assert_eq!(desk.error_code(), "loop_detected");
        let turns = desk.performed().iter().filter(|s| !s.contains("tool")).count();
        assert_eq!(turns, 3 * calls.len(), "no further model call was made");
    }
}

/// A reply that asks for `calc` so often, in words that nobody can read.
fn garbled(text: &str, calls: usize) -> Done {
    let mut reply = said(text, &vec![("calc", json!({})); calls]);
    for call in &mut reply.tool_calls {
        call.arguments = format!("{{\"n\":{text}");
    }
    Done::Reply { reply, violations: vec![] }
}

#[test]
fn calls_that_nobody_can_read_are_no_progress() {
    let mut desk = Desk::open(json!({"tools": ["calc"], "maxTurns": 40}), json!("loop"));
    for turn in 1..=3 {
        assert_eq!(desk.status(), Status::Running);
        desk.done(&format!("llm-{turn}"), garbled(&turn.to_string(), turn));
    }
    assert_eq!((desk.status(), desk.error_code()), (Status::Failed, "loop_detected"));
    assert_eq!(desk.performed().len(), 3, "no further model call was made");

    let mut desk = Desk::open(json!({"tools": ["calc"], "maxTurns": 40}), json!("loop"));
    desk.done("llm-1", garbled("x", 1));
    desk.done("llm-2", garbled("x", 1));
    desk.asks("llm-3", &[("calc", json!({"n": 1}))]);
    desk.returns("llm-3.tool-1", json!(1));
    desk.done("llm-4", garbled("x", 1));
    assert_eq!(desk.reply("llm-5", "done"), ["step_completed", "run_succeeded"], "it got through in between");
}

/// Several turns, each with so many equal calls of its own.
#[test]
fn rounds_are_counted_by_turns() {
    for (turns, code) in [
        (vec![3, 3], ""),
        (vec![5], ""),
        (vec![3, 3, 3], "loop_detected"),
        (vec![1, 2, 3], "loop_detected"),
        (vec![1, 1], ""),
    ] {
        let mut desk = Desk::open(json!({"tools": ["calc"], "maxTurns": 40}), json!("loop"));
        for (turn, calls) in (1..).zip(&turns) {
            desk.asks(&format!("llm-{turn}"), &vec![("calc", json!({"n": 1})); *calls]);
            for call in 1..=*calls {
                desk.returns(&format!("llm-{turn}.tool-{call}"), json!(1));
            }
        }
        assert_eq!(desk.error_code(), code, "{turns:?}");
        if code.is_empty() {
            let asked = desk.run().step_named(&format!("llm-{}", turns.len() + 1)).is_some();
            assert!(asked, "{turns:?}: the next turn is asked for");
        }
    }
}

#[test]
fn the_last_turn_must_answer() {
    for (text, status) in [("so it is 1", Status::Succeeded), (" ", Status::Failed)] {
        let mut desk = Desk::open(json!({"tools": ["calc"], "maxTurns": 2}), json!("x"));
        desk.asks("llm-1", &[("calc", json!({"n": 1}))]);
        desk.returns("llm-1.tool-1", json!(1));
        assert!(!llm_ask(desk.run(), desk.run().step_named("llm-2").unwrap()).unwrap().offer_tools);
        let reply = said(text, &[("calc", json!({"n": 2}))]);
        desk.done("llm-2", Done::Reply { reply, violations: vec![] });
        assert_eq!(desk.status(), status, "calls that were not on offer are not made: {text:?}");
        assert_eq!(desk.error_code(), if status == Status::Failed { "max_turns" } else { "" });
    }
}

#[test]
fn a_schema_holds_for_a_reply_whose_calls_were_not_on_offer() {
    let mut desk =
        Desk::open(json!({"outputSchema": {"type": "object"}, "tools": ["calc"], "maxTurns": 1}), json!("x"));
    let reply = said("nope", &[("calc", json!({}))]);
    desk.done("llm-1", Done::Reply { reply, violations: vec!["not an object".into()] });
    assert_eq!(desk.error_code(), "output_schema_violated");
}

#[test]
fn a_reply_that_breaks_its_schema_is_sent_back_twice() {
    let mut desk = Desk::open(json!({"outputSchema": {"type": "object"}}), json!("x"));
    for turn in 1..=3 {
        let done = Done::Reply { reply: said("nope", &[]), violations: vec!["not an object".into()] };
        desk.done(&format!("llm-{turn}"), done);
    }
    assert_eq!(desk.error_code(), "output_schema_violated");
    let mut desk = Desk::open(json!({"outputSchema": {"type": "object"}}), json!("x"));
    let done = Done::Reply { reply: said("nope", &[]), violations: vec!["not an object".into()] };
    desk.done("llm-1", done);
    let ask = llm_ask(desk.run(), desk.run().step_named("llm-2").unwrap()).unwrap();
    assert!(ask.messages.last().unwrap().content.contains("not an object"));
    desk.reply("llm-2", r#"{"a":1}"#);
    assert_eq!(desk.output()["structured"], json!({"a": 1}));
}

#[test]
fn a_denied_tool_tells_the_model_and_a_denied_turn_ends_the_run() {
    let mut desk = Desk::closed(json!({"tools": ["calc"]}), json!("x"), Limits::default());
    desk.give_once(Input::Wake);
    desk.denies("llm-1", "run_budget_exceeded");
    assert_eq!((desk.status(), desk.error_code()), (Status::Failed, "run_budget_exceeded"));
    assert_eq!(desk.performed(), [""; 0]);
}

#[test]
fn cancelling_stops_everything_and_holds_what_may_have_been_billed() {
    let mut desk = Desk::open(agent(), json!("hi"));
    let kinds = desk.arrives(Arrival::Cancel { by: "ada".into(), reason: Some("enough".into()) });
    assert_eq!(kinds, ["cancel_requested", "step_abandoned", "run_cancelled"]);
    assert_eq!((desk.run().spent.micros(), desk.run().held.micros()), (0, 100));
    assert_eq!(desk.reply("llm-1", "too late"), [""; 0]);
    assert_eq!(desk.status(), Status::Cancelled);
}

#[test]
fn pausing_lets_what_is_outside_finish_and_starts_nothing_new() {
    let mut desk = Desk::open(agent(), json!("hi"));
    desk.arrives(Arrival::Pause { by: "ada".into() });
    assert_eq!(desk.asks("llm-1", &[("calc", json!({}))]), ["step_completed"]);
    assert_eq!(desk.status(), Status::Paused);
    assert_eq!(
        desk.arrives(Arrival::Resume { by: "ada".into() }),
        ["resumed", "step_started", "step_admitted"]
    );
}

#[test]
fn limits_end_a_run_with_a_reason() {
    let limits = Limits { steps_per_run_max: 2, ..Limits::default() };
    let mut desk = Desk::closed(json!({"tools": ["calc"]}), json!("x"), limits);
    desk.give(Input::Wake);
    desk.asks("llm-1", &[("calc", json!({"n": 1})), ("calc", json!({"n": 2}))]);
    assert_eq!(desk.error_code(), "steps_limit");
    let mut desk = Desk::open(json!({"timeout": "10s"}), json!("x"));
    assert_eq!(desk.later(11), ["step_abandoned", "run_failed"]);
    assert_eq!(desk.error_code(), "run_timeout");
}

#[test]
fn more_tool_calls_than_fit_wait_their_turn() {
    let limits = Limits { concurrency_max: 2, ..Limits::default() };
    let mut desk = Desk::closed(json!({"tools": ["calc"]}), json!("x"), limits);
    desk.give(Input::Wake);
    let calls: Vec<_> = (1..=4).map(|n| ("calc", json!({"n": n}))).collect();
    desk.asks("llm-1", &calls);
    let tool = |n: u32| format!("llm-1.tool-{n}");
    assert_eq!(desk.performed()[1..], [tool(1), tool(2)]);
    desk.returns(&tool(2), json!("b"));
    assert_eq!(desk.performed()[1..], [tool(1), tool(2), tool(3)]);
    desk.fails(&tool(1), Failure::refused("tool_failed", "no"));
    assert_eq!(desk.performed()[1..], [tool(1), tool(2), tool(3), tool(4)]);
    desk.returns(&tool(4), json!("d"));
    assert_eq!(
        desk.returns(&tool(3), json!("c"))[1..],
        ["step_started", "step_admitted"],
        "then the next turn"
    );
    let ask = llm_ask(desk.run(), desk.run().step_named("llm-2").unwrap()).unwrap();
    let results: Vec<&str> = ask.messages[2..].iter().map(|m| m.content.as_str()).collect();
    assert_eq!((results.len(), &results[1..]), (4, &["b", "c", "d"][..]), "in the order of the calls");
}

#[test]
fn a_full_journal_is_continued_with_the_conversation_and_what_was_used_up() {
    let manifest = json!({"tools": ["calc"], "systemPrompt": "be brief", "maxTurns": 3, "timeout": "1h",
        "inputSchema": {"required": ["prompt"]}});
    let limits = Limits { events_per_run_max: 7, ..Limits::default() };
    let begin = || {
        let mut desk = Desk::closed(manifest.clone(), json!({"prompt": "hi"}), limits.clone());
        desk.give(Input::Wake);
        desk.asks("llm-1", &[("calc", json!({"n": 1})), ("no tool", json!({}))]);
        desk
    };
    let mut roomy = begin();
    roomy.limits = Limits::default();
    roomy.returns("llm-1.tool-1", json!(1));
    let asked = llm_ask(roomy.run(), roomy.run().step_named("llm-2").unwrap()).unwrap();

    let mut full = begin();
    assert_eq!(
        full.returns("llm-1.tool-1", json!(1)),
        ["step_completed", "continued_as_new", "run_succeeded"]
    );
    full.later(60);
    let mut next = full.successor();
    next.give(Input::Wake);
    let ask = llm_ask(next.run(), next.run().step_named("llm-2").unwrap()).unwrap();
    assert_eq!(ask, asked, "the model is asked what it would have been asked");
    assert_eq!((&next.run().input, next.run().deadline), (&full.run().input, full.run().deadline));
    assert_eq!(next.run().cap.micros(), full.run().cap.micros() - full.run().spent.micros());
    assert_eq!(next.run().carried_calls(&"calc".parse().unwrap()), 1);
    next.asks("llm-2", &[("calc", json!({"n": 2}))]);
    next.returns("llm-2.tool-1", json!(2));
    let mut last = next.successor();
    last.give(Input::Wake);
    let ask = llm_ask(last.run(), last.run().step_named("llm-3").unwrap()).unwrap();
    assert_eq!((ask.messages.len(), ask.offer_tools), (7, false), "turn 3 of 3 must answer");
    assert_eq!(last.run().carried_calls(&"calc".parse().unwrap()), 2);
    last.reply("llm-3", "done");
    assert_eq!((last.status(), last.output()), (Status::Succeeded, json!({"result": "done"})));
}

#[test]
fn a_run_that_may_not_go_on_or_grows_meanwhile_fails() {
    let limits = Limits { events_per_run_max: 4, continuations_max: 0, ..Limits::default() };
    let mut desk = Desk::closed(json!({"tools": ["calc"]}), json!("x"), limits);
    desk.give(Input::Wake);
    desk.asks("llm-1", &[("calc", json!({"n": 1}))]);
    desk.returns("llm-1.tool-1", json!(1));
    assert_eq!(desk.error_code(), "continuations_limit");

    for paused in [false, true] {
        let limits = Limits { events_per_run_max: 8, ..Limits::default() };
        let mut desk = Desk::closed(json!({}), json!("x"), limits);
        desk.give(Input::Wake);
        if paused {
            desk.arrives(Arrival::Pause { by: "ada".into() });
        }
        for n in 0..20 {
            desk.arrives(Arrival::Signal { name: "go".into(), value: json!(n), key: None });
        }
        assert_eq!((desk.error_code(), desk.events.len() <= 18), ("events_limit", true), "paused: {paused}");
    }
}

#[test]
fn a_claim_beyond_the_hold_is_no_bill() {
    let mut desk = Desk::open(agent(), json!("hi"));
    let mut reply = said("dear", &[]);
    reply.usage = Some(lantern_types::llm::Usage { tokens_in: 1_000_000, tokens_out: u64::MAX });
    desk.done("llm-1", Done::Reply { reply, violations: vec![] });
    assert_eq!((desk.status(), desk.run().spent.micros()), (Status::Succeeded, 100), "the hold was 100");
    let claimed = desk.events.iter().find_map(|event| match &event.fact {
        Fact::StepSettled { claimed, .. } => *claimed,
        _ => None,
    });
    assert!(claimed.is_some_and(|claimed| claimed.micros() > 100), "and the journal shows the claim");
}
