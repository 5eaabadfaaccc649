//! Where a step stands, as its events say.

use lantern_engine::StepKind;
use lantern_types::{Acted, EffectClass, Grant, MicroUsd, Tried};

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Waits for its admission.
    Requested,
    /// A person is asked whether it may be performed.
    Asking,
    /// A person said that it may.
    Granted,
    /// A person said no, or nobody said anything in time.
    Refused,
    /// Outside.
    Performing,
    /// A wait, a child, a map or a race.
    Waiting,
    /// Between two attempts.
    Backoff { due: i64, readmit: bool },
    /// Nobody knows whether it happened.
    InDoubt,
    /// Somebody found out.
    Resolved(bool),
    /// Over.
    Final,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) kind: StepKind,
    pub(crate) name: Option<String>,
    pub(crate) effect: EffectClass,
    /// Whether a person must say that it may be performed.
    pub(crate) approval: bool,
    /// When it ends by itself.
    pub(crate) due: Option<i64>,
    pub(crate) stand: Stand,
    /// Whether people are asked, and have not answered, whether a cap may be passed for it.
    pub(crate) over_cap: bool,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
    /// Whether an earlier send under this generation may have acted.
    pub(crate) resent: bool,
    /// The ways that came to nothing.
    pub(crate) tried: Vec<Tried>,
    pub(crate) grant: Option<Grant>,
    /// Whether it is over and its child has yet to tell what it spent.
    pub(crate) owing: bool,
    /// How many steps inside it are not over.
    pub(crate) inside: u32,
    pub(crate) parent: Option<usize>,
}

impl Step {
    pub(crate) fn hold(&self) -> MicroUsd {
        self.grant.as_ref().map_or(MicroUsd::ZERO, |grant| grant.hold)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stand != Stand::Final
    }

    /// Whether it is dropped with its hold, because its child may have spent some of it.
    pub(crate) fn would_owe(&self) -> bool {
        self.kind == StepKind::Child && self.hold() > MicroUsd::ZERO
    }

    /// Whether an effect of it is, or may have been, outside.
    pub(crate) fn may_have_acted(&self) -> Acted {
        match self.stand {
            Stand::Performing | Stand::InDoubt | Stand::Backoff { readmit: false, .. } => Acted::Unknown,
            Stand::Waiting if self.kind == StepKind::Child => Acted::Unknown,
            _ => Acted::No,
        }
    }
}
