//! Whatever somebody hands in is understood or refused, in bounded time and on any stack.

use lantern_cedar::{Asked, BYTES_MAX, Effect, Otherwise, POLICIES_MAX, Policies, Who};
use lantern_types::At;
use proptest::prelude::*;

fn read(text: &str) -> Option<String> {
    Policies::read(text, Otherwise::Allow).err().map(|faults| faults[0].to_string())
}

fn with(condition: &str) -> String {
    format!("forbid(principal, action, resource) when {{ {condition} }};")
}

fn ask(policies: &Policies) -> bool {
    let effect = Effect::CallModel { name: "p/m", hold: 1, request_bytes: 2, max_tokens: 3 };
    policies.answer(&Asked { who: Who::Agent("a"), effect, spent: 0, at: At::from_micros(0) }).forbidden
}

#[test]
fn what_is_too_much_is_refused() {
    let deep = |open: &str, close: &str| with(&format!("{}true{}", open.repeat(9_000), close.repeat(9_000)));
    for (text, want) in [
        (" ".repeat(BYTES_MAX + 1), "bytes"),
        ("forbid(principal, action, resource);".repeat(POLICIES_MAX + 1), "policies"),
        (deep("(", ")"), "deep"),
        (deep("!", ""), "signs"),
        (deep("[", "]"), "deep"),
        (with(&format!("{}true", "if true then true else ".repeat(2_000))), "deep"),
        (with(&format!("context{} == 1", ".a".repeat(9_000))), "deep"),
        (with(&format!("context{} == 1", "[\"a\"]".repeat(9_000))), "deep"),
        (with(&format!("1{} == 1", " + 1".repeat(9_000))), "deep"),
        (with(&format!("[{}].contains(1)", "1,".repeat(9_000))), "parts"),
        (with(&format!("true{}", " && true".repeat(7_000))), "parts"),
    ] {
        let told = read(&text).unwrap_or_default();
        assert!(told.contains(want), "{want}: {told}");
    }
}

#[test]
fn a_long_chain_is_understood() {
    let text = with(&format!("false{}", " || context.spent == 1".repeat(700)));
    let policies = Policies::read(&text, Otherwise::Allow).unwrap();
    assert!(!ask(&policies));
}

#[test]
fn a_pattern_takes_no_more_time_than_its_length_and_the_texts() {
    let pattern = "*a".repeat(2_000);
    let text = with(&format!("\"{}\" like \"{pattern}b\"", "a".repeat(4_000)));
    let policies = Policies::read(&text, Otherwise::Allow).unwrap();
    assert!(!ask(&policies));
}

proptest! {
    #[test]
    fn any_text_is_understood_or_refused(text in "\\PC{0,200}") {
        drop(Policies::read(&text, Otherwise::Allow));
    }

    #[test]
    fn words_of_the_language_in_any_order_too(words in proptest::collection::vec(prop_oneof![
        Just("forbid"), Just("permit"), Just("("), Just(")"), Just("principal"), Just("action"), Just("resource"), Just(","),
        Just(";"), Just("when"), Just("unless"), Just("{"), Just("}"), Just("=="), Just("in"), Just("is"), Just("Agent"),
        Just("::"), Just("\"x\""), Just("Action"), Just("\"call_tool\""), Just("context"), Just("."), Just("spent"), Just("<"),
        Just("1"), Just("-"), Just("!"), Just("&&"), Just("||"), Just("if"), Just("then"), Just("else"), Just("["), Just("]"),
        Just("like"), Just("has"), Just("contains"), Just("@id"), Just("+"), Just("*"), Just("?"), Just("true"),
    ], 0..60)) {
        drop(Policies::read(&words.join(" "), Otherwise::Deny));
    }

    #[test]
    fn a_cut_policy_is_refused_and_no_more(at in 0_usize..200) {
        let whole = "@id(\"a\") forbid(principal is Agent, action in [Action::\"spend\"], resource in Provider::\"é\") when { [1, 2].contains(context.spent) && !(context.agent like \"a*\\*\") };";
        if let Some(cut) = whole.get(..at.min(whole.len())) {
            let told = Policies::read(cut, Otherwise::Allow);
            prop_assert!(told.is_err() || cut.trim().is_empty() || cut == whole);
        }
    }

    /// What is understood can be asked, of any amounts.
    #[test]
    fn what_is_understood_can_be_asked(
        a in any::<i64>(), b in any::<i64>(), spent in any::<i64>(), at in any::<i64>(), sign in prop_oneof![Just("+"), Just("-"), Just("*")],
    ) {
        let text = with(&format!("context.spent {sign} {a} < {b} || -context.hour == context.weekday"));
        if let Ok(policies) = Policies::read(&text, Otherwise::Allow) {
            let effect = Effect::CallTool { name: "t", class: lantern_types::EffectClass::Pure, calls: 0 };
            policies.answer(&Asked { who: Who::Agent("a"), effect, spent, at: At::from_micros(at) });
        }
    }
}
