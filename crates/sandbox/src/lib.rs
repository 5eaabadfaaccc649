//! Boxes: images on this machine, and other people's programs run in them.
//!
//! Invariant: a box is made only of a [`Placed`](lantern_policy::workload::Placed), and the table in [`gate`] is asked
//! again before it is. A backend counts as usable when a probe ran inside of it and saw what it must see, never because
//! a program is installed. What a box leaves behind is removed when it ends, however it ends.

#![warn(missing_docs)]

mod cgroup;
mod error;
mod exec;
pub mod gate;
mod handed;
pub mod image;
mod launch;
mod machine;
mod oci;
pub mod probe;
mod process;
mod running;
pub mod seccomp;
mod wire;

pub use error::{Error, Result};
pub use exec::{Ran, Shell};
pub use handed::{Handed, SECRETS_DIR};
pub use image::{Blob, Images, MANIFEST_MAX, Named};
pub use launch::Given;
pub use machine::{Machine, Setup};
pub use running::{Ended, Happened, Running, Stream, Why};
pub use wire::{PORT, Wire};

pub use oci::config as oci_config;
pub use process::args as process_args;
