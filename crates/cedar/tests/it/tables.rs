//! Tables: what policies say of effects, and which are refused.

use lantern_cedar::{Asked, Effect, Fault, Otherwise, Policies, Who};
use lantern_types::{At, EffectClass};

const NOON: At = At::from_micros(1_790_000_000 * 1_000_000);

fn asked<'a>(who: Who<'a>, effect: Effect<'a>) -> Asked<'a> {
    Asked { who, effect, spent: 40, at: NOON }
}

fn model(name: &str, hold: i64) -> Effect<'_> {
    Effect::CallModel { name, hold, request_bytes: 1_000, max_tokens: 64 }
}

fn tool(name: &str, class: EffectClass) -> Effect<'_> {
    Effect::CallTool { name, class, calls: 2 }
}

fn says(text: &str, otherwise: Otherwise, asked: &Asked<'_>) -> String {
    let policies = Policies::read(text, otherwise).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    let answer = policies.answer(asked);
    if answer.forbidden { format!("no: {}", answer.by.join(" ")) } else { "yes".to_owned() }
}

#[test]
fn what_policies_say_of_effects() {
    let scout = Who::Agent("scout");
    for (text, asked, want) in [
        ("", asked(scout, model("openai/gpt-4o", 1)), "yes"),
        (
            r#"@id("no openai") forbid(principal, action, resource in Provider::"openai");"#,
            asked(scout, model("openai/gpt-4o", 1)),
            "no: no openai",
        ),
        (
            r#"forbid(principal, action, resource in Provider::"openai");"#,
            asked(scout, model("lab/llama", 1)),
            "yes",
        ),
        (
            r#"forbid(principal == Agent::"clerk", action, resource);"#,
            asked(scout, model("lab/llama", 1)),
            "yes",
        ),
        (
            r#"forbid(principal is Key, action == Action::"call_model", resource);"#,
            asked(Who::Key("7"), model("lab/llama", 1)),
            "no: policy0",
        ),
        (
            r#"forbid(principal, action == Action::"call_tool", resource) when { context.effect == "irreversible" };"#,
            asked(scout, tool("mail.send", EffectClass::Irreversible)),
            "no: policy0",
        ),
        (
            r#"forbid(principal, action == Action::"call_tool", resource) when { context.effect == "irreversible" };"#,
            asked(scout, tool("calc", EffectClass::Pure)),
            "yes",
        ),
        (
            r#"forbid(principal, action == Action::"reach_out", resource) unless { resource in Host::"example.com" };"#,
            asked(scout, Effect::ReachOut { host: "api.example.com" }),
            "yes",
        ),
        (
            r#"forbid(principal, action == Action::"reach_out", resource) unless { resource in Host::"example.com" };"#,
            asked(scout, Effect::ReachOut { host: "example.com.evil.org" }),
            "no: policy0",
        ),
        (
            r#"forbid(principal, action == Action::"spend", resource) when { context.spent + context.amount > 100 };"#,
            asked(scout, Effect::Spend { name: "p/m", amount: 61 }),
            "no: policy0",
        ),
        (
            r#"forbid(principal, action == Action::"spend", resource) when { context.spent + context.amount > 100 };"#,
            asked(scout, Effect::Spend { name: "p/m", amount: 60 }),
            "yes",
        ),
        // What cannot be worked out forbids.
        (
            r#"forbid(principal, action == Action::"spend", resource) when { context.amount * 9223372036854775807 > 0 };"#,
            asked(scout, Effect::Spend { name: "p/m", amount: 2 }),
            "no: policy0",
        ),
        (
            r#"forbid(principal, action == Action::"call_model", resource) when { context.hour >= 18 || context.hour < 8 };"#,
            asked(scout, model("p/m", 1)),
            "yes",
        ),
        (
            r#"forbid(principal, action == Action::"call_agent", resource == Agent::"mailer") unless { principal == Agent::"clerk" };"#,
            asked(scout, Effect::CallAgent { name: "mailer" }),
            "no: policy0",
        ),
        (
            r#"forbid(principal, action, resource) when { context has host && context.host like "*.internal" };"#,
            asked(scout, Effect::ReachOut { host: "db.internal" }),
            "no: policy0",
        ),
        (
            r#"@id("a") forbid(principal, action, resource); @id("b") forbid(principal, action, resource);"#,
            asked(scout, model("p/m", 1)),
            "no: a b",
        ),
    ] {
        assert_eq!(says(text, Otherwise::Allow, &asked), want, "{text}");
    }
}

#[test]
fn with_deny_what_is_done_is_permitted() {
    let text = r#"
        permit(principal, action in [Action::"call_model", Action::"spend"], resource in Provider::"lab");
        @id("not at night") forbid(principal, action == Action::"call_model", resource) when { context.hour < 6 };
    "#;
    let scout = Who::Agent("scout");
    for (effect, want) in [
        (model("lab/llama", 1), "yes"),
        (Effect::Spend { name: "lab/llama", amount: 1 }, "yes"),
        (model("openai/gpt-4o", 1), "no: "),
        (tool("calc", EffectClass::Pure), "no: "),
    ] {
        assert_eq!(says(text, Otherwise::Deny, &asked(scout, effect)), want);
    }
    let night = Asked { at: At::from_micros(0), ..asked(scout, model("lab/llama", 1)) };
    assert_eq!(says(text, Otherwise::Deny, &night), "no: not at night");
}

