//! What a decision was made on, in a frame: amounts in dollars, times as text. Absent where it was not recorded.

use lantern_types::{AccountFacts, AdmissionFacts, Choice, Grounds, MicroUsd, Way};
use serde_json::{Map, Value, json};

/// Adds what an admission was decided on to its payload.
pub(super) fn add(payload: &mut Value, facts: &AdmissionFacts) {
    let Some(members) = payload.as_object_mut() else { return };
    members.extend(policies(facts).map(|said| ("policies".to_owned(), said)));
    // What costs nothing is not looked up in the run's cap, and its frame stays as small as it was.
    let Some(choice) = &facts.choice else { return };
    members.insert("budget".to_owned(), budget(facts));
    members.insert("accounts".to_owned(), facts.accounts.iter().map(account).collect());
    members.insert("choice".to_owned(), self::choice(choice));
}

/// Adds the grounds of a denial to its payload.
pub(super) fn add_grounds(payload: &mut Value, grounds: &Grounds) {
    let Some(members) = payload.as_object_mut() else { return };
    let Grounds { facts, route, tool, account, .. } = grounds;
    members.insert("budget".to_owned(), budget(facts));
    let mut tell = |name: &str, value: Option<Value>| {
        members.extend(value.map(|value| (name.to_owned(), value)));
    };
    tell("policies", policies(facts));
    tell("choice", facts.choice.as_deref().map(choice));
    tell("provider", route.as_ref().map(|route| route.provider.as_str().into()));
    tell("model", route.as_ref().map(|route| route.model.as_str().into()));
    tell("account", account.as_ref().map(self::account));
    tell("tool", tool.map(|tool| json!({ "listed": tool.listed, "known": tool.known, "calls": facts.calls, "maxCalls": tool.calls_max })));
}

/// What the policies of the tenant forbid of the step; nothing where there are none, or they forbid nothing.
fn policies(facts: &AdmissionFacts) -> Option<Value> {
    let ruled = facts.ruled.as_ref().filter(|ruled| ruled.unread || !ruled.forbids.is_empty())?;
    let forbids = ruled.forbids.iter();
    let forbids = forbids.map(|one| json!({ "action": one.action, "on": one.on, "policies": one.by }));
    let mut said = json!({ "digest": ruled.set, "forbids": forbids.collect::<Vec<_>>() });
    if let Some(members) = said.as_object_mut() {
        let marks = [("observed", ruled.observes), ("unreadable", ruled.unread)];
        members
            .extend(marks.into_iter().filter(|(_, is)| *is).map(|(name, _)| (name.to_owned(), true.into())));
    }
    Some(said)
}

fn budget(facts: &AdmissionFacts) -> Value {
    json!({ "capUsd": facts.cap.to_wire(), "spentUsd": facts.spent.to_wire(), "heldUsd": facts.held.to_wire() })
}

fn account(account: &AccountFacts) -> Value {
    let AccountFacts { of, period, began, cap, spent, held, slice } = account;
    json!({
        "of": of, "period": period, "began": began.to_string(), "capUsd": cap.to_wire(), "spentUsd": spent.to_wire(),
        "heldUsd": held.to_wire(), "sliceUsd": slice.map(MicroUsd::to_wire),
    })
}

fn choice(choice: &Choice) -> Value {
    let mut said = Map::new();
    said.insert("asked".to_owned(), choice.asked.as_str().into());
    said.insert("strategy".to_owned(), choice.strategy.as_str().into());
    let lists = [("meaning", &choice.meaning), ("keyless", &choice.keyless)];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        said.insert(name.to_owned(), list.iter().map(String::as_str).collect());
    }
    said.insert("providers".to_owned(), choice.providers.iter().map(|p| p.name.as_str()).collect());
    said.insert("ways".to_owned(), choice.ways.iter().map(way).collect());
    if choice.more > 0 {
        said.insert("more".to_owned(), choice.more.into());
    }
    Value::Object(said)
}

fn way(way: &Way) -> Value {
    let Way { provider, model, key, out, until, account } = way;
    let mut said = json!({ "provider": provider, "model": model });
    if let Some(members) = said.as_object_mut() {
        let key = (*key > 0).then(|| Value::from(key + 1));
        members.extend(key.map(|key| ("key".to_owned(), key)));
        members.extend(out.map(|out| ("out".to_owned(), out.as_str().into())));
        members.extend(until.map(|until| ("until".to_owned(), until.to_string().into())));
        members.extend(account.as_ref().map(|of| ("account".to_owned(), self::account(of))));
    }
    said
}
