//! Events: what happened to a run, forever. Format 1.
//!
//! Each event has an envelope (its [`Fact`]: kinds, amounts, digests, times, decisions; no user content) and, where
//! there is any, a [`Content`] (prompts, arguments, results) that is stored sealed apart from it. An append is stored
//! as one envelope a line and one body. Adding a variant is fine; editing one needs an ADR.

mod about;
mod content;
mod stored;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use lantern_types::approval::{CapAnswer, OverCap};
use lantern_types::{
    Acted, AgentId, At, Digest, EffectClass, Grant, Grounds, MicroUsd, RunId, StopId, StopScope, TraceParent,
    VersionId,
};
use serde::{Deserialize, Serialize};

use crate::fork::{Forks, Reuse};
use crate::manifest::ProgramKind;
use crate::recall::Recalled;

pub use content::Content;
pub use stored::{Unreadable, decode, encode};

/// The newest event format that this build knows. An append is stored with the lowest format that has all of its kinds,
/// and a run with the highest of its appends: a build takes up all that it can read of what a newer neighbour wrote. The
/// first new kind after a release makes this one more: see [`Fact::format`].
pub const FORMAT: i64 = 1;

/// A step's name within its run: `llm-1`, `llm-1.tool-2`, `fetch`, `each[3]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(Arc<str>);

impl StepId {
    /// Names a step.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Steps are found by name without making an id first. Hashes and compares as its text does.
impl Borrow<str> for StepId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The format that a build must know to read these events.
pub fn format(events: &[Event]) -> i64 {
    events.iter().map(|event| event.fact.format()).max().unwrap_or(1)
}

/// One event of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place in the run's journal, from 1.
    pub seq: u64,
    /// When it was decided.
    pub at: At,
    /// What happened.
    pub fact: Fact,
    /// What was said, if anything: stored sealed.
    pub content: Option<Content>,
}

/// The kinds of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A model call.
    Llm,
    /// A tool call.
    Tool,
    /// A wait for time.
    Sleep,
    /// A wait for a named signal.
    Signal,
    /// A wait for a person's decision.
    Approval,
    /// A run of another agent.
    Child,
    /// One step for each item, a bounded number at once, results in order.
    Map,
    /// Several steps at once; the first to succeed wins.
    Race,
}

/// How a run ended. Written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it was asked.
    Succeeded,
    /// It could not; the code says why.
    Failed,
    /// It was told to stop.
    Cancelled,
}

/// Who started a run, when a run did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent run.
    pub run: RunId,
    /// The child step within it; `None` when this run continues the parent as new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// Which try of that step. Builds that tried a child once do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
}

/// What a run goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    /// The run before it.
    pub run: RunId,
    /// How many runs there were before it.
    pub count: u32,
    /// What they spent.
    pub spent: MicroUsd,
}

