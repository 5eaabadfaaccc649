//! `lantern stop --server` and `--lift`: an emergency stop of the whole server, by whoever has its configuration.
//!
//! Opens the database beside the server, which need not run, and changes one row. Every process reads it with its next admission.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{ArgGroup, Args};
use lantern_net::{RealClock, RealIds};
use lantern_store::stops::{NewStop, server};
use lantern_store::{Db, Error, PostgresOptions};
use lantern_types::StopId;
use lantern_types::edge::{Clock as _, IdGen as _};
use serde_json::{Value, json};

use super::advice::{self, Advice};
use super::config::Config;
use crate::cli::StopAsked;

/// Flags of `lantern stop`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("what").required(true).args(["agent", "tenant", "server", "lift"])),
    after_help = "From the answer on no process calls a model or a tool that acts on something; what is under way already ends as \
                  it ends. Runs that are halted go on when the stop is lifted. Stops of agents and tenants are set over the API, \
                  and lifted with `lantern stops lift`; that of the server with the server's own configuration."
)]
pub(crate) struct StopArgs {
    /// Halt the runs of one agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Halt every run of the tenant
    #[arg(long)]
    tenant: bool,
    /// Halt every run of everybody, as the operator of the server
    #[arg(long)]
    server: bool,
    /// Lift a stop of the whole server
    #[arg(long, value_name = "STOP")]
    lift: Option<StopId>,
    /// Why, for whoever finds a run halted
    #[arg(long, value_name = "TEXT", required_unless_present = "lift", conflicts_with = "lift")]
    reason: Option<String>,
    /// With --server or --lift: the server's TOML file; the environment wins over it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["agent", "tenant"])]
    config: Option<PathBuf>,
    /// With --server or --lift: the server's data folder, when its database is the embedded one
    #[arg(long, value_name = "DIR", conflicts_with_all = ["agent", "tenant"])]
    data_dir: Option<PathBuf>,
    /// With --server or --lift: who does it, for the record
    #[arg(long, value_name = "NAME", default_value = "operator", conflicts_with_all = ["agent", "tenant"])]
    by: String,
}

impl StopArgs {
    /// What is asked of the API; `None` for what is done to the server itself.
    pub(crate) fn of_tenant(&self) -> Option<StopAsked> {
        let reason = self.reason.clone().unwrap_or_default();
        (self.tenant || self.agent.is_some()).then(|| StopAsked { agent: self.agent.clone(), reason })
    }
}

/// Sets or lifts a stop of the whole server. Answers what was done, for programs and in words.
pub(super) async fn run(args: &StopArgs) -> Result<(Value, String)> {
    let clock = RealClock::new();
    let db = open(args.config.as_deref(), args.data_dir.clone()).await?;
    let by = args.by.clone();
    if let Some(stop) = args.lift {
        if !server::lift(&db, stop, by, clock.now()).await? {
            let next = "`lantern stops list` shows those that hold";
            let words = format!("no stop {stop} of the whole server holds");
            return Err(Advice::new("stop_not_found", words, next).into());
        }
        let told = format!("lifted the emergency stop {stop}: what it halted goes on");
        return Ok((json!({ "id": stop, "lifted": true }), told));
    }
    let id = StopId::from_uuid(RealIds::new(std::sync::Arc::new(RealClock::new())).uuid());
    let reason = args.reason.clone().unwrap_or_default();
    let new = NewStop { id, agent_name: None, reason: reason.clone(), by: by.clone(), at: clock.now() };
    server::set(&db, new).await?;
    let told = format!("all spending of the server is halted: lift it with `lantern stop --lift {id}`");
    Ok((json!({ "id": id, "scope": "server", "reason": reason, "setBy": by }), told))
}

/// The database of the server of this configuration, beside it.
pub(super) async fn open(file: Option<&Path>, data_dir: Option<PathBuf>) -> Result<Db> {
    beside(&Config::serve(file, None, data_dir)?).await
}

/// The database of a server, beside it.
pub(super) async fn beside(config: &Config) -> Result<Db> {
    let dir = &config.data_dir;
    let Some(postgres) = &config.postgres else {
        return Db::open_sqlite_beside(dir).await.map_err(|error| match error {
            Error::TooOld { .. } | Error::Unavailable(_) => {
                let what = format!("cannot open the database in {}", dir.display());
                let next = "name the data folder of a server that this build has started, with --data-dir";
                anyhow::Error::new(error).context(Advice::new("database_unavailable", what, next))
            }
            error => advice::database(error, dir, false),
        });
    };
    let options = PostgresOptions {
        app_url: postgres.app_url.clone(),
        system_url: postgres.system_url.clone(),
        connections: 2,
    };
    Db::open_postgres(&options).await.map_err(|error| advice::database(error, dir, true))
}
