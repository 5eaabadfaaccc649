//! The server process: one binary that is API, worker and store at once.
//!
//! `dev` and `serve` differ in configuration only; what runs is the same. Nothing here knows a route or a rule.

mod account;
mod admin;
mod advice;
mod assemble;
mod backup;
mod bodies;
mod boxes;
mod browser;
mod config;
mod dashboard;
mod key;
mod limits;
mod logging;
mod migrate;
mod models;
mod port;
mod reload;
mod rotate;
mod sso;
mod stop;
mod traces;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::{Console, Exit, Failure};
use crate::env;
pub(crate) use admin::AdminVerb;
use advice::Advice;
use assemble::{Mode, Ready};
pub(crate) use backup::{BackupArgs, RestoreArgs};
pub(crate) use browser::{open, screen};
use config::Config;
pub(crate) use config::ExplainArgs;
#[cfg(test)]
pub(crate) use config::default_of;
pub(crate) use limits::LimitsArgs;
pub(crate) use migrate::MigrateArgs;
pub(crate) use rotate::RotateArgs;
pub(crate) use stop::StopArgs;

/// Flags of `lantern dev`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where to keep the database, the key and large payloads.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", value_parser = config::address)]
    listen: Option<SocketAddr>,
    /// Do not open the dashboard in a browser, which is done at a terminal of a desktop only.
    #[arg(long)]
    no_open: bool,
}

/// Flags of `lantern serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A TOML file; flags and environment variables win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to keep the key, large payloads and, without PostgreSQL, the database.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", value_parser = config::address)]
    listen: Option<SocketAddr>,
}

/// Runs `lantern dev` until it is told to stop.
pub(crate) fn dev(args: &DevArgs, console: &Console) -> ExitCode {
    let run = || {
        let local = env::read_local().map_err(|(what, next)| Advice::config(what, next))?;
        env::refuse_strays().map_err(|(what, next)| Advice::config(what, next))?;
        logging::start("warn", console.json())?;
        tracing::info!(local, "whether {} is part of the configuration", env::LOCAL_FILE);
        let config = Config::dev(args.listen, args.data_dir.clone())?;
        let opens = browser::wanted(args.no_open, console.terminal && !console.json(), screen());
        block_on(assemble::run(config, Mode::Dev, None, |ready| {
            announce(console, ready);
            if opens {
                open(&ready.api);
            }
        }))
    };
    exit(console, run())
}

/// Runs `lantern serve` until it is told to stop.
pub(crate) fn serve(args: &ServeArgs, console: &Console) -> ExitCode {
    let run = || {
        env::refuse_strays().map_err(|(what, next)| Advice::config(what, next))?;
        logging::start("info", true)?;
        let (file, listen, data_dir) = (args.config.clone(), args.listen, args.data_dir.clone());
        let read = move || Config::serve(file.as_deref(), listen, data_dir.clone());
        let config = read()?;
        logging::set(&config.log_level)?;
        config.log();
        let again: reload::Read = Box::new(read);
        block_on(assemble::run(config, Mode::Serve, Some(again), |ready| announce(console, ready)))
    };
    exit(console, run())
}

/// Runs `lantern migrate`.
pub(crate) fn migrate(args: &MigrateArgs, console: &Console) -> ExitCode {
    let run = || {
        logging::start("warn", true)?;
        block_on(migrate::run(args))
    };
    let done = run();
    if done.is_ok() {
        let answer = json!({ "migrated": true, "rolesCreated": args.create_roles });
        if let Err(failure) = console.answer(&answer, || "the database is up to date".to_owned()) {
            console.fail(&failure);
            return failure.exit.into();
        }
    }
    exit(console, done)
}

/// Runs `lantern backup`.
pub(crate) fn backup(args: &BackupArgs, console: &Console) -> ExitCode {
    told(console, backup::make(args, console))
}

/// Runs `lantern restore`.
pub(crate) fn restore(args: &RestoreArgs, console: &Console) -> ExitCode {
    told(console, backup::restore(args, console))
}

/// Runs `lantern stop` for a stop of the whole server.
pub(crate) fn stop(args: &StopArgs, console: &Console) -> ExitCode {
    let run = || {
        logging::start("warn", console.json())?;
        block_on(stop::run(args))
    };
    match run() {
        Ok((answer, words)) => told(console, console.answer(&answer, || words)),
        Err(error) => exit(console, Err(error)),
    }
}

/// Runs `lantern receipts rotate-key`.
pub(crate) fn rotate(args: &RotateArgs, console: &Console) -> ExitCode {
    let run = || {
        logging::start("warn", console.json())?;
        block_on(rotate::run(args))
    };
    match run() {
        Ok((answer, words)) => told(console, console.answer(&answer, || words)),
        Err(error) => exit(console, Err(error)),
    }
}

/// Runs `lantern admin`.
pub(crate) fn admin(verb: &AdminVerb, console: &Console) -> ExitCode {
    let run = || {
        logging::start("warn", console.json())?;
        block_on(admin::run(verb))
    };
    match run() {
        Ok((answer, words)) => told(console, console.answer(&answer, || words)),
        Err(error) => exit(console, Err(error)),
    }
}

/// Runs `lantern limits` for one tenant, as the operator.
pub(crate) fn limits(args: &LimitsArgs, console: &Console) -> ExitCode {
    let run = || {
        logging::start("warn", console.json())?;
        block_on(limits::run(args))
    };
    match run() {
        Ok((answer, words)) => told(console, console.answer(&answer, || words)),
        Err(error) => exit(console, Err(error)),
    }
}

/// What is asked about the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show every setting with its value in force and where it comes from
    Explain(ExplainArgs),
}

/// Runs `lantern config`.
pub(crate) fn configuration(verb: &ConfigVerb, console: &Console) -> ExitCode {
    let ConfigVerb::Explain(args) = verb;
    let explained = config::explain(args).map_err(|error| advice::failure(&error));
    told(console, explained.and_then(|explained| explained.show(console)))
}

fn told(console: &Console, done: Result<(), Failure>) -> ExitCode {
    let Err(failure) = done else { return Exit::Ok.into() };
    console.fail(&failure);
    failure.exit.into()
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(work)
}

fn exit(console: &Console, done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = advice::failure(&error);
            console.fail(&failure);
            failure.exit.into()
        }
    }
}

/// The one line that says that the server is ready. Nobody need read it: a server whose words are lost still serves.
fn announce(console: &Console, ready: &Ready) {
    let written = if console.json() {
        console.say(&serde_json::to_string(ready).unwrap_or_default())
    } else {
        let login = ready.login.as_ref().map(|login| format!("  login {} / {}", login.email, login.password));
        let login = login.unwrap_or_default();
        let model = models::shown(ready.model.as_deref());
        let stops = match ready.stops {
            0 => String::new(),
            n => format!("  EMERGENCY STOPS that hold: {n}"),
        };
        console.say(&format!(
            "Lantern is ready: {}{login}{stops}  model: {model}  next: {}",
            ready.api, ready.next
        ))
    };
    if written.is_err() {
        tracing::warn!(api = %ready.api, "ready, but nobody could be told: standard output cannot be written");
    }
}
