//! The deterministic simulator, tier 1: many runs of the engine in a world that misbehaves, from one seed.
//!
//! A [`world::World`] holds runs, a clock, durable journals, inboxes and outboxes, an outside that loses, repeats and
//! delays, and the worker's part in miniature. Every step of it is an [`op::Op`] with its own dice, so a list of them
//! can be replayed, cut and shown. [`check`] watches what became durable and what was sent, and shares no rule with
//! the generators or the engine.
//!
//! Invariant: the same seed gives the same trace, on any machine. There is no runtime, no thread and no clock here.

pub mod check;
pub mod coverage;
mod generate;
pub mod journal;
pub mod op;
mod outside;
pub mod rng;
pub mod seed;
pub mod shrink;
#[cfg(feature = "system")]
pub mod system;
pub mod world;
