//! The `lantern` program from the outside.

mod cli;
mod cli_fake;
mod cli_follow;
mod cli_help;
#[cfg(test)]
mod e2e;
