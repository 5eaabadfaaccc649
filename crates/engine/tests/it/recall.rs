//! Sessions: what a run is told of the exchanges before it, and what it leaves for the next.

use lantern_engine::{Arrival, Content, Fact, Input, Recall, Recalled, exchange, llm_ask};
use lantern_types::llm::{Image, Message, Role};
use lantern_types::{Failure, Limits};
use serde_json::{Value, json};

use crate::desk::Desk;

fn agent() -> Value {
    json!({"tools": ["calc"], "systemPrompt": "be kind", "maxTurns": 3, "retry": {"maxAttempts": 1}})
}

fn begun(recall: &Recall, said: &str) -> Desk {
    Desk::recalling(agent(), json!({"message": said}), recall.clone(), Limits::default())
}

fn left(desk: &Desk, before: &Recall) -> Recall {
    before.and(exchange(desk.run(), before.messages().count()), &Limits::default())
}

fn told(messages: &[Message]) -> Vec<(Role, &str)> {
    messages.iter().map(|message| (message.role, message.content.as_str())).collect()
}

/// Whether a conversation is one that every vendor takes.
fn whole(messages: &[Message]) {
    let mut open: Vec<&str> = Vec::new();
    let mut last = Role::System;
    for message in messages {
        match message.role {
            Role::Tool => {
                let id = message.tool_call_id.as_deref().unwrap();
                let at = open.iter().position(|call| *call == id).expect("a result answers a call");
                open.remove(at);
            }
            role => {
                assert!(open.is_empty(), "a call has its result before anybody speaks");
                assert!(role != Role::User || last != Role::User, "both speak in turn");
                assert!(!message.content.is_empty() || !message.tool_calls.is_empty(), "nobody says nothing");
            }
        }
        open.extend(message.tool_calls.iter().map(|call| call.id.as_str()));
        last = message.role;
    }
    assert!(open.is_empty());
}

#[test]
fn a_message_sees_what_was_said_and_nothing_that_was_used_up() {
    let nothing = Recall::default();
    let mut first = begun(&nothing, "one");
    first.asks("llm-1", &[("calc", json!({"n": 1}))]);
    first.returns("llm-1.tool-1", json!(1));
    first.reply("llm-2", "done");
    let recall = left(&first, &nothing);
    let mut second = begun(&recall, "two");
    let ask = llm_ask(second.run(), second.run().step_named("llm-1").unwrap()).unwrap();
    let want = [
        (Role::System, "be kind"),
        (Role::User, "one"),
        (Role::Assistant, ""),
        (Role::Tool, "1"),
        (Role::Assistant, "done"),
        (Role::User, "two"),
    ];
    assert_eq!(told(&ask.messages), want);
    assert!(ask.offer_tools, "turns are counted from the message on");
    assert_eq!(second.run().carried_calls(&"calc".parse().unwrap()), 0);
    let Fact::RunStarted { recall: counted, .. } = &second.events[0].fact else { panic!() };
    assert_eq!(*counted, Some(Recalled { exchanges: 1, dropped: 0, images_dropped: 0 }));
    second.reply("llm-1", "done again");
    let third = left(&second, &recall);
    assert_eq!(third.exchanges.len(), 2);
    assert_eq!(told(&third.exchanges[1]), [(Role::User, "two"), (Role::Assistant, "done again")]);
    // A fork recalls the same, and a replay is asked in the same words.
    let replay = second.replay();
    assert_eq!(replay.output(), json!({"result": "done again"}));
    let fork = second.fork(Some("llm-1"), None, Some(json!({"message": "three"})));
    let ask = llm_ask(fork.run(), fork.run().step_named("llm-1").unwrap()).unwrap();
    assert_eq!(told(&ask.messages)[4..], [(Role::Assistant, "done"), (Role::User, "three")]);
    assert!(matches!(&fork.events[0].content, Some(Content::Recalled { steps: Some(_), .. })));
}

