//! An event's envelope, read strictly: a member that is not known, or that comes twice, is refused.
//!
//! One flat struct for all kinds, so that a line is read in one pass. Which members a kind has is checked where it is followed.

use std::borrow::Cow;
use std::fmt;

use lantern_engine::{Continues, Forks, Outcome, ProgramKind, Recalled, Reuse, StepKind};
use lantern_types::approval::{CapAnswer, OverCap};
use lantern_types::{Acted, Digest, EffectClass, Grant, Grounds, MicroUsd, StopScope};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// Text that is borrowed from the line where it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visit)
    }
}

/// One line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Envelope<'a> {
    pub(crate) seq: u64,
    pub(crate) at: i64,
    #[serde(rename = "type", borrow)]
    pub(crate) name_of_kind: Text<'a>,
    #[serde(default, borrow)]
    pub(crate) step: Option<Text<'a>>,
    pub(crate) kind: Option<StepKind>,
    #[serde(default, borrow)]
    pub(crate) name: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(crate) parent: Option<Parent<'a>>,
    pub(crate) effect: Option<EffectClass>,
    pub(crate) due: Option<i64>,
    #[serde(default)]
    pub(crate) approval: bool,
    pub(crate) generation: Option<u32>,
    pub(crate) attempt: Option<u32>,
    pub(crate) grant: Option<Grant>,
    #[serde(default, borrow)]
    pub(crate) code: Option<Text<'a>>,
    #[serde(default)]
    pub(crate) cost: MicroUsd,
    #[serde(default)]
    pub(crate) tokens_in: u64,
    #[serde(default)]
    pub(crate) tokens_out: u64,
    pub(crate) claimed: Option<MicroUsd>,
    pub(crate) hold: Option<MicroUsd>,
    #[serde(default, borrow)]
    pub(crate) provider: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(crate) model: Option<Text<'a>>,
    pub(crate) acted: Option<Acted>,
    #[serde(default)]
    pub(crate) unconfirmed: MicroUsd,
    #[serde(default)]
    pub(crate) owing: bool,
    pub(crate) tells_by: Option<i64>,
    #[serde(default)]
    pub(crate) crashed: bool,
    #[serde(default)]
    pub(crate) readmit: bool,
    pub(crate) happened: Option<bool>,
    #[serde(default, borrow)]
    pub(crate) by: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(crate) stop: Option<Text<'a>>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) cap: Option<MicroUsd>,
    pub(crate) manifest: Option<Digest>,
    pub(crate) policy: Option<Digest>,
    pub(crate) catalogue: Option<Digest>,
    pub(crate) limits: Option<Digest>,
    pub(crate) continues: Option<Continues>,
    pub(crate) forks: Option<Forks>,
    pub(crate) depth: Option<u32>,
    pub(crate) grounds: Option<Box<Grounds>>,
    // What no rule here looks at, but that it is what it is.
    #[serde(default, rename = "agent", borrow)]
    _agent: Option<Text<'a>>,
    #[serde(default, rename = "version", borrow)]
    _version: Option<Text<'a>>,
    #[serde(rename = "program")]
    _program: Option<ProgramKind>,
    #[serde(rename = "recall")]
    _recall: Option<Recalled>,
    #[serde(rename = "deadline")]
    _deadline: Option<i64>,
    #[serde(default, rename = "request", borrow)]
    _request: Option<Text<'a>>,
    #[serde(default, rename = "tools", borrow)]
    _tools: Option<Text<'a>>,
    #[serde(default, rename = "reason", borrow)]
    _reason: Option<Text<'a>>,
    #[serde(default, rename = "output", borrow)]
    _output: Option<Text<'a>>,
    #[serde(rename = "end")]
    _end: Option<Reuse>,
    /// Of a question whether a cap may be passed: what is asked.
    pub(crate) over: Option<OverCap>,
    /// And what was said.
    pub(crate) answer: Option<CapAnswer>,
    /// Of a model call that a program made: which one.
    #[serde(default, borrow)]
    pub(crate) call: Option<Text<'a>>,
    /// Whether nobody knows what it cost.
    #[serde(default)]
    pub(crate) lost: bool,
    #[serde(default, rename = "key", borrow)]
    _key: Option<Text<'a>>,
    #[serde(rename = "scope")]
    _scope: Option<StopScope>,
    #[serde(rename = "period")]
    _period: Option<u32>,
    #[serde(rename = "rounds")]
    _rounds: Option<u32>,
    #[serde(default, rename = "run", borrow)]
    _run: Option<Text<'a>>,
}

/// Of a step: what it belongs to. Of a run: who started it, which no rule here looks at.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Parent<'a> {
    Step(#[serde(borrow)] Text<'a>),
    Run(#[expect(dead_code, reason = "that it can be read is all")] lantern_engine::Parent),
}

impl<'a> Envelope<'a> {
    pub(crate) fn read(line: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}
