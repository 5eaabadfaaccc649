//! What can happen to a run. Everything the engine learns arrives as one of these, and may arrive twice.

use std::sync::Arc;

use lantern_types::approval::{CapAnswer, OverCap};
use lantern_types::llm::LlmReply;
use lantern_types::{
    AgentId, Denial, Digest, Failure, Finding, Grant, MicroUsd, StopId, StopScope, TraceParent, VersionId,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::carried::Carried;
use crate::event::{Continues, Outcome, Parent, StepId};
use crate::fork::{Forks, Reusable};
use crate::recall::Recall;

/// How a run begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// The agent.
    pub agent: AgentId,
    /// The version.
    pub version: VersionId,
    /// Its digest.
    pub manifest: Digest,
    /// What it is asked.
    pub input: Arc<Value>,
    /// Who started it, when a run did.
    pub parent: Option<Parent>,
    /// How many runs stand above it.
    pub depth: u32,
    /// What it goes on from, when it continues a run as new.
    pub continues: Option<Continues>,
    /// What an agent carries on from it.
    pub carried: Option<Arc<Carried>>,
    /// What is recalled in it of a session's earlier exchanges.
    pub recall: Option<Arc<Recall>>,
    /// What it is a fork of, and the steps that it reuses.
    pub forks: Option<(Forks, Arc<[Reusable]>)>,
    /// The span that it belongs under, when somebody named one.
    pub trace: Option<TraceParent>,
    /// The most it may spend.
    pub cap: MicroUsd,
    /// The policy and catalogue in force.
    pub policy: Digest,
    /// See `policy`.
    pub catalogue: Digest,
}

/// A step's work, done.
#[derive(Clone, Debug)]
pub enum Done {
    /// A model replied; `violations` say how the reply breaks the output schema it was given.
    Reply {
        /// The reply.
        reply: LlmReply,
        /// Worded for the model.
        violations: Vec<String>,
    },
    /// A tool returned.
    Output(Value),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed, or a worker has just taken the run up with nothing outside.
    Wake,
    /// A worker has taken the run over from one that died: what was outside is of unknown outcome.
    Recovered,
    /// A requested step was admitted.
    Admit {
        /// The step.
        step: StepId,
        /// The admission.
        grant: Box<Grant>,
    },
    /// A requested step was refused.
    Deny {
        /// The step.
        step: StepId,
        /// The refusal.
        denial: Denial,
    },
    /// A soft cap leaves too little for a requested step, and people are asked.
    AskCap {
        /// The step.
        step: StepId,
        /// What is asked.
        over: OverCap,
    },
    /// The question that a requested step waits for is closed.
    CapAnswered {
        /// The step.
        step: StepId,
        /// How.
        answer: CapAnswer,
    },
    /// An emergency stop did not let a step be admitted.
    Halt {
        /// The stop.
        stop: StopId,
        /// What it halts.
        scope: StopScope,
        /// Why it was set.
        reason: String,
    },
    /// A stop that held the run was lifted.
    StopLifted {
        /// The stop.
        stop: StopId,
    },
    /// An attempt at a step came back.
    Performed {
        /// The step.
        step: StepId,
        /// The generation that was sent.
        generation: u32,
        /// What came back.
        result: Result<Done, Failure>,
    },
    /// The other side of a step in doubt was asked what became of it.
    Found {
        /// The step.
        step: StepId,
        /// The generation that was asked about.
        generation: u32,
        /// What it knows, if anything.
        finding: Option<Finding>,
    },
    /// Something arrived through the run's inbox.
    Arrived(Arrival),
}

