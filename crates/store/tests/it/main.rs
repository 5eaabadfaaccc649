//! The conformance suite: what the store promises, on both databases.

#![expect(clippy::unwrap_used, reason = "what tests share is a test too")]

mod journal;
mod leases;
mod postgres;
mod sealing;
mod sqlite;
mod support;
mod tenancy;
mod transactions;
