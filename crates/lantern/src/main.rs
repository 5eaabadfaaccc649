//! The `lantern` program: reads the command line and hands over.
//!
//! Decides nothing itself. What the command line looks like is in [`cli`].

mod cli;
mod credentials;
mod env;
mod server;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let Cli { globals, command } = Cli::parse();
    match command {
        Command::Dev(args) => server::dev(&args, globals.json()),
        Command::Serve(args) => server::serve(&args, globals.json()),
        Command::Migrate(args) => server::migrate(&args),
        Command::Client(verb) => cli::run(&globals, verb),
    }
}