/// What happened: the envelope. No user content in any field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Fact {
    /// The run exists. Always event 1.
    RunStarted {
        /// The agent.
        agent: AgentId,
        /// The immutable version that runs.
        version: VersionId,
        /// That version's digest.
        manifest: Digest,
        /// Its program.
        program: ProgramKind,
        /// Who started it, when a run did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
        /// How many runs stand above it.
        #[serde(default)]
        depth: u32,
        /// What it goes on from, when it continues a run as new.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        continues: Option<Continues>,
        /// What it is a fork of. Its content is then [`Content::Forked`], which a build that knows no forks cannot read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forks: Option<Forks>,
        /// How much it recalls, when it is a message to an agent in a session. Its content is then [`Content::Recalled`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recall: Option<Recalled>,
        /// The span that it belongs under, when somebody named one: the caller, or the run that started it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceParent>,
        /// The most it may spend.
        cap: MicroUsd,
        /// When it must be over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<At>,
        /// The policy, catalogue and limits in force when it was admitted.
        policy: Digest,
        /// See `policy`.
        catalogue: Digest,
        /// See `policy`.
        limits: Digest,
    },
    /// The program asked for a step.
    StepRequested {
        /// The step.
        step: StepId,
        /// Its kind.
        kind: StepKind,
        /// The tool, signal or agent it names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The map, race or model turn it belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<StepId>,
        /// What it does outside.
        effect: EffectClass,
        /// For waits: when they end by themselves. For approvals: when they expire.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<At>,
        /// Names what is asked, so that identical requests can be told.
        request: Digest,
        /// For model turns: names the set of tools the turn saw.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tools: Option<Digest>,
        /// Whether a person must approve before it is performed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        approval: bool,
    },
    /// The step may be performed, and its money is reserved. Durable before anything is sent.
    StepAdmitted {
        /// The step.
        step: StepId,
        /// The third part of its key.
        generation: u32,
        /// Counts attempts, for people.
        attempt: u32,
        /// The admission.
        grant: Grant,
    },
    /// The step may not be performed.
    StepDenied {
        /// The step.
        step: StepId,
        /// Why, as a stable code.
        code: String,
        /// Why, with amounts and limits.
        reason: String,
        /// What it was decided on. Earlier builds recorded nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grounds: Option<Box<Grounds>>,
    },
    /// The step is done.
    StepSettled {
        /// The step.
        step: StepId,
        /// Its kind.
        kind: StepKind,
        /// The tool, signal or agent it named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The key under which it was done.
        generation: u32,
        /// The attempt that did it.
        attempt: u32,
        /// What it cost.
        #[serde(default)]
        cost: MicroUsd,
        /// Prompt tokens it used.
        #[serde(default)]
        tokens_in: u64,
        /// Completion tokens it used.
        #[serde(default)]
        tokens_out: u64,
        /// What the provider claims it costs, when that is more than was reserved: the run is charged what was reserved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claimed: Option<MicroUsd>,
        /// Names its output.
        output: Digest,
        /// The provider that answered, for a model call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        /// The model that answered, as the provider named it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// The step ended before, in the run that this one is a fork of: nothing is sent for it and nothing is spent.
    StepReused {
        /// The step.
        step: StepId,
        /// Its kind.
        kind: StepKind,
        /// The tool, signal or agent it named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// How it ended there.
        end: Reuse,
        /// Why it failed there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Names its output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Digest>,
    },
    /// The step failed for good.
    StepFailed {
        /// The step.
        step: StepId,
        /// Its kind.
        kind: StepKind,
        /// The tool, signal or agent it named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The last generation.
        generation: u32,
        /// The last attempt.
        attempt: u32,
        /// Why.
        code: String,
        /// Whether it may have happened all the same.
        acted: Acted,
        /// What its last attempt is known to have cost.
        #[serde(default)]
        cost: MicroUsd,
        /// What a model may have been billed for its last attempt: the hold, which stays held to the end of the run.
        #[serde(default, skip_serializing_if = "MicroUsd::is_zero")]
        unconfirmed: MicroUsd,
        /// Prompt tokens of a reply that could not be used.
        #[serde(default, skip_serializing_if = "is_zero")]
        tokens_in: u64,
        /// Completion tokens of it.
        #[serde(default, skip_serializing_if = "is_zero")]
        tokens_out: u64,
        /// Whether its hold stays until its child, which was told to stop, says what it spent.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        owing: bool,
        /// When it is charged what is held for it, if its child has not told by then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tells_by: Option<At>,
    },
    /// An attempt failed; the step will be tried again.
    StepRetrying {
        /// The step.
        step: StepId,
        /// The generation of the next attempt: grown only when nothing sent under the present one can have acted.
        generation: u32,
        /// The number of the next attempt.
        attempt: u32,
        /// Why this attempt failed.
        code: String,
        /// Whether this attempt may have acted.
        acted: Acted,
        /// When the next attempt is made.
        due: At,
        /// Whether the process failed and not the step: then it uses up none of the step's retries.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        crashed: bool,
        /// What this attempt cost, when it gave something that could not be used.
        #[serde(default, skip_serializing_if = "MicroUsd::is_zero")]
        cost: MicroUsd,
        /// Prompt tokens of that.
        #[serde(default, skip_serializing_if = "is_zero")]
        tokens_in: u64,
        /// Completion tokens of that.
        #[serde(default, skip_serializing_if = "is_zero")]
        tokens_out: u64,
        /// What a model may have been billed for this attempt: its hold, which stays held to the end of the run. Not every
        /// vendor looks at the key.
        #[serde(default, skip_serializing_if = "MicroUsd::is_zero")]
        unconfirmed: MicroUsd,
        /// Whether the next attempt, though under the same key, is admitted with a hold of its own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        readmit: bool,
    },
    /// The wait before an attempt of a new generation, or with a hold of its own, is over: the step asks for admission
    /// again.
    StepReadmitted {
        /// The step.
        step: StepId,
        /// The generation of that attempt.
        generation: u32,
        /// That it is a child, of which each try is another run; of other steps nothing is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<StepKind>,
    },
    /// A crash left the step's outcome unknown, and its class lets it be sent again under the same key.
    StepReissued {
        /// The step.
        step: StepId,
        /// The same generation as before.
        generation: u32,
        /// One more attempt.
        attempt: u32,
    },
    /// Nobody knows whether the step happened, and its class forbids sending it again.
    StepInDoubt {
        /// The step.
        step: StepId,
        /// The generation in doubt.
        generation: u32,
        /// What happened to the attempt.
        code: String,
    },
    /// Someone found out.
    StepResolved {
        /// The step.
        step: StepId,
        /// Whether it had happened.
        happened: bool,
        /// Who says so.
        by: String,
    },
    /// The step is no longer wanted.
    StepAbandoned {
        /// The step.
        step: StepId,
        /// `cancelled`, `race_lost`, `sibling_failed`, `run_ended`.
        code: String,
        /// What it is known to have cost. Older builds charged here what may have been billed.
        #[serde(default)]
        cost: MicroUsd,
        /// What a model may have been billed for it: the hold, which stays held to the end of the run.
        #[serde(default, skip_serializing_if = "MicroUsd::is_zero")]
        unconfirmed: MicroUsd,
        /// Whether its hold stays until its child, which was told to stop, says what it spent.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        owing: bool,
        /// When it is charged what is held for it, if its child has not told by then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tells_by: Option<At>,
    },
    /// A child that was no longer wanted told what it spent, or did not within its time: its hold is released.
    StepCharged {
        /// The step.
        step: StepId,
        /// What its child told.
        cost: MicroUsd,
        /// What it may have spent, when it has not told: what is held for it, which stays held to the end of the run.
        #[serde(default, skip_serializing_if = "MicroUsd::is_zero")]
        unconfirmed: MicroUsd,
    },
    /// A person is asked.
    ApprovalAsked {
        /// The step that waits.
        step: StepId,
        /// When the question lapses.
        due: At,
    },
    /// A person said yes.
    ApprovalGranted {
        /// The step.
        step: StepId,
        /// Who.
        by: String,
    },
    /// A person said no, or nobody said anything in time (`by` is then empty).
    ApprovalDenied {
        /// The step.
        step: StepId,
        /// Who.
        by: String,
    },
    /// A soft cap of the tenant or the agent leaves too little for the step, and people are asked whether more may be spent. The step
    /// waits for its admission, as before.
    CapAsked {
        /// The step that waits.
        step: StepId,
        /// What is asked.
        over: OverCap,
    },
    /// The question that the step waited for is closed. Its admission, or its denial, follows.
    CapAnswered {
        /// The step.
        step: StepId,
        /// How, and by whom.
        answer: CapAnswer,
    },
    /// A signal came in from outside.
    SignalReceived {
        /// Its name.
        name: String,
        /// Names the sender's idempotency key, if it gave one: a signal of that name and key is received once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Digest>,
    },
    /// A program that the run has under way called a model through this server.
    CallMetered {
        /// Names the call: it is told once.
        call: Digest,
        /// Who answered.
        provider: String,
        /// Which model.
        model: String,
        /// What was held for it.
        hold: MicroUsd,
        /// What it cost.
        cost: MicroUsd,
        /// Prompt tokens.
        #[serde(default, skip_serializing_if = "is_zero")]
        tokens_in: u64,
        /// Completion tokens.
        #[serde(default, skip_serializing_if = "is_zero")]
        tokens_out: u64,
        /// Whether nobody knows what it cost, so all that was held counts.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lost: bool,
    },
    /// Someone asked the run to stop.
    CancelRequested {
        /// Who.
        by: String,
    },
    /// Nothing new is started until the run is resumed.
    Paused {
        /// Who asked.
        by: String,
    },
    /// The run goes on.
    Resumed {
        /// Who asked.
        by: String,
    },
    /// An emergency stop holds: the next step that costs money or acts on something was not admitted, and nothing new is
    /// started until the stop is lifted.
    Halted {
        /// The stop.
        stop: StopId,
        /// What it halts.
        scope: StopScope,
    },
    /// The stop that held the run was lifted.
    StopLifted {
        /// The stop.
        stop: StopId,
    },
    /// The run goes round in circles; the next spend was blocked.
    ProgressBlocked {
        /// How many calls make one round.
        period: u32,
        /// How many identical rounds were seen.
        rounds: u32,
    },
    /// The program went on as a new run.
    ContinuedAsNew {
        /// The new run.
        run: RunId,
    },
    /// The run goes no further and will end like this, but waits for children that it dropped to tell what they spent.
    RunEnding {
        /// How it will end.
        outcome: Outcome,
        /// Why, for a failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// The step that failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// When it ends whatever has been told: it is charged what is then still held.
        due: At,
    },
    /// The run is over. Written once, and last.
    Finished {
        /// How.
        outcome: Outcome,
        /// Why, for a failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// The step that failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepId>,
        /// Names its output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Digest>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_append_reads_back_with_and_without_its_body() {
        let event = |seq, fact, content| Event { seq, at: At::from_micros(7), fact, content };
        let events = vec![
            event(4, Fact::Paused { by: "ada".into() }, None),
            event(
                5,
                Fact::SignalReceived { name: "go".into(), key: None },
                Some(Content::Signal(Arc::new(Value::from(1)))),
            ),
            event(6, Fact::Resumed { by: "ada".into() }, Some(Content::Reason("lunch is over".into()))),
        ];
        let (lines, body) = encode(&events).unwrap();
        assert_eq!(
            lines.split(|b| *b == b'\n').next().unwrap(),
            br#"{"seq":4,"at":7,"type":"Paused","by":"ada"}"#
        );
        assert_eq!(decode(&lines, body.as_deref()).unwrap(), events);
        let bare = decode(&lines, None).unwrap();
        assert!(bare.iter().all(|e| e.content.is_none()) && bare.len() == 3);
        assert!(!String::from_utf8(lines).unwrap().contains("lunch"));
    }

    #[test]
    fn facts_written_before_a_field_was_there_still_read() {
        let old = decode(br#"{"seq":1,"at":7,"type":"SignalReceived","name":"go"}"#, None).unwrap();
        assert_eq!(old[0].fact, Fact::SignalReceived { name: "go".into(), key: None });
    }

    #[test]
    fn unknown_kinds_are_refused_not_skipped() {
        assert!(decode(br#"{"seq":1,"at":7,"type":"Teleported"}"#, None).is_err());
        assert!(decode(b"not json", None).is_err());
    }
}
