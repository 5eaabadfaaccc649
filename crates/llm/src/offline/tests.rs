//! Whole conversations with the offline model, its tools played by the test.

use lantern_types::llm::{Finish, LlmCall, LlmReply, Message, Role};
use lantern_types::{EffectClass, EffectKey, RunId, ToolDef, ToolName};
use serde_json::{Value, json};

use super::*;

fn call(user: &str, tools: &[&str]) -> LlmCall {
    let tool = |name: &&str| ToolDef {
        name: ToolName::parse(name).unwrap(),
        description: "A tool.".to_owned(),
        input_schema: json!({"type": "object"}),
        effect: EffectClass::Pure,
    };
    LlmCall {
        model: "offline".to_owned(),
        messages: vec![Message::text(Role::System, "Be brief."), Message::text(Role::User, user)],
        tools: tools.iter().map(tool).collect(),
        max_tokens: 4_096,
        temperature: None,
        output_schema: None,
        key: EffectKey { run: RunId::from_bytes(&[7; 16]).unwrap(), step: "s".to_owned(), generation: 0 },
        trace: None,
    }
}

/// Plays the conversation to its end; answers the arguments of every tool call, and the final reply.
fn play(mut call: LlmCall, answer: impl Fn(&str, &Value) -> String) -> (Vec<String>, LlmReply) {
    let mut asked = Vec::new();
    loop {
        let said = reply(&call);
        if said.tool_calls.is_empty() {
            return (asked, said);
        }
        assert_eq!((said.finish, said.content.as_str()), (Finish::ToolCalls, ""));
        assert!(call.messages.iter().filter(|m| m.role == Role::Assistant).count() < 12, "never ends");
        let turn = Message { tool_calls: said.tool_calls.clone(), ..Message::text(Role::Assistant, "") };
        call.messages.push(turn);
        for tool in &said.tool_calls {
            let arguments: Value = serde_json::from_str(&tool.arguments).unwrap();
            call.messages.push(Message {
                tool_call_id: Some(tool.id.clone()),
                ..Message::text(Role::Tool, answer(&tool.name, &arguments))
            });
            asked.push(format!("{} {}", tool.name, tool.arguments));
        }
    }
}

const LOG: &str = "commit 1111111\nAuthor: Ada <a@x>\n\n    net: add the client\n\n\
    diff --git a/crates/net/src/lib.rs b/crates/net/src/lib.rs\n--- a/crates/net/src/lib.rs\n\
    +++ b/crates/net/src/lib.rs\n@@ -1,2 +1,2 @@\n-old\n+new\n same\n\
    diff --git a/README.md b/README.md\n--- /dev/null\n+++ b/README.md\n@@ -0,0 +1,2 @@\n+one\n+two\n";