#[test]
fn however_an_exchange_ended_the_conversation_is_whole() {
    type End = fn(&mut Desk);
    let cancel: End = |desk| _ = desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None });
    let rows: [(&str, End, &str); 7] = [
        ("answered", |desk| _ = desk.reply("llm-1", "yes"), "yes"),
        ("empty", |desk| _ = desk.reply("llm-1", ""), "[an empty reply]"),
        (
            "refused",
            |desk| _ = desk.fails("llm-1", Failure::refused("provider_refused", "no")),
            "[no reply: provider_refused]",
        ),
        (
            "cancelled at once",
            |desk| _ = desk.arrives(Arrival::Cancel { by: "a".into(), reason: None }),
            "[no reply: cancelled]",
        ),
        (
            "cancelled while a tool runs",
            |desk| {
                desk.asks("llm-1", &[("calc", json!({})), ("nonsense tool", json!({}))]);
                desk.arrives(Arrival::Cancel { by: "ada".into(), reason: None });
            },
            "[no reply: cancelled]",
        ),
        (
            "failed after a tool",
            |desk| {
                desk.asks("llm-1", &[("calc", json!({}))]);
                desk.returns("llm-1.tool-1", json!("x".repeat(100_000)));
                desk.fails("llm-2", Failure::refused("provider_refused", "no"));
            },
            "[no reply: provider_refused]",
        ),
        ("cancelled before it began", cancel, "[no reply: cancelled]"),
    ];
    for (name, end, want) in rows {
        let before = Recall {
            exchanges: vec![vec![Message::text(Role::User, "q"), Message::text(Role::Assistant, "a")]],
            ..Recall::default()
        };
        let mut desk = begun(&before, "next");
        end(&mut desk);
        let recall = left(&desk, &before);
        let messages: Vec<Message> = recall.messages().cloned().collect();
        whole(&messages);
        assert_eq!(messages.last().unwrap().content, want, "{name}");
        assert_eq!(messages[2].content, "next", "{name}: what the person said stays");
        assert!(messages.iter().all(|message| message.content.len() < 20_000), "{name}: results are cut");
        let next = begun(&recall, "and then?");
        whole(&llm_ask(next.run(), next.run().step_named("llm-1").unwrap()).unwrap().messages);
    }
}

#[test]
fn an_exchange_that_went_on_as_a_new_run_is_one() {
    let limits = Limits { events_per_run_max: 7, ..Limits::default() };
    let before = Recall {
        exchanges: vec![vec![Message::text(Role::User, "q"), Message::text(Role::Assistant, "a")]],
        ..Recall::default()
    };
    let mut full = Desk::recalling(agent(), json!({"message": "next"}), before.clone(), limits);
    full.asks("llm-1", &[("calc", json!({})), ("no tool", json!({}))]);
    full.returns("llm-1.tool-1", json!(1));
    let mut next = full.successor();
    next.give(Input::Wake);
    let ask = llm_ask(next.run(), next.run().step_named("llm-2").unwrap()).unwrap();
    assert_eq!(told(&ask.messages)[1..4], [(Role::User, "q"), (Role::Assistant, "a"), (Role::User, "next")]);
    next.reply("llm-2", "done");
    let recall = left(&next, &before);
    assert_eq!((recall.exchanges.len(), recall.exchanges[1].len()), (2, 5));
    assert_eq!(recall.exchanges[1][0].content, "next");
}

#[test]
fn pictures_of_an_exchange_that_failed_do_not_fail_the_next() {
    for (fails, shown) in [(true, 0), (false, 1)] {
        let photo = json!({"name": "p", "mediaType": "image/png", "data": "AA=="});
        let asked = json!({"message": "look", "attachments": [photo]});
        let mut desk = Desk::recalling(agent(), asked, Recall::default(), Limits::default());
        let ask = llm_ask(desk.run(), desk.run().step_named("llm-1").unwrap()).unwrap();
        assert_eq!(ask.messages[1].images, [Image { media_type: "image/png".into(), data: "AA==".into() }]);
        if fails {
            desk.fails("llm-1", Failure::refused("provider_refused", "no pictures"));
        } else {
            desk.reply("llm-1", "a cat");
        }
        let recall = left(&desk, &Recall::default());
        assert_eq!(recall.messages().map(|message| message.images.len()).sum::<usize>(), shown);
    }
}
