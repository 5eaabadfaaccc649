//! `lantern limits --tenant`: limits that one tenant has apart from the others, by whoever has the server's configuration.
//!
//! Opens the database beside the server, which need not run, and changes one row. Every process reads it within seconds; a run
//! that is being driven goes by it when it is taken up again.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lantern_net::RealClock;
use lantern_store::limits::{self, Own};
use lantern_types::Limits;
use lantern_types::edge::Clock as _;
use serde_json::{Value, json};

use super::advice::Advice;
use super::stop;

/// Flags of `lantern limits`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without flags it shows the limits that hold for you. A tenant's own are set with the server's own \
                  configuration and hold within seconds in every process; runs that are being driven go by them when they \
                  are taken up again. Numbers are those of the configuration file: bytes, microseconds, millionths of a dollar."
)]
pub(crate) struct LimitsArgs {
    /// Show or change what this tenant has of its own, by its id or slug, as the operator of the server
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Give it this limit; may stand several times
    #[arg(long, value_name = "NAME=NUMBER", value_parser = said, requires = "tenant")]
    set: Vec<(String, u64)>,
    /// Leave this limit to the server again; may stand several times
    #[arg(long, value_name = "NAME", requires = "tenant")]
    unset: Vec<String>,
    /// With --tenant: the server's TOML file; the environment wins over it
    #[arg(long, value_name = "FILE", requires = "tenant")]
    config: Option<PathBuf>,
    /// With --tenant: the server's data folder, when its database is the embedded one
    #[arg(long, value_name = "DIR", requires = "tenant")]
    data_dir: Option<PathBuf>,
    /// With --tenant: who does it, for the record
    #[arg(long, value_name = "NAME", default_value = "operator", requires = "tenant")]
    by: String,
}

impl LimitsArgs {
    /// Whether a server is asked, and nothing is changed.
    pub(crate) const fn asks(&self) -> bool {
        self.tenant.is_none()
    }
}

fn said(text: &str) -> Result<(String, u64), &'static str> {
    let read = text.split_once('=').and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
    read.ok_or("write it as NAME=NUMBER, such as turnsPerRunMax=20")
}

/// Shows or changes what a tenant has. Answers with all of it, for programs and in words.
pub(super) async fn run(args: &LimitsArgs) -> Result<(Value, String)> {
    let named = args.tenant.as_deref().unwrap_or_default();
    let db = stop::open(args.config.as_deref(), args.data_dir.clone()).await?;
    let tenant = limits::tenant(&db, named).await?.ok_or_else(|| {
        Advice::new(
            "tenant_not_found",
            format!("there is no tenant {named:?}"),
            "name it by its id or its slug",
        )
    })?;
    let mut own = limits::own(&db, tenant).await?;
    if !args.set.is_empty() || !args.unset.is_empty() {
        let wanted: Own = args.set.iter().map(|(name, number)| (name.clone(), json!(number))).collect();
        if let Err(why) = Limits::default().with(&wanted) {
            return Err(Advice::config(why, "config.example.toml has every limit, under [limits]").into());
        }
        own.extend(wanted);
        for name in &args.unset {
            if own.remove(name).is_none() {
                let what = format!("the tenant has no {name} of its own");
                return Err(Advice::config(what, "leave out --unset, or name one that it has").into());
            }
        }
        limits::set(&db, tenant, own.clone(), args.by.clone(), RealClock::new().now()).await?;
    }
    let words: Vec<String> = own.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let words = if words.is_empty() { "only the server's".to_owned() } else { words.join(", ") };
    Ok((json!({ "tenantId": tenant, "own": own }), format!("limits of its own: {words}")))
}