#[test]
fn a_history_takes_one_sum_per_area_and_becomes_a_digest() {
    let sum = |_: &str, arguments: &Value| match arguments["expression"].as_str().unwrap() {
        "(1+1)" => r#"{"result":2}"#.to_owned(),
        "(2+0)" => "calc is on holiday".to_owned(),
        other => panic!("{other}"),
    };
    let (asked, said) = play(call(LOG, &["calc", "http.fetch"]), sum);
    assert_eq!(asked, [r#"calc {"expression":"(1+1)"}"#, r#"calc {"expression":"(2+0)"}"#]);
    let want = format!(
        "{BANNER}\n\n# Stand-up digest\n\n1 commit by 1 author (Ada) in 2 areas.\n\n\
         ## crates/net: 2 lines changed\n\n- net: add the client\n\
         - Most changed: `crates/net/src/lib.rs` (+1 −1)\n\n\
         ## top level: lines changed unknown, calc answered “calc is on holiday”\n\n- net: add the client\n\
         - Most changed: `README.md` (+2 −0)\n"
    );
    assert_eq!((said.content, said.finish), (want, Finish::Stop));
}

#[test]
fn every_area_has_a_sum_of_its_own_however_many_there_are() {
    for (areas, shown) in [(2, 2), (18, 18), (64, 64), (70, 64)] {
        let patch = |n: usize| {
            format!(
                "diff --git a/crates/c{n}/x b/crates/c{n}/x\n--- a/crates/c{n}/x\n+++ b/crates/c{n}/x\n@@ -1 +1 @@\n-one\n+two\n"
            )
        };
        let log = (0..areas).map(patch).collect::<String>();
        let (asked, said) = play(call(&log, &["calc"]), |_, _| "2".to_owned());
        assert_eq!(asked.len(), shown);
        assert_eq!(asked.iter().collect::<std::collections::BTreeSet<_>>().len(), shown, "no two alike");
        assert_eq!(said.content.matches(": 2 lines changed").count(), shown);
        assert_eq!(said.content.contains("6 areas with fewer changes not shown"), areas > shown);
    }
}

#[test]
fn a_sum_is_done_by_the_tool() {
    let (asked, said) = play(call("what is 2+2*3?", &["calc"]), |_, _| r#"{"result":8}"#.to_owned());
    assert_eq!(asked, [r#"calc {"expression":"2+2*3"}"#]);
    assert_eq!(said.content, format!("{BANNER}\n\n2+2*3 = 8"));
    let (_, said) =
        play(call("what is 1/0?", &["calc"]), |_, _| r#"{"error":"division by zero"}"#.to_owned());
    assert!(
        said.content.ends_with(r#"1/0: calc answered “{"error":"division by zero"}”"#),
        "{}",
        said.content
    );
}

#[test]
fn pages_are_fetched_one_by_one() {
    let page = |name: &str, arguments: &Value| {
        assert_eq!(name, "http__fetch");
        json!({"status": 200, "body": format!("This is {}.", arguments["url"].as_str().unwrap())}).to_string()
    };
    let (asked, said) = play(call("Read http://a.example and http://b.example.", &["http.fetch"]), page);
    assert_eq!(asked.len(), 2);
    let want = "## http://a.example\n\nThis is http://a.example.\n\n\
                ## http://b.example\n\nThis is http://b.example.";
    assert_eq!(said.content, format!("{BANNER}\n\n{want}"));
}

#[test]
fn tools_that_are_not_offered_are_not_asked_for() {
    for question in [LOG, "what is 2+2?", "Read http://a.example"] {
        let (asked, said) = play(call(question, &["other.tool"]), |_, _| String::new());
        assert_eq!(asked.len(), 0);
        assert!(said.content.starts_with(BANNER), "{}", said.content);
    }
}

#[test]
fn structured_output_is_json_alone_and_comes_after_the_tools() {
    let schema =
        json!({"type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}}});
    let call = LlmCall { output_schema: Some(schema), ..call("what is 2+2?", &["calc"]) };
    let (asked, said) = play(call, |_, _| "4".to_owned());
    assert_eq!(asked.len(), 1);
    assert_eq!(said.content, json!({"answer": format!("{BANNER} 2+2 = 4")}).to_string());
    assert_eq!(said.model, "offline");
}

#[test]
fn usage_is_counted_and_max_tokens_kept() {
    let mut call = call("hello", &[]);
    let said = reply(&call);
    let bytes = "Be brief.hello".len() as u64;
    let want = Usage { tokens_in: bytes.div_ceil(4), tokens_out: (said.content.len() as u64).div_ceil(4) };
    assert_eq!(said.usage, Some(want));
    call.max_tokens = 3;
    let short = reply(&call);
    assert_eq!((short.content.as_str(), short.finish), ("[offline mod", Finish::Length));
}

#[tokio::test(start_paused = true)]
async fn words_come_at_the_pace() {
    let said = reply(&call("hello there", &[]));
    let mut words = Vec::new();
    let mut push = |word: &str| words.push(word.to_owned());
    let pace = OfflinePace { tokens_per_sec: Some(1) };
    let hurry = tokio::time::timeout(Dur::from_secs(10).std(), say(&said, pace, &mut push)).await;
    assert!(hurry.is_err());
    assert!(said.content.starts_with(&words.concat()));
    words.clear();
    say(&said, OfflinePace::default(), &mut |word: &str| words.push(word.to_owned())).await;
    assert_eq!(words.concat(), said.content);
    assert!(words.len() > 5);
}

proptest::proptest! {
    /// Any text with any tools: the conversation ends, and the last reply says what it is.
    #[test]
    fn any_text_comes_to_an_end(text in "(diff --git a/[a-c/]{1,6} b/[a-c/]{1,6}\n|@@ -[0-3] \\+[0-3] @@\n|[-+ ]x\n|commit 1234567\n|[0-9+*() -]{1,9}|https?://[a-z]{0,3} |.){0,12}") {
        let (_, said) = play(call(&text, &["calc", "http.fetch"]), |_, _| "{".to_owned());
        proptest::prop_assert!(said.content.starts_with(BANNER));
    }
}
