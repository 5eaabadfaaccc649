//! The `lantern` program: reads the command line and hands over.
//!
//! Decides nothing itself. What the command line looks like is in [`cli`].

mod cli;
mod credentials;
mod env;
#[cfg(test)]
mod generated;
mod server;

use std::process::ExitCode;

use cli::{Cli, Command};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let Cli { globals, command } = match cli::read(&args) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    match command {
        Command::Dev(args) => server::dev(&args, &globals.console()),
        Command::Serve(args) => server::serve(&args, &globals.console()),
        Command::Migrate(args) => server::migrate(&args, &globals.console()),
        Command::Backup(args) => server::backup(&args, &globals.console()),
        Command::Restore(args) => server::restore(&args, &globals.console()),
        Command::Stop(args) => match args.of_tenant() {
            Some(asked) => cli::stop(&globals, asked),
            None => server::stop(&args, &globals.console()),
        },
        Command::Limits(args) if args.asks() => cli::limits(&globals),
        Command::Limits(args) => server::limits(&args, &globals.console()),
        Command::Admin(verb) => server::admin(&verb, &globals.console()),
        Command::Config(verb) => server::configuration(&verb, &globals.console()),
        Command::Client(cli::Verb::Receipts(cli::ReceiptsVerb::RotateKey(args))) => {
            server::rotate(&args, &globals.console())
        }
        Command::Client(verb) => cli::run(&globals, verb),
    }
}
