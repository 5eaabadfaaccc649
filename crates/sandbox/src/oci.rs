//! Boxes by an OCI runtime: crun or runc on the shared kernel, runsc on one of its own.

pub mod config;
mod runtime;

pub(crate) use runtime::{Flavour, Runtime, found};