/// What may arrive from outside the lease holder: stored in the run's inbox until it is drained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Arrival {
    /// A named signal.
    Signal {
        /// Its name.
        name: String,
        /// Its value.
        value: Value,
        /// The sender's idempotency key: of several signals of one name and key, the run receives the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// A program that the run has under way called a model through this server.
    Metered {
        /// Names the call: of several of one name, the run takes in the first.
        call: Digest,
        /// Who answered.
        provider: String,
        /// Which model.
        model: String,
        /// What was held for it, of what the run has.
        hold: MicroUsd,
        /// What it cost.
        cost: MicroUsd,
        /// Prompt tokens.
        tokens_in: u64,
        /// Completion tokens.
        tokens_out: u64,
        /// Whether nobody knows what it cost.
        lost: bool,
    },
    /// A person's decision on an approval.
    Approval {
        /// The waiting step.
        step: StepId,
        /// Yes or no.
        granted: bool,
        /// Who.
        by: String,
        /// What they said besides.
        #[serde(default)]
        note: Option<Value>,
        /// What they answered: what the step gives. `None`: their note.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<Value>,
    },
    /// Someone found out whether a step in doubt happened.
    Resolution {
        /// The step.
        step: StepId,
        /// Whether it had happened.
        happened: bool,
        /// Its output, if it had.
        #[serde(default)]
        output: Value,
        /// Who says so.
        by: String,
        /// Of which attempt under a key of its own, so that it is not taken for another one. Earlier builds did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u32>,
    },
    /// A child run ended.
    ChildFinished {
        /// The child step.
        step: StepId,
        /// Of which of its tries the run was. Builds that tried a child once do not say, nor does whoever gives up a run
        /// that cannot be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u32>,
        /// How.
        outcome: Outcome,
        /// What it spent.
        spent: MicroUsd,
        /// Its output, or its error's code and message.
        output: Value,
    },
    /// Stop.
    Cancel {
        /// Who asks.
        by: String,
        /// Why.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Start nothing new.
    Pause {
        /// Who asks.
        by: String,
    },
    /// Go on.
    Resume {
        /// Who asks.
        by: String,
    },
}

/// The order in which whoever takes a run up gives it what it learns: `first`, which says whether a crash is to be mended
/// and lets time pass, and then what lay in the inbox.
///
/// An order to stop goes before all: a run that lives for a moment would otherwise be over whenever it heard of one. So does
/// an order to pause that nobody has heard yet: it holds back what a crash would have sent again. When it is the last word, the
/// orders before it are void.
pub fn taken_up(first: Input, mut inbox: Vec<Input>) -> Vec<Input> {
    let is_pause = |input: &Input| matches!(input, Input::Arrived(Arrival::Pause { .. }));
    let steers = |input: &Input| is_pause(input) || matches!(input, Input::Arrived(Arrival::Resume { .. }));
    let cancel = inbox.iter().position(|input| matches!(input, Input::Arrived(Arrival::Cancel { .. })));
    let cancel = cancel.map(|n| inbox.remove(n));
    let pause = match inbox.iter().rposition(steers) {
        Some(last) if inbox.get(last).is_some_and(is_pause) => {
            let pause = inbox.remove(last);
            inbox.retain(|input| !steers(input));
            Some(pause)
        }
        Some(_) => {
            let earliest = inbox.iter().position(steers);
            earliest.filter(|n| inbox.get(*n).is_some_and(is_pause)).map(|n| inbox.remove(n))
        }
        None => None,
    };
    cancel.into_iter().chain(pause).chain([first]).chain(inbox).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_to_stop_or_a_pause_that_is_the_last_word_goes_before_the_crash() {
        let named = |input: &Input| match input {
            Input::Recovered => 'c',
            Input::Arrived(Arrival::Pause { .. }) => 'p',
            Input::Arrived(Arrival::Resume { .. }) => 'r',
            Input::Arrived(Arrival::Cancel { .. }) => 'x',
            _ => 's',
        };
        let letter = |name: char| match name {
            'p' => Input::Arrived(Arrival::Pause { by: String::new() }),
            'r' => Input::Arrived(Arrival::Resume { by: String::new() }),
            'x' => Input::Arrived(Arrival::Cancel { by: String::new(), reason: None }),
            _ => Input::Arrived(Arrival::Signal { name: String::new(), value: Value::Null, key: None }),
        };
        for (inbox, want) in [
            ("", "c"),
            ("s", "cs"),
            ("p", "pc"),
            ("spr", "pcsr"),
            ("rp", "pc"),
            ("rs", "crs"),
            ("pps", "pcs"),
            ("srpsx", "xpcss"),
            ("prx", "xpcr"),
            ("x", "xc"),
        ] {
            let order = taken_up(Input::Recovered, inbox.chars().map(letter).collect());
            assert_eq!(order.iter().map(named).collect::<String>(), want, "{inbox}");
        }
    }
}
