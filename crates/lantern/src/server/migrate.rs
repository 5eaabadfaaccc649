//! `lantern migrate`: brings a PostgreSQL database up to date, and makes the roles that serve.

use anyhow::{Context as _, Result};
use clap::Args;
use lantern_net::RealClock;
use lantern_store::{Error, create_roles, migrate_postgres};
use lantern_types::edge::Clock as _;
use lantern_types::{At, Secret};

use super::advice::{self, Advice};
use crate::env;

/// Flags of `lantern migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Also make the roles `lantern_app` and `lantern_system`, with the passwords from
    /// `LANTERN_DATABASE_APP_PASSWORD` and `LANTERN_DATABASE_SYSTEM_PASSWORD`.
    #[arg(long)]
    pub(crate) create_roles: bool,
}

/// Migrates the database that `LANTERN_DATABASE_OWNER_URL` names. The embedded database migrates itself at start.
pub(crate) async fn run(args: &MigrateArgs) -> Result<()> {
    let Some(owner) = env::get(env::DATABASE_OWNER_URL).map(Secret::new) else {
        let next = format!(
            "set {} to the owner's URL; the embedded database migrates itself",
            env::DATABASE_OWNER_URL
        );
        return Err(Advice::config("there is no database to migrate", next).into());
    };
    if args.create_roles {
        let password = |name| {
            let missing =
                || Advice::config(format!("{name} is not set"), format!("choose a password in {name}"));
            env::get(name).map(Secret::new).with_context(missing)
        };
        let app = password(env::DATABASE_APP_PASSWORD)?;
        let system = password(env::DATABASE_SYSTEM_PASSWORD)?;
        create_roles(&owner, &app, &system).await.map_err(|error| advice(error, "cannot make the roles"))?;
    }
    bring(&owner, RealClock::new().now()).await
}

/// Brings the database to this build's schema, as its owner. Processes that start at once do it one after the other, and
/// all but the first find nothing to do; a schema that a newer neighbour has made is left as it is.
pub(crate) async fn bring(owner: &Secret<String>, now: At) -> Result<()> {
    migrate_postgres(owner, now).await.map_err(|error| advice(error, "cannot migrate"))
}

fn advice(error: Error, what: &'static str) -> anyhow::Error {
    if let Error::Role { wanted, found } = &error {
        return Advice::role(wanted, found).into();
    }
    let (code, next) = match &error {
        Error::Unavailable(_) => (
            "database_unavailable",
            format!("check that the database runs and that {} is right", env::DATABASE_OWNER_URL),
        ),
        Error::Earlier => (advice::EARLIER, advice::earlier("database")),
        Error::TooNew { .. } => ("database_too_new", advice::TOO_NEW.to_owned()),
        _ => (
            "migrate_failed",
            format!(
                "{} must name the owner of the database, who for --create-roles may create roles; see docs/serve.md",
                env::DATABASE_OWNER_URL
            ),
        ),
    };
    anyhow::Error::new(error).context(Advice::new(code, what, next))
}
