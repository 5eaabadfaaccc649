//! The conformance suite: what the store promises, on both databases.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what tests share is a test too"
)]

mod approvals;
mod asks;
mod audit;
mod backup;
mod bucket;
mod escrow;
mod fake_bucket;
mod journal;
mod leases;
mod limits;
mod lists;
mod outbox;
mod parsers;
#[cfg(test)]
mod pending;
mod policies;
#[cfg(test)]
mod postgres;
mod receipts;
mod retention;
mod sealing;
mod secrets;
mod sessions;
mod shares;
mod sign_ins;
mod sqlite;
mod stops;
mod support;
mod sweep;
mod tenancy;
mod tickets;
mod tls;
mod traces;
mod transactions;
mod watched;
#[cfg(test)]
mod workloads;
