//! The conformance suite: what the store promises, on both databases.

mod journal;
mod leases;
mod sealing;
mod sqlite;
mod support;
mod tenancy;
mod transactions;
