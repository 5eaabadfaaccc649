//! Caps that ask: a step waits for people, and the run says what was asked and what was said.

use lantern_engine::{Input, Status, StepId, approval};
use lantern_types::approval::{CapAnswer, Change, OverCap};
use lantern_types::call::Period;
use lantern_types::{At, Limits, MicroUsd};
use serde_json::json;

use crate::desk::{Desk, grant};

fn over(asked: u32) -> OverCap {
    OverCap {
        owner: "tenant".into(),
        period: Period::Day,
        began_at: At::from_micros(0),
        ends_at: At::from_micros(86_400_000_000),
        asked,
        cap: MicroUsd::from_micros(10),
        spent: MicroUsd::from_micros(9),
        hold: MicroUsd::from_micros(100),
    }
}

fn ask(asked: u32) -> Input {
    Input::AskCap { step: StepId::new("llm-1"), over: over(asked) }
}

fn answered(status: &str) -> Input {
    let answer = CapAnswer { status: status.into(), by: "ada".into(), more: None };
    Input::CapAnswered { step: StepId::new("llm-1"), answer }
}

fn waiting() -> Desk {
    let mut desk = Desk::closed(json!({}), json!("hi"), Limits::default());
    desk.give_once(Input::Wake);
    let from = desk.kinds().len();
    desk.give_once(ask(0));
    assert_eq!(desk.kinds().split_off(from), ["budget_asked"]);
    desk
}

#[test]
fn a_step_that_waits_for_people_keeps_its_run_paused() {
    let mut desk = waiting();
    assert_eq!(desk.status(), Status::Paused);
    let before = desk.kinds().len();
    desk.give_once(ask(0));
    desk.give_once(Input::Wake);
    assert_eq!(desk.kinds().len(), before, "it is asked once");
    desk.give_once(ask(1));
    assert_eq!(desk.kinds().split_off(before), ["budget_asked"], "another question is another one");
    desk.give_once(answered("granted"));
    desk.give_once(answered("granted"));
    desk.give_once(Input::Admit { step: StepId::new("llm-1"), grant: Box::new(grant(100)) });
    assert_eq!(desk.kinds().split_off(before + 1), ["budget_answered", "step_admitted"], "it is heard once");
    assert_eq!(desk.status(), Status::Running);
    desk.reply("llm-1", "hello");
    assert_eq!(desk.status(), Status::Succeeded);
}

#[test]
fn a_no_is_followed_by_a_denial() {
    let mut desk = waiting();
    desk.give_once(answered("denied"));
    desk.denies("llm-1", "budget_exceeded");
    assert_eq!(desk.error_code(), "budget_exceeded");
}

#[test]
fn only_a_step_that_waits_for_its_admission_asks() {
    let mut desk = Desk::open(json!({}), json!("hi"));
    let before = desk.kinds().len();
    desk.give_once(ask(0));
    desk.give_once(answered("granted"));
    assert_eq!(desk.kinds().len(), before);
}

#[test]
fn whatever_runs_ask_of_an_account_is_one_question() {
    let desk = waiting();
    let changes = approval::changes(desk.run(), &desk.events);
    let asked: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::OverCap { step, over, .. } => (step.as_str(), over.id()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, [("llm-1", over(0).id())]);
    assert_eq!(
        OverCap { hold: MicroUsd::from_micros(7), spent: MicroUsd::ZERO, ..over(0) }.id(),
        over(0).id()
    );
    for other in [
        over(1),
        OverCap { owner: "agent:x".into(), ..over(0) },
        OverCap { period: Period::Month, ..over(0) },
        OverCap { began_at: At::from_micros(1), ..over(0) },
    ] {
        assert_ne!(other.id(), over(0).id(), "{other:?}");
    }
    // Nothing of it is a question of the run's own.
    assert!(approval::open(desk.run(), &desk.events).is_empty());
}
