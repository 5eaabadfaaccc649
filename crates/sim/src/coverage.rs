//! What a set of seeds has met: kinds of steps, kinds of events, ends of runs. A simulator that never sees a state
//! proves nothing about it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use lantern_engine::{Event, Fact, Run};

use crate::op::Kind;

/// Every variant of [`Fact`].
pub const FACTS: [&str; 24] = [
    "RunStarted",
    "StepRequested",
    "StepAdmitted",
    "StepDenied",
    "StepSettled",
    "StepFailed",
    "StepRetrying",
    "StepReadmitted",
    "StepReissued",
    "StepInDoubt",
    "StepResolved",
    "StepAbandoned",
    "StepCharged",
    "ApprovalAsked",
    "ApprovalGranted",
    "ApprovalDenied",
    "SignalReceived",
    "CancelRequested",
    "Paused",
    "Resumed",
    "ProgressBlocked",
    "ContinuedAsNew",
    "RunEnding",
    "Finished",
];

/// The variant's name. A new variant does not compile before it is named here, and in [`FACTS`] if tier 1 makes it happen.
const fn name(fact: &Fact) -> &'static str {
    match fact {
        Fact::RunStarted { .. } => "RunStarted",
        Fact::StepRequested { .. } => "StepRequested",
        Fact::StepAdmitted { .. } => "StepAdmitted",
        Fact::StepDenied { .. } => "StepDenied",
        Fact::StepSettled { .. } => "StepSettled",
        Fact::StepReused { .. } => "StepReused",
        Fact::StepFailed { .. } => "StepFailed",
        Fact::StepRetrying { .. } => "StepRetrying",
        Fact::StepReadmitted { .. } => "StepReadmitted",
        Fact::StepReissued { .. } => "StepReissued",
        Fact::StepInDoubt { .. } => "StepInDoubt",
        Fact::StepResolved { .. } => "StepResolved",
        Fact::StepAbandoned { .. } => "StepAbandoned",
        Fact::StepCharged { .. } => "StepCharged",
        Fact::ApprovalAsked { .. } => "ApprovalAsked",
        Fact::ApprovalGranted { .. } => "ApprovalGranted",
        Fact::ApprovalDenied { .. } => "ApprovalDenied",
        // Only what has a ledger meets caps of tenants and agents.
        Fact::CapAsked { .. } => "CapAsked",
        Fact::CapAnswered { .. } => "CapAnswered",
        Fact::SignalReceived { .. } => "SignalReceived",
        // Only programs in boxes call models by themselves.
        Fact::CallMetered { .. } => "CallMetered",
        Fact::CancelRequested { .. } => "CancelRequested",
        Fact::Paused { .. } => "Paused",
        Fact::Resumed { .. } => "Resumed",
        // Only the worker of tier 2 meets stops.
        Fact::Halted { .. } => "Halted",
        Fact::StopLifted { .. } => "StopLifted",
        Fact::ProgressBlocked { .. } => "ProgressBlocked",
        Fact::ContinuedAsNew { .. } => "ContinuedAsNew",
        Fact::RunEnding { .. } => "RunEnding",
        Fact::Finished { .. } => "Finished",
    }
}

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    ops: BTreeMap<Kind, u64>,
    facts: BTreeMap<&'static str, u64>,
    ends: BTreeMap<String, u64>,
    waits: u64,
}

/// What is counted besides events: a step that waited for what other steps held.
const WAIT: &str = "a wait for money";

impl Coverage {
    pub(crate) fn op(&mut self, kind: Kind) {
        *self.ops.entry(kind).or_default() += 1;
    }

    pub(crate) fn event(&mut self, event: &Event) {
        *self.facts.entry(name(&event.fact)).or_default() += 1;
    }

    /// Counts a turn after which a step waits for what others hold.
    pub(crate) fn waits(&mut self, waits: bool) {
        self.waits += u64::from(waits);
    }

    pub(crate) fn end(&mut self, run: &Run) {
        let code = run.error.as_ref().map_or("", |(code, _, _)| code.as_str());
        let end = format!("{} {code}", run.status().as_str());
        *self.ends.entry(end.trim_end().to_owned()).or_default() += 1;
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        other.ops.iter().for_each(|(key, n)| *self.ops.entry(*key).or_default() += n);
        other.facts.iter().for_each(|(key, n)| *self.facts.entry(key).or_default() += n);
        self.waits += other.waits;
        other.ends.iter().for_each(|(key, n)| *self.ends.entry(key.clone()).or_default() += n);
    }

    /// The kinds of event that were never met, and the wait for money if it was not.
    pub fn missing(&self) -> Vec<&'static str> {
        let facts = FACTS.into_iter().filter(|fact| !self.facts.contains_key(fact));
        facts.chain((self.waits == 0).then_some(WAIT)).collect()
    }

    /// How many steps were taken.
    pub fn ops(&self) -> u64 {
        self.ops.values().sum()
    }

    /// How many events were written.
    pub fn events(&self) -> u64 {
        self.facts.values().sum()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = |counts: Vec<(String, u64)>| {
            let mut text = String::new();
            for (n, (key, count)) in counts.iter().enumerate() {
                let _ = write!(text, "{}{key} {count}", if n == 0 { "" } else { " · " });
            }
            text
        };
        writeln!(f, "steps:  {}", table(self.ops.iter().map(|(k, n)| (format!("{k:?}"), *n)).collect()))?;
        let facts = FACTS.iter().map(|fact| ((*fact).to_owned(), self.facts.get(fact).copied().unwrap_or(0)));
        writeln!(f, "events: {}", table(facts.collect()))?;
        writeln!(f, "waits:  {WAIT} {}", self.waits)?;
        write!(f, "ends:   {}", table(self.ends.iter().map(|(k, n)| (k.clone(), *n)).collect()))
    }
}
