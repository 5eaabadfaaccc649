//! What policies are said to have said must fit what became of the step, and follow from their text where that is given.

use std::sync::Arc;

use lantern_cedar::{Otherwise, Policies};
use lantern_types::Digest;
use lantern_verify::{Derived, Fault, verify_by};
use serde_json::Value;

use crate::forged::{Story, signer};
use crate::{Folder, other};

const PAID: &str = "\"priceSource\":\"catalogue\"";

fn policies(text: &str) -> Arc<Policies> {
    Arc::new(Policies::read(text, Otherwise::Allow).unwrap())
}

fn of(digest: Digest, more: &str) -> String {
    format!("{{\"set\":\"{digest}\",\"agent\":\"scout\",\"at\":1{more}}}")
}

fn forbids(action: &str, on: &str) -> String {
    format!(",\"forbids\":[{{\"action\":\"{action}\",\"on\":\"{on}\",\"by\":[\"p\"]}}]")
}

/// A run that paid for a call, which says this of policies; with the number of that event, and the model.
fn told(ruled: &str) -> (Story, u64) {
    let mut story = Story::with_event(PAID, "\"choice\"");
    let seq = story.lie("\"choice\"", "\"facts\":{", &format!("\"facts\":{{\"ruled\":{ruled},"));
    (story, seq)
}

fn model() -> String {
    let mut story = Story::with_event(PAID, "\"choice\"");
    let event = story.events().find(|event| event.contains("\"choice\"")).unwrap();
    let route = serde_json::from_str::<Value>(event).unwrap()["grant"]["route"].clone();
    format!("{}/{}", route["provider"].as_str().unwrap(), route["model"].as_str().unwrap())
}

fn checked(story: Story, given: &[Arc<Policies>]) -> Result<Derived, Fault> {
    verify_by(&story.signed(), Some(&[signer().public()]), given).map(|report| report.derived)
}

#[test]
fn an_admission_names_policies_that_let_it_be() {
    let (digest, model) = (Digest::of(b"policies"), model());
    let own = forbids("call_model", &model);
    let (folder, mut files, mut want) = (Folder::new("ruled"), Vec::new(), Vec::new());
    for (name, more, holds) in [
        ("nothing", String::new(), true),
        ("observed", format!("{own},\"observes\":true"), true),
        ("forbidden", own.clone(), false),
        ("unread", ",\"unread\":true".to_owned(), false),
        ("another", forbids("call_model", "nobody/nothing"), false),
        ("a left out model that was not", forbids("call_tool", "pay"), false),
    ] {
        let (story, seq) = told(&of(digest, &more));
        files.push(folder.write(&format!("receipt-{}.json", files.len()), &story.signed()));
        want.push(holds);
        let (story, _) = told(&of(digest, &more));
        match checked(story, &[]) {
            Ok(derived) => assert!(holds && derived.ruled == 1 && derived.reasked == 0, "{name}"),
            Err(fault) => {
                assert_eq!((holds, fault.event, fault.rule), (false, Some(seq), "policy"), "{name}: {fault}");
            }
        }
    }
    // What the other verifier cannot see without the names of steps it takes as it is; here it sees all of it.
    let document = serde_json::json!({"keys": [{"publicKey": signer().public().to_string()}]});
    let keys = folder.write("keys.json", document.to_string().as_bytes());
    let found: Vec<bool> = other(&keys, &files).into_iter().map(|(holds, _)| holds).collect();
    assert_eq!(found, want);

    // No effect of that name; asked later than it was decided.
    let (story, _) = told(&of(digest, &forbids("sing", &model)));
    assert_eq!(checked(story, &[]).unwrap_err().rule, "form");
    let (story, _) = told(&of(digest, "").replace("\"at\":1", "\"at\":4000000000000000"));
    assert_eq!(checked(story, &[]).unwrap_err().rule, "policy");
}

#[test]
fn policies_whose_text_is_given_are_asked_again() {
    let model = model();
    let (lets, never) = (
        policies("// nothing"),
        policies("@id(\"p\") forbid(principal, action == Action::\"call_model\", resource);"),
    );
    let other = policies("forbid(principal == Agent::\"clerk\", action, resource);");
    for (given, ruled, again) in [
        (&lets, of(lets.digest(), ""), Some(1)),
        (&other, of(other.digest(), ""), Some(1)),
        (&never, of(lets.digest(), ""), Some(0)),
        // Said to let what they forbid; and to forbid, when that is only observed, what they let.
        (&never, of(never.digest(), ""), None),
        (&lets, of(lets.digest(), &format!("{},\"observes\":true", forbids("call_model", &model))), None),
        (
            &never,
            of(never.digest(), &format!("{},\"observes\":true", forbids("call_model", &model))),
            Some(1),
        ),
        (&never, of(never.digest(), &format!("{},\"observes\":true", forbids("spend", &model))), None),
    ] {
        let (story, seq) = told(&ruled);
        match checked(story, std::slice::from_ref(given)) {
            Ok(derived) => assert_eq!(Some(derived.reasked), again, "{ruled}"),
            Err(fault) => {
                assert_eq!((None, Some(seq), "policy"), (again, fault.event, fault.rule), "{ruled}: {fault}");
            }
        }
    }
}

#[test]
fn a_denial_by_policies_names_them() {
    // A tool that the rules would have let, had policies not forbidden it.
    let mut story = Story::with_event("\"code\":\"tool_call_limit\"", "\"callsMax\":2");
    story.lie("\"tool_call_limit\"", "\"callsMax\":2", "\"callsMax\":9");
    let seq = story.lie("\"tool_call_limit\"", "\"code\":\"tool_call_limit\"", "\"code\":\"policy_denied\"");
    let denied = story.events().find(|event| event.contains("policy_denied")).unwrap().clone();
    let step = serde_json::from_str::<Value>(&denied).unwrap()["step"].as_str().unwrap().to_owned();
    let asked = format!("\"step\":\"{step}\",\"kind\":\"tool\"");
    let asked = story.events().find(|event| event.contains(&asked)).unwrap().clone();
    let tool = serde_json::from_str::<Value>(&asked).unwrap()["name"].as_str().unwrap().to_owned();
    let (appends, payload) = (story.appends, story.payload);
    let digest = Digest::of(b"policies");
    for (ruled, holds) in [
        (None, false),
        (Some(of(digest, "")), false),
        (Some(of(digest, &forbids("call_tool", &tool))), true),
        (Some(of(digest, &format!("{},\"observes\":true", forbids("call_tool", &tool)))), false),
        (Some(of(digest, &forbids("call_tool", "another"))), false),
    ] {
        let mut story = Story { appends: appends.clone(), payload: payload.clone() };
        if let Some(ruled) = &ruled {
            story.lie("policy_denied", "\"facts\":{", &format!("\"facts\":{{\"ruled\":{ruled},"));
        }
        match checked(story, &[]) {
            Ok(derived) => assert!(holds && derived.ruled == 1, "{ruled:?}"),
            Err(fault) => assert_eq!(
                (holds, fault.event, fault.rule),
                (false, Some(seq), "policy"),
                "{ruled:?}: {fault}"
            ),
        }
    }
}
