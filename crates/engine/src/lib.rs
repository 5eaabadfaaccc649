//! What a run *is*: inputs become events, events become state, state names the effects that the world owes it.
//!
//! ```text
//! decide(run, input)  -> the events, and the run after them     rules live here, and only here
//! evolve(run, event)  -> the run after one event                total: cannot fail, has no rules
//! effects(run, event) -> what the world must now do             derivable again after any crash
//! ```
//!
//! Pure by `Cargo.toml`: no async, no clock, no randomness, no driver. Time arrives as an [`At`](lantern_types::At)
//! in the [`Context`], results arrive as [`Input`]s. Duplicated inputs are ignored, so delivery may be at least once.

pub mod approval;
mod carried;
mod decide;
pub mod effect;
pub mod event;
mod fork;
mod input;
pub mod manifest;
mod program;
mod progress;
mod recall;
mod retry;
mod run;
mod step;
pub mod template;
mod trace;
mod usage;
pub mod wire;

pub use carried::Carried;
pub use decide::{Context, Decision, Refused, decide, may_decide, offered_tools, signal_key, start};
pub use effect::{Effect, child_run, continuation, effects, questions};
pub use event::{Content, Continues, Event, FORMAT, Fact, Outcome, Parent, StepId, StepKind};
pub use fork::{Differs, End, Forks, NoSuchStep, Reusable, Reuse, compare, reusable};
pub use input::{Arrival, Done, Input, Start, taken_up};
pub use manifest::{Manifest, ProgramKind, Terms};
pub use program::{LlmAsk, llm_ask, timeout, user_text};
pub use recall::{Recall, Recalled, exchange};
pub use retry::Retry;
pub use run::{Children, Phase, Run, Status, Step, StepState, Work, evolve};
pub use trace::span_of;
pub use usage::{Tally, ended};
