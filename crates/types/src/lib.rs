//! The words every other crate speaks: ids, money, time, limits, digests, and the structs that more than one
//! crate puts on a wire.
//!
//! Invariant: nothing here reads a clock, rolls a die, opens a socket or names a driver. Traits in [`edge`] say
//! what those look like; their real bodies live in `net` and their fakes in `sim`.

#![warn(missing_docs)]

pub mod approval;
pub mod call;
pub mod chain;
pub mod digest;
pub mod edge;
pub mod facts;
pub mod failure;
pub mod grant;
pub mod id;
pub mod limits;
pub mod llm;
pub mod money;
pub mod nearest;
pub mod priority;
pub mod reference;
pub mod secret;
pub mod step;
pub mod stop;
pub mod strategy;
pub mod time;
pub mod tool;
pub mod trace;
pub mod zone;

pub use chain::{ChainHead, link};
pub use digest::Digest;
pub use facts::{AccountFacts, Choice, Forbids, Grounds, Offered, Out, Payer, Ruled, ToolFacts, Way};
pub use failure::{Acted, Failure};
pub use grant::{AdmissionFacts, Denial, Grant, PriceSource, Route, Tried};
pub use id::*;
pub use limits::Limits;
pub use money::{MicroUsd, Overflow, Price, Tokens};
pub use nearest::nearest;
pub use priority::Priority;
pub use reference::{Reference, SecretName};
pub use secret::Secret;
pub use stop::StopScope;
pub use strategy::Strategy;
pub use time::{At, Dur};
pub use tool::{EffectClass, EffectKey, Finding, ToolDef, ToolName};
pub use trace::{SpanId, TraceId, TraceParent};
pub use zone::Zone;
