//! `lantern receipts rotate-key`: another key for receipts, by whoever has the server's configuration.
//!
//! Opens the database beside the server, which may run: it signs with the new key from its next receipt on.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use lantern_net::{RealClock, RealIds};
use lantern_store::{Notary, Sealer};
use serde_json::{Value, json};

use super::advice::Advice;
use super::config::Config;
use super::{key, stop};
use crate::env;

/// Flags of `lantern receipts rotate-key`.
#[derive(Debug, Args)]
#[command(
    after_help = "The secret half of the key in use is destroyed. Receipts that it signed stay good: its public half stays among \
                  the published keys."
)]
pub(crate) struct RotateArgs {
    /// The server's TOML file; the environment wins over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's data folder, when its database is the embedded one
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Puts a new key in the place of the one in use. Answers what was done, for programs and in words.
pub(super) async fn run(args: &RotateArgs) -> Result<(Value, String)> {
    let config = Config::serve(args.config.as_deref(), None, args.data_dir.clone())?;
    let db = stop::beside(&config).await?;
    let clock = std::sync::Arc::new(RealClock::new());
    let ids = std::sync::Arc::new(RealIds::new(clock.clone()));
    let keys = key::of(&db, &config.data_dir, ids.as_ref(), config.postgres.is_none()).await?;
    let sealer = Sealer::new(db, &keys, ids, clock).context("cannot set up sealing")?;
    if key::of_receipts()?.is_some() {
        return Err(Advice::key(
            "the key for receipts is your own, so the server makes none",
            format!(
                "give every server another {}, or start them without it and come again",
                env::RECEIPT_SEED
            ),
        )
        .into());
    }
    let notary = Notary::new(&sealer, None);
    let (made, own) = notary.rotate().await.context("cannot put a new key in the place of the one in use")?;
    let told =
        format!("receipts are signed with the key {} from now on; those signed before stay good", made.id());
    let more = if own {
        let variable = env::RECEIPT_SEED;
        format!(
            "\nthe key before it was your own: start every server without {variable}, or it takes that one again"
        )
    } else {
        String::new()
    };
    Ok((json!({ "keyId": made.id(), "publicKey": made.to_string(), "replacedOwnKey": own }), told + &more))
}
