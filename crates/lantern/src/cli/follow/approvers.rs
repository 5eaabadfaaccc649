//! Who may answer an approval, and whether that is the caller.
//!
//! The server decides; this only keeps a command from being advised to somebody whom the server would refuse. It is asked
//! who the caller is when an approval names its approvers, and not before.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::api::{Api, Call};
use crate::cli::follow::frame::Frame;
use crate::cli::format::{line, text};

/// How an API key is named as an approver, before its id.
const KEY: &str = "api-key:";

/// Who the caller is to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Caller {
    Person(String),
    /// Of which the server does not tell it the id.
    Key,
    /// The server did not say.
    Unknown,
}

/// The approvals that name who may answer them.
#[derive(Default)]
pub(crate) struct Approvers {
    named: BTreeMap<String, Vec<String>>,
    caller: Option<Caller>,
}

impl Approvers {
    /// Takes in one frame; writes into one that asks others than the caller who they are.
    pub(crate) async fn mark(&mut self, api: &Api, frame: &mut Frame) {
        let Some(step) = frame.step.clone() else { return };
        match frame.kind.as_str() {
            "step_started" => {
                let names = names(frame);
                if !names.is_empty() {
                    self.named.insert(step, names);
                }
            }
            "approval_requested" => {
                let Some(names) = self.named.get(&step) else { return };
                let caller = match self.caller.take() {
                    Some(caller) => caller,
                    None => ask(api).await,
                };
                if !may(&caller, names) {
                    frame.others.clone_from(names);
                }
                self.caller = Some(caller);
            }
            _ => {}
        }
    }
}

fn names(frame: &Frame) -> Vec<String> {
    let names = frame.data.get("arguments").and_then(|arguments| arguments.get("approvers"));
    let names = names.and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(line).collect()
}

async fn ask(api: &Api) -> Caller {
    match api.fetch(Call::get("/auth/me")).await {
        Ok(me) if text(&me, "email").is_empty() => Caller::Key,
        Ok(me) => Caller::Person(text(&me, "email").to_owned()),
        Err(_) => Caller::Unknown,
    }
}

/// Whether the caller is among these, as far as that can be told.
fn may(caller: &Caller, names: &[String]) -> bool {
    match caller {
        Caller::Person(email) => names.iter().any(|name| name.eq_ignore_ascii_case(email)),
        Caller::Key => names.iter().any(|name| name.starts_with(KEY)),
        Caller::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_may_when_named() {
        let person = |email: &str| Caller::Person(email.to_owned());
        for (caller, names, want) in [
            (person("ada@example.com"), &["bob@example.com", "Ada@Example.com"][..], true),
            (person("eve@example.com"), &["ada@example.com"], false),
            (person("eve@example.com"), &["api-key:7"], false),
            (Caller::Key, &["ada@example.com", "api-key:7"], true),
            (Caller::Key, &["ada@example.com"], false),
            (Caller::Unknown, &["ada@example.com"], false),
        ] {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(may(&caller, &names), want, "{caller:?} {names:?}");
        }
    }
}
