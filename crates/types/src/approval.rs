//! What becomes of a question to a person, as an append says it beside its events. No user content.

use crate::{ApprovalId, At};

/// Where a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nobody has decided yet.
    Pending,
    /// Somebody said yes.
    Granted,
    /// Somebody said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The run no longer asks: it is over, or goes on without the step.
    Withdrawn,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Granted, Self::Denied, Self::Expired, Self::Withdrawn];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The status of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// A question that a run asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The same after any crash.
    pub id: ApprovalId,
    /// The step that waits.
    pub step: String,
    /// The seq of the event that asks.
    pub seq: i64,
    /// When it was asked.
    pub at: At,
    /// When it lapses.
    pub due: At,
}

/// A question that is asked no longer, if it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Which.
    pub id: ApprovalId,
    /// Anything but pending.
    pub status: Status,
    /// The seq of the event that says so.
    pub seq: i64,
    /// When.
    pub at: At,
}

/// What an append does to questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Asks one.
    Asked(Asked),
    /// Closes one.
    Closed(Closed),
}
