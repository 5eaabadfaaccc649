//! `lantern migrate`: brings a PostgreSQL database up to date, and makes the roles that serve.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lantern_net::RealClock;
use lantern_store::{create_roles, migrate_postgres};
use lantern_types::Secret;
use lantern_types::edge::Clock as _;

use crate::env;

/// Flags of `lantern migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Also make the roles `lantern_app` and `lantern_system`, with the passwords from
    /// `LANTERN_DATABASE_APP_PASSWORD` and `LANTERN_DATABASE_SYSTEM_PASSWORD`.
    #[arg(long)]
    create_roles: bool,
}

/// Migrates the database that `LANTERN_DATABASE_OWNER_URL` names. The embedded database migrates itself at start.
pub(crate) async fn run(args: &MigrateArgs) -> Result<()> {
    let Some(owner) = env::get(env::DATABASE_OWNER_URL).map(Secret::new) else {
        bail!(
            "set {} to the owner's URL; the embedded database migrates itself at start",
            env::DATABASE_OWNER_URL
        );
    };
    if args.create_roles {
        let password = |name| env::get(name).map(Secret::new).with_context(|| format!("{name} is not set"));
        let app = password(env::DATABASE_APP_PASSWORD)?;
        let system = password(env::DATABASE_SYSTEM_PASSWORD)?;
        create_roles(&owner, &app, &system).await.context("cannot make the roles")?;
    }
    migrate_postgres(&owner, RealClock::new().now()).await.context("cannot migrate")?;
    tracing::info!("the database is up to date");
    Ok(())
}
