//! Random manifests of the agent program.

use serde_json::{Map, Value, json};

use super::{TOOLS, model, retry};
use crate::rng::Rng;

/// What a manifest's instructions say when its model shall call the same tool for ever.
pub(crate) const STUCK: &str = "stuck";

/// The same, and the call shall be one that nobody can read.
pub(crate) const GARBLED: &str = "garbled";

pub(super) fn manifest(rng: &mut Rng) -> Value {
    let stuck = rng.chance(20);
    let words = match stuck {
        true if rng.chance(30) => GARBLED,
        true => STUCK,
        false => "help",
    };
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("program", json!("agent"));
    set("model", json!(model(rng)));
    set("systemPrompt", json!(words));
    set("maxTurns", json!(if stuck { 30 } else { rng.within(1, 12) }));
    set("tools", tools(rng, stuck));
    if rng.chance(60) {
        set("maxTokens", json!(rng.within(1, 300)));
    }
    if rng.chance(20) {
        set("outputSchema", json!({ "type": "object" }));
    }
    if rng.chance(8) {
        set("timeout", json!(format!("{}s", rng.within(5, 600))));
    }
    if let Some(retry) = retry(rng) {
        set("retry", retry);
    }
    Value::Object(fields)
}

/// The tools as a version lists them: names and objects. A model that is stuck gets one that it may always call.
pub(super) fn tools(rng: &mut Rng, stuck: bool) -> Value {
    if stuck {
        return json!(["calc"]);
    }
    let mut list = Vec::new();
    for (name, _) in TOOLS {
        match rng.below(6) {
            0..3 => list.push(json!(name)),
            3 => list.push(json!({ "name": name, "approval": true, "timeoutMs": rng.within(100, 60_000) })),
            4 => list.push(json!({ "name": name, "maxCalls": rng.within(1, 2), "effect": effect(rng) })),
            _ => {}
        }
    }
    if rng.chance(10) {
        list.push(json!("ghost"));
    }
    Value::Array(list)
}

fn effect(rng: &mut Rng) -> &'static str {
    rng.one_of(&["pure", "idempotent", "keyed", "reconcilable", "irreversible"], "keyed")
}