fn fault(text: &str) -> String {
    let faults = Policies::read(text, Otherwise::Allow).err().unwrap_or_default();
    faults.first().map_or_else(|| "none".to_owned(), Fault::to_string)
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    for (text, want) in [
        ("forbid", "line 1, column 7: expected \"(\", found the end"),
        ("forbid(principal, action, resource)", "line 1, column 36: expected \";\", found the end"),
        (
            "allow(principal, action, resource);",
            "line 1, column 1: expected permit or forbid, found \"allow\"",
        ),
        (
            "// a comment\n  forbid(principal == Robot::\"x\", action, resource);",
            "line 2, column 23: there is no kind \"Robot\"; there are Agent, Key, Person, Provider, Model, Tool, Host",
        ),
        (
            r#"forbid(principal, action == Action::"send", resource);"#,
            "line 1, column 37: there is no action \"send\"; there are call_model, spend, call_tool, reach_out, call_agent",
        ),
        (
            "forbid(principal, action == Action::\"call_tool\", resource)\nwhen { context.host == \"a\" };",
            "line 2, column 16: there is no fact host; there are agent, hour, spent, weekday, calls, effect, tool, in call_tool",
        ),
        (
            "forbid(principal, action, resource) when { context.hold > 5 };",
            "line 1, column 52: there is no fact hold; there are agent, hour, spent, weekday, amount, model, provider, in spend",
        ),
        (
            "forbid(principal, action, resource) when { context.spent };",
            "line 1, column 52: a condition is true or false, and this is a number, in call_model",
        ),
        (
            "forbid(principal, action, resource) when { context.agent > 5 };",
            "line 1, column 52: expected a number, and this is a text, in call_model",
        ),
        (
            "forbid(principal is Host, action, resource);",
            "line 1, column 1: no effect has such a principal, action and resource",
        ),
        (
            r#"forbid(principal, action == Action::"call_tool", resource == Host::"x");"#,
            "line 1, column 1: no effect has such a principal, action and resource",
        ),
        (
            "forbid(principal == ?principal, action, resource);",
            "line 1, column 21: templates are not known here: name one thing",
        ),
        (
            "forbid(principal, action, resource) when { context.agent == {} };",
            "line 1, column 61: records are not known here",
        ),
        (
            r#"forbid(principal, action, resource) when { ip("1.2.3.4").isIpv4() };"#,
            "line 1, column 44: ip is not known here",
        ),
        (
            r#"@id("a") forbid(principal, action, resource); @id("a") forbid(principal, action, resource);"#,
            "line 1, column 47: two policies have the id \"a\"",
        ),
        ("forbid(principal, action, resource) when { \"a };", "line 1, column 44: the text has no end"),
        ("forbid(principal, action, resource) when { 1 == \"\\q\" };", "line 1, column 50: no such escape"),
        (
            "forbid(principal, action, resource) when { 9223372036854775808 > 1 };",
            "line 1, column 44: the number is too large",
        ),
        ("forbid(principal, action, resource) when { é };", "line 1, column 44: 'é' has no meaning here"),
    ] {
        assert_eq!(fault(text), want, "{text}");
    }
    let permit = fault("permit(principal, action, resource);");
    assert!(permit.contains("a permit changes nothing"), "{permit}");
}

#[test]
fn every_policy_without_sense_is_told() {
    let text = "forbid(principal is Host, action, resource);\nforbid(principal is Tool, action, resource);";
    let faults = Policies::read(text, Otherwise::Allow).err().unwrap();
    let lines: Vec<u32> = faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 2]);
}

#[test]
fn a_digest_names_the_text_and_what_holds_otherwise() {
    let digest = |text, otherwise| Policies::read(text, otherwise).unwrap().digest();
    let one = digest("", Otherwise::Allow);
    assert_eq!(one, lantern_cedar::digest("", Otherwise::Allow));
    assert_ne!(one, digest("", Otherwise::Deny));
    assert_ne!(one, digest(" ", Otherwise::Allow));
}

#[test]
fn the_policies_of_the_guide_make_sense() {
    const GUIDE: &str = include_str!("../../../../docs/guide/policies.md");
    let blocks = GUIDE.split("```cedar\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let blocks: Vec<&str> = blocks.collect();
    assert_eq!(blocks.len(), 2, "one for each default");
    for (text, otherwise) in blocks.into_iter().zip([Otherwise::Allow, Otherwise::Deny]) {
        let faults = Policies::read(text, otherwise).err().unwrap_or_default();
        assert!(faults.is_empty(), "{faults:?}");
    }
}
