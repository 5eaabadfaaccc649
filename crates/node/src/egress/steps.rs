//! Steps of a program that are more than a result: a tool that is called, a person who is asked, a signal that is waited for.
//!
//! Invariant: each has a key, is counted when it is begun, and its outcome is recorded before it is answered; whoever asks again under
//! the key, in this life of the program or in a later one, hears that. A tool and a question are runs of their own, whose ids come of
//! the workload's run and the key: so they are admitted, journaled and stopped as every run is, and never made twice.

use std::sync::Arc;

use lantern_policy::Scope;
use lantern_types::edge::BoxFuture;
use lantern_types::step::{Stepped, Wanted};
use lantern_types::{Dur, RunId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::Egress;
use super::local::{Answer, Local, away, key, no_key, refused};

/// Under which names the run is told of them.
const TOOL: &str = "lantern:tool";
const APPROVAL: &str = "lantern:approval";
const SIGNAL: &str = "lantern:signal";
pub(super) const NAMES: [&str; 3] = [TOOL, APPROVAL, SIGNAL];
/// How long a person has, or a signal may take to come, when the program does not say; and the longest.
const WAIT: Dur = Dur::from_secs(30 * 60);
const WAIT_MAX: Dur = Dur::from_secs(30 * 24 * 3_600);
const TEXT_MAX: usize = 4_096;
const APPROVERS_MAX: usize = 20;
/// How often it is looked whether a signal came.
const LOOK: Dur = Dur::from_millis(200);

/// Does steps that are runs of their own, and waits for their end.
pub type Steps = Arc<dyn Fn(StepAsk) -> BoxFuture<'static, Stepped> + Send + Sync>;

/// A step that a program asks for.
pub struct StepAsk {
    /// The tenant of its workload.
    pub scope: Scope,
    /// The run of its workload.
    pub run: RunId,
    /// The program's word for the step.
    pub key: String,
    /// What is to be done.
    pub wanted: Wanted,
}

/// Where what came of such a step is among what was recorded. No step that a program records has such a key.
pub(super) fn place(name: &str, key: &str) -> String {
    format!("\u{1}{name}\u{1}{key}")
}

/// Which kind of run a step in such a place is, if it is one, and the program's word for it.
pub(super) fn run_in(place: &str) -> Option<(&'static str, &str)> {
    let (name, key) = place.strip_prefix('\u{1}')?.split_once('\u{1}')?;
    let kind = match name {
        TOOL => "tool",
        APPROVAL => "approval",
        _ => return None,
    };
    Some((kind, key))
}

/// Calls a tool.
pub(super) async fn tool(local: &Local, asked: &Value, gone: &Notify) -> Answer {
    let Some(key) = key(asked) else { return no_key() };
    let name = asked.get("name").and_then(Value::as_str);
    let arguments = asked.get("arguments").cloned().unwrap_or_else(|| json!({}));
    let Some(name) = name.filter(|_| arguments.is_object()) else {
        return invalid("expected a key, the name of a tool and an object of arguments");
    };
    run(local, (TOOL, key), Wanted::Tool { name: name.to_owned(), arguments }, gone).await
}

/// Asks a person.
pub(super) async fn approval(local: &Local, asked: &Value, gone: &Notify) -> Answer {
    let Some(key) = key(asked) else { return no_key() };
    let reason = asked.get("reason").and_then(Value::as_str).filter(|reason| reason.len() <= TEXT_MAX);
    let (Some(reason), Some(approvers), Some(wait)) = (reason, approvers(asked), wait(asked)) else {
        return invalid("expected a key, a reason, perhaps up to 20 approvers, and perhaps timeoutSeconds");
    };
    run(local, (APPROVAL, key), Wanted::Approval { reason: reason.to_owned(), approvers, wait }, gone).await
}

fn approvers(asked: &Value) -> Option<Vec<String>> {
    let Some(list) = asked.get("approvers") else { return Some(Vec::new()) };
    let list = list.as_array().filter(|list| list.len() <= APPROVERS_MAX)?;
    list.iter().map(|name| name.as_str().filter(|name| name.len() <= 200).map(str::to_owned)).collect()
}

fn wait(asked: &Value) -> Option<Dur> {
    let Some(seconds) = asked.get("timeoutSeconds") else { return Some(WAIT) };
    let seconds = seconds.as_u64().and_then(|seconds| u32::try_from(seconds).ok())?;
    Some(Dur::from_secs(seconds.into())).filter(|wait| (Dur::from_secs(1)..=WAIT_MAX).contains(wait))
}

/// Has a step done as a run of its own, and records what came of it.
async fn run(local: &Local, (name, key): (&str, &str), wanted: Wanted, gone: &Notify) -> Answer {
    let place = place(name, key);
    match local.begin(&place).await {
        Ok(None) => {}
        Ok(Some(value)) => return ("200 OK", json!({ "value": value })),
        Err(answer) => return answer,
    }
    let (_, (scope, run), steps) = local.outside();
    let stepped = tokio::select! {
        biased;
        stepped = steps(StepAsk { scope, run, key: key.to_owned(), wanted }) => stepped,
        // Its run goes on, and is found by its key.
        () = gone.notified() => Stepped::Away,
    };
    let value = match stepped {
        Stepped::Over { run, outcome: Ok(output) } => json!({ "ok": true, "output": output, "runId": run }),
        Stepped::Over { run, outcome: Err((code, words)) } => {
            json!({ "ok": false, "code": code, "error": words, "runId": run })
        }
        Stepped::Refused { code, words } => {
            local.drop_begun(&place).await;
            return refused("409 Conflict", &code, &words);
        }
        Stepped::Away => return away(),
    };
    local.end(&place, (name, key), value).await
}

/// Waits for a signal of the run. Each key hears one of its own, in the order in which they came.
pub(super) async fn signal(local: &Local, egress: &Egress, asked: &Value, gone: &Notify) -> Answer {
    let Some(key) = key(asked) else { return no_key() };
    let name = asked.get("name").and_then(Value::as_str).filter(|name| (1..=200).contains(&name.len()));
    let (Some(name), Some(wait)) = (name.filter(|name| !name.starts_with("lantern:")), wait(asked)) else {
        return invalid("expected a key, the name of a signal, and perhaps timeoutSeconds");
    };
    let place = place(SIGNAL, key);
    match local.begin(&place).await {
        Ok(None) => {}
        Ok(Some(value)) => return ("200 OK", json!({ "value": value })),
        Err(answer) => return answer,
    }
    let (mail, to, _) = local.outside();
    let until = egress.clock.now() + wait;
    let mut seen = None;
    loop {
        let Ok(stands) = mail.stands(to).await else { return away() };
        if seen != Some(stands) {
            seen = Some(stands);
            let Ok(came) = mail.signals(to, name).await else { return away() };
            if let Some(answer) = local.take_signal((name, key), &came).await {
                return answer;
            }
        }
        let now = egress.clock.now();
        if now >= until {
            return local.end(&place, (SIGNAL, key), json!({ "name": name, "received": false })).await;
        }
        tokio::select! {
            biased;
            () = egress.clock.sleep(LOOK.min(until.since(now))) => {}
            () = gone.notified() => return away(),
        }
    }
}

/// The first of these signals that no other step has taken, as what is recorded.
pub(super) fn untaken<'a>(
    name: &str,
    came: &[Value],
    recorded: impl Iterator<Item = (&'a String, &'a Value)>,
) -> Option<Value> {
    let own = place(SIGNAL, "");
    let of = recorded.filter(|(place, value)| place.starts_with(&own) && value["name"] == name);
    let taken: Vec<u64> = of.filter_map(|(_, value)| value["number"].as_u64()).collect();
    let (number, value) = (1_u64..).zip(came).find(|(number, _)| !taken.contains(number))?;
    Some(json!({ "name": name, "received": true, "number": number, "value": value }))
}

