//! What becomes of a question to a person, as an append says it beside its events; and the question whether a cap may be passed. No
//! user content.

use serde::{Deserialize, Serialize};

use crate::call::{AccountId, Owner, Period};
use crate::{ApprovalId, At, Digest, MicroUsd, uuid8};

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

/// That a soft cap does not leave enough for a step, and a person is asked whether more may be spent. The question is the account's
/// and not the run's: however many runs it keeps waiting, it is asked once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverCap {
    /// Whose cap: `tenant`, or `agent:` and its id.
    pub owner: String,
    /// Of which kind of period.
    pub period: Period,
    /// When that began.
    pub began_at: At,
    /// When it is over, and the question with it.
    pub ends_at: At,
    /// How many questions of this account were closed before.
    pub asked: u32,
    /// What may be spent, with what was granted before.
    pub cap: MicroUsd,
    /// What is spent.
    pub spent: MicroUsd,
    /// What the step could cost.
    pub hold: MicroUsd,
}

impl OverCap {
    /// The same for every run that asks it.
    pub fn id(&self) -> ApprovalId {
        question_of(&self.owner, self.period, self.began_at, self.asked)
    }

    /// Which account it is of; `None` when its owner is of a kind that this build does not know.
    pub fn account(&self) -> Option<AccountId> {
        let owner: Owner = self.owner.parse().ok()?;
        Some(AccountId { owner, period: self.period, began_at: self.began_at })
    }
}

/// The question of an account after so many were closed.
pub fn question(of: AccountId, asked: u32) -> ApprovalId {
    question_of(&of.owner.to_string(), of.period, of.began_at, asked)
}

fn question_of(owner: &str, period: Period, began_at: At, asked: u32) -> ApprovalId {
    let words = format!("over cap|{owner}|{}|{}|{asked}", period.as_str(), began_at.micros());
    ApprovalId::from_uuid(uuid8(Digest::of(words.as_bytes())))
}

/// What became of a question about a cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapAnswer {
    /// `granted`, `denied`, `expired` when the period ended, or `withdrawn` when the cap was set anew.
    pub status: String,
    /// Who decided; empty when nobody did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// How much more may be spent; without it, with a yes, what the rest of the period takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<MicroUsd>,
}

/// What an append does to questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Asks one.
    Asked(Asked),
    /// Closes one.
    Closed(Closed),
    /// Asks, unless it is asked already, whether a cap may be passed, and says that the run waits for the answer.
    OverCap {
        /// The step that waits.
        step: String,
        /// The seq of the event that asks.
        seq: i64,
        /// When.
        at: At,
        /// What is asked.
        over: OverCap,
    },
}
