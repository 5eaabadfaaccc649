//! How work outside fails, in the one shape that the engine's retry rules read.

use serde::{Deserialize, Serialize};

use crate::Dur;

/// Whether a failed effect may nevertheless have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acted {
    /// It certainly did not: refused before sending, a definitive 4xx, a 429.
    No,
    /// It may have: a timeout, a reset, a 5xx, half a reply, a crash.
    Unknown,
    /// It did, and what it gave cannot be used: a reply that breaks its schema.
    Yes,
}

/// A failed attempt at an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, documented, in snake_case: `provider_rate_limited`, `tool_failed`, `timeout`, …
    pub code: &'static str,
    /// For people. May quote the outside, so it is user content and is sealed.
    pub message: String,
    /// Whether the effect may have happened all the same.
    pub acted: Acted,
    /// Whether another attempt could succeed.
    pub retryable: bool,
    /// How long the other side asked us to wait.
    pub retry_after: Option<Dur>,
    /// Whether somebody else can be asked instead, at once.
    pub elsewhere: bool,
}

impl Failure {
    /// A failure that no retry will mend and that certainly had no effect outside.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            acted: Acted::No,
            retryable: false,
            retry_after: None,
            elsewhere: false,
        }
    }
    /// A failure that may pass, and that certainly had no effect outside.
    pub fn transient(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            acted: Acted::No,
            retryable: true,
            retry_after: None,
            elsewhere: false,
        }
    }
    /// A failure after which nobody knows whether the effect happened.
    pub fn unknown(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            acted: Acted::Unknown,
            retryable: true,
            retry_after: None,
            elsewhere: false,
        }
    }
}