/// What a signal step is recorded under.
pub(super) const fn signal_name() -> &'static str {
    SIGNAL
}

fn invalid(words: &str) -> Answer {
    refused("400 Bad Request", "invalid_body", words)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_key_hears_a_signal_of_its_own() {
        let came = [json!("a"), json!("b")];
        let taken = |name: &str, number: u64| json!({ "name": name, "received": true, "number": number });
        let mut recorded = BTreeMap::from([
            ("plain".to_owned(), taken("go", 1)),
            (place(SIGNAL, "other"), taken("stay", 1)),
            (place(SIGNAL, "late"), json!({ "name": "go", "received": false })),
        ]);
        let first = json!({ "name": "go", "received": true, "number": 1, "value": "a" });
        assert_eq!(untaken("go", &came, recorded.iter()), Some(first));
        recorded.insert(place(SIGNAL, "one"), taken("go", 1));
        assert_eq!(untaken("go", &came, recorded.iter()).unwrap()["value"], "b");
        recorded.insert(place(SIGNAL, "two"), taken("go", 2));
        assert_eq!(untaken("go", &came, recorded.iter()), None);
    }

    #[test]
    fn tools_and_questions_are_runs_and_signals_are_none() {
        assert_eq!(run_in(&place(TOOL, "a")), Some(("tool", "a")));
        assert_eq!(run_in(&place(APPROVAL, "b c")), Some(("approval", "b c")));
        assert_eq!(run_in(&place(SIGNAL, "a")), None);
        assert_eq!(run_in("lantern:tool"), None);
    }

    #[test]
    fn what_is_waited_for_has_an_end() {
        for (asked, want) in [
            (json!({}), Some(WAIT)),
            (json!({ "timeoutSeconds": 5 }), Some(Dur::from_secs(5))),
            (json!({ "timeoutSeconds": 0 }), None),
            (json!({ "timeoutSeconds": 2_592_001 }), None),
            (json!({ "timeoutSeconds": "5" }), None),
        ] {
            assert_eq!(wait(&asked), want, "{asked}");
        }
    }
}
