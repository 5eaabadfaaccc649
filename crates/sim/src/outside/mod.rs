//! The outside: a model and tools that answer, refuse, fail, answer late, twice or never.
//!
//! Each send's fate comes from the seed, its key and how often that key was sent, not from a shared stream: a shorter
//! list of steps meets the same outside. Once the world is calm every send succeeds at once.

pub(crate) mod model;

use std::collections::BTreeMap;

use lantern_engine::{Done, Input, LlmAsk, StepId};
use lantern_types::{AdmissionFacts, Dur, EffectClass, EffectKey, Failure, Finding, ToolName};
use serde_json::{Value, json};

use crate::rng::Rng;

/// What is asked of the outside.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A model call, with the wire names of the tools on offer and what was admitted.
    Model { ask: LlmAsk, offered: Vec<String>, facts: AdmissionFacts },
    /// A tool call.
    Tool { name: ToolName, arguments: Value },
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) enum Back {
    /// The result of a send.
    Result(Result<Done, Failure>),
    /// The answer to a question about a send.
    Answer(Option<Finding>),
}

/// Something on its way back.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) slot: usize,
    pub(crate) step: StepId,
    pub(crate) generation: u32,
    pub(crate) back: Back,
    /// What was admitted, for replies that use all of it.
    pub(crate) facts: Option<AdmissionFacts>,
}

impl Parcel {
    /// The input that it is for the run.
    pub(crate) fn input(self) -> Input {
        let (step, generation) = (self.step, self.generation);
        match self.back {
            Back::Result(result) => Input::Performed { step, generation, result },
            Back::Answer(finding) => Input::Found { step, generation, finding },
        }
    }
}

/// What becomes of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    AnsweredTwice,
    /// Certainly nothing was done, and the answer says so; whether to try again.
    Refused(bool),
    /// The same, with a time to wait.
    RateLimited,
    /// The answer is an error that says nothing; whether a true answer follows.
    Broken(bool),
    /// No answer.
    Silent,
    /// A larger answer than is allowed.
    Huge,
}

const FATES: [(u64, Fate); 10] = [
    (54, Fate::Answered),
    (8, Fate::AnsweredTwice),
    (9, Fate::Refused(true)),
    (3, Fate::Refused(false)),
    (5, Fate::RateLimited),
    (7, Fate::Broken(false)),
    (6, Fate::Broken(true)),
    (7, Fate::Silent),
    (1, Fate::Huge),
    (0, Fate::Answered),
];

/// The outside of one world.
#[derive(Debug)]
pub(crate) struct Outside {
    seed: u64,
    sends: BTreeMap<String, u64>,
    /// Whether what was sent under a key was done; what was never sent was not.
    acted: BTreeMap<String, bool>,
    /// From now on everything succeeds.
    pub(crate) calm: bool,
}

/// What a send leads to.
pub(crate) struct Sent {
    /// Whether the other side certainly did nothing, and says so.
    pub(crate) refused: bool,
    /// Whether the other side does it, whatever it says.
    pub(crate) acted: bool,
    pub(crate) results: Vec<Result<Done, Failure>>,
}

impl Outside {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, sends: BTreeMap::new(), acted: BTreeMap::new(), calm: false }
    }

    /// Sends something under a key.
    pub(crate) fn send(&mut self, key: &EffectKey, effect: EffectClass, ask: &Ask) -> Sent {
        let name = key.to_string();
        let nth = self.sends.entry(name.clone()).or_default();
        *nth += 1;
        let mut rng = Rng::of(self.seed, &format!("{name}|{nth}"));
        let fate = if self.calm { Fate::Answered } else { rng.weighted(&FATES, Fate::Answered) };
        // The other side absorbs a repeat of the same key: it gives the first answer again, under every class.
        let mut answer = Rng::of(self.seed, &name);
        let done = match ask {
            Ask::Model { ask, offered, facts } => model::reply(&mut rng, ask, offered, facts),
            Ask::Tool { name, arguments } => tool(&mut answer, name, arguments, effect),
        };
        let refused = matches!(fate, Fate::Refused(_) | Fate::RateLimited);
        // Half an answer and none say nothing: the other side may have done it or not.
        let idle = match fate {
            Fate::Broken(false) | Fate::Silent => rng.chance(50),
            _ => refused,
        };
        let acted = !idle;
        *self.acted.entry(name).or_default() |= acted;
        Sent { refused, acted, results: results(fate, done) }
    }

    /// Whether what was sent under a key was done.
    pub(crate) fn acted(&self, key: &EffectKey) -> bool {
        self.acted.get(&key.to_string()).copied().unwrap_or(false)
    }

    /// Asks what became of a key. What the other side says is true; now and then it does not know.
    pub(crate) fn ask(&mut self, key: &EffectKey, effect: EffectClass, ask: &Ask) -> Option<Finding> {
        let name = key.to_string();
        let nth = self.sends.entry(format!("{name}|asked")).or_default();
        *nth += 1;
        if !self.calm && Rng::of(self.seed, &format!("{name}|asked|{nth}")).chance(40) {
            return None;
        }
        if !self.acted.get(&name).copied().unwrap_or(false) {
            return Some(Finding::DidNotHappen);
        }
        let mut answer = Rng::of(self.seed, &name);
        match ask {
            Ask::Tool { name, arguments } => match tool(&mut answer, name, arguments, effect) {
                Done::Output(output) => Some(Finding::Happened(output)),
                Done::Reply { .. } => None,
            },
            Ask::Model { .. } => None,
        }
    }
}

fn results(fate: Fate, done: Done) -> Vec<Result<Done, Failure>> {
    let unknown = Failure::unknown("upstream_error", "half an answer");
    // Somebody else can be asked for what a model did not answer.
    let elsewhere = matches!(done, Done::Reply { .. });
    match fate {
        Fate::Answered => vec![Ok(done)],
        Fate::AnsweredTwice => vec![Ok(done.clone()), Ok(done)],
        Fate::Refused(true) => vec![Err(Failure { elsewhere, ..Failure::transient("busy", "not now") })],
        Fate::Refused(false) => vec![Err(Failure::refused("bad_request", "never"))],
        Fate::RateLimited => {
            let retry_after = Some(Dur::from_secs(7));
            vec![Err(Failure { retry_after, ..Failure::transient("rate_limited", "slow down") })]
        }
        Fate::Broken(false) => vec![Err(Failure { elsewhere, ..unknown })],
        Fate::Broken(true) => vec![Err(unknown), Ok(done)],
        Fate::Silent => Vec::new(),
        Fate::Huge => match done {
            Done::Output(_) => vec![Ok(Done::Output(json!("x".repeat(64))))],
            reply @ Done::Reply { .. } => vec![Ok(reply)],
        },
    }
}

/// A tool that computes gives the same for the same; what a tool does in the world has its own receipt.
fn tool(rng: &mut Rng, name: &ToolName, arguments: &Value, effect: EffectClass) -> Done {
    Done::Output(match effect {
        EffectClass::Pure | EffectClass::Idempotent => json!({ "of": arguments }),
        _ => json!({ "did": name.as_str(), "receipt": rng.below(1_000_000) }),
    })
}
