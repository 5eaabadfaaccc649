//! What a receipt says of a run that only its events know: the rules it ran under, and who answered.
//!
//! Reads names and digests out of stored envelopes, and knows nothing else of events: a build seals runs whose events are
//! newer than it is. Most lines are only looked at.

use std::collections::BTreeSet;

use lantern_types::{Digest, MicroUsd};
use serde::Deserialize;

use crate::Invalid;

/// What was read so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What the first event says.
    pub start: Option<Start>,
    /// The rules that decided.
    pub policies: BTreeSet<Digest>,
    /// Who answered: provider and model.
    pub models: BTreeSet<(String, String)>,
    /// Appends.
    pub appends: u64,
    /// Events.
    pub events: u64,
    /// Whether the last event says that the run is over.
    pub ended: bool,
    /// The rules that decided last, as they stand in the line.
    last: String,
}

/// What a run was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Start {
    /// The digest of its version.
    pub manifest: Digest,
    /// The most it may spend.
    pub cap: MicroUsd,
    /// The rules.
    pub policy: Digest,
    /// The model catalogue.
    pub catalogue: Digest,
    /// The limits.
    pub limits: Digest,
}

#[derive(Deserialize)]
struct Admitted {
    grant: Grant,
}

#[derive(Deserialize)]
struct Grant {
    policy: Digest,
}

#[derive(Deserialize)]
struct Answered {
    provider: String,
    #[serde(default)]
    model: String,
}

const TYPE: &str = "\"type\":\"";
/// Where the type of an event stands: after two numbers.
const TYPE_BY: usize = 64;
const POLICY: &str = "\"policy\":\"";
/// From the rules' digest to the end of an admission: three digests, the last members that there are.
const POLICY_TAIL: usize =
    64 + "\",\"catalogue\":\"".len() + 64 + "\",\"limits\":\"".len() + 64 + "\"}}".len();

impl Summary {
    /// Reads one more append. Fails when the run does not begin as runs do.
    pub fn read(&mut self, lines: &[u8]) -> Result<(), Invalid> {
        let unreadable = || Invalid::new("the run's events cannot be read");
        let lines = std::str::from_utf8(lines).map_err(|_| unreadable())?;
        self.appends += 1;
        for line in lines.split_terminator('\n') {
            self.events += 1;
            self.ended = kind(line) == "Finished";
            if self.start.is_none() {
                let start: Start = serde_json::from_str(line).map_err(|_| unreadable())?;
                self.policies.insert(start.policy);
                self.start = Some(start);
                continue;
            }
            match kind(line) {
                "StepAdmitted" => {
                    let said = policy(line);
                    if said.is_none() || said != Some(self.last.as_str()) {
                        let admitted: Admitted = serde_json::from_str(line).map_err(|_| unreadable())?;
                        self.policies.insert(admitted.grant.policy);
                        said.unwrap_or_default().clone_into(&mut self.last);
                    }
                }
                // Quotes within a string stand behind a backslash, so this is a name.
                "StepSettled" | "CallMetered" if line.contains("\"provider\":\"") => {
                    let Answered { provider, model } =
                        serde_json::from_str(line).map_err(|_| unreadable())?;
                    self.models.insert((provider, model));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Every model that answered, as a payload has them.
    pub fn models(&self) -> Vec<String> {
        self.models.iter().map(|(provider, model)| format!("{provider}/{model}")).collect()
    }

    /// The one that answered, when it was one.
    pub fn sole_model(&self) -> Option<&(String, String)> {
        if self.models.len() == 1 { self.models.first() } else { None }
    }
}

fn kind(line: &str) -> &str {
    let near = line.get(..TYPE_BY).unwrap_or(line);
    let at = near.find(TYPE).map(|at| at + TYPE.len());
    at.and_then(|at| line.get(at..)?.split('"').next()).unwrap_or_default()
}

/// The digest of the rules that an admission names, where it stands where this build writes it.
fn policy(line: &str) -> Option<&str> {
    let at = line.len().checked_sub(POLICY_TAIL)?;
    line.get(..at)?.ends_with(POLICY).then(|| line.get(at..at + 64)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_digests_are_read_and_nothing_else_is() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let first = format!(
            "{{\"seq\":1,\"at\":1,\"type\":\"RunStarted\",\"manifest\":\"{a}\",\"cap\":5,\"policy\":\"{a}\",\
             \"catalogue\":\"{a}\",\"limits\":\"{b}\",\"new\":{{}}}}\n"
        );
        let second = format!(
            "{{\"seq\":2,\"type\":\"StepAdmitted\",\"step\":\"\\\"policy\\\":\\\"x\",\"grant\":{{\"policy\":\"{b}\"}}}}\n\
             {{\"seq\":3,\"type\":\"StepSettled\",\"provider\":\"p\",\"model\":\"m\"}}\n{{\"seq\":4,\"type\":\"New\"}}\n"
        );
        let mut summary = Summary::default();
        summary.read(first.as_bytes()).unwrap();
        summary.read(second.as_bytes()).unwrap();
        assert_eq!((summary.appends, summary.events), (2, 4));
        assert_eq!(summary.policies.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([a, b]));
        assert_eq!(summary.models(), ["p/m"]);
        assert_eq!(summary.start.unwrap().limits, b);
        assert!(Summary::default().read(b"{\"seq\":1}\n").is_err());
        assert!(!summary.ended);
        summary.read(b"{\"seq\":5,\"type\":\"Finished\"}\n").unwrap();
        assert!(summary.ended);
    }
}
