//! What runs use is told once, by whoever appends, and whoever takes a run up goes on where its last holder was.

use lantern_engine::{Event, Fact, Tally};
use lantern_types::call::{Counted, Happened, RunUsage, StepSpent};
use lantern_types::{AccountFacts, MicroUsd};
use serde_json::json;

use crate::desk::Desk;
use crate::history::STORIES;

fn sum(told: impl IntoIterator<Item = RunUsage>) -> RunUsage {
    told.into_iter().fold(RunUsage::default(), |mut sum, used| {
        sum.add(used);
        sum
    })
}

/// What was counted, in an order of its own.
fn counts(used: &RunUsage) -> Vec<(Happened, u64)> {
    let mut counts: Vec<_> =
        used.counts.iter().map(|Counted { what, times, .. }| (what.clone(), *times)).collect();
    counts.sort();
    counts
}

fn each(events: &[Event]) -> Vec<RunUsage> {
    let mut tally = Tally::default();
    events.iter().map(|event| tally.append(std::slice::from_ref(event))).collect()
}

#[test]
fn whoever_takes_a_run_up_tells_what_its_last_holder_would_have_told() {
    for (name, story) in STORIES {
        let events = story().1.events;
        let told = each(&events);
        for taken_up in 0..events.len() {
            let mut tally = Tally::default();
            events[..taken_up].iter().for_each(|event| drop(tally.append(std::slice::from_ref(event))));
            let rest: Vec<_> =
                events[taken_up..].iter().map(|event| tally.append(std::slice::from_ref(event))).collect();
            assert_eq!(rest, told[taken_up..], "{name}, from event {taken_up} on");
        }
    }
}

#[test]
fn what_is_told_is_the_same_however_events_are_appended() {
    for (name, story) in STORIES {
        let events = story().1.events;
        if !events.iter().any(|event| matches!(event.fact, Fact::Finished { .. })) {
            continue;
        }
        let (at_once, singly) = (Tally::default().append(&events), sum(each(&events)));
        assert_eq!(sum([at_once.clone()]).items, singly.items, "{name}");
        assert_eq!(counts(&sum([at_once])), counts(&singly), "{name}");
    }
}

/// A model turn that is tried again, two tools, a turn that answers.
fn paid() -> Desk {
    let mut desk = Desk::open(json!({"tools": ["calc"]}), json!("add"));
    desk.fails("llm-1", lantern_types::Failure::transient("provider_rate_limited", "slow down"));
    desk.later(60);
    desk.asks("llm-1", &[("calc", json!({"expression": "1"})), ("calc", json!({"expression": "2"}))]);
    desk.returns("llm-1.tool-1", json!("1"));
    desk.returns("llm-1.tool-2", json!("2"));
    desk.reply("llm-2", "done");
    // As admission has it: no tool goes to a provider.
    for event in &mut desk.events {
        if let Fact::StepAdmitted { step, grant, .. } = &mut event.fact
            && step.as_str().contains("tool")
        {
            grant.route = None;
        }
    }
    desk
}

#[test]
fn each_attempt_of_a_model_counts_and_each_tool_with_the_turn_after_it() {
    let desk = paid();
    let told = each(&desk.events);
    let all = sum(told.clone());
    let [StepSpent { calls, cost, unconfirmed, tokens_in, tokens_out, .. }] = &all.items[..] else {
        panic!("{all:?}")
    };
    let run = desk.run();
    assert_eq!((*calls, *cost), (3, run.spent), "an attempt that failed is one, too");
    assert_eq!((*tokens_in, *tokens_out, *unconfirmed), (run.tokens_in, run.tokens_out, run.unconfirmed));
    assert!(run.spent > MicroUsd::ZERO);
    let succeeded = Happened::Run("succeeded".to_owned());
    assert_eq!(counts(&all), [(Happened::Tool("calc".to_owned()), 2), (succeeded, 1)]);
    let tools = told.iter().filter(|used| used.counts.iter().any(|c| matches!(c.what, Happened::Tool(_))));
    assert_eq!(tools.count(), 1, "both with the second turn");
}

#[test]
fn an_attempt_that_goes_on_under_its_admission_counts_by_itself() {
    // A call that costs nothing is sent again without another admission.
    let mut desk = Desk::open(json!({}), json!("hi"));
    desk.fails("llm-1", lantern_types::Failure::transient("provider_rate_limited", "slow down"));
    desk.later(60);
    desk.reply("llm-1", "done");
    let mut events = desk.events;
    let step = events.iter().find_map(|event| match &event.fact {
        Fact::StepAdmitted { step, generation, grant, .. } => {
            Some((step.clone(), *generation, grant.clone()))
        }
        _ => None,
    });
    let (step, generation, _) = step.unwrap();
    let mut admissions = 0;
    for event in &mut events {
        if let Fact::StepAdmitted { attempt, .. } = &event.fact {
            admissions += 1;
            if admissions == 2 {
                event.fact = Fact::StepReissued { step: step.clone(), generation, attempt: *attempt };
            }
        }
    }
    assert_eq!(admissions, 2);
    let all = sum(each(&events));
    assert_eq!(all.items.iter().map(|item| item.calls).sum::<u64>(), 2, "{all:?}");
    assert_eq!(all.items[0].tokens_out, desk.run.unwrap().tokens_out);
}

#[test]
fn what_is_held_from_slices_of_a_cap_is_not_told_here() {
    let mut desk = paid();
    for event in &mut desk.events {
        if let Fact::StepAdmitted { grant, .. } = &mut event.fact {
            let stood: AccountFacts = serde_json::from_value(json!({
                "of": "tenant", "period": "day", "began": 0, "cap": 9, "spent": 0, "held": 0
            }))
            .unwrap();
            grant.facts.accounts = vec![stood];
        }
    }
    let all = sum(each(&desk.events));
    assert_eq!(all.items, []);
    assert_eq!(counts(&all).len(), 2, "tools and the end of the run all the same");
}
