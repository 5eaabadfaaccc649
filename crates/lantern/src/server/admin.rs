//! `lantern admin`: the accounts of a server, by whoever has its configuration.
//!
//! Opens the database beside the server, which may run. Needs no master key: a reset is a row.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Subcommand};
use lantern_net::{RealClock, RealIds};
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};

use super::advice::Advice;
use super::stop;

/// What can be done with the accounts of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// Make a password reset for any account, as for an owner whom nobody else can let back in
    #[command(
        after_help = "The answer is the reset, which is good once and for an hour: `lantern password reset` takes it, at the server. \
                      The password stays as it is until then."
    )]
    ResetPassword(AccountArgs),
    /// Let any account log in without a code, as for an owner whose authenticator app is gone
    RemoveTotp(AccountArgs),
}

/// Which account.
#[derive(Debug, Args)]
pub(crate) struct AccountArgs {
    /// The address of the account
    #[arg(long)]
    email: String,
    /// The server's TOML file; the environment wins over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's data folder, when its database is the embedded one
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Does what was asked. Answers what was done, for programs and in words.
pub(super) async fn run(verb: &AdminVerb) -> Result<(Value, String)> {
    match verb {
        AdminVerb::ResetPassword(args) => reset(args).await,
        AdminVerb::RemoveTotp(args) => {
            let db = stop::open(args.config.as_deref(), args.data_dir.clone()).await?;
            if !lantern_control::remove_factor_by_operator(&db, &args.email).await? {
                return Err(unknown(args));
            }
            let told = format!("{} logs in without a code now", args.email);
            Ok((json!({ "email": args.email, "totp": false }), told))
        }
    }
}

async fn reset(args: &AccountArgs) -> Result<(Value, String)> {
    let db = stop::open(args.config.as_deref(), args.data_dir.clone()).await?;
    let clock = Arc::new(RealClock::new());
    let ids = RealIds::new(clock.clone());
    let made = lantern_control::reset_by_operator(&db, &ids, clock.now(), &args.email).await?;
    let (token, until) = made.ok_or_else(|| unknown(args))?;
    let answer = json!({ "email": args.email, "token": token.expose(), "expiresAt": until.to_string() });
    Ok((answer, token.expose().clone()))
}

fn unknown(args: &AccountArgs) -> anyhow::Error {
    let what = format!("no account of this server has the address {}", args.email);
    Advice::new("account_not_found", what, "look for a slip in the address").into()
}
