//! Traces: the spans of a run, made of its journal, and the bytes that a collector of OpenTelemetry takes.
//!
//! Invariant: which spans there are follows from the run's events alone, and so do their ids ([`lantern_types::trace`]): whoever
//! makes them again makes the same ones, on another machine or after a crash. Only envelopes are read, so nothing that
//! anybody said is in a span. Pure: no clock, no socket; who sends what to whom, and when, is the worker's business.

#![warn(missing_docs)]

mod names;
mod otlp;
mod span;
mod spans;

pub use otlp::{Encoding, Resource, encode};
pub use span::{Attribute, Kind, Span};
pub use spans::{About, Spans};
